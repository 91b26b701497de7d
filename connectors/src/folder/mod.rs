//! Which documents does a folder hold, now and after every edit?
//!
//! A [`Folder`] emits all documents below its roots as one batch, then one batch for each burst
//! of edits. Three parts, one question each:
//! - `watch`: *where* may something have changed? The system's notifications, gathered until
//!   they pause. They are hints only, and may be late, doubled or wrong.
//! - `snapshot`: *what* has changed? The touched places are read again and compared, by
//!   digest, with what was emitted. Renames, saves through a temporary file, files that become
//!   folders: all are differences between two states, and need no rules of their own.
//! - `listing`: what stands there? `document`: what does a file say? Its text, or why it is none;
//!   `extract`: what does it show, if it is no plain text?
//!
//! Invariants: the truth is what reading gives, never what a notification says; watching
//! begins before the first scan, so nothing falls between; once a minute everything is compared
//! by its file times, so that a notification lost by the system is a delay, not an error.
//!
//! A file's columns are its `path` below the watched root (behind the root's name where several are
//! watched), its `size` in bytes, the time `modified` when it was written, and its front matter,
//! which has the last word. A file that is touched is another version of its document.
//!
//! A root that goes away, or cannot be listed, is awaited; what could not be read is looked at again
//! soon. What stands meanwhile is what stood. So it is where nothing is in a root any more, which is
//! another folder than before or, at a start, held documents in an earlier run.
//!
//! Which files are documents says `filter`, by names and by patterns, and say the ignore files that
//! lie among them (`ignore_files`); how one is read says `kind`. Names that begin with a dot are
//! skipped, and folders that hold what programs make (`node_modules`, `target`, …; see
//! [`Folder::skip_folders`]). What is left out is told once, by rule. A folder that is left out is
//! neither listed nor watched.
//!
//! Symbolic links below a root are not followed (no loops, nothing read twice, nothing from
//! elsewhere) but reported; but for a link to a file that lies in the same root where nothing is
//! read (`listing`).

mod document;
#[cfg_attr(not(feature = "documents"), path = "../absent/extract.rs")]
mod extract;
mod filter;
mod front_matter;
mod globs;
mod ignore_files;
mod kind;
mod left_out;
mod listing;
mod place;
mod snapshot;
mod stamp;
mod title;
mod watch;

use std::path::Path;
use std::time::Duration;

use perennial_rows::Key;

use crate::{Digest, Error, Event, Halt, Notice, Outlet, Resume, Resumption, Source, SourceName};

pub use globs::glob_list;
pub use left_out::LeftOut;

use filter::Filter;
use globs::Globs;
use place::Roots;
use snapshot::{Snapshot, Touched};
use watch::{Burst, Watcher};

/// Files over this many bytes are refused, unless said otherwise: 8 MiB.
const SIZE_LIMIT: u64 = 8 << 20;
/// When to look again at what could not be read.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often to look whether a folder is back.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A file that was written less than this ago may be in the middle of it.
const REST: Duration = Duration::from_millis(100);
/// How often to look where the system cannot notify.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Column of a file's path.
const PATH: &str = "path";
/// Column of the time when a file was written.
const MODIFIED: &str = "modified";
/// Column of a file's bytes.
const SIZE: &str = "size";

/// How a folder's changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// By the system's notifications; where it has none, or has no more watches to give, by
    /// looking every second, which is said in a [`Notice::Polling`].
    Auto,
    /// By looking every so often: for file systems that do not notify, as network shares.
    Poll {
        /// How often.
        every: Duration,
    },
    /// Not at all: the source ends after its first scan.
    Once,
}

