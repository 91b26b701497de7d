//! What of an epoch is made durable, and when?
//!
//! # Design
//! The rows of an epoch are stored in one transaction with the answers of the first view that
//! reflects it; so for one view, rows and the answers over them are there together or not at all.
//! Slower views bring their answers later, into the last epoch that is stored: its history tells
//! what stood while it was the last. Rows that no view reads are stored when nothing is at work.
//! Where epochs overtake one another for long, all but the last of them are stored without the
//! answers, too: what waits in memory is bounded. Rows that a view lets wait on purpose (`pacing.rs`) are
//! stored at once, unless somebody is at work on them.

use std::sync::Arc;
use std::time::Instant;

use perennial_bank::ContextKey;
use perennial_connectors::{Delivery, OutputRow};
use perennial_views::Epoch;

use super::closing::ClosedEpoch;
use super::completing::Completed;
use super::view::View;
use super::{Coordinator, MAX_PENDING_ROWS};
use crate::engine::clock::now_ms;
use crate::engine::current::CurrentAnswer;
use crate::engine::log;
use crate::engine::names::ViewId;
use crate::engine::quarantine::QuarantineDeltas;
use crate::engine::reading::Origin;
use crate::engine::tracer::Stored;
use crate::engine::update::Update;
use crate::engine::upserts::UpsertDigest;
use crate::state::{Commit, StateError, StoredAnswer};

/// Closed epochs that wait for the answers over them.
const MAX_UNSTORED: usize = 64;

/// What sinks are owed, by their place.
type Owed = Vec<(usize, Delivery)>;

/// Answers to be stored, by view and context; none where there is none any more.
type StoredAnswers = Vec<(Arc<str>, ContextKey, Option<StoredAnswer>)>;

/// What is stored with the rows of an epoch: what a view says of them.
#[derive(Default)]
struct Said {
    /// Whose it is, and which epoch it reflects; none of rows alone.
    view: Option<(Arc<str>, Epoch)>,
    answers: StoredAnswers,
    deliveries: Owed,
    /// What is added to the last that sinks are owed, since so much is.
    merged: Owed,
    /// What sinks are owed that are not there, by their place among these.
    parked: Owed,
    /// By view and key: what its sinks then have.
    given: Vec<(Arc<str>, String, Option<UpsertDigest>)>,
    /// By place: sinks that have waited for the first epoch of their view.
    begun: Vec<usize>,
}

impl Coordinator {
    /// Stores what a view says as of an epoch, with all rows up to it, and owes it to its sinks.
    pub(super) fn store_view(
        &mut self,
        id: ViewId,
        completed: &Completed,
        epoch: Epoch,
    ) -> Result<(), StateError> {
        let at_ms = now_ms();
        let mut closed = self.take_closed(epoch);
        let last = closed.pop();
        for earlier in closed {
            self.store_rows(earlier, at_ms)?;
        }
        let said = self.said(id, epoch, completed);
        if let Some(recording) = &mut self.recording {
            let view = self.views[&id].generating();
            let answers = view.into_iter().flat_map(|view| {
                let touched = completed.touched.iter();
                touched.map(|context| {
                    let now = view.answers.get(context).map(CurrentAnswer::recorded);
                    (view.plan.name.clone(), context.clone(), now)
                })
            });
            recording.note_answers(answers);
        }
        // A slower view adds to the last epoch that is stored.
        let last = last.unwrap_or_else(|| ClosedEpoch::nothing(self.stored.unwrap_or(epoch)));
        let said = self.store_epoch(last, said, at_ms)?;
        self.record_if_even(at_ms);
        for sink in said.begun {
            self.sinks[sink].is_waiting = false;
        }
        for (sink, delivery) in said.deliveries {
            self.sinks[sink].owe(delivery);
            if self.sinks[sink].has_become_full() {
                let source = self.sinks[sink].name.clone();
                let message = format!(
                    "{} epochs are not delivered: of those that follow it is told together, once it takes them",
                    self.sinks[sink].n_owed()
                );
                self.announce(Update::Notice { source, message });
            }
        }
        for (sink, delivery) in said.merged {
            self.sinks[sink].merge(delivery);
        }
        Ok(())
    }

    /// Stores closed epochs that no view is to reflect: nothing is at work.
    pub(super) fn store_closed(&mut self) -> Result<(), StateError> {
        if self.unstored.is_empty() {
            return Ok(());
        }
        let at_ms = now_ms();
        for closed in self.take_closed(Epoch::MAX) {
            self.store_rows(closed, at_ms)?;
        }
        self.record_if_even(at_ms);
        self.compact_logs();
        Ok(())
    }

