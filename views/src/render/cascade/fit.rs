//! Where does the embedding of a text decide in the place of a model?
//!
//! # Design
//! Of the sample, in order of its digests, the first third says in which direction of the embedding
//! what the model accepts lies (a ridge regression of its verdicts, in which both verdicts have the same
//! weight). The rest, which that direction has not seen, is put in order along it, and two thresholds
//! stand in this order:
//!
//! ```text
//!   refused  |  the model is asked  |  accepted
//!            refuse_below           accept_above      -> along the direction
//! ```
//! Below `refuse_below` stand as few that the model accepts as the recall allows, above `accept_above`
//! as few that it refuses as the precision allows ([`bounds`](super::bounds)). Each promise is broken
//! with half of [`RISK`] at most; the chance is that of the digests.
//!
//! # Invariants
//! - A fit is a function of the sample and its verdicts: sums are taken in the order of digests, and
//!   nothing but sums, products, quotients and roots is computed, which have the same bits everywhere.
//! - Where a promise cannot be kept, there is no threshold: the model is asked.

use perennial_operators::select::Vector;
use perennial_rows::Float;
use serde::{Deserialize, Serialize};

use crate::query::Promise;
use crate::render::cascade::bounds::{allowed, allowed_beside, needed};

/// How likely a promise may be broken, all of one fit together.
const RISK: f64 = 0.05;
/// The share of the sample that the direction is fitted on: one in so many.
const TRAINED: usize = 3;
/// Most rows that it is fitted on: their products with each other are a system of equations.
const MAX_TRAINED: usize = 256;
/// What the square of the direction's length costs, in squares of an error of one row.
const RIDGE: f64 = 1.0;

/// A row of the sample.
#[derive(Clone, Debug)]
pub(super) struct Judged<'a> {
    pub(super) vector: &'a Vector,
    /// What the model says of it.
    pub(super) is_so: bool,
}

/// Who decides about which rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Fit {
    direction: Vec<Float>,
    accept_above: Option<Float>,
    refuse_below: Option<Float>,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Decision {
    Accept,
    Refuse,
    Ask,
}

/// What thresholds stand on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct Evidence {
    /// Rows that thresholds are fitted on.
    pub(crate) n_rows: usize,
    /// Those of them that the model accepts.
    pub(crate) n_accepted: usize,
    /// How many of these a threshold needs at least.
    pub(crate) n_needed: usize,
}

