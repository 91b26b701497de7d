//! What a state directory keeps of records that were refused, and what a person does about it.
//!
//! These functions open the directory themselves: no engine may have it open meanwhile.

use std::path::Path;

use perennial_connectors::{Change, Key, Rejection, read_record};
use redb::WriteTransaction;

use super::format::{self, QUARANTINE, RESUBMITTED, Resubmitted, StoredRow};
use super::{State, StateError};
use crate::engine::Quarantined;
use crate::engine::quarantine::QuarantineDeltas;

/// Everything that is in quarantine, oldest first.
///
/// # Errors
/// [`StateError`]: none there, in use, newer or damaged.
pub fn quarantine(dir: &Path) -> Result<Vec<Quarantined>, StateError> {
    Ok(State::open_existing(dir)?.restore()?.quarantine)
}

/// Drops entries by their numbers. Returns how many were there.
///
/// # Errors
/// As [`quarantine`], and [`StateError::Write`].
pub fn drop_quarantined(dir: &Path, numbers: &[u64]) -> Result<usize, StateError> {
    let state = State::open_existing(dir)?;
    state.write(|txn| {
        let mut table = txn.open_table(QUARANTINE)?;
        let mut n_dropped = 0;
        for number in numbers {
            n_dropped += usize::from(table.remove(number)?.is_some());
        }
        Ok(n_dropped)
    })
}

/// Takes an entry out of quarantine and leaves a record in its place, which the next engine over
/// this directory takes in as if its source had said it: the entry's own content, or what is
/// given instead, as a line of JSON lines. Returns the record's key.
///
/// # Errors
/// As [`drop_quarantined`]; [`StateError::NotInQuarantine`], and [`StateError::NoRecord`] if the
/// content is no record still.
pub fn resubmit(dir: &Path, number: u64, instead: Option<&[u8]>) -> Result<Key, StateError> {
    let state = State::open_existing(dir)?;
    let entries = state.restore()?.quarantine;
    let entry = entries.into_iter().find(|entry| entry.number == number);
    let entry = entry.ok_or(StateError::NotInQuarantine { number })?;
    let no_record = |reason: Rejection| StateError::NoRecord {
        number,
        reason: reason.to_string(),
    };
    let content = instead.or(entry.content.as_deref());
    let content = content.ok_or(StateError::NoContent { number })?;
    let key = entry.key.map(Key::new);
    let change = read_record(content, key.as_ref(), entry.refused_at_ms).map_err(no_record)?;
    let (key, row) = match change {
        Change::Upsert(record) => {
            let row = StoredRow {
                title: record.title.as_deref().map(Into::into),
                text: record.text.as_str().into(),
                updated_at_ms: record.updated_at_ms,
                is_timed: record.is_timed,
                supersedes: record
                    .supersedes
                    .iter()
                    .map(|k| k.as_str().into())
                    .collect(),
            };
            (record.key, Some(row))
        }
        Change::Delete { key, .. } => (key, None),
    };
    let resubmitted = Resubmitted {
        stream: entry.stream,
        key: key.as_str().to_owned(),
        row,
    };
    state.write(|txn| {
        txn.open_table(QUARANTINE)?.remove(number)?;
        let mut table = txn.open_table(RESUBMITTED)?;
        table.insert(number, format::encode(&resubmitted).as_slice())?;
        Ok(())
    })?;
    Ok(key)
}

/// Stores what changed in quarantine, and strikes off resubmitted rows.
pub(super) fn put(
    txn: &WriteTransaction,
    deltas: &QuarantineDeltas,
    resubmitted: &[u64],
) -> Result<(), redb::Error> {
    let mut table = txn.open_table(QUARANTINE)?;
    for (number, entry) in deltas {
        match entry {
            Some(entry) => table.insert(number, format::encode(entry).as_slice())?,
            None => table.remove(number)?,
        };
    }
    let mut table = txn.open_table(RESUBMITTED)?;
    for number in resubmitted {
        table.remove(number)?;
    }
    Ok(())
}
