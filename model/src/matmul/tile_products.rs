//! Products of many rows with codes, by products of tiles.
//!
//! Contract: that of `integers`, bit for bit. The integers of a group are summed up in f32, which is
//! exact here: every sum of some products of one output is an integer of at most 2^24, or 256 times
//! such a one. [`Sums::of`] says how that is had for each format, and of which formats it is not.
//!
//! A stretch of some panels is written out as tiles of bf16. Two blocks of sixteen rows stay in the
//! first cache while the panels pass over them. The sums of a unit are used when those of the next
//! are under way: stores of tiles are slow, and who waited for them would keep the processor from
//! beginning the next.

use std::marker::PhantomData;
use std::ops::Range;

use super::block_floats::BlockFloats;
use super::codes::{Codes, PAIRS, Rule, codes_of_pair};
use super::integers::{UnderRule, under_rule};
use super::packed::CodeStore;
use super::tile_rows::{BlockScales, TileRows};
use crate::arithmetic::Arithmetic;
use crate::lanes::amx::{Amx, Configured, SumTile, TILE_ROWS, Tile};
use crate::lanes::{Isa, Kernel, Lane, Lanes};
use crate::quant::{BlockFormat, ScaleRule};

/// Units of a stretch: tiles of two blocks of rows take 32 KiB.
const STRETCH: usize = 8;
/// Panels that are written out together.
const PANELS: usize = 16;
/// Blocks of rows that pass over a panel together.
const BLOCKS: usize = 2;

/// How the sums of a unit are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sums {
    /// One group; codes so small that both digits are summed up together.
    Whole,
    /// One group; low and high digits are summed up apart, and joined by one rounding.
    Digits,
    /// Two groups of small codes.
    Halves,
    /// One group of integers of eight bits.
    Bytes,
    /// Two groups of such.
    HalvesOfBytes,
}

impl Sums {
    /// How they are had for a format, if they are exact.
    fn of(format: BlockFormat, arithmetic: Arithmetic) -> Option<Self> {
        /// Of codes less their bias, for which 32 times 2^15 times a code is 2^24 at most.
        const SMALL: usize = 16;
        let bias = match format.rule {
            ScaleRule::Offset { bias } | ScaleRule::Offset16 { bias } => usize::from(bias),
            ScaleRule::Affine | ScaleRule::Affine32 | ScaleRule::Affine16 => 0,
        };
        let largest = bias.max((1 << format.n_bits) - 1 - bias);
        match (arithmetic, has_halves(format)) {
            // Of integers of eight bits any sums are small.
            (Arithmetic::Int8, false) => Some(Self::Bytes),
            (Arithmetic::Int8, true) => Some(Self::HalvesOfBytes),
            (Arithmetic::Int16, false) if largest <= SMALL => Some(Self::Whole),
            (Arithmetic::Int16, false) => Some(Self::Digits),
            (Arithmetic::Int16, true) if largest <= 2 * SMALL => Some(Self::Halves),
            (Arithmetic::Int16, true) => None,
        }
    }

    /// Whether so many rows are sooner multiplied by tiles than by lanes: writing tiles out must
    /// pay, and blocks must not stand half empty.
    fn pays(self, n_rows: usize) -> bool {
        let least = match self {
            Self::Whole => TILE_ROWS,
            Self::Digits | Self::Halves | Self::Bytes | Self::HalvesOfBytes => 2 * TILE_ROWS,
        };
        n_rows >= least && 5 * n_rows >= 4 * n_rows.next_multiple_of(TILE_ROWS)
    }
}

/// Whether the halves of a unit have scales of their own.
fn has_halves(format: BlockFormat) -> bool {
    matches!(
        format.rule,
        ScaleRule::Affine16 | ScaleRule::Offset16 { .. }
    )
}

/// Rows that are spread over tiles, where that pays.
#[derive(Default)]
pub(super) struct SpreadRows {
    wholes: Option<(Amx, TileRows)>,
    halves: Option<(Amx, TileRows)>,
}

impl SpreadRows {
    /// Spreads rows for weights of a format, unless there are few or their sums are not exact.
    /// Runs on the current pool.
    pub fn spread(&mut self, isa: Isa, rows: &BlockFloats, format: BlockFormat, n_units: usize) {
        let Isa::Amx(amx) = isa else {
            return;
        };
        let sums = Sums::of(format, rows.arithmetic());
        if !sums.is_some_and(|sums| sums.pays(rows.n_rows())) {
            return;
        }
        let halves = has_halves(format);
        let spread = match halves {
            true => &mut self.halves,
            false => &mut self.wholes,
        };
        spread.get_or_insert_with(|| (amx, TileRows::of(isa, rows, n_units, halves)));
    }

