//! What does a checkpoint want to read around a system's and a user's words?
//!
//! The checkpoint says so itself, by a Jinja template. It runs here with the dialect that
//! templates are written for (Python's methods, `raise_exception`, `tojson`,
//! `strftime_now`), with a bound on its steps: a template comes with a file from
//! elsewhere.
//!
//! A rendered prompt is a function of its messages. `strftime_now` therefore formats one
//! constant date, and thinking aloud is switched off where a template has the switch.
//!
//! Documents and questions never pass through the template. Messages hold [`SLOT`]s where
//! they will stand, and [`ChatTemplate::cut`] returns the text around the slots: only that
//! text may be encoded with special tokens parsed.

mod dialect;
mod markers;

use std::path::Path;

use minijinja::{Environment, context};
use serde::Serialize;
use serde_json::Value as Json;

use crate::{bounded, error::Error, tokenizer::Tokenizer, weights::gguf::Gguf};

/// Stands in a message for text that is put in after rendering. Templates trim, join and
/// compare messages; none of it touches a word without white space.
pub const SLOT: &str = "\u{E000}slot\u{E001}";

/// The template of files that have none. It is that of the ChatML family, to which most
/// small instruct models belong.
const CHATML: &str = "{% for message in messages %}\
    <|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const NAME: &str = "chat_template";
/// Where a GGUF has its template.
const GGUF_KEY: &str = "tokenizer.chat_template";

/// Longest template in bytes; the longest known have 30 KB.
const MAX_BYTES: usize = 1 << 20;
/// A file that holds a template among other things is not larger.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; may hold [`SLOT`]s.
    pub content: String,
}

impl Message {
    /// A message of this role and content.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// A checkpoint's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    is_fallback: bool,
    bos: String,
    eos: String,
    /// BOS is to stand first even if the template does not write it.
    wants_bos: bool,
}

impl ChatTemplate {
    /// The template in a GGUF's metadata.
    pub fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Self, Error> {
        Self::new(gguf.text(GGUF_KEY), tokenizer)
    }

    /// Whether a GGUF's metadata have a template.
    pub(crate) fn is_in(gguf: &Gguf) -> bool {
        gguf.text(GGUF_KEY).is_some()
    }

    /// The template in a folder: `chat_template.jinja`, or the text in
    /// `tokenizer_config.json` (of several, the one named `default`).
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = bounded::read_if_there(&path, MAX_FILE_BYTES)?;
            let text = bytes.map(String::from_utf8).transpose();
            text.map_err(|error| Error::Corrupt {
                path,
                reason: error.to_string(),
            })
        };
        if let Some(source) = read("chat_template.jinja")? {
            return Self::new(Some(&source), tokenizer);
        }
        for name in ["chat_template.json", "tokenizer_config.json"] {
            let Some(text) = read(name)? else { continue };
            let json: Json = serde_json::from_str(&text).map_err(|error| Error::Corrupt {
                path: folder.join(name),
                reason: error.to_string(),
            })?;
            let templates = &json["chat_template"];
            let default = templates.as_array().and_then(|all| {
                all.iter().find(|template| template["name"] == "default")?["template"].as_str()
            });
            if let Some(source) = templates.as_str().or(default) {
                return Self::new(Some(source), tokenizer);
            }
        }
        Self::new(None, tokenizer)
    }

    /// A template by its Jinja source; `None` stands for ChatML, if the vocabulary has its
    /// tokens.
    pub fn new(source: Option<&str>, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let is_fallback = source.is_none();
        if is_fallback && tokenizer.token_id("<|im_start|>").is_none() {
            return Err(Error::Template(
                "the checkpoint has none, and its vocabulary lacks ChatML's <|im_start|>: it is \
                 probably a base model; an instruct model is needed"
                    .into(),
            ));
        }
        let spelling = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
        Self::compile(
            source.unwrap_or(CHATML),
            is_fallback,
            spelling(tokenizer.bos()),
            spelling(tokenizer.eos()),
            tokenizer.wants_bos(),
        )
    }

    fn compile(
        source: &str,
        is_fallback: bool,
        bos: String,
        eos: String,
        wants_bos: bool,
    ) -> Result<Self, Error> {
        if source.len() > MAX_BYTES {
            return Err(Error::Template(format!(
                "{} bytes, the limit is {MAX_BYTES}",
                source.len()
            )));
        }
        let mut environment = dialect::environment();
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(broken)?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            is_fallback,
            bos,
            eos,
            wants_bos,
        })
    }

    /// Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Is this ChatML because the checkpoint has no template?
    pub fn is_fallback(&self) -> bool {
        self.is_fallback
    }

    /// The prompt of a conversation; `add_generation_prompt` opens the model's next turn.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let template = self.environment.get_template(NAME).map_err(broken)?;
        let rendered = template
            .render(context! {
                messages,
                add_generation_prompt,
                bos_token => self.bos,
                eos_token => self.eos,
                enable_thinking => false,
            })
            .map_err(broken)?;
        if self.wants_bos && !rendered.starts_with(&self.bos) {
            return Ok(format!("{}{rendered}", self.bos));
        }
        Ok(rendered)
    }

    /// The prompt of a conversation that opens the model's next turn, cut at its slots: one
    /// text more than the messages hold [`SLOT`]s, in their order.
    pub fn cut(&self, messages: &[Message]) -> Result<Vec<String>, Error> {
        let expected: usize = messages
            .iter()
            .map(|m| m.content.matches(SLOT).count())
            .sum();
        let parts: Vec<String> = self
            .render(messages, true)?
            .split(SLOT)
            .map(str::to_owned)
            .collect();
        if parts.len() != expected + 1 {
            return Err(Error::Template(format!(
                "messages with {expected} slots were rendered with {}: it leaves out or repeats \
                 messages",
                parts.len() - 1
            )));
        }
        Ok(parts)
    }
}

