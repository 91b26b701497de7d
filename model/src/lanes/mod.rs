//! How are sixteen numbers computed at once, with the same bits on every processor?
//!
//! A kernel is written once against [`Lanes`], as inlined code over registers of sixteen
//! lanes, and is run by [`Isa::run`] under the widest instruction set the processor has.
//! Every operation is one IEEE-754 operation a lane (a fused multiply-add rounds once),
//! nothing is ever reduced across lanes in an order that depends on the register width,
//! so all instances of a kernel give the same bits. [`portable`] is the safe twin that the
//! tests hold the others against. What an instruction set has besides lanes stands beside them
//! ([`amx`]) and is used by whoever can have the same bits from it.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod portable;

use std::sync::OnceLock;

pub(crate) use math::{exp, gelu_product, sigmoid_product, soft_cap, sum, sum_of_lanes};
pub(crate) use portable::Portable;

/// Number of lanes of a register: output columns of a matmul, keys or rows in attention.
pub(crate) const WIDTH: usize = 16;

/// Sixteen f32 in memory, aligned so that no load crosses a cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lane(pub [f32; WIDTH]);

impl Lane {
    /// All lanes zero.
    pub const ZERO: Self = Self([0.0; WIDTH]);
}

/// All numbers of some lanes, in order.
pub(crate) fn numbers(lanes: &[Lane]) -> &[f32] {
    const { assert!(size_of::<Lane>() == WIDTH * size_of::<f32>()) };
    // SAFETY: a `Lane` is sixteen f32 and nothing else.
    unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * WIDTH) }
}

/// Sixteen u32 in memory: bit fields of packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Words(pub [u32; WIDTH]);

/// Sixteen 16-bit floats (f16, or bf16 where said) in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(32))]
pub(crate) struct Halves(pub [u16; WIDTH]);

impl Halves {
    /// All lanes zero.
    pub const ZERO: Self = Self([0; WIDTH]);
}

/// Sixteen bytes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct Bytes(pub [u8; WIDTH]);

/// Operations on registers of sixteen lanes; a value of the type is the proof that the
/// processor has the instructions.
pub(crate) trait Lanes: Copy {
    /// Rows of a microkernel tile: as many accumulators as registers hold.
    const N_TILE_ROWS: usize;
    /// Whether a lane operation is an instruction, so that unrolling loops pays.
    const IS_VECTOR: bool;
    /// Whether [`Lanes::add_dot`] is one instruction.
    const ADDS_DOT: bool;
    /// Whether [`Lanes::add_dot_bytes`] is one instruction.
    const DOTS_BYTES: bool;
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen u32.
    type I: Copy;

    /// Runs a kernel as a function of its own: compiled once, however many call it.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
    fn splat(self, x: f32) -> Self::F;
    fn load(self, from: &Lane) -> Self::F;
    fn store(self, x: Self::F, to: &mut Lane);
    /// Exact conversion of sixteen f16.
    fn load_f16(self, from: &Halves) -> Self::F;
    /// Conversion to f16, ties to even.
    fn store_f16(self, x: Self::F, to: &mut Halves);
    /// Exact conversion of sixteen bf16.
    fn load_bf16(self, from: &Halves) -> Self::F;
    fn load_words(self, from: &Words) -> Self::I;
    fn store_words(self, x: Self::I, to: &mut Words);
    fn load_bytes(self, from: &Bytes) -> Self::I;
    fn splat_word(self, x: u32) -> Self::I;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where `a > b`, else `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where `a < b`, else `b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Whether any lane of `a` is above that of `b`.
    fn any_above(self, a: Self::F, b: Self::F) -> bool;
    /// `a` where `x >= limit`, else +0.
    fn keep_at_least(self, a: Self::F, x: Self::F, limit: f32) -> Self::F;
    fn and(self, a: Self::I, mask: u32) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping addition.
    fn add_words(self, a: Self::I, b: u32) -> Self::I;
    /// Wrapping subtraction.
    fn sub_words(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping subtraction of `b` from both halves of each lane.
    fn sub_halves(self, a: Self::I, b: u16) -> Self::I;
    /// `acc + low(a) * low(b) + high(a) * high(b)` of signed halves, wrapping.
    fn add_dot(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// `acc` and the four products of the unsigned bytes of `a` with the signed ones of `b`,
    /// wrapping.
    fn add_dot_bytes(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I;
    fn shr(self, a: Self::I, n: u32) -> Self::I;
    fn shl(self, a: Self::I, n: u32) -> Self::I;
    /// Conversion of signed numbers, ties to even.
    fn to_f32(self, a: Self::I) -> Self::F;
    fn bits(self, a: Self::F) -> Self::I;
    fn of_bits(self, a: Self::I) -> Self::F;
}

/// A computation written against [`Lanes`]. Implementations mark `run` and everything it
/// calls `#[inline(always)]`, so that it is compiled anew for each instruction set.
///
/// # Contract
/// No lane operation stands in a closure: a closure that is not inlined is compiled
/// without the instructions, and each of its operations becomes a call.
pub(crate) trait Kernel {
    /// What the computation yields.
    type Output;
    /// Runs it.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// The instruction set that kernels run under.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    /// No assumption beyond the compilation target.
    Portable,
    /// AVX2, FMA and F16C: two registers of eight lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// AVX-512 with its products of integers: one register of sixteen lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// The same, and products of tiles.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(amx::Amx),
}

impl Isa {
    /// The widest instruction set of this processor; looked up once.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            Self::available()
                .pop()
                .expect("portable is always available")
        })
    }

