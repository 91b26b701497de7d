//! The configuration as bytes, for identities.
//!
//! ```text
//! name of the encoding
//! family u8  8 counts u64  scaling u8  theta, epsilon, 3 factors f32  original context u32
//! 4 switches u8
//! then, of a decoder that has more, sections in ascending order of their numbers:
//!     number u8  length u32  contents
//! ```
//! Numbers are little endian; numbers of cases and sections never change their meaning. A section is
//! written where its switch is set and nowhere else, so a decoder that has none of them keeps the bytes,
//! and with them all identities, that it had before the switch was known.

use super::{
    Activation, Architecture, BlockNorms, ModelConfig, OtherRotation, QkNorm, RopeScaling, Scales,
    SlidingWindow, SoftCaps,
};

/// Names the encoding, and changes with it.
const ENCODING: &[u8] = b"perennial model config 1";

impl ModelConfig {
    /// All of it as bytes: two decoders of the same weights are the same where these bytes are.
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
            // What is not computed decides nothing.
            trained_positions: _,
            rope_theta,
            rope_scaling,
            rotated_dims,
            other_rotation,
            window,
            norm_eps,
            qkv_bias,
            qk_norm,
            norms,
            activation,
            scales,
            soft_caps,
            tied_embeddings,
            interleaved_rope_rows,
            norms_less_one,
        } = self;
        let mut bytes = ENCODING.to_vec();
        bytes.push(number_of(*architecture));
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
        bytes.extend(counts.iter().flat_map(|n| (**n as u64).to_le_bytes()));
        let (kind, factors, original) = match rope_scaling {
            RopeScaling::None => (0, [0.0; 3], 0),
            RopeScaling::Linear { factor } => (1, [*factor, 0.0, 0.0], 0),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => (
                2,
                [*factor, *low_freq_factor, *high_freq_factor],
                *original_context,
            ),
            RopeScaling::Divisors {
                attention_factor, ..
            } => (3, [*attention_factor, 0.0, 0.0], 0),
        };
        bytes.push(kind);
        bytes.extend(reals([*rope_theta, *norm_eps].into_iter().chain(factors)));
        bytes.extend(original.to_le_bytes());
        let qk = match qk_norm {
            QkNorm::None => 0,
            QkNorm::EachHead => 1,
            QkNorm::AllHeads => 2,
        };
        bytes.push(u8::from(*qkv_bias));
        bytes.push(qk);
        bytes.extend([tied_embeddings, interleaved_rope_rows].map(|is_on| u8::from(*is_on)));

        let mut section = |number: u8, contents: Vec<u8>| {
            bytes.push(number);
            bytes.extend((contents.len() as u32).to_le_bytes());
            bytes.extend(contents);
        };
        if *scales != Scales::PLAIN {
            let Scales {
                embedding,
                attention,
                residual,
                logits,
            } = *scales;
            // No attention scale is below zero, or a file is refused.
            let attention = attention.unwrap_or(-1.0);
            section(1, reals([embedding, attention, residual, logits]).collect());
        }
        if let RopeScaling::Divisors { divisors, .. } = rope_scaling {
            section(2, reals(divisors.iter().copied()).collect());
        }
        if rotated_dims != head_dim {
            section(3, (*rotated_dims as u64).to_le_bytes().to_vec());
        }
        if let Some(OtherRotation { layers, theta }) = other_rotation {
            let theta = theta.unwrap_or(0.0).to_le_bytes().into_iter();
            section(4, theta.chain(numbers(layers)).collect());
        }
        if let Some(SlidingWindow { n_tokens, layers }) = window {
            let n_tokens = (*n_tokens as u64).to_le_bytes().into_iter();
            section(5, n_tokens.chain(numbers(layers)).collect());
        }
        match norms {
            BlockNorms::Before => {}
            BlockNorms::After => section(6, vec![1]),
            BlockNorms::Both => section(6, vec![2]),
        }
        match activation {
            Activation::Silu => {}
            Activation::GeluTanh => section(7, vec![1]),
        }
        if *soft_caps != SoftCaps::default() {
            // No cap is zero, or a file is refused.
            let caps = [soft_caps.scores, soft_caps.logits].map(Option::unwrap_or_default);
            section(8, reals(caps).collect());
        }
        if *norms_less_one {
            section(9, vec![1]);
        }
        bytes
    }
}

/// Names a family. Numbers never change their meaning.
fn number_of(architecture: Architecture) -> u8 {
    match architecture {
        Architecture::Llama => 0,
        Architecture::Qwen2 => 1,
        Architecture::Qwen3 => 2,
        Architecture::Granite => 3,
        Architecture::SmolLm3 => 4,
        Architecture::Phi3 => 5,
        Architecture::Olmo2 => 6,
        Architecture::Gemma2 => 7,
        Architecture::Gemma3 => 8,
    }
}

