//! The one thread that decides: what the next epoch carries, when it closes, what
//! subscribers are told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, never, unbounded};
use perennial_connectors::{Batch, Change, Event, Rejected, Running};
use perennial_operators::{
    Answer, ContextKey, DocumentKey, FragmentStore, Rung, SubParagraph, Work,
};
use perennial_views::{Epoch, Observer, Refresh};

use super::error::Error;
use super::subscription::{Mailbox, Subscription};
use super::tables::{Row, RowDelta, Table};
use super::update::{
    AnswerUpdate, ChangeKind, DocumentChange, DocumentChangeKind, EpochStart, EpochSummary,
    MAX_NAMED_CHANGES, Progress, RungCounts, Update,
};
use super::workers::{BuiltView, Command, Report, StreamDeltas, Workers};

/// Above this many pending rows, sources and callers wait for the epoch in flight.
const MAX_PENDING_ROWS: usize = 100_000;
/// Records kept in quarantine; the oldest leave first.
const QUARANTINE_CAPACITY: usize = 10_000;
/// Words of sources kept for later subscribers; the oldest leave first.
const ANNOUNCEMENT_CAPACITY: usize = 1_000;
/// Refreshes of one epoch whose details are kept until it is complete.
const MAX_REFRESHES: usize = 1_000_000;

/// What callers ask of the coordinator.
pub(crate) enum Request {
    Set {
        stream: usize,
        key: String,
        row: Option<Row>,
    },
    Flush {
        reply: Sender<Option<Epoch>>,
    },
    Subscribe {
        view: usize,
        reply: Sender<Subscription>,
    },
    Answers {
        view: usize,
        reply: Sender<Vec<(ContextKey, CurrentAnswer)>>,
    },
    Quarantine {
        reply: Sender<Vec<Rejected>>,
    },
    Stop,
}

/// An answer as it stands, with how it was last reached.
#[derive(Clone, Debug)]
pub struct CurrentAnswer {
    /// The answer.
    pub answer: Answer,
    /// The epoch of its last refresh.
    pub epoch: Epoch,
    /// The rung of its last refresh.
    pub rung: Rung,
    /// By sub-paragraphs, with the passages each leans on.
    pub sub_paragraphs: Vec<SubParagraph>,
    /// Work of its last refresh.
    pub work: Work,
    /// Duration of its last refresh.
    pub elapsed: Duration,
}

/// Hears of calls on executor threads; passes progress on at once and keeps refreshes for
/// the coordinator.
#[derive(Default)]
pub(crate) struct Hub {
    refreshes: Mutex<HashMap<(Arc<str>, ContextKey), Refresh>>,
    mailboxes: Mutex<Vec<(Arc<str>, Arc<Mailbox>)>>,
}

impl Hub {
    fn tell(&self, view: Option<&str>, update: &Update) {
        let mut mailboxes = self
            .mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A mailbox that only the hub still holds has no reader.
        mailboxes.retain(|(_, mailbox)| Arc::strong_count(mailbox) > 1);
        for (of_view, mailbox) in mailboxes.iter() {
            if view.is_none_or(|view| view == &**of_view) {
                mailbox.put(update.clone());
            }
        }
    }

