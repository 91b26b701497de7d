//! When is an epoch closed, and what does it carry?
//!
//! # Design
//! An epoch is the net change of all streams since the one before. It is closed when rows wait and
//! a view that reads them is ready for more (or nobody reads them): so a burst of edits while
//! every reader is at work is one epoch, and a slow view does not keep a fast one waiting. A view
//! that tells each answer when it is there is ready for more while it is at work. One that lets changes
//! wait on purpose (`pacing.rs`) is ready, too: what is closed can be stored while it waits.
//!
//! Requests that wait already are heard first, but not without end: callers that never pause do not keep
//! an epoch open. While somebody waits for exact answers (`waiting.rs`), epochs carry these and no rows.

use std::collections::BTreeSet;
use std::time::Instant;

use perennial_connectors::Offset;
use perennial_rows::Key;
use perennial_views::Epoch;

use super::stream::Stream;
use super::view::View;
use super::waiting::Flush;
use super::{Coordinator, MAX_PENDING_ROWS};
use crate::engine::change_log::{Change as _, KeyedChange};
use crate::engine::clock::now_ms;
use crate::engine::names::{Named, StreamId, ViewId};
use crate::engine::quarantine::QuarantineDeltas;
use crate::engine::reading::Origin;
use crate::engine::recent::{KeyChange, KeyChangeKind};
use crate::state::{Note, StateError, StoredRow, StoredSchema};

/// After so many requests an epoch closes, whatever waits behind them.
const MAX_HEARD: usize = 256;

/// A closed epoch, until it is stored: with the answers of the first view that reflects it.
pub(super) struct ClosedEpoch {
    pub(super) epoch: Epoch,
    /// What is to be stored or recorded with it.
    pub(super) rows: Vec<(StreamId, Key, Option<StoredRow>)>,
    pub(super) offsets: Vec<(StreamId, Option<Offset>)>,
    /// When keys were deleted, or that this is forgotten.
    pub(super) deletions: Vec<(StreamId, Key, Option<i64>)>,
    /// Of streams of which it is not stored: their columns, or their end.
    pub(super) schemas: Vec<(StreamId, Option<StoredSchema>)>,
    pub(super) quarantine: QuarantineDeltas,
    pub(super) resubmitted: Vec<u64>,
}

/// What is pending, made current.
struct NetChange {
    /// What is to be stored or recorded of it.
    rows: Vec<(StreamId, Key, Option<StoredRow>)>,
    n_deltas: usize,
    changed: BTreeSet<Origin>,
}

impl Coordinator {
    /// Closes an epoch if it is time, and gives views what they are ready for.
    pub(super) fn advance(&mut self) -> Result<(), StateError> {
        // Who flushes what is closed already waits for no target lag.
        self.close_flushes();
        // What is closed goes first: who takes it needs no further epoch to begin.
        self.feed_views();
        self.close_epoch()?;
        self.feed_views();
        self.store_forgotten()?;
        match self.is_busy() {
            true => {
                self.store_overdue()?;
                self.store_held()?;
            }
            false => self.store_closed()?,
        }
        self.acknowledge();
        Ok(())
    }

    /// Closes the pending epoch if every source has given what it had at the start, so that the
    /// first answer is over all documents.
    fn close_epoch(&mut self) -> Result<(), StateError> {
        let is_heard = self.inbox.is_empty()
            || self.n_heard >= MAX_HEARD
            || self.n_pending() >= MAX_PENDING_ROWS;
        let may_close = !self.is_held
            && is_heard
            && self.streams.values().all(Stream::is_settled)
            && self.is_wanted();
        if !may_close {
            return Ok(());
        }
        self.n_heard = 0;
        if self.is_settling() {
            self.close_for_healed();
            return Ok(());
        }
        let epoch = self.next_epoch;
        let NetChange {
            rows,
            n_deltas,
            changed,
        } = self.commit_rows(epoch);
        let is_due = self.views.keys().any(|id| self.is_due(*id));
        if n_deltas == 0 && !is_due && !self.is_to_begin() {
            self.note_closed_flushes();
            if let Some(tracer) = self.hub.tracer() {
                tracer.closed(None, 0);
            }
            if self.unstored.is_empty() {
                self.save_note()?;
            }
            return Ok(());
        }
        if n_deltas > 0 && self.is_exact_awaited() {
            self.patience.renew();
        }
        self.note_closed(n_deltas);
        self.note_changed(&changed, epoch);
        self.note_closed_flushes();
        let closed = self.closed_epoch(epoch, rows);
        self.unstored.push_back(closed);
        Ok(())
    }

