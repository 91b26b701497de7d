//! Which answers are still to be measured, and when?
//!
//! Some models tell more of what an answer depends on once it stands, by calls of their own
//! ([`AnswerModel::measure`]). These are made when nothing fresh is to do, for one answer at a time. What
//! they tell is shown in the place of what the answer came with; a restart knows the latter only.
//!
//! # Invariants
//! - An answer is measured once for each call that gave it, and given up for any fresh delta: then it
//!   waits again.
//! - What is measured is about the answer that stands; of one that has changed meanwhile nothing is noted.
//! - The calls count in the budgets of their view, and wait where one is used up.
//!
//! [`AnswerModel::measure`]: perennial_ask::AnswerModel::measure

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_ask::{Attempt, Failure, Measured, Priority, Rung};
use perennial_bank::ContextKey;
use perennial_model::cancel::Cancel;
use perennial_views::calls::{Request, measure};
use perennial_views::memo::RequestDigest;
use perennial_views::{Plan, Refresh, Services};

use super::healing::Done;
use super::names::ViewId;
use super::workers::Report;

/// After so many calls that failed an answer is not measured.
const MAX_TRIES: u32 = 3;

/// An answer that is to be measured.
#[derive(Clone)]
struct Waiting {
    request: Request,
    digest: RequestDigest,
    answer: Arc<str>,
}

/// The answers of one view that are to be measured.
#[derive(Default)]
pub(crate) struct Measuring {
    waiting: BTreeMap<ContextKey, Waiting>,
    /// The answer being measured, with its request, and how to give it up.
    running: Option<(ContextKey, RequestDigest, Cancel)>,
}

impl Measuring {
    /// Whether an answer waits and none is being measured.
    pub(crate) fn is_due(&self) -> bool {
        self.running.is_none() && !self.waiting.is_empty()
    }

    /// Whether an answer is being measured.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Notes an answer of a complete epoch.
    pub(crate) fn note(&mut self, refresh: &Refresh, services: &Services) {
        let context = &refresh.request.context;
        self.forget(context);
        let Ok(outcome) = &refresh.outcome else {
            return;
        };
        let was_called = !matches!(outcome.rung, Rung::Keep | Rung::Skip);
        if was_called && services.model.measures() {
            let waiting = Waiting {
                request: refresh.request.clone(),
                digest: refresh.digest,
                answer: outcome.answer.text.clone(),
            };
            self.waiting.insert(context.clone(), waiting);
        }
    }

    /// Notes that a context is gone, or has another answer.
    pub(crate) fn forget(&mut self, context: &ContextKey) {
        self.waiting.remove(context);
        if let Some((running, _, cancel)) = &self.running
            && running == context
        {
            cancel.cancel();
        }
    }

    /// Gives up the answer being measured: there is fresh work, or the engine stops.
    pub(crate) fn give_way(&self) {
        if let Some((_, _, cancel)) = &self.running {
            cancel.cancel();
        }
    }

    /// Starts to measure an answer, unless one is being measured.
    pub(crate) fn start(
        &mut self,
        view: ViewId,
        plan: &Arc<Plan>,
        services: &Services,
        tell: impl FnOnce(Report) + Send + 'static,
    ) {
        if self.running.is_some() {
            return;
        }
        let Some((context, waiting)) = self.waiting.first_key_value() else {
            return;
        };
        let (context, waiting, cancel) = (context.clone(), waiting.clone(), Cancel::new());
        self.running = Some((context.clone(), waiting.digest, cancel.clone()));
        let (plan, lane) = (plan.clone(), plan.name.clone());
        let (model, book) = (services.model.clone(), services.book.clone());
        let report = Report::Measured {
            view,
            context,
            measured: None,
        };
        let mut done = Some(Done::new(report, tell));
        let run = move |n_tries| {
            let Waiting {
                request, answer, ..
            } = &waiting;
            let measured = match cancel.is_cancelled() {
                true => None,
                false => match measure(&plan, &*model, &book, request, answer, cancel.clone()) {
                    Ok(measured) => measured.map(Box::new),
                    Err(_) if cancel.is_cancelled() => None,
                    Err(Failure::Wait(pause)) => return Attempt::Wait(pause),
                    Err(Failure::Retry { after, .. }) if n_tries + 1 < MAX_TRIES => {
                        return Attempt::Later(after);
                    }
                    Err(_) => None,
                },
            };
            if let Some(done) = done.take() {
                done.tell(|report| {
                    if let Report::Measured { measured: told, .. } = report {
                        *told = measured;
                    }
                });
            }
            Attempt::Done
        };
        let executor = &services.model_executor;
        executor.submit_until_done(Priority::Background, &lane, run);
    }

    /// Takes what was measured, with the request it is about; nothing if it was given up, or nothing could
    /// be told.
    pub(crate) fn finish(
        &mut self,
        context: &ContextKey,
        measured: Option<Measured>,
    ) -> Option<(Request, Measured)> {
        let (running, digest, cancel) = self.running.take()?;
        let is_its = |of: &Waiting| running == *context && of.digest == digest;
        let waiting = self.waiting.get(context).filter(|of| is_its(of))?;
        if measured.is_none() && cancel.is_cancelled() {
            return None;
        }
        let request = waiting.request.clone();
        self.waiting.remove(context);
        Some((request, measured?))
    }
}
