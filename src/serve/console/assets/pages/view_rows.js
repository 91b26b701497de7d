// Which rows does a query give, or a stream hold?

import { html, useMemo, useState } from "../vendor/preact.js";
import { to } from "../frame/router.js";
import { v1 } from "../server/requests.js";
import { usePolled } from "../server/polling.js";
import { useView } from "../server/view_state.js";
import { count, thousands } from "../words/wording.js";
import { Empty, Problem, Waiting } from "../parts/empty.js";
import { notThere, Notices } from "../parts/live_view.js";
import { Pager, usePages } from "../parts/pager.js";
import { PlainTable, RowTable } from "../parts/row_table.js";
import { Told } from "../parts/told.js";

const ROWS_A_PAGE = 100;

/** The rows of a view of a query: subscribed to, so that they follow at once. */
export function LiveRows({ name, relation }) {
  const state = useView(name);
  const [filter, setFilter] = useState("");
  const wanted = filter.trim().toLowerCase();
  const rows = useMemo(() => {
    const matching = [...state.rows].filter(([id]) => wanted === "" || id.toLowerCase().includes(wanted));
    matching.sort(([a], [b]) => (a < b ? -1 : 1));
    return matching.flatMap(([, { row, count: n }]) => new Array(Math.min(n, 1000)).fill(row));
  }, [state, state.contents, wanted]);
  const missing = notThere(state);
  if (missing) return missing;
  const shown = `${count(rows.length, "row")} as of epoch ${thousands(state.epoch ?? 0)}`;
  return html`
    <${Told} text=${shown} />
    <${Notices} state=${state} />
    <div class="tools">
      <label class="filter">
        <span class="sr">Filter rows</span>
        <input
          type="search"
          data-filter
          placeholder="Filter rows"
          value=${filter}
          onInput=${(event) => setFilter(event.currentTarget.value)}
        />
      </label>
      <span class="note">${shown}</span>
    </div>
    ${rows.length === 0
      ? html`<${Empty} title="No rows"><p>${wanted ? "No row fits the filter." : "Nothing of what it reads fits the query yet."}</p><//>`
      : html`<${RowTable} columns=${relation.columns} rows=${rows} caption=${`Rows of ${name}`} />`}
  `;
}

/** The rows of a source or table, a page from the server at a time. */
export function StoredRows({ name, relation }) {
  const pages = usePages(relation.n_rows, ROWS_A_PAGE);
  const { data, error } = usePolled(`${v1("views", name)}?limit=${ROWS_A_PAGE}&offset=${pages.from}`, 3000);
  const edit = (row) =>
    row.key === undefined ? null : html`<a href=${to(["try"], { stream: name, document: row.key })}>edit</a>`;
  if (data === null) return error ? html`<${Problem} error=${error} />` : html`<${Waiting} what="Reading rows" />`;
  if (data.rows.length === 0) {
    return html`<${Empty} title="No rows">
      ${relation.is_posted_to
        ? html`<p>Add one under <a href=${to(["try"], { stream: name })}>Try a change</a>, or by <code>INSERT</code>.</p>`
        : html`<p>Its source has given nothing yet: put a file where it looks, or send it a message.</p>`}
    <//>`;
  }
  return html`<${PlainTable}
      columns=${relation.columns}
      rows=${data.rows.map((one) => one.row)}
      caption=${`Rows of ${name}`}
      action=${relation.is_posted_to ? edit : null}
    />
    <${Pager} pages=${pages} noun="row" />`;
}
