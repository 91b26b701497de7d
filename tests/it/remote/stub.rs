//! A server of a model that answers from what it reads, in the dialect of several real ones and with
//! their troubles, by their published schemas.
//!
//! A token is a word with the blanks before it. It answers with the sentences that share a word with
//! the question, as the scripted model does.

mod embeddings;
mod native;

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};

pub(crate) use embeddings::{MAX_TEXTS, MISHAPS, Mishap, N_DIMENSIONS, TEXT_WINDOW, vector};

use embeddings::Embedding;
use native::Named;

/// What a server calls its model.
pub(crate) const MODEL: &str = "words-1b";
/// The key that it wants, where it wants one.
pub(crate) const KEY: &str = "sk-the-right-one";
/// Tokens that it attends to.
pub(crate) const WINDOW: usize = 900;

/// As which server it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// vLLM: tells how likely a prompt's tokens were, goes on behind a beginning, obeys schemas.
    Vllm,
    /// SGLang: names a prompt's tokens, and tells how likely they were at an endpoint of its own.
    Sglang,
    /// llama.cpp: says beside what it read again.
    LlamaCpp,
    /// OpenAI: wants a key and `max_completion_tokens`, refuses what it does not know.
    OpenAi,
    /// Ollama: lists tags, shortens prompts in silence.
    Ollama,
    /// A template without a system role, and a server without streams or counts.
    Bare,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Too many requests.
    Busy,
    /// An error of its own.
    Fails,
    /// It hangs up before it says anything.
    HangsUp,
    /// The stream ends after a word.
    CutOff,
    /// A page for people.
    Html,
    /// A reply with no words in it.
    Empty,
    /// An error under a status of success.
    ErrorInside,
    /// A line of the stream that is no JSON.
    NoJson,
    /// Another model answers.
    OtherModel,
    /// It says nothing, as long as it is there.
    Hangs,
}

/// How the model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinking {
    Never,
    /// Between tags.
    Tags,
    /// Behind a tag that the prompt opened.
    Unopened,
    /// In a field of its own.
    Field,
}

pub(crate) struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    dialect: Dialect,
    thinking: Thinking,
    delay: Duration,
    /// One for each request to come.
    troubles: Mutex<VecDeque<Trouble>>,
    /// Bodies of requests for answers.
    asked: Mutex<Vec<Json>>,
    /// Prompts that it still knows.
    read: Mutex<Vec<Vec<String>>>,
    embedding: Embedding,
    named: Mutex<Named>,
    n_decoded: AtomicUsize,
    n_running: AtomicUsize,
    n_running_peak: AtomicUsize,
    is_closed: AtomicBool,
}

