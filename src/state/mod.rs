//! What must outlive the process: rows, source offsets, answers and vectors.
//!
//! # Goals
//! After a crash at any instant the last committed epoch stands: sources go on where it
//! ends, subscribers find its answers, and no model is called for what was answered.
//!
//! # Design
//! Every epoch is one transaction of an embedded database, committed when the epoch is
//! complete and before anybody is told of it. So rows, the offsets that brought them and
//! the answers over them are there together or not at all. Between commits, new answers and
//! vectors are *staged* in memory; a crash loses them and costs their calls again. KV
//! fragments are not kept: they can be encoded again.
//!
//! # Invariants
//! - One process at a time (the database holds a lock on its file).
//! - What is stored is as large as what is live: rows that stand, one answer a context, one output
//!   a live task and row, one vector a live text; and a history within its budget (`history.rs`).
//! - Anything unreadable is an error that names the file; nothing is guessed.
//! - Who only looks ([`check()`], [`receipts`], [`quarantine()`]) changes no byte (`untouched.rs`).
//!
//! A log of records with snapshots was rejected: the database does both, and a torn write
//! is its business. Fragments are files beside it, in a folder: they are a cache, and need no
//! transaction (`perennial_bank::cold_tier`). The byte layout is in `format.rs`; what becomes
//! of older ones, in `migration.rs`; a copy that is taken while epochs go on, in `backup/`, and what
//! sinks are told after one was restored, in `replacing.rs`; what is erased without an engine, in `forget.rs`, and which
//! files of dead letters it is erased from, in `letters.rs`.

mod backup;
mod check;
mod deletions;
mod error;
mod file;
mod forget;
mod format;
#[cfg(test)]
mod golden;
mod history;
mod holder;
mod kept;
mod letters;
mod memo;
mod migration;
mod quarantine;
mod replacing;
mod sinks;
#[cfg(test)]
mod tests;
mod untouched;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use perennial_ask::TaskDigest;
use perennial_bank::ContextKey;
use perennial_connectors::{Delivery, Offset};
use perennial_rows::Value;
use perennial_views::memo::{RequestDigest, VectorDigest};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError,
};

pub use backup::{Backup, BackupError, BackupSummary, backup, restore, verify_backup};
pub use check::{StateSummary, check, receipts};
pub use error::StateError;
pub use file::check_free;
pub use forget::forget;
pub(crate) use format::{StoredAnswer, StoredRow, StoredSchema, StoredValue};
pub(crate) use history::Retention;
#[cfg(feature = "serve")]
pub(crate) use history::Stood;
pub use history::{AnswerChanges, AsOf, HistoryEntry, RowChanges, StateAsOf, as_of, history};
pub(crate) use quarantine::mended;
pub use quarantine::{drop_quarantined, quarantine, resubmit};
pub(crate) use sinks::DeclaredSink;

use file::{create, new_file, open_database, sweep, sync};
use format::{
    ANSWERS, DOCUMENTS, EPOCH_KEY, EPOCHS, FALLEN_PREFIX, FILE, FORMAT, MANIFEST, OFFSETS,
    ORIGIN_KEY, OUTBOX, OUTPUTS, QUARANTINE, QUARANTINED_KEY, RECEIPTS, RESUBMITTED, Resubmitted,
    SCHEMAS, SINKS, UNDO_ANSWERS, UNDO_ROWS, UPSERTS, VECTORS, VERSION, VERSION_KEY, VIEWS,
    all_tables,
};
use history::Undo;
use kept::Kept;
use sinks::add_merged;
use untouched::Untouched;

use crate::engine::Quarantined;
use crate::engine::quarantine::QuarantineDeltas;
use crate::engine::upserts::{UpsertDigest, UpsertDigests};
use crate::fault;

/// The folder of a state directory that fragments are in.
pub(crate) const FRAGMENTS: &str = "fragments";
/// The folder of a state directory that latent keys of memories are in: a cache, as fragments are.
const LATENT: &str = "latent";

