// How do changes of a view arrive, and go on after the connection was lost?
//
// NDJSON by `fetch`, since `EventSource` can send no token. After a break it goes on from the last
// id (`as_of`): the server then tells what changed since, or says `reset` and begins anew.

import { open, v1 } from "./requests.js";
import { tellLost } from "./connection.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
// The server writes an empty line every 15 seconds. Three of them missing is a dead connection.
const SILENCE_MS = 45000;
// Longer work than this in one go is felt by who types.
const TURN_MS = 12;

/** One running subscription. `on.event` gets each event, `on.state` its state, until `stop`. */
export class Subscription {
  #view;
  #on;
  #control = new AbortController();
  #lastId = null;
  #wake = () => {};

  constructor(view, on) {
    this.#view = view;
    this.#on = on;
    this.#run();
  }

  stop() {
    this.#control.abort();
    this.#wake();
    tellLost(this, null);
  }

  async #run() {
    let waitMs = FIRST_WAIT_MS;
    while (!this.#control.signal.aborted) {
      this.#on.state({ name: "connecting" });
      let failure;
      try {
        const told = await this.#read(() => (waitMs = FIRST_WAIT_MS));
        if (told.ended?.isFinal) return this.#refuse(new Error(told.ended.reason));
        failure = new Error(told.ended?.reason ?? "the server closed the connection");
      } catch (error) {
        failure = error;
      }
      if (this.#control.signal.aborted) return;
      if (failure.status !== undefined && !failure.mayPass) return this.#refuse(failure);
      const wait = failure.retryAfterS ? failure.retryAfterS * 1000 : waitMs;
      this.#on.state({ name: "lost", error: failure });
      tellLost(this, failure, Date.now() + wait, () => this.#wake());
      await this.#sleep(wait);
      waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    }
  }

  #refuse(error) {
    tellLost(this, null);
    this.#on.state({ name: "refused", error });
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #read(onOpen) {
    const options = new URLSearchParams({ format: "ndjson", progress: "true" });
    if (this.#lastId !== null) options.set("as_of", this.#lastId);
    const silence = new AbortController();
    const signal = AbortSignal.any([this.#control.signal, silence.signal]);
    let watchdog;
    const heard = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(
        () => silence.abort(new Error("nothing was heard of the server")),
        SILENCE_MS,
      );
    };
    let ended = null;
    try {
      const response = await open(`${v1("views", this.#view, "subscribe")}?${options}`, { signal });
      onOpen();
      tellLost(this, null);
      this.#on.state({ name: "live" });
      heard();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        heard();
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        let begun = performance.now();
        for (const line of lines) {
          if (line === "") continue;
          const event = JSON.parse(line);
          if (event.event === "end") ended = this.#endOf(event);
          this.#on.event(event);
          // After the event, so that what is gone on from has been taken in.
          if (event.id !== undefined) this.#lastId = event.id;
          if (performance.now() - begun > TURN_MS) {
            await new Promise((resolve) => setTimeout(resolve));
            begun = performance.now();
          }
        }
      }
      return { ended };
    } finally {
      clearTimeout(watchdog);
      silence.abort();
    }
  }

  // A view that was dropped does not come back by itself; a server that ends may.
  #endOf(event) {
    return { reason: event.reason, isFinal: event.code === "dropped" };
  }
}
