//! What changed in a relation since any epoch that a view may still stand at?
//!
//! # Design
//! Every relation keeps, by epoch, the net change that the epoch made. A view that is ready for
//! its next epoch takes all changes after the one it stands at, as one net change: a burst of
//! edits while a model was busy costs one refresh. A view that reads another takes what stood when
//! that one had read the same epoch, so a workflow is consistent.
//!
//! # Invariants
//! - The changes between two epochs at which somebody stands are one entry: the log is as large as
//!   what changed, whatever the number of epochs that went by.
//! - A change and its inverse are no change.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use perennial_rows::{Key, Row, Tuple};
use perennial_views::Epoch;

/// A net change that another may follow.
pub(crate) trait Change: Clone + Default {
    /// This change and then a later one, as one.
    fn then(&mut self, later: &Self);
    /// Whether nothing changes.
    fn is_empty(&self) -> bool;
}

/// The change of a keyed relation: what each row was, and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyedChange(BTreeMap<Key, (Option<Row>, Option<Row>)>);

impl KeyedChange {
    /// Notes what becomes of one row.
    pub(crate) fn note(&mut self, key: Key, old: Option<Row>, new: Option<Row>) {
        match self.0.entry(key) {
            Entry::Vacant(entry) => {
                if old != new {
                    entry.insert((old, new));
                }
            }
            Entry::Occupied(mut entry) => {
                entry.get_mut().1 = new;
                if entry.get().0 == entry.get().1 {
                    entry.remove();
                }
            }
        }
    }

    /// Keys, with what stood and what stands.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, Option<&Row>, Option<&Row>)> {
        let rows = self.0.iter();
        rows.map(|(key, (old, new))| (key, old.as_ref(), new.as_ref()))
    }
}

/// Of rows that are noted once each, and in order: what many of them cost is no search for each.
impl FromIterator<(Key, Option<Row>, Option<Row>)> for KeyedChange {
    fn from_iter<I: IntoIterator<Item = (Key, Option<Row>, Option<Row>)>>(rows: I) -> Self {
        let rows = rows.into_iter().filter(|(_, old, new)| old != new);
        Self(rows.map(|(key, old, new)| (key, (old, new))).collect())
    }
}

impl KeyedChange {
    /// The change that takes it back: keys, with what stands and what stood.
    pub(crate) fn backwards(&self) -> impl Iterator<Item = (&Key, Option<&Row>, Option<&Row>)> {
        self.iter().map(|(key, old, new)| (key, new, old))
    }
}

