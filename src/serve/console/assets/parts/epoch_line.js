// What did the last epoch change, and what is under way?
//
// Read aloud when an epoch is complete: not at each word that is written.

import { html } from "../vendor/preact.js";
import { changes, count, epochInWords, thousands } from "../words/wording.js";
import { Told } from "./told.js";

const MOST_NAMED = 8;

/** `onShow` gets the key of a changed answer. */
export function EpochLine({ state, onShow }) {
  const last = state.epochs.at(-1) ?? null;
  const keys = last?.changedKeys ?? [];
  const nFailed = last?.rungs?.failed ?? 0;
  return html`<div class="epoch-line">
    <${Told} text=${last === null ? "" : inWords(last)} />
    <div class="last">
      ${last === null
        ? state.epoch === null
          ? html`<span class="note">The first answers are being written.</span>`
          : html`<span class="note">Epoch ${thousands(state.epoch)}. Nothing has changed since this page was opened.</span>`
        : html`<strong>Epoch ${thousands(last.epoch)}</strong>
            <span>${changes(last.documents)}</span>
            <span>${differing(last)}</span>
            ${nFailed > 0 && html`<span class="status bad"><span aria-hidden="true">✕</span> ${thousands(nFailed)} failed</span>`}
            <span>${epochInWords(last)}</span>`}
    </div>
    ${keys.length > 0 &&
    html`<div class="chips">
      ${keys.slice(0, MOST_NAMED).map(
        (key) => html`<button type="button" class="chip" key=${key} onClick=${() => onShow(key)}>${key}</button>`,
      )}
      ${keys.length > MOST_NAMED && html`<span class="note">and ${thousands(keys.length - MOST_NAMED)} more</span>`}
    </div>`}
    <div class="under-way" aria-hidden="true">
      ${state.underWay !== null && html`<span class="spinner"></span> ${underWay(state.underWay)}`}
    </div>
  </div>`;
}

function differing(epoch) {
  return epoch.n_changes === 0 ? "no answer differs" : count(epoch.n_changes, "change");
}

function inWords(epoch) {
  const failed = epoch.rungs?.failed > 0 ? `, ${thousands(epoch.rungs.failed)} failed` : "";
  return `Epoch ${thousands(epoch.epoch)}: ${changes(epoch.documents)}, ${differing(epoch)}${failed}, ${epochInWords(epoch)}`;
}

function underWay(started) {
  const stage = started.stage?.stage;
  const done = started.stage?.total > 0 ? ` ${thousands(started.stage.done)} of ${thousands(started.stage.total)}` : "";
  const what =
    started.documents === undefined ? "an epoch is under way" : changes(started.documents, started.n_healed);
  return `${what}${stage ? ` · ${stage}${done}` : ""} …`;
}
