// Is what a page shows of a view what the view said at one epoch, wherever its connection breaks?
//
// The module that pages use, over a server that is played: it tells a random history, cuts the connection
// at any byte, and lets the page go on from the last id, or not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const kept = new Map();
globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
globalThis.document = { hidden: true };

const { ViewState } = await import("../../src/serve/console/assets/server/view_state.js");

/** Numbers that are the same in each run (xorshift). */
function dice(seed) {
  let state = seed;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

/** What a view says at each epoch: the text by key. */
function history(roll, nEpochs) {
  const states = [new Map([["q0", "words at 0"]])];
  for (let epoch = 1; epoch <= nEpochs; epoch += 1) {
    const state = new Map(states.at(-1));
    for (let n = 1 + roll(3); n > 0; n -= 1) {
      const key = `q${roll(5)}`;
      if (roll(4) === 0) state.delete(key);
      else state.set(key, `wörds at ${epoch} of ${key}`);
    }
    states.push(state);
  }
  return states;
}

const answer = (key, text, epoch, change) => ({
  event: "answer",
  key,
  question: key,
  text,
  error: null,
  epoch,
  since: null,
  change,
  changed: null,
  rung: "rewrite",
  exact: true,
  early: false,
  sub_paragraphs: text === null ? [] : [{ text, sources: [] }],
  work: { forwarded: 1, from_scratch: 2 },
});

/** The answers by which the view's state at `from` becomes that at `to`. */
function changes(states, from, to) {
  const [before, after] = [states[from], states[to]];
  const told = [];
  for (const key of before.keys()) if (!after.has(key)) told.push(answer(key, null, to, "gone"));
  for (const [key, text] of after) {
    if (before.get(key) !== text) told.push(answer(key, text, to, before.has(key) ? "changed" : "new"));
  }
  return told;
}

/** What the server writes from `from` (null: from nothing) on: NDJSON. */
function told(states, from, doesReset, roll) {
  const lines = [];
  let epoch = from;
  if (from === null || doesReset) {
    if (from !== null) lines.push({ event: "reset", reason: "the history does not reach back so far" });
    epoch = from === null ? 0 : from;
    lines.push({ event: "snapshot", view: "v", kind: "answers", epoch, n_rows: states[epoch].size });
    for (const [key, text] of states[epoch]) lines.push(answer(key, text, epoch, "new"));
    lines.push({ event: "up_to_date", id: `o.${epoch}`, epoch });
  } else {
    const to = Math.min(from + roll(3), states.length - 1);
    lines.push(...changes(states, from, to), { event: "up_to_date", id: `o.${to}`, epoch: to });
    epoch = to;
  }
  while (epoch < states.length - 1) {
    const next = Math.min(epoch + 1 + roll(2), states.length - 1);
    lines.push({ event: "started", epoch: next, documents: [], n_changes: 1, n_healed: 0, n_documents: 1 });
    const all = changes(states, epoch, next);
    if (all.length > 0 && all[0].text !== null) {
      lines.push({ event: "progress", stage: "writing", key: all[0].key, at: 0, text: "half a w" });
      lines.push({ ...all[0], early: true });
    }
    lines.push(...all);
    lines.push({ event: "epoch", id: `o.${next}`, epoch: next, n_changes: all.length, rungs: {}, work: { forwarded: 1 }, rerun: 2, n_read: 1, n_answers: 1, elapsed_ms: 1, overtaken: [] });
    epoch = next;
  }
  return `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`;
}

function shown(state) {
  return new Map([...state.answers].map(([key, { answer: one }]) => [key, one.text]));
}

const same = (a, b) => a.size === b.size && [...a].every(([key, text]) => b.get(key) === text);

test("wherever a connection breaks, a page shows what the view said at one epoch, and ends at the last", async () => {
  const roll = dice(5);
  const realTimeout = globalThis.setTimeout;
  // The pauses between tries are none of what is tested.
  globalThis.setTimeout = (call, ms, ...more) => realTimeout(call, ms > 30_000 ? ms : 0, ...more);
  try {
    for (let round = 0; round < 60; round += 1) {
      const states = history(roll, 6);
      let nCuts = roll(4);
      const asked = [];
      globalThis.fetch = async (path, { signal }) => {
        signal.throwIfAborted();
        const asOf = new URL(path, "http://local").searchParams.get("as_of");
        asked.push(asOf);
        const from = asOf === null ? null : Number(asOf.split(".")[1]);
        const bytes = new TextEncoder().encode(told(states, from, roll(4) === 0, roll));
        const isCut = nCuts > 0;
        nCuts -= 1;
        const end = isCut ? roll(bytes.length) : bytes.length;
        const body = new ReadableStream({
          async start(controller) {
            for (let at = 0; at < end; ) {
              const next = Math.min(end, at + 1 + roll(120));
              controller.enqueue(bytes.slice(at, next));
              at = next;
            }
            if (isCut) controller.close();
            else signal.addEventListener("abort", () => controller.error(signal.reason));
          },
        });
        return new Response(body);
      };
      const view = new ViewState("v");
      const mixed = [];
      view.watch(() => {
        if (view.isComplete && !same(shown(view), states[view.epoch])) mixed.push(view.epoch);
      });
      const giveUpAt = Date.now() + 60_000;
      while (view.epoch !== states.length - 1 || view.connection.name !== "live") {
        assert.ok(Date.now() < giveUpAt, `round ${round} does not end: ${asked}`);
        await sleep(1);
      }
      assert.ok(same(shown(view), states.at(-1)), `round ${round} at the end`);
      assert.deepEqual(mixed, [], `round ${round}`);
      assert.equal(view.drafts.size, 0);
      view.stop();
    }
  } finally {
    globalThis.setTimeout = realTimeout;
  }
});

test("drafts follow the bytes that the server counts", async () => {
  const lines = [
    { event: "snapshot", view: "v", kind: "answers", epoch: 0, n_rows: 0 },
    { event: "up_to_date", id: "o.0", epoch: 0 },
    { event: "progress", stage: "writing", key: "q", at: 0, text: "Größe " },
    { event: "progress", stage: "writing", key: "q", at: 8, text: "neun" },
    { event: "progress", stage: "writing", key: "q", at: 8, text: "zehn" },
  ];
  globalThis.fetch = async (_, { signal }) =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(`${lines.map((line) => JSON.stringify(line)).join("\n")}\n`));
          signal.addEventListener("abort", () => controller.error(signal.reason));
        },
      }),
    );
  const view = new ViewState("v");
  while (view.drafts.get("q")?.text !== "Größe zehn") await sleep(1);
  view.stop();
});
