//! The two ways through a panel: one for few rows, one for many, with the same bits.
//!
//! Contract: every output is one chain `acc = fma(x[k], w[k], acc)` from zero, over k in
//! order. Few rows (decoding) take the weights from the packed form straight to the
//! accumulators; many rows (prefill) first write a stretch of the panel as f32, small
//! enough for the first cache, and pass all rows over it, keeping partial sums in the
//! output between stretches: the chain is the same.

use super::formats::{Format, Sink, UNIT};
use crate::lanes::{Lane, Lanes, WIDTH};

/// Largest number of rows for which weights are not written out first.
pub(super) const FEW_ROWS: usize = 4;
/// Units of a stretch: 256 steps, 16 KiB of f32.
const STRETCH: usize = 8;
/// Lanes (of sixteen steps) in a unit.
const UNIT_LANES: usize = UNIT / WIDTH;

/// Accumulates `R` rows of `P` panels.
struct Accumulate<'a, L: Lanes, const R: usize, const P: usize> {
    acc: [[L::F; P]; R],
    x: &'a [[Lane; R]; UNIT_LANES],
}

impl<L: Lanes, const R: usize, const P: usize> Sink<L> for Accumulate<'_, L, R, P> {
    #[inline(always)]
    fn put(&mut self, l: L, k: usize, p: usize, w: L::F) {
        for r in 0..R {
            let x = l.splat(self.x[k / WIDTH][r].0[k % WIDTH]);
            self.acc[r][p] = l.fma(x, w, self.acc[r][p]);
        }
    }
}

/// `P` panels of `R` rows, from packed weights to finished outputs. `x` is
/// `[n_units * 2][R]` lanes, `out[p]` is `[R]`.
#[inline(always)]
pub(super) fn few<L: Lanes, F: Format, const R: usize, const P: usize>(
    l: L,
    panels: &[F::Panel<'_>; P],
    x: &[Lane],
    out: &mut [Lane],
) {
    let x: &[[[Lane; R]; UNIT_LANES]] = x.as_chunks().0.as_chunks().0;
    let mut sink = Accumulate::<L, R, P> {
        acc: [[l.splat(0.0); P]; R],
        x: &x[0],
    };
    for (u, x) in x.iter().enumerate() {
        sink.x = x;
        F::unit(l, panels, u, &mut sink);
    }
    for p in 0..P {
        for r in 0..R {
            l.store(sink.acc[r][p], &mut out[p * R + r]);
        }
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

/// Many rows of several panels. `x` is `[n_units * 2][n_rows]`, `out` is
/// `[panels][n_rows]`.
#[inline(always)]
pub(super) fn many<'p, L: Lanes, F: Format>(
    l: L,
    panels: impl Iterator<Item = F::Panel<'p>> + Clone,
    n_units: usize,
    n_rows: usize,
    x: &[Lane],
    out: &mut [Lane],
) {
    let mut scratch = [[Lane::ZERO; UNIT]; STRETCH];
    let mut first = 0;
    while first < n_units {
        let n = STRETCH.min(n_units - first);
        let x = &x[first * UNIT_LANES * n_rows..][..n * UNIT_LANES * n_rows];
        for (panel, out) in panels.clone().zip(out.chunks_exact_mut(n_rows)) {
            for (i, unit) in scratch[..n].iter_mut().enumerate() {
                F::unit(l, &[panel], first + i, &mut WriteOut(unit));
            }
            rows(l, scratch[..n].as_flattened(), x, out, first > 0);
        }
        first += n;
    }
}

/// All rows of one panel over a stretch of f32 weights: `w` is `[n_k]` lanes, `x` is
/// `[n_k / 16][n_rows]`, `out` is `[n_rows]`, which holds partial sums if `resume`.
#[inline(always)]
pub(crate) fn rows<L: Lanes>(l: L, w: &[Lane], x: &[Lane], out: &mut [Lane], resume: bool) {
    let n_rows = out.len();
    let mut first = 0;
    while first < n_rows {
        let n = L::N_TILE_ROWS.min(n_rows - first);
        let out = &mut out[first..first + n];
        macro_rules! tiles {
            ($($r:literal)*) => {
                match n {
                    $($r if $r <= L::N_TILE_ROWS => {
                        tile::<L, $r>(l, w, x, n_rows, first, out, resume)
                    })*
                    _ => unreachable!("a tile has at most N_TILE_ROWS rows"),
                }
            };
        }
        tiles!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        first += n;
    }
}

/// `R` rows from row `first` on.
#[inline(always)]
fn tile<L: Lanes, const R: usize>(
    l: L,
    w: &[Lane],
    x: &[Lane],
    n_rows: usize,
    first: usize,
    out: &mut [Lane],
    resume: bool,
) {
    let out: &mut [Lane; R] = &mut out.as_chunks_mut().0[0];
    let mut acc = [l.splat(0.0); R];
    if resume {
        for r in 0..R {
            acc[r] = l.load(&out[r]);
        }
    }
    for (w, x) in w.as_chunks::<WIDTH>().0.iter().zip(x.chunks_exact(n_rows)) {
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