    /// Stores closed epochs that wait for their answers too long to be kept in memory.
    pub(super) fn store_overdue(&mut self) -> Result<(), StateError> {
        let n_rows = |closed: &ClosedEpoch| closed.rows.len();
        let mut n_waiting: usize = self.unstored.iter().map(n_rows).sum();
        while self.unstored.len() > MAX_UNSTORED
            || self.unstored.len() > 1 && n_waiting > MAX_PENDING_ROWS
        {
            let Some(closed) = self.unstored.pop_front() else {
                break;
            };
            n_waiting -= n_rows(&closed);
            self.store_rows(closed, now_ms())?;
        }
        Ok(())
    }

    /// Stores closed epochs that nobody is at work on, and that a view lets wait on purpose: its
    /// rows are not to wait, too.
    pub(super) fn store_held(&mut self) -> Result<(), StateError> {
        let (Some(closed), Some(stored)) = (self.closed, self.stored) else {
            return Ok(());
        };
        let is_at_work = |view: &View| view.in_flight.as_ref().is_some_and(|f| f.epoch >= closed);
        let is_held = |(id, view): (&ViewId, &View)| {
            let is_changed = |read: Origin| match read {
                Origin::Stream(read) => self.streams[&read].log.has_between(stored, closed),
                Origin::View(_) => false,
            };
            view.origins().into_iter().any(is_changed) && self.held_back(*id).is_some()
        };
        let is_to_store = !self.unstored.is_empty()
            && !self.views.values().any(is_at_work)
            && self.views.iter().any(is_held);
        if !is_to_store {
            return Ok(());
        }
        let at_ms = now_ms();
        for closed in self.take_closed(closed) {
            self.store_rows(closed, at_ms)?;
        }
        self.compact_logs();
        Ok(())
    }

    /// The closed epochs up to one, which are to be stored now.
    pub(super) fn take_closed(&mut self, upto: Epoch) -> Vec<ClosedEpoch> {
        let n = self.unstored.partition_point(|closed| closed.epoch <= upto);
        self.unstored.drain(..n).collect()
    }

    /// What a view says of an epoch: to be stored, and for its sinks.
    fn said(&self, id: ViewId, epoch: Epoch, completed: &Completed) -> Said {
        let view = &self.views[&id];
        let places = |is_waiting| -> Vec<usize> {
            let sinks = self.sinks.iter().enumerate();
            let sinks = sinks.filter(|(_, s)| s.view == id && s.is_waiting == is_waiting);
            sinks.map(|(place, _)| place).collect()
        };
        let (begun, known) = (places(true), places(false));
        let (full, known): (Vec<usize>, Vec<usize>) = known
            .into_iter()
            .partition(|place| self.sinks[*place].is_full());
        let parked = self.parked.iter().enumerate();
        let parked = parked.filter(|(_, (_, of_view))| *of_view == id);
        let parked: Vec<usize> = parked.map(|(place, _)| place).collect();
        let owed = |places: &[usize], rows: &[OutputRow], is_told: bool| -> Owed {
            let delivery = |place: &usize| {
                let delivery = Delivery {
                    origin: self.origin,
                    view: view.name.to_string(),
                    epoch,
                    rows: rows.to_vec(),
                };
                (*place, delivery)
            };
            let places = places.iter().filter(|_| is_told);
            places.map(delivery).collect()
        };
        let is_news = !completed.outputs.is_empty();
        let mut deliveries = owed(&known, &completed.outputs, is_news);
        if !begun.is_empty() {
            let all = view.outputs();
            // That nothing stands is told, too, where something was told before.
            let is_told = !all.is_empty() || !self.former.is_empty();
            deliveries.extend(owed(&begun, &all, is_told));
        }
        let given = completed.given.iter();
        Said {
            view: Some((view.name.clone(), epoch)),
            answers: self.stored_answers(id, &completed.to_store),
            deliveries,
            merged: owed(&full, &completed.outputs, is_news),
            parked: owed(&parked, &completed.outputs, is_news),
            given: given
                .map(|(key, digest)| (view.name.clone(), key.clone(), *digest))
                .collect(),
            begun,
        }
    }

    /// The answers of a view in these contexts, as they are stored.
    fn stored_answers(&self, id: ViewId, contexts: &[ContextKey]) -> StoredAnswers {
        let (Some(durable), Some(view)) = (&self.durable, self.views[&id].generating()) else {
            return Vec::new();
        };
        let name = &view.plan.name;
        let answer = |context: &ContextKey| {
            let stored = view.answers.get(context).map(|current| {
                let request = durable.state.request_of(name, context);
                current.stored(request)
            });
            (name.clone(), context.clone(), stored)
        };
        contexts.iter().map(answer).collect()
    }

    /// One transaction of rows alone, with no answers over them.
    pub(super) fn store_rows(&mut self, closed: ClosedEpoch, at_ms: i64) -> Result<(), StateError> {
        self.store_epoch(closed, Said::default(), at_ms)?;
        Ok(())
    }

