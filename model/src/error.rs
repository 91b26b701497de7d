//! What can go wrong between a model's name and a token: one enum for the crate.
//!
//! Every variant names the thing at fault (file, tensor, token, source) and what was
//! expected of it, so that its message alone says what to do.

use std::path::PathBuf;

use thiserror::Error;

/// An error of the model runtime.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder that was asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is of another kind than a supported checkpoint.
    #[error("{}: not a model that can be opened: {reason}", path.display())]
    NotACheckpoint {
        /// File or folder that was opened.
        path: PathBuf,
        /// What it looks like instead.
        reason: String,
    },
    /// The file is damaged: cut short, or its contents contradict one another.
    #[error("{}: damaged checkpoint: {reason}", path.display())]
    Corrupt {
        /// File that was opened.
        path: PathBuf,
        /// Which part does not hold together.
        reason: String,
    },
    /// The checkpoint is whole, but asks for something the decoder does not have.
    #[error("{}: unsupported {what} `{got}`; supported: {supported}", path.display())]
    Unsupported {
        /// File that was opened.
        path: PathBuf,
        /// Kind of thing: architecture, tensor encoding, tokenizer, …
        what: String,
        /// What the checkpoint asks for.
        got: String,
        /// What would have been accepted.
        supported: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("{}: tensor `{name}` is missing", path.display())]
    MissingTensor {
        /// Checkpoint that was opened.
        path: PathBuf,
        /// GGUF-style name of the tensor.
        name: String,
    },
    /// A tensor's sizes contradict the checkpoint's own configuration.
    #[error("{}: tensor `{name}` is {got:?}, expected {expected:?} ([rows, columns])", path.display())]
    TensorShape {
        /// Checkpoint that was opened.
        path: PathBuf,
        /// GGUF-style name of the tensor.
        name: String,
        /// `[rows, columns]` that the configuration implies.
        expected: [usize; 2],
        /// `[rows, columns]` found.
        got: [usize; 2],
    },
    /// The tokenizer could not encode or decode.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The checkpoint's chat template is broken or was given what it refuses.
    #[error("chat template: {0}")]
    Template(String),
}

impl Error {
    /// An [`Error::Io`] about `path`; made for `map_err`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// An [`Error::Tokenizer`]; made for `map_err` on the tokenizer library's boxed errors.
    pub(crate) fn tokenizer(error: tokenizers::Error) -> Self {
        Self::Tokenizer(error.to_string())
    }
}
