// What happens to the answers when a document changes?
//
// On the left a record of a stream is edited, on the right the answers of a view that reads it move.
// Columns that are not shown in a field are sent back as they were.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { goTo, to } from "../frame/router.js";
import { usePolled } from "../server/polling.js";
import { feed, read, v1 } from "../server/requests.js";
import { useView } from "../server/view_state.js";
import { count, thousands } from "../words/wording.js";
import { AnswerCard } from "../parts/answer_card.js";
import { Empty, Problem, Waiting } from "../parts/empty.js";
import { EpochLine } from "../parts/epoch_line.js";
import { Failures } from "../parts/failures.js";
import { LineagePanel } from "../parts/lineage.js";
import { notThere, Notices } from "../parts/live_view.js";
import { PageTitle } from "../parts/page_title.js";
import { focusCard, useEscape } from "./view_answers.js";

/** Documents that the list shows; a filter finds the others by key. */
const MOST_LISTED = 200;
const MOST_CARDS = 30;
/** Rows by which a stream of questions is known. */
const LOOKED_AT = 20;
/** How long one request waits for a record to be visible. */
const LONGEST_WAIT_S = 30;

export function Try({ query }) {
  const { data, error } = usePolled("/v1/relations");
  if (data === null) {
    return html`<${PageTitle} title="Try a change" /><${Problem} error=${error} />${!error && html`<${Waiting} what="Reading what there is" />`}`;
  }
  const open = data.relations.filter((relation) => relation.is_posted_to);
  if (open.length === 0) {
    return html`<${PageTitle} title="Try a change" />
      <${Empty} title="No stream takes records here">
        <p>
          Declare a table, or a source that is posted to, and let a view read it. Of folders and topics, change the
          files or send a message: the answers follow, too.
        </p>
        <pre>${"CREATE TABLE notes (key TEXT, text TEXT, title TEXT);\nCREATE SOURCE docs FROM HTTP;"}</pre>
        <p><a href=${to(["sql"])}>To SQL</a></p>
      <//>`;
  }
  return html`<${Workbench} relations=${data.relations} open=${open} query=${query} />`;
}

/** Whether `view` reads `stream`, itself or over other views. */
function reads(relations, view, stream) {
  const relation = relations.find((one) => one.name === view);
  return (relation?.reads ?? []).some((name) => name === stream || reads(relations, name, stream));
}

