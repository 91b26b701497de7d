//! What stands in a recording, line by line.
//!
//! ```json
//! {"run":{"recording":1,"program":"0.1.0","model":{"name":"…","digest":"…"},"embedder":"…","streams":["docs","questions"],"views":[{…}],"resumed_at":null}}
//! {"row":{"stream":"docs","key":"hours","title":null,"text":"…","updated_at_ms":0,"is_timed":false,"supersedes":[]}}
//! {"gone":{"stream":"docs","key":"pets"}}
//! {"answer":{"view":"answers","context":"q","text":"…","finish":"stop","rung":"verify","exact":true,"digest":"…"}}
//! {"no_answer":{"view":"answers","context":"r"}}
//! {"end_of":{"epoch":7,"at_ms":1714566896789,"rows":2,"answers":2}}
//! ```
//! `run` comes first, and again wherever another engine went on with the file. Each `end_of` ends
//! one epoch: the lines since the one before are what it changed in rows, then in answers (those
//! that were checked and stand are among them). In a run that is `resumed_at` an epoch, the first
//! `end_of` ends what stood at that epoch, all of it. Views are plans, with every default said.
//! `digest` is that of an answer's tokens: two answers of one text and one digest are the same,
//! token for token.

use std::sync::Arc;

use perennial_ask::{Answer, Finish, Rung};
use perennial_bank::ContextKey;
use perennial_views::Plan;
use serde::{Deserialize, Serialize};

use crate::state::StoredRow;

/// The format written here, and the newest that is read.
pub(super) const FORMAT: u64 = 1;
/// No line is longer, in bytes: a reader allocates no more for one.
pub(super) const LINE_LIMIT: u64 = 256 << 20;
/// How the first line begins.
pub(super) const HEAD: &str = "{\"run\":{\"recording\":";

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Run(Run),
    Row(RunRow),
    Gone(Gone),
    Answer(RunAnswer),
    NoAnswer(NoAnswer),
    EndOf(EndOf),
}

/// An engine that recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The format of the lines up to the next run.
    pub(super) recording: u64,
    /// Version of the program.
    pub(super) program: String,
    pub(super) model: RecordedModel,
    /// Digest of the embedding model.
    pub(super) embedder: String,
    pub(super) streams: Vec<String>,
    pub(super) views: Vec<Plan>,
    /// The epoch that it went on from.
    pub(super) resumed_at: Option<u64>,
}

impl Run {
    /// An engine over these models, streams and views, that goes on from an epoch or from
    /// nothing.
    pub(crate) fn new(
        model: RecordedModel,
        embedder: String,
        streams: Vec<String>,
        views: Vec<Plan>,
        resumed_at: Option<u64>,
    ) -> Self {
        Self {
            recording: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            model,
            embedder,
            streams,
            views,
            resumed_at,
        }
    }
}

/// A model as a recording names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedModel {
    /// What it was called, if it had a name.
    pub name: Option<String>,
    /// Digest of weights, kernels, tokenizer and templates.
    pub digest: String,
}

impl std::fmt::Display for RecordedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.as_deref().unwrap_or("a model without a name");
        let short: String = self.digest.chars().take(12).collect();
        write!(f, "{name} (digest {short}…)")
    }
}

/// A row as an epoch took it in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunRow {
    pub(super) stream: String,
    pub(super) key: String,
    #[serde(flatten)]
    pub(super) row: StoredRow,
}

/// A row that an epoch took away.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Gone {
    pub(super) stream: String,
    pub(super) key: String,
}

/// An answer of a context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunAnswer {
    pub(super) view: String,
    pub(super) context: String,
    #[serde(flatten)]
    pub(super) answer: RecordedAnswer,
}

/// A context that has no answer any more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NoAnswer {
    pub(super) view: String,
    pub(super) context: String,
}

/// The end of an epoch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndOf {
    pub(super) epoch: u64,
    /// When it was complete, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// Lines about rows.
    pub(super) rows: usize,
    /// Lines about answers.
    pub(super) answers: usize,
}

/// An answer as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedAnswer {
    /// Its text; none if there is an error instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why there is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// How it was reached.
    pub rung: Rung,
    /// Whether a run from scratch gives the same.
    pub exact: bool,
    /// Digest of its tokens.
    pub digest: String,
}

impl RecordedAnswer {
    pub(crate) fn of(answer: &Answer, tokens: &[u32], rung: Rung, exact: bool) -> Self {
        let (text, finish) = match answer {
            Ok(answer) => (Some(answer.text.to_string()), Some(answer.finish)),
            Err(_) => (None, None),
        };
        let mut hash = blake3::Hasher::new_derive_key("perennial 1 recorded answer tokens");
        for token in tokens {
            hash.update(&token.to_le_bytes());
        }
        Self {
            text,
            error: answer.as_ref().err().map(ToString::to_string),
            finish,
            rung,
            exact,
            digest: hex(&hash.finalize().as_bytes()[..16]),
        }
    }

    /// Whether both are the same answer, token for token, however they were reached.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.text, &self.error, self.finish, &self.digest)
            == (&other.text, &other.error, other.finish, &other.digest)
    }
}

/// What one epoch changed, or what stood when a run began.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordedEpoch {
    pub(crate) epoch: u64,
    pub(crate) at_ms: i64,
    /// Stream, key, and the row or its end.
    pub(crate) rows: Vec<(Arc<str>, String, Option<StoredRow>)>,
    pub(crate) answers: Vec<EpochAnswer>,
}

/// What an epoch left a context with.
#[derive(Clone, Debug)]
pub(crate) struct EpochAnswer {
    pub(crate) view: Arc<str>,
    pub(crate) context: ContextKey,
    /// None if it has no answer any more.
    pub(crate) now: Option<RecordedAnswer>,
}

impl RecordedEpoch {
    /// Its lines but the last, and that.
    pub(super) fn lines(&self) -> (impl Iterator<Item = Line> + '_, Line) {
        let rows = self.rows.iter().map(|(stream, key, row)| {
            let (stream, key) = (stream.to_string(), key.clone());
            match row.clone() {
                Some(row) => Line::Row(RunRow { stream, key, row }),
                None => Line::Gone(Gone { stream, key }),
            }
        });
        let answers = self.answers.iter().map(|answer| {
            let (view, context) = (answer.view.to_string(), answer.context.to_string());
            match answer.now.clone() {
                Some(answer) => Line::Answer(RunAnswer {
                    view,
                    context,
                    answer,
                }),
                None => Line::NoAnswer(NoAnswer { view, context }),
            }
        });
        let end = EndOf {
            epoch: self.epoch,
            at_ms: self.at_ms,
            rows: self.rows.len(),
            answers: self.answers.len(),
        };
        (rows.chain(answers), Line::EndOf(end))
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
