//! How is a record erased from a state directory that no engine has open?
//!
//! An engine that forgets has its views answer without the record first, so it knows what may stay
//! (`engine/forget.rs`). Here nobody says what a view reads, or has read: so all answers go with the record,
//! and all that models said of rows, all vectors and fragments. The next engine over the directory asks and
//! reads again; what its sources hold it takes in as ever, the record too where a source still has it.
//!
//! # Invariants
//! - It is all there, or none of the rows is: the rest is housekeeping, and done again by the next call.
//! - What sinks are owed is never dropped: an answer may be in it, so the record stays until it was delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use perennial_bank::cold_tier;
use perennial_rows::Row;
use redb::ReadableTable as _;
use serde_json::Value;

use super::format::{
    ANSWERS, DOCUMENTS, OUTPUTS, QUARANTINE, RECEIPTS, RESUBMITTED, Resubmitted, VECTORS, decode,
    encode_receipt,
};
use super::{FRAGMENTS, Restored, State, StateError, deletions};
use crate::engine::Receipt;
use crate::engine::clock::now_ms;
use crate::engine::letters::{self, Reads};
use crate::engine::needles::Needles;
use crate::fault;

/// Erases records of a stream, and what was derived from them. Returns a receipt each, in order, which is kept
/// in the directory, too: its [`n_answers`](Receipt::n_answers) are those that went with it.
///
/// # Errors
/// [`StateError`]: none there, in use, newer, damaged, or not to be written; [`StateError::NoStream`], and
/// [`StateError::Owed`] where answers wait to be delivered.
pub fn forget(
    dir: &Path,
    stream: &str,
    keys: &[impl AsRef<str>],
) -> Result<Vec<Receipt>, StateError> {
    let state = State::open_existing(dir)?;
    let restored = state.restore()?;
    check(&restored, stream)?;
    let rows = restored.rows.get(stream);
    let mut receipts: Vec<Receipt> = keys
        .iter()
        .map(|key| {
            let key = key.as_ref();
            let refused = restored.quarantine.iter();
            Receipt {
                stream: stream.to_owned(),
                key: key.to_owned(),
                was_there: rows.is_some_and(|rows| rows.contains_key(key)),
                n_rejected: refused.filter(|of| of.is_of(stream, key)).count(),
                n_answers: restored.answers.values().map(|of| of.len()).sum(),
                ..Receipt::default()
            }
        })
        .collect();
    fault::FORGET_BEGIN.reach();
    // While it is known what is forgotten: after a crash, it may not be.
    let of_letters = erase_letters(&state, &restored, &mut receipts)?;
    take_out(&state, &restored, &receipts)?;
    let n_epochs = state.cut_history()?;
    fault::FORGET_CUT.reach();
    let fragments = dir.join(FRAGMENTS);
    let n_fragments = cold_tier::verify(&fragments)?.n_fragments;
    remove(&fragments)?;
    let n_bytes = state.rewrite()?;
    let is_left = left(&state, &restored, &receipts)?;
    for (receipt, is_left) in receipts.iter_mut().zip(is_left) {
        receipt.epoch = restored.epoch;
        receipt.n_epochs = n_epochs;
        receipt.n_fragments = n_fragments;
        receipt.n_state_bytes = Some(n_bytes);
        receipt.forgotten_at_ms = now_ms();
        if is_left {
            receipt.remains.push("the state directory".to_owned());
        }
        receipt.remains.extend(of_letters.iter().cloned());
    }
    state.keep_receipts(&receipts)?;
    Ok(receipts)
}

impl State {
    /// Keeps receipts.
    ///
    /// # Errors
    /// [`StateError::Write`]; none is kept then.
    pub(crate) fn keep_receipts<'a>(
        &self,
        receipts: impl IntoIterator<Item = &'a Receipt>,
    ) -> Result<(), StateError> {
        self.write(|txn| {
            let mut kept = txn.open_table(RECEIPTS)?;
            let first = kept.last()?.map_or(0, |(number, _)| number.value() + 1);
            for (number, receipt) in (first..).zip(receipts) {
                kept.insert(number, encode_receipt(receipt).as_slice())?;
            }
            Ok(())
        })?;
        fault::FORGET_KEPT.reach();
        Ok(())
    }
}

/// Refuses a stream that is not there, and what would lose deliveries.
fn check(restored: &Restored, stream: &str) -> Result<(), StateError> {
    let mut known: Vec<&str> = restored.rows.keys().map(String::as_str).collect();
    known.extend(restored.schemas.keys().map(String::as_str));
    known.extend(restored.offsets.keys().map(String::as_str));
    known.extend(restored.quarantine.iter().map(|refused| &*refused.stream));
    known.sort_unstable();
    known.dedup();
    if !known.contains(&stream) {
        return Err(StateError::NoStream {
            stream: stream.to_owned(),
            known: known.join(", "),
        });
    }
    let owed = restored
        .sinks
        .iter()
        .filter(|(_, (_, owed))| !owed.is_empty());
    match owed.map(|(sink, _)| sink).min() {
        Some(sink) => Err(StateError::Owed { sink: sink.clone() }),
        None => Ok(()),
    }
}

