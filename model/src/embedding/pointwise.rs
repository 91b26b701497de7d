//! The encoder's functions of single rows and single numbers.

use crate::activations::Activations;
use crate::lanes::{Kernel, Lane, Lanes, exp, sum};

/// `(x - mean) / deviation * scale + shift` of every row, in place. Padding of `scale` and
/// `shift` is zero, and so stays that of `x`.
pub(super) struct LayerNorm<'a> {
    pub(super) x: &'a mut Activations,
    /// One lane a panel.
    pub(super) scale: &'a [Lane],
    /// One lane a panel.
    pub(super) shift: &'a [Lane],
    /// Real columns, a multiple of the lanes of a panel.
    pub(super) n_columns: usize,
    pub(super) eps: f32,
}

impl Kernel for LayerNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self {
            x,
            scale,
            shift,
            n_columns,
            eps,
        } = self;
        let (n_rows, n_panels) = (x.n_rows(), n_columns / crate::lanes::WIDTH);
        let n = n_columns as f32;
        let lanes = x.lanes_mut();
        for row in 0..n_rows {
            let mut total = l.splat(0.0);
            for panel in 0..n_panels {
                total = l.add(total, l.load(&lanes[panel * n_rows + row]));
            }
            let mean = l.splat(sum(l, total) / n);
            let mut squares = l.splat(0.0);
            for panel in 0..n_panels {
                let d = l.sub(l.load(&lanes[panel * n_rows + row]), mean);
                squares = l.fma(d, d, squares);
            }
            let inverse = l.splat(1.0 / (sum(l, squares) / n + eps).sqrt());
            for panel in 0..n_panels {
                let lane = &mut lanes[panel * n_rows + row];
                let normed = l.mul(l.sub(l.load(lane), mean), inverse);
                let out = l.fma(normed, l.load(&scale[panel]), l.load(&shift[panel]));
                l.store(out, lane);
            }
        }
    }
}

/// `x / 2 * (1 + erf(x / sqrt(2)))` of every number, in place.
pub(super) struct Gelu<'a> {
    pub(super) x: &'a mut [Lane],
}

impl Kernel for Gelu<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for lane in self.x {
            let x = l.load(lane);
            let size = l.max(x, l.sub(l.splat(0.0), x));
            let z = l.mul(size, l.splat(std::f32::consts::FRAC_1_SQRT_2));
            // x * erf(x / sqrt 2) is even: no sign is needed.
            let even = l.mul(size, erf(l, z));
            l.store(l.mul(l.splat(0.5), l.add(x, even)), lane);
        }
    }
}

/// erf of numbers not below 0, within 2e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
fn erf<L: Lanes>(l: L, z: L::F) -> L::F {
    let t = l.div(l.splat(1.0), l.fma(z, l.splat(0.327_591_1), l.splat(1.0)));
    let mut p = l.splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = l.fma(p, t, l.splat(c));
    }
    let tail = l.mul(l.mul(p, t), exp(l, l.sub(l.splat(0.0), l.mul(z, z))));
    l.sub(l.splat(1.0), tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Isa;

    #[test]
    fn gelu_is_close_to_its_definition() {
        // erf by its series, in f64.
        let erf = |z: f64| {
            let mut term = z;
            let mut total = z;
            for n in 1..120 {
                term *= -z * z / f64::from(n);
                total += term / f64::from(2 * n + 1);
            }
            total * std::f64::consts::FRAC_2_SQRT_PI
        };
        for isa in Isa::available() {
            for i in -400..400 {
                let x = i as f32 * 0.01;
                let mut lanes = [Lane([x; 16])];
                isa.run(Gelu { x: &mut lanes });
                let want = f64::from(x) / 2.0 * (1.0 + erf(f64::from(x) * 0.5f64.sqrt()));
                assert!((f64::from(lanes[0].0[0]) - want).abs() < 1e-6, "{x}");
            }
        }
    }

    #[test]
    fn a_normed_row_has_mean_0_and_deviation_1() {
        let mut x = Activations::zeros(3, 32);
        let values: Vec<f32> = (0..32).map(|i| (i * i % 17) as f32 - 3.0).collect();
        x.set_row(1, &values);
        let (scale, shift) = ([Lane([1.0; 16]); 2], [Lane::ZERO; 2]);
        Isa::best().run(LayerNorm {
            x: &mut x,
            scale: &scale,
            shift: &shift,
            n_columns: 32,
            eps: 0.0,
        });
        let mut row = [0.0; 32];
        x.read_row(1, 0, &mut row);
        assert!(row.iter().sum::<f32>().abs() < 1e-4);
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 32.0).abs() < 1e-3);
    }
}
