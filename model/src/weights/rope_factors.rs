//! Which scaling do a GGUF's per-frequency factors stand for?
//!
//! Converters write Llama 3's scaling as a tensor of divisors, one a frequency
//! (`rope_freqs.weight`), and drop the parameters. The published checkpoints differ in
//! one of them, the divisor of the lowest frequencies, which is the tensor's maximum:
//! it is read off, the tensor is computed anew from it, and both must agree.

use crate::config::RopeScaling;

/// Divisors of Llama 3's scaling, one for each of the `head_dim / 2` frequencies.
pub(super) fn llama3_divisors(
    head_dim: usize,
    theta: f32,
    factor: f32,
    (low, high): (f32, f32),
    original_context: u32,
) -> Vec<f32> {
    let context = f64::from(original_context);
    let (factor, low, high) = (f64::from(factor), f64::from(low), f64::from(high));
    (0..head_dim / 2)
        .map(|i| {
            let frequency = f64::from(theta).powf(-(2.0 * i as f64) / head_dim as f64);
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < context / high {
                1.0
            } else if wavelength > context / low {
                factor as f32
            } else {
                let smooth = (context / wavelength - low) / (high - low);
                (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
            }
        })
        .collect()
}

/// The scaling whose divisors are `divisors`, if it is one that is known.
pub(super) fn recognise(divisors: &[f32], head_dim: usize, theta: f32) -> Option<RopeScaling> {
    const LOW: f32 = 1.0;
    const HIGH: f32 = 4.0;
    const ORIGINAL_CONTEXT: u32 = 8192;
    let is_whole = divisors.len() == head_dim / 2;
    if is_whole && divisors.iter().all(|&divisor| divisor == 1.0) {
        return Some(RopeScaling::None);
    }
    let factor = divisors.iter().copied().fold(0.0, f32::max);
    let computed = llama3_divisors(head_dim, theta, factor, (LOW, HIGH), ORIGINAL_CONTEXT);
    let same = computed.len() == divisors.len()
        && computed
            .iter()
            .zip(divisors)
            .all(|(a, b)| (a - b).abs() <= 1e-3 * a.abs());
    same.then_some(RopeScaling::Llama3 {
        factor,
        low_freq_factor: LOW,
        high_freq_factor: HIGH,
        original_context: ORIGINAL_CONTEXT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_llama_scalings_are_recognised_and_others_are_not() {
        for factor in [8.0, 32.0] {
            let divisors = llama3_divisors(64, 500_000.0, factor, (1.0, 4.0), 8192);
            assert_eq!(
                recognise(&divisors, 64, 500_000.0),
                Some(RopeScaling::Llama3 {
                    factor,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_context: 8192
                })
            );
        }
        assert_eq!(recognise(&[1.0; 32], 64, 1e4), Some(RopeScaling::None));
        assert_eq!(recognise(&[1.0; 16], 64, 1e4), None);
        let long: Vec<f32> = (0..32).map(|i| 1.0 + i as f32).collect();
        assert_eq!(recognise(&long, 64, 1e4), None);
    }
}
