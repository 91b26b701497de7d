//! Numbers along axes as codes: how far apart are what codes stand for, and in how many bits is a code?
//!
//! All axes have one step. That is how bits are allocated: an axis along which numbers differ by many steps gets
//! many, one along which they differ by less than a step nearly none, and no exchange of a bit between two axes
//! makes the error smaller (reverse water-filling: Cover and Thomas, "Elements of information theory", 10.3). The
//! step is the finest of a ladder with which a fragment's codes fit their bytes.
//!
//! A code is written by answers ([`super::range_coder`]): is it more than 0, than 1, …, in units that grow with
//! what is expected of its axis; then, as they are, the bits below such a unit and the sign. What is expected
//! begins with how far the axis goes in the basis, and follows the tokens before.
//!
//! ```text
//! step u16 (its number on the ladder)  answers of every token, axis by axis  zeros up to the length
//! ```

use super::range_coder::{Answers, Chance, Decoder, Encoder, LEAST_BYTES};

/// Bytes that stand before the answers.
const STEP_BYTES: usize = 2;
/// Bytes of codes besides their share of those of f16: what none of them can do without.
pub(super) const BYTES_BESIDE: usize = 16;
/// Steps of the ladder up to the double.
const STEPS_EACH: u16 = 8;
/// The ladder begins at 2 to minus this.
const LADDER_BELOW: i32 = 30;
/// Steps of the ladder, from 2^-30 to 2^34.
const N_STEPS: u16 = 64 * STEPS_EACH;
/// Powers of two by eighths.
const EIGHTHS: [f32; STEPS_EACH as usize] = [
    1.0,
    1.090_507_7,
    1.189_207_1,
    1.296_839_6,
    std::f32::consts::SQRT_2,
    1.542_210_8,
    1.681_792_8,
    1.834_008,
];
/// No code is larger.
const MAX_CODE: u32 = 1 << 20;
/// What is added to a number of steps before the rest is cut off. Numbers just above the middle between two codes
/// get the nearer to zero, which is expected more: so they cost fewer bits than the error is worth.
const ROUNDING: f32 = 0.42;
/// Where in its interval a code stands, above the whole number: the interval is not around it.
const CENTRE: f32 = 0.03;
/// What is expected is kept in parts of a step.
const PARTS: u32 = 256;
/// How quickly what is expected follows the tokens, and what is going on follows the axes: by a part of 2 to this.
const FOLLOWS: (u32, u32) = (4, 3);
/// The mean of what a normal distribution of deviation 1 has on both sides.
const MEAN_OF_NORMAL: f32 = 0.797_884_6;
/// Answers about how many units a code has, before the rest is told otherwise.
const MAX_UNITS: u32 = 20;
/// Of these, the ones whose chances are kept apart.
const N_APART: usize = 8;
/// Classes of what is expected, two to the double.
const N_CLASSES: usize = 64;
/// Whether the axes before had less than was expected of them, as much, or more.
const N_ACTIVITIES: usize = 3;

/// Numbers that codes of this step of the ladder are apart.
fn step_of(number: u16) -> f32 {
    let power = i32::from(number / STEPS_EACH) - LADDER_BELOW;
    let power = f32::from_bits(((power + 127) as u32) << 23);
    EIGHTHS[usize::from(number % STEPS_EACH)] * power
}

fn code_of(x: f32, per_step: f32) -> i32 {
    let code = ((x * per_step).abs() + ROUNDING) as i32;
    if x < 0.0 { -code } else { code }
}

fn number_of(code: i32, step: f32) -> f32 {
    let beside = CENTRE.copysign(code as f32);
    match code {
        0 => 0.0,
        code => (code as f32 + beside) * step,
    }
}

/// What is known of the codes that come.
struct Expectations {
    /// Of each axis the mean of its codes without their signs, in parts of a step.
    of_axes: Vec<u32>,
    /// What axes before had, and what was expected of them.
    lately: (u32, u32),
    /// By class, activity and number of units.
    chances: Vec<[[Chance; N_APART]; N_ACTIVITIES]>,
}

impl Expectations {
    /// Before the first token, along axes of these deviations.
    fn new(deviations: &[f32], step: f32) -> Self {
        let most = (MAX_CODE * PARTS) as f32;
        let of_axis =
            |deviation: &f32| (deviation / step * (MEAN_OF_NORMAL * PARTS as f32)).min(most) as u32;
        Self {
            of_axes: deviations.iter().map(of_axis).collect(),
            lately: (0, 0),
            chances: vec![Default::default(); N_CLASSES],
        }
    }

