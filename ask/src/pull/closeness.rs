//! How close is a text to a question?
//!
//! By its meaning, the cosine of two vectors of an embedding model; and by its words, the share of
//! the question's words that stand in it, where a word that few sentences have counts for more. An
//! embedding model knows that *cost* and *price* are one, and is vague about names and numbers; words
//! are the other way round.

use std::collections::BTreeSet;

use unicode_segmentation::UnicodeSegmentation;

/// What it counts that all of the question's words stand there, beside a cosine of one.
const WORDS: f32 = 0.6;

/// A sentence, a passage or a question, as it is compared.
#[derive(Debug)]
pub(super) struct Text {
    pub text: Box<str>,
    /// Of length one, where closeness is asked for.
    vector: Box<[f32]>,
    /// In small letters, each once, in order.
    pub words: Box<[Box<str>]>,
}

impl Text {
    pub fn new(text: &str, vector: Vec<f32>) -> Self {
        let words: BTreeSet<Box<str>> = text
            .unicode_words()
            .map(|word| word.to_lowercase().into())
            .collect();
        Self {
            text: text.into(),
            vector: vector.into(),
            words: words.into_iter().collect(),
        }
    }

    /// Whether this word, in small letters, stands in it.
    pub fn has(&self, word: &str) -> bool {
        self.words
            .binary_search_by(|other| (**other).cmp(word))
            .is_ok()
    }
}

/// A question, among the sentences that it may be about.
pub(super) struct Asked<'a> {
    question: &'a Text,
    /// By word of the question; together one.
    weights: Vec<f32>,
}

impl<'a> Asked<'a> {
    pub fn new<'s>(question: &'a Text, sentences: impl Iterator<Item = &'s Text> + Clone) -> Self {
        let n = sentences.clone().count() as f32;
        // As in BM25: a word of every sentence weighs nearly nothing.
        let rarity = |word: &str| {
            let n_with = sentences.clone().filter(|s| s.has(word)).count() as f32;
            (1.0 + (n - n_with + 0.5) / (n_with + 0.5)).ln()
        };
        let mut weights: Vec<f32> = question.words.iter().map(|word| rarity(word)).collect();
        let all: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= all);
        Self { question, weights }
    }

    /// How close a text is: more is closer.
    pub fn closeness(&self, text: &Text) -> f32 {
        let vectors = self.question.vector.iter().zip(&text.vector);
        let cosine: f32 = vectors.map(|(a, b)| a * b).sum();
        let words = self.question.words.iter().zip(&self.weights);
        let shared: f32 = words
            .filter(|(word, _)| text.has(word))
            .map(|(_, weight)| weight)
            .sum();
        cosine + WORDS * shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text::new(text, vec![1.0, 0.0])
    }

    #[test]
    fn rare_words_of_the_question_count_and_others_hardly() {
        let sentences = [
            "The library opens at nine.",
            "The FERRY leaves at ten.",
            "The museum is closed.",
        ]
        .map(text);
        let question = text("When does the ferry go?");
        let asked = Asked::new(&question, sentences.iter());
        let [library, ferry, museum] = [0, 1, 2].map(|i| asked.closeness(&sentences[i]));
        assert!(ferry > library + 0.05, "{ferry} {library}");
        assert!((library - museum).abs() < 1e-6);
        let itself = asked.closeness(&question);
        assert!((itself - 1.0 - WORDS).abs() < 1e-5, "{itself}");
        // Neither words nor sentences to weigh them by.
        let wordless = text("?!");
        let asked = Asked::new(&wordless, [].into_iter());
        assert!((asked.closeness(&sentences[2]) - 1.0).abs() < 1e-6);
    }
}
