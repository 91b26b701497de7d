//! On which passages does an answer lean, by its words?
//!
//! A model behind HTTP does not show its attention. A sentence is said to lean on the passages that share
//! its rarer words: the inverse document frequencies of the words that both hold, over the passages of
//! the layout, counted doubly where the question does not hold them. That is evidence, not lineage: it
//! names what says the same, and misses what was said in other words.

use std::collections::{BTreeSet, HashMap};

use unicode_segmentation::UnicodeSegmentation;

use crate::answer::SubParagraph;
use crate::dependency::{Dependencies, Evidence, Read};
use crate::provenance;
use perennial_bank::document::LayoutPassage;

/// The sub-paragraphs of an answer with the passages that share its words, and how much it depends on
/// each.
///
/// Superseded passages are leant on by none.
pub fn attributed(
    text: &str,
    question: &str,
    passages: &[LayoutPassage],
) -> (Vec<SubParagraph>, Dependencies) {
    let of_passages: Vec<BTreeSet<String>> = passages
        .iter()
        .map(|passage| match passage.is_superseded {
            true => BTreeSet::new(),
            false => words(&passage.title).chain(words(&passage.text)).collect(),
        })
        .collect();
    let mut n_with: HashMap<&str, usize> = HashMap::new();
    for word in of_passages.iter().flatten() {
        *n_with.entry(word).or_default() += 1;
    }
    let asked: BTreeSet<String> = words(question).collect();
    let n = passages.len() as f32;
    let weight = |word: &String| match n_with.get(word.as_str()) {
        None => 0.0,
        Some(n_with) => {
            let rarity = ((n + 1.0) / (*n_with as f32)).ln();
            if asked.contains(word) {
                rarity
            } else {
                2.0 * rarity
            }
        }
    };
    // One "token" a sub-paragraph.
    let ranges = provenance::sub_paragraphs(text);
    let ends: Vec<usize> = ranges.iter().map(|range| range.end).collect();
    let mass: Vec<Vec<f32>> = ranges
        .iter()
        .map(|range| {
            let said: BTreeSet<String> = words(&text[range.clone()]).collect();
            let of = |held: &BTreeSet<String>| said.intersection(held).map(weight).sum();
            normal(of_passages.iter().map(of).collect())
        })
        .collect();
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
    let dependencies = Dependencies::of(&nothing, &read).by(Evidence::Lexical);
    (sub_paragraphs, dependencies)
}

/// The same numbers, adding up to one where there is anything.
fn normal(mut mass: Vec<f32>) -> Vec<f32> {
    let sum: f32 = mass.iter().sum();
    if sum > 0.0 {
        mass.iter_mut().for_each(|m| *m /= sum);
    }
    mass
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.unicode_words().map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_bank::document::DocumentKey;
    use perennial_bank::id::PassageId;

    #[test]
    fn a_sentence_leans_on_the_passage_that_says_the_same() {
        let passage = |key: &str, text: &str| LayoutPassage {
            document: DocumentKey::new(key),
            ordinal: 0,
            id: PassageId::of(key, text),
            title: key.into(),
            text: text.into(),
            tokens: Arc::default(),
            is_superseded: false,
            copies: Arc::default(),
        };
        let passages = [
            passage("hours", "The museum opens at nine."),
            passage("tickets", "A ticket for the museum costs five crowns."),
        ];
        let text = "The museum opens at nine. A ticket costs five crowns.";
        let question = "When does the museum open, and what does it cost?";
        let (parts, dependencies) = attributed(text, question, &passages);
        let leans: Vec<&str> = parts
            .iter()
            .map(|part| part.sources[0].document.as_str())
            .collect();
        assert_eq!(leans, ["hours", "tickets"]);
        assert_eq!(dependencies.len(), 2);
        let (none, _) = attributed("Quite so.", question, &passages);
        assert!(none[0].sources.is_empty());
    }

    use std::sync::Arc;
}