    /// One transaction. Returns what was stored with the rows.
    fn store_epoch(
        &mut self,
        closed: ClosedEpoch,
        mut said: Said,
        at_ms: i64,
    ) -> Result<Said, StateError> {
        if let Some(recording) = &mut self.recording {
            let rows = closed.rows.iter().filter_map(|(id, key, row)| {
                let stream = self.streams.get(id)?;
                Some((stream.name.clone(), key.clone(), row.clone()))
            });
            recording.note_rows(closed.epoch, rows);
        }
        self.stored = self.stored.max(Some(closed.epoch));
        for (id, offset) in &closed.offsets {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.save(offset.clone(), Some(closed.epoch));
            }
        }
        let Some(durable) = &mut self.durable else {
            return Ok(said);
        };
        // Nobody keeps the answers of views that are declared no more.
        let mut undeclared = std::mem::take(&mut durable.dropped);
        if !self.is_declaring {
            undeclared.extend(std::mem::take(&mut durable.restored.answers));
        }
        for (view, left) in &undeclared {
            let contexts = left.keys();
            let view: &Arc<str> = &Arc::from(view.as_str());
            let gone = contexts.map(|context| (view.clone(), context.clone(), None));
            said.answers.extend(gone);
        }
        let fallen = &mut durable.restored.fallen;
        fallen.retain(|view| !undeclared.contains_key(view));
        // Until a view stands, what is stored under its name may be of what it was declared as before.
        let standing = self.views.values().filter(|view| view.stands_at.is_some());
        let generating = standing.filter_map(|view| view.generating());
        let declared = generating.map(|view| (&*view.plan.name, Some(view.definition)));
        let gone = undeclared.keys().map(|name| (name.as_str(), None));
        let name = |id| self.streams.get(&id).map(|stream| &*stream.name);
        let rows = closed.rows.iter();
        let offsets = closed.offsets.iter();
        let deletions = closed.deletions.iter();
        let schemas = closed.schemas.into_iter();
        let (began, n_rows) = (Instant::now(), closed.rows.len());
        let committed = durable.state.commit(&Commit {
            epoch: closed.epoch,
            at_ms,
            rows: rows
                .filter_map(|(id, key, row)| Some((name(*id)?, key.as_str(), row.as_ref())))
                .collect(),
            offsets: offsets
                .filter_map(|(id, offset)| Some((name(*id)?, offset.clone())))
                .collect(),
            deletions: deletions
                .filter_map(|(id, key, at_ms)| Some((name(*id)?, key.as_str(), *at_ms)))
                .collect(),
            schemas: schemas
                .filter_map(|(id, schema)| Some((name(id)?, schema)))
                .collect(),
            views: declared.chain(gone).collect(),
            knows_uses: !self.is_declaring
                && self.views.values().all(|view| view.stands_at.is_some()),
            answers: said
                .answers
                .iter()
                .map(|(view, context, answer)| (&**view, context.clone(), answer.clone()))
                .collect(),
            quarantine: &closed.quarantine,
            resubmitted: &closed.resubmitted,
            deliveries: said
                .deliveries
                .iter()
                .map(|(sink, delivery)| (&*self.sinks[*sink].name, delivery))
                .collect(),
            merged: {
                let parked = said.parked.iter();
                let parked = parked.map(|(sink, delivery)| (&*self.parked[*sink].0, delivery));
                let full = said.merged.iter();
                let full = full.map(|(sink, delivery)| (&*self.sinks[*sink].name, delivery));
                parked.chain(full).collect()
            },
            given: said
                .given
                .iter()
                .map(|(view, key, digest)| (&**view, &**key, *digest))
                .collect(),
            begun: said
                .begun
                .iter()
                .map(|sink| &self.sinks[*sink])
                .map(|sink| (&*sink.name, &*self.views[&sink.view].name))
                .collect(),
        });
        let view = said.view.as_ref();
        let stored = Stored {
            epoch: closed.epoch,
            view: view.map(|(name, epoch)| (&**name, *epoch)),
            n_rows,
            n_answers: said.answers.len(),
            n_deliveries: said.deliveries.len() + said.parked.len(),
            is_ok: committed.is_ok(),
            began,
        };
        log::stored(&stored);
        if let Some(tracer) = self.hub.tracer() {
            tracer.stored(&stored);
        }
        committed?;
        Ok(said)
    }
}

impl ClosedEpoch {
    /// An epoch that is stored already, and changes no row any more.
    pub(super) fn nothing(epoch: Epoch) -> Self {
        Self {
            epoch,
            rows: Vec::new(),
            offsets: Vec::new(),
            deletions: Vec::new(),
            schemas: Vec::new(),
            quarantine: QuarantineDeltas::default(),
            resubmitted: Vec::new(),
        }
    }
}
