// What does a view say at this moment, and what changed last?
//
// Invariant: what is shown is what the view said at one epoch. Events between two ids are applied
// together. Early answers and progress are previews, and are shown as such.
// Deliberately absent: a history that outlives the page; epochs are counted from its opening.

import { useEffect, useReducer } from "../vendor/preact.js";
import { Subscription } from "./subscription.js";

const MOST_EPOCHS = 500;
// Browsers keep six connections to a server; some must be left for requests.
const MOST_OPEN = 3;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class ViewState {
  /** Text by which answers of this view are marked in the page. */
  name;
  kind = null;
  epoch = null;
  /** How often what stands was exchanged: another number, other contents. */
  contents = 0;
  /** `{name: connecting|live|lost|refused, error}` */
  connection = { name: "connecting" };
  /** Whether a whole snapshot has arrived. */
  isComplete = false;
  /** By key: `{answer, previous, changedAtMs, change}`; `previous` is the text before the last change. */
  answers = new Map();
  /** By the JSON of a row: `{row, count}`. */
  rows = new Map();
  /** By key: `{text}` of an answer in the making, or `{done, total}` of what is read for it. */
  drafts = new Map();
  /** Of the epoch under way: `{epoch, documents, n_changes, stage}`; else null. */
  underWay = null;
  /** Summaries, oldest first, with `atMs`, `documents` and `changedKeys`. */
  epochs = [];
  /** Words of sources and models. */
  notices = [];

  #pending = [];
  #listeners = new Set();
  #isTold = false;
  #subscription;

  constructor(name) {
    this.name = name;
    this.#subscription = new Subscription(name, {
      event: (event) => this.#take(event),
      state: (state) => {
        this.connection = state;
        if (state.name !== "live") {
          // What was not completed is told again.
          this.#pending = [];
          this.drafts.clear();
          this.underWay = null;
        }
        this.#tell();
      },
    });
  }

  stop() {
    this.#subscription.stop();
  }

  watch(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // At most one drawing a frame, however many events come.
  #tell() {
    if (this.#isTold) return;
    this.#isTold = true;
    const now = () => {
      this.#isTold = false;
      for (const listener of [...this.#listeners]) listener();
    };
    if (document.hidden) setTimeout(now, 200);
    else requestAnimationFrame(now);
  }

  #take(event) {
    switch (event.event) {
      case "snapshot":
        this.#pending = [event];
        return;
      case "answer":
        if (event.early) this.#preview(event);
        else this.#pending.push(event);
        break;
      case "row":
        this.#pending.push(event);
        return;
      case "up_to_date":
        this.#apply(event.epoch);
        this.isComplete = true;
        break;
      case "epoch":
        this.#completeEpoch(event);
        break;
      case "started":
        this.underWay = event;
        break;
      case "progress":
        this.#progress(event);
        break;
      case "reset":
      case "end":
        this.#notice("server", event.reason);
        break;
      case "notice":
        this.#notice(event.source, event.message);
        break;
    }
    this.#tell();
  }

  #notice(source, message) {
    const n = (this.notices.at(-1)?.n ?? 0) + 1;
    this.notices = [...this.notices.slice(-19), { n, source, message, atMs: Date.now() }];
  }

  #apply(epoch) {
    const changedKeys = [];
    const isSnapshot = this.#pending[0]?.event === "snapshot";
    for (const event of this.#pending) {
      if (event.event === "snapshot") {
        this.kind = event.kind;
        this.answers = new Map();
        this.rows = new Map();
      } else if (event.event === "row") {
        this.#applyRow(event);
      } else if (this.#applyAnswer(event, isSnapshot)) {
        changedKeys.push(event.key);
      }
    }
    this.#pending = [];
    this.epoch = epoch;
    this.contents += 1;
    return changedKeys;
  }

  #applyRow({ row, count }) {
    const id = JSON.stringify(row);
    const stands = (this.rows.get(id)?.count ?? 0) + count;
    if (stands > 0) this.rows.set(id, { row, count: stands });
    else this.rows.delete(id);
  }

  #applyAnswer(event, isSnapshot) {
    const before = this.answers.get(event.key);
    this.drafts.delete(event.key);
    if (event.change === "gone") {
      this.answers.delete(event.key);
      return true;
    }
    const isOther = before === undefined || shown(before.answer) !== shown(event);
    this.answers.set(event.key, {
      answer: event,
      change: isSnapshot ? null : event.change,
      previous: isOther && !isSnapshot ? (before?.answer.text ?? "") : (before?.previous ?? null),
      changedAtMs: isSnapshot ? 0 : isOther ? Date.now() : (before?.changedAtMs ?? 0),
      refreshedAtMs: isSnapshot ? 0 : Date.now(),
    });
    return isOther;
  }

  #preview(event) {
    if (event.change === "gone") return;
    this.drafts.set(event.key, { text: event.text ?? event.error ?? "", isEarly: true });
  }

  #completeEpoch(event) {
    const changedKeys = this.#apply(event.epoch);
    const documents = this.underWay?.documents ?? [];
    const { overtaken = [], ...summary } = event;
    const seen = { atMs: Date.now(), documents: [], changedKeys: [] };
    const all = [
      ...overtaken.map((other) => ({ ...seen, ...other })),
      { ...seen, ...summary, documents, changedKeys },
    ];
    this.epochs = [...this.epochs, ...all].slice(-MOST_EPOCHS);
    this.underWay = null;
    this.drafts.clear();
  }

  #progress(event) {
    if (event.key === undefined || event.key === null) {
      this.underWay = { ...(this.underWay ?? {}), stage: event };
      return;
    }
    const draft = this.drafts.get(event.key);
    if (event.stage === "writing") {
      // `at` counts bytes: what was drafted beyond it is dropped.
      const stands = encoder.encode(draft?.text ?? "").subarray(0, event.at);
      this.drafts.set(event.key, { text: decoder.decode(stands) + event.text });
    } else {
      this.drafts.set(event.key, { ...draft, stage: event.stage, done: event.done, total: event.total });
    }
  }
}

/** What a reader sees of an answer. */
function shown(answer) {
  return answer.error ?? answer.text;
}

const opened = new Map();

/** The state of the view `name`, subscribed to for as long as it is among the last few looked at. */
export function viewState(name) {
  const state = opened.get(name) ?? new ViewState(name);
  opened.delete(name);
  opened.set(name, state);
  for (const [other, old] of opened) {
    if (opened.size <= MOST_OPEN) break;
    old.stop();
    opened.delete(other);
  }
  return state;
}

/** The same in a component, which is drawn again with each change. A null name is no view. */
export function useView(name) {
  const [, redraw] = useReducer((n) => n + 1, 0);
  const state = name === null ? null : viewState(name);
  useEffect(() => (state === null ? undefined : state.watch(redraw)), [state]);
  return state;
}
