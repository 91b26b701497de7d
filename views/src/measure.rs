//! What have the operators of a query done, and what did that cost?
//!
//! Each operator has a [`Measure`], found by the digest of its part of the tree, which all workers share.
//! It counts the rows that stand behind it and, where it asks a model, what became of its questions: in all,
//! and in the newest epoch for which it asked. Counting changes nothing of what flows.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_ask::Work;

use crate::dataflow::Epoch;

/// What asking has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Effort {
    /// Questions to which the answer was there already, or on its way to another view.
    pub n_known: usize,
    /// Calls of the model.
    pub n_calls: usize,
    /// Those of them that never will succeed.
    pub n_failed: usize,
    /// Work of these calls.
    pub work: Work,
    /// Time of these calls, added up: calls may run beside each other.
    pub elapsed: Duration,
}

impl Effort {
    /// Tokens that a run from nothing would have forwarded besides.
    pub fn n_reused(&self) -> usize {
        let n_forwarded = self.work.n_forwarded();
        self.work.n_from_scratch.saturating_sub(n_forwarded)
    }

    /// Whether nothing was asked.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Effort {
    /// As `2 calls, 28 known; 412 tokens forwarded, 96 reused; 3.2 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = match self.n_calls {
            1 => "call",
            _ => "calls",
        };
        write!(f, "{} {calls}, {} known", self.n_calls, self.n_known)?;
        if self.n_failed > 0 {
            write!(f, ", {} failed", self.n_failed)?;
        }
        if self.n_calls > 0 {
            let (n_forwarded, n_reused) = (self.work.n_forwarded(), self.n_reused());
            let seconds = self.elapsed.as_secs_f64();
            write!(
                f,
                "; {n_forwarded} tokens forwarded, {n_reused} reused; {seconds:.1} s"
            )?;
        }
        Ok(())
    }
}

impl std::ops::AddAssign for Effort {
    fn add_assign(&mut self, other: Self) {
        self.n_known += other.n_known;
        self.n_calls += other.n_calls;
        self.n_failed += other.n_failed;
        self.work += other.work;
        self.elapsed += other.elapsed;
    }
}

/// What one operator has done.
#[derive(Debug, Default)]
pub struct Measure {
    n_rows: AtomicIsize,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    all: Effort,
    /// Of the newest epochs for which anything was asked, the newest last: the epoch that is under way, and
    /// the one before it, which is complete.
    newest: [(Epoch, Effort); 2],
}

impl Measure {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many rows came, or went.
    pub(crate) fn count_rows(&self, n: isize) {
        self.n_rows.fetch_add(n, Relaxed);
    }

    fn count(&self, epoch: Epoch, effort: Effort) {
        let mut asked = self.asked();
        asked.all += effort;
        let [before, newest] = &mut asked.newest;
        if epoch > newest.0 {
            *before = std::mem::replace(newest, (epoch, Effort::default()));
        }
        // What is said for an epoch before these two came too late for anybody to ask about it.
        for (of, sum) in [newest, before] {
            if *of == epoch {
                *sum += effort;
                break;
            }
        }
    }

    /// Rows that stand behind the operator.
    pub fn n_rows(&self) -> usize {
        usize::try_from(self.n_rows.load(Relaxed)).unwrap_or(0)
    }

    /// All that was asked.
    pub fn all(&self) -> Effort {
        self.asked().all
    }

    /// What was asked for an epoch.
    pub fn of_epoch(&self, epoch: Epoch) -> Effort {
        let asked = self.asked();
        let mut newest = asked.newest.iter().rev();
        let found = newest.find(|(of, _)| *of == epoch);
        found.map(|(_, effort)| *effort).unwrap_or_default()
    }
}

/// Where a question is counted: whose it is, and for which epoch.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    measure: Arc<Measure>,
    epoch: Epoch,
}

impl Asker {
    pub(crate) fn new(measure: Arc<Measure>, epoch: Epoch) -> Self {
        Self { measure, epoch }
    }

    /// The answer was there, or is on its way.
    pub(crate) fn knew(&self) {
        let effort = Effort {
            n_known: 1,
            ..Effort::default()
        };
        self.measure.count(self.epoch, effort);
    }

    /// A call has ended; without work it has failed for good.
    pub(crate) fn called(&self, work: Option<Work>, elapsed: Duration) {
        let effort = Effort {
            n_calls: 1,
            n_failed: usize::from(work.is_none()),
            work: work.unwrap_or_default(),
            elapsed,
            ..Effort::default()
        };
        self.measure.count(self.epoch, effort);
    }
}

/// What the operators of one query have done.
#[derive(Debug, Default)]
pub struct Measures(Mutex<HashMap<[u8; 32], Arc<Measure>>>);

impl Measures {
    /// The measure of an operator, by the digest of its part of the tree. The operator counts rows on every
    /// worker, each time it is rendered.
    pub(crate) fn of(&self, part: [u8; 32]) -> Arc<Measure> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(part).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(n: usize) -> Option<Work> {
        Some(Work {
            n_decoded: n,
            n_from_scratch: 10,
            ..Work::default()
        })
    }

    #[test]
    fn an_epoch_that_is_under_way_hides_nothing_of_the_one_before_it() {
        let measure = Arc::new(Measure::default());
        let asker = |epoch| Asker::new(measure.clone(), epoch);
        asker(3).called(work(4), Duration::from_secs(1));
        asker(3).knew();
        asker(5).called(work(1), Duration::from_secs(2));
        // One of the epoch before that ends late counts there.
        asker(3).called(None, Duration::from_secs(3));
        let of_3 = measure.of_epoch(3);
        assert_eq!((of_3.n_calls, of_3.n_known, of_3.n_failed), (2, 1, 1));
        assert_eq!((of_3.work.n_forwarded(), of_3.n_reused()), (4, 6));
        assert_eq!(measure.of_epoch(5).n_calls, 1);
        assert!(measure.of_epoch(4).is_none());
        asker(6).knew();
        assert!(measure.of_epoch(3).is_none(), "two are kept");
        assert_eq!(measure.all().n_calls, 3);
        assert_eq!(measure.all().elapsed, Duration::from_secs(6));
    }

    #[test]
    fn epoch_zero_is_an_epoch_like_any_other() {
        let measure = Arc::new(Measure::default());
        Asker::new(measure.clone(), 0).knew();
        assert_eq!(measure.of_epoch(0).n_known, 1);
        assert_eq!(measure.all().n_known, 1);
    }
}
