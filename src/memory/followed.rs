//! What has a memory's view said so far?

use std::sync::Arc;
use std::time::Duration;

use perennial_views::Epoch;

use super::entry::Entry;
use super::index::Index;
use crate::engine::{Subscription, Update};

/// A memory's view, as far as it was read.
pub(super) struct Followed {
    updates: Subscription,
    pub(super) index: Index,
    pub(super) epoch: Option<Epoch>,
    /// Whether nothing more is told: the view was dropped, or the engine has stopped.
    pub(super) has_ended: bool,
    /// Entries that are gone, until somebody takes note.
    pub(super) gone: Vec<Arc<Entry>>,
}

impl Followed {
    pub(super) fn over(updates: Subscription) -> Self {
        Self {
            updates,
            index: Index::default(),
            epoch: None,
            has_ended: false,
            gone: Vec::new(),
        }
    }

    /// Takes in what was told since: all of it is of complete epochs.
    pub(super) fn catch_up(&mut self) {
        // None that comes in no time is one that waits for nobody.
        while let Ok(update) = self.updates.recv_timeout(Duration::ZERO) {
            match update {
                Some(Update::Rows(rows)) => {
                    self.epoch = Some(rows.epoch);
                    self.gone.extend(self.index.apply(rows.rows));
                }
                Some(Update::EpochComplete(summary)) => self.epoch = Some(summary.epoch),
                Some(Update::Failed { .. }) | None => {
                    self.has_ended = true;
                    return;
                }
                Some(_) => {}
            }
        }
    }
}
