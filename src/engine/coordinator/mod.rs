//! The one thread that decides: what the next epoch carries, which view takes it when, what
//! subscribers are told.

mod acknowledging;
mod backlog;
mod catalog;
mod closing;
mod columns;
mod completing;
mod early;
mod feeding;
mod forgetting;
mod intake;
mod measuring;
mod opening;
mod pacing;
mod recording;
mod serving;
mod sinks;
mod storing;
mod stream;
mod view;
mod waiting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Select, Sender, never};
use perennial_connectors::Event;
use perennial_views::{Embeddings, Epoch, Memo, Pace, Policy};

use self::closing::ClosedEpoch;
use self::recording::Recording;
use self::stream::Stream;
use self::view::{Body, View};
use self::waiting::{Flush, Patience};
use super::budget::{Ledger, Spending};
use super::forget::Forgetting;
use super::healing::{Healing, Wanted};
use super::hub::Hub;
use super::models::Models;
use super::names::{Names, StreamId, ViewId};
use super::quarantine::Quarantine;
use super::runtime::Runtime;
use super::sinks::{RunningSink, SinkEvent};
use super::update::Update;
use super::workers::{Report, Workers};
use crate::recording::Log;
use crate::state::FRAGMENTS;

pub(crate) use self::opening::{Durable, Parts};
pub(crate) use self::serving::Request;
pub(crate) use self::waiting::Bound;

/// Above this many pending rows, sources and callers wait for an epoch to be closed.
const MAX_PENDING_ROWS: usize = 100_000;
/// Words of sources kept for later subscribers; the oldest leave first.
const ANNOUNCEMENT_CAPACITY: usize = 1_000;

/// Sinks that are not there, with the view of each.
type Parked = Vec<(String, ViewId)>;

pub(crate) struct Coordinator {
    runtime: Runtime,
    names: Arc<Names>,
    /// What the next stream or view is numbered. A view reads only what has a smaller number.
    next_id: u64,
    /// Whether no epoch is closed yet.
    is_held: bool,
    /// Whether more may be declared: what an earlier process left for it is kept until all is.
    is_declaring: bool,
    streams: BTreeMap<StreamId, Stream>,
    views: BTreeMap<ViewId, View>,
    workers: Workers,
    reports: Receiver<Report>,
    inbox: Receiver<Request>,
    hub: Arc<Hub>,
    memo: Arc<dyn Memo>,
    models: Arc<Models>,
    embeddings: Arc<Embeddings>,
    quarantine: Quarantine,
    /// What all views spent together.
    ledger: Ledger,
    /// What they may spend together.
    pace: Pace,
    /// Resubmitted rows that are taken in and not yet struck off in the state directory.
    resubmitted: Vec<u64>,
    /// What sources had to say so far, for those who subscribe later.
    announced: VecDeque<Update>,
    flushes: Vec<Flush>,
    forgetting: Vec<Forgetting>,
    /// How long rows wait for those of them who want exact answers.
    patience: Patience,
    /// Requests that were heard since an epoch could be closed.
    n_heard: usize,
    sinks: Vec<RunningSink>,
    /// Sinks of earlier processes: they are owed what they miss.
    parked: Parked,
    /// Which history of epochs this is.
    origin: u64,
    /// Those that it was before it was restored from a backup: what sinks were told under them is
    /// replaced by the first that they are told now.
    former: Arc<[u64]>,
    /// For what runs beside the workers.
    report: Sender<Report>,
    /// Epochs that are closed, and not yet stored.
    unstored: VecDeque<ClosedEpoch>,
    next_epoch: Epoch,
    /// The last epoch closed.
    closed: Option<Epoch>,
    /// The last epoch that the state directory holds.
    stored: Option<Epoch>,
    durable: Option<Durable>,
    /// What is to be recorded to, once all is declared.
    log: Option<Log>,
    recording: Option<Recording>,
}

/// What the coordinator woke for.
enum Woken {
    Request(Option<Request>),
    Report(Option<Report>),
    Source(StreamId, Option<Event>),
    /// Something that waited for the clock may go on.
    Clock,
}

