// What to do where there is nothing to see.

import { html } from "../vendor/preact.js";
import { PageTitle } from "./page_title.js";

/** `isPage`: nothing else is on the page, so its title is that of the page. */
export function Empty({ title, isPage = false, children }) {
  return html`<div class="empty">${isPage ? html`<${PageTitle} title=${title} />` : html`<h2>${title}</h2>`}${children}</div>`;
}

/** A request that was refused, or what else went wrong. Null is nothing. */
export function Problem({ error }) {
  if (!error) return null;
  return html`<p class="problem" role="alert">
    ${error.message}${error.hint ? html`<span class="hint"> ${error.hint}</span>` : null}
  </p>`;
}

export function Waiting({ what }) {
  return html`<p class="waiting" role="status">${what} …</p>`;
}
