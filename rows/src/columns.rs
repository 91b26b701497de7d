//! Which columns does a row carry besides those with a meaning?

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Value;

/// Name of the column that holds a row's key.
pub const KEY: &str = "key";
/// Name of the column that holds its text.
pub const TEXT: &str = "text";
/// Name of the column that holds what it calls itself.
pub const TITLE: &str = "title";
/// Name of the column that holds its time.
pub const UPDATED_AT: &str = "updated_at";
/// Name of the column that holds the keys of rows that it makes obsolete.
pub const SUPERSEDES: &str = "supersedes";

/// Whether a column of this name has a meaning of its own: no value that a row merely carries can
/// be asked for by it.
pub fn has_meaning(name: &str) -> bool {
    [KEY, TEXT, TITLE, UPDATED_AT, SUPERSEDES].contains(&name)
}

/// Named values that a row carries, sorted by name, each name once. Without those that are
/// [`Value::Null`]: a column that is not there and one that holds nothing are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Columns(Arc<[(Arc<str>, Value)]>);

impl Columns {
    /// The value of a column.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(of, _)| (**of).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The same, each name shared with the columns.
    pub fn shared(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, Value)> for Columns {
    /// Of a name that comes twice, the last value counts.
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(columns: I) -> Self {
        let columns = columns.into_iter();
        let mut named: Vec<(Arc<str>, Value)> =
            columns.map(|(name, value)| (name.into(), value)).collect();
        // Most rows carry nothing, and share that.
        if named.is_empty() {
            return Self::default();
        }
        // Equal names stay in their order; of these the last is kept.
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                std::mem::swap(later, kept);
            }
            is_same
        });
        named.retain(|(_, value)| *value != Value::Null);
        Self(named.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_hold_something() {
        let columns: Columns = [
            ("b", Value::from(1i64)),
            ("a", Value::Null),
            ("b", "x".into()),
        ]
        .into_iter()
        .collect();
        assert_eq!(columns.get("b"), Some(&Value::text("x")));
        assert_eq!(columns.get("a"), None);
        assert_eq!(columns.len(), 1);
    }
}
