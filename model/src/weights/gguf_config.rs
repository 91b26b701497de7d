//! What do the metadata of a GGUF say of the decoder?

use super::{
    Encoding, TensorSource as _,
    family::{self, Family, UNROTATED_EVERY, WindowLayers, every},
    gguf::Contents,
    gguf_value::Value,
    rope_factors, unread,
};
use crate::{
    config::{
        Architecture, ModelConfig, OtherRotation, RopeScaling, Scales, SlidingWindow, SoftCaps,
    },
    error::Error,
};

/// Metadata under one architecture's prefix.
struct Keys<'a> {
    file: &'a Contents,
    prefix: &'a str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// A count; some writers give one per layer, which must then be equal.
    fn optional_count(&self, key: &str) -> Result<Option<usize>, Error> {
        let key = self.full(key);
        let Some(value) = self.file.metadata.get(&key) else {
            return Ok(None);
        };
        if let Value::Array(each) = value {
            let mut counts = each.iter().map(Value::unsigned);
            return match counts.next().flatten() {
                Some(first) if counts.all(|n| n == Some(first)) => Ok(usize::try_from(first).ok()),
                _ => Err(self.file.unsupported(
                    &format!("`{key}`"),
                    "a different value in each layer",
                    "one value for all layers",
                )),
            };
        }
        match self.file.number(&key).and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self
                .file
                .corrupt(format!("`{key}` is {value:?}, not a count"))),
        }
    }

    fn count(&self, key: &str) -> Result<usize, Error> {
        self.optional_count(key)?.ok_or_else(|| {
            self.file
                .corrupt(format!("metadata `{}` is missing", self.full(key)))
        })
    }

    fn real(&self, key: &str) -> Result<Option<f32>, Error> {
        let key = self.full(key);
        match self.file.metadata.get(&key) {
            None => Ok(None),
            Some(Value::F32(x)) => Ok(Some(*x)),
            Some(Value::F64(x)) => Ok(Some(*x as f32)),
            Some(value) => Err(self
                .file
                .corrupt(format!("`{key}` is {value:?}, not a real"))),
        }
    }
}

