// Where does the attention of every sentence of a view go?
//
// Of all answers at once, the shares that come with them; of one answer, all that its lineage tells.

import { html, useMemo } from "../vendor/preact.js";
import { goTo, to } from "../frame/router.js";
import { useView } from "../server/view_state.js";
import { percent } from "../words/wording.js";
import { Empty, Problem, Waiting } from "../parts/empty.js";
import { Failures, nFailedOf } from "../parts/failures.js";
import { HeatMap } from "../parts/heat_map.js";
import { asMatrix, LineagePanel, nameOf, useLineage } from "../parts/lineage.js";
import { notThere } from "../parts/live_view.js";
import { Pager, usePages } from "../parts/pager.js";
import { useEscape } from "./view_answers.js";

const ANSWERS_A_PAGE = 25;
const MOST_COLUMNS = 48;

export function Attention({ name, query }) {
  const state = useView(name);
  const keys = useMemo(
    () => [...state.answers.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true })),
    [state, state.contents],
  );
  const pages = usePages(keys.length, ANSWERS_A_PAGE);
  const only = query.of ?? null;
  const shownKeys = keys.slice(pages.from, pages.to);
  const isOpen = query.key !== undefined;
  const go = (more) => goTo(["views", name, "attention"], { of: only, ...more });
  useEscape(isOpen, () => go({}));
  const missing = notThere(state);
  if (missing) return missing;
  if (keys.length === nFailedOf(state)) {
    return html`<${Failures} state=${state} />
      <${Empty} title="No answer leans on anything yet">
        <p>
          The map shows which passages the sentences of answers were written from. Ask a question under${" "}
          <a href=${to(["try"])}>Try a change</a>.
        </p>
      <//>`;
  }
  return html`
    <div class="tools">
      <label>
        Of${" "}
        <select
          value=${only ?? ""}
          onChange=${(event) => goTo(["views", name, "attention"], { of: event.currentTarget.value || null })}
        >
          <option value="">all answers</option>
          ${keys.slice(0, 1000).map((key) => html`<option value=${key}>${key}</option>`)}
        </select>
      </label>
      <span class="note">
        ${only === null
          ? "Each row is a sentence, each column a passage: its share of the attention that went to named passages."
          : "How much each sentence depends on each passage, by attention, whether the answer names it or not."}
      </span>
    </div>
    <div class=${isOpen ? "with-panel open" : "with-panel"}>
      <section aria-label="Attention map" class="surface">
        ${only === null
          ? html`<${OfAll} state=${state} keys=${shownKeys} onOpen=${(key, sentence) => go({ key, sentence })} />
              <${Pager} pages=${pages} noun="answer" />`
          : html`<${OfOne}
              name=${name}
              answerKey=${only}
              version=${state.answers.get(only)?.refreshedAtMs}
              onOpen=${(sentence) => go({ key: only, sentence })}
            />`}
      </section>
      ${isOpen &&
      html`<${LineagePanel}
        view=${name}
        answerKey=${query.key}
        sentence=${Number(query.sentence ?? 0)}
        version=${state.answers.get(query.key)?.refreshedAtMs}
        onChoose=${(sentence) => go({ key: query.key, sentence })}
        onClose=${() => go({})}
      />`}
    </div>
  `;
}

function OfAll({ state, keys, onOpen }) {
  const { columns, rows } = useMemo(() => sharesOf(state, keys), [state, state.contents, keys.join("\n")]);
  return html`<${HeatMap}
    columns=${columns}
    rows=${rows}
    format=${percent}
    rowNoun="sentence"
    columnNoun="passage"
    mostColumns=${MOST_COLUMNS}
    onRow=${(row) => onOpen(rows[row].key, rows[row].sentence)}
  />`;
}

function sharesOf(state, keys) {
  const at = new Map();
  const named = [];
  for (const key of keys) {
    for (const { sources } of state.answers.get(key)?.answer.sub_paragraphs ?? []) {
      for (const { document, ordinal } of sources) {
        const id = nameOf(document, ordinal);
        if (!at.has(id)) {
          at.set(id, null);
          named.push({ document, ordinal });
        }
      }
    }
  }
  named.sort((a, b) => a.document.localeCompare(b.document, "en", { numeric: true }) || a.ordinal - b.ordinal);
  named.forEach(({ document, ordinal }, index) => at.set(nameOf(document, ordinal), index));
  const rows = keys.flatMap((key) => {
    const { answer } = state.answers.get(key) ?? {};
    return (answer?.sub_paragraphs ?? []).map((sentence, index) => {
      const values = new Array(named.length).fill(0);
      for (const { document, ordinal, share } of sentence.sources) values[at.get(nameOf(document, ordinal))] = share;
      return {
        key,
        sentence: index,
        name: sentence.text,
        title: `${answer.question}\n${sentence.text}`,
        label: index === 0 ? key : null,
        isFirst: index === 0,
        values,
      };
    });
  });
  return { columns: named.map(({ document, ordinal }) => ({ name: nameOf(document, ordinal) })), rows };
}

function OfOne({ name, answerKey, version, onOpen }) {
  const { lineage, error } = useLineage(name, answerKey, version);
  const matrix = useMemo(() => lineage && asMatrix(lineage), [lineage]);
  if (error) return html`<${Problem} error=${error} />`;
  if (matrix === null) return html`<${Waiting} what="Reading the lineage" />`;
  return html`<h2>${lineage.question}</h2>
    <${HeatMap} ...${matrix} rowNoun="sentence" columnNoun="passage" mostColumns=${MOST_COLUMNS} onRow=${onOpen} />`;
}
