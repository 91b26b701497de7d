//! What did an epoch change about a row?

use crate::{Key, Row};

/// A row's change: what it was and what it is. Not both are `None`, and they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowDelta {
    /// Which row.
    pub key: Key,
    /// What stood before.
    pub old: Option<Row>,
    /// What stands now.
    pub new: Option<Row>,
}
