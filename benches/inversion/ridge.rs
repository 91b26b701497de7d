//! The linear map that predicts some numbers from others best, while its weights stay small.
//!
//! Ridge regression in closed form, of inputs that are brought to mean 0 and variance 1: `(X'X + l n I) W = X'Y`, solved
//! by Cholesky's decomposition.

use perennial::model::dot::{Rows, Vectors, products};

/// The penalty, as a share of the variance of an input.
const PENALTY: f64 = 0.05;

/// A map from rows of one width to rows of another.
pub struct Ridge {
    /// By input: its mean, and what it is divided by.
    inputs: Vec<(f32, f32)>,
    means: Vec<f32>,
    /// `[n_in][n_out]`.
    weights: Vec<f32>,
}

impl Ridge {
    /// The map from rows `[n_rows][n_in]` to rows `[n_rows][n_out]`.
    pub fn fit((x, n_in): (&[f32], usize), (y, n_out): (&[f32], usize)) -> Self {
        let n_rows = (x.len() / n_in).max(1);
        let mut inputs = Vec::new();
        let (mut columns, mut targets) = (Vectors::default(), Vectors::default());
        for (at, slot) in (0..n_in).zip(0u32..) {
            let column: Vec<f32> = x.iter().skip(at).step_by(n_in).copied().collect();
            let (mean, deviation) = spread(&column);
            columns.set(slot, column.iter().map(|x| (x - mean) / deviation));
            inputs.push((mean, deviation));
        }
        let mut means = Vec::new();
        for (at, slot) in (0..n_out).zip(0u32..) {
            let column: Vec<f32> = y.iter().skip(at).step_by(n_out).copied().collect();
            let (mean, _) = spread(&column);
            targets.set(slot, column.iter().map(|y| y - mean));
            means.push(mean);
        }
        let of_inputs: Vec<u32> = (0..n_in as u32).collect();
        let of_targets: Vec<u32> = (0..n_out as u32).collect();
        let rows = |vectors, slots| Rows { vectors, slots };
        let mut gram = vec![0f32; n_in * n_in];
        products(
            rows(&columns, &of_inputs),
            rows(&columns, &of_inputs),
            &mut gram,
        );
        let mut right = vec![0f32; n_in * n_out];
        products(
            rows(&columns, &of_inputs),
            rows(&targets, &of_targets),
            &mut right,
        );
        let mut gram: Vec<f64> = gram.into_iter().map(f64::from).collect();
        for at in 0..n_in {
            gram[at * n_in + at] += PENALTY * n_rows as f64;
        }
        let mut right: Vec<f64> = right.into_iter().map(f64::from).collect();
        decompose(&mut gram, n_in);
        solve(&gram, n_in, &mut right, n_out);
        Self {
            inputs,
            means,
            weights: right.into_iter().map(|x| x as f32).collect(),
        }
    }

    /// What it makes of rows.
    pub fn map(&self, x: &[f32]) -> Vec<f32> {
        let n_out = self.means.len();
        let mut mapped = Vec::with_capacity(x.len() / self.inputs.len() * n_out);
        for row in x.chunks_exact(self.inputs.len()) {
            let mut to = self.means.clone();
            for ((x, (mean, deviation)), weights) in row
                .iter()
                .zip(&self.inputs)
                .zip(self.weights.chunks_exact(n_out))
            {
                let x = (x - mean) / deviation;
                to.iter_mut()
                    .zip(weights)
                    .for_each(|(to, weight)| *to += x * weight);
            }
            mapped.extend(to);
        }
        mapped
    }
}

/// Mean, and root of the variance; 1 where nothing varies.
fn spread(column: &[f32]) -> (f32, f32) {
    let n = column.len().max(1) as f64;
    let mean = column.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let squares = column.iter().map(|x| (f64::from(*x) - mean).powi(2));
    let deviation = (squares.sum::<f64>() / n).sqrt();
    match deviation > 0.0 {
        true => (mean as f32, deviation as f32),
        false => (mean as f32, 1.0),
    }
}

/// A symmetric positive matrix becomes its lower triangle in Cholesky's decomposition.
fn decompose(matrix: &mut [f64], n: usize) {
    for i in 0..n {
        let (above, rest) = matrix.split_at_mut(i * n);
        let row = &mut rest[..n];
        for j in 0..i {
            let other = &above[j * n..][..=j];
            let known: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - known) / other[j];
        }
        let known: f64 = row[..i].iter().map(|a| a * a).sum();
        // The penalty keeps it above zero, but for rounding.
        row[i] = (row[i] - known).max(f64::MIN_POSITIVE).sqrt();
    }
}

/// `right`, `[n][n_out]`, becomes what the decomposed matrix times it was `right`.
fn solve(lower: &[f64], n: usize, right: &mut [f64], n_out: usize) {
    for i in 0..n {
        let (before, rest) = right.split_at_mut(i * n_out);
        let row = &mut rest[..n_out];
        for (weight, known) in lower[i * n..i * n + i]
            .iter()
            .zip(before.chunks_exact(n_out))
        {
            row.iter_mut()
                .zip(known)
                .for_each(|(x, known)| *x -= weight * known);
        }
        row.iter_mut().for_each(|x| *x /= lower[i * n + i]);
    }
    for i in (0..n).rev() {
        let (before, behind) = right.split_at_mut((i + 1) * n_out);
        let row = &mut before[i * n_out..];
        for (j, known) in (i + 1..n).zip(behind.chunks_exact(n_out)) {
            let weight = lower[j * n + i];
            row.iter_mut()
                .zip(known)
                .for_each(|(x, known)| *x -= weight * known);
        }
        row.iter_mut().for_each(|x| *x /= lower[i * n + i]);
    }
}
