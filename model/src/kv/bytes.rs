//! A fragment as bytes, and back: what is kept of it outside this process.
//!
//! ```text
//! head 0 of layer 0 | head 1 of layer 0 | … | head 0 of layer 1 | …
//! each: keys [n_tiles][head_dim][16], then values [n_tokens][head_dim]
//! ```
//! in u16 little endian, the bits of f16; a tile is sixteen tokens, and what stands behind the
//! last token in the last one is zero. So the bytes are those in memory, and equal fragments
//! are equal bytes.

use super::{KvFragment, KvShape, Strip};
use crate::lanes::{Halves, WIDTH};

/// Bytes of sixteen halves.
const HALVES_BYTES: usize = 2 * WIDTH;

impl KvShape {
    /// Bytes that `n_tokens` tokens take, the rest of the last tile included; `None` if no
    /// fragment has this shape or it cannot be counted.
    pub fn n_bytes(&self, n_tokens: usize) -> Option<usize> {
        let (keys, values) = self.strip_lens(n_tokens)?;
        let n_strips = self.n_layers.checked_mul(self.n_kv_heads)?;
        keys.checked_add(values)?
            .checked_mul(HALVES_BYTES)?
            .checked_mul(n_strips)
    }

    /// Halves of keys and of values of one head.
    fn strip_lens(&self, n_tokens: usize) -> Option<(usize, usize)> {
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(WIDTH) {
            return None;
        }
        let keys = n_tokens.div_ceil(WIDTH).checked_mul(self.head_dim)?;
        let values = n_tokens.checked_mul(self.head_dim / WIDTH)?;
        Some((keys, values))
    }
}

impl KvFragment {
    /// Its keys and values as bytes, [`KvShape::n_bytes`] many.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.n_bytes());
        for strip in &self.strips {
            for halves in strip.keys.iter().chain(&strip.values) {
                bytes.extend(halves.0.map(u16::to_le_bytes).as_flattened());
            }
        }
        bytes
    }

    /// The fragment of `n_tokens` tokens, the first rotated at `base`, with these bytes.
    /// `None` if a fragment of this shape has another number of them.
    pub fn from_bytes(shape: KvShape, base: u32, n_tokens: usize, bytes: &[u8]) -> Option<Self> {
        if shape.n_bytes(n_tokens)? != bytes.len() {
            return None;
        }
        let (n_keys, n_values) = shape.strip_lens(n_tokens)?;
        let mut rest = bytes.as_chunks::<HALVES_BYTES>().0.iter();
        let mut take = |n: usize| -> Vec<Halves> { rest.by_ref().take(n).map(halves).collect() };
        let mut strip = || Strip {
            keys: take(n_keys),
            values: take(n_values),
        };
        let n_strips = shape.n_layers * shape.n_kv_heads;
        Some(Self {
            shape,
            base,
            n_tokens,
            strips: (0..n_strips).map(|_| strip()).collect(),
        })
    }
}

fn halves(bytes: &[u8; HALVES_BYTES]) -> Halves {
    let mut halves = Halves::ZERO;
    for (half, bytes) in halves.0.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *half = u16::from_le_bytes(*bytes);
    }
    halves
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{SHAPE, filled};
    use super::*;

    proptest! {
        #[test]
        fn bytes_become_the_fragment_again(n in 0usize..70, from in 0usize..70) {
            let whole = filled(n).freeze();
            let fragment = whole.slice(from.min(n)..n);
            let bytes = fragment.to_bytes();
            prop_assert_eq!(bytes.len(), fragment.n_bytes());
            prop_assert_eq!(SHAPE.n_bytes(fragment.n_tokens()), Some(bytes.len()));
            let n_tokens = fragment.n_tokens();
            let again = KvFragment::from_bytes(SHAPE, fragment.base(), n_tokens, &bytes);
            prop_assert_eq!(again.as_ref(), Some(&fragment));
            prop_assert!(KvFragment::from_bytes(SHAPE, 0, n_tokens + 1, &bytes).is_none());
        }
    }

    #[test]
    fn a_shape_that_cannot_be_has_no_bytes() {
        let of = |n_layers, head_dim| KvShape {
            n_layers,
            n_kv_heads: 1,
            head_dim,
        };
        assert_eq!(of(1, 17).n_bytes(4), None);
        assert_eq!(of(1, 1 << 62).n_bytes(usize::MAX), None);
        assert_eq!(of(usize::MAX, 16).n_bytes(1), None);
        assert_eq!(of(1, 16).n_bytes(1), Some(32 * 17));
    }
}
