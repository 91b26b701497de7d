// Which answers failed, and why?
//
// A sign and words beside the colour: nobody needs to see colours to read it.

import { html, useMemo } from "../vendor/preact.js";
import { failures, thousands } from "../words/wording.js";

const MOST_REASONS = 3;

/** `✕ 3 of 12 answers failed`, and nothing where none did. `n` is the number of all. */
export function FailedMark({ nFailed, n }) {
  if (!(nFailed > 0)) return null;
  return html`<span class="status bad"><span aria-hidden="true">✕</span> ${failures(nFailed, n)}</span>`;
}

/** How many answers of the view `state` failed. */
export function nFailedOf(state) {
  let n = 0;
  for (const { answer } of state.answers.values()) if (answer.error) n += 1;
  return n;
}

/** What failed of the view `state`, by reason. `onShow`, where it is there, shows those alone. */
export function Failures({ state, onShow = null }) {
  const reasons = useMemo(() => {
    const counts = new Map();
    for (const { answer } of state.answers.values()) {
      if (answer.error) counts.set(answer.error, (counts.get(answer.error) ?? 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]);
  }, [state, state.contents]);
  if (reasons.length === 0) return null;
  const nFailed = reasons.reduce((sum, [, n]) => sum + n, 0);
  const further = reasons.length - MOST_REASONS;
  return html`<section class="problem failures" aria-label="Failed answers">
    <p>
      <strong><span aria-hidden="true">✕</span> ${failures(nFailed, state.answers.size)}</strong>
      ${onShow && html`<button type="button" class="link" onClick=${onShow}>show them alone</button>`}
    </p>
    <ul>
      ${reasons.slice(0, MOST_REASONS).map(
        ([reason, n]) => html`<li key=${reason}>${nFailed > n && `${thousands(n)} × `}${reason}</li>`,
      )}
      ${further > 0 && html`<li class="note">and ${thousands(further)} more reasons</li>`}
    </ul>
    <p class="note">Each is asked again once its question, or a document that it reads, changes.</p>
  </section>`;
}
