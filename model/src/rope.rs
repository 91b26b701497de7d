//! Rotary positions: by which angles is a head turned at a position?
//!
//! Halves are rotated: dimension `i` pairs with `i + head_dim / 2`. Angles are computed in
//! f64 and rounded once, from two short tables by the addition theorem, so that a rotation
//! by any difference of positions costs no trigonometry and no table of all positions.
//!
//! Dimensions that a model does not rotate, all of a layer or the last of each head, have the
//! frequency zero: the rotation leaves them as they are, to the bit.

use crate::config::{ModelConfig, OtherRotation, RopeScaling};
use crate::lanes::{Lane, WIDTH};

/// Positions in the fine table.
const FINE: i64 = 256;

/// Cosines and sines of every frequency.
#[derive(Debug)]
pub(crate) struct Rope {
    half: usize,
    /// Of positions 0..256.
    fine: Table,
    /// The same, `[half][FINE]`.
    fine_by_frequency: Table,
    /// Angle of one position for each frequency, radians.
    frequencies: Vec<f64>,
    /// Frequencies that are not zero on purpose: the first.
    n_rotated: usize,
    /// What the product of a rotated query and a rotated key is multiplied with.
    gain: f32,
    /// Of positions that are multiples of 256.
    coarse: Table,
}

/// Cosines and sines of some angles.
type Angles<'a> = (&'a [f64], &'a [f64]);

/// Cosines and sines, `[n_positions][half]` each where nothing else is said.
#[derive(Debug)]
struct Table {
    cos: Vec<f64>,
    sin: Vec<f64>,
}

impl Table {
    fn new(n_positions: i64, step: i64, frequencies: &[f64]) -> Self {
        let angles =
            (0..n_positions).flat_map(|p| frequencies.iter().map(move |f| (p * step) as f64 * f));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { cos, sin }
    }

    /// Row `row` of rows of so many numbers.
    #[inline(always)]
    fn of(&self, row: usize, width: usize) -> Option<Angles<'_>> {
        let row = row * width..(row + 1) * width;
        Some((self.cos.get(row.clone())?, self.sin.get(row)?))
    }

    /// What was `[n][width]` as `[width][n]`.
    fn transposed(&self, width: usize) -> Self {
        let turned = |from: &[f64]| {
            let columns = (0..width).flat_map(|i| from[i..].iter().step_by(width));
            columns.copied().collect()
        };
        Self {
            cos: turned(&self.cos),
            sin: turned(&self.sin),
        }
    }
}

/// The rotation of one head by some number of positions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// The rotations of all layers of a model.
#[derive(Debug)]
pub(crate) struct Ropes {
    usual: Rope,
    /// With the layers that have it.
    other: Option<(Rope, Vec<usize>)>,
}

impl Ropes {
    /// Those of a model.
    pub fn new(config: &ModelConfig) -> Self {
        let other = |OtherRotation { layers, theta }: &OtherRotation| {
            let rope = Rope::of(config, *theta, &RopeScaling::None);
            (rope, layers.clone())
        };
        Self {
            usual: Rope::new(config),
            other: config.other_rotation.as_ref().map(other),
        }
    }

    /// That of one layer.
    pub fn of_layer(&self, layer: usize) -> &Rope {
        match &self.other {
            Some((rope, layers)) if layers.contains(&layer) => rope,
            _ => &self.usual,
        }
    }
}

impl Rope {
    /// The rotation of most layers of a model.
    fn new(config: &ModelConfig) -> Self {
        Self::of(config, Some(config.rope_theta), &config.rope_scaling)
    }

    /// The rotation by frequencies of this base, or by none.
    fn of(config: &ModelConfig, theta: Option<f32>, scaling: &RopeScaling) -> Self {
        let half = config.head_dim / 2;
        let n_rotated = match theta {
            Some(_) => config.rotated_dims / 2,
            None => 0,
        };
        let theta = f64::from(theta.unwrap_or_default());
        let frequencies: Vec<f64> = (0..half)
            .map(|i| {
                if i >= n_rotated {
                    return 0.0;
                }
                let power = -2.0 * i as f64 / config.rotated_dims as f64;
                scaled(theta.powf(power), i, scaling)
            })
            .collect();
        let gain = match scaling {
            RopeScaling::Divisors {
                attention_factor, ..
            } => attention_factor * attention_factor,
            _ => 1.0,
        };
        let fine = Table::new(FINE, 1, &frequencies);
        let coarse = Table::new(config.max_positions as i64 / FINE + 2, FINE, &frequencies);
        Self {
            half,
            fine_by_frequency: fine.transposed(half),
            fine,
            frequencies,
            n_rotated,
            gain,
            coarse,
        }
    }

