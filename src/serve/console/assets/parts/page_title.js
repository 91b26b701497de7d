// What is this page called, in the window's title, too?

import { useEffect } from "../vendor/preact.js";

export function useTitle(title) {
  useEffect(() => {
    document.title = `${title} · Perennial`;
  }, [title]);
}