    /// The outputs of a range of panels for all rows, if they were spread for such weights. `out` is
    /// `[range][n_rows]`.
    pub fn panels(
        &self,
        (store, arithmetic): (&CodeStore, Arithmetic),
        n_units: usize,
        range: Range<usize>,
        out: &mut [Lane],
    ) -> bool {
        let spread = match has_halves(store.format) {
            true => &self.halves,
            false => &self.wholes,
        };
        let (Some((amx, rows)), Some(sums)) = (spread, Sums::of(store.format, arithmetic)) else {
            return false;
        };
        // Rows may be spread for other weights that are multiplied with them.
        if !sums.pays(out.len() / range.len().max(1)) {
            return false;
        }
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
        (Sums::Bytes, false) => products!(Bytes, false),
        (Sums::Bytes, true) => products!(Bytes, true),
        (Sums::HalvesOfBytes, false) => products!(HalvesOfBytes, false),
        (Sums::HalvesOfBytes, true) => products!(HalvesOfBytes, true),
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

/// The sums of a unit of a panel with a block of rows: those that there are first.
type UnitSums = [SumTile; 2];

/// What a unit of a panel and of a block of rows is multiplied from: the tiles of that and all
/// following units.
#[derive(Clone, Copy)]
struct UnitTiles<'a> {
    /// `[..][N_TILES]`.
    x: &'a [Tile],
    /// `[..][N_GROUPS]`.
    weights: &'a [Tile],
}

/// What distinguishes the ways to have sums.
trait Summing {
    /// Tiles of a unit of a block of rows.
    const N_TILES: usize;
    /// Groups of a unit, each of which has a tile of weights.
    const N_GROUPS: usize;