    /// The engine ends: rows that were given by hand stand nowhere else, so they are stored, though no view has
    /// taken them yet. Who feeds a stream that has not said all says it again.
    pub(super) fn store_last(&mut self) -> Result<(), StateError> {
        if self.is_held || self.durable.is_none() {
            return Ok(());
        }
        let epoch = self.next_epoch;
        let NetChange { rows, .. } = self.commit_rows(epoch);
        let unstored = self.unstored.iter().flat_map(|closed| &closed.rows);
        let by_hand = |(id, ..): &(StreamId, Key, Option<StoredRow>)| self.is_table(*id);
        if !unstored.chain(&rows).any(by_hand) {
            return Ok(());
        }
        if !rows.is_empty() {
            self.note_closed(rows.len());
            let closed = self.closed_epoch(epoch, rows);
            self.unstored.push_back(closed);
        }
        let at_ms = now_ms();
        for closed in self.take_closed(Epoch::MAX) {
            self.store_rows(closed, at_ms)?;
        }
        Ok(())
    }

    /// Whether a stream is fed by hand.
    fn is_table(&self, id: StreamId) -> bool {
        let name = self.streams.get(&id).map(|stream| &*stream.name);
        name.and_then(|name| self.names.get(name)) == Some(Named::Table(id))
    }

    /// Makes what is pending current, of every stream whose source has said all that stands.
    fn commit_rows(&mut self, epoch: Epoch) -> NetChange {
        let is_kept = self.durable.is_some() || self.recording.is_some();
        let (mut rows, mut n_deltas) = (Vec::new(), 0);
        let mut changed = BTreeSet::new();
        for (id, stream) in self.streams.iter_mut().filter(|(_, s)| s.is_settled()) {
            let deltas = stream.table.commit();
            n_deltas += deltas.len();
            if is_kept {
                let kept = deltas.iter().filter(|delta| delta.stored != delta.new);
                rows.extend(kept.map(|delta| {
                    let row = delta.new.as_ref().map(StoredRow::from);
                    (*id, delta.key.clone(), row)
                }));
            }
            for delta in &deltas {
                let kind = match (&delta.old, &delta.new) {
                    (None, Some(_)) => KeyChangeKind::Came,
                    (_, Some(_)) => KeyChangeKind::Changed,
                    (_, None) => KeyChangeKind::Went,
                };
                let key = delta.key.clone();
                stream.recent.push(KeyChange { epoch, key, kind });
            }
            let deltas = deltas.into_iter();
            let change: KeyedChange = deltas.map(|d| (d.key, d.old, d.new)).collect();
            if !change.is_empty() {
                changed.insert(Origin::Stream(*id));
            }
            stream.log.push(epoch, change);
        }
        NetChange {
            rows,
            n_deltas,
            changed,
        }
    }

    /// An epoch that carries these rows, with what is to be stored besides of the streams that they are of.
    fn closed_epoch(
        &mut self,
        epoch: Epoch,
        rows: Vec<(StreamId, Key, Option<StoredRow>)>,
    ) -> ClosedEpoch {
        let mut deletions = Vec::new();
        let (mut offsets, mut schemas, mut are_settled) = (Vec::new(), Vec::new(), true);
        for (id, stream) in &mut self.streams {
            if !stream.is_settled() {
                are_settled = false;
                continue;
            }
            let unsaved = stream.table.take_unsaved_deletions().into_iter();
            deletions.extend(unsaved.map(|(key, at_ms)| (*id, key, at_ms)));
            offsets.push((*id, stream.resume.clone()));
            schemas.extend(stream.unsaved_schema().map(|schema| (*id, Some(schema))));
        }
        let mut closed = ClosedEpoch {
            rows,
            offsets,
            deletions,
            schemas,
            ..ClosedEpoch::nothing(epoch)
        };
        // They may be of a stream whose offset is not among these: it says them again.
        if are_settled {
            closed.quarantine = self.quarantine.take_unsaved();
            closed.resubmitted = std::mem::take(&mut self.resubmitted);
        }
        closed
    }

    /// Closes an epoch that carries no row, if answers that were healed wait for one.
    fn close_for_healed(&mut self) {
        let is_due = |id: &ViewId| self.is_due(*id) && self.is_ready(*id);
        if !self.views.keys().any(is_due) {
            return;
        }
        let epoch = ClosedEpoch::nothing(self.next_epoch);
        self.unstored.push_back(epoch);
        self.note_closed(0);
    }

    /// The next epoch is closed.
    fn note_closed(&mut self, n_deltas: usize) {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.closed = Some(epoch);
        if let Some(tracer) = self.hub.tracer() {
            tracer.closed(Some(epoch), n_deltas);
        }
    }

    /// Notes for every view that reads one of these that an epoch changed it.
    pub(super) fn note_changed(&mut self, changed: &BTreeSet<Origin>, epoch: Epoch) {
        let now = Instant::now();
        for view in self.views.values_mut() {
            if view.origins().iter().any(|read| changed.contains(read)) {
                view.backlog.push(epoch, now);
            }
        }
    }

