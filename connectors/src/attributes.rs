//! What else does a record say? Values under names that have no meaning of their own.
//!
//! What carries a record may say something, too: a message its topic, a file its size. The
//! record's own word counts where both use one name.
//!
//! # Invariants
//! - A record has at most [`COLUMNS_LIMIT`] columns, of names up to [`COLUMN_NAME_LIMIT`] bytes,
//!   in [`COLUMN_BYTES_LIMIT`] bytes for all of them, names included. One that has more is refused:
//!   nothing of it is cut.
//! - No column is called as one that has a meaning ([`has_meaning`]).

use std::sync::Arc;

use perennial_rows::{Columns, Value, has_meaning};

use crate::Rejection;
use crate::json::record::shown;

/// The most columns of a record.
pub const COLUMNS_LIMIT: usize = 1024;
/// The longest name of a column, in bytes.
pub const COLUMN_NAME_LIMIT: usize = 256;
/// The names and values of all columns of a record, in bytes: 1 MiB.
pub const COLUMN_BYTES_LIMIT: usize = 1 << 20;

/// A name, and what stands under it.
pub(crate) type Attribute = (Arc<str>, Value);

/// The columns of a record that says `own` things, and whose carrier says others.
pub(crate) fn columns(
    of_carrier: &[Attribute],
    own: impl IntoIterator<Item = Attribute>,
) -> Result<Columns, Rejection> {
    let own = own.into_iter().filter(|(name, _)| !has_meaning(name));
    // Of two values of one name the later counts.
    let columns: Columns = of_carrier.iter().cloned().chain(own).collect();
    if columns.len() > COLUMNS_LIMIT {
        return Err(Rejection::TooManyColumns {
            got: columns.len(),
            limit: COLUMNS_LIMIT,
        });
    }
    let mut n_bytes = 0;
    for (name, value) in columns.iter() {
        if name.len() > COLUMN_NAME_LIMIT {
            return Err(Rejection::ColumnNameTooLong {
                name: shown(name),
                len: name.len() as u64,
                limit: COLUMN_NAME_LIMIT as u64,
            });
        }
        n_bytes += name.len() + size(value);
    }
    if n_bytes > COLUMN_BYTES_LIMIT {
        return Err(Rejection::ColumnsTooLong {
            len: n_bytes as u64,
            limit: COLUMN_BYTES_LIMIT as u64,
        });
    }
    Ok(columns)
}

/// Bytes of a value.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Vector(elements) => elements.len() * size_of::<f32>(),
        _ => size_of::<u64>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: impl Into<Arc<str>>, value: impl Into<Value>) -> Attribute {
        (name.into(), value.into())
    }

    #[test]
    fn the_record_has_the_last_word_and_names_with_a_meaning_are_not_carried() {
        let carrier = [attribute("size", 3i64), attribute("topic", "docs")];
        let own = [attribute("size", "large"), attribute("title", "T")];
        let found = columns(&carrier, own).unwrap();
        let expected = [("size", Value::from("large")), ("topic", "docs".into())];
        assert_eq!(found, expected.into_iter().collect());
    }

    #[test]
    fn each_limit_is_the_last_that_passes() {
        let many = |n: usize| columns(&[], (0..n).map(|i| attribute(i.to_string(), 1i64)));
        assert_eq!(many(COLUMNS_LIMIT).unwrap().len(), COLUMNS_LIMIT);
        let (got, limit) = (COLUMNS_LIMIT + 1, COLUMNS_LIMIT);
        assert_eq!(many(got), Err(Rejection::TooManyColumns { got, limit }));
        let named = |n: usize| columns(&[], [attribute("n".repeat(n), 1i64)]);
        assert!(named(COLUMN_NAME_LIMIT).is_ok());
        assert!(matches!(
            named(COLUMN_NAME_LIMIT + 1),
            Err(Rejection::ColumnNameTooLong { len: 257, .. })
        ));
        let long = |n: usize| columns(&[], [attribute("a", "x".repeat(n).as_str())]);
        assert!(long(COLUMN_BYTES_LIMIT - 1).is_ok());
        let refused = long(COLUMN_BYTES_LIMIT).unwrap_err().to_string();
        assert_eq!(
            refused,
            "its columns have 1048577 bytes, the limit is 1048576"
        );
    }
}
