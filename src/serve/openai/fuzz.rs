//! What these clients send, for a fuzzer.

use serde_json::Value;

use super::{chat, embeddings, messages, parameters};

/// The most texts of a request.
const MAX_TEXTS: usize = 64;

/// The body of a request: a conversation, or texts to embed.
pub(in crate::serve) fn body(bytes: &[u8]) {
    let body = match chat::object(bytes) {
        Ok(body) => body,
        Err(error) => {
            assert_eq!(error.json()["error"]["type"], "invalid_request_error");
            return;
        }
    };
    for refused in [
        parameters::check_chat(&body),
        parameters::check_embeddings(&body),
        parameters::check_limit(&body, 256),
    ] {
        if let Err(error) = refused {
            let error = error.json();
            let parameter = error["error"]["param"].as_str().unwrap_or_default();
            assert!(body.contains_key(parameter), "{error}");
        }
    }
    let _ = chat::metadata_of(body.get("metadata"));
    let said = messages::text_of(body.get("messages").unwrap_or(&Value::Null));
    if let Ok(text) = said {
        assert!(!text.is_empty() && text.trim_end() == text, "{text:?}");
    }
    if let Ok(texts) = embeddings::texts_of(&body, MAX_TEXTS) {
        assert!((1..=MAX_TEXTS).contains(&texts.len()));
        assert!(texts.iter().all(|text| !text.is_empty()));
        let _ = embeddings::check_dimensions(&body, 384);
    }
}
