//! Where do documents and questions come from, how do their changes arrive, and where do
//! answers go?
//!
//! A [`Source`] turns something outside (a folder being edited, a growing file of JSON lines,
//! standard input, a table, a topic of a Kafka cluster, requests that are posted) into batches
//! of [`Change`]s, each record keyed and named by the [`Offset`] it was read from. [`start`] runs a source on its own thread and hands over its [`Event`]s. A
//! [`Sink`] takes the answers of a view, an epoch at a time.
//!
//! Invariants:
//! - **Fold = fresh scan.** Applying all changes in order, and dropping what a source that starts over
//!   does not say again, gives what a new run would give on the outside as it now stands. Spurious notifications emit nothing.
//! - **Bad input is data.** What cannot be a record is a [`Rejected`] with source, offset and
//!   reason; the source goes on. Only what ends the source is an [`Error`].
//! - **Bounded.** Channels, lines, files and sets of touched paths all have limits.
//! - **As small as wanted.** A program may be built without Kafka, Parquet or HTTP ([`Feature`]);
//!   what is missing is told by name to whoever opens it.
//! - **Prompt to stop.** A source notices its [`StopFlag`] within 100 ms and leaves no thread.
//!
//! Deliberately absent: passages, epochs and views. The crate knows records, changes and
//! offsets of its own; of the workspace it knows the rows that records hold, and nothing else.

#![forbid(unsafe_code)]

#[cfg(test)]
#[allow(dead_code, reason = "its tests open what they can, and no more")]
mod absent;
mod acks;
mod attributes;
mod change;
mod column_names;
mod declared;
mod error;
mod excerpt;
mod fault;
mod feature;
mod folder;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
#[cfg_attr(not(feature = "http"), path = "absent/http.rs")]
mod http;
mod http_limits;
mod identity;
mod json;
mod jsonl;
#[cfg_attr(not(feature = "kafka"), path = "absent/kafka.rs")]
mod kafka;
mod key_scope;
mod message_format;
mod offset;
mod rejection;
mod running;
mod sink;
mod source;
mod stop;
mod table;
mod trace_parent;
mod unpacked;

pub use acks::Acks;
pub use attributes::{COLUMN_BYTES_LIMIT, COLUMN_NAME_LIMIT, COLUMNS_LIMIT};
pub use change::{Change, Digest, Record, SourceName};
pub use column_names::ColumnNames;
pub use declared::{Declared, fit, fit_all};
pub use error::Error;
pub use fault::FaultPoint;
pub use feature::Feature;
pub use folder::{Folder, LeftOut, Watching, glob_list};
pub use http::{BearerToken, Http, HttpListener};
#[cfg(feature = "http")]
pub use http::{
    Connection, Connections, HttpInlet, HttpIntake, InHand, InHandBody, PostedBatch,
    is_loopback_host, network,
};
pub use http_limits::HttpLimits;
pub use json::{read_record, timestamp};
pub use jsonl::JsonLines;
pub use kafka::Kafka;
pub use key_scope::KeyScope;
pub use message_format::Format;
pub use offset::{NextMessage, Offset, Revision};
pub use perennial_rows::Key;
pub use rejection::{CONTENT_LIMIT, JsonKind, Rejected, Rejection};
pub use running::{Running, start};
pub use sink::{
    DeadLettered, DeadLetters, Delivery, FAULT_POINTS, HeldLetters, JsonLinesSink, KafkaSink,
    Output, OutputAnswer, OutputRow, OutputTuple, Refusal, Replaced, Sink, SinkLetters, Webhook,
};
pub use source::{Batch, Event, Halt, Notice, Outlet, Resume, Resumption, Source};
pub use stop::StopFlag;
pub use table::Table;
pub use trace_parent::TraceParent;
