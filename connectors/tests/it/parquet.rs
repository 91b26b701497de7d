//! Parquet files: what another implementation wrote (`tests/data/parquet/make.py`), and what is
//! damaged, hostile or not read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use perennial_connectors::{Change, ColumnNames, Offset, Rejection, Table};
use proptest::prelude::*;

use crate::listening::{Listener, Mark};

/// Writes a table of keys and texts, three rows a row group.
pub fn write(path: &Path, rows: &[(String, String)]) {
    let schema = "message t { REQUIRED BYTE_ARRAY key (UTF8); OPTIONAL BYTE_ARRAY text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    for rows in rows.chunks(3) {
        let keys = rows.iter().map(|(key, _)| ByteArray::from(key.as_str()));
        let texts = rows.iter().map(|(_, text)| ByteArray::from(text.as_str()));
        let mut group = writer.next_row_group().unwrap();
        let columns: [(Vec<ByteArray>, Option<Vec<i16>>); 2] = [
            (keys.collect(), None),
            (texts.collect(), Some(vec![1; rows.len()])),
        ];
        for (values, levels) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&values, levels.as_deref(), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/parquet/{name}.parquet"))
}

fn columns(key: &str, text: &str) -> ColumnNames {
    ColumnNames {
        key: key.to_owned(),
        text: text.to_owned(),
        ..ColumnNames::default()
    }
}

/// Reads a table to its end, or until it fails: then why.
fn read(path: &Path, columns: ColumnNames) -> (Listener, Option<String>) {
    let mut listener = Listener::start(Table::open("docs", path).unwrap().columns(columns));
    loop {
        match listener.next() {
            Mark::Ended => return (listener, None),
            Mark::Failed(error) => return (listener, Some(error)),
            _ => {}
        }
    }
}

fn failure(path: &Path, columns: ColumnNames) -> String {
    read(path, columns).1.expect("no table")
}

#[test]
fn rows_of_all_row_groups_are_records_and_bad_ones_are_told_by_number() {
    let columns = ColumnNames {
        key: "id".to_owned(),
        text: "body".to_owned(),
        title: Some("subject".to_owned()),
        updated_at: Some("at".to_owned()),
    };
    let (listener, failure) = read(&golden("faq"), columns);
    assert_eq!(failure, None);
    let held = [("7", "One,\ntwo."), ("8", "Three."), ("9", "")];
    let held = held.map(|(key, text)| (key.to_owned(), text.to_owned()));
    assert_eq!(listener.held, BTreeMap::from(held));
    let records = listener.batches[0]
        .changes
        .iter()
        .map(|change| match change {
            Change::Upsert(record) => (
                record.row.title.as_deref(),
                record.row.updated_at_ms,
                record.row.is_timed,
            ),
            Change::Delete { .. } => panic!("rows are upserts"),
        });
    let at = 1_714_566_896_789;
    assert_eq!(
        records.collect::<Vec<_>>(),
        [
            (Some("Hours"), at, false),
            (None, at, false),
            (None, 0, false)
        ]
    );
    let refused = listener.rejected.iter().map(|refused| {
        let Offset::Row { line, .. } = refused.offset else {
            panic!("a row");
        };
        let content = refused.content.as_deref().unwrap();
        (
            line,
            refused.reason.clone(),
            std::str::from_utf8(content).unwrap(),
        )
    });
    assert_eq!(
        refused.collect::<Vec<_>>(),
        [
            (
                4,
                Rejection::DuplicateKey,
                r#"{"at":null,"body":"Four.","id":7,"subject":"Again"}"#
            ),
            (
                5,
                Rejection::MissingField { field: "key" },
                r#"{"at":null,"body":"Five.","id":null,"subject":"None"}"#
            ),
        ]
    );
}

