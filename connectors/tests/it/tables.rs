//! Tables of comma-separated values, and files that are packed.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use perennial_connectors::{
    ColumnNames, Error, JsonLines, Key, Rejection, Resume, Resumption, Source as _, Table,
};
use perennial_rows::Row;
use proptest::prelude::*;

use crate::listening::{Listener, Mark};

fn columns() -> ColumnNames {
    ColumnNames {
        key: "id".to_owned(),
        text: "body".to_owned(),
        title: Some("subject".to_owned()),
        updated_at: Some("at".to_owned()),
    }
}

/// Reads a table to its end.
fn read(table: impl AsRef<[u8]>, columns: ColumnNames) -> Listener {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    fs::write(&path, table).unwrap();
    let mut listener = Listener::start(Table::open("docs", &path).unwrap().columns(columns));
    listener.until(&Mark::Ended);
    listener
}

#[test]
fn values_stand_between_other_delimiters_and_in_other_encodings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    let read = |bytes: &[u8], delimiter: &str, encoding: Option<&str>| {
        fs::write(&path, bytes).unwrap();
        let table = Table::open("docs", &path).unwrap().delimited_by(delimiter);
        let table = match encoding {
            Some(label) => table.unwrap().encoding(label).unwrap(),
            None => table.unwrap(),
        };
        let mut listener = Listener::start(table);
        listener.until(&Mark::Ended);
        listener.held["a"].clone()
    };
    assert_eq!(read(b"key;text\na;One, two.\n", ";", None), "One, two.");
    let latin = b"key\ttext\na\tcaf\xe9; \"it\"\n";
    assert_eq!(read(latin, "tab", Some("windows-1252")), "café; \"it\"");
    let text = "\u{feff}key;text\r\na;\"Grüße; naïve\"\r\n";
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(read(&utf16, ";", None), "Grüße; naïve");
    // Its mark says what it is, whatever is said of it.
    assert_eq!(read(&utf16, ";", Some("latin1")), "Grüße; naïve");
    let open = || Table::open("docs", &path).unwrap();
    for wrong in ["", ";;", "é", "\"", "\n"] {
        let error = open().delimited_by(wrong).unwrap_err();
        assert!(matches!(error, Error::TableOption { .. }), "{wrong:?}");
    }
    let error = open().encoding("klingon").unwrap_err().to_string();
    assert!(
        error.starts_with("encoding \"klingon\": expected a name"),
        "{error}"
    );
}

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 0).unwrap()
}

#[test]
fn rows_are_records_and_bad_ones_are_told_where_they_stand() {
    let mut table = b"\xef\xbb\xbfid,at,subject,body,n\n".to_vec();
    table.extend(b"a,2024-05-01T00:00:00Z,T,\"One,\ntwo.\",1\n");
    table.extend(b"b,17,,Three.,2\n");
    table.extend(b"c,,x,y\n");
    table.extend(b"a,,,Again.,3\n");
    table.extend(b"d,soon,,Four.,4\n");
    table.extend(b",,,Five.,5\n");
    table.extend(b"e,,,\xff,6\n");
    let listener = read(&table, columns());
    assert_eq!(listener.keys(), ["a", "b"]);
    assert_eq!(listener.held["a"], "One,\ntwo.");
    let records: Vec<_> = listener.batches[0].changes.iter().collect();
    match records[..] {
        [
            perennial_connectors::Change::Upsert(a),
            perennial_connectors::Change::Upsert(b),
        ] => {
            assert_eq!((a.row.title.as_deref(), a.row.is_timed), (Some("T"), false));
            assert_eq!(a.row.updated_at_ms, 1_714_521_600_000);
            assert_eq!(a.row.columns, [("n", "1".into())].into_iter().collect());
            assert_eq!((b.row.title.as_deref(), b.row.updated_at_ms), (None, 17));
        }
        _ => panic!("{records:?}"),
    }
    let refused: Vec<_> = listener.rejected.iter().map(|r| r.reason.clone()).collect();
    assert_eq!(
        refused,
        [
            Rejection::WrongColumns {
                got: 4,
                expected: 5
            },
            Rejection::DuplicateKey,
            Rejection::BadTime {
                value: "soon".into()
            },
            Rejection::EmptyKey,
            Rejection::NotUtf8 { at: 0 },
        ]
    );
    let first = &listener.rejected[0];
    assert!(first.offset.to_string().ends_with("faq.csv:5"));
    assert_eq!(first.content.as_deref(), Some(&b"c,,x,y\n"[..]));
}

#[test]
fn a_column_that_is_not_there_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    fs::write(&path, "id,text\n1,One.\n").unwrap();
    let mut listener = Listener::start(Table::open("docs", &path).unwrap());
    match listener.next() {
        Mark::Failed(error) => assert!(error.contains("\"key\"") && error.contains("id, text")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Table::open("docs", dir.path().join("none.csv")),
        Err(Error::Missing { .. })
    ));
}

