//! What stood at an earlier epoch?
//!
//! # Design
//! The transaction that commits an epoch also stores what stood before, for every row and answer
//! that the epoch changes: its *undo records*, and an entry that says when it was committed and
//! how much it changed. The state as of an epoch is the present with the undo records of all later
//! epochs applied; of several for one key, the oldest counts.
//!
//! Snapshots were rejected: they cost what is held, undo records cost what an epoch changes. A
//! log of new versions was, too: it would need the beginning, and could never be cut.
//!
//! # Invariants
//! - An epoch that changes no row and no answer is none of the history, unless it is the first: so a
//!   restart is none. At its number stands what stood at the last one before it that is there.
//! - The oldest has no undo records: what stood before it cannot be asked for. So the first epoch
//!   of a directory, which may be the largest, stores nothing twice.
//! - Records of at most [`Retention`] are kept: each commit drops as many of the oldest epochs as
//!   it must, so over time as many as there are commits. An epoch whose own undo records are over
//!   the budget becomes the oldest.

use std::collections::BTreeMap;
use std::path::Path;

use perennial_bank::{ContextKey, Document};
use perennial_connectors::timestamp;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::format::{
    self, ANSWERS, DOCUMENTS, EPOCH_KEY, EPOCHS, HISTORY_BYTES_KEY, MANIFEST, StoredAnswer,
    StoredRow, UNDO_ANSWERS, UNDO_ROWS,
};
use super::{State, StateError};
use crate::engine::CurrentAnswer;
use crate::engine::reading;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Epochs, the present one included; none switches the history off.
    pub n_epochs: u64,
    /// Bytes of undo records, keys included.
    pub n_bytes: u64,
}

impl Default for Retention {
    /// A thousand epochs, in at most 256 MiB.
    fn default() -> Self {
        Self {
            n_epochs: 1_000,
            n_bytes: 256 << 20,
        }
    }
}

/// Which state is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AsOf {
    /// That of the last committed epoch.
    Present,
    /// That of an epoch.
    Epoch(u64),
    /// That of the last epoch committed by then, in milliseconds since 1970.
    Time(i64),
}

impl std::fmt::Display for AsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Present => f.write_str("the present"),
            Self::Epoch(epoch) => write!(f, "epoch {epoch}"),
            Self::Time(ms) => f.write_str(&timestamp::text(*ms)),
        }
    }
}

/// What stood at an epoch.
#[derive(Clone, Debug)]
pub struct StateAsOf {
    /// The epoch.
    pub epoch: u64,
    /// When what stood then was committed, by the machine's clock, in milliseconds since 1970; unknown
    /// where no history is kept.
    pub committed_at_ms: Option<i64>,
    /// By view: answers by context.
    pub answers: BTreeMap<String, BTreeMap<ContextKey, CurrentAnswer>>,
    /// By stream: rows in order of their keys, contexts as well as documents.
    pub documents: BTreeMap<String, Vec<Document>>,
}

#[cfg(feature = "serve")]
/// By context: the answer that stood, or that there was none; and nothing where that is not known.
pub(crate) type Stood = BTreeMap<ContextKey, Option<Option<CurrentAnswer>>>;

/// An epoch in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The epoch.
    pub epoch: u64,
    /// When it was committed, in milliseconds since 1970.
    pub committed_at_ms: i64,
    /// What it changed in streams; those that it left alone are not named.
    pub streams: Vec<RowChanges>,
    /// What it changed in views; those that it left alone are not named.
    pub views: Vec<AnswerChanges>,
}

/// Rows of one stream that an epoch changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChanges {
    /// The stream.
    pub stream: String,
    /// Rows that were not there before.
    pub n_inserted: u64,
    /// Rows that were there and are others.
    pub n_updated: u64,
    /// Rows that are gone.
    pub n_deleted: u64,
}

/// Answers of one view that an epoch changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerChanges {
    /// The view.
    pub view: String,
    /// Answers where there was none.
    pub n_new: u64,
    /// Answers that are others, or became exact or provisional.
    pub n_changed: u64,
    /// Answers that are gone.
    pub n_gone: u64,
}

/// An epoch in the history, as it is stored under its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredEpoch {
    /// When it was committed, in milliseconds since 1970.
    pub(super) committed_at_ms: i64,
    /// Bytes of its undo records.
    pub(super) n_undo_bytes: u64,
    pub(super) streams: Vec<RowChanges>,
    pub(super) views: Vec<AnswerChanges>,
}