/// Folders of text as a source: one document a file, keyed by its path.
///
/// ```
/// use perennial_connectors::{Change, Event, Folder, Watching, start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("note.md"), "# A note\n\nIts text.\n")?;
/// let folder = Folder::open("notes", [dir.path()])?.watching(Watching::Once);
/// let running = start(folder, 16)?;
/// for event in running.events() {
///     if let Event::Batch(batch) = event {
///         let Change::Upsert(record) = &batch.changes[0] else { unreachable!() };
///         assert_eq!(record.key.as_str(), "note.md");
///         assert_eq!(record.row.title.as_deref(), Some("A note"));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Folder {
    name: SourceName,
    roots: Roots,
    filter: Filter,
    /// In bytes.
    size_limit: u64,
    watching: Watching,
    burst: Burst,
    believes_empty: bool,
    /// What an earlier run emitted.
    held: Vec<(Key, Digest)>,
}

impl Folder {
    /// A source of the documents below one or several folders. With one, keys are paths below
    /// it; with several, each key begins with the name of its folder. A file is its folder with
    /// nothing else in it, and is read whatever its name.
    ///
    /// # Errors
    /// If a folder is missing or is none, if two have the same name, or if one lies in another.
    pub fn open(
        name: impl Into<String>,
        roots: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            name: SourceName::new(name),
            roots: Roots::open(roots)?,
            filter: Filter::default(),
            size_limit: SIZE_LIMIT,
            watching: Watching::Auto,
            burst: Burst::default(),
            believes_empty: false,
            held: Vec::new(),
        })
    }

    /// Which file names are documents: by extension, without the dot, in any case.
    /// By default `md`, `markdown`, `txt`, `text`, `rst`, `org`, `adoc`, `html`, `htm`, `xhtml`,
    /// `docx` and `pdf`. Of HTML, Word and PDF files the text is taken out; all others are text.
    #[must_use]
    pub fn extensions(mut self, extensions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.filter.set_extensions(extensions);
        self
    }

    /// Which folders are skipped wherever they stand, by name, besides those that begin with a
    /// dot. By default `node_modules`, `target`, `__pycache__` and `venv`.
    #[must_use]
    pub fn skip_folders(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.filter.set_skipped(names);
        self
    }

    /// Patterns of what is a document, instead of the extensions; as of `.gitignore`: `*.rs` is of
    /// names, `docs/**` of paths below the folder, `docs` of all below that. None for those of the
    /// extensions. What no extension claims is read as text.
    ///
    /// # Errors
    /// [`Error::Glob`] for a pattern that is none.
    pub fn include(
        mut self,
        patterns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, Error> {
        self.filter.set_included(globs(patterns)?);
        Ok(self)
    }

    /// Patterns of what is no document, and of folders that are not looked into.
    ///
    /// # Errors
    /// [`Error::Glob`] for a pattern that is none.
    pub fn exclude(
        mut self,
        patterns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, Error> {
        self.filter.set_excluded(globs(patterns)?);
        Ok(self)
    }

    /// Whether `.gitignore` and `.ignore` files say what is left out. By default they do.
    #[must_use]
    pub fn ignore_files(mut self, are_obeyed: bool) -> Self {
        self.filter.obeys_ignore_files = are_obeyed;
        self
    }

    /// The largest file to read, in bytes. By default 8 MiB.
    #[must_use]
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = bytes;
        self
    }

    /// How changes are noticed. By default [`Watching::Auto`].
    #[must_use]
    pub fn watching(mut self, watching: Watching) -> Self {
        self.watching = watching;
        self
    }

    /// What counts as one burst of edits, and so as one batch: changes less than `quiet` apart,
    /// for at most `max_delay`. By default 150 ms and 1 s.
    ///
    /// # Errors
    /// If the longest delay is under the quiet time.
    pub fn burst(mut self, quiet: Duration, max_delay: Duration) -> Result<Self, Error> {
        self.burst = Burst::new(quiet, max_delay)?;
        Ok(self)
    }

    /// Whether a folder in which nothing is any more has lost its documents. By default those of an
    /// earlier run, and of a folder that stood there before, are kept until it holds one
    /// ([`Notice::Emptied`]): something may have been unmounted.
    #[must_use]
    pub fn believe_empty(mut self, is_believed: bool) -> Self {
        self.believes_empty = is_believed;
        self
    }

    /// Begins from what an earlier run emitted, so that the first batch holds only what has
    /// changed since then, deletions included.
    #[must_use]
    pub fn resume(mut self, held: impl IntoIterator<Item = (Key, Digest)>) -> Self {
        self.held = held.into_iter().collect();
        self
    }
}

