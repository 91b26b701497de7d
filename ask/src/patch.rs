//! What would the old answer be if only words were exchanged?
//!
//! A correction often replaces a few words of a passage by others: a price, a name, a date.
//! Where the old words stand in the old answer, the answer with the new ones is a better
//! draft than the old one: one verifying pass and it stands. It is a draft and nothing
//! more; the model decides.

use similar::{Algorithm, DiffOp, capture_diff_slices};
use unicode_segmentation::UnicodeSegmentation;

/// Longest run of words that counts as a substitution.
const MAX_WORDS: usize = 24;

/// Words of an old text and those that stand in their place in the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitution<'a> {
    old: Vec<&'a str>,
    new: String,
}

/// The literal substitutions that make `new` of `old`.
pub fn substitutions<'a>(old: &'a str, new: &str) -> Vec<Substitution<'a>> {
    let (old, new) = (words(old), words(new));
    let ops = capture_diff_slices(Algorithm::Myers, &old, &new);
    let substitution = |op: &DiffOp| match *op {
        DiffOp::Replace {
            old_index,
            old_len,
            new_index,
            new_len,
        } if old_len.max(new_len) <= MAX_WORDS => {
            let old = trimmed(&old[old_index..old_index + old_len]).to_vec();
            let new = new[new_index..new_index + new_len].concat();
            let new = new.trim().to_owned();
            let says_something = |word: &&str| word.chars().any(char::is_alphanumeric);
            let is_one = old.iter().any(says_something) && !new.is_empty();
            is_one.then_some(Substitution { old, new })
        }
        _ => None,
    };
    ops.iter().filter_map(substitution).collect()
}

/// The answer with every substitution carried out; `None` if no old words stand in it.
pub fn patched(answer: &str, substitutions: &[Substitution<'_>]) -> Option<String> {
    let answer = words(answer);
    let mut patched = String::new();
    let mut n_patched = 0;
    let mut at = 0;
    while at < answer.len() {
        let stands_here = |s: &&Substitution<'_>| answer[at..].starts_with(&s.old);
        match substitutions.iter().find(stands_here) {
            Some(substitution) => {
                patched.push_str(&substitution.new);
                at += substitution.old.len();
                n_patched += 1;
            }
            None => {
                patched.push_str(answer[at]);
                at += 1;
            }
        }
    }
    (n_patched > 0).then_some(patched)
}

/// Words, punctuation and white space, in order.
fn words(text: &str) -> Vec<&str> {
    text.split_word_bounds().collect()
}

fn trimmed<'a, 'b>(mut words: &'b [&'a str]) -> &'b [&'a str] {
    while let [first, rest @ ..] = words
        && first.trim().is_empty()
    {
        words = rest;
    }
    while let [rest @ .., last] = words
        && last.trim().is_empty()
    {
        words = rest;
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_corrected_word_is_corrected_in_the_answer() {
        let old = "The boat costs 14 crowns. The archivist is Kenji Mori.";
        let new = "The boat costs 18 crowns. The archivist is Ingrid van Dahl.";
        let found = substitutions(old, new);
        let patch = |answer| patched(answer, &found);
        assert_eq!(
            patch("You pay 14 crowns (not 140).").as_deref(),
            Some("You pay 18 crowns (not 140).")
        );
        assert_eq!(
            patch("Kenji Mori is.").as_deref(),
            Some("Ingrid van Dahl is.")
        );
        assert_eq!(patch("Nobody knows."), None);
    }

    #[test]
    fn what_was_only_added_or_removed_is_no_substitution() {
        assert_eq!(substitutions("a b", "a b c"), []);
        assert_eq!(substitutions("a, b", "a; b"), []);
    }

    proptest! {
        #[test]
        fn substitutions_never_panic(old in ".{0,80}", new in ".{0,80}", answer in ".{0,80}") {
            let found = substitutions(&old, &new);
            let _ = patched(&answer, &found);
        }
    }
}
