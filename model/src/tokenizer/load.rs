//! Where does a tokenizer come from? The metadata of a GGUF, or a `tokenizer.json`.
//!
//! A GGUF holds vocabulary and merges, but of the splitting into words only a name
//! (`tokenizer.ggml.pre`). A name that is not known here is an error, not a guess: a
//! wrong split yields plausible tokens that the checkpoint was never trained on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::quantized::{
    gguf_file::{Content, Value},
    tokenizer::TokenizerFromGguf as _,
};
use serde_json::Value as Json;
use tokenizers::{
    AddedToken, PreTokenizerWrapper,
    pre_tokenizers::{byte_level::ByteLevel, digits::Digits, sequence::Sequence},
};

use super::{Shared, Tokenizer, stop};
use crate::{
    bounded,
    error::Error,
    weights::gguf::{Gguf, unsigned},
};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
/// GGUF's kind of a token that is parsed in any text, like a word.
const KIND_USER_DEFINED: u64 = 4;
/// A `tokenizer.json` larger than this is not one. The largest known have 35 MB.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// How a byte-level BPE splits text into words.
enum Words {
    /// As candle's reader does it under this name.
    Candle(&'static str),
    /// GPT-2's expression.
    Gpt2,
    /// Single digits first, then GPT-2's expression.
    DigitsThenGpt2,
}

fn words_of(pre: &str) -> Option<Words> {
    Some(match pre {
        "qwen2" | "deepseek-r1-qwen" => Words::Candle("qwen2"),
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" => Words::Candle("llama3"),
        "gpt-2" | "gpt2" => Words::Gpt2,
        "smollm" | "starcoder" | "refact" | "command-r" => Words::DigitsThenGpt2,
        _ => return None,
    })
}

/// How a GGUF's tokenizer splits text, if its kind is known.
fn words_in(gguf: &Gguf) -> Option<Words> {
    (gguf.text(MODEL)? == "gpt2").then(|| words_of(gguf.text(PRE)?))?
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
            read(gguf.tokenizer_content(), &words).map_err(|reason| Error::Corrupt {
                path: path.into(),
                reason,
            })?;
        let id = |key: &str| gguf.number(key).and_then(|id| u32::try_from(id).ok());
        let named = ["eos", "eot", "eom"]
            .iter()
            .filter_map(|kind| id(&format!("tokenizer.ggml.{kind}_token_id")))
            .collect();
        let wants_bos = matches!(
            gguf.metadata("tokenizer.ggml.add_bos_token"),
            Some(Value::Bool(true))
        );
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
pub(super) fn from_content(content: Content, pre: &str) -> Option<Tokenizer> {
    let tokenizer = read(content, &words_of(pre)?).ok()?;
    Some(Tokenizer::assemble(
        tokenizer,
        Vec::new(),
        None,
        None,
        false,
    ))
}

/// candle's reader, with what it does not know put right.
fn read(mut content: Content, words: &Words) -> Result<tokenizers::Tokenizer, String> {
    if let Words::Candle(name) = words {
        content
            .metadata
            .insert(PRE.into(), Value::String((*name).into()));
        if *name == "llama3" {
            content
                .metadata
                .insert("tokenizer.ggml.ignore_merges".into(), Value::Bool(true));
        }
    }
    let parsed_anywhere = take_user_defined(&mut content);
    let mut tokenizer =
        tokenizers::Tokenizer::from_gguf(&content).map_err(|error| error.to_string())?;
    let gpt2 = || ByteLevel::new(false, true, true);
    match words {
        Words::Candle(_) => {}
        Words::Gpt2 => {
            tokenizer.with_pre_tokenizer(Some(gpt2()));
        }
        Words::DigitsThenGpt2 => {
            let steps: Vec<PreTokenizerWrapper> = vec![Digits::new(true).into(), gpt2().into()];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
        }
    }
    let added = parsed_anywhere.into_iter().map(|token| {
        let keep_as_written = false;
        AddedToken::from(token, false).normalized(keep_as_written)
    });
    tokenizer
        .add_tokens(added)
        .map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// Takes user-defined tokens out of the special ones, to which candle counts them: they
/// are to be parsed in any text, and to be seen in decoded text.
fn take_user_defined(content: &mut Content) -> Vec<String> {
    const KIND_NORMAL: i32 = 1;
    let Some(Value::Array(tokens)) = content.metadata.get(TOKENS) else {
        return Vec::new();
    };
    let Some(Value::Array(kinds)) = content.metadata.get(KINDS) else {
        return Vec::new();
    };
    let is_user_defined = |kind: &Value| unsigned(kind) == Some(KIND_USER_DEFINED);
    let taken: Vec<String> = kinds
        .iter()
        .zip(tokens)
        .filter(|(kind, _)| is_user_defined(kind))
        .filter_map(|(_, token)| match token {
            Value::String(token) => Some(token.clone()),
            _ => None,
        })
        .collect();
    if let Some(Value::Array(kinds)) = content.metadata.get_mut(KINDS) {
        for kind in kinds.iter_mut().filter(|kind| is_user_defined(kind)) {
            *kind = Value::I32(KIND_NORMAL);
        }
    }
    taken
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
