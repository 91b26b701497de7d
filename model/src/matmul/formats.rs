//! How do sixteen columns of packed weights become f32, sixteen at a time?
//!
//! A panel holds sixteen output columns. Along k it is cut into units of 32 steps. The
//! codes of a unit lie in words of u32 lanes, one lane a column, as many words as a code has
//! bits, one code after the other: nearly every step is a shift and a mask of a register, and
//! one word is needed at a time.
//!
//! | bits of a code | whole codes in a word | the last two |
//! | --- | --- | --- |
//! | 2, 4, 8 | 16, 8, 4 | are whole |
//! | 3, 5, 6 | 10, 6, 5 | lie in the two highest bits of the words |
//!
//! Of those two codes, one lies in the first words and the other in the last; where they have an
//! odd number of bits, the highest bit of both lies in the word between.
//!
//! Invariant: a weight is `fma(code, d, m)`, equal to GGML's dequantization bit for bit,
//! and steps are visited in the order of k.

use crate::lanes::{Bytes, Halves, Lane, Lanes, Words};

/// Steps of k in a unit.
pub(crate) const UNIT: usize = 32;
/// Units in a block of 256.
const BLOCK_UNITS: usize = 8;

/// Takes the weights of a unit, those of a panel in the order of k.
pub(super) trait Sink<L: Lanes> {
    /// The weights of sixteen columns of panel `p` at step `k` of the unit.
    fn put(&mut self, l: L, k: usize, p: usize, w: L::F);
}

/// A packed format of panels.
pub(super) trait Format {
    /// One panel.
    type Panel<'a>: Copy;

