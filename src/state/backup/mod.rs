//! How is a state copied while epochs go on, and how does a copy become a state again?
//!
//! # Goals
//! A backup is of one moment: that of the last commit when it began. It costs the engine nothing but the
//! disk that replaced pages take meanwhile, needs no more memory than one record, and is taken for whole
//! only where it is.
//!
//! # Design
//! A [`Backup`] is a read transaction: what is committed later is not in it, whoever reads it slowly. It
//! is written table by table, records in order of their keys. [`restore`] reads it into a new file under
//! another name, which becomes the state once the last byte is read and compared. A copy of the file was
//! rejected: it is torn while it is written, and holds the pages of earlier states, and with them what
//! was forgotten.
//!
//! A state that is restored begins another origin (`state/replacing.rs`): epochs are numbered again that
//! others have heard of.
//!
//! # Bytes
//!
//! | bytes | what |
//! | --- | --- |
//! | 16 | `perennial backup` |
//! | 4 | u32, [`VERSION`] of this layout |
//! | … | frames: the head, any number of tables, the end |
//! | 32 | BLAKE3 of all bytes before |
//!
//! A frame is its kind (u8), the bytes of what it holds (u32), the first 4 bytes of the BLAKE3 of its place in
//! the file (u64), kind and length, and what it holds:
//!
//! | kind | holds |
//! | --- | --- |
//! | 1 | [`Head`], as structures are written in the state (`state/format.rs`) |
//! | 2 | the name of a table, then records of it: key and value (`field.rs`) |
//! | 3 | [`End`], in the same way |
//!
//! A table may have several frames; a frame holds about 1 MiB, or one record. Numbers are little-endian.
//!
//! Deliberately absent: fragments, which are a cache; compression and encryption, which other programs
//! do well (`zstd`, `age`).

mod error;
mod field;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use redb::TableHandle as _;
use serde::{Deserialize, Serialize};

pub use error::BackupError;
pub use read::verify_backup;
pub use restore::restore;
pub use write::{Backup, backup};

use super::format::{ANSWERS, DOCUMENTS, OUTBOX, SINKS};

/// The layout written here, and the newest that is read.
const VERSION: u32 = 1;
/// The first bytes.
const MAGIC: &[u8; 16] = b"perennial backup";
/// Bytes of a digest.
const DIGEST: usize = 32;
/// A frame is ended once it holds so many bytes.
const FRAME: usize = 1 << 20;
/// Bytes of kind, length and check.
const FRAME_HEAD: usize = 9;

/// Kinds of frames.
const HEAD: u8 = 1;
const TABLE: u8 = 2;
const END: u8 = 3;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// The version of the state's format.
    state_version: u64,
    /// The last committed epoch.
    epoch: Option<u64>,
    /// Which history of epochs it is.
    origin: u64,
    /// When it was begun, in milliseconds since 1970.
    taken_at_ms: i64,
    /// The version of the program that wrote it.
    program: String,
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    /// By table: how many records.
    n_records: BTreeMap<String, u64>,
}

/// What a backup is of, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupSummary {
    /// The last committed epoch.
    pub epoch: Option<u64>,
    /// When it was begun, in milliseconds since 1970.
    pub taken_at_ms: i64,
    /// The version of the program that wrote it.
    pub program: String,
    /// Rows of all streams.
    pub n_rows: u64,
    /// Answers of all views.
    pub n_answers: u64,
    /// Sinks that were known: a restored state tells them anew.
    pub n_sinks: u64,
    /// Epochs that they had not taken.
    pub n_owed: u64,
    /// Its bytes.
    pub n_bytes: u64,
}

impl BackupSummary {
    fn of(head: Head, end: &End, n_bytes: u64) -> Self {
        let n = |table: &str| end.n_records.get(table).copied().unwrap_or_default();
        Self {
            epoch: head.epoch,
            taken_at_ms: head.taken_at_ms,
            program: head.program,
            n_rows: n(DOCUMENTS.name()),
            n_answers: n(ANSWERS.name()),
            n_sinks: n(SINKS.name()),
            n_owed: n(OUTBOX.name()),
            n_bytes,
        }
    }
}

/// What stands behind kind and length of a frame: a length that is another is noticed before so much is
/// read.
fn frame_check(at: u64, kind: u8, len: u32) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&at.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(&len.to_le_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    first
}
