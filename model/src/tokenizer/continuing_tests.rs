use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Ways in which tokenizers of the SentencePiece family put a blank before a text.
const WAYS: [&str; 3] = ["prepend", "always", "first"];

/// A `tokenizer.json` of single characters, and of what is merged from them. Tokens 1 and 2 are
/// special, 3 marks turns and 4 is a word, though neither is called special.
pub(crate) fn sentence_piece_json(way: &str, merges: &[&str]) -> String {
    let added = ["<unk>", "<s>", "</s>", "<|user|>", "<tag>"];
    let characters = "▁abcst\n<>/|[]INSTuer.:#,DEYOUwfhmglinpdoyvH"
        .chars()
        .map(String::from);
    let merged = merges.iter().map(|merge| merge.replace(' ', ""));
    let mut vocabulary = serde_json::Map::new();
    for token in added
        .map(String::from)
        .into_iter()
        .chain(characters)
        .chain(merged)
    {
        let id = vocabulary.len();
        vocabulary.entry(token).or_insert(id.into());
    }
    let added: Vec<_> = added
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "special": id < 3, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false
            })
        })
        .collect();
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let (normalizer, splitting) = match way {
        "prepend" => (
            json!({"type": "Sequence", "normalizers": [prepend, replace]}),
            json!(null),
        ),
        scheme => (
            json!(null),
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme,
                "split": false}),
        ),
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": splitting,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        ]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": false,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": false, "vocab": vocabulary, "merges": merges}
    })
    .to_string()
}

pub(crate) fn sentence_piece(way: &str, merges: &[&str]) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, sentence_piece_json(way, merges)).unwrap();
    Tokenizer::from_json(&path).unwrap()
}

/// A byte-level tokenizer that puts a blank before a text.
fn byte_level() -> Tokenizer {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    let mut of = tests::bytes_tokenizer("gpt-2").shared.tokenizer.clone();
    of.with_pre_tokenizer(Some(ByteLevel::new(true, true, true)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    of.save(&path, false).unwrap();
    Tokenizer::from_json(&path).unwrap()
}

const MERGES: [&str; 6] = ["▁ a", "a b", "▁a b", "b a", "▁ ▁", "a ▁"];

/// Words, blanks and tokens that are written out, with text at the end.
fn piece() -> impl Strategy<Value = String> {
    "(a|b| |\n|ab|<tag>|</s>|c){0,6}(a|b|\n| )"
}

fn in_pieces(tokenizer: &Tokenizer, pieces: &[String]) -> Vec<u32> {
    let (first, others) = pieces.split_first().unwrap();
    let mut tokens = tokenizer.encode_text(first).unwrap();
    for piece in others {
        tokens.extend(tokenizer.continue_text(piece).unwrap());
    }
    tokens
}

proptest! {
    #[test]
    fn pieces_of_a_prompt_are_the_plain_prompt(
        pieces in proptest::collection::vec(piece(), 1..6),
    ) {
        let whole = pieces.concat();
        for way in WAYS {
            // Where nothing is merged, not even across the borders of pieces, tokens are the same.
            let letters = sentence_piece(way, &[]);
            prop_assert_eq!(in_pieces(&letters, &pieces), letters.encode_text(&whole).unwrap(), "{}", way);
            let merging = sentence_piece(way, &MERGES);
            let tokens = in_pieces(&merging, &pieces);
            let plain = merging.encode_text(&whole).unwrap();
            prop_assert_eq!(merging.decode(&tokens).unwrap(), merging.decode(&plain).unwrap());
        }
        let bytes = byte_level();
        let plain = bytes.encode_text(&whole).unwrap();
        let tokens = in_pieces(&bytes, &pieces);
        prop_assert_eq!(bytes.decode(&tokens).unwrap(), bytes.decode(&plain).unwrap());
    }

    #[test]
    fn a_template_goes_on_as_in_the_plain_prompt(first in piece(), rest in piece()) {
        for way in WAYS {
            let tokenizer = sentence_piece(way, &[]);
            let whole = tokenizer.encode_template(&format!("{first}{rest}")).unwrap();
            let mut tokens = tokenizer.encode_template(&first).unwrap();
            tokens.extend(tokenizer.continue_template(&rest).unwrap());
            prop_assert_eq!(tokens, whole, "{}", way);
        }
    }
}

#[test]
fn no_blank_stands_before_a_piece_that_goes_on() {
    for way in WAYS {
        let tokenizer = sentence_piece(way, &[]);
        let blank = tokenizer.token_id("▁").unwrap();
        assert_eq!(tokenizer.encode_text("a").unwrap()[0], blank, "{way}");
        let continued = tokenizer.continue_text("a").unwrap();
        assert_eq!(continued, [tokenizer.token_id("a").unwrap()], "{way}");
        // Its own blank is one.
        assert_eq!(
            tokenizer.continue_text(" a").unwrap(),
            [blank, continued[0]]
        );
    }
}

#[test]
fn marks_of_turns_are_text_in_a_document() {
    let merges = ["< /", "</ s", "</s >", "< |"];
    for way in WAYS {
        let tokenizer = sentence_piece(way, &merges);
        let text = "a</s>b<|user|>c<tag>";
        let plain = tokenizer.encode_text(text).unwrap();
        // Merges lead to `</s>`, which is no word; other added tokens are.
        assert!(
            !plain.contains(&2) && plain.contains(&3) && plain.contains(&4),
            "{way}"
        );
        let withholding = tokenizer.withholding(&["<|user|>".to_owned()]).unwrap();
        for tokens in [
            withholding.encode_text(text).unwrap(),
            withholding.continue_text(text).unwrap(),
        ] {
            assert!(!tokens.contains(&2) && !tokens.contains(&3) && tokens.contains(&4));
            assert_eq!(withholding.decode(&tokens).unwrap(), text, "{way}");
        }
        let template = withholding.encode_template("<|user|>a</s>").unwrap();
        assert_eq!((template[0], template.last()), (3, Some(&2)), "{way}");
        assert_ne!(tokenizer.digest(), withholding.digest());
        // What the vocabulary lacks is unknown, not withheld.
        assert_eq!(withholding.continue_text("é").unwrap(), [0]);
    }
}

#[test]
fn another_vocabulary_or_end_has_another_digest() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let digest = |json: &str, generation: &str| {
        std::fs::write(at("tokenizer.json"), json).unwrap();
        std::fs::write(at("generation_config.json"), generation).unwrap();
        Tokenizer::from_json(&at("tokenizer.json"))
            .unwrap()
            .digest()
    };
    let json = sentence_piece_json("prepend", &MERGES);
    let plain = digest(&json, "{}");
    assert_eq!(plain, digest(&json, "{}"));
    assert_ne!(plain, digest(&json, r#"{"eos_token_id": 7}"#));
    assert_ne!(plain, digest(&sentence_piece_json("prepend", &[]), "{}"));
    assert_ne!(plain, digest(&sentence_piece_json("first", &MERGES), "{}"));
    let words = ["qwen2", "llama3", "gpt-2", "smollm"];
    let distinct = words.map(|pre| tests::bytes_tokenizer(pre).digest());
    let distinct: std::collections::HashSet<_> = distinct.into_iter().collect();
    assert_eq!(distinct.len(), 4);
}
