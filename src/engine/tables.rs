//! The current rows of every stream, and the deltas that the next epoch will carry.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::KeyScope;
use perennial_rows::{Key, Row};

use super::deletions::Deletions;

/// A row's change in one epoch: what it was and what it is.
#[derive(Clone, Debug)]
pub(crate) struct RowDelta {
    pub(crate) key: Key,
    pub(crate) old: Option<Row>,
    pub(crate) new: Option<Row>,
    /// What the state directory holds; differs from `old` in the first epoch after a
    /// restart only.
    pub(crate) stored: Option<Row>,
}

/// The rows of one stream: as of the last closed epoch, and what has come since.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<Key, Row>,
    pending: BTreeMap<Key, Option<Row>>,
    /// Rows of an earlier process that no epoch of this one has carried yet.
    restored: BTreeMap<Key, Row>,
    /// Rows that the source has not named since it started anew or over: they make nothing late.
    unconfirmed: BTreeSet<Key>,
    /// When rows that are gone were deleted.
    deletions: Deletions,
}

impl Table {
    /// A table whose first epoch carries the rows that an earlier process left; if they do
    /// not `stand`, only those that come again.
    pub(crate) fn restored(rows: BTreeMap<Key, Row>, stand: bool) -> Self {
        let row = |row: &Row| stand.then(|| row.clone());
        let pending = rows.iter().map(|(key, held)| (key.clone(), row(held)));
        let unconfirmed = rows.keys().filter(|_| !stand);
        Self {
            rows: BTreeMap::new(),
            pending: pending.collect(),
            unconfirmed: unconfirmed.cloned().collect(),
            restored: rows,
            deletions: Deletions::default(),
        }
    }

    /// With what an earlier process left of deletions.
    #[must_use]
    pub(crate) fn with_deletions(mut self, deletions: Deletions) -> Self {
        self.deletions = deletions;
        self
    }

    /// Notes an upsert (`Some`) or a delete (`None`) for the next epoch; the last of a key
    /// counts.
    pub(crate) fn set(&mut self, key: Key, row: Option<Row>) {
        self.deletions.forget(key.as_str());
        self.unconfirmed.remove(&key);
        self.pending.insert(key, row);
    }

    /// Notes a delete for the next epoch that claims a time: older versions that come later are late.
    pub(crate) fn delete_at(&mut self, key: Key, at_ms: i64) {
        self.set(key.clone(), None);
        self.deletions.note(key, at_ms);
    }

    /// Forgets when a row that is gone was deleted.
    pub(crate) fn forget_deletion(&mut self, key: &str) {
        self.deletions.forget(key);
    }

