//! What are the messages of a topic? Named apart from who reads them, so that what names topics is
//! the same in a program without Kafka.

use crate::column_names::ColumnNames;

/// What the messages of a topic are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JSON as in files of lines: a record, or an operation on one. The record's `key` may be
    /// left out, since the message has one; if both are there they must be equal.
    #[default]
    Json,
    /// The payload is the text of the document, under the message's key. Headers `title` and
    /// `supersedes` (it may be repeated) are read.
    Text,
    /// Debezium's change events of the rows of a table (JSON, with or without schema, whole or
    /// flattened to the new row).
    Debezium(ColumnNames),
}
