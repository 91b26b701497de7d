//! What distinguishes one decoder from another: sizes and switches, nothing else.
//!
//! Llama, Qwen2 and Qwen3 are one decoder here; a field of [`ModelConfig`] is the
//! only place where they differ.

use serde::{Deserialize, Serialize};

/// The family a checkpoint declares itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Architecture {
    /// Llama 2/3, SmolLM, Mistral-shaped checkpoints.
    Llama,
    /// Qwen2 and Qwen2.5: biases on the query, key and value projections.
    Qwen2,
    /// Qwen3: RMS norms on each head's query and key instead of biases.
    Qwen3,
}

/// How long-context checkpoints stretch their rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Frequencies as they are.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Llama 3.1's piecewise scaling of low frequencies.
    Llama3 {
        /// The divisor of the lowest frequencies.
        factor: f32,
        /// Wavelengths above `original / low_freq_factor` are fully scaled.
        low_freq_factor: f32,
        /// Wavelengths below `original / high_freq_factor` are not scaled.
        high_freq_factor: f32,
        /// Context length of the original training, in tokens.
        original_context: u32,
    },
}

/// Sizes and switches of one decoder. Counts are of whole items, not bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Family of the checkpoint.
    pub architecture: Architecture,
    /// Number of decoder layers.
    pub n_layers: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of the feed-forward layer.
    pub d_ff: usize,
    /// Number of rows of the embedding table.
    pub n_vocab: usize,
    /// Longest position the checkpoint was trained for, in tokens.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Epsilon of every RMS norm.
    pub norm_eps: f32,
    /// Query, key and value projections carry biases (Qwen2).
    pub qkv_bias: bool,
    /// Each head's query and key pass an RMS norm before rotation (Qwen3).
    pub qk_norm: bool,
    /// The output projection is the embedding table.
    pub tied_embeddings: bool,
    /// Rows of Wq and Wk are permuted for interleaved rotation (pairs `2i, 2i+1`), as
    /// GGUF writes the Llama architecture. The decoder rotates halves (`i, i + d/2`)
    /// and undoes the permutation while loading.
    pub interleaved_rope_rows: bool,
}
