//! What did an engine take in, and what did it say?
//!
//! # Design
//! An engine that records ([`EngineBuilder::record`]) appends to a file of JSON lines what each
//! epoch took in and the answers it gave; [`Replay`] feeds another engine with it, epoch by epoch,
//! and holds its answers against them. So what went wrong once can be looked at again, with
//! another version of the program or another model, and nothing but the file and the weights.
//!
//! A recording is a sequence of *runs*, one for each engine that wrote it. A run begins with what
//! its engine was: models by their digests, streams, plans of views. One that went on from a state
//! directory says next what stood there. So every run can be replayed without those before it.
//!
//! # Invariants
//! - An epoch is recorded after it is committed, whole, in order; it counts when its last line is
//!   there. What a crash has left behind the last of these is cut off by the next run.
//! - Recording never changes what an engine does: it is done by a thread of its own, behind a
//!   queue of a few epochs, and one that fails ends, with a word to the subscribers. It can hold
//!   up epochs where the disk is slower than they are.
//!
//! A recording holds every text that passed through the engine: keep it as you keep the documents.
//!
//! [`EngineBuilder::record`]: crate::EngineBuilder::record

mod error;
mod format;
mod reader;
mod recorder;
mod replay;
mod writer;

pub use error::RecordingError;
pub use format::{RecordedAnswer, RecordedModel};
pub use reader::recorded_with;
pub use replay::{Difference, Replay, ReplayedEpoch};

pub(crate) use format::{EpochAnswer, RecordedEpoch, Run, hex};
pub(crate) use recorder::{Beginning, Recorder};
pub(crate) use writer::Log;
