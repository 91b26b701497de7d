//! A decoder small enough for tests: weights drawn from a seed, in memory.
//!
//! The model says nothing sensible, but is a decoder in every respect, and its answers
//! are a function of the seed and the context alone.

use std::collections::HashMap;

use half::f16;

use crate::config::{
    Activation, Architecture, BlockNorms, ModelConfig, QkNorm, RopeScaling, Scales, SoftCaps,
};
use crate::weights::{Encoding, RawTensor, TensorSource};

/// Weights drawn from a seed.
#[derive(Clone, Debug)]
pub struct SeededTensors {
    tensors: HashMap<String, (Encoding, [usize; 2], Vec<u8>)>,
}

impl TensorSource for SeededTensors {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let (encoding, shape, bytes) = self.tensors.get(name)?;
        Some(RawTensor {
            encoding: *encoding,
            shape: *shape,
            bytes,
        })
    }
}

impl SeededTensors {
    /// The same weights, where every matrix whose rows are whole blocks is stored as Q8_0.
    pub fn quantized(mut self) -> Self {
        for (encoding, [n_rows, n_columns], bytes) in self.tensors.values_mut() {
            if *n_rows > 1 && n_columns.is_multiple_of(Encoding::Q8_0.block_len()) {
                *bytes = to_q8_0(bytes);
                *encoding = Encoding::Q8_0;
            }
        }
        self
    }
}

/// Blocks of Q8_0: the scale in f16, then 32 signed bytes.
fn to_q8_0(floats: &[u8]) -> Vec<u8> {
    let floats = floats.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    let floats: Vec<f32> = floats.collect();
    let mut bytes = Vec::new();
    for block in floats.chunks(Encoding::Q8_0.block_len()) {
        let largest = block.iter().fold(0f32, |a, b| a.max(b.abs()));
        let scale = f16::from_f32(largest / 127.0);
        bytes.extend(scale.to_le_bytes());
        let code = |x: &f32| (x / scale.to_f32()).round().clamp(-127.0, 127.0) as i8;
        bytes.extend(block.iter().map(|x| code(x) as u8));
    }
    bytes
}

/// Two layers, four query heads on two key/value heads, 96 tokens.
pub fn tiny_config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
        d_model: 32,
        d_ff: 64,
        n_vocab: 96,
        max_positions: 4096,
        trained_positions: 4096,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        rotated_dims: 16,
        other_rotation: None,
        window: None,
        norm_eps: 1e-5,
        qkv_bias: false,
        qk_norm: QkNorm::None,
        norms: BlockNorms::Before,
        activation: Activation::Silu,
        scales: Scales::PLAIN,
        soft_caps: SoftCaps::default(),
        tied_embeddings: false,
        interleaved_rope_rows: false,
        norms_less_one: false,
    }
}

/// Weights of a decoder of this configuration: f32, about unit variance from layer to
/// layer, a function of the seed.
pub fn tiny(config: &ModelConfig, seed: u64) -> SeededTensors {
    let mut draw = Draw {
        state: seed,
        norm_mean: if config.norms_less_one { 0.0 } else { 1.0 },
        tensors: HashMap::new(),
    };
    let c = config;
    let (d, q, kv) = (c.d_model, c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
    draw.matrix("token_embd.weight", [c.n_vocab, d], 1.0);
    if !c.tied_embeddings {
        draw.matrix("output.weight", [c.n_vocab, d], 4.0);
    }
    draw.norm("output_norm.weight", d);
    for layer in 0..c.n_layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        if c.norms.are_before() {
            draw.norm(&name("attn_norm.weight"), d);
            draw.norm(&name("ffn_norm.weight"), d);
        }
        if c.norms.are_after() {
            draw.norm(&name("post_attention_norm.weight"), d);
            draw.norm(&name("post_ffw_norm.weight"), d);
        }
        for (part, width) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
            draw.matrix(&name(&format!("{part}.weight")), [width, d], 1.7);
            if c.qkv_bias {
                draw.matrix(&name(&format!("{part}.bias")), [1, width], 0.5);
            }
        }
        let of_heads = match c.qk_norm {
            QkNorm::None => None,
            QkNorm::EachHead => Some([c.head_dim; 2]),
            QkNorm::AllHeads => Some([q, kv]),
        };
        if let Some([of_query, of_key]) = of_heads {
            draw.norm(&name("attn_q_norm.weight"), of_query);
            draw.norm(&name("attn_k_norm.weight"), of_key);
        }
        draw.matrix(&name("attn_output.weight"), [d, q], 1.7);
        draw.matrix(&name("ffn_gate.weight"), [c.d_ff, d], 1.7);
        draw.matrix(&name("ffn_up.weight"), [c.d_ff, d], 1.7);
        draw.matrix(&name("ffn_down.weight"), [d, c.d_ff], 1.7);
    }
    SeededTensors {
        tensors: draw.tensors,
    }
}

struct Draw {
    state: u64,
    norm_mean: f32,
    tensors: HashMap<String, (Encoding, [usize; 2], Vec<u8>)>,
}

impl Draw {
    /// SplitMix64, as a number in [-1, 1).
    fn next(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Numbers of variance `gain² / (3 * n_in)`, or `gain² / 3` for a vector.
    fn matrix(&mut self, name: &str, shape: [usize; 2], gain: f32) {
        let scale = if shape[0] == 1 {
            gain
        } else {
            gain / (shape[1] as f32).sqrt()
        };
        self.insert(name, shape, |draw| draw.next() * scale);
    }

    fn norm(&mut self, name: &str, n: usize) {
        let mean = self.norm_mean;
        self.insert(name, [1, n], |draw| mean + 0.2 * draw.next());
    }

    fn insert(&mut self, name: &str, shape: [usize; 2], mut f: impl FnMut(&mut Self) -> f32) {
        let bytes = (0..shape[0] * shape[1])
            .flat_map(|_| f(self).to_le_bytes())
            .collect();
        let tensor = (Encoding::F32, shape, bytes);
        self.tensors.insert(name.to_owned(), tensor);
    }
}
