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

/// Names the encoding below, and changes with it.
const ENCODING: &[u8] = b"perennial model config 1";

impl ModelConfig {
    /// All of it as bytes, for identities: two decoders of the same weights are the same where these
    /// bytes are. Numbers of cases never change their meaning.
    pub fn encode(&self) -> Vec<u8> {
        // A field that is added is encoded, or this does not compile.
        let Self {
            architecture,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            d_model,
            d_ff,
            n_vocab,
            max_positions,
            rope_theta,
            rope_scaling,
            norm_eps,
            qkv_bias,
            qk_norm,
            tied_embeddings,
            interleaved_rope_rows,
        } = *self;
        let mut bytes = ENCODING.to_vec();
        bytes.push(match architecture {
            Architecture::Llama => 0,
            Architecture::Qwen2 => 1,
            Architecture::Qwen3 => 2,
        });
        let counts = [
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            d_model,
            d_ff,
            n_vocab,
            max_positions,
        ];
        bytes.extend(counts.iter().flat_map(|n| (*n as u64).to_le_bytes()));
        let (kind, factors, original) = match rope_scaling {
            RopeScaling::None => (0, [0.0; 3], 0),
            RopeScaling::Linear { factor } => (1, [factor, 0.0, 0.0], 0),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => (
                2,
                [factor, low_freq_factor, high_freq_factor],
                original_context,
            ),
        };
        bytes.push(kind);
        let reals = [rope_theta, norm_eps].into_iter().chain(factors);
        bytes.extend(reals.flat_map(|x| x.to_bits().to_le_bytes()));
        bytes.extend(original.to_le_bytes());
        let switches = [qkv_bias, qk_norm, tied_embeddings, interleaved_rope_rows];
        bytes.extend(switches.map(u8::from));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded::tiny_config;

    #[test]
    fn whatever_differs_is_encoded_otherwise() {
        let c = tiny_config;
        let linear = |factor| RopeScaling::Linear { factor };
        let llama3 = |factor, low_freq_factor, high_freq_factor, original_context| {
            let rope_scaling = RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            };
            ModelConfig {
                rope_scaling,
                ..c()
            }
        };
        let all = [
            c(),
            ModelConfig {
                architecture: Architecture::Qwen2,
                ..c()
            },
            ModelConfig {
                architecture: Architecture::Qwen3,
                ..c()
            },
            ModelConfig { n_layers: 3, ..c() },
            ModelConfig { n_heads: 8, ..c() },
            ModelConfig {
                n_kv_heads: 4,
                ..c()
            },
            ModelConfig {
                head_dim: 32,
                ..c()
            },
            ModelConfig { d_model: 64, ..c() },
            ModelConfig { d_ff: 65, ..c() },
            ModelConfig { n_vocab: 97, ..c() },
            ModelConfig {
                max_positions: 5,
                ..c()
            },
            ModelConfig {
                rope_theta: 1e6,
                ..c()
            },
            ModelConfig {
                norm_eps: 1e-6,
                ..c()
            },
            ModelConfig {
                rope_scaling: linear(2.0),
                ..c()
            },
            ModelConfig {
                rope_scaling: linear(4.0),
                ..c()
            },
            llama3(2.0, 1.0, 4.0, 8192),
            llama3(8.0, 1.0, 4.0, 8192),
            llama3(8.0, 2.0, 4.0, 8192),
            llama3(8.0, 1.0, 5.0, 8192),
            llama3(8.0, 1.0, 4.0, 4096),
            ModelConfig {
                qkv_bias: true,
                ..c()
            },
            ModelConfig {
                qk_norm: true,
                ..c()
            },
            ModelConfig {
                tied_embeddings: true,
                ..c()
            },
            ModelConfig {
                interleaved_rope_rows: true,
                ..c()
            },
        ];
        let encoded: std::collections::HashSet<Vec<u8>> =
            all.iter().map(ModelConfig::encode).collect();
        assert_eq!(encoded.len(), all.len());
        assert_eq!(c().encode().len(), 24 + 1 + 8 * 8 + 1 + 5 * 4 + 4 + 4);
    }
}
