//! What records hold besides their text, and sources whose columns are declared.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use perennial_connectors::{
    Batch, Change, Declared, Event, Folder, Halt, HttpLimits, HttpListener, JsonLines, Key, Offset,
    Outlet, Record, Rejection, Resume, Source, SourceName, Table, Watching,
};
use perennial_rows::{Column, Row, Schema, Type, Value};

use crate::client::Client;
use crate::listening::{Listener, Mark};

fn schema<const N: usize>(columns: [(&str, Type); N]) -> Schema {
    Schema::new(columns.map(|(name, of)| Column::new(name, of)))
}

fn to_the_end(source: impl Source) -> Listener {
    let mut listener = Listener::start(source);
    listener.until(&Mark::Ended);
    listener
}

fn reasons(listener: &Listener) -> Vec<String> {
    let rejected = listener.rejected.iter();
    rejected.map(|refused| refused.to_string()).collect()
}

/// The file is another one from now on, and the time of its writing another.
fn touch(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    let later = SystemTime::now() + Duration::from_secs(1_000);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(later).unwrap();
}

#[test]
fn a_file_says_where_it_stands_and_what_its_front_matter_says() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let text = "---\nstatus: draft\nsize: large\n---\n# T\n";
    fs::write(dir.path().join("d/a.md"), text).unwrap();
    fs::write(dir.path().join("b.txt"), "one\r\n").unwrap();
    let folder = Folder::open("docs", [dir.path()]).unwrap();
    let listener = to_the_end(folder.watching(Watching::Once));
    assert_eq!(listener.held["d/a.md"], text);
    assert_eq!(listener.column("d/a.md", "path"), "d/a.md".into());
    assert_eq!(listener.column("d/a.md", "status"), "draft".into());
    assert_eq!(listener.column("d/a.md", "size"), "large".into());
    let b = &listener.rows["b.txt"];
    assert_eq!(listener.column("b.txt", "size"), 5i64.into());
    let modified = listener.column("b.txt", "modified");
    assert_eq!(modified, Value::Timestamp(b.updated_at_ms));
    assert!(b.updated_at_ms > 1_700_000_000_000);
}

#[test]
fn a_file_that_is_touched_is_another_version_and_so_is_one_from_before_there_were_columns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.md");
    fs::write(&path, "one\n").unwrap();
    let open = || {
        Folder::open("docs", [dir.path()])
            .unwrap()
            .watching(Watching::Once)
    };
    let first = to_the_end(open());
    let resumed = |row: &Row| {
        let mut source = open();
        source.resume_from(Resume {
            held: vec![(Key::new("a.md"), row.clone())],
            offset: None,
        });
        to_the_end(source).batches.len()
    };
    assert_eq!(resumed(&first.rows["a.md"]), 0);
    touch(&path, "one\n");
    assert_eq!(resumed(&first.rows["a.md"]), 1);
    let before = Row {
        columns: [("no", Value::Null)].into_iter().collect(),
        ..first.rows["a.md"].clone()
    };
    assert_eq!(resumed(&before), 1);
}

#[test]
fn declared_columns_of_lines_are_of_their_types_and_no_text_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let lines = [
        r#"{"key":"a","price":"12","sold":1,"at":"2024-05-01","other":[1],"text":"t"}"#,
        r#"{"key":"b","updated_at":7}"#,
        r#"{"key":"c","price":1.5}"#,
        r#"{"delete":{"key":"b"}}"#,
        r#"{"price":1}"#,
    ];
    fs::write(&path, lines.join("\n")).unwrap();
    let columns = schema([
        ("price", Type::Integer),
        ("sold", Type::Boolean),
        ("at", Type::Timestamp),
    ]);
    let lines = JsonLines::open("s", &path).unwrap();
    let listener = to_the_end(Declared::over(lines, columns).unwrap());
    assert_eq!(listener.keys(), ["a"]);
    let expected = [
        ("price", Value::Integer(12)),
        ("sold", Value::Boolean(true)),
        ("at", Value::Timestamp(1_714_521_600_000)),
    ];
    let a = &listener.rows["a"];
    assert_eq!(
        (&*a.text, &a.columns),
        ("", &expected.into_iter().collect())
    );
    let Change::Upsert(b) = &listener.batches[0].changes[1] else {
        panic!("an upsert")
    };
    assert_eq!((b.row.updated_at_ms, b.row.columns.is_empty()), (7, true));
    let found = reasons(&listener);
    let place = path.display();
    assert_eq!(
        found,
        [
            format!(
                "{place}:5 (byte 149): unknown operation \"price\": expected upsert, insert, \
                     update, delete, or a record with \"key\" and \"text\""
            ),
            format!("{place}:3 (byte 102): the column \"price\" must be INTEGER, got FLOAT 1.5"),
        ]
    );
    let content = listener.rejected[1].content.as_deref().unwrap();
    let said: serde_json::Value = serde_json::from_slice(content).unwrap();
    assert_eq!((&said["key"], &said["price"]), (&"c".into(), &1.5.into()));
    // The offset to go on from is that of the lines.
    assert!(matches!(
        listener.batches[0].resume,
        Some(Offset::Lines { line: 5, .. })
    ));
}

