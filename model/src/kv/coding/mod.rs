//! A fragment in fewer bytes: how is it coded, and how far from the original is what comes back?
//!
//! | coding | keys | values | bytes, of f16 |
//! | --- | --- | --- | --- |
//! | [`Coding::K8V4`] | eight bits, a range a channel | four bits, a range a token | 1 of 2.5 |
//! | [`Coding::K8Mixed`] | the same in some layers, four bits in the others | the same | 1 of 3.3 |
//! | [`Coding::T4`], [`Coding::T8`] | together with values and neighbouring layers, along the axes of a [`Basis`] | the same | 1 of 4, 8 |
//! | [`Coding::Q8Blocks`], [`Coding::Q4Blocks`] | baselines: blocks of 32, as they are stored | the same | 1 of 1.9, 3.6 |
//!
//! All but the last two code keys in the model's [`KeyFrame`]: without their rotation and without the
//! bias of their projection. There a channel has one range for all tokens, and the bias, which is
//! tens of times larger than what differs between tokens, takes up none of the codes.
//!
//! # Invariants
//! - What is coded is a function of the fragment, the coding and the frame, to the bit, on every
//!   processor; so is what comes back.
//! - Where numbers have ranges, one comes back within half a step of its range, before it is rounded to f16.
//! - Every [`CodedKv`] says how far off it is: its [`Deviation`] was measured on what comes back.
//! - What comes back is finite, or is refused.
//!
//! What comes back is *not* the fragment: it does not have its id. Who lays it out borrows.

mod blocks;
mod channels;
mod deviation;
mod format;
mod range;
#[cfg(test)]
mod tests;
mod tokens;
mod transform;

use super::frame::{KeyFrame, PlainStrip};
use super::{KvFragment, KvShape, Strip, are_finite};
pub use deviation::{Deviation, Tolerance};
pub use format::MAX_CODED_TOKENS;
pub use transform::{Basis, BasisError};

/// Layers that a set can name.
const MAX_LAYERS: usize = 256;

/// Some layers of a decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerSet([u8; MAX_LAYERS / 8]);

impl LayerSet {
    /// The set of these layers; those from 256 on are left out.
    pub fn of(layers: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self::default();
        for layer in layers.into_iter().filter(|layer| *layer < MAX_LAYERS) {
            set.0[layer / 8] |= 1 << (layer % 8);
        }
        set
    }

    /// The set of no layer.
    pub const fn of_none() -> Self {
        Self([0; MAX_LAYERS / 8])
    }

    /// Whether it names a layer.
    pub fn contains(&self, layer: usize) -> bool {
        let byte = self.0.get(layer / 8);
        byte.is_some_and(|byte| byte >> (layer % 8) & 1 == 1)
    }
}

/// How keys and values become fewer bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Coding {
    /// Keys in eight bits a channel, values in four bits a token.
    K8V4,
    /// As [`Self::K8V4`], but keys in four bits in all layers except these.
    K8Mixed(LayerSet),
    /// Keys and values of neighbouring layers together, in a fourth of the bytes. Needs a frame with a [`Basis`].
    T4,
    /// The same in an eighth.
    T8,
    /// Blocks of 32 in eight bits, of keys as they are stored: a baseline.
    Q8Blocks,
    /// Blocks of 32 in four bits, of keys as they are stored: a baseline.
    Q4Blocks,
}

/// Why something cannot be coded, or what was coded cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    /// A key or value that is infinite, no number, or has no place among the codes.
    #[error("a number of layer {layer}, head {kv_head} is not finite, or too large to be coded")]
    NotFinite {
        /// The layer.
        layer: usize,
        /// The key/value head.
        kv_head: usize,
    },
    /// State of another model, or of another configuration of it.
    #[error("coded for a model with other rotations, biases or sizes, or along other axes")]
    Foreign,
    /// A coding across layers, and a frame without what it needs.
    #[error("{0} needs a basis, which a model learns from texts")]
    NoBasis(Coding),
    /// Bytes of a newer version of the program.
    #[error("coded in format version {found}; this program knows {supported}")]
    Newer {
        /// Its version.
        found: u32,
        /// The version that is written here.
        supported: u32,
    },
    /// Bytes that are not what was written.
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// A coded fragment.
#[derive(Clone, Debug, PartialEq)]
pub struct CodedKv {
    coding: Coding,
    shape: KvShape,
    base: u32,
    n_tokens: usize,
    frame: [u8; 32],
    deviation: Deviation,
    payload: Vec<u8>,
}

/// What one head of one layer is coded by.
#[derive(Clone, Copy)]
enum HeadCoding {
    /// Bits of keys and of values.
    Plain(u8, u8),
    /// Bits of both.
    Blocks(u8),
}

impl Coding {
    /// Whether it needs a frame with a [`Basis`].
    pub fn needs_basis(self) -> bool {
        self.ratio().is_some()
    }

