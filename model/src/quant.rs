//! What numbers do the bytes of a stored tensor stand for?
//!
//! Every block format of GGML is read into one shape, a [`Block`]: unsigned codes, and
//! per group a scale and an offset whose parts are kept as stored. All else (the packing
//! for the kernels, the plain dequantization that tests hold it against) starts there.
//! With `q` a code, the weight is `q * d + m` rounded once, which for every format equals
//! the f32 dequantization of GGML bit for bit, because `q * d` is exact in f32.
//!
//! Codes of the `IQ4` formats are places in a table of sixteen numbers of eight bits; they are read
//! as those numbers, so that they are multiplied as codes of eight bits are.

use half::{bf16, f16};

use crate::weights::Encoding;

/// How the scale and the offset of a group of codes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleRule {
    /// Groups of 32: scale `d`, offset `-bias * d`.
    Offset {
        /// Code that stands for zero.
        bias: u8,
    },
    /// Groups of 32: scale `d`, offset `m`.
    Affine,
    /// Blocks of 256 in groups of 32: scale `d * scale`, offset `-m * min`.
    Affine32,
    /// Blocks of 256 in groups of 16: scale `d * scale`, offset `-m * min`.
    Affine16,
    /// Blocks of 256 in groups of 16: scale `d * (scale - 128)`, offset `-bias` times it.
    Offset16 {
        /// Code that stands for zero.
        bias: u8,
    },
}

/// What distinguishes one block format from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockFormat {
    /// Bits of a code.
    pub n_bits: usize,
    /// Where scales and offsets come from.
    pub rule: ScaleRule,
}

impl Encoding {
    /// The block format, or `None` for plain floats.
    pub(crate) fn block_format(self) -> Option<BlockFormat> {
        use ScaleRule::*;
        let (n_bits, rule) = match self {
            Self::F32 | Self::F16 | Self::BF16 => return None,
            Self::Q4_0 => (4, Offset { bias: 8 }),
            Self::Q4_1 => (4, Affine),
            Self::Q5_0 => (5, Offset { bias: 16 }),
            Self::Q5_1 => (5, Affine),
            Self::Q8_0 => (8, Offset { bias: 128 }),
            Self::Q2_K => (2, Affine16),
            Self::Q3_K => (3, Offset16 { bias: 4 }),
            Self::Q4_K => (4, Affine32),
            Self::Q5_K => (5, Affine32),
            Self::Q6_K => (6, Offset16 { bias: 32 }),
            Self::IQ4_NL => (8, Offset { bias: 128 }),
            Self::IQ4_XS => (8, Offset16 { bias: 128 }),
        };
        Some(BlockFormat { n_bits, rule })
    }

    /// Bytes that so many bytes of this encoding take when they are packed, but for padding.
    pub(crate) fn packed_bytes(self, n_bytes: usize) -> usize {
        let of_block = match self {
            // Codes of four bits become eight; those in groups of 16 have a byte for each group.
            Self::IQ4_NL => 2 + 32,
            Self::IQ4_XS => 2 + 16 + 256,
            _ => return n_bytes,
        };
        n_bytes / self.block_bytes() * of_block
    }
}

/// What the codes of the `IQ4` formats stand for, 128 more than it is: GGML's `kvalues_iq4nl`.
const IQ4: [u8; 16] = [
    1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241,
];

/// One decoded block; 32-element formats leave the rest zero.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// One code an element.
    pub codes: [u8; 256],
    /// f16 bits of the scale.
    pub d: u16,
    /// f16 bits of the offset (`Affine`) or of the scale of the minima.
    pub m: u16,
    /// Integer scale of each group; `Offset16` scales carry 128 more than they mean.
    pub scales: [u8; 16],
    /// Integer minimum of each group.
    pub mins: [u8; 16],
}

impl Block {
    /// Room for a block.
    pub fn new() -> Self {
        Self {
            codes: [0; 256],
            d: 0,
            m: 0,
            scales: [0; 16],
            mins: [0; 16],
        }
    }

