//! What did a server answer?
//!
//! A reply comes whole or in events, each with the same parts. One that is empty or cut off is no
//! answer.

use serde_json::Value as Json;

use super::fault::{Fault, said};
use super::likelihoods::Likeliest;
use super::thinking;
use crate::answer::Finish;

/// The last tokens of a prompt of which is kept how likely they were: no answer has more.
pub(super) const MAX_SCORES: usize = 8192;

/// Why a model ended, in the words of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Stop,
    Length,
    /// Another reason: a filter, a tool that was called.
    Otherwise(String),
}

/// What a call cost, by the server's count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Tokens of the prompt; nothing where they were not told.
    pub(super) prompt: Option<usize>,
    /// Of them, those that the server still knew.
    pub(super) cached: Option<usize>,
    /// Tokens that were written, thinking included; of a server that does not say, the parts in which
    /// they came.
    pub(super) written: Option<usize>,
}

/// A reply, as far as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reply {
    /// What was written, thinking between tags included.
    pub(super) text: String,
    /// Whether there was thinking in a field of its own.
    pub(super) has_reasoned: bool,
    pub(super) ended: Option<Ended>,
    pub(super) usage: Usage,
    /// Which model says that it answered.
    pub(super) model: Option<String>,
    /// What the server calls its present state.
    pub(super) fingerprint: Option<String>,
    /// In how many parts the text came.
    n_parts: usize,
    /// The likeliest first tokens, where they were asked for.
    pub(super) likeliest: Option<Likeliest>,
    /// How likely the last tokens of the prompt were, where that was asked for.
    pub(super) prompt_scores: Option<Vec<Json>>,
    /// The tokens of the prompt, where they were asked for.
    pub(super) prompt_ids: Option<Vec<u64>>,
}

/// An error under a status of success.
pub(super) fn refusal(event: &Json) -> Option<Fault> {
    let error = event.get("error").filter(|error| !error.is_null())?;
    let code = [error.get("code"), error.get("status"), event.get("code")];
    let code = code.into_iter().flatten().find_map(Json::as_u64);
    Some(Fault::Refused {
        status: code
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(500),
        said: said(event.to_string().as_bytes()),
        retry_after: None,
    })
}

