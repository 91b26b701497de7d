//! Rotary positions: by which angles is a head turned at a position?
//!
//! Halves are rotated: dimension `i` pairs with `i + head_dim / 2`. Angles are computed in
//! f64 and rounded once, from two short tables by the addition theorem, so that a rotation
//! by any difference of positions costs no trigonometry and no table of all positions.

use crate::config::{ModelConfig, RopeScaling};

/// Positions in the fine table.
const FINE: i64 = 256;

/// Cosines and sines of every frequency.
#[derive(Debug)]
pub(crate) struct Rope {
    half: usize,
    /// `[FINE][half]`, (cos, sin) of positions 0..256.
    fine: Vec<(f64, f64)>,
    /// Angle of one position for each frequency, radians.
    frequencies: Vec<f64>,
    /// `[n][half]`, (cos, sin) of positions that are multiples of 256.
    coarse: Vec<(f64, f64)>,
}

/// The rotation of one head by some number of positions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// The rotation of a model.
    pub fn new(config: &ModelConfig) -> Self {
        let half = config.head_dim / 2;
        let frequencies: Vec<f64> = (0..half)
            .map(|i| {
                let power = -2.0 * i as f64 / config.head_dim as f64;
                scaled(
                    f64::from(config.rope_theta).powf(power),
                    config.rope_scaling,
                )
            })
            .collect();
        let table = |n: i64, step: i64| {
            (0..n)
                .flat_map(|p| frequencies.iter().map(move |f| (p * step) as f64 * f))
                .map(|angle| (angle.cos(), angle.sin()))
                .collect::<Vec<_>>()
        };
        let fine = table(FINE, 1);
        let coarse = table(config.max_positions as i64 / FINE + 2, FINE);
        Self {
            half,
            fine,
            frequencies,
            coarse,
        }
    }

    /// Computes the rotation by `position`, which may be negative.
    pub fn turn(&self, position: i64, into: &mut Turn) {
        let (high, low) = (
            position.div_euclid(FINE),
            position.rem_euclid(FINE) as usize,
        );
        let low = &self.fine[low * self.half..][..self.half];
        into.cos.clear();
        into.sin.clear();
        let mut push = |(cos_a, sin_a): (f64, f64), (cos_b, sin_b): (f64, f64)| {
            into.cos.push((cos_a * cos_b - sin_a * sin_b) as f32);
            into.sin.push((sin_a * cos_b + cos_a * sin_b) as f32);
        };
        let known = usize::try_from(high)
            .ok()
            .filter(|h| (h + 1) * self.half <= self.coarse.len());
        match known {
            Some(high) => {
                let high = &self.coarse[high * self.half..][..self.half];
                high.iter().zip(low).for_each(|(a, b)| push(*a, *b));
            }
            None => self.frequencies.iter().zip(low).for_each(|(f, b)| {
                let angle = (high * FINE) as f64 * f;
                push((angle.cos(), angle.sin()), *b);
            }),
        }
    }
}

impl Turn {
    /// Rotates one head in place.
    #[inline(always)]
    pub fn apply(&self, head: &mut [f32]) {
        let (low, high) = head.split_at_mut(self.cos.len());
        for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(self.cos.iter().zip(&self.sin)) {
            let (x, y) = (*a, *b);
            *a = x.mul_add(*cos, -(y * sin));
            *b = y.mul_add(*cos, x * sin);
        }
    }
}

fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / f64::from(factor),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => {
            let context = f64::from(original_context);
            let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < context / high {
                frequency
            } else if wavelength > context / low {
                frequency / f64::from(factor)
            } else {
                let smooth = (context / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / f64::from(factor) + smooth * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::tiny_config;

    #[test]
    fn a_turn_is_the_rotation_by_its_position() {
        let config = ModelConfig {
            head_dim: 32,
            max_positions: 1024,
            ..tiny_config()
        };
        let rope = Rope::new(&config);
        let mut turn = Turn::default();
        for position in [0i64, 1, 255, 256, 1000, 1279, 5000, -1, -300] {
            rope.turn(position, &mut turn);
            for i in 0..16 {
                let angle = position as f64 * f64::from(config.rope_theta).powf(-(i as f64) / 16.0);
                assert!((f64::from(turn.cos[i]) - angle.cos()).abs() < 1e-6);
                assert!((f64::from(turn.sin[i]) - angle.sin()).abs() < 1e-6);
            }
        }
    }
}
