//! Which parameters of a request are obeyed, left unheeded, or refused by name?
//!
//! A view's answer is a fact that is kept, not a sample: what would change it (another temperature, tools,
//! a form) cannot be obeyed by asking, so it is refused. What clients send always, with the value that
//! means "as usual", passes; so does what changes nothing of the reply.

use serde_json::{Map, Value};

use super::error::ApiError;

/// What becomes of a parameter that is there and not null.
#[derive(Clone, Copy)]
enum Rule {
    /// It is read elsewhere.
    Read,
    /// Nothing depends on it.
    Unheeded,
    /// These values mean what is done anyway; the text says which they are.
    Only(fn(&Value) -> bool, &'static str),
}

use Rule::{Only, Read, Unheeded};

/// The parameters of `POST /v1/chat/completions`.
const OF_CHAT: &[(&str, Rule)] = &[
    ("model", Read),
    ("messages", Read),
    ("stream", Read),
    ("stream_options", Read),
    ("metadata", Read),
    ("max_tokens", Read),
    ("max_completion_tokens", Read),
    (
        "temperature",
        Only(
            is_0_or_1,
            "0; a value that is usual, 1, passes and changes nothing",
        ),
    ),
    ("top_p", Only(is_1, "1")),
    ("n", Only(is_1, "1")),
    ("presence_penalty", Only(is_0, "0")),
    ("frequency_penalty", Only(is_0, "0")),
    ("logprobs", Only(is_false, "false")),
    ("top_logprobs", Only(is_0, "0")),
    ("logit_bias", Only(is_empty, "empty")),
    ("stop", Only(is_empty, "empty")),
    ("tools", Only(is_empty, "empty: a view calls no tools")),
    ("functions", Only(is_empty, "empty: a view calls no tools")),
    (
        "tool_choice",
        Only(|value| value == "none" || value == "auto", "none or auto"),
    ),
    (
        "function_call",
        Only(|value| value == "none" || value == "auto", "none or auto"),
    ),
    (
        "response_format",
        Only(|value| value["type"] == "text", "{\"type\": \"text\"}"),
    ),
    (
        "modalities",
        Only(|value| *value == serde_json::json!(["text"]), "[\"text\"]"),
    ),
    ("audio", Only(|_| false, "null")),
    ("web_search_options", Only(|_| false, "null")),
    ("seed", Unheeded),
    ("user", Unheeded),
    ("safety_identifier", Unheeded),
    ("prompt_cache_key", Unheeded),
    ("prompt_cache_retention", Unheeded),
    ("store", Unheeded),
    ("service_tier", Unheeded),
    ("parallel_tool_calls", Unheeded),
    ("prediction", Unheeded),
    ("reasoning_effort", Unheeded),
    ("verbosity", Unheeded),
];

/// Those of `POST /v1/embeddings`.
const OF_EMBEDDINGS: &[(&str, Rule)] = &[
    ("model", Read),
    ("input", Read),
    ("encoding_format", Read),
    ("dimensions", Read),
    ("user", Unheeded),
];

fn is_number(value: &Value, number: f64) -> bool {
    value.as_f64() == Some(number)
}

fn is_0(value: &Value) -> bool {
    is_number(value, 0.0)
}

fn is_1(value: &Value) -> bool {
    is_number(value, 1.0)
}

fn is_0_or_1(value: &Value) -> bool {
    is_0(value) || is_1(value)
}

fn is_false(value: &Value) -> bool {
    *value == false
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(of) => of.is_empty(),
        Value::Object(of) => of.is_empty(),
        Value::String(of) => of.is_empty(),
        _ => false,
    }
}

/// Refuses what cannot be obeyed of a conversation.
pub(super) fn check_chat(body: &Map<String, Value>) -> Result<(), ApiError> {
    check(body, OF_CHAT)
}

/// Refuses what cannot be obeyed of texts to embed.
pub(super) fn check_embeddings(body: &Map<String, Value>) -> Result<(), ApiError> {
    check(body, OF_EMBEDDINGS)
}

fn check(body: &Map<String, Value>, rules: &[(&str, Rule)]) -> Result<(), ApiError> {
    for (name, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        let rule = rules.iter().find(|(of, _)| of == name);
        match rule.map(|(_, rule)| rule) {
            Some(Read | Unheeded) => {}
            Some(Only(is_usual, _)) if is_usual(value) => {}
            Some(Only(_, usual)) => {
                let message = format!(
                    "`{name}` cannot be obeyed: a view answers as it is declared. It may be {usual}"
                );
                return Err(ApiError::of_parameter(
                    name,
                    "unsupported_parameter",
                    message,
                ));
            }
            None => {
                let message = format!("the parameter `{name}` is not known here");
                return Err(ApiError::of_parameter(name, "unknown_parameter", message));
            }
        }
    }
    Ok(())
}

