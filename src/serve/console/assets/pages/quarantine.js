// What was refused, why, and what was meant?

import { html, useState } from "../vendor/preact.js";
import { usePolled } from "../server/polling.js";
import { send, v1 } from "../server/requests.js";
import { ago, count, thousands } from "../words/wording.js";
import { Empty, Problem, Waiting } from "../parts/empty.js";
import { PageTitle } from "../parts/page_title.js";
import { onSaveKey } from "./try.js";

const A_PAGE = 50;

export function Quarantine() {
  const [after, setAfter] = useState([]);
  const at = after.at(-1);
  const { data, error, again } = usePolled(
    `/v1/quarantine?limit=${A_PAGE}${at === undefined ? "" : `&after=${at}`}`,
    4000,
  );
  const [told, setTold] = useState("");
  const records = data?.records ?? [];
  const onDone = (words) => {
    setTold(words);
    again();
  };
  return html`
    <header class="page-head">
      <div>
        <${PageTitle} title="Quarantine" />
        <p class="note">Records that could not be taken in. The rest went on without them. Mend one and send it in again.</p>
      </div>
    </header>
    <p role="status" aria-live="polite" class=${told ? "done" : "sr"}>${told}</p>
    <${Problem} error=${error} />
    ${data === null
      ? !error && html`<${Waiting} what="Reading what was refused" />`
      : records.length === 0 && after.length === 0
        ? html`<${Empty} title="Nothing is refused">
            <p>Lines that are no records, files that cannot be read, and rows that do not fit would be listed here.</p>
          <//>`
        : html`<p class="note">${count(data.n_records, "record")}, oldest first</p>
            <ul class="refused">
              ${records.map((record) => html`<${Refusal} key=${record.number} record=${record} onDone=${onDone} />`)}
            </ul>
            ${(after.length > 0 || records.length === A_PAGE) &&
            html`<nav class="pager" aria-label="Pages of records">
              <button type="button" disabled=${after.length === 0} onClick=${() => setAfter(after.slice(0, -1))}>Previous</button>
              <button
                type="button"
                disabled=${records.length < A_PAGE}
                onClick=${() => setAfter([...after, records.at(-1).number])}
              >
                Next
              </button>
            </nav>`}`}
  `;
}

function Refusal({ record, onDone }) {
  const [text, setText] = useState(record.content ?? "");
  const [state, setState] = useState({ name: "idle" });
  const path = v1("quarantine", String(record.number));
  const act = async (what, words) => {
    setState({ name: "sending" });
    try {
      onDone(words(await what()));
    } catch (error) {
      setState({ name: "failed", error });
    }
  };
  const isOneObject = () => {
    try {
      const value = JSON.parse(text);
      return typeof value === "object" && value !== null && !Array.isArray(value);
    } catch {
      return false;
    }
  };
  const submit = (event) => {
    event?.preventDefault();
    // What was not edited goes in as it was, whatever its form.
    if (text !== record.content && !isOneObject()) {
      setState({ name: "failed", error: new Error("This is not one JSON object. It has to look like {\"key\": \"…\", \"text\": \"…\"}.") });
      return;
    }
    act(
      () => send("POST", path, text === record.content ? undefined : text),
      (reply) => `Record ${record.number} is taken in: ${reply?.stream ?? record.stream} has ${reply?.key ?? "it"}.`,
    );
  };
  const discard = () => act(() => send("DELETE", path), () => `Record ${record.number} is discarded.`);
  const isSending = state.name === "sending";
  return html`<li>
    <form class="surface stack" onSubmit=${submit} onKeyDown=${onSaveKey(submit)} aria-label=${`Record ${record.number}`}>
      <div class="section-head">
        <h2>${record.stream} <span class="key">no. ${thousands(record.number)}</span></h2>
        <time datetime=${new Date(record.refused_at_ms).toISOString()} title=${new Date(record.refused_at_ms).toLocaleString()} class="note"
          >${ago(record.refused_at_ms)}</time
        >
      </div>
      <p class="reason"><strong>${record.reason}</strong></p>
      <p class="note">${record.place}${record.key ? ` · key ${record.key}` : ""}</p>
      <label class="field">
        The record
        <textarea class="code" rows=${Math.min(12, Math.max(3, text.split("\n").length))} spellcheck=${false} value=${text} onInput=${(event) => setText(event.currentTarget.value)}></textarea>
      </label>
      <div class="actions">
        <button class="primary" disabled=${isSending}>Send it in again</button>
        ${state.name === "asked"
          ? html`<span role="status">Discard it for good?</span>
              <button type="button" class="danger" onClick=${discard}>Yes, discard</button>
              <button type="button" onClick=${() => setState({ name: "idle" })}>Keep it</button>`
          : html`<button type="button" class="danger" disabled=${isSending} onClick=${() => setState({ name: "asked" })}>Discard</button>`}
      </div>
      ${state.name === "failed" && html`<${Problem} error=${state.error} />`}
    </form>
  </li>`;
}
