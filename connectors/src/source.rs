//! What does a source promise, and what does it emit?
//!
//! ```text
//!             start            first state emitted            nothing more can come
//!   (opened) ------> scanning --------------------> live ------------------------> Ended
//!                       |  Batch* CaughtUp           |  Batch*
//!                       +----------------------------+--- cannot go on -----------> Failed
//!                       +----------------------------+--- StopFlag raised --------> (silence)
//! ```
//! `Notice`s may stand anywhere before the end, and so may `StartedOver`, behind which comes `SaidAgain`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, select};

use perennial_rows::{Key, Row, Schema};

use crate::{
    Acks, Change, Error, KeyScope, LeftOut, Offset, Rejected, SourceName, StopFlag, TraceParent,
};

/// Something outside whose changes can be followed.
///
/// # Contract
/// 1. All of the first state is emitted, in batches, before [`Event::CaughtUp`], which comes
///    exactly once unless the source fails or is stopped first. *(tested)*
/// 2. Folding the changes in order gives what a new run would give on the outside as it now
///    stands. Behind an [`Event::StartedOver`], whoever folds drops at the [`Event::SaidAgain`] what was
///    not named in between, and goes on from no offset that came in between before that. A batch is what
///    belongs together (a burst of saves, a run of lines): apply it whole, in order, as one epoch. *(tested; breaking it breaks silently)*
/// 3. A change is emitted only where something differs: an upsert's digest is new for its key, a
///    deletion is of a key that is held. This holds for folders, where a file's time is part of it, but for a
///    file that could not be read for a while, which is said again. A file
///    of JSON lines says what it says: whoever folds must take a repeated upsert and the deletion of an
///    unknown key.
/// 4. What cannot be a record is a [`Rejected`], in the batch where it was noticed. If an
///    earlier version was held under that file, the same batch deletes it.
/// 5. `run` returns within 100 ms of its [`StopFlag`] being raised, whether it waits for the
///    outside or for a slow receiver, and it has ended its threads. It emits nothing after.
/// 6. No buffer grows with the input: what is read at once is capped. A batch may hold all
///    documents of a folder, which whoever keeps them holds anyway.
pub trait Source: Send + 'static {
    /// The name under which its records are known.
    fn name(&self) -> &SourceName;

    /// Told before it runs what an earlier run emitted, and says how it goes on.
    fn resume_from(&mut self, _from: Resume) -> Resumption {
        Resumption::Anew
    }

    /// Who is to be told, while it runs, how far what it emits is there for good; asked once,
    /// before it runs. By default nobody.
    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        None
    }

    /// Told before it runs which columns its records are to have. Whoever declares them sees to
    /// it ([`Declared`](crate::Declared)); a source needs to listen only where it would refuse a
    /// record because it has no text, which is not needed if it is not declared.
    fn declare(&mut self, _schema: &Schema) {}

    /// The columns that its records have, where these are declared.
    fn schema(&self) -> Option<&Schema> {
        None
    }

    /// Whether it would say once more, run anew, what it has said: what is posted to it is said once.
    fn replays(&self) -> bool {
        true
    }

    /// Emits into `out` until nothing more can come.
    ///
    /// # Errors
    /// [`Halt::Stopped`] when asked to stop, [`Halt::Failed`] when it cannot go on.
    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt>;
}

impl Source for Box<dyn Source> {
    fn name(&self) -> &SourceName {
        (**self).name()
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        (**self).resume_from(from)
    }

    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        (**self).acks()
    }

    fn declare(&mut self, schema: &Schema) {
        (**self).declare(schema);
    }

    fn schema(&self) -> Option<&Schema> {
        (**self).schema()
    }

    fn replays(&self) -> bool {
        (**self).replays()
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        (*self).run(out)
    }
}

/// What an earlier run emitted.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// The records held. What of a record tells whether it has changed is the source's to say.
    pub held: Vec<(Key, Row)>,
    /// The last [`Batch::resume`].
    pub offset: Option<Offset>,
}

/// How a source goes on after an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// It begins anew: all that stands is emitted, and what is not is no more.
    Anew,
    /// From the records held: what is unchanged is not emitted again, what has gone
    /// meanwhile is deleted.
    FromHeld,
    /// From the offset: what came before it stands.
    FromOffset,
}

