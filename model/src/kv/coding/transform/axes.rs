//! Axes along which vectors vary independently: the eigenvectors of their covariance.
//!
//! Householder's reduction to three diagonals, then implicit QL (EISPACK's `tred2` and `tql2`, as
//! Bowdler, Martin, Reinsch and Wilkinson give them), in f64. Of functions it uses the square root alone,
//! which IEEE 754 gives to the last bit: so axes are the same bits on every processor.

/// Eigenvalues in descending order, each with its vector. `a` is `[n][n]`, symmetric. `None` where
/// the iteration does not end, which it does for all finite numbers.
pub(super) fn axes(mut a: Vec<Vec<f64>>) -> Option<Vec<(f64, Vec<f64>)>> {
    let n = a.len();
    let (mut d, mut e) = (vec![0.0; n], vec![0.0; n]);
    reduce(&mut a, &mut d, &mut e);
    // Rotations act on pairs of columns: transposed, on rows that are whole in memory.
    let mut z: Vec<Vec<f64>> = (0..n)
        .map(|j| a.iter().map(|row| row[j]).collect())
        .collect();
    iterate(&mut z, &mut d, &mut e)?;
    let mut axes: Vec<(f64, Vec<f64>)> = d.into_iter().zip(z).collect();
    axes.sort_by(|a, b| b.0.total_cmp(&a.0));
    Some(axes)
}

/// To three diagonals: `d` is the middle one, `e[1..]` the one beside it, `a` the transformation.
fn reduce(a: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64]) {
    let n = a.len();
    for i in (1..n).rev() {
        let (before, rest) = a.split_at_mut(i);
        let row = &mut rest[0];
        let scale: f64 = row[..i].iter().map(|x| x.abs()).sum();
        let mut h = 0.0;
        if i == 1 || scale == 0.0 {
            e[i] = row[i - 1];
        } else {
            for x in &mut row[..i] {
                *x /= scale;
                h += *x * *x;
            }
            let f = row[i - 1];
            let g = if f >= 0.0 { -h.sqrt() } else { h.sqrt() };
            e[i] = scale * g;
            h -= f * g;
            row[i - 1] = f - g;
            // The product of the part that is left, which is symmetric, with the row.
            e[..i].fill(0.0);
            for (j, of_j) in before.iter().enumerate() {
                let mut sum = 0.0;
                for k in 0..j {
                    sum += of_j[k] * row[k];
                    e[k] += of_j[k] * row[j];
                }
                e[j] += sum + of_j[j] * row[j];
            }
            let mut f = 0.0;
            for (j, of_j) in before.iter_mut().enumerate() {
                of_j[i] = row[j] / h;
                e[j] /= h;
                f += e[j] * row[j];
            }
            let hh = f / (h + h);
            for (j, of_j) in before.iter_mut().enumerate() {
                let f = row[j];
                let g = e[j] - hh * f;
                e[j] = g;
                for k in 0..=j {
                    of_j[k] -= f * e[k] + g * row[k];
                }
            }
        }
        d[i] = h;
    }
    d[0] = 0.0;
    e[0] = 0.0;
    let mut sums = vec![0.0; n];
    for i in 0..n {
        if d[i] != 0.0 {
            let (before, rest) = a.split_at_mut(i);
            let row = &rest[0];
            sums[..i].fill(0.0);
            for (k, of_k) in before.iter().enumerate() {
                for j in 0..i {
                    sums[j] += row[k] * of_k[j];
                }
            }
            for of_k in before.iter_mut() {
                let x = of_k[i];
                for j in 0..i {
                    of_k[j] -= sums[j] * x;
                }
            }
        }
        d[i] = a[i][i];
        a[i][i] = 1.0;
        a[i][..i].fill(0.0);
        for of_j in &mut a[..i] {
            of_j[i] = 0.0;
        }
    }
}

/// Three diagonals to one, `z` (by rows) turned along.
fn iterate(z: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64]) -> Option<()> {
    let n = d.len();
    e.rotate_left(1);
    if let Some(last) = e.last_mut() {
        *last = 0.0;
    }
    for l in 0..n {
        for turn in 0.. {
            let is_small = |m: usize| {
                let dd = d[m].abs() + d[m + 1].abs();
                e[m].abs() <= f64::EPSILON * dd
            };
            let m = (l..n - 1).find(|m| is_small(*m)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if turn == 60 {
                return None;
            }
            let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let r = (g * g + 1.0).sqrt();
            let mut g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut is_cut = false;
            for i in (l..m).rev() {
                let f = s * e[i];
                let b = c * e[i];
                let r = (f * f + g * g).sqrt();
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    is_cut = true;
                    break;
                }
                s = f / r;
                c = g / r;
                let q = d[i + 1] - p;
                let r = (d[i] - q) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = q + p;
                g = c * r - b;
                let (low, high) = z.split_at_mut(i + 1);
                for (a, b) in low[i].iter_mut().zip(&mut high[0]) {
                    let f = *b;
                    *b = s * *a + c * f;
                    *a = c * *a - s * f;
                }
            }
            if !is_cut {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn axes_are_orthogonal_and_give_the_matrix_again(
            n in 1usize..12,
            numbers in prop::collection::vec(-3.0f64..3.0, 144),
            rank in 1usize..12,
        ) {
            // A sum of outer products, of full rank or less.
            let vectors: Vec<&[f64]> = numbers.chunks(12).take(rank).collect();
            let of = |i: usize, j: usize| vectors.iter().map(|v| v[i] * v[j]).sum::<f64>();
            let a: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| of(i, j)).collect()).collect();
            let axes = axes(a.clone()).unwrap();
            prop_assert!(axes.is_sorted_by(|a, b| a.0 >= b.0));
            for (i, (_, x)) in axes.iter().enumerate() {
                for (j, (_, y)) in axes.iter().enumerate() {
                    let dot: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                    prop_assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-9);
                }
            }
            for (i, row) in a.iter().enumerate() {
                for (j, wanted) in row.iter().enumerate() {
                    let again: f64 = axes.iter().map(|(value, x)| value * x[i] * x[j]).sum();
                    prop_assert!((again - wanted).abs() < 1e-8, "{again} for {wanted}");
                }
            }
        }
    }
}
