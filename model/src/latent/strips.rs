//! The keys that recall looks at: some heads of some layers, in a few bits a number.
//!
//! ```text
//! strip    [n_tiles] tiles, one strip a key/value head of the profile
//! tile     [head_dim] sixteen codes of eight bits, or [head_dim / 2] sixteen pairs of four bits:
//!          dimension i in the lower half, i + head_dim / 2 in the upper
//! steps    [n_tiles] sixteen f32, one a token
//! ```
//! A token's key has one step: it is multiplied with once, behind the inner product. Codes stand
//! for `code - middle` steps.

use half::f16;

use super::LatentProfile;
use crate::cancel::Cancel;
use crate::decoder::Decoder;
use crate::error::Error;
use crate::kv::frame::KeyFrame;
use crate::kv::{KvFragment, KvShape};
use crate::lanes::{Bytes, Lane, WIDTH};
use crate::layout::Layout;

/// Bits of a key's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyBits {
    /// Four: half the bytes.
    #[default]
    Four,
    /// Eight.
    Eight,
}

impl KeyBits {
    /// How many.
    pub const fn count(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// What is taken off a code to get its number of steps.
    pub(super) const fn middle(self) -> u8 {
        match self {
            Self::Four => 8,
            Self::Eight => 128,
        }
    }

    /// Vectors of codes in a tile.
    pub(super) const fn tile_len(self, head_dim: usize) -> usize {
        match self {
            Self::Four => head_dim / 2,
            Self::Eight => head_dim,
        }
    }
}

/// Why a fragment has no strips.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StripsError {
    /// A fragment, frame or profile of another model.
    #[error("keys of another model than the profile's: {got:?}, expected {expected:?}")]
    Foreign {
        /// Sizes of what came.
        got: KvShape,
        /// Sizes of the frame.
        expected: KvShape,
    },
    /// A head that the model has not.
    #[error("the profile names query head {head} of layer {layer}, which the model has not")]
    NoSuchHead {
        /// Its layer.
        layer: usize,
        /// Its number.
        head: usize,
    },
    /// A key that is infinite or no number.
    #[error("a key of layer {layer} is not finite")]
    NotFinite {
        /// The layer.
        layer: usize,
    },
}

/// Keys of one head.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyStrip {
    pub codes: Vec<Bytes>,
    pub steps: Vec<Lane>,
}

/// What recall reads of one fragment.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyStrips {
    pub(super) bits: KeyBits,
    pub(super) n_tokens: usize,
    pub(super) head_dim: usize,
    /// In the order of the profile's key/value heads.
    pub(super) strips: Vec<KeyStrip>,
}

impl KeyStrips {
    /// Of a fragment's tokens.
    ///
    /// # Errors
    /// [`StripsError`].
    pub(crate) fn of(
        kv: &KvFragment,
        frame: &KeyFrame,
        profile: &LatentProfile,
    ) -> Result<Self, StripsError> {
        let shape = frame.shape();
        if kv.shape() != shape {
            return Err(StripsError::Foreign {
                got: kv.shape(),
                expected: shape,
            });
        }
        profile.check_shape(shape)?;
        let n_tokens = kv.n_tokens();
        let strips = profile.kv_heads().iter().map(|(layer, kv_head)| {
            let keys = frame.plain_keys(kv, *layer, *kv_head);
            let strip = KeyStrip::of(&keys, n_tokens, shape.head_dim, profile.bits());
            strip.ok_or(StripsError::NotFinite { layer: *layer })
        });
        Ok(Self {
            bits: profile.bits(),
            n_tokens,
            head_dim: shape.head_dim,
            strips: strips.collect::<Result<_, _>>()?,
        })
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        let of = |s: &KeyStrip| size_of_val(&s.codes[..]) + size_of_val(&s.steps[..]);
        self.strips.iter().map(of).sum()
    }

