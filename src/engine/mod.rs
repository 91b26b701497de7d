//! The engine: streams in, epochs through the dataflow, updates out.
//!
//! # Design
//! One coordinator thread owns every decision. It folds what sources and callers send into
//! pending deltas, closes an epoch when the one before is complete (group commit), hands
//! the deltas to the dataflow workers, and when the epoch is complete delivers its updates
//! whole. Workers step the dataflow and compute nothing slow; model calls run on
//! executors.
//!
//! # Invariants
//! - At most one epoch is in flight, so no call is cancelled that a complete epoch needs.
//! - Nothing of an epoch is delivered before all of it is.
//! - Every queue is bounded: pending deltas by the number of keys, source channels by
//!   their capacity, subscriptions by merging updates of the same context.

mod audits;
mod builder;
mod clock;
mod coordinator;
mod current;
mod edit;
mod error;
mod forget;
mod healing;
mod hub;
pub(crate) mod quarantine;
mod runtime;
mod sinks;
mod subscription;
pub(crate) mod tables;
mod update;
mod workers;

pub use audits::AuditStats;
pub use builder::{Engine, EngineBuilder};
pub use current::CurrentAnswer;
pub use edit::Edit;
pub use error::Error;
pub use forget::Receipt;
pub use quarantine::Quarantined;
pub use runtime::Runtime;
pub use subscription::{Answers, Subscription, TimedOut};
pub use update::{
    AnswerUpdate, ChangeKind, DocumentChange, DocumentChangeKind, EpochStart, EpochSummary,
    MAX_NAMED_CHANGES, Progress, RungCounts, Update,
};
