//! Is a state directory whole, and what does it hold?

use std::path::Path;

use perennial_bank::cold_tier;

use super::format::{self, FILE, OUTPUTS, RECEIPTS, StoredValue, VECTORS};
use crate::engine::Receipt;

use super::{FRAGMENTS, ReadableTable, ReadableTableMetadata, State, StateError, history};

/// What a state directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StateSummary {
    /// Whether the process that had it last closed it. Otherwise it was killed, or the machine
    /// failed: what was committed stands, and the next engine mends the rest.
    pub was_closed: bool,
    /// The last committed epoch.
    pub epoch: Option<u64>,
    /// Rows of all streams.
    pub n_rows: usize,
    /// Answers of all views.
    pub n_answers: usize,
    /// Vectors of texts.
    pub n_vectors: u64,
    /// Outputs of tasks.
    pub n_outputs: u64,
    /// Records in quarantine.
    pub n_quarantined: usize,
    /// Epochs that sinks have not taken.
    pub n_owed: usize,
    /// Rows of queries that sinks have, or are owed.
    pub n_upserts: usize,
    /// Epochs in the history, the present one included.
    pub n_epochs: usize,
    /// Bytes of the file.
    pub n_bytes: u64,
    /// Fragments on disk that are whole.
    pub n_fragments: usize,
    /// Bytes of the segments that they are in.
    pub n_fragment_bytes: u64,
    /// Fragments, and ends of segments, that are damaged: they are encoded again.
    pub n_damaged_fragments: u64,
}

/// Verifies the checksums of a state directory and reads every record of it. The directory is
/// not changed, whatever state it is in.
///
/// # Errors
/// [`StateError`]: none there, not to be read, in use, newer or damaged.
pub fn check(dir: &Path) -> Result<StateSummary, StateError> {
    let (state, was_closed) = State::open_untouched(dir)?;
    let n_bytes = std::fs::metadata(dir.join(FILE)).map_or(0, |file| file.len());
    let restored = state.restore()?;
    let n_vectors = state.read(|txn| {
        let vectors = txn.open_table(VECTORS)?;
        for entry in vectors.iter()? {
            format::vector(entry?.1.value())?;
        }
        Ok(vectors.len()?)
    })?;
    let n_outputs = state.read(|txn| {
        let outputs = txn.open_table(OUTPUTS)?;
        for entry in outputs.iter()? {
            format::decode::<Option<StoredValue>>("an output", entry?.1.value())?;
        }
        Ok(outputs.len()?)
    })?;
    let fragments = cold_tier::verify(&dir.join(FRAGMENTS))?;
    let n_epochs = state.read(history::verify)?;
    Ok(StateSummary {
        n_epochs,
        was_closed,
        epoch: restored.epoch,
        n_rows: restored.rows.values().map(|rows| rows.len()).sum(),
        n_answers: restored.answers.values().map(|answers| answers.len()).sum(),
        n_vectors,
        n_outputs,
        n_owed: restored.sinks.values().map(|(_, owed)| owed.len()).sum(),
        n_upserts: restored.upserts.values().map(|given| given.len()).sum(),
        n_quarantined: restored.quarantine.len(),
        n_bytes,
        n_fragments: fragments.n_fragments,
        n_fragment_bytes: fragments.n_bytes,
        n_damaged_fragments: fragments.n_damaged,
    })
}

/// The receipts of all documents that were forgotten, oldest first. The directory is not changed.
///
/// # Errors
/// As [`check`].
pub fn receipts(dir: &Path) -> Result<Vec<Receipt>, StateError> {
    let (state, _) = State::open_untouched(dir)?;
    state.read(|txn| {
        let mut receipts = Vec::new();
        for entry in txn.open_table(RECEIPTS)?.iter()? {
            receipts.push(format::decode_receipt(entry?.1.value())?);
        }
        Ok(receipts)
    })
}
