//! What can go wrong with a recording.

use std::path::PathBuf;

/// Errors of opening, writing and reading a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The system refuses.
    #[error("{path}: {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What cannot be done.
        action: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no recording.
    #[error("{path}: not a recording; name another file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("{path}: another process is recording here; name another file")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error("{path}: format {found}, but this version reads up to {supported}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: u64,
        /// The newest format that is known here.
        supported: u64,
    },
    /// A line that cannot be, where others follow.
    #[error("{path}, line {line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The models at hand are not those that were recorded.
    #[error(
        "recorded with {recorded}, but this is {given} (in other arithmetic, by `--arithmetic` or \
         by another version, it is another model, too); give the model that was recorded, or replay with this one anyway"
    )]
    OtherModel {
        /// The model that was recorded.
        recorded: String,
        /// The model at hand.
        given: String,
    },
}