    /// Feeds unit `u` of `P` panels (one or two) to the sink, eight steps of a panel at a time.
    fn unit<L: Lanes, const P: usize, S: Sink<L>>(
        l: L,
        panels: &[Self::Panel<'_>; P],
        u: usize,
        sink: &mut S,
    );
}

/// Runs a block for eight steps from `$first` on. Steps are constants where that makes
/// shifts immediate, and a loop where it would only make code.
macro_rules! eight_steps {
    ($lanes:ident, $k:ident, $first:expr, $body:block) => {
        if $lanes::IS_VECTOR {
            eight_steps!(@unrolled $k, $first, $body, 0 1 2 3 4 5 6 7);
        } else {
            for $k in $first..$first + 8 $body
        }
    };
    (@unrolled $k:ident, $first:expr, $body:block, $($n:literal)*) => {
        $({ let $k: usize = $first + $n; $body })*
    };
}

/// Runs a block for each of `$n` panels, one or two. Not a loop: what is indexed by a constant
/// stays in registers.
macro_rules! each_panel {
    ($n:ident, $p:ident, $body:block) => {
        const { assert!($n == 1 || $n == 2) };
        {
            let $p: usize = 0;
            $body
        }
        if $n == 2 {
            let $p: usize = 1;
            $body
        }
    };
}

/// Runs a block for sixteen steps from `$first` on of each of `$n` panels, eight steps of one
/// after eight of the other: so few words are needed at a time, and several chains of additions
/// are in flight.
macro_rules! half_unit {
    ($lanes:ident, $k:ident, $first:literal, $n:ident, $p:ident, $body:block) => {
        each_panel!($n, $p, {
            eight_steps!($lanes, $k, $first, $body);
        });
        each_panel!($n, $p, {
            eight_steps!($lanes, $k, $first + 8, $body);
        });
    };
}

/// Plain f32: `[n_units * 32]` lanes.
pub(super) struct F32;
/// Plain f16: `[n_units * 32]` halves.
pub(super) struct F16;
/// Plain bf16: `[n_units * 32]` halves.
pub(super) struct BF16;

macro_rules! plain {
    ($format:ident, $lane:ty, $load:ident) => {
        impl Format for $format {
            type Panel<'a> = &'a [$lane];

            #[inline(always)]
            fn unit<L: Lanes, const P: usize, S: Sink<L>>(
                l: L,
                panels: &[Self::Panel<'_>; P],
                u: usize,
                sink: &mut S,
            ) {
                let mut units: [&[$lane; UNIT]; P] = [&panels[0].as_chunks().0[u]; P];
                for p in 1..P {
                    units[p] = &panels[p].as_chunks().0[u];
                }
                half_unit!(L, k, 0, P, p, {
                    sink.put(l, k, p, l.$load(&units[p][k]));
                });
                half_unit!(L, k, 16, P, p, {
                    sink.put(l, k, p, l.$load(&units[p][k]));
                });
            }
        }
    };
}
plain!(F32, Lane, load);
plain!(F16, Halves, load_f16);
plain!(BF16, Halves, load_bf16);

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

/// How a group's scale and offset are computed.
pub(super) trait Rule {
    /// Scale and offset of half `half` (16 steps) of unit `u`.
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> (L::F, L::F);
    /// Both halves of a unit share one group.
    const SHARED: bool;
}

/// `d` per unit, offset `-BIAS * d`.
pub(super) struct Offset<const BIAS: usize>;
/// `d` and `m` per unit.
pub(super) struct Affine;
/// `d` and `m` per 8 units, integer scale and minimum per unit.
pub(super) struct Affine32;
/// `d` and `m` per 8 units, integer scale and minimum per half unit.
pub(super) struct Affine16;
/// `d` per 8 units, integer scale + 128 per half unit, offset `-BIAS` times the scale.
pub(super) struct Offset16<const BIAS: usize>;

impl<const BIAS: usize> Rule for Offset<BIAS> {
    const SHARED: bool = true;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> (L::F, L::F) {
        let d = l.load_f16(&panel.halves[u]);
        (d, l.mul(d, l.splat(-(BIAS as f32))))
    }
}

impl Rule for Affine {
    const SHARED: bool = true;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> (L::F, L::F) {
        let [d, m] = &panel.halves.as_chunks().0[u];
        (l.load_f16(d), l.load_f16(m))
    }
}

#[inline(always)]
fn affine_of_block<L: Lanes>(
    l: L,
    [d, m]: &[Halves; 2],
    [scale, min]: &[Bytes; 2],
) -> (L::F, L::F) {
    let scale = l.to_f32(l.load_bytes(scale));
    let min = l.to_f32(l.load_bytes(min));
    let negative = l.sub(l.splat(0.0), l.load_f16(m));
    (l.mul(l.load_f16(d), scale), l.mul(negative, min))
}

impl Rule for Affine32 {
    const SHARED: bool = true;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, _half: usize) -> (L::F, L::F) {
        let halves = &panel.halves.as_chunks().0[u / BLOCK_UNITS];
        affine_of_block(l, halves, &panel.bytes.as_chunks().0[u])
    }
}

impl Rule for Affine16 {
    const SHARED: bool = false;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> (L::F, L::F) {
        let halves = &panel.halves.as_chunks().0[u / BLOCK_UNITS];
        affine_of_block(l, halves, &panel.bytes.as_chunks().0[2 * u + half])
    }
}

impl<const BIAS: usize> Rule for Offset16<BIAS> {
    const SHARED: bool = false;
    #[inline(always)]
    fn scale<L: Lanes>(l: L, panel: &Codes<'_>, u: usize, half: usize) -> (L::F, L::F) {
        let d = l.load_f16(&panel.halves[u / BLOCK_UNITS]);
        let scale = l.to_f32(l.load_bytes(&panel.bytes[2 * u + half]));
        let d = l.mul(d, l.sub(scale, l.splat(128.0)));
        (d, l.mul(d, l.splat(-(BIAS as f32))))
    }
}

/// Codes of `BITS` bits under a rule.
pub(super) struct Quantized<R, const BITS: usize>(std::marker::PhantomData<R>);

/// Bits `at..at + width` of a word, moved to bit `to` of a code.
#[derive(Clone, Copy)]
struct Field {
    word: usize,
    at: usize,
    width: usize,
    to: usize,
}

/// Whole codes in the words of a unit.
const fn n_whole(n_bits: usize) -> usize {
    32 / n_bits * n_bits
}

/// Where the code of a step lies that is whole in one word.
#[inline(always)]
const fn whole_field(n_bits: usize, k: usize) -> Field {
    let per_word = 32 / n_bits;
    Field {
        word: k / per_word,
        at: k % per_word * n_bits,
        width: n_bits,
        to: 0,
    }
}

/// Bits `2 * pair` and above of the last code but one (`last` = 0) or of the last (1): the
/// spare bits of one word.
#[inline(always)]
const fn spare_field(n_bits: usize, last: usize, pair: usize) -> Field {
    let half = n_bits / 2;
    Field {
        word: last * (n_bits - half) + pair,
        at: 30,
        width: 2,
        to: 2 * pair,
    }
}

/// The highest bit of the same code, where codes have an odd number of bits: the two codes
/// share the word between theirs.
#[inline(always)]
const fn odd_field(n_bits: usize, last: usize) -> Field {
    let half = n_bits / 2;
    Field {
        word: half,
        at: 30 + last,
        width: 1,
        to: 2 * half,
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
    if to == 0 && at + width == 32 {
        return w;
    }
    l.and(w, ((1 << width) - 1) << to)
}

/// The codes of step `k`; constant `k` folds to shifts and masks.
#[inline(always)]
fn code<L: Lanes, const BITS: usize>(l: L, words: &[Words; BITS], k: usize) -> L::I {
    if k < n_whole(BITS) {
        return take(l, words, whole_field(BITS, k));
    }
    let last = k - n_whole(BITS);
    let mut code = take(l, words, spare_field(BITS, last, 0));
    for pair in 1..BITS / 2 {
        code = l.or(code, take(l, words, spare_field(BITS, last, pair)));
    }
    if BITS % 2 == 1 {
        code = l.or(code, take(l, words, odd_field(BITS, last)));
    }
    code
}

/// The fields of the last code but one (`last` = 0) or of the last (1) that is not whole.
#[inline(always)]
fn spare_fields<const BITS: usize>(last: usize) -> impl Iterator<Item = Field> {
    let pairs = (0..BITS / 2).map(move |pair| spare_field(BITS, last, pair));
    pairs.chain((BITS % 2 == 1).then(|| odd_field(BITS, last)))
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
    let (whole, spare) = codes.split_at(n_whole(BITS));
    for (word, codes) in words.iter_mut().zip(whole.chunks_exact(32 / BITS)) {
        for (i, code) in codes.iter().enumerate() {
            *word |= u32::from(*code) << (i * BITS);
        }
    }
    for (last, code) in spare.iter().enumerate() {
        for field in spare_fields::<BITS>(last) {
            let bits = u32::from(*code) >> field.to & ((1 << field.width) - 1);
            words[field.word] |= bits << field.at;
        }
    }
    for (to, word) in to.iter_mut().zip(words) {
        to.0[column] = word;
    }
}

fn read_column<const BITS: usize>(words: &[Words], column: usize) -> [u8; UNIT] {
    let words: [u32; BITS] = std::array::from_fn(|i| words[i].0[column]);
    let mut codes = [0; UNIT];
    let (whole, spare) = codes.split_at_mut(n_whole(BITS));
    for (word, codes) in words.iter().zip(whole.chunks_exact_mut(32 / BITS)) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = (word >> (i * BITS) & ((1 << BITS) - 1)) as u8;
        }
    }
    for (last, code) in spare.iter_mut().enumerate() {
        for field in spare_fields::<BITS>(last) {
            let bits = words[field.word] >> field.at & ((1 << field.width) - 1);
            *code |= (bits << field.to) as u8;
        }
    }
    codes
}

impl<R: Rule, const BITS: usize> Format for Quantized<R, BITS> {
    type Panel<'a> = Codes<'a>;

    #[inline(always)]
    fn unit<L: Lanes, const P: usize, S: Sink<L>>(
        l: L,
        panels: &[Codes<'_>; P],
        u: usize,
        sink: &mut S,
    ) {
        let mut words: [&[Words; BITS]; P] = [&panels[0].words.as_chunks().0[u]; P];
        let mut scale = [R::scale(l, &panels[0], u, 0); P];
        for p in 1..P {
            words[p] = &panels[p].words.as_chunks().0[u];
            scale[p] = R::scale(l, &panels[p], u, 0);
        }
        half_unit!(L, k, 0, P, p, {
            let (d, m) = scale[p];
            sink.put(l, k, p, l.fma(l.to_f32(code(l, words[p], k)), d, m));
        });
        if !R::SHARED {
            each_panel!(P, p, {
                scale[p] = R::scale(l, &panels[p], u, 1);
            });
        }
        half_unit!(L, k, 16, P, p, {
            let (d, m) = scale[p];
            sink.put(l, k, p, l.fma(l.to_f32(code(l, words[p], k)), d, m));
        });
    }
}
