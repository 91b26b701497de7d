//! What comes of a statement?

use std::sync::Arc;

use perennial_connectors as connectors;
use perennial_rows::{Schema, Tuple};
use perennial_views::query::BindErrors;
use perennial_views::sql::{Diagnostic, Errors, Kind, Script, Span};
use perennial_views::{Epoch, Exceeded};

use crate::engine::{Error, Receipt, Subscription};
use crate::memory::{MemoryError, MemoryReceipt};

/// What came of a statement.
#[non_exhaustive]
pub enum Outcome {
    /// Something is there now.
    Created {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: Arc<str>,
        /// What whoever created it should know: where records may be posted.
        notice: Option<String>,
    },
    /// A view takes its epochs otherwise from now on.
    Altered {
        /// Its name.
        name: Arc<str>,
    },
    /// Something is there no more; or never was, where that is no error.
    Dropped {
        /// What it was.
        kind: Kind,
        /// Its name.
        name: Arc<str>,
        /// Whether it was there.
        was_there: bool,
    },
    /// Rows of tables were changed; they are visible from the next epoch on.
    Done {
        /// How many.
        n_rows: usize,
    },
    /// Rows, in the order that was asked for.
    Rows {
        /// Their columns.
        schema: Schema,
        /// Their values.
        rows: Vec<Tuple>,
        /// What whoever reads them should know: which values a model failed to give.
        notices: Vec<String>,
    },
    /// Changes of a view, from now on.
    Subscription {
        /// The view.
        view: Arc<str>,
        /// Where they come.
        updates: Subscription,
        /// Where what stands is not wanted: what is told of this epoch and before is no change.
        after: Option<Epoch>,
        /// Whether complete epochs are told too.
        progress: bool,
    },
    /// How something would be carried out.
    Plan(String),
    /// A record is forgotten.
    Forgotten(Box<Receipt>),
    /// Records of a memory are forgotten.
    MemoryForgotten(Box<MemoryReceipt>),
    /// A right is given, or taken back; it counts from the next epoch on.
    Granted {
        /// Whether it is given.
        is_given: bool,
    },
}

/// Why a statement was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The script asks for what cannot be; it says where.
    #[error(transparent)]
    Script(#[from] Errors),
    /// The engine cannot go on.
    #[error(transparent)]
    Engine(#[from] Error),
    /// It takes more than it may.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// Whoever was told an outcome could not go on.
    #[error(transparent)]
    Told(Box<dyn std::error::Error + Send + Sync>),
}

/// Why a statement was not carried out, before its script is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// What is wrong with it; at least one.
    Said(Vec<Diagnostic>),
    /// What is wrong with the engine.
    Engine(Error),
    /// It takes more than it may.
    Exceeded(Exceeded),
}

impl Fault {
    /// One thing that is wrong.
    pub(super) fn said(what: impl Into<String>, span: Span) -> Self {
        Self::Said(vec![Diagnostic::new(what, span)])
    }

    /// The same, at another place: where what was asked for stands of which it is a part.
    pub(super) fn moved_to(self, span: Span) -> Self {
        match self {
            Self::Said(said) => {
                let moved = said.into_iter().map(|said| Diagnostic { span, ..said });
                Self::Said(moved.collect())
            }
            other => other,
        }
    }

    /// As an error of a script.
    pub(super) fn of(self, script: &Script) -> SessionError {
        match self {
            Self::Said(said) => SessionError::Script(script.errors(said)),
            Self::Engine(error) => SessionError::Engine(error),
            Self::Exceeded(exceeded) => SessionError::Exceeded(exceeded),
        }
    }

    /// What an engine refuses is wrong with the statement, unless the engine itself is.
    pub(super) fn engine(error: Error, span: Span) -> Self {
        match error {
            Error::Stopped { .. } | Error::State(_) | Error::Recording(_) => Self::Engine(error),
            refused => Self::said(refused.to_string(), span),
        }
    }

    /// All that is wrong with a query; `span` is where it stands.
    pub(super) fn bind(errors: BindErrors, span: Span) -> Self {
        let said = errors
            .0
            .into_iter()
            .map(|error| Diagnostic::new(error.message, error.span.unwrap_or(span)));
        Self::Said(said.collect())
    }
}

impl From<Diagnostic> for Fault {
    fn from(said: Diagnostic) -> Self {
        Self::Said(vec![said])
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

/// Gives errors of the engine and of connectors their place.
pub(super) trait At<T> {
    /// The same, at this place.
    fn at(self, span: Span) -> Result<T, Fault>;
}

impl<T> At<T> for Result<T, Error> {
    fn at(self, span: Span) -> Result<T, Fault> {
        self.map_err(|error| Fault::engine(error, span))
    }
}

impl<T> At<T> for Result<T, MemoryError> {
    fn at(self, span: Span) -> Result<T, Fault> {
        self.map_err(|error| match error {
            MemoryError::Engine(error) => Fault::engine(error, span),
            refused => Fault::said(refused.to_string(), span),
        })
    }
}

impl<T> At<T> for Result<T, connectors::Error> {
    fn at(self, span: Span) -> Result<T, Fault> {
        self.map_err(|error| Fault::said(error.to_string(), span))
    }
}