/// Reads the configuration.
pub(super) fn read(file: &Contents) -> Result<ModelConfig, Error> {
    let name = file
        .text("general.architecture")
        .ok_or_else(|| file.corrupt("metadata `general.architecture` is missing"))?;
    let Some(family) = family::of_gguf(name) else {
        return Err(file.unsupported("architecture", name, &family::gguf_names()));
    };
    if let Some(n) = file.number("split.count").filter(|&n| n > 1) {
        return Err(file.unsupported("split into files", n.to_string(), "a single file"));
    }
    let keys = Keys { file, prefix: name };
    if keys.optional_count("expert_count")?.is_some_and(|n| n > 0) {
        return Err(file.unsupported("feed-forward", "mixture of experts", "dense layers"));
    }

    unread::check_metadata(&file.path, family, file.metadata.iter())?;

    let finetuned = keys.full("rope.scaling.finetuned");
    if family.architecture == Architecture::Granite
        && file.metadata.get(&finetuned).and_then(Value::truth) == Some(false)
    {
        // So llama.cpp reads it of this family.
        return Err(file.unsupported("positions", format!("none (`{finetuned}`)"), "rotary"));
    }

    let d_model = keys.count("embedding_length")?;
    let n_heads = keys.count("attention.head_count")?;
    let n_kv_heads = keys
        .optional_count("attention.head_count_kv")?
        .unwrap_or(n_heads);
    let max_positions = keys.count("context_length")?;
    let head_dim = match keys.optional_count("attention.key_length")? {
        Some(head_dim) => head_dim,
        None if n_heads > 0 && d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => {
            return Err(file.corrupt(format!(
                "width {d_model} does not split into {n_heads} heads"
            )));
        }
    };
    if let Some(n) = keys.optional_count("attention.value_length")?
        && n != head_dim
    {
        let (got, expected) = (n.to_string(), head_dim.to_string());
        return Err(file.unsupported("width of value heads", got, &expected));
    }

    let rope_theta = keys.real("rope.freq_base")?.unwrap_or(10_000.0);
    let rotated_dims = match keys.optional_count("rope.dimension_count")? {
        Some(n) if n != head_dim && !family.rotates_parts => {
            let what = "partially rotated heads, of which the rotated width is";
            return Err(file.unsupported(what, n.to_string(), &head_dim.to_string()));
        }
        rotated => rotated.unwrap_or(head_dim),
    };
    let trained_positions = max_positions;
    // Whatever the type says: these files have tensors for it, or nothing.
    let (rope_scaling, max_positions) = match read_long_rope(&keys, family)? {
        Some((scaling, original)) => (scaling, max_positions.min(original)),
        None => (read_scaling(&keys, head_dim, rope_theta)?, max_positions),
    };
    let qkv_bias = file.tensor("blk.0.attn_q.bias").is_some();
    if qkv_bias && family.is_interleaved {
        let got = format!("{name} with attention biases");
        return Err(file.unsupported("biases", got, &format!("{name} without")));
    }
    let embeddings = file
        .tensor("token_embd.weight")
        .ok_or_else(|| Error::MissingTensor {
            path: file.path.clone(),
            name: "token_embd.weight".into(),
        })?;
    let n_layers = keys.count("block_count")?;
    Ok(ModelConfig {
        architecture: family.architecture,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        d_model,
        d_ff: keys.count("feed_forward_length")?,
        n_vocab: embeddings.shape[0],
        max_positions,
        trained_positions,
        rope_theta,
        rope_scaling,
        rotated_dims,
        other_rotation: read_other_rotation(family, n_layers),
        window: read_window(&keys, family, n_layers, max_positions)?,
        norm_eps: keys
            .real("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| {
                file.corrupt(format!(
                    "metadata `{name}.attention.layer_norm_rms_epsilon` is missing"
                ))
            })?,
        qkv_bias,
        // Norms that another family has are refused as tensors that nobody reads.
        qk_norm: family.qk_norm,
        norms: family.norms,
        activation: family.activation,
        scales: read_scales(&keys, family)?,
        soft_caps: SoftCaps::default(),
        tied_embeddings: file.tensor("output.weight").is_none(),
        interleaved_rope_rows: family.is_interleaved,
        norms_less_one: false,
    })
}

/// What is multiplied with.
fn read_scales(keys: &Keys<'_>, family: &Family) -> Result<Scales, Error> {
    // As llama.cpp reads them: a scale of 0 is none.
    let scale = |key: &str| -> Result<Option<f32>, Error> {
        Ok(keys.real(key)?.filter(|x| *x != 0.0))
    };
    match family.architecture {
        Architecture::Granite => Ok(Scales {
            embedding: scale("embedding_scale")?.unwrap_or(1.0),
            attention: scale("attention.scale")?,
            residual: scale("residual_scale")?.unwrap_or(1.0),
            // The file names what logits are divided by.
            logits: 1.0 / scale("logit_scale")?.unwrap_or(1.0),
        }),
        _ => Ok(Scales::PLAIN),
    }
}

/// A window that hides positions from some layers.
fn read_window(
    keys: &Keys<'_>,
    family: &Family,
    n_layers: usize,
    max_positions: usize,
) -> Result<Option<SlidingWindow>, Error> {
    let n_tokens = keys.optional_count("attention.sliding_window")?;
    // One of no tokens is none.
    let Some(n_tokens) = n_tokens.filter(|n| (1..max_positions).contains(n)) else {
        return Ok(None);
    };
    if family.gguf_window == WindowLayers::Refused {
        let got = format!("window of {n_tokens} tokens");
        return Err(keys.file.unsupported("attention", got, "full"));
    }
    let layers = family.gguf_window.of(n_layers);
    Ok(Some(SlidingWindow { n_tokens, layers }))
}

