//! Keys by channel: each dimension has a range of its own, over up to 128 tokens.
//!
//! A dimension of un-rotated keys varies little between tokens, and much between dimensions: some
//! are ten times as wide as others, and a range that they shared would be theirs (KIVI,
//! arXiv 2402.02750; KVQuant, arXiv 2401.18079).
//!
//! ```text
//! for every 128 tokens: [head_dim] ranges, then codes [head_dim][n_tokens]
//! ```

use super::range::{CodeRange, RANGE_BYTES, pack, unpack};
use crate::lanes::{Lane, WIDTH};

/// Tokens that share ranges, whole tiles.
const GROUP_TOKENS: usize = 128;

/// Bytes of one head's keys.
pub(super) fn n_bytes(bits: u8, head_dim: usize, n_tokens: usize) -> Option<usize> {
    let ranges = n_tokens.div_ceil(GROUP_TOKENS).checked_mul(RANGE_BYTES)?;
    let codes = n_tokens.checked_mul(usize::from(bits))?;
    // Dimensions are a multiple of sixteen, so codes of four bits fill bytes.
    ranges
        .checked_mul(head_dim)?
        .checked_add(codes.checked_mul(head_dim)? / 8)
}

/// Codes keys `[n_tiles][head_dim]`; `None` if one is not finite.
pub(super) fn encode(
    bits: u8,
    keys: &[Lane],
    head_dim: usize,
    n_tokens: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut codes = Vec::new();
    for (number, group) in keys.chunks(GROUP_TOKENS / WIDTH * head_dim).enumerate() {
        let n = (n_tokens - number * GROUP_TOKENS).min(GROUP_TOKENS);
        codes.clear();
        for dimension in 0..head_dim {
            let tiles = group[dimension..].iter().step_by(head_dim);
            let channel = || tiles.clone().flat_map(|lane| lane.0).take(n);
            let range = covering(channel(), bits)?;
            let inverse = range.inverse();
            range.write(out);
            codes.extend(channel().map(|x| range.code(x, inverse)));
        }
        pack(bits, &codes, out);
    }
    Some(())
}

/// The range of some numbers; `None` if one is not finite.
pub(super) fn covering(numbers: impl Iterator<Item = f32>, bits: u8) -> Option<CodeRange> {
    let (mut least, mut most, mut all_finite) = (f32::INFINITY, f32::NEG_INFINITY, true);
    for x in numbers {
        (least, most) = (least.min(x), most.max(x));
        all_finite &= x.is_finite();
    }
    CodeRange::covering(least, most, bits).filter(|_| all_finite)
}

/// Keys `[n_tiles][head_dim]`, zero behind the last; `None` if codes stand for no finite number.
pub(super) fn decode(
    bits: u8,
    head_dim: usize,
    n_tokens: usize,
    from: &mut &[u8],
) -> Option<Vec<Lane>> {
    let mut keys = vec![Lane::ZERO; n_tokens.div_ceil(WIDTH) * head_dim];
    for (number, group) in keys.chunks_mut(GROUP_TOKENS / WIDTH * head_dim).enumerate() {
        let n = (n_tokens - number * GROUP_TOKENS).min(GROUP_TOKENS);
        let ranges = from.split_off(..head_dim * RANGE_BYTES)?;
        let codes = from.split_off(..head_dim * n * usize::from(bits) / 8)?;
        for (dimension, range) in ranges.as_chunks().0.iter().enumerate() {
            let range = CodeRange::read(range, bits)?;
            for token in 0..n {
                let code = unpack(bits, codes, dimension * n + token);
                group[token / WIDTH * head_dim + dimension].0[token % WIDTH] = range.number(code);
            }
        }
    }
    Some(keys)
}
