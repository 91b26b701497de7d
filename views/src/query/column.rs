//! Which column of a query is meant, wherever in its tree?

use std::sync::Arc;

use perennial_rows::Type;

/// Names one column of one query, from where it is made to wherever it is read. Two scans of one
/// relation make different columns, so no operator has to shift positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ColumnId(u32);

impl ColumnId {
    /// The place of this column in its query's [`ColumnTable`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnInfo {
    /// What a reader calls it.
    pub(crate) name: Arc<str>,
    /// Its static type: each value is of it, or NULL.
    pub(crate) of: Type,
}

/// The columns of a query, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColumnTable(Vec<ColumnInfo>);

impl ColumnTable {
    /// A new column.
    pub(crate) fn add(&mut self, name: impl Into<Arc<str>>, of: Type) -> ColumnId {
        let id = u32::try_from(self.0.len()).expect("a query's size is bounded by the binder");
        self.0.push(ColumnInfo {
            name: name.into(),
            of,
        });
        ColumnId(id)
    }

    pub(crate) fn get(&self, id: ColumnId) -> &ColumnInfo {
        &self.0[id.index()]
    }

    pub(crate) fn of(&self, id: ColumnId) -> Type {
        self.get(id).of
    }

    pub(crate) fn name(&self, id: ColumnId) -> &Arc<str> {
        &self.get(id).name
    }
}
