//! How does a state directory of an older format become one of the present?
//!
//! | from | what it lacks |
//! | --- | --- |
//! | 2 | what sinks and quarantine need: tables that are made empty |
//! | 3 | the history, and in receipts the epochs of it that were cut |
//! | 4 | in rows, their columns |
//! | 5 | the outputs of tasks: a table that is made empty |
//! | 6 | in deliveries, what is no answer; what sinks have of queries: a table that is made empty |
//! | 7 | the columns of streams: a table that is made empty, so that those declared next are taken for them |
//!
//! Each step is taken by all that are older, in one transaction with the new version: a crash
//! leaves the old format, whole. Rows of before have no columns; a source that goes on from its
//! offset does not say them again, so they get some when their records come again.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::{Delivery, Output, OutputAnswer, OutputRow};
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use serde::Deserialize;

use super::format::{
    self, DOCUMENTS, EPOCHS, HISTORY_BYTES_KEY, MANIFEST, OUTBOX, RECEIPTS, RESUBMITTED,
    Resubmitted, StoredRow, UNDO_ROWS,
};
use super::history::StoredEpoch;
use crate::engine::Receipt;

/// The oldest format that is read.
pub(super) const OLDEST: u64 = 2;

/// Brings what an older format holds into the present one. All tables are there.
pub(super) fn migrate(txn: &WriteTransaction, found: u64) -> Result<(), redb::Error> {
    if found < 4 {
        count_history_in_receipts(txn)?;
    }
    if found < 5 {
        add_columns(txn)?;
    }
    if found < 7 {
        name_answers_in_deliveries(txn)?;
    }
    Ok(())
}

/// A receipt of formats before 4.
#[derive(Deserialize)]
struct ReceiptOf3 {
    stream: String,
    key: String,
    was_there: bool,
    forgotten_at_ms: i64,
    epoch: Option<u64>,
    n_fragments: usize,
    n_answers: usize,
    n_rejected: usize,
    n_updates: usize,
    n_state_bytes: Option<u64>,
    remains: Vec<String>,
}

impl From<ReceiptOf3> for Receipt {
    fn from(old: ReceiptOf3) -> Self {
        Self {
            stream: old.stream,
            key: old.key,
            was_there: old.was_there,
            forgotten_at_ms: old.forgotten_at_ms,
            epoch: old.epoch,
            n_fragments: old.n_fragments,
            n_answers: old.n_answers,
            n_rejected: old.n_rejected,
            n_updates: old.n_updates,
            n_epochs: 0,
            n_state_bytes: old.n_state_bytes,
            remains: old.remains,
            n_letters: 0,
        }
    }
}

/// Writes the receipts of an older format in this one.
fn count_history_in_receipts(txn: &WriteTransaction) -> Result<(), redb::Error> {
    rewrite(txn, RECEIPTS, |bytes| {
        let old: ReceiptOf3 = format::decode("a receipt", bytes)?;
        Ok(format::encode_receipt(&Receipt::from(old)))
    })
}

/// A row of formats before 5.
#[derive(Deserialize)]
struct RowOf4 {
    title: Option<Arc<str>>,
    text: Arc<str>,
    updated_at_ms: i64,
    is_timed: bool,
    supersedes: Arc<[Arc<str>]>,
}

impl From<RowOf4> for StoredRow {
    fn from(old: RowOf4) -> Self {
        Self {
            title: old.title,
            text: old.text,
            updated_at_ms: old.updated_at_ms,
            is_timed: old.is_timed,
            supersedes: old.supersedes,
            columns: Vec::new(),
        }
    }
}

/// A resubmitted row of formats before 5.
#[derive(Deserialize)]
struct ResubmittedOf4 {
    stream: String,
    key: String,
    row: Option<RowOf4>,
}