/// A limit of answer tokens can be obeyed where no answer of the view is longer.
pub(super) fn check_limit(body: &Map<String, Value>, max_tokens: usize) -> Result<(), ApiError> {
    for name in ["max_completion_tokens", "max_tokens"] {
        let Some(value) = body.get(name).filter(|value| !value.is_null()) else {
            continue;
        };
        // As the description says: of 64 bits, with a sign.
        let limit = value.as_i64().and_then(|limit| u64::try_from(limit).ok());
        match limit {
            Some(limit) if limit >= max_tokens as u64 => {}
            Some(_) => {
                let message = format!(
                    "`{name}` cannot be obeyed: answers of this view have up to {max_tokens} tokens. Leave \
                     it out, or declare a view with another limit (MAX_TOKENS)"
                );
                return Err(ApiError::of_parameter(
                    name,
                    "unsupported_parameter",
                    message,
                ));
            }
            None => {
                let message = format!("`{name}` is a whole number, 0 or more, of 64 bits");
                return Err(ApiError::invalid(name, message));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: &Value) -> Option<String> {
        let body = body.as_object().expect("an object");
        let error = check_chat(body).err()?.json();
        Some(error["error"]["param"].as_str().expect("a name").to_owned())
    }

    #[test]
    fn what_is_usual_passes_and_what_would_change_the_answer_is_refused_by_name() {
        for (name, passes, is_refused) in [
            ("temperature", json!([0, 0.0, 1]), json!([0.7, 2, "0"])),
            ("top_p", json!([1, 1.0]), json!([0.9])),
            ("n", json!([1]), json!([2, 0])),
            ("presence_penalty", json!([0]), json!([0.5])),
            ("frequency_penalty", json!([0]), json!([-1])),
            ("logprobs", json!([false]), json!([true])),
            ("top_logprobs", json!([0]), json!([3])),
            ("logit_bias", json!([{}]), json!([{"7": 1}])),
            ("stop", json!([[], ""]), json!(["\n", ["a"]])),
            ("tools", json!([[]]), json!([[{"type": "function"}]])),
            ("functions", json!([[]]), json!([[{"name": "f"}]])),
            ("tool_choice", json!(["none", "auto"]), json!(["required"])),
            ("function_call", json!(["none"]), json!([{"name": "f"}])),
            (
                "response_format",
                json!([{"type": "text"}]),
                json!([{"type": "json_object"}, {"type": "json_schema"}]),
            ),
            ("modalities", json!([["text"]]), json!([["text", "audio"]])),
            ("audio", json!([]), json!([{"voice": "x"}])),
            ("web_search_options", json!([]), json!([{}])),
            ("seed", json!([7]), json!([])),
            ("user", json!(["ada"]), json!([])),
            ("store", json!([true]), json!([])),
            ("reasoning_effort", json!(["low"]), json!([])),
            ("parallel_tool_calls", json!([true]), json!([])),
            ("best_of", json!([]), json!([1])),
        ] {
            let list = |of: &Value| of.as_array().expect("a list").clone();
            for value in list(&passes).into_iter().chain([Value::Null]) {
                assert_eq!(refused(&json!({ name: value })), None, "{name}: {value}");
            }
            for value in list(&is_refused) {
                let by = refused(&json!({ name: value }));
                assert_eq!(by.as_deref(), Some(name), "{value}");
            }
        }
    }

    #[test]
    fn a_limit_that_no_answer_meets_passes() {
        for (body, passes) in [
            (json!({}), true),
            (json!({"max_tokens": 256}), true),
            (
                json!({"max_completion_tokens": 4096, "max_tokens": null}),
                true,
            ),
            (json!({"max_tokens": 255}), false),
            (json!({"max_completion_tokens": 1}), false),
            (json!({"max_tokens": "many"}), false),
            (json!({"max_tokens": i64::MAX}), true),
            (json!({"max_tokens": i64::MAX as u64 + 1}), false),
            (json!({"max_tokens": 300.5}), false),
        ] {
            let of = body.as_object().expect("an object");
            assert_eq!(check_limit(of, 256).is_ok(), passes, "{body}");
        }
    }
}
