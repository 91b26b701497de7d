//! How does a byte-level BPE come out of the metadata of a GGUF?
//!
//! The metadata holds vocabulary, merges and kinds of tokens, but of the splitting into words only a
//! name (`tokenizer.ggml.pre`). A name that is not known here is an error, not a guess: a wrong split
//! yields plausible tokens that the checkpoint was never trained on.
//!
//! What is deliberately absent: whatever would add tokens of its own to a text.

use std::collections::HashMap;

use tokenizers::{
    AddedToken, PreTokenizerWrapper,
    models::bpe::{BPE, Vocab},
    normalizers::unicode::NFC,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
    tokenizer::SplitDelimiterBehavior,
};

use crate::weights::gguf_value::Value;

/// Key of the kind of tokenizer.
pub(super) const MODEL: &str = "tokenizer.ggml.model";
/// Key of the name of the splitting.
pub(super) const PRE: &str = "tokenizer.ggml.pre";
/// Key of the spellings of all tokens.
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const KINDS: &str = "tokenizer.ggml.token_type";
const BYTE_FALLBACK: &str = "tokenizer.ggml.byte_fallback";
/// Keys of tokens that are special, whatever kind they are said to be.
const SPECIAL: [&str; 2] = ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"];

/// GGUF's kinds of tokens that are no words: unknown, control, unused.
const KINDS_SPECIAL: [u64; 3] = [2, 3, 5];
/// GGUF's kind of a token that is parsed in any text, like a word.
const KIND_USER_DEFINED: u64 = 4;

const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a byte-level BPE splits text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Qwen 2's expression, over characters put together.
    Qwen2,
    /// Llama 3's expression; a word that is a token is not merged from others.
    Llama3,
    /// GPT-2's expression.
    Gpt2,
    /// Single digits first, then GPT-2's expression.
    DigitsThenGpt2,
}

impl Words {
    /// What a name stands for.
    pub(super) fn named(pre: &str) -> Option<Self> {
        Some(match pre {
            "qwen2" | "deepseek-r1-qwen" => Self::Qwen2,
            "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" => Self::Llama3,
            "gpt-2" | "gpt2" => Self::Gpt2,
            "smollm" | "starcoder" | "refact" | "command-r" => Self::DigitsThenGpt2,
            _ => return None,
        })
    }

    /// Names it in digests. Numbers never change their meaning.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Qwen2 => 0,
            Self::Llama3 => 1,
            Self::Gpt2 => 2,
            Self::DigitsThenGpt2 => 3,
        }
    }

    fn pre_tokenizer(self) -> Result<PreTokenizerWrapper, String> {
        let split = |expression: &str| {
            let pattern = SplitPattern::Regex(expression.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            split.map_err(|error| error.to_string())
        };
        // The bytes of words as characters; splitting is done.
        let bytes = ByteLevel::new(false, true, false);
        let gpt2 = ByteLevel::new(false, true, true);
        let steps: Vec<PreTokenizerWrapper> = match self {
            Self::Qwen2 => vec![split(QWEN2)?.into(), bytes.into()],
            Self::Llama3 => vec![split(LLAMA3)?.into(), bytes.into()],
            Self::Gpt2 => return Ok(gpt2.into()),
            Self::DigitsThenGpt2 => vec![Digits::new(true).into(), gpt2.into()],
        };
        Ok(Sequence::new(steps).into())
    }
}

/// The tokenizer that metadata hold.
pub(super) fn read(
    metadata: &HashMap<String, Value>,
    words: Words,
) -> Result<tokenizers::Tokenizer, String> {
    let tokens = texts(metadata, TOKENS)?;
    let merges = texts(metadata, MERGES)?.into_iter().map(|merge| {
        let (left, right) = merge
            .split_once(' ')
            .ok_or_else(|| format!("`{merge}` is no merge of two tokens"))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    let merges: Vec<(String, String)> = merges.collect::<Result<_, String>>()?;
    let numbered = (0u32..).zip(&tokens);
    let vocabulary = numbered.map(|(id, token)| ((*token).to_owned(), id));
    let number = |key: &str| metadata.get(key).and_then(Value::unsigned);
    let named = |key: &str| tokens.get(usize::try_from(number(key)?).ok()?).copied();

    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary.collect::<Vocab>(), merges)
        .ignore_merges(words == Words::Llama3);
    // No token stands for what is unknown: a byte that a vocabulary lacks is none of a text, rather than
    // the token, often a special one, that the metadata name for it.
    if let Some(falls_back) = metadata.get(BYTE_FALLBACK).and_then(Value::truth) {
        model = model.byte_fallback(falls_back);
    }
    let failed = |error: tokenizers::Error| error.to_string();
    let mut tokenizer = tokenizers::Tokenizer::new(model.build().map_err(failed)?);
    if words == Words::Qwen2 {
        tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
    }
    tokenizer.with_pre_tokenizer(Some(words.pre_tokenizer()?));
    tokenizer.with_decoder(Some(ByteLevel::default()));

    let kinds = metadata.get(KINDS).and_then(Value::elements);
    let kinds = kinds.unwrap_or_default().iter().map(Value::unsigned);
    let of_kinds = |wanted: &[u64]| -> Vec<String> {
        let kinds = kinds.clone().zip(&tokens);
        let is_wanted = |kind: Option<u64>| kind.is_some_and(|kind| wanted.contains(&kind));
        let of_kinds = kinds.filter(|(kind, _)| is_wanted(*kind));
        of_kinds.map(|(_, token)| (*token).to_owned()).collect()
    };
    let special = of_kinds(&KINDS_SPECIAL).into_iter();
    let special = special.chain(
        SPECIAL
            .iter()
            .filter_map(|key| Some(named(key)?.to_owned())),
    );
    let special = special.map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(special).map_err(failed)?;
    // They are to be parsed in any text as they are written, and to be seen in decoded text.
    let parsed_anywhere = of_kinds(&[KIND_USER_DEFINED]).into_iter();
    let parsed_anywhere =
        parsed_anywhere.map(|token| AddedToken::from(token, false).normalized(false));
    tokenizer.add_tokens(parsed_anywhere).map_err(failed)?;
    Ok(tokenizer)
}

/// An array of texts.
fn texts<'a>(metadata: &'a HashMap<String, Value>, key: &str) -> Result<Vec<&'a str>, String> {
    let found = metadata
        .get(key)
        .ok_or_else(|| format!("`{key}` is missing"))?;
    let elements = found
        .elements()
        .ok_or_else(|| format!("`{key}` is no array"))?;
    let texts = elements.iter().map(Value::text);
    let texts: Option<Vec<&str>> = texts.collect();
    texts.ok_or_else(|| format!("`{key}` holds what is no text"))
}
