//! Which change does a change event of a database table ask for?
//!
//! ```json
//! {"op": "u", "before": {…}, "after": {"id": 7, "body": "…"}, "ts_ms": 1714564800000, …}
//! ```
//! `c` (created), `r` (read in a snapshot) and `u` (updated) give the row as it now is, `d`
//! (deleted) the row as it was. With schemas enabled all that is one level down, under
//! `payload`. A row that stands alone (Debezium's `ExtractNewRecordState`) is the new row; a
//! field `__deleted` of `"true"` says that it is gone. The row's other columns are those of the
//! record, but for those that are called as a field of records and are not named for it. The tombstone
//! that follows a deletion deletes once more, which is nothing.
//!
//! A large column that did not change may be left out of an update, with a word in its place
//! ([`UNAVAILABLE`]). It is taken from the row as it was, where the event has that; otherwise the
//! event is refused, and the record stands as it was.

use perennial_rows::{Key, has_meaning};

use crate::column_names::ColumnNames;
use crate::json::record::{self, Carrier, Fields, Operation, Refusal};
use crate::json::value::{self, Json};
use crate::{Change, Rejection};

/// What Debezium says for a column that did not change and that the database did not log.
const UNAVAILABLE: &str = "__debezium_unavailable_value";
/// The same for columns of bytes, which events hold in base64.
const UNAVAILABLE_BYTES: &str = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==";

/// The key of an event: `{"id": 7}`, with or without schema, or the bare value.
pub(super) fn key(bytes: &[u8], columns: &ColumnNames) -> Result<Option<Key>, Refusal> {
    let read = || {
        let text = record::utf8(bytes)?;
        match value::parse(text).map(unwrapped) {
            Ok(Json::Object(fields)) => match record::get(&fields, &columns.key) {
                Some(value) => key_of(value),
                None => Err(missing(&columns.key)),
            },
            Ok(value @ (Json::String(_) | Json::Integer(_))) => key_of(&value),
            // Any other text is a key as it stands.
            _ => record::named(text),
        }
    };
    read().map(Some).map_err(|reason| (None, reason))
}

/// Reads the payload of an event.
pub(super) fn read(
    payload: &[u8],
    columns: &ColumnNames,
    carrier: Carrier<'_>,
) -> Result<Change, Refusal> {
    let parsed = event(payload, columns, carrier);
    let (operation, fields, at_ms) = parsed.map_err(|reason| (carrier.key.cloned(), reason))?;
    record::change(operation, fields, Carrier { at_ms, ..carrier })
}

/// Operation, record and time of an event.
fn event(
    payload: &[u8],
    columns: &ColumnNames,
    carrier: Carrier<'_>,
) -> Result<(Operation, Fields, i64), Rejection> {
    let is_textless = carrier.is_textless;
    let parsed = value::parse(record::utf8(payload)?)?;
    let mut event = match unwrapped(parsed) {
        Json::Object(fields) => fields,
        other => return Err(Rejection::NotAnObject { got: other.kind() }),
    };
    let Some(op) = record::take(&mut event, "op") else {
        let is_gone = matches!(
            record::get(&event, "__deleted"),
            Some(Json::String(deleted)) if deleted == "true"
        );
        let operation = match is_gone {
            true => Operation::Delete,
            false => Operation::Upsert,
        };
        let event = completed(event, None, operation)?;
        let fields = row(event, columns, operation, is_textless)?;
        return Ok((operation, fields, carrier.at_ms));
    };
    let at_ms = match record::get(&event, "ts_ms") {
        Some(Json::Integer(at_ms)) => *at_ms,
        _ => carrier.at_ms,
    };
    let (operation, side) = match &op {
        Json::String(op) if matches!(&**op, "c" | "r" | "u") => (Operation::Upsert, "after"),
        Json::String(op) if op == "d" => (Operation::Delete, "before"),
        Json::String(op) => {
            return Err(Rejection::UnknownChangeEvent {
                op: record::shown(op),
            });
        }
        other => return Err(record::wrong_type("op", "a string", other)),
    };
    let fields = match (record::take(&mut event, side), operation) {
        (Some(Json::Object(fields)), _) => {
            let before = record::take(&mut event, "before");
            let fields = completed(fields, before, operation)?;
            row(fields, columns, operation, is_textless)?
        }
        // The message's key says which row it was.
        (None | Some(Json::Null), Operation::Delete) => Fields::new(),
        (None, _) => return Err(Rejection::MissingField { field: "after" }),
        (Some(other), _) => return Err(record::wrong_type(side, "an object", &other)),
    };
    Ok((operation, fields, at_ms))
}

