//! What ends a source? Each variant says what the user can do about it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use perennial_rows::Type;
use thiserror::Error;

use crate::{Feature, Refusal};

/// Why a source could not start, or had to end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing stands at the path.
    #[error("{}: no such file or folder", path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// The path is neither a folder nor a file.
    #[error("{}: neither a folder nor a file", path.display())]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
    },
    /// The path is not a regular file.
    #[error("{}: not a regular file (pipes are read from standard input)", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// No folder was given.
    #[error("no folder to watch")]
    NoRoots,
    /// Two watched folders have the same name, so their keys could collide.
    #[error(
        "{} and {} are both called {name:?}: the names of their files could not be told apart",
        first.display(),
        second.display()
    )]
    RootsCollide {
        /// The one folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Their name.
        name: String,
    },
    /// A pattern of paths that is none.
    #[error("the pattern {pattern:?}: {reason}")]
    Glob {
        /// Which pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What is said of how a table is written cannot be.
    #[error("{option} {value:?}: expected {reason}")]
    TableOption {
        /// What is said.
        option: &'static str,
        /// Which value it was given.
        value: String,
        /// What it must be, or be of.
        reason: &'static str,
    },
    /// One watched folder lies in another, so its files would be read twice.
    #[error("{} lies inside {}: its files would be read twice", inner.display(), outer.display())]
    RootsNested {
        /// The folder inside.
        inner: PathBuf,
        /// The folder around it.
        outer: PathBuf,
    },
    /// Several folders are watched and one has no name of its own to begin its keys with.
    #[error("{}: a folder without a UTF-8 name cannot be one of several", path.display())]
    RootUnnamed {
        /// The folder.
        path: PathBuf,
    },
    /// The watched folder disappeared.
    #[error("{}: the watched folder was deleted, moved or replaced", path.display())]
    RootGone {
        /// The folder.
        path: PathBuf,
    },
    /// The system refused something that the source cannot do without.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// On which file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A limit or interval is zero, where the source could then do nothing.
    #[error("{name} must not be zero")]
    Zero {
        /// Which setting.
        name: &'static str,
    },
    /// A burst's longest delay is under its quiet time.
    #[error("a burst's longest delay ({max_delay:?}) is under its quiet time ({quiet:?})")]
    BurstOrder {
        /// How long nothing must happen.
        quiet: Duration,
        /// How long a burst may last.
        max_delay: Duration,
    },
    /// A setting of a Kafka client that cannot be.
    #[error("Kafka setting {name:?}: {reason}")]
    KafkaSetting {
        /// Which setting.
        name: String,
        /// What is wrong with it; its value is not shown.
        reason: String,
    },
    /// A Kafka client that cannot go on.
    #[error("Kafka: {reason}")]
    Kafka {
        /// The client's words.
        reason: String,
    },
    /// What is to be read once is not there, and was waited for.
    #[error(
        "{what} could not be read within {} s: {reason}; start the broker, or correct the address or the \
         topic's name (what follows a topic, without --once, goes on waiting)",
        waited.as_secs_f32()
    )]
    Unreachable {
        /// Which topic, of which servers.
        what: String,
        /// For how long.
        waited: Duration,
        /// The client's words.
        reason: String,
    },
    /// A table has no such column.
    #[error("{}: no column {column:?}; there are: {found}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// Which column.
        column: String,
        /// Those there are (their beginning).
        found: String,
    },
    /// A column of a table holds what cannot be the field that it was named for.
    #[error("{}: column {column:?} holds {found}, which cannot be {field:?}", path.display())]
    UnfitColumn {
        /// The file.
        path: PathBuf,
        /// Which column.
        column: String,
        /// Which field of records.
        field: &'static str,
        /// What the column holds.
        found: String,
    },
    /// A column that has a meaning is of one type.
    #[error("the column {column:?} is {expected}: it cannot be declared to be {declared}")]
    UnfitDeclaration {
        /// Which column.
        column: String,
        /// What it was declared to be.
        declared: Type,
        /// What it is.
        expected: Type,
    },
    /// A file cannot be read as a table: cut off, damaged, or of a kind that is not known.
    #[error("{}: cannot be read as a table: {reason}", path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The output file holds something else.
    #[error(
        "{}: at byte {byte} stands something that is none of what is written there: name another file, or take \
         it out",
        path.display()
    )]
    ForeignOutput {
        /// The file.
        path: PathBuf,
        /// Where.
        byte: u64,
    },
    /// The output file is written by another sink or process.
    #[error("{}: another sink or process writes to it: name another file", path.display())]
    OutputInUse {
        /// The file.
        path: PathBuf,
    },
    /// Nobody can be listened to at this address.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address as given.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Whoever reaches the machine could write.
    #[error("{address} can be reached from other machines: listening there takes a bearer token")]
    Unguarded {
        /// The address as given.
        address: String,
    },
    /// A stream that no path of a URL can name.
    #[error("stream {name:?} cannot be posted to: its name may have letters, digits, `-` and `_`")]
    NotPostable {
        /// The stream's name.
        name: String,
    },
    /// A secret that cannot be one.
    #[error("{what}: {reason}")]
    Secret {
        /// What it is for.
        what: &'static str,
        /// What is wrong with it; it is not shown.
        reason: String,
    },
    /// Where something would go by a way that nobody knows here.
    #[error("nothing goes to {scheme}://: known are files, kafka://, http:// and https://")]
    UnknownScheme {
        /// What stands before `://`; what stands behind it is not shown, since it may hold a password.
        scheme: String,
    },
    /// A URL that no request can be sent to.
    #[error("not the URL of a webhook: {reason}")]
    WebhookUrl {
        /// What is wrong with it; it is not shown, since it may hold a password.
        reason: &'static str,
    },
    /// A webhook's receiver did not take a request.
    #[error("{reason}")]
    Webhook {
        /// What it said, or why it cannot be reached.
        reason: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// A sink was refused what it delivered, and would be refused the same again: what is wrong is the rows
    /// themselves, or that nobody is there. A sink of one's own says so by this.
    #[error("{reason}")]
    Refused {
        /// What was said.
        reason: String,
        /// What is refused.
        refusal: Refusal,
        /// Which rows of the delivery, where that is known: all before them were taken.
        rows: Option<Range<usize>>,
    },
    /// Rows were refused for good, but letters are being taken out of the file that they would have gone to: which of
    /// them are still to be delivered is known in a moment.
    #[error(
        "rows were refused while letters were taken out of their file: what is left of them is tried again"
    )]
    LettersHeld,
    /// Records stand in a state directory and nowhere else.
    #[error(
        "{name:?} holds what was posted, which stands nowhere else and would be deleted: listen for \
         more (--listen), or begin with another state directory"
    )]
    WouldBeLost {
        /// The stream's name.
        name: String,
    },
    /// The program has no such part.
    #[error("this program was built without {feature}; build it with --features {}", feature.name())]
    NotBuilt {
        /// Which.
        feature: Feature,
    },
    /// A thread could not be started.
    #[error("source {name:?}: cannot start a thread: {source}")]
    Thread {
        /// The source's name.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The source's code panicked: a defect of this program.
    #[error("source {name:?} panicked: {message}")]
    Panicked {
        /// The source's name.
        name: String,
        /// The panic's message.
        message: String,
    },
}

impl Error {
    /// Whether the same would be refused again, whatever is mended outside: [`Refusal`] says which are.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// The same, where it is known which rows of a delivery were refused.
    #[cfg(feature = "http")]
    pub(crate) fn of_rows(self, of: Range<usize>) -> Self {
        match self {
            Self::Refused {
                reason, refusal, ..
            } => Self::Refused {
                reason,
                refusal,
                rows: Some(of),
            },
            other => other,
        }
    }

    /// How long the other side asks to be left alone before the same is tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Webhook { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