    /// Every instruction set of this processor, narrowest first.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            found.extend(avx2::Avx2::detect().map(Self::Avx2));
            found.extend(avx512::Avx512::detect().map(Self::Avx512));
            #[cfg(target_os = "linux")]
            found.extend(amx::Amx::detect().map(Self::Amx));
        }
        found
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx(_) => "amx",
        }
    }

    /// Whether its lanes multiply bytes by one instruction.
    pub fn dots_bytes(self) -> bool {
        self.run(DotsBytes)
    }

    /// Runs a kernel under this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(lanes) => lanes.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(lanes) => lanes.run(kernel),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx(amx) => amx.lanes().run(kernel),
        }
    }
}

struct DotsBytes;

impl Kernel for DotsBytes {
    type Output = bool;
    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> bool {
        L::DOTS_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every operation of [`Lanes`] on given inputs, as bits.
    struct Everything<'a> {
        a: &'a Lane,
        b: &'a Lane,
        c: &'a Lane,
        h: &'a Halves,
        w: &'a Words,
        y: &'a Bytes,
    }

    impl Kernel for Everything<'_> {
        type Output = Vec<[u32; WIDTH]>;
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let (a, b, c) = (l.load(self.a), l.load(self.b), l.load(self.c));
            let w = l.load_words(self.w);
            let mut out = Vec::new();
            for x in [
                l.fma(a, b, c),
                l.add(a, b),
                l.sub(a, b),
                l.mul(a, b),
                l.div(a, b),
                l.max(a, b),
                l.min(a, b),
                l.keep_at_least(a, b, 0.5),
                l.load_f16(self.h),
                l.load_bf16(self.h),
                l.to_f32(l.load_bytes(self.y)),
                l.to_f32(l.and(w, 0xffff)),
                l.to_f32(l.shr(w, 9)),
                l.of_bits(l.or(l.shl(w, 3), l.add_words(w, 77))),
                l.of_bits(l.add_words(l.bits(a), 1 << 20)),
                l.to_f32(l.sub_words(l.and(w, 0xffff), w)),
                l.to_f32(l.sub_halves(w, 0x1234)),
                l.to_f32(l.add_dot(w, l.bits(a), l.bits(b))),
                l.to_f32(l.add_dot_bytes(w, l.bits(a), l.bits(b))),
                l.to_f32(l.add_dot_bytes(l.splat_word(7), l.splat_word(u32::MAX), l.bits(c))),
                l.to_f32(l.add_dot(l.splat_word(7), l.splat_word(self.w.0[5]), w)),
                l.splat(self.a.0[3]),
                exp(l, a),
                exp(l, l.sub(l.splat(0.0), l.max(a, l.sub(l.splat(0.0), a)))),
                sigmoid_product(l, a, b),
                gelu_product(l, a, b),
                soft_cap(l, c, 50.0),
            ] {
                let mut lane = Lane::ZERO;
                l.store(x, &mut lane);
                out.push(lane.0.map(f32::to_bits));
            }
            let mut words = Words([0; WIDTH]);
            l.store_words(l.shr(w, 1), &mut words);
            out.push(words.0);
            let mut half = Halves::ZERO;
            l.store_f16(a, &mut half);
            out.push(half.0.map(u32::from));
            out.push([sum(l, a).to_bits(); WIDTH]);
            let mut lanes = [*self.a; WIDTH];
            for (i, lane) in lanes.iter_mut().enumerate() {
                lane.0 = std::array::from_fn(|j| self.a.0[(i + 3 * j) % WIDTH]);
            }
            let all: Vec<f32> = lanes.iter().flat_map(|lane| lane.0).collect();
            assert_eq!(numbers(&lanes), all);
            let sums = sum_of_lanes(l, &lanes);
            let mut lane = Lane::ZERO;
            l.store(sums, &mut lane);
            out.push(lane.0.map(f32::to_bits));
            for j in 0..WIDTH {
                let column = Lane(std::array::from_fn(|i| lanes[i].0[j]));
                assert_eq!(sum(l, l.load(&column)).to_bits(), lane.0[j].to_bits());
            }
            out.push([u32::from(l.any_above(a, b)); WIDTH]);
            let lowest = l.splat(self.b.0[0]);
            out.push([u32::from(l.any_above(b, l.max(b, lowest))); WIDTH]);
            out.push([u32::from(l.any_above(l.max(b, lowest), lowest)); WIDTH]);
            out
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_bits_of_the_portable_one(
            a in prop::array::uniform16(-90f32..90.0),
            b in prop::array::uniform16(-3f32..3.0),
            c in prop::array::uniform16(-1e4f32..1e4),
            h in prop::array::uniform16(0u16..0x7c00),
            w in prop::array::uniform16(0u32..0x7000_0000),
            y in prop::array::uniform16(any::<u8>()),
        ) {
            let run = |isa: Isa| isa.run(Everything {
                a: &Lane(a), b: &Lane(b), c: &Lane(c), h: &Halves(h), w: &Words(w), y: &Bytes(y),
            });
            let reference = run(Isa::Portable);
            for isa in Isa::available() {
                prop_assert_eq!(&run(isa), &reference, "{:?}", isa);
            }
        }
    }
}
