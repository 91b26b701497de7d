//! `/v1/embeddings` of the stub, in the dialect of several servers.
//!
//! A vector says how often each word is in a text, by the word's hash; it is not of length 1.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::{Dialect, MODEL, Shared, Stub, reply, tokens};

/// Elements of a vector, unless told.
pub(crate) const N_DIMENSIONS: usize = 24;
/// Tokens of a text that the model sees.
pub(crate) const TEXT_WINDOW: usize = 40;
/// Most texts of one request of one dialect, as of some servers.
pub(crate) const MAX_TEXTS: usize = 6;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Too many requests.
    Busy,
    /// An error of its own.
    Fails,
    /// It hangs up before it says anything.
    HangsUp,
    /// A page for people.
    Html,
    /// An error under a status of success.
    ErrorInside,
    /// One vector too few.
    Fewer,
    /// Two vectors of one text, and none of another.
    Twice,
    /// The last vector has another number of elements.
    Uneven,
    /// Another model answers.
    OtherModel,
}

/// What all such mishaps are.
pub(crate) const MISHAPS: [Mishap; 9] = [
    Mishap::Busy,
    Mishap::Fails,
    Mishap::HangsUp,
    Mishap::Html,
    Mishap::ErrorInside,
    Mishap::Fewer,
    Mishap::Twice,
    Mishap::Uneven,
    Mishap::OtherModel,
];

/// How a server embeds.
pub(super) struct Embedding {
    n_dimensions: Mutex<usize>,
    /// One for each request to come, if anything goes wrong with it.
    mishaps: Mutex<VecDeque<Option<Mishap>>>,
    /// Bodies of requests.
    asked: Mutex<Vec<Json>>,
}

