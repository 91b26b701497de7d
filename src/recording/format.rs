//! What stands in a recording, line by line.
//!
//! ```json
//! {"run":{"recording":2,"program":"0.1.0","model":{"name":"…","digest":"…"},"embedder":"…","streams":["docs","questions"],"views":[{…}],"resumed_at":null}}
//! {"row":{"stream":"docs","key":"hours","title":null,"text":"…","updated_at_ms":0,"is_timed":false,"supersedes":[],"columns":{"price":{"integer":12}}}}
//! {"gone":{"stream":"docs","key":"pets"}}
//! {"answer":{"view":"answers","context":"q","text":"…","finish":"stop","rung":"verify","exact":true,"digest":"…"}}
//! {"no_answer":{"view":"answers","context":"r"}}
//! {"end_of":{"epoch":7,"at_ms":1714566896789,"rows":2,"answers":2}}
//! ```
//! `run` comes first, and again wherever another engine went on with the file. Each `end_of` ends
//! one epoch: the lines since the one before are what it changed in rows, then in answers (those
//! that were checked and stand are among them). In a run that is `resumed_at` an epoch, the first
//! `end_of` ends what stood at that epoch, all of it. Views are plans, with every default said.
//! A row without `columns` has none. Each says its type: `boolean`, `integer`, `float` (as text, so
//! that it is the same when it is read), `text`, `timestamp` (milliseconds since 1970), `vector` (the
//! bits of each number of 32 bits) or `json` (canonical, as text). Format 1 had no columns, and is
//! read.
//! `digest` is that of an answer's tokens: two answers of one text and one digest are the same,
//! token for token.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_ask::{Answer, Finish, Rung};
use perennial_bank::ContextKey;
use perennial_rows::Float;
use perennial_views::Plan;
use serde::{Deserialize, Serialize};

use crate::state::{StoredRow, StoredValue};

/// The format written here, and the newest that is read.
pub(super) const FORMAT: u64 = 2;
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
    pub(super) row: RecordedRow,
}

/// A row as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedRow {
    title: Option<Arc<str>>,
    text: Arc<str>,
    updated_at_ms: i64,
    is_timed: bool,
    supersedes: Arc<[Arc<str>]>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    columns: BTreeMap<Arc<str>, RecordedValue>,
}

/// What stands in a column, as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordedValue {
    Boolean(bool),
    Integer(i64),
    /// JSON has no word for some floats, and readers of it round others.
    Float(#[serde(with = "float_as_text")] Float),
    Text(Arc<str>),
    Timestamp(i64),
    Vector(Arc<[u32]>),
    Json(Arc<str>),
}

/// A float as the shortest text that names it.
mod float_as_text {
    use std::borrow::Cow;

    use perennial_rows::Float;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(float: &Float, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&float.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Float, D::Error> {
        let text = Cow::<'_, str>::deserialize(from)?;
        let number = text.parse().map_err(D::Error::custom)?;
        Ok(Float::new(number))
    }
}

impl From<StoredRow> for RecordedRow {
    fn from(row: StoredRow) -> Self {
        let value = |value| match value {
            StoredValue::Boolean(is) => RecordedValue::Boolean(is),
            StoredValue::Integer(integer) => RecordedValue::Integer(integer),
            StoredValue::Float(float) => RecordedValue::Float(float),
            StoredValue::Text(text) => RecordedValue::Text(text),
            StoredValue::Timestamp(ms) => RecordedValue::Timestamp(ms),
            StoredValue::Vector(elements) => RecordedValue::Vector(elements),
            StoredValue::Json(json) => RecordedValue::Json(json),
        };
        let columns = row.columns.into_iter();
        Self {
            title: row.title,
            text: row.text,
            updated_at_ms: row.updated_at_ms,
            is_timed: row.is_timed,
            supersedes: row.supersedes,
            columns: columns.map(|(name, of)| (name, value(of))).collect(),
        }
    }
}

impl From<RecordedRow> for StoredRow {
    fn from(row: RecordedRow) -> Self {
        let value = |value| match value {
            RecordedValue::Boolean(is) => StoredValue::Boolean(is),
            RecordedValue::Integer(integer) => StoredValue::Integer(integer),
            RecordedValue::Float(float) => StoredValue::Float(float),
            RecordedValue::Text(text) => StoredValue::Text(text),
            RecordedValue::Timestamp(ms) => StoredValue::Timestamp(ms),
            RecordedValue::Vector(elements) => StoredValue::Vector(elements),
            RecordedValue::Json(json) => StoredValue::Json(json),
        };
        let columns = row.columns.into_iter();
        Self {
            title: row.title,
            text: row.text,
            updated_at_ms: row.updated_at_ms,
            is_timed: row.is_timed,
            supersedes: row.supersedes,
            columns: columns.map(|(name, of)| (name, value(of))).collect(),
        }
    }
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
                Some(row) => Line::Row(RunRow {
                    stream,
                    key,
                    row: row.into(),
                }),
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

#[cfg(test)]
mod tests {
    use perennial_rows::{Columns, Row, Value};
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
                .prop_map(Value::from),
            ".{0,4}".prop_map(|text| Value::text(text.as_str())),
            any::<i64>().prop_map(Value::Timestamp),
            prop::collection::vec(any::<f32>(), 0..3).prop_map(|v| Value::vector(&v)),
            prop::collection::vec(any::<i8>(), 0..3)
                .prop_map(|list| Value::from_json(&serde_json::json!(list))),
        ]
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_recorded(
            columns in prop::collection::btree_map("[a-c]{0,3}", value(), 0..4),
        ) {
            let columns: Columns = columns.into_iter().collect();
            let row = Row { columns, ..Row::of_text("text") };
            let recorded = RunRow {
                stream: "docs".to_owned(),
                key: "k".to_owned(),
                row: StoredRow::from(&row).into(),
            };
            let line = serde_json::to_string(&Line::Row(recorded)).expect("JSON");
            let read: Line = serde_json::from_str(&line).expect("a line");
            let Line::Row(read) = read else {
                panic!("{line}")
            };
            prop_assert_eq!(Row::from(StoredRow::from(read.row)), row);
        }
    }

    #[test]
    fn a_row_of_format_1_has_no_columns() {
        let line = r#"{"row":{"stream":"docs","key":"k","title":null,"text":"t","updated_at_ms":0,"is_timed":false,"supersedes":["a"]}}"#;
        let Line::Row(read) = serde_json::from_str(line).expect("a line") else {
            panic!("{line}")
        };
        let row = StoredRow::from(read.row.clone());
        assert_eq!((row.supersedes.len(), row.columns.len()), (1, 0));
        // One without columns is written as it was.
        assert_eq!(serde_json::to_string(&Line::Row(read)).expect("JSON"), line);
    }
}
