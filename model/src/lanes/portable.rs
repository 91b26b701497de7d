//! Sixteen lanes as an array: the safe twin of every other instance, and what runs on
//! processors that have none. The compiler vectorises it where the target allows.

use half::{bf16, f16};

use super::{Bytes, Halves, Kernel, Lane, Lanes, WIDTH, Words};

/// Lanes without any instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

#[inline(always)]
fn zip<T: Copy, R: Copy + Default>(
    a: [T; WIDTH],
    b: [T; WIDTH],
    f: impl Fn(T, T) -> R,
) -> [R; WIDTH] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Lanes for Portable {
    const N_TILE_ROWS: usize = 1;
    const IS_VECTOR: bool = false;
    const ADDS_DOT: bool = false;
    const DOTS_BYTES: bool = false;
    type F = [f32; WIDTH];
    type I = [u32; WIDTH];

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn apart<K: Kernel>(lanes: Portable, kernel: K) -> K::Output {
            kernel.run(lanes)
        }
        apart(self, kernel)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; WIDTH]
    }
    #[inline(always)]
    fn load(self, from: &Lane) -> Self::F {
        from.0
    }
    #[inline(always)]
    fn store(self, x: Self::F, to: &mut Lane) {
        to.0 = x;
    }
    #[inline(always)]
    fn load_f16(self, from: &Halves) -> Self::F {
        from.0.map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, to: &mut Halves) {
        to.0 = x.map(|v| f16::from_f32(v).to_bits());
    }
    #[inline(always)]
    fn load_bf16(self, from: &Halves) -> Self::F {
        from.0.map(|bits| bf16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn load_words(self, from: &Words) -> Self::I {
        from.0
    }
    #[inline(always)]
    fn store_words(self, x: Self::I, to: &mut Words) {
        to.0 = x;
    }
    #[inline(always)]
    fn load_bytes(self, from: &Bytes) -> Self::I {
        from.0.map(u32::from)
    }
    #[inline(always)]
    fn splat_word(self, x: u32) -> Self::I {
        [x; WIDTH]
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn any_above(self, a: Self::F, b: Self::F) -> bool {
        a.iter().zip(&b).any(|(a, b)| a > b)
    }
    #[inline(always)]
    fn keep_at_least(self, a: Self::F, x: Self::F, limit: f32) -> Self::F {
        zip(a, x, |a, x| if x >= limit { a } else { 0.0 })
    }
    #[inline(always)]
    fn and(self, a: Self::I, mask: u32) -> Self::I {
        a.map(|a| a & mask)
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn add_words(self, a: Self::I, b: u32) -> Self::I {
        a.map(|a| a.wrapping_add(b))
    }
    #[inline(always)]
    fn sub_words(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, u32::wrapping_sub)
    }
    #[inline(always)]
    fn sub_halves(self, a: Self::I, b: u16) -> Self::I {
        a.map(|a| {
            let (low, high) = (a as u16, (a >> 16) as u16);
            u32::from(low.wrapping_sub(b)) | u32::from(high.wrapping_sub(b)) << 16
        })
    }
    #[inline(always)]
    fn add_dot(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| {
            let low = i32::from(a[i] as i16) * i32::from(b[i] as i16);
            let high = i32::from((a[i] >> 16) as i16) * i32::from((b[i] >> 16) as i16);
            acc[i].wrapping_add(low.wrapping_add(high) as u32)
        })
    }
    #[inline(always)]
    fn add_dot_bytes(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| {
            let (a, b) = (a[i].to_le_bytes(), b[i].to_le_bytes().map(|b| b as i8));
            let products = a
                .into_iter()
                .zip(b)
                .map(|(a, b)| i32::from(a) * i32::from(b));
            acc[i].wrapping_add(products.sum::<i32>() as u32)
        })
    }
    #[inline(always)]
    fn shr(self, a: Self::I, n: u32) -> Self::I {
        a.map(|a| a >> n)
    }
    #[inline(always)]
    fn shl(self, a: Self::I, n: u32) -> Self::I {
        a.map(|a| a << n)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        a.map(|a| a as i32 as f32)
    }
    #[inline(always)]
    fn bits(self, a: Self::F) -> Self::I {
        a.map(f32::to_bits)
    }
    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::F {
        a.map(f32::from_bits)
    }
}
