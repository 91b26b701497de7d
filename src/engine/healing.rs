//! Provisional answers on their way to exact ones.
//!
//! A view with policy `EVENTUAL` answers at once over borrowed fragments. When nothing else
//! is to do, the exact answer of the context that drifted most is computed beside the
//! dataflow, in the background; when it is there, its request is named in the view's
//! `healed` rows, and the next epoch emits it in place of the provisional one. Under
//! `BOUNDED` only a sample is healed, for its audit, until the view falls back.
//!
//! # Invariants
//! - One answer is healed at a time, and given up for any fresh delta: what it has encoded
//!   stays in the store.
//! - A `healed` row names the present request of its context, or is taken back with the
//!   next epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use perennial_ask::{Attempt, CallError, Priority, Rung};
use perennial_bank::ContextKey;
use perennial_model::cancel::Cancel;
use perennial_views::calls::Request;
use perennial_views::memo::RequestDigest;
use perennial_views::{Healed, Plan, Policy, Refresh, Services, heal};

use super::audits::{AuditStats, Audits};
use super::names::ViewId;
use super::workers::Report;

/// A row of a view's `healed` input, with its difference.
pub(crate) type HealedDelta = ((ContextKey, RequestDigest), isize);

/// Which provisional answers are to be healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those that are audited: a view within its budget stays with the others.
    Audited,
    /// All of them.
    All,
}

/// A provisional answer.
struct Provisional {
    request: Request,
    digest: RequestDigest,
    drift: f32,
    is_audit: bool,
}

/// The provisional answers of one view.
#[derive(Default)]
pub(crate) struct Healing {
    provisional: BTreeMap<ContextKey, Provisional>,
    /// The `healed` rows as of the last closed epoch.
    rows: BTreeMap<ContextKey, RequestDigest>,
    /// What the next epoch changes about them.
    pending: Vec<HealedDelta>,
    /// The answer being healed, and how to give it up.
    running: Option<(ContextKey, Cancel)>,
    audits: Audits,
}

impl Healing {
    /// Whether every answer that is to be exact is, and was emitted as such.
    pub(crate) fn is_done(&self, wanted: Wanted) -> bool {
        self.next(wanted).is_none() && !self.is_due() && self.running.is_none()
    }

    /// Takes up that the view fell back in an earlier process.
    pub(crate) fn restore_fall_back(&mut self) {
        self.audits.restore_fall_back();
    }

    /// What audits found so far.
    pub(crate) fn audits(&self) -> AuditStats {
        self.audits.stats()
    }

    /// The provisional answer to be healed next, and how far it drifted.
    fn next(&self, wanted: Wanted) -> Option<(&ContextKey, &Provisional)> {
        let is_wanted = |provisional: &Provisional| wanted == Wanted::All || provisional.is_audit;
        self.provisional
            .iter()
            .filter(|(_, provisional)| is_wanted(provisional))
            .max_by(|(_, a), (_, b)| a.drift.total_cmp(&b.drift))
    }

    /// Whether an answer is being healed.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The greatest drift among the answers that are to be healed; nothing if there are none,
    /// or one is being healed.
    pub(crate) fn urgency(&self, wanted: Wanted) -> Option<f32> {
        let next = self.next(wanted).filter(|_| self.running.is_none());
        next.map(|(_, provisional)| provisional.drift)
    }

    /// Whether an answer is the exact one that was computed here: it was counted then.
    pub(crate) fn has_healed(&self, refresh: &Refresh) -> bool {
        self.rows.get(&refresh.request.context) == Some(&refresh.digest)
    }

    /// Notes an answer of a complete epoch.
    pub(crate) fn note(&mut self, refresh: &Refresh, policy: Policy) {
        let context = &refresh.request.context;
        let before = self.provisional.remove(context);
        let is_owed = before.is_some_and(|before| before.is_audit);
        if let Ok(outcome) = &refresh.outcome
            && !outcome.is_exact
        {
            let was_skipped = outcome.rung == Rung::Skip;
            let is_measured = matches!(policy, Policy::Stable { .. });
            let provisional = Provisional {
                request: refresh.request.clone(),
                digest: refresh.digest,
                drift: outcome.drift,
                is_audit: !is_measured && self.audits.sample(&refresh.digest, was_skipped, is_owed),
            };
            self.provisional.insert(context.clone(), provisional);
        }
        if self
            .rows
            .get(context)
            .is_some_and(|row| *row != refresh.digest)
        {
            self.take_back(context);
        }
    }

    /// Notes that a context, or all that it was answered from, is gone.
    pub(crate) fn forget(&mut self, context: &ContextKey) {
        self.provisional.remove(context);
        self.take_back(context);
        if let Some((running, cancel)) = &self.running
            && running == context
        {
            cancel.cancel();
        }
    }

    fn take_back(&mut self, context: &ContextKey) {
        let Some(row) = self.rows.remove(context) else {
            return;
        };
        let row = (context.clone(), row);
        // One that no epoch has carried is as if it had never been.
        match self
            .pending
            .iter()
            .position(|delta| *delta == (row.clone(), 1))
        {
            Some(at) => {
                self.pending.remove(at);
            }
            None => self.pending.push((row, -1)),
        }
    }

