// What does one relation hold, and how does it come about?

import { html } from "../vendor/preact.js";
import { to } from "../frame/router.js";
import { usePolled } from "../server/polling.js";
import { count, duration, KINDS, thousands } from "../words/wording.js";
import { Empty, Problem, Waiting } from "../parts/empty.js";
import { PageTitle } from "../parts/page_title.js";
import { Answers } from "./view_answers.js";
import { Attention } from "./view_attention.js";
import { Plan } from "./view_plan.js";
import { LiveRows, StoredRows } from "./view_rows.js";
import { Timeline } from "./view_timeline.js";
import { Status } from "./views.js";

const TABS = {
  answers: [
    ["answers", "Answers", Answers],
    ["attention", "Attention map", Attention],
    ["timeline", "Timeline", Timeline],
    ["plan", "Plan", Plan],
  ],
  query: [
    ["rows", "Rows", LiveRows],
    ["timeline", "Timeline", Timeline],
    ["plan", "Plan", Plan],
  ],
  table: [["rows", "Rows", StoredRows]],
  source: [["rows", "Rows", StoredRows]],
};

export function View({ name, tab, query }) {
  const { data, error } = usePolled("/v1/relations");
  const relation = data?.relations.find((one) => one.name === name) ?? null;
  if (data === null) return html`<${PageTitle} title=${name} /><${Problem} error=${error} />${!error && html`<${Waiting} what="Reading" />`}`;
  if (relation === null) {
    return html`<${Empty} isPage title=${`There is no ${name}`}>
      <p>It may have been dropped. <a href=${to(["views"])}>All that there is</a></p>
    <//>`;
  }
  const tabs = TABS[relation.kind] ?? TABS.table;
  const [shown, , Body] = tabs.find(([id]) => id === tab) ?? tabs[0];
  return html`
    <header class="page-head">
      <div>
        <p class="crumb"><a href=${to(["views"])}>Views</a> <span aria-hidden="true">/</span></p>
        <${PageTitle} title=${name} />
      </div>
      <dl class="facts">
        <div><dt>Kind</dt><dd><span class="kind kind-${relation.kind}">${KINDS[relation.kind] ?? relation.kind}</span></dd></div>
        <div><dt>Status</dt><dd><${Status} relation=${relation} /></dd></div>
        <div><dt>Epoch</dt><dd>${relation.epoch === null ? "–" : thousands(relation.epoch)}</dd></div>
        <div><dt>Rows</dt><dd>${thousands(relation.n_rows)}</dd></div>
        ${relation.lag_ms !== null && html`<div><dt>Lag</dt><dd>${duration(relation.lag_ms)}</dd></div>`}
        ${relation.options && html`<div><dt>Options</dt><dd>${relation.options}</dd></div>`}
        ${relation.reads.length > 0 &&
        html`<div>
          <dt>Reads</dt>
          <dd>
            ${relation.reads.map(
              (other, index) => html`${index > 0 && ", "}<a href=${to(["views", other])}>${other}</a>`,
            )}
          </dd>
        </div>`}
      </dl>
    </header>
    ${tabs.length > 1 &&
    html`<nav class="tabs" aria-label=${`Parts of ${name}`}>
      <ul>
        ${tabs.map(
          ([id, word]) => html`<li key=${id}>
            <a href=${to(["views", name, id])} aria-current=${id === shown ? "page" : null}>${word}</a>
          </li>`,
        )}
      </ul>
    </nav>`}
    <${Body} key=${shown} name=${name} relation=${relation} query=${query} tab=${shown} />
  `;
}
