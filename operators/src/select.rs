//! The passages that matter most to each context, maintained by deltas.
//!
//! # Design
//! Every worker holds all embedded passages and its share of the contexts. A context keeps
//! its passages ranked by inner product; its selection is the longest run from the top
//! whose tokens fit the budget. A delta of passages costs one inner product and one
//! insertion or removal for each context and passage; what was selected is remembered and
//! retracted as it was emitted.
//!
//! # Invariants
//! - The selection is a function of the passages and the context: ties of score are broken
//!   by the passage itself, never by the order of arrival.
//! - Exact search: nothing is approximated.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use differential_dataflow::lattice::Lattice;
use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use perennial_bank::document::{ContextKey, Passage};

/// A vector as a row of the dataflow: compared by its bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vector(Arc<[u32]>);

impl Vector {
    /// The row of this vector.
    pub fn new(elements: &[f32]) -> Self {
        Self(elements.iter().map(|x| x.to_bits()).collect())
    }

    /// Inner product, added up in the order of the elements.
    fn dot(&self, other: &Self) -> f32 {
        self.0
            .iter()
            .zip(other.0.iter())
            .map(|(a, b)| f32::from_bits(*a) * f32::from_bits(*b))
            .sum()
    }
}

/// Best first; equal scores by passage.
type Rank = (Reverse<Score>, Arc<Passage>);

#[derive(Clone, Copy, PartialEq)]
struct Score(f32);
impl Eq for Score {}
impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

struct Ranking {
    vector: Vector,
    ranked: BTreeSet<Rank>,
    selected: Vec<Arc<Passage>>,
}

/// What is known on one worker.
#[derive(Default)]
struct Selection {
    passages: HashMap<Arc<Passage>, Vector>,
    contexts: HashMap<ContextKey, Ranking>,
}

type PassageUpdate = ((Passage, Vector), isize);
type ContextUpdate = ((ContextKey, Vector), isize);