    /// Asks for the code of the next axis. Who reads takes no notice of `code`. `None` for one that is too
    /// large, which nobody writes.
    #[inline(always)]
    fn code(&mut self, answers: &mut impl Answers, axis: usize, code: i32) -> Option<i32> {
        let expected = self.of_axes[axis];
        let about = expected + 2;
        let double = about.ilog2();
        let class = (2 * double + (about >> (double - 1) & 1)) as usize;
        let activity = match (
            2 * self.lately.0 < self.lately.1,
            self.lately.0 > 2 * self.lately.1,
        ) {
            (true, _) => 0,
            (_, true) => 2,
            _ => 1,
        };
        let chances = &mut self.chances[class][activity];
        // Units are as long as two to four of them are what is expected.
        let below = (expected / PARTS).max(2).ilog2() - 1;
        let magnitude = code.unsigned_abs();
        let n_units = magnitude >> below;
        let mut units = 0;
        while units < MAX_UNITS {
            let chance = &mut chances[(units as usize).min(N_APART - 1)];
            if !answers.expected(chance, units < n_units) {
                break;
            }
            units += 1;
        }
        if units == MAX_UNITS {
            // Elias' gamma code of what is left.
            let left = n_units.saturating_sub(MAX_UNITS) + 1;
            let mut n_bits = 0;
            while answers.plain(n_bits < left.ilog2()) {
                n_bits += 1;
                if n_bits > MAX_CODE.ilog2() {
                    return None;
                }
            }
            let mut read = 1;
            for bit in (0..n_bits).rev() {
                read = read << 1 | u32::from(answers.plain(left >> bit & 1 == 1));
            }
            units += read - 1;
        }
        let mut read = u64::from(units);
        for bit in (0..below).rev() {
            read = read << 1 | u64::from(answers.plain(magnitude >> bit & 1 == 1));
        }
        let read = u32::try_from(read).ok().filter(|read| *read <= MAX_CODE)?;
        let is_negative = read > 0 && answers.plain(code < 0);
        // None of these gets past 2^29.
        let follow = |mean: &mut u32, with: u32, rate: u32| {
            *mean = *mean - (*mean >> rate) + (with >> rate);
        };
        follow(&mut self.of_axes[axis], read * PARTS, FOLLOWS.0);
        follow(&mut self.lately.0, read * PARTS, FOLLOWS.1);
        follow(&mut self.lately.1, expected, FOLLOWS.1);
        Some(if is_negative {
            -(read as i32)
        } else {
            read as i32
        })
    }

    /// Another token begins.
    fn begin(&mut self) {
        self.lately = (0, 0);
    }
}

/// Codes numbers `[n_tokens][n_axes]` in exactly `n_bytes`; `None` if one of them is not finite, or no step of the
/// ladder is wide enough.
pub(super) fn encode(
    numbers: &[f32],
    deviations: &[f32],
    n_bytes: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let largest = numbers.iter().fold(0f32, |most, x| most.max(x.abs()));
    if !numbers.iter().all(|x| x.is_finite()) {
        return None;
    }
    // Any finer, and the largest has no code.
    let finest = (0..N_STEPS).find(|n| largest / step_of(*n) < (MAX_CODE - 1) as f32)?;
    let of = |number: u16| coded(numbers, deviations, number, n_bytes);
    let mut number = guess(numbers, deviations.len(), n_bytes).max(finest);
    let mut best = of(number);
    match best {
        Some(_) => {
            while number > finest
                && let Some(finer) = of(number - 1)
            {
                (best, number) = (Some(finer), number - 1);
            }
        }
        None => {
            while best.is_none() && number + 1 < N_STEPS {
                number += 1;
                best = of(number);
            }
        }
    }
    out.extend(best?);
    Some(())
}