    /// What a dimension of a query is multiplied with before it meets keys, besides the scale of all
    /// scores: keys are kept as they are.
    pub fn gain(&self, dimension: usize) -> f32 {
        match dimension % self.half < self.n_rotated {
            true => self.gain,
            false => 1.0,
        }
    }

    /// Computes the rotation by `position`, which may be negative.
    #[inline(always)]
    pub fn turn(&self, position: i64, into: &mut Turn) {
        let (high, low) = parts(position);
        into.cos.resize(self.half, 0.0);
        into.sin.resize(self.half, 0.0);
        let low = self.fine.of(low, self.half).expect("FINE positions");
        match self.coarse(high) {
            Some(high) => into.add(high, low),
            None => {
                let angles = self.frequencies.iter().map(|f| (high * FINE) as f64 * f);
                let (cos, sin): (Vec<_>, Vec<_>) = angles.map(|a| (a.cos(), a.sin())).unzip();
                into.add((&cos, &sin), low);
            }
        }
    }

    /// The rotations by `position` and the fifteen positions that follow, one a lane: cosines
    /// and sines `[half]`, with the bits that [`turn`](Self::turn) gives.
    #[inline(always)]
    pub fn sixteen_turns(
        &self,
        position: i64,
        cos: &mut [Lane],
        sin: &mut [Lane],
        turn: &mut Turn,
    ) {
        let (high, low) = parts(position);
        let sixteen = low..low + WIDTH;
        let high = self.coarse(high).filter(|_| sixteen.end <= FINE as usize);
        let Some((cos_a, sin_a)) = high else {
            for lane in 0..WIDTH {
                self.turn(position + lane as i64, turn);
                for i in 0..self.half {
                    (cos[i].0[lane], sin[i].0[lane]) = (turn.cos[i], turn.sin[i]);
                }
            }
            return;
        };
        let to = cos.iter_mut().zip(sin);
        let a = cos_a.iter().zip(sin_a);
        for (i, ((cos, sin), (cos_a, sin_a))) in to.zip(a).enumerate() {
            let fine = self.fine_by_frequency.of(i, FINE as usize);
            let (cos_b, sin_b) = fine.expect("as many frequencies");
            let b = cos_b[sixteen.clone()].iter().zip(&sin_b[sixteen.clone()]);
            for ((cos, sin), (cos_b, sin_b)) in cos.0.iter_mut().zip(&mut sin.0).zip(b) {
                (*cos, *sin) = sum_of_angles((*cos_a, *sin_a), (*cos_b, *sin_b));
            }
        }
    }

    /// Those of position `high * FINE`, if it is in the table.
    #[inline(always)]
    fn coarse(&self, high: i64) -> Option<Angles<'_>> {
        self.coarse.of(usize::try_from(high).ok()?, self.half)
    }
}

/// A position as a number of [`FINE`] positions, and what is left.
#[inline(always)]
fn parts(position: i64) -> (i64, usize) {
    (
        position.div_euclid(FINE),
        position.rem_euclid(FINE) as usize,
    )
}

/// Cosine and sine of the sum of two angles, given theirs.
#[inline(always)]
fn sum_of_angles((cos_a, sin_a): (f64, f64), (cos_b, sin_b): (f64, f64)) -> (f32, f32) {
    (
        (cos_a * cos_b - sin_a * sin_b) as f32,
        (sin_a * cos_b + cos_a * sin_b) as f32,
    )
}

impl Turn {
    /// The rotation by the sum of two angles, given their cosines and sines.
    #[inline(always)]
    fn add(&mut self, (cos_a, sin_a): Angles<'_>, (cos_b, sin_b): Angles<'_>) {
        let to = self.cos.iter_mut().zip(&mut self.sin);
        let a = cos_a.iter().zip(sin_a);
        let b = cos_b.iter().zip(sin_b);
        for ((to, (cos_a, sin_a)), (cos_b, sin_b)) in to.zip(a).zip(b) {
            (*to.0, *to.1) = sum_of_angles((*cos_a, *sin_a), (*cos_b, *sin_b));
        }
    }

    /// What dimensions `8 * i..8 * i + 8` of a head's two halves become. Halves are whole eights.
    #[inline(always)]
    pub fn rotated(&self, head: &[f32], i: usize) -> [[f32; 8]; 2] {
        let (low, high) = head.split_at(self.cos.len());
        let (low, high) = (&low.as_chunks::<8>().0[i], &high.as_chunks::<8>().0[i]);
        let (cos, sin) = (
            &self.cos.as_chunks::<8>().0[i],
            &self.sin.as_chunks::<8>().0[i],
        );
        let mut out = [[0.0; 8]; 2];
        for j in 0..8 {
            out[0][j] = low[j].mul_add(cos[j], 0.0 - high[j] * sin[j]);
            out[1][j] = high[j].mul_add(cos[j], low[j] * sin[j]);
        }
        out
    }

