// Light or dark?
//
// As the system says, unless a person chose. Charts draw on a canvas and must be told.

import { Observed } from "../server/observed.js";

const CHOICE = "perennial.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** `system`, `light` or `dark`. */
export const themeChoice = new Observed(localStorage.getItem(CHOICE) ?? "system");
/** `light` or `dark`: what is shown. */
export const theme = new Observed(resolve());

function resolve() {
  if (themeChoice.value !== "system") return themeChoice.value;
  return system.matches ? "dark" : "light";
}

function show() {
  document.documentElement.dataset.theme = resolve();
  theme.value = resolve();
}

themeChoice.watch((choice) => {
  localStorage.setItem(CHOICE, choice);
  show();
});
system.addEventListener("change", show);
show();

export function nextTheme() {
  themeChoice.value = theme.value === "dark" ? "light" : "dark";
}

/** What the style sheet says of a colour now. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
