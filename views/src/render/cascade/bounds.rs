//! How much may be lost beyond a threshold, seen through a sample?
//!
//! A sample is drawn without replacement, and what is asked about it lies in its lower tail; there the
//! binomial distribution is no less likely than the hypergeometric one (Uhlmann 1966), so bounds by the
//! binomial hold. Nothing but sums, products and quotients in a fixed order is computed, so the same
//! sample has the same bounds on every machine.

/// Terms of a distribution below this share of its greatest are left out.
const NEGLIGIBLE: f64 = 1e-300;
/// More rows than a sample has.
const MAX_NEEDED: usize = 1_000_000;

/// How likely at most `k` of `n` are hit, each with the probability `q` between 0 and 1.
pub(super) fn at_most(k: usize, n: usize, q: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let odds = q / (1.0 - q);
    // Terms are relative to the greatest, from which both tails are walked down: so none overflows.
    let mode = (((n + 1) as f64 * q) as usize).min(n);
    let (mut below, mut all) = (0.0, 0.0);
    let (mut at, mut term) = (mode, 1.0);
    loop {
        all += term;
        if at <= k {
            below += term;
        }
        if at == 0 || term < NEGLIGIBLE {
            break;
        }
        term *= at as f64 / ((n - at + 1) as f64 * odds);
        at -= 1;
    }
    (at, term) = (mode, 1.0);
    while at < n && term >= NEGLIGIBLE {
        term *= (n - at) as f64 * odds / (at + 1) as f64;
        at += 1;
        all += term;
        if at <= k {
            below += term;
        }
    }
    below / all
}

/// Of `n` rows in order, how many may stand on the wrong side of a threshold, so that with all but the
/// probability `risk` no more than a share `q` of all rows does. `None` where not even none will do.
///
/// The threshold stands at the first row that is on the right side. How many rows are beyond it follows
/// from `n` alone, not from what they hold: so nothing is chosen by what was seen, and there is no
/// correction for many attempts.
pub(super) fn allowed(n: usize, q: f64, risk: f64) -> Option<usize> {
    let fits = |k: &usize| at_most(*k, n, q) <= risk;
    (0..n).take_while(fits).last()
}

/// Of rows that stand beside `n` right ones, how many wrong ones may stand there, so that with all but
/// the probability `risk` the wrong ones are no more than a share `q` of both.
pub(super) fn allowed_beside(n: usize, n_wrong: usize, q: f64, risk: f64) -> Option<usize> {
    let fits = |k: &usize| at_most(*k, n + *k, q) <= risk;
    (0..=n_wrong).take_while(fits).last()
}

/// The least number of rows of which none may be wrong, so that there is a threshold at all.
pub(super) fn needed(q: f64, risk: f64) -> usize {
    let (mut n, mut none_is_wrong) = (0, 1.0);
    while none_is_wrong > risk && n < MAX_NEEDED {
        none_is_wrong *= 1.0 - q;
        n += 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    #[test]
    fn tails_are_those_of_tables() {
        assert_near(at_most(0, 10, 0.5), 1.0 / 1024.0);
        assert_near(at_most(2, 10, 0.5), 56.0 / 1024.0);
        assert_near(at_most(10, 10, 0.3), 1.0);
        assert_near(at_most(1, 3, 0.2), 0.8f64.powi(3) + 3.0 * 0.2 * 0.64);
        // What the product of so many factors cannot hold.
        assert_near(at_most(5_000, 10_000, 0.5), 0.503_989_323);
        assert_near(at_most(10, 10_000, 0.5), 0.0);
    }

    #[test]
    fn what_is_allowed_is_the_most_that_the_risk_covers() {
        assert_eq!(needed(0.05, 0.025), 72);
        assert_eq!(allowed(71, 0.05, 0.025), None);
        assert_eq!(allowed(72, 0.05, 0.025), Some(0));
        for n in [0, 1, 100, 400] {
            if let Some(k) = allowed(n, 0.1, 0.025) {
                assert!(at_most(k, n, 0.1) <= 0.025 && at_most(k + 1, n, 0.1) > 0.025);
            }
        }
        assert_eq!(allowed_beside(10, 100, 0.05, 0.025), None);
        assert_eq!(
            allowed_beside(needed(0.05, 0.025), 100, 0.05, 0.025),
            Some(0)
        );
        // There are no more wrong ones than there are.
        assert_eq!(allowed_beside(1_000, 3, 0.05, 0.025), Some(3));
    }
}
