//! What can a server do?
//!
//! It is asked when the model is created, by a handful of short requests: which models it serves and
//! how much they attend to, in which form it wants requests, whether the model thinks first, whether
//! the server tells how likely a prompt's tokens were (in either of two ways), obeys schemas, keeps what it has read, and says
//! the same when asked the same.

use std::time::{Duration, Instant};

use perennial_model::cancel::Cancel;
use perennial_model::sampling::Sampling;
use serde_json::{Value as Json, json};

use super::error::RemoteError;
use super::fault::Fault;
use super::habits::{Habits, Scoring};
use super::native::{self, GENERATE};
use super::reply::Reply;
use super::request::{ChatRequest, Prompt};
use super::server::Server;
use super::{THINKING_TOKENS, ask, estimate, verify};

/// How often a request is put otherwise where it is refused.
const MAX_LESSONS: usize = 8;
/// How long a server that is busy or still loads a model is waited for.
const WHILE_IT_LOADS: Duration = Duration::from_secs(60);
/// The pause before it is asked again, where it asks for none.
const PAUSE: Duration = Duration::from_secs(1);
/// Requests that are the same, one after the other and at once.
const N_SAME: usize = 2;
/// Most tokens of an answer to the probe.
const MAX_TOKENS: usize = 16;
/// Most tokens of one in which thinking would come to an end.
const THOUGHT_TOKENS: usize = 1024;
/// Most tokens of one that obeys a schema.
const SCHEMA_TOKENS: usize = 48;
/// A text to be read: by it, the server's count of tokens is compared with the estimate.
const TEXT: &str = "The museum of the town stands by the old harbour, in a house that a \
    merchant built four hundred years ago. It opens at nine in the morning and closes at five in the \
    afternoon, and on Mondays it stays closed all day. A ticket costs twelve crowns; children and \
    students pay half of that, and who lives in the town pays nothing on the first Sunday of a month. \
    On the ground floor there are ships, maps and instruments, upstairs there are paintings of people \
    who sailed them, and under the roof visitors may try how heavy a sail is when it is wet. Dogs \
    wait outside, where there is water for them. The café in the yard bakes its own bread, and whoever \
    comes early sees how it leaves the oven.";
/// What is asked about it.
const QUESTION: &str = "Count from one to twelve in words, and say nothing else.";
/// How an answer may begin that the model is to judge.
const BEGIN: &str = "One, two, three, four";

/// How often a server said the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// Replies that equal the first, of those that were asked for one after the other.
    pub alone: usize,
    /// The same of those that were asked for at once.
    pub together: usize,
    /// How many were asked for in each way.
    pub of: usize,
    /// Replies that did not come, of those that were asked for at once: the server takes one request at
    /// a time.
    pub failed_together: usize,
}

/// What was found out about a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerReport {
    /// What it says that it is.
    pub software: Option<String>,
    /// The models that it serves.
    pub models: Vec<String>,
    /// Tokens that the model attends to, where it says so.
    pub n_positions: Option<usize>,
    /// Whether replies come while they are written.
    pub streams: bool,
    /// Whether it counts tokens.
    pub counts_tokens: bool,
    /// Tokens of the same prompt that it still knew the second time; nothing where it does not say.
    pub n_cached: Option<usize>,
    /// Whether it tells how likely the tokens of a prompt were: an answer is checked without writing
    /// one.
    pub scores_prompts: bool,
    /// Whether it does so by requests of SGLang's own kind.
    pub scores_natively: bool,
    /// Whether it tells the likeliest first tokens of an answer: choices are read from them.
    pub scores_answers: bool,
    /// Whether it has answers obey a JSON schema.
    pub obeys_schemas: bool,
    /// Whether the model thinks before it answers.
    pub thinks: bool,
    /// How often it said the same.
    pub repeats: Repeats,
}

/// A server that was asked.
pub(super) struct Probed {
    pub(super) model: String,
    pub(super) habits: Habits,
    pub(super) report: ServerReport,
    /// By which name it answers.
    pub(super) answers_as: Option<String>,
    /// Tokens by its count for each of the lower bound.
    pub(super) tokens_a_word: f32,
    /// Whether its thinking has no opening tag.
    pub(super) thinks_unopened: bool,
}

