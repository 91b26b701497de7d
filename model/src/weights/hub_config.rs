//! What does a hub's `config.json` say of the decoder?

use std::path::Path;

use serde_json::Value as Json;

use crate::{
    bounded,
    config::{Architecture, ModelConfig, RopeScaling},
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

/// Reads the configuration; `has` tells which tensors (by GGUF's names) are there.
pub(super) fn read(path: &Path, has: &dyn Fn(&str) -> bool) -> Result<ModelConfig, Error> {
    let file = File {
        path,
        json: json(path)?,
    };
    let architecture = match file.json["model_type"].as_str().unwrap_or("none") {
        "llama" | "mistral" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        other => return Err(file.unsupported("architecture", other, "llama, qwen2, qwen3")),
    };
    if file.json["quantization_config"].is_object() {
        let method = file.json["quantization_config"]["quant_method"]
            .as_str()
            .unwrap_or("unnamed");
        return Err(file.unsupported("quantization", method, "none (or a GGUF file)"));
    }
    let uses_window = match architecture {
        Architecture::Llama => file.json["sliding_window"].is_number(),
        _ => file.json["use_sliding_window"].as_bool().unwrap_or(false),
    };
    if uses_window {
        return Err(file.unsupported("attention", "sliding window", "full"));
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
    let qkv_bias = has("blk.0.attn_q.bias");
    if has("blk.0.attn_output.bias") || has("blk.0.ffn_up.bias") {
        return Err(file.unsupported("biases", "on output or feed-forward", "query, key, value"));
    }
    // Newer files keep everything about rotation in `rope_parameters`.
    let newer = &file.json["rope_parameters"];
    let rope_theta = newer["rope_theta"]
        .as_f64()
        .or_else(|| file.json["rope_theta"].as_f64())
        .unwrap_or(10_000.0) as f32;
    let scaling = if newer.is_object() {
        newer
    } else {
        &file.json["rope_scaling"]
    };
    Ok(ModelConfig {
        architecture,
        n_layers: file.count("num_hidden_layers")?,
        n_heads,
        n_kv_heads: file
            .optional_count("num_key_value_heads")?
            .unwrap_or(n_heads),
        head_dim,
        d_model,
        d_ff: file.count("intermediate_size")?,
        n_vocab: file.count("vocab_size")?,
        max_positions: file.count("max_position_embeddings")?,
        rope_theta,
        rope_scaling: file.scaling(scaling)?,
        norm_eps: file.json["rms_norm_eps"]
            .as_f64()
            .ok_or_else(|| file.corrupt("`rms_norm_eps` is missing"))? as f32,
        qkv_bias,
        qk_norm: has("blk.0.attn_q_norm.weight"),
        tied_embeddings: file.json["tie_word_embeddings"].as_bool().unwrap_or(false),
        interleaved_rope_rows: false,
    })
}

struct File<'a> {
    path: &'a Path,
    json: Json,
}

impl File<'_> {
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

    fn scaling(&self, scaling: &Json) -> Result<RopeScaling, Error> {
        if scaling.is_null() {
            return Ok(RopeScaling::None);
        }
        let real = |key: &str| {
            scaling[key]
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .map(|x| x as f32)
                .ok_or_else(|| self.corrupt(format!("rope scaling without a valid `{key}`")))
        };
        let kind = scaling["rope_type"]
            .as_str()
            .or_else(|| scaling["type"].as_str());
        match kind.unwrap_or("default") {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear {
                factor: real("factor")?,
            }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: real("factor")?,
                low_freq_factor: real("low_freq_factor")?,
                high_freq_factor: real("high_freq_factor")?,
                original_context: real("original_max_position_embeddings")? as u32,
            }),
            other => Err(self.unsupported("rope scaling", other, "default, linear, llama3")),
        }
    }

    fn unsupported(&self, what: &str, got: &str, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path.into(),
            what: what.into(),
            got: got.into(),
            supported: supported.into(),
        }
    }

    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            path: self.path.into(),
            reason: reason.into(),
        }
    }
}
