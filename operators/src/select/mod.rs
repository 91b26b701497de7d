//! The passages that matter most to each context, maintained by deltas.
//!
//! # Goals
//! A delta costs what it changes. Memory is contexts x (run, its copies, and reserve), never contexts x
//! passages. Exact: nothing is approximated.
//!
//! # Design
//! A context's selection is the longest run from the top of its passages, ranked by inner
//! product, whose tokens fit the budget. A context keeps that run and a reserve below it
//! (`ranking`); the last of these is its cut. An inserted passage is scored against all
//! contexts of its group in one blocked product and touches those whose cut it passes. A
//! removed one touches the contexts that hold it. When a reserve is used up, one blocked
//! scan over the group's passages serves all contexts that need it (`selection`). A hundred
//! removals among a context's best passages cost about three scans for it.
//!
//! Every worker holds all embedded passages (`slab`: a row and a vector each, 1.5 KiB at
//! 384 elements) and its share of the contexts. So each further worker costs the matrix
//! once more, and takes a share of the products. Blocks of a large scan also run on the
//! process's rayon pool.
//!
//! # Invariants
//! - Copies of a passage (one title, one text) count once: the newest is selected.
//! - The selection is a function of the group's passages and the context: ties of score are
//!   broken by the passage itself, never by the order of arrival; scores have the same bits
//!   in any block, on any worker and any machine.
//! - A context with no passages has an empty selection, which is a row like any other.
//! - A passage whose score with a context is not a number is no passage to that context.
//!
//! One row per context and selected passage was rejected: whoever wants the selection
//! would gather it again. Passages by share of worker and contexts everywhere was rejected
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

/// Passages that a context keeps below its run, unless something else is asked.
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
struct Stashed<T: Timestamp, G, C> {
    capability: Capability<T>,
    passages: Vec<Update<G, Passage>>,
    contexts: Vec<Update<G, C>>,
}

impl<T: Timestamp, G, C> Stashed<T, G, C> {
    fn new(capability: Capability<T>) -> Self {
        Self {
            capability,
            passages: Vec::new(),
            contexts: Vec::new(),
        }
    }
}

/// Selects passages for contexts, each within its group `G`, and lays them out: one row a
/// context, with what `lay_out` makes of its passages, best first.
///
/// # Contract
/// - Rows of both inputs are sets: every row has multiplicity one, a passage has one vector
///   in a group, and a context `C` is in one group with one vector.
/// - `lay_out` is a function of the passages.
/// - Vectors of one model have one length; a shorter one counts as filled up with zeros.
pub fn select<'scope, T, G, C, L>(
    passages: VecCollection<'scope, T, (G, Passage, Vector), isize>,
    contexts: VecCollection<'scope, T, (G, C, Vector), isize>,
    limits: Limits,
    work: Arc<SelectWork>,
    lay_out: impl Fn(&[&Passage]) -> L + 'static,
) -> VecCollection<'scope, T, (C, L), isize>
where
    T: Timestamp + Lattice + TotalOrder,
    G: ExchangeData + Hash,
    C: ExchangeData + Hash,
    L: Data + PartialEq,
{
    let by_context = Exchange::new(|((_, context, _), _, _): &((G, C, Vector), T, isize)| {
        let mut hasher = DefaultHasher::new();
        context.hash(&mut hasher);
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
                let mut selection = Selection::new(limits, lay_out, work);
                let mut stash: BTreeMap<T, Stashed<T, G, C>> = BTreeMap::new();
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
                        let rows = selection.apply(passages, contexts);
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
