//! Products of many rows with codes, by products of tiles.
//!
//! Contract: that of `integers`, bit for bit. The integers of a group are summed up in f32, which is
//! exact here: every sum of some products of one output is an integer of at most 2^24, or 256 times
//! such a one. [`Sums::of`] says how that is had for each format, and of which formats it is not.
//!
//! A stretch of some panels is written out as tiles of bf16. Two blocks of sixteen rows stay in the
//! first cache while the panels pass over them. The sums of a unit are used some units after they
//! were computed: stores of tiles are slow, and who waits for them keeps the processor from
//! beginning the next.

use std::marker::PhantomData;
use std::ops::Range;

use super::block_floats::BlockFloats;
use super::codes::{Codes, PAIRS, Rule, codes_of_pair};
use super::integers::{UnderRule, under_rule};
use super::packed::CodeStore;
use super::tile_rows::{BlockScales, Order, TileRows};
use crate::lanes::amx::{Amx, Configured, SumTile, TILE_ROWS, Tile};
use crate::lanes::{Isa, Kernel, Lane, Lanes};
use crate::quant::{BlockFormat, ScaleRule};

/// Fewer rows are sooner multiplied by lanes.
const MIN_ROWS: usize = 8;
/// Units of a stretch: tiles of two blocks of rows take 32 KiB.
const STRETCH: usize = 8;
/// Panels that are written out together.
const PANELS: usize = 16;
/// Blocks of rows that pass over a panel together.
const BLOCKS: usize = 2;
/// How many units later sums are used.
const LAG: usize = 2;
/// Sums that are held.
const RING: usize = 4;

/// How the sums of a unit are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sums {
    /// One group; codes so small that both digits are summed up together.
    Whole,
    /// One group; low and high digits are summed up apart, and joined by one rounding.
    Digits,
    /// Two groups of small codes.
    Halves,
}

impl Sums {
    /// How they are had for a format, if they are exact.
    fn of(format: BlockFormat) -> Option<Self> {
        /// Of codes less their bias, for which 32 times 2^15 times a code is 2^24 at most.
        const SMALL: usize = 16;
        let largest =
            |bias: u8| usize::from(bias).max((1 << format.n_bits) - 1 - usize::from(bias));
        match format.rule {
            ScaleRule::Offset { bias } if largest(bias) <= SMALL => Some(Self::Whole),
            ScaleRule::Affine | ScaleRule::Affine32 if largest(0) <= SMALL => Some(Self::Whole),
            ScaleRule::Offset { .. } | ScaleRule::Affine | ScaleRule::Affine32 => {
                Some(Self::Digits)
            }
            ScaleRule::Affine16 if largest(0) <= 2 * SMALL => Some(Self::Halves),
            ScaleRule::Offset16 { bias } if largest(bias) <= 2 * SMALL => Some(Self::Halves),
            ScaleRule::Affine16 | ScaleRule::Offset16 { .. } => None,
        }
    }

    /// What rows must be spread as.
    fn order(self) -> Order {
        match self {
            Self::Whole | Self::Digits => Order::Digits,
            Self::Halves => Order::Halves,
        }
    }
}

/// Rows that are spread over tiles, where that pays.
#[derive(Default)]
pub(super) struct SpreadRows {
    digits: Option<(Amx, TileRows)>,
    halves: Option<(Amx, TileRows)>,
}

impl SpreadRows {
    /// Spreads rows for weights of a format, unless there are few or their sums are not exact.
    /// Runs on the current pool.
    pub fn spread(&mut self, isa: Isa, rows: &BlockFloats, format: BlockFormat, n_units: usize) {
        let (Isa::Amx(amx), Some(sums)) = (isa, Sums::of(format)) else {
            return;
        };
        if rows.n_rows() < MIN_ROWS {
            return;
        }
        let spread = match sums.order() {
            Order::Digits => &mut self.digits,
            Order::Halves => &mut self.halves,
        };
        spread.get_or_insert_with(|| (amx, TileRows::of(isa, rows, n_units, sums.order())));
    }

