//! What becomes of an epoch that a view has completed: answers made current, stored, and told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use perennial_ask::{Answer, Rung, Work};
use perennial_bank::ContextKey;
use perennial_connectors::OutputRow;
use perennial_rows::Tuple;
use perennial_views::{Epoch, Refresh};

use super::Coordinator;
use super::view::{AnswerDeltas, Body, Generating, Querying};
use crate::engine::analysis::Answering;
use crate::engine::budget::Spending;
use crate::engine::cause::LastRequest;
use crate::engine::change_log::{BagChange, Change as _};
use crate::engine::current::{CurrentAnswer, answer_of};
use crate::engine::hub::TaskCounts;
use crate::engine::names::ViewId;
use crate::engine::reading::Origin;
use crate::engine::recent::TupleChange;
use crate::engine::update::{
    AnswerUpdate, ChangeKind, EpochSummary, RowsUpdate, RungCounts, Update,
};
use crate::engine::upserts::{UpsertDigest, UpsertDigests, digest_of_row};
use crate::engine::workers::Command;
use crate::state::{StateError, StoredAnswer};

/// What a complete epoch of a view comes to.
#[derive(Default)]
pub(super) struct Completed {
    /// What subscribers are told.
    updates: Vec<Update>,
    /// Contexts that were refreshed, or lost their answer.
    pub(super) touched: Vec<ContextKey>,
    /// Those of them whose answers are to be stored.
    pub(super) to_store: Vec<ContextKey>,
    /// What sinks are owed.
    pub(super) outputs: Vec<OutputRow>,
    /// By key: the digest of a query's row that sinks then have.
    pub(super) given: Vec<(String, Option<UpsertDigest>)>,
    /// What readers of the view take.
    change: BagChange,
    rungs: RungCounts,
    work: Work,
    /// What was spent on it.
    spent: Spending,
    n_refreshed: usize,
}

impl Coordinator {
    /// Makes a complete epoch of a view durable and delivers it: first every answer, then the
    /// summary.
    pub(super) fn complete(&mut self, id: ViewId, epoch: Epoch) -> Result<(), StateError> {
        let is_taken = self.sinks.iter().any(|sink| sink.view == id)
            || self.parked.iter().any(|(_, of_view)| *of_view == id);
        let Some(view) = self.views.get_mut(&id) else {
            return Ok(());
        };
        let Some(in_flight) = view.in_flight.take_if(|f| f.epoch == epoch) else {
            return Ok(());
        };
        let name = view.name.clone();
        self.quarantine
            .add_unread(&name, &self.hub.take_unread(&name));
        let mut refreshes = self.hub.take_refreshes(&name);
        // A call that was given up may have said something after its epoch was complete.
        refreshes.retain(|_, refresh| Some(refresh.epoch) > view.stands_at);
        let given = std::mem::take(&mut view.given);
        let mut completed = match &mut view.body {
            Body::Generate(generating) => {
                let mut completed = generating.complete(epoch, refreshes, is_taken);
                completed.take_back(given, &generating.answers);
                completed
            }
            Body::Query(querying) => {
                let tasks = self.hub.take_tasks(&name);
                let mut completed = querying.complete(&name, (view.stands_at, epoch), tasks);
                if is_taken {
                    completed.give(querying, given);
                }
                completed
            }
        };
        let healing = view.generating().map(|view| &view.healing);
        let summary = EpochSummary {
            view: name.clone(),
            epoch,
            rungs: completed.rungs,
            work: completed.work,
            n_rerun: match &view.body {
                Body::Generate(view) => view.services.rerun.n_tokens(),
                Body::Query(_) => 0,
            },
            elapsed: in_flight.closed_at.elapsed(),
            audits: healing.map(|healing| healing.audits()).unwrap_or_default(),
        };
        let traced = self.hub.tracer().map(|_| summary.clone());
        completed.updates.push(Update::EpochComplete(summary));
        view.stands_at = Some(epoch);
        let done = Answering {
            rungs: completed.rungs,
            work: completed.work,
            elapsed: in_flight.closed_at.elapsed(),
        };
        view.done.newest = Some((epoch, done));
        view.done.all.add(done);
        let spent = completed.spent.beyond(in_flight.charged);
        let now = Instant::now();
        view.ledger.add(spent, now);
        self.ledger.add(spent, now);
        let is_changed = !completed.change.is_empty();
        let n_workers = self.workers.n_workers();
        self.workers
            .send((0..n_workers).map(|_| Command::Completed { view: id, epoch }));
        view.log.push(epoch, std::mem::take(&mut completed.change));
        for forgetting in &mut self.forgetting {
            if view.reads(forgetting.origin()) {
                forgetting.receipt.n_answers += completed.n_refreshed;
            }
        }
        if is_changed {
            self.note_changed(&BTreeSet::from([Origin::View(id)]), epoch);
        }
        self.store_view(id, &completed, epoch)?;
        let (n_updates, began) = (completed.updates.len(), Instant::now());
        for update in completed.updates {
            self.hub.tell(Some(&name), &update);
        }
        if let Some((tracer, summary)) = self.hub.tracer().zip(traced) {
            tracer.told(&name, epoch, n_updates, began);
            tracer.completed(&summary);
        }
        self.models.sweep();
        self.compact_logs();
        Ok(())
    }
}

