//! The loop of every command that keeps a view: updates in, epochs gathered and shown,
//! until the user, the sources or the command say that it is over.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use perennial::connectors::Rejected;
use perennial::engine::Flushing;
use perennial::engine::{AnswerUpdate, EpochStart, Progress, RowsUpdate};
use perennial::rows::Schema;
use perennial::{Engine, Subscription, Update};
use perennial_views::Epoch;

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::report::{EpochReport, Gathering};

/// How often the loop looks up when nothing comes.
const IDLE: Duration = Duration::from_millis(50);
/// How often it looks up where several views may have something to say.
const GLANCE: Duration = Duration::from_millis(10);

/// What is followed.
pub(crate) struct Followed<'a> {
    /// The engine that says it.
    pub(crate) engine: &'a Engine,
    /// The views.
    pub(crate) feeds: &'a [Feed],
    /// Sources, which may end; with all of them, it is over.
    pub(crate) n_sources: usize,
}

/// What a view says.
pub(crate) struct Feed {
    /// Its name.
    pub(crate) view: Arc<str>,
    /// Where it comes.
    pub(crate) updates: Subscription,
    /// Answers and rows of this epoch and before are not shown.
    pub(crate) after: Option<Epoch>,
    /// The view's columns.
    pub(crate) columns: Schema,
}

/// Where updates are shown.
pub(crate) trait Display {
    /// An epoch begins.
    fn started(&mut self, start: &EpochStart) -> io::Result<()>;
    /// Something goes on.
    fn progress(&mut self, progress: &Progress) -> io::Result<()>;
    /// An answer is there before its epoch is complete.
    fn early(&mut self, update: &AnswerUpdate) -> io::Result<()>;
    /// An epoch is complete.
    fn epoch(&mut self, report: &EpochReport) -> io::Result<()>;
    /// Rows of a query came and went.
    fn rows(&mut self, update: &RowsUpdate, columns: &Schema) -> io::Result<()>;
    /// A record went to quarantine.
    fn rejected(&mut self, rejected: &Rejected) -> io::Result<()>;
    /// Something to know about a source.
    fn notice(&mut self, source: &str, message: &str) -> io::Result<()>;
    /// A source failed; nothing follows but the end.
    fn failed(&mut self, source: &str, message: &str) -> io::Result<()>;
    /// It is over.
    fn end(&mut self) -> io::Result<()>;
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for what comes.
    GoOn,
    /// It is over.
    Finish,
}

/// What a command does about epochs.
pub(crate) trait Course<D> {
    /// After an epoch was shown.
    ///
    /// # Errors
    /// What ends the command.
    fn after(&mut self, report: &EpochReport, display: &mut D) -> Result<Next, Failure>;

    /// While nothing comes; `is_under_way` says whether an epoch has begun.
    ///
    /// # Errors
    /// What ends the command.
    fn idle(&mut self, is_under_way: bool) -> Result<Next, Failure> {
        let _ = is_under_way;
        Ok(Next::GoOn)
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself.
    Finished,
    /// By the user.
    Interrupted,
}

/// Shows updates until the end.
///
/// # Errors
/// A source's failure, the engine's, or that of writing.
pub(crate) fn follow<D: Display>(
    followed: &Followed<'_>,
    display: &mut D,
    course: &mut impl Course<D>,
    interrupt: &Interrupt,
) -> Result<Ending, Failure> {
    let feeds = followed.feeds;
    let mut showing = Showing {
        gatherings: feeds.iter().map(|_| Gathering::default()).collect(),
        ended: BTreeSet::new(),
        turn: 0,
    };
    // What came last may still wait for its epoch: after a flush, it is delivered.
    let mut flushing: Option<Flushing> = None;
    let outcome = loop {
        if interrupt.is_raised() {
            break Ok(Ending::Interrupted);
        }
        let next = match showing.arrival(feeds) {
            Arrival::Update(at, update) => showing.take(&feeds[at], at, *update, display, course),
            Arrival::Stopped => Err(perennial::Error::Stopped {
                reason: "see the messages above".to_owned(),
            }
            .into()),
            Arrival::Nothing => match flushing.as_ref().map(Flushing::outcome) {
                Some(Some(Err(error))) => Err(error.into()),
                Some(Some(Ok(_))) => {
                    flushing = None;
                    showing.rest(feeds, display, course)
                }
                None if showing.ended.len() == followed.n_sources => {
                    match followed.engine.begin_flush() {
                        Ok(begun) => {
                            flushing = Some(begun);
                            Ok(Next::GoOn)
                        }
                        Err(error) => Err(error.into()),
                    }
                }
                _ => course.idle(showing.is_under_way()),
            },
        };
        match next {
            Ok(Next::GoOn) => {}
            Ok(Next::Finish) => break Ok(Ending::Finished),
            Err(failure) => break Err(failure),
        }
    };
    if !matches!(outcome, Err(Failure::OutputClosed)) {
        display.end().map_err(Failure::output)?;
    }
    outcome
}

/// What came.
enum Arrival {
    /// An update of the feed at this place.
    Update(usize, Box<Update>),
    /// The engine has stopped.
    Stopped,
    /// Nothing, for a while.
    Nothing,
}

/// How far the showing is.
struct Showing {
    /// For each feed, what its present epoch has brought.
    gatherings: Vec<Gathering>,
    /// The sources that have ended.
    ended: BTreeSet<String>,
    /// The feed that is looked at first, so that none is overheard for another.
    turn: usize,
}

impl Showing {
    fn is_under_way(&self) -> bool {
        self.gatherings.iter().any(Gathering::is_under_way)
    }

