//! Which requests of one stream were taken in, and which are there for good?
//!
//! # Invariants
//! - Requests are numbered from 1 in the order in which the engine gets them, without a gap.
//! - What waits for the engine is bounded: in number by the slots of the queue, in bytes by the
//!   share of what may be held that each brings along.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};
use perennial_rows::Schema;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::token::{Token, UpTo};
use crate::declared::is_textless;
use crate::{Acks, Batch, Change, Offset, SourceName};

/// What requests and the source's thread share of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: SourceName,
    /// Drawn at its start: numbers of two runs cannot be compared.
    pub(super) run: u64,
    /// Places in the queue.
    pub(super) slots: Arc<Semaphore>,
    entry: Mutex<Entry>,
    progress: watch::Sender<Progress>,
    /// What of an earlier run is there for good.
    before: OnceLock<UpTo>,
    /// Which columns its records are to have, where that is declared.
    declared: OnceLock<DeclaredColumns>,
}

/// Which columns records are to have.
#[derive(Debug)]
pub(super) struct DeclaredColumns {
    pub(super) schema: Schema,
    pub(super) others: Others,
}

impl DeclaredColumns {
    /// Whether records need no text: none is declared, or they are rows of a table, of which an `INSERT` may
    /// leave it out, too.
    pub(super) fn are_textless(&self) -> bool {
        self.others == Others::Refused || is_textless(&self.schema)
    }
}

/// What becomes of the columns of a record that are not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// They are left out, as by every source whose columns are declared; who posts is told.
    LeftOut,
    /// The record is refused, as a row that is inserted is.
    Refused,
}

#[derive(Debug)]
struct Entry {
    /// The number of the last request taken in.
    last: u64,
    /// Where requests go; none when they are not taken in any more.
    queue: Option<Sender<PostedBatch>>,
}

/// A request on its way to the engine, with the room that it takes until it is dropped.
#[derive(Debug)]
pub struct PostedBatch {
    pub(super) batch: Batch,
    _slot: OwnedSemaphorePermit,
    _held: OwnedSemaphorePermit,
}

impl PostedBatch {
    /// What it asks for. The room that it takes is given back.
    pub fn into_batch(self) -> Batch {
        self.batch
    }
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The last request that is there for good.
    pub(super) committed: u64,
    /// The last complete epoch when that was told.
    pub(super) epoch: Option<u64>,
    /// Whether the source runs: then it is known what an earlier run left.
    has_begun: bool,
    /// Whether nothing more will be told.
    is_over: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there for good, as of an epoch where that is known.
    Visible(Option<u64>),
    /// It is on its way.
    Pending,
    /// The process that took it in ended before it was stored.
    Lost,
    /// It is of a run that nothing is known of any more.
    Forgotten,
    /// No request has this token.
    Unknown,
    /// It is of another run, and what those left is not known yet.
    Unsettled,
}

impl Stream {
    /// A stream that takes requests in, and where they come out.
    pub(super) fn new(name: SourceName, n_slots: usize) -> (Self, Receiver<PostedBatch>) {
        // Each request in there holds one of the slots, so there is room for whoever has one.
        let (sender, queue) = crossbeam_channel::bounded(n_slots);
        let stream = Self {
            name,
            run: draw(),
            slots: Arc::new(Semaphore::new(n_slots)),
            entry: Mutex::new(Entry {
                last: 0,
                queue: Some(sender),
            }),
            progress: watch::Sender::default(),
            before: OnceLock::new(),
            declared: OnceLock::new(),
        };
        (stream, queue)
    }

    /// Says which columns its records are to have.
    pub(super) fn declare(&self, schema: Schema, others: Others) {
        // Told once, before it runs.
        let _ = self.declared.set(DeclaredColumns { schema, others });
    }

    /// Which columns its records are to have, where that is declared.
    pub(super) fn declared(&self) -> Option<&DeclaredColumns> {
        self.declared.get()
    }

    /// What an earlier run left is known from here on.
    pub(super) fn begin(&self) {
        self.progress
            .send_modify(|progress| progress.has_begun = true);
    }

    /// Lets no more requests in, and says to those that wait that there is nothing to wait for.
    pub(super) fn close(&self) {
        self.entry().queue = None;
        self.progress
            .send_modify(|progress| progress.is_over = true);
    }

    /// Takes a request in, and numbers it. None if the stream is not read any more.
    pub(super) fn post(
        &self,
        mut batch: Batch,
        slot: OwnedSemaphorePermit,
        held: OwnedSemaphorePermit,
    ) -> Option<Token> {
        // Under the lock, so that the order of the numbers is that of the queue.
        let mut entry = self.entry();
        let queue = entry.queue.as_ref()?;
        let request = entry.last + 1;
        number(&mut batch, request);
        batch.resume = Some(Offset::Posted {
            run: self.run,
            last: request,
        });
        let posted = PostedBatch {
            batch,
            _slot: slot,
            _held: held,
        };
        queue.try_send(posted).ok()?;
        entry.last = request;
        Some(Token {
            stream: self.name.as_str().to_owned(),
            run: self.run,
            request,
        })
    }

    /// What an earlier run left there for good.
    pub(super) fn resume(&self, before: UpTo) {
        // Told once, before it runs.
        let _ = self.before.set(before);
    }

