//! From `INSERT`, `UPDATE` and `DELETE` to edits of rows.
//!
//! A row is told from others by its key. An insertion whose key stands takes the row's place, so
//! that a script can be run again over what it left. What is found by a condition is found in the
//! rows that stand: who calls this has waited for earlier edits.

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_rows::{KEY, SUPERSEDES, Schema, TEXT, TITLE, UPDATED_AT, Value};
use perennial_views::Bounds;
use perennial_views::sql::{Delete, Diagnostic, Insert, Name, Span, Update, literal};

use super::catalog::Catalog;
use super::outcome::{At as _, Fault};
use super::relations;
use super::values::{fitted, position, row};
use crate::engine::{Edit, Engine, RelationKind};

/// The edits of an insertion.
pub(super) fn insert(insert: &Insert, catalog: &Catalog) -> Result<Vec<Edit>, Fault> {
    let schema = table(&insert.table, catalog)?;
    let places: Vec<usize> = match &insert.columns {
        None => (0..schema.columns().len()).collect(),
        Some(columns) => {
            let places = columns
                .iter()
                .map(|column| place(&schema, &insert.table, column));
            places.collect::<Result<_, _>>()?
        }
    };
    let has_key = places.iter().any(|at| &*schema.columns()[*at].name == KEY);
    if !has_key {
        let what = "these rows have no key";
        return Err(Fault::said(what, insert.table.span));
    }
    let mut edits = Vec::new();
    let mut said = Vec::new();
    for written in &insert.rows {
        let span = written.iter().map(|value| value.span);
        let span = span.reduce(|all, one| all.union(&one));
        let span = span.unwrap_or(insert.table.span);
        if written.len() != places.len() {
            let what = format!("{} values for {} columns", written.len(), places.len());
            said.push(Diagnostic::new(what, span).help(format!("they are {schema}")));
            continue;
        }
        let made = row(written).and_then(|values| {
            let columns = places.iter().zip(values).zip(written);
            let columns = columns.map(|((at, value), written)| {
                let column = &schema.columns()[*at];
                let value = fitted(value, &column.name, column.of, written.span)?;
                Ok((column.name.clone(), value))
            });
            let columns: Vec<_> = columns.collect::<Result<_, Fault>>()?;
            edit(&insert.table.of, columns, span)
        });
        match made {
            Ok(edit) => edits.push(edit),
            Err(Fault::Said(more)) => said.extend(more),
            Err(fault) => return Err(fault),
        }
    }
    match said.is_empty() {
        true => Ok(edits),
        false => Err(Fault::Said(said)),
    }
}

/// Whether an update may be carried out, whatever the rows are.
pub(super) fn check_update(update: &Update, catalog: &Catalog, span: Span) -> Result<(), Fault> {
    let schema = table(&update.table, catalog)?;
    for (column, written) in &update.set {
        let at = place(&schema, &update.table, column)?;
        if let Some(value) = literal(&written.of) {
            fitted(value, &column.of, schema.columns()[at].of, written.span)?;
        }
    }
    catalog.bind(&update.query(), span).map(drop)
}

/// Whether a deletion may be carried out, whatever the rows are.
pub(super) fn check_delete(delete: &Delete, catalog: &Catalog, span: Span) -> Result<(), Fault> {
    table(&delete.table, catalog)?;
    catalog.bind(&delete.query(), span).map(drop)
}

/// The edits of an update, and the number of rows that it changes.
pub(super) fn update(
    update: &Update,
    catalog: &Catalog,
    engine: &Engine,
    span: Span,
    bounds: &Bounds,
) -> Result<(Vec<Edit>, usize), Fault> {
    let schema = table(&update.table, catalog)?;
    let set = update.set.iter();
    let set: Vec<usize> = set
        .map(|(column, _)| place(&schema, &update.table, column))
        .collect::<Result<_, _>>()?;
    let query = catalog.bind(&update.query(), span)?;
    let (rows, _) = relations::rows(engine, &query, span, bounds)?;
    let n_columns = schema.columns().len();
    let key = schema.position(KEY).unwrap_or_default();
    let (mut moved, mut edits) = (Vec::new(), Vec::new());
    for row in &rows {
        let mut values = row[..n_columns].to_vec();
        for ((at, value), (column, written)) in set.iter().zip(&row[n_columns..]).zip(&update.set) {
            let of = schema.columns()[*at].of;
            values[*at] = fitted(value.clone(), &column.of, of, written.span)?;
        }
        if values[key] != row[key]
            && let (Some(old), Some(new)) = (row[key].as_text(), values[key].as_text())
        {
            moved.push((old.clone(), new.clone()));
        }
        // What was changed is new, unless the statement says when.
        let keeps_time = |at: usize| set.contains(&at);
        let columns = schema.columns().iter().zip(values).enumerate();
        let columns = columns.filter(|(at, (c, _))| &*c.name != UPDATED_AT || keeps_time(*at));
        let columns = columns.map(|(_, (column, value))| (column.name.clone(), value));
        edits.push(edit(&update.table.of, columns.collect(), span)?);
    }
    check_free(update, &moved, engine, span)?;
    // First all that leave a key, for another row of the statement may come under it.
    let left = moved
        .iter()
        .map(|(old, _)| Edit::delete(&*update.table.of, &**old));
    Ok((left.chain(edits).collect(), rows.len()))
}

