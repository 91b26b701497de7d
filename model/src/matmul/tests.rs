//! Packed products against plain loops, and against themselves under every instruction
//! set, batch size and thread count: bit for bit.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::arithmetic::Arithmetic;
use crate::decoder::tests::digest;
use crate::quant::{
    Block, BlockFormat, ScaleRule, dequantize,
    tests::{halves_at, tame},
};
use crate::weights::{Encoding, RawTensor};

/// Newer ones stand behind older ones, which have a digest of their own below.
const ENCODINGS: [Encoding; 15] = [
    Encoding::F32,
    Encoding::F16,
    Encoding::BF16,
    Encoding::Q4_0,
    Encoding::Q4_1,
    Encoding::Q5_0,
    Encoding::Q5_1,
    Encoding::Q8_0,
    Encoding::Q2_K,
    Encoding::Q3_K,
    Encoding::Q4_K,
    Encoding::Q5_K,
    Encoding::Q6_K,
    Encoding::IQ4_NL,
    Encoding::IQ4_XS,
];

fn noise(seed: u64, n: usize) -> impl Iterator<Item = u64> {
    let mut state = seed | 1;
    (0..n).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

fn floats(seed: u64, n: usize) -> Vec<f32> {
    noise(seed, n)
        .map(|x| (x >> 40) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

fn matrix(encoding: Encoding, seed: u64, [n_out, n_in]: [usize; 2]) -> Vec<u8> {
    let n = n_out * n_in;
    match encoding {
        Encoding::F32 => floats(seed, n)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        Encoding::F16 => floats(seed, n)
            .iter()
            .flat_map(|&x| f16::from_f32(x).to_le_bytes())
            .collect(),
        Encoding::BF16 => floats(seed, n)
            .iter()
            .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
            .collect(),
        _ => {
            let n_bytes = encoding.bytes_of([n_out, n_in]).expect("whole blocks");
            tame(
                encoding,
                noise(seed, n_bytes).map(|x| (x >> 56) as u8).collect(),
            )
        }
    }
}

fn product(isa: Isa, weights: &PackedMatrix, x: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let mut activations = Activations::zeros(x.len(), weights.n_in);
    for (row, x) in x.iter().enumerate() {
        activations.set_row(row, x);
    }
    let mut out = Activations::zeros(x.len(), weights.n_out());
    multiply(
        isa,
        &activations,
        vec![Product {
            weights,
            bias: None,
            out: &mut out,
            add: None,
        }],
    );
    (0..x.len())
        .map(|row| {
            let mut y = vec![0.0; weights.n_out()];
            out.read_row(row, 0, &mut y);
            y.iter().map(|y| y.to_bits()).collect()
        })
        .collect()
}

/// One output by plain loops over groups: sums of integers in i64, scales read from blocks.
fn by_groups(
    arithmetic: Arithmetic,
    (encoding, format): (Encoding, BlockFormat),
    bytes: &[u8],
    x: &[f32],
) -> f32 {
    let mut block = Block::new();
    let mut acc = 0f32;
    let n_units = encoding.block_len() / UNIT;
    for (b, bytes) in bytes.chunks_exact(encoding.block_bytes()).enumerate() {
        block.read(encoding, bytes);
        for u in 0..n_units {
            let x = &x[(b * n_units + u) * UNIT..][..UNIT];
            let (integers, scale_of_x) = match arithmetic {
                Arithmetic::Int16 => rounded(x),
                Arithmetic::Int8 => rounded_to_bytes(x),
            };
            let n = match format.rule {
                ScaleRule::Affine16 | ScaleRule::Offset16 { .. } => 16,
                _ => UNIT,
            };
            for g in 0..UNIT / n {
                let steps = g * n..(g + 1) * n;
                let code = |k: usize| i64::from(block.codes[u * UNIT + k]);
                let group = (u * UNIT + g * n) / n;
                let (d, m) = (
                    f16::from_bits(block.d).to_f32(),
                    f16::from_bits(block.m).to_f32(),
                );
                let (scale, min) = (
                    f32::from(block.scales[group % 16]),
                    f32::from(block.mins[group % 16]),
                );
                let (bias, scale, offset) = match format.rule {
                    ScaleRule::Offset { bias } => (bias, d, None),
                    ScaleRule::Affine => (0, d, Some(m)),
                    ScaleRule::Affine32 | ScaleRule::Affine16 => (0, d * scale, Some(-m * min)),
                    ScaleRule::Offset16 { bias } => (bias, d * (scale - 128.0), None),
                };
                let products = steps
                    .clone()
                    .map(|k| (code(k) - i64::from(bias)) * integers[k]);
                acc = (scale * scale_of_x).mul_add(products.sum::<i64>() as f32, acc);
                if let Some(offset) = offset {
                    let sum: i64 = integers[steps].iter().sum();
                    acc = offset.mul_add(sum as f32 * scale_of_x, acc);
                }
            }
        }
    }
    acc
}

/// Integers of sixteen bits and the power of two they are multiples of.
fn rounded(x: &[f32]) -> (Vec<i64>, f32) {
    let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
    if largest == 0.0 {
        return (vec![0; x.len()], 0.0);
    }
    let scale = 2f64.powi(largest.log2().floor() as i32 - 14);
    let integers = x.iter().map(|x| {
        let q = (f64::from(*x) / scale).round_ties_even();
        q.min(32767.0) as i64
    });
    (integers.collect(), scale as f32)
}

/// Integers of eight bits and what they are multiples of.
fn rounded_to_bytes(x: &[f32]) -> (Vec<i64>, f32) {
    let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
    if largest == 0.0 {
        return (vec![0; x.len()], 0.0);
    }
    let per_scale = 127.0 / largest;
    let integers = x.iter().map(|x| (x * per_scale).round_ties_even() as i64);
    (integers.collect(), largest / 127.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_row_has_the_same_bits_everywhere(
        seed in any::<u64>(),
        which in 0..ENCODINGS.len(),
        n_out in 1usize..90,
        n_blocks in 1usize..4,
        arithmetic in prop::sample::select(Arithmetic::ALL.to_vec()),
    ) {
        let encoding = ENCODINGS[which];
        let n_in = match encoding.block_len() { 1 => 37 * n_blocks, n => n * n_blocks };
        let bytes = matrix(encoding, seed, [n_out, n_in]);
        let raw = RawTensor { encoding, shape: [n_out, n_in], bytes: &bytes };
        let weights = PackedMatrix::pack(raw, |n| n).in_arithmetic(arithmetic);
        let plain = dequantize(encoding, &bytes);
        for n in 0..n_out {
            let row = weights.row(n);
            for (a, b) in row.iter().zip(&plain[n * n_in..][..n_in]) {
                prop_assert_eq!(a + 0.0, b + 0.0);
            }
        }
        let x: Vec<Vec<f32>> =
            (0..40).map(|row| floats(seed ^ (row + 2) << 7, n_in)).collect();
        let want: Vec<Vec<u32>> = x
            .iter()
            .map(|x| {
                let of_output = |n: usize| match encoding.block_format() {
                    None => {
                        let w = &plain[n * n_in..][..n_in];
                        x.iter().zip(w).fold(0f32, |acc, (x, w)| x.mul_add(*w, acc))
                    }
                    Some(format) => {
                        let row = bytes.chunks_exact(bytes.len() / n_out).nth(n);
                        let row = row.expect("a row an output");
                        by_groups(arithmetic, (encoding, format), row, x)
                    }
                };
                (0..n_out).map(|n| of_output(n).to_bits()).collect()
            })
            .collect();
        // Rounding rows to sixteen bits changes little, to eight no more than it must.
        let allowed = match arithmetic {
            Arithmetic::Int16 => 1e-4,
            Arithmetic::Int8 => 1.5e-2,
        };
        for (x, want) in x.iter().zip(&want) {
            for (n, y) in want.iter().enumerate() {
                let w = &plain[n * n_in..][..n_in];
                let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let size: f64 = x.iter().zip(w).map(|(x, w)| f64::from(x * w).abs()).sum();
                let error = (f64::from(f32::from_bits(*y)) - exact).abs();
                prop_assert!(error <= allowed * size + 1e-6, "{:?} {} {}", encoding, error, size);
            }
        }
        let pools = [1, 2].map(|n| {
            rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads start")
        });
        for isa in Isa::available() {
            for n_rows in [1, 2, 5, 7, 40] {
                for pool in &pools {
                    let got = pool.install(|| product(isa, &weights, &x[..n_rows]));
                    prop_assert_eq!(&got[..], &want[..n_rows], "{:?} {:?}", encoding, isa);
                }
            }
        }
    }
}

/// Whoever changes these bits gives their arithmetic another name.
#[test]
fn the_kernel_class_names_the_bits_of_every_encoding() {
    let products = |arithmetic: Arithmetic, encodings: &[Encoding]| {
        let products = encodings
            .iter()
            .flat_map(|&encoding| product_of(arithmetic, encoding));
        digest(products)
    };
    let (first, newer) = ENCODINGS.split_at(13);
    let of = |arithmetic: Arithmetic| {
        let products = [products(arithmetic, first), products(arithmetic, newer)];
        (arithmetic.kernel_class(), products)
    };
    assert_eq!(
        of(Arithmetic::Int16),
        (
            "codes by block floats of 16 bits, f32 fma, blocks of 128 keys, spans of 512",
            [7_557_832_923_989_765_715, 11_294_505_259_143_035_569]
        ),
    );
    assert_eq!(
        of(Arithmetic::Int8),
        (
            "codes by blocks of 8 bits, f32 fma, blocks of 128 keys, spans of 512",
            [5_709_460_413_033_122_469, 7_776_446_816_261_079_911]
        ),
    );
}

/// More panels and units than are written out at a time, and blocks of rows that are not full.
#[test]
fn tiles_give_the_bits_of_lanes() {
    let [.., lanes, tiles] = &Isa::available()[..] else {
        unreachable!("this machine has lanes");
    };
    if tiles.word() != "amx" {
        eprintln!("skipped: this processor has no AMX, or the system does not grant it");
        return;
    }
    let quantized = ENCODINGS.into_iter().filter(|e| e.block_format().is_some());
    for (encoding, arithmetic) in quantized.flat_map(|e| Arithmetic::ALL.map(|a| (e, a))) {
        let (n_out, n_in) = (
            16 * 35 + 3,
            if encoding.block_len() == 256 {
                768
            } else {
                416
            },
        );
        let bytes = matrix(encoding, 23, [n_out, n_in]);
        let raw = RawTensor {
            encoding,
            shape: [n_out, n_in],
            bytes: &bytes,
        };
        let weights = PackedMatrix::pack(raw, |n| n).in_arithmetic(arithmetic);
        // The largest numbers there are, and rows of all sizes.
        let mut x = vec![vec![-(2.0 - f32::EPSILON); n_in], vec![f32::MAX; n_in]];
        x.extend((0..67).map(|row| {
            let size = 2f32.powi(row - 30);
            floats(row as u64 + 5, n_in)
                .iter()
                .map(|x| x * size)
                .collect()
        }));
        x[9][3] = f32::NAN;
        for n_rows in [16, 32, 45, x.len()] {
            let [a, b] = [lanes, tiles].map(|isa| product(*isa, &weights, &x[..n_rows]));
            let is_nan = |bits: u32| f32::from_bits(bits).is_nan();
            for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
                assert!(
                    a == b || is_nan(*a) && is_nan(*b),
                    "{encoding:?} {arithmetic} {n_rows}"
                );
            }
        }
    }
}

/// Bits of two rows with a matrix of this encoding.
fn product_of(arithmetic: Arithmetic, encoding: Encoding) -> Vec<u32> {
    let (n_out, n_in) = (5, 512);
    let bytes = matrix(encoding, 11, [n_out, n_in]);
    let raw = RawTensor {
        encoding,
        shape: [n_out, n_in],
        bytes: &bytes,
    };
    let weights = PackedMatrix::pack(raw, |n| n).in_arithmetic(arithmetic);
    let x = [floats(17, n_in), floats(19, n_in)];
    product(Isa::best(), &weights, &x).concat()
}

/// The integers of a row that are furthest from zero, against the codes that are.
#[test]
fn the_largest_integers_and_codes_stay_in_their_range() {
    for (encoding, code) in [
        (Encoding::Q8_0, 0x80),
        (Encoding::Q8_0, 0x7f),
        (Encoding::Q5_1, 0xff),
    ] {
        let mut bytes = vec![code; encoding.block_bytes()];
        let one = f16::ONE.to_le_bytes();
        bytes[..2].copy_from_slice(&one);
        if encoding == Encoding::Q5_1 {
            bytes[2..4].copy_from_slice(&one);
        }
        let raw = RawTensor {
            encoding,
            shape: [1, UNIT],
            bytes: &bytes,
        };
        let weights = PackedMatrix::pack(raw, |n| n);
        let row = weights.row(0);
        // Rounds to -32768 steps.
        let x = vec![-(2.0 - f32::EPSILON); UNIT];
        let want: f32 = row.iter().map(|w| -2.0 * w).sum();
        for isa in Isa::available() {
            for n_rows in [1, 2] {
                for got in product(isa, &weights, &vec![x.clone(); n_rows]) {
                    assert_eq!(f32::from_bits(got[0]), want, "{encoding:?} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn scales_that_are_no_finite_numbers_are_found_in_any_block() {
    const SHAPE: [usize; 2] = [40, 512];
    for encoding in ENCODINGS {
        let bytes = matrix(encoding, 5, SHAPE);
        let unfit = |bytes: &[u8]| {
            let raw = RawTensor {
                encoding,
                shape: SHAPE,
                bytes,
            };
            PackedMatrix::pack(raw, |n| n).unfit_scale()
        };
        assert_eq!(unfit(&bytes), None, "{encoding:?}");
        if encoding.block_format().is_none() {
            continue;
        }
        let of_block = encoding.block_bytes();
        let of_row = bytes.len() / SHAPE[0];
        for (row, is_last) in [(0, false), (17, true), (39, true)] {
            let block = row * of_row + if is_last { of_row - of_block } else { 0 };
            for at in halves_at(encoding) {
                for no_number in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
                    let mut damaged = bytes.clone();
                    damaged[block + at..][..2].copy_from_slice(&no_number.to_le_bytes());
                    assert_eq!(unfit(&damaged), Some(row), "{encoding:?}, {at}");
                }
            }
        }
    }
}