    /// The sums of one unit.
    fn multiply(tiles: &Configured, unit: &UnitTiles<'_>, sums: &mut UnitSums);

    /// Sum number `group` of a row, as one f32.
    fn sum<L: Lanes>(l: L, sums: &UnitSums, group: usize, row: usize) -> L::F;
}

struct Whole;
struct Digits;
struct Halves;
struct Bytes;
struct HalvesOfBytes;

impl Summing for Whole {
    const N_TILES: usize = 2;
    const N_GROUPS: usize = 1;
    #[inline(always)]
    fn multiply(tiles: &Configured, unit: &UnitTiles<'_>, sums: &mut UnitSums) {
        tiles.multiply_both(first(unit.x), first(unit.weights), sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, _group: usize, row: usize) -> L::F {
        l.load(&sums[0].0[row])
    }
}

impl Summing for Digits {
    const N_TILES: usize = 2;
    const N_GROUPS: usize = 1;
    #[inline(always)]
    fn multiply(tiles: &Configured, unit: &UnitTiles<'_>, sums: &mut UnitSums) {
        tiles.multiply_each(first(unit.x), first(unit.weights), sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, _group: usize, row: usize) -> L::F {
        l.add(l.load(&sums[0].0[row]), l.load(&sums[1].0[row]))
    }
}

impl Summing for Halves {
    const N_TILES: usize = 2;
    const N_GROUPS: usize = 2;
    #[inline(always)]
    fn multiply(tiles: &Configured, unit: &UnitTiles<'_>, sums: &mut UnitSums) {
        tiles.multiply_pairs(first(unit.x), first(unit.weights), sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, group: usize, row: usize) -> L::F {
        l.load(&sums[group].0[row])
    }
}

impl Summing for Bytes {
    const N_TILES: usize = 1;
    const N_GROUPS: usize = 1;
    #[inline(always)]
    fn multiply(tiles: &Configured, unit: &UnitTiles<'_>, sums: &mut UnitSums) {
        tiles.multiply_one(first(unit.x), first(unit.weights), sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, _group: usize, row: usize) -> L::F {
        l.load(&sums[0].0[row])
    }
}

impl Summing for HalvesOfBytes {
    const N_TILES: usize = 1;
    const N_GROUPS: usize = 2;
    #[inline(always)]
    fn multiply(tiles: &Configured, unit: &UnitTiles<'_>, sums: &mut UnitSums) {
        tiles.multiply_by_each(first(unit.x), first(unit.weights), sums);
    }
    #[inline(always)]
    fn sum<L: Lanes>(l: L, sums: &UnitSums, group: usize, row: usize) -> L::F {
        l.load(&sums[group].0[row])
    }
}

/// As many tiles as are wanted; there are those of a unit.
#[inline(always)]
fn first<const N: usize>(tiles: &[Tile]) -> &[Tile; N] {
    tiles.first_chunk().expect("the tiles of a unit")
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
                        twice: S::N_TILES == 2,
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
        let n_panels = out.len() / self.n_rows;
        let mut order = passes(n_blocks, n_panels).peekable();
        let tiles_of = |(panel, block): (usize, usize)| UnitTiles {
            x: self.x.tiles(block, first, n),
            weights: &self.written.weights[panel * n * S::N_GROUPS..][..n * S::N_GROUPS],
        };
        let mut sums = [[SumTile::ZERO; 2]; 2];
        let mut turn = 0;
        if let Some(pass) = order.peek() {
            S::multiply(self.tiles, &tiles_of(*pass), &mut sums[turn]);
        }
        while let Some((panel, block)) = order.next() {
            let rows = block * TILE_ROWS..self.n_rows.min((block + 1) * TILE_ROWS);
            let out = &mut out[panel * self.n_rows..][rows];
            let mut pass = Pass::<S, HAS_OFFSET> {
                summing: PhantomData,
                tiles: self.tiles,
                units: tiles_of((panel, block)),
                after: order.peek().map(|pass| tiles_of(*pass)),
                of_panel: &self.written.scales[panel * n..][..n],
                scales: self.x.scales(block, first, n),
                resume: first > 0,
                sums: &mut sums,
                turn: &mut turn,
            };
            if let Ok(out) = <&mut [Lane; TILE_ROWS]>::try_from(&mut *out) {
                pass.run(l, out);
                continue;
            }
            // Rows behind the last are zero: their sums lead nowhere.
            let mut whole = [Lane::ZERO; TILE_ROWS];
            whole[..out.len()].copy_from_slice(out);
            pass.run(l, &mut whole);
            out.copy_from_slice(&whole[..out.len()]);
        }
    }
}

/// In which order panels pass over blocks of rows: (panel, block).
fn passes(n_blocks: usize, n_panels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n_blocks).step_by(BLOCKS).flat_map(move |first| {
        let blocks = first..n_blocks.min(first + BLOCKS);
        (0..n_panels).flat_map(move |panel| blocks.clone().map(move |block| (panel, block)))
    })
}

/// A stretch of one panel with one block of rows. The sums of its first unit are under way.
struct Pass<'a, S: Summing, const HAS_OFFSET: bool> {
    summing: PhantomData<S>,
    tiles: &'a Configured,
    units: UnitTiles<'a>,
    /// What comes after all units: the first of the next pass.
    after: Option<UnitTiles<'a>>,
    /// `[n_units]`.
    of_panel: &'a [GroupScales],
    /// `[n_units]`.
    scales: &'a [BlockScales],
    /// Whether the output holds partial sums to go on from.
    resume: bool,
    sums: &'a mut [UnitSums; 2],
    /// Which of them are next to be used.
    turn: &'a mut usize,
}

impl<S: Summing, const HAS_OFFSET: bool> Pass<'_, S, HAS_OFFSET> {
    #[inline(always)]
    fn run<L: Lanes>(&mut self, l: L, out: &mut [Lane; TILE_ROWS]) {
        let mut acc = [l.splat(0.0); TILE_ROWS];
        if self.resume {
            for r in 0..TILE_ROWS {
                acc[r] = l.load(&out[r]);
            }
        }
        let mut next = self.units;
        let mut turn = *self.turn;
        let n = self.scales.len();
        for (unit, (of_panel, scales)) in self.of_panel.iter().zip(self.scales).enumerate() {
            next = UnitTiles {
                x: &next.x[S::N_TILES..],
                weights: &next.weights[S::N_GROUPS..],
            };
            let next = if unit + 1 < n { Some(next) } else { self.after };
            if let Some(next) = next {
                S::multiply(self.tiles, &next, &mut self.sums[1 - turn]);
            }
            let sums = &self.sums[turn];
            for group in 0..S::N_GROUPS {
                let scale = l.load(&of_panel.scales[group]);
                let offset = l.load(&of_panel.offsets[group]);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let scale = l.mul(scale, l.splat(scales.scale.0[r]));
                    *acc = l.fma(scale, S::sum(l, sums, group, r), *acc);
                    if HAS_OFFSET {
                        let sum = l.splat(scales.scaled_sums[group].0[r]);
                        *acc = l.fma(offset, sum, *acc);
                    }
                }
            }
            turn = 1 - turn;
        }
        *self.turn = turn;
        for r in 0..TILE_ROWS {
            l.store(acc[r], &mut out[r]);
        }
    }
}

/// Writes units of one panel out.
struct WriteOut<'a, 'o> {
    store: &'a CodeStore,
    codes: Codes<'a>,
    first: usize,
    /// Whether codes of half a unit stand twice in their tile, for the digits of either kind; else
    /// the rest of it stays zero.
    twice: bool,
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
                if !R::SHARED && self.twice {
                    l.store_words(codes, &mut tiles[0].0[pair + PAIRS / 2]);
                }
            });
            eight_pairs!(L, pair, 8, {
                let codes = floats(l, codes_of_pair(l, words, pair), R::BIAS);
                l.store_words(codes, &mut tiles[n_groups - 1].0[pair]);
                if !R::SHARED && self.twice {
                    l.store_words(codes, &mut tiles[1].0[pair - PAIRS / 2]);
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
    /// Bits of 2^23, to which the bits of an integer are added as its value.
    const INTEGER: u32 = 0x4b00_0000;
    let integer = l.splat_word(INTEGER);
    let zero = l.splat(8_388_608.0 + bias as f32);
    let first = l.of_bits(l.or(l.and(codes, 0xffff), integer));
    let second = l.of_bits(l.or(l.shr(codes, 16), integer));
    let (first, second) = (l.sub(first, zero), l.sub(second, zero));
    // They have eight bits, so that the lower half of the f32 is zero.
    l.or(l.shr(l.bits(first), 16), l.bits(second))
}