impl Coordinator {
    pub(crate) fn run(&mut self) {
        let mut is_told_to = false;
        loop {
            if let Err(error) = self.advance() {
                self.fail(error.to_string());
                break;
            }
            self.heal();
            self.measure();
            if self.answer_flushes() {
                continue;
            }
            self.tell_stale();
            self.tell_trouble();
            match self.wait() {
                Woken::Request(None | Some(Request::Stop)) => {
                    is_told_to = true;
                    break;
                }
                Woken::Request(Some(request)) => {
                    self.n_heard += 1;
                    self.serve(request);
                }
                Woken::Report(Some(Report::Answer {
                    view,
                    context,
                    answer,
                    diff,
                })) => {
                    // One that is dropped says nothing any more.
                    let view = self.views.get_mut(&view).and_then(View::generating_mut);
                    if let Some(view) = view {
                        let deltas = view.deltas.entry(context).or_default();
                        deltas.push((answer, diff));
                    }
                }
                Woken::Report(Some(Report::Passages {
                    view,
                    group,
                    n,
                    diff,
                })) => {
                    let view = self.views.get_mut(&view).and_then(View::generating_mut);
                    if let Some(view) = view {
                        view.coverage.count(group, n, diff);
                    }
                }
                Woken::Report(Some(Report::Tuple { view, tuple, diff })) => {
                    let view = self.views.get_mut(&view);
                    if let Some(Body::Query(querying)) = view.map(|view| &mut view.body) {
                        querying.deltas.add(tuple, diff);
                    }
                }
                Woken::Report(Some(Report::Complete { view, epoch })) => {
                    if let Err(error) = self.complete(view, epoch) {
                        self.fail(error.to_string());
                        break;
                    }
                }
                Woken::Report(Some(Report::Refreshed { view, context })) => {
                    self.tell_early(view, &context);
                }
                Woken::Report(Some(Report::Healed {
                    view,
                    context,
                    healed,
                })) => {
                    if let Some(healed) = &healed {
                        self.charge(view, Spending::of_answer(&healed.outcome));
                        self.patience.note_healed();
                    }
                    let generating = self.views.get_mut(&view).and_then(View::generating_mut);
                    if let Some(of) = generating {
                        let healed = healed.map(|healed| *healed);
                        let had_fallen = of.healing.audits().has_fallen_back;
                        let services = &of.services;
                        of.healing.finish(&of.plan, services, context, healed);
                        self.tell_audits(view, had_fallen);
                    }
                }
                Woken::Report(Some(Report::Measured {
                    view,
                    context,
                    measured,
                })) => self.take_measured(view, &context, measured.map(|measured| *measured)),
                // No view waits for it.
                Woken::Report(Some(Report::Sink(SinkEvent::Delivered))) => {}
                Woken::Report(Some(Report::Sink(
                    SinkEvent::Failing { sink, message }
                    | SinkEvent::PutAside { sink, message }
                    | SinkEvent::Noted { sink, message }
                    | SinkEvent::Replaced { sink, message },
                ))) => {
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
                    self.fail(
                        "a dataflow worker ended; standard error tells of a panic".to_owned(),
                    );
                    break;
                }
                Woken::Source(stream, event) => self.take_event(stream, event),
                Woken::Clock => {}
            }
        }
        self.healings().for_each(|(_, healing)| healing.stop());
        self.measurings()
            .for_each(|(_, measuring)| measuring.give_way());
        self.record_last();
        if is_told_to && let Err(error) = self.store_last() {
            self.fail(error.to_string());
        }
        // They finish side by side.
        self.sinks.iter().for_each(RunningSink::close);
        self.hub.close();
    }

    /// The provisional answers of each view that asks a model.
    fn healings(&self) -> impl Iterator<Item = (ViewId, &Healing)> {
        let views = self.views.iter();
        views.filter_map(|(id, view)| Some((*id, &view.generating()?.healing)))
    }

    /// In the background, while nothing fresh is to do, or what is waits for it.
    fn heal(&mut self) {
        if !self.may_heal() {
            return;
        }
        // What drifted furthest and is read by most goes first.
        let weight = |(id, drift): (ViewId, f32)| {
            let n_readers = self.hub.n_subscribers(&self.views[&id].name);
            (id, drift * (1 + n_readers) as f32)
        };
        let most = self
            .healings()
            .filter(|(id, _)| self.background_hold(*id).is_none())
            .filter_map(|(id, h)| Some((id, h.urgency(self.wanted(id))?)))
            .map(weight)
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((id, _)) = most else { return };
        if self.healings().any(|(_, healing)| healing.is_running()) {
            return;
        }
        let (report, wanted) = (self.report.clone(), self.wanted(id));
        let view = self.views.get_mut(&id).and_then(View::generating_mut);
        let Some(view) = view else { return };
        let tell = move |healed| {
            // Nobody listens only when the engine is stopping.
            let _ = report.send(healed);
        };
        view.healing
            .start(id, &view.plan, &view.services, wanted, tell);
    }

