//! A stream: rows that a source or a caller gives, and what each epoch changed of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::{Offset, Running};
use perennial_rows::{Key, Row};

use super::acknowledging::Listener;
use crate::engine::change_log::{ChangeLog, KeyedChange};
use crate::engine::tables::Table;

/// A stream and its source.
pub(super) struct Stream {
    pub(super) name: Arc<str>,
    /// What feeds it; none where rows are given by hand, or no more come.
    pub(super) source: Option<Running>,
    pub(super) has_caught_up: bool,
    /// Whether the source reads something else from its beginning, and has not said all of it.
    pub(super) is_recreated: bool,
    /// Where it would go on there.
    pub(super) resume_recreated: Option<Offset>,
    pub(super) table: Table,
    /// Rows of an earlier process, until every view has taken the first epoch of this one.
    pub(super) restored: BTreeMap<Key, Row>,
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
    /// A source that fails before it has said all that stands has not said what is gone.
    pub(super) fn keep_rows(&mut self) {
        if !self.has_caught_up {
            self.table.keep_restored();
            self.is_recreated = false;
        }
    }
}