    fn take_refreshes(&self) -> HashMap<(Arc<str>, ContextKey), Refresh> {
        std::mem::take(
            &mut *self
                .refreshes
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Observer for Hub {
    fn encoding(&self, view: &str, context: &ContextKey, done: usize, total: usize) {
        let progress = Progress::Encoding {
            view: view.into(),
            context: context.clone(),
            done,
            total,
        };
        self.tell(Some(view), &Update::Progress(progress));
    }

    fn writing(&self, view: &str, context: &ContextKey, text: &str) {
        let (context, text) = (context.clone(), text.to_owned());
        let progress = Progress::Writing {
            view: view.into(),
            context,
            text,
        };
        self.tell(Some(view), &Update::Progress(progress));
    }

    fn refreshed(&self, refresh: Refresh) {
        let mut refreshes = self
            .refreshes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if refreshes.len() < MAX_REFRESHES {
            refreshes.insert((refresh.view.clone(), refresh.context.clone()), refresh);
        }
    }

    fn embedding(&self, view: &str, done: usize, total: usize) {
        let progress = Progress::Embedding {
            view: view.into(),
            done,
            total,
        };
        self.tell(Some(view), &Update::Progress(progress));
    }

    fn passed_over(&self, view: &str, text: &str, reason: &str) {
        let beginning: String = text.chars().take(60).collect();
        let message = format!("the view goes on without the text `{beginning}…`: {reason}");
        self.tell(
            Some(view),
            &Update::Notice {
                source: view.to_owned(),
                message,
            },
        );
    }
}

struct Stream {
    name: String,
    source: Option<Running>,
    has_caught_up: bool,
    table: Table,
}

struct InFlight {
    epoch: Epoch,
    closed_at: Instant,
}

pub(crate) struct Coordinator {
    streams: Vec<Stream>,
    views: Vec<BuiltView>,
    workers: Workers,
    reports: Receiver<Report>,
    inbox: Receiver<Request>,
    hub: Arc<Hub>,
    store: Option<Arc<FragmentStore>>,
    answers: Vec<BTreeMap<ContextKey, CurrentAnswer>>,
    /// Answer deltas of the epoch in flight, by view and context: retracted and emitted.
    deltas: Vec<BTreeMap<ContextKey, Vec<(Answer, isize)>>>,
    quarantine: VecDeque<Rejected>,
    /// What sources had to say so far, for those who subscribe later.
    announced: VecDeque<Update>,
    flushes: Vec<Sender<Option<Epoch>>>,
    in_flight: Option<InFlight>,
    next_epoch: Epoch,
    last_complete: Option<Epoch>,
}

/// What the coordinator woke for.
enum Woken {
    Request(Option<Request>),
    Report(Option<Report>),
    Source(usize, Option<Event>),
}

impl Coordinator {
    pub(crate) fn new(
        stream_names: Vec<String>,
        sources: Vec<Option<Running>>,
        views: Vec<BuiltView>,
        n_workers: usize,
        hub: Arc<Hub>,
        store: Option<Arc<FragmentStore>>,
        inbox: Receiver<Request>,
    ) -> Result<Self, Error> {
        // One epoch is in flight at a time, which bounds the reports that wait.
        let (sender, reports) = unbounded();
        let report = move |report| {
            // Nobody listens only when the engine is stopping.
            let _ = sender.send(report);
        };
        let workers = Workers::start(n_workers, stream_names.len(), views.clone(), report)
            .map_err(|reason| Error::Stopped { reason })?;
        let streams = stream_names
            .into_iter()
            .zip(sources)
            .map(|(name, source)| Stream {
                name,
                has_caught_up: source.is_none(),
                source,
                table: Table::default(),
            })
            .collect();
        Ok(Self {
            streams,
            answers: vec![BTreeMap::new(); views.len()],
            deltas: vec![BTreeMap::new(); views.len()],
            views,
            workers,
            reports,
            inbox,
            hub,
            store,
            quarantine: VecDeque::new(),
            announced: VecDeque::new(),
            flushes: Vec::new(),
            in_flight: None,
            next_epoch: 0,
            last_complete: None,
        })
    }

    pub(crate) fn run(mut self) {
        loop {
            self.close_epoch();
            self.answer_flushes();
            match self.wait() {
                Woken::Request(None | Some(Request::Stop)) => break,
                Woken::Request(Some(request)) => self.serve(request),
                Woken::Report(Some(Report::Answer {
                    view,
                    context,
                    answer,
                    diff,
                })) => {
                    self.deltas[view]
                        .entry(context)
                        .or_default()
                        .push((answer, diff));
                }
                Woken::Report(Some(Report::Complete(epoch))) => self.complete(epoch),
                Woken::Report(Some(Report::Failed) | None) => break,
                Woken::Source(stream, event) => self.take_event(stream, event),
            }
        }
        let mailboxes = std::mem::take(
            &mut *self
                .hub
                .mailboxes
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for (_, mailbox) in mailboxes {
            mailbox.close();
        }
    }

    fn wait(&self) -> Woken {
        let is_full = self.n_pending() >= MAX_PENDING_ROWS;
        let nothing = never();
        let mut select = Select::new();
        let request = select.recv(if is_full { &nothing } else { &self.inbox });
        let report = select.recv(&self.reports);
        let mut sources = HashMap::new();
        for (index, stream) in self.streams.iter().enumerate() {
            if let Some(source) = stream.source.as_ref().filter(|_| !is_full) {
                sources.insert(select.recv(source.events()), (index, source));
            }
        }
        let ready = select.select();
        match ready.index() {
            i if i == request => Woken::Request(ready.recv(&self.inbox).ok()),
            i if i == report => Woken::Report(ready.recv(&self.reports).ok()),
            i => {
                let (index, source) = sources[&i];
                Woken::Source(index, ready.recv(source.events()).ok())
            }
        }
    }

    fn n_pending(&self) -> usize {
        self.streams
            .iter()
            .map(|stream| stream.table.n_pending())
            .sum()
    }

    fn serve(&mut self, request: Request) {
        // A caller that no longer waits for its reply is no error.
        match request {
            Request::Set { stream, key, row } => self.streams[stream].table.set(key, row),
            Request::Flush { reply } => self.flushes.push(reply),
            Request::Subscribe { view, reply } => {
                let _ = reply.send(self.subscribe(view));
            }
            Request::Answers { view, reply } => {
                let answers = self.answers[view].iter();
                let _ = reply.send(answers.map(|(c, a)| (c.clone(), a.clone())).collect());
            }
            Request::Quarantine { reply } => {
                let _ = reply.send(self.quarantine.iter().cloned().collect());
            }
            Request::Stop => unreachable!("handled by the loop"),
        }
    }

    fn subscribe(&self, view: usize) -> Subscription {
        let mailbox = Arc::new(Mailbox::default());
        for update in &self.announced {
            mailbox.put(update.clone());
        }
        let name = &self.views[view].plan.name;
        for (context, current) in &self.answers[view] {
            mailbox.put(Update::Answer(AnswerUpdate {
                view: name.clone(),
                context: context.clone(),
                question: self.question(view, context),
                epoch: current.epoch,
                old: None,
                new: Some(current.answer.clone()),
                rung: current.rung,
                sub_paragraphs: current.sub_paragraphs.clone(),
                work: current.work,
                elapsed: current.elapsed,
                is_exact: true,
            }));
        }
        let mut mailboxes = self
            .hub
            .mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        mailboxes.push((name.clone(), mailbox.clone()));
        Subscription { mailbox }
    }

    /// The text of a context as of the last closed epoch.
    fn question(&self, view: usize, context: &ContextKey) -> Arc<str> {
        let stream = &self.streams[self.views[view].context];
        let row = stream.table.get(context.as_str());
        row.map(|row| row.text.clone()).unwrap_or_default()
    }

    /// Tells every subscriber, and those to come: a source may speak before anybody
    /// listens.
    fn announce(&mut self, update: Update) {
        self.hub.tell(None, &update);
        if self.announced.len() == ANNOUNCEMENT_CAPACITY {
            self.announced.pop_front();
        }
        self.announced.push_back(update);
    }

    fn take_event(&mut self, index: usize, event: Option<Event>) {
        let stream = &mut self.streams[index];
        let source = stream.name.clone();
        match event {
            Some(Event::Batch(batch)) => self.take_batch(index, batch),
            Some(Event::CaughtUp) => stream.has_caught_up = true,
            Some(Event::Notice(notice)) => {
                self.announce(Update::Notice {
                    source,
                    message: notice.to_string(),
                });
            }
            Some(Event::Ended) => {
                stream.has_caught_up = true;
                stream.source = None;
                self.announce(Update::SourceEnded { source });
            }
            Some(Event::Failed(error)) => {
                stream.has_caught_up = true;
                stream.source = None;
                let message = error.to_string();
                self.announce(Update::SourceFailed { source, message });
            }
            Some(_) => {}
            None => {
                stream.has_caught_up = true;
                stream.source = None;
                let message = "the source ended without a word; see the log for a panic".into();
                self.announce(Update::SourceFailed { source, message });
            }
        }
    }

    fn take_batch(&mut self, index: usize, batch: Batch) {
        for change in batch.changes {
            let (key, row) = match change {
                Change::Upsert(record) => {
                    let row = Row {
                        title: record.title.map(Into::into),
                        text: record.text.into(),
                        updated_at_ms: record.updated_at_ms,
                    };
                    (record.key, Some(row))
                }
                Change::Delete { key, .. } => (key, None),
            };
            self.streams[index].table.set(key.as_str().to_owned(), row);
        }
        for rejected in batch.rejected {
            self.announce(Update::Rejected(rejected.clone()));
            if self.quarantine.len() == QUARANTINE_CAPACITY {
                self.quarantine.pop_front();
            }
            self.quarantine.push_back(rejected);
        }
    }

    /// Closes the pending epoch if none is in flight and every source has given what it
    /// had at the start, so that the first answer is over all documents.
    fn close_epoch(&mut self) {
        let may_close = self.in_flight.is_none()
            && self.inbox.is_empty()
            && self.streams.iter().all(|stream| stream.has_caught_up);
        if !may_close {
            return;
        }
        let n_workers = self.workers.n_workers();
        let mut shares = vec![vec![StreamDeltas::default(); self.streams.len()]; n_workers];
        let mut n_deltas = 0;
        let mut changes = vec![Changes::default(); self.streams.len()];
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let is_read_as = |as_documents: bool| {
                self.views.iter().any(|view| {
                    (if as_documents {
                        view.data_source
                    } else {
                        view.context
                    }) == index
                })
            };
            let (as_documents, as_contexts) = (is_read_as(true), is_read_as(false));
            for delta in stream.table.commit() {
                n_deltas += 1;
                changes[index].note(&delta);
                let share = &mut shares[worker_of(&delta.key, n_workers)][index];
                for (row, diff) in [(&delta.old, -1), (&delta.new, 1)] {
                    let Some(row) = row else { continue };
                    if as_documents {
                        share.documents.push((row.document(&delta.key), diff));
                    }
                    if as_contexts {
                        share.contexts.push((row.context(&delta.key), diff));
                    }
                }
            }
        }
        if n_deltas == 0 {
            return;
        }
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.in_flight = Some(InFlight {
            epoch,
            closed_at: Instant::now(),
        });
        for view in &self.views {
            let Changes { named, n } = changes[view.data_source].clone();
            let started = EpochStart {
                view: view.plan.name.clone(),
                epoch,
                changes: named,
                n_changes: n,
                n_documents: self.streams[view.data_source].table.n_rows(),
            };
            self.hub
                .tell(Some(&view.plan.name), &Update::EpochStarted(started));
        }
        self.workers.send(
            shares
                .into_iter()
                .map(|streams| Command::Epoch { epoch, streams }),
        );
    }

    fn answer_flushes(&mut self) {
        let is_quiet = self.in_flight.is_none()
            && self.n_pending() == 0
            && self.streams.iter().all(|stream| stream.has_caught_up);
        if is_quiet {
            for reply in self.flushes.drain(..) {
                // A caller that no longer waits is no error.
                let _ = reply.send(self.last_complete);
            }
        }
    }

    /// Delivers a complete epoch: first every answer, then one summary a view.
    fn complete(&mut self, epoch: Epoch) {
        let Some(in_flight) = self.in_flight.take_if(|f| f.epoch == epoch) else {
            return;
        };
        let mut refreshes = self.hub.take_refreshes();
        for view in 0..self.views.len() {
            let name = self.views[view].plan.name.clone();
            let mut deltas = std::mem::take(&mut self.deltas[view]);
            let mut touched: Vec<ContextKey> = deltas.keys().cloned().collect();
            touched.extend(
                refreshes
                    .keys()
                    .filter(|(v, _)| *v == name)
                    .map(|(_, context)| context.clone()),
            );
            touched.sort();
            touched.dedup();
            let mut summary = EpochSummary {
                view: name.clone(),
                epoch,
                rungs: RungCounts::default(),
                work: Work::default(),
                elapsed: in_flight.closed_at.elapsed(),
            };
            let mut n_refreshed = 0;
            for context in touched {
                let delta = deltas.remove(&context).unwrap_or_default();
                let refresh = refreshes.remove(&(name.clone(), context.clone()));
                n_refreshed += usize::from(refresh.is_some());
                count(&mut summary, refresh.as_ref());
                if let Some(update) = self.apply(view, epoch, context, delta, refresh) {
                    self.hub.tell(Some(&name), &Update::Answer(update));
                }
            }
            summary.rungs.keep = self.answers[view].len().saturating_sub(n_refreshed);
            self.hub.tell(Some(&name), &Update::EpochComplete(summary));
        }
        if let Some(store) = &self.store {
            store.sweep();
        }
        self.last_complete = Some(epoch);
    }

    /// Makes an answer current and says what became of it; `None` where nothing did.
    fn apply(
        &mut self,
        view: usize,
        epoch: Epoch,
        context: ContextKey,
        delta: Vec<(Answer, isize)>,
        refresh: Option<Refresh>,
    ) -> Option<AnswerUpdate> {
        let question = self.question(view, &context);
        let current = &mut self.answers[view];
        let old = current.get(&context).map(|c| c.answer.clone());
        let emitted = delta
            .iter()
            .find(|(_, diff)| *diff > 0)
            .map(|(answer, _)| answer.clone());
        let is_retracted = delta.iter().any(|(_, diff)| *diff < 0);
        let new = match emitted {
            Some(answer) => Some(answer),
            None if is_retracted => None,
            None => old.clone(),
        };
        let elapsed = refresh.as_ref().map(|r| r.elapsed).unwrap_or_default();
        let outcome = refresh.and_then(|refresh| refresh.outcome.ok());
        let mut update = AnswerUpdate {
            view: self.views[view].plan.name.clone(),
            context: context.clone(),
            question: question.clone(),
            epoch,
            old,
            new: new.clone(),
            rung: Rung::Regenerate,
            sub_paragraphs: Vec::new(),
            work: Work::default(),
            elapsed,
            is_exact: true,
        };
        if let Some(outcome) = outcome {
            update.rung = outcome.rung;
            update.sub_paragraphs = outcome.sub_paragraphs;
            update.work = outcome.work;
        }
        match new {
            Some(answer) => {
                let answer = CurrentAnswer {
                    answer,
                    epoch,
                    rung: update.rung,
                    sub_paragraphs: update.sub_paragraphs.clone(),
                    work: update.work,
                    elapsed,
                };
                current.insert(context, answer);
            }
            None => {
                current.remove(&context);
                self.views[view].services.drafts.remove(&context);
                // A call for a context that never had an answer: nothing to tell.
                if update.kind() == ChangeKind::New {
                    return None;
                }
            }
        }
        Some(update)
    }
}

/// The rows of one stream that an epoch changes, as subscribers are told.
#[derive(Clone, Default)]
struct Changes {
    named: Vec<DocumentChange>,
    n: usize,
}

impl Changes {
    fn note(&mut self, delta: &RowDelta) {
        self.n += 1;
        if self.named.len() < MAX_NAMED_CHANGES {
            let change = match (&delta.old, &delta.new) {
                (None, _) => DocumentChangeKind::Inserted,
                (Some(_), Some(_)) => DocumentChangeKind::Updated,
                (Some(_), None) => DocumentChangeKind::Deleted,
            };
            self.named.push(DocumentChange {
                key: DocumentKey::new(delta.key.as_str()),
                change,
            });
        }
    }
}

fn worker_of(key: &str, n_workers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % n_workers as u64).unwrap_or(0)
}

fn count(summary: &mut EpochSummary, refresh: Option<&Refresh>) {
    match refresh.map(|refresh| &refresh.outcome) {
        None => {}
        Some(Err(_)) => summary.rungs.failed += 1,
        Some(Ok(outcome)) => {
            summary.work += outcome.work;
            *match outcome.rung {
                Rung::Keep => &mut summary.rungs.keep,
                Rung::Verify => &mut summary.rungs.verify,
                Rung::Rewrite => &mut summary.rungs.rewrite,
                Rung::Regenerate => &mut summary.rungs.regenerate,
            } += 1;
        }
    }
}
