//! Columns that are declared otherwise than before, over a state directory: what is read is as a run
//! from nothing reads it, and what was given by hand is made to fit or left as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use perennial::ask::scripted::Scripted;
use perennial::connectors::{Declared, HttpLimits, HttpListener, JsonLines, fit_all};
use perennial::engine::{Edit, Error};
use perennial::rows::{Column, Row, Schema, Type, Value};
use perennial::sql::{Script, Session, SessionError};
use perennial::{Engine, EngineBuilder};
use proptest::prelude::*;

use crate::client::Client;
use crate::rig::Rig;

/// Columns of which some rows fit all, and some rows do not fit some.
fn schemas() -> Vec<Option<Schema>> {
    let of = |columns: &[(&str, Type)]| {
        let columns = columns.iter();
        Some(Schema::new(
            columns.map(|(name, of)| Column::new(*name, *of)),
        ))
    };
    vec![
        None,
        of(&[("price", Type::Text), ("color", Type::Text)]),
        of(&[("price", Type::Integer)]),
        of(&[("color", Type::Text)]),
        of(&[("price", Type::Any), ("size", Type::Float)]),
    ]
}

type Held = BTreeMap<String, Vec<(String, Value)>>;

/// The columns of every row, but for those with a meaning, and but for NULLs.
fn held(engine: &Engine, stream: &str) -> Held {
    engine.flush().expect("runs");
    let snapshot = engine.snapshot(stream).expect("there");
    let columns = snapshot.schema.columns();
    let rows = snapshot.rows.iter().map(|(tuple, count)| {
        assert_eq!(*count, 1);
        let named = columns.iter().zip(tuple.iter());
        let named = named.map(|(column, value)| (column.name.to_string(), value.clone()));
        let (key, others): (Vec<_>, Vec<_>) = named.partition(|(name, _)| name == "key");
        let key = key.first().expect("a key").1.to_string();
        let is_told = |(name, value): &(String, Value)| !is_meaning(name) && *value != Value::Null;
        (key, others.into_iter().filter(is_told).collect())
    });
    rows.collect()
}

fn is_meaning(name: &str) -> bool {
    ["title", "text", "updated_at", "supersedes"].contains(&name)
}

/// With the key, which is not otherwise told.
fn with_key(schema: &Schema) -> Schema {
    let key = [Column::new("key", Type::Text)];
    Schema::new(key.into_iter().chain(schema.columns().iter().cloned()))
}

fn builder(state: Option<&Path>) -> EngineBuilder {
    let builder = Rig::builder(Scripted::new());
    match state {
        Some(dir) => builder.state(dir),
        None => builder,
    }
}

/// What a file says under these columns.
fn read(path: &Path, columns: Option<&Schema>, state: Option<&Path>) -> Held {
    let lines = JsonLines::open("docs", path).expect("there");
    let builder = builder(state);
    let builder = match columns {
        None => builder.source(lines),
        Some(columns) => {
            builder.source(Declared::over(lines, with_key(columns)).expect("may be declared"))
        }
    };
    held(&builder.start().expect("starts"), "docs")
}

