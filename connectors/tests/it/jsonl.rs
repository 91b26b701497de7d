//! JSON lines from files that grow, are cut and replaced, and from pipes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use perennial_connectors::{
    Change, ColumnNames, Error, JsonLines, Notice, Offset, Rejection, Resume, Resumption,
    Source as _,
};
use proptest::prelude::*;

use crate::listening::{Listener, Mark};

fn append(path: &Path, text: &str) {
    OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn line(key: &str, text: &str) -> String {
    format!("{{\"key\":\"{key}\",\"text\":\"{text}\"}}\n")
}

/// Reads a file of these bytes to its end.
fn read(bytes: &[u8], open: impl Fn(JsonLines) -> JsonLines) -> Listener {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    fs::write(&path, bytes).unwrap();
    let mut listener = Listener::start(open(JsonLines::open("events", &path).unwrap()));
    listener.until(&Mark::Ended);
    listener
}

/// Line and byte of an offset.
fn place(offset: &Offset) -> (u64, u64) {
    match offset {
        Offset::Line { line, byte, .. } | Offset::Lines { line, byte, .. } => (*line, *byte),
        other => panic!("{other:?}"),
    }
}

/// A file with these contents, and a listener that has caught up with it.
fn followed(contents: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf, Listener) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    fs::write(&path, contents).unwrap();
    let source = JsonLines::open("events", &path).unwrap().follow(true);
    let mut listener = Listener::start(source);
    listener.until(&Mark::CaughtUp);
    (dir, path, listener)
}

#[test]
fn bad_lines_are_reported_where_they_stand_and_the_rest_goes_on() {
    let mut bytes = Vec::new();
    bytes.extend(b"\xef\xbb\xbf");
    bytes.extend(line("a", "one").as_bytes());
    bytes.extend(b"\r\n{\"upsert\":{\"key\":\"b\"\n");
    bytes.extend(b"{\"merge\":{}}\n\xff\n");
    bytes.extend(b"{\"key\":\"");
    bytes.extend([b'x'; 200]);
    bytes.extend(b"\"}\n");
    bytes.extend(line("c", "two").as_bytes());
    bytes.extend(b"{\"delete\":{\"key\":\"a\"}}\n{\"key\":\"d\",\"te");
    let listener = read(&bytes, |source| source.line_limit(100));
    assert_eq!(listener.keys(), ["c"]);
    let rejected: Vec<_> = listener
        .rejected
        .iter()
        .map(|r| (place(&r.offset).0, r.reason.clone()))
        .collect();
    assert_eq!(
        rejected,
        [
            (3, Rejection::Truncated { len: 20 }),
            (
                4,
                Rejection::UnknownOperation {
                    name: "merge".into()
                }
            ),
            (5, Rejection::NotUtf8 { at: 0 }),
            (
                6,
                Rejection::LineTooLong {
                    len: 210,
                    limit: 100
                }
            ),
            (9, Rejection::Truncated { len: 14 }),
        ]
    );
    // To resume is to read the cut line once more: it may be whole by then.
    let resume = listener.batches.last().unwrap().resume.as_ref().unwrap();
    assert_eq!(place(resume), (9, bytes.len() as u64 - 14));
}

#[test]
fn a_last_line_without_line_feed_is_a_line() {
    assert_eq!(
        read(line("a", "one").trim_end().as_bytes(), |source| source).keys(),
        ["a"]
    );
    assert!(read(b"", |source| source).batches.is_empty());
    assert!(read(b" \n\n \t", |source| source).batches.is_empty());
}

#[test]
fn a_half_line_waits_for_its_rest() {
    let (_dir, path, mut listener) = followed("{\"key\":\"a\",");
    listener.until(&Mark::Notice);
    assert!(
        matches!(&listener.notices[..], [Notice::Unfinished { offset }] if place(offset) == (1, 0))
    );
    append(&path, "\"text\":\"one\"}\n");
    listener.until_held(|held| held.contains_key("a"));
    assert!(listener.rejected.is_empty());
}

#[test]
fn what_is_written_together_is_one_batch() {
    let (_dir, path, mut listener) = followed("");
    let many: String = (0..500).map(|i| line(&format!("k{i}"), "text")).collect();
    append(&path, &many);
    listener.until_held(|held| held.len() == 500);
    assert_eq!(listener.batches.len(), 1);
    let resume = listener.batches[0].resume.as_ref().unwrap();
    assert_eq!(place(resume), (501, many.len() as u64));
}

