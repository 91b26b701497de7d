//! Values by token: all dimensions of one token's value in one head share a range.
//!
//! Attention adds values up, each weighted by its token: so an error of a token's value counts as
//! much as that token does, and no more.
//!
//! ```text
//! for every token: its range, then codes [head_dim]
//! ```

use super::channels::covering;
use super::range::{CodeRange, RANGE_BYTES, pack, unpack};
use crate::lanes::{Lane, WIDTH};

/// Bytes of one head's values.
pub(super) fn n_bytes(bits: u8, head_dim: usize, n_tokens: usize) -> Option<usize> {
    let of_token = head_dim.checked_mul(usize::from(bits))? / 8;
    of_token.checked_add(RANGE_BYTES)?.checked_mul(n_tokens)
}

/// Codes values `[n_tokens][head_dim]`; `None` if one is not finite.
pub(super) fn encode(bits: u8, values: &[f32], head_dim: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut codes = Vec::with_capacity(head_dim);
    for value in values.chunks_exact(head_dim) {
        let range = covering(value.iter().copied(), bits)?;
        let inverse = range.inverse();
        range.write(out);
        codes.clear();
        codes.extend(value.iter().map(|x| range.code(*x, inverse)));
        pack(bits, &codes, out);
    }
    Some(())
}

/// Values `[n_tokens][head_dim / 16]`; `None` if codes stand for no finite number.
pub(super) fn decode(
    bits: u8,
    head_dim: usize,
    n_tokens: usize,
    from: &mut &[u8],
) -> Option<Vec<Lane>> {
    let mut values = vec![Lane::ZERO; n_tokens * (head_dim / WIDTH)];
    for value in values.chunks_exact_mut(head_dim / WIDTH) {
        let (range, codes) = from.split_first_chunk::<RANGE_BYTES>()?;
        let range = CodeRange::read(range, bits)?;
        *from = codes;
        let codes = from.split_off(..head_dim * usize::from(bits) / 8)?;
        for (lane, first) in value.iter_mut().zip((0..).step_by(WIDTH)) {
            for (i, x) in lane.0.iter_mut().enumerate() {
                *x = range.number(unpack(bits, codes, first + i));
            }
        }
    }
    Some(values)
}
