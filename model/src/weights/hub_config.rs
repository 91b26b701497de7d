//! What does a hub's `config.json` say of the decoder?

use std::path::Path;

use serde_json::Value as Json;

use super::{
    family::{self, Family, UNROTATED_EVERY, WindowLayers, every},
    hub_rope::{self, HubRotation},
    unread,
};
use crate::{
    bounded,
    config::{
        Activation, Architecture, ModelConfig, OtherRotation, Scales, SlidingWindow, SoftCaps,
    },
    error::Error,
};

/// A configuration larger than this is not one. Indices of the largest models have 1 MB.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Reads a JSON file of bounded size.
pub(super) fn json(path: &Path) -> Result<Json, Error> {
    let bytes = bounded::read(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
        path: path.into(),
        reason: error.to_string(),
    })
}

/// Opens a configuration; yields the family that it names, too.
pub(super) fn open(path: &Path) -> Result<(File<'_>, &'static Family), Error> {
    let file = File {
        path,
        json: json(path)?,
    };
    let name = file.json["model_type"].as_str().unwrap_or("none");
    match family::of_hub(name) {
        Some(family) => Ok((file, family)),
        None => Err(file.unsupported("architecture", name, &family::hub_names())),
    }
}

/// Reads the configuration; `has` tells which tensors (by GGUF's names) are there.
pub(super) fn read(
    file: &File<'_>,
    family: &Family,
    has: &dyn Fn(&str) -> bool,
) -> Result<ModelConfig, Error> {
    let architecture = family.architecture;
    if file.json["quantization_config"].is_object() {
        let method = file.json["quantization_config"]["quant_method"]
            .as_str()
            .unwrap_or("unnamed");
        return Err(file.unsupported("quantization", method, "none (or a GGUF file)"));
    }
    unread::check_settings(file.path, family, &file.json)?;
    file.check_activation(family)?;
    if file.is_on("mlp_bias")? {
        return Err(file.unsupported("biases", "of the feed-forward", "of query, key, value"));
    }

    let d_model = file.count("hidden_size")?;
    let n_heads = file.count("num_attention_heads")?;
    let head_dim = match file.optional_count("head_dim")? {
        Some(head_dim) => head_dim,
        None if n_heads > 0 && d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => {
            return Err(file.corrupt(format!(
                "width {d_model} does not split into {n_heads} heads"
            )));
        }
    };
    // Qwen2 has biases whatever its switch says; of others, who follows the file's switch would
    // compute something else than who follows its tensors.
    let qkv_bias = has("blk.0.attn_q.bias");
    let says_bias = file.is_on("attention_bias")?;
    if architecture != Architecture::Qwen2 && qkv_bias != says_bias {
        let got = format!("`attention_bias` {says_bias}, with tensors that say {qkv_bias}");
        return Err(file.unsupported("biases", &got, "one or the other"));
    }
    let n_layers = file.count("num_hidden_layers")?;
    let trained_positions = file.count("max_position_embeddings")?;
    let HubRotation {
        theta,
        scaling,
        rotated_dims,
        max_positions,
    } = hub_rope::read(file, family, head_dim, trained_positions)?;
    let windowed = file.windowed_layers(family, n_layers)?;
    Ok(ModelConfig {
        architecture,
        n_layers,
        n_heads,
        n_kv_heads: file
            .optional_count("num_key_value_heads")?
            .unwrap_or(n_heads),
        head_dim,
        d_model,
        d_ff: file.count("intermediate_size")?,
        n_vocab: file.count("vocab_size")?,
        max_positions,
        trained_positions,
        rope_theta: theta,
        rope_scaling: scaling,
        rotated_dims,
        other_rotation: file.other_rotation(family, n_layers, &windowed)?,
        window: file.window(family, &windowed, max_positions)?,
        norm_eps: file.json["rms_norm_eps"]
            .as_f64()
            .ok_or_else(|| file.corrupt("`rms_norm_eps` is missing"))? as f32,
        qkv_bias,
        // Norms that another family has are refused as tensors that nobody reads.
        qk_norm: family.qk_norm,
        norms: family.norms,
        activation: family.activation,
        scales: file.scales(family, d_model)?,
        soft_caps: file.caps(family)?,
        tied_embeddings: match &file.json["tie_word_embeddings"] {
            Json::Null => family.is_gemma,
            _ => file.is_on("tie_word_embeddings")?,
        },
        interleaved_rope_rows: false,
        norms_less_one: family.is_gemma,
    })
}

