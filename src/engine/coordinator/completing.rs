//! What becomes of a complete epoch: answers made current, stored, and told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use perennial_ask::{Dependencies, Rung, Work};
use perennial_bank::ContextKey;
use perennial_connectors::{Delivery, OutputRow};
use perennial_views::{Epoch, Refresh};

use super::{AnswerDeltas, Coordinator, Durable, InFlight};
use crate::engine::audits::AuditStats;
use crate::engine::clock::now_ms;
use crate::engine::current::CurrentAnswer;
use crate::engine::sinks::MAX_OWED;
use crate::engine::update::{AnswerUpdate, ChangeKind, EpochSummary, RungCounts, Update};
use crate::recording::{EpochAnswer, RecordedEpoch};
use crate::state::{Commit, StateError, StoredAnswer};

/// What sinks are owed, by their index.
type Owed = Vec<(usize, Delivery)>;

impl Coordinator {
    /// Makes a complete epoch durable and delivers it: first every answer, then one summary
    /// a view.
    pub(super) fn complete(&mut self, epoch: Epoch) -> Result<(), StateError> {
        let Some(in_flight) = self.in_flight.take_if(|f| f.epoch == epoch) else {
            return Ok(());
        };
        let mut refreshes = self.hub.take_refreshes();
        let mut updates: Vec<(Arc<str>, Update)> = Vec::new();
        let mut to_store: Vec<(usize, ContextKey)> = Vec::new();
        let mut outputs: Vec<Vec<OutputRow>> = Vec::new();
        for view in 0..self.views.len() {
            let name = self.views[view].plan.name.clone();
            let mut deltas = std::mem::take(&mut self.deltas[view]);
            self.retract_restored(view, &mut deltas);
            let refreshed = refreshes.keys().filter(|(v, _)| *v == name);
            let refreshed = refreshed.map(|(_, context)| context);
            let touched: BTreeSet<ContextKey> = deltas.keys().chain(refreshed).cloned().collect();
            let mut summary = EpochSummary {
                view: name.clone(),
                epoch,
                rungs: RungCounts::default(),
                work: Work::default(),
                elapsed: in_flight.closed_at.elapsed(),
                audits: AuditStats::default(),
            };
            let mut n_refreshed = 0;
            let mut rows = Vec::new();
            let is_taken = self.sinks.iter().any(|sink| sink.view == view)
                || self.parked.iter().any(|(_, of_view)| *of_view == view);
            for context in touched {
                let delta = deltas.remove(&context).unwrap_or_default();
                let refresh = refreshes.remove(&(name.clone(), context.clone()));
                if let Some(refresh) = &refresh {
                    self.healing[view].note(refresh);
                }
                n_refreshed += usize::from(refresh.is_some());
                count(&mut summary, refresh.as_ref());
                to_store.push((view, context.clone()));
                let was_exact = self.answers[view].get(&context).map(|c| c.drift.is_none());
                let is_retracted = delta.iter().any(|(_, diff)| *diff < 0);
                let update = self.apply(view, epoch, context.clone(), delta, refresh);
                let kind = update.as_ref().map(AnswerUpdate::kind);
                let current = self.answers[view].get(&context);
                let is_news = match kind {
                    None => is_retracted && current.is_none(),
                    Some(ChangeKind::Stands) => {
                        was_exact != current.map(|current| current.drift.is_none())
                    }
                    Some(_) => true,
                };
                if is_taken && is_news {
                    let question = self.question(view, &context);
                    rows.push(OutputRow {
                        key: context.as_str().to_owned(),
                        answer: current.map(|current| current.output(&question)),
                    });
                }
                updates.extend(update.map(|update| (name.clone(), Update::Answer(update))));
            }
            outputs.push(rows);
            for forgetting in &mut self.forgetting {
                if self.views[view].reads(forgetting.stream) {
                    forgetting.receipt.n_answers += n_refreshed;
                }
            }
            summary.audits = self.healing[view].audits();
            summary.rungs.keep += self.answers[view].len().saturating_sub(n_refreshed);
            updates.push((name, Update::EpochComplete(summary)));
        }
        let leftover = match &mut self.durable {
            Some(durable) => std::mem::take(&mut durable.restored.answers),
            None => HashMap::new(),
        };
        let deliveries = self.deliveries(epoch, &outputs);
        let parked = self.parked_deliveries(epoch, &outputs);
        let at_ms = now_ms();
        self.store_epoch(
            &in_flight,
            &to_store,
            &leftover,
            at_ms,
            (&deliveries, &parked),
        )?;
        if let Some(recorder) = &self.recorder {
            recorder.take(self.recorded(&in_flight, &to_store, at_ms));
        }
        self.saved_offsets = in_flight.offsets;
        for (sink, delivery) in deliveries {
            self.sinks[sink].owe(delivery);
            if self.sinks[sink].is_full() {
                let source = self.sinks[sink].name.clone();
                let message =
                    format!("{MAX_OWED} epochs are not delivered: no other is begun until one is");
                self.announce(Update::Notice { source, message });
            }
        }
        for (view, update) in updates {
            self.hub.tell(Some(&view), &update);
        }
        if let Some(store) = &self.store {
            store.sweep();
        }
        self.last_complete = Some(epoch);
        self.acknowledge_saved();
        Ok(())
    }

    /// What each sink is owed of an epoch, from the rows of each view.
    fn deliveries(&self, epoch: Epoch, rows: &[Vec<OutputRow>]) -> Owed {
        let sinks = self.sinks.iter().map(|sink| sink.view);
        self.owed(epoch, rows, sinks)
    }