/// An open state directory.
pub(crate) struct State {
    path: PathBuf,
    db: RwLock<Database>,
    staged: Mutex<Staged>,
    /// How much of the past each commit leaves.
    retention: Retention,
    /// How many times the file was written anew.
    n_rewrites: Arc<AtomicU64>,
}

/// What calls have given since the last commit.
#[derive(Default)]
struct Staged {
    /// By view and context: which request the answer was given to.
    requests: HashMap<(String, ContextKey), RequestDigest>,
    vectors: Kept<VectorDigest, Vec<f32>>,
    outputs: Kept<TaskDigest, Value>,
}

/// What an earlier process left.
#[derive(Default)]
pub(crate) struct Restored {
    /// The last committed epoch.
    pub epoch: Option<u64>,
    /// By stream: rows by key.
    pub rows: HashMap<String, BTreeMap<String, StoredRow>>,
    /// By stream: where its source goes on.
    pub offsets: HashMap<String, Offset>,
    /// By stream: when keys were deleted that are not there, in milliseconds since 1970.
    pub deletions: deletions::Times,
    /// By stream: the columns of its rows. Formats before 8 do not say.
    pub schemas: HashMap<String, StoredSchema>,
    /// By view: what its answers depend on besides rows.
    pub views: HashMap<String, [u8; 32]>,
    /// Views that fell back to exact answers.
    pub fallen: HashSet<String>,
    /// By view: answers by context.
    pub answers: HashMap<String, BTreeMap<ContextKey, StoredAnswer>>,
    /// Which history of epochs this is.
    pub origin: u64,
    /// Those that it was, before it was restored from a backup.
    pub former: Vec<u64>,
    /// What was refused, oldest first.
    pub quarantine: Vec<Quarantined>,
    /// The number that the next record refused gets.
    pub next_quarantined: u64,
    /// By number: rows that a person sent in.
    pub resubmitted: BTreeMap<u64, Resubmitted>,
    /// By sink: the view that it takes, and what it is owed, in order.
    pub sinks: HashMap<String, (String, Vec<Delivery>)>,
    /// By view of a query: what its sinks were given, or are owed.
    pub upserts: HashMap<String, UpsertDigests>,
}

impl Restored {
    /// Takes what sinks were given of a view. Of one that was declared as a view of answers, these
    /// are other things than rows.
    pub(crate) fn given(&mut self, view: &str) -> UpsertDigests {
        let mut given = self.upserts.remove(view).unwrap_or_default();
        let answers = self.answers.get(view).into_iter().flatten();
        given.extend(answers.map(|(context, _)| (context.as_str().to_owned(), [0; 32])));
        given
    }
}

/// What changes without an epoch: offsets behind refused records, and those.
pub(crate) struct Note {
    /// By stream.
    pub offsets: Vec<(String, Option<Offset>)>,
    /// By stream.
    pub schemas: Vec<(String, StoredSchema)>,
    /// Stream, key, and when it was deleted, or that this is forgotten.
    pub deletions: Vec<(String, String, Option<i64>)>,
    pub quarantine: QuarantineDeltas,
    /// Numbers of resubmitted rows that are taken in.
    pub resubmitted: Vec<u64>,
}

