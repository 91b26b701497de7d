// How do rows look, however many there are?

import { html, useState } from "../vendor/preact.js";
import { Pager, usePages } from "./pager.js";

const ROWS_A_PAGE = 100;
const LONGEST_TEXT = 240;
/** Longer texts get room, where narrow columns would break their words. */
const LONGEST_WORD = 20;

/** A value of a cell. What documents say is text here, never markup. */
export function Value({ value }) {
  if (value === null || value === undefined) return html`<span class="null">null</span>`;
  if (typeof value === "string") return html`<${Text} text=${value} />`;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A text that is cut where it is long, until somebody wants all of it. */
function Text({ text }) {
  const [isWhole, setWhole] = useState(false);
  if (text.length <= LONGEST_WORD) return html`<span class="text">${text}</span>`;
  if (text.length <= LONGEST_TEXT) return html`<span class="text wordy">${text}</span>`;
  return html`<span class="text long">${isWhole ? text : `${text.slice(0, LONGEST_TEXT)}…`}</span>
    <button type="button" class="link" aria-expanded=${isWhole} onClick=${() => setWhole(!isWhole)}>
      ${isWhole ? "less" : "more"}
    </button>`;
}

/** `columns` `[{name, type}]` and `rows` of JSON objects, a page at a time. */
export function RowTable({ columns, rows, caption, action = null }) {
  const pages = usePages(rows.length, ROWS_A_PAGE);
  return html`<div class="rows">
    <${PlainTable}
      columns=${columns}
      rows=${rows.slice(pages.from, pages.to)}
      caption=${caption}
      action=${action}
    />
    <${Pager} pages=${pages} noun="row" />
  </div>`;
}

/** The rows that are given, all of them. `action` makes a last cell of a row. */
export function PlainTable({ columns, rows, caption, action = null }) {
  // Of some columns no type is known, so the values tell.
  const isNumber = ({ name }) => rows.some((row) => typeof row[name] === "number") && rows.every((row) => row[name] == null || typeof row[name] === "number");
  const numeric = new Set(columns.filter(isNumber).map(({ name }) => name));
  return html`<div class="scroll framed" tabindex="0" role="region" aria-label=${caption}>
    <table class="data">
      <caption class="sr">
        ${caption}
      </caption>
      <thead>
        <tr>
          ${columns.map(
            (column) => html`<th scope="col" key=${column.name} class=${numeric.has(column.name) ? "number" : null}>
              ${column.name} ${column.type && column.type !== "ANY" && html`<small>${column.type}</small>`}
            </th>`,
          )}
          ${action && html`<th scope="col"><span class="sr">Action</span></th>`}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row, index) => html`<tr key=${index}>
            ${columns.map(
              (column) => html`<td key=${column.name} class=${numeric.has(column.name) ? "number" : null}>
                <${Value} value=${row[column.name]} />
              </td>`,
            )}
            ${action && html`<td>${action(row)}</td>`}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
