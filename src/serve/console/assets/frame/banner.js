// Is what is shown old, and does the server do well?

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { useObserved } from "../server/observed.js";
import { lostConnection } from "../server/connection.js";
import { ago } from "../words/wording.js";
import { Told } from "../parts/told.js";

// A break shorter than this is nobody's concern.
const PATIENCE_MS = 1500;

export function Banner() {
  const lost = useObserved(lostConnection);
  const [nowMs, setNowMs] = useState(Date.now());
  const wasShown = useRef(false);
  useEffect(() => {
    if (lost === null) return undefined;
    setNowMs(Date.now());
    const timer = setInterval(() => setNowMs(Date.now()), 500);
    return () => clearInterval(timer);
  }, [lost]);
  const isShown = lost !== null && nowMs - lost.sinceMs >= PATIENCE_MS;
  wasShown.current ||= isShown;
  const title = lost?.isAnswered ? "The server cannot answer." : "The connection is lost.";
  const inS = lost?.nextTryMs ? Math.max(0, Math.ceil((lost.nextTryMs - nowMs) / 1000)) : null;
  // The seconds that go by are seen, not told.
  const told = isShown ? `${title} ${lost.reason}` : wasShown.current && lost === null ? "The connection is back." : "";
  return html`<${Told} text=${told} />
    <div class=${isShown ? "banner" : "banner hidden"}>
      ${isShown &&
      html`<strong>${title}</strong>
        <span>What you see was true ${ago(lost.sinceMs, nowMs)}: ${lost.reason}.</span>
        ${inS !== null && html`<span>${inS > 0 ? `Next try in ${inS} s.` : "Trying …"}</span>`}
        ${lost.retry && html`<button type="button" onClick=${lost.retry}>Try now</button>`}`}
    </div>`;
}
