//! How far are the provisional answers of a view from exact, and is that within its budget?
//!
//! Of the answers that are provisional, a sample is audited: the exact answer is computed in
//! the background and compared. Under `BOUNDED` the mean divergence of the latest audits is
//! held against the view's budget; past it the view falls back, for good: it skips nothing
//! any more and heals whatever is provisional.

use std::collections::VecDeque;

use perennial_operators::Divergence;
use perennial_views::{Healed, Policy};

/// Of this many provisional answers one is audited.
const AUDIT_EVERY: usize = 4;
/// Audits whose mean counts.
const WINDOW: usize = 16;
/// Audits before the budget is looked at.
const MIN_AUDITS: usize = 3;

/// Counts of a view's provisional answers since the engine started, and what audits found.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct AuditStats {
    /// Answers that were emitted as provisional.
    pub n_provisional: usize,
    /// Of these, replaced by an exact answer so far.
    pub n_healed: usize,
    /// Of the healed, those whose exact answer was another.
    pub n_changed: usize,
    /// Of the healed, those that had been skipped and whose exact answer was another: missed
    /// dependencies.
    pub n_missed: usize,
    /// Answers whose divergence from exact was measured.
    pub n_audited: usize,
    /// Mean over the latest sixteen of them: KL(exact || provisional) in nats a token.
    pub mean_kl: f32,
    /// Mean over the same: share of tokens that are the exact choice.
    pub mean_agreement: f32,
    /// Whether the view fell back to exact answers because its audits went past its budget.
    pub has_fallen_back: bool,
}

/// The audits of one view.
#[derive(Debug, Default)]
pub(super) struct Audits {
    stats: AuditStats,
    latest: VecDeque<Divergence>,
}

impl Audits {
    pub(super) fn stats(&self) -> AuditStats {
        self.stats
    }

    /// Notes a provisional answer; says whether it is to be audited.
    pub(super) fn sample(&mut self) -> bool {
        let is_sampled = self.stats.n_provisional.is_multiple_of(AUDIT_EVERY);
        self.stats.n_provisional += 1;
        is_sampled
    }

    /// Notes an exact answer that takes the place of a provisional one. Says whether the view
    /// falls back now.
    pub(super) fn note(&mut self, policy: Policy, healed: &Healed) -> bool {
        self.stats.n_healed += 1;
        self.stats.n_changed += usize::from(healed.is_changed);
        self.stats.n_missed += usize::from(healed.is_missed);
        let Some(divergence) = healed.divergence else {
            return false;
        };
        self.stats.n_audited += 1;
        if self.latest.len() == WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(divergence);
        let n = self.latest.len() as f32;
        let mean = |of: fn(&Divergence) -> f32| self.latest.iter().map(of).sum::<f32>() / n;
        self.stats.mean_kl = mean(|d| d.kl);
        self.stats.mean_agreement = mean(|d| d.agreement);
        let Policy::Bounded { millinats } = policy else {
            return false;
        };
        let is_past = self.stats.mean_kl * 1000.0 > millinats as f32;
        let falls = is_past && self.latest.len() >= MIN_AUDITS && !self.stats.has_fallen_back;
        self.stats.has_fallen_back |= falls;
        falls
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use perennial_operators::CallError;
    use perennial_views::memo::RequestDigest;

    use super::*;

    fn healed(kl: f32) -> Healed {
        Healed {
            request: RequestDigest([0; 32]),
            outcome: Err(CallError::Lost),
            divergence: Some(Divergence { kl, agreement: 1.0 }),
            is_missed: false,
            is_changed: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn a_view_falls_back_once_and_only_past_its_budget() {
        let policy = Policy::Bounded { millinats: 100 };
        let mut audits = Audits::default();
        let falls = |audits: &mut Audits, kl| audits.note(policy, &healed(kl));
        for _ in 0..WINDOW {
            assert!(!falls(&mut audits, 0.09));
        }
        assert!(!falls(&mut audits, 0.2), "the mean is still below");
        assert!(falls(&mut audits, 0.2));
        assert!(!falls(&mut audits, 5.0), "it falls once");
        assert!(audits.stats().has_fallen_back);
        let mut audits = Audits::default();
        assert!(!falls(&mut audits, 9.0) && !falls(&mut audits, 9.0));
        assert!(falls(&mut audits, 9.0), "three audits are enough");
        let mut audits = Audits::default();
        let eventual = (0..20).any(|_| audits.note(Policy::Eventual, &healed(9.0)));
        assert!(!eventual, "an eventual view has no budget");
    }

    #[test]
    fn one_in_four_is_audited_and_the_first_is() {
        let mut audits = Audits::default();
        let sampled: Vec<bool> = (0..6).map(|_| audits.sample()).collect();
        assert_eq!(sampled, [true, false, false, false, true, false]);
    }
}
