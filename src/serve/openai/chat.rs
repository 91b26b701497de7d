//! `POST /v1/chat/completions`: a conversation, and what the view says to it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use perennial_ask::Finish;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;

use super::super::address::of_row;
use super::super::admission::Caller;
use super::super::asking::{Answered, Asking, Question, Usage, Word};
use super::super::refusal::Json;
use super::super::routes::request;
use super::super::served::Served;
use super::error::{ApiError, ApiErrorBody};
use super::models::view_of;
use super::{messages, parameters};

/// The key in `metadata` under which a conversation goes on.
const CONVERSATION: &str = "conversation";
/// The longest name of a conversation, and value of a column, in bytes.
const MAX_NAME: usize = 1_024;

/// A conversation. Other parameters of OpenAI's are refused by name where they would change the reply.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model": "answers",
    "messages": [{ "role": "user", "content": "When does the library open?" }],
}))]
#[allow(dead_code, reason = "it describes what is read as it is")]
pub(super) struct ChatBody {
    /// A view that can be asked.
    #[schema(example = "answers")]
    model: String,
    /// What was said, the question last.
    messages: Vec<MessageJson>,
    /// Whether the reply is told as it is written.
    stream: Option<bool>,
    /// `include_usage`: whether the end of a stream tells what it cost.
    #[schema(value_type = Option<Object>)]
    stream_options: Option<Value>,
    /// `conversation` names one that goes on; others are columns of the question, by which documents are
    /// matched.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// As many as the view writes, or more.
    max_completion_tokens: Option<u64>,
    /// 0.
    temperature: Option<f64>,
}

/// Something that was said.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatMessage)]
struct MessageJson {
    /// `system`, `developer`, `user` or `assistant`.
    #[schema(example = "user")]
    role: String,
    /// What was said; nothing of an assistant that said nothing.
    content: Option<ContentJson>,
}

/// What was said.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatContent)]
#[serde(untagged)]
#[allow(dead_code, reason = "it describes what is read as it is")]
enum ContentJson {
    Text(String),
    /// Each of the type `text`.
    #[schema(value_type = Vec<Object>)]
    Parts(Vec<Value>),
}

/// A reply.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatCompletion)]
pub(super) struct Completion {
    /// Names the context, and the epoch of its answer.
    id: String,
    /// `chat.completion`.
    object: &'static str,
    /// In seconds since 1970.
    created: u64,
    model: String,
    /// One.
    #[schema(value_type = Vec<Object>)]
    choices: Value,
    #[schema(value_type = Object)]
    usage: Value,
    /// What is said of it that others have no word for: `key`, `epoch`, `rung`, `exact`,
    /// `passages_read`, `passages_of`, `kept`.
    #[schema(value_type = Object)]
    perennial: Value,
}

/// Asks a view, as a model.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "openai",
    request_body = ChatBody,
    responses(
        (status = 200, description = "What the view says; where `stream` is set, as server-sent events",
            content((Completion = "application/json"), (String = "text/event-stream"))),
        (status = 400, description = "A parameter is not understood, or cannot be obeyed", body = ApiErrorBody),
        (status = 403, description = "The token may not ask this view", body = ApiErrorBody),
        (status = 404, description = "There is no such view", body = ApiErrorBody),
        (status = 409, description = "The conversation is being answered", body = ApiErrorBody),
        (status = 413, description = "The body is too large", body = ApiErrorBody),
        (status = 503, description = "Too many ask, or the view does not answer now", body = ApiErrorBody),
    ),
)]
pub(super) async fn complete_chat(
    State(served): State<Arc<Served>>,
    caller: Caller,
    body: Body,
) -> Result<Response, ApiError> {
    let limits = &served.limits;
    let bytes = request::body(body, limits.sql_body, limits.body_time).await?;
    let body = object(&bytes)?;
    parameters::check_chat(&body)?;
    let Some(model) = body.get("model").and_then(Value::as_str) else {
        let message = "`model` is missing: it is the name of a view";
        return Err(ApiError::invalid("model", message));
    };
    let view = view_of(&served, &caller, model).await?;
    parameters::check_limit(&body, view.plan.max_tokens)?;
    let is_stream = flag(body.get("stream"), "stream")?;
    let options = body.get("stream_options").unwrap_or(&Value::Null);
    if !options.is_null() && !options.is_object() {
        let message = "`stream_options` is an object";
        return Err(ApiError::invalid("stream_options", message));
    }
    let has_usage = flag(options.get("include_usage"), "stream_options.include_usage")?;
    let (conversation, columns) = metadata_of(body.get("metadata"))?;
    let question = Question {
        text: messages::text_of(body.get("messages").unwrap_or(&Value::Null))?,
        conversation,
        columns,
    };
    let asking = served.ask_view(&caller, &view.view, question).await?;
    let heading = Heading {
        model: view.view.to_string(),
        documents: view.plan.data_source.to_string(),
        key: asking.key().to_owned(),
        created: now(),
    };
    if is_stream {
        return Ok(streamed(Telling {
            asking: Some(asking),
            heading,
            has_usage,
            said: String::new(),
            has_begun: false,
            heartbeat: limits.heartbeat,
        }));
    }
    let answered = asking.answer().await?;
    Ok(Json(heading.completion(&answered)).into_response())
}