    /// Keys of which it is known when they were deleted.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = &Key> {
        self.deletions.keys()
    }

    /// Whether the state directory is to say something else of deletions.
    pub(crate) fn has_unsaved_deletions(&self) -> bool {
        self.deletions.is_unsaved()
    }

    /// What it is to say of them.
    pub(crate) fn take_unsaved_deletions(&mut self) -> Vec<(Key, Option<i64>)> {
        self.deletions.take_unsaved()
    }

    /// The source says everything of a part again, from its beginning.
    pub(crate) fn start_over(&mut self, part: &KeyScope) {
        let keys = self.rows.keys().chain(self.pending.keys());
        let keys = keys.filter(|key| part.holds(key.as_str()));
        self.unconfirmed.extend(keys.cloned());
        self.deletions.forget_part(part);
    }

    /// Rows of a part that the source has not named since it started over are gone.
    pub(crate) fn drop_unconfirmed(&mut self, part: &KeyScope) {
        let unconfirmed = std::mem::take(&mut self.unconfirmed).into_iter();
        let (gone, others) = unconfirmed.partition(|key| part.holds(key.as_str()));
        self.unconfirmed = others;
        let gone: BTreeSet<Key> = gone;
        self.pending.extend(gone.into_iter().map(|key| (key, None)));
    }

    /// Whether a row stands, or is about to.
    pub(crate) fn holds(&self, key: &str) -> bool {
        match self.pending.get(key) {
            Some(row) => row.is_some(),
            None => self.rows.contains_key(key),
        }
    }

    /// The time of the version that stands under this key, or of its deletion, if that claims a time which
    /// is newer than the one that is claimed for what would replace or delete it.
    pub(crate) fn newer_than(&self, key: &str, claimed_ms: Option<i64>) -> Option<i64> {
        let standing = match self.pending.get(key) {
            Some(pending) => pending.as_ref(),
            None => self.rows.get(key),
        };
        let Some(standing) = standing else {
            let deleted_ms = self.deletions.at(key)?;
            return (claimed_ms? < deleted_ms).then_some(deleted_ms);
        };
        if self.unconfirmed.contains(key) {
            return None;
        }
        let is_late = standing.is_timed && claimed_ms? < standing.updated_at_ms;
        is_late.then_some(standing.updated_at_ms)
    }

    pub(crate) fn n_pending(&self) -> usize {
        self.pending.len()
    }

    /// Number of rows as of the last commit.
    pub(crate) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// The rows as of the last commit, by key.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Key, &Row)> + Clone {
        self.rows.iter()
    }

    /// The rows as they will be after the next commit.
    pub(crate) fn expected(&self) -> impl Iterator<Item = (&Key, &Row)> {
        let standing = self.rows.iter();
        let standing = standing.filter(|(key, _)| !self.pending.contains_key(*key));
        let pending = self.pending.iter();
        standing.chain(pending.filter_map(|(key, row)| Some((key, row.as_ref()?))))
    }

    /// The row of a key as of the last commit, in this process or the one before.
    pub(crate) fn get(&self, key: &str) -> Option<&Row> {
        self.rows.get(key).or_else(|| self.restored.get(key))
    }

    /// Restored rows stand, unless the source named them: then what it said counts, and be it
    /// that they are gone.
    pub(crate) fn keep_restored(&mut self) {
        let unnamed = |(key, _): &(&Key, &Row)| self.unconfirmed.contains(*key);
        for (key, row) in self.restored.iter().filter(unnamed) {
            let pending = self.pending.entry(key.clone()).or_default();
            pending.get_or_insert_with(|| row.clone());
        }
    }

    /// Makes what is pending current and returns the net change, none for rows that are as
    /// they were, here and in the state directory.
    pub(crate) fn commit(&mut self) -> Vec<RowDelta> {
        let mut deltas = Vec::new();
        let is_first = !self.restored.is_empty();
        for (key, new) in std::mem::take(&mut self.pending) {
            let old = match &new {
                Some(row) => self.rows.insert(key.clone(), row.clone()),
                None => self.rows.remove(&key),
            };
            let stored = match is_first {
                true => self.restored.remove(&key),
                false => old.clone(),
            };
            if old != new || stored != new {
                deltas.push(RowDelta {
                    key,
                    old,
                    new,
                    stored,
                });
            }
        }
        deltas
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;

    use super::*;

    fn row(text: &str) -> Option<Row> {
        Some(Row::of_text(text))
    }

    #[test]
    fn restored_rows_are_carried_once_and_compared_with_what_is_stored() {
        let rows = [("a", "1"), ("b", "2"), ("c", "3")];
        let rows = rows.map(|(key, text)| (Key::from(key), row(text).expect("a row")));
        let mut table = Table::restored(rows.clone().into(), true);
        table.set("b".into(), row("2b"));
        table.set("c".into(), None);
        let seen: Vec<_> = table
            .commit()
            .into_iter()
            .map(|d| (d.key, d.old, d.new, d.stored))
            .collect();
        assert_eq!(
            seen,
            [
                ("a".into(), None, row("1"), row("1")),
                ("b".into(), None, row("2b"), row("2")),
                ("c".into(), None, None, row("3")),
            ]
        );
        let mut anew = Table::restored(rows.into(), false);
        anew.set("a".into(), row("1"));
        let new: Vec<_> = anew.commit().into_iter().map(|d| d.new).collect();
        assert_eq!(new, [row("1"), None, None]);
        table.set("a".into(), None);
        let delta = table.commit().remove(0);
        assert_eq!((delta.old, delta.stored), (row("1"), row("1")));
    }

    #[test]
    fn only_what_claims_an_older_time_than_what_claims_one_is_late() {
        let timed = |is_timed| {
            let mut row = Row::of_text("t");
            (row.updated_at_ms, row.is_timed) = (10, is_timed);
            Some(row)
        };
        let mut table = Table::default();
        table.set("timed".into(), timed(true));
        table.set("untimed".into(), timed(false));
        assert_eq!(table.newer_than("timed", Some(9)), Some(10));
        assert_eq!(table.newer_than("timed", Some(10)), None);
        assert_eq!(table.newer_than("timed", None), None);
        assert_eq!(table.newer_than("untimed", Some(9)), None);
        assert_eq!(table.newer_than("none", Some(9)), None);
        // A source that starts over says all again: nothing is late before that.
        table.start_over(&KeyScope::all());
        assert_eq!(table.newer_than("timed", Some(9)), None);
    }

    #[test]
    fn a_deletion_makes_older_versions_late_until_something_newer_or_of_no_time_comes() {
        let mut table = Table::default();
        table.delete_at("k".into(), 10);
        assert_eq!(table.newer_than("k", Some(9)), Some(10));
        assert_eq!(table.newer_than("k", Some(10)), None);
        assert_eq!(table.newer_than("k", None), None);
        table.commit();
        assert_eq!(table.newer_than("k", Some(9)), Some(10));
        table.set("k".into(), row("1"));
        assert_eq!(table.newer_than("k", Some(9)), None);
        table.delete_at("k".into(), 10);
        table.set("k".into(), None);
        assert_eq!(table.newer_than("k", Some(9)), None);
        table.delete_at("k".into(), 10);
        table.start_over(&KeyScope::all());
        assert_eq!(table.newer_than("k", Some(9)), None);
    }

    proptest::proptest! {
        #[test]
        fn timed_changes_give_the_same_rows_in_any_order(
            changes in proptest::collection::vec((0u8..3, proptest::bool::ANY, proptest::bool::ANY), 0..12)
                .prop_map(|changes| changes.into_iter().enumerate().collect::<Vec<_>>())
                .prop_flat_map(|changes| {
                    let shuffled = proptest::strategy::Just(changes.clone()).prop_shuffle();
                    (proptest::strategy::Just(changes), shuffled)
                })
        ) {
            let rows = |changes: Vec<(usize, (u8, bool, bool))>| {
                let mut table = Table::default();
                for (at, (key, is_upsert, closes)) in changes {
                    let key = Key::from(key.to_string());
                    let at_ms = i64::try_from(at).expect("small");
                    if table.newer_than(key.as_str(), Some(at_ms)).is_none() {
                        match is_upsert {
                            true => {
                                let mut row = Row::of_text(at.to_string());
                                (row.updated_at_ms, row.is_timed) = (at_ms, true);
                                table.set(key, Some(row));
                            }
                            false => table.delete_at(key, at_ms),
                        }
                    }
                    if closes {
                        table.commit();
                    }
                }
                table.commit();
                table.rows
            };
            let (in_order, shuffled) = changes;
            proptest::prop_assert_eq!(rows(shuffled), rows(in_order));
        }
    }

    #[test]
    fn what_is_expected_is_what_the_next_commit_leaves() {
        let mut table = Table::default();
        table.set("a".into(), row("1"));
        table.set("b".into(), row("2"));
        table.commit();
        table.set("b".into(), None);
        table.set("c".into(), row("3"));
        let expected = |table: &Table| -> BTreeMap<Key, Row> {
            let rows = table.expected();
            rows.map(|(key, row)| (key.clone(), row.clone())).collect()
        };
        let before = expected(&table);
        let keys: Vec<&str> = before.keys().map(Key::as_str).collect();
        assert_eq!(keys, ["a", "c"]);
        table.commit();
        assert_eq!(expected(&table), before);
    }

    #[test]
    fn rows_that_a_failing_source_did_not_name_stand_and_those_that_it_deleted_do_not() {
        let rows = [("a", "1"), ("b", "2"), ("c", "3")];
        let rows = rows.map(|(key, text)| (Key::from(key), row(text).expect("a row")));
        for stand in [true, false] {
            let mut table = Table::restored(rows.clone().into(), stand);
            table.set("a".into(), None);
            table.set("b".into(), row("2b"));
            table.keep_restored();
            let new: Vec<_> = table.commit().into_iter().map(|d| d.new).collect();
            assert_eq!(new, [None, row("2b"), row("3")], "{stand}");
        }
    }

    #[test]
    fn a_burst_is_one_net_change_and_no_change_is_none() {
        let mut table = Table::default();
        table.set("a".into(), row("1"));
        table.set("a".into(), row("2"));
        table.set("b".into(), row("x"));
        table.set("b".into(), None);
        let deltas = table.commit();
        assert_eq!(deltas.len(), 1);
        assert_eq!(
            (deltas[0].old.clone(), deltas[0].new.clone()),
            (None, row("2"))
        );
        table.set("a".into(), row("3"));
        table.set("a".into(), row("2"));
        assert!(table.commit().is_empty());
        table.set("a".into(), None);
        assert_eq!(table.commit()[0].new, None);
    }
}