impl Selection {
    /// Applies the deltas of one time and returns the deltas of the selections.
    fn apply(
        &mut self,
        passages: Vec<PassageUpdate>,
        contexts: Vec<ContextUpdate>,
        budget_tokens: usize,
    ) -> Vec<((ContextKey, Passage), isize)> {
        let mut output = Vec::new();
        let mut dirty: HashSet<ContextKey> = HashSet::new();
        for ((passage, vector), diff) in net(passages) {
            let passage = Arc::new(passage);
            for (key, ranking) in &mut self.contexts {
                let rank = (Reverse(Score(ranking.vector.dot(&vector))), passage.clone());
                if diff > 0 {
                    ranking.ranked.insert(rank);
                } else {
                    ranking.ranked.remove(&rank);
                }
                dirty.insert(key.clone());
            }
            if diff > 0 {
                self.passages.insert(passage, vector);
            } else {
                self.passages.remove(&passage);
            }
        }
        for ((key, vector), diff) in net(contexts) {
            if diff > 0 {
                let rank = |(passage, other): (&Arc<Passage>, &Vector)| {
                    (Reverse(Score(vector.dot(other))), passage.clone())
                };
                let ranked = self.passages.iter().map(rank).collect();
                self.contexts.insert(
                    key.clone(),
                    Ranking {
                        vector,
                        ranked,
                        selected: Vec::new(),
                    },
                );
                dirty.insert(key);
            } else if let Some(ranking) = self.contexts.remove(&key) {
                let gone = ranking.selected.into_iter();
                output.extend(gone.map(|p| ((key.clone(), (*p).clone()), -1)));
                dirty.remove(&key);
            }
        }
        for key in dirty {
            let Some(ranking) = self.contexts.get_mut(&key) else {
                continue;
            };
            let selected = ranking.best(budget_tokens);
            let row = |p: &Arc<Passage>, diff| ((key.clone(), (**p).clone()), diff);
            let (old, new): (HashSet<_>, HashSet<_>) =
                (ranking.selected.iter().collect(), selected.iter().collect());
            output.extend(old.difference(&new).map(|p| row(p, -1)));
            output.extend(new.difference(&old).map(|p| row(p, 1)));
            ranking.selected = selected;
        }
        output
    }
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

/// Sums the updates of each row: retractions first, so that a replaced row is gone before
/// its successor comes.
fn net<D: Ord>(mut updates: Vec<(D, isize)>) -> Vec<(D, isize)> {
    differential_dataflow::consolidation::consolidate(&mut updates);
    updates.sort_by_key(|(_, diff)| *diff > 0);
    updates
}

/// The updates of one time, until its frontiers have passed.
struct Stashed<T: Timestamp> {
    capability: Capability<T>,
    passages: Vec<PassageUpdate>,
    contexts: Vec<ContextUpdate>,
}

impl<T: Timestamp> Stashed<T> {
    fn new(capability: Capability<T>) -> Self {
        Self {
            capability,
            passages: Vec::new(),
            contexts: Vec::new(),
        }
    }
}

/// Selects passages for contexts under a token budget.
///
/// Rows of both inputs are sets: every row has multiplicity one, and a context key one
/// vector at a time.
pub fn select<'scope, T: Timestamp + Lattice + TotalOrder>(
    passages: VecCollection<'scope, T, (Passage, Vector), isize>,
    contexts: VecCollection<'scope, T, (ContextKey, Vector), isize>,
    budget_tokens: usize,
) -> VecCollection<'scope, T, (ContextKey, Passage), isize> {
    let by_context = Exchange::new(|((key, _), _, _): &((ContextKey, Vector), T, isize)| {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    });
    passages
        .inner
        .broadcast()
        .binary_frontier(
            contexts.inner,
            Pipeline,
            by_context,
            "Select",
            move |_capability, _info| {
                let mut selection = Selection::default();
                let mut stash: BTreeMap<T, Stashed<T>> = BTreeMap::new();
                move |(passages, passage_frontier), (contexts, context_frontier), output| {
                    passages.for_each(|capability, updates| {
                        for (row, time, diff) in updates.drain(..) {
                            let delayed = || Stashed::new(capability.delayed(&time, 0));
                            let stashed = stash.entry(time.clone()).or_insert_with(delayed);
                            stashed.passages.push((row, diff));
                        }
                    });
                    contexts.for_each(|capability, updates| {
                        for (row, time, diff) in updates.drain(..) {
                            let delayed = || Stashed::new(capability.delayed(&time, 0));
                            let stashed = stash.entry(time.clone()).or_insert_with(delayed);
                            stashed.contexts.push((row, diff));
                        }
                    });
                    while let Some(first) = stash.first_entry() {
                        let time = first.key().clone();
                        if passage_frontier.less_equal(&time) || context_frontier.less_equal(&time)
                        {
                            break;
                        }
                        let Stashed {
                            capability,
                            passages,
                            contexts,
                        } = first.remove();
                        let rows = selection.apply(passages, contexts, budget_tokens);
                        let mut session = output.session(&capability);
                        for (row, diff) in rows {
                            session.give((row, time.clone(), diff));
                        }
                    }
                }
            },
        )
        .as_collection()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use perennial_bank::document::DocumentKey;
    use perennial_bank::id::PassageId;

    fn passage(i: u8) -> (Passage, Vector) {
        let text = format!("{i}");
        let passage = Passage {
            document: DocumentKey::new(format!("d{i}")),
            ordinal: 0,
            updated_at_ms: 0,
            id: PassageId::of("", &text),
            title: "".into(),
            text: text.into(),
            tokens: vec![0; 5 + usize::from(i % 7)].into(),
            is_superseded: false,
        };
        // Few distinct directions, so that ties happen.
        let angle = f32::from(i % 5);
        (passage, Vector::new(&[angle.cos(), angle.sin()]))
    }

    fn context(i: u8) -> (ContextKey, Vector) {
        let angle = f32::from(i) * 0.7;
        (
            ContextKey::new(format!("c{i}")),
            Vector::new(&[angle.cos(), angle.sin()]),
        )
    }

    fn from_scratch(
        passages: &BTreeSet<u8>,
        contexts: &BTreeSet<u8>,
        budget: usize,
    ) -> BTreeSet<(ContextKey, Passage)> {
        let mut expected = BTreeSet::new();
        for c in contexts {
            let (key, query) = context(*c);
            let mut all: Vec<_> = passages.iter().map(|p| passage(*p)).collect();
            all.sort_by(|a, b| {
                query
                    .dot(&b.1)
                    .total_cmp(&query.dot(&a.1))
                    .then_with(|| a.0.cmp(&b.0))
            });
            let mut n_tokens = 0;
            for (passage, _) in all {
                n_tokens += passage.tokens.len();
                if n_tokens > budget {
                    break;
                }
                expected.insert((key.clone(), passage));
            }
        }
        expected
    }

    proptest! {
        #[test]
        fn deltas_add_up_to_a_run_from_scratch(
            epochs in prop::collection::vec(
                prop::collection::vec((any::<bool>(), 0u8..12), 1..6), 1..12),
            budget in 0usize..60,
        ) {
            let mut selection = Selection::default();
            let (mut passages, mut contexts) = (BTreeSet::new(), BTreeSet::new());
            let mut folded: BTreeMap<(ContextKey, Passage), isize> = BTreeMap::new();
            for epoch in epochs {
                let (mut p, mut c) = (Vec::new(), Vec::new());
                for (is_passage, i) in epoch {
                    if is_passage {
                        let diff = if passages.remove(&i) { -1 } else { passages.insert(i); 1 };
                        p.push((passage(i), diff));
                    } else {
                        let diff = if contexts.remove(&i) { -1 } else { contexts.insert(i); 1 };
                        c.push((context(i), diff));
                    }
                }
                for (row, diff) in selection.apply(p, c, budget) {
                    *folded.entry(row).or_insert(0) += diff;
                }
                folded.retain(|_, count| *count != 0);
                prop_assert!(folded.values().all(|count| *count == 1));
                let rows: BTreeSet<_> = folded.keys().cloned().collect();
                prop_assert_eq!(rows, from_scratch(&passages, &contexts, budget));
            }
        }
    }
}