    /// What became of a request so far.
    pub(super) fn fate(&self, token: &Token) -> Fate {
        let progress = *self.progress.borrow();
        match self.before.get() {
            _ if token.run == self.run && token.request <= progress.committed => {
                Fate::Visible(progress.epoch)
            }
            _ if token.run == self.run => match (1..=self.entry().last).contains(&token.request) {
                true => Fate::Pending,
                false => Fate::Unknown,
            },
            _ if !progress.has_begun => Fate::Unsettled,
            Some(before) if token.run == before.run => match token.request <= before.last {
                true => Fate::Visible(None),
                false => Fate::Lost,
            },
            _ => Fate::Forgotten,
        }
    }

    /// Waits until a request of this run is there for good, or nothing more will be told.
    pub(super) async fn committed(&self, request: u64) {
        let mut progress = self.progress.subscribe();
        let is_there = |progress: &Progress| progress.is_over || progress.committed >= request;
        // Fails only without a sender, and this is one.
        let _ = progress.wait_for(is_there).await;
    }

    /// Waits until it is known what an earlier run left, or nothing more will be told.
    pub(super) async fn begun(&self) {
        let mut progress = self.progress.subscribe();
        let is_known = |progress: &Progress| progress.is_over || progress.has_begun;
        // As above.
        let _ = progress.wait_for(is_known).await;
    }

    fn entry(&self) -> MutexGuard<'_, Entry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on to a stream what the engine tells.
pub(super) struct Told(pub(super) Arc<Stream>);

impl Acks for Told {
    fn committed(&mut self, offset: &Offset, epoch: Option<u64>) {
        // The offset of an earlier run may be told again until there is one of this.
        if let Some(UpTo { run, last }) = UpTo::of(offset)
            && run == self.0.run
        {
            self.0.progress.send_if_modified(|progress| {
                let is_news = last > progress.committed;
                if is_news {
                    progress.committed = last;
                    progress.epoch = epoch;
                }
                is_news
            });
        }
    }
}

/// Says in every place of a batch which request it is of.
fn number(batch: &mut Batch, number: u64) {
    let changes = batch.changes.iter_mut().map(|change| match change {
        Change::Upsert(record) => &mut record.offset,
        Change::Delete { offset, .. } => offset,
    });
    let rejected = batch
        .rejected
        .iter_mut()
        .map(|rejected| &mut rejected.offset);
    for offset in changes.chain(rejected) {
        if let Offset::PostedLine { request, .. } = offset {
            *request = number;
        }
    }
}

/// The present, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

fn draw() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library's hash maps are keyed by the system's random numbers.
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rejected, Rejection};

    fn stream() -> (Arc<Stream>, Receiver<PostedBatch>) {
        let (stream, queue) = Stream::new(SourceName::new("docs"), 4);
        (Arc::new(stream), queue)
    }

    fn post(stream: &Stream) -> Option<Token> {
        let permit = || stream.slots.clone().try_acquire_owned().unwrap();
        let rejected = Rejected {
            source: stream.name.clone(),
            offset: Offset::PostedLine {
                run: stream.run,
                request: 0,
                line: 3,
            },
            key: None,
            reason: Rejection::EmptyKey,
            content: None,
        };
        let batch = Batch {
            rejected: vec![rejected],
            ..Batch::default()
        };
        stream.post(batch, permit(), permit())
    }

    #[test]
    fn requests_are_numbered_and_their_fate_is_known() {
        let (stream, queue) = stream();
        let (first, second) = (post(&stream).unwrap(), post(&stream).unwrap());
        assert_eq!((first.request, second.request), (1, 2));
        let batch = queue.recv().unwrap().batch;
        let place = batch.rejected[0].offset.to_string();
        assert_eq!(
            place,
            format!("request 1 of run {:016x}, line 3", stream.run)
        );
        let mut told = Told(stream.clone());
        assert_eq!(stream.fate(&first), Fate::Pending);
        told.committed(batch.resume.as_ref().unwrap(), Some(7));
        assert_eq!(stream.fate(&first), Fate::Visible(Some(7)));
        assert_eq!(stream.fate(&second), Fate::Pending);
        let third = Token {
            request: 3,
            ..second.clone()
        };
        assert_eq!(stream.fate(&third), Fate::Unknown);
        // Of another run, whatever its number.
        let foreign = Offset::Posted {
            run: stream.run ^ 1,
            last: 9,
        };
        told.committed(&foreign, Some(8));
        assert_eq!(stream.fate(&second), Fate::Pending);
        stream.close();
        assert_eq!(post(&stream), None, "it is not read any more");
    }

    #[test]
    fn of_earlier_runs_only_the_last_is_known() {
        let (stream, _) = stream();
        let token = |run, request| Token {
            stream: "docs".to_owned(),
            run,
            request,
        };
        let run = stream.run ^ 1;
        assert_eq!(stream.fate(&token(run, 1)), Fate::Unsettled);
        stream.resume(UpTo { run, last: 5 });
        stream.begin();
        assert_eq!(stream.fate(&token(run, 5)), Fate::Visible(None));
        assert_eq!(stream.fate(&token(run, 6)), Fate::Lost);
        assert_eq!(stream.fate(&token(run ^ 2, 1)), Fate::Forgotten);
    }

    #[test]
    fn a_slot_is_free_again_when_its_request_is_taken() {
        let (stream, queue) = stream();
        post(&stream).unwrap();
        post(&stream).unwrap();
        assert_eq!(stream.slots.available_permits(), 0);
        drop(queue.recv().unwrap());
        assert_eq!(stream.slots.available_permits(), 2);
    }
}
