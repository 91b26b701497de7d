//! Which families of checkpoints open, by which names, and what has each that others have not?
//!
//! A family is a row of a table: switches that all its checkpoints have alike, and the settings that are
//! read of it and refused of others. What differs between its checkpoints is read by `gguf_config`
//! and `hub_config`.

use crate::config::{Activation, Architecture, BlockNorms, QkNorm};

/// A family of checkpoints.
#[derive(Debug)]
pub(super) struct Family {
    pub architecture: Architecture,
    /// Its name in a GGUF, which is the prefix of its metadata, too.
    pub gguf: &'static str,
    /// Its names in a `config.json`.
    pub hub: &'static [&'static str],
    /// Keys of a GGUF, under its prefix, that only some families have.
    pub gguf_settings: &'static [&'static str],
    /// Names of a `config.json` that only some families have.
    pub hub_settings: &'static [&'static str],
    /// Its GGUFs hold rows of queries and keys in the order of Llama's, and no biases of them.
    pub is_interleaved: bool,
    /// Heads may be rotated in part, and frequencies divided one by one (LongRoPE).
    pub rotates_parts: bool,
    pub qk_norm: QkNorm,
    pub norms: BlockNorms,
    pub activation: Activation,
    /// Layers that a sliding window applies to, by a GGUF that names one.
    pub gguf_window: WindowLayers,
    /// The same by a `config.json`.
    pub hub_window: WindowLayers,
    /// Embeddings are the output projection where a `config.json` says nothing of it, and weights of
    /// norms are stored less one there.
    pub is_gemma: bool,
}

/// Layers that a sliding window applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowLayers {
    /// The family has no windows: a file that asks for one is refused.
    Refused,
    /// All.
    All,
    /// All but every so many-th, unless a file says otherwise.
    AllBut(usize),
}

impl WindowLayers {
    /// Their numbers.
    pub fn of(self, n_layers: usize) -> Vec<usize> {
        match self {
            Self::Refused => Vec::new(),
            Self::All => (0..n_layers).collect(),
            Self::AllBut(step) => {
                let sees_all = every(step, n_layers);
                let layers = 0..n_layers;
                layers.filter(|layer| !sees_all.contains(layer)).collect()
            }
        }
    }
}

const LLAMA: Family = Family {
    architecture: Architecture::Llama,
    gguf: "llama",
    hub: &["llama"],
    gguf_settings: &[],
    hub_settings: &[],
    is_interleaved: true,
    rotates_parts: false,
    qk_norm: QkNorm::None,
    norms: BlockNorms::Before,
    activation: Activation::Silu,
    // Of Mistral, whose GGUFs are Llama's.
    gguf_window: WindowLayers::All,
    hub_window: WindowLayers::Refused,
    is_gemma: false,
};

const GEMMA2: Family = Family {
    architecture: Architecture::Gemma2,
    gguf: "gemma2",
    hub: &["gemma2"],
    gguf_settings: &[
        "attention.sliding_window_pattern",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    ],
    hub_settings: &[
        "_sliding_window_pattern",
        "attn_logit_softcapping",
        // How the library keeps keys and values.
        "cache_implementation",
        "final_logit_softcapping",
        "hidden_activation",
        "query_pre_attn_scalar",
        "rope_local_base_freq",
        "sliding_window_pattern",
    ],
    is_interleaved: false,
    norms: BlockNorms::Both,
    activation: Activation::GeluTanh,
    gguf_window: WindowLayers::AllBut(2),
    hub_window: WindowLayers::AllBut(2),
    is_gemma: true,
    ..LLAMA
};

static FAMILIES: [Family; 10] = [
    LLAMA,
    Family {
        hub: &["mistral"],
        hub_window: WindowLayers::All,
        ..LLAMA
    },
    Family {
        architecture: Architecture::Qwen2,
        gguf: "qwen2",
        hub: &["qwen2"],
        is_interleaved: false,
        gguf_window: WindowLayers::Refused,
        ..LLAMA
    },
    Family {
        architecture: Architecture::Qwen3,
        gguf: "qwen3",
        hub: &["qwen3"],
        is_interleaved: false,
        qk_norm: QkNorm::EachHead,
        gguf_window: WindowLayers::Refused,
        ..LLAMA
    },
    Family {
        architecture: Architecture::Granite,
        gguf: "granite",
        hub: &["granite"],
        gguf_settings: &[
            "attention.scale",
            "embedding_scale",
            "logit_scale",
            "residual_scale",
        ],
        hub_settings: &[
            "attention_multiplier",
            "embedding_multiplier",
            "logits_scaling",
            "residual_multiplier",
        ],
        gguf_window: WindowLayers::Refused,
        ..LLAMA
    },
    Family {
        architecture: Architecture::SmolLm3,
        gguf: "smollm3",
        hub: &["smollm3"],
        hub_settings: &["no_rope_layer_interval", "no_rope_layers"],
        gguf_window: WindowLayers::Refused,
        ..LLAMA
    },
    Family {
        architecture: Architecture::Phi3,
        gguf: "phi3",
        hub: &["phi3"],
        gguf_settings: &["rope.scaling.attn_factor"],
        // Published files name the code that became the library's.
        hub_settings: &["auto_map"],
        is_interleaved: false,
        hub_window: WindowLayers::All,
        rotates_parts: true,
        ..LLAMA
    },
    Family {
        architecture: Architecture::Olmo2,
        gguf: "olmo2",
        hub: &["olmo2"],
        is_interleaved: false,
        qk_norm: QkNorm::AllHeads,
        norms: BlockNorms::After,
        gguf_window: WindowLayers::Refused,
        ..LLAMA
    },
    GEMMA2,
    Family {
        architecture: Architecture::Gemma3,
        gguf: "gemma3",
        hub: &["gemma3_text"],
        gguf_settings: &["attention.sliding_window_pattern", "rope.freq_base_swa"],
        qk_norm: QkNorm::EachHead,
        gguf_window: WindowLayers::AllBut(6),
        hub_window: WindowLayers::AllBut(6),
        ..GEMMA2
    },
];

/// Of SmolLM3, every so many-th layer does not rotate where nothing else is said.
pub(super) const UNROTATED_EVERY: usize = 4;

/// The family that a GGUF names.
pub(super) fn of_gguf(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.gguf == name)
}

/// The family that a `config.json` names.
pub(super) fn of_hub(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.hub.contains(&name))
}

/// Numbers of every `step`-th layer.
pub(super) fn every(step: usize, n_layers: usize) -> Vec<usize> {
    (0..n_layers)
        .filter(|layer| (layer + 1).is_multiple_of(step))
        .collect()
}

/// All names of a GGUF, for errors.
pub(super) fn gguf_names() -> String {
    let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.gguf).collect();
    names.dedup();
    names.join(", ")
}

/// All names of a `config.json`, for errors.
pub(super) fn hub_names() -> String {
    let names = FAMILIES.iter().flat_map(|family| family.hub);
    names.copied().collect::<Vec<_>>().join(", ")
}
