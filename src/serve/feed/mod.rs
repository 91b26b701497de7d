//! What does a view say, and what of it has a reader not been told yet?
//!
//! # Design
//! A feed follows one view: it hears every word on the engine's own threads, and keeps what stands with
//! the epoch in which each part of it was said last. A [`Reader`] has a cursor, the epoch that it was told
//! last, and takes what changed since. So a reader costs the same however slow it is; what it misses is
//! merged by key; and going on after a lost connection is the same as being slow.
//!
//! Beside that, a broadcast tells what is only of the moment (progress, early answers, words of sources):
//! who does not read loses it.
//!
//! # Invariants
//! - A reader is told whole epochs: the state of a client at an event with an id is that of one epoch.
//! - What is told of an epoch was durable first, where anything is: a feed hears it after the commit.
//! - What is before the `floor` is told by the history of the state directory, or not at all: then
//!   the reader begins anew.
//! - Once something is forgotten, what waits for readers is not told any more: it may hold it.
//!
//! # Rooms
//! - `answers`, `rows`: what does the view say, and what of it changed since an epoch?
//! - `news`: what of that is told to who knows a moment?
//! - `lookup`: how is looked up what stood before the feed began?
//! - `reader`: how is one subscriber told, from where it begins to its end?
//! - `queue`, `drafts`: what waits for it, and what was it told of answers in the making?
//! - `event`, `end`: what is it told, and why nothing more?

mod answers;
mod drafts;
mod end;
mod event;
mod lookup;
mod news;
mod queue;
mod reader;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_ask::Work;
use perennial_rows::{KEY, Schema, Tuple, Value};
use perennial_views::Epoch;
use tokio::sync::{Semaphore, broadcast, watch};

use super::json::SummaryJson;
use crate::engine::{
    AnswerUpdate, AuditStats, Ending, EpochStart, Follower, Progress, RelationKind, RungCounts,
    Standing, Update,
};

pub use event::{Event, EventId};
pub use reader::{Reader, SubscribeOptions};

use answers::Answers;
pub(super) use answers::Said;
use end::End;
use lookup::MAX_LOOKUPS;
use rows::Rows;

/// Words of the moment that wait for a reader.
const LIVE_CAPACITY: usize = 1_024;
/// Summaries of epochs that are remembered.
const MAX_SUMMARIES: usize = 64;

/// What one view says, for many readers.
pub struct Feed {
    name: Arc<str>,
    /// Tells it from feeds of views of its name that were dropped, in this process; 0 for the first.
    generation: u64,
    state: Mutex<State>,
    /// How many times there was news.
    news: watch::Sender<u64>,
    live: broadcast::Sender<Live>,
    n_readers: AtomicUsize,
    /// How many times something was forgotten.
    n_forgotten: AtomicU64,
    /// Looks into the history, a few at a time.
    lookups: Arc<Semaphore>,
}

/// A word of the moment.
#[derive(Clone, Debug)]
enum Live {
    /// An answer whose epoch is not complete.
    Early(Arc<AnswerUpdate>),
    Started(Arc<EpochStart>),
    Progress(Arc<Progress>),
    Notice {
        source: Arc<str>,
        message: Arc<str>,
    },
}

/// What is known of a view.
struct State {
    origin: u64,
    kind: RelationKind,
    columns: Schema,
    /// The newest epoch that is complete; none before the first.
    epoch: Option<Epoch>,
    /// What differs from this epoch, or a later one, can be told.
    floor: Epoch,
    /// The first epoch that was heard of, where there was none before, and as long as all can be told that
    /// changed from it on.
    first: Option<Epoch>,
    body: Body,
    /// Of the newest epochs, oldest first.
    summaries: VecDeque<Arc<SummaryJson>>,
    totals: Totals,
    /// Why nothing follows.
    end: Option<End>,
}

enum Body {
    Answers(Answers),
    Rows(Rows),
}

/// What a view came to since the feed began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) n_epochs: usize,
    pub(super) rungs: RungCounts,
    pub(super) work: Work,
    /// Tokens that runs from nothing would have forwarded.
    pub(super) n_rerun: usize,
    /// Time of all epochs.
    pub(super) elapsed: Duration,
    /// Time of the last one.
    pub(super) last_elapsed: Duration,
    pub(super) audits: AuditStats,
}

