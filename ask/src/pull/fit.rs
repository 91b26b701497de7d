//! Which coefficients tell best what a change gives reason to change?
//!
//! Logistic regression over what is known of an answer without reading it: maximum likelihood, by
//! Newton's method. How well that tells is measured on answers of groups (articles, rows) that were left
//! out of the fit: answers over the same documents resemble each other, and one that stands in the fit
//! would say too much of its neighbour.

use std::collections::{BTreeMap, BTreeSet};

use super::profile::{Coefficients, N};
use super::{Profile, Pulled};

/// Newton's steps: far more than are needed.
const N_STEPS: usize = 50;
/// A step is halved so often, until it makes the answers likelier.
const N_HALVINGS: usize = 40;
/// Steps that change no coefficient by more than this are the last.
const SMALL: f64 = 1e-7;
/// Keeps coefficients finite where answers are told apart without an error.
const RIDGE: f64 = 1e-3;
/// Each group is judged by one of so many fits, at most: a hundred groups need no hundred fits.
const N_FOLDS: usize = 10;

/// An answer after an edit.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// What is known without reading it.
    pub pulled: Pulled,
    /// Answers of one group are fitted together, or left out together.
    pub group: &'a str,
    /// Whether the edit gives it reason to be another.
    pub is_concerned: bool,
}

/// The coefficients under which the samples are likeliest.
pub fn fitted<'a>(samples: impl IntoIterator<Item = &'a Sample<'a>>) -> Coefficients {
    let rows: Vec<Row> = samples.into_iter().map(Row::of).collect();
    let mut best = [0.0; N];
    let mut height = likelihood(&best, &rows);
    for _ in 0..N_STEPS {
        let mut step = newton_step(&best, &rows);
        // Far from the top a whole step may overshoot, the more where few samples overlap.
        let mut n_halvings = 0;
        let next = loop {
            let next: [f64; N] = std::array::from_fn(|i| best[i] + step[i]);
            let reached = likelihood(&next, &rows);
            if reached >= height {
                break Some((next, reached));
            }
            if n_halvings == N_HALVINGS {
                break None;
            }
            n_halvings += 1;
            step = step.map(|x| x / 2.0);
        };
        let Some((next, reached)) = next else { break };
        (best, height) = (next, reached);
        if step.iter().all(|x| x.abs() < SMALL) {
            break;
        }
    }
    Coefficients::from_array(best)
}

