//! What is there, as a caller is told of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use perennial_rows::{Column, KEY, SUPERSEDES, Schema, TEXT, TITLE, Tuple, Type, UPDATED_AT};
use perennial_views::{Epoch, Pace, Plan};

/// What kind of relation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelationKind {
    /// A stream that a source feeds.
    Source,
    /// A stream that is fed by hand.
    Table,
    /// A view whose rows are answers of a model.
    Answers,
    /// A view of a query.
    Query,
}

impl RelationKind {
    /// Whether it follows from others.
    pub fn is_view(self) -> bool {
        matches!(self, Self::Answers | Self::Query)
    }
}

/// The columns with a meaning, which a stream has whose columns are not declared.
pub(crate) fn open_columns() -> [Column; 5] {
    [
        Column::new(KEY, Type::Text),
        Column::new(TITLE, Type::Text),
        Column::new(TEXT, Type::Text),
        Column::new(UPDATED_AT, Type::Timestamp),
        Column::new(SUPERSEDES, Type::Json),
    ]
}

/// A relation of an engine.
#[derive(Clone, Debug)]
pub struct RelationInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns: of a source or table without declared ones, those that its rows have.
    pub schema: Schema,
    /// Whether its rows may have others, too.
    pub is_open: bool,
    /// Names of what it reads.
    pub reads: Vec<Arc<str>>,
    /// Number of rows as of the last epoch.
    pub n_rows: usize,
    /// The newest epoch that it reflects.
    pub epoch: Option<Epoch>,
    /// How far it is behind what it reads, where it is a view.
    pub staleness: Option<Staleness>,
    /// When it takes its epochs, where it is a view.
    pub pace: Pace,
    /// Number of its rows that wait for the next epoch.
    pub n_pending: usize,
    /// Whether its source has given what it had at the start; of all else, true.
    pub is_caught_up: bool,
    /// Why its source has failed, where it has: what it said until then stands.
    pub failure: Option<Arc<str>>,
    /// What is asked of which documents, where it is a view of answers.
    pub plan: Option<Arc<Plan>>,
}

impl RelationInfo {
    /// A relation that is about to be made: with these columns or, where none are given, any.
    pub(crate) fn declared(
        name: Arc<str>,
        kind: RelationKind,
        columns: Option<Schema>,
        reads: Vec<Arc<str>>,
    ) -> Self {
        Self {
            name,
            kind,
            is_open: columns.is_none(),
            schema: columns.unwrap_or_else(|| Schema::new(open_columns())),
            reads,
            n_rows: 0,
            epoch: None,
            staleness: None,
            pace: Pace::default(),
            n_pending: 0,
            is_caught_up: false,
            failure: None,
            plan: None,
        }
    }
}

/// How far a view is behind what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// Closed epochs with changes for it that it has not taken.
    pub n_behind: usize,
    /// How long the oldest of these changes has waited; none where there is none.
    pub lag: Option<Duration>,
    /// What it does, or waits for.
    pub status: ViewStatus,
}

/// What a view does, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewStatus {
    /// It reflects all that it reads.
    Fresh,
    /// Its first epoch has not begun.
    Starting,
    /// It works on an epoch.
    Refreshing,
    /// It lets changes wait, as it was told.
    TargetLag,
    /// What it may spend in an hour is used up.
    Budget,
    /// What it reads is not as far.
    Upstream,
}

impl fmt::Display for ViewStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Starting => "starting",
            Self::Refreshing => "refreshing",
            Self::TargetLag => "target lag",
            Self::Budget => "budget",
            Self::Upstream => "upstream",
        })
    }
}

/// What a relation holds as of one epoch.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The newest epoch that it reflects; none before the first.
    pub epoch: Option<Epoch>,
    /// Its columns: of a stream those with a meaning, then all others that any of its rows has.
    pub schema: Schema,
    /// Its tuples, in their order, and how often each stands there.
    pub rows: Vec<(Tuple, isize)>,
}
