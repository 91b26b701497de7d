//! What changed between two answers, sentence by sentence of the new one?
//!
//! # Invariants
//! - What is same or added, joined over all sentences, is the new text; what is same or
//!   removed is the old one (unless the new one has no sentence to show it in).
//! - Words are whole: a change never begins inside one.

use std::ops::Range;

use similar::{Algorithm, ChangeTag, TextDiff};

/// Between two changes, so few words that stayed are read more easily as changed, too.
const LEAST_SAME_WORDS: usize = 2;
/// Below this part of words that stayed, the new text is shown as new, whole.
const LEAST_SAME_PART: f64 = 0.25;

/// A piece of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it was.
    Same(String),
    /// Only in the old answer.
    Removed(String),
    /// Only in the new answer.
    Added(String),
}

/// A stretch that stayed, or was replaced (either side may be empty).
enum Stretch {
    Same(String),
    Replaced { old: String, new: String },
}

/// The pieces of each sentence of `new`, whose sentences stand at `ranges`.
pub(crate) fn by_sentence(old: &str, new: &str, ranges: &[Range<usize>]) -> Vec<Vec<Piece>> {
    let stretches = whole_if_little_stayed(joined(stretches(old, new)), old, new);
    let mut sentences = Sentences {
        ranges,
        pieces: vec![Vec::new(); ranges.len()],
        at: 0,
        index: 0,
    };
    for stretch in stretches {
        match stretch {
            Stretch::Same(text) => sentences.put(&text, Piece::Same),
            Stretch::Replaced { old, new } => {
                sentences.put_removed(old);
                sentences.put(&new, Piece::Added);
            }
        }
    }
    sentences.pieces
}

fn stretches(old: &str, new: &str) -> Vec<Stretch> {
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Patience)
        .diff_unicode_words(old, new);
    let mut stretches: Vec<Stretch> = Vec::new();
    for change in diff.iter_all_changes() {
        let text = change.value();
        match (change.tag(), stretches.last_mut()) {
            (ChangeTag::Equal, Some(Stretch::Same(same))) => same.push_str(text),
            (ChangeTag::Equal, _) => stretches.push(Stretch::Same(text.to_owned())),
            (ChangeTag::Delete, Some(Stretch::Replaced { old, .. })) => old.push_str(text),
            (ChangeTag::Insert, Some(Stretch::Replaced { new, .. })) => new.push_str(text),
            (tag, _) => {
                let is_old = tag == ChangeTag::Delete;
                let side = |wanted| {
                    if wanted {
                        text.to_owned()
                    } else {
                        String::new()
                    }
                };
                stretches.push(Stretch::Replaced {
                    old: side(is_old),
                    new: side(!is_old),
                });
            }
        }
    }
    stretches
}

/// Joins changes with hardly a word between them.
fn joined(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let mut joined: Vec<Stretch> = Vec::new();
    let mut rest = stretches.into_iter().peekable();
    while let Some(stretch) = rest.next() {
        let is_between = matches!(joined.last(), Some(Stretch::Replaced { .. }))
            && matches!(rest.peek(), Some(Stretch::Replaced { .. }));
        match (stretch, joined.last_mut()) {
            (Stretch::Same(same), Some(Stretch::Replaced { old, new }))
                if is_between && same.split_whitespace().count() < LEAST_SAME_WORDS =>
            {
                old.push_str(&same);
                new.push_str(&same);
            }
            (
                Stretch::Replaced {
                    old: more_old,
                    new: more_new,
                },
                Some(Stretch::Replaced { old, new }),
            ) => {
                old.push_str(&more_old);
                new.push_str(&more_new);
            }
            (stretch, _) => joined.push(stretch),
        }
    }
    joined
}

