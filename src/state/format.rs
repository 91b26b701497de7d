//! What stands in a state directory, byte by byte.
//!
//! One file, `state.redb`, a database of the library redb (4.x): copy-on-write B-trees with
//! checksummed pages; a transaction is there whole or not at all. It comes to be under
//! another name (`state.redb….new`) and is renamed when it is whole. Its tables:
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `format` | `"version"` | u64, [`VERSION`] |
//! | `manifest` | `"epoch"` | u64, the last committed epoch |
//! | | `"quarantined"` | u64, the number that the next record refused gets |
//! | | `"origin"` | u64 drawn at random: which history of epochs this is |
//! | | `"history_bytes"` | u64, bytes of all undo records, keys included |
//! | | `"fallen back: VIEW"` | u64, the epoch after which the view's audits had it fall back |
//! | | `"former origin: HEX"` | u64, an origin that this state had before it was restored from a backup |
//! | | `"deleted: N:STREAM…KEY"` | u64, the two's complement of an i64: when a key of a stream (whose name has N bytes) was deleted, in milliseconds since 1970 |
//! | | `"dead letters: PATH"` | u64, 1: a file that a sink's refused rows went to, by its absolute path |
//! | | `"replaces: SINK"` | u64, 1: the sink's next delivery is the first since the state was restored |
//! | `offsets` | stream | [`Offset`](perennial_connectors::Offset) to resume from |
//! | `schemas` | stream | [`StoredSchema`]: the columns of its rows |
//! | `documents` | (stream, key) | [`StoredRow`]; its columns are [`StoredValue`]s, by name |
//! | `views` | view | 32 bytes: digest of what its answers depend on besides rows |
//! | `answers` | (view, context) | [`StoredAnswer`] |
//! | `vectors` | 32 bytes: digest of embedding model and text | f32, little-endian |
//! | `outputs` | 32 bytes: digest of provider, task and values | [`StoredValue`], or none for NULL |
//! | `sinks` | sink | view that it takes |
//! | `quarantine` | u64 number | [`Quarantined`](crate::engine::Quarantined) |
//! | `receipts` | u64, rising | [`Receipt`](crate::engine::Receipt) of a document forgotten |
//! | `resubmitted` | u64 number | [`Resubmitted`], to be taken in by the next engine |
//! | `outbox` | (sink, epoch) | [`Delivery`](perennial_connectors::Delivery) that it is owed |
//! | `upserts` | (view of a query, key) | 32 bytes: digest of the row that its sinks have or are owed |
//! | `epochs` | u64 epoch | [`StoredEpoch`](super::history::StoredEpoch), of each in the history |
//! | `undo_rows` | (epoch, stream, key) | what stood in `documents` before it; none: nothing |
//! | `undo_answers` | (epoch, view, context) | what stood in `answers` before it; none: nothing |
//!
//! Beside it, in `fragments/`, stand segments of KV fragments, `00000000.kv` and so on; their bytes
//! are described in `bank/src/cold_tier/segment.rs`. They are a cache: without them nothing is
//! lost.
//!
//! Keys and numbers are redb's own types: a number is little-endian; a text its UTF-8; of a pair
//! the first text stands behind its length, the second up to the end.
//!
//! Structures are written by [postcard 1.x](https://postcard.jamesmunns.com/wire-format), their
//! fields one after the other without names:
//!
//! | type | bytes |
//! | --- | --- |
//! | u64, u32, usize | 7 bits a byte, least first, the eighth bit set but in the last |
//! | i64, i32 | the same of 0, -1, 1, -2, …, counted from 0 (zigzag) |
//! | bool, u8 | one |
//! | f32, f64 | four, eight; little-endian |
//! | text, list, map | how many bytes or elements, as u64; then these, a map's by key |
//! | `[u8; 32]` | 32 |
//! | `Option` | 0, or 1 and the value |
//! | `Result` | 0 and the value, or 1 and the error |
//! | enumeration | the number of its case, from 0 in their order, as u32; then the case's fields |
//! | path | as text |
//! | `Duration` | seconds as u64, nanoseconds as u32 |
//!
//! So the order of fields and cases is the format: a change to either is a new [`VERSION`], but
//! for a case that is added behind the last, and for what stands behind a whole structure, which older
//! programs do not read. Golden files hold it (`golden/`). What stands behind one:
//!
//! | behind | where it is known |
//! | --- | --- |
//! | [`StoredAnswer`] | [`PassagesRead`]: usize read, usize of how many |
//! | [`Receipt`] | usize: dead letters that went, where there were any |
//! | [`Delivery`] | a list with an element a row: none, or u64 read and u64 of how many |
//!
//! Versions: 1 lacked dependencies, and is refused. 2 had the tables `format`, `manifest` (of it
//! `"epoch"`), `offsets`, `documents`, `views`, `answers` and `vectors`, and in `offsets` no cases
//! behind `Sequence`. 3 lacked the history, and in receipts the epochs of it that were cut. 4 lacked
//! the columns of rows, 5 the outputs of tasks. 6 lacked `upserts`, and in deliveries all but answers.
//! 7 lacked `schemas`. Those from 2 on become 8 when they are opened to go on (`migration.rs`).