/// A body that is an object.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let wrong =
        |reason: String| ApiError::invalid("body", format!("the body is not understood: {reason}"));
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("it is no object".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn flag(value: Option<&Value>, name: &str) -> Result<bool, ApiError> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is)) => Ok(*is),
        Some(_) => Err(ApiError::invalid(
            name,
            format!("`{name}` is true or false"),
        )),
    }
}

/// The name of a conversation, and columns.
pub(super) fn metadata_of(
    metadata: Option<&Value>,
) -> Result<(Option<String>, BTreeMap<String, String>), ApiError> {
    let mut columns = BTreeMap::new();
    match metadata {
        None | Some(Value::Null) => {}
        Some(Value::Object(of)) => {
            for (name, value) in of {
                let parameter = format!("metadata.{name}");
                let value = match value {
                    Value::String(value) if value.len() <= MAX_NAME => value.clone(),
                    Value::Number(value) => value.to_string(),
                    Value::Bool(value) => value.to_string(),
                    _ => {
                        let message =
                            format!("values of metadata are texts of up to {MAX_NAME} bytes");
                        return Err(ApiError::invalid(parameter, message));
                    }
                };
                columns.insert(name.clone(), value);
            }
        }
        Some(_) => return Err(ApiError::invalid("metadata", "`metadata` is an object")),
    }
    let conversation = columns.remove(CONVERSATION);
    Ok((conversation, columns))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.as_ref().map_or(0, Duration::as_secs)
}

/// What every part of a reply begins with.
struct Heading {
    model: String,
    /// Where the documents are.
    documents: String,
    key: String,
    created: u64,
}

impl Heading {
    fn id(&self) -> String {
        format!("chatcmpl-{}", self.key.trim_start_matches("asked:"))
    }

    fn completion(&self, answered: &Answered) -> Completion {
        Completion {
            id: self.id(),
            object: "chat.completion",
            created: self.created,
            model: self.model.clone(),
            choices: json!([{
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": answered.text,
                    "refusal": null,
                    "annotations": self.annotations(answered),
                },
                "logprobs": null,
                "finish_reason": finish(answered),
            }]),
            usage: usage(answered.usage),
            perennial: self.besides(answered),
        }
    }

    fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        json!({
            "id": self.id(),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
            }],
        })
    }

    fn besides(&self, answered: &Answered) -> Value {
        json!({
            "key": self.key,
            "epoch": answered.epoch,
            "rung": answered.rung,
            "exact": answered.is_exact,
            "passages_read": answered.passages.map(|passages| passages.read),
            "passages_of": answered.passages.map(|passages| passages.of),
            "kept": answered.was_kept,
        })
    }

    fn annotations(&self, answered: &Answered) -> Value {
        let sentences = answered.sentences.iter();
        let annotations = sentences.flat_map(|sentence| {
            sentence.citations.iter().map(move |citation| {
                json!({
                    "type": "url_citation",
                    "url_citation": {
                        "start_index": sentence.start,
                        "end_index": sentence.end,
                        "url": address(&self.documents, &citation.document),
                        "title": citation.title,
                        "document": citation.document,
                        "ordinal": citation.ordinal,
                        "share": citation.share,
                    },
                })
            })
        });
        annotations.collect()
    }
}