    /// Of codings across layers, how many times the bytes of codes f16 has.
    fn ratio(self) -> Option<usize> {
        match self {
            Self::T4 => Some(4),
            Self::T8 => Some(8),
            _ => None,
        }
    }

    /// `None` where layers are not coded one by one.
    fn of_layer(self, layer: usize) -> Option<HeadCoding> {
        Some(match self {
            Self::T4 | Self::T8 => return None,
            Self::K8V4 => HeadCoding::Plain(8, 4),
            Self::K8Mixed(eight) => HeadCoding::Plain(if eight.contains(layer) { 8 } else { 4 }, 4),
            Self::Q8Blocks => HeadCoding::Blocks(8),
            Self::Q4Blocks => HeadCoding::Blocks(4),
        })
    }

    /// Bytes of the codes of `n_tokens` tokens; `None` if there is no such shape or they cannot be
    /// counted.
    pub fn n_bytes(self, shape: KvShape, n_tokens: usize) -> Option<usize> {
        shape.n_bytes(n_tokens)?;
        if shape.n_layers > MAX_LAYERS {
            return None;
        }
        if let Some(ratio) = self.ratio() {
            return transform::n_bytes(ratio, shape, n_tokens);
        }
        let of_layer = |layer| {
            let head =
                match self.of_layer(layer)? {
                    HeadCoding::Plain(keys, values) => {
                        channels::n_bytes(keys, shape.head_dim, n_tokens)?
                            .checked_add(tokens::n_bytes(values, shape.head_dim, n_tokens)?)
                    }
                    HeadCoding::Blocks(bits) => {
                        blocks::n_bytes(bits, shape.head_dim, n_tokens)?.checked_mul(2)
                    }
                };
            head?.checked_mul(shape.n_kv_heads)
        };
        (0..shape.n_layers).try_fold(0usize, |sum, layer| sum.checked_add(of_layer(layer)?))
    }
}

impl std::fmt::Display for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::K8V4 => "k8v4",
            Self::K8Mixed(_) => "k8mixed",
            Self::T4 => "t4",
            Self::T8 => "t8",
            Self::Q8Blocks => "q8",
            Self::Q4Blocks => "q4",
        })
    }
}

/// What is no name of a coding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected k8v4, t4, t8, q8 or q4")]
pub struct UnknownCoding;

impl std::str::FromStr for Coding {
    type Err = UnknownCoding;

    fn from_str(text: &str) -> Result<Self, UnknownCoding> {
        let known = [
            Self::K8V4,
            Self::T4,
            Self::T8,
            Self::Q8Blocks,
            Self::Q4Blocks,
        ];
        let mut known = known.into_iter();
        known
            .find(|coding| coding.to_string() == text)
            .ok_or(UnknownCoding)
    }
}

impl CodedKv {
    /// Codes a fragment, and measures how far off it is.
    ///
    /// # Errors
    /// [`CodingError::Foreign`] if the frame is of another shape; [`CodingError::NoBasis`];
    /// [`CodingError::NotFinite`].
    pub fn encode(kv: &KvFragment, coding: Coding, frame: &KeyFrame) -> Result<Self, CodingError> {
        let shape = kv.shape;
        let n_bytes = coding.n_bytes(shape, kv.n_tokens);
        let n_bytes = n_bytes.filter(|_| shape == frame.shape() && kv.n_tokens <= MAX_CODED_TOKENS);
        let n_bytes = n_bytes.ok_or(CodingError::Foreign)?;
        let frame_digest = digest_of(frame, coding)?;
        let mut payload = Vec::with_capacity(n_bytes);
        match (coding.ratio(), frame.basis()) {
            (Some(_), Some(basis)) => {
                transform::encode(kv, (frame, basis), n_bytes, &mut payload)
                    .ok_or_else(|| first_not_finite(kv))?;
            }
            _ => encode_heads(kv, coding, frame, &mut payload)?,
        }
        debug_assert_eq!(payload.len(), n_bytes, "as many bytes as were counted");
        let mut coded = Self {
            coding,
            shape,
            base: kv.base,
            n_tokens: kv.n_tokens,
            frame: frame_digest,
            deviation: Deviation::default(),
            payload,
        };
        coded.deviation = Deviation::between(kv, &coded.decode(frame)?, frame);
        Ok(coded)
    }

    /// The fragment that comes back: borrowed, for it is not what was encoded.
    ///
    /// # Errors
    /// [`CodingError::Foreign`] under another model's frame; [`CodingError::NoBasis`]; where codes stand for
    /// no finite number, which no fragment's do, [`CodingError::NotFinite`]; where they are of a coding across
    /// layers and nobody writes such, [`CodingError::Damaged`].
    pub fn decode(&self, frame: &KeyFrame) -> Result<KvFragment, CodingError> {
        let shape = self.shape;
        if self.frame != digest_of(frame, self.coding)? || shape != frame.shape() {
            return Err(CodingError::Foreign);
        }
        let strips = match (self.coding.ratio(), frame.basis()) {
            (Some(_), Some(basis)) => self.decode_together(frame, basis)?,
            _ => self.decode_heads(frame, &mut &self.payload[..])?,
        };
        Ok(KvFragment {
            shape,
            base: self.base,
            n_tokens: self.n_tokens,
            strips,
        })
    }