    /// Which provisional answers of a view are to be made exact.
    fn wanted(&self, view: ViewId) -> Wanted {
        let Some(view) = self.views.get(&view).and_then(View::generating) else {
            return Wanted::All;
        };
        let policy = view.plan.policy;
        let is_bounded = matches!(policy, Policy::Bounded { .. } | Policy::Stable { .. });
        let is_asked =
            self.flushes.iter().any(|flush| flush.is_exact) || !self.forgetting.is_empty();
        match is_bounded && !is_asked && !view.services.book.has_fallen_back() {
            true => Wanted::Audited,
            false => Wanted::All,
        }
    }

    /// Says that a view fell back, if it just did.
    fn tell_audits(&mut self, view: ViewId, had_fallen: bool) {
        let Some(view) = self.views.get(&view).and_then(View::generating) else {
            return;
        };
        let (stats, plan) = (view.healing.audits(), &view.plan);
        if stats.has_fallen_back && !had_fallen {
            let why = match stats.mean_regret > plan.policy.tolerated_regret() {
                true => format!("{:.3} nats a token on average", stats.mean_regret),
                false => format!("unknown of {} of them", stats.n_unmeasured),
            };
            let message = format!(
                "the regret of audited answers is {why}, past the bound of {}: the view falls back to \
                 exact answers",
                plan.policy
            );
            let source = plan.name.to_string();
            let epoch = self.closed.unwrap_or_default();
            let note = |of: &Durable| of.state.note_fall_back(&source, epoch).err();
            let unsaved = self.durable.as_ref().and_then(note);
            self.announce(Update::Notice {
                source: source.clone(),
                message,
            });
            if let Some(error) = unsaved {
                let message = format!("a restart will not know that it fell back: {error}");
                self.announce(Update::Notice { source, message });
            }
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
        let is_much = self.n_pending() >= MAX_PENDING_ROWS;
        let is_full = is_much && self.is_busy();
        let nothing = never();
        let mut select = Select::new();
        let request = select.recv(if is_full { &nothing } else { &self.inbox });
        let report = select.recv(&self.reports);
        let mut sources = HashMap::new();
        for (id, stream) in &self.streams {
            if let Some(source) = stream.source.as_ref().filter(|_| !is_full) {
                sources.insert(select.recv(source.events()), (*id, source));
            }
        }
        let ready = match self.wakes_at() {
            None => select.select(),
            Some(at) => match select.select_deadline(at) {
                Ok(ready) => ready,
                Err(_) => return Woken::Clock,
            },
        };
        match ready.index() {
            i if i == request => Woken::Request(ready.recv(&self.inbox).ok()),
            i if i == report => Woken::Report(ready.recv(&self.reports).ok()),
            i => {
                let (id, source) = sources[&i];
                Woken::Source(id, ready.recv(source.events()).ok())
            }
        }
    }

    /// Takes what sources have said by now: who asks for what was sent before asks for that, too.
    fn hear_sources(&mut self) {
        let sources = self.streams.iter();
        let sources =
            sources.filter_map(|(id, stream)| Some((*id, stream.source.as_ref()?.events())));
        let said: Vec<_> = sources
            .flat_map(|(id, events)| {
                events
                    .try_iter()
                    .take(events.len())
                    .map(move |event| (id, event))
            })
            .collect();
        for (id, event) in said {
            self.take_event(id, Some(event));
        }
    }

    fn n_pending(&self) -> usize {
        let streams = self.streams.values();
        streams.map(|stream| stream.table.n_pending()).sum()
    }

    /// Whether any view works on an epoch.
    fn is_busy(&self) -> bool {
        self.views.values().any(|view| view.in_flight.is_some())
    }

    /// The newest epoch that every view reflects.
    fn stands_at(&self) -> Option<Epoch> {
        let views = self.views.values().map(|view| view.stands_at);
        views.min().unwrap_or(self.closed).min(self.closed)
    }

    /// The newest epoch that every view reflects, here or, before the first, in the process before.
    fn last_complete(&self) -> Option<Epoch> {
        match self.closed {
            Some(_) => self.stands_at(),
            None => self.stored,
        }
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
}
