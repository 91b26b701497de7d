//! Products of tiles: what AMX adds to AVX-512.
//!
//! A tile is sixteen rows of 64 bytes. One instruction multiplies a tile of sixteen rows, each of
//! 32 numbers, with one of sixteen columns and adds to a tile of f32: 8,192 products. The numbers
//! are bf16. This file's contract is exactness, not rounding: numbers are integers (or integers
//! times one power of two) such that every sum of some of the products of one output is an integer
//! of at most 2^24 (times that power), so that the sums are exact in whatever order the processor
//! takes them. Whoever makes tiles sees to it.
//!
//! Stable Rust has no intrinsics for these instructions, so they are written out here.
//!
//! Invariants: an [`Amx`] exists only where the processor has the instructions and the system has
//! been asked for them, and agreed. A [`Configured`] exists only on the thread whose tiles are
//! configured; what was configured there before is configured again after it.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::marker::PhantomData;

use super::avx512::Avx512;
use super::{Lane, Words};

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;

/// Proof that the processor has AVX-512 and AMX with bf16, and that this process may use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(Avx512);

/// What is multiplied: a row holds pairs of bf16, the first of each in the low half.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Tile(pub [Words; TILE_ROWS]);

impl Tile {
    /// All numbers zero.
    pub const ZERO: Self = Self([Words([0; 16]); TILE_ROWS]);
}

/// Sums: a lane a row.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct SumTile(pub [Lane; TILE_ROWS]);

impl SumTile {
    /// All sums zero.
    pub const ZERO: Self = Self([Lane::ZERO; TILE_ROWS]);
}

impl Amx {
    /// The proof, if it can be had. Asks the system, which grants it to all threads of the process.
    pub fn detect() -> Option<Self> {
        const LEAF: u32 = 7;
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        let lanes = Avx512::detect()?;
        if __cpuid(0).eax < LEAF {
            return None;
        }
        let features = __cpuid_count(LEAF, 0).edx;
        (features & BF16 != 0 && features & TILES != 0 && is_permitted()).then_some(Self(lanes))
    }

    /// The lanes of such a processor.
    pub fn lanes(self) -> Avx512 {
        self.0
    }

    /// Configures the tiles of this thread for products.
    pub fn configure(self) -> Configured {
        let mut before = Configuration::NONE;
        // SAFETY: `self` exists, so the instructions do; each accesses the 64 bytes it is given,
        // and what is loaded is a valid configuration.
        unsafe {
            asm!("sttilecfg [{}]", in(reg) &raw mut before, options(nostack, preserves_flags));
            asm!("ldtilecfg [{}]", in(reg) &Configuration::ALL, options(nostack, preserves_flags));
        }
        Configured {
            before,
            of_thread: PhantomData,
        }
    }
}

/// Linux lets a process use the registers of tiles once it has asked.
fn is_permitted() -> bool {
    const REQUEST: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

/// What `ldtilecfg` takes: a palette, and the size of each of eight tiles.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    const NONE: Self = Self {
        palette: 0,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    /// Eight whole tiles.
    const ALL: Self = Self {
        palette: 1,
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        ..Self::NONE
    };
}

/// Proof that the tiles of this thread are configured.
pub(crate) struct Configured {
    before: Configuration,
    /// The configuration is the thread's: this must not leave it.
    of_thread: PhantomData<*const ()>,
}

