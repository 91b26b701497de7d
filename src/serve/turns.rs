//! How many do the same at once, and how many of them for one who asks?
//!
//! # Invariants
//! - Of those who have a token, none holds more than its share, so another finds room.
//! - Who waits for its own share holds nothing of what all share.
//! - Who holds no turn, and waits for none, is forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::Refusal;

/// Turns that are taken, and given back.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// How many one may hold who has a token.
    share: usize,
    /// What is left of their shares, by who asks.
    shares: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

/// A turn. It is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_share: Option<OwnedSemaphorePermit>,
}

/// The share of one who asks, of what all have: half, so that nobody is alone.
pub(super) fn share(of_all: usize) -> usize {
    of_all.div_ceil(2)
}

impl Turns {
    /// So many at once.
    pub(super) fn new(n: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(n)),
            share: share(n),
            shares: Mutex::default(),
        }
    }

    /// Waits for a turn. Who has no token is not told from others, and has no share.
    ///
    /// # Errors
    /// Where there is none in time.
    pub(super) async fn take(
        &self,
        asker: Option<&str>,
        patience: Duration,
    ) -> Result<Turn, Refusal> {
        let take = async {
            let of_share = match asker {
                Some(asker) => Some(self.share_of(asker).acquire_owned().await?),
                None => None,
            };
            Ok::<_, tokio::sync::AcquireError>(Turn {
                _of_share: of_share,
                _of_all: self.all.clone().acquire_owned().await?,
            })
        };
        match timeout(patience, take).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Refusal::busy()),
        }
    }

    fn share_of(&self, asker: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // Turns, and those who wait for one, hold theirs.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        let share = shares
            .entry(asker.into())
            .or_insert_with(|| Arc::new(Semaphore::new(self.share)));
        share.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(test);
    }

    #[test]
    fn one_who_asks_has_no_more_than_its_share() {
        run(async {
            let turns = Turns::new(4);
            let take = |asker| turns.take(asker, MOMENT);
            let (first, _second) = (take(Some("a")).await, take(Some("a")).await);
            assert!(first.is_ok());
            assert!(take(Some("a")).await.is_err(), "it has its share");
            let _other = take(Some("b")).await.expect("there is room for another");
            drop(first);
            let _third = take(Some("a")).await.expect("one was given back");
            let _nobody = take(None).await.expect("the last one");
            assert!(take(Some("c")).await.is_err(), "all are taken");
        });
    }

    #[test]
    fn who_holds_no_turn_is_not_remembered() {
        run(async {
            let turns = Turns::new(2);
            let kept = turns.take(Some("kept"), MOMENT).await.expect("a turn");
            for n in 0..100 {
                turns
                    .take(Some(&n.to_string()), MOMENT)
                    .await
                    .expect("a turn");
            }
            assert!(turns.shares.lock().expect("whole").len() <= 2);
            assert!(turns.take(Some("kept"), MOMENT).await.is_err());
            drop(kept);
        });
    }

    #[test]
    fn there_is_a_share_of_one() {
        assert_eq!([1, 2, 3, 64].map(share), [1, 1, 2, 32]);
    }
}
