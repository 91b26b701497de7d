//! How does the file of a state directory come to be, whole, and how is one opened?

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, StorageBackend as _};

use super::format::FILE;
use super::{StateError, holder};
use crate::fault;

/// Says whether another process has the state of a directory open, before something is opened that takes
/// long. It changes nothing, and does not hold the directory; what else is wrong with it is told by who opens it.
///
/// # Errors
/// [`StateError::InUse`].
pub fn check_free(dir: &Path) -> Result<(), StateError> {
    let path = dir.join(FILE);
    let backend = File::open(&path).ok().map(FileBackend::new);
    let Some(Ok(backend)) = backend else {
        return Ok(());
    };
    match backend.try_lock_shared_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(false) => Err(StateError::InUse {
            holder: holder::of(&path),
            path,
        }),
        _ => Ok(()),
    }
}

/// Makes an empty database under another name and moves it to its own: one that was left
/// half made would be taken for a damaged one.
pub(super) fn create(dir: &Path, path: &Path) -> Result<(), StateError> {
    let io = |source| StateError::Io {
        path: dir.to_owned(),
        source,
    };
    let new = new_file(dir).map_err(io)?;
    drop(Database::create(&new).map_err(|error| StateError::write(&new, error))?);
    fault::CREATE_HALF.reach();
    match new.persist_noclobber(path) {
        Ok(()) => {
            fault::CREATE_RENAMED.reach();
            sync(dir).map_err(io)
        }
        // Another process was quicker; the two settle who may have it by its lock.
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io(error.error)),
    }
}

/// An empty file in `dir`, under a name of its own until it is whole.
pub(super) fn new_file(dir: &Path) -> std::io::Result<tempfile::TempPath> {
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix(FILE).suffix(".new").tempfile_in(dir)?;
    Ok(file.into_temp_path())
}

/// Makes a rename in `dir` outlive a crash of the machine.
pub(super) fn sync(dir: &Path) -> std::io::Result<()> {
    match cfg!(unix) {
        true => File::open(dir)?.sync_all(),
        false => Ok(()),
    }
}

/// Removes what processes that were killed in [`create`] left. The lock is held by now, and
/// a file that cannot be removed does no harm.
pub(super) fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(FILE) && name.ends_with(".new") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Opens the database and compares all its checksums.
pub(super) fn open_database(
    path: &Path,
    open: impl FnOnce() -> Result<Database, redb::DatabaseError>,
) -> Result<Database, StateError> {
    // The library asserts some invariants of a file that another program may have changed.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut db = open()?;
        db.check_integrity()?;
        Ok(db)
    }));
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => Err(StateError::InUse {
            path: path.to_owned(),
            holder: holder::of(path),
        }),
        Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Io(source))))
            if !is_damage(source.kind()) =>
        {
            Err(StateError::Io {
                path: path.to_owned(),
                source,
            })
        }
        Ok(Err(error)) => Err(StateError::damaged(path, error)),
        Err(_) => Err(StateError::damaged(path, "its structure is broken")),
    }
}

/// Whether such an error tells of the file's contents: what they should be, or where they end.
fn is_damage(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(kind, InvalidData | UnexpectedEof)
}
