//! What does a view of a query say, and by how much did it change since an epoch?

use std::collections::{BTreeMap, VecDeque};

use perennial_rows::Tuple;
use perennial_views::Epoch;

/// Changes that are remembered, in rows.
const MAX_LOGGED: usize = 65_536;

/// Rows with how often each stands, or by how much that changed.
pub(super) type Counts = BTreeMap<Tuple, isize>;

/// What a view of a query says.
#[derive(Debug, Default)]
pub(super) struct Rows {
    present: Counts,
    /// What each epoch changed; of the newest.
    log: VecDeque<(Epoch, Vec<(Tuple, isize)>)>,
    n_logged: usize,
    /// What the epoch in flight changes.
    pending: Counts,
}

fn add(counts: &mut Counts, tuple: Tuple, count: isize) {
    let of_tuple = counts.entry(tuple).or_default();
    *of_tuple += count;
}

impl Rows {
    pub(super) fn standing(rows: Vec<(Tuple, isize)>) -> Self {
        Self {
            present: rows.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The epoch in flight changes this.
    pub(super) fn note(&mut self, rows: &[(Tuple, isize)]) {
        for (tuple, count) in rows {
            add(&mut self.pending, tuple.clone(), *count);
        }
    }

    /// The epoch in flight is complete. Returns how many rows differ, and the epoch up to which changes
    /// were forgotten, if any were.
    pub(super) fn complete(&mut self, epoch: Epoch) -> (usize, Option<Epoch>) {
        let pending = std::mem::take(&mut self.pending).into_iter();
        let changed: Vec<(Tuple, isize)> = pending.filter(|(_, count)| *count != 0).collect();
        for (tuple, count) in &changed {
            add(&mut self.present, tuple.clone(), *count);
            if self.present.get(tuple) == Some(&0) {
                self.present.remove(tuple);
            }
        }
        let n_changes = changed.len();
        if n_changes > 0 {
            self.n_logged += n_changes;
            self.log.push_back((epoch, changed));
        }
        let mut forgotten = None;
        while self.n_logged > MAX_LOGGED
            && let Some((oldest, rows)) = self.log.pop_front()
        {
            self.n_logged -= rows.len();
            forgotten = Some(oldest);
        }
        (n_changes, forgotten)
    }

    /// Drops what was before. Returns how many rows that were.
    pub(super) fn forget(&mut self) -> usize {
        self.log.clear();
        std::mem::take(&mut self.n_logged)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Tuple, isize)> {
        self.present.iter().map(|(tuple, count)| (tuple, *count))
    }

    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    /// By how much each row's count differs from that of an epoch.
    pub(super) fn since(&self, epoch: Epoch) -> Vec<(Tuple, isize)> {
        let next = epoch.checked_add(1);
        next.map(|next| self.beginning_with(next))
            .unwrap_or_default()
    }

    /// By how much an epoch and those after it changed each row's count.
    pub(super) fn beginning_with(&self, epoch: Epoch) -> Vec<(Tuple, isize)> {
        let mut net = Counts::new();
        let first = self.log.partition_point(|(at, _)| *at < epoch);
        for (tuple, count) in self.log.range(first..).flat_map(|(_, rows)| rows) {
            add(&mut net, tuple.clone(), *count);
        }
        net.into_iter().filter(|(_, count)| *count != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perennial_rows::Value;

    use super::*;

    #[test]
    fn what_changed_since_an_epoch_is_net_of_what_came_and_went() {
        let row = |n: i64| -> Tuple { Arc::from([Value::Integer(n)]) };
        let mut rows = Rows::standing(vec![(row(1), 1)]);
        for (epoch, changed) in [
            (3, vec![(row(2), 1)]),
            // Nothing came of this one: the log has no entry of it.
            (4, vec![]),
            (6, vec![(row(1), -1), (row(2), 1)]),
            (9, vec![(row(2), -2), (row(3), 1)]),
        ] {
            rows.note(&changed);
            rows.complete(epoch);
        }
        let net = vec![(row(1), -1), (row(3), 1)];
        assert_eq!(rows.since(0), net);
        assert_eq!(rows.beginning_with(3), net);
        let later = vec![(row(1), -1), (row(2), -1), (row(3), 1)];
        for epoch in [3, 4, 5] {
            assert_eq!(rows.since(epoch), later, "since {epoch}");
        }
        assert_eq!(rows.since(6), vec![(row(2), -2), (row(3), 1)]);
        for epoch in [9, 10, Epoch::MAX] {
            assert_eq!(rows.since(epoch), vec![], "since {epoch}");
        }
    }
}
