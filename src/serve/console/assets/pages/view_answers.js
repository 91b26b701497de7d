// What does a view answer now, and what has just changed?

import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import { goTo, to } from "../frame/router.js";
import { useView } from "../server/view_state.js";
import { count, thousands } from "../words/wording.js";
import { AnswerCard } from "../parts/answer_card.js";
import { Empty } from "../parts/empty.js";
import { EpochLine } from "../parts/epoch_line.js";
import { Failures } from "../parts/failures.js";
import { LineagePanel } from "../parts/lineage.js";
import { notThere, Notices } from "../parts/live_view.js";
import { Pager, usePages } from "../parts/pager.js";

const CARDS_A_PAGE = 40;

const ORDERS = [
  ["key", "by key"],
  ["change", "latest change first"],
  ["cost", "costliest first"],
];

export function Answers({ name, query }) {
  const state = useView(name);
  const [filter, setFilter] = useState("");
  const [order, setOrder] = useState("key");
  const [rung, setRung] = useState(query.only ?? "");
  const keys = useMemo(
    () => arranged(state, filter, order, rung),
    // A view's state is one object that changes: its count of contents says when.
    [state, state.contents, state.drafts.size, filter, order, rung],
  );
  const pages = usePages(keys.length, CARDS_A_PAGE);
  const chosen = query.key === undefined ? null : { key: query.key, sentence: Number(query.sentence ?? 0) };
  const show = (key) => {
    setFilter("");
    setRung("");
    const at = arranged(state, "", order, "").indexOf(key);
    if (at >= 0) pages.setAt(Math.floor(at / CARDS_A_PAGE));
    requestAnimationFrame(() => requestAnimationFrame(() => focusCard(key)));
  };
  const close = () => goTo(["views", name, "answers"]);
  useEscape(chosen !== null, close);
  const missing = notThere(state);
  if (missing) return missing;
  const version = chosen && state.answers.get(chosen.key)?.refreshedAtMs;
  return html`
    <${EpochLine} state=${state} onShow=${show} />
    <${Failures} state=${state} onShow=${rung === "failed" ? null : () => setRung("failed")} />
    <${Notices} state=${state} />
    <div class="tools">
      <label class="filter">
        <span class="sr">Filter by key, question or answer</span>
        <input
          type="search"
          data-filter
          placeholder="Filter answers"
          value=${filter}
          onInput=${(event) => setFilter(event.currentTarget.value)}
        />
      </label>
      <label>
        <span class="sr">Order</span>
        <select value=${order} onChange=${(event) => setOrder(event.currentTarget.value)}>
          ${ORDERS.map(([value, words]) => html`<option value=${value}>${words}</option>`)}
        </select>
      </label>
      <label>
        <span class="sr">Which answers</span>
        <select value=${rung} onChange=${(event) => setRung(event.currentTarget.value)}>
          <option value="">all answers</option>
          <option value="changed">changed while you looked</option>
          <option value="provisional">not exact</option>
          <option value="failed">failed</option>
        </select>
      </label>
      <span class="note">${count(keys.length, "answer")}${keys.length < state.answers.size ? ` of ${thousands(state.answers.size)}` : ""}</span>
    </div>
    <div class=${chosen ? "with-panel open" : "with-panel"}>
      <section aria-label="Answers">
        <h2 class="sr">Answers</h2>
        ${keys.length === 0
          ? state.answers.size === 0
            ? html`<${Empty} title="No answers yet">
                <p>
                  An answer follows each question. Ask one under <a href=${to(["try"])}>Try a change</a>, or insert a row
                  into the table that this view reads.
                </p>
              <//>`
            : html`<${Empty} title="No answer fits">
                <p>
                  ${filter.trim() === ""
                    ? "None is of the kind that is chosen above."
                    : `None has “${filter}” in its key, question or text.`}
                </p>
                <button type="button" onClick=${() => { setFilter(""); setRung(""); }}>Show all</button>
              <//>`
          : html`<div class="cards">
              ${keys.slice(pages.from, pages.to).map(
                (key) => html`<${AnswerCard}
                  key=${key}
                  view=${name}
                  answerKey=${key}
                  entry=${state.answers.get(key)}
                  draft=${state.drafts.get(key)}
                  chosen=${chosen}
                />`,
              )}
            </div>`}
        <${Pager} pages=${pages} noun="answer" />
      </section>
      ${chosen &&
      html`<${LineagePanel}
        view=${name}
        answerKey=${chosen.key}
        sentence=${chosen.sentence}
        version=${version}
        onChoose=${(sentence) => goTo(["views", name, "answers"], { key: chosen.key, sentence })}
        onClose=${close}
      />`}
    </div>
  `;
}

/** Calls `close` on Esc while `isOpen`, and no dialog is over the page. */
export function useEscape(isOpen, close) {
  useEffect(() => {
    if (!isOpen) return undefined;
    const onKey = (event) => {
      if (event.key === "Escape" && document.querySelector("dialog[open]") === null) close();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [isOpen]);
}

export function focusCard(key) {
  const card = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  card?.focus();
  card?.scrollIntoView({ block: "center" });
}

function arranged(state, filter, order, which) {
  const wanted = filter.trim().toLowerCase();
  const isWanted = (key, entry) => {
    const { question, text, error } = entry.answer;
    if (wanted !== "" && !`${key}\n${question}\n${text ?? error ?? ""}`.toLowerCase().includes(wanted)) return false;
    if (which === "changed") return entry.changedAtMs > 0;
    if (which === "failed") return Boolean(error);
    return which !== "provisional" || !(entry.answer.exact || error);
  };
  const keys = [...state.answers].filter(([key, entry]) => isWanted(key, entry)).map(([key]) => key);
  if (wanted === "" && which === "") {
    for (const key of state.drafts.keys()) if (!state.answers.has(key)) keys.push(key);
  }
  const byKey = (a, b) => a.localeCompare(b, "en", { numeric: true });
  const of = (key, what) => what(state.answers.get(key) ?? { changedAtMs: Infinity, answer: { work: { forwarded: 0 } } });
  if (order === "change") {
    return keys.sort((a, b) => of(b, (e) => e.changedAtMs) - of(a, (e) => e.changedAtMs) || byKey(a, b));
  }
  if (order === "cost") {
    const cost = (entry) => entry.answer.work.forwarded;
    return keys.sort((a, b) => of(b, cost) - of(a, cost) || byKey(a, b));
  }
  return keys.sort(byKey);
}
