// Which words of a text went, and which came?
//
// The longest common subsequence of words (Wagner and Fischer), after what both begin and end with
// is set aside. Texts that differ in more words than a page can show are exchanged whole.

const MOST_CELLS = 1_000_000;

/** Words, blanks and marks, in order; together they are the text. */
export function words(text) {
  return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
}

/** `[{kind: "same" | "old" | "new", word}]`; an exchange has its old words first. */
export function wordDiff(oldWords, newWords) {
  let start = 0;
  while (start < oldWords.length && start < newWords.length && oldWords[start] === newWords[start]) start += 1;
  let end = 0;
  while (
    end < oldWords.length - start &&
    end < newWords.length - start &&
    oldWords[oldWords.length - 1 - end] === newWords[newWords.length - 1 - end]
  ) {
    end += 1;
  }
  const same = (word) => ({ kind: "same", word });
  const middle = joined(
    between(oldWords.slice(start, oldWords.length - end), newWords.slice(start, newWords.length - end)),
  );
  return [
    ...newWords.slice(0, start).map(same),
    ...middle,
    ...newWords.slice(newWords.length - end).map(same),
  ];
}

/** The same exchanges, where blanks alone part none from the next: phrases are read, not single words. */
function joined(steps) {
  const all = [];
  let old = [];
  let now = [];
  let blanks = [];
  const flush = () => {
    all.push(...old.map((word) => ({ kind: "old", word })), ...now.map((word) => ({ kind: "new", word })));
    all.push(...blanks.map((word) => ({ kind: "same", word })));
    [old, now, blanks] = [[], [], []];
  };
  for (const { kind, word } of steps) {
    if (kind === "same" && (word.trim() !== "" || (old.length === 0 && now.length === 0))) {
      flush();
      all.push({ kind, word });
    } else if (kind === "same") {
      blanks.push(word);
    } else {
      old.push(...blanks);
      now.push(...blanks);
      blanks = [];
      (kind === "old" ? old : now).push(word);
    }
  }
  flush();
  return all;
}

function between(old, now) {
  const steps = [];
  if (old.length * now.length > MOST_CELLS) {
    for (const word of old) steps.push({ kind: "old", word });
    for (const word of now) steps.push({ kind: "new", word });
    return steps;
  }
  // longest[i][j]: the length of the longest common part of old[i..] and now[j..].
  const width = now.length + 1;
  const longest = new Uint16Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        old[i] === now[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  let i = 0;
  let j = 0;
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      steps.push({ kind: "same", word: now[j] });
      i += 1;
      j += 1;
    } else if (
      i < old.length &&
      (j === now.length || longest[(i + 1) * width + j] >= longest[i * width + j + 1])
    ) {
      steps.push({ kind: "old", word: old[i] });
      i += 1;
    } else {
      steps.push({ kind: "new", word: now[j] });
      j += 1;
    }
  }
  return steps;
}

/**
 * The sentences of the new text, each as runs `[{kind, text}]` of the same, old and new words.
 * `sentences` together are the new text; what went stands where it stood.
 */
export function sentenceDiffs(oldText, sentences) {
  const newWords = [];
  const sentenceOf = [];
  sentences.forEach((sentence, index) => {
    for (const word of words(sentence)) {
      newWords.push(word);
      sentenceOf.push(index);
    }
  });
  const runs = sentences.map(() => []);
  let at = 0;
  for (const { kind, word } of wordDiff(words(oldText), newWords)) {
    const index = Math.min(sentenceOf[at] ?? sentences.length - 1, sentences.length - 1);
    if (index < 0) continue;
    const last = runs[index].at(-1);
    if (last?.kind === kind) last.text += word;
    else runs[index].push({ kind, text: word });
    if (kind !== "old") at += 1;
  }
  return runs;
}
