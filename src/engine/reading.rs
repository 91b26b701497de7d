//! How does a view read a relation?
//!
//! A stream holds rows with columns by name; a view holds tuples under a schema. Whoever reads
//! documents or contexts sees rows of either; whoever reads tuples sees the columns that it names.

use std::sync::Arc;

use perennial_bank::{ContextKey, Document, DocumentKey};
use perennial_rows::{
    Column, KEY, Key, Row, SUPERSEDES, Schema, TEXT, TITLE, Tuple, Type, UPDATED_AT, Value,
};

use super::change_log::{BagChange, KeyedChange};
use super::names::{StreamId, ViewId};

/// What a view reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Rows of a stream.
    Stream(StreamId),
    /// What another view says.
    View(ViewId),
}

/// Name of the column in which a view of answers holds the context's text.
pub(crate) const QUESTION: &str = "question";

/// Name of the column of contexts that says how urgent they are.
const PRIORITY: &str = "priority";

/// A title is read with each passage of its document: of a longer one its beginning is, in bytes. Sources
/// refuse such records; a table or a view may hold one.
const MAX_TITLE: usize = 4096;

/// The columns of a view of answers. Of a context whose call failed there is no tuple.
pub(crate) fn answers_schema() -> Schema {
    Schema::new([KEY, QUESTION, TEXT].map(|name| Column::new(name, Type::Text)))
}

/// The values by which contexts and documents meet. `None` if one of them is null: such a
/// document is seen by no context.
pub(crate) fn group(key: &Key, row: &Row, matching: &[Arc<str>]) -> Option<Tuple> {
    if matching.is_empty() {
        return Some(Tuple::default());
    }
    let values = matching.iter().map(|name| row.column(key, name));
    let group: Tuple = values.collect();
    (!group.contains(&Value::Null)).then_some(group)
}

/// The group of a context that meets no document.
pub(crate) fn alone(key: &Key) -> Tuple {
    [Value::Null, key.text().into()].into()
}

