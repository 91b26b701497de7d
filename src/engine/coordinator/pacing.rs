//! Which views let changes wait on purpose, until when, and who does not wait for that?
//!
//! # Design
//! A view with a target lag takes its next epoch when the oldest change that it has not taken has
//! waited so long; one whose budget is used up, or that of all views together, when there is room in
//! the past hour. Neither holds up anything else: epochs close, and rows are stored and acknowledged,
//! as if such a view were ready (`closing.rs`, `storing.rs`, `acknowledging.rs`). What waits for it is
//! the net change of the streams' logs, so it is bounded by the number of keys.
//!
//! # Invariants
//! - The first epoch of a view is taken at once, and an epoch that has begun is finished.
//! - Who waits for a view (`flush`, `settle`) goes past its target lag, but never past its budget:
//!   they are told that it is used up. Forgetting goes past both.

use std::time::Instant;

use perennial_connectors::timestamp;
use perennial_views::{Pace, PaceOption};

use super::Coordinator;
use super::view::View;
use super::waiting::Flush;
use crate::engine::budget::{Spending, UsedUp};
use crate::engine::clock::now_ms;
use crate::engine::error::Error;
use crate::engine::names::ViewId;
use crate::engine::reading::Origin;
use crate::engine::relations::{Staleness, ViewStatus};
use crate::engine::update::Update;

/// Why a view lets changes wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    /// Until the oldest has waited long enough; for ever where no clock goes so far.
    TargetLag { until: Option<Instant> },
    /// Until there is room in its budget.
    Budget(UsedUp),
}

impl Hold {
    fn until(&self) -> Option<Instant> {
        match self {
            Self::TargetLag { until } => *until,
            Self::Budget(used_up) => Some(used_up.until),
        }
    }
}

/// Who wants a view to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// Nobody more than usual.
    None,
    /// Somebody waits for it.
    Flush,
    /// Something is to be forgotten.
    Forget,
}

impl Coordinator {
    /// Why a view lets the changes wait that it has not taken; none where it does not.
    pub(super) fn held_back(&self, id: ViewId) -> Option<Hold> {
        let view = &self.views[&id];
        // The first epoch is taken at once.
        let is_unlimited = view.pace.is_unlimited() && self.pace.is_unlimited();
        if is_unlimited || view.taken().is_none() {
            return None;
        }
        let since = view.backlog.since()?;
        let demand = self.demand(id);
        if demand == Demand::Forget {
            return None;
        }
        let now = Instant::now();
        if let Some(used_up) = self.used_up(view, now) {
            return Some(Hold::Budget(used_up));
        }
        let lag = view.pace.target_lag.filter(|_| demand == Demand::None)?;
        let until = since.checked_add(lag);
        let is_over = until.is_some_and(|until| until <= now);
        (!is_over).then_some(Hold::TargetLag { until })
    }

    /// The budget of a view that is used up: its own, or, of a view whose calls cost money, that of all
    /// together.
    fn used_up(&self, view: &View, now: Instant) -> Option<UsedUp> {
        let own = view.ledger.used_up(&view.pace, now);
        let shared = self.ledger.used_up(&self.pace, now);
        let shared = shared.filter(|_| view.is_priced).map(UsedUp::shared);
        own.into_iter().chain(shared).max_by_key(|of| of.until)
    }

    fn demand(&self, id: ViewId) -> Demand {
        if !self.forgetting.is_empty() {
            return Demand::Forget;
        }
        let taken = self.views[&id].taken();
        // One that is not closed may still bring rows, which belong to the same refresh.
        let is_behind = |flush: &&Flush| {
            let is_behind = flush.is_exact || !flush.bound.is_reached(taken);
            flush.bound.is_closed() && is_behind && self.concerns(flush, id)
        };
        match self.flushes.iter().any(|flush| is_behind(&flush)) {
            true => Demand::Flush,
            false => Demand::None,
        }
    }

    /// Whether who flushes waits for a view, or for one that reads it.
    fn concerns(&self, flush: &Flush, id: ViewId) -> bool {
        let Some(views) = &flush.views else {
            return true;
        };
        let is_named = |id: &ViewId| views.contains(id);
        is_named(&id) || self.readers(Origin::View(id)).iter().any(is_named)
    }

    /// Whether a healed answer waits to be emitted, and may be.
    pub(super) fn is_due(&self, id: ViewId) -> bool {
        let view = self.views[&id].generating();
        view.is_some_and(|view| view.healing.is_due()) && self.held_back(id).is_none()
    }

    /// The budget that keeps a view from work in the background.
    pub(super) fn background_hold(&self, id: ViewId) -> Option<UsedUp> {
        let used_up = self.used_up(&self.views[&id], Instant::now());
        used_up.filter(|_| self.forgetting.is_empty())
    }

    /// Whether a view reflects what is said as soon as it can, and so does all that it reads.
    pub(super) fn is_prompt(&self, id: ViewId) -> bool {
        let view = &self.views[&id];
        let is_held = matches!(self.held_back(id), Some(Hold::Budget(_)));
        let are_prompt = |origin| match origin {
            Origin::Stream(_) => true,
            Origin::View(read) => self.is_prompt(read),
        };
        view.pace.target_lag.is_none() && !is_held && view.origins().into_iter().all(are_prompt)
    }

