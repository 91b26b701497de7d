//! What distinguishes one decoder from another: sizes and switches, nothing else.
//!
//! All families are one decoder here; a field of [`ModelConfig`] is the only place where they
//! differ. The decoder looks at the switches, never at the family's name.

mod encoding;

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
    /// Granite 3: Llama with multipliers.
    Granite,
    /// SmolLM3: Llama without rotation in every fourth layer.
    SmolLm3,
    /// Phi-3, Phi-3.5 and Phi-4: projections that are stored together, frequencies that are divided
    /// one by one, heads that are rotated in part.
    Phi3,
    /// OLMo 2: norms behind what they are before elsewhere, and over all heads together.
    Olmo2,
    /// Gemma 2: norms before and behind, soft caps, a window in every other layer.
    Gemma2,
    /// Gemma 3: the same without caps, with norms of each head; layers with a window rotate by
    /// another base.
    Gemma3,
}

/// How long-context checkpoints stretch their rotary frequencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Each frequency divided by a number of its own (LongRoPE).
    Divisors {
        /// One for each frequency, the highest frequency first.
        divisors: Vec<f32>,
        /// Rotated queries and keys are both multiplied with it.
        attention_factor: f32,
    },
}

/// Layers that rotate heads otherwise than the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherRotation {
    /// Their numbers, ascending.
    pub layers: Vec<usize>,
    /// Base of their frequencies, which are not scaled; `None` where they do not rotate at all.
    pub theta: Option<f32>,
}

impl OtherRotation {
    /// No rotation in these layers, if there are any.
    pub(crate) fn none_in(layers: Vec<usize>) -> Option<Self> {
        let theta = None;
        (!layers.is_empty()).then_some(Self { layers, theta })
    }
}

/// Layers in which a token sees only those near before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingWindow {
    /// Tokens that a token sees, itself among them: by positions, so that gaps count.
    pub n_tokens: usize,
    /// Numbers of the layers, ascending.
    pub layers: Vec<usize>,
}

/// Where a layer has its RMS norms: before its attention and its feed-forward, behind them (of what
/// they add to the residual stream), or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockNorms {
    /// On what the two read.
    Before,
    /// On what the two add.
    After,
    /// On both.
    Both,
}

impl BlockNorms {
    /// Whether what attention and feed-forward read is normed.
    pub fn are_before(self) -> bool {
        self != Self::After
    }

    /// Whether what they add is normed.
    pub fn are_after(self) -> bool {
        self != Self::Before
    }
}

/// RMS norms of queries and keys, before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QkNorm {
    /// None.
    None,
    /// Each head by itself, all with the same weights.
    EachHead,
    /// All heads of a token together.
    AllHeads,
}

/// What the gate of the feed-forward goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by its approximation with the hyperbolic tangent.
    GeluTanh,
}

/// Numbers that are multiplied with, besides weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// Embeddings, where they enter the residual stream.
    pub embedding: f32,
    /// Scores of queries and keys; `None` for one over the root of the width of a head.
    pub attention: Option<f32>,
    /// What attention and feed-forward add to the residual stream.
    pub residual: f32,
    /// Logits.
    pub logits: f32,
}

impl Scales {
    /// Those of a decoder that says nothing of them.
    pub const PLAIN: Self = Self {
        embedding: 1.0,
        attention: None,
        residual: 1.0,
        logits: 1.0,
    };

    /// Those of Gemma: embeddings have the length of what is normed, and scores are divided by the root
    /// of `query_width`.
    pub(crate) fn gemma(d_model: usize, query_width: f32) -> Self {
        Self {
            embedding: (d_model as f32).sqrt(),
            attention: Some(1.0 / query_width.sqrt()),
            ..Self::PLAIN
        }
    }
}

/// Bounds that numbers approach and never reach: `x` becomes `cap * tanh(x / cap)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoftCaps {
    /// Of scores, before what is out of sight is hidden.
    pub scores: Option<f32>,
    /// Of logits.
    pub logits: Option<f32>,
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
    /// Longest position that the decoder computes, in tokens.
    pub max_positions: usize,
    /// Longest position that the checkpoint names, in tokens. Above `max_positions` where it wants all
    /// positions computed by other numbers as soon as one of them is further: then nothing that was kept of
    /// a text would serve a longer one.
    pub trained_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Width of the part of a head that is rotated, its first dimensions; even, at most
    /// `head_dim`.
    pub rotated_dims: usize,
    /// Layers to which the three above do not apply.
    pub other_rotation: Option<OtherRotation>,
    /// Layers that do not see all that comes before.
    pub window: Option<SlidingWindow>,
    /// Epsilon of every RMS norm.
    pub norm_eps: f32,
    /// Query, key and value projections carry biases (Qwen2).
    pub qkv_bias: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Where layers have their norms.
    pub norms: BlockNorms,
    /// What the gate of the feed-forward goes through.
    pub activation: Activation,
    /// What is multiplied with.
    pub scales: Scales,
    /// Soft bounds of scores and logits.
    pub soft_caps: SoftCaps,
    /// The output projection is the embedding table.
    pub tied_embeddings: bool,
    /// Rows of Wq and Wk are permuted for interleaved rotation (pairs `2i, 2i+1`), as
    /// GGUF writes the Llama architecture. The decoder rotates halves (`i, i + d/2`)
    /// and undoes the permutation while loading.
    pub interleaved_rope_rows: bool,
    /// Weights of all norms are stored less one, as hubs store Gemma's; one is added while
    /// loading.
    pub norms_less_one: bool,
}

impl ModelConfig {
    /// What scores of queries and keys are multiplied with.
    pub fn attention_scale(&self) -> f32 {
        let by_width = || 1.0 / (self.head_dim as f32).sqrt();
        self.scales.attention.unwrap_or_else(by_width)
    }

    /// What there is to say once of a model whose context is shorter than its checkpoint says.
    pub fn notice(&self, model: &str) -> Option<String> {
        let (here, there) = (self.max_positions, self.trained_positions);
        (here < there).then(|| {
            format!(
                "{model} wants other rotary factors for contexts of more than {here} tokens, so it is \
                 used with up to {here}, not with {there}"
            )
        })
    }

    /// How many tokens a token of this layer sees; `None` for all before it.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        let window = self.window.as_ref()?;
        window.layers.contains(&layer).then_some(window.n_tokens)
    }
}
