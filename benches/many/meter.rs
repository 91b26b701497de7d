//! What did the epochs of a view cost, all of them together?
//!
//! A subscription is a mailbox, in which a burst of epochs may be merged or dropped; and the first epochs
//! of a view that is being filled are complete before anybody asks. A follower is told every summary.

use std::sync::{Mutex, PoisonError};

use perennial::engine::{Ending, EpochSummary, Follower, Standing, Update};

/// What epochs came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metered {
    /// Epochs that are complete.
    pub n_epochs: usize,
    /// Tokens forwarded.
    pub n_forwarded: usize,
    /// Questions that were read.
    pub n_read: usize,
}

/// Adds up what the epochs of a view say of themselves.
#[derive(Default)]
pub struct Meter {
    metered: Mutex<Metered>,
}

impl Meter {
    /// What came since this was last asked.
    pub fn take(&self) -> Metered {
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *metered)
    }

    fn add(&self, summary: &EpochSummary) {
        let rungs = summary.rungs;
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        metered.n_epochs += 1;
        metered.n_forwarded += summary.work.n_forwarded();
        metered.n_read += rungs.n_read();
    }
}

impl Follower for Meter {
    fn begin(&self, _standing: Standing) {}

    fn hear(&self, update: &Update) {
        if let Update::EpochComplete(summary) = update {
            self.add(summary);
        }
    }

    fn forget(&self) -> usize {
        0
    }

    fn n_readers(&self) -> usize {
        1
    }

    fn end(&self, _ending: Ending<'_>) {}
}
