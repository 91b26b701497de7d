// What does a sentence lean on?
//
// Attention says which passages a sentence was written from. It is a reader's aid, not a proof. `share` is the
// part of the attention that went to a passage which the answer names; `score` says how much the sentence
// depends on it, named or not, and is known only of answers that were refreshed since the server began.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact.js";
import { read, v1 } from "../server/requests.js";
import { percent, thousands } from "../words/wording.js";
import { Problem, Waiting } from "./empty.js";
import { HeatMap } from "./heat_map.js";

/** Passages that are shown at once. */
const FIRST_SHOWN = 6;

/** `{lineage, error}` of the answer with `key`, asked again when `version` is another. */
export function useLineage(view, key, version) {
  const [state, setState] = useState({ lineage: null, error: null });
  useEffect(() => {
    if (key === null) return undefined;
    const control = new AbortController();
    read(`${v1("views", view, "lineage")}?key=${encodeURIComponent(key)}`, control.signal)
      .then((lineage) => setState({ lineage, error: null }))
      .catch((error) => control.signal.aborted || setState({ lineage: null, error }));
    return () => control.abort();
  }, [view, key, version]);
  const isOf = state.lineage === null || state.lineage.key === key;
  return isOf ? state : { lineage: null, error: null };
}

/** How strongly a sentence leans on a passage. */
function strength(source) {
  return source.score ?? source.share;
}

/** Whether scores are known of `lineage`. */
function isScored(lineage) {
  return lineage.sub_paragraphs.some(({ sources }) => sources.some(({ score }) => score !== null));
}

/** The passages of `lineage` as rows of a heat map: `{columns, rows, format}`. */
export function asMatrix(lineage) {
  const titles = new Map(lineage.passages.map((one) => [nameOf(one.document, one.ordinal), one.title]));
  for (const { sources } of lineage.sub_paragraphs) {
    for (const { document, ordinal } of sources) {
      const name = nameOf(document, ordinal);
      if (!titles.has(name)) titles.set(name, null);
    }
  }
  const names = [...titles.keys()];
  const at = new Map(names.map((name, index) => [name, index]));
  return {
    columns: names.map((name) => ({ name, title: titles.get(name) })),
    rows: lineage.sub_paragraphs.map((sentence) => {
      const values = new Array(names.length).fill(0);
      for (const source of sentence.sources) values[at.get(nameOf(source.document, source.ordinal))] = strength(source);
      return { name: sentence.text, values };
    }),
    format: isScored(lineage) ? scored : percent,
  };
}

/** A score in words, to two places that count. */
function scored(score) {
  return score === 0 ? "none" : `strength ${Number(score.toPrecision(2))}`;
}

/** A passage's name: its document, and which piece of it. */
export function nameOf(document, ordinal) {
  return `${document} ${ordinal + 1}`;
}

/**
 * Moves the focus into `panel` when what has it opened another sentence there, and back when the panel goes. A
 * page that is opened by its address keeps the focus where it is.
 */
function useFocusOf(panel, opened) {
  const opener = useRef(null);
  useEffect(() => {
    const focused = document.activeElement;
    if (!focused?.closest(".sentence, .heat") || panel.current.contains(focused)) return;
    opener.current = focused;
    panel.current.querySelector("h2").focus();
  }, [opened]);
  // A layout effect ends while the panel is still there.
  useLayoutEffect(() => {
    const element = panel.current;
    return () => {
      if (element.contains(document.activeElement) && opener.current?.isConnected) opener.current.focus();
    };
  }, []);
}

/** The panel beside an answer. `onChoose` gets the number of a sentence. */
export function LineagePanel({ view, answerKey, sentence, version, onChoose, onClose }) {
  const { lineage, error } = useLineage(view, answerKey, version);
  const panel = useRef(null);
  useFocusOf(panel, `${answerKey}\n${sentence}`);
  return html`<aside ref=${panel} class="lineage" aria-label="What a sentence leans on">
    <header>
      <h2 tabindex="-1">What it leans on</h2>
      <button type="button" class="quiet" onClick=${onClose} aria-label="Close (Esc)">✕</button>
    </header>
    <${Problem} error=${error} />
    ${lineage === null
      ? !error && html`<${Waiting} what="Reading the lineage" />`
      : html`<${Body} lineage=${lineage} sentence=${sentence} onChoose=${onChoose} />`}
  </aside>`;
}

function Body({ lineage, sentence, onChoose }) {
  const last = lineage.sub_paragraphs.length - 1;
  const index = Math.min(Math.max(sentence, 0), last);
  const chosen = lineage.sub_paragraphs[index];
  if (chosen === undefined) return html`<p>This answer has no sentence that leans on a passage.</p>`;
  return html`
    <p class="of">${lineage.question}</p>
    <blockquote>${chosen.text}</blockquote>
    <div class="actions">
      <button type="button" disabled=${index === 0} onClick=${() => onChoose(index - 1)}>Previous sentence</button>
      <span>${index + 1} of ${last + 1}</span>
      <button type="button" disabled=${index === last} onClick=${() => onChoose(index + 1)}>Next sentence</button>
    </div>
    <${Passages} key=${index} lineage=${lineage} sources=${chosen.sources} />
    <h3>Attention map</h3>
    <${HeatMap}
      ...${asMatrix(lineage)}
      rowNoun="sentence"
      columnNoun="passage"
      mostColumns=${8}
      chosenRow=${index}
      onRow=${onChoose}
    />
    <p class="note">
      How much a sentence depends on a passage, by attention. A reader's aid, not a proof.
      ${lineage.exact ? "" : " The answer is provisional: an exact one may lean on others."}
      ${isScored(lineage) ? "" : " Passages that it does not name, and their texts, are known again once it is refreshed."}
    </p>
  `;
}

function Passages({ lineage, sources }) {
  const [isAll, setAll] = useState(false);
  const texts = new Map(lineage.passages.map((p) => [`${p.document}\n${p.ordinal}`, p]));
  const shown = isAll ? sources : sources.slice(0, FIRST_SHOWN);
  const most = Math.max(0, ...sources.map(strength));
  return html`<ol class="passages">
      ${shown.map((source) => {
        const passage = texts.get(`${source.document}\n${source.ordinal}`);
        return html`<li key=${nameOf(source.document, source.ordinal)} class=${source.share > 0 ? "named" : null}>
          <details open=${source.share > 0}>
            <summary>
              <span class="passage-name">
                <strong>${passage?.title || source.document}</strong>${" "}
                <span class="key">${nameOf(source.document, source.ordinal)}</span>
              </span>
              <span class="bar" aria-hidden="true"
                ><span style=${{ width: `${most > 0 ? (strength(source) / most) * 100 : 0}%` }}></span
              ></span>
              <span class="share"
                >${source.share > 0
                  ? html`${percent(source.share)}<span class="sr"> of the attention</span>`
                  : html`<span class="sr">${scored(source.score ?? 0)}</span>`}</span
              >
            </summary>
            ${passage === undefined
              ? html`<p class="gone">Its text is known again once the answer is refreshed.</p>`
              : html`${passage.superseded && html`<p class="gone">A newer record takes its place.</p>`}
                  <p class="passage-text">${passage.text}</p>`}
          </details>
        </li>`;
      })}
    </ol>
    ${sources.length > FIRST_SHOWN &&
    html`<button type="button" class="link" onClick=${() => setAll(!isAll)}>
      ${isAll ? "fewer" : `all ${thousands(sources.length)} passages`}
    </button>`}`;
}