    fn decode_together(&self, frame: &KeyFrame, basis: &Basis) -> Result<Vec<Strip>, CodingError> {
        let plain = transform::decode(&self.payload, basis, self.n_tokens, self.shape)
            .ok_or(CodingError::Damaged("codes that nobody writes"))?;
        let strips = plain.iter().enumerate().map(|(head, plain)| {
            let n_kv_heads = self.shape.n_kv_heads;
            let (layer, kv_head) = (head / n_kv_heads, head % n_kv_heads);
            let strip = frame.strip(plain, self.base, self.n_tokens, layer, kv_head);
            strip.ok_or(CodingError::NotFinite { layer, kv_head })
        });
        strips.collect()
    }

    fn decode_heads(&self, frame: &KeyFrame, rest: &mut &[u8]) -> Result<Vec<Strip>, CodingError> {
        let shape = self.shape;
        let mut strips = Vec::with_capacity(shape.n_layers * shape.n_kv_heads);
        for layer in 0..shape.n_layers {
            for kv_head in 0..shape.n_kv_heads {
                let strip = match self.coding.of_layer(layer) {
                    Some(HeadCoding::Plain(keys, values)) => {
                        self.decode_plain(keys, values, rest).and_then(|plain| {
                            frame.strip(&plain, self.base, self.n_tokens, layer, kv_head)
                        })
                    }
                    Some(HeadCoding::Blocks(bits)) => {
                        blocks::decode(bits, shape.head_dim, self.n_tokens, rest)
                    }
                    None => None,
                };
                strips.push(strip.ok_or(CodingError::NotFinite { layer, kv_head })?);
            }
        }
        Ok(strips)
    }

    fn decode_plain(&self, keys: u8, values: u8, rest: &mut &[u8]) -> Option<PlainStrip> {
        let (head_dim, n_tokens) = (self.shape.head_dim, self.n_tokens);
        Some(PlainStrip {
            keys: channels::decode(keys, head_dim, n_tokens, rest)?,
            values: tokens::decode(values, head_dim, n_tokens, rest)?,
        })
    }

    /// How it is coded.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// The sizes of the model it belongs to.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Local position of the first token.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// How far what comes back is from what was encoded.
    pub fn deviation(&self) -> Deviation {
        self.deviation
    }

    /// Bytes of the codes.
    pub fn n_bytes(&self) -> usize {
        self.payload.len()
    }
}

/// What codes depend on besides the fragment.
fn digest_of(frame: &KeyFrame, coding: Coding) -> Result<[u8; 32], CodingError> {
    match (coding.needs_basis(), frame.basis()) {
        (false, _) => Ok(*frame.digest()),
        (true, None) => Err(CodingError::NoBasis(coding)),
        (true, Some(basis)) => {
            let mut hash = blake3::Hasher::new_derive_key("perennial 1 key frame with a basis");
            hash.update(frame.digest()).update(basis.digest());
            Ok(*hash.finalize().as_bytes())
        }
    }
}

/// The first head with a number that is not finite.
fn first_not_finite(kv: &KvFragment) -> CodingError {
    let is_not = |strip: &Strip| !strip.keys.iter().chain(&strip.values).all(are_finite);
    let head = kv.strips.iter().position(is_not).unwrap_or(0);
    let n_kv_heads = kv.shape.n_kv_heads;
    CodingError::NotFinite {
        layer: head / n_kv_heads,
        kv_head: head % n_kv_heads,
    }
}

/// Codes a fragment head by head.
fn encode_heads(
    kv: &KvFragment,
    coding: Coding,
    frame: &KeyFrame,
    payload: &mut Vec<u8>,
) -> Result<(), CodingError> {
    let (KvShape { head_dim, .. }, n_tokens) = (kv.shape, kv.n_tokens);
    for layer in 0..kv.shape.n_layers {
        for kv_head in 0..kv.shape.n_kv_heads {
            let coded = match coding.of_layer(layer) {
                Some(HeadCoding::Plain(keys, values)) => {
                    let plain = frame.plain(kv, layer, kv_head);
                    channels::encode(keys, &plain.keys, head_dim, n_tokens, payload)
                        .and_then(|()| tokens::encode(values, plain.values(), head_dim, payload))
                }
                Some(HeadCoding::Blocks(bits)) => {
                    let strip = kv.strip(layer, kv_head);
                    blocks::encode(bits, strip, head_dim, n_tokens, payload)
                }
                None => None,
            };
            coded.ok_or(CodingError::NotFinite { layer, kv_head })?;
        }
    }
    Ok(())
}
