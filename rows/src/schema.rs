//! Which columns does a relation have, of which types?

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Type, Value};

/// The values of a schema's columns, in its order. Shared, not copied.
pub type Tuple = Arc<[Value]>;

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// What it holds, besides [`Value::Null`].
    pub of: Type,
}

impl Column {
    /// A column of this name and type.
    pub fn new(name: impl Into<Arc<str>>, of: Type) -> Self {
        Self {
            name: name.into(),
            of,
        }
    }
}

/// The columns of a relation, in order. Names are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Schema(Arc<[Column]>);

impl Schema {
    /// The schema of these columns.
    ///
    /// # Panics
    /// If a name stands twice: whoever makes a schema has refused that before.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        let columns: Arc<[Column]> = columns.into_iter().collect();
        for (at, column) in columns.iter().enumerate() {
            let is_new = columns[..at].iter().all(|other| other.name != column.name);
            assert!(is_new, "column `{}` stands twice in a schema", column.name);
        }
        Self(columns)
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.0
    }

    /// The place of a column.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| &*column.name == name)
    }
}

impl fmt::Display for Schema {
    /// `key TEXT, price INTEGER`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Column { name, of }) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {of}")?;
        }
        Ok(())
    }
}
