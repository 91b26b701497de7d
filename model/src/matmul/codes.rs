//! How do codes lie in a panel, and what are they worth?
//!
//! A panel holds sixteen output columns. Along k it is cut into units of 32 steps. The
//! codes of a unit lie in words of u32 lanes, one lane a column, as many words as a code has
//! bits: the code of an even step in the low half of a lane, that of the step after it at the
//! same place of the high half. A shift and a mask make of a word sixteen pairs of integers,
//! which is what instructions multiply and add.
//!
//! | bits of a code | pairs that lie whole in a word | the others |
//! | --- | --- | --- |
//! | 2, 4, 8 | 8, 4, 2 | |
//! | 3, 5 | 5, 3 | the last lies in the highest bits (of each half) of all words |
//! | 6 | 2 | the last four lie in the four highest bits of three words by two |

use crate::lanes::{Bytes, Halves, Lanes, Words};

use super::UNIT;

/// Units in a block of 256.
const BLOCK_UNITS: usize = 8;

/// A panel of codes with their scales.
#[derive(Clone, Copy)]
pub(super) struct Codes<'a> {
    /// `[n_units][n_bits]`.
    pub words: &'a [Words],
    /// f16 scales and offsets, as the rule says.
    pub halves: &'a [Halves],
    /// Integer scales and minima, as the rule says.
    pub bytes: &'a [Bytes],
}

/// How the scale and the offset of a group of codes are computed: a weight is
/// `(code - BIAS) * scale + offset`.
pub(super) trait Rule {
    /// Code that stands for zero, where weights have no offset.
    const BIAS: u32;
    /// Whether weights have an offset.
    const HAS_OFFSET: bool;
    /// Both halves of a unit share one group.
    const SHARED: bool;
    /// Scale of half `half` (16 steps) of unit `u`.
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> L::F;
    /// Offset of the same, zero where weights have none.
    fn offset<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> L::F;
}

/// `d` per unit.
pub(super) struct Offset<const BIAS: u32>;
/// `d` and `m` per unit.
pub(super) struct Affine;
/// `d` and `m` per 8 units, integer scale and minimum per unit.
pub(super) struct Affine32;
/// `d` and `m` per 8 units, integer scale and minimum per half unit.
pub(super) struct Affine16;
/// `d` per 8 units, integer scale + 128 per half unit.
pub(super) struct Offset16<const BIAS: u32>;

impl<const BIAS: u32> Rule for Offset<BIAS> {
    const BIAS: u32 = BIAS;
    const HAS_OFFSET: bool = false;
    const SHARED: bool = true;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> L::F {
        l.load_f16(&panel.halves[u])
    }
    #[inline(always)]
    fn offset<L: Lanes>(l: L, _panel: &Codes<'_>, _u: usize, _half: usize) -> L::F {
        l.splat(0.0)
    }
}

impl Rule for Affine {
    const BIAS: u32 = 0;
    const HAS_OFFSET: bool = true;
    const SHARED: bool = true;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> L::F {
        l.load_f16(&panel.halves[2 * u])
    }
    #[inline(always)]
    fn offset<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> L::F {
        l.load_f16(&panel.halves[2 * u + 1])
    }
}

/// `d * scale` of group `group` of a panel whose unit `u` is in it.
#[inline(always)]
fn scale_of_group<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, group: usize) -> L::F {
    let d = l.load_f16(&panel.halves[u / BLOCK_UNITS * 2]);
    l.mul(d, l.to_f32(l.load_bytes(&panel.bytes[2 * group])))
}

/// `-m * min` of the same group.
#[inline(always)]
fn offset_of_group<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, group: usize) -> L::F {
    let m = l.load_f16(&panel.halves[u / BLOCK_UNITS * 2 + 1]);
    let min = l.to_f32(l.load_bytes(&panel.bytes[2 * group + 1]));
    l.mul(l.sub(l.splat(0.0), m), min)
}

impl Rule for Affine32 {
    const BIAS: u32 = 0;
    const HAS_OFFSET: bool = true;
    const SHARED: bool = true;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> L::F {
        scale_of_group(l, panel, u, u)
    }
    #[inline(always)]
    fn offset<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> L::F {
        offset_of_group(l, panel, u, u)
    }
}

impl Rule for Affine16 {
    const BIAS: u32 = 0;
    const HAS_OFFSET: bool = true;
    const SHARED: bool = false;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> L::F {
        scale_of_group(l, panel, u, 2 * u + half)
    }
    #[inline(always)]
    fn offset<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> L::F {
        offset_of_group(l, panel, u, 2 * u + half)
    }
}

impl<const BIAS: u32> Rule for Offset16<BIAS> {
    const BIAS: u32 = BIAS;
    const HAS_OFFSET: bool = false;
    const SHARED: bool = false;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> L::F {
        let d = l.load_f16(&panel.halves[u / BLOCK_UNITS]);
        let scale = l.to_f32(l.load_bytes(&panel.bytes[2 * u + half]));
        l.mul(d, l.sub(scale, l.splat(128.0)))
    }
    #[inline(always)]
    fn offset<L: Lanes>(l: L, _panel: &Codes<'_>, _u: usize, _half: usize) -> L::F {
        l.splat(0.0)
    }
}

