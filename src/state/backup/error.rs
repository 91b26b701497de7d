//! What can go wrong with a backup?

use std::path::{Path, PathBuf};

use crate::state::StateError;

/// Errors of taking a backup, and of restoring one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file cannot be read.
    #[error("{path}: {source}; name a file that `perennial backup` wrote")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path}: this is no backup; name a file that `perennial backup` wrote")]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{path}: a backup of format {found}, but this version reads up to {supported}; restore it \
         with the version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: u64,
        /// The newest format that is known here.
        supported: u64,
    },
    /// The end of the file is missing.
    #[error(
        "{path}: cut off after {n_bytes} bytes: the end of the backup is missing; copy the file \
         again, or restore another backup"
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// How long it is.
        n_bytes: u64,
    },
    /// Bytes of the file are not those that were written.
    #[error(
        "{path}: damaged ({reason}, before byte {at}); copy the file again, or restore another backup"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How far it was read, in bytes.
        at: u64,
        /// What was found.
        reason: String,
    },
    /// There is something where the state is to be.
    #[error(
        "{path}: there is something in it already; restore to a folder that is empty, or not there yet"
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("{path}: {source}; restore to a folder that can be written")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Whatever takes the backup does not take it.
    #[error("the backup cannot be written: {source}")]
    Write {
        /// What it says.
        source: std::io::Error,
    },
    /// The state was closed meanwhile, or its file written anew.
    #[error(
        "the state was closed, or written anew to forget something, before the backup was complete; \
         take it again"
    )]
    Interrupted,
    /// The state cannot be read, or cannot be made.
    #[error(transparent)]
    State(#[from] StateError),
}

impl BackupError {
    /// A read of a state that failed.
    pub(super) fn read(path: &Path, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::DatabaseClosed => Self::Interrupted,
            error => StateError::damaged(path, error).into(),
        }
    }
}
