//! What has a view done, and what did that cost?

use std::sync::Arc;
use std::time::Duration;

use perennial_ask::Work;
use perennial_views::query::Query;
use perennial_views::{Effort, Epoch, Measures};

use super::update::RungCounts;

/// What a view has done so far.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The view.
    pub view: Arc<str>,
    /// The newest epoch that it had work with; none before its first.
    pub epoch: Option<Epoch>,
    /// Rows that stand.
    pub n_rows: usize,
    /// What it is.
    pub of: AnalysisOf,
}

/// What a view has done, by what it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnalysisOf {
    /// It keeps the result of a query.
    Query {
        /// The query.
        query: Arc<Query>,
        /// What its operators did.
        measures: Arc<Measures>,
    },
    /// It asks a model about documents.
    Answers {
        /// In the newest epoch that it had work with.
        newest: Box<Answering>,
        /// Since it was made, or the program was started.
        all: Box<Answering>,
    },
}

/// What answering has come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answering {
    /// Refreshes by rung. In all, those that were kept are not counted.
    pub rungs: RungCounts,
    /// Their work.
    pub work: Work,
    /// From an epoch's closing to its completion, added up.
    pub elapsed: Duration,
}

impl Answering {
    /// As what questions come to: what was kept was known, and all else is a call.
    pub fn effort(&self) -> Effort {
        let rungs = &self.rungs;
        let n_read = rungs.n_read();
        Effort {
            n_known: rungs.keep + rungs.skip,
            n_calls: n_read + rungs.failed,
            n_failed: rungs.failed,
            work: self.work,
            elapsed: self.elapsed,
        }
    }

    /// Adds a later epoch, in which what was kept is what was counted before.
    pub(super) fn add(&mut self, later: Self) {
        self.rungs += RungCounts {
            keep: 0,
            ..later.rungs
        };
        self.work += later.work;
        self.elapsed += later.elapsed;
    }
}

impl Analysis {
    /// What its questions came to for one epoch, or in all where none is named.
    pub fn effort(&self, epoch: Option<Epoch>) -> Effort {
        match &self.of {
            AnalysisOf::Query { query, measures } => query.effort(measures, epoch),
            AnalysisOf::Answers { all, .. } if epoch.is_none() => all.effort(),
            AnalysisOf::Answers { newest, .. } if epoch == self.epoch => newest.effort(),
            AnalysisOf::Answers { .. } => Effort::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_known_and_counts_in_its_epoch_only() {
        let epoch = |keep, verify| Answering {
            rungs: RungCounts {
                keep,
                verify,
                ..RungCounts::default()
            },
            ..Answering::default()
        };
        let mut all = Answering::default();
        all.add(epoch(0, 3));
        all.add(epoch(2, 1));
        let (newest, all) = (epoch(2, 1).effort(), all.effort());
        assert_eq!((newest.n_calls, newest.n_known), (1, 2));
        assert_eq!((all.n_calls, all.n_known), (4, 0));
    }
}
