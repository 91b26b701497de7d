//! Matrix products of activations with packed weights.
//!
//! Contract: the bits of a row's result depend on that row and the weights only: not on
//! the other rows, the number of threads or the instruction set. Vectors run over output
//! columns; the sum over k of one output is one chain of fused multiply-adds in order.

mod formats;
mod kernel;
mod packed;

use std::ops::Range;

use rayon::prelude::*;

use crate::activations::Activations;
use crate::lanes::{Isa, Kernel, Lane, Lanes, sigmoid_product};
use crate::weights::Encoding;
use formats::{
    Affine, Affine16, Affine32, BF16, F16, F32, Format, Offset, Offset16, Quantized, UNIT,
};
pub(crate) use kernel::MultiplyRows;
use kernel::{STRETCH, UNIT_LANES};
pub(crate) use packed::PackedMatrix;
use packed::Store;

/// One product of a fork: `out = x * weights + bias`, or added to what `out` holds.
pub(crate) struct Product<'a> {
    /// The weights.
    pub weights: &'a PackedMatrix,
    /// One lane a panel, added at the end.
    pub bias: Option<&'a [Lane]>,
    /// Where the result goes.
    pub out: &'a mut Activations,
    /// Whether the result is added to what is there.
    pub add: bool,
}

/// Computes several products of the same activations in one fork of the current pool.
pub(crate) fn multiply(isa: Isa, x: &Activations, products: Vec<Product<'_>>) {
    let n_rows = x.n_rows();
    if n_rows == 0 {
        return;
    }
    let n_panels: usize = products.iter().map(|p| p.weights.n_panels()).sum();
    let grain = grain(n_panels);
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
            if add {
                let mut sum = vec![Lane::ZERO; out.len()];
                panels(isa, weights, range.clone(), x, &mut sum);
                out.iter_mut()
                    .zip(&sum)
                    .for_each(|(out, sum)| add_lane(out, sum));
            } else {
                panels(isa, weights, range.clone(), x, out);
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

/// `silu(x * gate) * (x * up)` into `out`, in one fork of the current pool.
pub(crate) fn multiply_gated(
    isa: Isa,
    x: &Activations,
    gate: &PackedMatrix,
    up: &PackedMatrix,
    out: &mut Activations,
) {
    let n_rows = x.n_rows();
    if n_rows == 0 {
        return;
    }
    let grain = grain(2 * gate.n_panels()).div_ceil(4) * 2;
    out.lanes_mut()
        .par_chunks_mut(grain * n_rows)
        .with_max_len(1)
        .enumerate()
        .for_each(|(i, out)| {
            let range = i * grain..i * grain + out.len() / n_rows;
            let mut raised = vec![Lane::ZERO; out.len()];
            panels(isa, gate, range.clone(), x, out);
            panels(isa, up, range, x, &mut raised);
            isa.run(Gate {
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
    gate: &'a mut [Lane],
    up: &'a [Lane],
}

impl Kernel for Gate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            l.store(sigmoid_product(l, l.load(gate), l.load(up)), gate);
        }
    }
}

/// The outputs of a range of panels (even bounds), for all rows.
fn panels(
    isa: Isa,
    weights: &PackedMatrix,
    panels: Range<usize>,
    x: &Activations,
    out: &mut [Lane],
) {
    let n_rows = x.n_rows();
    if n_rows == 1 {
        return isa.run(OneRow {
            weights,
            panels,
            x: x.lanes(),
            out,
        });
    }
    let mut scratch = [[Lane::ZERO; UNIT]; STRETCH];
    for first in (0..weights.n_units).step_by(STRETCH) {
        let n = STRETCH.min(weights.n_units - first);
        let x = &x.lanes()[first * UNIT_LANES * n_rows..][..n * UNIT_LANES * n_rows];
        for (panel, out) in panels.clone().zip(out.chunks_exact_mut(n_rows)) {
            isa.run(Stretch {
                weights,
                panel,
                first,
                out: &mut scratch[..n],
            });
            let weights = scratch[..n].as_flattened();
            isa.run(MultiplyRows {
                weights,
                x,
                out,
                resume: first > 0,
            });
        }
    }
}

/// Something to be done in whichever format a matrix is packed in.
trait InFormat<'a> {
    fn weights(&self) -> &'a PackedMatrix;
    /// `panel` gives a panel by its number.
    fn run<L: Lanes, F: Format>(self, l: L, panel: impl Fn(usize) -> F::Panel<'a>);
}

#[inline(always)]
fn in_format<'a, L: Lanes>(l: L, work: impl InFormat<'a>) {
    let weights = work.weights();
    let n_units = weights.n_units;
    let n_k = n_units * UNIT;
    match &weights.store {
        Store::F32(w) => work.run::<L, F32>(l, |p| &w[p * n_k..][..n_k]),
        Store::F16(w) => work.run::<L, F16>(l, |p| &w[p * n_k..][..n_k]),
        Store::BF16(w) => work.run::<L, BF16>(l, |p| &w[p * n_k..][..n_k]),
        Store::Codes(store) => {
            macro_rules! codes {
                ($($encoding:ident: $rule:ty, $bits:literal;)*) => {
                    match store.encoding {
                        $(Encoding::$encoding => work.run::<L, Quantized<$rule, $bits>>(
                            l,
                            |p| store.panel(p, n_units),
                        ),)*
                        Encoding::F32 | Encoding::F16 | Encoding::BF16 => {
                            unreachable!("plain floats are not stored as codes")
                        }
                    }
                };
            }
            codes! {
                Q4_0: Offset<8>, 4;
                Q4_1: Affine, 4;
                Q5_0: Offset<16>, 5;
                Q5_1: Affine, 5;
                Q8_0: Offset<128>, 8;
                Q2_K: Affine16, 2;
                Q3_K: Offset16<4>, 3;
                Q4_K: Affine32, 4;
                Q5_K: Affine32, 5;
                Q6_K: Offset16<32>, 6;
            }
        }
    }
}

/// One row times a range of panels.
struct OneRow<'a, 'o> {
    weights: &'a PackedMatrix,
    panels: Range<usize>,
    x: &'o [Lane],
    out: &'o mut [Lane],
}

impl Kernel for OneRow<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        in_format(l, self);
    }
}

impl<'a> InFormat<'a> for OneRow<'a, '_> {
    fn weights(&self) -> &'a PackedMatrix {
        self.weights
    }

    #[inline(always)]
    fn run<L: Lanes, F: Format>(self, l: L, panel: impl Fn(usize) -> F::Panel<'a>) {
        for (p, out) in self.panels.step_by(2).zip(self.out.as_chunks_mut().0) {
            kernel::single::<L, F, 2>(l, &[panel(p), panel(p + 1)], self.x, out);
        }
    }
}

/// Units of one panel, written out as f32.
struct Stretch<'a, 'o> {
    weights: &'a PackedMatrix,
    panel: usize,
    first: usize,
    out: &'o mut [[Lane; UNIT]],
}

impl Kernel for Stretch<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        in_format(l, self);
    }
}

impl<'a> InFormat<'a> for Stretch<'a, '_> {
    fn weights(&self) -> &'a PackedMatrix {
        self.weights
    }

    #[inline(always)]
    fn run<L: Lanes, F: Format>(self, l: L, panel: impl Fn(usize) -> F::Panel<'a>) {
        kernel::write_out::<L, F>(l, panel(self.panel), self.first, self.out);
    }
}

#[cfg(test)]
mod tests;