/// The chance of each sample that it has to change, by coefficients that were fitted without its group.
pub fn cross_validated(samples: &[Sample<'_>]) -> Vec<f32> {
    let groups: BTreeSet<&str> = samples.iter().map(|sample| sample.group).collect();
    let n_folds = groups.len().min(N_FOLDS);
    let folds: BTreeMap<&str, usize> = groups.into_iter().zip((0..n_folds).cycle()).collect();
    let without = |fold: usize| {
        let others = samples.iter().filter(|sample| folds[sample.group] != fold);
        fitted(others)
    };
    let of_fold: Vec<Coefficients> = (0..n_folds).map(without).collect();
    let chance = |sample: &Sample<'_>| of_fold[folds[sample.group]].chance(&sample.pulled);
    samples.iter().map(chance).collect()
}

/// What a profile expects of each sample, in nats a token.
pub fn expected(profile: &Profile, samples: &[Sample<'_>]) -> Vec<f32> {
    let expected = |sample: &Sample<'_>| profile.expected_regret(&sample.pulled);
    samples.iter().map(expected).collect()
}

/// A sample as it is fitted.
struct Row {
    known: [f64; N],
    is_concerned: bool,
}

impl Row {
    fn of(sample: &Sample<'_>) -> Self {
        Self {
            known: super::profile::known(&sample.pulled),
            is_concerned: sample.is_concerned,
        }
    }

    fn at(&self, coefficients: &[f64; N]) -> f64 {
        coefficients
            .iter()
            .zip(self.known)
            .map(|(c, x)| c * x)
            .sum()
    }
}

/// The logarithm of how likely the rows are, less what large coefficients cost.
fn likelihood(coefficients: &[f64; N], rows: &[Row]) -> f64 {
    let of_row = |row: &Row| {
        let at = row.at(coefficients);
        let towards = if row.is_concerned { -at } else { at };
        // ln(1 + e^x), which does not overflow.
        -(towards.max(0.0) + (-towards.abs()).exp().ln_1p())
    };
    let size: f64 = coefficients.iter().map(|c| c * c).sum();
    rows.iter().map(of_row).sum::<f64>() - RIDGE / 2.0 * size
}

fn newton_step(coefficients: &[f64; N], rows: &[Row]) -> [f64; N] {
    let mut gradient = coefficients.map(|c| -RIDGE * c);
    let mut curvature = [[0.0; N]; N];
    (0..N).for_each(|i| curvature[i][i] = RIDGE);
    for row in rows {
        let x = row.known;
        let p = 1.0 / (1.0 + (-row.at(coefficients)).exp());
        let y = f64::from(u8::from(row.is_concerned));
        for i in 0..N {
            gradient[i] += x[i] * (y - p);
            (0..N).for_each(|j| curvature[i][j] += x[i] * x[j] * p * (1.0 - p));
        }
    }
    solved(curvature, gradient)
}

/// The solution of a system that is symmetric and positive definite.
fn solved(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for i in 0..N {
        let pivot = a[i][i];
        for j in i + 1..N {
            let factor = a[j][i] / pivot;
            (i..N).for_each(|k| a[j][k] -= factor * a[i][k]);
            b[j] -= factor * b[i];
        }
    }
    for i in (0..N).rev() {
        let known: f64 = (i + 1..N).map(|j| a[i][j] * b[j]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of an answer whose change leads by so much.
    fn leading(lead: f32) -> Pulled {
        Pulled {
            closeness: 0.5,
            lead,
            passage_lead: 0.0,
            lost: 0.0,
            mass: 1.0,
        }
    }

    /// Of four groups: three of four whose change leads by half have to change, one of four of the
    /// others. (By whole numbers of each, so that maximum likelihood is known.)
    fn samples() -> Vec<Sample<'static>> {
        let mut samples = Vec::new();
        for group in ["a", "b", "c", "d"] {
            for (lead, n_concerned) in [(0.5, 3), (-0.5, 1)] {
                samples.extend((0..4).map(|i| Sample {
                    pulled: leading(lead),
                    group,
                    is_concerned: i < n_concerned,
                }));
            }
        }
        samples
    }

    #[test]
    fn chances_are_those_of_the_samples() {
        let samples = samples();
        let fit = fitted(&samples);
        // By the ridge a little nearer to one half.
        for (lead, chance) in [(0.5, 0.75), (-0.5, 0.25)] {
            let of = fit.chance(&leading(lead));
            assert!((of - chance).abs() < 1e-3, "{lead}: {of}");
        }
        // A logit of ln 3 where the lead is one half.
        assert!((fit.lead - 2.0 * 3f32.ln()).abs() < 0.01, "{fit:?}");
        // Each group by the others, which are alike.
        for (sample, chance) in samples.iter().zip(cross_validated(&samples)) {
            let expected = if sample.pulled.lead > 0.0 { 0.75 } else { 0.25 };
            assert!((chance - expected).abs() < 2e-3, "{sample:?}: {chance}");
        }
    }

    #[test]
    fn a_group_is_judged_without_itself() {
        // What tells in one group tells the other way round in the other two.
        let mut samples = Vec::new();
        for (group, is_forward) in [("a", true), ("b", false), ("c", false)] {
            samples.extend([0.4f32, -0.4].map(|lead| Sample {
                pulled: leading(lead),
                group,
                is_concerned: (lead > 0.0) == is_forward,
            }));
        }
        let chances = cross_validated(&samples);
        assert!(chances[0] < 0.1 && chances[1] > 0.9, "{chances:?}");
    }

    #[test]
    fn what_is_told_apart_without_an_error_has_finite_coefficients() {
        let sample = |lead: f32| Sample {
            pulled: leading(lead),
            group: "a",
            is_concerned: lead > 0.0,
        };
        let apart: Vec<_> = [0.9f32, 0.8, 1e-3, -1e-3, -0.8].map(sample).into();
        let fit = fitted(&apart);
        assert!(fit.as_array().iter().all(|c| c.is_finite()), "{fit:?}");
        assert!(fit.chance(&leading(0.8)) > 0.9 && fit.chance(&leading(-0.8)) < 0.1);
        let all: Vec<_> = [0.9f32, 0.8].map(sample).into();
        assert!(fitted(&all).chance(&leading(0.5)) > 0.9);
        let none = fitted([]);
        assert!((none.chance(&leading(0.5)) - 0.5).abs() < 1e-6);
    }
}