    /// Whether somebody is ready for the epoch that would be closed, or nobody would read it.
    fn is_wanted(&self) -> bool {
        let pending = self.streams.iter();
        let pending = pending.filter(|(_, stream)| stream.table.n_pending() > 0);
        let pending: BTreeSet<Origin> = pending.map(|(id, _)| Origin::Stream(*id)).collect();
        let is_reader = |view: &View| view.origins().iter().any(|o| pending.contains(o));
        let mut readers = self.views.iter().filter(|(_, view)| is_reader(view));
        let is_due = |id: &ViewId| self.is_due(*id) && self.is_ready(*id);
        if self.views.keys().any(is_due) {
            return true;
        }
        // Who waits for some views waits for no others.
        let is_asked = |flush: &Flush| !flush.bound.is_closed() && flush.views.is_some();
        if self.flushes.iter().any(is_asked) {
            return true;
        }
        match readers.next() {
            // Rows that nobody reads, or nothing but offsets: they are stored as they come.
            None => !self.is_busy() || !pending.is_empty(),
            Some(first) => {
                let mut readers = std::iter::once(first).chain(readers);
                readers.any(|(id, _)| self.is_ready(*id))
            }
        }
    }

    /// Whether a view could take in the next epoch at once: neither it nor what it reads is at
    /// work, or what is may be overtaken.
    pub(super) fn is_ready(&self, id: ViewId) -> bool {
        let view = &self.views[&id];
        self.may_begin(id)
            && view.origins().into_iter().all(|origin| match origin {
                Origin::Stream(_) => true,
                Origin::View(read) => self.is_ready(read),
            })
    }

    /// Whether a view can take an epoch that all it reads stands at, whatever that is at by now.
    pub(super) fn may_begin(&self, id: ViewId) -> bool {
        self.views[&id].takes_more()
    }

    /// Whether a view has answers of an earlier process that nothing has confirmed yet, or sinks
    /// that are to hear how what stands differs from what they have, or has a row of nothing, as a count
    /// has.
    fn is_to_begin(&self) -> bool {
        let mut generating = self.views.values().filter_map(View::generating);
        let is_waited_for = || {
            let mut views = self.views.values();
            self.sinks.iter().any(|sink| sink.is_waiting)
                || views.any(|view| !view.given.is_empty() || view.may_say_of_nothing())
        };
        // Once there is an epoch, every view takes it in its time.
        generating.any(|view| view.restored.is_some()) || self.closed.is_none() && is_waited_for()
    }

    /// What is to be stored though no row changes.
    fn note(&mut self) -> Note {
        let streams = self.streams.values();
        let offsets = streams.map(|s| (s.name.to_string(), s.resume.clone()));
        let streams = self.streams.values();
        let schemas = streams.filter_map(|s| Some((s.name.to_string(), s.unsaved_schema()?)));
        let (offsets, schemas) = (offsets.collect(), schemas.collect());
        let mut deletions = Vec::new();
        for stream in self.streams.values_mut() {
            let unsaved = stream.table.take_unsaved_deletions().into_iter();
            let name = stream.name.to_string();
            deletions.extend(unsaved.map(|(key, at_ms)| (name.clone(), key.to_string(), at_ms)));
        }
        Note {
            offsets,
            schemas,
            deletions,
            quarantine: self.quarantine.take_unsaved(),
            resubmitted: std::mem::take(&mut self.resubmitted),
        }
    }

    /// Stores refusals with the offsets behind them, while every row is stored.
    fn save_note(&mut self) -> Result<(), StateError> {
        let mut streams = self.streams.values();
        let is_stream_saved = |s: &Stream| {
            s.resume == s.saved && s.is_schema_saved && !s.table.has_unsaved_deletions()
        };
        let is_saved = streams.all(is_stream_saved)
            && !self.quarantine.is_unsaved()
            && self.resubmitted.is_empty();
        if is_saved && self.durable.is_some() {
            return Ok(());
        }
        // Before what is saved is noted as such.
        let note = self.durable.is_some().then(|| self.note());
        for stream in self.streams.values_mut() {
            stream.save(stream.resume.clone(), self.closed);
            // Where nothing is stored, nothing is to be.
            stream.table.take_unsaved_deletions();
        }
        match self.durable.as_ref().zip(note) {
            Some((durable, note)) => durable.state.note(&note),
            None => Ok(()),
        }
    }

    /// Drops of every log what nobody will ask for.
    pub(super) fn compact_logs(&mut self) {
        let have_all_begun = self.views.values().all(|view| view.stands_at.is_some());
        let views = self.views.values();
        let stands = views.map(|view| [view.stands_at, view.in_flight.as_ref().map(|f| f.epoch)]);
        // Who has not begun takes what stands, at an epoch that all it reads have reached.
        let begun = self.views.values().filter_map(View::least_epoch);
        let Some(least) = begun.min().or(self.closed) else {
            return;
        };
        let stands: BTreeSet<Epoch> = stands.flatten().flatten().chain([least]).collect();
        let stands: Vec<Epoch> = stands.into_iter().chain(self.closed).collect();
        let stands: Vec<Epoch> = stands.into_iter().filter(|at| *at >= least).collect();
        for stream in self.streams.values_mut() {
            stream.log.compact(&stands);
            if have_all_begun && !self.is_declaring {
                stream.restored.clear();
            }
        }
        for view in self.views.values_mut() {
            view.log.compact(&stands);
        }
    }
}
