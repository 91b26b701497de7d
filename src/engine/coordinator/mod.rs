//! The one thread that decides: what the next epoch carries, when it closes, what
//! subscribers are told.

mod acknowledging;
mod closing;
mod completing;
mod forgetting;
mod intake;
mod opening;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, Sender, never};
use perennial_ask::{Answer, Dependency};
use perennial_bank::{ContextKey, DocumentKey, FragmentStore};
use perennial_connectors::{Event, Offset, Running};
use perennial_views::{Epoch, Policy};

use self::acknowledging::Listener;
use super::audits::AuditStats;
use super::current::CurrentAnswer;
use super::error::Error;
use super::forget::{Forgetting, Receipt};
use super::healing::{Healing, Wanted};
use super::hub::Hub;
use super::quarantine::{Quarantine, QuarantineDeltas, Quarantined};
use super::sinks::{RunningSink, SinkEvent};
use super::subscription::{Mailbox, Subscription};
use super::tables::{Row, Table};
use super::update::{AnswerUpdate, Update};
use super::workers::{BuiltView, Command, Report, Workers};
use crate::recording::Recorder;
use crate::state::{FRAGMENTS, StoredRow};

pub(crate) use self::opening::{Durable, Fed, Parts};

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
    Undelivered {
        reply: Sender<Vec<(String, usize)>>,
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
    pub(crate) fn run(mut self) {
        loop {
            if let Err(error) = self.close_epoch() {
                self.fail(error.to_string());
                break;
            }
            self.heal();
            self.answer_flushes();
            self.tell_trouble();
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

    /// Says what went wrong with fragments on disk.
    fn tell_trouble(&mut self) {
        let cold = self.durable.as_ref().and_then(|d| d.cold.as_ref());
        if let Some(message) = cold.and_then(|cold| cold.cold_tier().take_trouble()) {
            let source = FRAGMENTS.to_owned();
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
            Request::Undelivered { reply } => {
                let owed = self.sinks.iter().map(|s| (s.name.clone(), s.n_owed()));
                let _ = reply.send(owed.filter(|(_, n_owed)| *n_owed > 0).collect());
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
