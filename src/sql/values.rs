//! What is a value that a statement writes down, and does it fit its column?

use std::sync::Arc;

use perennial_ask::Task;
use perennial_rows::{Schema, Type, Value};
use perennial_views::query::{RelationSchema, Relations, bind, instant};
use perennial_views::sql::{self, Diagnostic, Expr, Span, Spanned};
use perennial_views::{Bounds, evaluate};

use super::outcome::Fault;

/// Relations for values that name none.
struct Nothing;

impl Relations for Nothing {
    fn relation(&self, _name: &str) -> Option<RelationSchema> {
        None
    }

    fn check_task(&self, _model: Option<&str>, _task: &Task) -> Result<(), String> {
        Err("a value that is written down asks no model".to_owned())
    }
}

/// The values of a row that an `INSERT` writes down.
pub(super) fn row(written: &[Spanned<Expr>]) -> Result<Vec<Value>, Fault> {
    let literals: Option<Vec<Value>> = written.iter().map(|one| sql::literal(&one.of)).collect();
    // Most are; what is computed is computed as in a query.
    if let Some(values) = literals {
        return Ok(values);
    }
    let span = written.iter().map(|value| value.span);
    let span = span
        .reduce(|all, one| all.union(&one))
        .unwrap_or(Span::empty());
    let query = bind(&sql::row(written), &Nothing).map_err(|e| Fault::bind(e, span))?;
    match evaluate(&query, Vec::new(), None, &Bounds::default())?.as_slice() {
        [row] => Ok(row.to_vec()),
        _ => Err(Fault::said("these values are no single row", span)),
    }
}

/// A value as its column holds it: besides what [`Value::coerce`] allows, a text that is an
/// instant, and a text that is JSON.
pub(super) fn fitted(
    value: Value,
    column: &Arc<str>,
    of: Type,
    span: Span,
) -> Result<Value, Fault> {
    let given = value.clone();
    let read = match (&value, of) {
        (Value::Text(text), Type::Timestamp) => instant(text).map(Value::Timestamp),
        (Value::Text(text), Type::Json) => serde_json::from_str(text).ok().map(|json| {
            // What is neither a list nor an object stands in a JSON column all the same.
            match Value::from_json(&json) {
                list_or_object @ Value::Json(_) => list_or_object,
                _ => Value::Json(json.to_string().into()),
            }
        }),
        (Value::Json(text), Type::Vector) => vector(text),
        (Value::Text(text), Type::Vector) => vector(text),
        _ => value.coerce(of),
    };
    read.ok_or_else(|| {
        let shown: String = given.to_string().chars().take(40).collect();
        let what = format!("column {column} holds {of}, which `{shown}` is not");
        let fault = Diagnostic::new(what, span);
        let fault = match of {
            Type::Timestamp => fault.help("write it as '2026-05-01T09:00:00Z', or '2026-05-01'"),
            Type::Vector => fault.help("write it as '[0.5, 1]'"),
            Type::Json => fault.help("write it as '{\"a\": [1, 2]}'"),
            _ => fault,
        };
        fault.into()
    })
}

/// A JSON list of numbers.
fn vector(text: &str) -> Option<Value> {
    let elements: Vec<f32> = serde_json::from_str(text).ok()?;
    Some(Value::vector(&elements))
}

/// The place of a column: by its name as it is written, else in any case of letters.
pub(super) fn position(schema: &Schema, name: &str) -> Option<usize> {
    schema.position(name).or_else(|| {
        let columns = schema.columns().iter();
        let lower = name.to_lowercase();
        columns
            .map(|column| column.name.to_lowercase())
            .position(|column| column == lower)
    })
}
