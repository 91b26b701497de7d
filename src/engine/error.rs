//! What can go wrong between a caller and the engine.

use perennial_connectors::Rejection;

/// Errors of the engine's interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No stream of this name was declared.
    #[error("there is no stream `{name}`; declared are: {declared}")]
    UnknownStream {
        /// The name asked for.
        name: String,
        /// The names there are.
        declared: String,
    },
    /// No view of this name was declared.
    #[error("there is no view `{name}`; declared are: {declared}")]
    UnknownView {
        /// The name asked for.
        name: String,
        /// The names there are.
        declared: String,
    },
    /// What is asked of answers, of a relation that has none.
    #[error(
        "`{name}` has no answers of a model: only a view of LLM_GENERATE has them; what a query \
         says is its rows"
    )]
    NotAnswers {
        /// The name asked for.
        name: String,
    },
    /// Two streams or two views with one name.
    #[error("`{name}` is declared twice; give each stream and each view a name of its own")]
    DeclaredTwice {
        /// The name.
        name: String,
    },
    /// Two sinks that deliver to one place.
    #[error(
        "`{view}` cannot be delivered to {sink}: `{other}` is delivered there already, and their rows would \
         be mixed; give one of them a place of its own, or deliver one view that says both"
    )]
    SinkTaken {
        /// The place.
        sink: String,
        /// The view that was to be delivered there.
        view: String,
        /// The view that is.
        other: String,
    },
    /// No relation of this name.
    #[error("there is no stream or view `{name}`; there are: {declared}")]
    UnknownRelation {
        /// The name asked for.
        name: String,
        /// The names there are.
        declared: String,
    },
    /// No model of this name.
    #[error("there is no model `{name}` in this engine; there are: {declared}")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are.
        declared: String,
    },
    /// No sink of this name.
    #[error("there is no sink `{name}`; there are: {declared}")]
    UnknownSink {
        /// The name asked for.
        name: String,
        /// The names there are.
        declared: String,
    },
    /// What others read or take is not dropped.
    #[error("`{name}` is used by {users}; drop these first")]
    InUse {
        /// What was to be dropped.
        name: String,
        /// Who uses it.
        users: String,
    },
    /// A view takes no epoch, since what it may spend in an hour is used up.
    #[error(
        "view `{view}` is stale: {budget} is used up, and it goes on at {resumes_at}; ALTER VIEW \
         raises the budget of a view"
    )]
    OverBudget {
        /// The view.
        view: String,
        /// The budget, as it was set.
        budget: String,
        /// When there is room again, as RFC 3339.
        resumes_at: String,
    },
    /// A budget of money for a view whose calls cost none.
    #[error(
        "view `{view}` has COST_PER_HOUR, and it asks no model that has a price; say what its model \
         costs (PRICE_INPUT, PRICE_OUTPUT and CURRENCY), or leave the budget out"
    )]
    Unpriced {
        /// The view.
        view: String,
    },
    /// Prices by which an engine cannot count.
    #[error("the prices of model `{name}` cannot be counted: {reason}")]
    Prices {
        /// The model.
        name: String,
        /// Why.
        reason: String,
    },
    /// It was dropped meanwhile.
    #[error("it was dropped meanwhile")]
    Dropped,
    /// A recording holds streams and the views over them that it began with.
    #[error(
        "an engine that records keeps what it began with, and its views read streams only and ask \
         one model; do without the recording, or declare everything before it starts"
    )]
    Recorded,
    /// Rows for a stream that a source feeds.
    #[error("stream `{name}` is fed by a source; declare a table to feed rows by hand")]
    NotATable {
        /// The stream.
        name: String,
    },
    /// A row that does not fit the columns of its table.
    #[error("`{key}` does not fit table `{name}`: {reason}")]
    UnfitRow {
        /// The table.
        name: String,
        /// The row.
        key: String,
        /// Which column, and why.
        reason: Rejection,
    },
    /// Rows of an earlier process that do not fit the columns that are declared now.
    #[error(
        "{n_rows} rows that `{name}` holds do not fit these columns, `{key}` for one: {reason}; \
         declare the columns as before, mend or drop these rows, and declare them anew"
    )]
    UnfitRows {
        /// The stream.
        name: String,
        /// How many.
        n_rows: usize,
        /// The first of them.
        key: String,
        /// Which column of it, and why.
        reason: Rejection,
    },
    /// A document cannot be forgotten while its source holds it.
    #[error("`{key}` still stands in source `{stream}`; delete it there first, then forget it")]
    StillThere {
        /// The stream.
        stream: String,
        /// The document.
        key: String,
    },
    /// The engine has stopped, or its dataflow failed.
    #[error("the engine has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// A state directory that cannot be opened.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// The past is kept in a state directory, which is also what is backed up, and there is none.
    #[error(
        "this engine has no state directory, and so no history and no backup; give it one with \
         .state(…)"
    )]
    NoState,
    /// A backup that cannot be taken or restored.
    #[error(transparent)]
    Backup(#[from] crate::state::BackupError),
    /// A recording that cannot be read or written.
    #[error(transparent)]
    Recording(#[from] crate::recording::RecordingError),
    /// A view declaration that cannot be carried out.
    #[error(transparent)]
    View(#[from] perennial_views::Error),
    /// A source that cannot be started.
    #[error(transparent)]
    Source(#[from] perennial_connectors::Error),
    /// A model that cannot be found, opened or run.
    #[error(transparent)]
    Model(#[from] perennial_model::error::Error),
    /// A model of which no fragments can be coded in the way that was asked for.
    #[error(transparent)]
    Coding(#[from] perennial_model::kv::coding::BasisError),
    /// A profile of a model that cannot be used.
    #[error(transparent)]
    Profile(#[from] perennial_ask::pull::ProfileError),
    /// One model under two profiles.
    #[error(
        "model `{name}` is one that this engine has already, by another profile: what is left unread          would depend on which came first; open both by the same"
    )]
    OtherProfile {
        /// The model.
        name: String,
    },
    /// One model that keeps what memory has no room for in two ways.
    #[error(
        "model `{name}` is one that this engine has already, with another WARM (or --warm): both have one memory; say \
         the same of both"
    )]
    OtherWarm {
        /// The model.
        name: String,
    },
}
