//! Where does a tokenizer come from? The metadata of a GGUF, or a `tokenizer.json`.
//!
//! What of a GGUF's metadata is known is read by [`gguf`]; of others the `tokenizer.json` beside
//! the file is taken.

#[cfg(test)]
use std::collections::HashMap;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value as Json;

use super::gguf::{self, MODEL, PRE, Words};
use super::{Shared, Tokenizer, stop};
use crate::{
    bounded,
    error::Error,
    weights::{gguf::Gguf, gguf_value::Value},
};

/// A `tokenizer.json` larger than this is not one. The largest known have 35 MB.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// How a GGUF's tokenizer splits text, if its kind is known.
fn words_in(gguf: &Gguf) -> Option<Words> {
    (gguf.text(MODEL)? == "gpt2").then(|| Words::named(gguf.text(PRE)?))?
}

impl Tokenizer {
    /// The tokenizer in a GGUF's metadata; where that is of a kind not known here, the
    /// `tokenizer.json` beside the file.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        let path = gguf.path();
        let Some(words) = words_in(gguf) else {
            if let Some(beside) = Self::file_beside(gguf) {
                return Self::from_json(&beside);
            }
            let said = |key| gguf.text(key).unwrap_or("unnamed");
            return Err(Error::Unsupported {
                path: path.into(),
                what: "tokenizer".into(),
                got: format!("{} ({})", said(MODEL), said(PRE)),
                supported: "gpt2 (qwen2, llama-bpe, smollm, gpt-2), or a tokenizer.json beside \
                            the file"
                    .into(),
            });
        };
        let tokenizer =
            gguf::read(gguf.all_metadata(), words).map_err(|reason| Error::Corrupt {
                path: path.into(),
                reason,
            })?;
        let id = |key: &str| gguf.number(key).and_then(|id| u32::try_from(id).ok());
        let named = ["eos", "eot", "eom"]
            .iter()
            .filter_map(|kind| id(&format!("tokenizer.ggml.{kind}_token_id")))
            .collect();
        let wants_bos = gguf.metadata("tokenizer.ggml.add_bos_token");
        let wants_bos = wants_bos.and_then(Value::truth).unwrap_or(false);
        Ok(Self::assemble(
            tokenizer,
            named,
            id("tokenizer.ggml.bos_token_id"),
            id("tokenizer.ggml.eos_token_id"),
            wants_bos,
        ))
    }

    /// The `tokenizer.json` that stands in for the metadata of a GGUF, if one does.
    pub(crate) fn file_beside(gguf: &Gguf) -> Option<PathBuf> {
        let beside = gguf.path().with_file_name("tokenizer.json");
        (words_in(gguf).is_none() && beside.is_file()).then_some(beside)
    }

    /// A `tokenizer.json`, with what `generation_config.json`, `config.json` and
    /// `tokenizer_config.json` beside it say of the ends of sequences.
    pub fn from_json(path: &Path) -> Result<Self, Error> {
        let bytes = bounded::read(path, MAX_JSON_BYTES)?;
        let corrupt = |reason: String| Error::Corrupt {
            path: path.into(),
            reason,
        };
        let mut tokenizer =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| corrupt(e.to_string()))?;
        tokenizer
            .with_truncation(None)
            .map_err(|e| corrupt(e.to_string()))?;
        tokenizer.with_padding(None);

        let generation = beside(path, "generation_config.json")?;
        let config = beside(path, "config.json")?;
        let mut named = ids(&generation["eos_token_id"]);
        named.extend(ids(&config["eos_token_id"]));
        let spelled = beside(path, "tokenizer_config.json")?;
        let spelling = |key: &str| {
            let token = &spelled[key];
            token
                .as_str()
                .or_else(|| token["content"].as_str())
                .map(str::to_owned)
        };
        let bos = spelling("bos_token").and_then(|token| tokenizer.token_to_id(&token));
        let eos = spelling("eos_token").and_then(|token| tokenizer.token_to_id(&token));
        named.extend(eos);
        let wants_bos = spelled["add_bos_token"].as_bool().unwrap_or(false);
        let eos = eos.or(named.first().copied());
        Ok(Self::assemble(tokenizer, named, bos, eos, wants_bos))
    }

    fn assemble(
        tokenizer: tokenizers::Tokenizer,
        named: Vec<u32>,
        bos: Option<u32>,
        eos: Option<u32>,
        wants_bos: bool,
    ) -> Self {
        let mut plain_added = tokenizer.get_added_vocabulary().clone();
        plain_added.set_encode_special_tokens(true);
        let stop = stop::tokens(&tokenizer, named);
        Self {
            shared: Arc::new(Shared {
                tokenizer,
                plain_added,
                stop,
                bos,
                eos,
                wants_bos,
            }),
        }
    }
}

/// A tokenizer of nothing but metadata, for tests.
#[cfg(test)]
pub(super) fn from_metadata(metadata: &HashMap<String, Value>, pre: &str) -> Option<Tokenizer> {
    let tokenizer = gguf::read(metadata, Words::named(pre)?).ok()?;
    Some(Tokenizer::assemble(
        tokenizer,
        Vec::new(),
        None,
        None,
        false,
    ))
}

/// The JSON beside a file, or null where there is none.
fn beside(path: &Path, name: &str) -> Result<Json, Error> {
    let path = path.with_file_name(name);
    let Some(bytes) = bounded::read_if_there(&path, MAX_JSON_BYTES)? else {
        return Ok(Json::Null);
    };
    serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
        path,
        reason: error.to_string(),
    })
}

/// One id or a list of ids.
fn ids(value: &Json) -> Vec<u32> {
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Json::Array(values) => values.iter().filter_map(id).collect(),
        value => id(value).into_iter().collect(),
    }
}
