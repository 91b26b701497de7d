// Where is a token typed, when the server wants one?

import { html, useRef } from "../vendor/preact.js";
import { useObserved } from "../server/observed.js";
import { giveToken, tokenAsked } from "../server/requests.js";
import { Dialog } from "./dialog.js";

export function TokenDialog() {
  const why = useObserved(tokenAsked);
  const field = useRef(null);
  if (why === null) return null;
  const submit = (event) => {
    event.preventDefault();
    const token = field.current.value.trim();
    if (token !== "") giveToken(token);
  };
  return html`<${Dialog} title="A token, please">
    <form onSubmit=${submit} class="stack">
      <p role="status">${why} It is kept in this tab only, until the tab is closed.</p>
      <label class="field">
        Token
        <input ref=${field} type="password" name="token" autofocus autocomplete="off" spellcheck=${false} required />
      </label>
      <div class="actions"><button class="primary">Go on</button></div>
    </form>
  <//>`;
}
