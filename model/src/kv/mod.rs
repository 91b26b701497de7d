//! KV state: what a decoder remembers of tokens, as immutable pieces that can be shared.
//!
//! A [`KvFragment`] holds the keys and values of consecutive tokens in every layer. Keys
//! are f16, rotated at *local* positions `base..base + n_tokens`, whatever position the
//! tokens stand at in a [`Layout`](crate::layout::Layout): attention rotates the query by
//! the difference. Values are f16. A [`Tail`] is the state that a forward pass appends to.
//!
//! Invariants: a fragment never changes; lanes past the last token are zero, so equal
//! contents are equal bits; a [`Tail`] holds the same number of tokens in every layer
//! between two forward passes.

mod bytes;
pub mod coding;
pub(crate) mod frame;

use std::ops::Range;

pub use frame::{KeyFrame, PlainLayer};

use crate::config::ModelConfig;
use crate::lanes::{Halves, WIDTH};

/// The sizes that KV state of one model has. State of another shape is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvShape {
    /// Number of decoder layers.
    pub n_layers: usize,
    /// Number of key/value heads of a layer.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

impl KvShape {
    /// The shape of a model's state.
    pub fn of(config: &ModelConfig) -> Self {
        Self {
            n_layers: config.n_layers,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
        }
    }

    /// Bytes of one token's keys and values in all layers.
    pub fn bytes_per_token(&self) -> usize {
        2 * 2 * self.n_layers * self.n_kv_heads * self.head_dim
    }
}

/// Keys and values of one head of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strip {
    /// `[n_tiles][head_dim]`, each the sixteen keys of a tile in one dimension, f16.
    pub keys: Vec<Halves>,
    /// `[n_tokens][head_dim / 16]`, f16.
    pub values: Vec<Halves>,
}

impl Strip {
    /// Appends zeros up to `n_tokens`.
    fn grow(&mut self, head_dim: usize, n_tokens: usize) {
        self.keys
            .resize(n_tokens.div_ceil(WIDTH) * head_dim, Halves::ZERO);
        self.values
            .resize(n_tokens * (head_dim / WIDTH), Halves::ZERO);
    }

    /// Writes a token's rotated key and its value.
    pub fn set(&mut self, token: usize, key: &[Halves], value: &[Halves]) {
        let head_dim = key.len() * WIDTH;
        let tile = &mut self.keys[token / WIDTH * head_dim..][..head_dim];
        for (dimensions, key) in tile.as_chunks_mut::<WIDTH>().0.iter_mut().zip(key) {
            for (dimension, x) in dimensions.iter_mut().zip(key.0) {
                dimension.0[token % WIDTH] = x;
            }
        }
        self.values[token * value.len()..][..value.len()].copy_from_slice(value);
    }

    fn truncate(&mut self, head_dim: usize, n_tokens: usize) {
        self.keys.truncate(n_tokens.div_ceil(WIDTH) * head_dim);
        self.values.truncate(n_tokens * (head_dim / WIDTH));
        if !n_tokens.is_multiple_of(WIDTH) {
            let last = n_tokens / WIDTH * head_dim;
            for dimension in &mut self.keys[last..] {
                dimension.0[n_tokens % WIDTH..].fill(0);
            }
        }
    }

    fn slice(&self, head_dim: usize, range: &Range<usize>) -> Self {
        let n = range.len();
        let mut keys = vec![Halves::ZERO; n.div_ceil(WIDTH) * head_dim];
        for (to, from) in range.clone().enumerate() {
            let source = &self.keys[from / WIDTH * head_dim..][..head_dim];
            let target = &mut keys[to / WIDTH * head_dim..][..head_dim];
            for (target, source) in target.iter_mut().zip(source) {
                target.0[to % WIDTH] = source.0[from % WIDTH];
            }
        }
        let width = head_dim / WIDTH;
        let values = self.values[range.start * width..range.end * width].to_vec();
        Self { keys, values }
    }

    fn n_bytes(&self) -> usize {
        size_of_val(&self.keys[..]) + size_of_val(&self.values[..])
    }
}

/// Immutable KV state of consecutive tokens, in all layers of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvFragment {
    shape: KvShape,
    base: u32,
    n_tokens: usize,
    /// `[n_layers][n_kv_heads]`.
    strips: Vec<Strip>,
}

impl KvFragment {
    /// The sizes of the model it belongs to.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Local position at which the first token's key is rotated.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// Bytes held by keys and values.
    pub fn n_bytes(&self) -> usize {
        self.strips.iter().map(Strip::n_bytes).sum()
    }

    /// A copy of a range of tokens; their keys keep the rotation they have.
    ///
    /// # Panics
    /// If the range does not lie within the fragment.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.n_tokens,
            "slice {range:?}"
        );
        Self {
            shape: self.shape,
            base: self.base + range.start as u32,
            n_tokens: range.len(),
            strips: self
                .strips
                .iter()
                .map(|s| s.slice(self.shape.head_dim, &range))
                .collect(),
        }
    }

    /// BLAKE3 of the shape, the base and every bit of keys and values.
    pub fn content_digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let shape = self.shape;
        for n in [
            shape.n_layers,
            shape.n_kv_heads,
            shape.head_dim,
            self.n_tokens,
        ] {
            hasher.update(&(n as u64).to_le_bytes());
        }
        hasher.update(&self.base.to_le_bytes());
        let mut bytes = Vec::new();
        for strip in &self.strips {
            bytes.clear();
            let halves = strip.keys.iter().chain(&strip.values).flat_map(|h| h.0);
            bytes.extend(halves.flat_map(u16::to_le_bytes));
            hasher.update(&bytes);
        }
        hasher.finalize()
    }

    /// Whether all its numbers are finite, and nothing stands behind the last token: so it is of every
    /// fragment that a decoder computes, and not of any bytes that have the length of one.
    pub fn is_sound(&self) -> bool {
        let head_dim = self.shape.head_dim;
        let n_in_last = self.n_tokens % WIDTH;
        self.strips.iter().all(|strip| {
            let last = strip.keys.len() - if n_in_last > 0 { head_dim } else { 0 };
            let behind = strip.keys[last..].iter().flat_map(|d| &d.0[n_in_last..]);
            let mut halves = strip.keys.iter().chain(&strip.values);
            halves.all(are_finite) && behind.into_iter().all(|bits| *bits == 0)
        })
    }

    /// Keys and values of one head of one layer.
    pub(crate) fn strip(&self, layer: usize, kv_head: usize) -> &Strip {
        &self.strips[layer * self.shape.n_kv_heads + kv_head]
    }
}

