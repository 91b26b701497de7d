//! Where tensors come from: one trait over GGUF files and safetensors folders.
//!
//! Names are GGUF's (`token_embd.weight`, `blk.0.attn_q.weight`, …) whatever the
//! container; a safetensors folder is renamed while it is opened. Bytes stay mapped:
//! nothing is copied until the decoder packs a matrix for its kernels.

mod checkpoint;
mod demands;
mod dequantized;
mod family;
mod fused;
pub mod gguf;
mod gguf_config;
mod gguf_header;
pub mod gguf_value;
mod hub_config;
mod hub_rope;
pub(crate) mod mapped;
mod rope_factors;
pub mod safetensors;
mod unread;

pub use self::{checkpoint::Checkpoint, demands::demands, dequantized::Dequantized};

/// How the elements of a stored tensor are encoded. Block formats are those of GGML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, non_camel_case_types)]
pub enum Encoding {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

impl Encoding {
    /// Elements in one block; 1 for the plain encodings.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ4_XS => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
            Self::IQ4_NL => 18,
            Self::IQ4_XS => 136,
        }
    }

    /// Bytes of a tensor of `[n_rows, n_columns]`; `None` if a row is not made of whole
    /// blocks, or the size does not fit.
    pub fn bytes_of(self, [n_rows, n_columns]: [usize; 2]) -> Option<usize> {
        if !n_columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (n_columns / self.block_len())
            .checked_mul(self.block_bytes())?
            .checked_mul(n_rows)
    }
}

/// A tensor as it lies in its file.
#[derive(Clone, Copy, Debug)]
pub struct RawTensor<'a> {
    /// Element encoding.
    pub encoding: Encoding,
    /// `[n_rows, n_columns]`, row-major; a vector is `[1, n]`. Blocks run along a row.
    pub shape: [usize; 2],
    /// Exactly the bytes of the tensor.
    pub bytes: &'a [u8],
}

/// An opened checkpoint.
pub trait TensorSource: Send + Sync {
    /// The tensor of this GGUF-style name, or `None` if the checkpoint has none.
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>>;
}
