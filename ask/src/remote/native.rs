//! How does SGLang tell how likely the tokens of a prompt were?
//!
//! Its chat does not, but says which tokens it read (`return_prompt_token_ids`). Its own endpoint,
//! `/generate` beside the interface, takes tokens and tells of each, from `logprob_start_len` on, how
//! likely it was (`input_token_logprobs`) and which was the likeliest (`input_top_logprobs`). So a draft
//! is read by two requests, of which the second finds all before the draft in the server's cache.
//!
//! What it tells is put as vLLM tells it, so that [`verify`](super::verify) reads one form.

use serde_json::{Map, Value as Json, json};

use super::fault::Fault;
use super::reply::{MAX_SCORES, Usage, refusal};

/// The endpoint, beside the interface.
pub(super) const GENERATE: &str = "generate";

/// What was told of a prompt's last tokens.
#[derive(Debug, PartialEq)]
pub(super) struct Scored {
    /// In the form of `prompt_logprobs`.
    pub(super) scores: Vec<Json>,
    pub(super) usage: Usage,
}

/// A request to read a prompt of these tokens, which ends with a draft, and to write nothing.
pub(super) fn body(ids: &[u64], draft: &str) -> Json {
    // A token has a byte at least, and of the first that is told nothing is known.
    let n_told = (draft.len() + 1).min(MAX_SCORES);
    json!({
        "input_ids": ids,
        "sampling_params": {"max_new_tokens": 0, "temperature": 0.0},
        "return_logprob": true,
        "logprob_start_len": ids.len().saturating_sub(n_told),
        "top_logprobs_num": 1,
        "return_text_in_logprobs": true,
        "stream": false,
    })
}

/// What the server replied.
///
/// # Errors
/// A refusal, or a reply without likelihoods.
pub(super) fn scored(reply: &Json) -> Result<Scored, Fault> {
    if let Some(refusal) = refusal(reply) {
        return Err(refusal);
    }
    let told = |name: &str| {
        let told = reply.get("meta_info").and_then(|meta| meta.get(name));
        told.and_then(Json::as_array).map(Vec::as_slice)
    };
    let Some(tokens) = told("input_token_logprobs") else {
        let untold = "the reply tells no likelihoods of the prompt".to_owned();
        return Err(Fault::Garbled(untold));
    };
    let likeliest = told("input_top_logprobs").unwrap_or_default();
    let tail = tokens.len().saturating_sub(MAX_SCORES);
    let scores = tokens.iter().enumerate().skip(tail);
    let scores = scores.map(|(at, token)| {
        let best = likeliest.get(at).and_then(|of_place| of_place.get(0));
        best.and_then(|best| score(token, best))
            .unwrap_or(Json::Null)
    });
    let count = |name: &str| {
        let n = reply.get("meta_info")?.get(name)?.as_u64()?;
        Some(n.min(u64::from(u32::MAX)) as usize)
    };
    Ok(Scored {
        scores: scores.collect(),
        usage: Usage {
            prompt: count("prompt_tokens"),
            cached: count("cached_tokens"),
            written: count("completion_tokens"),
        },
    })
}

/// `[-0.1, 1234, " nine"]`, and the likeliest at its place: as `prompt_logprobs` has both.
fn score(token: &Json, best: &Json) -> Option<Json> {
    let (id, best_id) = (token.get(1)?.as_u64()?, best.get(1)?.as_u64()?);
    let entry = |of: &Json, rank: u64| {
        let (logprob, text) = (of.get(0)?.as_f64()?, of.get(2)?.as_str()?);
        Some(json!({"logprob": logprob, "rank": rank, "decoded_token": text}))
    };
    let mut both = Map::new();
    both.insert(best_id.to_string(), entry(best, 1)?);
    if id != best_id {
        // How many are likelier is not told; one is.
        both.insert(id.to_string(), entry(token, 2)?);
    }
    Some(Json::Object(both))
}

#[cfg(test)]
mod tests {
    use super::super::verify;
    use super::*;

    fn told(tokens: Json, likeliest: Json) -> Json {
        json!({"text": "", "meta_info": {
            "id": "r", "finish_reason": {"type": "length", "length": 0}, "prompt_tokens": 40,
            "completion_tokens": 0, "cached_tokens": 36,
            "input_token_logprobs": tokens, "input_top_logprobs": likeliest}})
    }

    #[test]
    fn what_is_told_is_read_as_of_any_server() {
        let tokens = json!([
            [null, 5, "\n"],
            [-0.25, 7, "It"],
            [-2.25, 9, " is"],
            [-0.25, 3, " nine."]
        ]);
        let likeliest = json!([
            null,
            [[-0.25, 7, "It"]],
            [[-0.25, 12, " was"]],
            [[-0.25, 3, " nine."]]
        ]);
        let scored = scored(&told(tokens, likeliest)).expect("likelihoods");
        assert_eq!(
            (scored.usage.prompt, scored.usage.cached),
            (Some(40), Some(36))
        );
        let checked = verify::check("It is nine.", &scored.scores).expect("its tokens");
        assert_eq!((checked.n_tokens, checked.n_standing), (3, 2));
        assert!((checked.check.regret - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_told_checks_nothing() {
        // Texts are not told by a server that was not asked for them, or does not know how.
        let bare = told(json!([[-0.25, 7, null]]), json!([[[-0.25, 7, null]]]));
        let scored_bare = scored(&bare).expect("likelihoods");
        assert_eq!(verify::check("It", &scored_bare.scores), None);
        let without_best = told(json!([[-0.25, 7, "It"]]), Json::Null);
        let scored_alone = scored(&without_best).expect("likelihoods");
        assert_eq!(verify::check("It", &scored_alone.scores), None);
        for other in [
            json!({}),
            json!([1]),
            json!({"meta_info": {"input_token_logprobs": 7}}),
        ] {
            let fault = scored(&other).expect_err("no likelihoods");
            assert!(matches!(fault, Fault::Garbled(_)), "{fault:?}");
        }
        let error = json!({"error": {"message": "out of memory", "code": 503}});
        assert!(scored(&error).expect_err("an error").is_overload());
    }

    #[test]
    fn the_request_asks_of_the_draft_and_of_little_before() {
        let ids: Vec<u64> = (0..100).collect();
        let of = |draft: &str| body(&ids, draft)["logprob_start_len"].as_u64();
        assert_eq!(of("It is nine."), Some(88));
        assert_eq!(of(&"long ".repeat(50)), Some(0));
        assert_eq!(
            body(&ids, "x")["input_ids"].as_array().map(Vec::len),
            Some(100)
        );
    }
}
