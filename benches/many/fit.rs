//! Which coefficients tell best what a change gives reason to change?
//!
//! Logistic regression over what is known of an answer without reading it, by the gold answers; and
//! how well that tells for groups that were left out of the fit.

use std::collections::{BTreeMap, BTreeSet};

use perennial::ask::Pulled;

use crate::curve::{self, Point};

/// A constant, and one for each of what is known.
const N: usize = 6;
/// Newton's steps: far more than are needed.
const N_STEPS: usize = 50;
/// Keeps coefficients finite where groups are told apart without an error.
const RIDGE: f64 = 1e-3;

type Coefficients = [f64; N];

fn known(point: &Point) -> [f64; N] {
    let pulled = point.pulled;
    let mass = f64::from(pulled.mass).ln_1p();
    [
        1.0,
        pulled.closeness.into(),
        pulled.lead.into(),
        pulled.passage_lead.into(),
        pulled.lost.into(),
        mass,
    ]
}

fn chance(coefficients: &Coefficients, point: &Point) -> f64 {
    let at: f64 = coefficients
        .iter()
        .zip(known(point))
        .map(|(c, x)| c * x)
        .sum();
    1.0 / (1.0 + (-at).exp())
}

/// Maximum likelihood, by Newton's method.
fn fitted<'a>(points: impl Iterator<Item = &'a Point> + Clone) -> Coefficients {
    let mut coefficients = [0.0; N];
    for _ in 0..N_STEPS {
        let mut gradient = coefficients.map(|c| -RIDGE * c);
        let mut curvature = [[0.0; N]; N];
        (0..N).for_each(|i| curvature[i][i] = RIDGE);
        for point in points.clone() {
            let (x, p) = (known(point), chance(&coefficients, point));
            let y = f64::from(u8::from(point.is_concerned));
            for i in 0..N {
                gradient[i] += x[i] * (y - p);
                (0..N).for_each(|j| curvature[i][j] += x[i] * x[j] * p * (1.0 - p));
            }
        }
        let step = solved(curvature, gradient);
        (0..N).for_each(|i| coefficients[i] += step[i]);
    }
    coefficients
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

/// Prints the coefficients, and the table of points by those of the other groups.
pub fn print(model: &str, points: &[Point], bound: f32) {
    let [bias, closeness, lead, passage_lead, lost, mass] = fitted(points.iter());
    println!(
        "{model}: bias {bias:.2}, closeness {closeness:.2}, lead {lead:.2}, passage lead {passage_lead:.2}, lost {lost:.2}, mass {mass:.2}, by {} answers \
         of which {} had to change\n",
        points.len(),
        points.iter().filter(|p| p.is_concerned).count()
    );
    let groups: BTreeSet<&str> = points.iter().map(|p| &*p.group).collect();
    // In tenths: a hundred rows need no hundred fits.
    let folds: BTreeMap<&str, usize> = groups.into_iter().zip((0..10).cycle()).collect();
    let fold = |p: &Point| folds[&*p.group];
    let of_fold: Vec<Coefficients> = (0..10)
        .map(|n| {
            let others: Vec<&Point> = points.iter().filter(|p| fold(p) != n).collect();
            fitted(others.iter().copied())
        })
        .collect();
    let expected = |p: &Point| Pulled::REGRET * chance(&of_fold[fold(p)], p) as f32;
    let scores: Vec<f32> = points.iter().map(expected).collect();
    println!("Each group by a fit without it.\n");
    curve::print_by(model, points, (&scores, bound), "gold changed", |p| {
        p.is_concerned
    });
}
