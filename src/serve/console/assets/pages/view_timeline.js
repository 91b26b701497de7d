// What did each epoch cost, and how were its answers reached?
//
// Epochs are counted from the opening of the page: the server keeps no summaries. Where there is a
// state folder, its history says what changed before.

import { html, useState } from "../vendor/preact.js";
import { read } from "../server/requests.js";
import { useView } from "../server/view_state.js";
import { changes, count, duration, RUNGS, saving, thousands, work } from "../words/wording.js";
import { RungChart, TimeChart, TokenChart } from "../parts/charts.js";
import { Empty, Problem } from "../parts/empty.js";
import { notThere } from "../parts/live_view.js";
import { to } from "../frame/router.js";
import { Pager, usePages } from "../parts/pager.js";

const EPOCHS_A_PAGE = 50;
/** Epochs that a chart has room for. */
const MOST_DRAWN = 120;

export function Timeline({ name, relation }) {
  const state = useView(name);
  const [isWithKept, setWithKept] = useState(true);
  const missing = notThere(state);
  if (missing) return missing;
  const epochs = state.epochs;
  const drawn = epochs.slice(-MOST_DRAWN);
  const last = epochs.at(-1);
  const asks = relation.kind === "answers";
  const less = last && last.work.forwarded > 0 ? saving(last.work.forwarded, last.rerun) : "";
  return html`
    ${epochs.length === 0
      ? html`<${Empty} title="No refresh yet">
          <p>
            Epochs show here as they are completed while this page is open.${" "}
            <a href=${to(["try"])}>Change a document</a> in another tab, and watch.
          </p>
        <//>`
      : html`
          <p class="lead">
            Epoch ${thousands(last.epoch)}${asks
              ? html` read <strong>${thousands(last.n_read)} of ${thousands(last.n_answers)}</strong> questions, by${" "}
                  <strong>${work(last.work.forwarded, last.rerun)}</strong>${less && ` (${less})`}`
              : html` changed <strong>${count(last.n_changes, "row")}</strong>`},
            ${" "}in <strong>${duration(last.elapsed_ms)}</strong>.
            ${last.rungs?.failed > 0 &&
            html` <strong class="status bad"><span aria-hidden="true">✕</span> ${thousands(last.rungs.failed)} failed.</strong>`}
          </p>
          <div class="charts">
            ${asks &&
            html`<div>
                <${RungChart} epochs=${drawn} isWithKept=${isWithKept} />
                <label class="check">
                  <input
                    type="checkbox"
                    checked=${isWithKept}
                    onChange=${(event) => setWithKept(event.currentTarget.checked)}
                  />
                  with those kept
                </label>
              </div>
              <${TokenChart} epochs=${drawn} />`}
            <${TimeChart} epochs=${drawn} />
          </div>
          <${EpochTable} epochs=${epochs} asks=${asks} />
        `}
    <${History} name=${name} />
  `;
}

function EpochTable({ epochs, asks }) {
  const newest = [...epochs].reverse();
  const pages = usePages(newest.length, EPOCHS_A_PAGE);
  const rungs = RUNGS.filter(([rung]) => epochs.some((epoch) => epoch.rungs?.[rung] > 0));
  return html`<div class="scroll framed" tabindex="0" role="region" aria-label="Epochs">
      <table class="data">
        <caption class="sr">
          Epochs, newest first
        </caption>
        <thead>
          <tr>
            <th scope="col" class="number">Epoch</th>
            <th scope="col">What changed</th>
            <th scope="col" class="number">Differ</th>
            ${asks &&
            html`<th scope="col" class="number">Read</th>
              ${rungs.map(([rung, word]) => html`<th scope="col" class="number" key=${rung}>${word}</th>`)}
              <th scope="col" class="number">Tokens</th>
              <th scope="col" class="number">From nothing</th>`}
            <th scope="col" class="number">Time</th>
          </tr>
        </thead>
        <tbody>
          ${newest.slice(pages.from, pages.to).map(
            (epoch) => html`<tr key=${epoch.epoch}>
              <th scope="row" class="number">${thousands(epoch.epoch)}</th>
              <td>${changes(epoch.documents)}</td>
              <td class="number">${thousands(epoch.n_changes)}</td>
              ${asks &&
              html`<td class="number">${thousands(epoch.n_read)} of ${thousands(epoch.n_answers)}</td>
                ${rungs.map(([rung]) => html`<td class="number" key=${rung}>${thousands(epoch.rungs[rung] ?? 0)}</td>`)}
                <td class="number">${thousands(epoch.work.forwarded)}</td>
                <td class="number">${thousands(epoch.rerun)}</td>`}
              <td class="number">${duration(epoch.elapsed_ms)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    <${Pager} pages=${pages} noun="epoch" />`;
}

/** What the state folder can tell of earlier epochs, when somebody asks. */
function History({ name }) {
  const [state, setState] = useState({ epochs: null, error: null });
  const ask = () =>
    read("/v1/history?limit=100").then(
      ({ epochs }) => setState({ epochs, error: null }),
      (error) => setState({ epochs: null, error }),
    );
  const of = (epoch) => epoch.views.find((view) => view.view === name);
  const sum = (epoch) => epoch.streams.map((s) => `${s.stream}: ${[
    s.n_inserted && `${thousands(s.n_inserted)} added`,
    s.n_updated && `${thousands(s.n_updated)} changed`,
    s.n_deleted && `${thousands(s.n_deleted)} deleted`,
  ].filter(Boolean).join(", ")}`).join("; ");
  return html`<section class="surface">
    <div class="section-head">
      <h2>History</h2>
      <button type="button" onClick=${ask}>${state.epochs ? "Read it again" : "Read the history"}</button>
    </div>
    <${Problem} error=${state.error} />
    ${state.epochs &&
    (state.epochs.length === 0
      ? html`<p class="note">No epoch can be told of.</p>`
      : html`<div class="scroll" tabindex="0" role="region" aria-label="History">
          <table class="data">
            <caption class="sr">
              Epochs of the state folder, newest first
            </caption>
            <thead>
              <tr>
                <th scope="col" class="number">Epoch</th>
                <th scope="col">When</th>
                <th scope="col">Streams</th>
                <th scope="col" class="number">New</th>
                <th scope="col" class="number">Changed</th>
                <th scope="col" class="number">Gone</th>
              </tr>
            </thead>
            <tbody>
              ${[...state.epochs]
                .sort((a, b) => b.epoch - a.epoch)
                .map(
                  (epoch) => html`<tr key=${epoch.epoch}>
                    <th scope="row" class="number">${thousands(epoch.epoch)}</th>
                    <td>${new Date(epoch.committed_at_ms).toLocaleString()}</td>
                    <td>${sum(epoch)}</td>
                    <td class="number">${thousands(of(epoch)?.n_new ?? 0)}</td>
                    <td class="number">${thousands(of(epoch)?.n_changed ?? 0)}</td>
                    <td class="number">${thousands(of(epoch)?.n_gone ?? 0)}</td>
                  </tr>`,
                )}
            </tbody>
          </table>
        </div>`)}
    ${!state.epochs && !state.error && html`<p class="note">With a state folder (<code>--state</code>), what changed in earlier epochs.</p>`}
  </section>`;
}
