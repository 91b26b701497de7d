//! How much less likely is an answer without a passage?
//!
//! An answer that stands is scored again over its layout without one of the passages. Where its tokens
//! are less likely then, it depended on that passage: the difference of their mean log-probabilities is
//! how much, for each sub-paragraph by its own tokens. That costs one reading of the prompt for each
//! passage, and writes nothing; so it is done for a few passages, and when nothing else is to do.
//!
//! What was not left out has a score of 0: nothing is known of it.

use crate::answer::SubParagraph;
use crate::dependency::{Dependencies, Evidence, Read};
use crate::provenance;
use perennial_bank::document::LayoutPassage;

/// Differences below this are those of one server's arithmetic, in nats a token.
const NOISE: f32 = 0.01;
/// What one token counts at most: a likelihood of nothing would hide all others.
const MOST_OF_A_TOKEN: f32 = 20.0;

/// Mean log-probabilities of the sub-paragraphs of a text, in nats a token. Of each token: the byte at
/// which it ends, and its log-probability.
pub fn means(text: &str, tokens: &[(usize, f32)]) -> Vec<f32> {
    let ends: Vec<usize> = tokens.iter().map(|(end, _)| *end).collect();
    let parts = provenance::parts(text, &ends).into_iter();
    let mean = |of: &[(usize, f32)]| {
        let sum: f32 = of
            .iter()
            .map(|(_, logprob)| logprob.max(-MOST_OF_A_TOKEN))
            .sum();
        sum / of.len().max(1) as f32
    };
    parts.map(|part| mean(&tokens[part.tokens])).collect()
}

/// What the sub-paragraphs of a text depend on. Both are [`means`]: with all passages, and without each of
/// those that were left out.
pub fn attributed(
    text: &str,
    with_all: &[f32],
    without: &[Option<Vec<f32>>],
    passages: &[LayoutPassage],
) -> (Vec<SubParagraph>, Dependencies) {
    let lost = |part: usize, without: &Option<Vec<f32>>| {
        let without = without.as_ref().and_then(|means| means.get(part));
        let lost = without.map_or(0.0, |without| with_all[part] - without);
        if lost < NOISE { 0.0 } else { lost }
    };
    let mass: Vec<Vec<f32>> = (0..with_all.len())
        .map(|part| without.iter().map(|without| lost(part, without)).collect())
        .collect();
    // One "token" a sub-paragraph.
    let ranges = provenance::sub_paragraphs(text);
    let ends: Vec<usize> = ranges.iter().map(|range| range.end).collect();
    let parts = provenance::parts(text, &ends);
    let sub_paragraphs = provenance::attribute(text, &parts, &mass, passages);
    let read: Vec<Read> = mass
        .into_iter()
        .map(|mass| Read {
            mass,
            least_margin: 1.0,
            n_tokens: 1,
        })
        .collect();
    let nothing = vec![0.0; passages.len()];
    let dependencies = Dependencies::of(&nothing, &read).by(Evidence::LeaveOneOut);
    (sub_paragraphs, dependencies)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perennial_bank::document::DocumentKey;
    use perennial_bank::id::PassageId;

    use super::*;

    fn passage(key: &str) -> LayoutPassage {
        LayoutPassage {
            document: DocumentKey::new(key),
            ordinal: 0,
            id: PassageId::of(key, key),
            title: key.into(),
            text: key.into(),
            tokens: Arc::default(),
            is_superseded: false,
            copies: Arc::default(),
        }
    }

    const TEXT: &str = "It opens at nine. It costs five.";

    #[test]
    fn each_sentence_has_the_mean_of_its_own_tokens() {
        let second = TEXT.find("It costs").expect("a sentence");
        let tokens = [
            (8, -1.0),
            (second, -3.0),
            (TEXT.len() - 5, -0.5),
            (TEXT.len(), f32::NEG_INFINITY),
        ];
        assert_eq!(means(TEXT, &tokens), [-2.0, -10.25]);
        assert_eq!(means("", &[]), [0f32; 0]);
    }

    #[test]
    fn a_sentence_depends_on_what_makes_it_likelier() {
        let passages = ["hours", "prices", "weather", "unasked"].map(passage);
        let without = [
            Some(vec![-3.0, -0.25]),
            Some(vec![-0.5, -1.25]),
            // Likelier without it, and as likely but for rounding.
            Some(vec![-0.25, -0.251]),
            None,
        ];
        let (parts, dependencies) = attributed(TEXT, &[-0.5, -0.25], &without, &passages);
        assert_eq!(dependencies.evidence(), Evidence::LeaveOneOut);
        assert_eq!(
            dependencies.scores(),
            [vec![2.5, 0.0, 0.0, 0.0], vec![0.0, 1.0, 0.0, 0.0]]
        );
        let leans: Vec<&str> = parts
            .iter()
            .map(|part| part.sources[0].document.as_str())
            .collect();
        assert_eq!(leans, ["hours", "prices"]);
    }
}
