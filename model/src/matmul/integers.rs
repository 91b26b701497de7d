//! Products with weights that are stored as codes, in integers.
//!
//! Contract: rows are in block floating point. Over a group of steps that share a scale (a unit,
//! or half of one), codes less their bias are multiplied with the row's integers and added up
//! without rounding; the sum, as f32, times the two scales is added to the output by one fused
//! multiply-add, and where weights have an offset, the offset times the group's sum by another.
//! Groups follow in the order of k. So a row's bits depend on the row and the weights only,
//! while the sums inside of a group may be taken in any order and by any instruction.
//!
//! A single row (decoding) takes codes from their words straight to the accumulators. For many
//! rows (prefill) a stretch of a panel is first written out as pairs of integers, small enough
//! for the first cache, and all rows pass over it, keeping partial sums in the output. Where rows
//! are of eight bits and an instruction multiplies bytes, it is written out as four bytes a word:
//! the codes themselves, since their bias can be taken off the sums.

use std::ops::Range;

use super::block_floats::{BlockFloats, UnitScale};
use super::codes::{
    Affine, Affine16, Affine32, Codes, Offset, Offset16, PAIRS, Rule, codes_of_pair,
};
use super::packed::CodeStore;
use crate::lanes::{Isa, Kernel, Lane, Lanes, Words};
use crate::quant::ScaleRule;
use crate::tiles::{Tiled, all_tiles};
use crate::weights::Encoding;

/// Units of a stretch: 10 KiB.
const STRETCH: usize = 8;
/// Pairs of steps in half a unit.
const HALF_PAIRS: usize = PAIRS / 2;

/// Runs a block for pairs `$first..$first + 8`. Numbers of pairs are constants where that makes
/// shifts immediate, and a loop where it would only make code.
macro_rules! eight_pairs {
    ($lanes:ident, $pair:ident, $first:literal, $body:block) => {
        if $lanes::IS_VECTOR {
            eight_pairs!(@unrolled $pair, $first, $body, 0 1 2 3 4 5 6 7);
        } else {
            for $pair in $first..$first + 8 $body
        }
    };
    (@unrolled $pair:ident, $first:literal, $body:block, $($n:literal)*) => {
        $({ let $pair: usize = $first + $n; $body })*
    };
}

/// The outputs of a range of panels (even bounds), for all rows. `out` is `[range][n_rows]`.
pub(super) fn panels(
    isa: Isa,
    store: &CodeStore,
    n_units: usize,
    range: Range<usize>,
    x: &BlockFloats,
    out: &mut [Lane],
) {
    let n_rows = x.n_rows();
    if n_rows == 1 {
        return isa.run(OneRow {
            store,
            n_units,
            range,
            x,
            out,
        });
    }
    let mut units = [Unit::ZERO; STRETCH];
    let bytes = x.quads(0, n_units).is_some();
    for first in (0..n_units).step_by(STRETCH) {
        let n = STRETCH.min(n_units - first);
        for (panel, out) in range.clone().zip(out.chunks_exact_mut(n_rows)) {
            isa.run(WriteOut {
                store,
                panel: store.panel(panel, n_units),
                first,
                bytes,
                units: &mut units[..n],
            });
            isa.run(ManyRows {
                rule: store.format.rule,
                bytes,
                units: &units[..n],
                x: x.quads(first, n).unwrap_or_else(|| x.units(first, n)),
                scales: x.scales(first, n),
                out,
                resume: first > 0,
            });
        }
    }
}

/// Something to be done under whichever rule a matrix is packed.
pub(super) trait UnderRule {
    fn store(&self) -> &CodeStore;
    fn run<L: Lanes, R: Rule, const BITS: usize>(self, l: L);
}

