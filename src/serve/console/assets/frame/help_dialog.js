// Which keys are there?

import { html } from "../vendor/preact.js";
import { useObserved } from "../server/observed.js";
import { areShortcutsOn, isHelpOpen, SHORTCUTS } from "./shortcuts.js";
import { Dialog } from "./dialog.js";

export function HelpDialog() {
  const isOpen = useObserved(isHelpOpen);
  const areOn = useObserved(areShortcutsOn);
  if (!isOpen) return null;
  return html`<${Dialog} title="Keys" onClose=${() => (isHelpOpen.value = false)}>
    <table class="keys">
      <thead>
        <tr>
          <th scope="col">Key</th>
          <th scope="col">What it does</th>
        </tr>
      </thead>
      <tbody>
        ${SHORTCUTS.map(
          ([keys, what]) => html`<tr key=${keys}>
            <td>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</td>
            <td>${what}</td>
          </tr>`,
        )}
      </tbody>
    </table>
    <label class="check">
      <input
        type="checkbox"
        checked=${areOn}
        onChange=${(event) => (areShortcutsOn.value = event.currentTarget.checked)}
      />
      Single keys do something
    </label>
  <//>`;
}
