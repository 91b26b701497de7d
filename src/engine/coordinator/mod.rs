//! The one thread that decides: what the next epoch carries, when it closes, what
//! subscribers are told.

mod acknowledging;
mod completing;
mod forgetting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, Sender, never, unbounded};
use perennial_connectors::{
    Acks, Batch, CONTENT_LIMIT, Change, Delivery, Event, Notice, Offset, OutputRow, Rejected,
    Rejection, Resumption, Running, SourceName,
};
use perennial_operators::fragment_store::Attached;
use perennial_operators::{Answer, Before, ContextKey, Dependency, DocumentKey, FragmentStore};
use perennial_views::{Epoch, Policy};

use self::acknowledging::Listener;
use super::audits::AuditStats;
use super::current::CurrentAnswer;
use super::error::Error;
use super::forget::{Forgetting, Receipt};
use super::healing::{Healing, Wanted};
use super::hub::Hub;
use super::quarantine::{Quarantine, QuarantineDeltas, Quarantined};
use super::sinks::{RunningSink, SinkEvent, SinkSpec};
use super::subscription::{Mailbox, Subscription};
use super::tables::{Row, RowDelta, Table};
use super::update::{
    AnswerUpdate, DocumentChange, DocumentChangeKind, EpochStart, MAX_NAMED_CHANGES, Update,
};
use super::workers::{BuiltView, Command, Report, Share, StreamDeltas, Workers};
use crate::recording::{Beginning, Recorder};
use crate::state::{DeclaredSink, Note, Restored, State, StateError, StoredRow, new_origin};

/// Above this many pending rows, sources and callers wait for the epoch in flight.
const MAX_PENDING_ROWS: usize = 100_000;
/// Words of sources kept for later subscribers; the oldest leave first.
const ANNOUNCEMENT_CAPACITY: usize = 1_000;