impl Default for Embedding {
    fn default() -> Self {
        Self {
            n_dimensions: Mutex::new(N_DIMENSIONS),
            mishaps: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

impl Stub {
    /// Has each of the next requests for vectors go wrong, or not.
    pub(crate) fn mishap(&self, mishaps: impl IntoIterator<Item = Option<Mishap>>) {
        let of = &self.shared.embedding;
        of.mishaps.lock().expect("lock").extend(mishaps);
    }

    /// Has vectors from now on so many elements.
    pub(crate) fn embed_in(&self, n_dimensions: usize) {
        *self.shared.embedding.n_dimensions.lock().expect("lock") = n_dimensions;
    }

    /// Requests for vectors so far.
    pub(crate) fn embed_asked(&self) -> Vec<Json> {
        self.shared.embedding.asked.lock().expect("lock").clone()
    }
}

/// The vector of a text as the server knows it.
pub(crate) fn vector(text: &str, n_dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0f32; n_dimensions];
    // Of none there is nothing to say.
    for word in text.split_whitespace().filter(|_| n_dimensions > 0) {
        let hash = usize::from(blake3::hash(word.as_bytes()).as_bytes()[0]);
        vector[hash % n_dimensions] += 1.5;
    }
    vector
}

impl Shared {
    pub(super) fn embed(&self, mut stream: &TcpStream, body: &[u8]) -> std::io::Result<()> {
        let asked: Json = serde_json::from_slice(body).unwrap_or_default();
        let of = &self.embedding;
        of.asked.lock().expect("lock").push(asked.clone());
        std::thread::sleep(self.delay);
        let mishap = of.mishaps.lock().expect("lock").pop_front().flatten();
        let n_dimensions = *of.n_dimensions.lock().expect("lock");
        let failed = |status: u16, what: &str| {
            let error = json!({"error": {"message": what}});
            reply(stream, status, "application/json", &error.to_string())
        };
        match mishap {
            Some(Mishap::Busy) => {
                let head = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0.01\r\n\
                            content-length: 0\r\nconnection: close\r\n\r\n";
                return stream.write_all(head.as_bytes());
            }
            Some(Mishap::Fails) => return failed(500, "the engine died"),
            Some(Mishap::HangsUp) => return Ok(()),
            Some(Mishap::Html) => {
                return reply(stream, 200, "text/html", "<!DOCTYPE html><h1>Welcome</h1>");
            }
            Some(Mishap::ErrorInside) => {
                let error = json!({"error": {"message": "out of memory", "code": 500}});
                return reply(stream, 200, "application/json", &error.to_string());
            }
            _ => {}
        }
        let texts = asked["input"].as_array().cloned().unwrap_or_default();
        let texts: Vec<&str> = texts
            .iter()
            .map(|text| text.as_str().unwrap_or(""))
            .collect();
        if let Some((status, what)) = self.refuses(&asked, &texts) {
            return failed(status, &what);
        }
        let is_packed = asked["encoding_format"] == json!("base64")
            && matches!(
                self.dialect,
                Dialect::Vllm | Dialect::OpenAi | Dialect::LlamaCpp
            );
        let element = |x: &f32| match x.is_finite() {
            true => json!(x),
            false => Json::Null,
        };
        let mut entries: Vec<Json> = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let is_last = at + 1 == texts.len();
            // What is longer is shortened in silence by the one server that does not refuse it.
            let seen: String = tokens(text).into_iter().take(TEXT_WINDOW).collect();
            let mut vector = vector(&seen, n_dimensions);
            if text.contains("unspeakable") {
                vector[0] = f32::NAN;
            }
            if is_last && mishap == Some(Mishap::Uneven) {
                vector.push(1.0);
            }
            if is_last && mishap == Some(Mishap::Fewer) {
                continue;
            }
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            let embedding = match is_packed {
                true => json!(STANDARD.encode(bytes)),
                false => vector.iter().map(element).collect(),
            };
            let index = match is_last && mishap == Some(Mishap::Twice) {
                true => at.checked_sub(1).unwrap_or(1),
                false => at,
            };
            entries.push(match self.dialect {
                Dialect::Bare if mishap != Some(Mishap::Twice) => json!({"embedding": embedding}),
                _ => json!({"object": "embedding", "index": index, "embedding": embedding}),
            });
        }
        // The order of entries is said by their numbers.
        if self.dialect == Dialect::Vllm {
            entries.reverse();
        }
        let mut whole = json!({"object": "list", "data": entries});
        let is_other = mishap == Some(Mishap::OtherModel);
        if self.dialect != Dialect::Bare || is_other {
            whole["model"] = json!(if is_other { "another-model" } else { MODEL });
            let n_tokens: usize = texts.iter().map(|text| tokens(text).len()).sum();
            whole["usage"] = json!({"prompt_tokens": n_tokens, "total_tokens": n_tokens});
        }
        reply(stream, 200, "application/json", &whole.to_string())
    }

    /// Why a request for vectors is refused, if it is, and with which status.
    fn refuses(&self, asked: &Json, texts: &[&str]) -> Option<(u16, String)> {
        let longest = texts.iter().map(|text| tokens(text).len()).max();
        let longest = longest.unwrap_or(0);
        let is_longer = longest > TEXT_WINDOW;
        match self.dialect {
            Dialect::Bare if asked.get("encoding_format").is_some() => Some((
                422,
                "Extra inputs are not permitted: encoding_format".to_owned(),
            )),
            Dialect::Bare if texts.len() > MAX_TEXTS => {
                let n = texts.len();
                Some((
                    422,
                    format!("batch size {n} > maximum allowed batch size {MAX_TEXTS}"),
                ))
            }
            Dialect::OpenAi if texts.iter().any(|text| text.is_empty()) => {
                Some((400, "'$.input' is invalid: an empty string".to_owned()))
            }
            Dialect::LlamaCpp if is_longer => Some((
                500,
                format!(
                    "input ({longest} tokens) is too large to process. increase the physical batch size"
                ),
            )),
            Dialect::Ollama => None,
            _ if is_longer => Some((
                400,
                format!(
                    "This model's maximum context length is {TEXT_WINDOW} tokens, however you requested \
                     {longest} tokens."
                ),
            )),
            _ => None,
        }
    }
}