#[test]
fn a_record_needs_the_text_that_is_declared() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    fs::write(
        &path,
        "{\"key\":\"a\",\"n\":1}\n{\"key\":\"b\",\"text\":\"t\"}\n",
    )
    .unwrap();
    let lines = JsonLines::open("s", &path).unwrap();
    let columns = schema([("text", Type::Text), ("n", Type::Integer)]);
    let listener = to_the_end(Declared::over(lines, columns).unwrap());
    assert_eq!(listener.held["b"], "t");
    let reason = &listener.rejected[0].reason;
    let found = ["key".to_owned(), "n".to_owned()].into();
    let field = "text";
    assert_eq!(reason, &Rejection::MissingAmong { field, found });
}

#[test]
fn a_row_of_a_table_that_does_not_fit_any_more_is_gone_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.csv");
    fs::write(&path, "key,price,name\na, 1 ,A\nb,,B\n").unwrap();
    let columns = schema([("price", Type::Float)]);
    let table = Table::open("s", &path).unwrap().follow(true);
    let mut listener = Listener::start(Declared::over(table, columns).unwrap());
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.keys(), ["a", "b"]);
    assert_eq!(listener.column("a", "price"), 1.0.into());
    assert_eq!(listener.column("a", "name"), Value::Null);
    assert_eq!(listener.column("b", "price"), Value::Null);
    fs::write(&path, "key,price,name\na,one,A\nb,,B\n").unwrap();
    listener.until_held(|held| !held.contains_key("a"));
    assert_eq!(listener.rejected.len(), 1);
    let reason = listener.rejected[0].to_string();
    let expected = "s.csv:2: the column \"price\" must be FLOAT, got TEXT \"one\"";
    assert!(reason.ends_with(expected), "{reason}");
    fs::write(&path, "key,price,name\na,2.5,A\nb,,B\n").unwrap();
    listener.until_held(|held| held.contains_key("a"));
    assert_eq!(listener.column("a", "price"), 2.5.into());
    listener.silence(Duration::from_millis(600));
}

#[test]
fn a_change_of_any_column_of_a_table_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.csv");
    fs::write(&path, "key,text,title,,n,\na,t,T,x,1,2\nb,t,T,x,,2\n").unwrap();
    let mut listener = Listener::start(Table::open("s", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    // Columns without a name, and one that has a meaning, are left alone.
    let expected = [("n", Value::text("1"))].into_iter().collect();
    assert_eq!(listener.rows["a"].columns, expected);
    assert_eq!(listener.rows["a"].title, None);
    assert!(listener.rows["b"].columns.is_empty());
    fs::write(&path, "key,text,title,,n,\na,t,T,x,3,2\nb,t,T,x,,2\n").unwrap();
    listener.until(&Mark::Batch);
    assert_eq!(listener.column("a", "n"), "3".into());
    assert_eq!(listener.batches[1].changes.len(), 1);
    let mut latin = b"key,text,n\na,t,\xe9\nb,t,".to_vec();
    latin.extend(b"4\n");
    fs::write(&path, latin).unwrap();
    listener.until_held(|held| !held.contains_key("a"));
    let reason = listener.rejected[0].reason.to_string();
    let expected = "the column \"n\" must be TEXT, got bytes that are not UTF-8";
    assert_eq!(reason, expected);
}

#[test]
fn declared_columns_of_files_are_no_event_where_nothing_of_them_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.md");
    let text = "---\nn: 1\n---\nText.\n";
    fs::write(&path, text).unwrap();
    fs::write(dir.path().join("b.md"), "---\nn: one\n---\nText.\n").unwrap();
    let open = || {
        let folder = Folder::open("docs", [dir.path()]).unwrap();
        let columns = schema([("text", Type::Text), ("n", Type::Integer)]);
        Declared::over(folder.watching(Watching::Once), columns).unwrap()
    };
    let first = to_the_end(open());
    assert_eq!(first.rows["a.md"].columns.len(), 1);
    assert_eq!(first.column("a.md", "n"), 1i64.into());
    assert_eq!(reasons(&first).len(), 1);
    let resumed = |row: &Row| {
        let mut source = open();
        source.resume_from(Resume {
            held: vec![(Key::new("a.md"), row.clone())],
            offset: None,
        });
        to_the_end(source)
    };
    let of_before = fs::metadata(&path).unwrap().modified().unwrap();
    // Its size alone is another.
    touch(&path, &text.replace('\n', "\r\n"));
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(of_before).unwrap();
    let again = resumed(&first.rows["a.md"]);
    let upserts = again.batches.iter().flat_map(|batch| &batch.changes);
    assert_eq!(
        upserts
            .filter(|change| change.key().as_str() == "a.md")
            .count(),
        0
    );
    touch(&path, &text.replace('1', "2"));
    assert_eq!(
        resumed(&first.rows["a.md"]).column("a.md", "n"),
        2i64.into()
    );
}

/// Says what it is given, under offsets that count.
struct Scripted(SourceName, Vec<Batch>);

