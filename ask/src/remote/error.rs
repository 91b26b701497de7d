//! Why can a remote model not be used?

use std::path::PathBuf;

/// Why a model behind an address could not be made ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It is no address of a server.
    #[error(
        "not the address of a model server: {reason}; write http://host:port/v1, or with a model http://host:port/v1#name"
    )]
    Address {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A file of a key or of certificates cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The server could not be asked, or said no.
    #[error("{address}: {reason}")]
    Server {
        /// Which server.
        address: String,
        /// What happened, and what to do about it.
        reason: String,
    },
    /// It is not said which of its models is meant, or it has none of that name.
    #[error("{address}: {reason}; it serves {models}")]
    Model {
        /// Which server.
        address: String,
        /// What is wrong.
        reason: String,
        /// The models that it serves, with commas between.
        models: String,
    },
}