/// The beginning of a text, of at most so many bytes.
fn beginning(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A row as a document.
pub(crate) fn document(key: &Key, row: &Row) -> Document {
    let title = row.title.as_ref().map(|title| match title.len() {
        0..=MAX_TITLE => title.clone(),
        _ => beginning(title, MAX_TITLE).into(),
    });
    let supersedes = row.supersedes.iter();
    Document {
        key: DocumentKey::new(key.text()),
        title: title.unwrap_or_else(|| key.text()),
        text: row.text.clone(),
        updated_at_ms: row.updated_at_ms,
        supersedes: match row.supersedes.is_empty() {
            true => Arc::default(),
            false => supersedes.map(|key| DocumentKey::new(key.text())).collect(),
        },
    }
}

/// A row as a context.
pub(crate) fn context(key: &Key, row: &Row) -> (ContextKey, Arc<str>) {
    (ContextKey::new(key.text()), row.text.clone())
}

/// How urgent a row is as a context: the higher, the sooner it is answered. Zero where it does
/// not say, or not by a whole number.
pub(crate) fn priority(row: &Row) -> i64 {
    match row.columns.get(PRIORITY) {
        Some(Value::Integer(priority)) => *priority,
        _ => 0,
    }
}

/// A tuple of a view as a row, for those who read documents or contexts of it. `None` if it has no
/// key or no text.
pub(crate) fn row(schema: &Schema, tuple: &Tuple) -> Option<(Key, Row)> {
    let value = |name: &str| schema.position(name).map(|at| &tuple[at]);
    let text = |name: &str| match value(name)? {
        Value::Null => None,
        Value::Text(text) => Some(text.clone()),
        other => Some(other.to_string().into()),
    };
    let key = Key::new(text(KEY)?);
    let supersedes: Vec<Key> = match value(SUPERSEDES) {
        Some(Value::Text(key)) => vec![Key::new(key.clone())],
        Some(json @ Value::Json(_)) => {
            let json = json.to_json();
            let keys = json.as_array().into_iter().flatten();
            keys.filter_map(|key| key.as_str().map(Key::from)).collect()
        }
        _ => Vec::new(),
    };
    let has_meaning = |name: &str| [KEY, TEXT, TITLE, UPDATED_AT, SUPERSEDES].contains(&name);
    let columns = schema.columns().iter().zip(tuple.iter());
    let carried = columns.filter(|(column, _)| !has_meaning(&column.name));
    let row = Row {
        text: text(TEXT)?,
        title: text(TITLE),
        updated_at_ms: match value(UPDATED_AT) {
            Some(Value::Timestamp(ms) | Value::Integer(ms)) => *ms,
            _ => 0,
        },
        is_timed: false,
        supersedes: supersedes.into(),
        columns: carried
            .map(|(column, value)| (column.name.clone(), value.clone()))
            .collect(),
    };
    Some((key, row))
}

/// The change of a stream as tuples of these columns: rows that differ in others only are none.
pub(crate) fn tuples(columns: &Schema, change: &KeyedChange) -> BagChange {
    let mut tuples = BagChange::default();
    for (key, old, new) in change.iter() {
        old.into_iter()
            .for_each(|row| tuples.add(row.tuple(key, columns), -1));
        new.into_iter()
            .for_each(|row| tuples.add(row.tuple(key, columns), 1));
    }
    tuples
}

/// The change of a view as tuples of some of its columns. One that it has not holds null.
pub(crate) fn columns(schema: &Schema, columns: &Schema, change: &BagChange) -> BagChange {
    let places = columns.columns().iter();
    let places: Vec<Option<usize>> = places.map(|c| schema.position(&c.name)).collect();
    let mut tuples = BagChange::default();
    for (tuple, diff) in change.iter() {
        let values = places.iter();
        let values = values.map(|place| place.map_or(Value::Null, |place| tuple[place].clone()));
        tuples.add(values.collect(), diff);
    }
    tuples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_title_without_end_the_beginning_is_read() {
        let titled = |title: String| {
            let row = Row {
                title: Some(title.into()),
                ..Row::default()
            };
            document(&Key::new("k"), &row).title
        };
        assert_eq!(&*titled("Hours".to_owned()), "Hours");
        let longest = "a".repeat(MAX_TITLE);
        assert_eq!(*titled(longest.clone()), *longest);
        let cut = titled("\u{4e2d}".repeat(MAX_TITLE));
        assert_eq!(cut.len(), MAX_TITLE / 3 * 3);
        let untitled = document(&Key::new("k"), &Row::default());
        assert_eq!(&*untitled.title, "k");
    }

    #[test]
    fn a_tuple_with_key_and_text_is_a_row_and_its_other_columns_are_carried() {
        let names = [KEY, "price", TEXT, UPDATED_AT, SUPERSEDES];
        let schema = Schema::new(names.map(|name| Column::new(name, Type::Any)));
        let tuple = |key: Value, text: Value| -> Tuple {
            let old = Value::Json(r#"["a","b"]"#.into());
            [key, 12i64.into(), text, Value::Timestamp(7), old].into()
        };
        let (key, row) = row(&schema, &tuple(3i64.into(), "body".into())).expect("a row");
        assert_eq!(
            (key.as_str(), &*row.text, row.updated_at_ms),
            ("3", "body", 7)
        );
        assert_eq!(row.columns.get("price"), Some(&12i64.into()));
        assert_eq!(*row.supersedes, [Key::from("a"), Key::from("b")]);
        assert_eq!(
            super::row(&schema, &tuple(Value::Null, "body".into())),
            None
        );
        assert_eq!(super::row(&schema, &tuple("k".into(), Value::Null)), None);
    }

    #[test]
    fn what_is_null_meets_nothing() {
        let row = Row {
            columns: [("session", Value::from("s"))].into_iter().collect(),
            ..Row::default()
        };
        let key = Key::from("k");
        let meets = |names: &[&str]| {
            let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
            group(&key, &row, &names)
        };
        assert_eq!(meets(&[]), Some([].into()));
        assert_eq!(meets(&["session"]), Some(["s".into()].into()));
        assert_eq!(meets(&["session", "tenant"]), None);
    }
}
