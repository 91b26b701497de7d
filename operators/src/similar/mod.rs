//! Which rows are similar to each other, maintained by deltas?
//!
//! # Goals
//! Exact: all vectors are compared, nothing is approximated. A row that comes is compared with each row
//! that stands, one that goes with none. No trace of what stood before.
//!
//! # Design
//! Every worker holds a share of the rows, by their hash, each with its vector. A row that comes is told
//! to all workers, and each compares it with its share in blocked products: so a product is made once,
//! and all workers have a part of it. A pair is kept where it was found, with either of its rows; when
//! one of them goes, that worker takes the pair back.
//!
//! Rows that come at one time are taken in their order, a block at a time: what stands of a share when a
//! block comes is compared with it before its own rows join the share, and these with the rest of the
//! block behind them. So no pair is found twice.
//!
//! # Invariants
//! - The pairs are a function of the rows: scores have the same bits in any block, on any worker, and
//!   whichever of the two came first ([`perennial_model::dot`]).
//! - A score that is no number is similar to nothing.
//! - Of a row that is gone neither vector nor pair is left.
//!
//! Memory is a vector a row, and a place for each end of a pair: rows that are all similar are as many
//! pairs as there are. An index that finds most of the similar rows was rejected: which it misses depends
//! on what stood when.

mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::lattice::Lattice;
use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use crate::select::Vector;
use share::Share;

/// What comparing has cost, of all workers that share it.
#[derive(Debug, Default)]
pub struct SimilarWork {
    /// Inner products.
    pub n_products: AtomicU64,
}

/// The rows that came and went at one time, until the frontier has passed it.
struct Stashed<T: Timestamp, D> {
    capability: Capability<T>,
    rows: Vec<((D, Vector), isize)>,
}

/// The pairs of rows whose vectors have an inner product of `threshold` or more, the lesser row first.
///
/// # Contract
/// - The input is a set: every row has multiplicity one, and one vector as long as it stands.
/// - Vectors of one model have one length; a shorter one counts as filled up with zeros.
pub fn similar<'scope, T, D>(
    rows: VecCollection<'scope, T, (D, Vector), isize>,
    threshold: f64,
    work: Arc<SimilarWork>,
) -> VecCollection<'scope, T, (D, D), isize>
where
    T: Timestamp + Lattice + TotalOrder,
    D: ExchangeData + Hash + Sync,
{
    let scope = rows.inner.scope();
    let (index, peers) = (scope.index() as u64, scope.peers() as u64);
    let is_own = move |row: &D| {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        hasher.finish() % peers == index
    };
    rows.inner
        .broadcast()
        .unary_frontier(Pipeline, "Similar", move |_capability, _info| {
            let mut share = Share::new(threshold, work);
            let mut stash: BTreeMap<T, Stashed<T, D>> = BTreeMap::new();
            move |(input, frontier), output| {
                input.for_each(|capability, updates| {
                    for (row, time, diff) in updates.drain(..) {
                        let stashed = || Stashed {
                            capability: capability.delayed(&time, 0),
                            rows: Vec::new(),
                        };
                        let stashed = stash.entry(time.clone()).or_insert_with(stashed);
                        stashed.rows.push((row, diff));
                    }
                });
                while let Some(first) = stash.first_entry() {
                    let time = first.key().clone();
                    if frontier.less_equal(&time) {
                        break;
                    }
                    let Stashed {
                        capability,
                        mut rows,
                    } = first.remove();
                    // In the order of rows, on every worker.
                    consolidate(&mut rows);
                    let (come, gone): (Vec<_>, Vec<_>) =
                        rows.into_iter().partition(|(_, diff)| *diff > 0);
                    let mut pairs = Vec::new();
                    share.remove(gone.into_iter().map(|((row, _), _)| row), &mut pairs);
                    let come: Vec<(D, Vector)> = come.into_iter().map(|(row, _)| row).collect();
                    share.insert(&come, &is_own, &mut pairs);
                    let mut session = output.session(&capability);
                    for (pair, diff) in pairs {
                        session.give((pair, time.clone(), diff));
                    }
                }
            }
        })
        .as_collection()
}
