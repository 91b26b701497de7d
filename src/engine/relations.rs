//! What is there, as a caller is told of it.

use std::sync::Arc;

use perennial_rows::{Schema, Tuple};
use perennial_views::Epoch;

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

/// A relation of an engine.
#[derive(Clone, Debug)]
pub struct RelationInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns. A source or table may hold others besides.
    pub schema: Schema,
    /// Names of what it reads.
    pub reads: Vec<Arc<str>>,
    /// Number of rows as of the last epoch.
    pub n_rows: usize,
    /// The newest epoch that it reflects.
    pub epoch: Option<Epoch>,
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
