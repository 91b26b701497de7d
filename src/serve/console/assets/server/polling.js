// What does the server say now, asked every few seconds?
//
// A hidden page asks nothing. While an answer is missing, the last one stays, and `connection.js` is told: what is
// shown is then known to be old.

import { useEffect, useRef, useState } from "../vendor/preact.js";
import { read } from "./requests.js";
import { tellLost } from "./connection.js";

const EVERY_MS = 2000;
const MOST_MS = 15000;
/** A reply that takes longer is none: a network that is gone says nothing. */
const PATIENCE_MS = 30000;

/**
 * `{data, error, again}` of `path`, asked again each `everyMs`; a null path asks nothing.
 * `error` is what was refused for good; a connection that is lost is told to `connection.js`.
 */
export function usePolled(path, everyMs = EVERY_MS) {
  const [state, setState] = useState({ path, data: null, error: null });
  const kick = useRef(() => {});
  useEffect(() => {
    if (path === null) {
      kick.current = () => {};
      return undefined;
    }
    const control = new AbortController();
    const who = {};
    let timer = null;
    let waitMs = everyMs;
    let underWay = false;
    setState({ path, data: null, error: null });
    const ask = async () => {
      clearTimeout(timer);
      if (underWay) return;
      if (document.hidden) return;
      underWay = true;
      try {
        const data = await read(path, control.signal, PATIENCE_MS);
        setState({ path, data, error: null });
        tellLost(who, null);
        waitMs = everyMs;
      } catch (error) {
        if (control.signal.aborted) return;
        waitMs = Math.max(Math.min(waitMs * 2, MOST_MS), (error.retryAfterS ?? 0) * 1000);
        if (error.status !== undefined && !error.mayPass) {
          setState((before) => ({ ...before, error }));
          tellLost(who, null);
        } else {
          tellLost(who, error, Date.now() + waitMs, ask);
        }
      } finally {
        underWay = false;
      }
      timer = setTimeout(ask, waitMs);
    };
    kick.current = ask;
    const onShown = () => document.hidden || ask();
    document.addEventListener("visibilitychange", onShown);
    ask();
    return () => {
      control.abort();
      clearTimeout(timer);
      tellLost(who, null);
      document.removeEventListener("visibilitychange", onShown);
    };
  }, [path, everyMs]);
  const current = state.path === path ? state : { data: null, error: null };
  return { data: current.data, error: current.error, again: () => kick.current() };
}