impl StoredEpoch {
    /// The changes of a stream. An epoch changes few streams.
    fn stream(&mut self, name: &str) -> &mut RowChanges {
        let known = self.streams.iter().position(|known| known.stream == name);
        let index = known.unwrap_or_else(|| {
            self.streams.push(RowChanges {
                stream: name.to_owned(),
                ..RowChanges::default()
            });
            self.streams.len() - 1
        });
        &mut self.streams[index]
    }

    /// The changes of a view.
    fn view(&mut self, name: &str) -> &mut AnswerChanges {
        let known = self.views.iter().position(|known| known.view == name);
        let index = known.unwrap_or_else(|| {
            self.views.push(AnswerChanges {
                view: name.to_owned(),
                ..AnswerChanges::default()
            });
            self.views.len() - 1
        });
        &mut self.views[index]
    }
}

type UndoTable<'txn> = redb::Table<'txn, (u64, &'static str, &'static str), Option<&'static [u8]>>;

/// The history, open to be written.
struct Tables<'txn> {
    epochs: redb::Table<'txn, u64, &'static [u8]>,
    rows: UndoTable<'txn>,
    answers: UndoTable<'txn>,
    /// Bytes of all undo records.
    n_bytes: u64,
}

impl<'txn> Tables<'txn> {
    fn open(txn: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        let manifest = txn.open_table(MANIFEST)?;
        let n_bytes = manifest.get(HISTORY_BYTES_KEY)?.map_or(0, |n| n.value());
        Ok(Self {
            n_bytes,
            epochs: txn.open_table(EPOCHS)?,
            rows: txn.open_table(UNDO_ROWS)?,
            answers: txn.open_table(UNDO_ANSWERS)?,
        })
    }

    /// Drops the oldest epoch. The next one then is the oldest, and loses its undo records.
    fn drop_oldest(&mut self) -> Result<(), redb::Error> {
        self.epochs.pop_first()?;
        let oldest = self.epochs.first()?;
        let oldest = oldest.map(|(epoch, bytes)| Ok((epoch.value(), decode(bytes.value())?)));
        if let Some((epoch, entry)) = oldest.transpose().map_err(|error: redb::Error| error)? {
            self.n_bytes = self.n_bytes.saturating_sub(entry.n_undo_bytes);
            self.drop_undo(epoch)?;
        }
        Ok(())
    }

    fn drop_undo(&mut self, epoch: u64) -> Result<(), redb::Error> {
        let of_epoch = (epoch, "", "")..(epoch + 1, "", "");
        self.rows.retain_in(of_epoch.clone(), |_, _| false)?;
        self.answers.retain_in(of_epoch, |_, _| false)?;
        Ok(())
    }

    fn close(self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        txn.open_table(MANIFEST)?
            .insert(HISTORY_BYTES_KEY, self.n_bytes)?;
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Result<StoredEpoch, redb::Error> {
    format::decode("an epoch of the history", bytes)
}

/// What an epoch that is being committed leaves in the history.
pub(super) struct Undo<'txn> {
    epoch: u64,
    retention: Retention,
    tables: Tables<'txn>,
    /// Whether undo records are stored: not where nothing before the epoch can be asked for.
    is_kept: bool,
    entry: StoredEpoch,
    /// Whether the epoch is there already, or changes something.
    is_change: bool,
    /// Bytes of the entry's records that an earlier transaction of this epoch has counted.
    n_counted: u64,
}

impl<'txn> Undo<'txn> {
    /// Begins an epoch, or goes on with the last one: views that are slower than others bring
    /// their answers later.
    pub(super) fn begin(
        txn: &'txn WriteTransaction,
        epoch: u64,
        retention: Retention,
    ) -> Result<Self, redb::Error> {
        let tables = Tables::open(txn)?;
        let begun = tables.epochs.get(epoch)?;
        let begun = begun.map(|bytes| decode(bytes.value())).transpose()?;
        let is_change = begun.is_some();
        let mut entry = begun.unwrap_or_default();
        let oldest = tables.epochs.first()?.map(|(oldest, _)| oldest.value());
        let is_oldest = oldest.is_none_or(|oldest| oldest == epoch);
        if is_oldest {
            entry.n_undo_bytes = 0;
        }
        Ok(Self {
            epoch,
            retention,
            is_kept: retention.n_epochs > 1 && !is_oldest,
            n_counted: entry.n_undo_bytes,
            tables,
            entry,
            is_change,
        })
    }

