//! Erasure: a document, and all that was derived from it.
//!
//! A deletion is exact already: answers, fragments (those too that attended to the document)
//! and vectors of an epoch are as if it had never been inserted. What a deletion leaves is
//! what merely *remembers*: refused records, updates that a slow subscriber has not read or a
//! sink has not taken, drafts of answers that failed since, earlier epochs in the history (all of
//! them: any answer may have leaned on it), free pages of the state file, and letters: rows that tell of it and that a
//! sink was refused for good (`letters.rs`). Forgetting takes these too, looks whether anything is left, and says so in a receipt.
//!
//! Answers are looked at as of the epoch that carries the deletion (`coordinator/waiting.rs`), and what
//! remembers is erased between two epochs: edits that keep coming do not keep a document from being
//! forgotten. Several are erased at once, and looked for in one pass over the files.
//!
//! The receipt is kept in the state directory; it names the key, and holds nothing of the text.
//!
//! It does not reach what was delivered or recorded (the receipt names the recording of this
//! engine), not files of letters that were moved away, and not the device's blocks under a file that is gone. Arrangements drop a deleted row
//! when they merge, which they do once the views rest (`merging.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crossbeam_channel::Sender;
use perennial_bank::FragmentId;
use perennial_connectors::{Offset, Rejected};
use perennial_rows::{Key, Row};
use perennial_views::Epoch;
use serde::{Deserialize, Serialize};

use super::coordinator::Bound;
use super::error::Error;
use super::names::StreamId;
use super::reading::Origin;

/// What forgetting a document came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The stream that held it.
    pub stream: String,
    /// Its key.
    pub key: String,
    /// Whether it was there; what remembered it is forgotten in any case.
    pub was_there: bool,
    /// When it was forgotten, by this machine's clock: milliseconds since 1970.
    pub forgotten_at_ms: i64,
    /// The epoch by which no answer reads it.
    pub epoch: Option<Epoch>,
    /// Fragments dropped: its own, and those that had attended to it.
    pub n_fragments: usize,
    /// Answers written or checked without it; of a directory that no engine had open, those that went
    /// with it, to be written again.
    pub n_answers: usize,
    /// Refused records of this key taken out of quarantine.
    pub n_rejected: usize,
    /// Updates that nobody had read, withdrawn or cut.
    pub n_updates: usize,
    /// Epochs cut off the history: all before the present one.
    pub n_epochs: u64,
    /// Bytes of the state file, which was written anew; none without a state directory.
    pub n_state_bytes: Option<u64>,
    /// Where something of it was still found: nowhere, unless the engine records, or something
    /// is wrong.
    pub remains: Vec<String>,
    /// Dead letters of sinks that told of it, and are gone from their files. What is stored of a receipt has it
    /// behind all else.
    #[serde(default)]
    pub n_letters: usize,
}

/// A row that is to be forgotten, and who is told.
pub(crate) struct RowToForget {
    /// None of rows that are gone already, whose keys nobody knows.
    pub(crate) key: Option<Key>,
    pub(crate) reply: Sender<Result<Receipt, Error>>,
}

/// A document being forgotten.
pub(crate) struct Forgetting {
    pub(super) stream: StreamId,
    pub(super) asked: RowToForget,
    pub(super) row: Option<Row>,
    /// The epoch that carries its deletion.
    pub(super) bound: Bound,
    /// The fragments that were held before.
    pub(super) fragments: Arc<BTreeSet<FragmentId>>,
    pub(super) receipt: Receipt,
}

impl Forgetting {
    /// What views that are to forget it read.
    pub(super) fn origin(&self) -> Origin {
        Origin::Stream(self.stream)
    }
}

/// Whether a refused record is one of this key.
pub(super) fn is_of(rejected: &Rejected, stream: &str, key: &str) -> bool {
    let is_its_file = match &rejected.offset {
        Offset::File { path, .. } => path.to_str() == Some(key),
        _ => false,
    };
    let is_its_key = rejected.key.as_ref().is_some_and(|k| k.as_str() == key);
    rejected.source.as_str() == stream && (is_its_key || is_its_file)
}