/// Asks a server what it can do; `named` is the model that is meant, where one is, and it may be asked
/// `at_once` times at the same time.
pub(super) fn probe(
    server: &Server,
    named: Option<String>,
    at_once: usize,
) -> Result<Probed, RemoteError> {
    let failed = |fault: Fault| unusable(server, fault.to_string());
    let served = listed(server)?;
    let models: Vec<String> = served.iter().filter_map(id).map(str::to_owned).collect();
    let model = chosen(server, named, &models)?;
    let entry = served
        .iter()
        .find(|entry| id(entry) == Some(model.as_str()));
    let software = entry.and_then(|entry| entry.get("owned_by")?.as_str());
    let mut report = ServerReport {
        software: software.map(name_of_software),
        n_positions: n_positions(server, entry, software),
        models,
        ..ServerReport::default()
    };
    let mut habits = Habits::default();
    let prompt = Prompt::over([("The museum", TEXT)], "", QUESTION);
    let same = ChatRequest {
        prompt: &prompt,
        begin: None,
        max_tokens: MAX_TOKENS,
        sampling: Sampling::Greedy,
        schema: None,
        scores_prompt: false,
        scores_answer: false,
        streams: true,
    };
    let asked = |habits: &Habits, request: &ChatRequest<'_>| {
        ask(
            (server, &Cancel::new()),
            &model,
            habits,
            request,
            |_| Ok(()),
        )
    };
    let first = patiently(|| learning(&mut habits, |habits| asked(habits, &same)));
    let first = first.map_err(failed)?;
    report.streams = !habits.refuses_stream;
    report.counts_tokens = first.usage.prompt.is_some();
    report.thinks = first.has_thought();
    let mut thinks_unopened = first.closes_only();
    match first.answer(MAX_TOKENS) {
        Err(Fault::OnlyThought { .. }) => report.thinks = true,
        Err(fault) if !report.thinks => return Err(failed(fault)),
        // It does not do what it was asked, and may be thinking about it.
        Ok((said, _)) if !report.thinks && !begins_to_count(said) => {
            let longer = ChatRequest {
                max_tokens: THOUGHT_TOKENS,
                ..same.clone()
            };
            let longer = patiently(|| asked(&habits, &longer)).map_err(failed)?;
            report.thinks = longer.has_thought();
            thinks_unopened = longer.closes_only();
        }
        _ => {}
    }
    report.repeats.of = N_SAME;
    for _ in 0..N_SAME {
        if let Ok(again) = patiently(|| asked(&habits, &same)) {
            report.repeats.alone += usize::from(again.text == first.text);
            report.n_cached = again.usage.cached.or(report.n_cached);
        }
    }
    let n_together = N_SAME.min(at_once);
    let together = std::thread::scope(|scope| {
        let asking = (0..n_together).map(|_| scope.spawn(|| patiently(|| asked(&habits, &same))));
        let asking: Vec<_> = asking.collect();
        let replies = asking.into_iter().map(|one| one.join().ok()?.ok());
        replies.collect::<Vec<Option<Reply>>>()
    });
    for reply in together {
        match reply.filter(|reply| reply.ended.is_some()) {
            Some(reply) => report.repeats.together += usize::from(reply.text == first.text),
            None => report.repeats.failed_together += 1,
        }
    }
    report.scores_prompts = !report.thinks && {
        let request = ChatRequest {
            begin: Some(BEGIN),
            max_tokens: 1,
            scores_prompt: true,
            streams: false,
            ..same.clone()
        };
        let reply = able(patiently(|| asked(&habits, &request))).map_err(failed)?;
        let scores = reply.and_then(|reply| reply.prompt_scores);
        scores.is_some_and(|scores| verify::check(BEGIN, &scores).is_some())
    };
    if !report.thinks && !report.scores_prompts {
        report.scores_natively = scores_natively(server, &habits, &same, &asked).map_err(failed)?;
        report.scores_prompts = report.scores_natively;
        if report.scores_natively {
            habits.scoring = Scoring::Native;
        }
    }
    report.scores_answers = !report.thinks && {
        let request = ChatRequest {
            max_tokens: 1,
            scores_answer: true,
            streams: false,
            ..same.clone()
        };
        let reply = able(patiently(|| asked(&habits, &request))).map_err(failed)?;
        reply.is_some_and(|reply| reply.likeliest.is_some())
    };
    if report.thinks {
        // Its answer to what follows comes behind what it thinks.
        habits.thinking_tokens = THINKING_TOKENS;
    }
    report.obeys_schemas = {
        let schema = schema(&["left", "right"]);
        let request = ChatRequest {
            max_tokens: SCHEMA_TOKENS,
            schema: Some(&schema),
            streams: false,
            ..same.clone()
        };
        let reply = able(patiently(|| asked(&habits, &request))).map_err(failed)?;
        reply.is_some_and(|reply| obeyed(&reply, habits.thinking_tokens))
    };
    habits.has_penalties = report.scores_prompts;
    let words: f32 = prompt.texts().into_iter().map(estimate::n_least).sum();
    let counted = first.usage.prompt.map(|n| n as f32 / words);
    Ok(Probed {
        model,
        habits,
        report,
        answers_as: first.model,
        tokens_a_word: counted.unwrap_or(1.0),
        thinks_unopened,
    })
}

