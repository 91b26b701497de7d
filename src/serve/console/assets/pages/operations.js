// Is the engine well, what does it hold, and what does it owe?

import { html } from "../vendor/preact.js";
import { to } from "../frame/router.js";
import { usePolled } from "../server/polling.js";
import { bytes, count, duration, percent, RUNGS, saving, thousands, work } from "../words/wording.js";
import { Problem, Waiting } from "../parts/empty.js";
import { PageTitle } from "../parts/page_title.js";
import { Status } from "./views.js";

export function Operations() {
  const { data: status, error } = usePolled("/v1/status");
  const { data: engine } = usePolled("/v1/engine/models", 5000);
  const body =
    status === null
      ? html`<${Problem} error=${error} />${!error && html`<${Waiting} what="Reading the status" />`}`
      : html`
          <${Facts} status=${status} />
          <${Fragments} fragments=${status.fragments} models=${engine?.models ?? []} />
          <${ViewsTable} views=${status.views} />
          <div class="two">
            <${Sources} sources=${status.sources} />
            <${Owed} owed=${status.undelivered} />
          </div>
        `;
  return html`<header class="page-head"><${PageTitle} title="Operations" /></header>${body}`;
}

function Facts({ status }) {
  const nFailed = status.views.reduce((sum, view) => sum + (view.n_failed ?? 0), 0);
  const facts = [
    ["State", status.failure ? "failed" : status.ready ? "ready" : "starting"],
    ["Up for", duration(status.uptime_ms)],
    ["Version", status.version],
    ["Subscribers", thousands(status.n_subscribers)],
    ["Connections", thousands(status.n_connections)],
    ["Failed answers", nFailed === 0 ? "none" : html`<a href=${to(["views"])} class="bad"><span aria-hidden="true">✕</span> ${thousands(nFailed)}</a>`],
    ["Quarantined", html`<a href=${to(["quarantine"])}>${thousands(status.n_quarantined)}</a>`],
  ];
  return html`<dl class="tiles">
    ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

function Fragments({ fragments, models }) {
  if (!fragments) {
    return html`<section class="surface"><h2>Fragments</h2><p class="note">The models that are asked keep no fragments here.</p></section>`;
  }
  const asked = fragments.n_hits + fragments.n_misses;
  const hitRate = asked > 0 ? fragments.n_hits / asked : 0;
  const used = fragments.budget_bytes > 0 ? fragments.bytes / fragments.budget_bytes : 0;
  return html`<section class="surface">
    <div class="section-head">
      <h2>Fragments</h2>
      <p class="note">${count(fragments.n, "passage")} as the model has read them, shared by all who need them</p>
    </div>
    <div class="meters">
      <${Meter} name="In memory" part=${used} words=${`${bytes(fragments.bytes)} of ${bytes(fragments.budget_bytes)}`} />
      <${Meter} name="Found when needed" part=${hitRate} words=${asked === 0 ? "none asked for yet" : `${percent(hitRate)}: ${thousands(fragments.n_hits)} found, ${thousands(fragments.n_misses)} read anew`} isGood=${true} />
      <div class="meter">
        <div><span>On disk</span> <strong>${fragments.disk_bytes > 0 ? bytes(fragments.disk_bytes) : "nothing"}</strong></div>
      </div>
      ${fragments.warm &&
      html`<div class="meter">
        <div><span>As ${fragments.warm.coding}</span> <strong>${bytes(fragments.warm.bytes)}, ${count(fragments.warm.n, "passage")}, found ${thousands(fragments.warm.n_hits)}</strong></div>
      </div>`}
    </div>
    ${models.length > 0 &&
    html`<div class="scroll" tabindex="0" role="region" aria-label="Models">
      <table class="data stacking">
        <caption class="sr">
          Models
        </caption>
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col">Is</th>
            <th scope="col" class="number">Context</th>
            <th scope="col">Promise</th>
          </tr>
        </thead>
        <tbody>
          ${models.map(
            (model) => html`<tr key=${model.name ?? ""}>
              <th scope="row">${model.name ?? "the one asked where none is named"}${model.is_default && model.name ? " (default)" : ""}</th>
              <td data-label="Is">${model.spec}</td>
              <td data-label="Context" class="number">${model.positions === null ? "–" : count(model.positions, "token")}</td>
              <td data-label="Promise">${model.exact ? "the same bits" : "no same words"}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>`}
  </section>`;
}

function Meter({ name, part, words, isGood = false }) {
  return html`<div class="meter">
    <div><span>${name}</span> <strong>${words}</strong></div>
    <div
      role="meter"
      aria-label=${name}
      aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${Math.round(part * 100)}
      aria-valuetext=${words}
      class=${isGood ? "bar good" : part > 0.9 ? "bar full" : "bar"}
    >
      <span style=${{ width: `${Math.min(100, part * 100)}%` }}></span>
    </div>
  </div>`;
}

function ViewsTable({ views }) {
  if (views.length === 0) return null;
  return html`<section class="surface">
    <h2>Views</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Views in numbers">
      <table class="data stacking">
        <caption class="sr">
          Views, counted since the server began
        </caption>
        <thead>
          <tr>
            <th scope="col">View</th>
            <th scope="col">Status</th>
            <th scope="col" class="number">Epochs</th>
            <th scope="col" class="number">Subscribers</th>
            <th scope="col">Answers by how they were reached</th>
            <th scope="col">Tokens</th>
            <th scope="col" class="number">Time</th>
          </tr>
        </thead>
        <tbody>
          ${views.map(
            (view) => html`<tr key=${view.name}>
              <th scope="row"><a href=${to(["views", view.name])}>${view.name}</a></th>
              <td data-label="Status"><${Status} relation=${{ ...view, failure: null }} /></td>
              <td data-label="Epochs" class="number">${thousands(view.n_epochs)}</td>
              <td data-label="Subscribers" class="number">${thousands(view.n_subscribers)}</td>
              <td data-label="Reached"><${Rungs} rungs=${view.rungs} /></td>
              <td data-label="Tokens">
                ${view.kind === "answers" || view.rerun > 0
                  ? html`${work(view.work.forwarded, view.rerun)}
                      ${saving(view.work.forwarded, view.rerun) && html`<br /><small>${saving(view.work.forwarded, view.rerun)}</small>`}`
                  : "–"}
              </td>
              <td data-label="Time" class="number">${duration(view.elapsed_ms)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}

function Rungs({ rungs }) {
  const total = RUNGS.reduce((sum, [rung]) => sum + (rungs[rung] ?? 0), 0);
  if (total === 0) return "–";
  const present = RUNGS.filter(([rung]) => rungs[rung] > 0);
  return html`<div class="rung-bar" aria-hidden="true">
      ${present.map(
        ([rung]) => html`<span key=${rung} class="rung-${rung}" style=${{ "flex-grow": String(rungs[rung]) }}></span>`,
      )}
    </div>
    <small>${present.map(([rung, word]) => `${thousands(rungs[rung])} ${word}`).join(" · ")}</small>`;
}

function Sources({ sources }) {
  return html`<section class="surface">
    <h2>Sources and tables</h2>
    ${sources.length === 0
      ? html`<p class="note">None is declared.</p>`
      : html`<div class="scroll" tabindex="0" role="region" aria-label="Sources and tables">
          <table class="data stacking">
            <caption class="sr">
              Sources and tables
            </caption>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Kind</th>
                <th scope="col" class="number">Rows</th>
                <th scope="col" class="number">Epoch</th>
                <th scope="col">State</th>
              </tr>
            </thead>
            <tbody>
              ${sources.map(
                (source) => html`<tr key=${source.name}>
                  <th scope="row"><a href=${to(["views", source.name])}>${source.name}</a></th>
                  <td data-label="Kind">${source.kind}</td>
                  <td data-label="Rows" class="number">${thousands(source.n_rows)}</td>
                  <td data-label="Epoch" class="number">${source.epoch === null ? "–" : thousands(source.epoch)}</td>
                  <td data-label="State">
                    ${source.failure
                      ? html`<span class="status bad"><span aria-hidden="true">✕</span> ${source.failure}</span>`
                      : html`<span class="status good"><span class="dot good" aria-hidden="true"></span> well</span>`}
                  </td>
                </tr>`,
              )}
            </tbody>
          </table>
        </div>`}
  </section>`;
}

function Owed({ owed }) {
  return html`<section class="surface">
    <h2>Owed to sinks</h2>
    ${owed.length === 0
      ? html`<p class="note">Every sink has what it is owed.</p>`
      : html`<div class="scroll" tabindex="0" role="region" aria-label="Owed to sinks"><table class="data stacking">
          <caption class="sr">
            Sinks that have not taken what they are owed
          </caption>
          <thead>
            <tr>
              <th scope="col">Sink</th>
              <th scope="col" class="number">Epochs owed</th>
            </tr>
          </thead>
          <tbody>
            ${owed.map(
              (sink) => html`<tr key=${sink.sink}>
                <th scope="row">${sink.sink}</th>
                <td data-label="Epochs owed" class="number">${thousands(sink.n_epochs)}</td>
              </tr>`,
            )}
          </tbody>
        </table></div>`}
  </section>`;
}
