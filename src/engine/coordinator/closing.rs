//! When does an epoch close, and what does it carry?

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use perennial_operators::DocumentKey;

use super::{Coordinator, InFlight};
use crate::engine::healing::Healing;
use crate::engine::sinks::RunningSink;
use crate::engine::tables::{RowDelta, context, document};
use crate::engine::update::{
    DocumentChange, DocumentChangeKind, EpochStart, MAX_NAMED_CHANGES, Update,
};
use crate::engine::workers::{Command, Share, StreamDeltas};
use crate::state::{Note, StateError, StoredRow};

impl Coordinator {
    /// Closes the pending epoch if none is in flight and every source has given what it
    /// had at the start, so that the first answer is over all documents.
    pub(super) fn close_epoch(&mut self) -> Result<(), StateError> {
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
                        share.documents.push((document(&delta.key, row), diff));
                    }
                    if as_contexts {
                        share.contexts.push((context(&delta.key, row), diff));
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
    pub(super) fn note(&mut self) -> Note {
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
        if is_saved || self.durable.is_none() {
            return Ok(());
        }
        let note = self.note();
        self.saved_offsets = note.offsets.iter().map(|(_, o)| o.clone()).collect();
        match &self.durable {
            Some(durable) => durable.state.note(&note),
            None => Ok(()),
        }
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