    /// The outputs of a range of panels for all rows, if they were spread for such weights. `out` is
    /// `[range][n_rows]`.
    pub fn panels(
        &self,
        store: &CodeStore,
        n_units: usize,
        range: Range<usize>,
        out: &mut [Lane],
    ) -> bool {
        let Some(sums) = Sums::of(store.format) else {
            return false;
        };
        let spread = match sums.order() {
            Order::Digits => &self.digits,
            Order::Halves => &self.halves,
        };
        let Some((amx, rows)) = spread else {
            return false;
        };
        panels(*amx, sums, store, n_units, range, rows, out);
        true
    }
}

fn panels(
    amx: Amx,
    sums: Sums,
    store: &CodeStore,
    n_units: usize,
    range: Range<usize>,
    x: &TileRows,
    out: &mut [Lane],
) {
    let has_offset = !matches!(
        store.format.rule,
        ScaleRule::Offset { .. } | ScaleRule::Offset16 { .. }
    );
    let n_rows = out.len() / range.len().max(1);
    let tiles = amx.configure();
    let n_written = PANELS.min(range.len()) * STRETCH;
    macro_rules! products {
        ($sums:ty, $has_offset:literal) => {
            amx.lanes().run(TileProducts::<$sums, $has_offset> {
                tiles: &tiles,
                store,
                n_units,
                range,
                x,
                n_rows,
                out,
                sums: PhantomData,
                written: Written {
                    weights: vec![Tile::ZERO; n_written * <$sums>::N_GROUPS],
                    scales: vec![GroupScales::ZERO; n_written],
                },
            })
        };
    }
    match (sums, has_offset) {
        (Sums::Whole, false) => products!(Whole, false),
        (Sums::Whole, true) => products!(Whole, true),
        (Sums::Digits, false) => products!(Digits, false),
        (Sums::Digits, true) => products!(Digits, true),
        (Sums::Halves, false) => products!(Halves, false),
        (Sums::Halves, true) => products!(Halves, true),
    }
}

/// What a written unit of a panel has besides its tiles.
#[derive(Clone, Copy)]
struct GroupScales {
    scales: [Lane; 2],
    /// Where weights have offsets.
    offsets: [Lane; 2],
}

impl GroupScales {
    const ZERO: Self = Self {
        scales: [Lane::ZERO; 2],
        offsets: [Lane::ZERO; 2],
    };
}

/// A unit of a block of rows.
type X = [Tile; 2];
/// The sums of a unit of a panel with a block of rows: those that there are first.
type UnitSums = [SumTile; 2];

/// What distinguishes the ways to have sums.
trait Summing {
    /// Groups of a unit, each of which has a tile of weights.
    const N_GROUPS: usize;

    /// The sums of unit `unit` of some weights.
    fn multiply(tiles: &Configured, x: &X, weights: &[Tile], unit: usize, sums: &mut UnitSums);

    /// Sum number `group` of a row, as one f32.
    fn sum<L: Lanes>(l: L, sums: &UnitSums, group: usize, row: usize) -> L::F;
}

struct Whole;
struct Digits;
struct Halves;

