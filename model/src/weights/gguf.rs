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
    Encoding, RawTensor, TensorSource, demands, fused, gguf_config,
    gguf_header::{self, Header, Refusal},
    gguf_value::Value,
    mapped, unread,
};
use crate::{config::ModelConfig, error::Error};

/// An opened GGUF file.
#[derive(Debug)]
pub struct Gguf {
    contents: Contents,
    config: ModelConfig,
}

/// The file as parsed, before its configuration is read from it.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) path: PathBuf,
    map: Mmap,
    pub(super) metadata: HashMap<String, Value>,
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
        let mut contents = Contents {
            path: path.into(),
            map,
            metadata: header.metadata,
            tensors,
        };
        let config = gguf_config::read(&contents)?;
        demands::check_sizes(path, &config)?;
        contents.split_fused(&config)?;
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
    /// Gives each part of what is stored as one a place of its own.
    fn split_fused(&mut self, config: &ModelConfig) -> Result<(), Error> {
        for fused in fused::of(config) {
            if self.tensors.contains_key(&fused.parts[0].0) {
                // Some files hold the parts.
                continue;
            }
            let Some(whole) = self.tensors.remove(&fused.whole) else {
                continue;
            };
            let encoding = whole.encoding;
            for (name, shape, bytes) in
                fused.cut(&self.path, encoding, whole.shape, &whole.bytes)?
            {
                let part = Placed {
                    encoding,
                    shape,
                    bytes,
                };
                self.tensors.insert(name, part);
            }
        }
        Ok(())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)?.text()
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.metadata.get(key)?.unsigned()
    }

    pub(super) fn unsupported(&self, what: &str, got: impl Into<String>, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            what: what.into(),
            got: got.into(),
            supported: supported.into(),
        }
    }

    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
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

#[cfg(test)]
mod tests;
