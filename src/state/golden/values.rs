//! What golden files hold: a value of every structure that is stored, and of every case in one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use perennial_ask::dependency::Read;
use perennial_ask::{
    AnswerText, CallError, Dependencies, Finish, Rung, Source, SubParagraph, TaskDigest, Work,
};
use perennial_bank::DocumentKey;
use perennial_connectors::{
    Delivery, NextMessage, Offset, Output, OutputAnswer, OutputRow, OutputTuple, Revision,
};
use perennial_rows::{Column, Float, Schema, Type, Value};

use crate::engine::{Quarantined, Receipt};
use crate::state::format::{self, Resubmitted, StoredAnswer, StoredRow, StoredSchema, StoredValue};
use crate::state::history::StoredEpoch;
use crate::state::{AnswerChanges, RowChanges};

pub(super) const ORIGIN: u64 = 0x0123_4567_89ab_cdef;
pub(super) const EPOCH: u64 = 300;
pub(super) const VECTOR: ([u8; 32], [f32; 3]) = ([9; 32], [1.0, -2.5, 0.0]);
pub(super) const VIEW: [u8; 32] = [7; 32];
/// When both epochs of the present version's directory were committed.
pub(super) const COMMITTED_AT_MS: i64 = 1_714_566_896_789;
/// What a row said the epoch before.
pub(super) const OLDER: &str = "The library opens at ten.\n";

pub(super) fn text(text: &str) -> Arc<str> {
    text.into()
}

/// Rows that there were from the beginning.
pub(super) fn rows_of_4() -> BTreeMap<&'static str, StoredRow> {
    let plain = StoredRow {
        text: text("When does it open?"),
        updated_at_ms: -1,
        ..StoredRow::default()
    };
    let full = StoredRow {
        title: Some(text("Hours")),
        text: text("The library opens at nine.\n"),
        updated_at_ms: 1_714_566_896_789,
        is_timed: true,
        supersedes: [text("old"), text("older")].into(),
        columns: Vec::new(),
    };
    BTreeMap::from([("full", full), ("plain", plain)])
}

/// Rows of the present version: one has a value of every kind.
pub(super) fn rows() -> BTreeMap<&'static str, StoredRow> {
    let values = [
        StoredValue::Boolean(true),
        StoredValue::Integer(-300),
        StoredValue::Float(Float::new(0.5)),
        StoredValue::Text(text("nine")),
        StoredValue::Timestamp(1_714_566_896_789),
        StoredValue::Vector([1, 0x3f80_0000].into()),
        StoredValue::Json(text("[1,2]")),
    ];
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let columns = names.into_iter().map(text).zip(values);
    let columned = StoredRow {
        text: text("The desk opens at nine."),
        columns: columns.collect(),
        ..StoredRow::default()
    };
    let mut rows = rows_of_4();
    rows.insert("columned", columned);
    rows
}

pub(super) fn offsets() -> BTreeMap<&'static str, Offset> {
    let path = PathBuf::from("docs/a.jsonl");
    let next = NextMessage {
        offset: 17,
        last: [3; 32],
    };
    let sequence = Offset::Sequence(300);
    let parts = BTreeMap::from([("first".to_owned(), sequence.clone())]);
    BTreeMap::from([
        (
            "file",
            Offset::File {
                path: path.clone(),
                revision: Some(Revision {
                    mtime_ns: -1,
                    len: 300,
                }),
            },
        ),
        (
            "line",
            Offset::Line {
                path: path.clone(),
                line: 1,
                byte: 300,
            },
        ),
        (
            "lines",
            Offset::Lines {
                path: path.clone(),
                line: 2,
                byte: 301,
                digest: [5; 32],
            },
        ),
        ("sequence", sequence),
        (
            "message",
            Offset::Message {
                topic: "docs".to_owned(),
                partition: 2,
                offset: 17,
            },
        ),
        ("row", Offset::Row { path, line: 7 }),
        ("parts", Offset::Parts(parts)),
        (
            "partitions",
            Offset::Partitions {
                topic: "docs".to_owned(),
                next: BTreeMap::from([(0, next), (2, next)]),
            },
        ),
        ("posted", Offset::Posted { run: 300, last: 2 }),
        (
            "posted line",
            Offset::PostedLine {
                run: 300,
                request: 2,
                line: 1,
            },
        ),
    ])
}

/// Offsets that there were in version 3.
pub(super) fn offsets_of_3() -> Vec<&'static str> {
    let names = offsets().into_keys();
    names.filter(|name| !name.starts_with("posted")).collect()
}

/// Offsets that there were from the beginning.
pub(super) const FIRST_OFFSETS: [&str; 4] = ["file", "line", "lines", "sequence"];

pub(super) fn answers() -> BTreeMap<&'static str, StoredAnswer> {
    let read = Read {
        mass: vec![0.5, 0.25],
        least_margin: 4.0,
        n_tokens: 6,
    };
    let source = Source {
        document: DocumentKey::new("full"),
        ordinal: 1,
        share: 0.75,
    };
    let exact = StoredAnswer {
        request: Some([1; 32]),
        answer: Ok(AnswerText {
            text: text("At nine."),
            finish: Finish::Stop,
        }),
        tokens: [1, 300, 70_000].into(),
        sub_paragraphs: vec![SubParagraph {
            text: "At nine.".to_owned(),
            sources: vec![source],
        }],
        epoch: EPOCH,
        rung: Rung::Rewrite,
        work: Work {
            n_encoded: 1,
            n_prompt: 2,
            n_draft: 3,
            n_decoded: 4,
            n_passes: 5,
            n_from_scratch: 600,
            ..Work::default()
        },
        min_margin: 0.125,
        dependencies: Dependencies::of(&[0.5, 0.0], &[read]),
        drift: None,
        elapsed: Duration::new(1, 500),
        passages: None,
    };
    let provisional = StoredAnswer {
        request: None,
        drift: Some(0.5),
        rung: Rung::Patch,
        ..exact.clone()
    };
    let failed = |error| StoredAnswer {
        request: None,
        answer: Err(error),
        tokens: Arc::default(),
        sub_paragraphs: Vec::new(),
        dependencies: Dependencies::default(),
        ..exact.clone()
    };
    let does_not_fit = CallError::DoesNotFit {
        required: 9_000,
        limit: 8_192,
    };
    let model = CallError::Model {
        reason: "no room".to_owned(),
    };
    BTreeMap::from([
        ("lost", failed(CallError::Lost)),
        ("model", failed(model)),
        ("fit", failed(does_not_fit)),
        ("provisional", provisional),
        ("exact", exact),
    ])
}