fn globs(patterns: impl IntoIterator<Item = impl Into<String>>) -> Result<Option<Globs>, Error> {
    let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
    (!patterns.is_empty())
        .then(|| Globs::new(&patterns))
        .transpose()
}

impl Source for Folder {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        let held = from.held.into_iter();
        self.held = held.map(|(key, row)| (key, Digest::dated(&row))).collect();
        Resumption::FromHeld
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let Self {
            name,
            roots,
            filter,
            size_limit,
            watching,
            burst,
            believes_empty,
            held,
        } = *self;
        let mut watcher = match watching {
            Watching::Once => None,
            Watching::Poll { every } if every.is_zero() => {
                return Err(Error::Zero {
                    name: "the polling interval",
                }
                .into());
            }
            Watching::Poll { every } => Some(Watcher::polling(every)),
            Watching::Auto => Some(Watcher::open(&roots, &filter, burst, POLL_EVERY)),
        };
        if let Some(notice) = watcher.as_mut().and_then(Watcher::take_notice) {
            out.notice(notice)?;
        }
        let mut snapshot = Snapshot::new(name, roots, filter, size_limit, held)
            .resting(REST)
            .believing_empty(believes_empty);
        let first = snapshot.reconcile(&Touched::everything(), out)?;
        out.batch(first)?;
        tell(&mut snapshot, out)?;
        out.send(Event::CaughtUp)?;
        let Some(mut watcher) = watcher else {
            return Ok(());
        };
        loop {
            let unread: Vec<_> = snapshot.unread().collect();
            let looks_soon = !unread.is_empty() || snapshot.is_any_emptied();
            let within = looks_soon.then_some(RETRY_EVERY);
            let mut touched = watcher.next(snapshot.roots(), within, out)?;
            touched.paths.extend(unread);
            if snapshot.has_moved() {
                watcher.again(snapshot.roots());
                touched.everything = true;
            }
            if let Some(notice) = watcher.take_notice() {
                out.notice(notice)?;
            }
            let mut is_awaited = false;
            let batch = loop {
                let failed = match snapshot.reconcile(&touched, out) {
                    Ok(batch) => break batch,
                    Err(Halt::Failed(error)) => awaiting(error)?,
                    Err(halt) => return Err(halt),
                };
                if !std::mem::replace(&mut is_awaited, true) {
                    out.notice(failed)?;
                }
                await_all(snapshot.roots(), out)?;
                watcher.again(snapshot.roots());
                touched = Touched::everything();
            };
            out.batch(batch)?;
            tell(&mut snapshot, out)?;
        }
    }
}

/// Tells what was left out by rules that were not told.
fn tell(snapshot: &mut Snapshot, out: &Outlet) -> Result<(), Halt> {
    snapshot
        .take_left_out()
        .into_iter()
        .try_for_each(|notice| out.notice(notice))
}

/// What is said where a folder cannot be listed now, and may be later.
fn awaiting(error: Error) -> Result<Notice, Halt> {
    match error {
        Error::RootGone { path } => Ok(Notice::Awaiting { path }),
        Error::Io { ref path, .. } => Ok(Notice::Unreachable {
            what: path.display().to_string(),
            reason: error.to_string(),
        }),
        other => Err(other.into()),
    }
}

/// Waits until every root can be looked at.
fn await_all(roots: &Roots, out: &Outlet) -> Result<(), Halt> {
    loop {
        out.wait(LOOK_EVERY)?;
        if roots.check().is_ok() {
            return Ok(());
        }
    }
}