/// Writes the rows of an older format, those of the history too, in this one.
fn add_columns(txn: &WriteTransaction) -> Result<(), redb::Error> {
    let mut documents = txn.open_table(DOCUMENTS)?;
    let mut rows = Vec::new();
    for entry in documents.iter()? {
        let (key, bytes) = entry?;
        let (stream, key) = key.value();
        rows.push((
            stream.to_owned(),
            key.to_owned(),
            row_with_columns(bytes.value())?,
        ));
    }
    for (stream, key, bytes) in rows {
        documents.insert((&*stream, &*key), bytes.as_slice())?;
    }
    rewrite(txn, RESUBMITTED, |bytes| {
        let old: ResubmittedOf4 = format::decode("a resubmitted row", bytes)?;
        Ok(format::encode(&Resubmitted {
            stream: old.stream,
            key: old.key,
            row: old.row.map(StoredRow::from),
        }))
    })?;
    // By epoch: how many bytes its undo records have more than before.
    let mut grown: BTreeMap<u64, u64> = BTreeMap::new();
    let mut table = txn.open_table(UNDO_ROWS)?;
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (key, before) = entry?;
        let (epoch, stream, key) = key.value();
        if let Some(old) = before.value() {
            let new = row_with_columns(old)?;
            *grown.entry(epoch).or_default() += (new.len() - old.len()) as u64;
            records.push((epoch, stream.to_owned(), key.to_owned(), new));
        }
    }
    for (epoch, stream, key, new) in records {
        table.insert((epoch, &*stream, &*key), Some(new.as_slice()))?;
    }
    let mut epochs = txn.open_table(EPOCHS)?;
    for (epoch, n_bytes) in &grown {
        let entry = epochs.get(epoch)?;
        let entry = entry.map(|bytes| format::decode("an epoch of the history", bytes.value()));
        if let Some(entry) = entry {
            let mut entry: StoredEpoch = entry?;
            entry.n_undo_bytes += n_bytes;
            epochs.insert(epoch, format::encode(&entry).as_slice())?;
        }
    }
    let mut manifest = txn.open_table(MANIFEST)?;
    let n_bytes = manifest.get(HISTORY_BYTES_KEY)?.map_or(0, |n| n.value());
    let n_bytes = n_bytes + grown.values().sum::<u64>();
    manifest.insert(HISTORY_BYTES_KEY, n_bytes)?;
    Ok(())
}

fn row_with_columns(bytes: &[u8]) -> Result<Vec<u8>, redb::Error> {
    let old: RowOf4 = format::decode("a row", bytes)?;
    Ok(format::encode(&StoredRow::from(old)))
}

/// A delivery of formats before 7.
#[derive(Deserialize)]
struct DeliveryOf6 {
    origin: u64,
    view: String,
    epoch: u64,
    rows: Vec<OutputRowOf6>,
}

/// A row of it.
#[derive(Deserialize)]
struct OutputRowOf6 {
    key: String,
    answer: Option<OutputAnswer>,
}

impl From<DeliveryOf6> for Delivery {
    fn from(old: DeliveryOf6) -> Self {
        let row = |row: OutputRowOf6| OutputRow {
            key: row.key,
            output: row.answer.map(Output::Answer),
        };
        Self {
            origin: old.origin,
            view: old.view,
            epoch: old.epoch,
            rows: old.rows.into_iter().map(row).collect(),
        }
    }
}

/// Writes what sinks are owed in this format.
fn name_answers_in_deliveries(txn: &WriteTransaction) -> Result<(), redb::Error> {
    let mut outbox = txn.open_table(OUTBOX)?;
    let mut deliveries = Vec::new();
    for entry in outbox.iter()? {
        let (key, bytes) = entry?;
        let (sink, epoch) = key.value();
        let old: DeliveryOf6 = format::decode("a delivery", bytes.value())?;
        deliveries.push((sink.to_owned(), epoch, Delivery::from(old)));
    }
    for (sink, epoch, delivery) in deliveries {
        outbox.insert((&*sink, epoch), format::encode(&delivery).as_slice())?;
    }
    Ok(())
}

/// Writes every value of a table anew. A table is not changed while it is read, so the values are
/// held meanwhile.
fn rewrite(
    txn: &WriteTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
    anew: impl Fn(&[u8]) -> Result<Vec<u8>, redb::Error>,
) -> Result<(), redb::Error> {
    let mut table = txn.open_table(table)?;
    let mut values = Vec::new();
    for entry in table.iter()? {
        let (number, bytes) = entry?;
        values.push((number.value(), anew(bytes.value())?));
    }
    for (number, bytes) in values {
        table.insert(number, bytes.as_slice())?;
    }
    Ok(())
}
