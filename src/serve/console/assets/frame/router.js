// Which page is shown?
//
// The part of the address behind `#`: `#/views/answers/timeline?key=q1`. The server sees none of it.

import { Observed } from "../server/observed.js";

/** What `part` of an address says; as it is written, where it is cut within a character. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function parse() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return {
    parts: path.split("/").filter(Boolean).map(decoded),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** `{parts, query}` of the address. */
export const place = new Observed(parse());
addEventListener("hashchange", () => (place.value = parse()));

/** Which page is at a place: what differs in this alone is drawn anew as a whole. */
export function pageOf({ parts: [page = "views", name = ""] }) {
  return `${page}/${name}`;
}

/** The address of a page, for links. */
export function to(parts, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const asked = new URLSearchParams(set).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${asked ? `?${asked}` : ""}`;
}

export function goTo(parts, query) {
  location.hash = to(parts, query);
}