    /// Rotates one head in place.
    #[inline(always)]
    pub fn apply(&self, head: &mut [f32]) {
        let half = self.cos.len();
        for i in 0..half / 8 {
            let [low, high] = self.rotated(head, i);
            head[8 * i..][..8].copy_from_slice(&low);
            head[half + 8 * i..][..8].copy_from_slice(&high);
        }
    }
}

/// Frequency number `i`, stretched.
fn scaled(frequency: f64, i: usize, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / f64::from(factor),
        RopeScaling::Divisors { ref divisors, .. } => frequency / f64::from(divisors[i]),
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
            rotated_dims: 32,
            max_positions: 1024,
            ..tiny_config()
        };
        let rope = Rope::new(&config);
        let mut turn = Turn::default();
        for position in [
            0i64, 1, 5, 240, 241, 255, 256, 700, 1000, 1279, 5000, -1, -300,
        ] {
            rope.turn(position, &mut turn);
            for i in 0..16 {
                let angle = position as f64 * f64::from(config.rope_theta).powf(-(i as f64) / 16.0);
                assert!((f64::from(turn.cos[i]) - angle.cos()).abs() < 1e-6);
                assert!((f64::from(turn.sin[i]) - angle.sin()).abs() < 1e-6);
            }
            let (mut cos, mut sin) = ([Lane::ZERO; 16], [Lane::ZERO; 16]);
            rope.sixteen_turns(position, &mut cos, &mut sin, &mut Turn::default());
            for lane in 0..WIDTH {
                rope.turn(position + lane as i64, &mut turn);
                for i in 0..16 {
                    let got = [cos[i].0[lane], sin[i].0[lane]];
                    let want = [turn.cos[i], turn.sin[i]];
                    assert_eq!(got.map(f32::to_bits), want.map(f32::to_bits));
                }
            }
        }
    }

    #[test]
    fn what_is_not_rotated_keeps_its_bits() {
        let config = ModelConfig {
            head_dim: 32,
            rotated_dims: 24,
            other_rotation: Some(OtherRotation {
                layers: vec![1],
                theta: None,
            }),
            ..tiny_config()
        };
        let ropes = Ropes::new(&config);
        let head: Vec<f32> = (0..32).map(|i| 0.3 * i as f32 - 4.1).collect();
        let mut turn = Turn::default();
        for (layer, n_rotated) in [(0, 12), (1, 0), (2, 12)] {
            for position in [0, 1, 77, 300, -5] {
                ropes.of_layer(layer).turn(position, &mut turn);
                let mut turned = head.clone();
                turn.apply(&mut turned);
                for (i, (a, b)) in turned.iter().zip(&head).enumerate() {
                    let is_kept = i % 16 >= n_rotated || position == 0;
                    assert_eq!(
                        a.to_bits() == b.to_bits(),
                        is_kept,
                        "{layer} {position} {i}"
                    );
                }
            }
        }
    }

    /// Pins made by mpmath, with every power, cosine and sine rounded correctly: a mathematical library that
    /// rounds the last bit of an f64 otherwise decides no bit of a rotation.
    #[test]
    fn the_bits_of_rotations_are_those_of_exact_arithmetic() {
        /// FNV-1a of 64 bits.
        fn digest(bytes: impl Iterator<Item = u8>) -> u64 {
            bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            })
        }
        for (rope_theta, head_dim, pin) in [
            (10_000.0, 64, 0x750d_dfe8_6308_d5e4),
            (1_000_000.0, 128, 0x7e11_0555_35f4_678f),
            (500_000.0, 64, 0x01d1_b8fb_6c8f_6091),
        ] {
            let config = ModelConfig {
                head_dim,
                rotated_dims: head_dim,
                rope_theta,
                max_positions: 32_768,
                ..tiny_config()
            };
            let rope = Rope::new(&config);
            let mut turn = Turn::default();
            let mut bytes = Vec::new();
            for position in (0..32_768).step_by(61) {
                rope.turn(position, &mut turn);
                let angles = turn.cos.iter().zip(&turn.sin);
                bytes.extend(angles.flat_map(|(cos, sin)| {
                    [cos.to_le_bytes(), sin.to_le_bytes()].into_iter().flatten()
                }));
            }
            assert_eq!(digest(bytes.into_iter()), pin, "{rope_theta}, {head_dim}");
        }
    }
}
