// How did an answer come to be, and may it be relied on?
//
// A sign and words beside the colour: nobody needs to see colours to read it.

import { html } from "../vendor/preact.js";
import { how, promise, saving, thousands, work } from "../words/wording.js";

const SIGNS = {
  keep: "●",
  skip: "○",
  patch: "⇄",
  verify: "✓",
  append: "↪",
  rewrite: "✎",
  regenerate: "✦",
};

/** Of an answer that did not fail, as the mark below. */
export function RungBadge({ answer }) {
  return html`<span class="rung rung-${answer.rung}"
    ><span aria-hidden="true">${SIGNS[answer.rung] ?? "·"}</span> ${how(answer)}</span
  >`;
}

export function PromiseMark({ answer }) {
  const { word, why } = promise(answer);
  return html`<span class="promise promise-${word}" title=${why}>${word}</span>`;
}

/** What a refresh cost beside a rerun, as a bar and in words. */
export function Cost({ forwarded, rerun }) {
  const part = rerun > 0 ? Math.min(1, forwarded / rerun) : 0;
  return html`<span
    class="cost"
    title=${`${thousands(forwarded)} tokens were forwarded; a run from nothing forwards ${thousands(rerun)}. ${saving(forwarded, rerun)}`}
  >
    <span class="bar" aria-hidden="true"><span style=${{ width: `${part * 100}%` }}></span></span>
    <span>${work(forwarded, rerun)}</span>
  </span>`;
}