impl Stub {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self::thinking(dialect, Thinking::Never, Duration::ZERO)
    }

    /// A server whose model thinks, and takes this long for a reply.
    pub(crate) fn thinking(dialect: Dialect, thinking: Thinking, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            dialect,
            thinking,
            delay,
            troubles: Mutex::default(),
            asked: Mutex::default(),
            read: Mutex::default(),
            embedding: Embedding::default(),
            named: Mutex::default(),
            n_decoded: AtomicUsize::new(0),
            n_running: AtomicUsize::new(0),
            n_running_peak: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let shared = serving.clone();
                let Ok(stream) = stream else { continue };
                std::thread::spawn(move || {
                    // A client that goes away is its own affair.
                    let _ = shared.serve(stream);
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Has the next requests for answers go wrong.
    pub(crate) fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.shared.troubles.lock().expect("lock").extend(troubles);
    }

    /// Has the next requests to read a prompt of named tokens go wrong.
    pub(crate) fn trouble_reading(&self, troubles: impl IntoIterator<Item = Trouble>) {
        let mut named = self.shared.named.lock().expect("lock");
        named.troubles.extend(troubles);
    }

    /// Requests for answers so far.
    pub(crate) fn asked(&self) -> Vec<Json> {
        self.shared.asked.lock().expect("lock").clone()
    }

    /// Tokens that it wrote.
    pub(crate) fn n_decoded(&self) -> usize {
        self.shared.n_decoded.load(Ordering::SeqCst)
    }

    /// Most requests that ran at the same time since this was asked for.
    pub(crate) fn take_peak(&self) -> usize {
        self.shared.n_running_peak.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Words, each with the blanks before it.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    for c in text.chars() {
        if c.is_whitespace() && token.ends_with(|c: char| !c.is_whitespace()) {
            tokens.push(std::mem::take(&mut token));
        }
        token.push(c);
    }
    if !token.is_empty() {
        tokens.push(token);
    }
    tokens
}

/// What is answered to a question over texts in this order.
pub(crate) fn answer<'a>(texts: impl IntoIterator<Item = &'a str>, question: &str) -> String {
    let words: Vec<&str> = question.split_whitespace().collect();
    let sentences = texts
        .into_iter()
        .flat_map(|text| text.split_inclusive(". "));
    let shares = |sentence: &&str| {
        words
            .iter()
            .any(|w| sentence.split_whitespace().any(|x| x == *w))
    };
    let said: Vec<&str> = sentences.map(str::trim).filter(shares).collect();
    match said.is_empty() {
        true => format!("Nothing is known of {question}."),
        false => said.join(" "),
    }
}

/// What the model says to a prompt: documents with their titles, then the question.
fn says(user: &str, schema: Option<&Json>) -> String {
    let (documents, question) = user.rsplit_once("\n\n").unwrap_or(("", user));
    let lines = documents
        .lines()
        .filter(|line| !line.starts_with("## ") && *line != "Documents:");
    if let Some(schema) = schema {
        let properties = schema["properties"].as_object();
        if let Some(fields) = properties.filter(|fields| !fields.contains_key("answer")) {
            let fields = fields.iter();
            let record = fields.map(|(name, of)| (name.clone(), value_said(of, documents)));
            return Json::Object(record.collect()).to_string();
        }
        let choices = schema
            .pointer("/properties/answer/enum")
            .and_then(Json::as_array);
        let choices = choices.map(Vec::as_slice).unwrap_or_default();
        let is_said = |choice: &&Json| choice.as_str().is_some_and(|c| documents.contains(c));
        let said = choices.iter().find(is_said).or(choices.first());
        return json!({"answer": said}).to_string();
    }
    answer(lines, question)
}

/// What documents say of a field: its first number, or its label; null where they hold none.
fn value_said(of: &Json, documents: &str) -> Json {
    if let Some(choices) = of["enum"].as_array() {
        let is_said = |choice: &&Json| choice.as_str().is_some_and(|c| documents.contains(c));
        return choices.iter().find(is_said).cloned().unwrap_or_default();
    }
    match of["type"][0].as_str() {
        Some("integer" | "number") => {
            let mut words = documents.split_whitespace();
            let number = words.find_map(|word| word.parse::<f64>().ok());
            number.map(Json::from).unwrap_or_default()
        }
        _ => Json::Null,
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let (mut length, mut has_key) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => has_key = value.trim() == format!("Bearer {KEY}"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = first.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if self.dialect == Dialect::OpenAi && !has_key {
            let error = json!({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}});
            return reply(&stream, 401, "application/json", &error.to_string());
        }
        match (method, path) {
            ("GET", "/v1/models") => reply(&stream, 200, "application/json", &self.models()),
            ("POST", "/v1/chat/completions") => self.chat(&stream, &body),
            ("POST", "/v1/embeddings") => self.embed(&stream, &body),
            ("POST", "/generate") if self.dialect == Dialect::Sglang => {
                self.generate(&stream, &body)
            }
            _ => reply(
                &stream,
                404,
                "application/json",
                r#"{"detail":"Not Found"}"#,
            ),
        }
    }

    fn models(&self) -> String {
        let entry = match self.dialect {
            Dialect::Vllm => json!({"id": MODEL, "owned_by": "vllm", "max_model_len": WINDOW}),
            Dialect::Sglang => json!({"id": MODEL, "owned_by": "sglang", "max_model_len": WINDOW}),
            Dialect::LlamaCpp => {
                json!({"id": MODEL, "owned_by": "llamacpp", "meta": {"n_ctx": WINDOW, "n_ctx_train": 32768}})
            }
            Dialect::OpenAi => json!({"id": MODEL, "owned_by": "system"}),
            Dialect::Ollama => json!({"id": format!("{MODEL}:latest"), "owned_by": "library"}),
            Dialect::Bare => json!({"id": MODEL}),
        };
        json!({"object": "list", "data": [entry]}).to_string()
    }

    fn chat(&self, stream: &TcpStream, body: &[u8]) -> std::io::Result<()> {
        let asked: Json = serde_json::from_slice(body).unwrap_or_default();
        self.asked.lock().expect("lock").push(asked.clone());
        let n_running = self.n_running.fetch_add(1, Ordering::SeqCst) + 1;
        self.n_running_peak.fetch_max(n_running, Ordering::SeqCst);
        // It knows what was read before the request came.
        let n_known = self.read.lock().expect("lock").len();
        std::thread::sleep(self.delay);
        let trouble = self.troubles.lock().expect("lock").pop_front();
        // A client that has the reply may begin another request at once.
        self.n_running.fetch_sub(1, Ordering::SeqCst);
        self.reply(stream, (&asked, n_known), trouble)
    }

    /// Why a request is refused, if it is.
    fn refusal(&self, asked: &Json) -> Option<&'static str> {
        let has = |name: &str| asked.get(name).is_some_and(|value| !value.is_null());
        let has_system = asked.pointer("/messages/0/role") == Some(&json!("system"));
        match self.dialect {
            Dialect::OpenAi if has("max_tokens") => Some(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                 'max_completion_tokens' instead.",
            ),
            Dialect::OpenAi if has("prompt_logprobs") => {
                Some("Unrecognized request argument supplied: prompt_logprobs")
            }
            Dialect::Sglang
                if asked["return_prompt_token_ids"] == json!(true)
                    && asked["stream"] == json!(true) =>
            {
                Some("return_prompt_token_ids is not supported with streaming.")
            }
            Dialect::Bare if has_system => Some("System role not supported"),
            Dialect::Bare if asked["stream"] == json!(true) => Some("stream is not supported"),
            _ => None,
        }
    }

    /// What goes wrong before anything is read, if it does.
    fn failed(&self, stream: &TcpStream, trouble: Option<Trouble>) -> Option<std::io::Result<()>> {
        Some(match trouble {
            Some(Trouble::Busy) => {
                let head = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0.01\r\n\
                            content-length: 0\r\nconnection: close\r\n\r\n";
                { stream }.write_all(head.as_bytes())
            }
            Some(Trouble::Fails) => {
                let error = json!({"error": {"message": "the engine died"}});
                reply(stream, 500, "application/json", &error.to_string())
            }
            Some(Trouble::HangsUp) => Ok(()),
            Some(Trouble::Hangs) => {
                while !self.is_closed.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            }
            Some(Trouble::Html) => {
                reply(stream, 200, "text/html", "<!DOCTYPE html><h1>Welcome</h1>")
            }
            _ => return None,
        })
    }

    fn reply(
        &self,
        stream: &TcpStream,
        (asked, n_known): (&Json, usize),
        trouble: Option<Trouble>,
    ) -> std::io::Result<()> {
        if let Some(failed) = self.failed(stream, trouble) {
            return failed;
        }
        let failed = |status: u16, what: &str| {
            let error = json!({"error": {"message": what}});
            reply(stream, status, "application/json", &error.to_string())
        };
        if let Some(what) = self.refusal(asked) {
            return failed(400, what);
        }
        let messages = asked["messages"].as_array().cloned().unwrap_or_default();
        let content = |role: &str| {
            let of_role = messages
                .iter()
                .rev()
                .find(|message| message["role"] == json!(role));
            of_role
                .and_then(|message| message["content"].as_str())
                .unwrap_or("")
        };
        let user = content("user");
        let mut prompt = tokens(content("system"));
        prompt.extend(tokens(user));
        if prompt.len() > WINDOW {
            if self.dialect != Dialect::Ollama {
                let what = format!(
                    "This model's maximum context length is {WINDOW} tokens. However, you requested \
                     {} tokens.",
                    prompt.len()
                );
                return failed(400, &what);
            }
            prompt.drain(..prompt.len() - WINDOW / 2);
        }
        let schema = match self.dialect {
            Dialect::Vllm | Dialect::Sglang | Dialect::OpenAi | Dialect::LlamaCpp => {
                asked.pointer("/response_format/json_schema/schema")
            }
            _ => None,
        };
        let is_open = matches!(self.dialect, Dialect::Vllm | Dialect::Sglang);
        let top = (is_open && asked.get("top_logprobs").is_some()).then(|| top_logprobs(user));
        let said = tokens(&says(user, schema));
        let begin = match self.dialect {
            Dialect::Vllm | Dialect::Sglang if asked["continue_final_message"] == json!(true) => {
                Some(tokens(content("assistant")))
            }
            _ => None,
        };
        let begin = begin.unwrap_or_default();
        let n_cached = self.note_read(&prompt, n_known);
        let limit = asked
            .get("max_tokens")
            .or(asked.get("max_completion_tokens"));
        let limit = limit.and_then(Json::as_u64).unwrap_or(u64::MAX) as usize;
        let mut written: Vec<String> = match self.thinking {
            Thinking::Tags => tokens("<think> Let me see. </think>"),
            Thinking::Unopened => tokens("Let me see. </think>"),
            Thinking::Never | Thinking::Field => Vec::new(),
        };
        let stands = said.iter().zip(&begin).take_while(|(a, b)| a == b).count();
        match stands == begin.len() {
            true => written.extend_from_slice(&said[stands..]),
            // Behind a whole sentence that is not its own it has nothing to add.
            false if begin.concat().matches('.').count() == 1 => {}
            false => written.push(" …".to_owned()),
        }
        let finish = if written.len() > limit {
            "length"
        } else {
            "stop"
        };
        written.truncate(limit);
        if trouble == Some(Trouble::Empty) {
            written.clear();
        }
        self.n_decoded.fetch_add(written.len(), Ordering::SeqCst);
        let model = match trouble {
            Some(Trouble::OtherModel) => "another-model",
            _ => MODEL,
        };
        let usage = (self.dialect != Dialect::Bare).then(|| {
            let details = match self.dialect {
                Dialect::Vllm | Dialect::Sglang | Dialect::OpenAi => {
                    json!({"cached_tokens": n_cached})
                }
                _ => Json::Null,
            };
            json!({
                "prompt_tokens": prompt.len() + begin.len(),
                "completion_tokens": written.len(),
                "prompt_tokens_details": details,
            })
        });
        let scores = (self.dialect == Dialect::Vllm && asked.get("prompt_logprobs").is_some())
            .then(|| scores(prompt.len(), &begin, &said));
        let mut whole = json!({"model": model, "system_fingerprint": "fp", "usage": usage});
        if self.dialect == Dialect::LlamaCpp {
            whole["timings"] = json!({"prompt_n": prompt.len() - n_cached});
        }
        let reasoning = (self.thinking == Thinking::Field).then_some("Let me see.");
        if trouble == Some(Trouble::ErrorInside) {
            let error = json!({"error": {"message": "out of memory", "code": 500}});
            return reply(stream, 200, "application/json", &error.to_string());
        }
        if asked["stream"] != json!(true) {
            whole["choices"] = json!([{"index": 0, "finish_reason": finish, "message":
                {"role": "assistant", "content": written.concat(), "reasoning_content": reasoning}}]);
            whole["prompt_logprobs"] = json!(scores);
            if self.dialect == Dialect::Sglang && asked["return_prompt_token_ids"] == json!(true) {
                let mut named = self.named.lock().expect("lock");
                whole["choices"][0]["prompt_token_ids"] = json!(named.name(&prompt, &begin, user));
            }
            if let Some(top) = top {
                whole["choices"][0]["logprobs"] =
                    json!({"content": [{"token": "x", "top_logprobs": top}]});
            }
            return reply(stream, 200, "application/json", &whole.to_string());
        }
        let mut out = stream;
        out.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
              connection: close\r\n\r\n: a comment\n\n",
        )?;
        let mut event = |delta: Json, finish: Option<&str>| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            write!(
                out,
                "data: {}\n\n",
                json!({"model": model, "choices": [choice]})
            )
        };
        event(json!({"role": "assistant", "content": ""}), None)?;
        if let Some(reasoning) = reasoning {
            event(json!({"reasoning_content": reasoning}), None)?;
        }
        for (at, token) in written.iter().enumerate() {
            if at == 1 && trouble == Some(Trouble::CutOff) {
                return Ok(());
            }
            if at == 1 && trouble == Some(Trouble::NoJson) {
                return out.write_all(b"data: {\"choices\": [{\"delta\"\n\n");
            }
            event(json!({"content": token}), None)?;
        }
        if matches!(trouble, Some(Trouble::CutOff | Trouble::NoJson)) {
            return Ok(());
        }
        event(json!({}), Some(finish))?;
        whole["choices"] = json!([]);
        write!(out, "data: {whole}\n\ndata: [DONE]\n\n")
    }

    /// Tokens of a prompt that are known from one of the first `n_known`. It is known from now on.
    fn note_read(&self, prompt: &[String], n_known: usize) -> usize {
        let mut read = self.read.lock().expect("lock");
        let common =
            |known: &Vec<String>| known.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let n_cached = read.iter().take(n_known).map(common).max().unwrap_or(0);
        read.push(prompt.to_vec());
        n_cached
    }
}

