//! Which versions of a deleted record are late?
//!
//! A deletion that claims a time makes older versions late, though nothing stands that they could be
//! compared with: so timed changes of a key give the same row in whichever order they arrive. (Of two of
//! the same time the later to arrive counts.)
//!
//! # Invariants
//! - Nothing stands under a key that is noted here.
//! - At most [`MAX_DELETIONS`] a stream are noted: past that, the ones of the oldest times are forgotten, for
//!   what is older than these is the least likely to come.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::KeyScope;
use perennial_rows::Key;

/// Deletions of a stream that are remembered.
const MAX_DELETIONS: usize = 65_536;

/// When keys of one stream were deleted, in milliseconds since 1970.
#[derive(Default)]
pub(crate) struct Deletions {
    by_key: BTreeMap<Key, i64>,
    /// The same, the oldest first.
    by_time: BTreeSet<(i64, Key)>,
    /// Of which the state directory says something else.
    unsaved: BTreeSet<Key>,
}

impl Deletions {
    /// Those that an earlier process left; none of them holds if the source says everything anew.
    pub(crate) fn restored(left: BTreeMap<String, i64>, hold: bool) -> Self {
        let left = left.into_iter().map(|(key, at_ms)| (Key::from(key), at_ms));
        let mut deletions = Self::default();
        if hold {
            deletions.by_key = left.collect();
            let by_key = deletions.by_key.iter();
            deletions.by_time = by_key.map(|(key, at_ms)| (*at_ms, key.clone())).collect();
        } else {
            deletions.unsaved = left.map(|(key, _)| key).collect();
        }
        deletions
    }

    /// When a key was deleted, if that is known.
    pub(crate) fn at(&self, key: &str) -> Option<i64> {
        self.by_key.get(key).copied()
    }

    /// The keys that are noted.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }

    /// Notes that a key was deleted at a time.
    pub(crate) fn note(&mut self, key: Key, at_ms: i64) {
        self.forget(key.as_str());
        self.by_time.insert((at_ms, key.clone()));
        self.unsaved.insert(key.clone());
        self.by_key.insert(key, at_ms);
        while self.by_key.len() > MAX_DELETIONS {
            let Some((_, oldest)) = self.by_time.pop_first() else {
                break;
            };
            self.by_key.remove(&oldest);
            self.unsaved.insert(oldest);
        }
    }

    /// Nothing is known of a key any more.
    pub(crate) fn forget(&mut self, key: &str) {
        if let Some((key, at_ms)) = self.by_key.remove_entry(key) {
            self.unsaved.insert(key.clone());
            self.by_time.remove(&(at_ms, key));
        }
    }

    /// Nor of the keys of a part.
    pub(crate) fn forget_part(&mut self, part: &KeyScope) {
        let keys = self.by_key.keys().filter(|key| part.holds(key.as_str()));
        let keys: Vec<Key> = keys.cloned().collect();
        keys.iter().for_each(|key| self.forget(key.as_str()));
    }

    /// Whether the state directory says something else.
    pub(crate) fn is_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// What it is to say instead.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(Key, Option<i64>)> {
        let unsaved = std::mem::take(&mut self.unsaved).into_iter();
        unsaved
            .map(|key| {
                let at_ms = self.at(key.as_str());
                (key, at_ms)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_and_forgotten_is_told_once_and_comes_back() {
        let mut deletions = Deletions::default();
        for (key, at_ms) in [("a", 3), ("b#x", 5), ("a", 4), ("c", 1)] {
            deletions.note(key.into(), at_ms);
        }
        deletions.forget("c");
        assert_eq!((deletions.at("a"), deletions.at("c")), (Some(4), None));
        let told = deletions.take_unsaved();
        let expected = [("a", Some(4)), ("b#x", Some(5)), ("c", None)];
        assert_eq!(told, expected.map(|(key, at_ms)| (key.into(), at_ms)));
        assert!(!deletions.is_unsaved() && deletions.take_unsaved().is_empty());
        let left = || BTreeMap::from([("a".to_owned(), 4), ("b#x".to_owned(), 5)]);
        let mut held = Deletions::restored(left(), true);
        assert_eq!(held.at("b#x"), Some(5));
        assert!(!held.is_unsaved());
        held.forget_part(&KeyScope::behind("b#", [""]));
        assert_eq!(held.take_unsaved(), [("b#x".into(), None)]);
        assert_eq!((held.at("a"), held.by_time.len()), (Some(4), 1));
        let mut anew = Deletions::restored(left(), false);
        assert_eq!(anew.at("a"), None);
        assert_eq!(anew.take_unsaved().len(), 2);
    }

    #[test]
    fn past_the_bound_those_of_the_oldest_times_go() {
        let mut deletions = Deletions::default();
        let n = i64::try_from(MAX_DELETIONS).expect("small");
        // The newest first: what counts is the time, not the arrival.
        for at_ms in (0..n + 2).rev() {
            deletions.note(format!("k{at_ms}").into(), at_ms);
        }
        assert_eq!(deletions.by_key.len(), MAX_DELETIONS);
        assert_eq!((deletions.at("k0"), deletions.at("k1")), (None, None));
        assert_eq!(deletions.at("k2"), Some(2));
    }
}
