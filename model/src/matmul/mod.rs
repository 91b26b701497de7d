//! Matrix products of activations with packed weights.
//!
//! Contract: the bits of a row's result depend on that row and the weights only: not on
//! the other rows, the number of threads or the instruction set. Vectors run over output
//! columns; `floats` and `integers` say how the sum over k of one output is taken.

mod block_floats;
mod codes;
mod floats;
#[macro_use]
mod integers;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod no_tiles;
mod packed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile_products;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tile_rows;

use std::ops::Range;

use rayon::prelude::*;

use crate::activations::Activations;
use crate::config::Activation;
use crate::lanes::{Isa, Kernel, Lane, Lanes, gelu_product, sigmoid_product};
use block_floats::BlockFloats;
pub(crate) use floats::MultiplyRows;
pub(crate) use packed::PackedMatrix;
use packed::Store;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
use no_tiles::SpreadRows;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use tile_products::SpreadRows;

/// Steps of k in a unit: what shares a scale, at most.
const UNIT: usize = 32;

/// One product of a fork: `out = x * weights + bias`, or scaled and added to what `out` holds.
pub(crate) struct Product<'a> {
    /// The weights.
    pub weights: &'a PackedMatrix,
    /// One lane a panel, added at the end.
    pub bias: Option<&'a [Lane]>,
    /// Where the result goes.
    pub out: &'a mut Activations,
    /// If the result is added to what is there, what it is multiplied with before.
    pub add: Option<f32>,
}

/// Computes several products of the same activations in one fork of the current pool.
pub(crate) fn multiply(isa: Isa, x: &Activations, products: Vec<Product<'_>>) {
    let n_rows = x.n_rows();
    if n_rows == 0 {
        return;
    }
    let n_panels: usize = products.iter().map(|p| p.weights.n_panels()).sum();
    let grain = grain(n_panels);
    let input = Input::new(isa, x, products.iter().map(|p| p.weights));
    let mut tasks = Vec::new();
    for product in products {
        let out = product.out.lanes_mut().chunks_mut(grain * n_rows);
        for (i, out) in out.enumerate() {
            let first = i * grain;
            let range = first..first + out.len() / n_rows;
            tasks.push((product.weights, product.bias, product.add, range, out));
        }
    }
    tasks
        .into_par_iter()
        .with_max_len(1)
        .for_each(|(weights, bias, add, range, out)| {
            if let Some(scale) = add {
                let mut sum = vec![Lane::ZERO; out.len()];
                input.panels(isa, weights, range.clone(), &mut sum);
                out.iter_mut()
                    .zip(&sum)
                    .for_each(|(out, sum)| add_scaled_lane(out, sum, scale));
            } else {
                input.panels(isa, weights, range.clone(), out);
            }
            if let Some(bias) = bias {
                for (out, bias) in out.chunks_exact_mut(n_rows).zip(&bias[range]) {
                    out.iter_mut().for_each(|out| add_lane(out, bias));
                }
            }
        });
}

fn add_lane(to: &mut Lane, from: &Lane) {
    for (to, from) in to.0.iter_mut().zip(from.0) {
        *to += from;
    }
}

fn add_scaled_lane(to: &mut Lane, from: &Lane, scale: f32) {
    for (to, from) in to.0.iter_mut().zip(from.0) {
        *to += from * scale;
    }
}

/// `activation(x * gate) * (x * up)` into `out`, in one fork of the current pool.
pub(crate) fn multiply_gated(
    isa: Isa,
    x: &Activations,
    activation: Activation,
    [gate, up]: [&PackedMatrix; 2],
    out: &mut Activations,
) {
    let n_rows = x.n_rows();
    if n_rows == 0 {
        return;
    }
    let grain = grain(2 * gate.n_panels()).div_ceil(4) * 2;
    let input = Input::new(isa, x, [gate, up]);
    out.lanes_mut()
        .par_chunks_mut(grain * n_rows)
        .with_max_len(1)
        .enumerate()
        .for_each(|(i, out)| {
            let range = i * grain..i * grain + out.len() / n_rows;
            let mut raised = vec![Lane::ZERO; out.len()];
            input.panels(isa, gate, range.clone(), out);
            input.panels(isa, up, range, &mut raised);
            isa.run(Gate {
                activation,
                gate: out,
                up: &raised,
            });
        });
}

/// Panels of one task: an even number, small enough that threads finish together even
/// when something else runs on one of their cores.
fn grain(n_panels: usize) -> usize {
    const TASKS_PER_THREAD: usize = 6;
    let n_tasks = rayon::current_num_threads() * TASKS_PER_THREAD;
    n_panels.div_ceil(n_tasks).next_multiple_of(2)
}

struct Gate<'a> {
    activation: Activation,
    gate: &'a mut [Lane],
    up: &'a [Lane],
}

impl Kernel for Gate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let pairs = self.gate.iter_mut().zip(self.up);
        match self.activation {
            Activation::Silu => {
                for (gate, up) in pairs {
                    l.store(sigmoid_product(l, l.load(gate), l.load(up)), gate);
                }
            }
            Activation::GeluTanh => {
                for (gate, up) in pairs {
                    l.store(gelu_product(l, l.load(gate), l.load(up)), gate);
                }
            }
        }
    }
}

/// What panels are multiplied with.
struct Input<'a> {
    floats: &'a Activations,
    /// The same rounded, where any weights are codes.
    blocks: Option<BlockFloats>,
    tiles: SpreadRows,
}

impl<'a> Input<'a> {
    fn new<'w>(
        isa: Isa,
        floats: &'a Activations,
        weights: impl IntoIterator<Item = &'w PackedMatrix>,
    ) -> Self {
        let mut blocks = None;
        let mut tiles = SpreadRows::default();
        for weights in weights {
            if let Store::Codes(store) = &weights.store {
                let blocks =
                    blocks.get_or_insert_with(|| BlockFloats::of(isa, weights.arithmetic, floats));
                assert_eq!(
                    blocks.arithmetic(),
                    weights.arithmetic,
                    "weights that are multiplied together are of one decoder"
                );
                tiles.spread(isa, blocks, store.format, weights.n_units);
            }
        }
        Self {
            floats,
            blocks,
            tiles,
        }
    }

    /// The outputs of a range of panels (even bounds), for all rows.
    fn panels(&self, isa: Isa, weights: &PackedMatrix, range: Range<usize>, out: &mut [Lane]) {
        let (x, n_units) = (self.floats.lanes(), weights.n_units);
        let n_k = n_units * UNIT;
        match &weights.store {
            Store::F32(w) => floats::panels::<floats::F32>(isa, w, n_k, range, x, out),
            Store::F16(w) => floats::panels::<floats::F16>(isa, w, n_k, range, x, out),
            Store::BF16(w) => floats::panels::<floats::BF16>(isa, w, n_k, range, x, out),
            Store::Codes(store) => {
                let codes = (store, weights.arithmetic);
                if self.tiles.panels(codes, n_units, range.clone(), out) {
                    return;
                }
                let blocks = self.blocks.as_ref().expect("made where weights are codes");
                integers::panels(isa, store, n_units, range, blocks, out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