impl Fit {
    /// The fit to a sample, in the order of its digests.
    pub(super) fn to(sample: &[Judged<'_>], promise: Promise) -> Self {
        let (trained, held_out) = sample.split_at(n_trained(sample.len()));
        let Some(direction) = direction(trained) else {
            return Self::default();
        };
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for row in held_out {
            let place = along(&direction, row.vector);
            match row.is_so {
                true => accepted.push(place),
                false => refused.push(place),
            }
        }
        accepted.sort();
        refused.sort();
        let risk = risk(promise);
        let lost = lost(promise).and_then(|share| allowed(accepted.len(), share, risk));
        let refuse_below = lost.and_then(|n| accepted.get(n).copied());
        let wrong = wrong(promise)
            .and_then(|share| allowed_beside(accepted.len(), refused.len(), share, risk));
        let accept_above = wrong.map(|n| {
            let first_right = refused.len().checked_sub(n + 1);
            first_right.map_or(Float::new(f64::NEG_INFINITY), |at| refused[at])
        });
        match (accept_above, refuse_below) {
            (None, None) => Self::default(),
            _ => Self {
                direction,
                accept_above,
                refuse_below,
            },
        }
    }

    /// Who decides about a row.
    pub(super) fn decide(&self, vector: &Vector) -> Decision {
        if self.accept_above.is_none() && self.refuse_below.is_none() {
            return Decision::Ask;
        }
        let place = along(&self.direction, vector);
        // Where the thresholds have passed each other, either promise covers what is between.
        if self.accept_above.is_some_and(|above| place > above) {
            Decision::Accept
        } else if self.refuse_below.is_some_and(|below| place < below) {
            Decision::Refuse
        } else {
            Decision::Ask
        }
    }
}

impl Evidence {
    /// What the fit to a sample with these verdicts stands on, in the order of its digests.
    pub(super) fn of(verdicts: impl ExactSizeIterator<Item = bool>, promise: Promise) -> Self {
        let n_trained = n_trained(verdicts.len());
        let held_out: Vec<bool> = verdicts.skip(n_trained).collect();
        let shares = [lost(promise), wrong(promise)].into_iter().flatten();
        let n_needed = shares.map(|share| needed(share, risk(promise))).min();
        Self {
            n_rows: held_out.len(),
            n_accepted: held_out.iter().filter(|is_so| **is_so).count(),
            n_needed: n_needed.unwrap_or(0),
        }
    }
}

fn n_trained(n_sample: usize) -> usize {
    (n_sample / TRAINED).min(MAX_TRAINED)
}

/// The risk of each promise that is made.
fn risk(promise: Promise) -> f64 {
    let n = [lost(promise), wrong(promise)]
        .into_iter()
        .flatten()
        .count();
    RISK / n.max(1) as f64
}

/// The share of what the model accepts that may be lost; `None` where nothing may.
fn lost(promise: Promise) -> Option<f64> {
    let share = 1.0 - promise.recall.get();
    (share > 0.0).then_some(share)
}

/// The share that wrong rows may have of these and all that the model accepts, some of which are lost.
fn wrong(promise: Promise) -> Option<f64> {
    let (recall, precision) = (promise.recall.get(), promise.precision.get());
    let beside = recall * (1.0 - precision) / precision;
    (beside > 0.0).then_some(beside / (1.0 + beside))
}

/// The place of a vector along a direction.
fn along(direction: &[Float], vector: &Vector) -> Float {
    let products = direction
        .iter()
        .zip(vector.elements())
        .map(|(x, y)| x.get() * f64::from(y));
    Float::new(products.sum())
}

/// Where what is accepted lies; `None` if the rows are all of one kind.
fn direction(rows: &[Judged<'_>]) -> Option<Vec<Float>> {
    let n = rows.len();
    let n_accepted = rows.iter().filter(|row| row.is_so).count();
    if n_accepted == 0 || n_accepted == n {
        return None;
    }
    // Both kinds have the same weight together.
    let weight = |row: &Judged<'_>| {
        let of_kind = if row.is_so {
            n_accepted
        } else {
            n - n_accepted
        };
        n as f64 / (2 * of_kind) as f64
    };
    let n_elements = rows.iter().map(|row| row.vector.elements().len()).max()?;
    let mut mean = vec![0.0; n_elements];
    for row in rows {
        let share = weight(row) / n as f64;
        for (sum, x) in mean.iter_mut().zip(row.vector.elements()) {
            *sum += share * f64::from(x);
        }
    }
    let centred = rows.iter().map(|row| {
        let mut elements: Vec<f64> = row.vector.elements().map(f64::from).collect();
        elements.resize(n_elements, 0.0);
        let pairs = elements.iter_mut().zip(&mean);
        pairs.for_each(|(x, mean)| *x -= mean);
        elements
    });
    let centred: Vec<Vec<f64>> = centred.collect();
    // Of the dual: as many unknowns as rows, however long vectors are.
    let products: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let of_row = (0..=i).map(|j| product(&centred[i], &centred[j]));
            let mut of_row: Vec<f64> = of_row.collect();
            of_row[i] += RIDGE / weight(&rows[i]);
            of_row
        })
        .collect();
    let wanted = rows.iter().map(|row| if row.is_so { 1.0 } else { -1.0 });
    let shares = solved(products, wanted.collect())?;
    let mut direction = vec![0.0; n_elements];
    for (share, row) in shares.iter().zip(&centred) {
        let pairs = direction.iter_mut().zip(row);
        pairs.for_each(|(sum, x)| *sum += share * x);
    }
    Some(direction.into_iter().map(Float::new).collect())
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The solution of a positive definite system by Cholesky's factors; `matrix` is its lower half, by rows.
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let known = product(&matrix[i][..j], &matrix[j][..j]);
            let left = matrix[i][j] - known;
            matrix[i][j] = match i == j {
                true if left > 0.0 => left.sqrt(),
                true => return None,
                false => left / matrix[j][j],
            };
        }
        right[i] = (right[i] - product(&matrix[i][..i], &right[..i])) / matrix[i][i];
    }
    for i in (0..n).rev() {
        right[i] /= matrix[i][i];
        let solved = right[i];
        let known = right[..i].iter_mut().zip(&matrix[i]);
        known.for_each(|(x, factor)| *x -= factor * solved);
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(recall: f64, precision: f64) -> Promise {
        Promise {
            recall: Float::new(recall),
            precision: Float::new(precision),
            n_sample: 600,
        }
    }

    /// A generator of numbers from 0 to 1 (splitmix64).
    struct Chance(u64);

    impl Chance {
        fn draw(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = self.0;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (x ^ (x >> 31)) as f64 / u64::MAX as f64
        }

        /// About normal, around 0.
        fn spread(&mut self) -> f64 {
            (0..12).map(|_| self.draw()).sum::<f64>() - 6.0
        }

        /// A vector of 16 elements, and whether it is accepted, which one of its elements tells with an
        /// error.
        fn row(&mut self, selectivity: f64, noise: f64) -> (Vector, bool) {
            let is_so = self.draw() < selectivity;
            let mut elements: Vec<f32> = (0..16).map(|_| 0.25 * self.spread() as f32).collect();
            let told = if is_so { 1.0 } else { -1.0 };
            elements[3] = (told + noise * self.spread()) as f32 / 2.0;
            (Vector::new(&elements), is_so)
        }
    }

    fn judged(rows: &[(Vector, bool)]) -> Vec<Judged<'_>> {
        let judged = rows.iter().map(|(vector, is_so)| Judged {
            vector,
            is_so: *is_so,
        });
        judged.collect()
    }

    #[test]
    fn a_system_is_solved() {
        let solved = solved(vec![vec![4.0], vec![2.0, 3.0]], vec![10.0, 9.0]).unwrap();
        assert!((solved[0] - 1.5).abs() < 1e-12 && (solved[1] - 2.0).abs() < 1e-12);
        assert_eq!(super::solved(vec![vec![0.0]], vec![1.0]), None);
    }

    #[test]
    fn promises_are_kept_about_as_often_as_is_said() {
        let mut chance = Chance(7);
        let wanted = promise(0.9, 0.9);
        let (mut n_broken, mut n_decided) = (0, 0);
        let n_fits = 100;
        for _ in 0..n_fits {
            let sample: Vec<_> = (0..600).map(|_| chance.row(0.3, 0.6)).collect();
            let fit = Fit::to(&judged(&sample), wanted);
            let (mut right, mut lost, mut wrong) = (0, 0, 0);
            for _ in 0..2_000 {
                let (vector, is_so) = chance.row(0.3, 0.6);
                let decision = fit.decide(&vector);
                n_decided += usize::from(decision != Decision::Ask);
                match (decision, is_so) {
                    (Decision::Refuse, true) => lost += 1,
                    (Decision::Accept, false) => wrong += 1,
                    (Decision::Accept | Decision::Ask, true) => right += 1,
                    _ => {}
                }
            }
            let recall = f64::from(right) / f64::from(right + lost);
            let precision = f64::from(right) / f64::from(right + wrong);
            n_broken += usize::from(recall < 0.9 || precision < 0.9);
        }
        // One in twenty may be; chance may add some.
        assert!(n_broken <= 12, "{n_broken} of {n_fits}");
        assert!(
            n_decided > n_fits * 1_200,
            "{n_decided} of {}",
            n_fits * 2_000
        );
    }

    #[test]
    fn what_cannot_be_promised_is_asked() {
        let mut chance = Chance(1);
        let rows: Vec<_> = (0..60).map(|_| chance.row(0.5, 0.1)).collect();
        assert_eq!(Fit::to(&judged(&rows), promise(0.99, 0.99)), Fit::default());
        assert_eq!(Fit::default().decide(&rows[0].0), Decision::Ask);
        assert_eq!(Fit::to(&[], promise(0.5, 0.5)), Fit::default());
        // All of one kind say nothing about the other.
        let rows: Vec<_> = (0..600).map(|_| chance.row(1.0, 0.1)).collect();
        assert_eq!(Fit::to(&judged(&rows), promise(0.5, 0.5)), Fit::default());
        // What the model refuses 600 times has no threshold, whatever few are accepted.
        let mut rows: Vec<_> = (0..600).map(|_| chance.row(0.0, 0.1)).collect();
        rows[0].1 = true;
        let fit = Fit::to(&judged(&rows), promise(0.9, 0.9));
        assert_eq!(fit, Fit::default());
        let evidence = Evidence::of(rows.iter().map(|(_, is_so)| *is_so), promise(0.9, 0.9));
        assert_eq!(
            evidence,
            Evidence {
                n_rows: 400,
                n_accepted: 0,
                n_needed: 36
            }
        );
    }

    #[test]
    fn what_is_not_given_up_is_not_lost() {
        let mut chance = Chance(3);
        let rows: Vec<_> = (0..600).map(|_| chance.row(0.5, 0.3)).collect();
        let others: Vec<_> = (0..1_000).map(|_| chance.row(0.5, 0.3)).collect();
        let decided = |recall, precision| {
            let fit = Fit::to(&judged(&rows), promise(recall, precision));
            let decisions = others.iter().map(|(vector, _)| fit.decide(vector));
            let of = |wanted| decisions.clone().filter(|of| *of == wanted).count();
            (of(Decision::Accept), of(Decision::Refuse))
        };
        let (accepted, refused) = decided(0.9, 1.0);
        assert!(accepted == 0 && refused > 300, "{accepted} {refused}");
        let (accepted, refused) = decided(1.0, 0.9);
        assert!(accepted > 300 && refused == 0, "{accepted} {refused}");
        assert_eq!(decided(1.0, 1.0), (0, 0));
    }

    #[test]
    fn a_fit_has_the_same_bits_whenever_it_is_made() {
        let mut chance = Chance(5);
        let rows: Vec<_> = (0..300).map(|_| chance.row(0.4, 0.5)).collect();
        let fit = Fit::to(&judged(&rows), promise(0.8, 0.8));
        assert_ne!(fit, Fit::default());
        assert_eq!(fit, Fit::to(&judged(&rows), promise(0.8, 0.8)));
        let hash = fit.direction.iter().fold(0u64, |hash, x| {
            hash.wrapping_mul(0x100_0000_01b3) ^ x.get().to_bits()
        });
        assert_eq!(hash, PINNED, "the bits of a fit are others: {hash:#x}");
    }

    /// What the sums of a fit come to, on every machine.
    const PINNED: u64 = 0x8fe3_2622_9354_5da8;
}