/// A row with what was left out of it, as it was before.
fn completed(
    mut row: Fields,
    before: Option<Json>,
    operation: Operation,
) -> Result<Fields, Rejection> {
    if matches!(operation, Operation::Delete) {
        return Ok(row);
    }
    let is_word = |said: &str| said == UNAVAILABLE || said == UNAVAILABLE_BYTES;
    let is_left_out = |value: &Json| matches!(value, Json::String(said) if is_word(said));
    for (name, value) in row.iter_mut().filter(|(_, value)| is_left_out(value)) {
        let was = match &before {
            Some(Json::Object(before)) => record::get(before, name),
            _ => None,
        };
        let was = was.filter(|was| !is_left_out(was));
        *value = was.cloned().ok_or_else(|| Rejection::UnavailableColumn {
            name: record::shown(name),
        })?;
    }
    Ok(row)
}

/// The fields of a record from the columns of a row.
fn row(
    mut row: Fields,
    columns: &ColumnNames,
    operation: Operation,
    is_textless: bool,
) -> Result<Fields, Rejection> {
    let mut fields = Fields::new();
    if let Some(key) = record::take(&mut row, &columns.key) {
        let key = key_of(&key)?.as_str().to_owned();
        fields.push(("key".to_owned(), Json::String(key)));
    }
    if matches!(operation, Operation::Delete) {
        return Ok(fields);
    }
    match record::take(&mut row, &columns.text) {
        Some(text) => fields.push(("text".to_owned(), text)),
        None if is_textless => {}
        None => return Err(missing(&columns.text)),
    }
    for (field, column) in [
        ("title", &columns.title),
        ("updated_at", &columns.updated_at),
    ] {
        let Some(column) = column else { continue };
        let value = record::take(&mut row, column).ok_or_else(|| missing(column))?;
        fields.push((field.to_owned(), value));
    }
    // Debezium's own word, no column of the table.
    record::take(&mut row, "__deleted");
    fields.extend(row.into_iter().filter(|(name, _)| !has_meaning(name)));
    Ok(fields)
}

/// A key that is a string or an integer.
pub(super) fn key_of(value: &Json) -> Result<Key, Rejection> {
    match value {
        Json::String(key) => record::named(key),
        Json::Integer(key) => Ok(Key::new(key.to_string())),
        other => Err(record::wrong_type("key", "a string or an integer", other)),
    }
}

/// What a converter with schemas wraps.
fn unwrapped(value: Json) -> Json {
    match value {
        Json::Object(mut fields) if record::get(&fields, "schema").is_some() => {
            match record::take(&mut fields, "payload") {
                Some(payload) => payload,
                None => Json::Object(fields),
            }
        }
        other => other,
    }
}

