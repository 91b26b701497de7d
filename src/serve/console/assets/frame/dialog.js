// A window over the page: named, closed by Esc, and the focus goes back where it was. Without
// `onClose` it stays until its work is done.

import { html, useEffect, useRef } from "../vendor/preact.js";

export function Dialog({ title, onClose = null, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    if (!element.open) element.showModal();
    return () => {
      if (element.open) element.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return html`<dialog
    ref=${dialog}
    class="dialog"
    aria-label=${title}
    onCancel=${(event) => {
      event.preventDefault();
      onClose?.();
    }}
    onClose=${() => {
      // Browsers close it at a second Esc without asking.
      if (onClose) onClose();
      else dialog.current?.showModal();
    }}
  >
    <header class="dialog-head">
      <h2>${title}</h2>
      ${onClose && html`<button type="button" class="quiet" onClick=${onClose} aria-label="Close">✕</button>`}
    </header>
    ${children}
  </dialog>`;
}
