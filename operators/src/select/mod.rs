//! The candidates that matter most to each context, maintained by deltas: passages to a question, rows
//! to a row that they are joined with.
//!
//! # Goals
//! A delta costs what it changes. Memory is contexts x (run, its copies, and reserve), never contexts x
//! candidates. Exact: nothing is approximated.
//!
//! # Design
//! A context's candidates are ranked by inner product. Its *run* is the longest from the top whose
//! weights fit a window, which is no smaller than the budget; of the run those are selected, best first, for which
//! the better ones have left room. So one that does not fit keeps no smaller one out. A context keeps that
//! run and a reserve below it (`ranking`); the last of these is its cut. An inserted candidate is scored against all
//! contexts of its group in one blocked product and touches those whose cut it passes. A
//! removed one touches the contexts that hold it. When a reserve is used up, one blocked
//! scan over the group's candidates serves all contexts that need it (`selection`). A hundred
//! removals among a context's best candidates cost about three scans for it.
//!
//! Every worker holds all embedded candidates (`slab`: a row and a vector each, 1.5 KiB at
//! 384 elements) and its share of the contexts. So each further worker costs the matrix
//! once more, and takes a share of the products. Blocks of a large scan also run on the
//! process's rayon pool.
//!
//! # Invariants
//! - Copies of a candidate, as of a passage with one title and text, count once: the newest is selected, and
//!   the others in its run are told with it.
//! - The selection is a function of the group's candidates and the context: ties of score are
//!   broken by the candidate itself, never by the order of arrival; scores have the same bits
//!   in any block, on any worker and any machine.
//! - A context with no candidates has an empty selection, which is a row like any other.
//! - A candidate whose score with a context is not a number is no candidate to that context.
//!
//! To go on without a window, to the last candidate that fits, was rejected: whether one far down is selected would
//! depend on all above it, so a context would have to know the whole order. Where a run ends depends on a sum
//! only, which better candidates make larger: what lies below it is nobody's business.
//!
//! One row per context and selected candidate was rejected: whoever wants the selection
//! would gather it again. Candidates by share of worker and contexts everywhere was rejected
//! for now: the matrix would stand once, and a merge behind it.

mod ranking;
mod selection;
mod slab;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use differential_dataflow::lattice::Lattice;
use differential_dataflow::{AsCollection, Data, ExchangeData, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

pub use ranking::Limits;
pub use selection::SelectWork;
use selection::{Selection, Update};

use perennial_bank::document::Passage;

/// What is selected.
///
/// # Contract
/// Copies have one vector and one weight. The order of candidates breaks ties of score.
pub trait Candidate: ExchangeData + Hash + Sync {
    /// How much of the budget it takes.
    fn weight(&self) -> usize;
    /// Whether it says what another does, so that one of them is enough.
    fn is_copy_of(&self, other: &Self) -> bool;
    /// Whether it is selected rather than a copy.
    fn is_newer_than(&self, copy: &Self) -> bool;
}

/// It weighs what its tokens are.
impl Candidate for Passage {
    fn weight(&self) -> usize {
        self.tokens.len()
    }

    fn is_copy_of(&self, other: &Self) -> bool {
        Passage::is_copy_of(self, other)
    }

    fn is_newer_than(&self, copy: &Self) -> bool {
        self.updated_at_ms > copy.updated_at_ms
    }
}

/// One of the candidates that are selected, with those of its run that say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<'a, P> {
    /// It.
    pub candidate: &'a P,
    /// Its copies, in order.
    pub copies: Vec<&'a P>,
}

impl<'a, P> From<&'a P> for Selected<'a, P> {
    /// One that stands once.
    fn from(candidate: &'a P) -> Self {
        Self {
            candidate,
            copies: Vec::new(),
        }
    }
}

/// Candidates that a context keeps below its run, unless something else is asked.
pub const RESERVE: usize = 32;

/// A vector as a row of the dataflow: compared by its bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vector(Arc<[u32]>);

impl Vector {
    /// The row of this vector.
    pub fn new(elements: &[f32]) -> Self {
        Self(elements.iter().map(|x| x.to_bits()).collect())
    }

    /// The vector's elements in order.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = f32> {
        self.0.iter().map(|bits| f32::from_bits(*bits))
    }
}

/// The updates of one time, until its frontiers have passed.
struct Stashed<T: Timestamp, G, P, C> {
    capability: Capability<T>,
    candidates: Vec<Update<G, P>>,
    contexts: Vec<Update<G, C>>,
}

impl<T: Timestamp, G, P, C> Stashed<T, G, P, C> {
    fn new(capability: Capability<T>) -> Self {
        Self {
            capability,
            candidates: Vec::new(),
            contexts: Vec::new(),
        }
    }
}

/// Selects candidates for contexts, each within its group `G`, and lays them out: one row a
/// context, with what `lay_out` makes of its candidates, best first.
///
/// # Contract
/// - Rows of both inputs are sets: every row has multiplicity one, a candidate has one vector
///   in a group, and a context `C` is in one group with one vector.
/// - `lay_out` is a function of the candidates.
/// - Vectors of one model have one length; a shorter one counts as filled up with zeros.
pub fn select<'scope, T, G, P, C, L>(
    candidates: VecCollection<'scope, T, (G, P, Vector), isize>,
    contexts: VecCollection<'scope, T, (G, C, Vector), isize>,
    limits: Limits,
    work: Arc<SelectWork>,
    lay_out: impl Fn(&[Selected<'_, P>]) -> L + 'static,
) -> VecCollection<'scope, T, (C, L), isize>
where
    T: Timestamp + Lattice + TotalOrder,
    G: ExchangeData + Hash,
    P: Candidate,
    C: ExchangeData + Hash,
    L: Data + PartialEq,
{
    let by_context = Exchange::new(|((_, context, _), _, _): &((G, C, Vector), T, isize)| {
        let mut hasher = DefaultHasher::new();
        context.hash(&mut hasher);
        hasher.finish()
    });
    candidates
        .inner
        .broadcast()
        .binary_frontier(
            contexts.inner,
            Pipeline,
            by_context,
            "Select",
            move |_capability, _info| {
                let mut selection = Selection::new(limits, lay_out, work);
                let mut stash: BTreeMap<T, Stashed<T, G, P, C>> = BTreeMap::new();
                move |(candidates, candidate_frontier), (contexts, context_frontier), output| {
                    candidates.for_each(|capability, updates| {
                        for (row, time, diff) in updates.drain(..) {
                            let delayed = || Stashed::new(capability.delayed(&time, 0));
                            let stashed = stash.entry(time.clone()).or_insert_with(delayed);
                            stashed.candidates.push((row, diff));
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
                        if candidate_frontier.less_equal(&time)
                            || context_frontier.less_equal(&time)
                        {
                            break;
                        }
                        let Stashed {
                            capability,
                            candidates,
                            contexts,
                        } = first.remove();
                        let rows = selection.apply(candidates, contexts);
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
