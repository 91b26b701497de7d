//! How does a backup become a state directory?
//!
//! The state comes to be in a folder beside the one that is named, or in that one where it is there and
//! empty, under another name. It gets its name once all of the backup is read and compared, and the new
//! file is on disk: so there is a whole state or none.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, Key, TableDefinition, TableHandle as _, Value};
use tempfile::{TempDir, TempPath};

use super::field::Field;
use super::read::{Reader, Records};
use super::{BackupError, BackupSummary};
use crate::state::file::{new_file, open_database, sync};
use crate::state::format::{
    ANSWERS, DOCUMENTS, EPOCHS, FILE, FORMAT, MANIFEST, OFFSETS, OUTBOX, OUTPUTS, QUARANTINE,
    RECEIPTS, RESUBMITTED, SCHEMAS, SINKS, UNDO_ANSWERS, UNDO_ROWS, UPSERTS, VECTORS, VIEWS,
    all_tables,
};
use crate::state::{State, new_origin, replacing};

/// Memory for pages that are not written yet, in bytes.
const CACHE: usize = 64 << 20;

/// Makes a state directory of a backup: of the epoch that it was taken at, with another origin, so that
/// sinks are told anew what stands. The directory must be empty, or not there. `progress` hears how many
/// bytes of how many were read.
///
/// # Errors
/// [`BackupError`]; nothing is left then.
pub fn restore(
    file: &Path,
    dir: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<BackupSummary, BackupError> {
    let n_bytes = std::fs::metadata(file).map_or(0, |found| found.len());
    let (mut reader, head) = Reader::open(file)?;
    let place = Place::find(dir)?;
    let new = new_file(place.folder()).map_err(|source| place.failed(source))?;
    load(&mut reader, &new, dir, |at| progress(at, n_bytes))?;
    check(&new, dir)?;
    place.settle(new)?;
    Ok(reader.summary(head))
}

/// Reads all tables into a new database.
fn load(
    reader: &mut Reader<impl io::Read>,
    new: &TempPath,
    dir: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(), BackupError> {
    let write = |error: redb::Error| BackupError::Folder {
        path: dir.to_owned(),
        source: io::Error::other(error),
    };
    let db = Database::builder().set_cache_size(CACHE).create(new);
    let db = db.map_err(|error| write(error.into()))?;
    let txn = db.begin_write().map_err(|error| write(error.into()))?;
    let mut n_read: BTreeMap<&'static str, u64> = BTreeMap::new();
    // What was told under another origin is begun anew.
    let is_left = |table: &str| [SINKS.name(), OUTBOX.name(), UPSERTS.name()].contains(&table);
    while let Some(Records { table, bytes }) = reader.next_records()? {
        if is_left(table) {
            continue;
        }
        let loaded = load_records(&txn, table, bytes).map_err(write)?;
        let Some((table, n)) = loaded else {
            return Err(reader.damaged("a record cannot be read"));
        };
        *n_read.entry(table).or_default() += n;
        progress(reader.at());
    }
    let is_whole = |(table, n): (&&str, &u64)| reader.n_records(table) == Some(*n);
    if !n_read.iter().all(is_whole) {
        return Err(reader.damaged("other numbers of records than its end says"));
    }
    let settle = || -> Result<(), redb::Error> {
        macro_rules! make {
            ($($table:ident),*) => {$(
                txn.open_table($table)?;
            )*};
        }
        all_tables!(make);
        replacing::begin(&txn, new_origin())?;
        txn.commit()?;
        Ok(())
    };
    settle().map_err(write)
}

/// Puts records into their table. Returns its name, and how many they were; none where they cannot be
/// read, or there is no such table.
fn load_records(
    txn: &redb::WriteTransaction,
    table: &str,
    mut bytes: &[u8],
) -> Result<Option<(&'static str, u64)>, redb::Error> {
    let mut n = 0;
    macro_rules! load {
        ($($table:ident),*) => {
            match table {
                $(name if name == $table.name() => {
                    let mut into = txn.open_table($table)?;
                    while !bytes.is_empty() {
                        let Some((key, value)) = record($table, &mut bytes) else {
                            return Ok(None);
                        };
                        into.insert(key, value)?;
                        n += 1;
                    }
                    Ok(Some(($table.name(), n)))
                })*
                _ => Ok(None),
            }
        };
    }
    all_tables!(load)
}

/// The next record of a table.
fn record<'a, K, V>(
    _: TableDefinition<'static, K, V>,
    bytes: &mut &'a [u8],
) -> Option<(K::SelfType<'a>, V::SelfType<'a>)>
where
    K: Key + 'static,
    V: Value + 'static,
    K::SelfType<'a>: Field<'a>,
    V::SelfType<'a>: Field<'a>,
{
    Field::take(bytes)
}

/// Verifies the checksums of the new file, and brings it into the present format.
fn check(new: &TempPath, dir: &Path) -> Result<(), BackupError> {
    let open = || Database::builder().set_cache_size(CACHE).open(new);
    let db = open_database(new, open)?;
    drop(State::over(dir.join(FILE), db)?);
    Ok(())
}

/// Where the state comes to be.
enum Place {
    /// In its folder, which is there and empty.
    Within(PathBuf),
    /// In a folder beside, which gets the name.
    Beside(PathBuf, TempDir),
}

impl Place {
    fn find(dir: &Path) -> Result<Self, BackupError> {
        let failed = |source| BackupError::Folder {
            path: dir.to_owned(),
            source,
        };
        match std::fs::read_dir(dir) {
            Ok(mut entries) => match entries.next() {
                None => Ok(Self::Within(dir.to_owned())),
                Some(_) => Err(BackupError::NotEmpty {
                    path: dir.to_owned(),
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = parent(dir);
                std::fs::create_dir_all(parent).map_err(failed)?;
                let mut builder = tempfile::Builder::new();
                let beside = builder.prefix(".perennial-").suffix(".restoring");
                let beside = beside.tempdir_in(parent).map_err(failed)?;
                Ok(Self::Beside(dir.to_owned(), beside))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Within(dir) => dir,
            Self::Beside(_, beside) => beside.path(),
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Self::Within(dir) | Self::Beside(dir, _) => dir,
        }
    }

    fn failed(&self, source: io::Error) -> BackupError {
        let path = self.dir().to_owned();
        match source.kind() {
            // Somebody else made a state meanwhile.
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
                BackupError::NotEmpty { path }
            }
            _ => BackupError::Folder { path, source },
        }
    }

    /// Gives the new file, and its folder, their names.
    fn settle(self, new: TempPath) -> Result<(), BackupError> {
        let named = new.persist_noclobber(self.folder().join(FILE));
        named.map_err(|error| self.failed(error.error))?;
        sync(self.folder()).map_err(|source| self.failed(source))?;
        if let Self::Beside(dir, beside) = &self {
            std::fs::rename(beside.path(), dir).map_err(|source| self.failed(source))?;
            sync(parent(dir)).map_err(|source| self.failed(source))?;
        }
        if let Self::Beside(_, beside) = self {
            // It has another name by now, and stays.
            let _ = beside.keep();
        }
        Ok(())
    }
}

/// The folder that a folder is in.
fn parent(dir: &Path) -> &Path {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
