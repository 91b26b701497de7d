//! How do rows that are posted come into a table, and when are they there for good?
//!
//! A source has a thread that the engine drains, and hears from it how far it has got. A table is fed by
//! calls: so a thread of each table makes them, in the order of the requests, and waits for what came of
//! each. It sends on while it waits, up to a bound; then requests wait in their queue, and are refused
//! when that is full.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, select};
use perennial_connectors::{Batch, Change, HttpInlet, Offset};

use crate::engine::{Edit, Engine, Error, Flushing};

/// Requests that are not visible yet, while further ones are sent on.
const MAX_UNDER_WAY: usize = 64;
/// How long to wait where a view has spent what it may.
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
            let goes_on = select! {
                recv(requests) -> request => match request {
                    Ok(request) => self.take(request.into_batch()).is_ok(),
                    Err(_) => false,
                },
                recv(outcomes) -> outcome => match outcome {
                    Ok(Ok(epoch)) => {
                        if let Some((offset, _)) = self.under_way.pop_front() {
                            self.inlet.committed(&offset, epoch);
                        }
                        true
                    }
                    Ok(Err(Error::OverBudget { .. })) => self.wait_on(stopped).is_ok(),
                    Ok(Err(_)) | Err(_) => false,
                },
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
        if let Some(offset) = batch.resume {
            self.under_way
                .push_back((offset, self.engine.begin_flush()?));
        }
        Ok(())
    }

    /// A view lets the changes wait until it may spend more.
    fn wait_on(&mut self, stopped: &Receiver<Infallible>) -> Result<(), Error> {
        // It is never told anything but its end.
        let is_over =
            stopped.recv_timeout(PAUSE) == Err(crossbeam_channel::RecvTimeoutError::Disconnected);
        if is_over {
            return Err(Error::Dropped);
        }
        let again = self.engine.begin_flush()?;
        if let Some(first) = self.under_way.front_mut() {
            first.1 = again;
        }
        Ok(())
    }
}
