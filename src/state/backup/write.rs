//! A backup, from its snapshot to its last byte.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableHandle as _};

use super::field::Field;
use super::{
    BackupError, BackupSummary, END, End, FRAME, FRAME_HEAD, HEAD, Head, MAGIC, TABLE, VERSION,
    frame_check,
};
use crate::state::State;
use crate::state::format::{
    self, ANSWERS, DOCUMENTS, EPOCH_KEY, EPOCHS, FORMAT, MANIFEST, OFFSETS, ORIGIN_KEY, OUTBOX,
    OUTPUTS, QUARANTINE, RECEIPTS, RESUBMITTED, SCHEMAS, SINKS, UNDO_ANSWERS, UNDO_ROWS, UPSERTS,
    VECTORS, VIEWS, all_tables,
};

/// A state as it stood at its last commit, to be written down. While it is held, what is replaced in the
/// state keeps its place on disk.
pub struct Backup {
    path: PathBuf,
    txn: ReadTransaction,
    head: Head,
    /// How many times the state's file was written anew, now and when the backup was begun.
    n_rewrites: (Arc<AtomicU64>, u64),
}

/// Writes a backup of a state directory that no engine has open. The directory is not changed.
///
/// # Errors
/// [`BackupError::State`]: none there, not to be read, in use, newer or damaged; [`BackupError::Write`].
pub fn backup(dir: &Path, out: impl Write) -> Result<BackupSummary, BackupError> {
    let (state, _) = State::open_untouched(dir)?;
    state.begin_backup()?.write_to(out)
}

impl State {
    /// The state as of the last commit.
    ///
    /// # Errors
    /// [`BackupError::State`].
    pub(crate) fn begin_backup(&self) -> Result<Backup, BackupError> {
        let failed = |error: redb::Error| BackupError::read(&self.path, error);
        // The file is not written anew while the guard lives.
        let db = self.db();
        let n_before = self.n_rewrites.load(Ordering::Acquire);
        let begin = || -> Result<(ReadTransaction, Head), redb::Error> {
            let txn = db.begin_read()?;
            let manifest = txn.open_table(MANIFEST)?;
            let head = Head {
                state_version: format::VERSION,
                epoch: manifest.get(EPOCH_KEY)?.map(|epoch| epoch.value()),
                origin: manifest.get(ORIGIN_KEY)?.map_or(0, |of| of.value()),
                taken_at_ms: crate::engine::now_ms(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
            };
            drop(manifest);
            Ok((txn, head))
        };
        let (txn, head) = begin().map_err(failed)?;
        Ok(Backup {
            path: self.path.clone(),
            txn,
            head,
            n_rewrites: (self.n_rewrites.clone(), n_before),
        })
    }
}

impl Backup {
    /// The last committed epoch.
    pub fn epoch(&self) -> Option<u64> {
        self.head.epoch
    }

    /// Writes it down, as it is read.
    ///
    /// # Errors
    /// [`BackupError::Write`], [`BackupError::Interrupted`], [`BackupError::State`]: what was written is
    /// not taken for a backup then.
    pub fn write_to(self, out: impl Write) -> Result<BackupSummary, BackupError> {
        let Self {
            path,
            txn,
            head,
            n_rewrites: (n_rewrites, n_before),
        } = self;
        let written = |source| BackupError::Write { source };
        let mut frames = Frames::begin(out, &head).map_err(written)?;
        macro_rules! write {
            ($($table:ident),*) => {$({
                let table = txn.open_table($table);
                let table = table.map_err(|error| BackupError::read(&path, error))?;
                let entries = table.iter().map_err(|error| BackupError::read(&path, error))?;
                frames.begin_table($table.name());
                for entry in entries {
                    let (key, value) = entry.map_err(|error| BackupError::read(&path, error))?;
                    frames.record(&key.value(), &value.value()).map_err(written)?;
                }
                frames.end_table().map_err(written)?;
            })*};
        }
        all_tables!(write);
        if n_rewrites.load(Ordering::Acquire) != n_before {
            return Err(BackupError::Interrupted);
        }
        let (end, n_bytes) = frames.end().map_err(written)?;
        Ok(BackupSummary::of(head, &end, n_bytes))
    }
}

/// Frames as they are written.
struct Frames<W> {
    out: W,
    hasher: blake3::Hasher,
    n_bytes: u64,
    /// The table whose records are being written.
    table: &'static str,
    /// What the frame in hand holds: the table's name, and records.
    frame: Vec<u8>,
    /// Bytes of the table's name in it.
    n_name: usize,
    n_records: BTreeMap<String, u64>,
}

impl<W: Write> Frames<W> {
    fn begin(out: W, head: &Head) -> io::Result<Self> {
        let mut frames = Self {
            out,
            hasher: blake3::Hasher::new(),
            n_bytes: 0,
            table: "",
            frame: Vec::new(),
            n_name: 0,
            n_records: BTreeMap::new(),
        };
        frames.put(MAGIC)?;
        frames.put(&VERSION.to_le_bytes())?;
        frames.frame(HEAD, &format::encode(head))?;
        Ok(frames)
    }

    fn begin_table(&mut self, table: &'static str) {
        self.table = table;
        self.n_records.insert(table.to_owned(), 0);
        self.begin_frame();
    }

    fn begin_frame(&mut self) {
        self.frame.clear();
        // A long record has made it large.
        self.frame.shrink_to(2 * FRAME);
        self.table.put(&mut self.frame);
        self.n_name = self.frame.len();
    }

    fn record<'a>(&mut self, key: &impl Field<'a>, value: &impl Field<'a>) -> io::Result<()> {
        key.put(&mut self.frame);
        value.put(&mut self.frame);
        if let Some(n) = self.n_records.get_mut(self.table) {
            *n += 1;
        }
        match self.frame.len() < FRAME {
            true => Ok(()),
            false => self.end_table(),
        }
    }

    /// Writes what records there are in hand.
    fn end_table(&mut self) -> io::Result<()> {
        if self.frame.len() > self.n_name {
            let frame = std::mem::take(&mut self.frame);
            self.frame(TABLE, &frame)?;
            self.frame = frame;
            self.begin_frame();
        }
        Ok(())
    }

    /// Writes the end, and that nothing follows. Returns it, and how many bytes were written in all.
    fn end(mut self) -> io::Result<(End, u64)> {
        let end = End {
            n_records: std::mem::take(&mut self.n_records),
        };
        self.frame(END, &format::encode(&end))?;
        let digest = self.hasher.finalize();
        self.put(digest.as_bytes())?;
        self.out.flush()?;
        Ok((end, self.n_bytes))
    }

    fn frame(&mut self, kind: u8, holds: &[u8]) -> io::Result<()> {
        let len = u32::try_from(holds.len())
            .map_err(|_| io::Error::other("a record is over 4 GiB long"))?;
        let mut head = [0; FRAME_HEAD];
        head[0] = kind;
        head[1..5].copy_from_slice(&len.to_le_bytes());
        head[5..].copy_from_slice(&frame_check(self.n_bytes, kind, len));
        self.put(&head)?;
        self.put(holds)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.n_bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
