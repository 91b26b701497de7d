//! How do sixteen columns of packed weights become f32, sixteen at a time?
//!
//! A panel holds sixteen output columns. Along k it is cut into units of 32 steps. The
//! codes of a unit lie in bit planes of u32 lanes, one lane a column, so that every step
//! is a shift and a mask of a register, whatever the width of a code:
//!
//! | plane | words a unit | step k lies in word | at bit |
//! | --- | --- | --- | --- |
//! | 8 bits | 8 | k % 8 | 8 * (k / 8) |
//! | 4 bits | 4 | k % 4 | 4 * (k / 4) |
//! | 2 bits | 2 | k % 2 | 2 * (k / 2) |
//! | 1 bit | 1 | 0 | k |
//!
//! Wider codes are two planes, low bits first: 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2.
//! Invariant: a weight is `fma(code, d, m)`, equal to GGML's dequantization bit for bit,
//! and steps are visited in the order of k.

use crate::lanes::{Bytes, Halves, Lane, Lanes, Words};

/// Steps of k in a unit.
pub(crate) const UNIT: usize = 32;
/// Units in a block of 256.
const BLOCK_UNITS: usize = 8;

/// Takes the weights of a unit, in the order of k.
pub(super) trait Sink<L: Lanes> {
    /// The weights of sixteen columns of panel `p` at step `k` of the unit.
    fn put(&mut self, l: L, k: usize, p: usize, w: L::F);
}

/// A packed format of panels.
pub(super) trait Format {
    /// One panel.
    type Panel<'a>: Copy;

    /// Feeds unit `u` of `P` panels to the sink, step by step.
    fn unit<L: Lanes, const P: usize, S: Sink<L>>(
        l: L,
        panels: &[Self::Panel<'_>; P],
        u: usize,
        sink: &mut S,
    );
}

/// Runs a block for sixteen steps from `$first` on. Steps are constants where that makes
/// shifts immediate, and a loop where it would only make code.
macro_rules! each_step {
    ($lanes:ident, $k:ident, $first:literal, $body:block) => {
        if $lanes::IS_VECTOR {
            each_step!(@unrolled $k, $first, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        } else {
            for $k in $first..$first + 16 $body
        }
    };
    (@unrolled $k:ident, $first:literal, $body:block, $($n:literal)*) => {
        $({ let $k: usize = $first + $n; $body })*
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
                each_step!(L, k, 0, {
                    for p in 0..P {
                        sink.put(l, k, p, l.$load(&units[p][k]));
                    }
                });
                each_step!(L, k, 16, {
                    for p in 0..P {
                        sink.put(l, k, p, l.$load(&units[p][k]));
                    }
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
    /// `[n_units][n_bits]` planes.
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

/// Bits `at..at + width` of `word`, moved to bit `to`.
#[inline(always)]
fn field<L: Lanes>(l: L, word: &Words, at: usize, width: usize, to: usize) -> L::I {
    let w = l.load_words(word);
    let w = match at.cmp(&to) {
        std::cmp::Ordering::Less => l.shl(w, (to - at) as u32),
        std::cmp::Ordering::Equal => w,
        std::cmp::Ordering::Greater => l.shr(w, (at - to) as u32),
    };
    l.and(w, ((1 << width) - 1) << to)
}

/// The codes of step `k`; constant `k` folds to shifts and masks.
#[inline(always)]
fn code<L: Lanes, const BITS: usize>(l: L, words: &[Words; BITS], k: usize) -> L::I {
    match BITS {
        8 => field(l, &words[k % 8], 8 * (k / 8), 8, 0),
        4 => field(l, &words[k % 4], 4 * (k / 4), 4, 0),
        2 => field(l, &words[k % 2], 2 * (k / 2), 2, 0),
        3 => l.or(
            field(l, &words[k % 2], 2 * (k / 2), 2, 0),
            field(l, &words[2], k, 1, 2),
        ),
        5 => l.or(
            field(l, &words[k % 4], 4 * (k / 4), 4, 0),
            field(l, &words[4], k, 1, 4),
        ),
        6 => l.or(
            field(l, &words[k % 4], 4 * (k / 4), 4, 0),
            field(l, &words[4 + k % 2], 2 * (k / 2), 2, 4),
        ),
        _ => unreachable!("no format has codes of this width"),
    }
}

/// Writes the codes of a unit of one column into the planes, which hold zeros there.
pub(super) fn write_codes(words: &mut [Words], column: usize, codes: &[u8; UNIT]) {
    let n_bits = words.len();
    let mut write = |first: usize, plane: &[u32]| {
        for (word, bits) in words[first..].iter_mut().zip(plane) {
            word.0[column] = *bits;
        }
    };
    match n_bits {
        2 => write(0, &plane::<2>(codes, 0)),
        4 => write(0, &plane::<4>(codes, 0)),
        8 => write(0, &plane::<8>(codes, 0)),
        3 => {
            write(0, &plane::<2>(codes, 0));
            write(2, &plane::<1>(codes, 2));
        }
        5 => {
            write(0, &plane::<4>(codes, 0));
            write(4, &plane::<1>(codes, 4));
        }
        6 => {
            write(0, &plane::<4>(codes, 0));
            write(4, &plane::<2>(codes, 4));
        }
        n => unreachable!("no format has codes of {n} bits"),
    }
}

/// One column's words of a plane of `W` bits, taken from bit `from` of the codes.
fn plane<const W: usize>(codes: &[u8; UNIT], from: u32) -> [u32; W] {
    let mut words = [0; W];
    for (place, codes) in codes.as_chunks::<W>().0.iter().enumerate() {
        for (word, code) in words.iter_mut().zip(codes) {
            *word |= (u32::from(*code) >> from & ((1 << W) - 1)) << (W * place);
        }
    }
    words
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
        each_step!(L, k, 0, {
            for p in 0..P {
                let (d, m) = scale[p];
                sink.put(l, k, p, l.fma(l.to_f32(code(l, words[p], k)), d, m));
            }
        });
        if !R::SHARED {
            for p in 0..P {
                scale[p] = R::scale(l, &panels[p], u, 1);
            }
        }
        each_step!(L, k, 16, {
            for p in 0..P {
                let (d, m) = scale[p];
                sink.put(l, k, p, l.fma(l.to_f32(code(l, words[p], k)), d, m));
            }
        });
    }
}
