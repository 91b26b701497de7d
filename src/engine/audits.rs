//! How far are the provisional answers of a view from exact, and is that within its budget?
//!
//! Of the answers that are provisional, a sample is audited: the exact answer is computed in
//! the background, with the provisional one as its draft, so the same pass that checks the draft says
//! its regret. Under `BOUNDED` the mean regret of the latest audits is held against the view's
//! bound, of answers that were left unread and of those that were read each on its own: many that were
//! read do not excuse what leaving answers unread got wrong. Past it the view falls back, for good, and
//! a restart does not change that: it skips nothing any more and heals whatever is provisional. So it
//! does when audits cannot measure.
//!
//! Under `STABLE` the regret of every answer was measured when it was read: there is nothing to
//! audit.

use std::collections::VecDeque;

use perennial_ask::DraftCheck;
use perennial_views::memo::RequestDigest;
use perennial_views::{Healed, Policy};

/// Of so many answers that were read over borrowed fragments one is audited.
const AUDIT_READ: u8 = 4;
/// And of so many that were left unread: an audit reads one.
const AUDIT_SKIPPED: u8 = 32;
/// After so many audits in a row that could not measure, nothing is known of the view.
const MAX_UNMEASURED: usize = 4;
/// Audits that are given up for fresh work in a row.
const MAX_GIVEN_UP: usize = 8;
/// Audits whose mean counts, of each kind.
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
    /// Of the healed, those that had been skipped although their regret is past the view's bound.
    pub n_missed: usize,
    /// Answers that were left unread.
    pub n_skipped: usize,
    /// Answers that were chosen to be audited.
    pub n_sampled: usize,
    /// Answers whose regret was measured.
    pub n_audited: usize,
    /// Of those that were chosen, answers whose regret could not be measured.
    pub n_unmeasured: usize,
    /// By how much another answer is likelier over the exact layout, in nats a token: mean over the latest
    /// sixteen that were measured, of answers that had been read or of those that had not, whichever is
    /// greater.
    pub mean_regret: f32,
    /// Mean over both: share of tokens that are the exact choice.
    pub mean_agreement: f32,
    /// Whether the view fell back to exact answers because its audits went past its budget.
    pub has_fallen_back: bool,
}

/// The latest audits of one kind.
#[derive(Debug, Default)]
struct Latest {
    checks: VecDeque<DraftCheck>,
    /// Audits since the last one that measured.
    n_unmeasured: usize,
}

impl Latest {
    fn push(&mut self, check: Option<DraftCheck>) {
        let Some(check) = check else {
            self.n_unmeasured += 1;
            return;
        };
        self.n_unmeasured = 0;
        if self.checks.len() == WINDOW {
            self.checks.pop_front();
        }
        self.checks.push_back(check);
    }

    fn mean_regret(&self) -> f32 {
        mean(self.checks.iter().map(regret))
    }

    /// Whether there are enough that were measured and they are past the bound, or nothing can be known.
    fn is_past(&self, bound: f32) -> bool {
        let is_past = self.checks.len() >= MIN_AUDITS && self.mean_regret() > bound;
        is_past || self.n_unmeasured >= MAX_UNMEASURED
    }
}

/// What is no number is past every bound.
fn regret(check: &DraftCheck) -> f32 {
    match check.regret.is_nan() {
        true => f32::INFINITY,
        false => check.regret,
    }
}

/// Of nothing, zero.
fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let n = values.len().max(1) as f32;
    values.sum::<f32>() / n
}

/// The audits of one view.
#[derive(Debug, Default)]
pub(super) struct Audits {
    stats: AuditStats,
    /// Of answers that had been read, and of those that had not.
    latest: [Latest; 2],
    /// Since the last one was done.
    n_given_up: usize,
}

impl Audits {
    pub(super) fn stats(&self) -> AuditStats {
        self.stats
    }

    /// Notes a provisional answer to this request, skipped or read; says whether it is to be audited.
    /// `is_owed` if it takes the place of one that was to be and was not.
    ///
    /// Which are is chance by the request and the count: no context is left out for standing
    /// where it stands.
    pub(super) fn sample(
        &mut self,
        request: &RequestDigest,
        was_skipped: bool,
        is_owed: bool,
    ) -> bool {
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 audit sample");
        hash.update(&request.0)
            .update(&(self.stats.n_provisional as u64).to_le_bytes());
        let (every, is_first) = match was_skipped {
            true => (AUDIT_SKIPPED, self.stats.n_skipped == 0),
            false => (AUDIT_READ, self.stats.n_provisional == 0),
        };
        let chance = hash.finalize().as_bytes()[0] % every;
        let is_sampled = chance == 0 || is_first;
        self.stats.n_provisional += 1;
        self.stats.n_skipped += usize::from(was_skipped);
        self.stats.n_sampled += usize::from(is_sampled && !is_owed);
        is_sampled || is_owed
    }

    /// Notes that an audit was given up for fresh work.
    pub(super) fn give_up(&mut self) {
        self.n_given_up += 1;
    }

    /// Whether so many were given up that the next is not to be.
    pub(super) fn are_overdue(&self) -> bool {
        self.n_given_up >= MAX_GIVEN_UP
    }