#[inline(always)]
pub(super) fn under_rule<L: Lanes>(l: L, work: impl UnderRule) {
    macro_rules! rules {
        ($($encoding:ident: $rule:ty, $bits:literal;)*) => {
            match work.store().encoding {
                $(Encoding::$encoding => work.run::<L, $rule, $bits>(l),)*
                Encoding::F32 | Encoding::F16 | Encoding::BF16 => {
                    unreachable!("plain floats are not stored as codes")
                }
            }
        };
    }
    rules! {
        Q4_0: Offset<8>, 4;
        Q4_1: Affine, 4;
        Q5_0: Offset<16>, 5;
        Q5_1: Affine, 5;
        Q8_0: Offset<128>, 8;
        Q2_K: Affine16, 2;
        Q3_K: Offset16<4>, 3;
        Q4_K: Affine32, 4;
        Q5_K: Affine32, 5;
        Q6_K: Offset16<32>, 6;
        IQ4_NL: Offset<128>, 8;
        IQ4_XS: Offset16<128>, 8;
    }
}

/// One row times a range of panels.
struct OneRow<'a, 'o> {
    store: &'a CodeStore,
    n_units: usize,
    range: Range<usize>,
    x: &'a BlockFloats,
    out: &'o mut [Lane],
}

impl Kernel for OneRow<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        under_rule(l, self);
    }
}

impl UnderRule for OneRow<'_, '_> {
    fn store(&self) -> &CodeStore {
        self.store
    }

    #[inline(always)]
    fn run<L: Lanes, R: Rule, const BITS: usize>(self, l: L) {
        let n = self.n_units;
        for (p, out) in self.range.step_by(2).zip(self.out.as_chunks_mut().0) {
            let panels = [self.store.panel(p, n), self.store.panel(p + 1, n)];
            two_panels::<L, R, BITS>(l, &panels, self.x.units(0, n), self.x.scales(0, n), out);
        }
    }
}