/// Whether none of them is infinite or no number: of f16 those have all bits of the exponent.
fn are_finite(halves: &Halves) -> bool {
    const EXPONENT: u16 = 0x7c00;
    halves.0.iter().all(|bits| bits & EXPONENT != EXPONENT)
}

/// Growing KV state of the rows being computed; keys rotated at positions counted from
/// the tail's start.
#[derive(Clone, Debug)]
pub struct Tail {
    fragment: KvFragment,
    start: u32,
}

impl Tail {
    /// An empty tail whose first token will stand at absolute position `start`.
    pub fn new(shape: KvShape, start: u32) -> Self {
        let strips = vec![Strip::default(); shape.n_layers * shape.n_kv_heads];
        Self {
            fragment: KvFragment {
                shape,
                base: 0,
                n_tokens: 0,
                strips,
            },
            start,
        }
    }

    /// The sizes of the model it belongs to.
    pub fn shape(&self) -> KvShape {
        self.fragment.shape
    }

    /// Absolute position of its first token.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Number of tokens computed so far.
    pub fn n_tokens(&self) -> usize {
        self.fragment.n_tokens
    }

    /// Bytes held by keys and values.
    pub fn n_bytes(&self) -> usize {
        self.fragment.n_bytes()
    }

    /// Forgets all tokens from number `n` on; does nothing if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        if n >= self.fragment.n_tokens {
            return;
        }
        let head_dim = self.shape().head_dim;
        for strip in &mut self.fragment.strips {
            strip.truncate(head_dim, n);
        }
        self.fragment.n_tokens = n;
    }

    /// The state so far as a fragment.
    pub fn freeze(mut self) -> KvFragment {
        for strip in &mut self.fragment.strips {
            strip.keys.shrink_to_fit();
            strip.values.shrink_to_fit();
        }
        self.fragment
    }

    /// A copy of a range of tokens as a fragment; keys keep their rotation, so the
    /// fragment's base is the start of the range.
    ///
    /// # Panics
    /// If the range does not lie within the tail.
    pub fn slice(&self, range: Range<usize>) -> KvFragment {
        self.fragment.slice(range)
    }

    /// Makes room for `n` more tokens in every layer and returns the number of the first.
    pub(crate) fn grow(&mut self, n: usize) -> usize {
        let first = self.fragment.n_tokens;
        self.fragment.n_tokens += n;
        for strip in &mut self.fragment.strips {
            strip.grow(self.fragment.shape.head_dim, first + n);
        }
        first
    }

    /// The heads of one layer.
    pub(crate) fn strips_mut(&mut self, layer: usize) -> &mut [Strip] {
        let n = self.shape().n_kv_heads;
        &mut self.fragment.strips[layer * n..][..n]
    }

    /// What has been computed, as if frozen.
    pub(crate) fn as_fragment(&self) -> &KvFragment {
        &self.fragment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) const SHAPE: KvShape = KvShape {
        n_layers: 2,
        n_kv_heads: 3,
        head_dim: 32,
    };

    pub(super) fn filled(n_tokens: usize) -> Tail {
        let mut tail = Tail::new(SHAPE, 5);
        append(&mut tail, 0, n_tokens);
        tail
    }

    fn append(tail: &mut Tail, seed: usize, n: usize) {
        let first = tail.grow(n);
        for layer in 0..SHAPE.n_layers {
            for (head, strip) in tail.strips_mut(layer).iter_mut().enumerate() {
                for token in first..first + n {
                    let x: Vec<Halves> = (0..SHAPE.head_dim / WIDTH)
                        .map(|d| {
                            Halves([(seed + token * 31 + layer * 7 + head * 3 + d) as u16; WIDTH])
                        })
                        .collect();
                    strip.set(token, &x, &x);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn cutting_and_forgetting_leave_no_trace(n in 1usize..70, cut in 0usize..70, k in 0usize..70) {
            let (cut, k) = (cut.min(n), k.min(cut.min(n)));
            let mut tail = filled(n);
            let whole = tail.clone().freeze();
            tail.truncate(cut);
            prop_assert_eq!(&tail.clone().freeze(), &filled(cut).freeze());
            append(&mut tail, 0, n - cut);
            prop_assert_eq!(&tail.clone().freeze(), &whole);
            prop_assert_eq!(tail.freeze().content_digest(), whole.content_digest());
            let part = whole.slice(k..n);
            prop_assert_eq!(part.base() as usize, k);
            prop_assert_eq!(part.slice(cut - k..n - k), whole.slice(cut..n));
            prop_assert_eq!(whole.slice(0..n), whole);
        }
    }

    #[test]
    fn every_bit_is_in_the_digest() {
        let whole = filled(20).freeze();
        let mut other = filled(20);
        other.strips_mut(1)[2].values[19].0[15] ^= 1;
        let other = other.freeze();
        assert_ne!(other, whole);
        assert_ne!(other.content_digest(), whole.content_digest());
    }
}
