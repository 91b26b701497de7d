// Which keys do something?
//
// Single keys, while no field has the focus. They can be switched off: who speaks to the computer
// types letters without meaning to.

import { Observed } from "../server/observed.js";
import { goTo } from "./router.js";
import { nextTheme } from "./theme.js";

const CHOICE = "perennial.shortcuts";
export const areShortcutsOn = new Observed(localStorage.getItem(CHOICE) !== "off");
areShortcutsOn.watch((isOn) => localStorage.setItem(CHOICE, isOn ? "on" : "off"));

/** Whether the list of keys is shown. */
export const isHelpOpen = new Observed(false);

/** Keys and what they do, as the list shows them. */
export const SHORTCUTS = [
  ["?", "this list"],
  ["g v", "views"],
  ["g t", "try a change"],
  ["g s", "SQL"],
  ["g q", "quarantine"],
  ["g o", "operations"],
  ["/", "to the filter of this page"],
  ["j k", "next, previous answer"],
  ["Enter", "on a sentence: what it leans on"],
  ["Esc", "close what is open"],
  ["d", "light or dark"],
  ["Ctrl Enter", "run, or save, what is in the editor"],
];

const PAGES = { v: "views", t: "try", s: "sql", q: "quarantine", o: "operations" };
const PREFIX_MS = 1500;
let prefixAtMs = 0;

function isTyping(target) {
  return target.closest?.("input, textarea, select, [contenteditable], dialog") != null;
}

function step(by) {
  const cards = [...document.querySelectorAll("[data-card]")];
  if (cards.length === 0) return;
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : cards.length - 1) : Math.min(Math.max(at + by, 0), cards.length - 1);
  cards[next].focus();
  cards[next].scrollIntoView({ block: "nearest" });
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (!areShortcutsOn.value && event.key !== "?") return;
  const isPrefixed = event.timeStamp - prefixAtMs < PREFIX_MS && prefixAtMs > 0;
  prefixAtMs = 0;
  if (isPrefixed && PAGES[event.key]) goTo([PAGES[event.key]]);
  else if (event.key === "g") prefixAtMs = event.timeStamp;
  else if (event.key === "?") isHelpOpen.value = true;
  else if (event.key === "d") nextTheme();
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "/") document.querySelector("[data-filter]")?.focus();
  else return;
  event.preventDefault();
});
