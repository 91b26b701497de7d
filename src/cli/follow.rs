//! The loop of every command that keeps a view: updates in, epochs gathered and shown,
//! until the user, the sources or the command say that it is over.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use perennial::connectors::Rejected;
use perennial::engine::{EpochStart, Progress};
use perennial::{Engine, Subscription, Update};

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::report::{EpochReport, Gathering};

/// How often the loop looks up when nothing comes.
const IDLE: Duration = Duration::from_millis(50);
/// Streams of the program's view: documents and questions.
const N_STREAMS: usize = 2;

/// Where updates are shown.
pub(crate) trait Display {
    /// An epoch begins.
    fn started(&mut self, start: &EpochStart) -> io::Result<()>;
    /// Something goes on.
    fn progress(&mut self, progress: &Progress) -> io::Result<()>;
    /// An epoch is complete.
    fn epoch(&mut self, report: &EpochReport) -> io::Result<()>;
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
    engine: &mut Engine,
    updates: &Subscription,
    display: &mut D,
    course: &mut impl Course<D>,
    interrupt: &Interrupt,
) -> Result<Ending, Failure> {
    let mut gathering = Gathering::default();
    let mut ended = BTreeSet::new();
    let outcome = loop {
        if interrupt.is_raised() {
            break Ok(Ending::Interrupted);
        }
        let next = match updates.recv_timeout(IDLE) {
            Ok(Some(update)) => take(update, display, course, &mut gathering, &mut ended),
            Ok(None) => Err(perennial::Error::Stopped {
                reason: "see the messages above".to_owned(),
            }
            .into()),
            Err(_) if ended.len() == N_STREAMS && !gathering.is_under_way() => {
                // What came last may still wait for its epoch: after this, it is delivered.
                match engine.flush() {
                    Ok(_) => rest(updates, display, course, &mut gathering, &mut ended),
                    Err(error) => Err(error.into()),
                }
            }
            Err(_) => course.idle(gathering.is_under_way()),
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

/// Shows what is there already, and finishes.
fn rest<D: Display>(
    updates: &Subscription,
    display: &mut D,
    course: &mut impl Course<D>,
    gathering: &mut Gathering,
    ended: &mut BTreeSet<String>,
) -> Result<Next, Failure> {
    while let Some(update) = updates.try_recv() {
        take(update, display, course, gathering, ended)?;
    }
    Ok(Next::Finish)
}

fn take<D: Display>(
    update: Update,
    display: &mut D,
    course: &mut impl Course<D>,
    gathering: &mut Gathering,
    ended: &mut BTreeSet<String>,
) -> Result<Next, Failure> {
    let shown = match update {
        Update::EpochStarted(start) => {
            let shown = display.started(&start);
            gathering.start(start);
            shown
        }
        Update::Answer(answer) => {
            gathering.answer(answer);
            Ok(())
        }
        Update::EpochComplete(summary) => {
            let report = gathering.complete(summary);
            display.epoch(&report).map_err(Failure::output)?;
            return course.after(&report, display);
        }
        Update::Progress(progress) => display.progress(&progress),
        Update::Rejected(rejected) => display.rejected(&rejected),
        Update::Notice { source, message } => display.notice(&source, &message),
        Update::SourceEnded { source } => {
            ended.insert(source);
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
