//! A stream: rows that a source or a caller gives, and what each epoch changed of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial_connectors::{KeyScope, Offset, Running};
use perennial_rows::{Column, Key, Row, Schema, Type, has_meaning};

use super::acknowledging::Listener;
use crate::engine::change_log::{ChangeLog, KeyedChange};
use crate::engine::places::Places;
use crate::engine::recent::{KeyChange, Recent};
use crate::engine::relations::open_columns;
use crate::engine::tables::Table;
use crate::state::StoredSchema;

/// A stream and its source.
pub(super) struct Stream {
    pub(super) name: Arc<str>,
    /// The columns that are declared; none where its rows may have any.
    pub(super) columns: Option<Schema>,
    /// Whether the state directory says so.
    pub(super) is_schema_saved: bool,
    /// What feeds it; none where rows are given by hand, or no more come.
    pub(super) source: Option<Running>,
    /// Why it failed.
    pub(super) failure: Option<Arc<str>>,
    pub(super) has_caught_up: bool,
    /// The parts of which the source reads something else from its beginning, and has not said all of it.
    pub(super) starting_over: Vec<KeyScope>,
    /// Where it would go on once it has.
    pub(super) resume_over: Option<Offset>,
    pub(super) table: Table,
    /// Rows of an earlier process, until every view has taken the first epoch of this one.
    pub(super) restored: BTreeMap<Key, Row>,
    /// Where its rows were read.
    pub(super) places: Places,
    /// What changed of it lately.
    pub(super) recent: Recent<KeyChange>,
    /// What each epoch changed.
    pub(super) log: ChangeLog<KeyedChange>,
    /// Where the source would go on, with all that is pending taken.
    pub(super) resume: Option<Offset>,
    /// The offset that the state directory holds.
    pub(super) saved: Option<Offset>,
    /// Who is told how far that is committed.
    pub(super) listener: Option<Listener>,
}

impl Stream {
    /// The columns that are declared, else those with a meaning, then all others that any row has,
    /// by name.
    pub(super) fn schema(&self) -> Schema {
        if let Some(columns) = &self.columns {
            return columns.clone();
        }
        let rows = self.table.rows().map(|(_, row)| &row.columns);
        let others: BTreeSet<&str> = rows.flat_map(|c| c.iter().map(|(name, _)| name)).collect();
        let others = others.into_iter().filter(|name| !has_meaning(name));
        let others = others.map(|name| Column::new(name, Type::Any));
        Schema::new(open_columns().into_iter().chain(others))
    }

    /// What the state directory is to say of its columns, where it does not yet.
    pub(super) fn unsaved_schema(&self) -> Option<StoredSchema> {
        (!self.is_schema_saved).then(|| StoredSchema::of(self.columns.as_ref()))
    }

    /// Whether its source has said all that stands, as far as is known.
    pub(super) fn is_settled(&self) -> bool {
        self.has_caught_up && self.starting_over.is_empty()
    }

    /// Its source says everything of a part again, from a beginning.
    pub(super) fn start_over(&mut self, part: KeyScope) {
        self.table.start_over(&part);
        if !self.starting_over.contains(&part) {
            self.starting_over.push(part);
        }
    }

    /// It has.
    pub(super) fn end_over(&mut self, part: &KeyScope) {
        self.table.drop_unconfirmed(part);
        let n_before = self.starting_over.len();
        self.starting_over.retain(|other| other != part);
        if self.starting_over.is_empty() && n_before > 0 {
            self.resume = self.resume_over.take();
        }
    }

    /// Its source has failed. One that fails before it has said all that stands has not said what is
    /// gone.
    pub(super) fn fail(&mut self, reason: &str) {
        if !self.is_settled() {
            self.table.keep_restored();
            self.starting_over.clear();
            self.resume_over = None;
        }
        self.has_caught_up = true;
        self.source = None;
        self.failure = Some(reason.into());
    }
}
