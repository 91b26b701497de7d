//! How far is what comes back from what was encoded?

use super::Coding;
use crate::kv::KvFragment;
use crate::kv::frame::KeyFrame;
use crate::lanes::numbers;

/// The root of the squared error over all layers, as a part of that of the numbers themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Of keys without rotation and bias: what scores depend on.
    pub keys: f32,
    /// Of values.
    pub values: f32,
}

/// How far off what comes back may be for it to be used. By default what [`Coding::K8V4`](super::Coding::K8V4) keeps
/// of the models that are known (`cargo bench --bench codings`), and some more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Of keys.
    pub keys: f32,
    /// Of values.
    pub values: f32,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            keys: 0.05,
            values: 0.25,
        }
    }
}

impl Tolerance {
    /// Of what comes back of this coding. Codings across layers lose most where queries do not look, so more of
    /// keys may be lost to them (measured by `cargo bench --bench codings`, and some more).
    pub fn of(coding: Coding) -> Self {
        match coding.needs_basis() {
            true => Self {
                keys: 0.2,
                values: 0.35,
            },
            false => Self::default(),
        }
    }

    /// Whether a deviation is within it. One that is no number is not.
    pub fn holds(&self, deviation: Deviation) -> bool {
        deviation.keys <= self.keys && deviation.values <= self.values
    }
}

impl Deviation {
    /// Between fragments of the frame's shape and one number of tokens.
    pub fn between(kv: &KvFragment, back: &KvFragment, frame: &KeyFrame) -> Self {
        let (mut keys, mut values) = (Squares::default(), Squares::default());
        for layer in 0..kv.shape.n_layers {
            for kv_head in 0..kv.shape.n_kv_heads {
                let a = frame.plain(kv, layer, kv_head);
                let b = frame.plain(back, layer, kv_head);
                keys.add(numbers(&a.keys), numbers(&b.keys));
                values.add(a.values(), b.values());
            }
        }
        Self {
            keys: keys.part(),
            values: values.part(),
        }
    }
}

/// Sums of squares.
#[derive(Default)]
struct Squares {
    of_numbers: f64,
    of_errors: f64,
}

impl Squares {
    fn add(&mut self, numbers: &[f32], back: &[f32]) {
        for (x, back) in numbers.iter().zip(back) {
            let (x, error) = (f64::from(*x), f64::from(x - back));
            self.of_numbers += x * x;
            self.of_errors += error * error;
        }
    }

    fn part(&self) -> f32 {
        match self.of_errors {
            0.0 => 0.0,
            errors => (errors / self.of_numbers).sqrt() as f32,
        }
    }
}
