// Is there something of a view to show yet?

import { html } from "../vendor/preact.js";
import { Empty, Waiting } from "./empty.js";

/** What stands in the place of a view that is not there yet, or any more; null when it is there. */
export function notThere(state) {
  if (state.connection.name === "refused") {
    return html`<${Empty} title="The view cannot be followed"><p>${state.connection.error.message}</p><//>`;
  }
  // What is being written for the first time is something to see.
  if (state.isComplete || state.drafts.size > 0) return null;
  return html`<${Waiting} what=${state.connection.name === "lost" ? "Waiting for the server" : "Reading what stands"} />`;
}

/** Words of sources and models, the last of them. */
export function Notices({ state }) {
  const last = state.notices.slice(-3);
  if (last.length === 0) return null;
  return html`<ul class="notices">
    ${last.map(
      (notice) => html`<li key=${notice.n}>
        <time datetime=${new Date(notice.atMs).toISOString()}>${new Date(notice.atMs).toLocaleTimeString()}</time>${" "}
        <strong>${notice.source}</strong> ${notice.message}
      </li>`,
    )}
  </ul>`;
}