/// Runs instructions on tiles; `$x`, `$w` and `$sums` are addresses of tiles.
macro_rules! on_tiles {
    ($x:expr, $w:expr, $sums:expr; $($instruction:literal)*) => {
        // SAFETY: a `Configured` exists, so tiles are configured as whole ones; the instructions
        // read the tiles of `$x` and `$w` and write those of `$sums`, which are 1,024 bytes each,
        // sixteen rows 64 bytes apart. They touch the registers named and no flag.
        unsafe {
            asm!(
                $($instruction,)*
                x = in(reg) $x,
                w = in(reg) $w,
                sums = in(reg) $sums,
                row = in(reg) size_of::<Words>(),
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    };
}

impl Configured {
    /// `sums[0] = x[0] * weights[0]`.
    #[inline(always)]
    pub fn multiply_one(&self, x: &[Tile; 1], weights: &[Tile; 1], sums: &mut [SumTile; 2]) {
        on_tiles!(
            x.as_ptr(), weights.as_ptr(), sums.as_mut_ptr();
            "tilezero tmm0"
            "tileloadd tmm6, [{w} + {row}*1]"
            "tileloadd tmm4, [{x} + {row}*1]"
            "tdpbf16ps tmm0, tmm4, tmm6"
            "tilestored [{sums} + {row}*1], tmm0"
        );
    }

    /// `sums[i] = x[0] * weights[i]`.
    #[inline(always)]
    pub fn multiply_by_each(&self, x: &[Tile; 1], weights: &[Tile; 2], sums: &mut [SumTile; 2]) {
        on_tiles!(
            x.as_ptr(), weights.as_ptr(), sums.as_mut_ptr();
            "tilezero tmm0"
            "tilezero tmm1"
            "tileloadd tmm4, [{x} + {row}*1]"
            "tileloadd tmm6, [{w} + {row}*1]"
            "tileloadd tmm7, [{w} + {row}*1 + 1024]"
            "tdpbf16ps tmm0, tmm4, tmm6"
            "tdpbf16ps tmm1, tmm4, tmm7"
            "tilestored [{sums} + {row}*1], tmm0"
            "tilestored [{sums} + {row}*1 + 1024], tmm1"
        );
    }

    /// `sums[0] = (x[0] + x[1]) * weights[0]`.
    #[inline(always)]
    pub fn multiply_both(&self, x: &[Tile; 2], weights: &[Tile; 1], sums: &mut [SumTile; 2]) {
        on_tiles!(
            x.as_ptr(), weights.as_ptr(), sums.as_mut_ptr();
            "tilezero tmm0"
            "tileloadd tmm6, [{w} + {row}*1]"
            "tileloadd tmm4, [{x} + {row}*1]"
            "tileloadd tmm5, [{x} + {row}*1 + 1024]"
            "tdpbf16ps tmm0, tmm4, tmm6"
            "tdpbf16ps tmm0, tmm5, tmm6"
            "tilestored [{sums} + {row}*1], tmm0"
        );
    }

    /// `sums[i] = x[i] * weights[0]`.
    #[inline(always)]
    pub fn multiply_each(&self, x: &[Tile; 2], weights: &[Tile; 1], sums: &mut [SumTile; 2]) {
        on_tiles!(
            x.as_ptr(), weights.as_ptr(), sums.as_mut_ptr();
            "tilezero tmm0"
            "tilezero tmm1"
            "tileloadd tmm6, [{w} + {row}*1]"
            "tileloadd tmm4, [{x} + {row}*1]"
            "tileloadd tmm5, [{x} + {row}*1 + 1024]"
            "tdpbf16ps tmm0, tmm4, tmm6"
            "tdpbf16ps tmm1, tmm5, tmm6"
            "tilestored [{sums} + {row}*1], tmm0"
            "tilestored [{sums} + {row}*1 + 1024], tmm1"
        );
    }

    /// `sums[i] = x[i] * weights[i]`.
    #[inline(always)]
    pub fn multiply_pairs(&self, x: &[Tile; 2], weights: &[Tile; 2], sums: &mut [SumTile; 2]) {
        on_tiles!(
            x.as_ptr(), weights.as_ptr(), sums.as_mut_ptr();
            "tilezero tmm0"
            "tilezero tmm1"
            "tileloadd tmm4, [{x} + {row}*1]"
            "tileloadd tmm6, [{w} + {row}*1]"
            "tileloadd tmm5, [{x} + {row}*1 + 1024]"
            "tileloadd tmm7, [{w} + {row}*1 + 1024]"
            "tdpbf16ps tmm0, tmm4, tmm6"
            "tdpbf16ps tmm1, tmm5, tmm7"
            "tilestored [{sums} + {row}*1], tmm0"
            "tilestored [{sums} + {row}*1 + 1024], tmm1"
        );
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: as in `configure`; what is loaded was stored there, and a configuration of
        // nothing gives the registers back.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &self.before, options(nostack, preserves_flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn tile(number: impl Fn(usize, usize) -> i32) -> Tile {
        let bits = |row, i| u32::from(bf16::from_f32(number(row, i) as f32).to_bits());
        Tile(std::array::from_fn(|row| {
            Words(std::array::from_fn(|i| {
                bits(row, 2 * i) | bits(row, 2 * i + 1) << 16
            }))
        }))
    }

    #[test]
    fn products_of_tiles_are_exact_up_to_the_largest_sums() {
        let Some(amx) = Amx::detect() else {
            eprintln!("skipped: this processor has no AMX, or the system does not grant it");
            return;
        };
        // The furthest from zero that sums get: 2^24.
        let low = |r: usize, k: usize| ((r * 37 + k * 101) % 256) as i32;
        let high = |r: usize, k: usize| match r {
            0 => -32768,
            _ => ((r * 91 + k * 57) % 256) as i32 * 256 - 32768,
        };
        let low = |r, k| if r == 0 { 0 } else { low(r, k) };
        let weight = |k: usize, c: usize| match c {
            0 => -16,
            1 => 15,
            _ => (k * 7 + c * 13) as i32 % 32 - 16,
        };
        let x = [tile(low), tile(high)];
        // Rows of a tile of weights are pairs of steps, columns follow each other.
        let weights = [tile(|row, i| weight(2 * row + i % 2, i / 2))];
        let configured = amx.configure();
        let (mut both, mut each) = ([SumTile::ZERO; 2], [SumTile::ZERO; 2]);
        let (mut pairs, mut one, mut by_each) = (each, each, each);
        configured.multiply_both(&x, &weights, &mut both);
        configured.multiply_each(&x, &weights, &mut each);
        configured.multiply_pairs(&x, &[weights[0], weights[0]], &mut pairs);
        configured.multiply_one(&[x[0]], &weights, &mut one);
        configured.multiply_by_each(&[x[1]], &[weights[0], x[0]], &mut by_each);
        drop(configured);
        for r in 0..TILE_ROWS {
            for c in 0..16 {
                let sum = |x: &dyn Fn(usize, usize) -> i32| -> i32 {
                    (0..32).map(|k| x(r, k) * weight(k, c)).sum()
                };
                let (low, high) = (sum(&low), sum(&high));
                assert_eq!(both[0].0[r].0[c], (low + high) as f32, "{r} {c}");
                assert_eq!(each[0].0[r].0[c], low as f32, "{r} {c}");
                assert_eq!(each[1].0[r].0[c], high as f32, "{r} {c}");
                assert_eq!(pairs[0].0[r].0[c], low as f32, "{r} {c}");
                assert_eq!(pairs[1].0[r].0[c], high as f32, "{r} {c}");
                assert_eq!(one[0].0[r].0[c], low as f32, "{r} {c}");
                assert_eq!(by_each[0].0[r].0[c], high as f32, "{r} {c}");
            }
        }
        assert_eq!(both[0].0[0].0[0], 16_777_216.0);
    }

    #[test]
    fn what_was_configured_before_is_again_after() {
        let Some(amx) = Amx::detect() else {
            eprintln!("skipped: this processor has no AMX, or the system does not grant it");
            return;
        };
        let palette = || {
            let mut now = Configuration::NONE;
            // SAFETY: as in `configure`.
            unsafe { asm!("sttilecfg [{}]", in(reg) &raw mut now) };
            now.palette
        };
        assert_eq!(palette(), 0);
        let outer = amx.configure();
        drop(amx.configure());
        assert_eq!(palette(), 1);
        drop(outer);
        assert_eq!(palette(), 0);
    }
}
