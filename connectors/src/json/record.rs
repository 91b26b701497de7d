//! Which change does JSON ask for?
//!
//! ```json
//! {"upsert": {"key": "k1", "text": "…", "title": "…", "updated_at": "2024-05-01T12:00:00Z"}}
//! {"delete": {"key": "k1"}}
//! {"key": "k2", "text": "…"}
//! ```
//! `insert` and `update` are other words for `upsert`; a bare record is one. `title`,
//! `updated_at` (milliseconds since 1970, or RFC 3339) and `supersedes` (a key, or a list of
//! keys, of records that this one makes obsolete) may be absent or null. Without a time a
//! record has that of its [`Carrier`]. Fields with other names are columns, whatever they hold:
//! whole numbers, other numbers, booleans, texts, and lists and objects as JSON; of one that is null
//! the record says nothing. (Fields beside `upsert` are not the record's, and left alone.) Nothing
//! is guessed: what is ambiguous or of another type is refused.

use std::sync::Arc;

use perennial_rows::{Key, Row, has_meaning};

use super::timestamp;
use super::value::{self, Json};
use crate::attributes::{self, Attribute};
use crate::excerpt::prefix;
use crate::{Change, ColumnNames, JsonKind, Offset, Record, Rejection};

/// The longest key, in bytes.
const KEY_LIMIT: usize = 1024;
/// The longest title, in bytes.
pub(crate) const TITLE_LIMIT: usize = 4096;
/// The most keys that one record supersedes.
pub(crate) const SUPERSEDES_LIMIT: usize = 1024;
/// How much of a name or value that was not expected is shown, in bytes.
const SHOWN_LIMIT: usize = 64;
/// Fields of a record that are named where one is missing.
const MOST_NAMED: usize = 8;

/// A reason, with the key that the record would have had, where that can be told.
pub(crate) type Refusal = (Option<Key>, Rejection);

/// What carries a record: a line of a file, a message of a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier<'a> {
    /// The time of a record that names none: a message's, in milliseconds since 1970, or a
    /// line's number (the same at every reading, rising down the file, and before any real
    /// time).
    pub(crate) at_ms: i64,
    /// Where it stands.
    pub(crate) offset: &'a Offset,
    /// The key that it has itself.
    pub(crate) key: Option<&'a Key>,
    /// What it says itself besides.
    pub(crate) columns: &'a [Attribute],
    /// Whether a record may have no text.
    pub(crate) is_textless: bool,
    /// What its records call their fields, where that is something else.
    pub(crate) names: Option<&'a ColumnNames>,
}

/// Reads an operation and its record. None if the text is blank.
pub(crate) fn read(text: &[u8], carrier: Carrier<'_>) -> Result<Option<Change>, Refusal> {
    let known = carrier.key.cloned();
    let text = utf8(text).map_err(|reason| (known.clone(), reason))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let fields = object(text).map_err(|reason| (known.clone(), reason))?;
    let (operation, fields) =
        operation(fields, carrier).map_err(|reason| (known.clone(), reason))?;
    let fields = match carrier.names {
        None => fields,
        Some(names) => {
            renamed(operation, fields, names, carrier).map_err(|reason| (known, reason))?
        }
    };
    match change(operation, fields, carrier) {
        Ok(change) => Ok(Some(change)),
        Err((key, Rejection::MissingField { field })) => Err((key, missing(field, text, carrier))),
        Err(refusal) => Err(refusal),
    }
}

/// What is said of a record without a field: with those that it has, where one of them may be meant.
fn missing(field: &'static str, text: &str, carrier: Carrier<'_>) -> Rejection {
    let fields = object(text).and_then(|fields| operation(fields, carrier));
    let names: Vec<String> = match &fields {
        Ok((_, fields)) => fields.iter().map(|(name, _)| shown(name)).collect(),
        Err(_) => Vec::new(),
    };
    match names.iter().any(|name| !has_meaning(name)) {
        true => Rejection::MissingAmong {
            field,
            found: names.into_iter().take(MOST_NAMED).collect(),
        },
        false => Rejection::MissingField { field },
    }
}

