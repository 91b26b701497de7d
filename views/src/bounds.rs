//! How much may an evaluation take, and how is one ended that takes more?
//!
//! # Design
//! Of all operators only a join makes more rows than it reads, and it makes all pairs of a key within one
//! activation. So no look between two steps of a worker ends a join of large sides: by then it has run for
//! hours, or memory is full. Joins therefore count their pairs in a [`Meter`], and the pair that is one too
//! many unwinds the step. That is how rust-analyzer ends queries that nobody wants any more: nothing is said on
//! standard error, for nothing is broken. [`guarded`] catches it; whoever steps the worker then drops the
//! dataflow.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use perennial_ask::Cancel;

/// Pairs between two looks at the clock and at the flag.
const LOOK_EVERY: usize = 4_096;

/// What an evaluation may take: unless said, as much as it needs.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The most rows of its result.
    pub n_rows: usize,
    /// The most pairs of rows that its joins look at.
    pub n_pairs: usize,
    /// When it is given up.
    pub until: Option<Instant>,
    /// Raised when nobody wants the result any more.
    pub cancel: Cancel,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            n_rows: usize::MAX,
            n_pairs: usize::MAX,
            until: None,
            cancel: Cancel::new(),
        }
    }
}

/// Why an evaluation was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Exceeded {
    /// The result is too large.
    #[error("the result has more than {limit} rows; add LIMIT, or a condition")]
    Rows {
        /// How many it may have.
        limit: usize,
    },
    /// Its joins are too large.
    #[error(
        "its joins look at more than {limit} pairs of rows; join by equal columns, or leave rows out before \
         they are joined: LIMIT counts what comes out of a join, and does not help"
    )]
    Pairs {
        /// How many they may look at.
        limit: usize,
    },
    /// Its time is over.
    #[error("it takes longer than it may; ask for less, or keep it as a view")]
    Late,
    /// Nobody wants it any more.
    #[error("it was given up; send it again")]
    Cancelled,
}

/// Counts what one evaluation comes to.
pub(crate) struct Meter {
    bounds: Bounds,
    n_pairs: Cell<usize>,
    n_rows: Cell<usize>,
}

impl Meter {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            n_pairs: Cell::new(0),
            n_rows: Cell::new(0),
        }
    }

    /// Counts pairs that a join looks at. One too many unwinds; see [`guarded`].
    pub(crate) fn count_pairs(&self, n: usize) {
        let before = self.n_pairs.get();
        let n_pairs = before.saturating_add(n);
        self.n_pairs.set(n_pairs);
        let limit = self.bounds.n_pairs;
        let looked = match n_pairs {
            n if n > limit => Err(Exceeded::Pairs { limit }),
            n if n / LOOK_EVERY > before / LOOK_EVERY => self.look(),
            _ => Ok(()),
        };
        if let Err(exceeded) = looked {
            resume_unwind(Box::new(exceeded));
        }
    }

    /// The pairs that were counted until now.
    #[cfg(test)]
    pub(crate) fn n_pairs(&self) -> usize {
        self.n_pairs.get()
    }

    /// Counts a row of the result that stands so often. Whether there is room for it.
    pub(crate) fn count_result(&self, count: isize) -> bool {
        let count = usize::try_from(count).unwrap_or(0);
        let n_rows = self.n_rows.get().saturating_add(count);
        self.n_rows.set(n_rows);
        n_rows <= self.bounds.n_rows
    }

    /// Whether it may go on.
    pub(crate) fn look(&self) -> Result<(), Exceeded> {
        let limit = self.bounds.n_rows;
        if self.n_rows.get() > limit {
            return Err(Exceeded::Rows { limit });
        }
        if self.bounds.cancel.is_cancelled() {
            return Err(Exceeded::Cancelled);
        }
        match self.bounds.until {
            Some(until) if Instant::now() >= until => Err(Exceeded::Late),
            _ => Ok(()),
        }
    }
}

/// Runs what counts in a [`Meter`], to its end or to where it exceeds its bounds.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Exceeded> {
    // What was unwound is in no state to be used: it is dropped.
    catch_unwind(AssertUnwindSafe(run)).map_err(|cause| match cause.downcast::<Exceeded>() {
        Ok(exceeded) => *exceeded,
        Err(other) => resume_unwind(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_that_is_one_too_many_ends_it() {
        let meter = Meter::new(Bounds {
            n_pairs: 3,
            ..Bounds::default()
        });
        let n = Cell::new(0);
        let ended: Result<(), Exceeded> = guarded(|| {
            loop {
                meter.count_pairs(1);
                n.set(n.get() + 1);
            }
        });
        assert_eq!(ended, Err(Exceeded::Pairs { limit: 3 }));
        assert_eq!(n.get(), 3);
        assert_eq!(guarded(|| 7), Ok(7));
    }

    #[test]
    fn pairs_are_counted_together_as_one_by_one() {
        let meter = Meter::new(Bounds {
            n_pairs: 3 * LOOK_EVERY,
            ..Bounds::default()
        });
        assert_eq!(guarded(|| meter.count_pairs(3 * LOOK_EVERY)), Ok(()));
        let limit = 3 * LOOK_EVERY;
        for n in [1, usize::MAX] {
            let counted = guarded(|| meter.count_pairs(n));
            assert_eq!(counted, Err(Exceeded::Pairs { limit }));
        }
    }

    #[test]
    fn who_hangs_up_and_the_clock_are_looked_at_on_the_way() {
        let cancel = Cancel::new();
        let of_cancel = Bounds {
            cancel: cancel.clone(),
            ..Bounds::default()
        };
        let of_clock = Bounds {
            until: Some(Instant::now()),
            ..Bounds::default()
        };
        cancel.cancel();
        for (bounds, expected) in [(of_cancel, Exceeded::Cancelled), (of_clock, Exceeded::Late)] {
            let meter = Meter::new(bounds);
            let ended: Result<(), Exceeded> = guarded(|| {
                loop {
                    meter.count_pairs(1);
                }
            });
            assert_eq!(ended, Err(expected));
        }
    }

    #[test]
    fn rows_of_the_result_are_counted_as_often_as_they_stand() {
        let meter = Meter::new(Bounds {
            n_rows: 5,
            ..Bounds::default()
        });
        assert!(meter.count_result(5));
        assert_eq!(meter.look(), Ok(()));
        assert!(!meter.count_result(isize::MAX) && !meter.count_result(isize::MAX));
        assert_eq!(meter.look(), Err(Exceeded::Rows { limit: 5 }));
    }

    #[test]
    #[should_panic(expected = "broken")]
    fn what_is_broken_stays_broken() {
        let _ = guarded::<()>(|| panic!("broken"));
    }
}