/// What stands at an epoch.
pub(super) enum Content {
    /// Answers by key.
    Answers(Vec<Arc<Said>>),
    /// Rows, and how often each stands.
    Rows(Vec<(Tuple, isize)>),
}

/// A view at one moment.
pub(super) struct Moment {
    pub(super) id: EventId,
    pub(super) kind: RelationKind,
    pub(super) columns: Schema,
    /// How many rows there are, of all keys.
    pub(super) n_rows: usize,
    pub(super) stood: Content,
}

impl Feed {
    pub(super) fn new(name: Arc<str>, generation: u64) -> Self {
        Self {
            name,
            generation,
            state: Mutex::new(State {
                origin: 0,
                kind: RelationKind::Query,
                columns: Schema::default(),
                epoch: None,
                floor: 0,
                first: None,
                body: Body::Rows(Rows::default()),
                summaries: VecDeque::new(),
                totals: Totals::default(),
                end: None,
            }),
            news: watch::Sender::default(),
            live: broadcast::Sender::new(LIVE_CAPACITY),
            n_readers: AtomicUsize::new(0),
            n_forgotten: AtomicU64::new(0),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The view.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many read it.
    pub fn n_readers(&self) -> usize {
        self.n_readers.load(Ordering::Relaxed)
    }

    /// Whether nothing follows.
    pub(super) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    /// Why nothing follows, if nothing does.
    fn ended(&self) -> Option<End> {
        self.state().end.clone()
    }

    /// Changes whenever there is news.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The present moment; none before the first epoch.
    fn id(&self) -> Option<EventId> {
        self.state().id()
    }

    /// The newest epoch that is complete; none before the first.
    fn epoch(&self) -> Option<Epoch> {
        self.state().epoch
    }

    /// How many times something was forgotten.
    fn n_forgotten(&self) -> u64 {
        self.n_forgotten.load(Ordering::Acquire)
    }

    /// What the view came to since the feed began.
    pub(super) fn totals(&self) -> Totals {
        self.state().totals
    }

    /// How many answers have an error in place of a text; none of a view that is no view of answers.
    pub(super) fn n_failed(&self) -> Option<usize> {
        match &self.state().body {
            Body::Answers(answers) => Some(answers.n_failed()),
            Body::Rows(_) => None,
        }
    }

    /// What stands, of one key or of all; none before the first epoch.
    pub(super) fn moment(&self, key: Option<&str>) -> Option<Moment> {
        let state = self.state();
        let id = state.id()?;
        let (n_rows, stood) = match &state.body {
            Body::Answers(answers) => {
                let said = match key {
                    Some(key) => answers.get(key).cloned().into_iter().collect(),
                    None => answers.all().cloned().collect(),
                };
                (answers.len(), Content::Answers(said))
            }
            Body::Rows(rows) => {
                let is_of = |(tuple, _): &(&Tuple, isize)| {
                    key.is_none_or(|key| is_of_key(&state.columns, tuple, key))
                };
                let of = rows.all().filter(is_of).map(|(t, n)| (t.clone(), n));
                (rows.len(), Content::Rows(of.collect()))
            }
        };
        Some(Moment {
            id,
            kind: state.kind,
            columns: state.columns.clone(),
            n_rows,
            stood,
        })
    }

    /// Whose epochs a client knows that was told of them. Those of a view that was declared otherwise are
    /// others, though their numbers are the same; so are those of one that was dropped and made again,
    /// which takes the epoch at which the other stood.
    fn origin_of(&self, origin: u64, definition: [u8; 32]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"perennial subscription 1");
        hasher.update(&origin.to_le_bytes());
        hasher.update(&definition);
        if self.generation > 0 {
            hasher.update(&self.generation.to_le_bytes());
            hasher.update(&std::process::id().to_le_bytes());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    fn told(&self) {
        self.news.send_modify(|n| *n += 1);
    }

    fn tell_live(&self, word: impl FnOnce() -> Live) {
        if self.live.receiver_count() > 0 {
            // Fails only without a receiver.
            let _ = self.live.send(word());
        }
    }
}

/// Whether a tuple has this text, or what is written so, in the column `key`.
pub(super) fn is_of_key(columns: &Schema, tuple: &Tuple, key: &str) -> bool {
    let value = columns.position(KEY).and_then(|at| tuple.get(at));
    value.is_some_and(|value| match value {
        Value::Text(text) => **text == *key,
        other => other.to_string() == key,
    })
}

impl State {
    fn id(&self) -> Option<EventId> {
        Some(EventId {
            origin: self.origin,
            epoch: self.epoch?,
        })
    }
}

impl Follower for Feed {
    fn begin(&self, standing: Standing) {
        let Standing {
            origin,
            definition,
            kind,
            columns,
            epoch,
            answers,
            early,
            rows,
        } = standing;
        let mut state = self.state();
        state.origin = self.origin_of(origin, definition);
        state.kind = kind;
        state.columns = columns;
        state.epoch = epoch;
        // Before its first epoch nothing is told; with that, it is set.
        state.floor = epoch.unwrap_or(0);
        state.first = None;
        state.body = match kind {
            RelationKind::Answers => Body::Answers(Answers::standing(answers, early)),
            _ => Body::Rows(Rows::standing(rows)),
        };
        drop(state);
        self.told();
    }

    fn hear(&self, update: &Update) {
        match update {
            Update::Answer(answer) => {
                if let Body::Answers(answers) = &mut self.state().body {
                    answers.note(answer.clone());
                }
                if answer.is_early {
                    self.tell_live(|| Live::Early(Arc::new(answer.clone())));
                }
            }
            Update::Rows(changed) => {
                if let Body::Rows(rows) = &mut self.state().body {
                    rows.note(&changed.rows);
                }
            }
            Update::EpochComplete(summary) => {
                let mut state = self.state();
                let is_first = state.epoch.is_none();
                let (n_changes, forgotten) = match &mut state.body {
                    Body::Answers(answers) => answers.complete(summary.epoch),
                    Body::Rows(rows) => rows.complete(summary.epoch),
                };
                if is_first {
                    state.floor = summary.epoch;
                    state.first = Some(summary.epoch);
                }
                if let Some(forgotten) = forgotten {
                    state.floor = state.floor.max(forgotten);
                    state.first = state.first.filter(|first| *first > forgotten);
                }
                state.epoch = Some(summary.epoch);
                let totals = &mut state.totals;
                totals.n_epochs += 1;
                totals.rungs += summary.rungs;
                totals.work += summary.work;
                totals.n_rerun += summary.n_rerun;
                totals.elapsed += summary.elapsed;
                totals.last_elapsed = summary.elapsed;
                totals.audits = summary.audits;
                let summary = Arc::new(SummaryJson::of(summary, n_changes));
                state.summaries.push_back(summary);
                if state.summaries.len() > MAX_SUMMARIES {
                    state.summaries.pop_front();
                }
                drop(state);
                self.told();
            }
            Update::EpochStarted(start) => {
                self.tell_live(|| Live::Started(Arc::new(start.clone())));
            }
            Update::Progress(progress) => {
                self.tell_live(|| Live::Progress(Arc::new(progress.clone())));
            }
            Update::Notice { source, message } | Update::SourceFailed { source, message } => {
                self.tell_live(|| Live::Notice {
                    source: source.as_str().into(),
                    message: message.as_str().into(),
                });
            }
            Update::Failed { reason } => self.end(Ending::Failed(reason)),
            _ => {}
        }
    }

    fn forget(&self) -> usize {
        let mut state = self.state();
        let n_dropped = match &mut state.body {
            Body::Answers(answers) => answers.forget(),
            Body::Rows(rows) => rows.forget(),
        };
        state.floor = state.epoch.unwrap_or(state.floor);
        state.first = None;
        // Whoever sees it finds what is left.
        self.n_forgotten.fetch_add(1, Ordering::Release);
        drop(state);
        self.told();
        n_dropped
    }

    fn n_readers(&self) -> usize {
        self.n_readers()
    }

    fn end(&self, ending: Ending<'_>) {
        // The first reason is the one that ended it.
        self.state().end.get_or_insert_with(|| End::of_view(ending));
        self.told();
    }
}
