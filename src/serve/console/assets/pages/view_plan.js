// How is a view computed?

import { html } from "../vendor/preact.js";
import { v1 } from "../server/requests.js";
import { usePolled } from "../server/polling.js";
import { Problem, Waiting } from "../parts/empty.js";
import { PlanGraph, PlanTable } from "../parts/plan_graph.js";

export function Plan({ name }) {
  const { data, error } = usePolled(v1("views", name, "plan"));
  if (data === null) return error ? html`<${Problem} error=${error} />` : html`<${Waiting} what="Reading the plan" />`;
  return html`
    <section class="surface" aria-label="Plan">
      <${PlanGraph} plan=${data} />
      <p class="note">Rows flow along the arrows. Calls are counted since the server began.</p>
      <details>
        <summary>The same as a table</summary>
        <${PlanTable} plan=${data} />
      </details>
    </section>
    ${data.text &&
    html`<section class="surface">
      <h2>In words</h2>
      <pre class="plan-text" tabindex="0">${data.text}</pre>
    </section>`}
  `;
}
