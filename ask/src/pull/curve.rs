//! How well do scores tell the answers that have to change from the others?

use serde::{Deserialize, Serialize};

/// Shares are kept to so many decimals.
const DECIMALS: f64 = 1e4;

/// What reading fewer answers would miss, and what missing fewer would read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Answers after an edit.
    pub answers: usize,
    /// Of these, the ones that had to change.
    pub concerned: usize,
    /// The chance that one that has to change has a higher score than one that has not; nothing where
    /// there is none of either.
    pub auc: Option<f64>,
    /// The share of the others that is read where 95 of 100 that have to change are; nothing where none
    /// has to.
    pub others_read_at_recall_95: Option<f64>,
    /// The same where 99 of 100 are.
    pub others_read_at_recall_99: Option<f64>,
    /// The same where all are.
    pub others_read_at_recall_100: Option<f64>,
    /// Expected regret from which an answer is read, in nats a token.
    pub bound: f32,
    /// The share of the others that is read at this bound.
    pub others_read_at_bound: f64,
    /// How many that have to change are not read there.
    pub missed_at_bound: usize,
}

impl Curve {
    /// Of answers by their score, each with whether it had to change.
    pub fn of(scored: impl IntoIterator<Item = (f32, bool)>, bound: f32) -> Self {
        let (mut concerned, mut others) = (Vec::new(), Vec::new());
        for (score, is_concerned) in scored {
            match is_concerned {
                true => concerned.push(score),
                false => others.push(score),
            }
        }
        concerned.sort_by(|a, b| b.total_cmp(a));
        others.sort_by(|a, b| b.total_cmp(a));
        let n_read = |scores: &[f32], cut: f32| scores.partition_point(|score| *score >= cut);
        let share = |n: usize| rounded(n as f64 / others.len().max(1) as f64);
        let at_recall = |hundredths: usize| {
            let n = (concerned.len() * hundredths).div_ceil(100);
            let cut = concerned.get(n.saturating_sub(1))?;
            Some(share(n_read(&others, *cut)))
        };
        Self {
            answers: concerned.len() + others.len(),
            concerned: concerned.len(),
            auc: auc(&concerned, &others).map(rounded),
            others_read_at_recall_95: at_recall(95),
            others_read_at_recall_99: at_recall(99),
            others_read_at_recall_100: at_recall(100),
            bound,
            others_read_at_bound: share(n_read(&others, bound)),
            missed_at_bound: concerned.len() - n_read(&concerned, bound),
        }
    }
}

fn rounded(share: f64) -> f64 {
    (share * DECIMALS).round() / DECIMALS
}

/// Both fall.
fn auc(concerned: &[f32], others: &[f32]) -> Option<f64> {
    let n_pairs = concerned.len() * others.len();
    let wins = |score: &f32| {
        let n_above = others.partition_point(|other| other > score);
        let n_equal = others[n_above..].partition_point(|other| other >= score);
        (others.len() - n_above) as f64 - n_equal as f64 / 2.0
    };
    (n_pairs > 0).then(|| concerned.iter().map(wins).sum::<f64>() / n_pairs as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_missed_is_counted() {
        let concerned = [0.9, 0.5, 0.5, 0.1].map(|score| (score, true));
        let others = [0.7, 0.5, 0.2, 0.05, 0.01].map(|score| (score, false));
        let curve = Curve::of(concerned.into_iter().chain(others), 0.2);
        assert_eq!((curve.answers, curve.concerned), (9, 4));
        // Of 20 pairs: 5, 3.5, 3.5 and 2 are in order.
        assert_eq!(curve.auc, Some(0.7));
        // All four are 95 of a hundred, and the last is at .1.
        assert_eq!(curve.others_read_at_recall_95, Some(0.6));
        assert_eq!(curve.others_read_at_recall_100, Some(0.6));
        assert!((curve.others_read_at_bound - 0.6).abs() < 1e-9);
        assert_eq!(curve.missed_at_bound, 1);
    }

    #[test]
    fn where_none_has_to_change_nothing_is_said_of_recall() {
        let curve = Curve::of([(0.3, false), (0.1, false)], 0.2);
        assert_eq!((curve.auc, curve.others_read_at_recall_99), (None, None));
        assert!((curve.others_read_at_bound - 0.5).abs() < 1e-9);
        let nothing = Curve::of([], 0.2);
        assert_eq!((nothing.answers, nothing.missed_at_bound), (0, 0));
        let all = Curve::of([(0.3, true)], 0.2);
        assert_eq!((all.auc, all.others_read_at_recall_95), (None, Some(0.0)));
    }
}