impl Generating {
    /// Takes in what an epoch gave.
    fn complete(
        &mut self,
        epoch: Epoch,
        mut refreshes: HashMap<ContextKey, Refresh>,
        is_taken: bool,
    ) -> Completed {
        let (mut completed, mut n_unasked) = (Completed::default(), 0);
        if self.coverage.take_change() {
            // No answer is asked for again because there is more that it leaves out.
            for (context, answer) in &mut self.answers {
                answer.choose_from(self.coverage.of(context));
            }
        }
        let mut deltas = net(std::mem::take(&mut self.deltas));
        // The first epoch after a restart says what stands: answers of an earlier process that are
        // not among it are gone.
        let restored = self.restored.take().unwrap_or_default();
        for (context, stored) in &restored {
            let gone = || vec![(stored.answer.clone(), -1)];
            deltas.entry(context.clone()).or_insert_with(gone);
        }
        let touched: BTreeSet<ContextKey> =
            deltas.keys().chain(refreshes.keys()).cloned().collect();
        for context in touched {
            let delta = deltas.remove(&context).unwrap_or_default();
            let new = self.stands(&context, &delta);
            // A call that ended without a word left that of one before it.
            let is_its = |refresh: &Refresh| new.as_ref().is_none_or(|n| *n == answer_of(refresh));
            let refresh = refreshes.remove(&context).filter(is_its);
            if delta.is_empty() && refresh.is_none() {
                continue;
            }
            if let Some(refresh) = &refresh {
                self.note_rerun(refresh);
                if !self.healing.has_healed(refresh) {
                    completed.spent += Spending::of_answer(&refresh.outcome);
                }
                self.healing.note(refresh, self.plan.policy);
                self.measuring.note(refresh, &self.services);
                completed.n_refreshed += 1;
            }
            if let Some(refresh) = &refresh {
                self.note_request(refresh);
            }
            completed.count(refresh.as_ref());
            if refresh.is_none() && !delta.is_empty() && matches!(new, Some(Err(_))) {
                // Nobody was asked: there was nothing to ask about, and there is nothing to heal.
                completed.rungs.failed += 1;
                n_unasked += 1;
                self.services.rerun.forget(&context);
                self.healing.forget(&context);
                self.measuring.forget(&context);
            }
            completed.touched.push(context.clone());
            let stored = restored.get(&context);
            let kept = stored.filter(|stored| is_kept(stored, new.as_ref(), refresh.as_ref()));
            // Only who delivers asks.
            let told_beside = |answers: &BTreeMap<ContextKey, CurrentAnswer>| {
                let answer = answers.get(&context).filter(|_| is_taken);
                answer.map(CurrentAnswer::told_beside)
            };
            let before = told_beside(&self.answers);
            let is_retracted = delta.iter().any(|(_, diff)| *diff < 0);
            let update = self.apply(epoch, context.clone(), new, refresh);
            match (kept, self.answers.get_mut(&context)) {
                (Some(stored), Some(current)) => current.stand_as(stored),
                _ => completed.to_store.push(context.clone()),
            }
            self.say(&context, &mut completed.change);
            let kind = update.as_ref().map(AnswerUpdate::kind);
            let current = self.answers.get(&context);
            let is_news = match kind {
                None => is_retracted && current.is_none(),
                Some(ChangeKind::Stands) => before != told_beside(&self.answers),
                Some(_) => true,
            };
            if is_taken && is_news {
                let question = self.question(&context);
                completed.outputs.push(OutputRow {
                    key: context.as_str().to_owned(),
                    output: current.map(|current| current.output(&question)),
                });
            }
            let update = self.untold(&context, epoch, update);
            completed.updates.extend(update.map(Update::Answer));
        }
        let (left, overtaken) = self.left_untold(epoch);
        completed
            .updates
            .extend(left.into_iter().map(Update::Answer));
        completed.work += overtaken;
        let n_touched = completed.n_refreshed + n_unasked;
        completed.rungs.keep += self.answers.len().saturating_sub(n_touched);
        completed
    }

