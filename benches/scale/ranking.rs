//! How were selections maintained before? Each context ranks all passages in a tree, and
//! every change of a passage is a change of every context.
//!
//! A plain copy of that algorithm, kept to measure against, and for nothing else.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use perennial::bank::Passage;
use perennial::operators::select::Vector;

#[derive(Clone, Copy, PartialEq)]
struct Score(f32);
impl Eq for Score {}
impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

struct Ranking {
    vector: Vector,
    ranked: BTreeSet<(Reverse<Score>, Arc<Passage>)>,
    selected: Vec<Arc<Passage>>,
}

/// All contexts with all passages.
pub(crate) struct Rankings {
    budget_tokens: usize,
    passages: HashMap<Arc<Passage>, Vector>,
    contexts: Vec<Ranking>,
}

impl Rankings {
    /// Ranks all passages for each context, and selects.
    pub(crate) fn build(
        passages: impl Iterator<Item = (Passage, Vector)>,
        contexts: impl Iterator<Item = Vector>,
        budget_tokens: usize,
    ) -> Self {
        let passages: HashMap<Arc<Passage>, Vector> = passages
            .map(|(passage, vector)| (Arc::new(passage), vector))
            .collect();
        let ranking = |vector: Vector| {
            let ranked = passages.iter().map(|(p, v)| rank(&vector, p, v)).collect();
            let mut ranking = Ranking {
                vector,
                ranked,
                selected: Vec::new(),
            };
            ranking.selected = ranking.best(budget_tokens);
            ranking
        };
        let contexts = contexts.map(ranking).collect();
        Self {
            budget_tokens,
            passages,
            contexts,
        }
    }

    /// Inserts or removes one passage, and says how many selections became others.
    pub(crate) fn change(&mut self, passage: Passage, vector: Vector, is_new: bool) -> usize {
        let passage = Arc::new(passage);
        let mut n_changed = 0;
        for ranking in &mut self.contexts {
            let rank = rank(&ranking.vector, &passage, &vector);
            if is_new {
                ranking.ranked.insert(rank);
            } else {
                ranking.ranked.remove(&rank);
            }
            let selected = ranking.best(self.budget_tokens);
            n_changed += usize::from(selected != ranking.selected);
            ranking.selected = selected;
        }
        if is_new {
            self.passages.insert(passage, vector);
        } else {
            self.passages.remove(&passage);
        }
        n_changed
    }

    /// The selection of each context, best first.
    pub(crate) fn selected(&self) -> impl Iterator<Item = &[Arc<Passage>]> {
        self.contexts.iter().map(|ranking| &*ranking.selected)
    }
}

fn rank(query: &Vector, passage: &Arc<Passage>, vector: &Vector) -> (Reverse<Score>, Arc<Passage>) {
    let score = query.elements().zip(vector.elements()).map(|(a, b)| a * b);
    (Reverse(Score(score.sum())), passage.clone())
}

impl Ranking {
    fn best(&self, budget_tokens: usize) -> Vec<Arc<Passage>> {
        let mut left = budget_tokens;
        let mut best = Vec::new();
        for (_, passage) in &self.ranked {
            let Some(rest) = left.checked_sub(passage.tokens.len()) else {
                break;
            };
            left = rest;
            best.push(passage.clone());
        }
        best
    }
}
