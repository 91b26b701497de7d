//! Which of some entrants come first, by verdicts on two at a time?
//!
//! Lists that are in order already are merged two by two, as far as places are wanted: a tournament whose
//! shape depends on where the lists stand, and on nothing else. Verdicts need not be transitive; what
//! comes out is a function of them all the same.

use std::collections::{BTreeMap, BTreeSet};

use perennial_rows::Tuple;

/// Who enters: a place that its values have, and these.
pub(crate) type Entrant = (u64, Tuple);
/// A verdict that is asked for: two entrants, the lesser first.
pub(crate) type Pair = (Entrant, Entrant);

/// Whether the first of a pair is the better one, as far as that is known.
pub(crate) type Verdicts = BTreeMap<Pair, bool>;

/// The first `n_places` of lists that are each in order; or the verdicts that are wanted next.
pub(crate) fn standings(
    lists: &[Vec<Entrant>],
    n_places: usize,
    verdicts: &Verdicts,
) -> Result<Vec<Entrant>, BTreeSet<Pair>> {
    match lists {
        [] => Ok(Vec::new()),
        [only] => Ok(only.iter().take(n_places).cloned().collect()),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            let left = standings(left, n_places, verdicts);
            let right = standings(right, n_places, verdicts);
            match (left, right) {
                (Ok(left), Ok(right)) => {
                    merged(&left, &right, n_places, verdicts).map_err(|pair| [pair].into())
                }
                // What both halves want can be asked at once.
                (Err(mut wanted), Err(more)) => {
                    wanted.extend(more);
                    Err(wanted)
                }
                (Err(wanted), Ok(_)) | (Ok(_), Err(wanted)) => Err(wanted),
            }
        }
    }
}

/// Two lists as one, or the verdict that is wanted next.
fn merged(
    left: &[Entrant],
    right: &[Entrant],
    n_places: usize,
    verdicts: &Verdicts,
) -> Result<Vec<Entrant>, Pair> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut all = Vec::with_capacity(n_places.min(left.len() + right.len()));
    while all.len() < n_places {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => match is_better(a, b, verdicts)? {
                true => left.next(),
                false => right.next(),
            },
            (Some(_), None) => left.next(),
            (None, _) => right.next(),
        };
        match next {
            Some(next) => all.push(next.clone()),
            None => break,
        }
    }
    Ok(all)
}

/// Whether one entrant is better than another; each two are asked about in one order.
fn is_better(a: &Entrant, b: &Entrant, verdicts: &Verdicts) -> Result<bool, Pair> {
    let is_ordered = a < b;
    let pair = match is_ordered {
        true => (a.clone(), b.clone()),
        false => (b.clone(), a.clone()),
    };
    match verdicts.get(&pair) {
        Some(first_is_better) => Ok(*first_is_better == is_ordered),
        None => Err(pair),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entrant(n: u64) -> Entrant {
        (n, [(n as i64).into()].into())
    }

    /// Asks until all is known; what stands, and how many verdicts that took.
    fn held(
        lists: &[Vec<Entrant>],
        n_places: usize,
        better: impl Fn(u64, u64) -> bool,
    ) -> (Vec<u64>, usize) {
        let mut verdicts = Verdicts::new();
        loop {
            match standings(lists, n_places, &verdicts) {
                Ok(all) => return (all.iter().map(|(n, _)| *n).collect(), verdicts.len()),
                Err(wanted) => {
                    assert!(!wanted.is_empty());
                    for pair in wanted {
                        let is = better(pair.0.0, pair.1.0);
                        assert!(pair.0 < pair.1 && verdicts.insert(pair, is).is_none());
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn verdicts_that_are_an_order_give_the_first_of_it(
            scores in prop::collection::vec(0u64..1000, 1..40), n_places in 1usize..6,
        ) {
            let score = |n: u64| (scores[n as usize], n);
            let lists: Vec<_> = (0..scores.len() as u64).map(|n| vec![entrant(n)]).collect();
            let (found, n_asked) = held(&lists, n_places, |a, b| score(a) > score(b));
            let mut expected: Vec<u64> = (0..scores.len() as u64).collect();
            expected.sort_by_key(|n| std::cmp::Reverse(score(*n)));
            expected.truncate(n_places);
            prop_assert_eq!(found, expected);
            prop_assert!(n_asked <= lists.len() * n_places.max(1), "{}", n_asked);
        }
    }

    #[test]
    fn verdicts_that_are_no_order_give_what_they_give() {
        // 0 beats 1, 1 beats 2, 2 beats 0.
        let lists: Vec<_> = (0..3).map(|n| vec![entrant(n)]).collect();
        let better = |a: u64, b: u64| (a + 1) % 3 == b;
        let (found, _) = held(&lists, 3, better);
        assert_eq!(found, held(&lists, 3, better).0);
        assert_eq!(found.len(), 3);
    }
}