/// Bytes as text.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(bytes).map_err(|error| Rejection::NotUtf8 {
        at: error.valid_up_to() as u64,
    })
}

/// The fields of one object that fills the text.
pub(crate) fn object(text: &str) -> Result<Fields, Rejection> {
    match value::parse(text)? {
        Json::Object(fields) => Ok(fields),
        other => Err(Rejection::NotAnObject { got: other.kind() }),
    }
}

/// An operation on a record with these fields.
pub(crate) fn change(
    operation: Operation,
    fields: Fields,
    carrier: Carrier<'_>,
) -> Result<Change, Refusal> {
    let key = key(&fields, carrier.key).map_err(|reason| (carrier.key.cloned(), reason))?;
    let change = match operation {
        Operation::Upsert => upsert(key.clone(), fields, carrier).map(Change::Upsert),
        Operation::Delete => time(&fields, carrier).map(|at_ms| Change::Delete {
            key: key.clone(),
            at_ms,
            is_timed: is_timed(&fields),
            offset: carrier.offset.clone(),
        }),
    };
    change.map_err(|reason| (Some(key), reason))
}

/// What is done to a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// It is new, or replaces the version held.
    Upsert,
    /// It is gone.
    Delete,
}

/// An object's fields, in order.
pub(crate) type Fields = Vec<(String, Json)>;

/// The operation that a field of this name asks for.
fn named_operation(name: &str) -> Option<(&'static str, Operation)> {
    match name {
        "upsert" => Some(("upsert", Operation::Upsert)),
        "insert" => Some(("insert", Operation::Upsert)),
        "update" => Some(("update", Operation::Upsert)),
        "delete" => Some(("delete", Operation::Delete)),
        _ => None,
    }
}

/// Whether a record cannot stand alone that has a column of this name: it would be read as an operation.
pub(crate) fn is_operation(name: &str) -> bool {
    named_operation(name).is_some()
}

/// Which operation stands here, on which record.
fn operation(fields: Fields, carrier: Carrier<'_>) -> Result<(Operation, Fields), Rejection> {
    let (key, text) = match carrier.names {
        None => ("key", "text"),
        Some(names) => (&*names.key, &*names.text),
    };
    let bare = fields.iter().find(|(name, _)| name == key || name == text);
    let bare = bare.map(|(name, _)| name.clone());
    let mut operations = fields.iter().filter_map(|(name, _)| named_operation(name));
    let Some((name, operation)) = operations.next() else {
        return match fields.first() {
            Some(_) if bare.is_some() => Ok((Operation::Upsert, fields)),
            // Its key stands elsewhere, and it needs no text.
            Some(_) if carrier.is_textless && carrier.key.is_some() => {
                Ok((Operation::Upsert, fields))
            }
            Some(_) if carrier.names.is_some() => Err(Rejection::MissingNamed {
                field: "key",
                name: shown(key),
            }),
            Some((name, _)) => Err(Rejection::UnknownOperation { name: shown(name) }),
            None => Err(Rejection::NoOperation),
        };
    };
    if let Some(second) = operations.next().map(|(name, _)| name.to_owned()).or(bare) {
        return Err(Rejection::SeveralOperations {
            first: name.to_owned(),
            second,
        });
    }
    let value = fields
        .into_iter()
        .find_map(|(found, value)| (found == name).then_some(value));
    match value {
        Some(Json::Object(record)) => Ok((operation, record)),
        other => {
            let got = other.map_or(JsonKind::Null, |value| value.kind());
            Err(Rejection::WrongType {
                field: name,
                expected: "an object",
                got,
            })
        }
    }
}