impl Summing for Whole {
    const N_GROUPS: usize = 1;
    #[inline(always)]
    fn multiply(tiles: &Configured, x: &X, weights: &[Tile], unit: usize, sums: &mut UnitSums) {
        tiles.multiply_both(x, &weights.as_chunks::<1>().0[unit], sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, _group: usize, row: usize) -> L::F {
        l.load(&sums[0].0[row])
    }
}

impl Summing for Digits {
    const N_GROUPS: usize = 1;
    #[inline(always)]
    fn multiply(tiles: &Configured, x: &X, weights: &[Tile], unit: usize, sums: &mut UnitSums) {
        tiles.multiply_each(x, &weights.as_chunks::<1>().0[unit], sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, _group: usize, row: usize) -> L::F {
        l.add(l.load(&sums[0].0[row]), l.load(&sums[1].0[row]))
    }
}

impl Summing for Halves {
    const N_GROUPS: usize = 2;
    #[inline(always)]
    fn multiply(tiles: &Configured, x: &X, weights: &[Tile], unit: usize, sums: &mut UnitSums) {
        tiles.multiply_pairs(x, &weights.as_chunks::<2>().0[unit], sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, group: usize, row: usize) -> L::F {
        l.load(&sums[group].0[row])
    }
}

/// All rows times a range of panels.
struct TileProducts<'a, S: Summing, const HAS_OFFSET: bool> {
    tiles: &'a Configured,
    store: &'a CodeStore,
    n_units: usize,
    range: Range<usize>,
    x: &'a TileRows,
    n_rows: usize,
    /// `[range][n_rows]`.
    out: &'a mut [Lane],
    sums: PhantomData<S>,
    written: Written,
}

/// What is written out of some panels at a time.
struct Written {
    /// `[n_panels][n_units][N_GROUPS]`.
    weights: Vec<Tile>,
    /// `[n_panels][n_units]`.
    scales: Vec<GroupScales>,
}

impl<S: Summing, const HAS_OFFSET: bool> Kernel for TileProducts<'_, S, HAS_OFFSET> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let panels = self.range.clone().step_by(PANELS);
        let all_out = std::mem::take(&mut self.out);
        for (panel, out) in panels.zip(all_out.chunks_mut(PANELS * self.n_rows)) {
            for first in (0..self.n_units).step_by(STRETCH) {
                let n = STRETCH.min(self.n_units - first);
                let panels = panel..panel + out.len() / self.n_rows;
                let weights = self.written.weights.chunks_exact_mut(n * S::N_GROUPS);
                let written = weights.zip(self.written.scales.chunks_exact_mut(n));
                for (panel, (tiles, scales)) in panels.zip(written) {
                    l.call(WriteOut {
                        store: self.store,
                        codes: self.store.panel(panel, self.n_units),
                        first,
                        tiles,
                        scales,
                    });
                }
                self.stretch(l, first, n, out);
            }
        }
    }
}

impl<S: Summing, const HAS_OFFSET: bool> TileProducts<'_, S, HAS_OFFSET> {
    /// Units `first..first + n` of the panels that are written out.
    #[inline(always)]
    fn stretch<L: Lanes>(&self, l: L, first: usize, n: usize, out: &mut [Lane]) {
        let n_blocks = self.x.n_blocks();
        let mut sums = [[SumTile::ZERO; 2]; RING];
        for blocks in (0..n_blocks).step_by(BLOCKS) {
            let blocks = blocks..n_blocks.min(blocks + BLOCKS);
            let weights = self.written.weights.chunks_exact(n * S::N_GROUPS);
            let written = weights.zip(self.written.scales.chunks_exact(n));
            for ((weights, of_panel), out) in written.zip(out.chunks_exact_mut(self.n_rows)) {
                for block in blocks.clone() {
                    let rows = block * TILE_ROWS..self.n_rows.min((block + 1) * TILE_ROWS);
                    let pass = Pass::<S> {
                        summing: PhantomData,
                        weights,
                        of_panel,
                        x: &self.x.tiles(first, n)[block..],
                        scales: &self.x.scales(first, n)[block..],
                        n_blocks,
                        resume: first > 0,
                    };
                    pass.run::<L, HAS_OFFSET>(l, self.tiles, &mut sums, &mut out[rows]);
                }
            }
        }
    }
}

/// A stretch of one panel with one block of rows.
struct Pass<'a, S: Summing> {
    summing: PhantomData<S>,
    /// `[n_units][N_GROUPS]`.
    weights: &'a [Tile],
    /// `[n_units]`.
    of_panel: &'a [GroupScales],
    /// From those of the first unit of this block on.
    x: &'a [[Tile; 2]],
    /// The same.
    scales: &'a [BlockScales],
    /// Blocks from one unit to the next.
    n_blocks: usize,
    /// Whether the output holds partial sums to go on from.
    resume: bool,
}

