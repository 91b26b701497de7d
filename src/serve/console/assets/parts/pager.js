// Which part of a long list is shown?
//
// Pages, not endless scrolling: their place can be named, keys and screen readers reach their end,
// and a page of a hundred costs the same whatever the list holds.

import { html, useState } from "../vendor/preact.js";
import { thousands } from "../words/wording.js";
import { Told } from "./told.js";

/** `{at, setAt, from, to, nPages}` of a list of `n`, with `size` on a page. */
export function usePages(n, size) {
  const [wanted, setAt] = useState(0);
  const nPages = Math.max(1, Math.ceil(n / size));
  const at = Math.min(wanted, nPages - 1);
  return { at, setAt, from: at * size, to: Math.min(n, (at + 1) * size), nPages, n };
}

export function Pager({ pages, noun }) {
  if (pages.nPages === 1) return null;
  const button = (name, at, isOff) =>
    html`<button type="button" disabled=${isOff} onClick=${() => pages.setAt(at)}>${name}</button>`;
  const shown = `${thousands(pages.from + 1)}–${thousands(pages.to)} of ${thousands(pages.n)}`;
  return html`<nav class="pager" aria-label="Pages of ${noun}s">
    ${button("First", 0, pages.at === 0)} ${button("Previous", pages.at - 1, pages.at === 0)}
    <span>${shown}</span> <${Told} text=${pages.at === 0 ? "" : `${shown} ${noun}s`} />
    ${button("Next", pages.at + 1, pages.at === pages.nPages - 1)}
    ${button("Last", pages.nPages - 1, pages.at === pages.nPages - 1)}
  </nav>`;
}
