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
use formats::{Affine, Affine16, Affine32, BF16, F16, F32, Format, Offset, Offset16, Quantized};
use kernel::FEW_ROWS;
pub(crate) use kernel::rows;
pub(crate) use packed::PackedMatrix;
use packed::Store;

/// One product of a fork: `out = x * weights + bias`.
pub(crate) struct Product<'a> {
    /// The weights.
    pub weights: &'a PackedMatrix,
    /// One lane a panel, added at the end.
    pub bias: Option<&'a [Lane]>,
    /// Where the result goes.
    pub out: &'a mut Activations,
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
            tasks.push((
                product.weights,
                product.bias,
                first..first + out.len() / n_rows,
                out,
            ));
        }
    }
    tasks
        .into_par_iter()
        .with_max_len(1)
        .for_each(|(weights, bias, panels, out)| {
            isa.run(Panels {
                weights,
                panels: panels.clone(),
                x,
                out: &mut *out,
            });
            if let Some(bias) = bias {
                for (out, bias) in out.chunks_exact_mut(n_rows).zip(&bias[panels]) {
                    for lane in out {
                        for (y, b) in lane.0.iter_mut().zip(bias.0) {
                            *y += b;
                        }
                    }
                }
            }
        });
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
            let panels = i * grain..i * grain + out.len() / n_rows;
            let mut raised = vec![Lane::ZERO; out.len()];
            isa.run(Panels {
                weights: gate,
                panels: panels.clone(),
                x,
                out: &mut *out,
            });
            isa.run(Panels {
                weights: up,
                panels,
                x,
                out: &mut raised,
            });
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
struct Panels<'a> {
    weights: &'a PackedMatrix,
    panels: Range<usize>,
    x: &'a Activations,
    out: &'a mut [Lane],
}

impl Kernel for Panels<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n_k = self.weights.n_units * formats::UNIT;
        match &self.weights.store {
            Store::F32(w) => self.pass::<L, F32>(l, |p| &w[p * n_k..][..n_k]),
            Store::F16(w) => self.pass::<L, F16>(l, |p| &w[p * n_k..][..n_k]),
            Store::BF16(w) => self.pass::<L, BF16>(l, |p| &w[p * n_k..][..n_k]),
            Store::Codes(store) => {
                let n_units = self.weights.n_units;
                macro_rules! codes {
                    ($($encoding:ident: $rule:ty, $bits:literal;)*) => {
                        match store.encoding {
                            $(Encoding::$encoding => self.pass::<L, Quantized<$rule, $bits>>(
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
}

impl<'a> Panels<'a> {
    #[inline(always)]
    fn pass<L: Lanes, F: Format>(self, l: L, panel: impl Fn(usize) -> F::Panel<'a> + Clone) {
        let n_rows = self.x.n_rows();
        let n_units = self.weights.n_units;
        let x = self.x.lanes();
        if n_rows > FEW_ROWS {
            return kernel::many::<L, F>(l, self.panels.map(panel), n_units, n_rows, x, self.out);
        }
        for (p, out) in self
            .panels
            .step_by(2)
            .zip(self.out.chunks_exact_mut(2 * n_rows))
        {
            let pair = [panel(p), panel(p + 1)];
            match n_rows {
                1 => kernel::few::<L, F, 1, 2>(l, &pair, x, out),
                2 => kernel::few::<L, F, 2, 2>(l, &pair, x, out),
                _ => {
                    for (panel, out) in pair.into_iter().zip(out.chunks_exact_mut(n_rows)) {
                        match n_rows {
                            3 => kernel::few::<L, F, 3, 1>(l, &[panel], x, out),
                            _ => kernel::few::<L, F, 4, 1>(l, &[panel], x, out),
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
