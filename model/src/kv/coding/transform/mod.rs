//! Codes across layers: what heads of neighbouring layers hold of a token goes together.
//!
//! Keys and values of a token are turned to axes along which they vary independently ([`basis`]), and what they are
//! there is coded with one step for all ([`coefficients`]): transform coding (Goyal, "Theoretical foundations of
//! transform coding", 2001), as pictures are coded. Nothing but codes stands in the bytes, and these are exactly as
//! many as the coding's name says, besides sixteen.

mod axes;
mod basis;
mod coefficients;
mod range_coder;

pub use basis::{Basis, BasisError};

use super::{KeyFrame, KvFragment, KvShape, PlainStrip};

/// Bytes of `n_tokens` tokens of which f16 has `ratio` times as many; `None` if they cannot be counted.
pub(super) fn n_bytes(ratio: usize, shape: KvShape, n_tokens: usize) -> Option<usize> {
    let heads = shape.n_layers.checked_mul(shape.n_kv_heads)?;
    let of_token = heads.checked_mul(shape.head_dim)?.checked_mul(2 * 2)?;
    let of_f16 = of_token.checked_mul(n_tokens)?;
    (of_f16 / ratio).checked_add(coefficients::BYTES_BESIDE)
}

/// Codes a fragment in exactly `n_bytes`; `None` if a number is not finite.
pub(super) fn encode(
    kv: &KvFragment,
    (frame, basis): (&KeyFrame, &Basis),
    n_bytes: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let numbers = basis.along_axes(kv, frame);
    coefficients::encode(&numbers, basis.deviations(), n_bytes, out)
}

/// All heads of a fragment, layer by layer; `None` if nobody wrote these bytes.
pub(super) fn decode(
    bytes: &[u8],
    basis: &Basis,
    n_tokens: usize,
    shape: KvShape,
) -> Option<Vec<PlainStrip>> {
    let numbers = coefficients::decode(bytes, basis.deviations(), n_tokens)?;
    Some(basis.heads(&numbers, n_tokens, shape))
}
