//! What is a user told when a command cannot go on: what is wrong, what to do, and the
//! exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use perennial::ask::CallError;
use perennial::calibration::CalibrationError;
use perennial::connectors;
use perennial::memory::MemoryError;
use perennial::model::error::Error as ModelError;
use perennial::sql::SessionError;
use serde_json::{Value, json};

use super::stderr;

/// Why a command ends without success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Failure {
    /// The arguments do not say what can be done.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The engine or the model cannot go on.
    #[error(transparent)]
    Engine(#[from] perennial::Error),
    /// A model behind HTTP cannot be used. It says itself what to do.
    #[cfg(feature = "remote")]
    #[error(transparent)]
    Remote(#[from] perennial::ask::remote::RemoteError),
    /// A state is to be looked at that another program has open.
    #[error("{}: in use by {}", path.display(), holder.as_deref().unwrap_or("another process"))]
    StateInUse {
        /// The state's file.
        path: PathBuf,
        /// Which process, where the system tells.
        holder: Option<String>,
    },
    /// A script asks for what cannot be.
    #[error("{errors}")]
    Script {
        /// What, and where.
        errors: perennial::sql::Errors,
    },
    /// A source cannot be opened.
    #[error(transparent)]
    Source(#[from] connectors::Error),
    /// A source failed while it was read.
    #[error("{source_name} cannot be read: {message}")]
    SourceFailed {
        /// Which stream.
        source_name: String,
        /// What it said.
        message: String,
    },
    /// Some question has no answer.
    #[error("{n_failed} of {n_asked} questions could not be answered: {reason}")]
    NotAnswered {
        /// Number of questions without an answer.
        n_failed: usize,
        /// Number of questions.
        n_asked: usize,
        /// Why the first has none.
        reason: CallError,
    },
    /// A sink did not take the answers.
    #[error("the answers could not be delivered to {sink}")]
    NotDelivered {
        /// The sink's name.
        sink: String,
        /// Whether they are delivered later.
        is_kept: bool,
    },
    /// A server cannot begin. It says itself what to do.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Server(#[from] perennial::serve::ServerError),
    /// A file of tokens cannot be used. It says itself what to do.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Tokens(#[from] perennial::serve::TokensError),
    /// A model cannot be calibrated.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// A file operation of the program's own.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was given is not taken, or not to be had.
    #[error("{what}")]
    Refused {
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Whoever reads standard output has gone away, as `head` does.
    #[error("standard output was closed")]
    OutputClosed,
    /// A scripted edit had no effect on the view.
    #[error("the edit of {file} was not noticed within {seconds} s")]
    NotNoticed {
        /// The edited file.
        file: String,
        /// How long was waited.
        seconds: u64,
    },
}

impl Failure {
    /// A [`Failure::Usage`].
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage {
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// A [`Failure::Io`] on `action`; made for `map_err`.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// A failed write to standard output.
    pub(crate) fn output(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Io {
                action: "write to standard output".into(),
                source,
            },
        }
    }

    /// What the user can do, in one line.
    pub(crate) fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Usage { hint, .. } => hint,
            Self::Refused { hint, .. } => hint,
            Self::Engine(perennial::Error::Model(error)) => match error {
                ModelError::UnknownModel { .. } => "`perennial models` lists the known models",
                ModelError::Io { .. } => "check the path given to --model",
                ModelError::NotACheckpoint { .. }
                | ModelError::Corrupt { .. }
                | ModelError::MissingTensor { .. }
                | ModelError::TensorShape { .. } => {
                    "fetch the file again, or choose a model that `perennial models` lists"
                }
                ModelError::Unsupported { .. } => {
                    "choose another file, or a model that `perennial models` lists"
                }
                // These say themselves what to do.
                _ => return None,
            },
            Self::Source(connectors::Error::Missing { .. }) => {
                "check the spelling; relative paths start at the current folder"
            }
            Self::Source(connectors::Error::NotAFolder { .. }) => "name a folder, or a file",
            Self::Source(connectors::Error::Listen { .. }) => {
                "choose another port (0 takes one that is free), or end what listens there"
            }
            Self::Source(connectors::Error::Unguarded { .. }) => {
                "listen at 127.0.0.1, or add --listen-token-file FILE"
            }
            Self::Source(connectors::Error::Secret { .. }) => {
                "write a new one: openssl rand -hex 32 > FILE"
            }
            Self::StateInUse { .. } => {
                "where `perennial serve` has it open, give its URL instead of the folder (`answers`, \
                 `history` and `quarantine` take one); else end the program that has it open"
            }
            Self::SourceFailed { .. } => "mend that, and start again",
            Self::NotAnswered { reason, .. } => match reason {
                CallError::NoDocuments => {
                    "add some; --answer-without-documents (in SQL ANSWER_WITHOUT_DOCUMENTS) answers \
                     without any"
                }
                CallError::NothingFits { .. } => "raise --budget (in SQL TOKEN_BUDGET)",
                CallError::DoesNotFit { .. } => {
                    "shorten the question, lower --budget, or choose another --model"
                }
                _ => return None,
            },
            Self::NotDelivered { is_kept: true, .. } => {
                "mend that: they are kept, and delivered by the next watch over this state"
            }
            Self::NotDelivered { is_kept: false, .. } => {
                "mend that, and ask again; with --state they would be kept"
            }
            Self::Calibration(error) => match error {
                CalibrationError::Read { .. } => {
                    "give --data FILE, a file of JSON lines; relative paths start at the current folder"
                }
                CalibrationError::Line { .. } => {
                    "mend that line; `perennial calibrate --help` shows what one holds"
                }
                CalibrationError::TooFewArticles { .. } => {
                    "give a file with more, or a greater --articles; an article is what stands before the / \
                     of an id, and has two passages at least, and a question"
                }
                CalibrationError::TooFewAnswers { .. } => {
                    "raise --articles, --questions or --edits, or give a file with more"
                }
                CalibrationError::Model { .. } => {
                    "where it does not fit, lower --documents; else leave the question out"
                }
                CalibrationError::Passage { .. } => "leave it out",
                CalibrationError::Unsound { .. } => {
                    "look whether the model answers these questions at all; more articles help where some do"
                }
                _ => return None,
            },
            Self::NotNoticed { .. } => "check that files can be watched in the temporary folder",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the spelling; relative paths start at the current folder"
            }
            Self::Io { .. } => "check permissions and free space",
            #[cfg(feature = "remote")]
            Self::Remote(_) => return None,
            #[cfg(feature = "serve")]
            Self::Server(_) | Self::Tokens(_) => return None,
            Self::Engine(_) | Self::Source(_) | Self::OutputClosed | Self::Script { .. } => {
                return None;
            }
        })
    }

    /// The same for programs: what is wrong, what to do, and of which source where it is one that failed.
    pub(crate) fn object(&self) -> Value {
        let (source, message) = match self {
            Self::SourceFailed {
                source_name,
                message,
            } => (Some(source_name), message.clone()),
            _ => (None, self.to_string()),
        };
        json!({"event": "failed", "source": source, "message": message, "hint": self.hint()})
    }

    /// Prints it to standard error: one line on what is wrong, one on what to do.
    pub(crate) fn tell(&self) {
        match self {
            Self::OutputClosed => {}
            // Each says where it is, and what can be done.
            Self::Script { errors } => stderr::line(&errors.to_string()),
            _ => stderr::failure(&self.to_string(), self.hint()),
        }
    }

    /// The program's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } | Self::Script { .. } => ExitCode::from(2),
            #[cfg(feature = "serve")]
            Self::Server(_) | Self::Tokens(_) => ExitCode::from(2),
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Source(connectors::Error::NotBuilt { .. }) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Script(errors) => Self::Script { errors },
            SessionError::Engine(error) => Self::Engine(error),
            SessionError::Told(error) => match error.downcast::<Self>() {
                Ok(failure) => *failure,
                Err(other) => Self::output(io::Error::other(other)),
            },
            other => Self::output(io::Error::other(other)),
        }
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        let hint = match &error {
            MemoryError::NoNamespace { .. } => {
                "`perennial memory stats` lists the namespaces, and who may read them"
            }
            MemoryError::TooLong { .. } => "say it in several parts",
            MemoryError::ControlCharacter { .. } => "leave it out",
            MemoryError::Empty { .. } => "say something",
            _ => "see `perennial memory --help`",
        };
        match error {
            MemoryError::Engine(error) => Self::Engine(error),
            other => Self::usage(other.to_string(), hint),
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<perennial_views::Error> for Failure {
    fn from(error: perennial_views::Error) -> Self {
        Self::Engine(error.into())
    }
}

#[cfg(test)]
mod tests {
    use perennial::connectors::{Error, Feature};

    use super::*;

    #[test]
    fn what_the_program_was_built_without_is_wrong_usage() {
        for (feature, says) in [
            (
                Feature::Documents,
                "this program was built without PDF, Word and HTML; build it with --features documents",
            ),
            (
                Feature::Kafka,
                "this program was built without Kafka; build it with --features kafka",
            ),
            (
                Feature::Parquet,
                "this program was built without Parquet; build it with --features parquet",
            ),
            (
                Feature::Http,
                "this program was built without HTTP; build it with --features http",
            ),
        ] {
            let failure = Failure::from(Error::NotBuilt { feature });
            assert_eq!(failure.to_string(), says);
            assert_eq!(failure.exit_code(), ExitCode::from(2));
        }
    }
}
