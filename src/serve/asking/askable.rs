//! Which views can be asked something?
//!
//! Those whose contexts are rows of a table: a question becomes a row of it, and is answered as all others
//! are. Contexts of a source come from somewhere else, so such a view can only be subscribed to.

use std::sync::Arc;

use perennial_rows::{Schema, TEXT, has_meaning};
use perennial_views::Plan;

use crate::engine::{RelationInfo, RelationKind};

/// A view that can be asked something.
#[derive(Clone, Debug)]
pub(crate) struct Askable {
    /// Its name.
    pub(crate) view: Arc<str>,
    /// The table of its contexts.
    pub(crate) table: Arc<str>,
    /// What it asks of which documents.
    pub(crate) plan: Arc<Plan>,
    /// The columns of the table, where it has no others.
    columns: Option<Schema>,
}

impl Askable {
    /// Those among all relations.
    pub(crate) fn all(relations: &[RelationInfo]) -> Vec<Self> {
        let askable = relations.iter().filter_map(|view| {
            let plan = view.plan.clone()?;
            let mut tables = relations.iter();
            let table = tables.find(|of| of.name == plan.context)?;
            let columns = (!table.is_open).then(|| table.schema.clone());
            let has_text = columns
                .as_ref()
                .is_none_or(|columns| columns.position(TEXT).is_some());
            (table.kind == RelationKind::Table && has_text).then(|| Self {
                view: view.name.clone(),
                table: table.name.clone(),
                plan,
                columns,
            })
        });
        askable.collect()
    }

    /// Whether a question may carry a column of this name: one that the table has, or that documents are
    /// matched by.
    pub(crate) fn carries(&self, column: &str) -> bool {
        let is_matched = self.plan.matching.iter().any(|name| **name == *column);
        let is_there = |columns: &Schema| columns.position(column).is_some();
        !has_meaning(column) && (is_matched || self.columns.as_ref().is_some_and(is_there))
    }
}
