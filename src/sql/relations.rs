//! What do the relations hold that a query reads, and what does it give, or ask?

use std::sync::{Arc, Mutex, PoisonError};

use perennial_rows::Tuple;
use perennial_views::query::Query;
use perennial_views::sql::Span;
use perennial_views::{Bounds, Forecast, Measures, Observer, analyze, evaluate};

use super::outcome::{At as _, Fault};
use crate::engine::Engine;

/// Hears which calls of one query fail.
#[derive(Default)]
struct Failures(Mutex<Vec<String>>);

impl Observer for Failures {
    fn passed_over(&self, _view: &str, text: &str, reason: &str) {
        let beginning: String = text.chars().take(60).collect();
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(format!("NULL was said of `{beginning}…`: {reason}"));
    }
}

/// The rows of a query over what its relations hold now, and what failed on the way.
pub(super) fn rows(
    engine: &Engine,
    query: &Query,
    span: Span,
    bounds: &Bounds,
) -> Result<(Vec<Tuple>, Vec<String>), Fault> {
    let inputs = inputs(engine, query, span)?;
    let failures = Arc::new(Failures::default());
    let asking = engine.asking(query, failures.clone()).at(span)?;
    let rows = evaluate(query, inputs, Some(&asking), bounds)?;
    let mut failures = failures.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((rows, std::mem::take(&mut failures)))
}

/// How many rows a query has over what its relations hold now, what its operators did, and what failed on
/// the way.
pub(super) fn analyzed(
    engine: &Engine,
    query: &Query,
    span: Span,
    bounds: &Bounds,
) -> Result<(usize, Arc<Measures>, Vec<String>), Fault> {
    let inputs = inputs(engine, query, span)?;
    let failures = Arc::new(Failures::default());
    let asking = engine.asking(query, failures.clone()).at(span)?;
    let (rows, measures) = analyze(query, inputs, Some(&asking), bounds)?;
    let mut failures = failures.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((rows.len(), measures, std::mem::take(&mut failures)))
}

/// What a query would ask over what its relations hold now.
pub(super) fn forecast(
    engine: &Engine,
    query: &Query,
    span: Span,
    bounds: &Bounds,
) -> Result<Forecast, Fault> {
    let inputs = inputs(engine, query, span)?;
    let asking = engine.asking(query, Arc::new(())).at(span)?;
    Ok(perennial_views::forecast(query, &inputs, &asking, bounds)?)
}

/// The rows that a query reads.
pub(super) fn inputs(
    engine: &Engine,
    query: &Query,
    span: Span,
) -> Result<Vec<Vec<(Tuple, isize)>>, Fault> {
    let inputs = query.inputs().iter().map(|input| {
        let held = engine.snapshot(&input.relation).at(span)?;
        let columns = input.columns.columns().iter();
        let places: Vec<_> = columns
            .map(|column| (held.schema.position(&column.name), column.of))
            .collect();
        let rows = held.rows.into_iter().map(|(tuple, count)| {
            let values = places.iter().map(|(at, of)| match at {
                // What is not of its declared type is no value of the column.
                Some(at) => tuple[*at].clone().coerce(*of).unwrap_or_default(),
                None => perennial_rows::Value::Null,
            });
            (values.collect::<Tuple>(), count)
        });
        Ok(rows.collect())
    });
    inputs.collect()
}
