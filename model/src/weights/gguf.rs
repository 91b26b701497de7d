//! What is in a GGUF file: configuration, tensors, and the metadata of its tokenizer.
//!
//! The file is mapped, its head parsed and checked against the file's length, its sizes
//! against one another. What opens here can be read to the end without another check.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use super::{
    Encoding, RawTensor, TensorSource, demands,
    gguf_header::{self, Header, Refusal},
    gguf_value::Value,
    mapped, rope_factors, unread,
};
use crate::{
    config::{Architecture, ModelConfig, RopeScaling},
    error::Error,
};

/// An opened GGUF file.
#[derive(Debug)]
pub struct Gguf {
    contents: Contents,
    config: ModelConfig,
}

/// The file as parsed, before its configuration is read from it.
#[derive(Debug)]
struct Contents {
    path: PathBuf,
    map: Mmap,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, Placed>,
}

/// A tensor whose bytes are known to lie in the file.
#[derive(Debug)]
struct Placed {
    encoding: Encoding,
    shape: [usize; 2],
    bytes: Range<usize>,
}

impl Gguf {
    /// Maps and checks a file. Cheap: no tensor is read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let map = mapped::map(path)?;
        let header = gguf_header::parse(&map).map_err(|refusal| match refusal {
            Refusal::Foreign(reason) => Error::NotACheckpoint {
                path: path.into(),
                reason,
            },
            Refusal::Damaged(reason) => Error::Corrupt {
                path: path.into(),
                reason,
            },
        })?;
        let tensors = place(path, &header, map.len())?;
        let contents = Contents {
            path: path.into(),
            map,
            metadata: header.metadata,
            tensors,
        };
        let config = read_config(&contents)?;
        demands::check_sizes(path, &config)?;
        demands::check(path, &config, &contents)?;
        unread::check_tensors(path, &config, contents.tensors.keys())?;
        Ok(Self { contents, config })
    }

    /// Sizes and switches of the decoder.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// File that was opened.
    pub fn path(&self) -> &Path {
        &self.contents.path
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.contents.map
    }

    /// A metadata value by its full key.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.contents.metadata.get(key)
    }

    /// A metadata value that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.contents.text(key)
    }

    /// A metadata value that is an unsigned number, whatever its width.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.contents.number(key)
    }

    /// All metadata, by full key.
    pub(crate) fn all_metadata(&self) -> &HashMap<String, Value> {
        &self.contents.metadata
    }
}

impl TensorSource for Gguf {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        self.contents.tensor(name)
    }
}

impl Contents {
    fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)?.text()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.metadata.get(key)?.unsigned()
    }

    fn unsupported(&self, what: &str, got: impl Into<String>, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            what: what.into(),
            got: got.into(),
            supported: supported.into(),
        }
    }

    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }
}

impl TensorSource for Contents {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let placed = self.tensors.get(name)?;
        Some(RawTensor {
            encoding: placed.encoding,
            shape: placed.shape,
            bytes: &self.map[placed.bytes.clone()],
        })
    }
}

/// GGML's numbers of the encodings.
fn encoding_of(ggml_type: u32) -> Result<Encoding, &'static str> {
    Ok(match ggml_type {
        0 => Encoding::F32,
        1 => Encoding::F16,
        2 => Encoding::Q4_0,
        3 => Encoding::Q4_1,
        6 => Encoding::Q5_0,
        7 => Encoding::Q5_1,
        8 => Encoding::Q8_0,
        10 => Encoding::Q2_K,
        11 => Encoding::Q3_K,
        12 => Encoding::Q4_K,
        13 => Encoding::Q5_K,
        14 => Encoding::Q6_K,
        20 => Encoding::IQ4_NL,
        23 => Encoding::IQ4_XS,
        30 => Encoding::BF16,
        9 => return Err("Q8_1"),
        15 => return Err("Q8_K"),
        16 => return Err("IQ2_XXS"),
        17 => return Err("IQ2_XS"),
        18 => return Err("IQ3_XXS"),
        19 => return Err("IQ1_S"),
        21 => return Err("IQ3_S"),
        22 => return Err("IQ2_S"),
        29 => return Err("IQ1_M"),
        34 => return Err("TQ1_0"),
        35 => return Err("TQ2_0"),
        39 => return Err("MXFP4"),
        _ => return Err("unknown"),
    })
}

