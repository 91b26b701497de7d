// Is what is shown old, and does the server do well?

import { html, useEffect, useState } from "../vendor/preact.js";
import { useObserved } from "../server/observed.js";
import { lostConnection } from "../server/connection.js";
import { ago } from "../words/wording.js";

// A break shorter than this is nobody's concern.
const PATIENCE_MS = 1500;

export function Banner() {
  const lost = useObserved(lostConnection);
  const [nowMs, setNowMs] = useState(Date.now());
  useEffect(() => {
    if (lost === null) return undefined;
    setNowMs(Date.now());
    const timer = setInterval(() => setNowMs(Date.now()), 500);
    return () => clearInterval(timer);
  }, [lost]);
  const isShown = lost !== null && nowMs - lost.sinceMs >= PATIENCE_MS;
  const inS = lost?.nextTryMs ? Math.max(0, Math.ceil((lost.nextTryMs - nowMs) / 1000)) : null;
  return html`<div role="status" class=${isShown ? "banner" : "banner hidden"}>
    ${isShown &&
    html`<strong>The connection is lost.</strong>
      <span>What you see was true ${ago(lost.sinceMs, nowMs)}: ${lost.reason}.</span>
      ${inS !== null && html`<span>Next try in ${inS} s.</span>`}
      ${lost.retry && html`<button type="button" onClick=${lost.retry}>Try now</button>`}`}
  </div>`;
}
