//! Which numbers do codes stand for? A lowest one, and a step.
//!
//! Both are f16 and chosen so that the range covers what is coded: the lowest is rounded down, the
//! step up. So a number is at most half a step from the one that its code stands for.

use half::f16;

/// Bytes of a range.
pub(super) const RANGE_BYTES: usize = 4;

/// What codes from 0 to `n_codes - 1` stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeRange {
    lowest: f32,
    step: f32,
    last: f32,
}

/// The last of the codes that have so many bits.
fn last_code(bits: u8) -> f32 {
    f32::from((1u16 << bits) - 1)
}

impl CodeRange {
    /// The range of numbers between two; `None` if f16 has none that covers them.
    pub fn covering(least: f32, most: f32, bits: u8) -> Option<Self> {
        let last = last_code(bits);
        let lowest = toward(least, f16::NEG_INFINITY);
        let step = toward((most - lowest.to_f32()) / last, f16::INFINITY);
        Self::of(lowest, step, last)
    }

    /// `None` if it stands for numbers that are not finite.
    fn of(lowest: f16, step: f16, last: f32) -> Option<Self> {
        let is_a_range = lowest.is_finite() && step.is_finite() && step.to_f32() >= 0.0;
        is_a_range.then(|| Self {
            lowest: lowest.to_f32(),
            step: step.to_f32(),
            last,
        })
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(f16::from_f32(self.lowest).to_le_bytes());
        out.extend(f16::from_f32(self.step).to_le_bytes());
    }

    /// Reads it.
    pub fn read(bytes: &[u8; RANGE_BYTES], bits: u8) -> Option<Self> {
        let [a, b, c, d] = *bytes;
        let (lowest, step) = (f16::from_le_bytes([a, b]), f16::from_le_bytes([c, d]));
        Self::of(lowest, step, last_code(bits))
    }

    /// Steps in one: what differences are multiplied with to become codes.
    #[inline(always)]
    pub fn inverse(&self) -> f32 {
        if self.step > 0.0 {
            1.0 / self.step
        } else {
            0.0
        }
    }

    /// The code of a number, given [`Self::inverse`].
    #[inline(always)]
    pub fn code(&self, x: f32, inverse: f32) -> u8 {
        // What is cast is not negative but for a rounding, and casts saturate.
        (((x - self.lowest) * inverse + 0.5).min(self.last)) as u8
    }

    /// The number that a code stands for.
    #[inline(always)]
    pub fn number(&self, code: u8) -> f32 {
        self.lowest + f32::from(code) * self.step
    }
}

/// The nearest f16 that is not on the other side.
fn toward(x: f32, limit: f16) -> f16 {
    let near = f16::from_f32(x);
    let is_beyond = match limit.is_sign_negative() {
        true => near.to_f32() > x,
        false => near.to_f32() < x,
    };
    if !is_beyond {
        return near;
    }
    let away_from_zero = near.is_sign_negative() == limit.is_sign_negative();
    match (near.to_bits() & 0x7fff, away_from_zero) {
        // The least number on the other side of zero.
        (0, _) => f16::from_bits((limit.to_bits() & 0x8000) | 1),
        (_, true) => f16::from_bits(near.to_bits() + 1),
        (_, false) => f16::from_bits(near.to_bits() - 1),
    }
}

/// Appends codes of four or eight bits, of four the first in the lower half of a byte. Of four
/// there are an even number.
pub(super) fn pack(bits: u8, codes: &[u8], out: &mut Vec<u8>) {
    match bits {
        8 => out.extend(codes),
        _ => out.extend(codes.as_chunks().0.iter().map(|[a, b]| a | b << 4)),
    }
}

/// The code of this number among packed ones.
#[inline(always)]
pub(super) fn unpack(bits: u8, packed: &[u8], number: usize) -> u8 {
    match bits {
        8 => packed[number],
        _ => packed[number / 2] >> (4 * (number % 2)) & 15,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_half_a_step_from_what_its_code_stands_for(
            a in -3e4f32..3e4,
            width in prop_oneof![Just(0f32), 0f32..1e-6, 0f32..1.0, 0f32..2e4],
            part in 0f32..=1.0,
            bits in prop_oneof![Just(4u8), Just(8)],
        ) {
            let (least, most) = (a, a + width);
            let x = (least + part * (most - least)).clamp(least, most);
            let range = CodeRange::covering(least, most, bits).unwrap();
            prop_assert!(range.lowest <= least && range.number(range.last as u8) >= most - most.abs() * 1e-6 - 1e-6);
            let back = range.number(range.code(x, range.inverse()));
            let bound = range.step * 0.5001 + x.abs() * 1e-6;
            prop_assert!((back - x).abs() <= bound, "{x} came back as {back}, {range:?}");
            // And steps are what an exact range would have, but for the rounding to f16.
            let exact = f64::from(most - least) / f64::from(range.last);
            let lost = f64::from(least.abs()) / 1024.0 / f64::from(range.last);
            prop_assert!(f64::from(range.step) <= (exact + lost) * 1.002 + 1e-7);
            let mut bytes = Vec::new();
            range.write(&mut bytes);
            let again = CodeRange::read(bytes[..].try_into().unwrap(), bits).unwrap();
            prop_assert_eq!((again.lowest, again.step), (range.lowest, range.step));
        }
    }

    #[test]
    fn what_f16_does_not_reach_has_no_range() {
        for (least, most) in [
            (-1e5, 0.0),
            (0.0, f32::INFINITY),
            (f32::NAN, 1.0),
            (0.0, f32::NAN),
        ] {
            assert!(
                CodeRange::covering(least, most, 8).is_none(),
                "{least} to {most}"
            );
        }
        let no_number = f16::NAN.to_le_bytes();
        assert!(CodeRange::read(&[0, 0, no_number[0], no_number[1]], 4).is_none());
    }
}
