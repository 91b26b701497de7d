//! The two ways through a panel: one for a single row, one for many, with the same bits.
//!
//! Contract: every output is one chain `acc = fma(x[k], w[k], acc)` from zero, over k in
//! order. A single row (decoding) takes the weights from the packed form straight to the
//! accumulators; many rows (prefill) first write a stretch of the panel as f32, small
//! enough for the first cache, and pass all rows over it, keeping partial sums in the
//! output between stretches: the chain is the same.

use super::formats::{Format, Sink, UNIT};
use crate::lanes::{Kernel, Lane, Lanes, WIDTH};

/// Units of a stretch: 256 steps, 16 KiB of f32.
pub(super) const STRETCH: usize = 8;
/// Lanes (of sixteen steps) in a unit.
pub(super) const UNIT_LANES: usize = UNIT / WIDTH;

/// Accumulates one row of `P` panels.
struct Accumulate<'a, L: Lanes, const P: usize> {
    acc: [L::F; P],
    x: &'a [Lane; UNIT_LANES],
}

impl<L: Lanes, const P: usize> Sink<L> for Accumulate<'_, L, P> {
    #[inline(always)]
    fn put(&mut self, l: L, k: usize, p: usize, w: L::F) {
        let x = l.splat(self.x[k / WIDTH].0[k % WIDTH]);
        self.acc[p] = l.fma(x, w, self.acc[p]);
    }
}

/// One row of `P` panels, from packed weights to finished outputs. `x` is `[n_units * 2]`
/// lanes, `out` is `[P]`. Several panels keep several chains of additions in flight.
#[inline(always)]
pub(super) fn single<L: Lanes, F: Format, const P: usize>(
    l: L,
    panels: &[F::Panel<'_>; P],
    x: &[Lane],
    out: &mut [Lane; P],
) {
    let x: &[[Lane; UNIT_LANES]] = x.as_chunks().0;
    let mut sink = Accumulate::<L, P> {
        acc: [l.splat(0.0); P],
        x: &x[0],
    };
    for (u, x) in x.iter().enumerate() {
        sink.x = x;
        F::unit(l, panels, u, &mut sink);
    }
    for (acc, out) in sink.acc.into_iter().zip(out) {
        l.store(acc, out);
    }
}

/// Writes a unit out as f32.
struct WriteOut<'a>(&'a mut [Lane; UNIT]);

impl<L: Lanes> Sink<L> for WriteOut<'_> {
    #[inline(always)]
    fn put(&mut self, l: L, k: usize, _p: usize, w: L::F) {
        l.store(w, &mut self.0[k]);
    }
}

/// Writes units of a panel, from number `first` on, as f32.
#[inline(always)]
pub(super) fn write_out<L: Lanes, F: Format>(
    l: L,
    panel: F::Panel<'_>,
    first: usize,
    out: &mut [[Lane; UNIT]],
) {
    for (i, unit) in out.iter_mut().enumerate() {
        F::unit(l, &[panel], first + i, &mut WriteOut(unit));
    }
}

/// All rows of one panel over a stretch of f32 weights.
pub(crate) struct MultiplyRows<'a> {
    /// `[n_k]`.
    pub weights: &'a [Lane],
    /// `[n_k / 16][n_rows]`.
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
        let n_rows = self.out.len();
        let mut first = 0;
        while first < n_rows {
            let n = L::N_TILE_ROWS.min(n_rows - first);
            macro_rules! tiles {
                ($($r:literal)*) => {
                    match n {
                        $($r => if $r <= L::N_TILE_ROWS { self.tile::<L, $r>(l, first) })*
                        _ => unreachable!("a tile has at most N_TILE_ROWS rows"),
                    }
                };
            }
            tiles!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            first += n;
        }
    }
}

impl MultiplyRows<'_> {
    /// `R` rows from row `first` on.
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
        let steps = self.weights.as_chunks::<WIDTH>().0.iter();
        for (w, x) in steps.zip(self.x.chunks_exact(n_rows)) {
            let x: &[Lane; R] = &x[first..first + R].as_chunks().0[0];
            for k in 0..WIDTH {
                let w = l.load(&w[k]);
                for r in 0..R {
                    acc[r] = l.fma(l.splat(x[r].0[k]), w, acc[r]);
                }
            }
        }
        for r in 0..R {
            l.store(acc[r], &mut out[r]);
        }
    }
}
