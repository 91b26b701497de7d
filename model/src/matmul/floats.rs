//! Products with weights that are stored as floats.
//!
//! Contract: every output is one chain `acc = fma(x[k], w[k], acc)` from zero, over k in
//! order. A single row (decoding) takes the weights from the panel straight to the
//! accumulators; many rows (prefill) first write a stretch of the panel as f32, small
//! enough for the first cache, and pass all rows over it, keeping partial sums in the
//! output between stretches: the chain is the same.

use std::ops::Range;

use super::UNIT;
use crate::lanes::{Halves, Isa, Kernel, Lane, Lanes, WIDTH};
use crate::tiles::{Tiled, all_tiles};

/// Steps of a stretch: 16 KiB of f32.
const STRETCH: usize = 8 * UNIT;

/// How weights are stored.
pub(super) trait Float {
    /// Sixteen of them.
    type Stored;
    /// Their values, exactly.
    fn load<L: Lanes>(l: L, from: &Self::Stored) -> L::F;
}

/// As f32.
pub(super) struct F32;
/// As f16.
pub(super) struct F16;
/// As bf16.
pub(super) struct BF16;

impl Float for F32 {
    type Stored = Lane;
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &Lane) -> L::F {
        l.load(from)
    }
}

impl Float for F16 {
    type Stored = Halves;
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &Halves) -> L::F {
        l.load_f16(from)
    }
}

impl Float for BF16 {
    type Stored = Halves;
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &Halves) -> L::F {
        l.load_bf16(from)
    }
}

/// The outputs of a range of panels (even bounds), for all rows. `weights` is `[n_panels][n_k]`,
/// `x` is `[n_k / 16][n_rows]`, `out` is `[range][n_rows]`.
pub(super) fn panels<T: Float>(
    isa: Isa,
    weights: &[T::Stored],
    n_k: usize,
    range: Range<usize>,
    x: &[Lane],
    out: &mut [Lane],
) {
    let n_rows = out.len() / range.len().max(1);
    let panels = weights[range.start * n_k..range.end * n_k].chunks_exact(n_k);
    if n_rows == 1 {
        let panels = weights[range.start * n_k..range.end * n_k].chunks_exact(2 * n_k);
        for (panels, out) in panels.zip(out.as_chunks_mut().0) {
            isa.run(OneRow::<T> {
                panels: panels.split_at(n_k),
                x,
                out,
            });
        }
        return;
    }
    let mut stretch = [Lane::ZERO; STRETCH];
    for first in (0..n_k).step_by(STRETCH) {
        let n = STRETCH.min(n_k - first);
        let x = &x[first / WIDTH * n_rows..][..n / WIDTH * n_rows];
        for (panel, out) in panels.clone().zip(out.chunks_exact_mut(n_rows)) {
            isa.run(WriteOut::<T> {
                panel: &panel[first..][..n],
                out: &mut stretch,
            });
            isa.run(MultiplyRows {
                weights: &stretch[..n],
                x,
                out,
                resume: first > 0,
            });
        }
    }
}

/// One row of two panels: several chains of additions are in flight.
struct OneRow<'a, 'o, T: Float> {
    panels: (&'a [T::Stored], &'a [T::Stored]),
    x: &'a [Lane],
    out: &'o mut [Lane; 2],
}

impl<T: Float> Kernel for OneRow<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (a, b) = (
            self.panels.0.as_chunks::<WIDTH>().0,
            self.panels.1.as_chunks().0,
        );
        let mut acc = (l.splat(0.0), l.splat(0.0));
        for ((x, a), b) in self.x.iter().zip(a).zip(b) {
            let b: &[T::Stored; WIDTH] = b;
            for k in 0..WIDTH {
                let x = l.splat(x.0[k]);
                acc.0 = l.fma(x, T::load(l, &a[k]), acc.0);
                acc.1 = l.fma(x, T::load(l, &b[k]), acc.1);
            }
        }
        l.store(acc.0, &mut self.out[0]);
        l.store(acc.1, &mut self.out[1]);
    }
}

/// Writes weights out as f32.
struct WriteOut<'a, 'o, T: Float> {
    panel: &'a [T::Stored],
    out: &'o mut [Lane],
}

impl<T: Float> Kernel for WriteOut<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (from, to) in self.panel.iter().zip(self.out) {
            l.store(T::load(l, from), to);
        }
    }
}

/// All rows of one panel over a stretch of f32 weights.
pub(crate) struct MultiplyRows<'a> {
    /// `[n_k]`.
    pub weights: &'a [Lane],
    /// `[n_k / 16, rounded up][n_rows]`.
    pub x: &'a [Lane],
    /// `[n_rows]`.
    pub out: &'a mut [Lane],
    /// Whether `out` holds partial sums to go on from.
    pub resume: bool,
}

impl Kernel for MultiplyRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        all_tiles(l, self.out.len(), &mut self);
    }
}

impl Tiled for MultiplyRows<'_> {
    #[inline(always)]
    fn tile<L: Lanes, const R: usize>(&mut self, l: L, first: usize) {
        let n_rows = self.out.len();
        let out: &mut [Lane; R] = &mut self.out[first..first + R].as_chunks_mut().0[0];
        let mut acc = [l.splat(0.0); R];
        if self.resume {
            for r in 0..R {
                acc[r] = l.load(&out[r]);
            }
        }
        let (steps, rest) = self.weights.as_chunks::<WIDTH>();
        let mut panels = self.x.chunks_exact(n_rows);
        for (w, x) in steps.iter().zip(panels.by_ref()) {
            let x: &[Lane; R] = &x[first..first + R].as_chunks().0[0];
            for k in 0..WIDTH {
                let w = l.load(&w[k]);
                for r in 0..R {
                    acc[r] = l.fma(l.splat(x[r].0[k]), w, acc[r]);
                }
            }
        }
        if let Some(x) = panels.next().filter(|_| !rest.is_empty()) {
            let x: &[Lane; R] = &x[first..first + R].as_chunks().0[0];
            for (k, w) in rest.iter().enumerate() {
                let w = l.load(w);
                for r in 0..R {
                    // `k` is below `WIDTH`, which the compiler does not see.
                    acc[r] = l.fma(l.splat(x[r].0[k % WIDTH]), w, acc[r]);
                }
            }
        }
        for r in 0..R {
            l.store(acc[r], &mut out[r]);
        }
    }
}