/// What a source emits.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// What changed since the last batch.
    Batch(Batch),
    /// The source's first state has been emitted whole.
    CaughtUp,
    /// It reads from a beginning again, of something else: what it said before stands, of no known time,
    /// until it is said again, or is not.
    StartedOver(KeyScope),
    /// What it has not said again since it started over is gone.
    SaidAgain(KeyScope),
    /// Something the user should know; nothing to do.
    Notice(Notice),
    /// Nothing more can come. The last event.
    Ended,
    /// The source cannot go on. The last event.
    Failed(Error),
}

/// Changes that belong together, with what was refused beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes, to be applied in order.
    pub changes: Vec<Change>,
    /// What was refused.
    pub rejected: Vec<Rejected>,
    /// Where a run would resume that has all up to this batch: the next line of a file of
    /// lines. None for folders, which resume from digests.
    pub resume: Option<Offset>,
    /// Of which trace it is a part, where whoever sent it says so.
    pub trace: Option<TraceParent>,
}

impl Batch {
    /// Whether there is nothing in it to apply or report.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.rejected.is_empty()
    }
}

/// Something the user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Changes are found by looking every so often, since the system does not report them.
    Polling {
        /// How often.
        every: Duration,
        /// Why, and what could be done about it.
        reason: String,
    },
    /// Files or folders that were left out; told once for each rule.
    LeftOut {
        /// By which rule.
        rule: LeftOut,
        /// How many, as far as was looked.
        count: u64,
        /// One of them.
        example: PathBuf,
    },
    /// A followed file was cut or replaced; it is read again from its beginning.
    StartedOver {
        /// Which file.
        path: PathBuf,
    },
    /// A topic was deleted and made anew. It is read from its beginning ([`Event::StartedOver`]).
    Recreated {
        /// Which topic.
        topic: String,
    },
    /// Messages of a topic that is compacted were removed before they were read, deletions perhaps among
    /// them. It is read from its beginning ([`Event::StartedOver`]).
    Compacted {
        /// Which topic.
        topic: String,
    },
    /// Messages were removed by the topic's retention before they were read.
    Lost {
        /// Which topic.
        topic: String,
        /// Which of its partitions.
        partition: i32,
        /// The first offset that was not read.
        from: i64,
        /// Where reading goes on.
        to: i64,
    },
    /// What is to be read cannot be reached; it is tried again and again.
    Unreachable {
        /// What is waited for.
        what: String,
        /// Why.
        reason: String,
    },
    /// Another folder has a watched one's name, or it is a start, and it holds no document: those of before
    /// are kept until it holds some.
    Emptied {
        /// Which folder.
        path: PathBuf,
        /// How many documents are kept.
        documents: u64,
    },
    /// A file was cut to nothing, or an empty one has its name: what it said is kept until it holds a
    /// line.
    EmptiedFile {
        /// Which file.
        path: PathBuf,
    },
    /// An earlier run read it beside others, and it is not to be read any more: its records are deleted.
    NotRead {
        /// What was read.
        what: String,
        /// How many of its records stood.
        records: u64,
    },
    /// A followed file or folder is gone; its return is awaited.
    Awaiting {
        /// Which one.
        path: PathBuf,
    },
    /// A followed file's last line has no line end yet; the rest is awaited.
    Unfinished {
        /// Which line.
        offset: Offset,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Polling { every, reason } => {
                write!(f, "looking for changes every {every:?}: {reason}")
            }
            Self::LeftOut {
                rule,
                count,
                example,
            } => {
                write!(f, "left out: {count}, {rule} (as {})", example.display())
            }
            Self::StartedOver { path } => {
                write!(
                    f,
                    "{}: cut or replaced, read again from its beginning",
                    path.display()
                )
            }
            Self::Recreated { topic } => write!(
                f,
                "topic {topic:?} was deleted and made anew: it is read from its beginning"
            ),
            Self::Compacted { topic } => write!(
                f,
                "topic {topic:?} was compacted before all of it was read, and deletions may have gone \
                 with it: it is read from its beginning"
            ),
            Self::Lost {
                topic,
                partition,
                from,
                to,
            } => write!(
                f,
                "{topic}/{partition}: messages {from} to {} were removed before they were read; \
                 lengthen the topic's retention",
                to - 1
            ),
            Self::Unreachable { what, reason } => write!(f, "waiting for {what}: {reason}"),
            Self::Emptied { path, documents } => write!(
                f,
                "{}: nothing is in it; was something unmounted? Unless that is to be believed \
                 (believe-empty), the documents of before are kept until it holds some: {documents}",
                path.display()
            ),
            Self::EmptiedFile { path } => write!(
                f,
                "{}: no record is in it any more; unless that is to be believed (believe-empty), what it \
                 said is kept until it holds one",
                path.display()
            ),
            Self::NotRead { what, records } => {
                let records = match records {
                    1 => "1 record, which is".to_owned(),
                    n => format!("{n} records, which are"),
                };
                write!(
                    f,
                    "{what}: not named any more; an earlier run read {records} deleted. Name it again to \
                     have what it holds"
                )
            }
            Self::Awaiting { path } => write!(f, "{}: gone, waiting for it", path.display()),
            Self::Unfinished { offset } => {
                write!(
                    f,
                    "{offset}: the last line has no line end yet, waiting for its rest"
                )
            }
        }
    }
}