#[test]
fn a_cut_file_is_read_from_its_beginning() {
    let (_dir, path, mut listener) = followed(line("a", "one") + &line("b", "two") + "{\"half");
    fs::write(&path, line("c", "three")).unwrap();
    listener.until_held(|held| held.contains_key("c"));
    assert!(
        listener
            .notices
            .contains(&Notice::StartedOver { path: path.clone() })
    );
    assert!(
        matches!(listener.rejected[..], [ref r] if r.reason == Rejection::Truncated { len: 6 })
    );
    // Longer than before, but not what stood there.
    let longer = line(
        "d",
        "a text much longer than the one that stood here before",
    );
    fs::write(&path, &longer).unwrap();
    listener.until_held(|held| held.contains_key("d"));
    match listener.batches.last().unwrap().changes.last().unwrap() {
        Change::Upsert(record) => assert_eq!(place(&record.offset), (1, 0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_as_long_as_before_is_read_again_where_it_says_something_else() {
    let (_dir, path, mut listener) = followed(line("a", "one") + &line("b", "two"));
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all((line("a", "six") + &line("c", "ten")).as_bytes())
        .unwrap();
    listener.until(&Mark::SaidAgain);
    assert_eq!(listener.keys(), ["a", "c"]);
    assert_eq!(listener.held["a"], "six");
}

#[test]
fn a_replaced_file_is_followed_under_its_name() {
    let (dir, path, mut listener) = followed(line("a", "one"));
    let mut old = OpenOptions::new().append(true).open(&path).unwrap();
    fs::rename(&path, dir.path().join("events.jsonl.1")).unwrap();
    old.write_all(line("b", "late").as_bytes()).unwrap();
    listener.until_held(|held| held.contains_key("b"));
    // Equal at the beginning and longer: only that it is another file tells.
    fs::write(&path, line("a", "one") + &line("c", "three")).unwrap();
    listener.until_held(|held| held.contains_key("c"));
    append(&path, &line("d", "four"));
    listener.until_held(|held| held.contains_key("d"));
    assert!(listener.rejected.is_empty());
}

#[test]
fn a_file_that_is_gone_is_awaited() {
    let (_dir, path, mut listener) = followed("");
    fs::remove_file(&path).unwrap();
    listener.until(&Mark::Notice);
    assert_eq!(listener.notices, [Notice::Awaiting { path: path.clone() }]);
    fs::write(&path, line("a", "back")).unwrap();
    listener.until_held(|held| held.contains_key("a"));
}

#[test]
fn a_run_resumes_where_another_stood() {
    let first = line("a", "one");
    let all = first.clone() + &line("b", "two");
    let listener = read(all.as_bytes(), |source| {
        source.resume(2, first.len() as u64)
    });
    assert_eq!(listener.keys(), ["b"]);
    match &listener.batches[0].changes[0] {
        Change::Upsert(record) => {
            assert_eq!(place(&record.offset), (2, first.len() as u64));
            assert_eq!(record.row.updated_at_ms, 2);
        }
        other => panic!("{other:?}"),
    }
    // No line begins there: the file is another one.
    for byte in [5, 5000] {
        let listener = read(all.as_bytes(), |source| source.resume(2, byte));
        assert_eq!(listener.keys(), ["a", "b"]);
        assert!(matches!(
            &listener.notices[..],
            [Notice::StartedOver { .. }]
        ));
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_as_it_comes_until_it_is_closed() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut listener = Listener::start(JsonLines::pipe("events", reader));
    listener.until(&Mark::CaughtUp);
    writer.write_all(line("a", "one").as_bytes()).unwrap();
    listener.until_held(|held| held.contains_key("a"));
    writer.write_all(b"{\"delete\":{\"key\":\"a\"}}").unwrap();
    listener.silence(Duration::from_millis(200));
    drop(writer);
    listener.until(&Mark::Ended);
    assert!(listener.held.is_empty());
    let shown = listener.batches.last().unwrap().changes.last().unwrap();
    assert!(
        matches!(shown, Change::Delete { offset, .. } if offset.to_string() == "standard input:2 (byte 25)")
    );
}

#[cfg(unix)]
#[test]
fn an_open_pipe_can_be_left() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut listener = Listener::start(JsonLines::pipe("events", reader));
    listener.until(&Mark::CaughtUp);
    let begin = std::time::Instant::now();
    drop(listener);
    assert!(begin.elapsed() < Duration::from_millis(400));
}

#[test]
fn a_folder_and_a_missing_file_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        JsonLines::open("e", dir.path()),
        Err(Error::NotAFile { .. })
    ));
    let missing = JsonLines::open("e", dir.path().join("none.jsonl"));
    assert!(matches!(missing, Err(Error::Missing { .. })));
}

#[test]
fn a_huge_line_costs_no_memory_and_a_large_file_several_batches() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let mut file = File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"\n").unwrap();
    let text = "x".repeat(1 << 19);
    for i in 0..40 {
        file.write_all(line(&format!("k{i}"), &text).as_bytes())
            .unwrap();
    }
    let mut listener = Listener::start(JsonLines::open("events", &path).unwrap());
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.held.len(), 40);
    assert_eq!(listener.batches.len(), 3);
    let expected = Rejection::LineTooLong {
        len: 64 << 20,
        limit: 1 << 20,
    };
    assert_eq!(listener.rejected[0].reason, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_line_is_a_change_or_a_rejection_at_its_place(
        lines in prop::collection::vec(
            prop_oneof![
                3 => "[ab]".prop_map(|key| line(&key, "text").trim_end().as_bytes().to_vec()),
                1 => "[ab]".prop_map(|key| format!("{{\"delete\":{{\"key\":\"{key}\"}}}}").into_bytes()),
                1 => Just(Vec::new()),
                3 => prop::collection::vec(any::<u8>().prop_filter("no end", |b| *b != b'\n'), 1..90),
            ],
            0..12,
        ),
    ) {
        let listener = read(&lines.join(&b'\n'), |source| source.line_limit(60));
        let mut places: Vec<(u64, u64)> = Vec::new();
        for batch in &listener.batches {
            places.extend(batch.rejected.iter().map(|r| place(&r.offset)));
            places.extend(batch.changes.iter().map(|change| match change {
                Change::Upsert(record) => place(&record.offset),
                Change::Delete { offset, .. } => place(offset),
            }));
        }
        places.sort_unstable();
        let mut expected = Vec::new();
        let mut byte = 0;
        for (i, line) in lines.iter().enumerate() {
            let content = if i == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
            let blank = std::str::from_utf8(content).is_ok_and(|text| text.trim().is_empty());
            if !blank || line.len() > 60 {
                expected.push((i as u64 + 1, byte));
            }
            byte += line.len() as u64 + 1;
        }
        prop_assert_eq!(places, expected);
    }
}