impl Source for Scripted {
    fn name(&self) -> &SourceName {
        &self.0
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        for batch in self.1 {
            out.batch(batch)?;
        }
        out.send(Event::CaughtUp)
    }
}

#[test]
fn any_source_may_have_its_columns_declared() {
    let upsert = |n: u64, value: Value| {
        let columns = [("n", value), ("other", true.into())];
        let row = Row {
            columns: columns.into_iter().collect(),
            ..Row::of_text("text")
        };
        Change::Upsert(Record::new(Key::new("a"), row, Offset::Sequence(n)))
    };
    let batch = |change, resume| Batch {
        changes: vec![change],
        resume: Some(Offset::Sequence(resume)),
        ..Batch::default()
    };
    let gone = Change::Delete {
        key: Key::new("a"),
        at_ms: 0,
        is_timed: false,
        offset: Offset::Sequence(3),
    };
    let batches = vec![
        batch(upsert(1, "1".into()), 1),
        batch(upsert(2, "two".into()), 2),
        batch(gone, 3),
    ];
    let source = Scripted(SourceName::new("s"), batches);
    let columns = schema([("n", Type::Integer), ("text", Type::Any)]);
    let declared = Declared::over(source, columns).unwrap();
    let mut listener = Listener::start(declared);
    listener.until(&Mark::Batch);
    let expected = [("n", Value::Integer(1))].into_iter().collect();
    assert_eq!(listener.rows["a"].columns, expected);
    assert_eq!(listener.held["a"], "text");
    listener.until(&Mark::Batch);
    // What came before stands, as it does where a line is refused.
    assert_eq!((listener.keys(), listener.rejected.len()), (vec!["a"], 1));
    listener.until(&Mark::Ended);
    assert!(listener.held.is_empty());
    let resumes = listener.batches.iter().map(|batch| batch.resume.clone());
    let expected = [1, 2, 3].map(|n| Some(Offset::Sequence(n)));
    assert_eq!(resumes.collect::<Vec<_>>(), expected);
}

#[test]
fn who_posts_is_told_which_lines_do_not_fit() {
    let http = HttpListener::bind("127.0.0.1:0", None, HttpLimits::default()).unwrap();
    let columns = schema([("n", Type::Integer)]);
    let source = Declared::over(http.source("docs").unwrap(), columns).unwrap();
    let mut listener = Listener::start(source);
    listener.until(&Mark::CaughtUp);
    let body = "{\"key\":\"a\",\"n\":\"1\"}\n{\"key\":\"b\",\"n\":\"?\"}\n";
    let said = Client::connect(http.address()).post("docs", body).json();
    assert_eq!(said["n_rejected"], 1);
    assert_eq!(said["rejected"][0]["line"], 2);
    assert_eq!(
        said["rejected"][0]["reason"],
        "the column \"n\" must be INTEGER, got TEXT \"?\""
    );
    listener.until(&Mark::Batch);
    assert_eq!(listener.column("a", "n"), 1i64.into());
    assert_eq!(listener.rejected.len(), 1);
}

#[test]
fn who_posts_is_told_which_columns_are_left_out() {
    let http = HttpListener::bind("127.0.0.1:0", None, HttpLimits::default()).unwrap();
    let columns = schema([("n", Type::Integer)]);
    let source = Declared::over(http.source("docs").unwrap(), columns).unwrap();
    let mut listener = Listener::start(source);
    listener.until(&Mark::CaughtUp);
    let body = "{\"key\":\"a\",\"n\":1,\"N\":2,\"title\":\"A\"}\n\
                {\"key\":\"b\",\"N\":null,\"text\":\"B\"}\n{\"key\":\"c\",\"N\":2}\n";
    let said = Client::connect(http.address()).post("docs", body).json();
    assert_eq!(
        (&said["accepted"], &said["n_rejected"]),
        (&3.into(), &0.into())
    );
    let left_out = serde_json::json!([
        {"column": "N", "n_records": 2}, {"column": "text", "n_records": 1},
    ]);
    assert_eq!(said["left_out"], left_out);
    listener.until(&Mark::Batch);
    assert_eq!(listener.column("a", "n"), 1i64.into());
}

#[test]
fn a_request_of_which_nothing_is_accepted_is_no_success_and_is_taken_to_quarantine() {
    let http = HttpListener::bind("127.0.0.1:0", None, HttpLimits::default()).unwrap();
    let mut listener = Listener::start(http.source("docs").unwrap());
    listener.until(&Mark::CaughtUp);
    let reply = Client::connect(http.address()).post("docs", "no JSON\n{\"key\":\"b\"}\n");
    assert_eq!(reply.status, 400, "{}", reply.body);
    let said = reply.json();
    let error = said["error"].as_str().unwrap();
    assert!(
        error.starts_with("nothing of 2 records was accepted; line 1: not JSON"),
        "{error}"
    );
    assert!(
        said["hint"].is_string() && said["token"].is_string(),
        "{said}"
    );
    assert_eq!(
        (&said["accepted"], &said["n_rejected"]),
        (&0.into(), &2.into())
    );
    assert_eq!(said["rejected"][1]["line"], 2);
    listener.until(&Mark::Batch);
    assert_eq!(listener.rejected.len(), 2);
}
