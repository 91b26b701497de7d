//! Where a document is cut: at boundaries its own contents define.
//!
//! # Design
//! A document is a sequence of units: paragraphs (blank lines and Markdown headings
//! separate them, a fenced code block is one), or the sentences of a paragraph that is too
//! long. Consecutive units are merged into passages. A passage ends after a unit whose
//! hash says so, before a heading, or where the next unit would make it too long.
//!
//! # Invariants
//! - The passages are a function of the text alone.
//! - An edit inside one paragraph changes the passage that holds it; it can move the cuts
//!   behind it only as far as the next cut by hash or heading.
//! - Every character that is not white space at a cut lies in exactly one passage.
//!
//! Merging by length alone was rejected: it shifts every later passage of the document.

use serde::{Deserialize, Serialize};
use text_splitter::TextSplitter;
use unicode_segmentation::UnicodeSegmentation;

/// Lengths of passages, in bytes of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PassageSizes {
    /// A passage is not ended by hash before it has this many bytes.
    pub min: usize,
    /// No passage is longer than this.
    pub max: usize,
}

impl Default for PassageSizes {
    /// 160 to 720 bytes: roughly 40 to 180 tokens of English.
    fn default() -> Self {
        Self { min: 160, max: 720 }
    }
}

/// The passages of a text, in order, trimmed of surrounding white space.
pub fn split(text: &str, sizes: PassageSizes) -> Vec<&str> {
    let mut units = Vec::new();
    for paragraph in paragraphs(text) {
        push_units(text, paragraph, sizes, &mut units);
    }
    let mut passages = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for unit in units {
        if let Some((start, end)) = open
            && (unit.is_heading || unit.end - start > sizes.max)
        {
            passages.push(text[start..end].trim());
            open = None;
        }
        let start = open.map_or(unit.start, |(start, _)| start);
        let ends = !unit.is_heading
            && unit.end - start >= sizes.min
            && ends_by_hash(&text[unit.start..unit.end]);
        if ends {
            passages.push(text[start..unit.end].trim());
            open = None;
        } else {
            open = Some((start, unit.end));
        }
    }
    if let Some((start, end)) = open {
        passages.push(text[start..end].trim());
    }
    passages.retain(|passage| !passage.is_empty());
    passages
}

/// A stretch of text that is never cut further: `[start, end)` in bytes.
struct Unit {
    start: usize,
    end: usize,
    is_heading: bool,
}

/// One unit in two ends a passage, decided by the unit's own text.
fn ends_by_hash(unit: &str) -> bool {
    blake3::hash(unit.trim().as_bytes()).as_bytes()[0] & 1 == 0
}

/// Byte ranges of the paragraphs of a text.
fn paragraphs(text: &str) -> Vec<Unit> {
    let mut paragraphs = Vec::new();
    let mut open: Option<usize> = None;
    let mut in_fence = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let content = line.trim();
        let is_fence = content.starts_with("```") || content.starts_with("~~~");
        let is_heading = !in_fence && is_markdown_heading(content);
        if !in_fence && (content.is_empty() || is_heading) {
            if let Some(first) = open.take() {
                paragraphs.push(Unit {
                    start: first,
                    end: start,
                    is_heading: false,
                });
            }
            if is_heading {
                paragraphs.push(Unit {
                    start,
                    end,
                    is_heading: true,
                });
            }
        } else {
            open.get_or_insert(start);
        }
        if is_fence {
            in_fence = !in_fence;
        }
    }
    if let Some(first) = open {
        paragraphs.push(Unit {
            start: first,
            end: text.len(),
            is_heading: false,
        });
    }
    paragraphs
}

fn is_markdown_heading(line: &str) -> bool {
    let hashes = line.bytes().take_while(|b| *b == b'#').count();
    (1..=6).contains(&hashes) && line[hashes..].starts_with([' ', '\t'])
}

/// A paragraph as units: itself, its sentences where it is too long, and pieces of a
/// sentence where that is too long as well.
fn push_units(text: &str, paragraph: Unit, sizes: PassageSizes, units: &mut Vec<Unit>) {
    if paragraph.end - paragraph.start <= sizes.max {
        units.push(paragraph);
        return;
    }
    let body = &text[paragraph.start..paragraph.end];
    for (offset, sentence) in body.split_sentence_bound_indices() {
        let start = paragraph.start + offset;
        if sentence.len() <= sizes.max {
            units.push(Unit {
                start,
                end: start + sentence.len(),
                is_heading: false,
            });
            continue;
        }
        for (inner, piece) in pieces(sentence, sizes.max) {
            let start = start + inner;
            units.push(Unit {
                start,
                end: start + piece.len(),
                is_heading: false,
            });
        }
    }
}

/// The splitter by words looks at all that is left of a sentence for each piece, so a sentence of a megabyte
/// (base64, one line of JSON, a character again and again) took it most of a minute. What is longer than
/// this, in bytes, is given to it in stretches.
const MAX_STRETCH: usize = 16 << 10;

/// Pieces of at most `max` bytes of a sentence, cut between words where there are any.
fn pieces(sentence: &str, max: usize) -> impl Iterator<Item = (usize, &str)> {
    // The splitter counts characters; a quarter of the bytes is always within the limit.
    let by_words = TextSplitter::new(max.div_ceil(4).max(1));
    let stretches = stretches(sentence).into_iter();
    stretches.flat_map(move |(start, stretch)| {
        let pieces = by_words.chunk_indices(stretch);
        let pieces = pieces.map(|(offset, piece)| (start + offset, piece));
        pieces.collect::<Vec<_>>()
    })
}