/// The fields of a record by their own names. One that has such a name but does not stand for it is left
/// out, as a column of a table is.
fn renamed(
    operation: Operation,
    fields: Fields,
    names: &ColumnNames,
    carrier: Carrier<'_>,
) -> Result<Fields, Rejection> {
    let mut meant = Fields::new();
    for (field, name) in names.of_line() {
        match get(&fields, name) {
            Some(value) => meant.push((field.to_owned(), value.clone())),
            None => {
                let is_needed = match field {
                    "key" => carrier.key.is_none(),
                    "text" => matches!(operation, Operation::Upsert) && !carrier.is_textless,
                    _ => false,
                };
                if is_needed {
                    let name = shown(name);
                    return Err(Rejection::MissingNamed { field, name });
                }
            }
        }
    }
    let is_taken = |of: &str| {
        names
            .of_line()
            .iter()
            .any(|(field, name)| [*field, *name].contains(&of))
    };
    meant.extend(fields.into_iter().filter(|(name, _)| !is_taken(name)));
    Ok(meant)
}

fn upsert(key: Key, mut fields: Fields, carrier: Carrier<'_>) -> Result<Record, Rejection> {
    let updated_at_ms = time(&fields, carrier)?;
    let is_timed = is_timed(&fields);
    let supersedes = supersedes(&fields)?;
    let title: Option<Arc<str>> = match take(&mut fields, "title") {
        None | Some(Json::Null) => None,
        Some(Json::String(title)) => {
            within("title", title.len(), TITLE_LIMIT)?;
            Some(title.into())
        }
        Some(other) => return Err(wrong_type("title", "a string", &other)),
    };
    let text: Arc<str> = match take(&mut fields, "text") {
        Some(Json::String(text)) => text.into(),
        None | Some(Json::Null) if carrier.is_textless => Arc::default(),
        None => return Err(Rejection::MissingField { field: "text" }),
        Some(other) => return Err(wrong_type("text", "a string", &other)),
    };
    // What has a meaning is no column: of it no value is made.
    let fields = fields.into_iter().filter(|(name, _)| !has_meaning(name));
    let own = fields.map(|(name, value)| (name.into(), value.into_value()));
    let row = Row {
        text,
        title,
        updated_at_ms,
        is_timed,
        supersedes,
        columns: attributes::columns(carrier.columns, own)?,
    };
    Ok(Record::new(key, row, carrier.offset.clone()))
}

/// The record's key; its carrier's, if it names none.
fn key(fields: &Fields, of_carrier: Option<&Key>) -> Result<Key, Rejection> {
    let own = match get(fields, "key") {
        None => None,
        Some(Json::String(key)) => Some(named(key)?),
        Some(Json::Integer(number)) => Some(named(&number.to_string())?),
        Some(other) => return Err(wrong_type("key", "a string or an integer", other)),
    };
    match (own, of_carrier) {
        (None, None) => Err(Rejection::MissingField { field: "key" }),
        (Some(own), Some(outer)) if own != *outer => Err(Rejection::KeysDiffer {
            outer: shown(outer.as_str()),
            inner: shown(own.as_str()),
        }),
        (Some(key), _) => Ok(key),
        (None, Some(key)) => Ok(key.clone()),
    }
}

/// A key of a length that is allowed.
pub(crate) fn named(key: &str) -> Result<Key, Rejection> {
    if key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    within("key", key.len(), KEY_LIMIT)?;
    Ok(Key::new(key))
}

/// A key, or a list of keys.
fn supersedes(fields: &Fields) -> Result<Arc<[Key]>, Rejection> {
    const FIELD: &str = "supersedes";
    let one = |value: &Json| match value {
        Json::String(key) if key.is_empty() => Err(Rejection::EmptyKey),
        Json::String(key) => {
            within(FIELD, key.len(), KEY_LIMIT)?;
            Ok(Key::new(key.as_str()))
        }
        other => Err(wrong_type(FIELD, "a key or a list of keys", other)),
    };
    match get(fields, FIELD) {
        None | Some(Json::Null) => Ok(Arc::default()),
        Some(Json::Array(keys)) => {
            within(FIELD, keys.len(), SUPERSEDES_LIMIT)?;
            keys.iter().map(one).collect()
        }
        Some(key) => Ok([one(key)?].into()),
    }
}

