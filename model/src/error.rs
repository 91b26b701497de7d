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
    /// The thread that computed a joined forward pass panicked.
    #[error("the forward pass ended without a result; standard error tells of a panic")]
    PassLost,
    /// A setting from the environment cannot be used.
    #[error("{variable}: got {got}, expected {expected}")]
    Setting {
        /// Name of the environment variable.
        variable: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A name that is neither a known model's nor a path.
    #[error("unknown model `{name}`; known: {known}; or pass a GGUF file or a folder")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// Names of the known models.
        known: String,
    },
    /// No source had the model.
    #[error("the model `{model}` could not be had:\n{report}")]
    ModelNotFound {
        /// Name of the model.
        model: String,
        /// Each source with its reason, and what can be done, in lines.
        report: String,
    },
    /// The model does not fit into memory.
    #[error(
        "the model `{model}` needs about {} MiB of memory, {} MiB are available: choose a \
         smaller model, or end other programs", needed >> 20, available >> 20
    )]
    TooLittleMemory {
        /// Name of the model.
        model: String,
        /// Bytes that loading it takes, estimated.
        needed: u64,
        /// Bytes that the system says can be had.
        available: u64,
    },
    /// The tokenizer could not encode or decode.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The encoder of embeddings failed on a text.
    #[error("embedding: {0}")]
    Embedding(String),
    /// A grammar that tokens are to obey cannot be read, or no token obeys it.
    #[error("grammar: {0}")]
    Grammar(String),
    /// The checkpoint's chat template is broken or was given what it refuses.
    #[error("chat template: {0}")]
    Template(String),
    /// A tensor that the decoder needs is not in the checkpoint.
    #[error("tensor `{name}` is missing")]
    AbsentTensor {
        /// GGUF-style name of the tensor.
        name: String,
    },
    /// A tensor's sizes are not those the configuration implies.
    #[error(
        "tensor `{name}` is {got:?} in {n_bytes} bytes, expected {expected:?} ([rows, columns])"
    )]
    UnfitTensor {
        /// GGUF-style name of the tensor.
        name: String,
        /// `[rows, columns]` that the configuration implies.
        expected: [usize; 2],
        /// `[rows, columns]` found.
        got: [usize; 2],
        /// Bytes found.
        n_bytes: usize,
    },
    /// A scale in a quantized tensor is infinite or no number.
    #[error(
        "tensor `{name}` has a scale that is infinite or no number in row {row}: the file is damaged, \
         or was badly quantized; get it again"
    )]
    UnfitScale {
        /// GGUF-style name of the tensor.
        name: String,
        /// The row, as it is stored.
        row: usize,
    },
    /// The configuration asks for a size the kernels do not have.
    #[error("{what} is {got}; the decoder needs {expected}")]
    UnsupportedShape {
        /// Field of the configuration.
        what: &'static str,
        /// What it says.
        got: usize,
        /// What is supported.
        expected: &'static str,
    },
    /// Heads cannot be chosen by these questions and passages.
    #[error(
        "calibration needs questions about at least two passages, none of them empty; got {n_passages} \
         passages"
    )]
    Calibration {
        /// Passages that were told apart.
        n_passages: usize,
    },
    /// Keys that recall cannot read.
    #[error(transparent)]
    Strips(#[from] crate::latent::StripsError),
    /// A profile of heads that cannot be used.
    #[error(transparent)]
    Profile(#[from] crate::latent::ProfileError),
    /// The decoder's threads could not be started.
    #[error("cannot start {n_threads} threads: {reason}")]
    Threads {
        /// Number asked for; 0 is one a core.
        n_threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A token id that the model does not have.
    #[error("token {token} is out of range: the model has {n_vocab} tokens")]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Number of tokens of the model.
        n_vocab: usize,
    },
    /// More tokens than the model has positions for.
    #[error("{end} tokens do not fit: the model has {max} positions")]
    PositionOutOfRange {
        /// Position after the last token.
        end: usize,
        /// Number of positions of the model.
        max: usize,
    },
    /// A run that stands behind what its batch does not hold before it.
    #[error(
        "run {run} of a batch cannot stand behind the run {n_back} before it, \
         ahead of segment {segment} of its layout"
    )]
    PendingOutOfRange {
        /// Number of the run in its batch.
        run: usize,
        /// How many runs earlier it looks.
        n_back: usize,
        /// Which segment of its layout the earlier run should go before.
        segment: usize,
    },
    /// KV state that was computed by a model of another shape.
    #[error("KV state of another model: {got:?}, expected {expected:?}")]
    ForeignKv {
        /// Shape of the decoder.
        expected: crate::kv::KvShape,
        /// Shape of the state.
        got: crate::kv::KvShape,
    },
    /// A generation was asked for without a single prompt token.
    #[error("the prompt is empty: there is nothing to continue")]
    EmptyPrompt,
    /// The logits are no finite numbers: what was computed overflowed.
    #[error(
        "the model computes no finite numbers over this text, so it cannot say anything; where it \
         does so over every text, its weights are damaged"
    )]
    NotFinite,
    /// The computation was cancelled.
    #[error("cancelled")]
    Cancelled,
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
