//! How do rows that are posted come into a table, and when are they there for good?
//!
//! A source has a thread that the engine drains, and hears from it how far it has got. A table is fed by
//! calls: so a thread of each table makes them, in the order of the requests, and waits for what came of
//! each. It sends on while it waits, up to a bound; then requests wait in their queue, and are refused
//! when that is full.
//!
//! # Invariants
//! - Where a view has spent what it may, requests are made all the same. When they are visible is asked again
//!   after a pause, in which the thread does not sleep.
//! - What is told of a request holds for all before it: so of those that wait for a view, the last is asked
//!   for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, at, never, select};
use perennial_connectors::{Batch, Change, HttpInlet, Offset};
use perennial_views::Epoch;

use crate::engine::{Edit, Engine, Error, Flushing};

/// Requests that are not visible yet, while further ones are sent on.
const MAX_UNDER_WAY: usize = 64;
/// After how long it is asked again where a view has spent what it may.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread that feeds a table. It ends with this.
pub(super) struct TableFeed {
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl TableFeed {
    /// Feeds a table with what comes out of an inlet.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(engine: Engine, table: &str, inlet: HttpInlet) -> std::io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let name = table.to_owned();
        let thread = std::thread::Builder::new()
            .name(format!("table {name}"))
            .spawn(move || {
                let mut feeding = Feeding {
                    engine,
                    table: name,
                    inlet,
                    under_way: VecDeque::new(),
                    held: None,
                };
                feeding.run(&stopped);
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for TableFeed {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What it panics with is on standard error.
            let _ = thread.join();
        }
    }
}

struct Feeding {
    engine: Engine,
    table: String,
    inlet: HttpInlet,
    /// By where each request ends, and when it is visible.
    under_way: VecDeque<(Offset, Flushing)>,
    /// Present while a view has spent what it may; then nothing is under way.
    held: Option<Held>,
}

/// Requests that a view lets wait until it may spend more.
struct Held {
    /// Where the last of them ends.
    upto: Offset,
    /// When it is asked again whether they are visible.
    retry_at: Instant,
}

impl Feeding {
    fn run(&mut self, stopped: &Receiver<Infallible>) {
        let (no_request, no_outcome) = (never(), never());
        loop {
            let has_room = self.under_way.len() < MAX_UNDER_WAY;
            let requests = if has_room {
                self.inlet.requests()
            } else {
                &no_request
            };
            let first = self.under_way.front();
            let outcomes = first.map_or(&no_outcome, |(_, flushing)| flushing.told());
            let retry = self.held.as_ref().map_or(never(), |held| at(held.retry_at));
            let goes_on = select! {
                recv(requests) -> request => match request {
                    Ok(request) => self.take(request.into_batch()).is_ok(),
                    Err(_) => false,
                },
                recv(outcomes) -> outcome => match outcome {
                    Ok(outcome) => self.hear(outcome).is_ok(),
                    Err(_) => false,
                },
                recv(retry) -> _ => self.retry().is_ok(),
                recv(stopped) -> _ => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Makes the changes of a request.
    fn take(&mut self, batch: Batch) -> Result<(), Error> {
        let (trace, changes) = (batch.trace, batch.changes.into_iter());
        let edits = changes.map(|change| match change {
            Change::Upsert(record) => Edit::row(&self.table, record.key, record.row),
            Change::Delete { key, .. } => Edit::delete(&self.table, key),
        });
        self.engine.apply_of(edits.collect(), trace)?;
        match (batch.resume, &mut self.held) {
            (None, _) => {}
            (Some(upto), Some(held)) => held.upto = upto,
            (Some(upto), None) => self.wait_for(upto)?,
        }
        Ok(())
    }

    /// Waits until all up to a place is visible.
    fn wait_for(&mut self, upto: Offset) -> Result<(), Error> {
        let flushing = self.engine.begin_flush()?;
        self.under_way.push_back((upto, flushing));
        Ok(())
    }

    /// What came of the first that is under way.
    fn hear(&mut self, outcome: Result<Option<Epoch>, Error>) -> Result<(), Error> {
        match outcome {
            Ok(epoch) => {
                if let Some((upto, _)) = self.under_way.pop_front() {
                    self.inlet.committed(&upto, epoch);
                }
                Ok(())
            }
            // Those behind it wait for the same view.
            Err(Error::OverBudget { .. }) => {
                let last = self.under_way.drain(..).next_back();
                self.held = last.map(|(upto, _)| Held {
                    upto,
                    retry_at: Instant::now() + PAUSE,
                });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Asks again when what was held is visible.
    fn retry(&mut self) -> Result<(), Error> {
        match self.held.take() {
            Some(held) => self.wait_for(held.upto),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perennial_ask::scripted::{Scripted, ScriptedEmbedder};
    use perennial_connectors::{HttpIntake, HttpLimits};

    use super::*;
    use crate::engine::Runtime;

    fn feeding() -> Feeding {
        let embedder = Arc::new(ScriptedEmbedder::default());
        let runtime = Runtime::scripted(Arc::new(Scripted::new()), embedder);
        let engine = Engine::builder(runtime).table("notes");
        let intake = HttpIntake::new(HttpLimits::default());
        Feeding {
            engine: engine.start().expect("starts"),
            table: "notes".to_owned(),
            inlet: intake.inlet("notes", None).expect("a name"),
            under_way: VecDeque::new(),
            held: None,
        }
    }

    fn upto(last: u64) -> Offset {
        Offset::Posted { run: 1, last }
    }

    fn request(last: u64) -> Batch {
        Batch {
            resume: Some(upto(last)),
            ..Batch::default()
        }
    }

    fn over_budget() -> Result<Option<Epoch>, Error> {
        Err(Error::OverBudget {
            view: "answers".to_owned(),
            budget: "CALLS_PER_HOUR = 1".to_owned(),
            resumes_at: "later".to_owned(),
        })
    }

    #[test]
    fn what_a_view_lets_wait_is_one_question_and_requests_are_taken_meanwhile() {
        let mut feeding = feeding();
        let held = |feeding: &Feeding| feeding.held.as_ref().map(|held| held.upto.clone());
        for last in 1..=3 {
            feeding.take(request(last)).expect("runs");
        }
        assert_eq!(feeding.under_way.len(), 3);
        feeding.hear(over_budget()).expect("it goes on");
        assert_eq!(
            (held(&feeding), feeding.under_way.len()),
            (Some(upto(3)), 0)
        );
        // Whatever comes meanwhile is taken, and asked for with the rest.
        for last in 4..=9 {
            feeding.take(request(last)).expect("runs");
        }
        assert_eq!(
            (held(&feeding), feeding.under_way.len()),
            (Some(upto(9)), 0)
        );
        feeding.retry().expect("runs");
        assert_eq!(held(&feeding), None);
        let under_way: Vec<&Offset> = feeding.under_way.iter().map(|(upto, _)| upto).collect();
        assert_eq!(under_way, [&upto(9)]);
        feeding.hear(over_budget()).expect("it goes on");
        assert_eq!(held(&feeding), Some(upto(9)));
        feeding.retry().expect("runs");
        feeding.hear(Ok(Some(7))).expect("it goes on");
        assert!(feeding.under_way.is_empty() && feeding.held.is_none());
    }
}