    /// Reads the block in `bytes`, which are exactly one block of `encoding`.
    pub fn read(&mut self, encoding: Encoding, bytes: &[u8]) {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (mut high, mut codes_at) = (0u32, 2);
        match encoding {
            Encoding::Q4_0 => {}
            Encoding::Q4_1 => codes_at = 4,
            Encoding::Q5_0 => (high, codes_at) = (word(2), 6),
            Encoding::Q5_1 => (high, codes_at) = (word(4), 8),
            Encoding::Q8_0 => {
                self.d = half(0);
                for (code, &q) in self.codes.iter_mut().zip(&bytes[2..34]) {
                    *code = q ^ 0x80;
                }
                return;
            }
            Encoding::IQ4_NL => {
                self.d = half(0);
                return self.read_iq4(0, &bytes[2..]);
            }
            Encoding::IQ4_XS => return self.read_iq4_xs(bytes),
            Encoding::Q2_K => return self.read_q2_k(bytes),
            Encoding::Q3_K => return self.read_q3_k(bytes),
            Encoding::Q4_K | Encoding::Q5_K => return self.read_q45_k(encoding, bytes),
            Encoding::Q6_K => return self.read_q6_k(bytes),
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => {
                unreachable!("plain floats have no blocks")
            }
        }
        self.d = half(0);
        if matches!(encoding, Encoding::Q4_1 | Encoding::Q5_1) {
            self.m = half(2);
        }
        for (i, &q) in bytes[codes_at..codes_at + 16].iter().enumerate() {
            self.codes[i] = (q & 15) | ((high >> i & 1) << 4) as u8;
            self.codes[i + 16] = (q >> 4) | ((high >> (i + 16) & 1) << 4) as u8;
        }
    }

    fn read_q2_k(&mut self, bytes: &[u8]) {
        self.d = u16::from_le_bytes([bytes[80], bytes[81]]);
        self.m = u16::from_le_bytes([bytes[82], bytes[83]]);
        let both = self.scales.iter_mut().zip(&mut self.mins);
        for ((scale, min), byte) in both.zip(&bytes[..16]) {
            *scale = byte & 15;
            *min = byte >> 4;
        }
        for (i, code) in self.codes.iter_mut().enumerate() {
            let (n, shift, l) = (i / 128, i % 128 / 32 * 2, i % 32);
            *code = bytes[16 + n * 32 + l] >> shift & 3;
        }
    }

    fn read_q3_k(&mut self, bytes: &[u8]) {
        self.d = u16::from_le_bytes([bytes[108], bytes[109]]);
        let packed = &bytes[96..108];
        for i in 0..16 {
            let low = if i < 8 {
                packed[i] & 15
            } else {
                packed[i - 8] >> 4
            };
            let scale = low | (packed[8 + i % 4] >> (2 * (i / 4)) & 3) << 4;
            self.scales[i] = scale + (128 - 32);
        }
        for (i, code) in self.codes.iter_mut().enumerate() {
            let (n, step, l) = (i / 128, i % 128 / 32, i % 32);
            let low = bytes[32 + n * 32 + l] >> (2 * step) & 3;
            *code = low | (bytes[l] >> (4 * n + step) & 1) << 2;
        }
    }

    fn read_q45_k(&mut self, encoding: Encoding, bytes: &[u8]) {
        self.d = u16::from_le_bytes([bytes[0], bytes[1]]);
        self.m = u16::from_le_bytes([bytes[2], bytes[3]]);
        let s = &bytes[4..16];
        for j in 0..8 {
            (self.scales[j], self.mins[j]) = if j < 4 {
                (s[j] & 63, s[j + 4] & 63)
            } else {
                (
                    s[j + 4] & 15 | s[j - 4] >> 6 << 4,
                    s[j + 4] >> 4 | s[j] >> 6 << 4,
                )
            };
        }
        let (high, low) = match encoding {
            Encoding::Q5_K => (Some(&bytes[16..48]), &bytes[48..176]),
            _ => (None, &bytes[16..144]),
        };
        for (i, code) in self.codes.iter_mut().enumerate() {
            let (group, l) = (i / 32, i % 32);
            *code = low[group / 2 * 32 + l] >> (4 * (group % 2)) & 15;
            if let Some(high) = high {
                *code |= (high[l] >> group & 1) << 4;
            }
        }
    }

