//! What the keys and values of one model vary by, over groups of layers.

use std::ops::Range;

use rayon::prelude::*;

use super::axes::axes;
use super::bits::{Unpack, allocate, code, number, pack};
use super::rows;
use crate::dot::{Rows, Vectors, products};
use crate::kv::coding::KeyFrame;
use crate::kv::{KvFragment, KvShape};

/// Layers that are coded together; the last group may have fewer.
const GROUP_LAYERS: usize = 6;
/// Tokens for each number of a vector, at least, for its axes to be more than chance.
const TOKENS_EACH: usize = 2;

/// The groups of layers of a model.
pub(super) fn groups_of(n_layers: usize) -> impl Iterator<Item = Range<usize>> {
    let firsts = (0..n_layers).step_by(GROUP_LAYERS);
    firsts.map(move |first| first..(first + GROUP_LAYERS).min(n_layers))
}

/// Bytes of a token's keys, or values, of a group.
pub(super) fn n_bytes_of(shape: KvShape, layers: &Range<usize>, ratio: u8) -> Option<usize> {
    let numbers = layers.len().checked_mul(shape.n_kv_heads)?;
    let n_bytes = numbers.checked_mul(shape.head_dim)?.checked_mul(2)?;
    Some(n_bytes.div_ceil(usize::from(ratio)))
}

/// Why there is no basis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BasisError {
    /// Fragments of another model than the frame's.
    #[error("a basis is learnt on fragments of one model")]
    Foreign,
    /// Too little to learn from.
    #[error("a basis of this model needs {needed} tokens to learn from; got {got}")]
    TooFew {
        /// Tokens that came.
        got: usize,
        /// Tokens that are needed.
        needed: usize,
    },
    /// Numbers that are not finite.
    #[error("what a basis is learnt on is not finite")]
    NotFinite,
}

/// Axes of all groups of layers.
#[derive(Debug)]
pub struct Basis {
    groups: Vec<Group>,
    digest: [u8; 32],
}

/// Some layers.
#[derive(Debug)]
pub(super) struct Group {
    pub layers: Range<usize>,
    pub keys: Part,
    pub values: Part,
}

/// The keys, or the values, of some layers.
pub(super) struct Part {
    mean: Vec<f32>,
    /// Of each axis, the largest first.
    deviations: Vec<f32>,
    /// One axis a slot.
    axes: Vectors,
    /// The same turned: one number of vectors a slot, of every axis.
    numbers: Vectors,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("n", &self.mean.len()).finish()
    }
}

