// What does one answer say, what changed in it, and how is it coming along?

import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import { place, to } from "../frame/router.js";
import { duration, percent, thousands } from "../words/wording.js";
import { sentencesOf } from "../words/sentences.js";
import { sentenceDiffs } from "../words/word_diff.js";
import { Cost, PromiseMark, RungBadge } from "./rung_badge.js";

/** How long what changed stays marked. */
const MARKED_MS = 20000;

/**
 * `entry` of a `ViewState`, or null for an answer that is only being written. A sentence is a link
 * that opens what it leans on: `query` is the rest of the address.
 */
export function AnswerCard({ view, answerKey, entry, draft, chosen }) {
  const isMarked = useMarked(entry?.changedAtMs ?? 0);
  const [isDiffWanted, setDiffWanted] = useState(false);
  const answer = entry?.answer ?? null;
  const hasDiff = Boolean(entry?.previous) && entry.previous !== answer?.text;
  const isDiffShown = isDiffWanted || (isMarked && hasDiff);
  return html`<article
    class=${["card", isMarked && "changed", answer?.error && "failed"].filter(Boolean).join(" ")}
    tabindex="-1"
    data-card
    data-key=${answerKey}
    aria-busy=${draft !== undefined}
    aria-label=${answer?.question ?? answerKey}
  >
    <header>
      <h3>${answer?.question ?? answerKey}</h3>
      <span class="key" title="its key">${answerKey}</span>
    </header>
    ${answer &&
    (answer.error
      ? html`<p class="answer failed">
          <strong><span aria-hidden="true">✕</span> No answer:</strong> ${answer.error}
        </p>`
      : html`<${AnswerText}
          view=${view}
          answerKey=${answerKey}
          answer=${answer}
          previous=${isDiffShown ? entry.previous : null}
          chosen=${chosen}
        />`)}
    ${draft && html`<${Draft} draft=${draft} />`}
    ${answer &&
    html`<footer>
      ${!answer.error && html`<${RungBadge} answer=${answer} /> <${PromiseMark} answer=${answer} />`}
      ${answer.work.from_scratch > 0 &&
      html`<${Cost} forwarded=${answer.work.forwarded} rerun=${answer.work.from_scratch} />`}
      <span title="time of its last refresh">${duration(answer.elapsed_ms)}</span>
      <span title="the epoch in which it came to be as it is">epoch ${thousands(answer.epoch)}</span>
      ${answer.passages_read < answer.passages_of &&
      html`<span title="the rest exceeds the view's token budget">${thousands(answer.passages_read)} of ${thousands(answer.passages_of)} passages read</span>`}
      ${answer.finish === "length" && html`<span class="cut">cut at the limit of tokens</span>`}
      ${answer.drift > 0 && html`<span title="part that leans on passages as they were read before">drift ${percent(answer.drift)}</span>`}
      ${hasDiff &&
      !isMarked &&
      html`<button
        type="button"
        class="link"
        aria-pressed=${isDiffWanted}
        onClick=${() => setDiffWanted(!isDiffWanted)}
      >
        ${isDiffWanted ? "as it stands" : "what changed"}
      </button>`}
    </footer>`}
  </article>`;
}

/** Whether what changed at `changedAtMs` is new enough to be marked. */
function useMarked(changedAtMs) {
  const leftMs = changedAtMs + MARKED_MS - Date.now();
  const [, redraw] = useState(0);
  useEffect(() => {
    if (leftMs <= 0) return undefined;
    const timer = setTimeout(() => redraw((n) => n + 1), leftMs + 10);
    return () => clearTimeout(timer);
  }, [changedAtMs]);
  return leftMs > 0;
}

function AnswerText({ view, answerKey, answer, previous, chosen }) {
  const runs = useMemo(() => {
    const sentences = sentencesOf(answer);
    return previous === null
      ? sentences.map((text) => [{ kind: "same", text }])
      : sentenceDiffs(previous, sentences);
  }, [answer, previous]);
  if (runs.length === 0) return html`<p class="answer">${answer.text}</p>`;
  return html`<p class="answer">
    ${runs.map((parts, index) => {
      const isChosen = chosen?.key === answerKey && chosen.sentence === index;
      const names = [...new Set(answer.sub_paragraphs[index].sources.map((source) => source.document))];
      return html`<a
          key=${index}
          class=${isChosen ? "sentence chosen" : "sentence"}
          href=${hrefOf(view, answerKey, index)}
          aria-current=${isChosen ? "true" : null}
          title=${names.length > 0 ? `leans on ${names.join(", ")}` : "what it leans on"}
          >${parts.map(({ kind, text }) => {
            if (kind === "old") return html`<del>${text}</del>`;
            return kind === "new" ? html`<ins>${text}</ins>` : text;
          })}</a
        >`;
    })}
    <${Sources} sentences=${answer.sub_paragraphs} />
  </p>`;
}

// Where the lineage opens: on the page that is shown, so that no place is lost.
function hrefOf(view, key, sentence) {
  const { parts, query } = place.value;
  const here = parts[0] === "views" || parts[0] === "try" ? parts : ["views", view];
  return to(here, { ...query, key, sentence });
}

/** The documents behind an answer, strongest first, each once. */
function Sources({ sentences }) {
  const shares = new Map();
  for (const { sources } of sentences) {
    for (const { document, share } of sources) {
      shares.set(document, Math.max(share, shares.get(document) ?? 0));
    }
  }
  const ordered = [...shares].sort((a, b) => b[1] - a[1]).slice(0, 4);
  return ordered.map(
    ([document, share]) =>
      html` <span class="from" key=${document} title=${`${percent(share)} of a sentence's attention among passages`}
        >${document}</span
      >`,
  );
}

function Draft({ draft }) {
  const isReading = draft.total > 0 && draft.text === undefined;
  // Screen readers hear of the answer when it is there, not of each word.
  return html`<div class="draft" aria-hidden="true">
    ${isReading
      ? html`<span>reading ${thousands(draft.done)} of ${thousands(draft.total)} tokens</span
          ><progress value=${draft.done} max=${draft.total}></progress>`
      : html`<span class="draft-word">${draft.isEarly ? "early" : "writing"}</span> ${draft.text}<span
            class="caret"
          ></span>`}
  </div>`;
}
