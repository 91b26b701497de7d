//! Which relations may a statement read, with which columns, and what do they hold?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use perennial_ask::Task;
use perennial_rows::Tuple;
use perennial_views::query::{Query, RelationSchema, Relations, bind};
use perennial_views::sql::{self, Diagnostic, Name, Span, nearest};
use perennial_views::{Bounds, Forecast, Observer, evaluate};

use super::outcome::{At, Fault};
use crate::engine::{Engine, RelationInfo};

/// The relations of an engine.
pub(super) struct Catalog {
    all: BTreeMap<Arc<str>, RelationInfo>,
    /// Whose models may be asked.
    engine: Engine,
}

impl Catalog {
    /// What there is now.
    pub(super) fn of(engine: &Engine, span: Span) -> Result<Self, Fault> {
        let relations = engine.relations().at(span)?.into_iter();
        let all = relations.map(|relation| (relation.name.clone(), relation));
        Ok(Self {
            all: all.collect(),
            engine: engine.clone(),
        })
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RelationInfo> {
        self.all.values()
    }

    /// Whether there is one of this name.
    pub(super) fn get(&self, name: &str) -> Option<&RelationInfo> {
        self.all.get(name)
    }

    /// The relation of a name.
    pub(super) fn expect(&self, name: &Name) -> Result<&RelationInfo, Fault> {
        self.get(&name.of).ok_or_else(|| {
            let what = format!("there is no relation {}", name.of);
            let names = self.all.keys().map(|name| &**name);
            let fault = Diagnostic::new(what, name.span);
            let fault = match nearest(&name.of, names) {
                Some(meant) => fault.help(format!("did you mean {meant}?")),
                None if self.all.is_empty() => fault.help("CREATE it first"),
                None => {
                    let names: Vec<&str> = self.all.keys().map(|name| &**name).collect();
                    fault.help(format!("there are {}", names.join(", ")))
                }
            };
            fault.into()
        })
    }

    /// What is said of sources that have failed, among all that stands behind these relations.
    pub(super) fn failures_of<'a>(&'a self, read: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut behind: Vec<&str> = read.collect();
        let mut at = 0;
        while let Some(name) = behind.get(at) {
            let reads = self.get(name).into_iter().flat_map(|of| &of.reads);
            for read in reads.map(|name| &**name).collect::<Vec<_>>() {
                if !behind.contains(&read) {
                    behind.push(read);
                }
            }
            at += 1;
        }
        let known = behind.into_iter().filter_map(|name| self.get(name));
        let failures = known.filter_map(|of| Some((&of.name, of.failure.as_ref()?)));
        failures
            .map(|(name, failure)| format!("source {name} has failed: {failure}"))
            .collect()
    }

    /// A query over what there is.
    pub(super) fn bind(&self, query: &sql::Query, span: Span) -> Result<Query, Fault> {
        bind(query, self).map_err(|errors| Fault::bind(errors, span))
    }
}

impl Relations for Catalog {
    fn relation(&self, name: &str) -> Option<RelationSchema> {
        let named = self.all.get_key_value(name).map(|(name, _)| name.clone());
        // Unquoted names are lower case here, as they are where they are made.
        let name = named.or_else(|| {
            let lower = name.to_lowercase();
            self.all
                .get_key_value(&*lower)
                .map(|(name, _)| name.clone())
        })?;
        Some(RelationSchema::from(&self.all[&name]))
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.all.keys().cloned().collect()
    }

    fn models(&self) -> Vec<Arc<str>> {
        Relations::models(&self.engine)
    }

    fn check_task(&self, model: Option<&str>, task: &Task) -> Result<(), String> {
        self.engine.check_task(model, task)
    }
}

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
fn inputs(engine: &Engine, query: &Query, span: Span) -> Result<Vec<Vec<(Tuple, isize)>>, Fault> {
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