impl Basis {
    /// Learns the axes of a model, on rayon's threads. The same fragments in the same order give
    /// the same basis.
    ///
    /// # Errors
    /// [`BasisError`].
    pub fn learn(fragments: &[&KvFragment], frame: &KeyFrame) -> Result<Self, BasisError> {
        let shape = frame.shape();
        if fragments.iter().any(|kv| kv.shape() != shape) {
            return Err(BasisError::Foreign);
        }
        let got = fragments.iter().map(|kv| kv.n_tokens()).sum();
        let width = GROUP_LAYERS.min(shape.n_layers) * shape.n_kv_heads * shape.head_dim;
        let needed = TOKENS_EACH * width;
        if got < needed {
            return Err(BasisError::TooFew { got, needed });
        }
        let parts: Vec<(Range<usize>, bool)> = groups_of(shape.n_layers)
            .flat_map(|layers| [(layers.clone(), true), (layers, false)])
            .collect();
        let learnt: Option<Vec<Part>> = parts
            .into_par_iter()
            .map(|(layers, of_keys)| {
                let of_fragment = |kv: &&KvFragment| rows(kv, frame, layers.clone(), of_keys);
                Part::learn(&fragments.iter().flat_map(of_fragment).collect::<Vec<_>>())
            })
            .collect();
        let mut learnt = learnt.ok_or(BasisError::NotFinite)?.into_iter();
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 transform basis");
        let mut groups = Vec::new();
        for layers in groups_of(shape.n_layers) {
            let (Some(keys), Some(values)) = (learnt.next(), learnt.next()) else {
                break;
            };
            keys.hash(&mut hash);
            values.hash(&mut hash);
            groups.push(Group {
                layers,
                keys,
                values,
            });
        }
        Ok(Self {
            groups,
            digest: *hash.finalize().as_bytes(),
        })
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Names its axes.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl Part {
    /// `None` if a number is not finite.
    fn learn(rows: &[Vec<f32>]) -> Option<Self> {
        let (n, width) = (rows.len() as f64, rows.first()?.len());
        if rows.iter().flatten().any(|x| !x.is_finite()) {
            return None;
        }
        let mut mean = vec![0.0f64; width];
        for row in rows {
            mean.iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += f64::from(*x));
        }
        mean.iter_mut().for_each(|sum| *sum /= n);
        let mut covariance = vec![vec![0.0f64; width]; width];
        let mut centred = vec![0.0f64; width];
        for row in rows {
            for ((c, x), mean) in centred.iter_mut().zip(row).zip(&mean) {
                *c = f64::from(*x) - mean;
            }
            for (i, sums) in covariance.iter_mut().enumerate() {
                let x = centred[i];
                let of_row = sums[..=i].iter_mut().zip(&centred);
                of_row.for_each(|(sum, y)| *sum += x * y);
            }
        }
        for i in 0..width {
            for j in 0..=i {
                let x = covariance[i][j] / n;
                covariance[i][j] = x;
                covariance[j][i] = x;
            }
        }
        let found = axes(covariance)?;
        let mut part = Self {
            mean: mean.iter().map(|x| *x as f32).collect(),
            deviations: found
                .iter()
                .map(|(value, _)| value.max(0.0).sqrt() as f32)
                .collect(),
            axes: Vectors::default(),
            numbers: Vectors::default(),
        };
        for (slot, (_, axis)) in (0..).zip(&found) {
            part.axes.set(slot, axis.iter().map(|x| *x as f32));
        }
        for slot in 0..width {
            part.numbers
                .set(slot as u32, found.iter().map(|(_, axis)| axis[slot] as f32));
        }
        Some(part)
    }

    fn hash(&self, hash: &mut blake3::Hasher) {
        let numbers = self.mean.iter().chain(&self.deviations);
        for x in numbers
            .copied()
            .chain((0..self.mean.len() as u32).flat_map(|slot| self.axes.get(slot)))
        {
            hash.update(&x.to_bits().to_le_bytes());
        }
    }

    /// Bits of axes, where a token's vector has so many bytes.
    fn bits(&self, ratio: u8) -> (usize, Vec<u8>) {
        let n_bytes = (2 * self.mean.len()).div_ceil(usize::from(ratio));
        (n_bytes, allocate(&self.deviations, 8 * n_bytes))
    }

    /// Codes vectors; `None` if a number is not finite.
    pub fn encode(&self, ratio: u8, rows: &[Vec<f32>], out: &mut Vec<u8>) -> Option<()> {
        if rows.iter().flatten().any(|x| !x.is_finite()) {
            return None;
        }
        let (n_bytes, bits) = self.bits(ratio);
        let coded: Vec<u32> = (0..)
            .zip(&bits)
            .filter(|(_, b)| **b > 0)
            .map(|(n, _)| n)
            .collect();
        let mut centred = Vectors::default();
        centred.widen(self.mean.len());
        for (slot, row) in (0..).zip(rows) {
            centred.set(slot, row.iter().zip(&self.mean).map(|(x, mean)| x - mean));
        }
        let slots: Vec<u32> = (0..rows.len() as u32).collect();
        let mut along = vec![0.0; slots.len() * coded.len()];
        let vectors = Rows {
            vectors: &centred,
            slots: &slots,
        };
        let axes = Rows {
            vectors: &self.axes,
            slots: &coded,
        };
        products(vectors, axes, &mut along);
        for token in 0..rows.len() {
            let first = out.len();
            let numbers = &along[token * coded.len()..][..coded.len()];
            let codes = numbers.iter().zip(&coded).map(|(x, axis)| {
                let (deviation, bits) = (self.deviations[*axis as usize], bits[*axis as usize]);
                (code(*x, deviation, bits), bits)
            });
            pack(codes, out);
            out.resize(first + n_bytes, 0);
        }
        Some(())
    }

    /// The vectors that codes stand for; `None` if they are cut.
    pub fn decode(&self, ratio: u8, n_tokens: usize, from: &mut &[u8]) -> Option<Vec<Vec<f32>>> {
        let width = self.mean.len();
        let (n_bytes, bits) = self.bits(ratio);
        let mut along = Vectors::default();
        along.widen(width);
        for slot in 0..n_tokens as u32 {
            let mut codes = Unpack::of(from.split_off(..n_bytes)?);
            let mut numbers = vec![0.0; width];
            for ((x, bits), deviation) in numbers.iter_mut().zip(&bits).zip(&self.deviations) {
                if *bits > 0 {
                    *x = number(codes.next(*bits)?, *deviation, *bits);
                }
            }
            along.set(slot, numbers.into_iter());
        }
        let tokens: Vec<u32> = (0..n_tokens as u32).collect();
        let slots: Vec<u32> = (0..width as u32).collect();
        let mut sums = vec![0.0; n_tokens * width];
        let vectors = Rows {
            vectors: &along,
            slots: &tokens,
        };
        let numbers = Rows {
            vectors: &self.numbers,
            slots: &slots,
        };
        products(vectors, numbers, &mut sums);
        let row = |sums: &[f32]| {
            sums.iter()
                .zip(&self.mean)
                .map(|(x, mean)| x + mean)
                .collect()
        };
        Some(sums.chunks_exact(width).map(row).collect())
    }
}