impl<S: Summing> Pass<'_, S> {
    #[inline(always)]
    fn run<L: Lanes, const HAS_OFFSET: bool>(
        &self,
        l: L,
        tiles: &Configured,
        ring: &mut [UnitSums; RING],
        out: &mut [Lane],
    ) {
        let mut acc = [l.splat(0.0); TILE_ROWS];
        if self.resume {
            for r in 0..TILE_ROWS {
                if r < out.len() {
                    acc[r] = l.load(&out[r]);
                }
            }
        }
        let n = self.of_panel.len();
        for ahead in 0..n + LAG {
            if ahead < n {
                let x = &self.x[ahead * self.n_blocks];
                S::multiply(tiles, x, self.weights, ahead, &mut ring[ahead % RING]);
            }
            let Some(unit) = ahead.checked_sub(LAG) else {
                continue;
            };
            let (of_panel, sums) = (&self.of_panel[unit], &ring[unit % RING]);
            let scales = &self.scales[unit * self.n_blocks];
            for group in 0..S::N_GROUPS {
                let scale = l.load(&of_panel.scales[group]);
                let offset = l.load(&of_panel.offsets[group]);
                for r in 0..TILE_ROWS {
                    let scale = l.mul(scale, l.splat(scales.scale.0[r]));
                    acc[r] = l.fma(scale, S::sum(l, sums, group, r), acc[r]);
                    if HAS_OFFSET {
                        let sum = l.splat(scales.scaled_sums[group].0[r]);
                        acc[r] = l.fma(offset, sum, acc[r]);
                    }
                }
            }
        }
        for r in 0..TILE_ROWS {
            if r < out.len() {
                l.store(acc[r], &mut out[r]);
            }
        }
    }
}

/// Writes units of one panel out.
struct WriteOut<'a, 'o> {
    store: &'a CodeStore,
    codes: Codes<'a>,
    first: usize,
    /// One a group.
    tiles: &'o mut [Tile],
    /// One a unit.
    scales: &'o mut [GroupScales],
}

impl Kernel for WriteOut<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        under_rule(l, self);
    }
}

impl UnderRule for WriteOut<'_, '_> {
    fn store(&self) -> &CodeStore {
        self.store
    }

    #[inline(always)]
    fn run<L: Lanes, R: Rule, const BITS: usize>(self, l: L) {
        let words = &self.codes.words.as_chunks::<BITS>().0[self.first..];
        let n_groups = if R::SHARED { 1 } else { 2 };
        let tiles = self.tiles.chunks_exact_mut(n_groups);
        let to = tiles.zip(self.scales);
        for (i, ((tiles, scales), words)) in to.zip(words).enumerate() {
            eight_pairs!(L, pair, 0, {
                let codes = floats(l, codes_of_pair(l, words, pair), R::BIAS);
                l.store_words(codes, &mut tiles[0].0[pair]);
                if !R::SHARED {
                    l.store_words(codes, &mut tiles[0].0[pair + PAIRS / 2]);
                }
            });
            eight_pairs!(L, pair, 8, {
                let codes = floats(l, codes_of_pair(l, words, pair), R::BIAS);
                if R::SHARED {
                    l.store_words(codes, &mut tiles[0].0[pair]);
                } else {
                    l.store_words(codes, &mut tiles[1].0[pair - PAIRS / 2]);
                    l.store_words(codes, &mut tiles[1].0[pair]);
                }
            });
            for group in 0..n_groups {
                let unit = self.first + i;
                let scale = R::scale(l, &self.codes, unit, group);
                l.store(scale, &mut scales.scales[group]);
                if R::HAS_OFFSET {
                    let offset = R::offset(l, &self.codes, unit, group);
                    l.store(offset, &mut scales.offsets[group]);
                }
            }
        }
    }
}

/// Pairs of codes less their bias, as pairs of bf16.
#[inline(always)]
fn floats<L: Lanes>(l: L, codes: L::I, bias: u32) -> L::I {
    let bias = l.splat(bias as f32);
    let first = l.sub(l.to_f32(l.and(codes, 0xffff)), bias);
    let second = l.sub(l.to_f32(l.shr(codes, 16)), bias);
    // They have eight bits, so that the lower half of the f32 is zero.
    l.or(l.shr(l.bits(first), 16), l.bits(second))
}