use std::sync::Arc;
use std::time::Duration;

use perennial_ask::{
    Answer, AnswerText, Dependencies, Outcome, PassagesRead, Rung, SubParagraph, Work,
};
use perennial_connectors::{Delivery, Output};
use perennial_rows::{Float, Key, Row, Schema, Value};
use redb::TableDefinition;
use serde::{Deserialize, Serialize};

use crate::engine::Receipt;

/// The format written here, and the newest that is read.
pub(super) const VERSION: u64 = 8;
/// The database's name in the directory.
pub(super) const FILE: &str = "state.redb";

pub(super) const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
pub(super) const MANIFEST: TableDefinition<'_, &str, u64> = TableDefinition::new("manifest");
pub(super) const OFFSETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("offsets");
pub(super) const SCHEMAS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("schemas");
pub(super) const DOCUMENTS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("documents");
pub(super) const VIEWS: TableDefinition<'_, &str, [u8; 32]> = TableDefinition::new("views");
pub(super) const ANSWERS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("answers");
pub(super) const VECTORS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("vectors");
pub(super) const OUTPUTS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("outputs");
pub(super) const SINKS: TableDefinition<'_, &str, &str> = TableDefinition::new("sinks");
pub(super) const OUTBOX: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("outbox");
pub(super) const UPSERTS: TableDefinition<'_, (&str, &str), [u8; 32]> =
    TableDefinition::new("upserts");
pub(super) const QUARANTINE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("quarantine");
pub(super) const RESUBMITTED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("resubmitted");
pub(super) const RECEIPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("receipts");
pub(super) const EPOCHS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("epochs");
pub(super) const UNDO_ROWS: TableDefinition<'_, (u64, &str, &str), Option<&[u8]>> =
    TableDefinition::new("undo_rows");
pub(super) const UNDO_ANSWERS: TableDefinition<'_, (u64, &str, &str), Option<&[u8]>> =
    TableDefinition::new("undo_answers");

/// Calls a macro with the names of all tables: one that is not among them is not made, is lost when
/// the file is written anew, and is not backed up.
macro_rules! all_tables {
    ($call:ident) => {
        $call!(
            FORMAT,
            MANIFEST,
            OFFSETS,
            SCHEMAS,
            DOCUMENTS,
            VIEWS,
            ANSWERS,
            VECTORS,
            OUTPUTS,
            SINKS,
            OUTBOX,
            UPSERTS,
            QUARANTINE,
            RESUBMITTED,
            RECEIPTS,
            EPOCHS,
            UNDO_ROWS,
            UNDO_ANSWERS
        )
    };
}
pub(super) use all_tables;

/// Key of the format's version.
pub(super) const VERSION_KEY: &str = "version";
/// Key of the last committed epoch.
pub(super) const EPOCH_KEY: &str = "epoch";
/// Key of the next number in quarantine.
pub(super) const QUARANTINED_KEY: &str = "quarantined";
/// Key of the origin.
pub(super) const ORIGIN_KEY: &str = "origin";
/// Keys of views that fell back to exact answers, before their names; each with the epoch at which.
pub(super) const FALLEN_PREFIX: &str = "fallen back: ";
/// Keys of the origins that the state had before it was restored, before their 16 hexadecimal digits.
pub(super) const FORMER_PREFIX: &str = "former origin: ";
/// Keys of records that were deleted, before their streams.
pub(super) const DELETED_PREFIX: &str = "deleted: ";
/// Keys of sinks whose next delivery replaces what former origins delivered, before their names.
pub(super) const REPLACES_PREFIX: &str = "replaces: ";
/// Keys of files of dead letters, before their paths.
pub(super) const LETTERS_PREFIX: &str = "dead letters: ";
/// Key of the bytes of the history.
pub(super) const HISTORY_BYTES_KEY: &str = "history_bytes";