    /// Notes what an answer was given to, and why that is another request than the one before.
    fn note_request(&mut self, refresh: &Refresh) {
        let request = &refresh.request;
        let before = self.requests.get(&request.context);
        let (question, layout) = (request.question.clone(), request.layout.clone());
        let now = LastRequest::following(before, question, layout);
        self.requests.insert(request.context.clone(), now);
    }

    /// Notes what a context costs a run from nothing beside the fragments of its layout.
    fn note_rerun(&self, refresh: &Refresh) {
        let n_prefix = self.services.model.n_prefix_tokens();
        let n_instruction = self.services.rerun.n_instruction();
        let n_shared = n_prefix + refresh.request.layout.n_tokens() + n_instruction;
        // A call that failed costs a rerun as little as it cost this one.
        let outcome = refresh.outcome.as_ref();
        let n_all = outcome.map_or(0, |outcome| outcome.work.n_from_scratch);
        let n_own = n_all.saturating_sub(n_shared);
        self.services.rerun.note(&refresh.request.context, n_own);
    }

    /// The answer that stands after a change.
    fn stands(&self, context: &ContextKey, delta: &AnswerDeltas) -> Option<Answer> {
        let emitted = delta.iter().find(|(_, diff)| *diff > 0);
        let is_retracted = delta.iter().any(|(_, diff)| *diff < 0);
        match emitted {
            Some((answer, _)) => Some(answer.clone()),
            None if is_retracted => None,
            None => self.answers.get(context).map(|c| c.answer.clone()),
        }
    }

    /// Makes an answer current and says what became of it; `None` where nothing did.
    fn apply(
        &mut self,
        epoch: Epoch,
        context: ContextKey,
        new: Option<Answer>,
        refresh: Option<Refresh>,
    ) -> Option<AnswerUpdate> {
        let old = self.answers.get(&context).map(|c| c.answer.clone());
        let new = new.map(|answer| CurrentAnswer::of(answer, epoch, refresh));
        let new = new.map(|new| {
            let mut new = self.of_its_model(new);
            new.choose_from(self.coverage.of(&context));
            new
        });
        let update = self.update(&context, epoch, (old, new.as_ref()));
        match new {
            Some(answer) => {
                self.answers.insert(context, answer);
            }
            None => {
                self.answers.remove(&context);
                self.requests.remove(&context);
                self.services.book.remove(&context);
                self.services.agenda.forget(&context);
                self.services.rerun.forget(&context);
                self.healing.forget(&context);
                self.measuring.forget(&context);
                // A call for a context that never had an answer: nothing to tell.
                if update.kind() == ChangeKind::New {
                    return None;
                }
            }
        }
        Some(update)
    }
}

/// Whether an answer is the one that an earlier process stored, to the same request: then it was
/// reached there, and nothing about it changes.
fn is_kept(stored: &StoredAnswer, now: Option<&Answer>, refresh: Option<&Refresh>) -> bool {
    let is_same = now == Some(&stored.answer);
    is_same
        && match refresh.map(|refresh| (&refresh.outcome, refresh.digest)) {
            Some((Ok(outcome), digest)) => {
                outcome.rung == Rung::Keep && stored.request == Some(digest.0)
            }
            Some((Err(_), _)) | None => stored.answer.is_err(),
        }
}