impl Reply {
    /// Takes in an event, or a whole reply.
    pub(super) fn take(&mut self, event: &Json) -> Result<(), Fault> {
        if let Some(refusal) = refusal(event) {
            return Err(refusal);
        }
        let name = |field: &str| event.get(field).and_then(Json::as_str).map(str::to_owned);
        self.model = name("model").or(self.model.take());
        self.fingerprint = name("system_fingerprint").or(self.fingerprint.take());
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            let count = |place: Option<&Json>| {
                let n = place.and_then(Json::as_u64)?;
                Some(n.min(u64::from(u32::MAX)) as usize)
            };
            let reasoning = usage.pointer("/completion_tokens_details/reasoning_tokens");
            self.has_reasoned |= count(reasoning).is_some_and(|n| n > 0);
            self.usage = Usage {
                prompt: count(usage.get("prompt_tokens")),
                cached: count(usage.pointer("/prompt_tokens_details/cached_tokens"))
                    .or_else(|| count(usage.get("prompt_cache_hit_tokens"))),
                written: count(usage.get("completion_tokens")),
            };
        }
        if let Some(Json::Array(scores)) = event.get("prompt_logprobs") {
            let tail = scores.len().saturating_sub(MAX_SCORES);
            self.prompt_scores = Some(scores[tail..].to_vec());
        }
        // llama.cpp tells what it read again beside.
        if let (Some(read), Some(prompt)) = (
            event.pointer("/timings/prompt_n").and_then(Json::as_u64),
            self.usage.prompt,
        ) && self.usage.cached.is_none()
        {
            self.usage.cached = Some(prompt.saturating_sub(read as usize));
        }
        let Some(choice) = event.pointer("/choices/0") else {
            return Ok(());
        };
        self.likeliest = self.likeliest.take().or_else(|| Likeliest::of(choice));
        if let Some(Json::Array(ids)) = choice.get("prompt_token_ids") {
            self.prompt_ids = ids.iter().map(Json::as_u64).collect();
        }
        let parts = [choice.get("delta"), choice.get("message"), Some(choice)];
        for part in parts.into_iter().flatten() {
            let text = |field: &str| part.get(field).and_then(Json::as_str);
            if let Some(text) = text("content").or_else(|| text("text")) {
                self.text.push_str(text);
                self.n_parts += usize::from(!text.is_empty());
            }
            let reasoning = text("reasoning_content").or_else(|| text("reasoning"));
            self.has_reasoned |= reasoning.is_some_and(|text| !text.trim().is_empty());
            if let Some(refusal) = text("refusal").filter(|text| !text.is_empty()) {
                return Err(Fault::Never(format!(
                    "the model refused: {}",
                    said(refusal.as_bytes())
                )));
            }
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Json::as_str) {
            self.ended = Some(match reason {
                "stop" | "eos" | "end_turn" | "stop_sequence" => Ended::Stop,
                "length" | "max_tokens" => Ended::Length,
                other => Ended::Otherwise(other.to_owned()),
            });
        }
        Ok(())
    }

    /// Fills in what the server does not count: `prompt` tokens, by estimate.
    pub(super) fn count(&mut self, prompt: usize) {
        let usage = &mut self.usage;
        usage.prompt = usage.prompt.or(Some(prompt));
        usage.written = usage.written.or(Some(self.n_parts));
    }

    /// What can be shown while it is written.
    pub(super) fn visible(&self) -> Option<&str> {
        thinking::visible(&self.text)
    }

    /// Why it ends. What goes on behind a beginning may be empty: then the beginning is all.
    pub(super) fn finish(&self) -> Result<Finish, Fault> {
        match &self.ended {
            Some(Ended::Stop) => Ok(Finish::Stop),
            Some(Ended::Length) => Ok(Finish::Length),
            Some(Ended::Otherwise(reason)) => {
                let reason = format!("the server ended the answer by `{reason}`");
                Err(Fault::Never(reason))
            }
            None => {
                let cut = "the reply was cut off before its end".to_owned();
                Err(Fault::Garbled(cut))
            }
        }
    }

    /// The answer, without what was thought, and why it ends. `max_tokens` were allowed.
    pub(super) fn answer(&self, max_tokens: usize) -> Result<(&str, Finish), Fault> {
        let finish = self.finish()?;
        let parts = thinking::parts(&self.text);
        let answer = parts.answer.map(str::trim).unwrap_or_default();
        match (answer.is_empty(), finish) {
            (false, _) => Ok((answer, finish)),
            // Tokens were used up and none of them is shown: it thought, whether it says so or not.
            (true, Finish::Length) => Err(Fault::OnlyThought { max_tokens }),
            (true, Finish::Stop) => Err(Fault::Empty),
        }
    }

    /// Whether it thought without an opening tag: the prompt's template writes it.
    pub(super) fn closes_only(&self) -> bool {
        thinking::parts(&self.text).is_unopened
    }

    /// Whether the model thinks before it answers.
    pub(super) fn has_thought(&self) -> bool {
        self.has_reasoned || thinking::parts(&self.text).is_thought
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replied(events: &[Json]) -> Result<Reply, Fault> {
        let mut reply = Reply::default();
        events.iter().try_for_each(|event| reply.take(event))?;
        Ok(reply)
    }

    fn delta(text: &str) -> Json {
        json!({"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    }

    fn end(reason: &str) -> Json {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    #[test]
    fn a_reply_in_events_is_the_reply_that_comes_whole() {
        let usage = json!({"prompt_tokens": 7, "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 5}});
        let whole = json!({"model": "m", "usage": usage, "choices": [
            {"message": {"role": "assistant", "content": "At nine."}, "finish_reason": "stop"}]});
        let last = json!({"choices": [], "usage": usage});
        let events = [delta("At "), delta("nine."), end("stop"), last];
        let (events, whole) = (replied(&events), replied(&[whole]));
        let text = |reply: &Result<Reply, Fault>| {
            let reply = reply.as_ref().expect("a reply");
            (reply.text.clone(), reply.ended.clone(), reply.usage)
        };
        assert_eq!(text(&events), text(&whole));
        let reply = whole.expect("a reply");
        assert_eq!(reply.answer(8), Ok(("At nine.", Finish::Stop)));
        assert_eq!(reply.usage.cached, Some(5));
    }

    #[test]
    fn what_is_empty_cut_off_or_only_thought_is_no_answer() {
        let fault = |events: &[Json]| {
            let reply = replied(events).expect("events");
            reply.answer(8).expect_err("no answer")
        };
        assert!(matches!(fault(&[delta("At ")]), Fault::Garbled(_)));
        assert_eq!(fault(&[delta(" "), end("stop")]), Fault::Empty);
        // Of some models nothing is shown of what they think.
        assert_eq!(
            fault(&[end("length")]),
            Fault::OnlyThought { max_tokens: 8 }
        );
        assert!(matches!(fault(&[]), Fault::Garbled(_)));
        let thought = [delta("<think>hm"), end("length")];
        assert_eq!(fault(&thought), Fault::OnlyThought { max_tokens: 8 });
        let field = json!({"choices": [{"delta": {"reasoning_content": "hm"}}]});
        assert_eq!(
            fault(&[field, end("length")]),
            Fault::OnlyThought { max_tokens: 8 }
        );
        assert!(matches!(
            fault(&[delta("x"), end("content_filter")]),
            Fault::Never(_)
        ));
    }

    #[test]
    fn an_error_under_a_status_of_success_is_an_error() {
        let event = json!({"error": {"message": "Rate limit reached", "code": 429}});
        let fault = replied(&[delta("At "), event]).expect_err("an error");
        assert!(fault.is_overload(), "{fault:?}");
        let event = json!({"error": {"message": "the backend died", "code": "internal"}});
        let fault = replied(&[event]).expect_err("an error");
        assert!(fault.is_of_server(), "{fault:?}");
        let none = json!({"error": null, "choices": [{"text": "x", "finish_reason": "stop"}]});
        assert_eq!(replied(&[none]).expect("a reply").text, "x");
    }
}