/// A row of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRow {
    /// What a document calls itself.
    pub title: Option<Arc<str>>,
    /// Its text, or a context's.
    pub text: Arc<str>,
    /// Milliseconds since 1970, by its source's account.
    pub updated_at_ms: i64,
    /// Whether that time is the row's own claim.
    pub is_timed: bool,
    /// Keys of rows that it makes obsolete.
    pub supersedes: Arc<[Arc<str>]>,
    /// What it holds besides, by name.
    pub columns: Vec<(Arc<str>, StoredValue)>,
}

/// Which columns the rows of a stream have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredSchema {
    /// Whichever their records have.
    Any,
    /// Those that are declared.
    Declared(Schema),
}

impl StoredSchema {
    /// Of columns, where these are declared.
    pub(crate) fn of(declared: Option<&Schema>) -> Self {
        declared.cloned().map_or(Self::Any, Self::Declared)
    }
}

/// What stands in a column of a row; what is null is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredValue {
    Boolean(bool),
    Integer(i64),
    Float(Float),
    Text(Arc<str>),
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// The bits of each `f32`.
    Vector(Arc<[u32]>),
    /// Canonical JSON of a list or an object.
    Json(Arc<str>),
}

impl StoredValue {
    /// As it is stored; none of null.
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Boolean(is) => Self::Boolean(*is),
            Value::Integer(integer) => Self::Integer(*integer),
            Value::Float(float) => Self::Float(*float),
            Value::Text(text) => Self::Text(text.clone()),
            Value::Timestamp(ms) => Self::Timestamp(*ms),
            Value::Vector(elements) => Self::Vector(elements.clone()),
            Value::Json(json) => Self::Json(json.clone()),
        })
    }
}

impl From<StoredValue> for Value {
    fn from(stored: StoredValue) -> Self {
        match stored {
            StoredValue::Boolean(is) => Self::Boolean(is),
            StoredValue::Integer(integer) => Self::Integer(integer),
            StoredValue::Float(float) => Self::Float(float),
            StoredValue::Text(text) => Self::Text(text),
            StoredValue::Timestamp(ms) => Self::Timestamp(ms),
            StoredValue::Vector(elements) => Self::Vector(elements),
            StoredValue::Json(json) => Self::Json(json),
        }
    }
}

impl From<&Row> for StoredRow {
    fn from(row: &Row) -> Self {
        let columns = row.columns.shared();
        let column = |(name, value): (&Arc<str>, &Value)| {
            let value = StoredValue::of(value)?;
            Some((name.clone(), value))
        };
        Self {
            title: row.title.clone(),
            text: row.text.clone(),
            updated_at_ms: row.updated_at_ms,
            is_timed: row.is_timed,
            supersedes: match row.supersedes.is_empty() {
                true => Arc::default(),
                false => row.supersedes.iter().map(Key::text).collect(),
            },
            columns: columns.filter_map(column).collect(),
        }
    }
}

impl From<StoredRow> for Row {
    fn from(stored: StoredRow) -> Self {
        let supersedes = stored.supersedes.iter();
        let columns = stored.columns.into_iter();
        Self {
            title: stored.title,
            text: stored.text,
            updated_at_ms: stored.updated_at_ms,
            is_timed: stored.is_timed,
            supersedes: supersedes.map(|key| Key::new(key.clone())).collect(),
            columns: columns
                .map(|(name, value)| (name, Value::from(value)))
                .collect(),
        }
    }
}

/// A row that a person sent in the place of one that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resubmitted {
    /// The stream.
    pub stream: String,
    /// Its key.
    pub key: String,
    /// The row; none deletes it.
    pub row: Option<StoredRow>,
}

/// The answer of a context and how it was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredAnswer {
    /// The request that it was given to; none for an error or a provisional answer.
    pub request: Option<[u8; 32]>,
    /// The answer.
    pub answer: Answer,
    /// Its tokens: the draft of the next refresh.
    pub tokens: Arc<[u32]>,
    /// Its sentences with their sources.
    pub sub_paragraphs: Vec<SubParagraph>,
    /// The epoch of its last refresh.
    pub epoch: u64,
    /// The rung of its last refresh.
    pub rung: Rung,
    /// Work of its last refresh.
    pub work: Work,
    /// Least difference of logits.
    pub min_margin: f32,
    /// What each sentence depends on, by passage of its layout.
    pub dependencies: Dependencies,
    /// Share of attention that went to borrowed fragments; an exact answer has none.
    pub drift: Option<f32>,
    /// Duration of its last refresh.
    pub elapsed: Duration,
    /// How many passages it was written over, and of how many. It stands behind the structure
    /// ([`encode_answer`]).
    #[serde(skip)]
    pub passages: Option<PassagesRead>,
}

