//! From attention to sources: which sub-paragraph of an answer leans on which passages.
//!
//! The attention kernel reports, for each answer token, how much of its attention went to
//! each segment of the layout. Here the answer is cut into sub-paragraphs, and the mass
//! over a sub-paragraph's tokens is added up and shared out among the passages.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::answer::{Source, SubParagraph};
use perennial_bank::document::LayoutPassage;

/// A passage is named as a source if it has at least this part of the strongest's share.
const LEAST_OF_STRONGEST: f32 = 0.5;
/// At most this many sources are named for one sub-paragraph.
const MOST_SOURCES: usize = 3;

/// Byte ranges of an answer's sub-paragraphs: sentences and list items. Together they
/// cover the whole text. A sentence goes on over a line that is merely wrapped.
pub fn sub_paragraphs(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for line in unwrapped(text).split_inclusive('\n') {
        for (offset, sentence) in line.split_sentence_bound_indices() {
            let range = at + offset..at + offset + sentence.len();
            let is_marker = |r: &Range<usize>| is_list_marker(text[r.clone()].trim());
            match ranges.last_mut() {
                // White space, and "1." before an item, belong to their neighbour.
                Some(last) if sentence.trim().is_empty() => last.end = range.end,
                Some(last) if offset > 0 && is_marker(last) => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        at += line.len();
    }
    ranges
}

/// Whether a text ends where one of its sub-paragraphs does: another sentence, or item, would be one of
/// its own.
pub fn ends_sub_paragraph(text: &str) -> bool {
    let text = text.trim_end_matches(' ');
    let mut longer = text.to_owned();
    longer.push_str(" It");
    let last = sub_paragraphs(&longer).pop();
    !text.is_empty() && last.is_some_and(|last| last.start >= text.len())
}

/// The same text, byte for byte as long, with a blank for each line break inside of a
/// sentence: models copy the wrapped lines of documents.
fn unwrapped(text: &str) -> String {
    let mut flat = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let goes_on = |next: &&str| {
            let (first, end) = (next.chars().next(), line.trim_end().chars().last());
            let marker = next.split_whitespace().next().unwrap_or_default();
            first.is_some_and(|c| c.is_lowercase() || c.is_ascii_digit())
                && end.is_some_and(|c| c.is_alphanumeric() || c == ',')
                && !(marker.ends_with(['.', ')']) && is_list_marker(marker))
        };
        match line.strip_suffix('\n') {
            Some(words) if lines.peek().is_some_and(goes_on) => {
                flat.push_str(words);
                flat.push(' ');
            }
            _ => flat.push_str(line),
        }
    }
    flat
}

fn is_list_marker(text: &str) -> bool {
    let text = text.trim_end_matches(['.', ')']);
    text.is_empty() || (text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit()))
}

/// A sub-paragraph: its bytes of the text and its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the answer's text.
    pub bytes: Range<usize>,
    /// Tokens of the answer.
    pub tokens: Range<usize>,
}

/// The parts of an answer whose token `i` ends at byte `ends[i]` of `text`.
pub fn parts(text: &str, ends: &[usize]) -> Vec<Part> {
    let mut token = 0;
    let part = |bytes: Range<usize>| {
        let first = token;
        token += ends[token..]
            .iter()
            .take_while(|end| **end <= bytes.end)
            .count();
        Part {
            bytes,
            tokens: first..token,
        }
    };
    sub_paragraphs(text).into_iter().map(part).collect()
}

/// The sum of some tokens' attention to each passage; `mass[i]` is that of token `i`.
pub fn total(mass: &[Vec<f32>], tokens: &Range<usize>, n_passages: usize) -> Vec<f32> {
    let mut total = vec![0f32; n_passages];
    for row in mass.iter().take(tokens.end).skip(tokens.start) {
        total.iter_mut().zip(row).for_each(|(sum, m)| *sum += m);
    }
    total
}

/// The answer by sub-paragraphs with their sources; `mass[i]` is token `i`'s attention to
/// each passage.
pub fn attribute(
    text: &str,
    parts: &[Part],
    mass: &[Vec<f32>],
    passages: &[LayoutPassage],
) -> Vec<SubParagraph> {
    let attributed = |part: &Part| SubParagraph {
        text: text[part.bytes.clone()].trim_end().to_owned(),
        sources: strongest(&total(mass, &part.tokens, passages.len()), passages),
    };
    parts.iter().map(attributed).collect()
}

