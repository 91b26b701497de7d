//! What is the sum of floats, whatever their order?
//!
//! Adding floats rounds, so the sum depends on the order, and what was added cannot be taken away
//! again. Here a float is what it is: a whole number of 2^-1074, cut into digits of 32 bits, of
//! which it has up to three. Digits of one place are added as integers of 128 bits; nothing is
//! rounded before the sum is read, and then once, to the nearest float, half to even. So sums are
//! differences: an update costs its digits, and a retraction undoes it. (After U. Kulisch,
//! *Computer Arithmetic and Validity*: a long accumulator, kept sparse.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bits of a digit.
const DIGIT: u32 = 32;
/// Digits of the greatest sum: 2^1024 in units of 2^-1074, and 128 bits of carries.
const N_DIGITS: usize = (1024 + 1074) / DIGIT as usize + 6;
/// Where the digits of whole numbers begin: 1 is 2^1074 units.
const ONE: u32 = 1074;

/// An exact sum of finite floats and integers. Equal sums of the same summands are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct ExactSum {
    /// By place, those that are not zero. Each counts 2^(32 * place) units.
    digits: BTreeMap<u16, i128>,
}

impl ExactSum {
    /// Adds a finite float `times` times.
    pub(super) fn add(&mut self, float: f64, times: i128) {
        let bits = float.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        let fraction = i128::from(bits & ((1 << 52) - 1));
        // A subnormal float has the least exponent, and no hidden bit.
        let (mantissa, shift) = match exponent {
            0 => (fraction, 0),
            _ => (fraction | 1 << 52, exponent - 1),
        };
        let signed = if float.is_sign_negative() {
            -mantissa
        } else {
            mantissa
        };
        self.add_shifted(signed * times, shift);
    }

    /// Adds a whole number.
    pub(super) fn add_integer(&mut self, integer: i128) {
        self.add_shifted(integer, ONE);
    }

    /// Adds `units * 2^shift` units.
    fn add_shifted(&mut self, units: i128, shift: u32) {
        // In digits of 32 bits, so that none leaves its 128 bits however many are added; and by
        // magnitude and sign, so that the digits of -x are those of x negated.
        let sign = units.signum();
        let (mut place, within) = (shift / DIGIT, shift % DIGIT);
        let mut rest = units.unsigned_abs();
        let mut n_bits = DIGIT - within;
        let mut to = within;
        while rest != 0 {
            let digit = (rest & ((1 << n_bits) - 1)) << to;
            self.add_digit(place as u16, sign * digit as i128);
            rest >>= n_bits;
            (place, n_bits, to) = (place + 1, DIGIT, 0);
        }
    }

    fn add_digit(&mut self, place: u16, digit: i128) {
        let sum = self.digits.entry(place).or_insert(0);
        *sum += digit;
        if *sum == 0 {
            self.digits.remove(&place);
        }
    }

    pub(super) fn plus(&mut self, other: &Self) {
        for (place, digit) in &other.digits {
            self.add_digit(*place, *digit);
        }
    }

    pub(super) fn times(&mut self, factor: i128) {
        self.digits.values_mut().for_each(|digit| *digit *= factor);
        self.digits.retain(|_, digit| *digit != 0);
    }

    pub(super) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// The sum, rounded to the nearest float.
    pub(super) fn rounded(&self) -> f64 {
        let (magnitude, is_negative) = self.magnitude();
        let Some(top) = magnitude.iter().rposition(|digit| *digit != 0) else {
            return 0.0;
        };
        let n_bits = top as u32 * DIGIT + (DIGIT - magnitude[top].leading_zeros());
        let bit = |at: u32| u64::from(magnitude[(at / DIGIT) as usize] >> (at % DIGIT) & 1);
        // A float of 53 bits, counted in 2^dropped units. Below 2^53 units all bits are kept.
        let dropped = n_bits.saturating_sub(53);
        let mut mantissa = 0;
        for at in (dropped..n_bits).rev() {
            mantissa = mantissa << 1 | bit(at);
        }
        if dropped > 0 && bit(dropped - 1) == 1 {
            let is_more_than_half = (0..dropped - 1).any(|at| bit(at) == 1);
            if is_more_than_half || mantissa & 1 == 1 {
                mantissa += 1;
            }
        }
        // The hidden bit counts as one of the exponent: so a carry into it is right, too.
        let bits = (u64::from(dropped) << 52) + mantissa;
        let float = f64::from_bits(bits.min(f64::INFINITY.to_bits()));
        if is_negative { -float } else { float }
    }

    /// Digits of 32 bits each, least first, and the sign.
    fn magnitude(&self) -> (Vec<u32>, bool) {
        let mut digits = Vec::with_capacity(N_DIGITS);
        let mut carry: i128 = 0;
        for place in 0..N_DIGITS as u16 {
            let sum = self.digits.get(&place).copied().unwrap_or(0) + carry;
            digits.push(sum as u32);
            carry = sum >> DIGIT;
        }
        let is_negative = carry < 0;
        if is_negative {
            // Two's complement.
            let mut carry = true;
            for digit in &mut digits {
                let (negated, overflows) = (!*digit).overflowing_add(carry.into());
                *digit = negated;
                carry = overflows;
            }
        }
        (digits, is_negative)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(floats: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        floats.iter().for_each(|float| sum.add(*float, 1));
        sum
    }

    proptest! {
        #[test]
        fn one_float_is_itself(float in any::<f64>().prop_filter("finite", |x| x.is_finite())) {
            prop_assert_eq!(sum(&[float]).rounded(), float);
        }

        #[test]
        fn two_floats_are_rounded_once(
            a in any::<f64>().prop_filter("finite", |x| x.is_finite()),
            b in any::<f64>().prop_filter("finite", |x| x.is_finite()),
            shift in -60i32..60,
        ) {
            // One addition of floats is the rounded sum; near exponents are the hard case.
            prop_assert_eq!(sum(&[a, b]).rounded(), a + b);
            let near = a * 2f64.powi(shift);
            if near.is_finite() {
                prop_assert_eq!(sum(&[a, near]).rounded(), a + near);
                prop_assert_eq!(sum(&[a, -near]).rounded(), a - near);
            }
        }

        #[test]
        fn order_and_history_do_not_count(
            mut floats in prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 0..20),
            passing in prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 0..20),
        ) {
            let expected = sum(&floats);
            floats.reverse();
            let mut other = sum(&floats);
            passing.iter().for_each(|float| other.add(*float, 3));
            passing.iter().for_each(|float| {
                let mut taken = ExactSum::default();
                taken.add(*float, 1);
                taken.times(-3);
                other.plus(&taken);
            });
            prop_assert_eq!(other.rounded().to_bits(), expected.rounded().to_bits());
        }

        #[test]
        fn integers_are_rounded_once(integers in prop::collection::vec(any::<i64>(), 0..10)) {
            let total: i128 = integers.iter().map(|n| i128::from(*n)).sum();
            let mut sum = ExactSum::default();
            sum.add_integer(total);
            prop_assert_eq!(sum.rounded(), total as f64);
        }
    }

    #[test]
    fn what_cancels_leaves_what_is_small() {
        assert_eq!(sum(&[1e300, 1.0, -1e300]).rounded(), 1.0);
        assert_eq!(sum(&[0.1; 10]).rounded(), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).rounded(), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]).rounded(), f64::MAX);
        assert!(sum(&[1.5, -1.5]).is_zero());
        assert_eq!(sum(&[5e-324, 5e-324]).rounded(), 1e-323);
    }
}
