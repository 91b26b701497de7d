//! What is taken back, and what came of it?

use perennial_rows::{Key, Row, Value};

use super::declaration::Memory;
use super::entry::DEFAULT_NAMESPACE;
use crate::engine::Receipt;

/// Which records of a memory are erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgetBy {
    /// That of this key, there or not.
    Key(String),
    /// All of a session.
    Session(String),
    /// All of a writer.
    Writer(String),
    /// All of a namespace, and its grants.
    Namespace(String),
}

impl ForgetBy {
    /// What it goes by, and its value.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Key(of) => ("key", of),
            Self::Session(of) => ("session", of),
            Self::Writer(of) => ("writer", of),
            Self::Namespace(of) => ("namespace", of),
        }
    }

    /// Whether a row of the relation that the memory is made from is one of them.
    pub(super) fn is_of(&self, memory: &Memory, key: &Key, row: &Row) -> bool {
        let holds = |column: &Option<String>, of: &str| {
            let column = column.as_ref();
            column.is_some_and(|column| said(&row.column(key, column)).as_deref() == Some(of))
        };
        match self {
            Self::Key(of) => key.as_str() == of,
            Self::Session(of) => holds(&memory.session, of),
            Self::Writer(of) => holds(&memory.writer, of),
            Self::Namespace(of) => {
                let column = memory.namespace.as_ref();
                let own = column.and_then(|column| said(&row.column(key, column)));
                let own = own.filter(|own| !own.is_empty());
                own.as_deref().unwrap_or(DEFAULT_NAMESPACE) == of
            }
        }
    }
}

/// A value as the text that it is cast to.
fn said(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.to_string()),
        other => Some(other.to_string()),
    }
}

/// What forgetting came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemoryReceipt {
    /// The memory.
    pub memory: String,
    /// What it went by: `key`, `session`, `writer` or `namespace`.
    pub by: String,
    /// Its value.
    pub of: String,
    /// Records erased.
    pub n_records: usize,
    /// Grants taken back.
    pub n_grants: usize,
    /// Where something was still found: nowhere, unless the engine records, or something is wrong.
    pub remains: Vec<String>,
    /// The receipt of each record.
    pub records: Vec<Receipt>,
}
