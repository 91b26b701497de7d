//! Which fragments are being encoded now, so that no two calls encode the same?
//!
//! A call claims the fragments that it misses, and encodes them while it holds the claim. Another that
//! misses one of them waits, and finds it in the store then. Calls that miss others do not wait: so a
//! fresh call is not held up by an audit of another layout.
//!
//! # Invariants
//! - A call claims all that it needs at once, and waits with no claim in its hands: so no two wait for
//!   each other.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_bank::id::FragmentId;

/// How long who waits sleeps before it looks what has come to the store meanwhile.
const NAP: Duration = Duration::from_millis(50);

/// The fragments that are claimed.
#[derive(Default)]
pub(super) struct Encodings {
    claimed: Mutex<HashSet<FragmentId>>,
    given_back: Condvar,
}

/// Fragments that one call encodes. They are given back with this.
pub(super) struct Claim<'a> {
    encodings: &'a Encodings,
    ids: Vec<FragmentId>,
}

impl Encodings {
    /// Claims the fragments that are missing, once nobody else encodes one of them. What is missing is
    /// asked again after each wait.
    pub(super) fn claim(&self, missing: impl Fn() -> Vec<FragmentId>) -> Claim<'_> {
        let mut claimed = self.claimed();
        loop {
            let ids = missing();
            if !ids.iter().any(|id| claimed.contains(id)) {
                claimed.extend(&ids);
                return Claim {
                    encodings: self,
                    ids,
                };
            }
            let waited = self.given_back.wait_timeout(claimed, NAP);
            claimed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn claimed(&self) -> MutexGuard<'_, HashSet<FragmentId>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claimed = self.encodings.claimed();
        for id in &self.ids {
            claimed.remove(id);
        }
        drop(claimed);
        self.encodings.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use perennial_bank::id::ModelIdentity;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn id(n: u32) -> FragmentId {
        FragmentId::spliced(&ModelIdentity::new(&[0; 32], "test", "f16"), &[], &[n])
    }

    #[test]
    fn who_misses_others_does_not_wait() {
        let encodings = Encodings::default();
        let _audit = encodings.claim(|| vec![id(1), id(2)]);
        // It would wait for ever.
        let _fresh = encodings.claim(|| vec![id(3)]);
        assert_eq!(encodings.claimed().len(), 3);
    }

    #[test]
    fn who_misses_the_same_waits_and_claims_what_is_missing_then() {
        let (encodings, is_stored) = (Encodings::default(), AtomicBool::new(false));
        let first = encodings.claim(|| vec![id(1), id(2)]);
        std::thread::scope(|scope| {
            let (sender, claimed) = mpsc::channel();
            let (encodings, is_stored) = (&encodings, &is_stored);
            scope.spawn(move || {
                let missing = || match is_stored.load(Ordering::SeqCst) {
                    true => vec![id(3)],
                    false => vec![id(2), id(3)],
                };
                let second = encodings.claim(missing);
                sender.send(second.ids.clone())
            });
            claimed.try_recv().expect_err("the first has not ended");
            is_stored.store(true, Ordering::SeqCst);
            drop(first);
            let ids = claimed.recv_timeout(DEADLINE).expect("it goes on");
            assert_eq!(ids, [id(3)]);
        });
        assert!(encodings.claimed().is_empty());
    }
}
