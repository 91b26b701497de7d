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
use super::{Continuing, Plain, Shared, Tokenizer, stop};
use crate::{
    bounded,
    error::Error,
    weights::{gguf::Gguf, gguf_value::Value},
};

/// A `tokenizer.json` larger than this is not one. The largest known have 35 MB.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// GGUF's name of the tokenizers that SentencePiece trains.
const SENTENCE_PIECE: &str = "llama";

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
                return Self::from_json_over(&beside, Some(gguf));
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
        let corrupt = |reason: String| Error::Corrupt {
            path: path.into(),
            reason,
        };
        let tokenizer = gguf::read(gguf.all_metadata(), words).map_err(corrupt)?;
        let source = blake3::derive_key("perennial 1 tokenizer of a GGUF", &[words.number()]);
        Self::assemble(tokenizer, source, Said::in_metadata(gguf)).map_err(corrupt)
    }

    /// The `tokenizer.json` that stands in for the metadata of a GGUF, if one does.
    pub(crate) fn file_beside(gguf: &Gguf) -> Option<PathBuf> {
        let beside = gguf.path().with_file_name("tokenizer.json");
        (words_in(gguf).is_none() && beside.is_file()).then_some(beside)
    }

    /// A `tokenizer.json`, with what `generation_config.json`, `config.json` and
    /// `tokenizer_config.json` beside it say of the ends of sequences.
    pub fn from_json(path: &Path) -> Result<Self, Error> {
        Self::from_json_over(path, None)
    }

    /// The same; what the files leave open is as the metadata of a GGUF say, of the same vocabulary.
    fn from_json_over(path: &Path, gguf: Option<&Gguf>) -> Result<Self, Error> {
        let bytes = bounded::read(path, MAX_JSON_BYTES)?;
        let corrupt = |reason: String| Error::Corrupt {
            path: path.into(),
            reason,
        };
        let source = blake3::derive_key("perennial 1 tokenizer.json", &bytes);
        let mut tokenizer =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| corrupt(e.to_string()))?;
        tokenizer
            .with_truncation(None)
            .map_err(|e| corrupt(e.to_string()))?;
        tokenizer.with_padding(None);

        let mut said = match gguf {
            None => Said::default(),
            Some(gguf) => {
                let said = Said::in_metadata(gguf);
                said.check(gguf, &tokenizer).map_err(corrupt)?;
                said
            }
        };
        let generation = beside(path, "generation_config.json")?;
        let config = beside(path, "config.json")?;
        said.ends.extend(ids(&generation["eos_token_id"]));
        said.ends.extend(ids(&config["eos_token_id"]));
        let spelled = beside(path, "tokenizer_config.json")?;
        let named = |key: &str| {
            let token = &spelled[key];
            let Some(spelling) = token.as_str().or_else(|| token["content"].as_str()) else {
                return Ok(None);
            };
            match tokenizer.token_to_id(spelling) {
                Some(id) => Ok(Some(id)),
                None => Err(corrupt(format!(
                    "`{key}` in tokenizer_config.json is `{spelling}`, which the vocabulary lacks"
                ))),
            }
        };
        said.bos = named("bos_token")?.or(said.bos);
        said.eos = named("eos_token")?
            .or(said.eos)
            .or(said.ends.first().copied());
        said.ends.extend(said.eos);
        said.wants_bos = spelled["add_bos_token"].as_bool().or(said.wants_bos);
        Self::assemble(tokenizer, source, said).map_err(corrupt)
    }

    fn assemble(
        tokenizer: tokenizers::Tokenizer,
        source: [u8; 32],
        said: Said,
    ) -> Result<Self, String> {
        let plain = Plain::of(&tokenizer, &[]).map_err(|error| error.to_string())?;
        Ok(Self {
            plain: Arc::new(plain),
            shared: Arc::new(Shared {
                stop: stop::tokens(&tokenizer, said.ends),
                continuing: Continuing::of(&tokenizer),
                tokenizer,
                source,
                bos: said.bos,
                eos: said.eos,
                wants_bos: said.wants_bos.unwrap_or(false),
            }),
        })
    }
}

/// What is said of the beginnings and ends of sequences.
#[derive(Debug, Default)]
struct Said {
    bos: Option<u32>,
    eos: Option<u32>,
    /// Tokens that end an answer.
    ends: Vec<u32>,
    wants_bos: Option<bool>,
}

impl Said {
    /// In a GGUF, where what is left open is as llama.cpp takes it.
    fn in_metadata(gguf: &Gguf) -> Self {
        let id = |kind: &str| {
            let id = gguf.number(&format!("tokenizer.ggml.{kind}_token_id"))?;
            u32::try_from(id).ok()
        };
        let is_sentence_piece = gguf.text(MODEL) == Some(SENTENCE_PIECE);
        let by_kind = |usual: u32| is_sentence_piece.then_some(usual);
        let eos = id("eos").or(by_kind(2));
        let wants_bos = gguf.metadata("tokenizer.ggml.add_bos_token");
        let begins_by_kind = is_sentence_piece || words_in(gguf) == Some(Words::Llama3);
        Self {
            bos: id("bos").or(by_kind(1)),
            eos,
            ends: eos.into_iter().chain(id("eot")).chain(id("eom")).collect(),
            wants_bos: wants_bos
                .and_then(Value::truth)
                .or(begins_by_kind.then_some(true)),
        }
    }

    /// Whether a vocabulary that stands in for that of a GGUF has the same tokens here.
    fn check(&self, gguf: &Gguf, tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
        let tokens = gguf.metadata(gguf::TOKENS).and_then(Value::elements);
        let tokens = tokens.unwrap_or_default();
        for id in self.bos.iter().chain(&self.ends) {
            let theirs = tokens.get(*id as usize).and_then(Value::text);
            let ours = tokenizer.id_to_token(*id);
            if theirs.is_some() && theirs != ours.as_deref() {
                return Err(format!(
                    "another vocabulary than that of {}: token {id} is `{}` here, `{}` there",
                    gguf.path().display(),
                    ours.unwrap_or_default(),
                    theirs.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }
}

/// A tokenizer of nothing but metadata, for tests.
#[cfg(test)]
pub(super) fn from_metadata(metadata: &HashMap<String, Value>, pre: &str) -> Option<Tokenizer> {
    let words = Words::named(pre)?;
    let tokenizer = gguf::read(metadata, words).ok()?;
    Tokenizer::assemble(tokenizer, [words.number(); 32], Said::default()).ok()
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
