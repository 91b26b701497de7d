//! Who waits until what was said before is visible, and when are they told?
//!
//! # Design
//! Who waits is bound to the epoch that contains all that was sent before: the next that closes, or
//! the last one where nothing is pending. `flush` is over when its views stand there. `settle` and
//! `forget` want exact answers besides, which later edits make provisional again. So while one of
//! them waits, rows wait between two epochs until some answers are healed. How many is its
//! *patience*: one at first, and twice as many after each epoch that closes meanwhile. Edits wait for
//! little where little is to be healed; and after a few epochs all answers are healed between two of
//! them, however many edits come.
//!
//! # Invariants
//! - What is sent later keeps nobody waiting for ever.
//! - Rows wait for nobody where every view is `EXACT`, nor where [`MAX_PENDING_ROWS`] of them do.

use crossbeam_channel::Sender;
use perennial_views::{Epoch, Policy};

use super::stream::Stream;
use super::view::View;
use super::{Coordinator, MAX_PENDING_ROWS};
use crate::engine::error::Error;
use crate::engine::healing::Wanted;
use crate::engine::names::ViewId;

/// Which epoch contains all that was sent before somebody asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bound {
    /// One that is not closed yet.
    #[default]
    Open,
    /// This, or one before; none where no epoch was ever closed.
    Closed(Option<Epoch>),
}

impl Bound {
    /// All that was sent before is in closed epochs, of which this is the last.
    fn close(&mut self, closed: Option<Epoch>) {
        if *self == Self::Open {
            *self = Self::Closed(closed);
        }
    }

    /// Whether that epoch is closed.
    pub(super) fn is_closed(self) -> bool {
        self != Self::Open
    }

    /// Whether who stands here reflects it.
    pub(super) fn is_reached(self, stands_at: Option<Epoch>) -> bool {
        matches!(self, Self::Closed(upto) if stands_at >= upto)
    }

    /// The epoch, where it is closed and there is one.
    pub(super) fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Open => None,
            Self::Closed(upto) => upto,
        }
    }
}

/// A caller who waits until what it sent is visible.
pub(super) struct Flush {
    /// Whether to wait for exact answers, too.
    pub(super) is_exact: bool,
    /// In which views it is to be visible; in all of them where none are named.
    pub(super) views: Option<Vec<ViewId>>,
    pub(super) bound: Bound,
    pub(super) reply: Sender<Result<Option<Epoch>, Error>>,
}

/// How many answers are healed before rows that wait are let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patience {
    n_left: usize,
    /// The same, once an epoch has closed meanwhile.
    n_next: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            n_left: 1,
            n_next: 2,
        }
    }
}

impl Patience {
    fn is_used_up(&self) -> bool {
        self.n_left == 0
    }

    /// An answer is healed.
    pub(super) fn note_healed(&mut self) {
        self.n_left = self.n_left.saturating_sub(1);
    }

    /// Rows were let in.
    pub(super) fn renew(&mut self) {
        self.n_left = self.n_next;
        self.n_next = self.n_next.saturating_mul(2);
    }
}

impl Coordinator {
    /// Tells those who wait for nothing any more. Returns whether rows that waited for them may be let
    /// in now.
    pub(super) fn answer_flushes(&mut self) -> bool {
        if !self.streams.values().all(Stream::is_settled) {
            return false;
        }
        let was_settling = self.is_settling();
        self.close_flushes();
        let is_asked = !self.flushes.is_empty() || !self.forgetting.is_empty();
        let are_exact = is_asked && self.are_answers_exact();
        if are_exact {
            self.forget();
        }
        let (stands_at, views, closed) = (self.stands_at(), &self.views, self.closed);
        let stand = |of: &Vec<ViewId>| {
            // One that was dropped meanwhile is not waited for.
            let views = of.iter().filter_map(|id| views.get(id));
            views.map(|view| view.stands_at).min().unwrap_or(closed)
        };
        let is_served = |flush: &mut Flush| {
            let stand = flush.views.as_ref().map_or(stands_at, stand);
            flush.bound.is_reached(stand) && (are_exact || !flush.is_exact)
        };
        let last_complete = self.last_complete();
        for flush in self.flushes.extract_if(.., is_served) {
            // A caller that no longer waits is no error.
            let _ = flush.reply.send(Ok(last_complete));
        }
        // None waits for an hour because a view has no budget left.
        let flushes = std::mem::take(&mut self.flushes);
        for flush in flushes {
            match self.blocked(&flush) {
                None => self.flushes.push(flush),
                Some(over) => {
                    let _ = flush.reply.send(Err(over));
                }
            }
        }
        if !self.is_exact_awaited() {
            self.patience = Patience::default();
        }
        was_settling && !self.is_settling() && self.n_pending() > 0
    }