/// What callers ask of the coordinator.
pub(crate) enum Request {
    Set {
        stream: usize,
        key: String,
        row: Option<Row>,
    },
    /// Rows that become visible together.
    Apply {
        rows: Vec<(usize, String, Option<Row>)>,
    },
    Flush {
        /// Whether to wait for exact answers.
        is_exact: bool,
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
    Forget {
        stream: usize,
        key: String,
        is_table: bool,
        reply: Sender<Result<Receipt, Error>>,
    },
    Quarantine {
        reply: Sender<Vec<Quarantined>>,
    },
    Audits {
        view: usize,
        reply: Sender<AuditStats>,
    },
    Dependents {
        view: usize,
        document: DocumentKey,
        reply: Sender<Vec<Dependency>>,
    },
    Stop,
}

/// Sinks that are not there, with the index of the view of each.
type Parked = Vec<(String, usize)>;

/// What an epoch retracts and emits for one context.
type AnswerDeltas = Vec<(Answer, isize)>;

struct Stream {
    name: String,
    source: Option<Running>,
    has_caught_up: bool,
    /// Whether the source reads something else from its beginning, and has not said all of it.
    is_recreated: bool,
    /// Where it would go on there.
    resume_recreated: Option<Offset>,
    table: Table,
    /// Where the source would go on, with all that is pending taken.
    resume: Option<Offset>,
    /// Who is told how far that is committed.
    listener: Option<Listener>,
}

/// A source at work, and who is told how far what it said is committed.
pub(crate) struct Fed {
    pub(crate) running: Running,
    pub(crate) acks: Option<Box<dyn Acks>>,
}

impl Stream {
    /// A source that fails before it has said all that stands has not said what is gone.
    fn keep_rows(&mut self) {
        if !self.has_caught_up {
            self.table.keep_restored();
            self.is_recreated = false;
        }
    }
}

struct InFlight {
    epoch: Epoch,
    closed_at: Instant,
    /// What is to be stored or recorded with it: streams, keys and rows.
    rows: Vec<(usize, String, Option<StoredRow>)>,
    /// By stream.
    offsets: Vec<Option<Offset>>,
    quarantine: QuarantineDeltas,
    resubmitted: Vec<u64>,
}

/// What outlives the process, and what an earlier one left.
pub(crate) struct Durable {
    /// Fragments on disk. The state is let go of after them: its lock is theirs too.
    pub(crate) cold: Option<Attached>,
    pub(crate) state: Arc<State>,
    pub(crate) restored: Restored,
    /// By stream that a source feeds: how it goes on.
    pub(crate) resumptions: HashMap<String, Resumption>,
    /// By view: digest of what its answers depend on besides rows.
    pub(crate) definitions: Vec<[u8; 32]>,
}

/// What a coordinator begins with.
pub(crate) struct Parts {
    /// By name; the source, where one feeds it.
    pub(crate) streams: Vec<(String, Option<Fed>)>,
    pub(crate) views: Vec<BuiltView>,
    pub(crate) n_workers: usize,
    pub(crate) hub: Arc<Hub>,
    pub(crate) store: Option<Arc<FragmentStore>>,
    pub(crate) inbox: Receiver<Request>,
    /// With the index of the view that each takes.
    pub(crate) sinks: Vec<(usize, SinkSpec)>,
    pub(crate) durable: Option<Durable>,
    pub(crate) recording: Option<Beginning>,
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
    deltas: Vec<BTreeMap<ContextKey, AnswerDeltas>>,
    quarantine: Quarantine,
    /// Resubmitted rows that are taken in and not yet struck off in the state directory.
    resubmitted: Vec<u64>,
    /// By stream: the offsets that the state directory holds.
    saved_offsets: Vec<Option<Offset>>,
    /// What sources had to say so far, for those who subscribe later.
    announced: VecDeque<Update>,
    flushes: Vec<(bool, Sender<Option<Epoch>>)>,
    /// By view.
    healing: Vec<Healing>,
    forgetting: Vec<Forgetting>,
    sinks: Vec<RunningSink>,
    /// Sinks of earlier processes: they are owed what they miss.
    parked: Parked,
    /// Which history of epochs this is.
    origin: u64,
    /// For what runs beside the workers.
    report: Sender<Report>,
    in_flight: Option<InFlight>,
    next_epoch: Epoch,
    last_complete: Option<Epoch>,
    durable: Option<Durable>,
    recorder: Option<Recorder>,
}

/// What the coordinator woke for.
enum Woken {
    Request(Option<Request>),
    Report(Option<Report>),
    Source(usize, Option<Event>),
}

impl Coordinator {
    pub(crate) fn new(parts: Parts) -> Result<Self, Error> {
        let Parts {
            streams,
            views,
            n_workers,
            hub,
            store,
            inbox,
            sinks,
            mut durable,
            recording,
        } = parts;
        // One epoch is in flight at a time, which bounds the reports that wait.
        let (sender, reports) = unbounded();
        let report = {
            let sender = sender.clone();
            move |report| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(report);
            }
        };
        let workers = Workers::start(n_workers, streams.len(), views.clone(), report)
            .map_err(|reason| Error::Stopped { reason })?;
        let (mut rows, mut offsets, mut last_complete) = Default::default();
        let mut resumptions = HashMap::new();
        if let Some(durable) = &mut durable {
            rows = std::mem::take(&mut durable.restored.rows);
            offsets = std::mem::take(&mut durable.restored.offsets);
            resumptions = std::mem::take(&mut durable.resumptions);
            last_complete = durable.restored.epoch;
        }
        let mut restored_table = |name: &str| {
            let rows: BTreeMap<String, StoredRow> = rows.remove(name).unwrap_or_default();
            let rows = rows.into_iter().map(|(key, row)| (key, row.into()));
            let stand = resumptions.get(name) != Some(&Resumption::Anew);
            Table::restored(rows.collect(), stand)
        };
        let mut streams: Vec<Stream> = streams
            .into_iter()
            .map(|(name, fed)| {
                let (source, acks) = match fed {
                    Some(Fed { running, acks }) => (Some(running), acks),
                    None => (None, None),
                };
                let resume = offsets
                    .remove(&name)
                    .filter(|_| resumptions.get(&name) == Some(&Resumption::FromOffset));
                Stream {
                    has_caught_up: source.is_none(),
                    is_recreated: false,
                    resume_recreated: None,
                    source,
                    table: restored_table(&name),
                    listener: acks.map(|acks| Listener::new(acks, resume.clone())),
                    resume,
                    name,
                }
            })
            .collect();
        let (quarantine, resubmitted) = match &mut durable {
            Some(durable) => {
                let resubmitted = resubmit(&mut streams, &mut durable.restored);
                let entries = std::mem::take(&mut durable.restored.quarantine);
                let next = durable.restored.next_quarantined;
                let quarantine = Quarantine::restored(entries, next, |entry| {
                    resumptions.get(&entry.stream) != Some(&Resumption::FromOffset)
                });
                (quarantine, resubmitted)
            }
            None => Default::default(),
        };
        let mut answers = vec![BTreeMap::new(); views.len()];
        if let Some(durable) = &durable {
            for (index, view) in views.iter().enumerate() {
                let name = &*view.plan.name;
                let of_view = durable.restored.answers.get(name);
                for (context, stored) in of_view.into_iter().flatten() {
                    // Tokens of another model are no draft.
                    if durable.restored.views.get(name) == Some(&durable.definitions[index]) {
                        let book = &view.services.book;
                        book.put(context.clone(), Before::draft(stored.tokens.clone()));
                        let current = CurrentAnswer::from(stored.clone());
                        answers[index].insert(context.clone(), current);
                    }
                }
            }
        }
        let healing = views.iter().map(|_| Healing::default()).collect();
        let origin = match &durable {
            Some(durable) => durable.restored.origin,
            None => new_origin(),
        };
        let snapshot = |view: usize| {
            let current: &BTreeMap<ContextKey, CurrentAnswer> = &answers[view];
            let question = |context: &ContextKey| {
                let stream: &Stream = &streams[views[view].context];
                let row = stream.table.get(context.as_str());
                row.map(|row| row.text.clone()).unwrap_or_default()
            };
            let rows = current.iter().map(|(context, answer)| OutputRow {
                key: context.as_str().to_owned(),
                answer: Some(answer.output(&question(context))),
            });
            Delivery {
                origin,
                view: views[view].plan.name.to_string(),
                epoch: last_complete.unwrap_or_default(),
                rows: rows.collect(),
            }
        };
        let saved_offsets = streams.iter().map(|s| s.resume.clone()).collect();
        let view_index = |name: &str| views.iter().position(|v| &*v.plan.name == name);
        let (sinks, parked) = start_sinks(sinks, snapshot, view_index, durable.as_mut(), &sender)?;
        let recorder = recording.map(|beginning| {
            let sender = sender.clone();
            Recorder::start(beginning, move |error| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(Report::RecordingFailed(error));
            })
        });
        let recorder = recorder.transpose().map_err(|error| Error::Stopped {
            reason: error.to_string(),
        })?;
        Ok(Self {
            recorder,
            sinks,
            parked,
            origin,
            streams,
            answers,
            deltas: vec![BTreeMap::new(); views.len()],
            views,
            workers,
            reports,
            inbox,
            hub,
            store,
            quarantine,
            resubmitted,
            saved_offsets,
            announced: VecDeque::new(),
            flushes: Vec::new(),
            healing,
            forgetting: Vec::new(),
            report: sender,
            in_flight: None,
            next_epoch: last_complete.map_or(0, |epoch| epoch + 1),
            last_complete,
            durable,
        })
    }

    pub(crate) fn run(mut self) {
        loop {
            if let Err(error) = self.close_epoch() {
                self.fail(error.to_string());
                break;
            }
            self.heal();
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
                Woken::Report(Some(Report::Complete(epoch))) => {
                    if let Err(error) = self.complete(epoch) {
                        self.fail(error.to_string());
                        break;
                    }
                }
                Woken::Report(Some(Report::Healed {
                    view,
                    context,
                    healed,
                })) => {
                    let healed = healed.map(|healed| *healed);
                    let had_fallen = self.healing[view].audits().has_fallen_back;
                    self.healing[view].finish(&self.views[view], context, healed);
                    self.tell_audits(view, had_fallen);
                }
                // There may be room for an epoch now.
                Woken::Report(Some(Report::Sink(SinkEvent::Delivered))) => {}
                Woken::Report(Some(Report::Sink(SinkEvent::Failing { sink, message }))) => {
                    self.announce(Update::Notice {
                        source: sink,
                        message,
                    });
                }
                Woken::Report(Some(Report::RecordingFailed(error))) => {
                    self.announce(Update::Notice {
                        source: "the recording".to_owned(),
                        message: format!("it ends here: {error}"),
                    });
                }
                Woken::Report(Some(Report::Failed) | None) => {
                    self.fail("a dataflow worker ended; see the log for a panic".to_owned());
                    break;
                }
                Woken::Source(stream, event) => self.take_event(stream, event),
            }
        }
        self.healing.iter().for_each(Healing::stop);
        // They finish side by side.
        self.sinks.iter().for_each(RunningSink::close);
        self.hub.close();
    }

    /// In the background, while nothing fresh is to do.
    fn heal(&mut self) {
        if self.in_flight.is_some() || self.n_pending() > 0 {
            return;
        }
        // What drifted furthest and is read by most goes first.
        let weight = |(index, drift): (usize, f32)| {
            let n_readers = self.hub.n_subscribers(&self.views[index].plan.name);
            (index, drift * (1 + n_readers) as f32)
        };
        let urgencies = self.healing.iter().enumerate();
        let most = urgencies
            .filter_map(|(index, h)| Some((index, h.urgency(self.wanted(index))?)))
            .map(weight)
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((index, _)) = most else { return };
        if self.healing.iter().any(Healing::is_running) {
            return;
        }
        let (report, wanted) = (self.report.clone(), self.wanted(index));
        self.healing[index].start(index, &self.views[index], wanted, move |healed| {
            // Nobody listens only when the engine is stopping.
            let _ = report.send(healed);
        });
    }

    /// Which provisional answers of a view are to be made exact.
    fn wanted(&self, view: usize) -> Wanted {
        let BuiltView { plan, services, .. } = &self.views[view];
        let is_bounded = matches!(plan.policy, Policy::Bounded { .. });
        let is_asked = self.flushes.iter().any(|flush| flush.0) || !self.forgetting.is_empty();
        match is_bounded && !is_asked && !services.book.has_fallen_back() {
            true => Wanted::Audited,
            false => Wanted::All,
        }
    }

    /// Says that a view fell back, if it just did.
    fn tell_audits(&mut self, view: usize, had_fallen: bool) {
        let stats = self.healing[view].audits();
        if stats.has_fallen_back && !had_fallen {
            let plan = &self.views[view].plan;
            let message = format!(
                "provisional answers are {:.3} nats a token from exact ones on average, past the \
                 budget of {}: the view falls back to exact answers",
                stats.mean_kl, plan.policy
            );
            let source = plan.name.to_string();
            self.announce(Update::Notice { source, message });
        }
    }

    fn fail(&mut self, reason: String) {
        self.announce(Update::Failed {
            reason: reason.clone(),
        });
        self.hub.fail(reason);
    }

    fn wait(&self) -> Woken {
        // With no epoch in flight, what is pending waits for sources and callers to be heard.
        // A sink that is away may hold up sources for long, but not callers: one may ask to stop.
        let is_much = self.n_pending() >= MAX_PENDING_ROWS;
        let is_full = is_much && self.in_flight.is_some();
        let is_held_up = is_full || is_much && self.sinks.iter().any(RunningSink::is_full);
        let nothing = never();
        let mut select = Select::new();
        let request = select.recv(if is_full { &nothing } else { &self.inbox });
        let report = select.recv(&self.reports);
        let mut sources = HashMap::new();
        for (index, stream) in self.streams.iter().enumerate() {
            if let Some(source) = stream.source.as_ref().filter(|_| !is_held_up) {
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
            Request::Apply { rows } => {
                for (stream, key, row) in rows {
                    self.streams[stream].table.set(key, row);
                }
            }
            Request::Flush { is_exact, reply } => self.flushes.push((is_exact, reply)),
            Request::Subscribe { view, reply } => {
                let _ = reply.send(self.subscribe(view));
            }
            Request::Answers { view, reply } => {
                let answers = self.answers[view].iter();
                let _ = reply.send(answers.map(|(c, a)| (c.clone(), a.clone())).collect());
            }
            Request::Forget {
                stream,
                key,
                is_table,
                reply,
            } => self.begin_forgetting(stream, key, is_table, reply),
            Request::Quarantine { reply } => {
                let _ = reply.send(self.quarantine.all());
            }
            Request::Audits { view, reply } => {
                let _ = reply.send(self.healing[view].audits());
            }
            Request::Dependents {
                view,
                document,
                reply,
            } => self
                .workers
                .send((0..self.workers.n_workers()).map(|_| Command::Dependents {
                    view,
                    document: document.clone(),
                    reply: reply.clone(),
                })),
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
                is_exact: current.drift.is_none(),
                drift: current.drift.unwrap_or(0.0),
            }));
        }
        self.hub.add(name.clone(), mailbox.clone());
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
            Some(Event::CaughtUp) => {
                stream.has_caught_up = true;
                if std::mem::take(&mut stream.is_recreated) {
                    stream.resume = stream.resume_recreated.take();
                    stream.table.drop_unconfirmed();
                }
            }
            Some(Event::Notice(notice)) => {
                match notice {
                    Notice::StartedOver { .. } => stream.table.start_over(),
                    Notice::Recreated { .. } => {
                        stream.table.start_over();
                        stream.is_recreated = true;
                        stream.has_caught_up = false;
                    }
                    _ => {}
                }
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
                stream.keep_rows();
                stream.has_caught_up = true;
                stream.source = None;
                let message = error.to_string();
                self.announce(Update::SourceFailed { source, message });
            }
            Some(_) => {}
            None => {
                stream.keep_rows();
                stream.has_caught_up = true;
                stream.source = None;
                let message = "the source ended without a word; see the log for a panic".into();
                self.announce(Update::SourceFailed { source, message });
            }
        }
    }

    fn take_batch(&mut self, index: usize, batch: Batch) {
        let stream = &mut self.streams[index];
        if batch.resume.is_some() {
            // Until all of another topic is read, the offsets of the old one tell that it is
            // another.
            match stream.is_recreated {
                true => stream.resume_recreated = batch.resume,
                false => stream.resume = batch.resume,
            }
        }
        let mut rejected = batch.rejected;
        for change in batch.changes {
            let (key, row) = match change {
                Change::Upsert(record) => {
                    let stream = &self.streams[index];
                    let row = Row::from(&record);
                    if let Some(held_ms) = stream.table.newer_than(record.key.as_str(), &row) {
                        let got_ms = record.updated_at_ms;
                        let content = serde_json::json!({
                            "key": record.key,
                            "text": record.text,
                            "title": record.title,
                            "updated_at": got_ms,
                            "supersedes": record.supersedes,
                        });
                        let content = content.to_string().into_bytes();
                        rejected.push(Rejected {
                            source: SourceName::new(stream.name.as_str()),
                            offset: record.offset,
                            key: Some(record.key),
                            reason: Rejection::Late { held_ms, got_ms },
                            content: Some(content).filter(|c| c.len() <= CONTENT_LIMIT),
                        });
                        continue;
                    }
                    (record.key, Some(row))
                }
                Change::Delete { key, .. } => (key, None),
            };
            let stream = &mut self.streams[index];
            self.quarantine.accept(&stream.name, key.as_str());
            stream.table.set(key.as_str().to_owned(), row);
        }
        for rejected in rejected {
            self.quarantine.add(&rejected);
            self.announce(Update::Rejected(rejected));
        }
    }

    /// Closes the pending epoch if none is in flight and every source has given what it
    /// had at the start, so that the first answer is over all documents.
    fn close_epoch(&mut self) -> Result<(), StateError> {
        let may_close = self.in_flight.is_none()
            && self.inbox.is_empty()
            && !self.sinks.iter().any(RunningSink::is_full)
            && self.streams.iter().all(|stream| stream.has_caught_up);
        if !may_close {
            return Ok(());
        }
        let n_workers = self.workers.n_workers();
        let share = Share {
            streams: vec![StreamDeltas::default(); self.streams.len()],
            healed: vec![Vec::new(); self.views.len()],
        };
        let mut shares = vec![share; n_workers];
        let mut n_deltas = 0;
        let mut rows = Vec::new();
        let mut changes = vec![Changes::default(); self.streams.len()];
        let is_kept = self.durable.is_some() || self.recorder.is_some();
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
                if is_kept && delta.stored != delta.new {
                    let row = delta.new.as_ref().map(StoredRow::from);
                    rows.push((index, delta.key.clone(), row));
                }
                if delta.old == delta.new {
                    continue;
                }
                let share = &mut shares[worker_of(&delta.key, n_workers)].streams[index];
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
        let is_due = self.healing.iter().any(Healing::is_due);
        if n_deltas == 0 && !is_due {
            self.save_note()?;
            self.acknowledge_all();
            return Ok(());
        }
        let mut n_healed = vec![0; self.views.len()];
        for (index, healing) in self.healing.iter_mut().enumerate() {
            if n_deltas > 0 {
                healing.give_way();
            }
            for (row, diff) in healing.commit() {
                n_healed[index] += usize::from(diff > 0);
                let worker = worker_of(row.0.as_str(), n_workers);
                shares[worker].healed[index].push((row, diff));
            }
        }
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.in_flight = Some(InFlight {
            epoch,
            closed_at: Instant::now(),
            rows,
            offsets: self.streams.iter().map(|s| s.resume.clone()).collect(),
            quarantine: self.quarantine.take_unsaved(),
            resubmitted: std::mem::take(&mut self.resubmitted),
        });
        for (view, n_healed) in self.views.iter().zip(n_healed) {
            let Changes { named, n } = changes[view.data_source].clone();
            let started = EpochStart {
                view: view.plan.name.clone(),
                epoch,
                changes: named,
                n_changes: n,
                n_healed,
                n_documents: self.streams[view.data_source].table.n_rows(),
            };
            self.hub
                .tell(Some(&view.plan.name), &Update::EpochStarted(started));
        }
        self.workers.send(
            shares
                .into_iter()
                .map(|share| Command::Epoch { epoch, share }),
        );
        Ok(())
    }

    /// What is to be stored though no row changes.
    fn note(&mut self) -> Note {
        let streams = self.streams.iter();
        let offsets = streams.map(|s| (s.name.clone(), s.resume.clone()));
        Note {
            offsets: offsets.collect(),
            quarantine: self.quarantine.take_unsaved(),
            resubmitted: std::mem::take(&mut self.resubmitted),
        }
    }

    /// Stores refusals with the offsets behind them, while every row is stored.
    fn save_note(&mut self) -> Result<(), StateError> {
        let resumes = self.streams.iter().map(|stream| &stream.resume);
        let is_saved = resumes.eq(&self.saved_offsets)
            && !self.quarantine.is_unsaved()
            && self.resubmitted.is_empty();
        if is_saved || self.durable.is_none() || self.last_complete.is_none() {
            return Ok(());
        }
        let note = self.note();
        self.saved_offsets = note.offsets.iter().map(|(_, o)| o.clone()).collect();
        match &self.durable {
            Some(durable) => durable.state.note(&note),
            None => Ok(()),
        }
    }

    fn answer_flushes(&mut self) {
        let is_quiet = self.in_flight.is_none()
            && self.n_pending() == 0
            && self.streams.iter().all(|stream| stream.has_caught_up);
        if is_quiet {
            let healing = self.healing.iter().enumerate();
            let is_done = healing.into_iter().all(|(i, h)| h.is_done(self.wanted(i)));
            if is_done {
                self.forget();
            }
            let is_served = |flush: &mut (bool, _)| is_done || !flush.0;
            for (_, reply) in self.flushes.extract_if(.., is_served) {
                // A caller that no longer waits is no error.
                let _ = reply.send(self.last_complete);
            }
        }
    }
}