/// Why a source stops before its end.
#[derive(Debug)]
pub enum Halt {
    /// It was asked to, or nobody listens any more.
    Stopped,
    /// It cannot go on.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Where a source puts its events: a bounded channel that gives way to the stop flag.
pub struct Outlet {
    sender: Sender<Event>,
    stop: StopFlag,
    /// What becomes of a batch on its way.
    refit: Option<Refit>,
}

/// Makes another batch of one.
pub(crate) type Refit = Arc<dyn Fn(Batch) -> Batch + Send + Sync>;

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

impl Outlet {
    /// Events go to `sender` until `stop` is raised.
    pub fn new(sender: Sender<Event>, stop: StopFlag) -> Self {
        Self {
            sender,
            stop,
            refit: None,
        }
    }

    /// The same outlet for a source whose batches become others on their way.
    pub(crate) fn refitted(&self, refit: Refit) -> Self {
        let refit: Refit = match self.refit.clone() {
            Some(after) => Arc::new(move |batch| after(refit(batch))),
            None => refit,
        };
        Self {
            sender: self.sender.clone(),
            stop: self.stop.clone(),
            refit: Some(refit),
        }
    }

    /// The flag that ends the source.
    pub fn stop(&self) -> &StopFlag {
        &self.stop
    }

    /// Emits an event, waiting for room.
    ///
    /// # Errors
    /// [`Halt::Stopped`] if the flag is raised or the receiver is gone.
    pub fn send(&self, event: Event) -> Result<(), Halt> {
        self.check()?;
        let event = match (event, &self.refit) {
            (Event::Batch(batch), Some(refit)) => {
                let batch = refit(batch);
                // Nothing of it is left, and no place to go on from.
                if batch.is_empty() && batch.resume.is_none() {
                    return Ok(());
                }
                Event::Batch(batch)
            }
            (event, _) => event,
        };
        select! {
            send(self.sender, event) -> sent => sent.map_err(|_| Halt::Stopped),
            recv(self.stop.signal()) -> _ => Err(Halt::Stopped),
        }
    }

    /// Emits a batch, unless there is nothing in it.
    ///
    /// # Errors
    /// As [`Outlet::send`].
    pub fn batch(&self, batch: Batch) -> Result<(), Halt> {
        if batch.is_empty() {
            self.check()
        } else {
            self.send(Event::Batch(batch))
        }
    }

    /// Emits a notice.
    ///
    /// # Errors
    /// As [`Outlet::send`].
    pub fn notice(&self, notice: Notice) -> Result<(), Halt> {
        self.send(Event::Notice(notice))
    }

    /// Waits for a time.
    ///
    /// # Errors
    /// [`Halt::Stopped`] if the flag is raised meanwhile.
    pub fn wait(&self, time: Duration) -> Result<(), Halt> {
        if self.stop.wait(time) {
            Err(Halt::Stopped)
        } else {
            Ok(())
        }
    }

    /// Looks at the flag: for the inside of long loops.
    ///
    /// # Errors
    /// [`Halt::Stopped`] if the flag is raised.
    pub fn check(&self) -> Result<(), Halt> {
        if self.stop.raised() {
            Err(Halt::Stopped)
        } else {
            Ok(())
        }
    }
}
