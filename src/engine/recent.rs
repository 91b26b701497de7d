//! What changed of a relation, lately?
//!
//! For who asks why a row is as it is. What is kept is bounded by a number of changes, so of long ago nothing
//! is known.

use std::collections::VecDeque;

use perennial_rows::{Key, Tuple};
use perennial_views::Epoch;

/// Changes that are kept of one relation.
const MAX_CHANGES: usize = 1_024;

/// Changes of one relation, oldest first.
#[derive(Debug)]
pub(super) struct Recent<T>(VecDeque<T>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Recent<T> {
    /// Notes a change.
    pub(super) fn push(&mut self, change: T) {
        if self.0.len() >= MAX_CHANGES {
            self.0.pop_front();
        }
        self.0.push_back(change);
    }

    /// All that is known, oldest first.
    pub(super) fn all(&self) -> Vec<T> {
        self.0.iter().cloned().collect()
    }
}

/// How a row of a stream changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChangeKind {
    /// It came.
    Came,
    /// It says something else.
    Changed,
    /// It went.
    Went,
}

/// A change of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// When.
    pub epoch: Epoch,
    /// Of which row.
    pub key: Key,
    /// How.
    pub kind: KeyChangeKind,
}

/// A change of a view of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TupleChange {
    /// The epoch that the view stood at before; none before its first.
    pub after: Option<Epoch>,
    /// When.
    pub epoch: Epoch,
    /// Of which row.
    pub tuple: Tuple,
    /// By how much its count differs.
    pub diff: isize,
}

/// What is known of changes of a relation, oldest first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecentChanges {
    /// Of a stream.
    Keys(Vec<KeyChange>),
    /// Of a view of a query.
    Tuples(Vec<TupleChange>),
    /// Of answers each has its own cause.
    Answers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::default();
        (0..MAX_CHANGES + 2).for_each(|n| recent.push(n));
        let all = recent.all();
        assert_eq!((all.len(), all[0]), (MAX_CHANGES, 2));
    }
}
