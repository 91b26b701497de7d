//! What can go wrong with a state directory.

use std::path::{Path, PathBuf};

/// Errors of opening, reading and writing a state directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The directory cannot be made or entered.
    #[error("{path}: {source}; give a folder that can be written")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no state where one was named.
    #[error("{path}: there is no state here; name the folder that was given as --state")]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("{path}: in use by another process; stop it, or give each its own state directory")]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// Its fragments cannot be read or written.
    #[error("fragments on disk: {0}")]
    Fragments(#[from] perennial_operators::ColdTierError),
    /// Written by a newer version.
    #[error(
        "{path}: format {found}, but this version reads up to {supported}; use the version that \
         wrote it, or begin with an empty state directory"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The format it has.
        found: u64,
        /// The newest format that is known here.
        supported: u64,
    },
    /// The file was written by an older version of this program.
    #[error(
        "{path}: format {found}, which this version no longer reads; move it away: an engine with \
         an empty state directory reads its sources again"
    )]
    Older {
        /// The database file.
        path: PathBuf,
        /// The format it has.
        found: u64,
    },
    /// The file is no state, or is damaged beyond what its checksums can mend.
    #[error(
        "{path}: damaged or foreign ({reason}); move it away: an engine with an empty state \
         directory reads its sources again"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// No entry of quarantine has this number.
    #[error("nothing in quarantine has the number {number}; list what there is")]
    NotInQuarantine {
        /// The number.
        number: u64,
    },
    /// What was refused stands at its source still.
    #[error("number {number} stands in {place}: mend it there, and it is read again")]
    MendAtSource {
        /// The number.
        number: u64,
        /// Where.
        place: String,
    },
    /// What was refused is not kept here.
    #[error("number {number} is not kept here, only where it was read; give the record instead")]
    NoContent {
        /// The number.
        number: u64,
    },
    /// What is to be resubmitted is no record.
    #[error("number {number} is still no record: {reason}; give the record that was meant instead")]
    NoRecord {
        /// The number.
        number: u64,
        /// Why.
        reason: String,
    },
    /// A commit failed; the last committed epoch stands.
    #[error("{path}: cannot be written ({reason}); the state is that of the last complete epoch")]
    Write {
        /// The database file.
        path: PathBuf,
        /// What the database says: a full disk, a lost permission.
        reason: String,
    },
}

impl StateError {
    /// Damage, from whatever error says so.
    pub(super) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// A failed write, from whatever error says so.
    pub(super) fn write(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Write {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