fn strongest(mass: &[f32], passages: &[LayoutPassage]) -> Vec<Source> {
    let sum: f32 = mass.iter().sum();
    if sum <= 0.0 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..mass.len()).collect();
    order.sort_by(|a, b| mass[*b].total_cmp(&mass[*a]).then(a.cmp(b)));
    let least = mass[order[0]] * LEAST_OF_STRONGEST;
    order
        .into_iter()
        .take(MOST_SOURCES)
        .filter(|i| mass[*i] >= least)
        .flat_map(|i| holders(&passages[i], mass[i] / sum))
        .collect()
}

/// The documents that hold a passage: that in which it was read, then those of its copies. The share is the
/// passage's, so each has it.
fn holders(passage: &LayoutPassage, share: f32) -> impl Iterator<Item = Source> + '_ {
    let read = (&passage.document, passage.ordinal);
    let copies = passage.copies.iter();
    let copies = copies.map(|copy| (&copy.document, copy.ordinal));
    std::iter::once(read)
        .chain(copies)
        .map(move |(document, ordinal)| Source {
            document: document.clone(),
            ordinal,
            share,
        })
}

/// Sub-paragraphs with their sources where these stand now; `places` says, by passage of the layout
/// after, where it stood before.
pub(crate) fn moved(
    sub_paragraphs: &[SubParagraph],
    before: &[LayoutPassage],
    after: &[LayoutPassage],
    places: &[Option<usize>],
) -> Vec<SubParagraph> {
    // A copy that was named is found at its passage, and named anew from there.
    let moved = |source: &Source| {
        let is_it =
            |p: &LayoutPassage| (&p.document, p.ordinal) == (&source.document, source.ordinal);
        let old = before.iter().position(is_it)?;
        let new = places.iter().position(|place| *place == Some(old))?;
        Some(holders(&after[new], source.share))
    };
    let of_part = |part: &SubParagraph| SubParagraph {
        text: part.text.clone(),
        sources: part.sources.iter().filter_map(moved).flatten().collect(),
    };
    sub_paragraphs.iter().map(of_part).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_and_items_are_sub_paragraphs() {
        let text = "It opens at nine. It closes at five.\n\n1. Bring a coat.\n2. Be early.";
        let cut: Vec<&str> = sub_paragraphs(text)
            .into_iter()
            .map(|r| text[r].trim())
            .collect();
        assert_eq!(
            cut,
            [
                "It opens at nine.",
                "It closes at five.",
                "1. Bring a coat.",
                "2. Be early."
            ]
        );
    }

    #[test]
    fn a_text_ends_with_a_sub_paragraph_where_the_next_would_begin() {
        for (text, ends) in [
            ("It opens at nine.", true),
            ("It opens at nine. ", true),
            ("Is it open?", true),
            ("1. Bring a coat\n", true),
            ("", false),
            (" ", false),
            ("It opens at", false),
            ("It opens at nine. 1.", false),
            ("First, second,", false),
        ] {
            assert_eq!(ends_sub_paragraph(text), ends, "{text:?}");
        }
    }

    #[test]
    fn a_wrapped_line_is_no_end_of_a_sentence() {
        let cut = |text: &'static str| -> Vec<&str> {
            let ranges = sub_paragraphs(text).into_iter();
            ranges.map(|range| text[range].trim()).collect()
        };
        let wrapped = "The ticket costs\n14 crowns on\nevery boat. It is valid.";
        assert_eq!(
            cut(wrapped),
            [
                "The ticket costs\n14 crowns on\nevery boat.",
                "It is valid."
            ]
        );
        assert_eq!(
            cut("First this\n2. Then that\nNames\nMore"),
            ["First this", "2. Then that", "Names", "More"]
        );
    }

    proptest! {
        #[test]
        fn sub_paragraphs_cover_the_text(text in "([a-z1-9.]{1,9}[ \n.!é]{1,3}){0,12}") {
            let mut end = 0;
            for range in sub_paragraphs(&text) {
                prop_assert_eq!(range.start, end);
                end = range.end;
            }
            prop_assert_eq!(end, text.len());
        }
    }
}
