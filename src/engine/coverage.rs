//! How many passages may a context see, where it does not read all of them?
//!
//! The dataflow counts the passages of each group that exceeds the budget; a group that fits has no count,
//! for there all is read. That one more passage is left out changes a number here, and no row of a context:
//! nobody is asked again.

use std::collections::{BTreeMap, HashMap};

use perennial_bank::ContextKey;
use perennial_rows::Tuple;

/// The groups of a view that asks a model, as of the epoch that it stands at or works on.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// The values by which each context meets documents.
    groups: BTreeMap<ContextKey, Tuple>,
    counts: HashMap<Tuple, Count>,
    has_changed: bool,
}

/// What is left of the counts of one group, which come and go in any order.
#[derive(Debug, Default)]
struct Count {
    /// The sum of those that stand.
    n: isize,
    /// How many stand: one, or none where all is read.
    n_standing: isize,
}

impl Coverage {
    /// Notes which documents a context may see; none where it is gone.
    pub(super) fn note_context(&mut self, context: &ContextKey, group: Option<Tuple>) {
        match group {
            Some(group) => self.groups.insert(context.clone(), group),
            None => self.groups.remove(context),
        };
    }

    /// Takes in a change of a group's count.
    pub(super) fn count(&mut self, group: Tuple, n: isize, diff: isize) {
        let count = self.counts.entry(group.clone()).or_default();
        count.n += n * diff;
        count.n_standing += diff;
        if count.n == 0 && count.n_standing == 0 {
            self.counts.remove(&group);
        }
        self.has_changed = true;
    }

    /// Whether a count is another than when this was asked last.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// How many passages a context may see; none where it reads all of them.
    pub(super) fn of(&self, context: &ContextKey) -> Option<usize> {
        let count = self.counts.get(self.groups.get(context)?)?;
        usize::try_from(count.n).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_that_stands_is_told_in_whatever_order_they_come() {
        let mut coverage = Coverage::default();
        let [a, b] = ["a", "b"].map(ContextKey::new);
        let group = |name: &str| Tuple::from([name.into()]);
        coverage.note_context(&a, Some(group("one")));
        coverage.note_context(&b, Some(group("two")));
        assert!(!coverage.take_change());
        coverage.count(group("one"), 7, 1);
        assert!(coverage.take_change() && !coverage.take_change());
        assert_eq!((coverage.of(&a), coverage.of(&b)), (Some(7), None));
        // The new count comes before the old one goes.
        coverage.count(group("one"), 8, 1);
        coverage.count(group("one"), 7, -1);
        assert_eq!(coverage.of(&a), Some(8));
        coverage.note_context(&b, Some(group("one")));
        assert_eq!(coverage.of(&b), Some(8));
        coverage.note_context(&b, None);
        assert_eq!(coverage.of(&b), None);
        // It fits again.
        coverage.count(group("one"), 8, -1);
        assert_eq!(coverage.of(&a), None);
        assert!(coverage.counts.is_empty());
    }
}
