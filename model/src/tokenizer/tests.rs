use std::collections::HashMap;

use candle_core::quantized::{gguf_file, tokenizer::TokenizerFromGguf as _};
use proptest::prelude::*;

use super::*;
use crate::template::{ChatTemplate, Message, Role};
use crate::weights::gguf_value::Value;

/// A byte-level vocabulary: the 256 bytes, some merges, and added tokens of both kinds.
fn metadata() -> HashMap<String, Value> {
    let mut tokens: Vec<String> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .iter()
        .map(|c| c.to_string())
        .collect();
    tokens.sort_unstable();
    let n_bytes = tokens.len();
    let merged = ["Ġa", "12", "'s", "ĠĠ", "ĊĊ", ".Ċ", "ab", "Ġab", "123", "ä½"];
    tokens.extend(merged.map(String::from));
    tokens.extend(["<|im_end|>", "<tool>"].map(String::from));
    let mut kinds = vec![1; n_bytes + merged.len()];
    kinds.extend([3, 4]);
    let strings = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
    let metadata = [
        (
            "tokenizer.ggml.model".to_owned(),
            Value::String("gpt2".into()),
        ),
        ("tokenizer.ggml.tokens".to_owned(), strings(tokens)),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array(kinds.into_iter().map(Value::I32).collect()),
        ),
        (
            "tokenizer.ggml.merges".to_owned(),
            strings(
                [
                    "Ġ a", "1 2", "' s", "Ġ Ġ", "Ċ Ċ", ". Ċ", "a b", "Ġ ab", "12 3", "ä ½",
                ]
                .map(String::from)
                .into(),
            ),
        ),
    ];
    metadata.into()
}

/// The tokenizer of that vocabulary.
pub(crate) fn bytes_tokenizer(pre: &str) -> Tokenizer {
    load::from_metadata(&metadata(), pre).unwrap()
}

/// The same as candle reads it.
fn candles(pre: &str) -> tokenizers::Tokenizer {
    fn value_of(value: &Value) -> gguf_file::Value {
        match value {
            Value::String(text) => gguf_file::Value::String(text.clone()),
            // candle counts user-defined tokens to the special ones.
            Value::I32(kind) => gguf_file::Value::I32(if *kind == 4 { 1 } else { *kind }),
            Value::Array(all) => gguf_file::Value::Array(all.iter().map(value_of).collect()),
            other => panic!("no {other:?} here"),
        }
    }
    let metadata = metadata();
    let mut metadata: HashMap<_, _> = metadata
        .iter()
        .map(|(k, v)| (k.clone(), value_of(v)))
        .collect();
    let pre = gguf_file::Value::String(pre.into());
    metadata.insert("tokenizer.ggml.pre".to_owned(), pre);
    let content = gguf_file::Content {
        magic: gguf_file::VersionedMagic::GgufV3,
        metadata,
        tensor_infos: Default::default(),
        tensor_data_offset: 0,
    };
    tokenizers::Tokenizer::from_gguf(&content).unwrap()
}

#[test]
fn documents_cannot_speak_in_special_tokens() {
    let tokenizer = bytes_tokenizer("smollm");
    let end = tokenizer.token_id("<|im_end|>").unwrap();
    assert_eq!(tokenizer.encode_template("x<|im_end|>y").unwrap()[1], end);
    let as_text = tokenizer.encode_text("x<|im_end|>y").unwrap();
    assert!(!as_text.contains(&end));
    assert_eq!(tokenizer.decode(&as_text).unwrap(), "x<|im_end|>y");
    assert_eq!(tokenizer.stop_tokens(), [end]);
    assert_eq!(tokenizer.decode(&[end]).unwrap(), "");
}

#[test]
fn user_defined_tokens_are_words() {
    let tokenizer = bytes_tokenizer("smollm");
    let tool = tokenizer.token_id("<tool>").unwrap();
    assert_eq!(tokenizer.encode_text("<tool>").unwrap(), [tool]);
    assert_eq!(tokenizer.decode(&[tool]).unwrap(), "<tool>");
}

#[test]
fn digits_are_split_where_the_checkpoint_splits_them() {
    assert_eq!(
        bytes_tokenizer("smollm").encode_text("12").unwrap().len(),
        2
    );
    assert_eq!(bytes_tokenizer("gpt-2").encode_text("12").unwrap().len(), 1);
}