fn missing(column: &str) -> Rejection {
    Rejection::MissingColumn {
        name: record::shown(column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Offset;

    fn columns() -> ColumnNames {
        ColumnNames {
            key: "id".to_owned(),
            text: "body".to_owned(),
            title: Some("subject".to_owned()),
            updated_at: None,
        }
    }

    fn read_one(key_bytes: &str, payload: &str) -> Result<Change, Refusal> {
        let key = key(key_bytes.as_bytes(), &columns())?;
        let carrier = Carrier {
            at_ms: 5,
            offset: &Offset::Sequence(1),
            key: key.as_ref(),
            columns: &[],
            is_textless: false,
            names: None,
        };
        read(payload.as_bytes(), &columns(), carrier)
    }

    #[test]
    fn rows_come_change_and_go() {
        let row = r#"{"id":7,"body":"b","subject":"s","n":1.5}"#;
        let schema = r#""schema":{"type":"struct"}"#;
        for (key, payload) in [
            (
                r#"{"id":7}"#,
                format!(r#"{{"op":"c","after":{row},"ts_ms":9}}"#),
            ),
            (
                r#"{"id":7}"#,
                format!(r#"{{"op":"r","before":null,"after":{row},"ts_ms":9}}"#),
            ),
            (
                "7",
                format!(r#"{{{schema},"payload":{{"op":"u","after":{row},"ts_ms":9}}}}"#),
            ),
        ] {
            match read_one(key, &payload) {
                Ok(Change::Upsert(record)) => {
                    assert_eq!((record.key.as_str(), &*record.row.text), ("7", "b"));
                    assert_eq!(
                        (record.row.title.as_deref(), record.row.updated_at_ms),
                        (Some("s"), 9)
                    );
                    let expected = [("n", 1.5.into())].into_iter().collect();
                    assert_eq!(record.row.columns, expected);
                }
                other => panic!("{payload}: {other:?}"),
            }
        }
        let keyed = format!(r#"{{{schema},"payload":{{"id":7}}}}"#);
        for (key, payload) in [
            (
                &*keyed,
                r#"{"op":"d","before":{"id":7,"body":"b"},"ts_ms":9}"#,
            ),
            (&*keyed, r#"{"op":"d","before":null,"ts_ms":9}"#),
            (
                &*keyed,
                r#"{"id":7,"body":"b","subject":"s","__deleted":"true"}"#,
            ),
        ] {
            match read_one(key, payload) {
                Ok(Change::Delete { key, .. }) => assert_eq!(key.as_str(), "7", "{payload}"),
                other => panic!("{payload}: {other:?}"),
            }
        }
        let flat = read_one(r#"{"id":7}"#, row);
        assert!(matches!(flat, Ok(Change::Upsert(record)) if &*record.row.text == "b"));
    }

    #[test]
    fn a_column_that_is_left_out_is_what_it_was_or_the_event_is_refused() {
        let after = format!(r#"{{"id":7,"body":"{UNAVAILABLE}","subject":"new","n":2}}"#);
        let event = |before: &str| format!(r#"{{"op":"u","before":{before},"after":{after}}}"#);
        let whole = event(r#"{"id":7,"body":"b","subject":"s","n":1}"#);
        match read_one("7", &whole) {
            Ok(Change::Upsert(record)) => {
                assert_eq!(&*record.row.text, "b");
                assert_eq!(record.row.title.as_deref(), Some("new"));
            }
            other => panic!("{other:?}"),
        }
        let left_out = format!(r#"{{"id":7,"body":"{UNAVAILABLE}"}}"#);
        for refused in [
            event("null"),
            event(r#"{"id":7}"#),
            event(&left_out),
            after.clone(),
        ] {
            let (key, reason) = read_one("7", &refused).unwrap_err();
            assert_eq!(key, Some(Key::new("7")), "what is held stands");
            assert_eq!(
                reason,
                Rejection::UnavailableColumn {
                    name: "body".into()
                }
            );
        }
        // What is deleted needs no columns.
        let gone = format!(r#"{{"op":"d","before":{left_out}}}"#);
        assert!(matches!(read_one("7", &gone), Ok(Change::Delete { .. })));
    }

    #[test]
    fn what_cannot_be_a_change_says_why() {
        let reason = |payload| read_one(r#"{"id":7}"#, payload).unwrap_err().1;
        let event = |op: &str| Rejection::UnknownChangeEvent { op: op.to_owned() };
        assert_eq!(reason(r#"{"op":"t"}"#), event("t"));
        assert_eq!(
            reason(r#"{"op":"c","after":{"id":7}}"#),
            Rejection::MissingColumn {
                name: "body".into()
            }
        );
        assert_eq!(
            reason(r#"{"op":"c"}"#),
            Rejection::MissingField { field: "after" }
        );
        assert!(matches!(
            reason(r#"{"op":"c","after":{"id":8,"body":"b","subject":"s"}}"#),
            Rejection::KeysDiffer { .. }
        ));
        assert!(matches!(
            reason(r#"{"op":"c","after":{"id":7,"body":null,"subject":"s"}}"#),
            Rejection::WrongType { field: "text", .. }
        ));
        assert!(matches!(reason("[]"), Rejection::NotAnObject { .. }));
    }
}
