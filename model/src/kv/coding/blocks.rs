//! Baselines: keys and values as they are stored, in blocks of 32 dimensions of a token, as
//! llama.cpp's `q8_0` and `q4_0` code a cache.
//!
//! ```text
//! keys, then values, of every token: blocks of 32 (16 where a head has no whole ones), each
//! a scale, then its codes
//! ```

use half::f16;

use super::range::{pack, unpack};
use crate::kv::Strip;
use crate::lanes::{Halves, WIDTH};

/// Bytes of a scale.
const SCALE_BYTES: usize = 2;

fn block_len(head_dim: usize) -> usize {
    if head_dim.is_multiple_of(32) { 32 } else { 16 }
}

/// Bytes of one head's keys, or values.
pub(super) fn n_bytes(bits: u8, head_dim: usize, n_tokens: usize) -> Option<usize> {
    let of_block = SCALE_BYTES + block_len(head_dim) * usize::from(bits) / 8;
    let n_blocks = head_dim / block_len(head_dim);
    of_block.checked_mul(n_blocks)?.checked_mul(n_tokens)
}

/// Codes a strip; `None` if a number is not finite.
pub(super) fn encode(
    bits: u8,
    strip: &Strip,
    head_dim: usize,
    n_tokens: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    for token in 0..n_tokens {
        block_row(bits, &key(strip, head_dim, token), out)?;
    }
    for value in strip.values.chunks_exact(head_dim / WIDTH) {
        let value: Vec<f32> = value.iter().flat_map(|h| h.0).map(number).collect();
        block_row(bits, &value, out)?;
    }
    Some(())
}

fn number(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

fn key(strip: &Strip, head_dim: usize, token: usize) -> Vec<f32> {
    let tile = &strip.keys[token / WIDTH * head_dim..][..head_dim];
    let of_token = tile.iter().map(|dimension| dimension.0[token % WIDTH]);
    of_token.map(number).collect()
}

fn block_row(bits: u8, row: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let middle = f32::from(1u8 << (bits - 1));
    let mut codes = Vec::new();
    for block in row.chunks_exact(block_len(row.len())) {
        if block.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let largest = block
            .iter()
            .copied()
            .fold(0f32, |a, b| if b.abs() > a.abs() { b } else { a });
        // Of four bits, the code at the end of the longer side is the largest number.
        let scale = match bits {
            8 => largest.abs() / (middle - 1.0),
            _ => -largest / middle,
        };
        let scale = f16::from_f32(scale);
        let inverse = match scale.to_f32() {
            0.0 => 0.0,
            scale => 1.0 / scale,
        };
        out.extend(scale.to_le_bytes());
        codes.clear();
        let code = |x: &f32| (x * inverse + middle + 0.5).clamp(0.0, 2.0 * middle - 1.0) as u8;
        codes.extend(block.iter().map(code));
        pack(bits, &codes, out);
    }
    Some(())
}

/// Decodes a strip; `None` if codes stand for no finite number.
pub(super) fn decode(
    bits: u8,
    head_dim: usize,
    n_tokens: usize,
    from: &mut &[u8],
) -> Option<Strip> {
    let mut strip = Strip::default();
    strip.grow(head_dim, n_tokens);
    let mut row = vec![0u16; head_dim];
    for token in 0..n_tokens {
        numbers_of_row(bits, &mut row, from)?;
        let tile = &mut strip.keys[token / WIDTH * head_dim..][..head_dim];
        for (dimension, x) in tile.iter_mut().zip(&row) {
            dimension.0[token % WIDTH] = *x;
        }
    }
    for value in strip.values.chunks_exact_mut(head_dim / WIDTH) {
        numbers_of_row(bits, &mut row, from)?;
        for (halves, row) in value.iter_mut().zip(row.as_chunks().0) {
            *halves = Halves(*row);
        }
    }
    Some(strip)
}

fn numbers_of_row(bits: u8, row: &mut [u16], from: &mut &[u8]) -> Option<()> {
    let middle = f32::from(1u8 << (bits - 1));
    let len = block_len(row.len());
    for block in row.chunks_exact_mut(len) {
        let (scale, rest) = from.split_first_chunk()?;
        *from = rest;
        let scale = f16::from_le_bytes(*scale).to_f32();
        let codes = from.split_off(..len * usize::from(bits) / 8)?;
        for (i, x) in block.iter_mut().enumerate() {
            let number = f16::from_f32((f32::from(unpack(bits, codes, i)) - middle) * scale);
            if !number.is_finite() {
                return None;
            }
            *x = number.to_bits();
        }
    }
    Some(())
}