#[test]
fn fields_of_other_names_are_read_and_other_names_read_the_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faq.jsonl");
    let line = |i: usize| format!("{{\"id\":{i},\"body\":\"text {i}\",\"note\":\"note {i}\"}}\n");
    fs::write(&path, line(1) + &line(2)).unwrap();
    let names = |text: &str| ColumnNames {
        key: "id".to_owned(),
        text: text.to_owned(),
        ..ColumnNames::default()
    };
    let run = |text: &str, before: Option<&Listener>| {
        let mut source = JsonLines::open("faq", &path).unwrap().columns(names(text));
        let how = before.map(|before| {
            source.resume_from(Resume {
                held: before.rows.clone().into_iter().collect(),
                offset: before.resume.clone(),
            })
        });
        let mut listener = Listener::start(source);
        if let Some(before) = before {
            listener.held.clone_from(&before.held);
            listener.rows.clone_from(&before.rows);
        }
        listener.until(&Mark::Ended);
        (listener, how)
    };
    let (first, _) = run("body", None);
    assert_eq!(first.held["1"], "text 1");
    let (same, how) = run("body", Some(&first));
    assert_eq!(how, Some(Resumption::FromOffset));
    assert!(same.batches.is_empty(), "nothing is read twice");
    let (other, how) = run("note", Some(&first));
    assert_eq!(how, Some(Resumption::FromHeld));
    assert_eq!(other.held["2"], "note 2");
}
