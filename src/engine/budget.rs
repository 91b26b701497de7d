//! What did a view spend in the past hour, and when may it go on?
//!
//! A window that slides: what was spent counts for an hour, and a view may go on while less than
//! its budget is in the window. What is spent within a second is kept as one, and then counts up
//! to a second longer; so an hour is a few thousand entries, however busy the view is.
//!
//! Kept in memory alone: a process that starts has spent nothing. Its first epoch asks for what no
//! earlier process answered.

use std::collections::VecDeque;
use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use perennial_ask::{CallError, Outcome, Rung, Work};
use perennial_views::{Pace, PaceOption};

/// How long what was spent counts.
const WINDOW: Duration = Duration::from_secs(60 * 60);
/// What is spent within it is one entry.
const GRAIN: Duration = Duration::from_secs(1);

/// What calls cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spending {
    /// Calls of a model. An answer that stood without one is none.
    pub(crate) calls: u64,
    /// Tokens that were forwarded.
    pub(crate) tokens: u64,
}

impl Spending {
    /// What so many calls cost that did this work.
    pub(crate) fn of(calls: usize, work: &Work) -> Self {
        Self {
            calls: u64::try_from(calls).unwrap_or(u64::MAX),
            tokens: u64::try_from(work.n_forwarded()).unwrap_or(u64::MAX),
        }
    }

    /// What one answer cost. One that failed was asked for, too.
    pub(crate) fn of_answer(outcome: &Result<Outcome, CallError>) -> Self {
        match outcome {
            Ok(outcome) => {
                let is_call = !matches!(outcome.rung, Rung::Keep | Rung::Skip);
                Self::of(usize::from(is_call), &outcome.work)
            }
            Err(_) => Self::of(1, &Work::default()),
        }
    }

    /// What is left of it beside what was counted before.
    pub(crate) fn beyond(self, counted: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(counted.calls),
            tokens: self.tokens.saturating_sub(counted.tokens),
        }
    }
}

impl AddAssign for Spending {
    fn add_assign(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens = self.tokens.saturating_add(other.tokens);
    }
}

/// A budget that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp {
    /// Which, and how much it is.
    budget: PaceOption,
    /// When there is room again.
    pub(crate) until: Instant,
}

impl fmt::Display for UsedUp {
    /// The budget as it was set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.budget.fmt(f)
    }
}

/// What a view spent in the past hour.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Oldest first, each with the moment from which it counts no more.
    entries: VecDeque<(Instant, Spending)>,
}

impl Ledger {
    /// Notes what was spent.
    pub(crate) fn add(&mut self, spent: Spending, now: Instant) {
        while self.entries.front().is_some_and(|(until, _)| *until <= now) {
            self.entries.pop_front();
        }
        if spent == Spending::default() {
            return;
        }
        match self.entries.back_mut() {
            Some((until, entry)) if *until >= now + WINDOW => *entry += spent,
            _ => self.entries.push_back((now + WINDOW + GRAIN, spent)),
        }
    }

    /// The budget of a pace that is used up; of two, the one that is for longer.
    pub(crate) fn used_up(&self, pace: &Pace, now: Instant) -> Option<UsedUp> {
        let calls = pace.calls_per_hour.and_then(|limit| {
            let until = self.full_until(limit, |spent| spent.calls, now)?;
            let budget = PaceOption::CallsPerHour(Some(limit));
            Some(UsedUp { budget, until })
        });
        let tokens = pace.tokens_per_hour.and_then(|limit| {
            let until = self.full_until(limit, |spent| spent.tokens, now)?;
            let budget = PaceOption::TokensPerHour(Some(limit));
            Some(UsedUp { budget, until })
        });
        calls.into_iter().chain(tokens).max_by_key(|of| of.until)
    }

    /// When less than `limit` is in the window; none if that is so now.
    fn full_until(
        &self,
        limit: u64,
        part: impl Fn(&Spending) -> u64,
        now: Instant,
    ) -> Option<Instant> {
        let counts = self.entries.iter().filter(|(until, _)| *until > now);
        // From the newest back: the entry with which the limit is reached has to leave.
        let mut sum = 0u64;
        for (until, spent) in counts.rev() {
            sum = sum.saturating_add(part(spent));
            if sum >= limit {
                return Some(*until);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn calls(calls: u64) -> Spending {
        Spending { calls, tokens: 0 }
    }

    fn pace(calls_per_hour: u64) -> Pace {
        Pace {
            calls_per_hour: Some(calls_per_hour),
            ..Pace::default()
        }
    }

    #[test]
    fn a_budget_is_used_up_until_enough_has_left_the_window() {
        let (mut ledger, begin) = (Ledger::default(), Instant::now());
        for minute in 0..5 {
            ledger.add(calls(2), begin + MINUTE * minute);
        }
        let now = begin + MINUTE * 5;
        assert_eq!(ledger.used_up(&pace(11), now), None);
        assert_eq!(ledger.used_up(&Pace::default(), now), None);
        let until = |limit| ledger.used_up(&pace(limit), now).map(|of| of.until);
        let leaves = |minute| Some(begin + MINUTE * minute + WINDOW + GRAIN);
        assert_eq!(until(10), leaves(0));
        assert_eq!(until(9), leaves(0));
        assert_eq!(until(7), leaves(1));
        assert_eq!(until(1), leaves(4));
        // It goes on then, and not before.
        let then = leaves(0).expect("a moment");
        let moment = Duration::from_millis(1);
        assert!(ledger.used_up(&pace(10), then - moment).is_some());
        assert_eq!(ledger.used_up(&pace(10), then), None);
    }

    #[test]
    fn the_budget_that_lasts_longer_is_told() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let tokens = Spending {
            calls: 0,
            tokens: 9,
        };
        ledger.add(calls(1), now);
        ledger.add(tokens, now + MINUTE);
        let mut both = pace(1);
        both.tokens_per_hour = Some(5);
        let told = ledger.used_up(&both, now + MINUTE).map(|of| of.to_string());
        assert_eq!(told.as_deref(), Some("TOKENS_PER_HOUR = 5"));
    }

    #[test]
    fn a_busy_hour_is_bounded_and_counted_in_full() {
        let (mut ledger, begin) = (Ledger::default(), Instant::now());
        let step = Duration::from_millis(10);
        for at in 0..720_000 {
            ledger.add(calls(1), begin + step * at);
        }
        assert!(ledger.entries.len() <= 3_700, "{}", ledger.entries.len());
        let now = begin + step * 720_000;
        assert!(ledger.used_up(&pace(360_000), now).is_some());
        // At most a second's calls too many.
        assert_eq!(ledger.used_up(&pace(360_301), now), None);
    }

    #[test]
    fn what_was_counted_is_not_counted_again() {
        let all = Spending {
            calls: 3,
            tokens: 9,
        };
        let counted = Spending {
            calls: 5,
            tokens: 4,
        };
        assert_eq!(
            all.beyond(counted),
            Spending {
                calls: 0,
                tokens: 5
            }
        );
    }
}
