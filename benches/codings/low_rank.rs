//! A baseline: of each layer's keys, and values, the nearest matrix of a low rank.
//!
//! Two thin matrices have fewer numbers than their product: `[n_tokens][rank]` and `[rank][width]`. Which product of
//! that rank is nearest, the singular value decomposition tells (Eckart and Young, 1936). Keys are taken without
//! rotation and bias. The thin matrices are counted in f16, and are not rounded to it: so what a coding is compared
//! with is at least as good as it could be.

use perennial::model::kv::{KeyFrame, KvFragment, PlainLayer};

/// Turns of the iteration: what separates singular values by a tenth is told apart.
const N_TURNS: usize = 16;

/// What is nearest to a fragment in one byte of `ratio`, and how many bytes it has. `None` if a number is not finite.
pub fn nearest(kv: &KvFragment, ratio: usize, frame: &KeyFrame) -> Option<(KvFragment, usize)> {
    let n_tokens = kv.n_tokens();
    let shape = kv.shape();
    let width = shape.n_kv_heads * shape.head_dim;
    let rank = (n_tokens * width / (ratio * (n_tokens + width))).max(1);
    let layers = frame.plain_layers(kv);
    let layers: Vec<PlainLayer> = layers
        .iter()
        .map(|layer| PlainLayer {
            keys: of_rank(&layer.keys, width, rank),
            values: of_rank(&layer.values, width, rank),
        })
        .collect();
    let back = frame.fragment(&layers, kv.base(), n_tokens)?;
    Some((back, 2 * 2 * shape.n_layers * rank * (n_tokens + width)))
}

/// The matrix `[n_rows][width]` of that rank that is nearest: its part in the space of the largest left singular
/// vectors, which orthogonal iteration finds.
fn of_rank(matrix: &[f32], width: usize, rank: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = matrix.chunks_exact(width).collect();
    let n = rows.len();
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    let gram: Vec<Vec<f64>> = rows
        .iter()
        .map(|a| rows.iter().map(|b| dot(a, b)).collect())
        .collect();
    // Any vectors that are not alike will do to begin with.
    let begin =
        |k: usize| (0..n).map(move |i| ((i * (2 * k + 3) + k) as f64 * 0.618).fract() - 0.5);
    let mut space: Vec<Vec<f64>> = (0..rank.min(n)).map(|k| begin(k).collect()).collect();
    for _ in 0..N_TURNS {
        for vector in &mut space {
            *vector = gram
                .iter()
                .map(|row| row.iter().zip(&*vector).map(|(a, b)| a * b).sum())
                .collect();
        }
        make_orthonormal(&mut space);
    }
    let mut nearest = vec![0f32; matrix.len()];
    for vector in &space {
        let mut along = vec![0f64; width];
        for (x, row) in vector.iter().zip(&rows) {
            along
                .iter_mut()
                .zip(*row)
                .for_each(|(sum, y)| *sum += x * f64::from(*y));
        }
        for (x, row) in vector.iter().zip(nearest.chunks_exact_mut(width)) {
            row.iter_mut()
                .zip(&along)
                .for_each(|(to, y)| *to += (x * y) as f32);
        }
    }
    nearest
}

/// By Gram and Schmidt, each twice for the sake of rounding.
fn make_orthonormal(space: &mut [Vec<f64>]) {
    for k in 0..space.len() {
        let (before, rest) = space.split_at_mut(k);
        let vector = &mut rest[0];
        for other in before.iter().chain(before.iter()) {
            let part: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
            vector
                .iter_mut()
                .zip(other)
                .for_each(|(a, b)| *a -= part * b);
        }
        let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        vector
            .iter_mut()
            .for_each(|x| *x /= length.max(f64::MIN_POSITIVE));
    }
}
