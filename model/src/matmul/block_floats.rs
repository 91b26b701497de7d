//! Rows in block floating point: what weights that are stored as codes are multiplied with.
//!
//! Thirty-two numbers of a row (a unit) share a scale and are integers: of sixteen bits, where the
//! scale is a power of two and the largest has at least fifteen of them; or of eight, where the
//! scale is a 127th of the largest (llama.cpp's `Q8_0`, but for the scale, which stays f32).
//! Products with codes are then sums of integers, exact in whatever order they are taken.
//!
//! Invariant: a unit depends on its own thirty-two numbers only. One whose largest number is
//! below 2^-112 is zero; one that holds an infinity or a NaN has the scale NaN, and every output
//! that it takes part in is NaN.

use rayon::prelude::*;

use super::UNIT;
use crate::activations::Activations;
use crate::arithmetic::Arithmetic;
use crate::lanes::{Isa, Kernel, Lane, Lanes, WIDTH, Words};

/// Adding 1.5 * 2^23 to a small number leaves its nearest integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Biased exponent of the largest number of a unit that is taken for zero.
const ZERO_EXPONENT: u32 = 14;
/// The largest integer of eight bits that numbers are rounded to; its negative is the least.
const LARGEST_BYTE: f32 = 127.0;

/// Rows in block floating point.
pub(super) struct BlockFloats {
    arithmetic: Arithmetic,
    n_rows: usize,
    /// `[n_units][n_rows]`.
    units: Vec<Words>,
    /// Integers of eight bits once more, `[n_units][n_rows]`, where many rows are multiplied by an
    /// instruction for bytes; else empty.
    quads: Vec<Words>,
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
    /// Sum of the numbers that the integers stand for, of each half, rounded once (with a scale
    /// that is a power of two it is exact unless it overflows).
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
    /// Of a unit that holds what is no number.
    const NAN: Self = Self {
        scale: f32::NAN,
        sums: [0; 2],
        scaled_sums: [f32::NAN; 2],
        scaled_sum: f32::NAN,
    };
}

impl BlockFloats {
    /// The same rows, each number rounded to the grid of its unit. Runs on the current pool
    /// where there are many.
    pub fn of(isa: Isa, arithmetic: Arithmetic, x: &Activations) -> Self {
        const ROWS_ALONE: usize = 8;
        let n_rows = x.n_rows();
        let n_units = x.n_panels() * WIDTH / UNIT;
        let mut units = vec![Words([0; WIDTH]); n_units * n_rows];
        let mut scales = vec![UnitScale::ZERO; n_units * n_rows];
        let n = n_rows.max(1);
        if n_rows < ROWS_ALONE {
            isa.run(Round {
                arithmetic,
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
                    arithmetic,
                    n_rows,
                    lanes,
                    units,
                    scales,
                });
            });
        }
        let quads = match arithmetic {
            Arithmetic::Int8 if n_rows > 1 && isa.dots_bytes() => {
                units.par_iter().map(quads_of).collect()
            }
            _ => Vec::new(),
        };
        Self {
            arithmetic,
            n_rows,
            units,
            quads,
            scales,
        }
    }

    /// What numbers were rounded to.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
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

    /// The integers of the same units as bytes, four a word, if there are any: steps 4j, 4j + 2,
    /// 4j + 1 and 4j + 3 of k are the bytes of word j of eight.
    pub fn quads(&self, first: usize, n: usize) -> Option<&[Words]> {
        self.quads
            .get(first * self.n_rows..)?
            .get(..n * self.n_rows)
    }

    /// Scales and sums of the same units, `[n][n_rows]`.
    pub fn scales(&self, first: usize, n: usize) -> &[UnitScale] {
        &self.scales[first * self.n_rows..][..n * self.n_rows]
    }
}

struct Round<'a> {
    arithmetic: Arithmetic,
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
                (units[row], scales[row]) = match self.arithmetic {
                    Arithmetic::Int16 => round_unit(&low[row], &high[row]),
                    Arithmetic::Int8 => round_unit_to_bytes(&low[row], &high[row]),
                };
            }
        }
    }
}

/// One unit; loops over arrays, which the compiler makes vectors of.
#[inline(always)]
fn round_unit(low: &Lane, high: &Lane) -> (Words, UnitScale) {
    let exponent = largest_of(low, high) >> 23;
    if exponent <= ZERO_EXPONENT {
        return (Words([0; WIDTH]), UnitScale::ZERO);
    }
    if exponent == 255 {
        return (Words([0; WIDTH]), UnitScale::NAN);
    }
    let scale = f32::from_bits((exponent - 14) << 23);
    let per_scale = f32::from_bits((268 - exponent) << 23);
    let integers = rounded(low, high, per_scale, 32767.0);
    let sums = sums_of(&integers);
    let scaled_sums = sums.map(|sum| sum as f32 * scale);
    let scale = UnitScale {
        scale,
        sums,
        scaled_sums,
        scaled_sum: scaled_sums[0] + scaled_sums[1],
    };
    (pairs_of(&integers), scale)
}