    /// The same, of sinks that are not there now.
    fn parked_deliveries(&self, epoch: Epoch, rows: &[Vec<OutputRow>]) -> Owed {
        self.owed(epoch, rows, self.parked.iter().map(|(_, view)| *view))
    }

    fn owed(
        &self,
        epoch: Epoch,
        rows: &[Vec<OutputRow>],
        views: impl Iterator<Item = usize>,
    ) -> Owed {
        let owed = views
            .enumerate()
            .filter(|(_, view)| !rows[*view].is_empty());
        let owed = owed.map(|(index, view)| {
            let delivery = Delivery {
                origin: self.origin,
                view: self.views[view].plan.name.to_string(),
                epoch,
                rows: rows[view].clone(),
            };
            (index, delivery)
        });
        owed.collect()
    }

    /// The first epoch after a restart says what stands: answers of an earlier process that
    /// are not among it are gone.
    fn retract_restored(&mut self, view: usize, deltas: &mut BTreeMap<ContextKey, AnswerDeltas>) {
        let Some(durable) = &mut self.durable else {
            return;
        };
        let name = &*self.views[view].plan.name;
        for (context, stored) in durable.restored.answers.remove(name).into_iter().flatten() {
            deltas
                .entry(context)
                .or_insert_with(|| vec![(stored.answer, -1)]);
        }
    }

    fn store_epoch(
        &self,
        in_flight: &InFlight,
        answers: &[(usize, ContextKey)],
        leftover: &HashMap<String, BTreeMap<ContextKey, StoredAnswer>>,
        at_ms: i64,
        (deliveries, parked): (&Owed, &Owed),
    ) -> Result<(), StateError> {
        let Some(Durable {
            state, definitions, ..
        }) = &self.durable
        else {
            return Ok(());
        };
        let stream = |index: usize| self.streams[index].name.as_str();
        let view = |index: usize| &*self.views[index].plan.name;
        let answer = |(index, context): &(usize, ContextKey)| {
            let stored = self.answers[*index].get(context).map(|current| {
                let request = state.request_of(view(*index), context);
                current.stored(request)
            });
            (view(*index), context.clone(), stored)
        };
        let offsets = in_flight.offsets.iter().enumerate();
        let declared = definitions.iter().enumerate();
        let declared = declared.map(|(index, digest)| (view(index), Some(*digest)));
        // Nobody keeps the answers of views that are declared no more.
        let undeclared = leftover.keys().map(|name| (name.as_str(), None));
        let orphans = leftover.iter().flat_map(|(name, answers)| {
            let contexts = answers.keys().cloned();
            contexts.map(move |context| (name.as_str(), context, None))
        });
        state.commit(&Commit {
            epoch: in_flight.epoch,
            at_ms,
            rows: in_flight
                .rows
                .iter()
                .map(|(index, key, row)| (stream(*index), key.clone(), row.clone()))
                .collect(),
            offsets: offsets
                .map(|(index, offset)| (stream(index), offset.clone()))
                .collect(),
            views: declared.chain(undeclared).collect(),
            answers: answers.iter().map(answer).chain(orphans).collect(),
            quarantine: &in_flight.quarantine,
            resubmitted: &in_flight.resubmitted,
            deliveries: deliveries
                .iter()
                .map(|(sink, delivery)| (&*self.sinks[*sink].name, delivery))
                .collect(),
            parked: parked
                .iter()
                .map(|(sink, delivery)| (&*self.parked[*sink].0, delivery))
                .collect(),
        })
    }

    /// An epoch as it is recorded.
    fn recorded(
        &self,
        in_flight: &InFlight,
        answers: &[(usize, ContextKey)],
        at_ms: i64,
    ) -> RecordedEpoch {
        let streams = self.streams.iter();
        let names: Vec<Arc<str>> = streams.map(|stream| stream.name.as_str().into()).collect();
        let rows = in_flight.rows.iter();
        let answers = answers.iter().map(|(view, context)| EpochAnswer {
            view: self.views[*view].plan.name.clone(),
            context: context.clone(),
            now: self.answers[*view]
                .get(context)
                .map(CurrentAnswer::recorded),
        });
        RecordedEpoch {
            epoch: in_flight.epoch,
            at_ms,
            rows: rows
                .map(|(stream, key, row)| (names[*stream].clone(), key.clone(), row.clone()))
                .collect(),
            answers: answers.collect(),
        }
    }

    /// Makes an answer current and says what became of it; `None` where nothing did.
    fn apply(
        &mut self,
        view: usize,
        epoch: Epoch,
        context: ContextKey,
        delta: AnswerDeltas,
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
        let mut tokens: Arc<[u32]> = Arc::default();
        let mut min_margin = f32::INFINITY;
        let mut dependencies = Dependencies::default();
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
            drift: 0.0,
        };
        if let Some(outcome) = outcome {
            update.rung = outcome.rung;
            update.sub_paragraphs = outcome.sub_paragraphs;
            update.work = outcome.work;
            tokens = outcome.tokens;
            min_margin = outcome.min_margin;
            dependencies = outcome.dependencies;
            update.is_exact = outcome.is_exact;
            update.drift = outcome.drift;
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
                    tokens,
                    min_margin,
                    dependencies,
                    drift: (!update.is_exact).then_some(update.drift),
                };
                current.insert(context, answer);
            }
            None => {
                current.remove(&context);
                self.views[view].services.book.remove(&context);
                self.healing[view].forget(&context);
                // A call for a context that never had an answer: nothing to tell.
                if update.kind() == ChangeKind::New {
                    return None;
                }
            }
        }
        Some(update)
    }
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
                Rung::Skip => &mut summary.rungs.skip,
                Rung::Patch => &mut summary.rungs.patch,
            } += 1;
        }
    }
}