#[test]
fn two_columns_of_one_name_are_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    fs::write(&path, "key,text,price,price\na,one,1,2\n").unwrap();
    match Listener::start(Table::open("t", &path).unwrap()).next() {
        Mark::Failed(error) => {
            assert!(
                error.ends_with("two columns are called \"price\""),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    // Columns without a name are not read, however many there are.
    fs::write(&path, "key,text,,\na,one,1,2\n").unwrap();
    let mut listener = Listener::start(Table::open("t", &path).unwrap());
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.keys(), ["a"]);
}

#[test]
fn a_table_written_anew_is_told_by_its_differences() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.tsv");
    fs::write(&path, "key\ttext\na\tOne.\nb\tTwo.\nc\tThree.\n").unwrap();
    let mut listener = Listener::start(Table::open("docs", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    fs::write(&path, "key\ttext\nc\tThree.\na\tOne, mended.\nd\tFour.\n").unwrap();
    listener.until_held(|held| !held.contains_key("b") && held.contains_key("d"));
    assert_eq!(listener.held["a"], "One, mended.");
    let n_changes: usize = listener.batches[1..].iter().map(|b| b.changes.len()).sum();
    assert_eq!(n_changes, 3, "{:?}", listener.batches);
    // Half a table leaves what is held.
    fs::write(&path, "k").unwrap();
    listener.until(&Mark::Notice);
    // So does one that is about to be written.
    fs::write(&path, "").unwrap();
    listener.until(&Mark::Notice);
    assert_eq!(listener.held.len(), 3);
    fs::remove_file(&path).unwrap();
    listener.until(&Mark::Notice);
    fs::write(&path, "key\ttext\na\tOne.\n").unwrap();
    listener.until_held(|held| held.len() == 1);
}

#[cfg(unix)]
#[test]
fn a_table_whose_length_and_time_are_those_of_the_one_before_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    fs::write(&path, "key,text\na,One.\n").unwrap();
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    let set_back = |path: &Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(written).unwrap();
    };
    let mut listener = Listener::start(Table::open("docs", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    // As `mv` and `cp -p` leave it.
    let other = dir.path().join("other.csv");
    fs::write(&other, "key,text\na,Two.\n").unwrap();
    set_back(&other);
    fs::rename(&other, &path).unwrap();
    listener.until_held(|held| held["a"] == "Two.");
    // In its own place.
    fs::write(&path, "key,text\na,Six.\n").unwrap();
    set_back(&path);
    listener.until_held(|held| held["a"] == "Six.");
}

#[test]
fn a_table_that_is_half_written_is_read_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv.gz");
    let table = |word: &str| {
        let rows = (0..3000).map(|i| format!("{i},{word} {}\n", i * 7919));
        gzipped(format!("key,text\n{}", rows.collect::<String>()).as_bytes())
    };
    fs::write(&path, table("before")).unwrap();
    let mut listener = Listener::start(Table::open("docs", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    let whole = table("after");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    listener.until(&Mark::Notice);
    fs::write(&path, &whole).unwrap();
    listener.until_held(|held| held.values().all(|text| text.starts_with("after")));
    assert_eq!(listener.held.len(), 3000);
}

#[test]
fn a_quote_that_is_not_closed_takes_no_rows_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    let rows = "\u{feff}\"key\",text\na,one\nb,\"two, \"\"quoted\"\"\"\nc,\"three\nlines\"\n";
    fs::write(&path, rows).unwrap();
    let mut listener = Listener::start(Table::open("docs", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.held["b"], "two, \"quoted\"");
    fs::write(&path, "key,text\na,\"one\nb,two\nc,three\n").unwrap();
    listener.until(&Mark::Notice);
    assert_eq!(listener.held.len(), 3);
    assert_eq!(listener.held["a"], "one");
    fs::write(&path, "key,text\na,\"one\"\nb,t\"wo\n").unwrap();
    listener.until_held(|held| held.len() == 2);
    assert_eq!(listener.held["b"], "t\"wo");
    fs::write(&path, "key,text\na,\"one\n").unwrap();
    match Listener::start(Table::open("docs", &path).unwrap()).next() {
        Mark::Failed(error) => assert!(
            error.contains("a quote is opened and not closed"),
            "{error}"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_without_end_ends_the_reading() {
    let mut table = b"key,text\na,One.\nb,\"".to_vec();
    table.resize(20 << 20, b'x');
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    fs::write(&path, table).unwrap();
    let mut listener = Listener::start(Table::open("docs", &path).unwrap());
    match listener.next() {
        Mark::Failed(error) => assert!(error.contains("quote"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_time_that_changed_is_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    let open = || Table::open("docs", &path).unwrap().columns(columns());
    fs::write(&path, "id,at,subject,body\na,7,,One.\nb,,,Two.\n").unwrap();
    let mut listener = Listener::start(open().follow(true));
    listener.until(&Mark::CaughtUp);
    // The time goes back, and a row moves down, which is no change.
    fs::write(
        &path,
        "id,at,subject,body\na,5,,One.\nc,,,Three.\nb,,,Two.\n",
    )
    .unwrap();
    listener.until_held(|held| held.contains_key("c"));
    let changed: Vec<_> = listener.batches[1]
        .changes
        .iter()
        .map(|c| c.key().as_str())
        .collect();
    assert_eq!(changed, ["a", "c"]);
}

#[test]
fn a_run_that_resumes_says_what_changed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    fs::write(&path, "key,text\na,One.\nc,Three.\n").unwrap();
    let mut source = Table::open("docs", &path).unwrap();
    let held = [("a", "One."), ("b", "Two."), ("c", "Before.")];
    let held = held.map(|(key, text)| (Key::new(key), Row::of_text(text)));
    let from = Resume {
        held: held.to_vec(),
        offset: None,
    };
    assert_eq!(source.resume_from(from), Resumption::FromHeld);
    let mut listener = Listener::start(source);
    listener.until(&Mark::Ended);
    let keys: Vec<_> = listener.batches[0]
        .changes
        .iter()
        .map(|c| c.key().as_str())
        .collect();
    // Of `a` the time before is not known: it is said again, which changes nothing.
    assert_eq!(keys, ["a", "c", "b"]);
}

#[test]
fn packed_files_are_read_as_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let lines = b"{\"key\":\"a\",\"text\":\"One.\"}\n{\"key\":\"b\",\"text\":\"Two.\"}\n";
    let mut two_members = gzipped(&lines[..26]);
    two_members.extend(gzipped(&lines[26..]));
    for (name, bytes) in [
        ("d.jsonl.gz", two_members),
        ("d.jsonl.zst", zstandard(lines)),
        // The name says nothing.
        ("d.jsonl", gzipped(lines)),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let open = || JsonLines::open("docs", &path).unwrap().follow(true);
        let mut listener = Listener::start(open());
        listener.until(&Mark::Ended);
        assert_eq!(listener.keys(), ["a", "b"], "{name}");
        let mut again = open();
        let from = Resume {
            held: Vec::new(),
            offset: listener.batches[0].resume.clone(),
        };
        assert_eq!(again.resume_from(from), Resumption::FromOffset, "{name}");
        let mut again = Listener::start(again);
        again.until(&Mark::Ended);
        assert!(again.batches.is_empty(), "{name}");
    }
    let listener = read(gzipped(b"key,text\na,One.\n"), ColumnNames::default());
    assert_eq!(listener.keys(), ["a"]);
}

#[test]
fn a_packed_file_that_is_cut_off_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let lines = (0..2000).map(|i| format!("{{\"key\":\"{i}\",\"text\":\"{}\"}}\n", i * 7919));
    let lines = lines.collect::<String>();
    for (name, bytes) in [
        ("a.jsonl", gzipped(lines.as_bytes())),
        ("b.jsonl", zstandard(lines.as_bytes())),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let mut listener = Listener::start(JsonLines::open("docs", &path).unwrap());
        let failed =
            std::iter::from_fn(|| Some(listener.next())).find(|mark| !matches!(mark, Mark::Batch));
        match failed {
            Some(Mark::Failed(error)) => assert!(error.contains("cannot be unpacked"), "{error}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Writes rows as a table.
fn write(path: &Path, rows: &std::collections::BTreeMap<u8, String>) {
    if path.extension().is_some_and(|ending| ending == "parquet") {
        let rows = rows
            .iter()
            .map(|(key, text)| (key.to_string(), text.clone()));
        return crate::parquet::write(path, &rows.collect::<Vec<_>>());
    }
    let mut writer = csv::Writer::from_path(path).unwrap();
    writer.write_record(["key", "text"]).unwrap();
    for (key, text) in rows {
        writer.write_record([&key.to_string(), text]).unwrap();
    }
    writer.flush().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn differences_fold_to_a_fresh_run(
        tables in prop::collection::vec(prop::collection::btree_map(0u8..8, "(?s).{0,12}", 0..8), 1..5),
        is_parquet in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(if is_parquet { "t.parquet" } else { "t.csv" });
        let mut held: Vec<(Key, Row)> = Vec::new();
        let mut folded = std::collections::BTreeMap::new();
        for table in tables {
            write(&path, &table);
            let mut source = Table::open("docs", &path).unwrap();
            source.resume_from(Resume { held: held.clone(), offset: None });
            let mut listener = Listener::start(source);
            listener.held = folded;
            listener.until(&Mark::Ended);
            prop_assert!(listener.rejected.is_empty(), "{:?}", listener.rejected);
            folded = listener.held.clone();
            let expected = table.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
            prop_assert_eq!(&folded, &expected);
            let row = |(key, text): (&String, &String)| (Key::new(&**key), Row::of_text(&**text));
            held = folded.iter().map(row).collect();
        }
    }
}

#[test]
fn a_table_of_another_delimiter_or_encoding_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.csv");
    let utf16: Vec<u8> = "key,text\na,One.\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (bytes, says) in [
        (&b"key;text\na;One.\n"[..], "--delimiter"),
        (&utf16, "--encoding"),
    ] {
        fs::write(&path, bytes).unwrap();
        match Listener::start(Table::open("docs", &path).unwrap()).next() {
            Mark::Failed(error) => assert!(error.contains(says), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}
