//! Codes across layers: what neighbouring layers say of a token is much the same.
//!
//! All keys of a token in a group of layers are one long vector, and so are its values. A [`Basis`],
//! learnt once per model on fragments of any texts, turns it to axes that vary independently; each
//! axis gets as many bits as pay most (transform coding: Goyal, "Theoretical foundations of transform
//! coding", 2001; across layers: xKV, arXiv 2503.18893). Axes that hardly vary get none.
//!
//! ```text
//! for every group of layers, keys, then values: for every token the codes of all axes that have any,
//! one behind the other from the lowest bit on, filled up to whole bytes
//! ```
//! A code of `b` bits stands for one of `2^b` numbers that are evenly apart, by the step that loses
//! least of a normal distribution of the axis's deviation. So nothing is stored beside the codes.

mod axes;
mod basis;
mod bits;

pub use basis::{Basis, BasisError};

use super::KeyFrame;
use super::frame::PlainStrip;
use crate::kv::{KvFragment, KvShape};
use crate::lanes::{Lane, WIDTH};

/// Codes a fragment; `None` if a number is not finite, or the frame has no basis.
pub(super) fn encode(
    ratio: u8,
    kv: &KvFragment,
    frame: &KeyFrame,
    out: &mut Vec<u8>,
) -> Option<()> {
    let basis = frame.basis()?;
    for group in basis.groups() {
        for of_keys in [true, false] {
            let part = if of_keys { &group.keys } else { &group.values };
            let rows = rows(kv, frame, group.layers.clone(), of_keys);
            part.encode(ratio, &rows, out)?;
        }
    }
    Some(())
}

/// All heads of a fragment, `[n_layers][n_kv_heads]`; `None` as for [`encode`], or if codes are cut.
pub(super) fn decode(
    ratio: u8,
    n_tokens: usize,
    frame: &KeyFrame,
    from: &mut &[u8],
) -> Option<Vec<PlainStrip>> {
    let basis = frame.basis()?;
    let shape = frame.shape();
    let (head_dim, width) = (shape.head_dim, shape.head_dim / WIDTH);
    let mut strips = Vec::with_capacity(shape.n_layers * shape.n_kv_heads);
    for group in basis.groups() {
        let keys = group.keys.decode(ratio, n_tokens, from)?;
        let values = group.values.decode(ratio, n_tokens, from)?;
        for head in 0..group.layers.len() * shape.n_kv_heads {
            let mut strip = PlainStrip {
                keys: vec![Lane::ZERO; n_tokens.div_ceil(WIDTH) * head_dim],
                values: vec![Lane::ZERO; n_tokens * width],
            };
            for token in 0..n_tokens {
                let key = &keys[token][head * head_dim..][..head_dim];
                let tile = &mut strip.keys[token / WIDTH * head_dim..][..head_dim];
                for (dimension, x) in tile.iter_mut().zip(key) {
                    dimension.0[token % WIDTH] = *x;
                }
                let value = values[token][head * head_dim..][..head_dim].as_chunks().0;
                for (lane, value) in strip.values[token * width..].iter_mut().zip(value) {
                    lane.0 = *value;
                }
            }
            strips.push(strip);
        }
    }
    Some(strips)
}

/// Bytes of `n_tokens` tokens; `None` if they cannot be counted.
pub(super) fn n_bytes(ratio: u8, shape: KvShape, n_tokens: usize) -> Option<usize> {
    let of_group = |layers| basis::n_bytes_of(shape, &layers, ratio);
    let of_token = basis::groups_of(shape.n_layers)
        .try_fold(0usize, |sum, layers| sum.checked_add(of_group(layers)?))?;
    of_token.checked_mul(2)?.checked_mul(n_tokens)
}

/// A token's keys, or values, of all heads of some layers: `[n_tokens][n_layers * n_kv_heads *
/// head_dim]`.
fn rows(
    kv: &KvFragment,
    frame: &KeyFrame,
    layers: std::ops::Range<usize>,
    of_keys: bool,
) -> Vec<Vec<f32>> {
    let shape = kv.shape();
    let head_dim = shape.head_dim;
    let mut rows = vec![Vec::new(); kv.n_tokens()];
    for layer in layers {
        for kv_head in 0..shape.n_kv_heads {
            if of_keys {
                let keys = frame.plain_keys(kv, layer, kv_head);
                for (token, row) in rows.iter_mut().enumerate() {
                    let tile = &keys[token / WIDTH * head_dim..][..head_dim];
                    row.extend(tile.iter().map(|dimension| dimension.0[token % WIDTH]));
                }
            } else {
                let plain = frame.plain(kv, layer, kv_head);
                for (row, value) in rows.iter_mut().zip(plain.values().chunks_exact(head_dim)) {
                    row.extend(value);
                }
            }
        }
    }
    rows
}
