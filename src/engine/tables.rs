//! The current rows of every stream, and the deltas that the next epoch will carry.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_operators::{ContextKey, Document, DocumentKey};

/// One row of a stream, as document or as context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) title: Option<Arc<str>>,
    pub(crate) text: Arc<str>,
    pub(crate) updated_at_ms: i64,
}

impl Row {
    pub(crate) fn document(&self, key: &str) -> Document {
        let title = self.title.clone().unwrap_or_else(|| key.into());
        Document {
            key: DocumentKey::new(key),
            title,
            text: self.text.clone(),
            updated_at_ms: self.updated_at_ms,
        }
    }

    pub(crate) fn context(&self, key: &str) -> (ContextKey, Arc<str>) {
        (ContextKey::new(key), self.text.clone())
    }
}

/// A row's change in one epoch: what it was and what it is.
#[derive(Clone, Debug)]
pub(crate) struct RowDelta {
    pub(crate) key: String,
    pub(crate) old: Option<Row>,
    pub(crate) new: Option<Row>,
}

/// The rows of one stream: as of the last closed epoch, and what has come since.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<String, Row>,
    pending: BTreeMap<String, Option<Row>>,
}

impl Table {
    /// Notes an upsert (`Some`) or a delete (`None`) for the next epoch; the last of a key
    /// counts.
    pub(crate) fn set(&mut self, key: String, row: Option<Row>) {
        self.pending.insert(key, row);
    }

    pub(crate) fn n_pending(&self) -> usize {
        self.pending.len()
    }

    /// Number of rows as of the last commit.
    pub(crate) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// The row of a key as of the last commit.
    pub(crate) fn get(&self, key: &str) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Makes what is pending current and returns the net change, none for rows that are as
    /// they were.
    pub(crate) fn commit(&mut self) -> Vec<RowDelta> {
        let mut deltas = Vec::new();
        for (key, new) in std::mem::take(&mut self.pending) {
            let old = match &new {
                Some(row) => self.rows.insert(key.clone(), row.clone()),
                None => self.rows.remove(&key),
            };
            if old != new {
                deltas.push(RowDelta { key, old, new });
            }
        }
        deltas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Option<Row> {
        Some(Row {
            title: None,
            text: text.into(),
            updated_at_ms: 0,
        })
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
