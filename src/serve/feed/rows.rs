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
        let mut net = Counts::new();
        let later = self.log.iter().filter(|(at, _)| *at > epoch);
        for (tuple, count) in later.flat_map(|(_, rows)| rows) {
            add(&mut net, tuple.clone(), *count);
        }
        net.into_iter().filter(|(_, count)| *count != 0).collect()
    }
}
