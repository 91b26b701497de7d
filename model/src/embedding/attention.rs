//! Attention of a text's tokens to all of its tokens.

use std::ops::Range;

use crate::activations::Activations;
use crate::lanes::{Isa, Kernel, Lane, Lanes, WIDTH, exp, sum};

/// Attends within `rows` of queries, keys and values (columns: heads side by side) and
/// writes the same rows of `out`.
pub(super) fn attend(
    isa: Isa,
    (q, k, v): (&Activations, &Activations, &Activations),
    rows: Range<usize>,
    n_heads: usize,
    out: &mut Activations,
) {
    if rows.is_empty() {
        return;
    }
    let panels_a_head = q.n_panels() / n_heads;
    for head in 0..n_heads {
        let panels = head * panels_a_head..(head + 1) * panels_a_head;
        isa.run(Head {
            q,
            k,
            v,
            rows: rows.clone(),
            panels,
            out,
        });
    }
}

/// One head: its panels of all activations.
struct Head<'a> {
    q: &'a Activations,
    k: &'a Activations,
    v: &'a Activations,
    rows: Range<usize>,
    panels: Range<usize>,
    out: &'a mut Activations,
}

impl Kernel for Head<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self {
            q,
            k,
            v,
            rows,
            panels,
            out,
        } = self;
        let (n, n_rows) = (rows.len(), q.n_rows());
        let head_dim = panels.len() * WIDTH;
        let at = |panel: usize, row: usize| panel * n_rows + row;

        // Keys in tiles of sixteen, a lane for each dimension.
        let mut keys = vec![Lane::ZERO; n.div_ceil(WIDTH) * head_dim];
        for (i, row) in rows.clone().enumerate() {
            for (j, panel) in panels.clone().enumerate() {
                for (d, x) in k.lanes()[at(panel, row)].0.into_iter().enumerate() {
                    keys[i / WIDTH * head_dim + j * WIDTH + d].0[i % WIDTH] = x;
                }
            }
        }

        let scale = l.splat(1.0 / (head_dim as f32).sqrt());
        let mut query = vec![0.0; head_dim];
        let mut weights = vec![Lane::ZERO; n.div_ceil(WIDTH)];
        for row in rows.clone() {
            q.read_row(row, panels.start * WIDTH, &mut query);
            let mut highest = f32::NEG_INFINITY;
            for (tile, (weights, keys)) in weights
                .iter_mut()
                .zip(keys.chunks_exact(head_dim))
                .enumerate()
            {
                let mut scores = l.splat(0.0);
                for (key, &x) in keys.iter().zip(&query) {
                    scores = l.fma(l.splat(x), l.load(key), scores);
                }
                l.store(l.mul(scores, scale), weights);
                // Keys past the text weigh e^-inf = 0.
                weights.0[(n - tile * WIDTH).min(WIDTH)..].fill(f32::NEG_INFINITY);
                highest = weights.0.into_iter().fold(highest, f32::max);
            }
            let mut total = l.splat(0.0);
            for weights in &mut weights {
                let weight = exp(l, l.sub(l.load(weights), l.splat(highest)));
                l.store(weight, weights);
                total = l.add(total, weight);
            }
            let total = l.splat(sum(l, total));
            for panel in panels.clone() {
                let values = &v.lanes()[at(panel, rows.start)..at(panel, rows.end)];
                let mut mixed = l.splat(0.0);
                for (i, value) in values.iter().enumerate() {
                    let weight = l.splat(weights[i / WIDTH].0[i % WIDTH]);
                    mixed = l.fma(weight, l.load(value), mixed);
                }
                l.store(l.div(mixed, total), &mut out.lanes_mut()[at(panel, row)]);
            }
        }
    }
}
