// How are numbers, rungs and changes put into plain words?
//
// The same words as the program's own on a terminal.

const numbers = new Intl.NumberFormat("en");

/** `12345` as `12,345`. */
export function thousands(number) {
  return numbers.format(number);
}

/** `1 document`, `20 documents`. */
export function count(number, noun) {
  return `${thousands(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** `80 ms`, `1.2 s`, `2 min 5 s`, `3 h 20 min`, `12 d 3 h`. */
export function duration(ms) {
  const s = ms / 1000;
  if (s < 1) return `${Math.round(ms)} ms`;
  if (s < 100) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  const whole = Math.round(s);
  const min = Math.floor(whole / 60);
  if (min < 60) return `${min} min ${whole % 60} s`;
  const h = Math.floor(min / 60);
  return h < 48 ? `${h} h ${min % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** Bytes as `98 MB`, `2.1 GB`. */
export function bytes(n) {
  if (n < 1e3) return `${n} B`;
  if (n < 1e6) return `${(n / 1e3).toFixed(0)} kB`;
  if (n < 1e9) return `${(n / 1e6).toFixed(0)} MB`;
  return `${(n / 1e9).toFixed(1)} GB`;
}

/** `93 %`; what is there but rounds to nothing is `<1 %`. */
export function percent(part) {
  const whole = Math.round(part * 100);
  return part > 0 && whole === 0 ? "<1 %" : `${whole} %`;
}

/** How long ago, in words. */
export function ago(atMs, nowMs = Date.now()) {
  const s = Math.round((nowMs - atMs) / 1000);
  if (s < 5) return "just now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} days ago`;
}

/** What a refresh cost, beside a rerun: `130 of 1,150 tokens`, or `1,150 tokens` where that is as many. */
export function work(forwarded, rerun) {
  if (rerun === 0 && forwarded === 0) return "no tokens";
  if (forwarded === 0) return `none of ${thousands(rerun)} tokens`;
  if (forwarded === rerun) return `${thousands(forwarded)} tokens`;
  return `${thousands(forwarded)} of ${thousands(rerun)} tokens`;
}

/** How many times less than a rerun, or an empty text where it is no less. */
export function saving(forwarded, rerun) {
  const ratio = rerun / Math.max(forwarded, 1);
  return rerun > 0 && ratio >= 1.05 ? `${ratio.toFixed(1)}× less than a rerun` : "";
}

/** The rungs, cheapest first, each in a word for charts. */
export const RUNGS = [
  ["keep", "kept"],
  ["skip", "skipped"],
  ["patch", "words exchanged"],
  ["verify", "checked in one pass"],
  ["append", "told what changed"],
  ["rewrite", "rewritten in part"],
  ["regenerate", "written anew"],
  ["failed", "failed"],
];

/** How an answer that did not fail came to be, in words that need no glossary. */
export function how(answer) {
  const isChanged = answer.change === "changed";
  switch (answer.rung) {
    case "keep":
      return "kept";
    case "skip":
      return "skipped: the change is unlikely to matter";
    case "patch":
      return "words exchanged";
    case "verify":
      return isChanged ? "checked, and its end rewritten" : "checked in one pass";
    case "append":
      return isChanged ? "told what changed, and answered again" : "told what changed, and stands";
    case "rewrite": {
      if (answer.change === "stands") return "checked in parts";
      const at = answer.changed?.[0]?.at;
      return at === undefined ? "rewritten in part" : `rewritten from sentence ${at + 1}`;
    }
    case "regenerate":
      return "written anew";
    default:
      return answer.rung;
  }
}

/** `{word, why}`: whether an answer that did not fail is what a run from scratch would say. */
export function promise(answer) {
  if (answer.exact) {
    return { word: "exact", why: "Token for token what a run from scratch over these documents says." };
  }
  if (answer.memoised && answer.regret === 0) {
    return {
      word: "memoised",
      why: "Said by a model that promises no same words: it stands until its documents change.",
    };
  }
  const why =
    answer.rung === "skip"
      ? `Not read again: expected regret ${answer.regret.toFixed(4)} nats a token.`
      : answer.rung === "append"
        ? "It goes on from the answer before: an exact one follows."
        : answer.drift > 0
        ? `${Math.ceil(answer.drift * 100)} % of it leans on passages as they were read before.`
        : `Another answer is likelier by ${answer.regret.toFixed(3)} nats a token.`;
  return { word: "provisional", why };
}

/** What an epoch changed: `hours changed, fees deleted`. */
export function changes(documents, nHealed = 0) {
  const verbs = { inserted: "added", updated: "changed", deleted: "deleted" };
  if (documents.length === 0) return nHealed > 0 ? "passages read anew" : "questions changed";
  const named = documents.slice(0, 4).map(({ key, change }) => `${key} ${verbs[change] ?? change}`);
  if (documents.length > 4) named.push(`and ${thousands(documents.length - 4)} more`);
  return named.join(", ");
}

/** What an epoch cost, in a sentence. */
export function epochInWords(epoch) {
  const words = [];
  if (epoch.n_answers > 0) {
    words.push(`read ${thousands(epoch.n_read)} of ${count(epoch.n_answers, "question")}`);
    words.push(work(epoch.work.forwarded, epoch.rerun));
    const less = saving(epoch.work.forwarded, epoch.rerun);
    if (less && epoch.work.forwarded > 0) words.push(less);
  }
  words.push(duration(epoch.elapsed_ms));
  return words.join(" · ");
}

/** Of `n` answers, `nFailed` have an error in place of a text: `3 of 12 answers failed`, `all 3 answers failed`. */
export function failures(nFailed, n) {
  if (nFailed < n) return `${thousands(nFailed)} of ${thousands(n)} answers failed`;
  return n === 1 ? "the only answer failed" : `all ${thousands(n)} answers failed`;
}

/** The kinds of relations, in words. */
export const KINDS = {
  source: "source",
  table: "table",
  answers: "answers",
  query: "query",
};

/** What holds a view back, in words. */
export const STATUS = {
  fresh: ["fresh", "All that was said is in it."],
  starting: ["starting", "It has no complete epoch yet."],
  refreshing: ["refreshing", "An epoch is under way."],
  "target lag": ["target lag", "Changes wait on purpose, within the view's target lag."],
  budget: ["budget", "The view's budget of this hour is spent: changes wait."],
  upstream: ["upstream", "A view that it reads is behind."],
};