/// A sentence in stretches of bounded length, which end between words where a word ends in their second half.
/// One that is no longer than the bound is one stretch, so ordinary texts are cut where they ever were.
fn stretches(sentence: &str) -> Vec<(usize, &str)> {
    let (mut stretches, mut start) = (Vec::new(), 0);
    while sentence.len() - start > MAX_STRETCH {
        let left = &sentence[start..];
        let mut most = MAX_STRETCH;
        while !left.is_char_boundary(most) {
            most -= 1;
        }
        let blank = left[..most].rfind(char::is_whitespace);
        let cut = blank.filter(|at| *at >= MAX_STRETCH / 2).unwrap_or(most);
        stretches.push((start, &left[..cut]));
        start += cut;
    }
    stretches.push((start, &sentence[start..]));
    stretches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZES: PassageSizes = PassageSizes { min: 40, max: 160 };

    #[test]
    fn a_heading_starts_a_passage_and_stays_with_what_follows() {
        let text = "Intro line.\n\n# One\n\nBody of one.\n\n# Two\n\nBody of two.\n";
        assert_eq!(
            split(text, PassageSizes::default()),
            [
                "Intro line.",
                "# One\n\nBody of one.",
                "# Two\n\nBody of two."
            ]
        );
    }

    #[test]
    fn a_fence_is_not_cut_at_its_blank_lines() {
        let text = "```\na\n\n# not a heading\n```\n";
        assert_eq!(split(text, PassageSizes::default()), [text.trim()]);
    }

    /// What the splitter by words is given is bounded, whatever a text is made of, and nothing of it is lost.
    #[test]
    fn a_text_without_words_or_sentences_is_cut_in_bounded_stretches() {
        let long = 5 * MAX_STRETCH + 7;
        let texts = [
            "a".repeat(long),
            "7".repeat(long),
            "!".repeat(long),
            "word ".repeat(long / 5),
            "\u{4e2d}".repeat(long / 3),
            "\u{1f468}\u{200d}\u{1f469}\u{200d}".repeat(long / 14),
            format!("e{}", "\u{301}".repeat(long / 2)),
            "{\"a\":[1,2,3],".repeat(long / 13),
            " ".repeat(long),
            "\n".repeat(long),
        ];
        for text in texts {
            let cut = stretches(&text);
            assert!(cut.iter().all(|(_, stretch)| stretch.len() <= MAX_STRETCH));
            let mut end = 0;
            for (start, stretch) in &cut {
                assert_eq!(*start, end);
                end += stretch.len();
            }
            assert_eq!(end, text.len());
            let is_shown = |c: &char| !c.is_whitespace();
            let passages = split(&text, SIZES);
            assert!(passages.iter().all(|passage| passage.len() <= SIZES.max));
            let kept = passages.iter().flat_map(|passage| passage.chars());
            assert!(kept.filter(is_shown).eq(text.chars().filter(is_shown)));
        }
    }

    #[test]
    fn a_long_sentence_is_cut_as_ever_up_to_the_bound() {
        let words = (0..4_000).map(|i| format!("w{i}")).collect::<Vec<_>>();
        let mut sentence = words.join(" ");
        sentence.truncate(MAX_STRETCH);
        let whole: Vec<(usize, &str)> = TextSplitter::new(SIZES.max / 4)
            .chunk_indices(&sentence)
            .collect();
        assert!(pieces(&sentence, SIZES.max).eq(whole));
        // Words stay whole behind it, too.
        sentence = words.join(" ");
        assert!(sentence.len() > MAX_STRETCH);
        let all = pieces(&sentence, SIZES.max).flat_map(|(_, piece)| piece.split(' '));
        assert!(all.eq(words.iter().map(String::as_str)));
    }

    #[test]
    fn an_edit_changes_few_passages() {
        let paragraphs: Vec<String> = (0..200)
            .map(|i| {
                format!(
                    "Paragraph {i} speaks of topic {} at some length here.",
                    i * 7919 % 101
                )
            })
            .collect();
        let before_text = paragraphs.join("\n\n");
        let before = split(&before_text, SIZES);
        let mut changed_total = 0;
        for edited in 0..paragraphs.len() {
            let mut paragraphs = paragraphs.clone();
            paragraphs[edited].push_str(" And more.");
            let text = paragraphs.join("\n\n");
            let after = split(&text, SIZES);
            let fresh = after.iter().filter(|p| !before.contains(p)).count();
            assert!(
                fresh <= 8,
                "editing paragraph {edited} made {fresh} new passages"
            );
            changed_total += fresh;
        }
        assert!(
            changed_total <= 400,
            "{changed_total} new passages over 200 edits"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(
            text in "([a-zé# \n.`]{0,40}\n{0,3}){0,30}",
        ) {
            let passages = split(&text, SIZES);
            let squeeze = |s: &str| s.split_whitespace().collect::<String>();
            prop_assert_eq!(squeeze(&passages.concat()), squeeze(&text));
            for passage in &passages {
                prop_assert!(passage.len() <= SIZES.max);
            }
        }

        #[test]
        fn long_words_are_cut(text in "[a-zß]{0,2000}") {
            for passage in split(&text, SIZES) {
                prop_assert!(passage.len() <= SIZES.max);
            }
        }
    }
}
