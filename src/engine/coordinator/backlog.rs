//! Which changes has a view not taken, and since when do they wait?
//!
//! # Invariants
//! - It is bounded, however long a view waits: of many epochs the newest are kept as one.
//! - No change is younger here than it is.

use std::collections::BTreeMap;
use std::time::Instant;

use perennial_views::Epoch;

/// Entries that are kept apart.
const MAX_ENTRIES: usize = 64;

/// The epochs with changes for a view that it has not taken.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// By the last epoch of each entry.
    entries: BTreeMap<Epoch, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    n_epochs: usize,
    since: Instant,
}

impl Backlog {
    /// Notes that an epoch has changes for the view.
    pub(super) fn push(&mut self, epoch: Epoch, now: Instant) {
        let entry = Entry {
            n_epochs: 1,
            since: now,
        };
        self.entries.entry(epoch).or_insert(entry);
        if self.entries.len() > MAX_ENTRIES
            && let Some((last, newest)) = self.entries.pop_last()
            && let Some((_, before)) = self.entries.pop_last()
        {
            let joined = Entry {
                n_epochs: before.n_epochs + newest.n_epochs,
                since: before.since.min(newest.since),
            };
            self.entries.insert(last, joined);
        }
    }

    /// The view takes all changes up to an epoch.
    pub(super) fn take(&mut self, upto: Epoch) {
        self.entries.retain(|last, _| *last > upto);
    }

    /// The epochs up to one that wait, ascending; of those that are kept as one, the last.
    pub(super) fn upto(&self, epoch: Epoch) -> impl Iterator<Item = Epoch> + '_ {
        self.entries.range(..=epoch).map(|(last, _)| *last)
    }

    /// How many epochs wait.
    pub(super) fn n_epochs(&self) -> usize {
        self.entries.values().map(|entry| entry.n_epochs).sum()
    }

    /// Since when the oldest change waits; none where nothing does.
    pub(super) fn since(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.since).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_change_that_was_not_taken_tells_the_age() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let at = |n: u32| now + Duration::from_secs(1) * n;
        for epoch in 3..6 {
            backlog.push(epoch.into(), at(epoch));
        }
        // Heard of twice, from two of what it reads.
        backlog.push(3, at(9));
        assert_eq!((backlog.n_epochs(), backlog.since()), (3, Some(at(3))));
        assert_eq!(backlog.upto(4).collect::<Vec<_>>(), [3, 4]);
        backlog.take(4);
        assert_eq!((backlog.n_epochs(), backlog.since()), (1, Some(at(5))));
        backlog.take(7);
        assert_eq!((backlog.n_epochs(), backlog.since()), (0, None));
    }

    #[test]
    fn a_long_backlog_is_counted_in_full_and_bounded() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for epoch in 1..=10_000 {
            backlog.push(epoch, now + Duration::from_millis(epoch));
        }
        assert!(backlog.entries.len() <= MAX_ENTRIES);
        assert_eq!(backlog.n_epochs(), 10_000);
        // What is joined waits as long as the oldest of it.
        backlog.take(9_999);
        let first_joined = now + Duration::from_millis(MAX_ENTRIES as u64);
        assert_eq!(backlog.since(), Some(first_joined));
        backlog.take(10_000);
        assert_eq!(backlog.since(), None);
    }
}
