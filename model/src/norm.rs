//! Root-mean-square norms, with sums in an order that is the same everywhere.

use rayon::prelude::*;

use crate::activations::Activations;
use crate::lanes::{Isa, Kernel, Lane, Lanes, WIDTH, sum};

/// `x / rms(x) * weight` of every row, in parallel on the current pool. `n_columns` are
/// the real columns; `weight` is one lane a panel, zero in the padding.
pub(crate) fn rms_norm(
    isa: Isa,
    x: &Activations,
    weight: &[Lane],
    n_columns: usize,
    eps: f32,
) -> Activations {
    let n_rows = x.n_rows();
    let mut out = Activations::zeros(n_rows, n_columns);
    if n_rows == 0 {
        return out;
    }
    let scales = isa.run(Scales { x, n_columns, eps });
    let pieces = if n_rows == 1 {
        1
    } else {
        rayon::current_num_threads()
    };
    let grain = x.n_panels().div_ceil(pieces);
    out.lanes_mut()
        .par_chunks_mut(grain * n_rows)
        .enumerate()
        .for_each(|(i, out)| {
            let x = &x.lanes()[i * grain * n_rows..][..out.len()];
            isa.run(Scale {
                x,
                weight: &weight[i * grain..],
                scales: &scales,
                out,
            });
        });
    out
}

/// `1 / rms` of every row.
struct Scales<'a> {
    x: &'a Activations,
    n_columns: usize,
    eps: f32,
}

impl Kernel for Scales<'_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<f32> {
        let n_rows = self.x.n_rows();
        let mut sums = vec![Lane::ZERO; n_rows];
        for panel in self.x.lanes().chunks_exact(n_rows) {
            for (sum, x) in sums.iter_mut().zip(panel) {
                let x = l.load(x);
                l.store(l.fma(x, x, l.load(sum)), sum);
            }
        }
        let mut scales = Vec::with_capacity(n_rows);
        for s in &sums {
            let mean = sum(l, l.load(s)) / self.n_columns as f32;
            scales.push(1.0 / (mean + self.eps).sqrt());
        }
        scales
    }
}

struct Scale<'a> {
    x: &'a [Lane],
    weight: &'a [Lane],
    scales: &'a [f32],
    out: &'a mut [Lane],
}

impl Kernel for Scale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n_rows = self.scales.len();
        let panels = self
            .x
            .chunks_exact(n_rows)
            .zip(self.out.chunks_exact_mut(n_rows));
        for ((x, out), weight) in panels.zip(self.weight) {
            let weight = l.load(weight);
            for ((x, out), scale) in x.iter().zip(out).zip(self.scales) {
                l.store(l.mul(l.mul(l.load(x), l.splat(*scale)), weight), out);
            }
        }
    }
}

/// The same norm of one head, in place: Qwen3's norm of queries and keys.
pub(crate) fn norm_head(head: &mut [f32], weight: &[f32], eps: f32) {
    let mut sums = [0f32; WIDTH];
    for x in head.as_chunks::<WIDTH>().0 {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x * x;
        }
    }
    let scale = 1.0 / (sums.iter().sum::<f32>() / head.len() as f32 + eps).sqrt();
    for (x, weight) in head.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}
