// Do the marks on an answer say what changed? For any two texts, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

const { duration } = await import("../../src/serve/console/assets/words/wording.js");
const { sentencesOf } = await import("../../src/serve/console/assets/words/sentences.js");
const { sentenceDiffs, wordDiff, words } = await import("../../src/serve/console/assets/words/word_diff.js");

test("a time has no sixty seconds", () => {
  const said = [0, 999, 1_500, 62_000, 119_400, 119_600, 3_599_600].map(duration);
  assert.deepEqual(said, ["0 ms", "999 ms", "1.5 s", "62 s", "1 min 59 s", "2 min 0 s", "1 h 0 min"]);
});

/** Numbers that are the same in each run (xorshift). */
function dice(seed) {
  let state = seed;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

const PIECES = ["a", "ferry", " ", "  ", "\n", "12", "14", ".", "!", "é", "日本", "😀", "-", "costs"];

function anyText(roll) {
  return Array.from({ length: roll(14) }, () => PIECES[roll(PIECES.length)]).join("");
}

test("of any two texts, what is marked old or the same is the old one, and new or the same the new one", () => {
  const roll = dice(7);
  for (let round = 0; round < 3000; round += 1) {
    const [before, now] = [anyText(roll), anyText(roll)];
    const steps = wordDiff(words(before), words(now));
    const without = (kind) => steps.filter((step) => step.kind !== kind).map((step) => step.word).join("");
    assert.equal(without("new"), before);
    assert.equal(without("old"), now);
    if (before === now) assert.ok(steps.every(({ kind }) => kind === "same"));
  }
});

test("of any sentences, each has its own words, and nothing of the old text is lost", () => {
  const roll = dice(11);
  for (let round = 0; round < 3000; round += 1) {
    const before = anyText(roll);
    const sentences = Array.from({ length: 1 + roll(4) }, () => anyText(roll));
    const runs = sentenceDiffs(before, sentences);
    const text = (parts, kind) => parts.filter((part) => part.kind !== kind).map((part) => part.text).join("");
    assert.deepEqual(runs.map((parts) => text(parts, "old")), sentences);
    const old = runs.flat().filter((part) => part.kind === "old").map((part) => part.text).join("");
    const same = runs.flat().filter((part) => part.kind === "same").map((part) => part.text).join("");
    assert.equal(old.length + same.length, before.length);
  }
});

test("an exchanged number is all that is marked", () => {
  const [first, second] = sentenceDiffs("It costs 12 crowns. Come over.", ["It costs 14 crowns. ", "Come over."]);
  assert.deepEqual(first, [
    { kind: "same", text: "It costs " },
    { kind: "old", text: "12" },
    { kind: "new", text: "14" },
    { kind: "same", text: " crowns. " },
  ]);
  assert.deepEqual(second, [{ kind: "same", text: "Come over." }]);
});

test("texts that differ in too many words are exchanged whole", () => {
  const long = (word) => Array.from({ length: 1500 }, (_, n) => `${word}${n}`).join(" ");
  const steps = wordDiff(words(long("a")), words(long("b")));
  assert.equal(steps.filter(({ kind }) => kind === "old").map(({ word }) => word).join(""), long("a"));
  assert.ok(steps.findIndex(({ kind }) => kind === "new") > steps.findLastIndex(({ kind }) => kind === "old"));
});

test("sentences are where they stand in their answer, with what follows each", () => {
  const answer = (text, ...parts) => ({ text, sub_paragraphs: parts.map((one) => ({ text: one })) });
  assert.deepEqual(sentencesOf(answer("One. Two.\n- Three", "One.", "Two.", "- Three")), ["One. ", "Two.\n", "- Three"]);
  assert.deepEqual(sentencesOf(answer("  No. No. ", "No.", "No.")), ["  No. ", "No. "]);
  assert.deepEqual(sentencesOf(answer("Words.")), []);
  assert.equal(sentencesOf(answer("One. Two.", "One.", "Others.", "Two.")).join(""), "One. Two.");
});

test("phrases are exchanged as phrases", () => {
  const steps = wordDiff(words("It costs twelve old crowns."), words("It costs only nine crowns."));
  const runs = [];
  for (const { kind, word } of steps) {
    if (runs.at(-1)?.[0] === kind) runs.at(-1)[1] += word;
    else runs.push([kind, word]);
  }
  assert.deepEqual(runs, [["same", "It costs "], ["old", "twelve old"], ["new", "only nine"], ["same", " crowns."]]);
});
