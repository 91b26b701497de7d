//! Rows as tiles: what codes are multiplied with where the processor has products of tiles.
//!
//! An integer of sixteen bits is the sum of two digits, `x & 255` and `x & !255`. A bf16 holds
//! either exactly, as it holds every code; so a product of tiles, which adds in f32, adds
//! integers. A sum of some products of the digits of one output is a sum of as many integers of at
//! most 2^15 times a code: exact where that is 2^24 at most (`tile_products` says for which codes).
//!
//! Invariant: rows behind the last are zero.

use rayon::prelude::*;

use super::block_floats::{BlockFloats, UnitScale};
use crate::lanes::amx::{TILE_ROWS, Tile};
use crate::lanes::{Isa, Kernel, Lane, Lanes, Words};

/// Lanes of a word that hold half a unit.
const HALF: usize = 8;

/// What lies in the two tiles of a unit of sixteen rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The low digits of all steps, then the high ones.
    Digits,
    /// Both digits of the first sixteen steps, the low ones first, then those of the others.
    Halves,
}

/// Rows in blocks of sixteen.
pub(super) struct TileRows {
    n_blocks: usize,
    /// `[n_units][n_blocks]`.
    tiles: Vec<[Tile; 2]>,
    /// `[n_units][n_blocks]`.
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
    /// The same rows. Runs on the current pool.
    pub fn of(isa: Isa, rows: &BlockFloats, n_units: usize, order: Order) -> Self {
        let n_blocks = rows.n_rows().div_ceil(TILE_ROWS);
        let none = BlockScales {
            scale: Lane::ZERO,
            scaled_sums: [Lane::ZERO; 2],
        };
        let mut tiles = vec![[Tile::ZERO; 2]; n_units * n_blocks];
        let mut scales = vec![none; n_units * n_blocks];
        let of_unit = tiles
            .par_chunks_mut(n_blocks)
            .zip(scales.par_chunks_mut(n_blocks));
        of_unit.enumerate().for_each(|(unit, (tiles, scales))| {
            isa.run(Spread {
                order,
                units: rows.units(unit, 1),
                scales: rows.scales(unit, 1),
                tiles,
                block_scales: scales,
            });
        });
        Self {
            n_blocks,
            tiles,
            scales,
        }
    }

    /// Number of blocks of sixteen rows.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Tiles of `n` units from number `first` on, `[n][n_blocks]`.
    pub fn tiles(&self, first: usize, n: usize) -> &[[Tile; 2]] {
        &self.tiles[first * self.n_blocks..][..n * self.n_blocks]
    }

    /// Scales of the same.
    pub fn scales(&self, first: usize, n: usize) -> &[BlockScales] {
        &self.scales[first * self.n_blocks..][..n * self.n_blocks]
    }
}

/// One unit of all rows.
struct Spread<'a> {
    order: Order,
    /// `[n_rows]`.
    units: &'a [Words],
    /// `[n_rows]`.
    scales: &'a [UnitScale],
    /// `[n_blocks]`.
    tiles: &'a mut [[Tile; 2]],
    /// `[n_blocks]`.
    block_scales: &'a mut [BlockScales],
}

impl Kernel for Spread<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let blocks = self.units.chunks(TILE_ROWS);
        let blocks = blocks.zip(self.scales.chunks(TILE_ROWS));
        let to = self.tiles.iter_mut().zip(self.block_scales);
        for ((units, scales), (tiles, block_scales)) in blocks.zip(to) {
            for (row, (words, scale)) in units.iter().zip(scales).enumerate() {
                let [low, high] = digits(l, words);
                for i in 0..2 {
                    let to = &mut tiles[i].0[row].0;
                    match self.order {
                        Order::Digits => *to = if i == 0 { low.0 } else { high.0 },
                        Order::Halves => {
                            to[..HALF].copy_from_slice(&low.0[HALF * i..][..HALF]);
                            to[HALF..].copy_from_slice(&high.0[HALF * i..][..HALF]);
                        }
                    }
                    block_scales.scaled_sums[i].0[row] = match self.order {
                        Order::Digits => scale.scaled_sum,
                        Order::Halves => scale.scaled_sums[i],
                    };
                }
                block_scales.scale.0[row] = scale.scale;
            }
        }
    }
}

/// Low and high digits of pairs of integers, as pairs of bf16.
#[inline(always)]
fn digits<L: Lanes>(l: L, pairs: &Words) -> [Words; 2] {
    const HIGH_HALF: u32 = 0xffff_0000;
    let pairs = l.load_words(pairs);
    // Of a float that is such a digit the lower half is zero.
    let low_of_first = l.bits(l.to_f32(l.and(pairs, 0xff)));
    let low_of_second = l.bits(l.to_f32(l.and(l.shr(pairs, 16), 0xff)));
    // Shifted up to where the sign is, a digit is 2^16 times what it should be.
    let down = l.splat(1.0 / 65536.0);
    let high_of_first = l.to_f32(l.and(l.shl(pairs, 16), 0xff00_0000));
    let high_of_first = l.bits(l.mul(high_of_first, down));
    let high_of_second = l.bits(l.mul(l.to_f32(l.and(pairs, 0xff00_0000)), down));
    let mut digits = [Words([0; 16]); 2];
    let low = l.or(l.shr(low_of_first, 16), l.and(low_of_second, HIGH_HALF));
    let high = l.or(l.shr(high_of_first, 16), l.and(high_of_second, HIGH_HALF));
    l.store_words(low, &mut digits[0]);
    l.store_words(high, &mut digits[1]);
    digits
}