/// Turns the tensor table into byte ranges that lie in the file.
fn place(path: &Path, header: &Header, file_len: usize) -> Result<HashMap<String, Placed>, Error> {
    let corrupt = |reason: String| Error::Corrupt {
        path: path.into(),
        reason,
    };
    let mut tensors = HashMap::with_capacity(header.tensors.len());
    for entry in &header.tensors {
        let name = &entry.name;
        let encoding = encoding_of(entry.ggml_type).map_err(|known_as| Error::Unsupported {
            path: path.into(),
            what: format!("encoding of tensor `{name}`"),
            got: format!("{known_as} (GGML type {})", entry.ggml_type),
            supported: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, \
                        IQ4_XS"
                .into(),
        })?;
        let (&columns, leading) = entry.shape.split_last().expect("one to four dimensions");
        let placed = leading
            .iter()
            .try_fold(1u64, |rows, &n| rows.checked_mul(n))
            .and_then(|rows| {
                let shape = [usize::try_from(rows).ok()?, usize::try_from(columns).ok()?];
                let n_bytes = encoding.bytes_of(shape)?;
                let start = header.data_start.checked_add(entry.offset)?;
                let start = usize::try_from(start).ok()?;
                let end = start.checked_add(n_bytes)?;
                Some(Placed {
                    encoding,
                    shape,
                    bytes: start..end,
                })
            })
            .ok_or_else(|| {
                corrupt(format!(
                    "tensor `{name}`: {:?} cannot be {encoding:?}",
                    entry.shape
                ))
            })?;
        if placed.bytes.end > file_len {
            return Err(corrupt(format!(
                "tensor `{name}` ends at byte {}, the file at {file_len}: was it fetched whole?",
                placed.bytes.end
            )));
        }
        if tensors.insert(name.clone(), placed).is_some() {
            return Err(corrupt(format!("tensor `{name}` stands twice")));
        }
    }
    Ok(tensors)
}

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

fn read_config(file: &Contents) -> Result<ModelConfig, Error> {
    let name = file
        .text("general.architecture")
        .ok_or_else(|| file.corrupt("metadata `general.architecture` is missing"))?;
    let architecture = match name {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        other => return Err(file.unsupported("architecture", other, "llama, qwen2, qwen3")),
    };
    if let Some(n) = file.number("split.count").filter(|&n| n > 1) {
        return Err(file.unsupported("split into files", n.to_string(), "a single file"));
    }
    let keys = Keys { file, prefix: name };
    if keys.optional_count("expert_count")?.is_some_and(|n| n > 0) {
        return Err(file.unsupported("feed-forward", "mixture of experts", "dense layers"));
    }

    unread::check_metadata(&file.path, name, file.metadata.iter())?;

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
    for (key, what) in [
        ("attention.value_length", "width of value heads"),
        (
            "rope.dimension_count",
            "partially rotated heads, of which the rotated width is",
        ),
    ] {
        if let Some(n) = keys.optional_count(key)?.filter(|&n| n != head_dim) {
            return Err(file.unsupported(what, n.to_string(), &format!("{head_dim}")));
        }
    }
    if let Some(window) = keys.optional_count("attention.sliding_window")?
        && (1..max_positions).contains(&window)
    {
        return Err(file.unsupported("attention", format!("window of {window} tokens"), "full"));
    }

    let rope_theta = keys.real("rope.freq_base")?.unwrap_or(10_000.0);
    let qkv_bias = file.tensors.contains_key("blk.0.attn_q.bias");
    if qkv_bias && architecture == Architecture::Llama {
        return Err(file.unsupported("biases", "llama with attention biases", "llama without"));
    }
    let embeddings = file
        .tensors
        .get("token_embd.weight")
        .ok_or_else(|| Error::MissingTensor {
            path: file.path.clone(),
            name: "token_embd.weight".into(),
        })?;
    Ok(ModelConfig {
        architecture,
        n_layers: keys.count("block_count")?,
        n_heads,
        n_kv_heads,
        head_dim,
        d_model,
        d_ff: keys.count("feed_forward_length")?,
        n_vocab: embeddings.shape[0],
        max_positions,
        rope_theta,
        rope_scaling: read_scaling(&keys, head_dim, rope_theta)?,
        norm_eps: keys
            .real("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| {
                file.corrupt(format!(
                    "metadata `{name}.attention.layer_norm_rms_epsilon` is missing"
                ))
            })?,
        qkv_bias,
        // Norms that another architecture has are refused as tensors that nobody reads.
        qk_norm: architecture == Architecture::Qwen3,
        tied_embeddings: !file.tensors.contains_key("output.weight"),
        interleaved_rope_rows: architecture == Architecture::Llama,
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
    let Some(tensor) = file.tensor("rope_freqs.weight") else {
        return Ok(None);
    };
    if tensor.encoding != Encoding::F32 || head_dim > 1024 {
        return Err(file.corrupt("tensor `rope_freqs.weight` is not F32"));
    }
    let floats = tensor.bytes.as_chunks().0.iter();
    let divisors: Vec<f32> = floats.map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let known = rope_factors::recognise(&divisors, head_dim, theta);
    known.map(Some).ok_or_else(|| {
        let supported = "none, linear, llama3";
        file.unsupported("rope scaling", "factors of an unknown kind", supported)
    })
}

#[cfg(test)]
mod tests;
