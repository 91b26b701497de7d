//! A change of one row, on its way to a table.

use std::sync::Arc;

use perennial_rows::{Key, Row, Value, has_meaning};

use super::clock::now_ms;
use crate::state::StoredRow;

/// A change of one row of a table; several can be made visible together, with
/// [`Engine::apply`](super::Engine::apply).
///
/// ```
/// use perennial::engine::Edit;
///
/// let new = Edit::upsert("docs", "hours", "The library opens at ten.")
///     .titled("Opening hours")
///     .superseding(["hours-of-2023"]);
/// let gone = Edit::delete("docs", "pets");
/// # let _ = (new, gone);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub(super) table: String,
    pub(super) key: Key,
    /// The row; none deletes it.
    pub(super) row: Option<Row>,
}

impl Edit {
    /// Inserts or replaces a row: a document, or a context's text. Its time is the present.
    pub fn upsert(
        table: impl Into<String>,
        key: impl Into<Key>,
        text: impl Into<Arc<str>>,
    ) -> Self {
        let row = Row {
            updated_at_ms: now_ms(),
            ..Row::of_text(text)
        };
        Self {
            table: table.into(),
            key: key.into(),
            row: Some(row),
        }
    }

    /// Inserts or replaces a row as it is.
    pub fn row(table: impl Into<String>, key: impl Into<Key>, row: Row) -> Self {
        Self {
            table: table.into(),
            key: key.into(),
            row: Some(row),
        }
    }

    /// Deletes a row, if it is there.
    pub fn delete(table: impl Into<String>, key: impl Into<Key>) -> Self {
        Self {
            table: table.into(),
            key: key.into(),
            row: None,
        }
    }

    /// The row came to be at this time, in milliseconds since 1970. Views ordered by `updated_at`
    /// depend on it.
    #[must_use]
    pub fn at(mut self, updated_at_ms: i64) -> Self {
        if let Some(row) = &mut self.row {
            row.updated_at_ms = updated_at_ms;
        }
        self
    }

    /// What the document calls itself; unless told, its key.
    #[must_use]
    pub fn titled(mut self, title: impl Into<Arc<str>>) -> Self {
        if let Some(row) = &mut self.row {
            row.title = Some(title.into());
        }
        self
    }

    /// Keys of documents that it makes obsolete, as
    /// [`Engine::upsert_superseding`](super::Engine::upsert_superseding) says.
    #[must_use]
    pub fn superseding<'a>(mut self, keys: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(row) = &mut self.row {
            row.supersedes = keys.into_iter().map(Key::from).collect();
        }
        self
    }

    /// A further column of the row, for filters, joins and matching. Names that have a meaning
    /// (`key`, `text`, `title`, `updated_at`, `supersedes`) are not carried.
    #[must_use]
    pub fn with(mut self, column: &str, value: impl Into<Value>) -> Self {
        if let Some(row) = &mut self.row
            && !has_meaning(column)
        {
            let columns = row
                .columns
                .iter()
                .map(|(name, of)| (Arc::from(name), of.clone()));
            let columns = columns.chain([(Arc::from(column), value.into())]);
            row.columns = columns.collect();
        }
        self
    }

    /// A row as it was recorded.
    pub(crate) fn recorded(table: &str, key: impl Into<Key>, row: Option<StoredRow>) -> Self {
        Self {
            table: table.to_owned(),
            key: key.into(),
            row: row.map(Row::from),
        }
    }
}
