//! Rows as tiles: what codes are multiplied with where the processor has products of tiles.
//!
//! An integer of sixteen bits is the sum of two digits, `x & 255` and `x & !255`. A bf16 holds
//! either exactly, as it holds every code and every integer of eight bits; so a product of tiles,
//! which adds in f32, adds integers. A sum of some products of the digits of one output is a sum of
//! as many integers of at most 2^15 times a code: exact where that is 2^24 at most (`tile_products`
//! says for which codes).
//!
//! Invariant: rows behind the last are zero.

use rayon::prelude::*;

use super::block_floats::BlockFloats;
use crate::arithmetic::Arithmetic;
use crate::lanes::amx::{TILE_ROWS, Tile};
use crate::lanes::{Isa, Kernel, Lane, Lanes, Words};

/// Lanes of a word that hold half a unit.
const HALF: usize = 8;
/// The second of a pair.
const HIGH_HALF: u32 = 0xffff_0000;

/// Rows in blocks of sixteen. A unit of a block has two tiles where integers are of sixteen bits:
/// the low digits of all steps, then the high ones; or, where halves are wanted, both digits of the
/// first sixteen steps, the low ones first, then those of the others. It has one where integers are
/// of eight bits.
pub(super) struct TileRows {
    n_units: usize,
    n_tiles: usize,
    /// `[n_blocks][n_units][n_tiles]`.
    tiles: Vec<Tile>,
    /// `[n_blocks][n_units]`.
    scales: Vec<BlockScales>,
}

/// Scales and sums of a unit of sixteen rows, a lane each.
#[derive(Clone, Copy)]
pub(super) struct BlockScales {
    /// What an integer is multiplied with.
    pub scale: Lane,
    /// Sums of numbers: of the whole unit, or of each half where tiles hold halves.
    pub scaled_sums: [Lane; 2],
}

impl TileRows {
    /// The same rows, for weights of which `halves` of units have scales of their own or not. Runs
    /// on the current pool.
    pub fn of(isa: Isa, rows: &BlockFloats, n_units: usize, halves: bool) -> Self {
        let n_blocks = rows.n_rows().div_ceil(TILE_ROWS);
        let n_tiles = match rows.arithmetic() {
            Arithmetic::Int16 => 2,
            Arithmetic::Int8 => 1,
        };
        let none = BlockScales {
            scale: Lane::ZERO,
            scaled_sums: [Lane::ZERO; 2],
        };
        let mut tiles = vec![Tile::ZERO; n_blocks * n_units * n_tiles];
        let mut scales = vec![none; n_units * n_blocks];
        let of_block = tiles
            .par_chunks_mut(n_units * n_tiles)
            .zip(scales.par_chunks_mut(n_units));
        of_block.enumerate().for_each(|(block, (tiles, scales))| {
            isa.run(Spread {
                halves,
                rows,
                block,
                n_tiles,
                tiles,
                block_scales: scales,
            });
        });
        Self {
            n_units,
            n_tiles,
            tiles,
            scales,
        }
    }

    /// Number of blocks of sixteen rows.
    pub fn n_blocks(&self) -> usize {
        self.scales.len() / self.n_units
    }

    /// Tiles of `n` units of a block from number `first` on.
    pub fn tiles(&self, block: usize, first: usize, n: usize) -> &[Tile] {
        let unit = block * self.n_units + first;
        &self.tiles[unit * self.n_tiles..][..n * self.n_tiles]
    }

    /// Scales of the same.
    pub fn scales(&self, block: usize, first: usize, n: usize) -> &[BlockScales] {
        &self.scales[block * self.n_units + first..][..n]
    }
}

/// One block of rows.
struct Spread<'a> {
    halves: bool,
    rows: &'a BlockFloats,
    block: usize,
    n_tiles: usize,
    /// `[n_units][n_tiles]`.
    tiles: &'a mut [Tile],
    /// `[n_units]`.
    block_scales: &'a mut [BlockScales],
}

impl Kernel for Spread<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let first = self.block * TILE_ROWS;
        let n = TILE_ROWS.min(self.rows.n_rows() - first);
        let tiles = self.tiles.chunks_exact_mut(self.n_tiles);
        for (unit, (tiles, block_scales)) in tiles.zip(self.block_scales).enumerate() {
            let units = &self.rows.units(unit, 1)[first..first + n];
            let scales = &self.rows.scales(unit, 1)[first..first + n];
            for (row, (words, scale)) in units.iter().zip(scales).enumerate() {
                block_scales.scale.0[row] = scale.scale;
                let sums = if self.halves {
                    scale.scaled_sums
                } else {
                    [scale.scaled_sum; 2]
                };
                for (to, sum) in block_scales.scaled_sums.iter_mut().zip(sums) {
                    to.0[row] = sum;
                }
                match tiles {
                    [low, high] if self.halves => {
                        let digits = digits(l, words).map(|digits| digits.0);
                        for (i, tile) in [low, high].into_iter().enumerate() {
                            for (half, digits) in digits.iter().enumerate() {
                                tile.0[row].0[HALF * half..][..HALF]
                                    .copy_from_slice(&digits[HALF * i..][..HALF]);
                            }
                        }
                    }
                    [low, high] => [low.0[row], high.0[row]] = digits(l, words),
                    [tile, ..] => tile.0[row] = floats(l, words),
                    [] => {}
                }
            }
        }
    }
}

/// Pairs of integers of eight bits as pairs of bf16.
#[inline(always)]
fn floats<L: Lanes>(l: L, pairs: &Words) -> Words {
    let pairs = l.load_words(pairs);
    // Shifted up to where the sign is, an integer is 2^16 times what it should be.
    let down = l.splat(1.0 / 65536.0);
    let first = l.bits(l.mul(l.to_f32(l.shl(pairs, 16)), down));
    let second = l.bits(l.mul(l.to_f32(l.and(pairs, HIGH_HALF)), down));
    // Of a float of eight bits the lower half is zero.
    let mut floats = Words([0; 16]);
    l.store_words(l.or(l.shr(first, 16), second), &mut floats);
    floats
}

/// Low and high digits of pairs of integers, as pairs of bf16.
#[inline(always)]
fn digits<L: Lanes>(l: L, pairs: &Words) -> [Words; 2] {
    let pairs = l.load_words(pairs);
    // Of a float of eight bits, which a digit is, the lower half is zero.
    let low_of_first = l.bits(l.to_f32(l.and(pairs, 0xff)));
    let low_of_second = l.bits(l.to_f32(l.and(l.shr(pairs, 16), 0xff)));
    // Shifted up to where the sign is, a digit is 2^16 times what it should be.
    let down = l.splat(1.0 / 65536.0);
    let high_of_first = l.to_f32(l.and(l.shl(pairs, 16), 0xff00_0000));
    let high_of_first = l.bits(l.mul(high_of_first, down));
    let high_of_second = l.bits(l.mul(l.to_f32(l.and(pairs, 0xff00_0000)), down));
    let mut digits = [Words([0; 16]); 2];
    let low = l.or(l.shr(low_of_first, 16), low_of_second);
    let high = l.or(l.shr(high_of_first, 16), high_of_second);
    l.store_words(low, &mut digits[0]);
    l.store_words(high, &mut digits[1]);
    digits
}
