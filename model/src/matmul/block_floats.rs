//! Rows in block floating point: what weights that are stored as codes are multiplied with.
//!
//! Thirty-two numbers of a row (a unit) share a scale, a power of two, and are integers of
//! sixteen bits: the largest has at least fifteen of them. Products with codes are then sums
//! of integers, exact in whatever order they are taken.
//!
//! Invariant: a unit depends on its own thirty-two numbers only. One whose largest number is
//! below 2^-112 is zero; one that holds an infinity or a NaN has the scale NaN, and every output
//! that it takes part in is NaN.

use rayon::prelude::*;

use super::UNIT;
use crate::activations::Activations;
use crate::lanes::{Isa, Kernel, Lane, Lanes, WIDTH, Words};

/// Adding 1.5 * 2^23 to a small number leaves its nearest integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Biased exponent of the largest number of a unit that is taken for zero.
const ZERO_EXPONENT: u32 = 14;

/// Rows in block floating point.
pub(super) struct BlockFloats {
    n_rows: usize,
    /// `[n_units][n_rows]`.
    units: Vec<Words>,
    /// `[n_units][n_rows]`.
    scales: Vec<UnitScale>,
}

/// What a unit of a row has besides its integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UnitScale {
    /// What an integer is multiplied with.
    pub scale: f32,
    /// Sum of the integers of each half.
    pub sums: [i32; 2],
    /// Sum of the numbers that the integers stand for, of each half; exact unless it overflows.
    pub scaled_sums: [f32; 2],
    /// The same of the whole unit.
    pub scaled_sum: f32,
}

impl UnitScale {
    const ZERO: Self = Self {
        scale: 0.0,
        sums: [0; 2],
        scaled_sums: [0.0; 2],
        scaled_sum: 0.0,
    };
}

impl BlockFloats {
    /// The same rows, each number rounded to the grid of its unit. Runs on the current pool
    /// where there are many.
    pub fn of(isa: Isa, x: &Activations) -> Self {
        const ROWS_ALONE: usize = 8;
        let n_rows = x.n_rows();
        let n_units = x.n_panels() * WIDTH / UNIT;
        let mut units = vec![Words([0; WIDTH]); n_units * n_rows];
        let mut scales = vec![UnitScale::ZERO; n_units * n_rows];
        let n = n_rows.max(1);
        if n_rows < ROWS_ALONE {
            isa.run(Round {
                n_rows,
                lanes: x.lanes(),
                units: &mut units,
                scales: &mut scales,
            });
        } else {
            let lanes = x.lanes().par_chunks(2 * n);
            let to = units.par_chunks_mut(n).zip(scales.par_chunks_mut(n));
            lanes.zip(to).for_each(|(lanes, (units, scales))| {
                isa.run(Round {
                    n_rows,
                    lanes,
                    units,
                    scales,
                });
            });
        }
        Self {
            n_rows,
            units,
            scales,
        }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The integers of `n` units from number `first` on, `[n][n_rows]`: steps 2j and 2j + 1 of
    /// k are the low and the high half of word j.
    pub fn units(&self, first: usize, n: usize) -> &[Words] {
        &self.units[first * self.n_rows..][..n * self.n_rows]
    }

    /// Scales and sums of the same units, `[n][n_rows]`.
    pub fn scales(&self, first: usize, n: usize) -> &[UnitScale] {
        &self.scales[first * self.n_rows..][..n * self.n_rows]
    }
}

struct Round<'a> {
    n_rows: usize,
    /// `[n_units][2][n_rows]`.
    lanes: &'a [Lane],
    units: &'a mut [Words],
    scales: &'a mut [UnitScale],
}

impl Kernel for Round<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let n = self.n_rows.max(1);
        let to = self
            .units
            .chunks_exact_mut(n)
            .zip(self.scales.chunks_exact_mut(n));
        for (lanes, (units, scales)) in self.lanes.chunks_exact(2 * n).zip(to) {
            let (low, high) = lanes.split_at(n);
            for row in 0..n {
                (units[row], scales[row]) = round_unit(&low[row], &high[row]);
            }
        }
    }
}

