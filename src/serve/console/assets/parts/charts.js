// How do refreshes of a view compare, epoch by epoch?

import { html, useEffect, useRef } from "../vendor/preact.js";
import uPlot from "../vendor/uplot.js";
import { useObserved } from "../server/observed.js";
import { colour, theme } from "../frame/theme.js";
import { duration, RUNGS, thousands } from "../words/wording.js";

const HEIGHT = 190;

/** From which to which epoch: room for a few, where there are few. */
function span(epochs) {
  const first = epochs[0] ?? 0;
  return [first - 0.6, Math.max(epochs.at(-1) ?? 0, first + 7) + 0.6];
}

/** A chart whose axis is the epoch. `series` `[{label, colour, values, base}]`, drawn as bars. */
function Bars({ label, epochs, series, format, offset = null }) {
  const place = useRef(null);
  const shown = useObserved(theme);
  const shape = series.map((one) => one.label).join();
  const plot = useRef(null);
  const data = [epochs, ...series.map((one) => one.values)];
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    const ink = colour("ink-2");
    const line = colour("line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const chart = new uPlot(
      {
        width: place.current.clientWidth || 300,
        height: HEIGHT,
        scales: {
          x: { time: false, range: () => span(latest.current[0]) },
          y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] },
        },
        legend: { live: true },
        cursor: { sync: { key: "epochs" }, drag: { x: false, y: false }, points: { show: false } },
        axes: [
          { ...axis, grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], size: 30 },
          { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => format(tick)) },
        ],
        series: [
          // Where none is pointed at, the legend tells of the last.
          { label: "epoch", value: (_, value) => thousands(value ?? latest.current[0].at(-1)) },
          ...series.map((one, index) => ({
            label: one.label,
            stroke: colour(one.colour),
            fill: colour(one.colour),
            width: 0,
            points: { show: false },
            paths: uPlot.paths.bars({
              size: offset === null ? [0.7, 26] : [0.38, 14],
              align: offset === null ? 0 : offset[index],
            }),
            // Stacked bars are drawn as sums: what is told is the bar itself.
            value: (_, __, ___, at) => {
              const value = (one.own?.current ?? latest.current[index + 1])[at ?? latest.current[0].length - 1];
              return value === null || value === undefined ? "" : format(value);
            },
          })),
        ],
      },
      latest.current,
      place.current,
    );
    plot.current = chart;
    const fit = new ResizeObserver(() => {
      const width = place.current?.clientWidth ?? 0;
      if (width > 0 && width !== chart.width) chart.setSize({ width, height: HEIGHT });
    });
    fit.observe(place.current);
    return () => {
      fit.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [shown, shape]);
  useEffect(() => {
    plot.current?.setData(data);
  });
  // The table beneath the charts says the same in numbers.
  return html`<figure class="chart">
    <figcaption>${label}</figcaption>
    <div ref=${place} aria-hidden="true"></div>
  </figure>`;
}

/** Answers of each epoch by rung, stacked. */
export function RungChart({ epochs, isWithKept }) {
  const rungs = RUNGS.filter(
    ([rung]) => (isWithKept || rung !== "keep") && epochs.some((epoch) => epoch.rungs[rung] > 0),
  );
  const own = useRef({});
  const sums = epochs.map(() => 0);
  const series = rungs.map(([rung, label]) => {
    const counts = epochs.map((epoch) => epoch.rungs[rung] ?? 0);
    own.current[rung] ??= { current: counts };
    own.current[rung].current = counts;
    const values = counts.map((n, at) => (sums[at] += n));
    return { label, colour: `rung-${rung}`, values, own: own.current[rung] };
  });
  // The highest stack first: those drawn later stand before it.
  return html`<${Bars}
    label="Answers by how they were reached"
    epochs=${epochs.map((epoch) => epoch.epoch)}
    series=${series.reverse()}
    format=${(n) => (Number.isInteger(n) ? thousands(n) : "")}
  />`;
}

/** Tokens that were forwarded beside those of a rerun. */
export function TokenChart({ epochs }) {
  return html`<${Bars}
    label="Tokens, beside a run from nothing"
    epochs=${epochs.map((epoch) => epoch.epoch)}
    series=${[
      { label: "from nothing", colour: "chart-rerun", values: epochs.map((epoch) => epoch.rerun) },
      { label: "forwarded", colour: "accent", values: epochs.map((epoch) => epoch.work.forwarded) },
    ]}
    offset=${[-1, 1]}
    format=${short}
  />`;
}

/** Seconds that each epoch took. */
export function TimeChart({ epochs }) {
  return html`<${Bars}
    label="Time"
    epochs=${epochs.map((epoch) => epoch.epoch)}
    series=${[{ label: "time", colour: "chart-time", values: epochs.map((epoch) => epoch.elapsed_ms) }]}
    format=${(ms) => duration(ms)}
  />`;
}

function short(n) {
  if (n >= 1e6) return `${+(n / 1e6).toFixed(1)} M`;
  return n >= 1e4 ? `${+(n / 1e3).toFixed(0)} k` : thousands(n);
}
