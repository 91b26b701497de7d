//! Which values are a sample of all?
//!
//! Those with the lowest digests, so many: a sample by content. Whether a value is in it follows from
//! the values that stand, not from what came first; no other changes places when one comes or goes,
//! but for the last.
//!
//! Values are counted by how many zeros their digests begin with. The counts say which of these layers
//! are in the sample whole, and how many values are of the next: only that layer, about as large as the
//! sample, is put in order. So a value that is not of the sample costs a count, however many there are.

use std::cmp::Reverse;

use differential_dataflow::VecCollection;
use perennial_rows::{Tuple, Value};

use crate::dataflow::Epoch;
use crate::render::place::place;

type Of<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// What digests are of; another version is another sample.
const DIGEST_OF: &str = "perennial cascade sample 1";
/// Parts of a layer that meet what is said of it on workers of their own.
const N_PARTS: u64 = 16;

/// Where values stand among those that may be of a sample.
pub(super) fn digest(values: &[Value]) -> u64 {
    place(values, DIGEST_OF)
}

/// The `n` of these values, each of which stands there once, that have the lowest digests, each behind
/// its own.
pub(super) fn sample(values: Of<'_, Tuple>, n: usize) -> Of<'_, (u64, Tuple)> {
    let by_layer = values.map(|values| {
        let digest = digest(&values);
        (digest.leading_zeros(), (digest, values))
    });
    let counts = by_layer.clone().map(|(layer, _)| (layer, ()));
    let counts = counts.reduce_named("CountLayer", |_, input, output| {
        output.extend(input.iter().map(|(_, n)| (*n, 1isize)));
    });
    let taken = counts.map(|counted| ((), counted));
    let taken = taken.reduce_named("TakeLayers", move |(), counts, output| {
        let counts = counts.iter().map(|((layer, n), _)| (*layer, *n));
        output.extend(taken_of(counts.collect(), n).into_iter().map(|of| (of, 1)));
    });
    let wanted = taken.flat_map(|((), (layer, n))| (0..N_PARTS).map(move |at| ((layer, at), n)));
    let in_layers = by_layer
        .map(|(layer, (digest, values))| ((layer, digest % N_PARTS), (digest, values)))
        .join_map(wanted, |_, value, n| (*n, value.clone()));
    let whole = in_layers.clone().filter(|(n, _)| n.is_none());
    let part = in_layers.flat_map(|(n, value)| Some((n?, value)));
    let part = part.reduce_named("TakeLowest", |n, values, output| {
        // They come in order.
        let lowest = values.iter().take(usize::try_from(*n).unwrap_or(0));
        output.extend(lowest.map(|(value, _)| ((*value).clone(), 1isize)));
    });
    whole
        .map(|(_, value)| value)
        .concat(part.map(|(_, value)| value))
}

/// The layers that a sample of `n` is taken from, by how many values each has: each whole (`None`), but
/// for the last, of which so many are taken.
fn taken_of(mut counts: Vec<(u32, isize)>, n: usize) -> Vec<(u32, Option<u64>)> {
    counts.sort_by_key(|(layer, _)| Reverse(*layer));
    let mut left = n;
    let mut taken = Vec::new();
    for (layer, count) in counts {
        let count = usize::try_from(count).unwrap_or(0);
        match left.checked_sub(count) {
            Some(rest) => {
                taken.push((layer, None));
                left = rest;
            }
            None if left == 0 => break,
            None => {
                taken.push((layer, Some(left as u64)));
                break;
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_taken_from_the_lowest_digests_up() {
        let counts = vec![(0, 50), (3, 4), (1, 20), (2, 10)];
        assert_eq!(
            taken_of(counts.clone(), 20),
            [(3, None), (2, None), (1, Some(6))]
        );
        assert_eq!(taken_of(counts.clone(), 14), [(3, None), (2, None)]);
        assert_eq!(taken_of(counts.clone(), 2), [(3, Some(2))]);
        assert_eq!(taken_of(counts, 1_000).len(), 4);
        assert_eq!(taken_of(Vec::new(), 5), []);
    }
}