/// Takes in rows that a person resubmitted. Returns their numbers.
fn resubmit(streams: &mut [Stream], restored: &mut Restored) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (number, row) in std::mem::take(&mut restored.resubmitted) {
        let stream = streams.iter_mut().find(|stream| stream.name == row.stream);
        // Those of streams that are not declared now wait until they are.
        if let Some(stream) = stream {
            stream.table.set(row.key, row.row.map(Row::from));
            numbers.push(number);
        }
    }
    numbers
}

/// Starts the sinks with what each is owed: what an earlier process left, or, for one that is
/// new, all that stands. Also which sinks are not there now.
fn start_sinks(
    specs: Vec<(usize, SinkSpec)>,
    snapshot: impl Fn(usize) -> Delivery,
    view_index: impl Fn(&str) -> Option<usize>,
    mut durable: Option<&mut Durable>,
    sender: &Sender<Report>,
) -> Result<(Vec<RunningSink>, Parked), Error> {
    let mut owed = Vec::new();
    for (view, spec) in &specs {
        let left = durable.as_mut().and_then(|durable| {
            let left = durable.restored.sinks.remove(spec.sink.name());
            left.filter(|(of_view, _)| *of_view == spec.view && !spec.sink.is_empty())
        });
        owed.push(match left {
            Some((_, owed)) => (false, owed),
            None => {
                let all = Some(snapshot(*view)).filter(|all| !all.rows.is_empty());
                (true, all.into_iter().collect())
            }
        });
    }
    let mut parked = Vec::new();
    if let Some(durable) = &mut durable {
        // Those of views that are gone are owed nothing any more.
        let left = std::mem::take(&mut durable.restored.sinks).into_iter();
        parked.extend(left.filter_map(|(name, (view, _))| Some((name, view_index(&view)?, view))));
        let declared = specs.iter().zip(&owed);
        let declared = declared.map(|((_, spec), (is_new, owed))| DeclaredSink {
            name: spec.sink.name(),
            view: &spec.view,
            snapshot: is_new.then(|| owed.first()),
        });
        let away = parked.iter().map(|(name, _, view)| DeclaredSink {
            name,
            view,
            snapshot: None,
        });
        let all: Vec<DeclaredSink<'_>> = declared.chain(away).collect();
        durable.state.declare_sinks(&all)?;
    }
    let parked = parked.into_iter().map(|(name, index, _)| (name, index));
    let parked = parked.collect();
    let state = durable.map(|durable| durable.state.clone());
    let running = specs
        .into_iter()
        .zip(owed)
        .map(|((view, spec), (_, owed))| {
            let sender = sender.clone();
            let tell = move |event| {
                // Nobody listens only when the engine is stopping.
                let _ = sender.send(Report::Sink(event));
            };
            RunningSink::start(view, spec.sink, owed, state.clone(), tell)
        });
    let running: Result<Vec<_>, _> = running.collect();
    let running = running.map_err(|error| Error::Stopped {
        reason: error.to_string(),
    })?;
    Ok((running, parked))
}

/// The rows of one stream that an epoch changes, as subscribers are told.
#[derive(Clone, Default)]
struct Changes {
    named: Vec<DocumentChange>,
    n: usize,
}

impl Changes {
    fn note(&mut self, delta: &RowDelta) {
        if delta.stored == delta.new {
            return;
        }
        self.n += 1;
        if self.named.len() < MAX_NAMED_CHANGES {
            let change = match (&delta.stored, &delta.new) {
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