fn append(path: &Path, lines: &[(u8, u8)]) {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.expect("writable");
    for (key, value) in lines {
        let line = match value % 4 {
            0 => format!(r#"{{"key": "k{key}", "text": "t", "price": "{value}"}}"#),
            1 => format!(r#"{{"key": "k{key}", "text": "t", "color": "red", "price": "dear"}}"#),
            2 => format!(r#"{{"key": "k{key}", "text": "t", "price": {value}, "size": 2}}"#),
            _ => format!(r#"{{"op": "delete", "key": "k{key}"}}"#),
        };
        writeln!(file, "{line}").expect("writable");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_source_that_comes_back_with_other_columns_is_as_one_that_is_new(
        runs in prop::collection::vec(
            (0..schemas().len(), prop::collection::vec((0u8..4, any::<u8>()), 0..4)), 1..6),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, state) = (dir.path().join("docs.jsonl"), dir.path().join("state"));
        for (at, lines) in runs {
            append(&path, &lines);
            let columns = schemas().swap_remove(at);
            let resumed = read(&path, columns.as_ref(), Some(&state));
            prop_assert_eq!(resumed, read(&path, columns.as_ref(), None));
        }
    }

    #[test]
    fn a_table_that_comes_back_with_other_columns_fits_them_or_is_as_it_was(
        first in prop::collection::vec((0u8..4, any::<u8>()), 1..5),
        runs in prop::collection::vec(0..schemas().len(), 1..6),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        let engine = builder(Some(dir.path())).table("docs").start().expect("starts");
        for (key, value) in first {
            let price = match value % 3 {
                0 => Value::text(value.to_string()),
                1 => Value::text("dear"),
                _ => Value::Integer(value.into()),
            };
            let columns = [("price", price), ("size", Value::Integer(2))];
            let row = Row { columns: columns.into_iter().collect(), ..Row::of_text("t") };
            engine.apply(vec![Edit::row("docs", format!("k{key}"), row.clone())]).expect("fits");
            rows.insert(format!("k{key}"), row);
        }
        engine.flush().expect("runs");
        drop(engine);
        for at in runs {
            let columns = schemas().swap_remove(at).map(|columns| with_key(&columns));
            let fitted = columns.as_ref().map(|columns| {
                let fitted = rows.iter().map(|(key, row)| Ok((key.clone(), fit_all(columns, row.clone())?)));
                fitted.collect::<Result<BTreeMap<_, _>, perennial::connectors::Rejection>>()
            });
            let builder = builder(Some(dir.path()));
            let started = match columns {
                None => builder.table("docs").start(),
                Some(columns) => builder.table_of("docs", columns).start(),
            };
            match (started, fitted) {
                (Ok(_), Some(Err(reason))) => prop_assert!(false, "{}", reason),
                (Err(Error::UnfitRows { name, .. }), Some(Err(_))) => prop_assert_eq!(name, "docs"),
                (Err(other), _) => prop_assert!(false, "{}", other),
                (Ok(engine), fitted) => {
                    if let Some(Ok(fitted)) = fitted {
                        rows = fitted;
                    }
                    let told = rows.iter().map(|(key, row)| {
                        let columns = row.columns.iter().filter(|(_, value)| **value != Value::Null);
                        let columns = columns.map(|(name, value)| (name.to_owned(), value.clone()));
                        let mut columns: Vec<_> = columns.collect();
                        columns.sort();
                        (key.clone(), columns)
                    });
                    let mut found = held(&engine, "docs");
                    found.values_mut().for_each(|columns| columns.sort());
                    prop_assert_eq!(found, told.collect::<Held>());
                }
            }
        }
    }
}

#[test]
fn what_was_posted_fits_other_columns_or_the_source_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = |of: Type| {
        let limits = HttpLimits::default();
        let listener = HttpListener::bind("127.0.0.1:0", None, limits).expect("a port");
        let client = Client::connect(listener.address());
        let source = listener.source("docs").expect("a name");
        let columns = Schema::new([Column::new("key", Type::Text), Column::new("price", of)]);
        let source = Declared::over(source, columns).expect("may be declared");
        let started = builder(Some(dir.path())).source(source).start();
        (started, client)
    };
    let price = |engine: &Engine| held(engine, "docs")["a"].clone();
    {
        let (engine, mut client) = start(Type::Text);
        let engine = engine.expect("starts");
        let reply = client.post("docs?wait=60", "{\"key\": \"a\", \"price\": \"12\"}\n");
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(price(&engine), [("price".to_owned(), "12".into())]);
    }
    for _again in 0..2 {
        let (engine, _) = start(Type::Integer);
        let engine = engine.expect("starts");
        assert_eq!(price(&engine), [("price".to_owned(), 12i64.into())]);
    }
    let (refused, _) = start(Type::Vector);
    let refused = refused.err().expect("does not fit").to_string();
    assert_eq!(
        refused,
        "1 rows that `docs` holds do not fit these columns, `a` for one: the column \"price\" must be \
         VECTOR, got INTEGER 12; declare the columns as before, mend or drop these rows, and declare \
         them anew"
    );
    let (engine, _) = start(Type::Integer);
    assert_eq!(
        price(&engine.expect("starts")),
        [("price".to_owned(), 12i64.into())]
    );
}

#[test]
fn a_table_of_columns_takes_rows_that_fit() {
    let columns = Schema::new([
        Column::new("key", Type::Text),
        Column::new("price", Type::Integer),
    ]);
    let engine = builder(None).start().expect("starts");
    engine.create_table_of("prices", columns).expect("new");
    let row = |price: Value| Row {
        columns: [("price", price), ("other", true.into())]
            .into_iter()
            .collect(),
        ..Row::default()
    };
    let apply = |key: &str, price: Value| engine.apply(vec![Edit::row("prices", key, row(price))]);
    apply("a", "12".into()).expect("fits");
    let refused = apply("b", "dear".into()).expect_err("does not fit");
    assert_eq!(
        refused.to_string(),
        "`b` does not fit table `prices`: the column \"price\" must be INTEGER, got TEXT \"dear\""
    );
    let expected = [("a".to_owned(), vec![("price".to_owned(), 12i64.into())])];
    assert_eq!(held(&engine, "prices"), Held::from(expected));
}

#[test]
fn a_script_over_a_state_of_other_columns_is_told_at_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let run = |text: &str| {
        let engine = builder(Some(dir.path())).start().expect("starts");
        let session = Session::new(engine, "scripted");
        session.run(&Script::new("x.sql", text), |_, _| Ok(()))?;
        session.engine().flush().expect("runs");
        Ok::<_, SessionError>(())
    };
    let insert = "CREATE TABLE prices (key TEXT, price TEXT);
        INSERT INTO prices VALUES ('a', 'dear');";
    run(insert).expect("new");
    let refused = run("CREATE TABLE prices (key TEXT, price INTEGER);").expect_err("does not fit");
    let said = refused.to_string();
    assert!(said.starts_with("x.sql:1:14: "), "{said}");
    assert!(
        said.contains("must be INTEGER, got TEXT \"dear\""),
        "{said}"
    );
    run("CREATE TABLE prices (key TEXT, price TEXT);
        DELETE FROM prices WHERE price = 'dear';")
    .expect("as before");
    run("CREATE TABLE prices (key TEXT, price INTEGER);").expect("fits");
}
