// What stands around every page?

import { html } from "../vendor/preact.js";
import { useObserved } from "../server/observed.js";
import { usePolled } from "../server/polling.js";
import { forgetToken, hasToken } from "../server/requests.js";
import { lostConnection } from "../server/connection.js";
import { count, thousands } from "../words/wording.js";
import { Banner } from "./banner.js";
import { HelpDialog } from "./help_dialog.js";
import { place, to } from "./router.js";
import { isHelpOpen } from "./shortcuts.js";
import { nextTheme, theme } from "./theme.js";
import { TokenDialog } from "./token_dialog.js";

const PAGES = [
  ["views", "Views"],
  ["try", "Try a change"],
  ["sql", "SQL"],
  ["quarantine", "Quarantine"],
  ["operations", "Operations"],
];

export function Shell({ children }) {
  const { parts } = useObserved(place);
  const shown = useObserved(theme);
  const isSending = useObserved(hasToken);
  const lost = useObserved(lostConnection);
  // Some tokens may not look at it: then the server is known to answer, and no more.
  const { data: status, error: refused } = usePolled("/v1/status", 5000);
  const here = parts[0] ?? "views";
  const nFailed = (status?.views ?? []).reduce((sum, view) => sum + (view.n_failed ?? 0), 0);
  const badges = {
    views: nFailed > 0 && [`✕ ${thousands(nFailed)}`, count(nFailed, "failed answer")],
    quarantine: status?.n_quarantined > 0 && [thousands(status.n_quarantined), count(status.n_quarantined, "refused record")],
  };
  const health = lost
    ? ["bad", lost.isAnswered ? "in trouble" : "not reached"]
    : status === null
      ? refused
        ? ["good", "connected"]
        : ["wait", "connecting"]
      : status.failure
        ? ["bad", "has failed"]
        : status.ready
          ? ["good", "ready"]
          : ["wait", "starting"];
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <div class="shell">
      <header class="side">
        <a class="brand" href=${to([])}>
          <img src="console/icon.svg" alt="" width="26" height="26" />
          <span>Perennial</span>
        </a>
        <nav aria-label="Pages">
          <ul>
            ${PAGES.map(
              ([page, name]) => html`<li key=${page}>
                <a href=${to([page])} aria-current=${here === page ? "page" : null}>
                  ${name}
                  ${badges[page] &&
                  html`<span class="badge" title=${badges[page][1]}
                    ><span aria-hidden="true">${badges[page][0]}</span><span class="sr">${badges[page][1]}</span></span
                  >`}
                </a>
              </li>`,
            )}
          </ul>
        </nav>
        <div class="side-foot">
          <span class="health" title=${status?.failure ?? null}>
            <span class="dot ${health[0]}" aria-hidden="true"></span>
            <span><span class="sr">Server: </span>${health[1]}</span>
          </span>
          <button type="button" class="quiet" onClick=${nextTheme} title="Light or dark (d)">
            <span aria-hidden="true">${shown === "dark" ? "☀" : "☾"}</span>${" "}
            <span class="wide-only">${shown === "dark" ? "Light" : "Dark"}</span>
            <span class="sr narrow-only">${shown === "dark" ? "Light" : "Dark"}</span>
          </button>
          <button type="button" class="quiet" onClick=${() => (isHelpOpen.value = true)} title="Keys (?)">
            <span aria-hidden="true">⌨</span> <span class="wide-only">Keys</span
            ><span class="sr narrow-only">Keys</span>
          </button>
          ${isSending &&
          html`<button type="button" class="quiet" onClick=${forgetToken} title="This tab sends no token any more">
            Forget token
          </button>`}
        </div>
      </header>
      <main id="main" tabindex="-1">
        <${Banner} />
        ${status?.failure && html`<p class="problem" role="alert">The engine has ended: ${status.failure}</p>`}
        ${children}
      </main>
    </div>
    <${TokenDialog} />
    <${HelpDialog} />
  `;
}

// The address behind `#` names a page, so this link moves the focus itself.
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}
