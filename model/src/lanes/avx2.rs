//! Sixteen lanes as two AVX2 registers.
//!
//! Invariant: an [`Avx2`] exists only on a processor that has AVX2, FMA and F16C.

use std::arch::x86_64::*;

use super::{Bytes, Halves, Kernel, Lane, Lanes, Words};

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, if it can be had.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn with_features<K: Kernel>(lanes: Avx2, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        // SAFETY: `self` exists, so the processor has the features.
        unsafe { with_features(self, kernel) }
    }
}

/// Evaluates intrinsics on the low and the high half.
macro_rules! halves {
    ($low:expr, $high:expr) => {
        // SAFETY: a value of `Avx2` exists, so the processor has the features; memory is
        // accessed only through references to sixteen elements.
        unsafe { [$low, $high] }
    };
}

impl Lanes for Avx2 {
    const N_TILE_ROWS: usize = 6;
    const IS_VECTOR: bool = true;
    const ADDS_DOT: bool = false;
    const DOTS_BYTES: bool = false;
    type F = [__m256; 2];
    type I = [__m256i; 2];

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        halves!(_mm256_set1_ps(x), _mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, from: &Lane) -> Self::F {
        let p = from.0.as_ptr();
        halves!(_mm256_load_ps(p), _mm256_load_ps(p.add(8)))
    }
    #[inline(always)]
    fn store(self, x: Self::F, to: &mut Lane) {
        let p = to.0.as_mut_ptr();
        // SAFETY: as above; `to` is sixteen aligned f32.
        unsafe {
            _mm256_store_ps(p, x[0]);
            _mm256_store_ps(p.add(8), x[1]);
        }
    }
    #[inline(always)]
    fn load_f16(self, from: &Halves) -> Self::F {
        let p = from.0.as_ptr().cast::<__m128i>();
        halves!(
            _mm256_cvtph_ps(_mm_load_si128(p)),
            _mm256_cvtph_ps(_mm_load_si128(p.add(1)))
        )
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, to: &mut Halves) {
        let p = to.0.as_mut_ptr().cast::<__m128i>();
        // SAFETY: as above; `to` is sixteen aligned u16.
        unsafe {
            _mm_store_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]));
            _mm_store_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]));
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &Halves) -> Self::F {
        let p = from.0.as_ptr().cast::<__m128i>();
        halves!(
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
                _mm_load_si128(p)
            ))),
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(
                _mm_load_si128(p.add(1))
            )))
        )
    }
    #[inline(always)]
    fn load_words(self, from: &Words) -> Self::I {
        let p = from.0.as_ptr().cast::<__m256i>();
        halves!(_mm256_load_si256(p), _mm256_load_si256(p.add(1)))
    }
    #[inline(always)]
    fn store_words(self, x: Self::I, to: &mut Words) {
        let p = to.0.as_mut_ptr().cast::<__m256i>();
        // SAFETY: as above; `to` is sixteen aligned u32.
        unsafe {
            _mm256_store_si256(p, x[0]);
            _mm256_store_si256(p.add(1), x[1]);
        }
    }
    #[inline(always)]
    fn load_bytes(self, from: &Bytes) -> Self::I {
        let p = from.0.as_ptr();
        halves!(
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast()))
        )
    }
    #[inline(always)]
    fn splat_word(self, x: u32) -> Self::I {
        halves!(_mm256_set1_epi32(x as i32), _mm256_set1_epi32(x as i32))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1]))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1]))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1]))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1]))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        halves!(
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1])
        )
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1]))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1]))
    }
    #[inline(always)]
    fn any_above(self, a: Self::F, b: Self::F) -> bool {
        let [low, high] = halves!(
            _mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]),
            _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1])
        );
        // SAFETY: as above.
        unsafe { _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0 }
    }
    #[inline(always)]
    fn keep_at_least(self, a: Self::F, x: Self::F, limit: f32) -> Self::F {
        halves!(
            _mm256_and_ps(
                a[0],
                _mm256_cmp_ps::<_CMP_GE_OQ>(x[0], _mm256_set1_ps(limit))
            ),
            _mm256_and_ps(
                a[1],
                _mm256_cmp_ps::<_CMP_GE_OQ>(x[1], _mm256_set1_ps(limit))
            )
        )
    }
    #[inline(always)]
    fn and(self, a: Self::I, mask: u32) -> Self::I {
        halves!(
            _mm256_and_si256(a[0], _mm256_set1_epi32(mask as i32)),
            _mm256_and_si256(a[1], _mm256_set1_epi32(mask as i32))
        )
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1]))
    }
    #[inline(always)]
    fn add_words(self, a: Self::I, b: u32) -> Self::I {
        halves!(
            _mm256_add_epi32(a[0], _mm256_set1_epi32(b as i32)),
            _mm256_add_epi32(a[1], _mm256_set1_epi32(b as i32))
        )
    }
    #[inline(always)]
    fn sub_words(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1]))
    }
    #[inline(always)]
    fn sub_halves(self, a: Self::I, b: u16) -> Self::I {
        halves!(
            _mm256_sub_epi16(a[0], _mm256_set1_epi16(b as i16)),
            _mm256_sub_epi16(a[1], _mm256_set1_epi16(b as i16))
        )
    }
    #[inline(always)]
    fn add_dot(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        halves!(
            _mm256_add_epi32(acc[0], _mm256_madd_epi16(a[0], b[0])),
            _mm256_add_epi32(acc[1], _mm256_madd_epi16(a[1], b[1]))
        )
    }
    #[inline(always)]
    fn add_dot_bytes(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        // Even and odd bytes as halves: an instruction for bytes would saturate.
        let even = halves!(
            _mm256_madd_epi16(
                _mm256_and_si256(a[0], _mm256_set1_epi16(0xff)),
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b[0]))
            ),
            _mm256_madd_epi16(
                _mm256_and_si256(a[1], _mm256_set1_epi16(0xff)),
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b[1]))
            )
        );
        let odd = halves!(
            _mm256_madd_epi16(_mm256_srli_epi16::<8>(a[0]), _mm256_srai_epi16::<8>(b[0])),
            _mm256_madd_epi16(_mm256_srli_epi16::<8>(a[1]), _mm256_srai_epi16::<8>(b[1]))
        );
        halves!(
            _mm256_add_epi32(acc[0], _mm256_add_epi32(even[0], odd[0])),
            _mm256_add_epi32(acc[1], _mm256_add_epi32(even[1], odd[1]))
        )
    }
    #[inline(always)]
    fn shr(self, a: Self::I, n: u32) -> Self::I {
        halves!(
            _mm256_srl_epi32(a[0], _mm_cvtsi32_si128(n as i32)),
            _mm256_srl_epi32(a[1], _mm_cvtsi32_si128(n as i32))
        )
    }
    #[inline(always)]
    fn shl(self, a: Self::I, n: u32) -> Self::I {
        halves!(
            _mm256_sll_epi32(a[0], _mm_cvtsi32_si128(n as i32)),
            _mm256_sll_epi32(a[1], _mm_cvtsi32_si128(n as i32))
        )
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        halves!(_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1]))
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        halves!(_mm256_castps_si256(a[0]), _mm256_castps_si256(a[1]))
    }
    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        halves!(_mm256_castsi256_ps(a[0]), _mm256_castsi256_ps(a[1]))
    }
}