    /// Notes a row as it was and as it is, in bytes.
    pub(super) fn row(
        &mut self,
        (stream, key): (&str, &str),
        before: Option<&[u8]>,
        now: Option<&[u8]>,
    ) -> Result<(), redb::Error> {
        if before == now || self.retention.n_epochs == 0 {
            return Ok(());
        }
        self.is_change = true;
        let of_stream = self.entry.stream(stream);
        match (before, now) {
            (None, _) => of_stream.n_inserted += 1,
            (Some(_), Some(_)) => of_stream.n_updated += 1,
            (Some(_), None) => of_stream.n_deleted += 1,
        }
        let record = (self.epoch, stream, key);
        // Of several transactions of one epoch, what stood before the first counts.
        let is_new = self.is_kept && self.tables.rows.get(record)?.is_none();
        if is_new && self.has_room(stream, key, before) {
            self.tables.rows.insert(record, before)?;
        }
        Ok(())
    }

    /// Notes an answer as it was and as it is, in bytes.
    pub(super) fn answer(
        &mut self,
        (view, context): (&str, &str),
        before: Option<&[u8]>,
        now: Option<(&StoredAnswer, &[u8])>,
    ) -> Result<(), redb::Error> {
        if before == now.map(|(_, bytes)| bytes) || self.retention.n_epochs == 0 {
            return Ok(());
        }
        self.is_change = true;
        match (before, now) {
            (None, _) => self.entry.view(view).n_new += 1,
            (Some(_), None) => self.entry.view(view).n_gone += 1,
            (Some(before), Some((now, _))) => {
                let before: StoredAnswer = format::decode_answer(before)?;
                let is_same = before.answer == now.answer;
                if !is_same || before.drift.is_none() != now.drift.is_none() {
                    self.entry.view(view).n_changed += 1;
                }
            }
        }
        let record = (self.epoch, view, context);
        let is_new = self.is_kept && self.tables.answers.get(record)?.is_none();
        if is_new && self.has_room(view, context, before) {
            self.tables.answers.insert(record, before)?;
        }
        Ok(())
    }

    /// Counts a record. Whether it is to be stored.
    fn has_room(&mut self, name: &str, key: &str, before: Option<&[u8]>) -> bool {
        if self.is_kept {
            let n_bytes = name.len() + key.len() + before.map_or(0, <[u8]>::len);
            self.entry.n_undo_bytes += n_bytes as u64;
            self.is_kept = self.entry.n_undo_bytes <= self.retention.n_bytes;
        }
        self.is_kept
    }

    /// Puts the epoch into the history, and drops what goes beyond the retention.
    pub(super) fn finish(
        self,
        txn: &WriteTransaction,
        committed_at_ms: i64,
    ) -> Result<(), redb::Error> {
        let Self {
            epoch,
            retention,
            mut tables,
            is_kept,
            mut entry,
            is_change,
            n_counted,
        } = self;
        let is_in_history = is_change || tables.epochs.is_empty()?;
        if is_in_history && !is_kept {
            // It is the oldest, or there is none.
            while !tables.epochs.is_empty()? {
                tables.drop_oldest()?;
            }
            tables.drop_undo(epoch)?;
            entry.n_undo_bytes = 0;
        }
        if is_in_history && retention.n_epochs > 0 {
            entry.committed_at_ms = committed_at_ms;
            tables.n_bytes += entry.n_undo_bytes.saturating_sub(n_counted);
            let bytes = format::encode(&entry);
            tables.epochs.insert(epoch, bytes.as_slice())?;
        }
        while tables.epochs.len()? > retention.n_epochs
            || tables.n_bytes > retention.n_bytes && tables.epochs.len()? > 1
        {
            tables.drop_oldest()?;
        }
        tables.close(txn)
    }
}

/// Cuts off everything before the last epoch. Returns how many epochs that were.
pub(super) fn cut(txn: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut tables = Tables::open(txn)?;
    let n_cut = tables.epochs.len()?.saturating_sub(1);
    for _ in 0..n_cut {
        tables.drop_oldest()?;
    }
    tables.close(txn)?;
    Ok(n_cut)
}

/// The epochs in the history of a state directory, oldest first.
///
/// # Errors
/// [`StateError`]: none there, in use, newer or damaged.
pub fn history(dir: &Path) -> Result<Vec<HistoryEntry>, StateError> {
    State::open_untouched(dir)?.0.read(list)
}

/// What stood in a state directory at an epoch.
///
/// # Errors
/// As [`history`], and [`StateError::NotInHistory`].
pub fn as_of(dir: &Path, asked: AsOf) -> Result<StateAsOf, StateError> {
    State::open_untouched(dir)?.0.as_of(asked)
}

impl State {
    /// The epochs in the history, oldest first.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub(crate) fn history(&self) -> Result<Vec<HistoryEntry>, StateError> {
        self.read(list)
    }