fn reals(reals: impl IntoIterator<Item = f32>) -> impl Iterator<Item = u8> {
    let bits = reals.into_iter().map(f32::to_bits);
    bits.flat_map(u32::to_le_bytes)
}

fn numbers(layers: &[usize]) -> impl Iterator<Item = u8> {
    layers.iter().flat_map(|n| (*n as u64).to_le_bytes())
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
                qk_norm: QkNorm::EachHead,
                ..c()
            },
            ModelConfig {
                qk_norm: QkNorm::AllHeads,
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
        let family = |architecture| ModelConfig {
            architecture,
            ..c()
        };
        let divisors = |divisors: &[f32], attention_factor| ModelConfig {
            rope_scaling: RopeScaling::Divisors {
                divisors: divisors.to_vec(),
                attention_factor,
            },
            ..c()
        };
        let scales = |scales| ModelConfig { scales, ..c() };
        let rotation = |layers: &[usize], theta| ModelConfig {
            other_rotation: Some(OtherRotation {
                layers: layers.to_vec(),
                theta,
            }),
            ..c()
        };
        let window = |n_tokens, layers: &[usize]| ModelConfig {
            window: Some(SlidingWindow {
                n_tokens,
                layers: layers.to_vec(),
            }),
            ..c()
        };
        let caps = |scores, logits| ModelConfig {
            soft_caps: SoftCaps { scores, logits },
            ..c()
        };
        let norms = |norms| ModelConfig { norms, ..c() };
        let newer = [
            family(Architecture::Granite),
            family(Architecture::SmolLm3),
            family(Architecture::Phi3),
            family(Architecture::Olmo2),
            family(Architecture::Gemma2),
            family(Architecture::Gemma3),
            divisors(&[1.0, 2.0], 1.0),
            divisors(&[1.0, 3.0], 1.0),
            divisors(&[1.0, 2.0], 1.5),
            scales(Scales {
                embedding: 12.0,
                ..Scales::PLAIN
            }),
            scales(Scales {
                attention: Some(0.25),
                ..Scales::PLAIN
            }),
            scales(Scales {
                residual: 0.5,
                ..Scales::PLAIN
            }),
            scales(Scales {
                logits: 0.5,
                ..Scales::PLAIN
            }),
            ModelConfig {
                rotated_dims: 8,
                ..c()
            },
            rotation(&[1], None),
            rotation(&[0], None),
            rotation(&[0, 1], None),
            rotation(&[0], Some(1e4)),
            window(64, &[0]),
            window(65, &[0]),
            window(64, &[1]),
            norms(BlockNorms::After),
            norms(BlockNorms::Both),
            ModelConfig {
                activation: Activation::GeluTanh,
                ..c()
            },
            caps(Some(50.0), None),
            caps(None, Some(50.0)),
            caps(Some(50.0), Some(50.0)),
            ModelConfig {
                norms_less_one: true,
                ..c()
            },
        ];
        let all: Vec<ModelConfig> = all.into_iter().chain(newer).collect();
        let encoded: std::collections::HashSet<Vec<u8>> =
            all.iter().map(ModelConfig::encode).collect();
        assert_eq!(encoded.len(), all.len());
        assert_eq!(c().encode().len(), 24 + 1 + 8 * 8 + 1 + 5 * 4 + 4 + 4);
    }

    /// By these bytes all that is stored of the models which open since the first release is found
    /// again: 16 bytes of BLAKE3 of the encodings of Llama, Qwen2 and Qwen3.
    #[test]
    fn what_older_families_are_called_has_not_changed() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        let llama = ModelConfig {
            rope_scaling: scaling,
            interleaved_rope_rows: true,
            ..tiny_config()
        };
        let qwen2 = ModelConfig {
            architecture: Architecture::Qwen2,
            qkv_bias: true,
            tied_embeddings: true,
            ..tiny_config()
        };
        let qwen3 = ModelConfig {
            architecture: Architecture::Qwen3,
            qk_norm: QkNorm::EachHead,
            rope_scaling: RopeScaling::Linear { factor: 2.0 },
            ..tiny_config()
        };
        let names = [llama, qwen2, qwen3].map(|config| {
            let hash = blake3::hash(&config.encode()).to_hex();
            hash.chars().take(32).collect::<String>()
        });
        let pins = [
            "c39dffd3426fa4b47e9eb2d07f5b2ac8",
            "2ef11b06ad971b5f6404a43f6a86ca96",
            "767a0f78ac7f41e83f4b659973b57de9",
        ];
        assert_eq!(names, pins);
    }
}