impl StoredAnswer {
    /// As the outcome of a call that was not made.
    pub(super) fn kept(self) -> Option<Outcome> {
        let AnswerText { text, finish } = self.answer.ok()?;
        Some(Outcome {
            answer: AnswerText { text, finish },
            tokens: self.tokens,
            rung: Rung::Keep,
            work: Work {
                n_from_scratch: self.work.n_from_scratch,
                ..Work::default()
            },
            sub_paragraphs: self.sub_paragraphs,
            min_margin: self.min_margin,
            is_exact: true,
            regret: 0.0,
            draft: None,
            drift: 0.0,
            dependencies: self.dependencies,
            live: Arc::default(),
            log: None,
        })
    }
}

/// The bytes of a structure.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("these structures have lengths")
}

/// A structure, `what`, from its bytes.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    what: &str,
    bytes: &'a [u8],
) -> Result<T, redb::Error> {
    postcard::from_bytes(bytes).map_err(|error| redb::Error::Corrupted(format!("{what}: {error}")))
}

/// A structure, `what`, and what stands behind it, if anything does.
fn decode_with<'a, T: Deserialize<'a>, Behind: Deserialize<'a>>(
    what: &str,
    bytes: &'a [u8],
) -> Result<(T, Option<Behind>), redb::Error> {
    let corrupted = |error| redb::Error::Corrupted(format!("{what}: {error}"));
    let (value, behind) = postcard::take_from_bytes(bytes).map_err(corrupted)?;
    let behind = (!behind.is_empty()).then(|| postcard::from_bytes(behind).map_err(corrupted));
    Ok((value, behind.transpose()?))
}

/// The bytes of an answer: behind it, where it is known, how many passages were read.
pub(super) fn encode_answer(answer: &StoredAnswer) -> Vec<u8> {
    let mut bytes = encode(answer);
    if let Some(passages) = &answer.passages {
        bytes.extend(encode(passages));
    }
    bytes
}

/// An answer from its bytes.
pub(super) fn decode_answer(bytes: &[u8]) -> Result<StoredAnswer, redb::Error> {
    let (answer, passages) = decode_with("an answer", bytes)?;
    Ok(StoredAnswer { passages, ..answer })
}

/// The bytes of a receipt: behind it, where there were any, how many letters went.
pub(super) fn encode_receipt(receipt: &Receipt) -> Vec<u8> {
    let mut bytes = encode(receipt);
    if receipt.n_letters == 0 {
        // One byte, of its last field.
        bytes.pop();
    }
    bytes
}

/// A receipt from its bytes.
pub(super) fn decode_receipt(bytes: &[u8]) -> Result<Receipt, redb::Error> {
    // Where nothing is said of letters there were none; behind a number the byte is not read.
    decode("a receipt", &[bytes, &[0][..]].concat())
}

/// How many passages an answer was written over and of how many, by row of a delivery.
type PassagesByRow = Vec<Option<(u64, u64)>>;

/// The bytes of a delivery: behind it, where any of its rows knows them, how many passages were read.
pub(super) fn encode_delivery(delivery: &Delivery) -> Vec<u8> {
    let passages = delivery.rows.iter().map(|row| match &row.output {
        Some(Output::Answer(answer)) => answer.passages,
        _ => None,
    });
    let passages: PassagesByRow = passages.collect();
    let mut bytes = encode(delivery);
    if passages.iter().any(Option::is_some) {
        bytes.extend(encode(&passages));
    }
    bytes
}

/// A delivery from its bytes.
pub(super) fn decode_delivery(bytes: &[u8]) -> Result<Delivery, redb::Error> {
    let (mut delivery, passages): (Delivery, Option<PassagesByRow>) =
        decode_with("a delivery", bytes)?;
    for (row, passages) in delivery.rows.iter_mut().zip(passages.unwrap_or_default()) {
        if let Some(Output::Answer(answer)) = &mut row.output {
            answer.passages = passages;
        }
    }
    Ok(delivery)
}

/// The bytes of a vector.
pub(super) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A vector from its bytes.
pub(super) fn vector(bytes: &[u8]) -> Result<Vec<f32>, redb::Error> {
    let (whole, rest) = bytes.as_chunks::<4>();
    match rest.is_empty() {
        true => Ok(whole.iter().map(|x| f32::from_le_bytes(*x)).collect()),
        false => Err(redb::Error::Corrupted(
            "a vector of an odd length".to_owned(),
        )),
    }
}