function Workbench({ relations, open, query }) {
  const answering = relations.filter((relation) => relation.kind === "answers");
  const contexts = useContextStreams(answering, open);
  const stream =
    open.find((relation) => relation.name === query.stream) ??
    open.find((relation) => !contexts.has(relation.name) && answering.some((view) => reads(relations, view.name, relation.name))) ??
    open[0];
  const following = answering.filter((view) => reads(relations, view.name, stream.name));
  const view = following.find((one) => one.name === query.view) ?? following[0] ?? null;
  const asked = view && open.find((relation) => contexts.has(relation.name) && view.reads.includes(relation.name));
  const change = (more) => goTo(["try"], { stream: stream.name, view: view?.name, document: query.document, ...more });
  return html`
    <header class="page-head">
      <${PageTitle} title="Try a change" />
      <div class="tools">
        <label>
          Change${" "}
          <select
            value=${stream.name}
            onChange=${(event) => change({ stream: event.currentTarget.value, view: null, document: null })}
          >
            ${open.map(({ name }) => html`<option value=${name}>${name}</option>`)}
          </select>
        </label>
        ${following.length > 0 &&
        html`<label>
          and watch${" "}
          <select value=${view.name} onChange=${(event) => change({ view: event.currentTarget.value })}>
            ${following.map(({ name }) => html`<option value=${name}>${name}</option>`)}
          </select>
        </label>`}
      </div>
    </header>
    <div class="bench">
      <div class="bench-left">
        <${Documents}
          key=${stream.name}
          stream=${stream}
          chosen=${query.document ?? null}
          isNew=${query.new !== undefined}
          onChoose=${(document) => change({ document, new: document === null ? "" : null })}
        />
      </div>
      <div class="bench-right">
        ${view === null
          ? html`<${Empty} title="No answers read ${stream.name}">
              <p>Rows change all the same; queries over them are under <a href=${to(["views"])}>Views</a>.</p>
            <//>`
          : html`${asked && asked.name !== stream.name && html`<${Ask} key=${asked.name} stream=${asked} />`}
              <${Watched} name=${view.name} query=${query} />`}
      </div>
    </div>
  `;
}

/**
 * The names of open streams whose rows are the questions of a view. The server does not say which
 * stream is which, so they are known by rows that the view answers: both are told in the order of keys.
 */
function useContextStreams(answering, open) {
  const [names, setNames] = useState(new Set());
  const wanted = answering.map(({ name, reads: inputs }) => `${name}:${inputs.join()}`).join("\n");
  useEffect(() => {
    const control = new AbortController();
    const isContext = async (view) => {
      const first = async (name) => (await read(`${v1("views", name)}?limit=${LOOKED_AT}`, control.signal)).rows;
      const answers = await first(view.name);
      const found = [];
      for (const name of view.reads) {
        if (!open.some((relation) => relation.name === name)) continue;
        const rows = await first(name);
        const isAsked = ({ row }) => answers.some(({ key, question }) => key === row.key && question === row.text);
        if (rows.some(isAsked)) found.push(name);
      }
      return found;
    };
    Promise.all(answering.map(isContext)).then(
      (found) => setNames(new Set(found.flat())),
      (error) => control.signal.aborted || console.warn("which streams hold questions is not known:", error.message),
    );
    return () => control.abort();
  }, [wanted]);
  return names;
}

/** `chosen` is the key of a record; null is the first, or a new one where `isNew`. */
function Documents({ stream, chosen: asked, isNew: isNewAsked, onChoose }) {
  const [filter, setFilter] = useState("");
  const { data, error, again } = usePolled(`${v1("views", stream.name)}?limit=${MOST_LISTED}`, 3000);
  const rows = useMemo(() => (data?.rows ?? []).map((one) => one.row), [data]);
  const chosen = asked ?? (isNewAsked ? null : (rows[0]?.key ?? null));
  const isOnList = chosen === null || rows.some((one) => one.key === chosen);
  const byKey = data === null || isOnList ? null : `${v1("views", stream.name)}?key=${encodeURIComponent(chosen)}`;
  const found = usePolled(byKey, 3000);
  const wanted = filter.trim().toLowerCase();
  const listed = rows.filter((row) => `${row.key} ${row.title ?? ""} ${row.text ?? ""}`.toLowerCase().includes(wanted));
  const row = rows.find((one) => one.key === chosen) ?? found.data?.rows[0]?.row ?? null;
  const isUnknown = found.error?.status === 404 || found.data?.rows.length === 0;
  const list = useRef(null);
  const isListed = listed.length > 0;
  useEffect(() => {
    list.current?.querySelector('[aria-pressed="true"]')?.scrollIntoView({ block: "nearest" });
  }, [chosen, isListed]);
  return html`
    <section class="surface" aria-label=${`Records of ${stream.name}`}>
      <div class="section-head">
        <h2>${stream.name}</h2>
        <button type="button" onClick=${() => onChoose(null)} aria-pressed=${chosen === null}>New record</button>
      </div>
      <${Problem} error=${error} />
      ${rows.length > 8 &&
      html`<label class="filter">
        <span class="sr">Filter records</span>
        <input type="search" data-filter placeholder="Filter records" value=${filter} onInput=${(event) => setFilter(event.currentTarget.value)} />
      </label>`}
      ${rows.length === 0 && data !== null && html`<p class="note">It holds no record yet. Write one beneath.</p>`}
      <ul class="documents" ref=${list}>
        ${listed.map(
          (one) => html`<li key=${one.key}>
            <button type="button" aria-pressed=${one.key === chosen} onClick=${() => onChoose(one.key)}>
              <span>${one.title || one.text?.slice(0, 60) || one.key}</span> <span class="key">${one.key}</span>
            </button>
          </li>`,
        )}
      </ul>
      ${stream.n_rows > MOST_LISTED &&
      html`<p class="note">
        The first ${thousands(MOST_LISTED)} of ${thousands(stream.n_rows)}.
        ${wanted !== "" && !rows.some((one) => one.key === filter.trim()) && html`<button type="button" class="link" onClick=${() => onChoose(filter.trim())}>Open the record with the key “${filter.trim()}”</button>`}
      </p>`}
    </section>
    ${data === null || (chosen !== null && row === null && !isUnknown)
      ? html`<${Waiting} what="Reading the record" />`
      : html`<${Editor} key=${chosen ?? ""} stream=${stream} row=${row} chosen=${chosen} onSaved=${(key) => { onChoose(key); again(); found.again(); }} />`}
  `;
}

function Editor({ stream, row: told, chosen, onSaved }) {
  const [saved, setSaved] = useState(null);
  // What was saved stands, though the server was not asked since.
  const row = saved !== null && JSON.stringify(told) === saved.over ? saved.record : told;
  const hasTitle = stream.columns.some((column) => column.name === "title");
  const stored = row?.text ?? "";
  const [begun, setBegun] = useState({ key: chosen ?? "", title: row?.title ?? "", text: stored });
  const [base, setBase] = useState(stored);
  const [before, setBefore] = useState(null);
  const [state, setState] = useState({ name: "idle" });
  const isNew = row === null;
  // What others changed shows, unless it would take away what is being typed.
  useEffect(() => {
    if (stored === base) return;
    if (begun.text === base) setBegun({ ...begun, text: stored, title: row?.title ?? begun.title });
    setBase(stored);
  }, [stored]);
  const set = (field) => (event) => setBegun({ ...begun, [field]: event.currentTarget.value });
  const isChanged = isNew || begun.text !== stored || (hasTitle && begun.title !== (row.title ?? ""));
  const submit = async (records, next) => {
    setState({ name: "sending" });
    const old = row;
    try {
      const reply = await feed(stream.name, records);
      if (reply.n_rejected > 0) throw new Error(reply.rejected[0].reason);
      setState({ name: "sent", reply });
      if (!reply.visible) untilVisible(reply.token);
      setBefore(old);
      setSaved({ over: JSON.stringify(told), record: records[0].delete ? told : records[0] });
      onSaved(next);
    } catch (error) {
      setState({ name: "failed", error });
    }
  };
  // A model may take longer than a request waits.
  const followed = useRef(null);
  useEffect(() => () => (followed.current = null), []);
  const untilVisible = async (token) => {
    followed.current = token;
    while (followed.current === token) {
      const fate = await read(`${v1("tokens", token)}?wait=${LONGEST_WAIT_S}`).catch(() => null);
      if (followed.current !== token || fate === null) return;
      if (fate.visible) return setState((now) => (now.name === "sent" ? { name: "sent", reply: fate } : now));
    }
  };
  const save = (event) => {
    event?.preventDefault();
    if (state.name === "sending" || begun.key.trim() === "") return;
    const record = { ...(row ?? {}), key: begun.key.trim(), text: begun.text };
    if (hasTitle && (begun.title !== "" || row?.title != null)) record.title = begun.title;
    for (const [name, value] of Object.entries(record)) if (value === null) delete record[name];
    submit([record], record.key);
  };
  const isOtherThanBefore = before !== null && before.text !== stored;
  return html`<form class="surface stack editor" onSubmit=${save} onKeyDown=${onSaveKey(save)}>
    <h2>${isNew ? `A new record of ${stream.name}` : chosen}</h2>
    ${isNew &&
    html`<label class="field">
      Key
      <input name="key" value=${begun.key} onInput=${set("key")} required spellcheck=${false} autocomplete="off" />
    </label>`}
    ${hasTitle &&
    html`<label class="field">
      Title
      <input name="title" value=${begun.title} onInput=${set("title")} autocomplete="off" />
    </label>`}
    <label class="field">
      Text
      <textarea name="text" rows="12" value=${begun.text} onInput=${set("text")} required></textarea>
    </label>
    <div class="actions">
      <button class="primary" disabled=${!isChanged || state.name === "sending"}>
        ${state.name === "sending" ? "Sending …" : isNew ? "Insert" : "Save"}
      </button>
      ${!isNew &&
      begun.text !== stored &&
      html`<button type="button" onClick=${() => setBegun({ ...begun, text: stored, title: row.title ?? "" })}>Discard edits</button>`}
      ${isOtherThanBefore &&
      html`<button type="button" onClick=${() => { setBegun({ ...begun, text: before.text, title: before.title ?? "" }); }}>
        Text as it was before
      </button>`}
      ${!isNew &&
      (state.name === "asked"
        ? html`<span role="status">Delete it for good?</span>
            <button type="button" class="danger" onClick=${() => submit([{ delete: { key: chosen } }], null)}>Yes, delete</button>
            <button type="button" onClick=${() => setState({ name: "idle" })}>Keep it</button>`
        : html`<button type="button" class="danger" disabled=${state.name === "sending"} onClick=${() => setState({ name: "asked" })}>
            Delete
          </button>`)}
    </div>
    <p role="status" class="note">
      ${state.name === "sending" && "On its way: the answers follow."}
      ${state.name === "sent" &&
      (state.reply.visible
        ? `Visible in epoch ${thousands(state.reply.epoch)}.`
        : "Taken in. It is not visible yet: the view is at work.")}
    </p>
    ${state.name === "failed" && html`<${Problem} error=${state.error} />`}
  </form>`;
}

export function onSaveKey(save) {
  return (event) => {
    const isSave = (event.ctrlKey || event.metaKey) && (event.key === "Enter" || event.key === "s");
    if (!isSave) return;
    event.preventDefault();
    save();
  };
}

/** A further question, into the table of those that a view answers. */
function Ask({ stream }) {
  const [text, setText] = useState("");
  const [state, setState] = useState({ name: "idle" });
  const ask = async (event) => {
    event.preventDefault();
    const key = `q-${Date.now().toString(36)}`;
    setState({ name: "sending" });
    try {
      const reply = await feed(stream.name, [{ key, text: text.trim() }], 0);
      if (reply.n_rejected > 0) throw new Error(reply.rejected[0].reason);
      setText("");
      setState({ name: "sent", key });
    } catch (error) {
      setState({ name: "failed", error });
    }
  };
  return html`<form class="ask" onSubmit=${ask}>
    <input aria-label="A question" name="question" value=${text} onInput=${(event) => setText(event.currentTarget.value)} required autocomplete="off" placeholder="Ask: it is answered, and kept right" />
    <button disabled=${text.trim() === "" || state.name === "sending"}>Ask</button>
    <span role="status" class="note">${state.name === "sent" && `Asked, as ${state.key} in ${stream.name}.`}</span>
    ${state.name === "failed" && html`<${Problem} error=${state.error} />`}
  </form>`;
}

/** The answers of a view; those that moved last come first. */
function Watched({ name, query }) {
  const state = useView(name);
  const [filter, setFilter] = useState("");
  const wanted = filter.trim().toLowerCase();
  const isOpen = query.key !== undefined;
  const without = { ...query };
  delete without.key;
  delete without.sentence;
  useEscape(isOpen, () => goTo(["try"], without));
  const missing = notThere(state);
  if (missing) return missing;
  const entries = [...state.answers];
  for (const key of state.drafts.keys()) if (!state.answers.has(key)) entries.push([key, null]);
  const listed = entries
    .filter(([key, entry]) => wanted === "" || `${key} ${entry?.answer.question} ${entry?.answer.text}`.toLowerCase().includes(wanted))
    .sort(([a, x], [b, y]) => rank(y) - rank(x) || a.localeCompare(b, "en", { numeric: true }));
  return html`
    <h2 class="sr">Answers of ${name}</h2>
    <${EpochLine} state=${state} onShow=${focusCard} />
    <${Failures} state=${state} />
    <${Notices} state=${state} />
    ${isOpen &&
    html`<${LineagePanel}
      view=${name}
      answerKey=${query.key}
      sentence=${Number(query.sentence ?? 0)}
      version=${state.answers.get(query.key)?.refreshedAtMs}
      onChoose=${(sentence) => goTo(["try"], { ...query, sentence })}
      onClose=${() => goTo(["try"], without)}
    />`}
    ${entries.length > 8 &&
    html`<div class="tools">
      <label class="filter">
        <span class="sr">Filter answers</span>
        <input type="search" placeholder="Filter answers" value=${filter} onInput=${(event) => setFilter(event.currentTarget.value)} />
      </label>
    </div>`}
    ${entries.length === 0
      ? html`<${Empty} title="No answers yet"><p>Ask a question, and see it answered here.</p><//>`
      : html`<div class="cards one-column">
          ${listed.slice(0, MOST_CARDS).map(
            ([key, entry]) => html`<${AnswerCard}
              key=${key}
              view=${name}
              answerKey=${key}
              entry=${entry ?? undefined}
              draft=${state.drafts.get(key)}
              chosen=${isOpen ? { key: query.key, sentence: Number(query.sentence ?? 0) } : null}
            />`,
          )}
        </div>`}
    ${listed.length > MOST_CARDS &&
    html`<p class="note">
      ${count(listed.length - MOST_CARDS, "further answer")}: <a href=${to(["views", name])}>all of ${name}</a>
    </p>`}
  `;
}

/** New and changed answers before those that stand. */
function rank(entry) {
  return entry === null ? Infinity : entry.changedAtMs;
}
