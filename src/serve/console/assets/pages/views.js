// Which relations are there, and how do they stand?

import { html, useState } from "../vendor/preact.js";
import { to } from "../frame/router.js";
import { usePolled } from "../server/polling.js";
import { count, duration, KINDS, saving, STATUS, thousands } from "../words/wording.js";
import { Empty, Problem, Waiting } from "../parts/empty.js";
import { FailedMark } from "../parts/failures.js";
import { PageTitle } from "../parts/page_title.js";
import { Pager, usePages } from "../parts/pager.js";

const A_PAGE = 100;
/** Views first: they are what a person comes for. */
const ORDER = ["answers", "query", "table", "source"];

export function Views() {
  const { data, error } = usePolled("/v1/relations");
  const { data: status } = usePolled("/v1/status", 4000);
  const [filter, setFilter] = useState("");
  const all = data?.relations ?? [];
  const wanted = filter.trim().toLowerCase();
  const shown = all
    .filter(({ name, kind }) => `${name} ${kind}`.toLowerCase().includes(wanted))
    .sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || a.name.localeCompare(b.name));
  const pages = usePages(shown.length, A_PAGE);
  return html`
    <header class="page-head">
      <${PageTitle} title="Views" />
      <label class="filter">
        <span class="sr">Filter by name or kind</span>
        <input
          type="search"
          data-filter
          placeholder="Filter"
          value=${filter}
          onInput=${(event) => setFilter(event.currentTarget.value)}
        />
      </label>
    </header>
    <${Saved} status=${status} />
    <${Failing} relations=${all} />
    <${Problem} error=${error} />
    ${data === null
      ? !error && html`<${Waiting} what="Reading what there is" />`
      : all.length === 0
        ? html`<${Empty} title="Nothing is declared yet">
            <p>
              Start the server with a file of statements, <code>perennial serve app.sql</code>, or declare sources and
              views under <a href=${to(["sql"])}>SQL</a>.
            </p>
          <//>`
        : shown.length === 0
          ? html`<${Empty} title="No name fits"><p>Nothing is called like “${filter}”.</p>
              <button type="button" onClick=${() => setFilter("")}>Show all</button>
            <//>`
          : html`<${Table} relations=${shown.slice(pages.from, pages.to)} />
              <${Pager} pages=${pages} noun="relation" />`}
  `;
}

/** What was saved since the server began, over all views. */
function Saved({ status }) {
  const sum = (of) => (status?.views ?? []).reduce((total, view) => total + of(view), 0);
  const [forwarded, rerun] = [sum((view) => view.work.forwarded), sum((view) => view.rerun)];
  if (rerun === 0) return null;
  const less = saving(forwarded, rerun);
  return html`<div class="saved">
    <span class="bar" aria-hidden="true"
      ><span style=${{ width: `${Math.min(100, (forwarded / rerun) * 100)}%` }}></span
    ></span>
    <p>
      Since the server began, <strong>${count(forwarded, "token")}</strong> went through the model. Reruns would have
      taken <strong>${thousands(rerun)}</strong>${less ? html`: <strong>${less}</strong>` : ""}.
    </p>
  </div>`;
}

/** Views with answers that failed, over all pages of the list. */
function Failing({ relations }) {
  const failing = relations.filter(({ n_failed: n }) => n > 0);
  if (failing.length === 0) return null;
  const n = failing.reduce((sum, relation) => sum + relation.n_failed, 0);
  return html`<p class="problem">
    <strong><span aria-hidden="true">✕</span> ${count(n, "answer")} failed</strong>, of${" "}
    ${failing.map(
      ({ name }, index) =>
        html`${index > 0 && ", "}<a key=${name} href=${to(["views", name, "answers"], { only: "failed" })}>${name}</a>`,
    )}
  </p>`;
}

function Table({ relations }) {
  return html`<div class="scroll framed" tabindex="0" role="region" aria-label="Relations"><table class="data stacking">
    <caption class="sr">
      Relations
    </caption>
    <thead>
      <tr>
        <th scope="col">Name</th>
        <th scope="col">Kind</th>
        <th scope="col">Status</th>
        <th scope="col" class="number">Rows</th>
        <th scope="col" class="number">Epoch</th>
        <th scope="col" class="number">Lag</th>
        <th scope="col">Reads</th>
        <th scope="col">Options</th>
      </tr>
    </thead>
    <tbody>
      ${relations.map(
        (relation) => html`<tr key=${relation.name}>
          <th scope="row"><a href=${to(["views", relation.name])}>${relation.name}</a></th>
          <td data-label="Kind"><span class="kind kind-${relation.kind}">${KINDS[relation.kind] ?? relation.kind}</span></td>
          <td data-label="Status"><${Status} relation=${relation} /></td>
          <td data-label="Rows" class="number">${thousands(relation.n_rows)}</td>
          <td data-label="Epoch" class="number">${relation.epoch === null ? "–" : thousands(relation.epoch)}</td>
          <td data-label="Lag" class=${relation.lag_ms === null ? "number absent" : "number"}>
            ${relation.lag_ms === null ? "–" : duration(relation.lag_ms)}
            ${relation.n_behind > 0 && html`<small> ${thousands(relation.n_behind)} behind</small>`}
          </td>
          <td data-label="Reads" class=${relation.reads.length === 0 ? "absent" : null}>
            ${relation.reads.length === 0
              ? "–"
              : relation.reads.map(
                  (name, index) => html`${index > 0 && ", "}<a href=${to(["views", name])}>${name}</a>`,
                )}
          </td>
          <td data-label="Options" class=${relation.options ? null : "absent"}>${relation.options ?? "–"}</td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}

export function Status({ relation }) {
  if (relation.failure) {
    return html`<span class="status bad"><span aria-hidden="true">✕</span> failed: ${relation.failure}</span>`;
  }
  if (relation.status === null || relation.status === undefined) {
    return html`<span class="status">${relation.is_posted_to ? "open to changes" : "followed"}</span>`;
  }
  const { n_failed: nFailed, n_rows: nRows } = relation;
  const [word, why] = STATUS[relation.status] ?? [relation.status, ""];
  const isWell = relation.status === "fresh" && !(nFailed > 0);
  const tone = isWell ? "good" : relation.status === "refreshing" ? "busy" : relation.status === "fresh" ? "" : "wait";
  return html`<span class="statuses">
    <${FailedMark} nFailed=${nFailed} n=${nFailed + nRows} />
    <span class="status ${tone}" title=${why}
      ><span class="dot ${tone === "busy" ? "wait" : tone}" aria-hidden="true"></span> ${word}</span
    >
  </span>`;
}