/// The codes of a step; `None` if they are more bytes than that.
fn coded(numbers: &[f32], deviations: &[f32], number: u16, n_bytes: usize) -> Option<Vec<u8>> {
    let step = step_of(number);
    let per_step = 1.0 / step;
    let mut bytes = Vec::with_capacity(n_bytes + LEAST_BYTES);
    bytes.extend(number.to_le_bytes());
    let mut expectations = Expectations::new(deviations, step);
    let mut encoder = Encoder::to(&mut bytes);
    for token in numbers.chunks_exact(deviations.len()) {
        expectations.begin();
        for (axis, x) in token.iter().enumerate() {
            expectations.code(&mut encoder, axis, code_of(*x, per_step))?;
        }
        if encoder.n_bytes() > n_bytes {
            return None;
        }
    }
    encoder.finish();
    if bytes.len() > n_bytes {
        return None;
    }
    bytes.resize(n_bytes, 0);
    Some(bytes)
}

/// A step with which the codes have about so many bytes: from where the right one is looked for.
fn guess(numbers: &[f32], n_axes: usize, n_bytes: usize) -> u16 {
    let mut variances = vec![0f32; n_axes];
    for token in numbers.chunks_exact(n_axes) {
        variances
            .iter_mut()
            .zip(token)
            .for_each(|(sum, x)| *sum += x * x);
    }
    let n_tokens = (numbers.len() / n_axes.max(1)).max(1) as f32;
    // Bits of a number of a normal distribution that is so many steps wide, by a logarithm that is straight between
    // the powers of two.
    let bits_of = |step: f32| -> f32 {
        let per_variance = 17.08 / (n_tokens * step * step);
        let bits = |variance: &f32| {
            let x = (1.0 + variance * per_variance).min(f32::MAX);
            (x.to_bits() as f32 / (1u32 << 23) as f32 - 127.0) / 2.0
        };
        variances.iter().map(bits).sum()
    };
    let wanted = (n_bytes * 8) as f32 / n_tokens;
    let (mut low, mut high) = (0, N_STEPS - 1);
    while low < high {
        let middle = low.midpoint(high);
        match bits_of(step_of(middle)) > wanted {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// The numbers `[n_tokens][n_axes]` that all of these bytes stand for; `None` if nobody wrote them.
pub(super) fn decode(bytes: &[u8], deviations: &[f32], n_tokens: usize) -> Option<Vec<f32>> {
    let (number, answers) = bytes.split_first_chunk::<STEP_BYTES>()?;
    let number = Some(u16::from_le_bytes(*number)).filter(|number| *number < N_STEPS)?;
    let step = step_of(number);
    let mut expectations = Expectations::new(deviations, step);
    let mut decoder = Decoder::of(answers)?;
    let mut numbers = Vec::with_capacity(n_tokens * deviations.len());
    for _ in 0..n_tokens {
        expectations.begin();
        for axis in 0..deviations.len() {
            numbers.push(number_of(expectations.code(&mut decoder, axis, 0)?, step));
        }
    }
    let rest = decoder.finish()?;
    rest.iter().all(|byte| *byte == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is nearly normal, by a sum of twelve.
    fn normal(n: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32
        };
        (0..n)
            .map(|_| (0..12).map(|_| draw()).sum::<f32>() - 6.0)
            .collect()
    }

    #[test]
    fn steps_are_eighths_of_doubles() {
        for number in 0..N_STEPS {
            let exact = 2f64.powf(f64::from(number) / 8.0 - 30.0);
            assert!(
                (f64::from(step_of(number)) / exact - 1.0).abs() < 1e-7,
                "{number}"
            );
        }
    }

    #[test]
    fn bits_go_where_numbers_differ_and_cost_what_they_must() {
        // Axes of deviation 8, 4, 2, 1, …: water-filling gives one bit less to each.
        let (n_axes, n_tokens) = (16, 4000);
        let deviations: Vec<f32> = (0..n_axes)
            .map(|axis| 8.0 / (1u32 << axis) as f32)
            .collect();
        let numbers: Vec<f32> = normal(n_axes * n_tokens)
            .iter()
            .enumerate()
            .map(|(i, x)| x * deviations[i % n_axes])
            .collect();
        let n_bytes = n_tokens * 2;
        let mut bytes = Vec::new();
        encode(&numbers, &deviations, n_bytes, &mut bytes).unwrap();
        assert_eq!(bytes.len(), n_bytes);
        let back = decode(&bytes, &deviations, n_tokens).unwrap();
        let mut errors = vec![0f64; n_axes];
        for (i, (x, back)) in numbers.iter().zip(&back).enumerate() {
            errors[i % n_axes] += f64::from(x - back).powi(2) / n_tokens as f64;
        }
        // The bound of 16 bits a token: level t with the sum of log2(deviation² / t) / 2 being 16.
        let level = 0.0496;
        let bound: f64 = deviations.iter().map(|d| f64::from(d * d).min(level)).sum();
        let error: f64 = errors.iter().sum();
        // πe/6 for even steps, up to 2^(1/4) for those of the ladder, and some for what is learnt on the way. The
        // same bits for all axes would have an error a hundred times the bound.
        assert!(error < 2.1 * bound, "{error} of {bound}, {errors:?}");
        let [first, second, ..] = errors[..] else {
            panic!()
        };
        assert!(
            (first / second - 1.0).abs() < 0.2,
            "the same error on all axes: {errors:?}"
        );
    }

    proptest! {
        #[test]
        fn codes_come_back_in_exactly_their_bytes(
            numbers in prop::collection::vec(prop_oneof![-1f32..1.0, -3e4f32..3e4, Just(0.0)], 48),
            deviations in prop::collection::vec(prop_oneof![Just(0f32), 1e-3f32..100.0], 12),
            n_bytes in 24usize..200,
        ) {
            let mut bytes = Vec::new();
            encode(&numbers, &deviations, n_bytes, &mut bytes).unwrap();
            prop_assert_eq!(bytes.len(), n_bytes);
            let back = decode(&bytes, &deviations, 4).unwrap();
            let step = step_of(u16::from_le_bytes([bytes[0], bytes[1]]));
            for (x, back) in numbers.iter().zip(&back) {
                prop_assert!((x - back).abs() <= step * 0.6 + x.abs() * 1e-5, "{x}, {back}, {step}");
            }
            // A finer step does not fit.
            let number = u16::from_le_bytes([bytes[0], bytes[1]]);
            let finer = number.checked_sub(1).and_then(|n| coded(&numbers, &deviations, n, n_bytes));
            let largest = numbers.iter().fold(0f32, |a, x| a.max(x.abs()));
            prop_assert!(finer.is_none() || largest / step_of(number - 1) >= (MAX_CODE - 1) as f32);
        }

        #[test]
        fn whatever_bytes_come_numbers_are_finite_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = bytes;
            if let Some(second) = bytes.get_mut(1) {
                *second %= 2;
            }
            if let Some(third) = bytes.get_mut(2) {
                *third = 0;
            }
            if let Some(numbers) = decode(&bytes, &[1.0; 12], 3) {
                prop_assert!(numbers.len() == 36 && numbers.iter().all(|x| x.is_finite()));
            }
        }
    }

    /// Written by format version 1.
    const GOLDEN: &[u8] = include_bytes!("../../../../tests/golden/coefficients-1.bin");

    #[test]
    fn what_version_1_wrote_is_written_and_read() {
        let deviations: Vec<f32> = (1..=12u8).map(|axis| 30.0 / f32::from(axis)).collect();
        let number = |i: u16| (f32::from(i * 37 % 101) - 50.0) / f32::from(i % 12 + 1);
        let numbers: Vec<f32> = (0..48).map(number).collect();
        let mut bytes = Vec::new();
        encode(&numbers, &deviations, 40, &mut bytes).unwrap();
        assert_eq!(bytes, GOLDEN, "the format is not that of its version");
        let back = decode(GOLDEN, &deviations, 4).unwrap();
        assert_eq!(back[..4], [-49.545723, -6.4465384, 8.280546, -10.114553]);
    }

    #[test]
    fn what_has_no_code_is_refused() {
        for x in [f32::NAN, f32::INFINITY] {
            assert_eq!(encode(&[x; 4], &[1.0; 4], 64, &mut Vec::new()), None);
        }
        let mut bytes = Vec::new();
        encode(&[1.0; 4], &[1.0; 4], 64, &mut bytes).unwrap();
        assert!(decode(&bytes, &[1.0; 4], 1).is_some());
        *bytes.last_mut().unwrap() = 1;
        assert_eq!(decode(&bytes, &[1.0; 4], 1), None);
        assert_eq!(decode(&bytes[..6], &[1.0; 4], 1), None);
        assert_eq!(decode(&u16::MAX.to_le_bytes(), &[1.0; 4], 1), None);
    }
}