/// One row of two panels, which share the loads of what they are multiplied with.
#[inline(always)]
fn two_panels<L: Lanes, R: Rule, const BITS: usize>(
    l: L,
    panels: &[Codes<'_>; 2],
    x: &[Words],
    scales: &[UnitScale],
    out: &mut [Lane; 2],
) {
    let (mut a, mut b) = (l.splat(0.0), l.splat(0.0));
    let words = panels[0].words.as_chunks::<BITS>().0.iter();
    let words = words.zip(panels[1].words.as_chunks::<BITS>().0);
    for (u, ((x, scale), (words_a, words_b))) in x.iter().zip(scales).zip(words).enumerate() {
        let (mut sum_a, mut sum_b) = (l.splat_word(0), l.splat_word(0));
        eight_pairs!(L, pair, 0, {
            let x = l.splat_word(x.0[pair]);
            sum_a = l.add_dot(sum_a, codes_of_pair(l, words_a, pair), x);
            sum_b = l.add_dot(sum_b, codes_of_pair(l, words_b, pair), x);
        });
        if !R::SHARED {
            a = add_group::<L, R>(l, a, sum_a, &panels[0], u, scale, Some(0));
            b = add_group::<L, R>(l, b, sum_b, &panels[1], u, scale, Some(0));
            (sum_a, sum_b) = (l.splat_word(0), l.splat_word(0));
        }
        eight_pairs!(L, pair, 8, {
            let x = l.splat_word(x.0[pair]);
            sum_a = l.add_dot(sum_a, codes_of_pair(l, words_a, pair), x);
            sum_b = l.add_dot(sum_b, codes_of_pair(l, words_b, pair), x);
        });
        let half = if R::SHARED { None } else { Some(1) };
        a = add_group::<L, R>(l, a, sum_a, &panels[0], u, scale, half);
        b = add_group::<L, R>(l, b, sum_b, &panels[1], u, scale, half);
    }
    l.store(a, &mut out[0]);
    l.store(b, &mut out[1]);
}

/// Adds a group to an output: a half of unit `u`, or all of it.
#[inline(always)]
fn add_group<L: Lanes, R: Rule>(
    l: L,
    acc: L::F,
    sum: L::I,
    panel: &Codes<'_>,
    u: usize,
    x: &UnitScale,
    half: Option<usize>,
) -> L::F {
    let (sum_of_x, scaled_sum) = match half {
        Some(half) => (x.sums[half], x.scaled_sums[half]),
        None => (x.sums[0] + x.sums[1], x.scaled_sum),
    };
    let half = half.unwrap_or(0);
    let sum = match R::BIAS {
        0 => sum,
        bias => l.sub_words(sum, l.splat_word((bias as i32 * sum_of_x) as u32)),
    };
    let scale = l.mul(R::scale(l, panel, u, half), l.splat(x.scale));
    let acc = l.fma(scale, l.to_f32(sum), acc);
    if !R::HAS_OFFSET {
        return acc;
    }
    l.fma(R::offset(l, panel, u, half), l.splat(scaled_sum), acc)
}

/// A unit of a panel, written out for many rows.
#[derive(Clone, Copy)]
struct Unit {
    /// Codes less their bias: two steps a word, as in [`BlockFloats`]. Or codes as they are, four
    /// steps a word.
    pairs: [Words; PAIRS],
    /// Of each half; of the unit in the first where its halves share a group.
    scales: [Lane; 2],
    /// Where weights have offsets.
    offsets: [Lane; 2],
}

impl Unit {
    const ZERO: Self = Self {
        pairs: [Words([0; 16]); PAIRS],
        scales: [Lane::ZERO; 2],
        offsets: [Lane::ZERO; 2],
    };
}

/// Writes units of one panel out.
struct WriteOut<'a, 'o> {
    store: &'a CodeStore,
    panel: Codes<'a>,
    first: usize,
    /// Whether four steps a word are wanted.
    bytes: bool,
    units: &'o mut [Unit],
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
        let words = &self.panel.words.as_chunks::<BITS>().0[self.first..];
        for (i, (unit, words)) in self.units.iter_mut().zip(words).enumerate() {
            macro_rules! write_eight {
                ($first:literal) => {
                    if self.bytes {
                        eight_pairs!(L, pair, $first, {
                            if pair % 2 == 0 {
                                let first = codes_of_pair(l, words, pair);
                                let second = l.shl(codes_of_pair(l, words, pair + 1), 8);
                                l.store_words(l.or(first, second), &mut unit.pairs[pair / 2]);
                            }
                        });
                    } else {
                        eight_pairs!(L, pair, $first, {
                            let codes = codes_of_pair(l, words, pair);
                            let codes = l.sub_halves(codes, R::BIAS as u16);
                            l.store_words(codes, &mut unit.pairs[pair]);
                        });
                    }
                };
            }
            write_eight!(0);
            write_eight!(8);
            let n_groups = if R::SHARED { 1 } else { 2 };
            for half in 0..n_groups {
                let (panel, u) = (&self.panel, self.first + i);
                l.store(R::scale(l, panel, u, half), &mut unit.scales[half]);
                if R::HAS_OFFSET {
                    l.store(R::offset(l, panel, u, half), &mut unit.offsets[half]);
                }
            }
        }
    }
}

/// All rows of one panel over a stretch that is written out.
struct ManyRows<'a, 'o> {
    rule: ScaleRule,
    /// Whether words hold four steps each.
    bytes: bool,
    units: &'a [Unit],
    /// `[n_units][n_rows]`.
    x: &'a [Words],
    /// `[n_units][n_rows]`.
    scales: &'a [UnitScale],
    /// `[n_rows]`.
    out: &'o mut [Lane],
    /// Whether `out` holds partial sums to go on from.
    resume: bool,
}

impl Kernel for ManyRows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        macro_rules! tiles {
            ($words:ident, $has_offset:literal) => {
                if L::DOTS_BYTES && self.bytes {
                    l.call(Tiles::<{ $words / 2 }, $has_offset, true>(&mut self))
                } else {
                    l.call(Tiles::<$words, $has_offset, false>(&mut self))
                }
            };
        }
        match self.rule {
            ScaleRule::Offset { .. } => tiles!(PAIRS, false),
            ScaleRule::Affine | ScaleRule::Affine32 => tiles!(PAIRS, true),
            ScaleRule::Affine16 => tiles!(HALF_PAIRS, true),
            ScaleRule::Offset16 { .. } => tiles!(HALF_PAIRS, false),
        }
    }
}

