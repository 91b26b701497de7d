//! How good is a short answer? SQuAD's two measures, as its official script has them.
//!
//! Both sides are normalised: lower case, ASCII punctuation removed, the articles
//! *a*, *an*, *the* removed, white space collapsed. Exact match compares the rest; F1 is
//! the harmonic mean of precision and recall over its words, counted with repetition.
//! The best of several gold answers counts. Models that answer in sentences score low in
//! both; whether the gold answer's words stand in the answer, in a row, is a third measure.
//!
//! Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of
//! Text", 2016, `evaluate-v1.1.py`.

use std::collections::HashMap;

/// The measures of one answer, or their means over many; each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Harmonic mean of word precision and recall.
    pub f1: f64,
    /// 1 where the normalised texts are equal.
    pub exact_match: f64,
    /// 1 where the gold answer's words stand in the answer, in a row.
    pub contains: f64,
}

impl Score {
    /// The best score of `answer` against any of `golds`.
    pub fn of(answer: &str, golds: &[String]) -> Self {
        let answer = normalised(answer);
        golds.iter().fold(Self::default(), |best, gold| {
            let gold = normalised(gold);
            Self {
                f1: best.f1.max(f1(&answer, &gold)),
                exact_match: best.exact_match.max(f64::from(u8::from(answer == gold))),
                contains: best
                    .contains
                    .max(f64::from(u8::from(contains(&answer, &gold)))),
            }
        })
    }

    /// The mean of both measures; zero of nothing.
    pub fn mean(scores: &[Self]) -> Self {
        let n = scores.len().max(1) as f64;
        Self {
            f1: scores.iter().map(|score| score.f1).sum::<f64>() / n,
            exact_match: scores.iter().map(|score| score.exact_match).sum::<f64>() / n,
            contains: scores.iter().map(|score| score.contains).sum::<f64>() / n,
        }
    }
}

/// Whether two answers are the same once normalised.
pub fn agree(one: &str, other: &str) -> bool {
    normalised(one) == normalised(other)
}

/// The words that count, in order.
fn normalised(text: &str) -> Vec<String> {
    text.to_lowercase()
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect::<String>()
        .split_whitespace()
        .filter(|word| !matches!(*word, "a" | "an" | "the"))
        .map(str::to_owned)
        .collect()
}

fn contains(answer: &[String], gold: &[String]) -> bool {
    gold.is_empty() || answer.windows(gold.len()).any(|words| words == gold)
}

fn f1(answer: &[String], gold: &[String]) -> f64 {
    if answer.is_empty() || gold.is_empty() {
        return f64::from(u8::from(answer == gold));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in gold {
        *left.entry(word).or_default() += 1;
    }
    let mut n_shared = 0_usize;
    for word in answer {
        if let Some(count) = left.get_mut(word.as_str())
            && *count > 0
        {
            *count -= 1;
            n_shared += 1;
        }
    }
    if n_shared == 0 {
        return 0.0;
    }
    let precision = n_shared as f64 / answer.len() as f64;
    let recall = n_shared as f64 / gold.len() as f64;
    2.0 * precision * recall / (precision + recall)
}
