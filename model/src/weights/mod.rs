//! Where tensors come from: one trait over GGUF files and safetensors folders.
//!
//! Names are GGUF's (`token_embd.weight`, `blk.0.attn_q.weight`, …) whatever the
//! container; a safetensors folder is renamed while it is opened. Bytes stay mapped:
//! nothing is copied until the decoder packs a matrix for its kernels.

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