/// What one epoch changes.
pub(crate) struct Commit<'a> {
    pub epoch: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Stream, key, and the row or its end.
    pub rows: Vec<(&'a str, &'a str, Option<&'a StoredRow>)>,
    pub offsets: Vec<(&'a str, Option<Offset>)>,
    /// Stream, key, and when it was deleted, or that this is forgotten.
    pub deletions: Vec<(&'a str, &'a str, Option<i64>)>,
    /// Stream, and the columns of its rows, or its end.
    pub schemas: Vec<(&'a str, Option<StoredSchema>)>,
    pub views: Vec<(&'a str, Option<[u8; 32]>)>,
    /// Whether every view has asked for the vectors and outputs that it needs: others are not live.
    pub knows_uses: bool,
    /// View, context, and the answer or its end.
    pub answers: Vec<(&'a str, ContextKey, Option<StoredAnswer>)>,
    pub quarantine: &'a QuarantineDeltas,
    /// Numbers of resubmitted rows that are taken in.
    pub resubmitted: &'a [u64],
    /// What sinks are owed.
    pub deliveries: Vec<(&'a str, &'a Delivery)>,
    /// What sinks are owed that are not there now, or are owed much: added to the last of what they are.
    pub merged: Vec<(&'a str, &'a Delivery)>,
    /// View of a query, key, and the digest of what its sinks then have, or its end.
    pub given: Vec<(&'a str, &'a str, Option<UpsertDigest>)>,
    /// Sinks that were waiting for their view, and the view.
    pub begun: Vec<(&'a str, &'a str)>,
}

impl State {
    /// Opens the state in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`StateError`]: in use, newer, damaged, or not to be written.
    pub(crate) fn open(dir: &Path) -> Result<Self, StateError> {
        std::fs::create_dir_all(dir).map_err(|source| StateError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join(FILE);
        match std::fs::metadata(&path).map(|found| found.len()) {
            // It comes to be whole, under another name: so whoever emptied it emptied a state.
            Ok(0) => return Err(StateError::damaged(&path, "it is empty")),
            Ok(_) => {}
            Err(_) => {
                fault::CREATE_BEGIN.reach();
                create(dir, &path)?;
            }
        }
        let db = open_database(&path, || Database::create(&path))?;
        sweep(dir);
        Self::over(path, db)
    }

    /// The state in an open database.
    fn over(path: PathBuf, db: Database) -> Result<Self, StateError> {
        let state = Self {
            path,
            db: RwLock::new(db),
            staged: Mutex::default(),
            retention: Retention::default(),
            n_rewrites: Arc::default(),
        };
        state.settle_version()?;
        // A table that cannot be read is reported by whoever needs what is in it.
        let is_empty = |table: TableDefinition<'_, [u8; 32], &[u8]>| {
            let is_empty = state.read(|txn| Ok(txn.open_table(table)?.is_empty()?));
            is_empty.unwrap_or(false)
        };
        let (no_vectors, no_outputs) = (is_empty(VECTORS), is_empty(OUTPUTS));
        let mut staged = state.staged();
        staged.vectors.note_stored(!no_vectors);
        staged.outputs.note_stored(!no_outputs);
        drop(staged);
        Ok(state)
    }

    /// From the next commit on, keeps so much of the past.
    #[must_use]
    pub(crate) fn keeping(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Opens the state in a directory where there is one, to be read: nothing that is done to
    /// it changes the directory. Also returns whether the process that had it last closed it;
    /// otherwise it was mended as the next engine will mend it.
    ///
    /// # Errors
    /// [`StateError::Missing`], [`StateError::Unreadable`], and as [`State::open`].
    fn open_untouched(dir: &Path) -> Result<(Self, bool), StateError> {
        let path = dir.join(FILE);
        let unreadable = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => StateError::Missing { path: path.clone() },
            _ => StateError::Unreadable {
                path: path.clone(),
                source,
            },
        };
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        // A database would be made in an empty file.
        if file.metadata().map_err(unreadable)?.len() == 0 {
            return Err(StateError::damaged(&path, "it is empty"));
        }
        let was_closed = Arc::new(AtomicBool::new(true));
        let is_mended = was_closed.clone();
        let db = open_database(&path, || {
            let untouched = Untouched::over(file)?;
            redb::Builder::new()
                .set_repair_callback(move |_| is_mended.store(false, Ordering::Relaxed))
                .create_with_backend(untouched)
        })?;
        let state = Self::over(path, db)?;
        Ok((state, was_closed.load(Ordering::Relaxed)))
    }

    /// Opens the state in a directory where there is one.
    ///
    /// # Errors
    /// [`StateError::Missing`], and as [`State::open`].
    fn open_existing(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        match path.exists() {
            true => Self::open(dir),
            false => Err(StateError::Missing { path }),
        }
    }

    /// One transaction.
    fn write<T>(
        &self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let all = || -> Result<T, redb::Error> {
            let db = self.db();
            let txn = db.begin_write()?;
            let written = write(&txn)?;
            txn.commit()?;
            Ok(written)
        };
        all().map_err(|error| StateError::write(&self.path, error))
    }

    /// Makes the tables of a new state, or checks the version of an old one.
    fn settle_version(&self) -> Result<(), StateError> {
        let found = self.read(|txn| match txn.open_table(FORMAT) {
            Ok(table) => Ok(table.get(VERSION_KEY)?.map(|version| version.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        match found {
            Some(VERSION) => return Ok(()),
            Some(migration::OLDEST..VERSION) => {}
            Some(found) if found > VERSION => {
                return Err(StateError::Newer {
                    path: self.path.clone(),
                    found,
                    supported: VERSION,
                });
            }
            Some(found) => {
                let path = self.path.clone();
                return Err(StateError::Older { path, found });
            }
            None => fault::CREATE_EMPTY.reach(),
        }
        let make = || -> Result<(), redb::Error> {
            let db = self.db();
            let txn = db.begin_write()?;
            txn.open_table(FORMAT)?.insert(VERSION_KEY, VERSION)?;
            {
                let mut manifest = txn.open_table(MANIFEST)?;
                if manifest.get(ORIGIN_KEY)?.is_none() {
                    manifest.insert(ORIGIN_KEY, new_origin())?;
                }
            }
            macro_rules! make {
                ($($table:ident),*) => {$(
                    txn.open_table($table)?;
                )*};
            }
            all_tables!(make);
            if let Some(found) = found {
                migration::migrate(&txn, found)?;
            }
            txn.commit()?;
            Ok(())
        };
        make().map_err(|error| StateError::write(&self.path, error))
    }

    /// Everything an engine starts with.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub(crate) fn restore(&self) -> Result<Restored, StateError> {
        self.read(|txn| {
            let manifest = txn.open_table(MANIFEST)?;
            let mut restored = Restored {
                epoch: manifest.get(EPOCH_KEY)?.map(|epoch| epoch.value()),
                origin: match manifest.get(ORIGIN_KEY)? {
                    Some(origin) => origin.value(),
                    None => return Err(redb::Error::Corrupted("no origin".to_owned())),
                },
                next_quarantined: manifest
                    .get(QUARANTINED_KEY)?
                    .map_or(0, |next| next.value()),
                ..Restored::default()
            };
            for entry in manifest.range(FALLEN_PREFIX..)? {
                let (key, _) = entry?;
                let Some(view) = key.value().strip_prefix(FALLEN_PREFIX) else {
                    break;
                };
                restored.fallen.insert(view.to_owned());
            }
            restored.former = replacing::former(&manifest)?;
            restored.deletions = deletions::all(&manifest)?;
            for entry in txn.open_table(QUARANTINE)?.iter()? {
                let (_, bytes) = entry?;
                let refused = format::decode("a refusal", bytes.value())?;
                restored.quarantine.push(refused);
            }
            for entry in txn.open_table(RESUBMITTED)?.iter()? {
                let (number, bytes) = entry?;
                let row = format::decode("a resubmitted row", bytes.value())?;
                restored.resubmitted.insert(number.value(), row);
            }
            // Of a directory that does not say so yet, too.
            let last = restored.quarantine.last().map(|entry| entry.number);
            let last = last.max(restored.resubmitted.keys().next_back().copied());
            restored.next_quarantined = restored.next_quarantined.max(last.map_or(0, |n| n + 1));
            for entry in txn.open_table(SINKS)?.iter()? {
                let (sink, view) = entry?;
                let view = view.value().to_owned();
                restored
                    .sinks
                    .insert(sink.value().to_owned(), (view, Vec::new()));
            }
            for entry in txn.open_table(OUTBOX)?.iter()? {
                let (key, bytes) = entry?;
                let delivery = format::decode_delivery(bytes.value())?;
                if let Some((_, owed)) = restored.sinks.get_mut(key.value().0) {
                    owed.push(delivery);
                }
            }
            for entry in txn.open_table(UPSERTS)?.iter()? {
                let (key, digest) = entry?;
                let (view, key) = key.value();
                let given = restored.upserts.entry(view.to_owned()).or_default();
                given.insert(key.to_owned(), digest.value());
            }
            for entry in txn.open_table(OFFSETS)?.iter()? {
                let (stream, bytes) = entry?;
                let offset = format::decode("an offset", bytes.value())?;
                restored.offsets.insert(stream.value().to_owned(), offset);
            }
            for entry in txn.open_table(SCHEMAS)?.iter()? {
                let (stream, bytes) = entry?;
                let schema = format::decode("columns", bytes.value())?;
                restored.schemas.insert(stream.value().to_owned(), schema);
            }
            for entry in txn.open_table(DOCUMENTS)?.iter()? {
                let (key, bytes) = entry?;
                let (stream, key) = key.value();
                let row = format::decode("a row", bytes.value())?;
                let rows = restored.rows.entry(stream.to_owned()).or_default();
                rows.insert(key.to_owned(), row);
            }
            for entry in txn.open_table(VIEWS)?.iter()? {
                let (view, digest) = entry?;
                restored
                    .views
                    .insert(view.value().to_owned(), digest.value());
            }
            for entry in txn.open_table(ANSWERS)?.iter()? {
                let (key, bytes) = entry?;
                let (view, context) = key.value();
                let answer = format::decode_answer(bytes.value())?;
                let answers = restored.answers.entry(view.to_owned()).or_default();
                answers.insert(ContextKey::new(context), answer);
            }
            Ok(restored)
        })
    }

    /// Which request the staged answer of a context was given to.
    pub(crate) fn request_of(&self, view: &str, context: &ContextKey) -> Option<[u8; 32]> {
        let staged = self.staged();
        let request = staged.requests.get(&(view.to_owned(), context.clone()));
        request.map(|digest| digest.0)
    }

    /// Forgets which requests the staged answers of a view were given to: it is dropped.
    pub(crate) fn forget_requests(&self, view: &str) {
        self.staged()
            .requests
            .retain(|(of_view, _), _| of_view != view);
    }

    /// Makes an epoch durable, whole.
    ///
    /// # Errors
    /// [`StateError::Write`]; the state then is that of the epoch before.
    pub(crate) fn commit(&self, commit: &Commit<'_>) -> Result<(), StateError> {
        let mut staged = self.staged();
        let write = || -> Result<(), redb::Error> {
            fault::COMMIT_BEGIN.reach();
            let db = self.db();
            let txn = db.begin_write()?;
            {
                let mut undo = Undo::begin(&txn, commit.epoch, self.retention)?;
                let mut documents = txn.open_table(DOCUMENTS)?;
                for (stream, key, row) in &commit.rows {
                    let key = (*stream, *key);
                    let now = row.map(format::encode);
                    let before = match &now {
                        Some(bytes) => documents.insert(key, bytes.as_slice())?,
                        None => documents.remove(key)?,
                    };
                    let before = before.as_ref().map(|bytes| bytes.value());
                    undo.row(key, before, now.as_deref())?;
                }
                let offsets = commit.offsets.iter();
                put(
                    &txn,
                    OFFSETS,
                    offsets.map(|(stream, offset)| (*stream, offset.as_ref())),
                )?;
                let schemas = commit.schemas.iter();
                put(
                    &txn,
                    SCHEMAS,
                    schemas.map(|(stream, schema)| (*stream, schema.as_ref())),
                )?;
                deletions::put(&txn, commit.deletions.iter().copied())?;
                quarantine::put(&txn, commit.quarantine, commit.resubmitted)?;
                let mut views = txn.open_table(VIEWS)?;
                for (view, digest) in &commit.views {
                    let before = match digest {
                        Some(digest) => views.insert(*view, digest)?,
                        None => views.remove(*view)?,
                    };
                    // What it was found to be is not what another of its name is.
                    let is_same = before.map(|before| before.value()) == *digest;
                    if !is_same {
                        let mut manifest = txn.open_table(MANIFEST)?;
                        manifest.remove(&*format!("{FALLEN_PREFIX}{view}"))?;
                    }
                }
                let mut answers = txn.open_table(ANSWERS)?;
                for (view, context, answer) in &commit.answers {
                    let key = (*view, context.as_str());
                    let bytes = answer.as_ref().map(format::encode_answer);
                    let before = match &bytes {
                        Some(bytes) => answers.insert(key, bytes.as_slice())?,
                        None => answers.remove(key)?,
                    };
                    let before = before.as_ref().map(|bytes| bytes.value());
                    let now = answer.as_ref().zip(bytes.as_deref());
                    undo.answer(key, before, now)?;
                }
                undo.finish(&txn, commit.at_ms)?;
                let mut vectors = txn.open_table(VECTORS)?;
                let knows_uses = commit.knows_uses;
                staged.vectors.commit(
                    &mut vectors,
                    knows_uses,
                    |digest| digest.0,
                    VectorDigest,
                    |vector| format::vector_bytes(vector),
                )?;
                let mut outputs = txn.open_table(OUTPUTS)?;
                staged.outputs.commit(
                    &mut outputs,
                    knows_uses,
                    |digest| digest.0,
                    TaskDigest,
                    |output| format::encode(&StoredValue::of(output)),
                )?;
                let mut outbox = txn.open_table(OUTBOX)?;
                for (sink, delivery) in &commit.deliveries {
                    outbox.insert(
                        (*sink, delivery.epoch),
                        format::encode_delivery(delivery).as_slice(),
                    )?;
                }
                for (sink, delivery) in &commit.merged {
                    add_merged(&mut outbox, sink, delivery)?;
                }
                let mut sinks = txn.open_table(SINKS)?;
                for (sink, view) in &commit.begun {
                    sinks.insert(*sink, *view)?;
                    replacing::note_new(&txn, sink)?;
                }
                let mut upserts = txn.open_table(UPSERTS)?;
                for (view, key, digest) in &commit.given {
                    match digest {
                        Some(digest) => upserts.insert((*view, *key), digest)?,
                        None => upserts.remove((*view, *key))?,
                    };
                }
                txn.open_table(MANIFEST)?.insert(EPOCH_KEY, commit.epoch)?;
            }
            fault::COMMIT_STAGED.reach();
            txn.commit()?;
            fault::COMMIT_DONE.reach();
            Ok(())
        };
        write().map_err(|error| StateError::write(&self.path, error))?;
        // What slower views have been given waits for their own commit.
        for (view, context, _) in &commit.answers {
            let key = ((*view).to_owned(), context.clone());
            staged.requests.remove(&key);
        }
        staged.vectors.committed(commit.knows_uses);
        staged.outputs.committed(commit.knows_uses);
        Ok(())
    }

    /// Makes offsets and refusals durable. Every row before the offsets must be.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn note(&self, note: &Note) -> Result<(), StateError> {
        fault::NOTE_BEGIN.reach();
        self.write(|txn| {
            let offsets = note.offsets.iter();
            put(
                txn,
                OFFSETS,
                offsets.map(|(stream, offset)| (&**stream, offset.as_ref())),
            )?;
            let schemas = note.schemas.iter();
            put(
                txn,
                SCHEMAS,
                schemas.map(|(stream, schema)| (&**stream, Some(schema))),
            )?;
            let deletions = note.deletions.iter();
            deletions::put(
                txn,
                deletions.map(|(stream, key, at_ms)| (&**stream, &**key, *at_ms)),
            )?;
            quarantine::put(txn, &note.quarantine, &note.resubmitted)?;
            fault::NOTE_STAGED.reach();
            Ok(())
        })?;
        fault::NOTE_DONE.reach();
        Ok(())
    }

    /// Notes that a view falls back to exact answers, as long as it is declared as it is.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn note_fall_back(&self, view: &str, epoch: u64) -> Result<(), StateError> {
        self.write(|txn| {
            let mut manifest = txn.open_table(MANIFEST)?;
            manifest.insert(&*format!("{FALLEN_PREFIX}{view}"), epoch)?;
            Ok(())
        })
    }

    /// Cuts off the history before the last epoch. Returns how many epochs that were.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn cut_history(&self) -> Result<u64, StateError> {
        self.write(history::cut)
    }

    /// Writes the file anew, without the pages that earlier states have left in it. Returns
    /// its bytes.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file then is as it was.
    pub(crate) fn rewrite(&self) -> Result<u64, StateError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let write = |error: redb::Error| StateError::write(&self.path, error);
        let io = |source| StateError::Io {
            path: self.path.clone(),
            source,
        };
        let new = new_file(dir).map_err(io)?;
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // A backup that was begun before holds what is to be forgotten.
        self.n_rewrites.fetch_add(1, Ordering::AcqRel);
        let copy = || -> Result<Database, redb::Error> {
            let copied = Database::create(&new)?;
            let (from, to) = (db.begin_read()?, copied.begin_write()?);
            macro_rules! copy {
                ($($table:ident),*) => {$({
                    let mut into = to.open_table($table)?;
                    for entry in from.open_table($table)?.iter()? {
                        let (key, value) = entry?;
                        into.insert(key.value(), value.value())?;
                    }
                })*};
            }
            all_tables!(copy);
            to.commit()?;
            Ok(copied)
        };
        let copied = copy().map_err(write)?;
        let n_bytes = std::fs::metadata(&new).map_err(io)?.len();
        fault::FORGET_COPIED.reach();
        new.persist(&self.path).map_err(|error| io(error.error))?;
        // From here on the old file has no name.
        *db = copied;
        fault::FORGET_RENAMED.reach();
        sync(dir).map_err(io)?;
        fault::FORGET_SYNCED.reach();
        Ok(n_bytes)
    }

    /// Where latent keys of memories are.
    pub(crate) fn latent(&self) -> PathBuf {
        self.path.with_file_name(LATENT)
    }

    /// Removes all latent keys: they are made again when they are needed.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub(crate) fn remove_latent(&self) -> Result<(), StateError> {
        let remove = || match std::fs::remove_dir_all(self.latent()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        // A memory that keeps something meanwhile is in the way once.
        let removed = remove().or_else(|_| remove());
        removed.map_err(|source| self.unreadable(source))
    }

    /// The files of the state. Fragments stand in a folder of their own, and hold tensors only.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, StateError> {
        let list = || -> std::io::Result<Vec<PathBuf>> {
            let mut files = Vec::new();
            for entry in std::fs::read_dir(self.path.parent().unwrap_or(Path::new(".")))? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    files.push(entry.path());
                }
            }
            Ok(files)
        };
        list().map_err(|source| self.unreadable(source))
    }

    /// The error of a file of the state that cannot be read.
    pub(crate) fn unreadable(&self, source: std::io::Error) -> StateError {
        StateError::Unreadable {
            path: self.path.clone(),
            source,
        }
    }

    /// The database; not another one while the guard lives.
    fn db(&self) -> RwLockReadGuard<'_, Database> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let txn = self.db().begin_read();
        txn.map_err(redb::Error::from)
            .and_then(|txn| read(&txn))
            .map_err(|error| StateError::damaged(&self.path, error))
    }
}

/// Writes what there is of each stream, or takes it out.
fn put<'a, T: serde::Serialize + 'a>(
    txn: &redb::WriteTransaction,
    table: TableDefinition<'_, &str, &[u8]>,
    of_streams: impl Iterator<Item = (&'a str, Option<&'a T>)>,
) -> Result<(), redb::Error> {
    let mut table = txn.open_table(table)?;
    for (stream, of_stream) in of_streams {
        match of_stream {
            Some(of_stream) => table.insert(stream, format::encode(of_stream).as_slice())?,
            None => table.remove(stream)?,
        };
    }
    Ok(())
}

/// A number that tells one history of epochs from another.
pub(crate) fn new_origin() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library's hash maps are keyed by the system's random numbers.
    std::hash::RandomState::new().build_hasher().finish()
}
