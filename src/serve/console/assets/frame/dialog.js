// A window over the page: named, closed by Esc, and the focus goes back where it was.

import { html, useEffect, useRef } from "../vendor/preact.js";

export function Dialog({ title, onClose, children, isWide = false }) {
  const dialog = useRef(null);
  const close = useRef(onClose);
  close.current = onClose;
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
    class=${isWide ? "dialog wide" : "dialog"}
    aria-label=${title}
    onCancel=${(event) => {
      event.preventDefault();
      close.current();
    }}
  >
    <header class="dialog-head">
      <h2>${title}</h2>
      <button type="button" class="quiet" onClick=${() => close.current()} aria-label="Close">✕</button>
    </header>
    ${children}
  </dialog>`;
}
