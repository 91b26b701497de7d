// What is this page called, in the window's title, too?
//
// The heading takes the focus when a link or a key led here, so that it is read aloud and Tab goes on from it.

import { html, useEffect, useLayoutEffect, useRef } from "../vendor/preact.js";
import { pageOf, place } from "../frame/router.js";

let page = pageOf(place.value);
let isFocusWanted = false;
place.watch((now) => {
  if (pageOf(now) === page) return;
  page = pageOf(now);
  isFocusWanted = true;
});

export function PageTitle({ title }) {
  const heading = useRef(null);
  useEffect(() => {
    document.title = `${title} · Perennial`;
  }, [title]);
  useLayoutEffect(() => {
    const element = heading.current;
    if (isFocusWanted) {
      isFocusWanted = false;
      element.focus();
    }
    // A page that gets its data is drawn anew: the next heading goes on with the focus.
    return () => {
      if (document.activeElement === element) isFocusWanted = true;
    };
  }, []);
  return html`<h1 ref=${heading} tabindex="-1">${title}</h1>`;
}