    fn read_q6_k(&mut self, bytes: &[u8]) {
        self.d = u16::from_le_bytes([bytes[208], bytes[209]]);
        for (scale, &s) in self.scales.iter_mut().zip(&bytes[192..208]) {
            *scale = s ^ 0x80;
        }
        for (i, code) in self.codes.iter_mut().enumerate() {
            let (n, quarter, l) = (i / 128, i % 128 / 32, i % 32);
            let low = bytes[n * 64 + quarter % 2 * 32 + l] >> (4 * (quarter / 2)) & 15;
            *code = low | (bytes[128 + n * 32 + l] >> (2 * quarter) & 3) << 4;
        }
    }

    fn read_iq4_xs(&mut self, bytes: &[u8]) {
        self.d = u16::from_le_bytes([bytes[0], bytes[1]]);
        let high = u16::from_le_bytes([bytes[2], bytes[3]]);
        for group in 0..8 {
            let low = bytes[4 + group / 2] >> (4 * (group % 2)) & 15;
            let scale = low | ((high >> (2 * group) & 3) << 4) as u8;
            // Groups of 32 are two of 16.
            self.scales[2 * group..][..2].fill(scale + (128 - 32));
            self.read_iq4(32 * group, &bytes[8 + 16 * group..]);
        }
    }

    /// Sixteen bytes are the codes of 32 elements, the low halves first.
    fn read_iq4(&mut self, first: usize, bytes: &[u8]) {
        for (i, q) in bytes[..16].iter().enumerate() {
            self.codes[first + i] = IQ4[usize::from(q & 15)];
            self.codes[first + i + 16] = IQ4[usize::from(q >> 4)];
        }
    }

    /// Weight of element `i`.
    pub fn weight(&self, rule: ScaleRule, i: usize) -> f32 {
        let (d, m) = (
            f16::from_bits(self.d).to_f32(),
            f16::from_bits(self.m).to_f32(),
        );
        let q = f32::from(self.codes[i]);
        match rule {
            ScaleRule::Offset { bias } => (q - f32::from(bias)) * d,
            ScaleRule::Affine => q * d + m,
            ScaleRule::Affine32 => {
                let (scale, min) = (self.scales[i / 32], self.mins[i / 32]);
                d * f32::from(scale) * q - m * f32::from(min)
            }
            ScaleRule::Affine16 => {
                let (scale, min) = (self.scales[i / 16], self.mins[i / 16]);
                d * f32::from(scale) * q - m * f32::from(min)
            }
            ScaleRule::Offset16 { bias } => {
                d * (f32::from(self.scales[i / 16]) - 128.0) * (q - f32::from(bias))
            }
        }
    }
}