/// Takes rows out, with what is known of them and all that was derived from any row, at once.
fn take_out(state: &State, restored: &Restored, receipts: &[Receipt]) -> Result<(), StateError> {
    let is_its = |stream: &str, key: &str| {
        receipts
            .iter()
            .any(|of| of.stream == stream && of.key == key)
    };
    let refused = restored.quarantine.iter();
    let refused = refused.filter(|of| receipts.iter().any(|its| of.is_of(&its.stream, &its.key)));
    let refused: Vec<u64> = refused.map(|of| of.number).collect();
    state.write(|txn| {
        let mut rows = txn.open_table(DOCUMENTS)?;
        for Receipt { stream, key, .. } in receipts {
            rows.remove((&**stream, &**key))?;
        }
        let names = receipts.iter().map(|of| (&*of.stream, &*of.key, None));
        deletions::put(txn, names)?;
        let mut quarantine = txn.open_table(QUARANTINE)?;
        for number in &refused {
            quarantine.remove(number)?;
        }
        let mut resubmitted = txn.open_table(RESUBMITTED)?;
        let mut gone = Vec::new();
        for entry in resubmitted.iter()? {
            let (number, bytes) = entry?;
            let of: Resubmitted = decode("a resubmitted record", bytes.value())?;
            if is_its(&of.stream, &of.key) {
                gone.push(number.value());
            }
        }
        for number in gone {
            resubmitted.remove(number)?;
        }
        txn.open_table(ANSWERS)?.retain(|_, _| false)?;
        txn.open_table(OUTPUTS)?.retain(|_, _| false)?;
        txn.open_table(VECTORS)?.retain(|_, _| false)?;
        Ok(())
    })
}

/// Removes a folder that may not be there.
fn remove(dir: &Path) -> Result<(), StateError> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StateError::Io {
            path: dir.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Takes out of the files of dead letters what tells of these records. Returns where that may still stand.
fn erase_letters(
    state: &State,
    restored: &Restored,
    receipts: &mut [Receipt],
) -> Result<Vec<String>, StateError> {
    let mut needles = Needles::default();
    let mut others: Vec<Row> = Vec::new();
    for (stream, rows) in &restored.rows {
        for (key, row) in rows {
            let row = Row::from(row.clone());
            let is_its = |of: &Receipt| of.stream == *stream && of.key == *key;
            match receipts.iter().position(is_its) {
                Some(number) => letters::add_row(&mut needles, key, &row, number),
                None => others.push(row),
            }
        }
    }
    let said = needles.drop_said_in(others.iter().flat_map(letters::texts));
    said.map_err(|error| state.unreadable(error))?;
    let named = |letter: &Value| -> BTreeSet<usize> {
        let named = receipts.iter().enumerate();
        let named = named.filter(|(_, of)| letters::names(letter, &of.key, Reads::UNKNOWN));
        named.map(|(number, _)| number).collect()
    };
    let (mut n_gone, mut is_left) = (BTreeMap::<usize, usize>::new(), Vec::new());
    for (path, opened) in state.open_letters(|_| false)? {
        match opened.and_then(|opened| letters::erase(&opened, &needles, named)) {
            Ok(of_file) => {
                for (number, n) in of_file {
                    *n_gone.entry(number).or_default() += n;
                }
            }
            Err(reason) => is_left.push(format!("dead letters, {}: {reason}", path.display())),
        }
    }
    for (number, n) in n_gone {
        receipts[number].n_letters += n;
    }
    Ok(is_left)
}

/// Whether something of each text is still found, which no other row says as well.
fn left(state: &State, restored: &Restored, receipts: &[Receipt]) -> Result<Vec<bool>, StateError> {
    let mut needles = Needles::default();
    for (number, of) in receipts.iter().enumerate() {
        let row = restored
            .rows
            .get(&of.stream)
            .and_then(|rows| rows.get(&of.key));
        if let Some(row) = row {
            needles.add(&row.text, number);
        }
    }
    let is_gone = |stream: &str, key: &str| {
        receipts
            .iter()
            .any(|of| of.stream == stream && of.key == key)
    };
    let others = restored.rows.iter().flat_map(|(stream, rows)| {
        let rows = rows.iter().filter(move |(key, _)| !is_gone(stream, key));
        rows.map(|(_, row)| &*row.text)
    });
    let unreadable = |error| state.unreadable(error);
    needles.drop_said_in(others).map_err(unreadable)?;
    let files = state.files()?;
    let found = needles.found_in(files.iter().map(|file| &**file as &Path));
    let found = found.map_err(unreadable)?;
    Ok((0..receipts.len())
        .map(|number| found.contains(&number))
        .collect())
}
