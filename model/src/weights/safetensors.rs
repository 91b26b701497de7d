//! What is in a folder of `config.json` and `*.safetensors`, as model hubs publish it?
//!
//! Files stay mapped. Names become GGUF's while the folder is opened, so that nothing
//! past this file knows which container the weights came from. Rows of the query and key
//! projections are not permuted here, unlike in a GGUF of the Llama architecture.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;

use super::{
    Encoding, RawTensor, TensorSource, demands, family::Family, fused, hub_config, mapped, unread,
};
use crate::{
    config::{Architecture, BlockNorms, ModelConfig},
    error::Error,
};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Files that one folder may split its weights into.
const MAX_FILES: usize = 1024;

/// An opened safetensors folder.
#[derive(Debug)]
pub struct SafetensorsFolder {
    path: PathBuf,
    contents: Contents,
    config: ModelConfig,
}

#[derive(Debug)]
struct Contents {
    files: Vec<(PathBuf, Mmap)>,
    tensors: HashMap<String, Placed>,
    /// Published names of tensors that GGUF has no name for.
    unnamed: Vec<String>,
}

/// A tensor whose bytes are known to lie in its file.
#[derive(Debug)]
struct Placed {
    file: usize,
    encoding: Encoding,
    shape: [usize; 2],
    bytes: Range<usize>,
}

impl SafetensorsFolder {
    /// Maps and checks a folder. Cheap: no tensor is read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let config = path.join("config.json");
        let (file, family) = hub_config::open(&config)?;
        let mut contents = Contents {
            files: Vec::new(),
            tensors: HashMap::new(),
            unnamed: Vec::new(),
        };
        for name in file_names(path)? {
            contents.add(path.join(name), family)?;
        }
        let has = |name: &str| contents.tensors.contains_key(name);
        let config = hub_config::read(&file, family, &has)?;
        demands::check_sizes(path, &config)?;
        contents.split_fused(path, &config)?;
        demands::check(path, &config, &contents)?;
        if config.tied_embeddings {
            contents.drop_copy_of_embeddings(path)?;
        }
        let names = contents.tensors.keys().chain(&contents.unnamed);
        unread::check_tensors(path, &config, names)?;
        Ok(Self {
            path: path.into(),
            contents,
            config,
        })
    }

    /// Sizes and switches of the decoder.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Weight files, in the order of their names, and their bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.contents
            .files
            .iter()
            .map(|(path, map)| (path.as_path(), &map[..]))
    }
}

impl TensorSource for SafetensorsFolder {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        self.contents.tensor(name)
    }
}

impl TensorSource for Contents {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let placed = self.tensors.get(name)?;
        let (_, map) = &self.files[placed.file];
        Some(RawTensor {
            encoding: placed.encoding,
            shape: placed.shape,
            bytes: &map[placed.bytes.clone()],
        })
    }
}

impl Contents {
    fn add(&mut self, path: PathBuf, family: &Family) -> Result<(), Error> {
        const LENGTH_BYTES: usize = 8;
        let map = mapped::map(&path)?;
        let corrupt = |reason: String| Error::Corrupt {
            path: path.clone(),
            reason,
        };
        // The library caps the head, and compares every offset with the file's length.
        let (head, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| corrupt(error.to_string()))?;
        let data = LENGTH_BYTES + head;
        for (published, info) in metadata.tensors() {
            let Some(name) = gguf_name(&published, family) else {
                self.unnamed.push(published);
                continue;
            };
            let encoding = match info.dtype {
                Dtype::F32 => Encoding::F32,
                Dtype::F16 => Encoding::F16,
                Dtype::BF16 => Encoding::BF16,
                other => {
                    return Err(Error::Unsupported {
                        path,
                        what: format!("encoding of tensor `{published}`"),
                        got: format!("{other:?}"),
                        supported: "F32, F16, BF16".into(),
                    });
                }
            };
            let shape = match info.shape[..] {
                [n] => [1, n],
                [rows, columns] => [rows, columns],
                _ => return Err(corrupt(format!("tensor `{published}` is {:?}", info.shape))),
            };
            let (start, end) = info.data_offsets;
            if encoding.bytes_of(shape) != Some(end - start) {
                return Err(corrupt(format!(
                    "tensor `{published}` has {} bytes",
                    end - start
                )));
            }
            let placed = Placed {
                file: self.files.len(),
                encoding,
                shape,
                bytes: data + start..data + end,
            };
            if self.tensors.insert(name, placed).is_some() {
                return Err(corrupt(format!("tensor `{published}` stands in two files")));
            }
        }
        self.files.push((path, map));
        Ok(())
    }

    /// Gives each part of what is stored as one a place of its own.
    fn split_fused(&mut self, path: &Path, config: &ModelConfig) -> Result<(), Error> {
        for fused in fused::of(config) {
            if self.tensors.contains_key(&fused.parts[0].0) {
                // Some folders hold the parts.
                continue;
            }
            let Some(whole) = self.tensors.remove(&fused.whole) else {
                continue;
            };
            let Placed { file, encoding, .. } = whole;
            for (name, shape, bytes) in fused.cut(path, encoding, whole.shape, &whole.bytes)? {
                let part = Placed {
                    file,
                    encoding,
                    shape,
                    bytes,
                };
                self.tensors.insert(name, part);
            }
        }
        Ok(())
    }

    /// Some writers repeat embeddings that serve as the output projection, too.
    fn drop_copy_of_embeddings(&mut self, path: &Path) -> Result<(), Error> {
        const OUTPUT: &str = "output.weight";
        let (embeddings, output) = (self.tensor("token_embd.weight"), self.tensor(OUTPUT));
        let (Some(embeddings), Some(output)) = (embeddings, output) else {
            return Ok(());
        };
        if (embeddings.encoding, embeddings.bytes) != (output.encoding, output.bytes) {
            return Err(Error::Corrupt {
                path: path.into(),
                reason: "`tie_word_embeddings` says that the embeddings are the output \
                         projection, but `lm_head.weight` holds other numbers"
                    .into(),
            });
        }
        self.tensors.remove(OUTPUT);
        Ok(())
    }
}

/// Names of the weight files, sorted.
fn file_names(folder: &Path) -> Result<Vec<String>, Error> {
    let index = folder.join(INDEX);
    if !index.is_file() {
        return Ok(vec![SINGLE.into()]);
    }
    let corrupt = |reason: String| Error::Corrupt {
        path: index.clone(),
        reason,
    };
    let json = hub_config::json(&index)?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| corrupt("no `weight_map`".into()))?;
    let mut names: Vec<String> = map
        .values()
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_FILES {
        return Err(corrupt(format!(
            "{} files, the limit is {MAX_FILES}",
            names.len()
        )));
    }
    // The index comes from elsewhere: it names files of its own folder and no others.
    match names
        .iter()
        .find(|name| Path::new(name).file_name() != Some(name.as_ref()))
    {
        Some(name) => Err(corrupt(format!("`{name}` is not a plain file name"))),
        None => Ok(names),
    }
}

/// GGUF's name for a hub's; `None` for tensors that no decoder here reads.
fn gguf_name(published: &str, family: &Family) -> Option<String> {
    match published {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, rest) = published.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (module, parameter) = rest.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" if family.norms == BlockNorms::Before => "ffn_norm",
        "post_attention_layernorm" => "post_attention_norm",
        "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        // GGUF's name of both together.
        "mlp.gate_up_proj" if family.architecture == Architecture::Phi3 => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{parameter}"))
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
