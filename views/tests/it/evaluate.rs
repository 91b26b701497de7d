//! What is a query over rows that are there?

use std::sync::Arc;

use perennial_ask::Executor;
use perennial_ask::scripted::{Scripted, ScriptedEmbedder};
use perennial_rows::{Column, Schema, Tuple, Type, Value};
use perennial_views::query::{RelationSchema, Relations, bind};
use perennial_views::sql::{Script, Statement, parse};
use perennial_views::{Asking, Bounds, Embeddings, Exceeded, Outputs, evaluate};

struct Towns;

impl Relations for Towns {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let columns = [("key", Type::Text), ("n", Type::Integer)];
        (name == "towns").then(|| RelationSchema {
            columns: Schema::new(columns.map(|(name, of)| Column::new(name, of))),
            is_open: false,
            unique: vec![vec![Arc::from("key")]],
        })
    }
}

/// A scripted model and embedder.
fn asking() -> Asking {
    let executor = Arc::new(Executor::new(2));
    let outputs = Outputs::new(Arc::new(Scripted::new()), Arc::new(()), executor.clone());
    let embedder = Arc::new(ScriptedEmbedder::default());
    let embeddings = Embeddings::new(embedder, Arc::new(()), executor);
    let asking = Asking::new("a query".into(), Arc::new(outputs), Arc::new(()));
    asking.embedding_with(Arc::new(embeddings))
}

fn asked(text: &str) -> Vec<String> {
    asked_within(text, &Bounds::default()).expect("there are no bounds")
}

fn asked_within(text: &str, bounds: &Bounds) -> Result<Vec<String>, Exceeded> {
    let mut statements = parse(&Script::new("t", text)).expect("sound");
    let Statement::Select(query) = statements.remove(0).of else {
        panic!("a query");
    };
    let query = bind(&query, &Towns).expect("binds");
    let town = |key: &str, n: Value| -> [(&str, Value); 2] { [("key", key.into()), ("n", n)] };
    let all = [
        town("a", 2i64.into()),
        town("b", Value::Null),
        town("c", 10i64.into()),
    ];
    let inputs = query.inputs().iter().map(|input| {
        let rows = all.iter().map(|town| {
            let columns = input.columns.columns().iter();
            let value = |name: &str| {
                let found = town.iter().find(|(column, _)| *column == name);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            };
            (columns.map(|column| value(&column.name)).collect(), 1)
        });
        rows.collect()
    });
    let inputs = inputs.collect();
    let shown = |row: &Tuple| {
        row.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("|")
    };
    let rows = evaluate(&query, inputs, Some(&asking()), bounds)?;
    Ok(rows.iter().map(shown).collect())
}

#[test]
fn rows_come_in_the_order_that_is_asked_for() {
    assert_eq!(
        asked("SELECT key, n FROM towns ORDER BY n DESC NULLS LAST"),
        ["c|10", "a|2", "b|NULL"]
    );
    assert_eq!(
        asked("SELECT n FROM towns ORDER BY n NULLS FIRST"),
        ["NULL", "2", "10"]
    );
    assert_eq!(asked("SELECT key FROM towns WHERE n > 1"), ["a", "c"]);
}

#[test]
fn a_row_stands_as_often_as_it_is_there() {
    let twice = "SELECT 1 AS x FROM towns WHERE n > 1";
    assert_eq!(asked(twice), ["1", "1"]);
    assert_eq!(asked("SELECT count(*), max(n) FROM towns"), ["3|10"]);
    assert_eq!(asked("VALUES (1 + 2, upper('x'))"), ["3|X"]);
}

#[test]
fn a_result_has_as_many_rows_as_it_may_and_no_more() {
    let bounds = |n_rows| Bounds {
        n_rows,
        ..Bounds::default()
    };
    let nine = "SELECT 1 AS x FROM towns a CROSS JOIN towns b";
    let rows = asked_within(nine, &bounds(9)).expect("nine rows");
    assert_eq!(rows.len(), 9);
    assert_eq!(
        asked_within(nine, &bounds(8)),
        Err(Exceeded::Rows { limit: 8 })
    );
    // Here it is the result that LIMIT makes smaller.
    let few = format!("{nine} LIMIT 2");
    assert_eq!(asked_within(&few, &bounds(8)).map(|rows| rows.len()), Ok(2));
    let aliases: Vec<String> = (0..12).map(|n| format!("towns t{n}")).collect();
    let many = format!("SELECT 1 AS x FROM {}", aliases.join(" CROSS JOIN "));
    assert_eq!(
        asked_within(&many, &bounds(10_000)),
        Err(Exceeded::Rows { limit: 10_000 })
    );
}

#[test]
fn pairs_of_joins_are_bounded_whatever_comes_of_them() {
    let bounds = Bounds {
        n_pairs: 100,
        ..Bounds::default()
    };
    let joined = "SELECT a.key FROM towns a CROSS JOIN towns b CROSS JOIN towns c \
                  CROSS JOIN towns d CROSS JOIN towns e";
    // Pairs that a condition refuses count, and a LIMIT stands behind them.
    for text in [
        format!("{joined} WHERE a.key || b.key || c.key || d.key || e.key = 'none'"),
        format!("{joined} WHERE a.key || b.key || c.key || d.key || e.key > '' LIMIT 1"),
    ] {
        assert_eq!(
            asked_within(&text, &bounds),
            Err(Exceeded::Pairs { limit: 100 }),
            "{text}"
        );
    }
    // What stays within is as it was, also behind what did not.
    let joined = "SELECT a.key FROM towns a JOIN towns b ON a.key = b.key ORDER BY a.key";
    assert_eq!(
        asked_within(joined, &bounds),
        Ok(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
    );
}

#[test]
fn products_of_vectors_count_as_pairs_that_a_join_looks_at() {
    let text = "SELECT a.key FROM towns a JOIN towns b
                ON a.n = b.n AND sem_match('Is {a.key} near {b.key}?', nearest => 1)";
    let bounds = |n_pairs| Bounds {
        n_pairs,
        ..Bounds::default()
    };
    // Two towns have a number: two products, and two pairs that are asked about.
    assert!(asked_within(text, &bounds(4)).is_ok());
    assert_eq!(
        asked_within(text, &bounds(1)),
        Err(Exceeded::Pairs { limit: 1 })
    );
    let text = text.replace("a.n = b.n AND ", "");
    assert!(asked_within(&text, &bounds(9 + 3)).is_ok());
    assert_eq!(
        asked_within(&text, &bounds(8)),
        Err(Exceeded::Pairs { limit: 8 })
    );
}

#[test]
fn it_ends_when_its_time_is_over_or_nobody_wants_it() {
    let text = "SELECT key FROM towns";
    let late = Bounds {
        until: Some(std::time::Instant::now()),
        ..Bounds::default()
    };
    assert_eq!(asked_within(text, &late), Err(Exceeded::Late));
    let given_up = Bounds::default();
    given_up.cancel.cancel();
    assert_eq!(asked_within(text, &given_up), Err(Exceeded::Cancelled));
}