/// The values of stored elements, in order; a trailing partial block is ignored.
pub(crate) fn dequantize(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
    let Some(format) = encoding.block_format() else {
        return match encoding {
            Encoding::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f16::from_bits(u16::from_le_bytes(*b)).to_f32())
                .collect(),
            Encoding::BF16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| bf16::from_bits(u16::from_le_bytes(*b)).to_f32())
                .collect(),
            _ => bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        };
    };
    let mut block = Block::new();
    let mut out = Vec::with_capacity(bytes.len() / encoding.block_bytes() * encoding.block_len());
    for bytes in bytes.chunks_exact(encoding.block_bytes()) {
        block.read(encoding, bytes);
        out.extend((0..encoding.block_len()).map(|i| block.weight(format.rule, i)));
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::matmul::PackedMatrix;
    use crate::weights::RawTensor;
    use candle_core::Device;
    use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
    use proptest::prelude::*;

    /// The block formats that candle has, with their names there.
    pub const FORMATS: [(Encoding, GgmlDType); 10] = [
        (Encoding::Q4_0, GgmlDType::Q4_0),
        (Encoding::Q4_1, GgmlDType::Q4_1),
        (Encoding::Q5_0, GgmlDType::Q5_0),
        (Encoding::Q5_1, GgmlDType::Q5_1),
        (Encoding::Q8_0, GgmlDType::Q8_0),
        (Encoding::Q2_K, GgmlDType::Q2K),
        (Encoding::Q3_K, GgmlDType::Q3K),
        (Encoding::Q4_K, GgmlDType::Q4K),
        (Encoding::Q5_K, GgmlDType::Q5K),
        (Encoding::Q6_K, GgmlDType::Q6K),
    ];

    /// Offsets of the f16 numbers in a block, which random bytes must not make huge.
    pub fn halves_at(encoding: Encoding) -> &'static [usize] {
        match encoding {
            Encoding::Q4_1 | Encoding::Q5_1 | Encoding::Q4_K | Encoding::Q5_K => &[0, 2],
            Encoding::Q2_K => &[80, 82],
            Encoding::Q3_K => &[108],
            Encoding::Q6_K => &[208],
            _ => &[0],
        }
    }

    /// Bytes of blocks whose scales are about 1/256, made of arbitrary bytes.
    pub fn tame(encoding: Encoding, mut bytes: Vec<u8>) -> Vec<u8> {
        for block in bytes.chunks_exact_mut(encoding.block_bytes()) {
            for &at in halves_at(encoding) {
                block[at + 1] = block[at + 1] & 0x83 | 0x1c;
            }
        }
        bytes
    }

    /// What gguf-py reads of the same bytes, as a digest of its floats: candle has none of these.
    #[test]
    fn reads_places_in_a_table_as_gguf_py_does() {
        for (encoding, n_weights, theirs) in [
            (Encoding::IQ4_NL, 256, 2_012_804_302_416_903_717),
            (Encoding::IQ4_XS, 2048, 17_496_347_262_044_565_437),
        ] {
            let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8;
            let bytes = (0..8 * encoding.block_bytes()).map(byte).collect();
            let weights = dequantize(encoding, &tame(encoding, bytes));
            assert_eq!(weights.len(), n_weights);
            let bits = weights.iter().map(|w| (w + 0.0).to_bits());
            assert_eq!(crate::decoder::tests::digest(bits), theirs, "{encoding:?}");
        }
    }

    #[test]
    fn packing_takes_the_bytes_that_it_is_said_to_take() {
        for encoding in [
            Encoding::Q4_0,
            Encoding::IQ4_NL,
            Encoding::IQ4_XS,
            Encoding::Q6_K,
        ] {
            let bytes = vec![0; 32 * 2 * encoding.block_bytes()];
            let shape = [32, 2 * encoding.block_len()];
            let raw = RawTensor {
                encoding,
                shape,
                bytes: &bytes,
            };
            let packed = PackedMatrix::pack(raw, |n| n).n_bytes();
            assert_eq!(packed, encoding.packed_bytes(bytes.len()), "{encoding:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_every_format_as_candle_does(seed in prop::collection::vec(any::<u8>(), 420)) {
            for (encoding, theirs) in FORMATS {
                let bytes = tame(encoding, seed[..2 * encoding.block_bytes()].to_vec());
                let n = 2 * encoding.block_len();
                let tensor = qtensor_from_ggml(theirs, &bytes, vec![1, n], &Device::Cpu)
                    .and_then(|t| t.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>())
                    .expect("candle reads the block");
                let ours = dequantize(encoding, &bytes);
                prop_assert_eq!(ours.len(), n);
                for (a, b) in ours.iter().zip(&tensor) {
                    prop_assert_eq!(a + 0.0, b + 0.0, "{:?}", encoding);
                }
            }
        }
    }
}
