// What does the engine say to a statement?

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { send } from "../server/requests.js";
import { count, duration, thousands } from "../words/wording.js";
import { PageTitle } from "../parts/page_title.js";
import { RowTable } from "../parts/row_table.js";
import { Told } from "../parts/told.js";
import { onSaveKey } from "./try.js";

const HISTORY = "perennial.sql";
const MOST_KEPT = 50;
const EXAMPLES = ["SHOW VIEWS;", "SHOW SOURCES;", "SELECT key, text FROM answers LIMIT 20;"];

function history() {
  try {
    return JSON.parse(sessionStorage.getItem(HISTORY)) ?? [];
  } catch {
    return [];
  }
}

export function Sql() {
  const [past, setPast] = useState(history);
  const [text, setText] = useState(past[0] ?? "");
  const [reply, setReply] = useState(null);
  const [isRunning, setRunning] = useState(false);
  const field = useRef(null);
  const run = async (event) => {
    event?.preventDefault();
    const sql = field.current.value;
    if (isRunning || sql.trim() === "") return;
    setRunning(true);
    const kept = [sql, ...past.filter((one) => one !== sql)].slice(0, MOST_KEPT);
    setPast(kept);
    sessionStorage.setItem(HISTORY, JSON.stringify(kept));
    const begunMs = performance.now();
    try {
      const { outcomes } = await send("POST", "/v1/sql", { sql });
      setReply({ sql, outcomes, error: null, ms: performance.now() - begunMs });
    } catch (error) {
      setReply({ sql, outcomes: error.outcomes ?? [], error, ms: performance.now() - begunMs });
      if (error.line) toPlace(field.current, sql, error);
    } finally {
      setRunning(false);
    }
  };
  const recall = (sql) => {
    setText(sql);
    field.current.focus();
  };
  return html`
    <header class="page-head"><${PageTitle} title="SQL" /></header>
    <form class="surface stack" onSubmit=${run} onKeyDown=${onSaveKey(run)}>
      <label class="field">
        <span>Statements, each ended by <code>;</code></span>
        <textarea
          ref=${field}
          name="sql"
          class="code"
          rows="8"
          spellcheck=${false}
          autocomplete="off"
          autocapitalize="off"
          value=${text}
          onInput=${(event) => setText(event.currentTarget.value)}
          placeholder="SELECT key, text FROM answers;"
        ></textarea>
      </label>
      <div class="actions">
        <button class="primary" disabled=${isRunning || text.trim() === ""}>${isRunning ? "Running …" : "Run"}</button>
        <span class="note">Ctrl Enter</span>
        ${past.length === 0 &&
        EXAMPLES.map((sql) => html`<button type="button" class="chip" key=${sql} onClick=${() => recall(sql)}>${sql}</button>`)}
      </div>
    </form>
    <${Told} text=${reply === null || reply.error ? "" : told(reply)} />
    <div class="outcomes">${reply && html`<${Reply} reply=${reply} />`}</div>
    ${past.length > 0 &&
    html`<details class="surface">
      <summary>History of this tab (${thousands(past.length)})</summary>
      <ul class="history">
        ${past.map((sql) => html`<li key=${sql}><button type="button" class="link code" onClick=${() => recall(sql)}>${sql}</button></li>`)}
      </ul>
      <button type="button" onClick=${() => { setPast([]); sessionStorage.removeItem(HISTORY); }}>Forget it</button>
    </details>`}
  `;
}

/** Puts the caret where the statement goes wrong. Lines and columns count from 1, columns in characters. */
function toPlace(field, sql, { line, column }) {
  const lines = sql.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  const inLine = [...(lines[line - 1] ?? "")].slice(0, (column ?? 1) - 1).join("").length;
  field.focus();
  field.setSelectionRange(before + inLine, before + inLine);
}

/** What ran, in a few words: results are tables, which nobody wants to hear at once. */
function told({ outcomes, ms }) {
  const last = outcomes.at(-1);
  const rows = last?.outcome === "rows" ? `, ${count(last.rows.length, "row")}` : "";
  return `${count(outcomes.length, "statement")} ran in ${duration(ms)}${rows}`;
}

function Reply({ reply }) {
  return html`
    ${reply.outcomes.length > 0 && !reply.error && html`<p class="note">${told(reply)}</p>`}
    ${reply.outcomes.map((outcome, index) => html`<${Outcome} key=${index} outcome=${outcome} />`)}
    ${reply.error && html`<${Wrong} sql=${reply.sql} error=${reply.error} />`}
    ${reply.outcomes.length === 0 && !reply.error && html`<p class="note">No statement was there.</p>`}
  `;
}

function Outcome({ outcome }) {
  switch (outcome.outcome) {
    case "rows":
      return html`<section class="surface">
        <p class="note">${count(outcome.rows.length, "row")}</p>
        ${outcome.notices?.map((notice) => html`<p class="note">${notice}</p>`)}
        ${outcome.rows.length > 0 && html`<${RowTable} columns=${outcome.columns} rows=${outcome.rows} caption="Result" />`}
      </section>`;
    case "plan":
      return html`<section class="surface"><pre class="plan-text" tabindex="0">${outcome.plan}</pre></section>`;
    case "done":
      return html`<p class="done"><span aria-hidden="true">✓</span> ${count(outcome.n_rows, "row")}</p>`;
    case "created":
      return html`<p class="done">
        <span aria-hidden="true">✓</span> ${outcome.kind} ${outcome.name} is there.${outcome.notice ? ` ${outcome.notice}` : ""}
      </p>`;
    case "altered":
      return html`<p class="done"><span aria-hidden="true">✓</span> ${outcome.name} is altered.</p>`;
    case "dropped":
      return html`<p class="done">
        <span aria-hidden="true">✓</span> ${outcome.kind} ${outcome.name} ${outcome.was_there ? "is dropped" : "was not there"}.
      </p>`;
    default:
      return html`<section class="surface"><pre class="plan-text" tabindex="0">${JSON.stringify(outcome, null, 2)}</pre></section>`;
  }
}

/** The line at which a statement goes wrong, with a caret beneath the place. */
function Wrong({ sql, error }) {
  const line = error.line ? (sql.split("\n")[error.line - 1] ?? "") : null;
  // Tabs stay tabs, so that the caret stands where the place is.
  const indent = line === null ? "" : [...line].slice(0, (error.column ?? 1) - 1).map((c) => (c === "\t" ? "\t" : " ")).join("");
  return html`<section class="problem" role="alert">
    <p><strong>${error.message}</strong>${error.hint ? html`<span class="hint"> ${error.hint}</span>` : null}</p>
    ${line !== null &&
    html`<p class="note">Line ${error.line}, column ${error.column}</p>
      <pre class="place" aria-hidden="true">${`${line}\n${indent}`}<span class="caret-mark">^</span></pre>`}
  </section>`;
}