impl Change for KeyedChange {
    fn then(&mut self, later: &Self) {
        for (key, old, new) in later.iter() {
            self.note(key.clone(), old.cloned(), new.cloned());
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The change of a bag of tuples: by how much each multiplicity grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BagChange(BTreeMap<Tuple, isize>);

impl BagChange {
    /// Adds to the multiplicity of a tuple.
    pub(crate) fn add(&mut self, tuple: Tuple, diff: isize) {
        match self.0.entry(tuple) {
            Entry::Vacant(entry) => {
                if diff != 0 {
                    entry.insert(diff);
                }
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += diff;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }

    /// Tuples with their differences.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Tuple, isize)> {
        self.0.iter().map(|(tuple, diff)| (tuple, *diff))
    }
}

impl Change for BagChange {
    fn then(&mut self, later: &Self) {
        for (tuple, diff) in later.iter() {
            self.add(tuple.clone(), diff);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The changes of one relation, by epoch.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog<C> {
    changes: BTreeMap<Epoch, C>,
}

impl<C: Change> ChangeLog<C> {
    /// Notes what an epoch changed; epochs come in order.
    pub(crate) fn push(&mut self, epoch: Epoch, change: C) {
        if !change.is_empty() {
            self.changes.insert(epoch, change);
        }
    }

    /// The net change after one epoch, up to and with another.
    pub(crate) fn between(&self, after: Epoch, upto: Epoch) -> C {
        let mut changes = self.within(after, upto);
        let mut net = changes.next().cloned().unwrap_or_default();
        changes.for_each(|change| net.then(change));
        net
    }

    /// The net change after an epoch.
    pub(crate) fn since(&self, after: Epoch) -> C {
        self.between(after, Epoch::MAX)
    }

    /// Whether anything changed after one epoch, up to and with another.
    pub(crate) fn has_between(&self, after: Epoch, upto: Epoch) -> bool {
        self.within(after, upto).next().is_some()
    }

    fn within(&self, after: Epoch, upto: Epoch) -> impl Iterator<Item = &C> {
        let bounds = (Bound::Excluded(after), Bound::Included(upto.max(after)));
        // Nothing lies between an epoch and itself.
        let changes = (after < upto).then(|| self.changes.range(bounds));
        changes.into_iter().flatten().map(|(_, change)| change)
    }

    /// Drops what nobody will ask for, and makes one entry of those between which nobody stands.
    /// `stands` are the epochs at which readers stand, in order; all before the first are
    /// dropped.
    pub(crate) fn compact(&mut self, stands: &[Epoch]) {
        let Some(first) = stands.first() else {
            return;
        };
        let kept = self.changes.split_off(&(first + 1));
        self.changes.clear();
        for (epoch, change) in kept {
            // The next place where somebody stands; behind the last, entries are apart.
            let at = stands.partition_point(|stand| *stand < epoch);
            let epoch = stands.get(at).copied().unwrap_or(epoch);
            match self.changes.entry(epoch) {
                // Most often nothing is to be joined, and nothing is copied.
                Entry::Vacant(entry) => {
                    entry.insert(change);
                }
                Entry::Occupied(mut entry) => entry.get_mut().then(&change),
            }
        }
        self.changes.retain(|_, change| !change.is_empty());
    }

    /// Number of entries.
    #[cfg(test)]
    fn n_entries(&self) -> usize {
        self.changes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(value: u8) -> Option<Row> {
        (value > 0).then(|| Row::of_text(value.to_string()))
    }

    proptest! {
        /// Whatever is compacted: who stands somewhere gets the net change from there.
        #[test]
        fn compacting_changes_nothing_for_those_who_stand_somewhere(
            epochs in prop::collection::vec(
                prop::collection::vec((0u8..4, 0u8..4), 0..4), 1..12),
            stands in prop::collection::btree_set(0u64..12, 1..4),
        ) {
            let mut log = ChangeLog::<KeyedChange>::default();
            let mut rows = [0u8; 4];
            let mut as_of = Vec::new();
            for (epoch, edits) in (0..).zip(&epochs) {
                let mut change = KeyedChange::default();
                for (key, value) in edits {
                    let old = std::mem::replace(&mut rows[usize::from(*key)], *value);
                    change.note(Key::from(key.to_string()), row(old), row(*value));
                }
                log.push(epoch, change);
                as_of.push(rows);
            }
            let last = epochs.len() as u64 - 1;
            let stands: Vec<u64> = stands.into_iter().filter(|s| *s <= last).collect();
            prop_assume!(!stands.is_empty());
            log.compact(&stands);
            prop_assert!(log.n_entries() <= epochs.len() - stands[0] as usize);
            for (at, from) in stands.iter().enumerate() {
                for upto in stands[at..].iter().copied().chain([last]) {
                    let change = log.between(*from, upto);
                    let mut expected = KeyedChange::default();
                    let (old, new) = (as_of[*from as usize], as_of[upto as usize]);
                    for key in 0..4 {
                        expected.note(Key::from(key.to_string()), row(old[key]), row(new[key]));
                    }
                    prop_assert_eq!(&change, &expected);
                    prop_assert_eq!(
                        log.has_between(*from, upto) || change.is_empty(), true);
                }
            }
        }
    }

    #[test]
    fn a_log_does_not_grow_with_the_epochs_between_two_readers() {
        let mut log = ChangeLog::<BagChange>::default();
        for epoch in 1..=1_000 {
            let mut change = BagChange::default();
            change.add([perennial_rows::Value::from(1i64)].into(), 1);
            log.push(epoch, change);
            log.compact(&[0, epoch]);
        }
        assert_eq!(log.n_entries(), 1);
        let tuple: Tuple = [perennial_rows::Value::from(1i64)].into();
        assert_eq!(log.since(0).iter().collect::<Vec<_>>(), [(&tuple, 1000)]);
    }
}