/// Whether a time is named.
fn is_timed(fields: &Fields) -> bool {
    !matches!(get(fields, "updated_at"), None | Some(Json::Null))
}

/// Milliseconds since 1970; the carrier's, if none is named.
fn time(fields: &Fields, carrier: Carrier<'_>) -> Result<i64, Rejection> {
    match get(fields, "updated_at") {
        None | Some(Json::Null) => Ok(carrier.at_ms),
        Some(Json::Integer(milliseconds)) => Ok(*milliseconds),
        Some(Json::String(text)) => {
            let is_date = text.len() == "2024-05-01".len();
            let begin_of_day = || timestamp::milliseconds(&format!("{text}T00:00:00Z"));
            timestamp::milliseconds(text)
                .or_else(|| begin_of_day().filter(|_| is_date))
                .ok_or_else(|| Rejection::BadTime { value: shown(text) })
        }
        Some(other) => Err(wrong_type(
            "updated_at",
            "milliseconds or an RFC 3339 string",
            other,
        )),
    }
}

/// The value of a field.
pub(crate) fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a Json> {
    fields
        .iter()
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// Takes the value of a field out.
pub(crate) fn take(fields: &mut Fields, name: &str) -> Option<Json> {
    let at = fields.iter().position(|(found, _)| found == name)?;
    Some(fields.swap_remove(at).1)
}

/// Refuses what is longer than a limit, in bytes.
pub(crate) fn within(field: &'static str, len: usize, limit: usize) -> Result<(), Rejection> {
    if len > limit {
        let (len, limit) = (len as u64, limit as u64);
        return Err(Rejection::FieldTooLong { field, len, limit });
    }
    Ok(())
}

/// Refuses a value of another type.
pub(crate) fn wrong_type(field: &'static str, expected: &'static str, got: &Json) -> Rejection {
    Rejection::WrongType {
        field,
        expected,
        got: got.kind(),
    }
}

/// The beginning of a text that may be long.
pub(crate) fn shown(text: &str) -> String {
    let shown = prefix(text, SHOWN_LIMIT);
    if shown.len() < text.len() {
        format!("{shown}…")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use perennial_rows::Value;
    use proptest::prelude::*;

    use super::*;

    const CARRIER: Carrier<'_> = Carrier {
        at_ms: 3,
        offset: &Offset::Sequence(3),
        key: None,
        columns: &[],
        is_textless: false,
        names: None,
    };

    fn read_line(line: impl AsRef<[u8]>) -> Result<Option<Change>, Refusal> {
        read(line.as_ref(), CARRIER)
    }

    fn record(line: &str) -> Record {
        match read_line(line) {
            Ok(Some(Change::Upsert(record))) => record,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refused(line: impl AsRef<[u8]>) -> Rejection {
        read_line(line).unwrap_err().1
    }

    #[test]
    fn every_form_of_upsert_is_the_same_record() {
        let bare = record(r#"{"key":"k","text":"t"}"#);
        assert_eq!(
            (bare.key.as_str(), &*bare.row.text, bare.row.updated_at_ms),
            ("k", "t", 3)
        );
        assert!(bare.row.columns.is_empty());
        for operation in ["upsert", "insert", "update"] {
            let line = format!(r#" {{"{operation}": {{"text":"t","key":"k"}},"author":[1]}} "#);
            assert_eq!(record(&line), bare);
        }
    }

    /// Of records that call key and text, and all four, something else.
    #[test]
    fn fields_of_other_names_are_read_as_what_they_stand_for() {
        let two = ColumnNames {
            key: "id".to_owned(),
            text: "body".to_owned(),
            ..ColumnNames::default()
        };
        let four = ColumnNames {
            title: Some("headline".to_owned()),
            updated_at: Some("day".to_owned()),
            ..two.clone()
        };
        let read_by = |names, line: &str| {
            let carrier = Carrier {
                names: Some(names),
                ..CARRIER
            };
            read(line.as_bytes(), carrier).map_err(|(_, reason)| reason)
        };
        let record_by = |names, line| match read_by(names, line) {
            Ok(Some(Change::Upsert(record))) => record,
            other => panic!("{line}: {other:?}"),
        };
        let plain = record(
            r#"{"key":"7","text":"t","title":"h","updated_at":"2026-01-02","n":1,"supersedes":"6"}"#,
        );
        let line =
            r#"{"id":7,"body":"t","headline":"h","day":"2026-01-02","n":1,"supersedes":"6"}"#;
        assert_eq!(record_by(&four, line), plain);
        let line = format!(r#"{{"update":{line}}}"#);
        assert_eq!(record_by(&four, &line), plain);
        // Whatever is given no other name has its own; what is, has that name alone.
        let line = r#"{"id":7,"body":"t","title":"h","updated_at":"2026-01-02","n":1,"supersedes":"6","key":"x","text":[]}"#;
        assert_eq!(record_by(&two, line), plain);
        let columns = record_by(&two, r#"{"id":1,"body":"t","headline":"h"}"#)
            .row
            .columns;
        assert_eq!(columns.get("headline"), Some(&Value::from("h")));
        let gone = read_by(&four, r#"{"delete":{"id":7}}"#);
        assert!(matches!(gone, Ok(Some(Change::Delete { key, .. })) if key.as_str() == "7"));
        // One column may be two fields.
        let both = ColumnNames {
            title: Some("body".to_owned()),
            ..two.clone()
        };
        assert_eq!(
            record_by(&both, r#"{"id":1,"body":"t"}"#)
                .row
                .title
                .as_deref(),
            Some("t")
        );

        for (line, field, name) in [
            (r#"{"key":"k","text":"t"}"#, "key", "id"),
            (r#"{"upsert":{"key":"k","body":"t"}}"#, "key", "id"),
            (r#"{"id":1,"text":"t"}"#, "text", "body"),
            (r#"{"delete":{"key":"k"}}"#, "key", "id"),
        ] {
            let name = name.to_owned();
            let missing = Rejection::MissingNamed { field, name };
            assert_eq!(read_by(&four, line).unwrap_err(), missing, "{line}");
        }
        let wrong = read_by(&four, r#"{"id":1,"body":2}"#).unwrap_err();
        assert!(matches!(wrong, Rejection::WrongType { field: "text", .. }));
    }

    #[test]
    fn other_fields_are_columns() {
        let line =
            r#"{"key":"k","text":"t","n":1,"x":1.5,"is":true,"no":null,"a":"b","tags":["c"]}"#;
        let expected = [
            ("a", Value::from("b")),
            ("is", true.into()),
            ("n", 1i64.into()),
            ("tags", Value::Json(r#"["c"]"#.into())),
            ("x", 1.5.into()),
        ];
        assert_eq!(record(line).row.columns, expected.into_iter().collect());
        let carrier = Carrier {
            columns: &[("n".into(), 7i64.into()), ("topic".into(), "docs".into())],
            ..CARRIER
        };
        match read(line.as_bytes(), carrier) {
            Ok(Some(Change::Upsert(record))) => {
                assert_eq!(record.row.columns.get("topic"), Some(&"docs".into()));
                assert_eq!(record.row.columns.get("n"), Some(&1i64.into()));
            }
            other => panic!("{other:?}"),
        }
        let other = record(&line.replace("1.5", "2.5"));
        assert_ne!(other.digest, record(line).digest);
        let name = "n".repeat(attributes::COLUMN_NAME_LIMIT + 1);
        let long = format!(r#"{{"key":"k","text":"t","{name}":1}}"#);
        assert!(matches!(refused(long), Rejection::ColumnNameTooLong { .. }));
    }

    #[test]
    fn where_no_text_is_needed_a_record_may_be_without() {
        let key = Key::new("k");
        let carrier = Carrier {
            key: Some(&key),
            is_textless: true,
            ..CARRIER
        };
        for line in [r#"{"n":1}"#, r#"{"key":"k","text":null,"n":1}"#] {
            match read(line.as_bytes(), carrier) {
                Ok(Some(Change::Upsert(record))) => {
                    assert_eq!((record.key.as_str(), &*record.row.text), ("k", ""));
                    assert_eq!(record.row.columns.len(), 1);
                }
                other => panic!("{other:?}"),
            }
        }
        let keyless = Carrier {
            key: None,
            ..carrier
        };
        let refused = read(br#"{"n":1}"#, keyless).unwrap_err().1;
        assert_eq!(refused, Rejection::UnknownOperation { name: "n".into() });
    }

    #[test]
    fn what_a_record_supersedes_is_a_key_or_a_list() {
        let keys = |line: &str| -> Vec<String> {
            let keys = record(line).row.supersedes;
            keys.iter().map(|key| key.as_str().to_owned()).collect()
        };
        assert_eq!(keys(r#"{"key":"k","text":"t","supersedes":"a"}"#), ["a"]);
        assert_eq!(
            keys(r#"{"key":"k","text":"t","supersedes":["a","b"]}"#),
            ["a", "b"]
        );
        assert!(keys(r#"{"key":"k","text":"t","supersedes":null}"#).is_empty());
        for wrong in ["7", "[7]", "[[]]", "{}"] {
            let line = format!(r#"{{"key":"k","text":"t","supersedes":{wrong}}}"#);
            assert!(
                matches!(refused(line), Rejection::WrongType { .. }),
                "{wrong}"
            );
        }
        let many = vec!["\"a\""; SUPERSEDES_LIMIT + 1].join(",");
        let line = format!(r#"{{"key":"k","text":"t","supersedes":[{many}]}}"#);
        assert!(matches!(refused(line), Rejection::FieldTooLong { .. }));
        assert_eq!(
            refused(r#"{"key":"k","text":"t","supersedes":""}"#),
            Rejection::EmptyKey
        );
    }

    #[test]
    fn titles_and_times_are_read() {
        let full = record(r#"{"upsert":{"key":"k","text":"t","title":"T","updated_at":17}}"#);
        assert_eq!(
            (full.row.title.as_deref(), full.row.updated_at_ms),
            (Some("T"), 17)
        );
        let line = r#"{"key":"k","text":"t","title":null,"updated_at":"1970-01-01T00:00:01Z"}"#;
        assert_eq!(
            (record(line).row.title, record(line).row.updated_at_ms),
            (None, 1000)
        );
        match read_line(r#"{"delete":{"key":"k","updated_at":9}}"#) {
            Ok(Some(Change::Delete {
                key,
                at_ms: 9,
                is_timed: true,
                ..
            })) => assert_eq!(key.as_str(), "k"),
            other => panic!("{other:?}"),
        }
        let untimed = read_line(r#"{"delete":{"key":"k"}}"#);
        let is_untimed = |change: &Change| {
            matches!(
                change,
                Change::Delete {
                    at_ms: 3,
                    is_timed: false,
                    ..
                }
            )
        };
        assert!(
            matches!(&untimed, Ok(Some(change)) if is_untimed(change)),
            "{untimed:?}"
        );
        assert_eq!(read_line("  \r"), Ok(None));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let missing = |field, found: &[&str]| Rejection::MissingAmong {
            field,
            found: found.iter().map(ToString::to_string).collect(),
        };
        let wrong = |field, expected, got| Rejection::WrongType {
            field,
            expected,
            got,
        };
        let cases = [
            (
                "[]",
                Rejection::NotAnObject {
                    got: JsonKind::Array,
                },
            ),
            ("{}", Rejection::NoOperation),
            (
                r#"{"merge":{}}"#,
                Rejection::UnknownOperation {
                    name: "merge".into(),
                },
            ),
            (
                r#"{"insert":{},"delete":{}}"#,
                Rejection::SeveralOperations {
                    first: "insert".into(),
                    second: "delete".into(),
                },
            ),
            (
                r#"{"delete":{"key":"k"},"key":"k"}"#,
                Rejection::SeveralOperations {
                    first: "delete".into(),
                    second: "key".into(),
                },
            ),
            (
                r#"{"delete":"k"}"#,
                wrong("delete", "an object", JsonKind::String),
            ),
            (r#"{"delete":{}}"#, Rejection::MissingField { field: "key" }),
            (r#"{"text":"t"}"#, Rejection::MissingField { field: "key" }),
            (r#"{"key":"k"}"#, Rejection::MissingField { field: "text" }),
            (
                r#"{"key":"k","txt":"t","n":1}"#,
                missing("text", &["key", "txt", "n"]),
            ),
            (
                r#"{"upsert":{"id":"k","text":"t"}}"#,
                missing("key", &["id", "text"]),
            ),
            (
                r#"{"key":7.5,"text":"t"}"#,
                wrong("key", "a string or an integer", JsonKind::Number),
            ),
            (r#"{"key":"","text":"t"}"#, Rejection::EmptyKey),
            (
                r#"{"key":"k","text":null}"#,
                wrong("text", "a string", JsonKind::Null),
            ),
            (
                r#"{"key":"k","text":"t","title":1.5}"#,
                wrong("title", "a string", JsonKind::Number),
            ),
            (
                r#"{"key":"k","text":"t","updated_at":true}"#,
                wrong(
                    "updated_at",
                    "milliseconds or an RFC 3339 string",
                    JsonKind::Boolean,
                ),
            ),
            (
                r#"{"key":"k","text":"t","updated_at":"today"}"#,
                Rejection::BadTime {
                    value: "today".into(),
                },
            ),
            (
                r#"{"key":"k","text":"t","#,
                Rejection::Truncated { len: 22 },
            ),
        ];
        for (line, reason) in cases {
            assert_eq!(refused(line), reason, "{line}");
        }
        assert_eq!(refused(b"{\"key\":\"\xff\"}"), Rejection::NotUtf8 { at: 8 });
        let long = format!(r#"{{"key":"{}","text":""}}"#, "k".repeat(KEY_LIMIT + 1));
        let reason = Rejection::FieldTooLong {
            field: "key",
            len: 1025,
            limit: 1024,
        };
        assert_eq!(refused(long), reason);
        let odd = format!(r#"{{"{}":1}}"#, "ü".repeat(100));
        match refused(odd) {
            Rejection::UnknownOperation { name } => assert!(name.len() <= SHOWN_LIMIT + 3),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_integer_is_a_key_and_a_date_is_a_time() {
        let found = record(r#"{"key":-7,"text":"t","updated_at":"2024-05-01"}"#);
        let same = record(r#"{"key":"-7","text":"t","updated_at":"2024-05-01T00:00:00Z"}"#);
        assert_eq!((found.key, found.row), (same.key, same.row));
        let cut = refused(r#"{"key":"k","text":"t","updated_at":"2024-05"}"#);
        assert!(matches!(cut, Rejection::BadTime { .. }));
    }

    #[test]
    fn a_refusal_names_its_key_where_it_can() {
        let (key, _) = read_line(r#"{"upsert":{"key":"k"}}"#).unwrap_err();
        assert_eq!(key, Some(Key::new("k")));
    }

    proptest! {
        #[test]
        fn any_record_is_read_back(key in "\\PC{1,40}", text in "(?s).{0,80}", time: i64) {
            let line = serde_json::json!({"upsert": {"key": key, "text": text, "updated_at": time}});
            let read = record(&line.to_string());
            prop_assert_eq!((read.key.as_str(), &*read.row.text), (&*key, &*text));
            prop_assert_eq!(read.row.updated_at_ms, time);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_line(&bytes);
        }

        #[test]
        fn any_damage_to_a_line_is_read_or_refused(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let line = r#"{"upsert":{"key":"a","text":"b c","title":"d","updated_at":12}}"#;
            let mut bytes = line.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read_line(&bytes);
            bytes.truncate(cut);
            let _ = read_line(&bytes);
        }
    }
}