/// What is left of answers that came and went.
fn net(deltas: BTreeMap<ContextKey, AnswerDeltas>) -> BTreeMap<ContextKey, AnswerDeltas> {
    let sum = |(context, deltas): (ContextKey, AnswerDeltas)| {
        let mut net = AnswerDeltas::new();
        for (answer, diff) in deltas {
            match net.iter_mut().find(|(known, _)| *known == answer) {
                Some((_, sum)) => *sum += diff,
                None => net.push((answer, diff)),
            }
        }
        net.retain(|(_, diff)| *diff != 0);
        (!net.is_empty()).then_some((context, net))
    };
    deltas.into_iter().filter_map(sum).collect()
}

impl Querying {
    /// Takes in what an epoch gave.
    fn complete(
        &mut self,
        name: &Arc<str>,
        (after, epoch): (Option<Epoch>, Epoch),
        tasks: TaskCounts,
    ) -> Completed {
        let change = std::mem::take(&mut self.deltas);
        for (tuple, diff) in change.iter() {
            let count = self.tuples.entry(tuple.clone()).or_default();
            *count += diff;
            if *count == 0 {
                self.tuples.remove(tuple);
            }
            self.recent.push(TupleChange {
                after,
                epoch,
                tuple: tuple.clone(),
                diff,
            });
        }
        let rows: Vec<(Tuple, isize)> = change.iter().map(|(t, diff)| (t.clone(), diff)).collect();
        let told = (!rows.is_empty()).then(|| {
            Update::Rows(RowsUpdate {
                view: name.clone(),
                epoch,
                rows,
            })
        });
        Completed {
            updates: told.into_iter().collect(),
            change,
            rungs: RungCounts {
                regenerate: tasks.n_performed,
                failed: tasks.n_failed,
                ..RungCounts::default()
            },
            work: tasks.work,
            spent: Spending::of(tasks.n_performed + tasks.n_failed, &tasks.work),
            ..Completed::default()
        }
    }
}

impl Completed {
    /// Owes sinks what has changed of a query's rows.
    fn give(&mut self, querying: &Querying, given: UpsertDigests) {
        let (upserts, tuples) = (&querying.upserts, &querying.tuples);
        self.outputs = upserts.changed(&self.change, tuples, given);
        let rows = self.outputs.iter();
        self.given = rows
            .map(|row| (row.key.clone(), digest_of_row(row)))
            .collect();
    }

    /// Owes sinks the end of rows that a query gave them which had the name of this view.
    fn take_back(&mut self, given: UpsertDigests, answers: &BTreeMap<ContextKey, CurrentAnswer>) {
        for key in given.into_keys() {
            if !answers.contains_key(&ContextKey::new(&*key)) {
                self.outputs.push(OutputRow {
                    key: key.clone(),
                    output: None,
                });
            }
            self.given.push((key, None));
        }
        if !self.given.is_empty() {
            self.outputs.sort_by(|a, b| a.key.cmp(&b.key));
            self.outputs.dedup_by(|a, b| a.key == b.key);
        }
    }

    /// Counts a refresh by its rung, with its work.
    fn count(&mut self, refresh: Option<&Refresh>) {
        match refresh.map(|refresh| &refresh.outcome) {
            None => {}
            Some(Err(_)) => self.rungs.failed += 1,
            Some(Ok(outcome)) => {
                self.work += outcome.work;
                *match outcome.rung {
                    Rung::Keep => &mut self.rungs.keep,
                    Rung::Verify => &mut self.rungs.verify,
                    Rung::Rewrite => &mut self.rungs.rewrite,
                    Rung::Regenerate => &mut self.rungs.regenerate,
                    Rung::Skip => &mut self.rungs.skip,
                    Rung::Patch => &mut self.rungs.patch,
                    Rung::Append => &mut self.rungs.append,
                } += 1;
            }
        }
    }
}
