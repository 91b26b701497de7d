// Where does the attention of each sentence go?
//
// A table of sentences by passages. One cell takes the focus by Tab, the others by arrow keys; the
// line beneath says in words what the cell under the pointer or the focus shows.

import { html, useMemo, useRef, useState } from "../vendor/preact.js";
import { count } from "../words/wording.js";

const LONGEST_NAME = 90;

/** The cell of a strength between 0 and 1: what is faint stays visible. */
function heat(value, most) {
  return value <= 0 || most <= 0 ? 0 : Math.max(0.06, Math.sqrt(value / most));
}

/**
 * `columns` `[{name, title}]`, `rows` `[{name, values, title, label, isFirst}]`, `format` says a
 * value in words. The `mostColumns` strongest columns
 * are shown, in their order. `onRow` gets the index of a
 * row that was chosen.
 */
export function HeatMap({ columns, rows, format, rowNoun, columnNoun, mostColumns, chosenRow = null, onRow }) {
  const [cell, setCell] = useState([0, 0]);
  const [isPointed, setPointed] = useState(false);
  const table = useRef(null);
  const { kept, most, nLeftOut } = useMemo(() => {
    const strength = columns.map((_, column) =>
      rows.reduce((best, row) => Math.max(best, row.values[column] ?? 0), 0),
    );
    const byStrength = strength.map((value, column) => [value, column]).filter(([value]) => value > 0);
    byStrength.sort((a, b) => b[0] - a[0]);
    const chosen = byStrength.slice(0, mostColumns).map(([, column]) => column);
    chosen.sort((a, b) => a - b);
    return { kept: chosen, most: byStrength[0]?.[0] ?? 0, nLeftOut: byStrength.length - chosen.length };
  }, [columns, rows, mostColumns]);
  if (rows.length === 0 || kept.length === 0) {
    return html`<p class="note">No sentence leans on a passage.</p>`;
  }
  const [r, c] = [Math.min(cell[0], rows.length - 1), Math.min(cell[1], kept.length - 1)];
  const value = rows[r].values[kept[c]] ?? 0;
  const hasLabels = rows.some((row) => row.label);
  const move = (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const ends = { Home: [r, 0], End: [r, kept.length - 1] };
    const step = steps[event.key];
    const next = step ? [r + step[0], c + step[1]] : ends[event.key];
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      onRow?.(r);
    }
    if (next === undefined) return;
    event.preventDefault();
    const [toRow, toColumn] = [clamp(next[0], rows.length), clamp(next[1], kept.length)];
    setCell([toRow, toColumn]);
    table.current.rows[toRow + 1]?.cells[toColumn + 1]?.focus();
  };
  return html`<div class="heat">
    <div class="scroll">
      <table
        ref=${table}
        role="grid"
        aria-label="Attention of ${rowNoun}s by ${columnNoun}s"
        onKeyDown=${move}
        onMouseLeave=${() => setPointed(false)}
      >
        <thead>
          <tr>
            <td></td>
            ${kept.map(
              (column, at) => html`<th
                scope="col"
                key=${column}
                class=${at === c && isPointed ? "lit" : null}
                title=${columns[column].title || columns[column].name}
              >
                <span>${columns[column].name}</span>
              </th>`,
            )}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row, at) => html`<tr
              key=${at}
              class=${[chosenRow === at && "chosen", row.isFirst && "first"].filter(Boolean).join(" ")}
            >
              <th scope="row" class=${at === r && isPointed ? "lit" : null} title=${row.title ?? row.name}>
                <span class=${hasLabels ? "labelled" : null}>
                  ${hasLabels && html`<span class="key">${row.label}</span>`}
                  <span class="sentence-name">${cut(row.name)}</span>
                </span>
              </th>
              ${kept.map((column, columnAt) => {
                const here = row.values[column] ?? 0;
                return html`<td
                  key=${column}
                  role="gridcell"
                  tabindex=${at === r && columnAt === c ? 0 : -1}
                  style=${{ "--heat": heat(here, most) }}
                  aria-label=${format(here)}
                  onMouseEnter=${() => {
                    setCell([at, columnAt]);
                    setPointed(true);
                  }}
                  onFocus=${() => {
                    setCell([at, columnAt]);
                    setPointed(true);
                  }}
                  onClick=${() => onRow?.(at)}
                ></td>`;
              })}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    <p class="readout">
      ${isPointed
        ? html`“${cut(rows[r].name.trim())}” and <strong>${columns[kept[c]].name}</strong>: <strong>${format(value)}</strong>`
        : html`<span class="note">Point at a cell, or go to it with the arrow keys.</span>`}
      ${nLeftOut > 0 && html`<span class="note"> ${count(nLeftOut, "fainter " + columnNoun)} not shown.</span>`}
    </p>
  </div>`;
}

function clamp(at, n) {
  return Math.min(Math.max(at, 0), n - 1);
}

function cut(text) {
  return text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME)}…` : text;
}
