//! What reads the network, for a fuzzer (`fuzz/run`): one function a target. No part of the interface.

use std::sync::Arc;

use perennial_rows::{Column, Schema, Tuple, Type, Value};
use perennial_views::query::{RelationSchema, Relations, bind};
use perennial_views::sql::{self, Errors, Script, Spanned, Statement};

use crate::{mcp, serve};

/// The most tables of a query that is evaluated.
const MAX_INPUTS: usize = 5;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("sql", |bytes| text(bytes, script)),
    ("query", |bytes| text(bytes, query)),
    ("posted", perennial_connectors::fuzz::posted),
    ("kafka", perennial_connectors::fuzz::message),
    ("openai", serve::fuzz::openai),
    ("remote", perennial_ask::remote::fuzz::reply),
    ("names", |bytes| text(bytes, names)),
];

fn text(bytes: &[u8], of: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        of(text);
    }
}

/// What stands in paths, headers and small files, and says which thing is meant.
fn names(text: &str) {
    serve::fuzz::event_id(text);
    serve::fuzz::token_file(text);
    mcp::fuzz::address(text);
    perennial_ask::remote::fuzz::address(text);
    perennial_connectors::fuzz::host(text);
    perennial_connectors::fuzz::time(text);
    perennial_connectors::fuzz::token(text);
}

fn parsed(text: &str) -> Result<Vec<Spanned<Statement>>, Errors> {
    sql::parse(&Script::new("fuzz", text))
}

/// What the library prints as it stands in a text, though there it would have to be doubled: quotes that follow
/// each other, or a backslash.
const ODD: [&str; 4] = ["''''", "\\'", "\"\"\"\"", "\\\""];

/// Statements are read as they are printed, and what is wrong is told with its place.
fn script(text: &str) {
    sql::is_complete(text);
    match parsed(text) {
        Ok(_) if ODD.iter().any(|odd| text.contains(odd)) => {}
        Ok(statements) => {
            for Spanned { of, .. } in statements {
                let printed = of.to_string();
                match parsed(&printed).as_deref() {
                    Ok([again]) => assert_eq!(again.of, of, "{printed}"),
                    other => panic!("{printed}: {other:?}"),
                }
            }
        }
        Err(errors) => {
            let n_lines = text.split('\n').count() as u64;
            for fault in errors.faults() {
                assert!((1..=n_lines).contains(&fault.span.start.line), "{errors}");
            }
            assert!(!errors.to_string().is_empty());
        }
    }
}

/// A relation with a column of each type.
struct Things;

const COLUMNS: [(&str, Type); 8] = [
    ("key", Type::Text),
    ("text", Type::Text),
    ("n", Type::Integer),
    ("x", Type::Float),
    ("is", Type::Boolean),
    ("at", Type::Timestamp),
    ("v", Type::Vector),
    ("json", Type::Json),
];

impl Relations for Things {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        (name == "t").then(|| RelationSchema {
            columns: Schema::new(COLUMNS.map(|(name, of)| Column::new(name, of))),
            is_open: true,
            unique: vec![vec![Arc::from("key")]],
        })
    }
}

/// The value of a column in a row of `t`, whose rows hold what is ordinary, extreme, and nothing.
fn value(row: usize, column: &str) -> Value {
    let ordinary = row == 0;
    match (column, row) {
        ("key", _) => Value::text(["a", "b", "c"][row]),
        (_, 2) => Value::Null,
        ("text", _) => Value::text(if ordinary {
            "one two"
        } else {
            "Ünï\u{0}\u{1f980}"
        }),
        ("n", _) => Value::Integer(if ordinary { 3 } else { i64::MIN }),
        ("x", _) => Value::float(if ordinary { 0.5 } else { f64::INFINITY }),
        ("is", _) => Value::Boolean(ordinary),
        ("at", _) => Value::Timestamp(if ordinary {
            1_700_000_000_000
        } else {
            i64::MAX
        }),
        ("v", _) => Value::vector(if ordinary { &[1.0, 0.0] } else { &[f32::MAX] }),
        ("json", _) => Value::from_json(&serde_json::json!({"a": [1, {"b": null}], "c": "d"})),
        _ => Value::Null,
    }
}

/// A query is bound, and where it asks no model and joins little, answered.
fn query(text: &str) {
    let Ok(statements) = parsed(text) else { return };
    for Spanned { of, .. } in statements.iter().take(1) {
        let Statement::Select(query) = of else { return };
        let query = match bind(query, &Things) {
            Ok(query) => query,
            Err(errors) => {
                assert!(!errors.to_string().is_empty());
                return;
            }
        };
        if query.asks() || query.embeds() || query.inputs().len() > MAX_INPUTS {
            return;
        }
        let inputs = query.inputs().iter().map(|input| -> Vec<(Tuple, isize)> {
            let row = |row| {
                let columns = input.columns.columns().iter();
                (columns.map(|column| value(row, &column.name)).collect(), 1)
            };
            (0..3).map(row).collect()
        });
        let bounds = perennial_views::Bounds {
            n_rows: 1_000,
            n_pairs: 20_000,
            ..perennial_views::Bounds::default()
        };
        let once = perennial_views::evaluate(&query, inputs.clone().collect(), None, &bounds);
        let again = perennial_views::evaluate(&query, inputs.collect(), None, &bounds);
        assert_eq!(once, again, "{text}");
    }
}
