//! What is bound, and what is refused with which words.

mod asks;
mod builder;
mod clauses;
mod columns;
mod meaning;
mod pairs;
mod table_function;

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_ask::{Output, Task};
use perennial_rows::{Column, Schema, Type};

use sqlparser::ast::{self, Statement};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use perennial_views::query::{BindErrors, OrderBy, Query, RelationSchema, Relations, bind};

/// Orders of a shop, its documents, and events of which little is declared.
pub(crate) struct Shop;

impl Relations for Shop {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let schema = |columns: &[(&str, Type)], unique: &[&str]| RelationSchema {
            columns: Schema::new(columns.iter().map(|(name, of)| Column::new(*name, *of))),
            is_open: false,
            unique: unique.iter().map(|name| vec![Arc::from(*name)]).collect(),
        };
        match name {
            "orders" => Some(schema(
                &[
                    ("id", Type::Integer),
                    ("doc", Type::Text),
                    ("region", Type::Text),
                    ("price", Type::Float),
                    ("amount", Type::Integer),
                ],
                &["id"],
            )),
            "docs" => Some(schema(
                &[
                    ("key", Type::Text),
                    ("title", Type::Text),
                    ("updated_at", Type::Timestamp),
                ],
                &["key"],
            )),
            "events" => Some(RelationSchema {
                is_open: true,
                ..schema(&[("key", Type::Text)], &["key"])
            }),
            _ => None,
        }
    }

    fn names(&self) -> Vec<Arc<str>> {
        ["docs", "events", "orders"].map(Arc::from).to_vec()
    }

    fn models(&self) -> Vec<Arc<str>> {
        vec!["small".into()]
    }

    fn check_task(&self, model: Option<&str>, task: &Task) -> Result<(), String> {
        match (model, task.output()) {
            (Some("small"), Output::Text { max_tokens: 100.. }) => Err("too long".to_owned()),
            _ => Ok(()),
        }
    }
}

pub(crate) fn parse(sql: &str) -> ast::Query {
    let mut statements = Parser::parse_sql(&GenericDialect {}, sql).expect(sql);
    match statements.remove(0) {
        Statement::Query(query) => *query,
        other => panic!("{other} is no query"),
    }
}

pub(crate) fn sql(text: &str) -> Result<Query, BindErrors> {
    bind(&parse(text), &Shop)
}

/// The errors of a query, and what their places cover.
fn errors(text: &str) -> Vec<(String, String)> {
    let errors = sql(text).expect_err(text).0;
    let errors = errors.into_iter().map(|error| {
        let place = error.span.map_or(String::new(), |span| {
            assert_eq!(span.start.line, 1, "{text}");
            let (from, to) = (span.start.column as usize - 1, span.end.column as usize - 1);
            text.chars().skip(from).take(to - from).collect()
        });
        (place, error.message)
    });
    errors.collect()
}

#[track_caller]
fn refused(text: &str, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(place, message)| (place.to_string(), message.to_string()))
        .collect();
    assert_eq!(errors(text), expected, "{text}");
}

#[track_caller]
fn explained(text: &str, expected: &str) {
    let query = sql(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    assert_eq!(query.to_string(), expected, "{text}");
}
