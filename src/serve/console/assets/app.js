// Which page belongs to which address?

import { Component, html, render } from "./vendor/preact.js";
import { useObserved } from "./server/observed.js";
import { pageOf, place } from "./frame/router.js";
import { Shell } from "./frame/shell.js";
import { Empty } from "./parts/empty.js";
import { Operations } from "./pages/operations.js";
import { Quarantine } from "./pages/quarantine.js";
import { Sql } from "./pages/sql.js";
import { Try } from "./pages/try.js";
import { View } from "./pages/view.js";
import { Views } from "./pages/views.js";

const PAGES = { views: Views, try: Try, sql: Sql, quarantine: Quarantine, operations: Operations };

/** A page that breaks takes no other with it, and says what went wrong. */
class Guard extends Component {
  state = { error: null };

  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  render({ children }, { error }) {
    if (error === null) return children;
    return html`<${Empty} isPage title="This page broke">
      <p>${error.message}</p>
      <p><button type="button" onClick=${() => location.reload()}>Load it again</button></p>
    <//>`;
  }
}

function App() {
  const here = useObserved(place);
  const { parts, query } = here;
  const [page = "views", name, tab] = parts;
  const isView = page === "views" && name !== undefined;
  const Page = isView ? View : Object.hasOwn(PAGES, page) ? PAGES[page] : undefined;
  return html`<${Shell}>
    <${Guard} key=${pageOf(here)}>
      ${Page === undefined
        ? html`<${Empty} isPage title="There is no such page"><p><a href="#/">To the views</a></p><//>`
        : html`<${Page} name=${name} tab=${tab} query=${query} />`}
    <//>
  <//>`;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