    /// Notes an exact answer that takes the place of a provisional one. Says whether the view
    /// falls back now.
    pub(super) fn note(&mut self, policy: Policy, healed: &Healed) -> bool {
        self.stats.n_healed += 1;
        self.stats.n_changed += usize::from(healed.is_changed);
        self.stats.n_missed += usize::from(healed.is_missed);
        let Some(check) = healed.audit else {
            return false;
        };
        self.n_given_up = 0;
        self.latest[usize::from(healed.was_skipped)].push(check);
        match check {
            Some(_) => self.stats.n_audited += 1,
            None => self.stats.n_unmeasured += 1,
        }
        let means = self.latest.iter().map(Latest::mean_regret);
        self.stats.mean_regret = means.fold(0.0, f32::max);
        let all: Vec<&DraftCheck> = self.latest.iter().flat_map(|of| &of.checks).collect();
        self.stats.mean_agreement = mean(all.iter().map(|check| check.agreement));
        let Policy::Bounded { .. } = policy else {
            return false;
        };
        let bound = policy.tolerated_regret();
        let is_past = self.latest.iter().any(|latest| latest.is_past(bound));
        let falls = is_past && !self.stats.has_fallen_back;
        self.stats.has_fallen_back |= falls;
        falls
    }

    /// Takes up that the view fell back in an earlier process.
    pub(super) fn restore_fall_back(&mut self) {
        self.stats.has_fallen_back = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use perennial_ask::CallError;

    use super::*;

    fn healed(regret: f32) -> Healed {
        let agreement = 1.0;
        audited(Some(DraftCheck { regret, agreement }))
    }

    fn audited(check: Option<DraftCheck>) -> Healed {
        Healed {
            request: RequestDigest([0; 32]),
            outcome: Err(CallError::Lost),
            audit: Some(check),
            was_skipped: false,
            is_missed: false,
            is_changed: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn a_view_falls_back_once_and_only_past_its_budget() {
        let policy = Policy::Bounded { millinats: 100 };
        let mut audits = Audits::default();
        let falls = |audits: &mut Audits, regret| audits.note(policy, &healed(regret));
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
        let mut audits = Audits::default();
        assert!(!falls(&mut audits, 0.0) && !falls(&mut audits, 0.0));
        assert!(
            falls(&mut audits, f32::NAN),
            "what is no number is past every bound"
        );
    }

    #[test]
    fn answers_that_were_read_do_not_excuse_those_that_were_not() {
        let policy = Policy::Bounded { millinats: 100 };
        let mut audits = Audits::default();
        let skipped = |regret| Healed {
            was_skipped: true,
            ..healed(regret)
        };
        for _ in 0..WINDOW {
            assert!(!audits.note(policy, &healed(0.0)));
        }
        assert!(!audits.note(policy, &skipped(0.4)) && !audits.note(policy, &skipped(0.4)));
        assert!(audits.note(policy, &skipped(0.4)));
        assert!((audits.stats().mean_regret - 0.4).abs() < 1e-6);
    }

    #[test]
    fn a_view_whose_audits_cannot_measure_falls_back_and_one_that_measures_again_does_not() {
        let policy = Policy::Bounded { millinats: 100 };
        let mut audits = Audits::default();
        for _ in 1..MAX_UNMEASURED {
            assert!(!audits.note(policy, &audited(None)));
        }
        assert!(!audits.note(policy, &healed(0.0)));
        for _ in 1..MAX_UNMEASURED {
            assert!(!audits.note(policy, &audited(None)));
        }
        assert!(audits.note(policy, &audited(None)));
        assert_eq!(audits.stats().n_unmeasured, 2 * MAX_UNMEASURED - 1);
    }

    #[test]
    fn of_skipped_answers_fewer_are_audited_and_the_first_is() {
        let mut audits = Audits::default();
        let request = |i: usize| RequestDigest([i as u8; 32]);
        assert!(audits.sample(&request(0), false, false));
        assert!(audits.sample(&request(0), true, false));
        let n = (0..6400)
            .filter(|i| audits.sample(&request(*i), true, false))
            .count();
        assert!((120..290).contains(&n), "{n}");
        assert_eq!(audits.stats().n_skipped, 6401);
    }

    #[test]
    fn one_in_four_is_audited_of_every_context_and_the_first_is() {
        let mut audits = Audits::default();
        let mut n_sampled = [0; 4];
        for i in 0..4000usize {
            // Four contexts, refreshed in turn.
            let context = i % 4;
            let request = RequestDigest([context as u8; 32]);
            let is_sampled = audits.sample(&request, false, false);
            assert!(is_sampled || i > 0);
            n_sampled[context] += usize::from(is_sampled);
        }
        assert!(
            n_sampled.iter().all(|n| (180..320).contains(n)),
            "{n_sampled:?}"
        );
        assert_eq!(audits.stats().n_sampled, n_sampled.iter().sum::<usize>());
        assert!(
            audits.sample(&RequestDigest([9; 32]), false, true),
            "what is owed is paid"
        );
        for _ in 0..MAX_GIVEN_UP {
            assert!(!audits.are_overdue());
            audits.give_up();
        }
        assert!(audits.are_overdue());
    }
}