    /// Of a view's answers that were stored or dropped after an epoch, or of the one under a key: what stood
    /// at it, as the view told it. None where the history does not reach back to it.
    ///
    /// A view that is slower than others stores its answers with a later epoch than theirs, and of several
    /// times in one such epoch the history knows only what stood before the first. Where the chain of one
    /// context may hide a word, it is not known what stood.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    #[cfg(feature = "serve")]
    pub(crate) fn stood_before(
        &self,
        view: &str,
        key: Option<&str>,
        epoch: u64,
    ) -> Result<Option<Stood>, StateError> {
        self.read(|txn| {
            let held = txn.open_table(EPOCHS)?;
            let oldest = held.first()?.map(|(oldest, _)| oldest.value());
            let newest = txn.open_table(MANIFEST)?.get(EPOCH_KEY)?;
            let is_newest = newest.is_some_and(|newest| newest.value() == epoch);
            if !is_newest && oldest.is_none_or(|oldest| oldest > epoch) {
                return Ok(None);
            }
            // By context: what stood before each time, oldest first, with the epoch it was stored with.
            let mut chains: BTreeMap<String, Vec<(u64, Option<StoredAnswer>)>> = BTreeMap::new();
            let undo = txn.open_table(UNDO_ANSWERS)?;
            // Epoch by epoch, so that records of other views and keys are passed over.
            for later in held.range(epoch + 1..)? {
                let stored_with = later?.0.value();
                for entry in undo.range((stored_with, view, key.unwrap_or_default())..)? {
                    let (record, before) = entry?;
                    let (of_epoch, of_view, context) = record.value();
                    let is_asked_for = key.is_none_or(|key| key == context);
                    if of_epoch != stored_with || of_view != view || !is_asked_for {
                        break;
                    }
                    let before = before.value().map(format::decode_answer);
                    let chain = chains.entry(context.to_owned()).or_default();
                    chain.push((stored_with, before.transpose()?));
                }
            }
            let answers = txn.open_table(ANSWERS)?;
            let mut stood = Stood::new();
            for (context, chain) in chains {
                let now = answers.get((view, &*context))?;
                let now: Option<StoredAnswer> = now
                    .map(|bytes| format::decode_answer(bytes.value()))
                    .transpose()?;
                let mut later = chain.iter().skip(1).map(|(_, before)| before.as_ref());
                let is_whole = chain.iter().all(|(stored_with, _)| {
                    let after = later.next().unwrap_or(now.as_ref());
                    after.is_none_or(|after| after.epoch == *stored_with)
                });
                let first = chain.into_iter().next().and_then(|(_, before)| before);
                let is_known = is_whole && first.as_ref().is_none_or(|first| first.epoch <= epoch);
                let first = is_known.then(|| first.map(CurrentAnswer::from));
                stood.insert(ContextKey::new(context), first);
            }
            Ok(Some(stood))
        })
    }