fn whole_if_little_stayed(stretches: Vec<Stretch>, old: &str, new: &str) -> Vec<Stretch> {
    let n_words = |text: &str| text.split_whitespace().count();
    let n_same: usize = stretches
        .iter()
        .map(|stretch| match stretch {
            Stretch::Same(text) => n_words(text),
            Stretch::Replaced { .. } => 0,
        })
        .sum();
    if n_same as f64 >= LEAST_SAME_PART * n_words(new) as f64 {
        return stretches;
    }
    vec![Stretch::Replaced {
        old: old.to_owned(),
        new: new.to_owned(),
    }]
}

struct Sentences<'a> {
    ranges: &'a [Range<usize>],
    pieces: Vec<Vec<Piece>>,
    /// Byte of the new text that comes next.
    at: usize,
    /// The sentence that it belongs to.
    index: usize,
}

impl Sentences<'_> {
    /// Puts text of the new answer, cut where sentences end.
    fn put(&mut self, mut text: &str, piece: fn(String) -> Piece) {
        while !text.is_empty() {
            self.settle();
            let Some(range) = self.ranges.get(self.index) else {
                return;
            };
            let (head, tail) = text.split_at(text.len().min(range.end - self.at));
            self.pieces[self.index].push(piece(head.to_owned()));
            self.at += head.len();
            text = tail;
        }
    }

    /// Puts text of the old answer where the new one stands now.
    fn put_removed(&mut self, text: String) {
        self.settle();
        let last = self.pieces.len().saturating_sub(1);
        if let Some(pieces) = self.pieces.get_mut(self.index.min(last))
            && !text.is_empty()
        {
            pieces.push(Piece::Removed(text));
        }
    }

    /// Goes on to the sentence that the next byte belongs to.
    fn settle(&mut self) {
        while self
            .ranges
            .get(self.index)
            .is_some_and(|range| range.end <= self.at)
        {
            self.index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial::ask::provenance::sub_paragraphs;
    use proptest::prelude::*;

    use super::*;

    fn shown(old: &str, new: &str) -> Vec<String> {
        let sentences = by_sentence(old, new, &sub_paragraphs(new));
        let piece = |piece: &Piece| match piece {
            Piece::Same(text) => text.clone(),
            Piece::Removed(text) => format!("[-{text}-]"),
            Piece::Added(text) => format!("{{+{text}+}}"),
        };
        sentences
            .iter()
            .map(|pieces| pieces.iter().map(piece).collect())
            .collect()
    }

    #[test]
    fn a_changed_word_stands_in_its_sentence() {
        let old = "The ferry leaves at nine. A ticket costs 12 crowns.";
        let new = "The ferry leaves at nine. A ticket costs 14 crowns.";
        assert_eq!(
            shown(old, new),
            [
                "The ferry leaves at nine. ",
                "A ticket costs [-12-]{+14+} crowns."
            ]
        );
    }

    #[test]
    fn sentences_come_and_go_whole() {
        let old = "One stays here always. Two goes away now.";
        assert_eq!(
            shown(old, "One stays here always."),
            ["One stays here always.[- Two goes away now.-]"]
        );
        assert_eq!(
            shown("One stays here always.", old),
            ["One stays here always.{+ +}", "{+Two goes away now.+}"]
        );
        assert_eq!(
            shown("Yes.", "Quite another thing."),
            ["[-Yes-]{+Quite another thing+}."]
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost(old in "([abc]{1,3}[ .\n]{1,2}){0,12}", new in "([abc]{1,3}[ .\n]{1,2}){1,12}") {
            let (mut was, mut is) = (String::new(), String::new());
            for piece in by_sentence(&old, &new, &sub_paragraphs(&new)).into_iter().flatten() {
                match piece {
                    Piece::Same(text) => { was.push_str(&text); is.push_str(&text); }
                    Piece::Removed(text) => was.push_str(&text),
                    Piece::Added(text) => is.push_str(&text),
                }
            }
            prop_assert_eq!(was, old);
            prop_assert_eq!(is, new);
        }
    }
}