/// The same, with integers of eight bits.
#[inline(always)]
fn round_unit_to_bytes(low: &Lane, high: &Lane) -> (Words, UnitScale) {
    let largest = largest_of(low, high);
    if largest >> 23 <= ZERO_EXPONENT {
        return (Words([0; WIDTH]), UnitScale::ZERO);
    }
    if largest >> 23 == 255 {
        return (Words([0; WIDTH]), UnitScale::NAN);
    }
    let largest = f32::from_bits(largest);
    let scale = largest / LARGEST_BYTE;
    let integers = rounded(low, high, LARGEST_BYTE / largest, LARGEST_BYTE);
    let sums = sums_of(&integers);
    let scale = UnitScale {
        scale,
        sums,
        scaled_sums: sums.map(|sum| sum as f32 * scale),
        scaled_sum: (sums[0] + sums[1]) as f32 * scale,
    };
    (pairs_of(&integers), scale)
}

/// Bits of the largest number of a unit without its sign; NaN is larger than all.
#[inline(always)]
fn largest_of(low: &Lane, high: &Lane) -> u32 {
    let size = |x: f32| x.to_bits() << 1;
    let larger: [u32; WIDTH] = std::array::from_fn(|i| size(low.0[i]).max(size(high.0[i])));
    larger.iter().fold(0, |a, b| a.max(*b)) >> 1
}

/// Numbers times `per_scale`, to the nearest integer, `highest` at most.
#[inline(always)]
fn rounded(low: &Lane, high: &Lane, per_scale: f32, highest: f32) -> [i16; UNIT] {
    let mut integers = [0_i16; UNIT];
    for (to, from) in integers
        .as_chunks_mut::<WIDTH>()
        .0
        .iter_mut()
        .zip([low, high])
    {
        for (to, from) in to.iter_mut().zip(from.0) {
            let scaled = from * per_scale;
            let scaled = if scaled < highest { scaled } else { highest };
            *to = (scaled + ROUND).to_bits() as i16;
        }
    }
    integers
}

#[inline(always)]
fn pairs_of(integers: &[i16; UNIT]) -> Words {
    let mut words = [0_u32; WIDTH];
    for (word, pair) in words.iter_mut().zip(integers.as_chunks::<2>().0) {
        *word = u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16;
    }
    Words(words)
}

/// Pairs of integers of eight bits as bytes; the order is that in which codes are had cheaply.
fn quads_of(pairs: &Words) -> Words {
    const LOW_BYTES: u32 = 0x00ff_00ff;
    let mut quads = [0; WIDTH];
    for (quad, pairs) in quads.iter_mut().zip(pairs.0.as_chunks::<2>().0) {
        *quad = pairs[0] & LOW_BYTES | (pairs[1] & LOW_BYTES) << 8;
    }
    Words(quads)
}

#[inline(always)]
fn sums_of(integers: &[i16; UNIT]) -> [i32; 2] {
    let mut sums = [0_i32; 2];
    for (sum, half) in sums.iter_mut().zip(integers.as_chunks::<WIDTH>().0) {
        for x in half {
            *sum += i32::from(*x);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type RoundUnit = fn(&Lane, &Lane) -> (Words, UnitScale);

    fn round(x: &[f32; UNIT]) -> (Vec<i32>, UnitScale) {
        round_by(round_unit, x)
    }

    fn round_by(round: RoundUnit, x: &[f32; UNIT]) -> (Vec<i32>, UnitScale) {
        let [low, high] = [0, WIDTH].map(|i| Lane(std::array::from_fn(|j| x[i + j])));
        let (words, scale) = round(&low, &high);
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

    proptest! {
        #[test]
        fn bytes_are_within_half_a_127th_of_the_largest(
            x in prop::array::uniform32(-1f32..1.0), exponent in -90..90,
        ) {
            let x = x.map(|x| x * 2f32.powi(exponent));
            let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
            prop_assume!(largest > 2f32.powi(-100));
            let (integers, unit) = round_by(round_unit_to_bytes, &x);
            prop_assert_eq!(unit.scale, largest / 127.0);
            prop_assert!(integers.iter().any(|q| q.abs() == 127));
            for (x, q) in x.iter().zip(&integers) {
                prop_assert!(q.abs() <= 127);
                let error = (*q as f32 * unit.scale - x).abs();
                prop_assert!(error <= 0.501 * unit.scale, "{x} {q} {unit:?}");
            }
            let sum: i32 = integers.iter().sum();
            prop_assert_eq!(unit.sums[0] + unit.sums[1], sum);
            prop_assert_eq!(unit.scaled_sum, sum as f32 * unit.scale);
        }
    }

    #[test]
    fn bytes_of_what_is_no_number_stay_none_and_what_is_tiny_is_zero() {
        let round = |x: &[f32; UNIT]| round_by(round_unit_to_bytes, x);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; UNIT];
            x[30] = odd;
            assert!(round(&x).1.scale.is_nan());
        }
        assert_eq!(round(&[1e-40; UNIT]).1, UnitScale::ZERO);
        assert_eq!(round(&[f32::MIN; UNIT]).0, vec![-127; UNIT]);
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