    /// What stood at an epoch.
    ///
    /// # Errors
    /// [`StateError::NotInHistory`], [`StateError::Damaged`].
    pub(crate) fn as_of(&self, asked: AsOf) -> Result<StateAsOf, StateError> {
        self.read(|txn| {
            let held = list(txn)?;
            let newest = txn.open_table(MANIFEST)?.get(EPOCH_KEY)?;
            let newest = newest.map(|epoch| epoch.value());
            let Some((epoch, committed_at_ms)) = resolve(asked, newest, &held) else {
                return Ok(Err(StateError::NotInHistory {
                    asked,
                    oldest: held.first().map(|entry| entry.epoch).or(newest),
                    oldest_at_ms: held.first().map(|entry| entry.committed_at_ms),
                    newest,
                }));
            };
            let mut state = StateAsOf {
                epoch,
                committed_at_ms,
                answers: BTreeMap::new(),
                documents: BTreeMap::new(),
            };
            for ((view, context), bytes) in stood(txn, ANSWERS, UNDO_ANSWERS, epoch)? {
                let answer: StoredAnswer = format::decode_answer(&bytes)?;
                let of_view = state.answers.entry(view).or_default();
                of_view.insert(ContextKey::new(context), answer.into());
            }
            for ((stream, key), bytes) in stood(txn, DOCUMENTS, UNDO_ROWS, epoch)? {
                let row: StoredRow = format::decode("a row", &bytes)?;
                let of_stream = state.documents.entry(stream).or_default();
                of_stream.push(reading::document(&key.into(), &row.into()));
            }
            Ok(Ok(state))
        })?
    }
}

/// Reads every record of the history. Returns the number of its epochs.
pub(super) fn verify(txn: &ReadTransaction) -> Result<usize, redb::Error> {
    for entry in txn.open_table(UNDO_ROWS)?.iter()? {
        if let Some(bytes) = entry?.1.value() {
            format::decode::<StoredRow>("a row", bytes)?;
        }
    }
    for entry in txn.open_table(UNDO_ANSWERS)?.iter()? {
        if let Some(bytes) = entry?.1.value() {
            format::decode_answer(bytes)?;
        }
    }
    Ok(list(txn)?.len())
}

fn list(txn: &ReadTransaction) -> Result<Vec<HistoryEntry>, redb::Error> {
    let mut entries = Vec::new();
    for entry in txn.open_table(EPOCHS)?.iter()? {
        let (epoch, bytes) = entry?;
        let stored = decode(bytes.value())?;
        entries.push(HistoryEntry {
            epoch: epoch.value(),
            committed_at_ms: stored.committed_at_ms,
            streams: stored.streams,
            views: stored.views,
        });
    }
    Ok(entries)
}

/// The epoch that is asked for, and when it was committed, if it can be told.
fn resolve(asked: AsOf, newest: Option<u64>, held: &[HistoryEntry]) -> Option<(u64, Option<i64>)> {
    let newest = newest?;
    let by_then = |epoch: u64| held.iter().rfind(|entry| entry.epoch <= epoch);
    let (epoch, entry) = match asked {
        AsOf::Present => (newest, by_then(newest)),
        AsOf::Epoch(epoch) if epoch <= newest => (epoch, by_then(epoch)),
        AsOf::Epoch(_) => return None,
        // Clocks are set back: the last one counts.
        AsOf::Time(ms) => {
            let entry = held.iter().rfind(|entry| entry.committed_at_ms <= ms)?;
            (entry.epoch, Some(entry))
        }
    };
    match entry {
        Some(entry) => Some((epoch, Some(entry.committed_at_ms))),
        // It stands, though no history is kept of it.
        None => (epoch == newest).then_some((newest, None)),
    }
}

type StoodBytes = BTreeMap<(String, String), Vec<u8>>;

/// What stood at an epoch: the present, but where a later epoch changed it.
fn stood(
    txn: &ReadTransaction,
    present: redb::TableDefinition<'_, (&'static str, &'static str), &'static [u8]>,
    undo: redb::TableDefinition<'_, (u64, &'static str, &'static str), Option<&'static [u8]>>,
    epoch: u64,
) -> Result<StoodBytes, redb::Error> {
    let owned = |(name, key): (&str, &str)| (name.to_owned(), key.to_owned());
    let mut stood = StoodBytes::new();
    for entry in txn.open_table(present)?.iter()? {
        let (key, bytes) = entry?;
        stood.insert(owned(key.value()), bytes.value().to_vec());
    }
    // Newest first, so that of several records for one key the oldest counts.
    let later = txn.open_table(undo)?.range((epoch + 1, "", "")..)?.rev();
    for entry in later {
        let (key, before) = entry?;
        let (_, name, key) = key.value();
        match before.value() {
            Some(bytes) => stood.insert(owned((name, key)), bytes.to_vec()),
            None => stood.remove(&owned((name, key))),
        };
    }
    Ok(stood)
}