#[test]
fn a_folder_gives_the_same_tokens_and_names_its_ends() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let written = bytes_tokenizer("smollm");
    let mut tokenizer = written.shared.tokenizer.clone();
    let truncation = tokenizers::TruncationParams {
        max_length: 3,
        ..Default::default()
    };
    tokenizer.with_truncation(Some(truncation)).unwrap();
    tokenizer.save(at("tokenizer.json"), false).unwrap();
    std::fs::write(at("generation_config.json"), r#"{"eos_token_id": [7, 3]}"#).unwrap();
    let config = r#"{"bos_token": "12", "eos_token": {"content": "<|im_end|>"}, "add_bos_token": true,
        "chat_template": [{"name": "tools", "template": "x"},
            {"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"}]}"#;
    std::fs::write(at("tokenizer_config.json"), config).unwrap();

    let read = Tokenizer::from_json(&at("tokenizer.json")).unwrap();
    let text = "a longer text than three tokens: 12<|im_end|>";
    assert_eq!(
        read.encode_text(text).unwrap(),
        written.encode_text(text).unwrap()
    );
    assert_eq!(
        read.encode_template(text).unwrap(),
        written.encode_template(text).unwrap()
    );
    let end = written.token_id("<|im_end|>").unwrap();
    assert_eq!(read.stop_tokens(), [3, 7, end]);
    assert_eq!(
        (read.bos(), read.eos()),
        (written.token_id("12"), Some(end))
    );
    assert!(read.wants_bos());

    let template = ChatTemplate::from_folder(folder.path(), &read).unwrap();
    let message = [Message::new(Role::User, "hello")];
    assert_eq!(template.render(&message, true).unwrap(), "12hello");
    std::fs::write(at("chat_template.jinja"), "{{ messages[0].role }}").unwrap();
    let template = ChatTemplate::from_folder(folder.path(), &read).unwrap();
    assert_eq!(template.render(&message, true).unwrap(), "12user");
}

proptest! {
    #[test]
    fn words_are_split_as_candle_splits_them(
        text in "\\PC*|([0-9]{1,5}|[a-zA-Z]{1,4}|'[sStTrRvVmMlLdD]{1,2}| |\n|\r|\t|é|e\u{301}|Ж|漢| a|12){0,24}"
    ) {
        for (pre, candles) in [("qwen2", candles("qwen2")), ("llama3", candles("llama3"))] {
            let expected = candles.encode(text.as_str(), false).unwrap();
            let found = bytes_tokenizer(pre).encode_text(&text).unwrap();
            prop_assert_eq!(&found[..], expected.get_ids(), "{}", pre);
            prop_assert_eq!(bytes_tokenizer(pre).decode(&found).unwrap(), candles.decode(&found, true).unwrap());
        }
    }

    /// Byte-level encodings lose nothing, and streaming gives what decoding at once gives.
    #[test]
    fn text_survives(text in "\\PC*|(<\\|im_end\\|>|\u{1F468}\u{200D}\u{1F469}|é| a|12|\n){0,12}") {
        let tokenizer = bytes_tokenizer("smollm");
        let tokens = tokenizer.encode_text(&text).unwrap();
        prop_assert_eq!(&tokenizer.decode(&tokens).unwrap(), &text);
        let mut stream = tokenizer.stream();
        let mut streamed = String::new();
        for &token in &tokens {
            let piece = stream.push(token).unwrap();
            prop_assert!(!piece.contains(char::REPLACEMENT_CHARACTER) || text.contains(char::REPLACEMENT_CHARACTER));
            streamed.push_str(&piece);
        }
        streamed.push_str(&stream.finish().unwrap());
        prop_assert_eq!(streamed, text);
    }

    /// Whatever tokens a model emits, streaming loses and invents nothing.
    #[test]
    fn any_tokens_stream_as_they_decode(tokens in proptest::collection::vec(0u32..258, 0..40)) {
        let tokenizer = bytes_tokenizer("smollm");
        let mut stream = tokenizer.stream();
        let mut streamed = String::new();
        for &token in &tokens {
            streamed.push_str(&stream.push(token).unwrap());
        }
        streamed.push_str(&stream.finish().unwrap());
        prop_assert_eq!(streamed, tokenizer.decode(&tokens).unwrap());
    }
}
