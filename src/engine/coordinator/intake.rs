//! What becomes of what a source says: rows that wait for the next epoch, refusals, words for
//! subscribers.

use std::collections::BTreeSet;
use std::time::Instant;

use perennial_connectors::{
    Batch, CONTENT_LIMIT, Change, Event, Offset, Rejected, Rejection, SourceName, TraceParent,
};
use perennial_rows::{Key, Row};
use serde_json::json;

use super::Coordinator;
use crate::engine::names::StreamId;
use crate::engine::tracer::{Taken, Tracer, named};
use crate::engine::update::Update;

impl Coordinator {
    pub(super) fn take_event(&mut self, id: StreamId, event: Option<Event>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let source = stream.name.to_string();
        match event {
            Some(Event::Batch(batch)) => self.take_batch(id, batch),
            Some(Event::CaughtUp) => stream.has_caught_up = true,
            Some(Event::StartedOver(scope)) => {
                if scope.is_all() {
                    self.quarantine.begin(&stream.name, true);
                }
                stream.start_over(scope);
            }
            Some(Event::SaidAgain(scope)) => stream.end_over(&scope),
            Some(Event::Notice(notice)) => self.announce(Update::Notice {
                source,
                message: notice.to_string(),
            }),
            Some(Event::Ended) => {
                stream.has_caught_up = true;
                stream.starting_over.clear();
                stream.source = None;
                self.announce(Update::SourceEnded { source });
            }
            Some(Event::Failed(error)) => {
                let message = error.to_string();
                stream.fail(&message);
                self.announce(Update::SourceFailed { source, message });
            }
            Some(_) => {}
            None => {
                let message =
                    "the source ended without a word; standard error tells of a panic".to_owned();
                stream.fail(&message);
                self.announce(Update::SourceFailed { source, message });
            }
        }
    }

    fn take_batch(&mut self, id: StreamId, batch: Batch) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let tracer = self.hub.tracer();
        let traced = tracer.map(|_| TracedBatch::of(&batch));
        if batch.resume.is_some() {
            // Until all is said again, the offset of before tells that it is to be.
            match stream.starting_over.is_empty() {
                true => stream.resume = batch.resume,
                false => stream.resume_over = batch.resume,
            }
        }
        let (mut rejected, mut n_late_deletes) = (batch.rejected, 0);
        for change in batch.changes {
            let newer = stream
                .table
                .newer_than(change.key().as_str(), claimed(&change));
            // One that is gone since later cannot go any more.
            if newer.is_some() && is_delete(&change) && !stream.table.holds(change.key().as_str()) {
                continue;
            }
            if let Some(held_ms) = newer {
                n_late_deletes += usize::from(is_delete(&change));
                rejected.push(late(&stream.name, change, held_ms));
                continue;
            }
            self.quarantine.accept(&stream.name, change.key().as_str());
            stream.places.forget(change.key());
            match change {
                Change::Upsert(record) => {
                    stream.places.note(&record.key, &record.offset);
                    stream.table.set(record.key, Some(record.row));
                }
                Change::Delete {
                    key,
                    at_ms,
                    is_timed: true,
                    ..
                } => stream.table.delete_at(key, at_ms),
                Change::Delete { key, .. } => stream.table.set(key, None),
            }
        }
        if let (Some(tracer), Some(traced)) = (tracer, traced) {
            traced.tell(&**tracer, &stream.name, (rejected.len(), n_late_deletes));
        }
        for rejected in rejected {
            self.quarantine.add(&rejected);
            self.announce(Update::Rejected(rejected));
        }
    }

    /// Takes rows that a caller gives.
    pub(super) fn apply(
        &mut self,
        rows: Vec<(StreamId, Key, Option<Row>)>,
        trace: Option<TraceParent>,
    ) {
        if let Some(tracer) = self.hub.tracer() {
            self.tell_applied(&**tracer, &rows, trace);
        }
        for (stream, key, row) in rows {
            // One that was dropped meanwhile takes no rows.
            if let Some(stream) = self.streams.get_mut(&stream) {
                stream.places.forget(&key);
                stream.table.set(key, row);
            }
        }
    }

    fn tell_applied(
        &self,
        tracer: &dyn Tracer,
        rows: &[(StreamId, Key, Option<Row>)],
        trace: Option<TraceParent>,
    ) {
        let began = Instant::now();
        let streams: BTreeSet<StreamId> = rows.iter().map(|(stream, _, _)| *stream).collect();
        for id in streams {
            let Some(stream) = self.streams.get(&id) else {
                continue;
            };
            let of_stream = || rows.iter().filter(|(of, _, _)| *of == id);
            let n_deletes = of_stream().filter(|(_, _, row)| row.is_none()).count();
            tracer.taken(&Taken {
                stream: &stream.name,
                parent: trace,
                n_upserts: of_stream().count() - n_deletes,
                n_deletes,
                n_rejected: 0,
                keys: &named(of_stream().map(|(_, key, _)| key)),
                offset: None,
                began,
            });
        }
    }
}

