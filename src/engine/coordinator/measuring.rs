//! When is an answer measured, and what becomes of what that tells?

use perennial_ask::Measured;
use perennial_bank::ContextKey;

use super::Coordinator;
use super::view::View;
use crate::engine::budget::Spending;
use crate::engine::measuring::Measuring;
use crate::engine::names::ViewId;

impl Coordinator {
    /// The answers of each view that are to be measured.
    pub(super) fn measurings(&self) -> impl Iterator<Item = (ViewId, &Measuring)> {
        let views = self.views.iter();
        views.filter_map(|(id, view)| Some((*id, &view.generating()?.measuring)))
    }

    /// In the background, while nothing fresh is to do and nothing is healed.
    pub(super) fn measure(&mut self) {
        let is_idle = !self.is_busy() && self.n_pending() == 0;
        let is_healing = self.healings().any(|(_, healing)| healing.is_running());
        if !is_idle || is_healing || self.measurings().any(|(_, of)| of.is_running()) {
            return;
        }
        let id = self
            .measurings()
            .filter(|(_, of)| of.is_due())
            .map(|(id, _)| id)
            .find(|id| self.background_hold(*id).is_none());
        let Some(id) = id else { return };
        let report = self.report.clone();
        let Some(view) = self.views.get_mut(&id).and_then(View::generating_mut) else {
            return;
        };
        view.measuring
            .start(id, &view.plan, &view.services, move |measured| {
                // Nobody listens only when the engine is stopping.
                let _ = report.send(measured);
            });
    }

    /// Takes what an answer was measured to depend on.
    pub(super) fn take_measured(
        &mut self,
        id: ViewId,
        context: &ContextKey,
        measured: Option<Measured>,
    ) {
        if let Some(measured) = &measured {
            self.charge(id, Spending::of(measured.n_calls, &measured.work));
        }
        let Some(view) = self.views.get_mut(&id).and_then(View::generating_mut) else {
            return;
        };
        if let Some(measured) = &measured {
            view.untold_work += measured.work;
        }
        let finished = view.measuring.finish(context, measured);
        if let (Some((request, measured)), Some(current)) =
            (finished, view.answers.get_mut(context))
        {
            current.measure(&request, measured);
        }
    }
}
