//! The engine: streams in, epochs through the dataflow, updates out.
//!
//! # Design
//! One coordinator thread owns every decision. It folds what sources and callers send into
//! pending rows, and closes an epoch when a view that reads them is ready for more. Every view has
//! its own pace: it takes, as one net change, all that changed in what it reads since the epoch it
//! stands at (group commit), at once or when its target lag and its budget say so; and when its
//! dataflow is complete its updates are delivered whole.
//! Workers step the dataflows and compute nothing slow; model calls run on executors.
//!
//! # Invariants
//! - A view has at most one epoch in flight, so no call is cancelled that a complete epoch needs;
//!   no view waits for one that it does not read.
//! - A view reflects one epoch of all that it reads: a view over views is consistent.
//! - Nothing of an epoch of a view is delivered before all of it is.
//! - Every queue is bounded: pending rows and logs by the number of keys, source channels by
//!   their capacity, subscriptions by merging updates of the same context.

mod analysis;
mod audits;
mod binding;
mod budget;
mod builder;
mod cause;
mod change_log;
pub(crate) mod clock;
mod coordinator;
mod coverage;
mod current;
mod deletions;
mod edit;
mod error;
mod follower;
mod forget;
mod handle;
mod healing;
mod hub;
pub(crate) mod letters;
mod log;
mod measuring;
mod merging;
mod models;
mod names;
pub(crate) mod needles;
mod places;
pub(crate) mod quarantine;
pub(crate) mod reading;
mod recent;
mod relations;
mod runtime;
mod sinks;
mod subscription;
pub(crate) mod tables;
mod tracer;
mod update;
pub(crate) mod upserts;
mod workers;

pub use analysis::{Analysis, AnalysisOf, Answering};
pub use audits::AuditStats;
pub use builder::EngineBuilder;
pub use cause::{Cause, Why};
pub(crate) use clock::now_ms;
pub use current::CurrentAnswer;
pub use edit::Edit;
pub use error::Error;
pub use follower::{Ending, Follower, Lineage, LineagePassage, Standing};
pub use forget::Receipt;
pub use handle::{Engine, Flushing};
pub use places::Place;
pub use quarantine::{QuarantinePage, Quarantined};
pub use recent::{KeyChange, KeyChangeKind, RecentChanges, TupleChange};
pub use relations::{RelationInfo, RelationKind, Snapshot, Staleness, ViewStatus};
pub use runtime::Runtime;
pub use sinks::PutAside;
pub use subscription::{Answers, Subscription, TimedOut};
pub use tracer::{
    Begun, Delivered, MAX_NAMED_KEYS, Reached, Refreshed, SpanCounts, Stored, Taken, Tracer,
};
pub use update::{
    AnswerUpdate, ChangeKind, DocumentChange, DocumentChangeKind, EpochStart, EpochSummary,
    MAX_NAMED_CHANGES, Progress, RowsUpdate, RungCounts, Update,
};
