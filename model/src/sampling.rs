//! Which token follows, given the logits?
//!
//! Sampling is a function of its parameters, the index of the token in the answer and the
//! logits, nothing else: a sampled answer can be replayed, and verified from a draft.

use serde::{Deserialize, Serialize};

use crate::decoder::Choice;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Sampling {
    /// The likeliest; of equals, the lowest id.
    #[default]
    Greedy,
    /// Drawn from the distribution, reproducibly.
    Seeded {
        /// Seed of the answer.
        seed: u64,
        /// Divides the logits; 0 or less means greedy.
        temperature: f32,
        /// Only this many of the likeliest are drawn from; 0 means all.
        top_k: usize,
        /// Only the likeliest that together reach this probability are drawn from.
        top_p: f32,
    },
}

impl Sampling {
    /// The token at `index` of the answer, given its logits. The margin is that of the
    /// greedy choice, whichever is drawn.
    pub fn choose(&self, index: usize, logits: &[f32]) -> Choice {
        let greedy = Choice::of(logits);
        match *self {
            Self::Seeded {
                seed,
                temperature,
                top_k,
                top_p,
            } if temperature > 0.0 => {
                let draw = uniform(seed, index as u64);
                let token = sample(logits, draw, temperature, top_k, top_p);
                Choice { token, ..greedy }
            }
            _ => greedy,
        }
    }
}

fn sample(logits: &[f32], draw: f64, temperature: f32, top_k: usize, top_p: f32) -> u32 {
    let n = if top_k == 0 {
        logits.len()
    } else {
        top_k.min(logits.len())
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let likelier = |a: &u32, b: &u32| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    };
    if n < order.len() {
        order.select_nth_unstable_by(n - 1, likelier);
        order.truncate(n);
    }
    order.sort_unstable_by(likelier);
    let highest = logits[order[0] as usize];
    let mut weights: Vec<f64> = order
        .iter()
        .map(|t| (f64::from(logits[*t as usize] - highest) / f64::from(temperature)).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let mut reached = 0.0;
    let kept = weights.iter().position(|w| {
        reached += w;
        reached >= f64::from(top_p) * total
    });
    weights.truncate(kept.map_or(n, |last| last + 1));
    let mut left = draw * weights.iter().sum::<f64>();
    for (token, weight) in order.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    order[weights.len() - 1]
}

/// A number in [0, 1), by SplitMix64 over seed and index.
fn uniform(seed: u64, index: u64) -> f64 {
    let mut z = seed ^ (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
    }
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution_within_its_limits() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()];
        let counts = |top_k, top_p| {
            let mut counts = [0; 4];
            for index in 0..8000 {
                let sampling = Sampling::Seeded {
                    seed: 7,
                    temperature: 1.0,
                    top_k,
                    top_p,
                };
                counts[sampling.choose(index, &logits).token as usize] += 1;
            }
            counts
        };
        let all = counts(0, 1.0);
        for (token, expected) in [(0, 1000), (1, 2000), (2, 0), (3, 5000)] {
            assert!(i32::abs(all[token] - expected) < 150, "{all:?}");
        }
        assert_eq!(counts(1, 1.0), [0, 0, 0, 8000]);
        assert_eq!(counts(0, 0.7)[0], 0);
        assert_eq!(counts(2, 1.0)[0], 0);
    }
}