pub(super) fn refusals() -> Vec<Quarantined> {
    let line = Quarantined {
        number: 3,
        stream: "docs".to_owned(),
        place: "docs.jsonl:2 (byte 64)".to_owned(),
        key: Some("card".to_owned()),
        reason: "the field \"text\" is missing".to_owned(),
        refused_at_ms: 1_714_566_896_789,
        content: Some(b"{\"key\":\"card\"}".to_vec()),
        is_standing: false,
    };
    let file = Quarantined {
        number: 4,
        key: None,
        content: None,
        is_standing: true,
        ..line.clone()
    };
    vec![line, file]
}

pub(super) fn resubmitted() -> BTreeMap<u64, Resubmitted> {
    let [deleted, given] = [None, Some(rows()["full"].clone())].map(|row| Resubmitted {
        stream: "docs".to_owned(),
        key: "card".to_owned(),
        row,
    });
    BTreeMap::from([(1, given), (2, deleted)])
}

/// The bytes of the undo records of the present version's directory.
pub(super) fn n_undo_bytes() -> u64 {
    let older = StoredRow {
        text: text(OLDER),
        ..rows()["full"].clone()
    };
    // A row that was another, and what was not there: rows, and answers.
    let n_changed = "docs".len() + "full".len() + format::encode(&older).len();
    let new = rows().into_keys().filter(|key| *key != "full");
    let n_new: usize = new.map(|key| "docs".len() + key.len()).sum();
    let answers = answers().into_keys();
    let n_answers: usize = answers.map(|key| "answers".len() + key.len()).sum();
    (n_changed + n_new + n_answers) as u64
}

pub(super) fn receipt() -> Receipt {
    Receipt {
        stream: "docs".to_owned(),
        key: "secret".to_owned(),
        was_there: true,
        forgotten_at_ms: 1_714_566_896_789,
        epoch: Some(EPOCH),
        n_fragments: 1,
        n_answers: 2,
        n_rejected: 3,
        n_updates: 4,
        n_epochs: 5,
        n_state_bytes: Some(73_728),
        remains: vec!["here".to_owned()],
        n_letters: 0,
    }
}

pub(super) fn stored_epoch() -> StoredEpoch {
    StoredEpoch {
        committed_at_ms: 1_714_566_896_789,
        n_undo_bytes: 300,
        streams: vec![RowChanges {
            stream: "docs".to_owned(),
            n_inserted: 1,
            n_updated: 2,
            n_deleted: 3,
        }],
        views: vec![AnswerChanges {
            view: "answers".to_owned(),
            n_new: 4,
            n_changed: 5,
            n_gone: 6,
        }],
    }
}

pub(super) fn delivery() -> Delivery {
    let output = |text| {
        Output::Answer(OutputAnswer {
            question: "When does it open?".to_owned(),
            text,
            rung: "verify".to_owned(),
            is_exact: true,
            drift: 0.0,
            sources: vec!["full".to_owned()],
            passages: None,
        })
    };
    let row = |key: &str, output| OutputRow {
        key: key.to_owned(),
        output,
    };
    Delivery {
        origin: ORIGIN,
        view: "answers".to_owned(),
        epoch: EPOCH,
        rows: vec![
            row("q", Some(output(Ok("At nine.".to_owned())))),
            row("r", Some(output(Err("it failed".to_owned())))),
            row("s", None),
        ],
    }
}

/// Rows of a query: one has a value of every kind.
pub(super) fn delivery_of_rows() -> Delivery {
    let values = rows()["columned"].columns.clone().into_iter();
    let values = values.map(|(_, value)| Value::from(value));
    let values: Vec<Value> = values.chain([Value::Null]).collect();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let tuple = OutputTuple {
        columns: names.into_iter().map(text).collect(),
        values: values.into(),
        count: 300,
    };
    Delivery {
        origin: ORIGIN,
        view: "totals".to_owned(),
        epoch: EPOCH,
        rows: vec![
            OutputRow {
                key: "a".to_owned(),
                output: Some(Output::Tuple(tuple)),
            },
            OutputRow {
                key: "b".to_owned(),
                output: None,
            },
        ],
    }
}

/// Columns of streams, of every type.
pub(super) fn schemas() -> BTreeMap<&'static str, StoredSchema> {
    let columns = Type::NAMES.map(|(of, name)| Column::new(name, of));
    BTreeMap::from([
        ("docs", StoredSchema::Declared(Schema::new(columns))),
        ("notes", StoredSchema::Any),
    ])
}

/// Outputs of tasks, by digest.
pub(super) fn outputs() -> BTreeMap<TaskDigest, Value> {
    let outputs = [Value::Null, true.into(), "a label".into()];
    let digests = (1..).map(|n| TaskDigest([n; 32]));
    digests.zip(outputs).collect()
}