fn is_delete(change: &Change) -> bool {
    matches!(change, Change::Delete { .. })
}

/// The time that a change claims to be of.
fn claimed(change: &Change) -> Option<i64> {
    match change {
        Change::Upsert(record) => record.row.is_timed.then_some(record.row.updated_at_ms),
        Change::Delete {
            at_ms, is_timed, ..
        } => is_timed.then_some(*at_ms),
    }
}

/// The refusal of a change that is older than what is held.
fn late(stream: &str, change: Change, held_ms: i64) -> Rejected {
    let (key, got_ms, offset, content) = match change {
        Change::Upsert(record) => {
            let content = record.to_json();
            (record.key, record.row.updated_at_ms, record.offset, content)
        }
        Change::Delete {
            key, at_ms, offset, ..
        } => {
            let content = json!({"delete": {"key": key.as_str(), "updated_at": at_ms}});
            (key, at_ms, offset, content)
        }
    };
    let content = content.to_string().into_bytes();
    Rejected {
        source: SourceName::new(stream),
        offset,
        key: Some(key),
        reason: Rejection::Late { held_ms, got_ms },
        content: Some(content).filter(|content| content.len() <= CONTENT_LIMIT),
    }
}

/// What a tracer is told of a batch, which is used up meanwhile.
struct TracedBatch {
    parent: Option<TraceParent>,
    n_changes: usize,
    n_deletes: usize,
    n_rejected: usize,
    keys: Vec<Key>,
    offset: Option<Offset>,
    began: Instant,
}

impl TracedBatch {
    fn of(batch: &Batch) -> Self {
        Self {
            parent: batch.trace,
            n_changes: batch.changes.len(),
            n_deletes: batch
                .changes
                .iter()
                .filter(|change| is_delete(change))
                .count(),
            n_rejected: batch.rejected.len(),
            keys: named(batch.changes.iter().map(Change::key)),
            offset: batch.resume.clone(),
            began: Instant::now(),
        }
    }

    /// Tells it, given how many records were refused in all, and how many deletions of them: some are, because
    /// newer ones are there.
    fn tell(
        &self,
        tracer: &dyn Tracer,
        stream: &str,
        (n_rejected, n_late_deletes): (usize, usize),
    ) {
        let n_late = n_rejected.saturating_sub(self.n_rejected);
        let n_upserts = self.n_changes.saturating_sub(self.n_deletes);
        tracer.taken(&Taken {
            stream,
            parent: self.parent,
            n_upserts: n_upserts.saturating_sub(n_late.saturating_sub(n_late_deletes)),
            n_deletes: self.n_deletes.saturating_sub(n_late_deletes),
            n_rejected,
            keys: &self.keys,
            offset: self.offset.as_ref(),
            began: self.began,
        });
    }
}
