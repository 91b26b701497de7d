//! Sixteen lanes as one AVX-512 register.
//!
//! Invariant: an [`Avx512`] exists only on a processor that has AVX-512F, BW and VNNI.

use std::arch::x86_64::*;

use super::{Bytes, Halves, Kernel, Lane, Lanes, Words};

/// Proof that the processor has AVX-512F, BW and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, if it can be had.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        #[inline(never)]
        fn with_features<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        // SAFETY: `self` exists, so the processor has the features.
        unsafe { with_features(self, kernel) }
    }
}

/// Evaluates intrinsics.
macro_rules! whole {
    ($e:expr) => {
        // SAFETY: a value of `Avx512` exists, so the processor has the features; memory is
        // accessed only through references to sixteen aligned elements.
        unsafe { $e }
    };
}

impl Lanes for Avx512 {
    const N_TILE_ROWS: usize = 14;
    const IS_VECTOR: bool = true;
    const ADDS_DOT: bool = true;
    const DOTS_BYTES: bool = true;
    type F = __m512;
    type I = __m512i;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        whole!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, from: &Lane) -> Self::F {
        whole!(_mm512_load_ps(from.0.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: Self::F, to: &mut Lane) {
        whole!(_mm512_store_ps(to.0.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn load_f16(self, from: &Halves) -> Self::F {
        whole!(_mm512_cvtph_ps(_mm256_load_si256(from.0.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, to: &mut Halves) {
        whole!(_mm256_store_si256(
            to.0.as_mut_ptr().cast(),
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)
        ))
    }
    #[inline(always)]
    fn load_bf16(self, from: &Halves) -> Self::F {
        whole!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
            _mm512_cvtepu16_epi32(_mm256_load_si256(from.0.as_ptr().cast()))
        )))
    }
    #[inline(always)]
    fn load_words(self, from: &Words) -> Self::I {
        whole!(_mm512_load_si512(from.0.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_words(self, x: Self::I, to: &mut Words) {
        whole!(_mm512_store_si512(to.0.as_mut_ptr().cast(), x))
    }
    #[inline(always)]
    fn load_bytes(self, from: &Bytes) -> Self::I {
        whole!(_mm512_cvtepu8_epi32(_mm_load_si128(from.0.as_ptr().cast())))
    }
    #[inline(always)]
    fn splat_word(self, x: u32) -> Self::I {
        whole!(_mm512_set1_epi32(x as i32))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        whole!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        whole!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        whole!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        whole!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        whole!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        whole!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        whole!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn any_above(self, a: Self::F, b: Self::F) -> bool {
        // SAFETY: as in `whole`.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) != 0 }
    }
    #[inline(always)]
    fn keep_at_least(self, a: Self::F, x: Self::F, limit: f32) -> Self::F {
        whole!(_mm512_maskz_mov_ps(
            _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(limit)),
            a
        ))
    }
    #[inline(always)]
    fn and(self, a: Self::I, mask: u32) -> Self::I {
        whole!(_mm512_and_si512(a, _mm512_set1_epi32(mask as i32)))
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        whole!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn add_words(self, a: Self::I, b: u32) -> Self::I {
        whole!(_mm512_add_epi32(a, _mm512_set1_epi32(b as i32)))
    }
    #[inline(always)]
    fn sub_words(self, a: Self::I, b: Self::I) -> Self::I {
        whole!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn sub_halves(self, a: Self::I, b: u16) -> Self::I {
        whole!(_mm512_sub_epi16(a, _mm512_set1_epi16(b as i16)))
    }
    #[inline(always)]
    fn add_dot(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        whole!(_mm512_dpwssd_epi32(acc, a, b))
    }
    #[inline(always)]
    fn add_dot_bytes(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        whole!(_mm512_dpbusd_epi32(acc, a, b))
    }
    #[inline(always)]
    fn shr(self, a: Self::I, n: u32) -> Self::I {
        whole!(_mm512_srl_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn shl(self, a: Self::I, n: u32) -> Self::I {
        whole!(_mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32)))
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        whole!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        whole!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        whole!(_mm512_castsi512_ps(a))
    }
}
