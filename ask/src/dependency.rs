//! Which sub-paragraph of an answer depends on which passage, and how much?
//!
//! A sub-paragraph's score for a passage is
//!
//! ```text
//! (attention of the question's tokens + attention of its own tokens) / sqrt(least margin)
//! ```
//! Both attentions are shares of the softmax that went to the passage's fragment, meant over
//! tokens, and over all heads of the upper half of the layers; the margin is the least
//! difference of logits at which one of its tokens was chosen. So a score is high where the
//! passage was read, and where little was needed to change what was written. Attention is a
//! guess: it says what is likely to change and what can wait, never what stands.
//!
//! The measure was chosen by `cargo bench --bench dependencies`, which holds it against the
//! truth: each passage is deleted and the answer written again.

use serde::{Deserialize, Serialize};

use perennial_bank::document::{ContextKey, DocumentKey};

/// Least margin that is told apart, in logits: below it everything is a tie.
const LEAST_MARGIN: f32 = 0.01;

/// What tells that an answer depends on a passage. It is shown beside every dependency: the three are
/// not equally good (`cargo bench --bench dependencies`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The model's attention, as above.
    #[default]
    Attention,
    /// The answer was scored again without the passage: by how much less likely it is then, in nats a
    /// token.
    LeaveOneOut,
    /// Both have the same rare words.
    Lexical,
}

impl Evidence {
    /// As it is written: `attention`, `leave-one-out` or `lexical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::LeaveOneOut => "leave-one-out",
            Self::Lexical => "lexical",
        }
    }
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Scores of an answer's sub-paragraphs for the passages of its layout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dependencies {
    /// `[n_sub_paragraphs][n_passages]`.
    scores: Vec<Vec<f32>>,
    /// By sub-paragraph: its number of tokens, and their least margin.
    parts: Vec<(usize, f32)>,
    /// What the scores come from. It is not stored: which kind of model said an answer is known.
    #[serde(skip)]
    evidence: Evidence,
}

/// One row of the relation that views keep: arranged by document, it says which
/// sub-paragraphs a change of the document touches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dependency {
    /// The document that is depended on.
    pub document: DocumentKey,
    /// Its passage, counted from 0.
    pub ordinal: u32,
    /// Whose answer depends on it.
    pub context: ContextKey,
    /// Which part of the answer, counted from 0.
    pub sub_paragraph: u32,
    /// The score in thousandths, at least 1.
    pub score: u32,
    /// What the score comes from.
    pub evidence: Evidence,
}

/// What is known of one sub-paragraph: attention of its tokens to each passage, meant, and the
/// least margin among them.
#[derive(Clone, Debug)]
pub struct Read {
    /// `[n_passages]`.
    pub mass: Vec<f32>,
    /// In logits.
    pub least_margin: f32,
    /// Number of its tokens.
    pub n_tokens: usize,
}

impl Dependencies {
    /// From the question's attention to each passage and what was read for each
    /// sub-paragraph.
    pub fn of(question: &[f32], sub_paragraphs: &[Read]) -> Self {
        let score = |read: &Read| -> Vec<f32> {
            let margin = read.least_margin.max(LEAST_MARGIN).sqrt();
            let masses = question.iter().zip(&read.mass);
            masses.map(|(q, a)| (q + a) / margin).collect()
        };
        Self {
            scores: sub_paragraphs.iter().map(score).collect(),
            parts: sub_paragraphs
                .iter()
                .map(|read| (read.n_tokens, read.least_margin))
                .collect(),
            evidence: Evidence::Attention,
        }
    }

    /// The same scores, which come from other evidence.
    #[must_use]
    pub fn by(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }

    /// What the scores come from.
    pub fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// Number of sub-paragraphs.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether nothing depends on anything.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// How much the answer depends on the passage at this place of its layout: the score of
    /// the sub-paragraph that depends on it most.
    pub fn on(&self, passage: usize) -> f32 {
        let scores = self.scores.iter().filter_map(|row| row.get(passage));
        scores.copied().fold(0.0, f32::max)
    }

    /// The passages that the answer depends on, by place, most depended on first.
    pub fn strongest(&self, n_passages: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n_passages).collect();
        order.sort_by(|a, b| self.on(*b).total_cmp(&self.on(*a)).then(a.cmp(b)));
        order
    }

    /// The same answer over another layout, whose passages stood at `places` before. Nothing
    /// is known to depend on one that did not.
    pub fn carry(&mut self, places: &[Option<usize>]) {
        for row in &mut self.scores {
            let score = |place: &Option<usize>| place.and_then(|p| row.get(p)).copied();
            *row = places.iter().map(|p| score(p).unwrap_or(0.0)).collect();
        }
    }

    /// Notes what each sub-paragraph depends on the passage at this place.
    pub fn set(&mut self, passage: usize, scores: impl Iterator<Item = f32>) {
        for (row, score) in self.scores.iter_mut().zip(scores) {
            if let Some(of_passage) = row.get_mut(passage) {
                *of_passage = score;
            }
        }
    }

    /// By sub-paragraph: its tokens of the answer, and their least margin.
    pub fn parts(&self) -> impl Iterator<Item = (std::ops::Range<usize>, f32)> {
        let mut end = 0;
        self.parts.iter().map(move |(n_tokens, least_margin)| {
            let start = end;
            end += n_tokens;
            (start..end, *least_margin)
        })
    }

    /// `[n_sub_paragraphs][n_passages]`.
    pub fn scores(&self) -> &[Vec<f32>] {
        &self.scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_depends_most_on_what_was_read_where_it_was_least_sure() {
        let read = |mass: [f32; 3], least_margin| Read {
            mass: mass.to_vec(),
            least_margin,
            n_tokens: 3,
        };
        let sub_paragraphs = [read([0.1, 0.3, 0.0], 4.0), read([0.2, 0.0, 0.0], 0.25)];
        let dependencies = Dependencies::of(&[0.1, 0.1, 0.0], &sub_paragraphs);
        assert_eq!(dependencies.len(), 2);
        assert!((dependencies.on(0) - 0.3 / 0.5).abs() < 1e-6);
        assert!((dependencies.on(1) - 0.2).abs() < 1e-6, "by either");
        assert_eq!(dependencies.on(2).to_bits(), 0f32.to_bits());
        assert_eq!(dependencies.on(9).to_bits(), 0f32.to_bits());
        assert_eq!(dependencies.strongest(3), [0, 1, 2]);
        let parts: Vec<_> = dependencies.parts().collect();
        assert_eq!(parts, [(0..3, 4.0), (3..6, 0.25)]);
        let mut carried = dependencies.clone();
        carried.carry(&[Some(2), None, Some(0)]);
        carried.set(1, [0.5, 0.75].into_iter());
        assert_eq!(carried.on(1).to_bits(), 0.75f32.to_bits());
        assert_eq!(carried.on(2).to_bits(), dependencies.on(0).to_bits());
        let tie = Dependencies::of(&[0.1], &[read([0.1, 0.0, 0.0], 0.0)]);
        assert!(tie.on(0).is_finite());
    }
}
