//! What can go wrong with a state directory.

use std::path::{Path, PathBuf};

use perennial_connectors::timestamp;

use super::AsOf;

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
    /// The file cannot be read.
    #[error("{path}: {source}; give a folder that can be read")]
    Unreadable {
        /// The database file.
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
    #[error(
        "{path}: in use by {}; stop it, or give each its own state directory",
        .holder.as_deref().unwrap_or("another process")
    )]
    InUse {
        /// The database file.
        path: PathBuf,
        /// Which process, where the system tells.
        holder: Option<String>,
    },
    /// Its fragments cannot be read or written.
    #[error("fragments on disk: {0}")]
    Fragments(#[from] perennial_bank::ColdTierError),
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
    /// The state that is asked for is not told by the history.
    #[error("{asked} is not in the history, {}", extent(.oldest, .oldest_at_ms, .newest))]
    NotInHistory {
        /// What was asked for.
        asked: AsOf,
        /// The oldest epoch that can be told; none if none was committed yet.
        oldest: Option<u64>,
        /// When it was committed, in milliseconds since 1970, if that is known.
        oldest_at_ms: Option<i64>,
        /// The last committed epoch.
        newest: Option<u64>,
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
    /// No stream has this name.
    #[error("there is no stream `{stream}` here; there are: {known}")]
    NoStream {
        /// The name.
        stream: String,
        /// Those that there are, with commas between.
        known: String,
    },
    /// Answers wait to be delivered, in which what is to be forgotten may be told.
    #[error(
        "{sink} has not taken all answers yet: start what was stopped once more, with that sink, until it has; \
         then forget"
    )]
    Owed {
        /// A sink that is owed something.
        sink: String,
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

/// What a history holds, in words.
fn extent(oldest: &Option<u64>, oldest_at_ms: &Option<i64>, newest: &Option<u64>) -> String {
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        return "for no epoch is committed yet".to_owned();
    };
    let at = oldest_at_ms.map(|ms| format!(", of {}", timestamp::text(ms)));
    let at = at.unwrap_or_default();
    match oldest == newest {
        true => format!("which has the present epoch {newest} only{at}"),
        false => format!("which begins with epoch {oldest}{at}, and ends with epoch {newest}"),
    }
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
