//! Which container is at this path?

use std::path::{Path, PathBuf};

use super::{RawTensor, TensorSource, gguf::Gguf, safetensors::SafetensorsFolder};
use crate::{
    config::ModelConfig,
    digest::{self, ModelDigest},
    error::Error,
    template::ChatTemplate,
    tokenizer::Tokenizer,
};

/// An opened checkpoint of either container.
#[derive(Debug)]
pub enum Checkpoint {
    /// One GGUF file.
    Gguf(Gguf),
    /// A folder with `config.json` and `*.safetensors`.
    Safetensors(SafetensorsFolder),
}

impl Checkpoint {
    /// Opens a GGUF file, a folder that holds one, or a safetensors folder.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            return Ok(Self::Gguf(Gguf::open(path)?));
        }
        if path.join("config.json").is_file() {
            return Ok(Self::Safetensors(SafetensorsFolder::open(path)?));
        }
        let refuse = |reason: String| {
            Err(Error::NotACheckpoint {
                path: path.into(),
                reason,
            })
        };
        let mut ggufs = Vec::new();
        for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
            let file = entry.map_err(Error::io(path))?.path();
            if file
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
            {
                ggufs.push(file);
            }
        }
        match &ggufs[..] {
            [only] => Ok(Self::Gguf(Gguf::open(only)?)),
            [] => refuse("the folder has neither config.json nor a .gguf file".into()),
            several => refuse(format!(
                "the folder has {} .gguf files: name one",
                several.len()
            )),
        }
    }

    /// Sizes and switches of the decoder.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Gguf(gguf) => gguf.config(),
            Self::Safetensors(folder) => folder.config(),
        }
    }

    /// File or folder that was opened.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(gguf) => gguf.path(),
            Self::Safetensors(folder) => folder.path(),
        }
    }

    /// The tokenizer that comes with the weights.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        match self {
            Self::Gguf(gguf) => Tokenizer::from_gguf(gguf),
            Self::Safetensors(folder) => {
                Tokenizer::from_json(&folder.path().join("tokenizer.json"))
            }
        }
    }

    /// The chat template that comes with the weights.
    pub fn template(&self, tokenizer: &Tokenizer) -> Result<ChatTemplate, Error> {
        match self {
            Self::Gguf(gguf) => {
                // Where a tokenizer stands in that has its template beside it, so does that.
                let beside = Tokenizer::file_beside(gguf);
                match beside.as_deref().and_then(Path::parent) {
                    Some(folder) if !ChatTemplate::is_in(gguf) => {
                        ChatTemplate::from_folder(folder, tokenizer)
                    }
                    _ => ChatTemplate::from_gguf(gguf, tokenizer),
                }
            }
            Self::Safetensors(folder) => ChatTemplate::from_folder(folder.path(), tokenizer),
        }
    }

    /// Digest of everything that an output may depend on: of a GGUF file its SHA-256, of
    /// several files that of their names and digests.
    pub fn digest(&self) -> Result<ModelDigest, Error> {
        match self {
            Self::Gguf(gguf) => {
                let weights = digest::of_bytes(gguf.bytes());
                match Tokenizer::file_beside(gguf) {
                    None => Ok(weights),
                    Some(path) => {
                        let tokenizer = digest::of_file(&path)?;
                        Ok(digest::of_parts(&[
                            (gguf.path().into(), weights),
                            (path, tokenizer),
                        ]))
                    }
                }
            }
            Self::Safetensors(folder) => {
                let mut parts: Vec<(PathBuf, ModelDigest)> = folder
                    .files()
                    .map(|(path, bytes)| (path.into(), digest::of_bytes(bytes)))
                    .collect();
                for name in PARTS {
                    let path = folder.path().join(name);
                    if path.is_file() {
                        let digest = digest::of_file(&path)?;
                        parts.push((path, digest));
                    }
                }
                Ok(digest::of_parts(&parts))
            }
        }
    }
}

/// Files beside safetensors that outputs depend on.
const PARTS: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

impl TensorSource for Checkpoint {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        match self {
            Self::Gguf(gguf) => gguf.tensor(name),
            Self::Safetensors(folder) => folder.tensor(name),
        }
    }
}