/// [`ManyRows`] where groups of `N` words share a scale.
struct Tiles<'t, 'a, 'o, const N: usize, const HAS_OFFSET: bool, const BYTES: bool>(
    &'t mut ManyRows<'a, 'o>,
);

impl<const N: usize, const HAS_OFFSET: bool, const BYTES: bool> Kernel
    for Tiles<'_, '_, '_, N, HAS_OFFSET, BYTES>
{
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        all_tiles(l, self.0.out.len(), &mut self);
    }
}

impl<const N: usize, const HAS_OFFSET: bool, const BYTES: bool> Tiled
    for Tiles<'_, '_, '_, N, HAS_OFFSET, BYTES>
{
    #[inline(always)]
    fn tile<L: Lanes, const R: usize>(&mut self, l: L, first: usize) {
        let rows = &mut *self.0;
        let n_rows = rows.out.len();
        let n_words = if BYTES { PAIRS / 2 } else { PAIRS };
        let bias = match rows.rule {
            ScaleRule::Offset { bias } | ScaleRule::Offset16 { bias } => i32::from(bias),
            ScaleRule::Affine | ScaleRule::Affine32 | ScaleRule::Affine16 => 0,
        };
        let out: &mut [Lane; R] = &mut rows.out[first..first + R].as_chunks_mut().0[0];
        if !rows.resume {
            *out = [Lane::ZERO; R];
        }
        // Two pairs a turn, but where weights have offsets: the compiler would spill a sum there.
        // Nor where a dot product is added by one instruction: the compiler makes three of the
        // second. The number of turns is opaque to it, or it would unroll all and spill many.
        let pairs_a_turn = if HAS_OFFSET || L::ADDS_DOT { 1 } else { 2 };
        let n_turns = std::hint::black_box(N / pairs_a_turn).min(N / pairs_a_turn);
        let x = rows.x.chunks_exact(n_rows);
        let x = x.zip(rows.scales.chunks_exact(n_rows));
        for (unit, (x, scales)) in rows.units.iter().zip(x) {
            let x: &[Words; R] = &x[first..first + R].as_chunks().0[0];
            let scales: &[UnitScale; R] = &scales[first..first + R].as_chunks().0[0];
            let groups = unit.pairs[..n_words].as_chunks::<N>().0;
            for (group, pairs) in groups.iter().enumerate() {
                let mut sums = [l.splat_word(0); R];
                if BYTES && !HAS_OFFSET {
                    for r in 0..R {
                        let sum = if N == n_words {
                            scales[r].sums[0] + scales[r].sums[1]
                        } else {
                            scales[r].sums[group]
                        };
                        sums[r] = l.splat_word((-bias * sum) as u32);
                    }
                }
                macro_rules! add_pair {
                    ($pair:expr) => {
                        let codes = l.load_words(&pairs[$pair]);
                        for r in 0..R {
                            let x = &x[r].0.as_chunks::<N>().0[group];
                            let x = l.splat_word(x[$pair]);
                            sums[r] = if BYTES {
                                l.add_dot_bytes(sums[r], codes, x)
                            } else {
                                l.add_dot(sums[r], codes, x)
                            };
                        }
                    };
                }
                for turn in 0..n_turns {
                    if pairs_a_turn == 1 {
                        add_pair!(turn);
                    } else {
                        add_pair!(2 * turn);
                        add_pair!(2 * turn + 1);
                    }
                }
                let (scale, offset) = (l.load(&unit.scales[group]), l.load(&unit.offsets[group]));
                for r in 0..R {
                    let scale = l.mul(scale, l.splat(scales[r].scale));
                    let mut acc = l.fma(scale, l.to_f32(sums[r]), l.load(&out[r]));
                    if HAS_OFFSET {
                        let scaled_sum = if N == n_words {
                            scales[r].scaled_sum
                        } else {
                            scales[r].scaled_sums[group]
                        };
                        acc = l.fma(offset, l.splat(scaled_sum), acc);
                    }
                    l.store(acc, &mut out[r]);
                }
            }
        }
    }
}