/// One unit; loops over arrays, which the compiler makes vectors of.
#[inline(always)]
fn round_unit(low: &Lane, high: &Lane) -> (Words, UnitScale) {
    let size = |x: f32| x.to_bits() << 1;
    let larger: [u32; WIDTH] = std::array::from_fn(|i| size(low.0[i]).max(size(high.0[i])));
    let exponent = larger.iter().fold(0, |a, b| a.max(*b)) >> 24;
    if exponent <= ZERO_EXPONENT {
        return (Words([0; WIDTH]), UnitScale::ZERO);
    }
    if exponent == 255 {
        let scale = f32::NAN;
        return (
            Words([0; WIDTH]),
            UnitScale {
                scale,
                sums: [0; 2],
                scaled_sums: [scale; 2],
                scaled_sum: scale,
            },
        );
    }
    let scale = f32::from_bits((exponent - 14) << 23);
    let per_scale = f32::from_bits((268 - exponent) << 23);
    let mut integers = [0_i16; UNIT];
    for (to, from) in integers
        .as_chunks_mut::<WIDTH>()
        .0
        .iter_mut()
        .zip([low, high])
    {
        for (to, from) in to.iter_mut().zip(from.0) {
            let scaled = from * per_scale;
            let scaled = if scaled < 32767.0 { scaled } else { 32767.0 };
            *to = (scaled + ROUND).to_bits() as i16;
        }
    }
    let mut words = [0_u32; WIDTH];
    for (word, pair) in words.iter_mut().zip(integers.as_chunks::<2>().0) {
        *word = u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16;
    }
    let mut sums = [0_i32; 2];
    for (sum, half) in sums.iter_mut().zip(integers.as_chunks::<WIDTH>().0) {
        for x in half {
            *sum += i32::from(*x);
        }
    }
    let scaled_sums = sums.map(|sum| sum as f32 * scale);
    let scale = UnitScale {
        scale,
        sums,
        scaled_sums,
        scaled_sum: scaled_sums[0] + scaled_sums[1],
    };
    (Words(words), scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(x: &[f32; UNIT]) -> (Vec<i32>, UnitScale) {
        let [low, high] = [0, WIDTH].map(|i| Lane(std::array::from_fn(|j| x[i + j])));
        let (words, scale) = round_unit(&low, &high);
        let halves = |w: u32| {
            [
                i32::from(w as u16 as i16),
                i32::from((w >> 16) as u16 as i16),
            ]
        };
        (words.0.into_iter().flat_map(halves).collect(), scale)
    }

    proptest! {
        #[test]
        fn a_number_is_within_half_a_step_and_steps_are_a_32768th(
            x in prop::array::uniform32(-1f32..1.0), exponent in -90..90,
        ) {
            let x = x.map(|x| x * 2f32.powi(exponent));
            let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
            let (integers, unit) = round(&x);
            prop_assume!(largest > 2f32.powi(-100));
            prop_assert!(unit.scale <= largest / 16384.0);
            for (x, q) in x.iter().zip(&integers) {
                let error = (*q as f32 * unit.scale - x).abs();
                // The largest may be one that rounds to 32768.
                let allowed = if *q == 32767 { 1.0 } else { 0.5 };
                prop_assert!(error <= allowed * unit.scale, "{x} {q} {unit:?}");
            }
            for (half, sum) in integers.chunks(WIDTH).zip(unit.sums) {
                prop_assert_eq!(half.iter().sum::<i32>(), sum);
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none_and_what_is_tiny_is_zero() {
        let mut x = [1.0; UNIT];
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[7] = odd;
            assert!(round(&x).1.scale.is_nan());
        }
        assert_eq!(round(&[1e-40; UNIT]).1, UnitScale::ZERO);
        assert_eq!(round(&[0.0; UNIT]).0, vec![0; UNIT]);
        let (integers, unit) = round(&[f32::MAX; UNIT]);
        assert_eq!(integers, vec![32767; UNIT]);
        assert!(unit.scaled_sum.is_infinite() || unit.scaled_sum > 1e38);
    }
}