    /// Closes the flushes whose rows are in closed epochs already.
    pub(super) fn close_flushes(&mut self) {
        let have_caught_up = self.streams.values().all(Stream::is_settled);
        if have_caught_up && self.n_pending() == 0 {
            self.note_closed_flushes();
        }
    }

    /// All that callers sent so far is in a closed epoch.
    pub(super) fn note_closed_flushes(&mut self) {
        for flush in &mut self.flushes {
            flush.bound.close(self.closed);
        }
        for forgetting in &mut self.forgetting {
            forgetting.bound.close(self.closed);
        }
    }

    /// Whether somebody waits for exact answers, and for nothing else any more.
    pub(super) fn is_exact_awaited(&self) -> bool {
        let stands_at = self.stands_at();
        let mut flushes = self.flushes.iter().filter(|flush| flush.is_exact);
        flushes.any(|flush| flush.bound.is_reached(stands_at))
            || self
                .forgetting
                .iter()
                .any(|of| of.bound.is_reached(stands_at))
    }

    /// Whether rows wait between two epochs, for those who wait for exact answers.
    pub(super) fn is_settling(&self) -> bool {
        self.is_exact_awaited()
            && !self.patience.is_used_up()
            && self.n_pending() < MAX_PENDING_ROWS
            && self.views.values().any(View::may_be_provisional)
    }

    /// Whether answers may be healed: nothing fresh is to do, or what is waits for that.
    pub(super) fn may_heal(&self) -> bool {
        let mut views = self.views.values();
        match self.is_settling() {
            true => !views.any(|view| view.may_be_provisional() && view.in_flight.is_some()),
            false => !self.is_busy() && self.n_pending() == 0,
        }
    }

    /// Whether every answer is exact that is to be, and was emitted as such.
    fn are_answers_exact(&self) -> bool {
        let provisional = self.views.iter().filter(|(_, v)| v.may_be_provisional());
        let mut provisional = provisional.filter_map(|(id, v)| Some((id, v, v.generating()?)));
        provisional.all(|(id, view, generating)| {
            view.in_flight.is_none() && generating.healing.is_done(self.wanted(*id))
        })
    }
}

impl View {
    /// Whether its answers may have to be healed.
    fn may_be_provisional(&self) -> bool {
        self.generating()
            .is_some_and(|of| of.plan.policy != Policy::Exact || !of.healing.is_done(Wanted::All))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_closed_once_and_reached_at_its_epoch() {
        let mut bound = Bound::default();
        assert!(!bound.is_closed() && !bound.is_reached(Some(9)));
        bound.close(Some(3));
        bound.close(Some(7));
        assert_eq!(bound.epoch(), Some(3));
        let reached = [None, Some(2), Some(3), Some(4)].map(|at| bound.is_reached(at));
        assert_eq!(reached, [false, false, true, true]);
        // Nothing was ever closed: whoever stands nowhere stands there.
        let mut nothing = Bound::default();
        nothing.close(None);
        assert!(nothing.is_reached(None) && nothing.epoch().is_none());
    }

    #[test]
    fn patience_doubles_until_all_are_healed_between_two_epochs() {
        let (mut patience, n_provisional, mut n_epochs) = (Patience::default(), 1_000, 0);
        loop {
            let mut n_healed = 0;
            while !patience.is_used_up() && n_healed < n_provisional {
                patience.note_healed();
                n_healed += 1;
            }
            if n_healed == n_provisional {
                break;
            }
            // Every answer is made provisional again.
            patience.renew();
            n_epochs += 1;
        }
        assert_eq!(n_epochs, 10);
    }
}