    /// When something that waits for the clock may go on.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let of_view = |id: &ViewId| {
            let held = self.held_back(*id).and_then(|hold| hold.until());
            let healing = self.background_hold(*id).filter(|_| {
                let view = self.views[id].generating();
                view.is_some_and(|view| {
                    view.healing.urgency(self.wanted(*id)).is_some() || view.measuring.is_due()
                })
            });
            [held, healing.map(|used_up| used_up.until)]
        };
        self.views.keys().flat_map(of_view).flatten().min()
    }

    /// Says of each view that a budget makes stale, once.
    pub(super) fn tell_stale(&mut self) {
        let ids: Vec<ViewId> = self.views.keys().copied().collect();
        for id in ids {
            let Some(Hold::Budget(used_up)) = self.held_back(id) else {
                continue;
            };
            let Some(view) = self.views.get_mut(&id).filter(|view| !view.is_told_stale) else {
                continue;
            };
            view.is_told_stale = true;
            let source = view.name.to_string();
            let message = format!(
                "{used_up} is used up: the view is stale, and goes on at {}",
                when(used_up.until)
            );
            self.announce(Update::Notice { source, message });
        }
    }

    /// Counts what a view has spent.
    pub(super) fn charge(&mut self, id: ViewId, spent: Spending) {
        let now = Instant::now();
        self.ledger.add(spent, now);
        if let Some(view) = self.views.get_mut(&id) {
            view.ledger.add(spent, now);
        }
    }

    /// Sets when a view takes its epochs, from now on.
    pub(super) fn alter_view(&mut self, name: &str, set: &[PaceOption]) -> Result<(), Error> {
        let id = self.names.view(name)?;
        let Some(view) = self.views.get_mut(&id) else {
            return Err(Error::Dropped);
        };
        let mut pace = view.pace;
        set.iter().for_each(|option| pace.set(*option));
        pace.check(name)?;
        check_priced(name, &pace, view.is_priced)?;
        view.pace = pace;
        view.is_told_stale = false;
        Ok(())
    }

    /// Why a flush would wait for a budget and for nothing else; none where something is at work
    /// for it.
    pub(super) fn blocked(&self, flush: &Flush) -> Option<Error> {
        if !flush.bound.is_closed() {
            return None;
        }
        let is_awaited = |id: &&ViewId| {
            !flush.bound.is_reached(self.views[*id].stands_at) && self.concerns(flush, **id)
        };
        let mut blocked = Vec::new();
        for id in self.views.keys().filter(is_awaited) {
            blocked.push(self.blocked_by(*id)?);
        }
        if flush.is_exact {
            for (id, healing) in self.healings() {
                let is_at_work = self.views[&id].in_flight.is_some() || healing.is_running();
                if !is_at_work && healing.is_done(self.wanted(id)) {
                    continue;
                }
                let used_up = self.background_hold(id).filter(|_| !is_at_work);
                blocked.push((id, used_up?));
            }
        }
        let (id, used_up) = blocked.first()?;
        Some(Error::OverBudget {
            view: self.views[id].name.to_string(),
            budget: used_up.to_string(),
            resumes_at: when(used_up.until),
        })
    }

    /// The budget that a view waits for: its own, or that of one that it reads.
    fn blocked_by(&self, id: ViewId) -> Option<(ViewId, UsedUp)> {
        let view = &self.views[&id];
        if view.in_flight.is_some() {
            return None;
        }
        if let Some(Hold::Budget(used_up)) = self.held_back(id) {
            return Some((id, used_up));
        }
        let mut read = view.origins().into_iter();
        read.find_map(|origin| match origin {
            Origin::Stream(_) => None,
            Origin::View(read) => self.blocked_by(read),
        })
    }

    /// How far a view is behind what it reads.
    pub(super) fn staleness(&self, id: ViewId) -> Staleness {
        let view = &self.views[&id];
        let since = view.backlog.since();
        Staleness {
            n_behind: view.backlog.n_epochs(),
            lag: since.map(|since| since.elapsed()),
            status: self.status(id, view),
        }
    }

    fn status(&self, id: ViewId, view: &View) -> ViewStatus {
        if view.in_flight.is_some() {
            return ViewStatus::Refreshing;
        }
        if view.stands_at.is_none() {
            return ViewStatus::Starting;
        }
        if view.backlog.since().is_none() {
            return ViewStatus::Fresh;
        }
        match self.held_back(id) {
            Some(Hold::Budget(_)) => return ViewStatus::Budget,
            Some(Hold::TargetLag { .. }) => return ViewStatus::TargetLag,
            None => {}
        }
        match self.is_ready(id) && self.may_take(id).is_some() {
            true => ViewStatus::Refreshing,
            false => ViewStatus::Upstream,
        }
    }
}

/// Refuses a budget of money for a view whose calls cost none: it would have no effect.
///
/// # Errors
/// [`Error::Unpriced`].
pub(super) fn check_priced(name: &str, pace: &Pace, is_priced: bool) -> Result<(), Error> {
    match pace.cost_per_hour.is_some() && !is_priced {
        true => Err(Error::Unpriced {
            view: name.to_owned(),
        }),
        false => Ok(()),
    }
}

/// A moment that comes, as people write it.
fn when(moment: Instant) -> String {
    let left = moment.saturating_duration_since(Instant::now());
    let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
    timestamp::text(now_ms().saturating_add(left))
}