/// Which of a server's models is meant.
pub(super) fn model(server: &Server, named: Option<String>) -> Result<String, RemoteError> {
    let served = listed(server)?;
    let models: Vec<String> = served.iter().filter_map(id).map(str::to_owned).collect();
    chosen(server, named, &models)
}

/// The models that a server lists.
fn listed(server: &Server) -> Result<Vec<Json>, RemoteError> {
    let served = patiently(|| match server.get("models") {
        // Not every server lists them.
        Err(Fault::Refused {
            status: 404 | 405 | 501,
            ..
        }) => Ok(Json::Null),
        other => other,
    });
    match served {
        Ok(mut served) => match served.get_mut("data").map(Json::take) {
            Some(Json::Array(served)) => Ok(served),
            _ => Ok(Vec::new()),
        },
        Err(fault) => Err(unusable(server, fault.to_string())),
    }
}

/// A server that cannot be used.
pub(super) fn unusable(server: &Server, reason: String) -> RemoteError {
    RemoteError::Server {
        address: server.address().to_string(),
        reason,
    }
}

/// Whether a server names the tokens of a prompt, and tells how likely they were at an endpoint beside.
fn scores_natively(
    server: &Server,
    habits: &Habits,
    same: &ChatRequest<'_>,
    asked: &impl Fn(&Habits, &ChatRequest<'_>) -> Result<Reply, Fault>,
) -> Result<bool, Fault> {
    let habits = Habits {
        scoring: Scoring::Native,
        ..habits.clone()
    };
    let request = ChatRequest {
        begin: Some(BEGIN),
        max_tokens: 1,
        scores_prompt: true,
        streams: false,
        ..same.clone()
    };
    let reply = able(patiently(|| asked(&habits, &request)))?;
    let Some(ids) = reply.and_then(|reply| reply.prompt_ids) else {
        return Ok(false);
    };
    let body = native::body(&ids, BEGIN);
    let scored = able(patiently(|| {
        native::scored(&server.post_beside(GENERATE, &body, &Cancel::new())?)
    }))?;
    Ok(scored.is_some_and(|scored| verify::check(BEGIN, &scored.scores).is_some()))
}

/// Whether a reply does what was asked.
fn begins_to_count(said: &str) -> bool {
    let word = said
        .split(|c: char| !c.is_alphanumeric())
        .find(|word| !word.is_empty());
    word.is_some_and(|word| word.eq_ignore_ascii_case("one") || word == "1")
}

/// The reply to a request that not every server can serve; an error where the server is at fault, which
/// says nothing of what it can do.
fn able<T>(replied: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match replied {
        Ok(reply) => Ok(Some(reply)),
        Err(fault @ Fault::Away(_)) => Err(fault),
        Err(fault) if fault.is_overload() => Err(fault),
        Err(_) => Ok(None),
    }
}

/// The schema of one of several texts.
pub(super) fn schema<S: AsRef<str>>(choices: &[S]) -> Json {
    let choices: Vec<&str> = choices.iter().map(AsRef::as_ref).collect();
    json!({
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": choices}},
        "required": ["answer"],
        "additionalProperties": false,
    })
}

/// Whether a reply to a question about something else obeys the schema all the same.
fn obeyed(reply: &Reply, n_thinking: usize) -> bool {
    let answer = reply.answer(SCHEMA_TOKENS + n_thinking).ok();
    let json = answer.and_then(|(text, _)| serde_json::from_str::<Json>(text).ok());
    let said = json.as_ref().and_then(|json| json.get("answer")?.as_str());
    matches!(said, Some("left" | "right"))
}

/// Tries until a request is put as the server wants it.
fn learning(
    habits: &mut Habits,
    mut ask: impl FnMut(&Habits) -> Result<Reply, Fault>,
) -> Result<Reply, Fault> {
    let mut n_lessons = 0;
    loop {
        match ask(habits) {
            Err(fault) if n_lessons < MAX_LESSONS && habits.learn(&fault) => n_lessons += 1,
            other => return other,
        }
    }
}

/// Tries again while a server is busy, or still loads.
pub(super) fn patiently<T>(mut ask: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let end = Instant::now() + WHILE_IT_LOADS;
    loop {
        match ask() {
            Err(fault) if fault.is_overload() && Instant::now() < end => {
                let asked = match &fault {
                    Fault::Refused { retry_after, .. } => *retry_after,
                    _ => None,
                };
                let left = end.saturating_duration_since(Instant::now());
                std::thread::sleep(asked.unwrap_or(PAUSE).min(left));
            }
            other => return other,
        }
    }
}

fn id(entry: &Json) -> Option<&str> {
    entry.get("id").and_then(Json::as_str)
}

/// Which model is meant.
fn chosen(
    server: &Server,
    named: Option<String>,
    models: &[String],
) -> Result<String, RemoteError> {
    let wrong = |reason: &str| RemoteError::Model {
        address: server.address().to_string(),
        reason: reason.to_owned(),
        models: match models {
            [] => "models that it does not list".to_owned(),
            some => some.join(", "),
        },
    };
    let Some(named) = named else {
        return match models {
            [only] => Ok(only.clone()),
            _ => Err(wrong("say which model is meant, as in http://host/v1#name")),
        };
    };
    // Ollama lists `name:latest` and answers to `name`.
    let is_it = |model: &String| {
        *model == named
            || model
                .strip_prefix(&named)
                .is_some_and(|tag| tag.starts_with(':'))
    };
    match models.is_empty() || models.iter().any(is_it) {
        true => Ok(named),
        false => Err(wrong(&format!("there is no model `{named}`"))),
    }
}

fn name_of_software(owner: &str) -> String {
    match owner {
        "llamacpp" => "llama.cpp",
        "library" => "Ollama",
        "vllm" => "vLLM",
        "sglang" => "SGLang",
        other => other,
    }
    .to_owned()
}

/// How many tokens a model attends to, as far as its server says.
fn n_positions(server: &Server, entry: Option<&Json>, software: Option<&str>) -> Option<usize> {
    let number = |place: Option<&Json>| place.and_then(Json::as_u64).map(|n| n as usize);
    // What a slot has, not what the model was trained for.
    let n_ctx = entry.and_then(|entry| entry.pointer("/meta/n_ctx"));
    if let Some(n_ctx) = number(n_ctx) {
        return Some(n_ctx);
    }
    if software == Some("llamacpp") {
        // Older ones say it elsewhere.
        let props = server.get_beside("props").ok();
        let n_ctx = props
            .as_ref()
            .and_then(|p| p.pointer("/default_generation_settings/n_ctx"));
        if let Some(n_ctx) = number(n_ctx) {
            return Some(n_ctx);
        }
    }
    let entry = entry?;
    [
        "max_model_len",
        "context_length",
        "context_window",
        "max_context_length",
    ]
    .into_iter()
    .find_map(|name| number(entry.get(name)))
    .filter(|n| *n > 0)
}
