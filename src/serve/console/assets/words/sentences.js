// Where in an answer does each sentence stand?

/**
 * The text of `answer`, cut at its sub-paragraphs: a text for each. What stands between two, blanks and line
 * ends, goes with the one before, so that together they are the whole text.
 */
export function sentencesOf({ text, sub_paragraphs: parts }) {
  const starts = [];
  let from = 0;
  for (const part of parts) {
    const at = text.indexOf(part.text, from);
    // A sub-paragraph is a part of its answer; one that is not is shown where the one before ends.
    starts.push(at < 0 ? from : at);
    if (at >= 0) from = at + part.text.length;
  }
  return parts.map((_, index) => {
    const start = index === 0 ? 0 : starts[index];
    return text.slice(start, starts[index + 1] ?? text.length);
  });
}
