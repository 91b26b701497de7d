// What hears who does not see the page?
//
// The newest words, politely, and seldom: epochs may follow each other faster than anybody can be told.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";

/** The shortest time between two things that are said. */
const PAUSE_MS = 5000;

/** Says `text` to screen readers when it changes; of several within a pause, the last. */
export function Told({ text }) {
  const [said, setSaid] = useState("");
  const lastMs = useRef(-Infinity);
  useEffect(() => {
    const say = () => {
      lastMs.current = performance.now();
      setSaid(text);
    };
    // Never at once: what stands in a region when it is made is read by few.
    const timer = setTimeout(say, Math.max(0, lastMs.current + PAUSE_MS - performance.now()));
    return () => clearTimeout(timer);
  }, [text]);
  return html`<p class="sr" role="status" aria-live="polite">${said}</p>`;
}
