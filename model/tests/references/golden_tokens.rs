//! Tokens as llama.cpp makes them.

use crate::checkpoints::{LARGE, SMALL, golden, ids, model};

fn compare(name: &str) {
    let tokenizer = model(name).tokenizer();
    for row in golden(&format!("{name}.tokens.json"))
        .as_array()
        .expect("rows")
    {
        let text = row["string"].as_str().expect("text");
        let as_text = tokenizer.encode_text(text).unwrap();
        assert_eq!(as_text, ids(&row["text"]), "{name}, as text: {text:?}");
        let as_template = tokenizer.encode_template(text).unwrap();
        assert_eq!(
            as_template,
            ids(&row["template"]),
            "{name}, as template: {text:?}"
        );
        // NFC may change spellings, never what they look like.
        let back = tokenizer.decode(&as_text).unwrap();
        assert!(
            back == text || text.contains('\u{301}'),
            "{name}: {text:?} came back {back:?}"
        );
    }
}

#[test]
fn the_small_model_sees_the_tokens_that_llama_cpp_sees() {
    compare(SMALL);
}

#[test]
fn the_large_model_sees_the_tokens_that_llama_cpp_sees() {
    compare(LARGE);
}

#[test]
fn answers_stop_where_these_families_stop() {
    for name in [SMALL, LARGE] {
        let tokenizer = model(name).tokenizer();
        let named = |token| tokenizer.token_id(token).expect("a token of ChatML");
        let mut expected = [named("<|im_end|>"), named("<|endoftext|>")];
        expected.sort_unstable();
        assert_eq!(tokenizer.stop_tokens(), expected, "{name}");
    }
}
