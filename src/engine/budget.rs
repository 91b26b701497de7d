//! What did a view spend in the past hour, and when may it go on?
//!
//! A window that slides: what was spent counts for an hour, and a view may go on while less than
//! its budget is in the window. What is spent within a second is kept as one, and then counts up
//! to a second longer; so an hour is a few thousand entries, however busy the view is.
//!
//! A view has a budget of its own, and all views together may have one of money. Money is counted in
//! the one currency of an engine's models.
//!
//! Kept in memory alone: a process that starts has spent nothing. Its first epoch asks for what no
//! earlier process answered.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Add, AddAssign};
use std::time::{Duration, Instant};

use perennial_ask::{CallError, Money, Outcome, Rung, Work};
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
    /// What was paid for them.
    pub(crate) cost: Money,
}

impl Spending {
    /// What so many calls cost that did this work.
    pub(crate) fn of(calls: usize, work: &Work) -> Self {
        Self {
            calls: u64::try_from(calls).unwrap_or(u64::MAX),
            tokens: u64::try_from(work.n_forwarded()).unwrap_or(u64::MAX),
            cost: work.cost.amount(),
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
            cost: self.cost.saturating_sub(counted.cost),
        }
    }
}

impl AddAssign for Spending {
    fn add_assign(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.cost += other.cost;
    }
}

/// A budget that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp {
    /// Which, and how much it is.
    budget: PaceOption,
    /// Whether it is that of all views together.
    is_shared: bool,
    /// When there is room again.
    pub(crate) until: Instant,
}

impl UsedUp {
    /// The same as the budget of all views together.
    pub(crate) fn shared(self) -> Self {
        Self {
            is_shared: true,
            ..self
        }
    }
}

impl fmt::Display for UsedUp {
    /// The budget as it was set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.budget.fmt(f)?;
        match self.is_shared {
            true => f.write_str(" of all views together"),
            false => Ok(()),
        }
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

    /// The budget of a pace that is used up; of several, the one that is for longest.
    pub(crate) fn used_up(&self, pace: &Pace, now: Instant) -> Option<UsedUp> {
        let calls = pace.calls_per_hour.and_then(|limit| {
            let until = self.full_until(limit, |spent| spent.calls, u64::saturating_add, now)?;
            Some((PaceOption::CallsPerHour(Some(limit)), until))
        });
        let tokens = pace.tokens_per_hour.and_then(|limit| {
            let until = self.full_until(limit, |spent| spent.tokens, u64::saturating_add, now)?;
            Some((PaceOption::TokensPerHour(Some(limit)), until))
        });
        let cost = pace.cost_per_hour.and_then(|limit| {
            let until = self.full_until(limit, |spent| spent.cost, Money::add, now)?;
            Some((PaceOption::CostPerHour(Some(limit)), until))
        });
        let all = [calls, tokens, cost].into_iter().flatten();
        let (budget, until) = all.max_by_key(|(_, until)| *until)?;
        Some(UsedUp {
            budget,
            is_shared: false,
            until,
        })
    }

    /// When less than `limit` is in the window; none if that is so now.
    fn full_until<T: Copy + Default + PartialOrd>(
        &self,
        limit: T,
        part: impl Fn(&Spending) -> T,
        add: impl Fn(T, T) -> T,
        now: Instant,
    ) -> Option<Instant> {
        let counts = self.entries.iter().filter(|(until, _)| *until > now);
        // From the newest back: the entry with which the limit is reached has to leave.
        let mut sum = T::default();
        for (until, spent) in counts.rev() {
            sum = add(sum, part(spent));
            if sum >= limit {
                return Some(*until);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn calls(calls: u64) -> Spending {
        Spending {
            calls,
            ..Spending::default()
        }
    }

    /// So many thousandths of a unit.
    fn money(thousandths: u64) -> Money {
        let (units, rest) = (thousandths / 1000, thousandths % 1000);
        format!("{units}.{rest:03}").parse().expect("money")
    }

    fn paid(thousandths: u64) -> Spending {
        Spending {
            calls: 1,
            tokens: 0,
            cost: money(thousandths),
        }
    }

    fn pace_of_money(thousandths: u64) -> Pace {
        Pace {
            cost_per_hour: Some(money(thousandths)),
            ..Pace::default()
        }
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
            tokens: 9,
            ..Spending::default()
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
            cost: money(9),
        };
        let counted = Spending {
            calls: 5,
            tokens: 4,
            cost: money(2),
        };
        assert_eq!(
            all.beyond(counted),
            Spending {
                calls: 0,
                tokens: 5,
                cost: money(7)
            }
        );
    }

    #[test]
    fn money_is_spent_to_the_last_part_and_comes_back() {
        let (mut ledger, begin) = (Ledger::default(), Instant::now());
        ledger.add(paid(150), begin);
        ledger.add(paid(349), begin + MINUTE);
        let now = begin + MINUTE;
        assert_eq!(
            ledger.used_up(&pace_of_money(500), now),
            None,
            "a thousandth is left"
        );
        ledger.add(paid(1), now + MINUTE);
        let used_up = ledger.used_up(&pace_of_money(500), now + MINUTE);
        let used_up = used_up.expect("all is spent");
        assert_eq!(used_up.to_string(), "COST_PER_HOUR = 0.5");
        let shared = used_up.shared().to_string();
        assert_eq!(shared, "COST_PER_HOUR = 0.5 of all views together");
        assert_eq!(used_up.until, begin + WINDOW + GRAIN);
        assert_eq!(ledger.used_up(&pace_of_money(500), used_up.until), None);
    }

    /// What happens to who spends.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Time passes, in seconds.
        Wait(u64),
        /// A call begins where the budget allows.
        Begin(u64),
        /// The oldest of those that run ends.
        End,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (0u64..1500).prop_map(Step::Wait),
            3 => (1u64..400).prop_map(Step::Begin),
            3 => Just(Step::End),
        ]
    }

    proptest! {
        /// A call begins only while less than the budget is spent: so no hour has more than the budget
        /// and what was under way when it was reached. And who waits as long as it is told goes on.
        #[test]
        fn no_hour_costs_more_than_its_budget_and_what_was_under_way(
            steps in prop::collection::vec(step(), 1..200),
            budget in 1u64..2000,
        ) {
            let (mut ledger, mut now) = (Ledger::default(), Instant::now());
            let pace = pace_of_money(budget);
            let mut running: VecDeque<u64> = VecDeque::new();
            let mut ended: Vec<(Instant, u64)> = Vec::new();
            // The most that was under way at one time, each call with its cost.
            let mut most_running = 0;
            for step in steps {
                match step {
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Begin(cost) => {
                        if ledger.used_up(&pace, now).is_none() {
                            running.push_back(cost);
                            most_running = most_running.max(running.iter().sum::<u64>());
                        }
                    }
                    Step::End => {
                        if let Some(cost) = running.pop_front() {
                            ledger.add(paid(cost), now);
                            ended.push((now, cost));
                        }
                    }
                }
                let of_the_hour = ended.iter().filter(|(at, _)| now - *at < WINDOW);
                let spent: u64 = of_the_hour.map(|(_, cost)| cost).sum();
                prop_assert!(spent < budget + most_running.max(1), "{} of {}", spent, budget);
            }
            while let Some(used_up) = ledger.used_up(&pace, now) {
                prop_assert!(used_up.until > now);
                now = used_up.until;
            }
        }
    }
}
