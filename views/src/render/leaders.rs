//! Which are the first few of many?
//!
//! A `reduce` reads its whole group again when one value changes. So the values of a group are
//! spread over buckets by their hash; each bucket keeps its first few, which meet in fewer
//! buckets, and in the end in one. Whoever is among the first of all is among the first of every
//! bucket it is in: the result does not depend on the buckets. Of a group of 400,000 a change
//! reads about 100 values, then the leaders of 64 buckets twice.

use std::cmp::Ordering;
use std::hash::Hash;
use std::sync::Arc;

use differential_dataflow::hashable::Hashable;
use differential_dataflow::{ExchangeData, VecCollection};

use crate::dataflow::Epoch;

/// Buckets of a group, round by round.
const ROUNDS: [u64; 2] = [4096, 64];

/// How values stand: no two unlike ones are equal.
pub(super) type Order<V> = Arc<dyn Fn(&V, &V) -> Ordering>;

/// Of each group the values at `skip..skip + keep`, counted with multiplicity.
pub(super) fn leaders<'scope, K, V>(
    mut values: VecCollection<'scope, Epoch, (K, V), isize>,
    skip: u64,
    keep: Option<u64>,
    order: &Order<V>,
) -> VecCollection<'scope, Epoch, (K, V), isize>
where
    K: ExchangeData + Hash,
    V: ExchangeData + Hash,
{
    // Without a limit all but the first few are kept: no bucket can leave out any.
    if let Some(keep) = keep {
        for n_buckets in ROUNDS {
            let n_first = skip.saturating_add(keep);
            let order = order.clone();
            let bucketed = values.map(move |(key, value)| {
                let bucket = value.hashed() % n_buckets;
                ((key, bucket), value)
            });
            values = bucketed
                .reduce_named("Leaders", move |_, input, output| {
                    output.extend(slice(input, 0, Some(n_first), &order));
                })
                .map(|((key, _), value)| (key, value));
        }
    }
    let order = order.clone();
    values.reduce_named("Leader", move |_, input, output| {
        output.extend(slice(input, skip, keep, &order));
    })
}

/// The values at `skip..skip + keep` in order, with their counts.
fn slice<V: Clone>(
    input: &[(&V, isize)],
    skip: u64,
    keep: Option<u64>,
    order: &Order<V>,
) -> Vec<(V, isize)> {
    let mut sorted: Vec<(&V, u64)> = input
        .iter()
        .filter_map(|(value, count)| Some((*value, u64::try_from(*count).ok()?)))
        .collect();
    sorted.sort_by(|(a, _), (b, _)| order(a, b));
    let (mut skip, mut keep) = (skip, keep.unwrap_or(u64::MAX));
    let mut slice = Vec::new();
    for (value, count) in sorted {
        let skipped = skip.min(count);
        skip -= skipped;
        let kept = keep.min(count - skipped);
        keep -= kept;
        if kept > 0 {
            let kept = isize::try_from(kept).expect("no more are kept than were counted");
            slice.push((value.clone(), kept));
        }
        if keep == 0 {
            break;
        }
    }
    slice
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{self, AtomicUsize};

    use differential_dataflow::input::InputSession;

    use super::*;

    #[test]
    fn a_slice_counts_copies() {
        let order: Order<i32> = Arc::new(i32::cmp);
        let input = [(&3, 2), (&1, 3), (&2, 1)];
        assert_eq!(slice(&input, 2, Some(3), &order), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(slice(&input, 0, Some(0), &order), []);
        assert_eq!(slice(&input, 4, None, &order), [(3, 2)]);
        assert_eq!(slice(&input, u64::MAX, Some(1), &order), []);
    }

    #[test]
    fn a_change_looks_at_few_of_many() {
        let found = Arc::new(Mutex::new(Vec::new()));
        let said = found.clone();
        timely::execute_directly(move |worker| {
            let n_compared = Arc::new(AtomicUsize::new(0));
            let counter = n_compared.clone();
            let order: Order<u64> = Arc::new(move |a, b| {
                counter.fetch_add(1, atomic::Ordering::Relaxed);
                a.cmp(b)
            });
            let mut input = InputSession::new();
            let probe = worker.dataflow(|scope| {
                leaders(input.to_collection(scope), 0, Some(1), &order)
                    .inspect(move |update| said.lock().unwrap().push(*update))
                    .probe()
                    .0
            });
            (1..20_000u64).for_each(|value| input.insert(((), value)));
            input.advance_to(1);
            input.flush();
            worker.step_while(|| probe.less_than(&1));
            let before = n_compared.load(atomic::Ordering::Relaxed);
            input.insert(((), 0));
            input.remove(((), 1));
            input.advance_to(2);
            input.flush();
            worker.step_while(|| probe.less_than(&2));
            let n = n_compared.load(atomic::Ordering::Relaxed) - before;
            assert!(n < 2_000, "{n} comparisons");
        });
        let mut found = found.lock().unwrap().clone();
        found.sort_by_key(|(_, epoch, diff)| (*epoch, *diff));
        assert_eq!(found, [(((), 1), 0, 1), (((), 1), 1, -1), (((), 0), 1, 1)]);
    }
}