/// Layers that rotate otherwise. A file says nothing of them, so the family does.
fn read_other_rotation(family: &Family, n_layers: usize) -> Option<OtherRotation> {
    match family.architecture {
        Architecture::SmolLm3 => OtherRotation::none_in(every(UNROTATED_EVERY, n_layers)),
        _ => None,
    }
}

/// As llama.cpp reads it: a factor without a type is linear, and a factor of 0 is none.
fn read_scaling(keys: &Keys<'_>, head_dim: usize, theta: f32) -> Result<RopeScaling, Error> {
    let by_factor = read_factor(keys)?;
    match read_divisors(keys.file, head_dim, theta)? {
        None | Some(RopeScaling::None) => Ok(by_factor),
        Some(by_tensor) if by_factor == RopeScaling::None => Ok(by_tensor),
        Some(_) => Err(keys.file.unsupported(
            "rope scaling",
            "a factor beside `rope_freqs.weight`",
            "one of both",
        )),
    }
}

/// Divisors of LongRoPE for contexts up to the original one, and how long that is.
fn read_long_rope(keys: &Keys<'_>, family: &Family) -> Result<Option<(RopeScaling, usize)>, Error> {
    const SHORT: &str = "rope_factors_short.weight";
    let file = keys.file;
    if !family.rotates_parts || file.tensor(SHORT).is_none() {
        return Ok(None);
    }
    let divisors = read_floats(file, SHORT)?.unwrap_or_default();
    let original = match keys.optional_count("rope.scaling.original_context_length")? {
        Some(original) => original,
        None => keys.count("rope.scaling.orig_ctx_len")?,
    };
    let scaling = RopeScaling::Divisors {
        divisors,
        attention_factor: keys.real("rope.scaling.attn_factor")?.unwrap_or(1.0),
    };
    Ok(Some((scaling, original)))
}

/// A vector, if it is there.
fn read_floats(file: &Contents, name: &str) -> Result<Option<Vec<f32>>, Error> {
    let Some(tensor) = file.tensor(name) else {
        return Ok(None);
    };
    if tensor.encoding != Encoding::F32 {
        return Err(file.corrupt(format!("tensor `{name}` is not F32")));
    }
    let floats = tensor.bytes.as_chunks().0.iter();
    Ok(Some(
        floats.map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    ))
}

/// The scaling that metadata ask for.
fn read_factor(keys: &Keys<'_>) -> Result<RopeScaling, Error> {
    let file = keys.file;
    let key = keys.full("rope.scaling.type");
    let kind = match file.metadata.get(&key) {
        None => None,
        Some(value) => match value.text() {
            Some(kind) => Some(kind),
            None => return Err(file.corrupt(format!("`{key}` is {value:?}, not a text"))),
        },
    };
    let factor = match keys.real("rope.scaling.factor")? {
        None => keys.real("rope.scale_linear")?,
        factor => factor,
    };
    match (kind, factor) {
        (Some("none"), _) | (None, None) => Ok(RopeScaling::None),
        (Some("linear") | None, Some(0.0 | 1.0)) => Ok(RopeScaling::None),
        (Some("linear") | None, Some(factor)) if factor.is_finite() && factor > 0.0 => {
            Ok(RopeScaling::Linear { factor })
        }
        (Some("linear") | None, factor) => {
            Err(file.corrupt(format!("linear rope scaling by {factor:?}")))
        }
        (Some(other), _) => Err(file.unsupported("rope scaling", other, "none, linear, llama3")),
    }
}

/// The scaling that a tensor of divisors stands for.
fn read_divisors(
    file: &Contents,
    head_dim: usize,
    theta: f32,
) -> Result<Option<RopeScaling>, Error> {
    let Some(divisors) = read_floats(file, "rope_freqs.weight")? else {
        return Ok(None);
    };
    if head_dim > 1024 {
        return Err(file.corrupt(format!("head width {head_dim}")));
    }
    let known = rope_factors::recognise(&divisors, head_dim, theta);
    known.map(Some).ok_or_else(|| {
        let supported = "none, linear, llama3";
        file.unsupported("rope scaling", "factors of an unknown kind", supported)
    })
}
