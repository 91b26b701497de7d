// Which page is shown?
//
// The part of the address behind `#`: `#/views/answers/timeline?key=q1`. The server sees none of it.

import { Observed } from "../server/observed.js";

function parse() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return {
    parts: path.split("/").filter(Boolean).map(decodeURIComponent),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** `{parts, query}` of the address. */
export const place = new Observed(parse());
addEventListener("hashchange", () => (place.value = parse()));

/** The address of a page, for links. */
export function to(parts, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const asked = new URLSearchParams(set).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${asked ? `?${asked}` : ""}`;
}

export function goTo(parts, query) {
  location.hash = to(parts, query);
}