/// Whether rows that an update gives other keys take no other row's: it would be gone without a word.
fn check_free(
    update: &Update,
    moved: &[(Arc<str>, Arc<str>)],
    engine: &Engine,
    span: Span,
) -> Result<(), Fault> {
    if moved.is_empty() {
        return Ok(());
    }
    let snapshot = engine.snapshot(&update.table.of).at(span)?;
    let key = snapshot.schema.position(KEY).unwrap_or_default();
    let leaves = |key: &Arc<str>| moved.iter().any(|(old, _)| old == key);
    let rows = snapshot.rows.iter();
    let stands = rows.filter_map(|(row, _)| row.get(key)?.as_text());
    let mut taken: BTreeSet<&Arc<str>> = stands.filter(|key| !leaves(key)).collect();
    match moved.iter().find(|(_, new)| !taken.insert(new)) {
        None => Ok(()),
        Some((old, new)) => {
            let what = format!("'{old}' cannot become '{new}': another row has that key");
            let help = "delete the other row first, or give each row a key of its own";
            Err(Diagnostic::new(what, span).help(help).into())
        }
    }
}

/// The edits of a deletion.
pub(super) fn delete(
    delete: &Delete,
    catalog: &Catalog,
    engine: &Engine,
    span: Span,
    bounds: &Bounds,
) -> Result<Vec<Edit>, Fault> {
    let schema = table(&delete.table, catalog)?;
    let query = catalog.bind(&delete.query(), span)?;
    let key = schema.position(KEY).unwrap_or_default();
    let (rows, _) = relations::rows(engine, &query, span, bounds)?;
    let keys = rows.iter().filter_map(|row| row[key].as_text());
    Ok(keys
        .map(|key| Edit::delete(&*delete.table.of, &**key))
        .collect())
}

/// The columns of a table that is fed by hand.
fn table(name: &Name, catalog: &Catalog) -> Result<Schema, Fault> {
    let relation = catalog.expect(name)?;
    if relation.kind != RelationKind::Table {
        let what = format!("{} is no table: it is not fed by hand", name.of);
        return Err(Fault::said(what, name.span));
    }
    Ok(relation.schema.clone())
}

fn place(schema: &Schema, table: &Name, column: &Name) -> Result<usize, Fault> {
    position(schema, &column.of).ok_or_else(|| {
        let what = format!("table {} has no column {}", table.of, column.of);
        let names: Vec<&str> = schema
            .columns()
            .iter()
            .map(|column| &*column.name)
            .collect();
        let fault = Diagnostic::new(what, column.span);
        let nearest = perennial_views::sql::nearest(&column.of, names.iter().copied());
        match nearest {
            Some(meant) => fault.help(format!("did you mean {meant}?")).into(),
            None => fault.help(format!("it has {}", names.join(", "))).into(),
        }
    })
}

/// An edit that sets a row to these values.
fn edit(table: &str, columns: Vec<(Arc<str>, Value)>, span: Span) -> Result<Edit, Fault> {
    let found = |name: &str| {
        let column = columns.iter().find(|(of, _)| &**of == name);
        column.map_or(&Value::Null, |(_, value)| value)
    };
    let key = match found(KEY) {
        Value::Text(key) if !key.is_empty() => key.clone(),
        _ => {
            return Err(Fault::said(
                "the key of a row cannot be NULL or empty",
                span,
            ));
        }
    };
    let text: Arc<str> = found(TEXT).as_text().cloned().unwrap_or_default();
    let mut edit = Edit::upsert(table, &*key, text);
    if let Some(title) = found(TITLE).as_text() {
        edit = edit.titled(title.clone());
    }
    if let Value::Timestamp(ms) = found(UPDATED_AT) {
        edit = edit.at(*ms);
    }
    if let json @ Value::Json(_) = found(SUPERSEDES) {
        let json = json.to_json();
        let keys = json.as_array().into_iter().flatten();
        let keys: Vec<&str> = keys.filter_map(|key| key.as_str()).collect();
        edit = edit.superseding(keys);
    }
    let has_meaning = |name: &str| [KEY, TEXT, TITLE, UPDATED_AT, SUPERSEDES].contains(&name);
    for (name, value) in columns {
        if !has_meaning(&name) && value != Value::Null {
            edit = edit.with(&name, value);
        }
    }
    Ok(edit)
}
