//! What a state directory keeps of records that were refused, and what a person does about it.
//!
//! These functions open the directory themselves: no engine may have it open meanwhile.

use std::path::Path;

use perennial_connectors::{Change, Key, Offset, Rejection, read_record};
use perennial_rows::Row;
use redb::{ReadableTable as _, WriteTransaction};

use super::format::{
    self, MANIFEST, QUARANTINE, QUARANTINED_KEY, RESUBMITTED, Resubmitted, StoredRow,
};
use super::{State, StateError};
use crate::engine::Quarantined;
use crate::engine::quarantine::QuarantineDeltas;

/// Everything that is in quarantine, oldest first. The directory is not changed.
///
/// # Errors
/// [`StateError`]: none there, not to be read, in use, newer or damaged.
pub fn quarantine(dir: &Path) -> Result<Vec<Quarantined>, StateError> {
    let (state, _) = State::open_untouched(dir)?;
    Ok(state.restore()?.quarantine)
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
/// this directory takes in, in the place of what it holds: the entry's own content, or what is
/// given instead, as a line of JSON lines. Returns the record's key.
///
/// # Errors
/// As [`drop_quarantined`]; [`StateError::NotInQuarantine`], [`StateError::MendAtSource`] for
/// files and rows of tables, and [`StateError::NoRecord`] if the content is no record still.
pub fn resubmit(dir: &Path, number: u64, instead: Option<&[u8]>) -> Result<Key, StateError> {
    let state = State::open_existing(dir)?;
    let restored = state.restore()?;
    let mut entries = restored.quarantine.into_iter();
    let entry = entries.find(|entry| entry.number == number);
    let entry = entry.ok_or(StateError::NotInQuarantine { number })?;
    let stream = entry.stream.clone();
    let (key, row) = mended(entry, instead, restored.offsets.get(&stream))?;
    let resubmitted = Resubmitted {
        stream,
        key: key.as_str().to_owned(),
        row: row.as_ref().map(StoredRow::from),
    };
    state.write(|txn| {
        txn.open_table(QUARANTINE)?.remove(number)?;
        let mut table = txn.open_table(RESUBMITTED)?;
        table.insert(number, format::encode(&resubmitted).as_slice())?;
        Ok(())
    })?;
    Ok(key)
}

/// The record that an entry was meant to be: its own content, or what is given instead, as a line of
/// JSON lines; with the key that it has in its stream, whose source goes on at an offset. None for a row that
/// is to be gone.
///
/// # Errors
/// [`StateError::MendAtSource`], [`StateError::NoContent`] and [`StateError::NoRecord`].
pub(crate) fn mended(
    entry: Quarantined,
    instead: Option<&[u8]>,
    goes_on: Option<&Offset>,
) -> Result<(Key, Option<Row>), StateError> {
    let (number, place) = (entry.number, entry.place);
    if entry.is_standing {
        return Err(StateError::MendAtSource { number, place });
    }
    let no_record = |reason: Rejection| StateError::NoRecord {
        number,
        reason: reason.to_string(),
    };
    let content = instead.or(entry.content.as_deref());
    let content = content.ok_or(StateError::NoContent { number })?;
    let key = entry.key.map(Key::new);
    // Where several sources are one stream, its key may stand behind a prefix that the content
    // does not have.
    let change = match (read_record(content, None, entry.refused_at_ms), &key) {
        (
            Err(
                Rejection::MissingField { field: "key" }
                | Rejection::MissingAmong { field: "key", .. },
            ),
            Some(_),
        ) => read_record(content, key.as_ref(), entry.refused_at_ms),
        (Ok(change), Some(key)) if !is_key_of(key, change.key()) => Err(Rejection::KeysDiffer {
            outer: key.to_string(),
            inner: change.key().to_string(),
        }),
        (read, _) => read,
    };
    let change = change.map_err(no_record)?;
    let (own, mut row) = match change {
        Change::Upsert(record) => (record.key, Some(record.row)),
        Change::Delete { key, .. } => (key, None),
    };
    // A line that had no key came from one of the sources, too: without the prefix of that, its row would
    // be nobody's, and gone with the next start.
    let prefix = goes_on.and_then(|offset| offset.part_at(&place));
    let behind = || Key::new(format!("{}{own}", prefix.unwrap_or_default()));
    let key = key.unwrap_or_else(behind);
    if let Some(row) = row.as_mut().filter(|_| key != own) {
        // As its source does: the model is told what the record calls itself.
        row.title.get_or_insert_with(|| own.text());
    }
    Ok((key, row))
}

/// Whether a record may be that of a key, which may have a prefix.
fn is_key_of(key: &Key, own: &Key) -> bool {
    let prefix = key.as_str().strip_suffix(own.as_str());
    prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('#'))
}

/// Stores what changed in quarantine, and strikes off resubmitted rows.
pub(super) fn put(
    txn: &WriteTransaction,
    deltas: &QuarantineDeltas,
    resubmitted: &[u64],
) -> Result<(), redb::Error> {
    if let Some(last) = deltas.iter().map(|(number, _)| *number).max() {
        let mut manifest = txn.open_table(MANIFEST)?;
        let next = manifest
            .get(QUARANTINED_KEY)?
            .map_or(0, |next| next.value());
        manifest.insert(QUARANTINED_KEY, next.max(last + 1))?;
    }
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