#[test]
fn values_of_every_type_are_texts() {
    let texts = [
        ("string", "text"),
        ("large", "text"),
        ("binary", "text"),
        ("fixed", "abcd"),
        ("bool", "true"),
        ("int8", "-8"),
        ("uint32", "4000000000"),
        ("uint64", "18446744073709551615"),
        ("half", "0.5"),
        ("float", "0.1"),
        ("decimal", "-12.50"),
        ("date", "2024-05-01"),
        ("time", "12:34:56.789000"),
        ("ms", "2024-05-01T12:34:56.789Z"),
        ("us", "2024-05-01T12:34:56.789000Z"),
        ("ns", "2024-05-01T12:34:56.789000000"),
        ("uuid", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ("struct.body", "within"),
    ];
    for (column, text) in texts {
        let (listener, failure) = read(&golden("types"), columns("key", column));
        assert_eq!(failure, None, "{column}");
        assert_eq!(
            listener.held.get("a").map(String::as_str),
            Some(text),
            "{column}"
        );
        // The second row's is null.
        let missing = Rejection::MissingField { field: "text" };
        assert_eq!(listener.rejected[0].reason, missing, "{column}");
    }
    let (listener, _) = read(&golden("types"), columns("key", "bytes"));
    assert_eq!(listener.rejected[0].reason, Rejection::NotUtf8 { at: 0 });
}

#[test]
fn times_come_from_every_type_that_is_one() {
    let at = |file: &str, column: &str| {
        let columns = ColumnNames {
            updated_at: Some(column.to_owned()),
            ..columns("key", if file == "types" { "string" } else { "text" })
        };
        let (listener, failure) = read(&golden(file), columns);
        assert_eq!(failure, None, "{column}");
        match &listener.batches[0].changes[0] {
            Change::Upsert(record) => record.row.updated_at_ms,
            Change::Delete { .. } => panic!("rows are upserts"),
        }
    };
    for column in ["ms", "us", "ns"] {
        assert_eq!(at("types", column), 1_714_566_896_789, "{column}");
    }
    assert_eq!(at("types", "date"), 1_714_521_600_000);
    assert_eq!(at("types", "int8"), -8);
    assert_eq!(at("int96", "at"), 1_714_566_896_789);
}

const ENCODINGS: [&str; 4] = [
    "dictionary-zstd",
    "plain-none",
    "delta-length-gzip",
    "delta-snappy-v2",
];

#[test]
fn every_packing_and_encoding_says_the_same() {
    let (first, failure) = read(&golden(ENCODINGS[0]), ColumnNames::default());
    assert_eq!((failure, first.held.len()), (None, 40));
    assert_eq!(first.held["key 039"], "The text of key 039.");
    for name in ENCODINGS {
        let (listener, failure) = read(&golden(name), ColumnNames::default());
        assert_eq!(
            (listener.held, failure),
            (first.held.clone(), None),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_read_is_said() {
    let of = |name: &str, key: &str, text: &str| failure(&golden(name), columns(key, text));
    let unfit = |text: &str| of("types", "key", text);
    assert!(of("brotli", "key", "text").contains("BROTLI"));
    assert!(of("encrypted", "key", "text").contains("encrypted"));
    assert!(of("encrypted-columns", "key", "text").contains("encrypted"));
    assert!(of("bomb", "key", "text").contains("unpacks to more than"));
    assert!(unfit("list.list.element").contains("lists"));
    assert!(unfit("struct").contains("\"struct.body\""));
    assert!(of("types", "double", "string").contains("holds floats, which cannot be \"key\""));
    assert!(unfit("body").contains("no column \"body\"; there are: key, string"));
    let timed = ColumnNames {
        updated_at: Some("bool".to_owned()),
        ..columns("key", "string")
    };
    assert!(failure(&golden("types"), timed).contains("cannot be \"updated_at\""));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    for bytes in [&b"key,text\na,One.\n"[..], b"PAR1", b"", b"PAR1PAR1"] {
        fs::write(&path, bytes).unwrap();
        assert!(failure(&path, ColumnNames::default()).contains("cannot be read as a table"));
    }
}

#[test]
fn a_file_cut_off_anywhere_is_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    for name in ENCODINGS {
        let whole = fs::read(golden(name)).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let said = failure(&path, ColumnNames::default());
            assert!(
                said.contains("cannot be read as a table"),
                "{name}, {len}: {said}"
            );
        }
    }
}

/// Each byte changed: it is a table or not, and nothing breaks. Where pages carry checksums, it
/// says what it said before, or nothing.
#[test]
fn a_byte_changed_anywhere_breaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    for name in ENCODINGS {
        let mut bytes = fs::read(golden(name)).unwrap();
        let (sound, _) = read(&golden(name), ColumnNames::default());
        let has_checksums = name != ENCODINGS[0];
        for at in 0..bytes.len() {
            let flip = [0x01, 0x80, 0xff][at % 3];
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            bytes[at] ^= flip;
            let (listener, failure) = read(&path, ColumnNames::default());
            match failure {
                Some(said) => assert!(
                    said.contains("t.parquet") && !said.contains("panicked"),
                    "{name}, byte {at}: {said}"
                ),
                None if has_checksums => {
                    assert_eq!(listener.held, sound.held, "{name}, byte {at}");
                }
                None => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Some bytes changed anywhere, to claims of much as often as to anything.
    #[test]
    fn whatever_a_file_claims_nothing_breaks(
        name in prop::sample::select(&ENCODINGS[..]),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0xff), Just(0x7f), Just(0xfc)], 1..7,
            )),
            1..4,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let mut bytes = fs::read(golden(name)).unwrap();
        for (at, new) in edits {
            // Its end stays, so that what stands before it is believed.
            let at = at.index(bytes.len() - 8 - new.len());
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        fs::write(&path, &bytes).unwrap();
        if let (_, Some(said)) = read(&path, ColumnNames::default()) {
            prop_assert!(said.contains("t.parquet") && !said.contains("panicked"), "{}", said);
        }
    }
}

#[test]
fn a_table_written_anew_is_told_by_its_differences_and_a_torn_one_leaves_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.parquet");
    let row = |key: &str, text: &str| (key.to_owned(), text.to_owned());
    write(
        &path,
        &[
            row("a", "One."),
            row("b", "Two."),
            row("c", "Three."),
            row("d", "Four."),
        ],
    );
    let mut listener = Listener::start(Table::open("docs", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.keys(), ["a", "b", "c", "d"]);
    write(
        &path,
        &[
            row("d", "Four."),
            row("a", "One, mended."),
            row("e", "Five."),
        ],
    );
    listener.until_held(|held| !held.contains_key("b") && held.contains_key("e"));
    let n_changes: usize = listener.batches[1..].iter().map(|b| b.changes.len()).sum();
    assert_eq!(n_changes, 4, "{:?}", listener.batches);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    listener.until(&Mark::Notice);
    assert!(
        listener.notices[0]
            .to_string()
            .contains("still being written")
    );
    assert_eq!(listener.keys(), ["a", "d", "e"]);
    write(&path, &[row("d", "Four.")]);
    listener.until_held(|held| held.len() == 1);
}
