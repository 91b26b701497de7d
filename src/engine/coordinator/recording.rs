//! What is recorded of the epochs that views complete?
//!
//! A recording tells of moments at which all views stand at one epoch, so that a replay can hold
//! every answer against what it then says. With one view that is each of its epochs; with several,
//! each moment at which none has anything left to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use perennial_bank::ContextKey;
use perennial_rows::Key;
use perennial_views::Epoch;

use super::Coordinator;
use crate::engine::clock::now_ms;
use crate::recording::{EpochAnswer, RecordedAnswer, RecordedEpoch, Recorder};
use crate::state::StoredRow;

/// A recording, and what it has not been told yet: the net change since the last moment.
pub(super) struct Recording {
    recorder: Recorder,
    epoch: Option<Epoch>,
    rows: BTreeMap<(Arc<str>, Key), Option<StoredRow>>,
    answers: BTreeMap<(Arc<str>, ContextKey), Option<RecordedAnswer>>,
}

impl Recording {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            epoch: None,
            rows: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// Where it goes.
    pub(super) fn path(&self) -> &Path {
        self.recorder.path()
    }

    /// Notes rows of an epoch.
    pub(super) fn note_rows(
        &mut self,
        epoch: Epoch,
        rows: impl Iterator<Item = (Arc<str>, Key, Option<StoredRow>)>,
    ) {
        self.epoch = self.epoch.max(Some(epoch));
        self.rows
            .extend(rows.map(|(stream, key, row)| ((stream, key), row)));
    }

    /// Notes answers of an epoch.
    pub(super) fn note_answers(
        &mut self,
        answers: impl Iterator<Item = (Arc<str>, ContextKey, Option<RecordedAnswer>)>,
    ) {
        self.answers
            .extend(answers.map(|(view, context, now)| ((view, context), now)));
    }

    /// Writes what was noted as one epoch.
    fn tell(&mut self, at_ms: i64) {
        let Some(epoch) = self.epoch.take() else {
            return;
        };
        let rows = std::mem::take(&mut self.rows).into_iter();
        let answers = std::mem::take(&mut self.answers).into_iter();
        self.recorder.take(RecordedEpoch {
            epoch,
            at_ms,
            rows: rows
                .map(|((stream, key), row)| (stream, key.as_str().to_owned(), row))
                .collect(),
            answers: answers
                .map(|((view, context), now)| EpochAnswer { view, context, now })
                .collect(),
        });
    }
}

impl Coordinator {
    /// Records at the end what was noted, if all views stand at one epoch: what they have not taken
    /// yet is not among it.
    pub(super) fn record_last(&mut self) {
        let mut stand = self.views.values().map(|view| view.stands_at);
        let first = stand.next();
        let are_even = stand.all(|at| Some(at) == first);
        if let Some(recording) = self.recording.as_mut().filter(|_| are_even) {
            recording.tell(now_ms());
        }
    }

    /// Records what was noted, if all views stand at one epoch.
    pub(super) fn record_if_even(&mut self, at_ms: i64) {
        if self.recording.is_none() {
            return;
        }
        let is_at_rest = |id| {
            let view = &self.views[id];
            let has_work = || {
                self.may_take(*id)
                    .is_some_and(|upto| self.has_work(*id, upto))
            };
            view.in_flight.is_none() && !has_work()
        };
        if self.views.keys().all(is_at_rest)
            && let Some(recording) = &mut self.recording
        {
            recording.tell(at_ms);
        }
    }
}