/// An opened `config.json`.
pub(super) struct File<'a> {
    path: &'a Path,
    pub(super) json: Json,
}

impl File<'_> {
    /// Layers that have a window.
    fn windowed_layers(&self, family: &Family, n_layers: usize) -> Result<Vec<usize>, Error> {
        if let Some(layers) = self.windowed_by_type(n_layers)? {
            return Ok(layers);
        }
        let is_named = !self.json["sliding_window"].is_null();
        let layers = match family.hub_window {
            WindowLayers::Refused => {
                let asks = match family.architecture {
                    Architecture::Llama => is_named,
                    _ => self.is_on("use_sliding_window")?,
                };
                WindowLayers::All.of(if asks { n_layers } else { 0 })
            }
            WindowLayers::All => WindowLayers::All.of(if is_named { n_layers } else { 0 }),
            WindowLayers::AllBut(step) => {
                let mut said = self.optional_count("sliding_window_pattern")?;
                if said.is_none() {
                    said = self.optional_count("_sliding_window_pattern")?;
                }
                let step = said.unwrap_or(step);
                if step == 0 {
                    return Err(self.corrupt("`sliding_window_pattern` is 0"));
                }
                WindowLayers::AllBut(step).of(n_layers)
            }
        };
        Ok(layers)
    }

    /// A window that hides positions from some layers.
    fn window(
        &self,
        family: &Family,
        layers: &[usize],
        max_positions: usize,
    ) -> Result<Option<SlidingWindow>, Error> {
        let n_tokens = self.optional_count("sliding_window")?;
        match n_tokens {
            _ if layers.is_empty() => Ok(None),
            Some(n_tokens) if n_tokens >= max_positions => Ok(None),
            Some(n_tokens) if family.hub_window != WindowLayers::Refused => {
                let layers = layers.to_vec();
                Ok(Some(SlidingWindow { n_tokens, layers }))
            }
            _ => Err(self.unsupported("attention", "sliding window", "full")),
        }
    }

    /// Soft bounds.
    fn caps(&self, family: &Family) -> Result<SoftCaps, Error> {
        // Of others, names of caps are refused.
        if !family.is_gemma {
            return Ok(SoftCaps::default());
        }
        Ok(SoftCaps {
            scores: self.real("attn_logit_softcapping")?,
            logits: self.real("final_logit_softcapping")?,
        })
    }

    /// Refuses another activation than the family's.
    fn check_activation(&self, family: &Family) -> Result<(), Error> {
        let names = match family.activation {
            Activation::Silu => ["silu", "swish"],
            Activation::GeluTanh => ["gelu_pytorch_tanh", "gelu_tanh"],
        };
        for key in ["hidden_act", "hidden_activation"] {
            if let Some(name) = self.text(key)?.filter(|name| !names.contains(name)) {
                return Err(self.unsupported("activation", name, names[0]));
            }
        }
        Ok(())
    }

    /// Layers whose type is to have a window, where types are named.
    fn windowed_by_type(&self, n_layers: usize) -> Result<Option<Vec<usize>>, Error> {
        const TYPES: &str = "layer_types";
        let types = match &self.json[TYPES] {
            Json::Null => return Ok(None),
            Json::Array(types) if types.len() == n_layers => types,
            _ => {
                let reason = format!("`{TYPES}` is no list of {n_layers}, one a layer");
                return Err(self.corrupt(reason));
            }
        };
        let mut layers = Vec::new();
        for (layer, kind) in types.iter().enumerate() {
            match kind.as_str() {
                Some("full_attention") => {}
                Some("sliding_attention") => layers.push(layer),
                _ => {
                    let supported = "full, sliding window";
                    return Err(self.unsupported("attention", &kind.to_string(), supported));
                }
            }
        }
        Ok(Some(layers))
    }

    /// What is multiplied with.
    fn scales(&self, family: &Family, d_model: usize) -> Result<Scales, Error> {
        // As the library reads them: a multiplier that is not named is one.
        let multiplier = |key: &str| -> Result<f32, Error> { Ok(self.real(key)?.unwrap_or(1.0)) };
        match family.architecture {
            Architecture::Granite => Ok(Scales {
                embedding: multiplier("embedding_multiplier")?,
                attention: Some(multiplier("attention_multiplier")?),
                residual: multiplier("residual_multiplier")?,
                logits: 1.0 / multiplier("logits_scaling")?,
            }),
            Architecture::Gemma2 | Architecture::Gemma3 => {
                let query_width = self.real("query_pre_attn_scalar")?.unwrap_or(256.0);
                Ok(Scales::gemma(d_model, query_width))
            }
            _ => Ok(Scales::PLAIN),
        }
    }

    /// Layers that rotate otherwise.
    fn other_rotation(
        &self,
        family: &Family,
        n_layers: usize,
        windowed: &[usize],
    ) -> Result<Option<OtherRotation>, Error> {
        match family.architecture {
            Architecture::SmolLm3 => {
                let layers = self.unrotated_layers(n_layers)?;
                Ok(OtherRotation::none_in(layers))
            }
            Architecture::Gemma3 if !windowed.is_empty() => {
                let theta = self.real("rope_local_base_freq")?.unwrap_or(10_000.0);
                Ok(Some(OtherRotation {
                    layers: windowed.to_vec(),
                    theta: Some(theta),
                }))
            }
            _ => Ok(None),
        }
    }

    /// Layers of SmolLM3 that do not rotate: a list with a zero for each, or every so many-th.
    fn unrotated_layers(&self, n_layers: usize) -> Result<Vec<usize>, Error> {
        const LAYERS: &str = "no_rope_layers";
        const INTERVAL: &str = "no_rope_layer_interval";
        let marks = match &self.json[LAYERS] {
            Json::Null => {
                let interval = self.optional_count(INTERVAL)?.unwrap_or(UNROTATED_EVERY);
                if interval == 0 {
                    return Err(self.corrupt(format!("`{INTERVAL}` is 0")));
                }
                return Ok(every(interval, n_layers));
            }
            Json::Array(marks) if marks.len() == n_layers => marks,
            _ => {
                let reason = format!("`{LAYERS}` is no list of {n_layers}, one a layer");
                return Err(self.corrupt(reason));
            }
        };
        let mut layers = Vec::new();
        for (layer, mark) in marks.iter().enumerate() {
            match mark.as_u64() {
                Some(0) => layers.push(layer),
                Some(1) => {}
                _ => return Err(self.corrupt(format!("`{LAYERS}` holds {mark}, not 0 or 1"))),
            }
        }
        Ok(layers)
    }

    fn real(&self, key: &str) -> Result<Option<f32>, Error> {
        match &self.json[key] {
            Json::Null => Ok(None),
            value => match value.as_f64() {
                Some(x) => Ok(Some(x as f32)),
                None => Err(self.corrupt(format!("`{key}` is {value}, not a number"))),
            },
        }
    }

    /// A switch, which is off where it is not named.
    fn is_on(&self, key: &str) -> Result<bool, Error> {
        match &self.json[key] {
            Json::Null => Ok(false),
            Json::Bool(is_on) => Ok(*is_on),
            other => Err(self.corrupt(format!("`{key}` is {other}, not a truth value"))),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        match &self.json[key] {
            Json::Null => Ok(None),
            Json::String(text) => Ok(Some(text)),
            other => Err(self.corrupt(format!("`{key}` is {other}, not a text"))),
        }
    }

    fn optional_count(&self, key: &str) -> Result<Option<usize>, Error> {
        match &self.json[key] {
            Json::Null => Ok(None),
            value => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => Err(self.corrupt(format!("`{key}` is {value}, not a count"))),
            },
        }
    }

    fn count(&self, key: &str) -> Result<usize, Error> {
        self.optional_count(key)?
            .ok_or_else(|| self.corrupt(format!("`{key}` is missing")))
    }

    pub(super) fn unsupported(&self, what: &str, got: &str, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path.into(),
            what: what.into(),
            got: got.into(),
            supported: supported.into(),
        }
    }

    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            path: self.path.into(),
            reason: reason.into(),
        }
    }
}