    /// The next update of any feed.
    fn arrival(&mut self, feeds: &[Feed]) -> Arrival {
        let patience = if feeds.len() == 1 {
            IDLE
        } else {
            Duration::ZERO
        };
        for step in 0..feeds.len() {
            let at = (self.turn + step) % feeds.len();
            match feeds[at].updates.recv_timeout(patience) {
                Ok(Some(update)) => {
                    self.turn = at + 1;
                    return Arrival::Update(at, Box::new(update));
                }
                Ok(None) => return Arrival::Stopped,
                Err(_) => {}
            }
        }
        if feeds.len() != 1 {
            std::thread::sleep(GLANCE);
        }
        Arrival::Nothing
    }

    /// Shows what is there already, and finishes.
    fn rest<D: Display>(
        &mut self,
        feeds: &[Feed],
        display: &mut D,
        course: &mut impl Course<D>,
    ) -> Result<Next, Failure> {
        for (at, feed) in feeds.iter().enumerate() {
            while let Some(update) = feed.updates.try_recv() {
                self.take(feed, at, update, display, course)?;
            }
        }
        Ok(Next::Finish)
    }

    fn take<D: Display>(
        &mut self,
        feed: &Feed,
        at: usize,
        update: Update,
        display: &mut D,
        course: &mut impl Course<D>,
    ) -> Result<Next, Failure> {
        let gathering = &mut self.gatherings[at];
        let is_news = |epoch| feed.after.is_none_or(|after| epoch > after);
        let shown = match update {
            Update::EpochStarted(start) => {
                let shown = display.started(&start);
                gathering.start(start);
                shown
            }
            Update::Answer(answer) => {
                if !is_news(answer.epoch) {
                    Ok(())
                } else if answer.is_early {
                    let news = gathering.early(answer);
                    news.map_or(Ok(()), |news| display.early(&news))
                } else {
                    gathering.answer(answer);
                    Ok(())
                }
            }
            Update::Rows(rows) if is_news(rows.epoch) => display.rows(&rows, &feed.columns),
            Update::EpochComplete(summary) => {
                let report = gathering.complete(summary);
                display.epoch(&report).map_err(Failure::output)?;
                return course.after(&report, display);
            }
            Update::Progress(progress) => display.progress(&progress),
            // What sources say is said to every view; once is enough.
            Update::Rejected(rejected) if at == 0 => display.rejected(&rejected),
            Update::Notice { source, message } if at == 0 || *source == *feed.view => {
                display.notice(&source, &message)
            }
            Update::SourceEnded { source } => {
                self.ended.insert(source);
                Ok(())
            }
            Update::SourceFailed { source, message } => {
                display.failed(&source, &message).map_err(Failure::output)?;
                return Err(Failure::SourceFailed {
                    source_name: source,
                    message,
                });
            }
            Update::Failed { reason } => {
                display.failed("engine", &reason).map_err(Failure::output)?;
                return Err(perennial::Error::Stopped { reason }.into());
            }
            Update::Lagged { n_dropped } => {
                display.notice("program", &format!("{n_dropped} notices were dropped"))
            }
            _ => Ok(()),
        };
        shown.map_err(Failure::output)?;
        Ok(Next::GoOn)
    }
}