    /// Whether an exact answer waits to be emitted.
    pub(crate) fn is_due(&self) -> bool {
        self.pending.iter().any(|(_, diff)| *diff > 0)
    }

    /// What the epoch being closed changes about the `healed` rows.
    pub(crate) fn commit(&mut self) -> Vec<HealedDelta> {
        std::mem::take(&mut self.pending)
    }

    /// Gives up the answer being healed: there is fresh work. An audit is not given up for
    /// ever.
    pub(crate) fn give_way(&mut self) {
        let Some((context, cancel)) = &self.running else {
            return;
        };
        let is_audit = self.provisional.get(context).is_some_and(|p| p.is_audit);
        if is_audit && self.audits.are_overdue() {
            return;
        }
        if is_audit && !cancel.is_cancelled() {
            self.audits.give_up();
        }
        cancel.cancel();
    }

    /// Gives up whatever is being healed: the engine stops.
    pub(crate) fn stop(&self) {
        if let Some((_, cancel)) = &self.running {
            cancel.cancel();
        }
    }

    /// Starts to heal the answer that drifted most, unless one is being healed.
    pub(crate) fn start(
        &mut self,
        view: ViewId,
        plan: &Arc<Plan>,
        services: &Services,
        wanted: Wanted,
        tell: impl FnOnce(Report) + Send + 'static,
    ) {
        if self.running.is_some() {
            return;
        }
        let Some((context, provisional)) = self.next(wanted) else {
            return;
        };
        let cancel = Cancel::new();
        let context = context.clone();
        let (request, digest) = (provisional.request.clone(), provisional.digest);
        let is_audit = provisional.is_audit;
        self.running = Some((context.clone(), cancel.clone()));
        // Not more than it needs: who drops the engine waits for the rest.
        let (plan, lane) = (plan.clone(), plan.name.clone());
        let (model, book) = (services.model.clone(), services.book.clone());
        let report = Report::Healed {
            view,
            context,
            healed: None,
        };
        let mut done = Some(Done::new(report, tell));
        let run = move |_| {
            let healed = match cancel.is_cancelled() {
                true => None,
                false => {
                    let cancel = cancel.clone();
                    match heal(&plan, &*model, &book, &request, digest, is_audit, cancel) {
                        Ok(healed) => Some(Box::new(healed)),
                        Err(after) => return Attempt::Later(after),
                    }
                }
            };
            if let Some(done) = done.take() {
                done.tell(|report| {
                    if let Report::Healed { healed: told, .. } = report {
                        *told = healed;
                    }
                });
            }
            Attempt::Done
        };
        let executor = &services.model_executor;
        executor.submit_until_done(Priority::Background, &lane, run);
    }

    /// Takes what healing gave; nothing if it was given up.
    pub(crate) fn finish(
        &mut self,
        plan: &Plan,
        services: &Services,
        context: ContextKey,
        healed: Option<Healed>,
    ) {
        let is_given_up = match self.running.take() {
            Some((_, cancel)) => cancel.is_cancelled(),
            None => true,
        };
        let provisional = self.provisional.get(&context);
        let wanted = provisional.map(|p| (p.digest, p.is_audit));
        // A call that ended without a word is not made again: it would end so again.
        let lost = |(request, is_audit): (RequestDigest, bool)| Healed {
            request,
            outcome: Err(CallError::Lost),
            audit: is_audit.then_some(None),
            was_skipped: false,
            is_missed: false,
            is_changed: false,
            elapsed: Duration::ZERO,
        };
        let healed = healed.or_else(|| wanted.map(lost));
        let Some(healed) = healed.filter(|_| !is_given_up) else {
            return;
        };
        // What an audit found counts, even if its answer has been overtaken.
        if self.audits.note(plan.policy, &healed) {
            services.book.fall_back();
        }
        if wanted.is_none_or(|(wanted, _)| healed.request != wanted) {
            return;
        }
        let digest = healed.request;
        self.provisional.remove(&context);
        self.take_back(&context);
        services.book.put_healed(context.clone(), healed);
        self.rows.insert(context.clone(), digest);
        self.pending.push(((context, digest), 1));
    }
}

/// Reports that work in the background has ended, however it did.
pub(super) struct Done<F: FnOnce(Report)> {
    report: Option<Report>,
    tell: Option<F>,
}

impl<F: FnOnce(Report)> Done<F> {
    /// Reports this, unless something else is told.
    pub(super) fn new(report: Report, tell: F) -> Self {
        Self {
            report: Some(report),
            tell: Some(tell),
        }
    }

    /// Reports what came of it.
    pub(super) fn tell(mut self, set: impl FnOnce(&mut Report)) {
        if let Some(report) = &mut self.report {
            set(report);
        }
    }
}

impl<F: FnOnce(Report)> Drop for Done<F> {
    fn drop(&mut self) {
        if let (Some(report), Some(tell)) = (self.report.take(), self.tell.take()) {
            tell(report);
        }
    }
}
