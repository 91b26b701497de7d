// Is what the page shows up to date, and if not, since when?
//
// Every part that speaks with the server tells here when it cannot reach it, and when it can again.

import { Observed } from "./observed.js";

/**
 * Null while all is well; else, of who lost the server first, `{sinceMs, reason, isAnswered}`: the server said
 * that it cannot, or said nothing; of all, `nextTryMs`, and `retry` to try at once.
 */
export const lostConnection = new Observed(null);
const lost = new Map();

/** `who` cannot reach the server because of `error`; null: it can. */
export function tellLost(who, error, nextTryMs = null, retry = null) {
  if (error === null) {
    if (!lost.delete(who)) return;
  } else {
    const sinceMs = lost.get(who)?.sinceMs ?? Date.now();
    lost.set(who, { sinceMs, reason: reasonOf(error), isAnswered: error.status !== undefined, nextTryMs, retry });
  }
  const all = [...lost.values()];
  if (all.length === 0) {
    lostConnection.value = null;
    return;
  }
  const first = all.reduce((a, b) => (a.sinceMs <= b.sinceMs ? a : b));
  const tries = all.map((one) => one.nextTryMs).filter((atMs) => atMs !== null);
  lostConnection.value = {
    ...first,
    nextTryMs: tries.length === 0 ? null : Math.min(...tries),
    retry: retryAll,
  };
}

// Browsers say "Failed to fetch", or "network error", of whatever keeps a server from answering.
function reasonOf(error) {
  if (error instanceof TypeError) return "the server does not answer";
  return error.name === "TimeoutError" ? "nothing was heard of the server" : error.message;
}

function retryAll() {
  for (const { retry } of [...lost.values()]) retry?.();
}

// A network that is there again is no reason to wait.
globalThis.addEventListener?.("online", retryAll);
