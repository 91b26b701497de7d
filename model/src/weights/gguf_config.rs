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
    let window = read_window(&keys, family, n_layers)?;
    if let Some(SlidingWindow { n_tokens, .. }) = window
        && n_tokens < max_positions
        && family.gguf_window == WindowLayers::Refused
    {
        return Err(file.unsupported("attention", format!("window of {n_tokens} tokens"), "full"));
    }
    let sizes = Sizes {
        n_layers,
        n_heads,
        head_dim,
        d_model,
    };
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
        other_rotation: read_other_rotation(&keys, family, n_layers, window.as_ref())?,
        window: window.filter(|window| window.n_tokens < max_positions),
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
        scales: read_scales(&keys, family, &sizes)?,
        soft_caps: read_caps(&keys, family)?,
        tied_embeddings: file.tensor("output.weight").is_none(),
        interleaved_rope_rows: family.is_interleaved,
        norms_less_one: false,
    })
}

/// What scales are told by where a file does not name them.
struct Sizes {
    n_layers: usize,
    n_heads: usize,
    head_dim: usize,
    d_model: usize,
}

impl Sizes {
    /// What a query is divided by the root of, of Gemma. A file does not say; llama.cpp knows the two
    /// largest models, which differ, by their numbers of layers.
    fn query_width(&self, family: &Family) -> usize {
        let largest = match family.architecture {
            Architecture::Gemma2 => 46,
            _ => 62,
        };
        match self.n_layers == largest {
            true => self.d_model / self.n_heads.max(1),
            false => self.head_dim,
        }
    }
}

/// What is multiplied with.
fn read_scales(keys: &Keys<'_>, family: &Family, sizes: &Sizes) -> Result<Scales, Error> {
    // As llama.cpp reads them: a scale of 0 is none.
    let scale =
        |key: &str| -> Result<Option<f32>, Error> { Ok(keys.real(key)?.filter(|x| *x != 0.0)) };
    match family.architecture {
        Architecture::Granite => Ok(Scales {
            embedding: scale("embedding_scale")?.unwrap_or(1.0),
            attention: scale("attention.scale")?,
            residual: scale("residual_scale")?.unwrap_or(1.0),
            // The file names what logits are divided by.
            logits: 1.0 / scale("logit_scale")?.unwrap_or(1.0),
        }),
        Architecture::Gemma2 | Architecture::Gemma3 => Ok(Scales::gemma(
            sizes.d_model,
            sizes.query_width(family) as f32,
        )),
        _ => Ok(Scales::PLAIN),
    }
}

/// The window that a file names, with the layers that have it.
fn read_window(
    keys: &Keys<'_>,
    family: &Family,
    n_layers: usize,
) -> Result<Option<SlidingWindow>, Error> {
    let n_tokens = match keys.optional_count("attention.sliding_window")? {
        // As llama.cpp takes it.
        None if family.architecture == Architecture::Gemma2 => 4096,
        // One of no tokens is none.
        None | Some(0) => return Ok(None),
        Some(n_tokens) => n_tokens,
    };
    let layers = match (family.gguf_window, read_pattern(keys, n_layers)?) {
        (WindowLayers::AllBut(_), Some(layers)) => layers,
        (by_family, _) => by_family.of(n_layers),
    };
    Ok(Some(SlidingWindow { n_tokens, layers }))
}

/// Layers that have a window, by a list of truth values, or by how many follow one that has none.
fn read_pattern(keys: &Keys<'_>, n_layers: usize) -> Result<Option<Vec<usize>>, Error> {
    let key = keys.full("attention.sliding_window_pattern");
    let Some(value) = keys.file.metadata.get(&key) else {
        return Ok(None);
    };
    if let Some(step) = value.unsigned().and_then(|n| usize::try_from(n).ok()) {
        // As llama.cpp reads it: a step of 0 is a window everywhere.
        let layers = match step {
            0 => WindowLayers::All,
            step => WindowLayers::AllBut(step),
        };
        return Ok(Some(layers.of(n_layers)));
    }
    let marks = value.elements().filter(|marks| marks.len() == n_layers);
    let marks: Option<Vec<bool>> = marks.and_then(|marks| marks.iter().map(Value::truth).collect());
    let Some(marks) = marks else {
        let reason = format!("`{key}` is neither a number nor a list of {n_layers} truth values");
        return Err(keys.file.corrupt(reason));
    };
    let marked = (0..n_layers).zip(marks).filter(|(_, has)| *has);
    Ok(Some(marked.map(|(layer, _)| layer).collect()))
}

/// Layers that rotate otherwise. Of SmolLM3 a file says nothing of them, so the family does.
fn read_other_rotation(
    keys: &Keys<'_>,
    family: &Family,
    n_layers: usize,
    window: Option<&SlidingWindow>,
) -> Result<Option<OtherRotation>, Error> {
    match (family.architecture, window) {
        (Architecture::SmolLm3, _) => Ok(OtherRotation::none_in(every(UNROTATED_EVERY, n_layers))),
        (Architecture::Gemma3, Some(window)) => {
            let theta = keys.real("rope.freq_base_swa")?.unwrap_or(10_000.0);
            Ok(Some(OtherRotation {
                layers: window.layers.clone(),
                theta: Some(theta),
            }))
        }
        _ => Ok(None),
    }
}

/// Soft bounds.
fn read_caps(keys: &Keys<'_>, family: &Family) -> Result<SoftCaps, Error> {
    if family.architecture != Architecture::Gemma2 {
        return Ok(SoftCaps::default());
    }
    // As llama.cpp takes them where they are not named.
    Ok(SoftCaps {
        scores: Some(keys.real("attn_logit_softcapping")?.unwrap_or(50.0)),
        logits: Some(keys.real("final_logit_softcapping")?.unwrap_or(30.0)),
    })
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