/// The likeliest first tokens: the model is inclined to the first choice, and a choice that the
/// documents name gains.
fn top_logprobs(user: &str) -> Json {
    let (documents, instruction) = user.split_once("\n\n").unwrap_or(("", user));
    let listed = instruction
        .rsplit_once("nothing else: ")
        .map(|(_, list)| list);
    let choices: Vec<&str> = match listed {
        Some(list) => list.trim_end_matches('.').split(", ").collect(),
        None => vec!["No", "Yes"],
    };
    let documents = format!(
        "{documents} {}",
        instruction.split("\n\n").next().unwrap_or("")
    );
    let entries = choices.iter().enumerate().map(|(at, choice)| {
        let inclined = if at == 0 { -0.125 } else { -2.125 };
        let gained = if documents.contains(choice) { 1.5 } else { 0.0 };
        json!({"token": choice, "logprob": inclined + gained})
    });
    entries
        .chain([json!({"token": "**", "logprob": -9.0})])
        .collect()
}

/// How likely each token was: of a draft, as far as it is what the model says.
fn scores(n_prompt: usize, draft: &[String], said: &[String]) -> Vec<Json> {
    let likeliest =
        |token: &str| json!({"1": {"logprob": -0.125, "rank": 1, "decoded_token": token}});
    let mut scores = vec![Json::Null];
    scores.extend((1..n_prompt).map(|_| likeliest("…")));
    let mut is_said = true;
    for (at, token) in draft.iter().enumerate() {
        is_said &= said.get(at) == Some(token);
        scores.push(match is_said {
            true => likeliest(token),
            false => json!({
                "2": {"logprob": -2.125, "rank": 4, "decoded_token": token},
                "1": {"logprob": -0.125, "rank": 1, "decoded_token": said.get(at).map_or("<end>", String::as_str)},
            }),
        });
    }
    scores
}

fn reply(mut stream: &TcpStream, status: u16, kind: &str, body: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