impl ChatTemplate {
    /// The text before and behind what a user says under the instruction `system`. A template that
    /// knows no system, or leaves out what it says, gets the instruction at the beginning of what the
    /// user says.
    ///
    /// # Errors
    /// What the template refuses in that form, too.
    pub fn frame(&self, system: &str) -> Result<[String; 2], Error> {
        let messages = [
            Message::new(Role::System, system),
            Message::new(Role::User, SLOT),
        ];
        if let Ok(parts) = self.cut(&messages)
            && parts[0].contains(system)
        {
            return Ok(pair(parts));
        }
        let folded = Message::new(Role::User, format!("{system}\n\n{SLOT}"));
        let parts = self.cut(&[folded])?;
        if !parts[0].contains(system) {
            return Err(Error::Template(
                "it leaves out how the user's message begins".into(),
            ));
        }
        Ok(pair(parts))
    }
}

impl ChatTemplate {
    /// The text between what the model said and what the user says next, in a conversation that begins and is
    /// asked as [`frame`](Self::frame) has it. Nothing where the template knows no such turns: it refuses them,
    /// frames them otherwise, or ends the model's words as it does the user's.
    pub fn turn(&self, system: &str) -> Option<String> {
        let [opening, closing] = self.frame(system).ok()?;
        let said = |role| Message::new(role, SLOT);
        let folded = Message::new(Role::User, format!("{system}\n\n{SLOT}"));
        let apart = vec![Message::new(Role::System, system), said(Role::User)];
        let more = [said(Role::Assistant), said(Role::User)];
        let mut found = [apart, vec![folded]].into_iter().filter_map(|first| {
            let parts = self.cut(&[&first[..], &more].concat()).ok()?;
            let [begin, _, between, end] = <[String; 4]>::try_from(parts).ok()?;
            let is_framed = begin == opening && end == closing;
            (is_framed && between != closing).then_some(between)
        });
        found.next()
    }
}

/// The two texts around one slot.
fn pair(mut parts: Vec<String>) -> [String; 2] {
    let closing = parts.pop().unwrap_or_default();
    [parts.pop().unwrap_or_default(), closing]
}

/// The template library's error with its chain of causes.
fn broken(error: minijinja::Error) -> Error {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    Error::Template(message)
}

#[cfg(test)]
mod tests;
