//! How many bits has an axis, and which numbers do its codes stand for?

/// Most bits of an axis.
const MAX_BITS: usize = 8;
/// By bits: the step that loses least of a normal distribution of deviation 1, among numbers that are
/// evenly apart, and what it loses (J. Max, "Quantizing for minimum distortion", 1960, table II).
const STEPS: [(f64, f64); MAX_BITS + 1] = [
    (0.0, 1.0),
    (1.596, 0.3634),
    (0.9957, 0.1188),
    (0.586, 0.03744),
    (0.3352, 0.01154),
    (0.1881, 0.003495),
    (0.1041, 0.001041),
    (0.0569, 0.000304),
    (0.0308, 0.0000877),
];

/// Bits of axes of these deviations, `n_bits` in all or fewer: each goes where it saves most.
pub(super) fn allocate(deviations: &[f32], n_bits: usize) -> Vec<u8> {
    let mut bits = vec![0u8; deviations.len()];
    // What the next bit of each axis saves, the most first; of equal ones the first axis.
    let saves = |axis: usize, has: usize| {
        let variance = f64::from(deviations[axis]) * f64::from(deviations[axis]);
        variance * (STEPS[has].1 - STEPS[has + 1].1)
    };
    let order = |save: f64, axis: usize| (save.to_bits(), std::cmp::Reverse(axis));
    let mut next: std::collections::BinaryHeap<_> = (0..bits.len())
        .filter(|axis| deviations[*axis] > 0.0)
        .map(|axis| order(saves(axis, 0), axis))
        .collect();
    for _ in 0..n_bits {
        let Some((_, std::cmp::Reverse(axis))) = next.pop() else {
            break;
        };
        bits[axis] += 1;
        let has = usize::from(bits[axis]);
        if has < MAX_BITS {
            next.push(order(saves(axis, has), axis));
        }
    }
    bits
}

/// The code of a number on an axis of this deviation.
#[inline(always)]
pub(super) fn code(x: f32, deviation: f32, bits: u8) -> u8 {
    let n = (1u16 << bits) as f32;
    let step = STEPS[usize::from(bits)].0 as f32 * deviation;
    // Casts saturate.
    (x / step + n / 2.0).min(n - 1.0) as u8
}

/// The number that a code stands for.
#[inline(always)]
pub(super) fn number(code: u8, deviation: f32, bits: u8) -> f32 {
    let n = (1u16 << bits) as f32;
    let step = STEPS[usize::from(bits)].0 as f32 * deviation;
    (f32::from(code) - n / 2.0 + 0.5) * step
}

/// Appends codes, from the lowest bit on, filled up to whole bytes.
pub(super) fn pack(codes: impl Iterator<Item = (u8, u8)>, out: &mut Vec<u8>) {
    let (mut held, mut n_held) = (0u32, 0);
    for (code, bits) in codes {
        held |= u32::from(code) << n_held;
        n_held += u32::from(bits);
        while n_held >= 8 {
            out.push(held as u8);
            held >>= 8;
            n_held -= 8;
        }
    }
    if n_held > 0 {
        out.push(held as u8);
    }
}

/// The codes that bytes hold, one after the other.
pub(super) struct Unpack<'a> {
    bytes: std::slice::Iter<'a, u8>,
    held: u32,
    n_held: u32,
}

impl<'a> Unpack<'a> {
    /// From the first on.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            held: 0,
            n_held: 0,
        }
    }

    /// The next, of so many bits.
    pub fn next(&mut self, bits: u8) -> Option<u8> {
        while self.n_held < u32::from(bits) {
            self.held |= u32::from(*self.bytes.next()?) << self.n_held;
            self.n_held += 8;
        }
        let code = self.held & ((1 << bits) - 1);
        self.held >>= bits;
        self.n_held -= u32::from(bits);
        Some(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(codes in prop::collection::vec((any::<u8>(), 1u8..=8), 0..40)) {
            let codes: Vec<(u8, u8)> = codes
                .into_iter()
                .map(|(code, bits)| ((u32::from(code) & ((1 << bits) - 1)) as u8, bits))
                .collect();
            let mut bytes = Vec::new();
            pack(codes.iter().copied(), &mut bytes);
            let n_bits: usize = codes.iter().map(|(_, bits)| usize::from(*bits)).sum();
            prop_assert_eq!(bytes.len(), n_bits.div_ceil(8));
            let mut unpack = Unpack::of(&bytes);
            for (code, bits) in &codes {
                prop_assert_eq!(unpack.next(*bits), Some(*code));
            }
        }

        #[test]
        fn no_exchange_of_a_bit_between_axes_saves_anything(
            deviations in prop::collection::vec(0.0f32..5.0, 1..20),
            n_bits in 0usize..100,
        ) {
            let bits = allocate(&deviations, n_bits);
            let lost = |axis: usize, bits: u8| {
                let variance = f64::from(deviations[axis]).powi(2);
                variance * STEPS[usize::from(bits)].1
            };
            let given: usize = bits.iter().map(|bits| usize::from(*bits)).sum();
            prop_assert!(given <= n_bits);
            for (a, has) in bits.iter().enumerate() {
                for (b, other) in bits.iter().enumerate().filter(|(b, _)| *b != a) {
                    if *has > 0 && usize::from(*other) < MAX_BITS {
                        let now = lost(a, *has) + lost(b, *other);
                        let then = lost(a, has - 1) + lost(b, other + 1);
                        prop_assert!(then >= now * (1.0 - 1e-9));
                    }
                }
            }
        }

        #[test]
        fn a_number_within_reach_is_half_a_step_from_its_code(
            x in -1.0f32..1.0, bits in 1u8..=8, deviation in 0.1f32..10.0,
        ) {
            let step = STEPS[usize::from(bits)].0 as f32 * deviation;
            let reach = step * (1u16 << bits) as f32 / 2.0;
            let back = number(code(x * reach, deviation, bits), deviation, bits);
            prop_assert!((back - x * reach).abs() <= step * 0.5001);
        }
    }
}
