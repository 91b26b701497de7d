// How is the server asked, and what does it mean when it refuses?
//
// The token lives in `sessionStorage` alone: it is gone with the tab, and no other tab has it. A
// request that is refused for want of one waits until a person has typed one.

import { Observed } from "./observed.js";

const TOKEN = "perennial.token";

/** A reply that says no. `hint`, `line`, `column` and `outcomes` are there where the server said so. */
export class Refused extends Error {
  constructor(status, reply, retryAfterS) {
    super(reply.error ?? `the server answered ${status}`);
    this.status = status;
    this.hint = reply.hint ?? null;
    this.line = reply.line ?? null;
    this.column = reply.column ?? null;
    this.outcomes = reply.outcomes ?? null;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later. */
  get mayPass() {
    return this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** Why a token is asked for, or null while none is. */
export const tokenAsked = new Observed(null);
/** Whether this tab sends a token. */
export const hasToken = new Observed(sessionStorage.getItem(TOKEN) !== null);
let waiting = [];

export function giveToken(token) {
  sessionStorage.setItem(TOKEN, token);
  hasToken.value = true;
  tokenAsked.value = null;
  for (const go of waiting.splice(0)) go();
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
  hasToken.value = false;
  location.reload();
}

function tokenIsThere(signal, sent) {
  tokenAsked.value =
    sent === null
      ? "This server wants a token."
      : "The server does not know this token. It may have been taken back.";
  return new Promise((resolve, reject) => {
    waiting.push(resolve);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/**
 * A response that is no refusal. Throws `Refused`, or what `fetch` throws without a server; with `patienceMs`,
 * also where the reply is not there by then. The time that a token is waited for does not count.
 */
export async function open(path, { patienceMs = null, ...options } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers };
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    const given = [options.signal, patienceMs && AbortSignal.timeout(patienceMs)].filter(Boolean);
    const signal = given.length > 0 ? AbortSignal.any(given) : undefined;
    const response = await fetch(path, { ...options, signal, headers, cache: "no-store" });
    if (response.ok) return response;
    // Another request may have brought a new token meanwhile.
    if (response.status === 401) {
      if (token === sessionStorage.getItem(TOKEN)) await tokenIsThere(options.signal, token);
      continue;
    }
    const reply = await response.json().catch(() => ({}));
    throw new Refused(response.status, reply, Number(response.headers.get("Retry-After")) || null);
  }
}

/** The JSON at `path`. */
export async function read(path, signal, patienceMs = null) {
  return (await open(path, { signal, patienceMs })).json();
}

/** Sends `body`, a text or what becomes JSON; gives the reply's JSON, or null where there is none. */
export async function send(method, path, body) {
  const isText = typeof body === "string";
  const response = await open(path, {
    method,
    body: body === undefined || isText ? body : JSON.stringify(body),
    headers:
      body === undefined
        ? {}
        : { "Content-Type": isText ? "application/x-ndjson" : "application/json" },
  });
  const text = await response.text();
  return text === "" ? null : JSON.parse(text);
}

/** A path under /v1, each part encoded. */
export function v1(...parts) {
  return ["/v1", ...parts.map(encodeURIComponent)].join("/");
}

/** Records as NDJSON into a stream. Waits up to `waitS` seconds until they are visible. */
export function feed(stream, records, waitS = 30) {
  const lines = records.map((record) => JSON.stringify(record)).join("\n");
  return send("POST", `${v1("streams", stream)}?wait=${waitS}`, `${lines}\n`);
}
