// Is what the page shows up to date, and if not, since when?
//
// Every part that speaks with the server tells here when it cannot reach it, and when it can again.

import { Observed } from "./observed.js";

/** Null while all is well; else `{sinceMs, reason, nextTryMs, retry}` of who lost the server first. */
export const lostConnection = new Observed(null);
const lost = new Map();

/** `who` cannot reach the server because of `error`; null: it can. */
export function tellLost(who, error, nextTryMs = null, retry = null) {
  if (error === null) {
    if (!lost.delete(who)) return;
  } else {
    const sinceMs = lost.get(who)?.sinceMs ?? Date.now();
    // Browsers say "Failed to fetch", or "network error", of whatever keeps a server from answering.
    const reason = error instanceof TypeError ? "the server does not answer" : error.message;
    lost.set(who, { sinceMs, reason, nextTryMs, retry });
  }
  const all = [...lost.values()];
  lostConnection.value = all.length === 0 ? null : all.reduce((a, b) => (a.sinceMs <= b.sinceMs ? a : b));
}