/// Bits `at..at + width` of both halves of a lane, moved to bit `to` of a code.
#[derive(Clone, Copy)]
struct Field {
    word: usize,
    at: usize,
    width: usize,
    to: usize,
}

/// Pairs of codes in a unit.
pub(super) const PAIRS: usize = UNIT / 2;

/// Pairs that lie whole in one word.
const fn n_whole(n_bits: usize) -> usize {
    16 / n_bits * n_bits
}

/// Fields of a pair that lies in several words.
const fn n_fields(n_bits: usize) -> usize {
    if n_bits == 6 { 2 } else { n_bits }
}

/// Where pair `pair` lies if it is whole.
#[inline(always)]
const fn whole_field(n_bits: usize, pair: usize) -> Field {
    let per_word = 16 / n_bits;
    Field {
        word: pair / per_word,
        at: pair % per_word * n_bits,
        width: n_bits,
        to: 0,
    }
}

/// Field number `n` of the `last`th pair that is not whole.
#[inline(always)]
const fn spare_field(n_bits: usize, last: usize, n: usize) -> Field {
    if n_bits == 6 {
        // Of two pairs in three words, each has four bits in a word of its own and two in the
        // word between.
        let (words, second) = (last / 2 * 3, last % 2);
        return match n {
            0 => Field {
                word: words + 2 * second,
                at: 12,
                width: 4,
                to: 0,
            },
            _ => Field {
                word: words + 1,
                at: 12 + 2 * second,
                width: 2,
                to: 4,
            },
        };
    }
    Field {
        word: n,
        at: 15,
        width: 1,
        to: n,
    }
}

#[inline(always)]
fn take<L: Lanes>(l: L, words: &[Words], field: Field) -> L::I {
    let Field {
        word,
        at,
        width,
        to,
    } = field;
    let w = l.load_words(&words[word]);
    let w = match at - to {
        0 => w,
        n => l.shr(w, n as u32),
    };
    let mask = ((1 << width) - 1) << to;
    l.and(w, mask << 16 | mask)
}

/// The codes of pair `pair` of a unit, of sixteen columns: each lane holds that of step
/// `2 * pair` in its low half and that of the next step in its high half. A constant `pair`
/// folds to shifts and masks.
#[inline(always)]
pub(super) fn codes_of_pair<L: Lanes, const BITS: usize>(
    l: L,
    words: &[Words; BITS],
    pair: usize,
) -> L::I {
    if pair < n_whole(BITS) {
        return take(l, words, whole_field(BITS, pair));
    }
    let last = pair - n_whole(BITS);
    let mut codes = take(l, words, spare_field(BITS, last, 0));
    for n in 1..n_fields(BITS) {
        codes = l.or(codes, take(l, words, spare_field(BITS, last, n)));
    }
    codes
}

/// All fields of a pair.
#[inline(always)]
fn fields<const BITS: usize>(pair: usize) -> impl Iterator<Item = Field> {
    let last = pair.checked_sub(n_whole(BITS));
    let n = if last.is_some() { n_fields(BITS) } else { 1 };
    (0..n).map(move |n| match last {
        Some(last) => spare_field(BITS, last, n),
        None => whole_field(BITS, pair),
    })
}

/// Calls a function that is generic over the width of codes.
macro_rules! of_width {
    ($n_bits:expr, $function:ident, $($argument:expr),*) => {
        match $n_bits {
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
            4 => $function::<4>($($argument),*),
            5 => $function::<5>($($argument),*),
            6 => $function::<6>($($argument),*),
            8 => $function::<8>($($argument),*),
            n => unreachable!("no format has codes of {n} bits"),
        }
    };
}

/// Writes the codes of a unit of one column into its words.
pub(super) fn write_codes(words: &mut [Words], column: usize, codes: &[u8; UNIT]) {
    of_width!(words.len(), write_column, words, column, codes);
}

/// The codes of a unit of one column: what [`write_codes`] wrote.
pub(super) fn read_codes(words: &[Words], column: usize) -> [u8; UNIT] {
    of_width!(words.len(), read_column, words, column)
}

fn write_column<const BITS: usize>(to: &mut [Words], column: usize, codes: &[u8; UNIT]) {
    let mut words = [0_u32; BITS];
    for (pair, codes) in codes.as_chunks::<2>().0.iter().enumerate() {
        let codes = u32::from(codes[0]) | u32::from(codes[1]) << 16;
        for field in fields::<BITS>(pair) {
            let mask = (1 << field.width) - 1;
            words[field.word] |= (codes >> field.to & (mask << 16 | mask)) << field.at;
        }
    }
    for (to, word) in to.iter_mut().zip(words) {
        to.0[column] = word;
    }
}

fn read_column<const BITS: usize>(words: &[Words], column: usize) -> [u8; UNIT] {
    let words: [u32; BITS] = std::array::from_fn(|i| words[i].0[column]);
    let mut codes = [0; UNIT];
    for (pair, codes) in codes.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let mut both = 0;
        for field in fields::<BITS>(pair) {
            let mask = (1 << field.width) - 1;
            both |= (words[field.word] >> field.at & (mask << 16 | mask)) << field.to;
        }
        *codes = [both as u8, (both >> 16) as u8];
    }
    codes
}
