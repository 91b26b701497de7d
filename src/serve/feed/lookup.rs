//! How is looked up what stood before a feed began?
//!
//! In the history of the state directory, on a thread that may wait. Many go on at once after a restart:
//! so few look at a time, and the others wait for their turn, while their readers tell that they live.

use std::sync::Arc;

use perennial_views::Epoch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Feed;
use crate::engine::Engine;
use crate::state::Stood;

/// Lookups of one view at a time.
pub(super) const MAX_LOOKUPS: usize = 2;

/// Who knows what stood before.
pub(in super::super) trait History: Send + Sync + 'static {
    /// Of a view's answers that were stored after an epoch, or of the one under a key: what stood at it.
    /// None where that is not known. It waits.
    fn stood_before(&self, view: &str, key: Option<&str>, epoch: Epoch) -> Option<Stood>;
}

impl History for Engine {
    fn stood_before(&self, view: &str, key: Option<&str>, epoch: Epoch) -> Option<Stood> {
        // A history that cannot be read knows nothing: who asks begins anew.
        Engine::stood_before(self, view, key, epoch).ok().flatten()
    }
}

/// What stood at an epoch.
pub(super) struct Past {
    pub(super) stood: Stood,
    /// The epoch of the feed before it was looked. Nothing that was said up to it is missing in `stood`;
    /// what was said later is the feed's to know.
    pub(super) read_at: Epoch,
}

/// A look into the history that is under way. It is given up with this.
pub(super) struct Lookup {
    /// What stood at this epoch is looked up.
    pub(super) epoch: Epoch,
    task: JoinHandle<Option<Past>>,
}

impl Lookup {
    pub(super) fn begin(
        feed: &Arc<Feed>,
        history: &Arc<dyn History>,
        key: Option<&str>,
        epoch: Epoch,
    ) -> Self {
        let (feed, history, key) = (feed.clone(), history.clone(), key.map(str::to_owned));
        let task = tokio::spawn(async move {
            // Nobody closes it.
            let turn = feed.lookups.clone().acquire_owned().await.ok()?;
            let look = move || {
                // Given back here, and not with who waits: they may have given up.
                let _turn = turn;
                let read_at = feed.epoch()?;
                let stood = history.stood_before(&feed.name, key.as_deref(), epoch)?;
                Some(Past { stood, read_at })
            };
            spawn_blocking(look).await.ok().flatten()
        });
        Self { epoch, task }
    }

    /// What was found; none where that is not known. Who gives up waiting may wait again.
    pub(super) async fn found(&mut self) -> Option<Past> {
        (&mut self.task).await.ok().flatten()
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.task.abort();
    }
}