/// Where a document is: as its key says, if that is an address; else by its relation and key.
fn address(relation: &str, key: &str) -> String {
    match key.starts_with("https://") || key.starts_with("http://") {
        true => key.to_owned(),
        false => of_row(relation, key),
    }
}

fn finish(answered: &Answered) -> &'static str {
    match answered.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": { "cached_tokens": usage.cached, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
    })
}

/// A reply that is told as it is written.
struct Telling {
    /// None once all is told.
    asking: Option<Asking>,
    heading: Heading,
    has_usage: bool,
    /// What was told of the answer. It cannot be taken back.
    said: String,
    has_begun: bool,
    heartbeat: Duration,
}

fn streamed(telling: Telling) -> Response {
    let chunks = stream::unfold(telling, |mut telling| async move {
        let chunk = telling.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), telling))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    let fields = [
        (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        // Proxies that gather replies would tell nothing until there is much.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Telling {
    /// What is told next; none when nothing follows.
    async fn next(&mut self) -> Option<String> {
        if !self.has_begun {
            self.asking.as_ref()?;
            self.has_begun = true;
            let delta = json!({"role": "assistant", "content": "", "refusal": null});
            return Some(event(&self.heading.chunk(delta, None)));
        }
        let silent_until = Instant::now() + self.heartbeat;
        loop {
            let asking = self.asking.as_mut()?;
            let word = tokio::select! {
                word = asking.next() => word,
                () = sleep_until(silent_until) => return Some(":\n\n".to_owned()),
            };
            match word {
                Ok(Word::Writing(text)) => {
                    if let Some(chunk) = self.write(stable(&text)) {
                        return Some(chunk);
                    }
                }
                Ok(Word::Answer(answered)) => {
                    self.asking = None;
                    return Some(self.end(&answered));
                }
                Err(refusal) => {
                    self.asking = None;
                    return Some(event(&ApiError::from(refusal).json()));
                }
            }
        }
    }

    /// What is new of a text that begins with what was said; nothing of another.
    fn write(&mut self, text: &str) -> Option<String> {
        let new = text
            .strip_prefix(&*self.said)
            .filter(|new| !new.is_empty())?;
        let chunk = event(&self.heading.chunk(json!({ "content": new }), None));
        self.said = text.to_owned();
        Some(chunk)
    }

    fn end(&mut self, answered: &Answered) -> String {
        let mut told = self.write(&answered.text).unwrap_or_default();
        if self.said != answered.text {
            let message = "the documents changed while this was written, and it is not the answer any more; \
                           ask again, and it is there";
            let error = ApiError::of_parameter("stream", "answer_changed", message);
            return event(&error.json());
        }
        let delta = json!({ "annotations": self.heading.annotations(answered) });
        let mut last = self.heading.chunk(delta, Some(finish(answered)));
        last["perennial"] = self.heading.besides(answered);
        told.push_str(&event(&last));
        if self.has_usage {
            let mut chunk = self.heading.chunk(Value::Null, None);
            chunk["choices"] = json!([]);
            chunk["usage"] = usage(answered.usage);
            told.push_str(&event(&chunk));
        }
        told.push_str("data: [DONE]\n\n");
        told
    }
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// The part of an answer in the making that will stand: blanks at its end may be cut, and a character may
/// be there in part.
fn stable(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_whitespace() || c == char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_an_address() {
        assert_eq!(
            address("docs", "https://a.example/x?y"),
            "https://a.example/x?y"
        );
        assert_eq!(
            address("docs", "sub folder/überblick.md"),
            "perennial://views/docs/sub%20folder%2F%C3%BCberblick.md"
        );
    }

    #[test]
    fn what_may_be_cut_is_not_told_early() {
        assert_eq!(stable("We open at \n"), "We open at");
        assert_eq!(stable("caf\u{fffd}"), "caf");
        assert_eq!(stable(""), "");
    }
}