    /// Appends them to `bytes`: for each head the codes, then the steps as f16.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        for strip in &self.strips {
            bytes.extend(strip.codes.iter().flat_map(|codes| codes.0));
            let steps = strip.steps.iter().flat_map(|steps| steps.0);
            bytes.extend(steps.flat_map(|step| f16::from_f32(step).to_le_bytes()));
        }
    }

    /// Takes those of `n_tokens` tokens off the front of `bytes`; none where these are too few, or a step
    /// is no number that one can be.
    pub(super) fn take(
        bytes: &mut &[u8],
        n_tokens: usize,
        head_dim: usize,
        profile: &LatentProfile,
    ) -> Option<Self> {
        let n_tiles = n_tokens.div_ceil(WIDTH);
        let bits = profile.bits();
        let n_codes = n_tiles.checked_mul(bits.tile_len(head_dim))?;
        let mut strips = Vec::new();
        for _ in profile.kv_heads() {
            let codes = bytes.split_off(..n_codes.checked_mul(WIDTH)?)?;
            let steps = bytes.split_off(..n_tiles.checked_mul(WIDTH * 2)?)?;
            let codes = codes.as_chunks().0.iter().map(|codes| Bytes(*codes));
            let step = |bytes: &[u8; 2]| f16::from_le_bytes(*bytes).to_f32();
            let steps: Vec<f32> = steps.as_chunks().0.iter().map(step).collect();
            if steps.iter().any(|step| !step.is_finite() || *step < 0.0) {
                return None;
            }
            strips.push(KeyStrip {
                codes: codes.collect(),
                steps: steps.as_chunks().0.iter().map(|tile| Lane(*tile)).collect(),
            });
        }
        Some(Self {
            bits,
            n_tokens,
            head_dim,
            strips,
        })
    }
}

impl Decoder {
    /// What recall reads of each text, read behind `layout` up to the last layer of the profile.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; [`Error::Strips`].
    pub fn key_strips(
        &self,
        layout: &Layout,
        texts: &[&[u32]],
        profile: &LatentProfile,
        cancel: &Cancel,
    ) -> Result<Vec<KeyStrips>, Error> {
        let frame = self.key_frame();
        let read = self.read(layout, texts, &[], profile.n_layers(), cancel)?;
        let strips = read
            .iter()
            .map(|read| Ok(KeyStrips::of(&read.kv, &frame, profile)?));
        strips.collect()
    }
}

impl KeyStrip {
    fn of(keys: &[Lane], n_tokens: usize, head_dim: usize, bits: KeyBits) -> Option<Self> {
        let n_tiles = n_tokens.div_ceil(WIDTH);
        let (middle, tile_len) = (bits.middle(), bits.tile_len(head_dim));
        let mut strip = Self {
            codes: vec![Bytes([0; WIDTH]); n_tiles * tile_len],
            steps: vec![Lane::ZERO; n_tiles],
        };
        for token in 0..n_tokens {
            let tile = &keys[token / WIDTH * head_dim..][..head_dim];
            let key = || tile.iter().map(|dimension| dimension.0[token % WIDTH]);
            if key().any(|x| !x.is_finite()) {
                return None;
            }
            let largest = key().fold(0f32, |a, x| a.max(x.abs()));
            // Rounded to f16, so that it can be stored as such.
            let step = f16::from_f32(largest / f32::from(middle - 1)).to_f32();
            let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
            strip.steps[token / WIDTH].0[token % WIDTH] = step;
            let codes = &mut strip.codes[token / WIDTH * tile_len..][..tile_len];
            let middle = f32::from(middle);
            for (d, x) in key().enumerate() {
                let code = (x * inverse + middle + 0.5).clamp(1.0, 2.0 * middle - 1.0) as u8;
                let to = &mut codes[d % tile_len].0[token % WIDTH];
                *to |= code << (4 * (d / tile_len));
            }
        }
        Some(strip)
    }

    /// The key of a token in plain numbers.
    #[cfg(test)]
    pub(super) fn key(&self, token: usize, head_dim: usize, bits: KeyBits) -> Vec<f32> {
        let tile_len = bits.tile_len(head_dim);
        let tile = &self.codes[token / WIDTH * tile_len..][..tile_len];
        let step = self.steps[token / WIDTH].0[token % WIDTH];
        let number = |d: usize| {
            let byte = tile[d % tile_len].0[token % WIDTH];
            let code = match bits {
                KeyBits::Eight => byte,
                KeyBits::Four => byte >> (4 * (d / tile_len)) & 15,
            };
            (f32::from(code) - f32::from(bits.middle())) * step
        };
        (0..head_dim).map(number).collect()
    }
}
