//! Which columns are the records of a source to have, and what becomes of those that differ?
//!
//! A [`Declared`] source is another one whose columns are declared. Its records hold these columns
//! and no others:
//! - A value is made to be of its column's type where nothing is lost ([`fit`] has the table).
//! - A column that the record lacks is null.
//! - Where a value does not fit, the record is refused by column
//!   ([`Rejection::Column`]). If it stands where it was read (a file, a row of a table), its
//!   earlier version is gone, too.
//!
//! A record needs a text, and has one, only if `text` is declared. Its key, title, time and what it
//! supersedes are read as ever; to declare them gives them no other type.
//!
//! # Invariants
//! - To fit a row again changes nothing.
//! - A file that changes in columns that are not declared is no event; one that is touched is.
//!
//! Deliberately absent: what to do when other columns are declared than before. Records of before
//! have the columns of before, so whoever runs the source compares its [schema](Source::schema) with
//! that of the records, and has a source that [replays](Source::replays) begin anew: without an
//! offset, and with nothing held.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_rows::{
    Columns, KEY, Key, Row, SUPERSEDES, Schema, TEXT, TITLE, Type, UPDATED_AT, Value, has_meaning,
};

use crate::json::record::shown;
use crate::json::timestamp;
use crate::{
    Acks, Batch, CONTENT_LIMIT, Change, Digest, Error, Halt, Offset, Outlet, Record, Rejected,
    Rejection, Resume, Resumption, Source, SourceName,
};

/// A source whose columns are declared.
///
/// ```
/// use perennial_connectors::{Change, Declared, Event, JsonLines, start};
/// use perennial_rows::{Column, Schema, Type, Value};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("prices.jsonl");
/// std::fs::write(&path, "{\"key\": \"a\", \"price\": \"12\"}\n{\"key\": \"b\", \"price\": \"?\"}\n")?;
/// let schema = Schema::new([Column::new("price", Type::Integer)]);
/// let source = Declared::over(JsonLines::open("prices", &path)?, schema)?;
/// for event in start(source, 16)?.events() {
///     if let Event::Batch(batch) = event {
///         let Change::Upsert(a) = &batch.changes[0] else { unreachable!() };
///         assert_eq!(a.row.columns.get("price"), Some(&Value::Integer(12)));
///         let reason = batch.rejected[0].reason.to_string();
///         assert_eq!(reason, "the column \"price\" must be INTEGER, got TEXT \"?\"");
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Declared {
    source: Box<dyn Source>,
    fitting: Arc<Fitting>,
}

impl Declared {
    /// These columns of a source.
    ///
    /// # Errors
    /// [`Error::UnfitDeclaration`] if a column that has a meaning is declared to be of another
    /// type than it has.
    pub fn over(source: impl Source, schema: Schema) -> Result<Self, Error> {
        for column in schema.columns() {
            let expected = match &*column.name {
                KEY | TEXT | TITLE => Type::Text,
                UPDATED_AT => Type::Timestamp,
                SUPERSEDES => Type::Json,
                _ => continue,
            };
            if column.of != expected && column.of != Type::Any {
                return Err(Error::UnfitDeclaration {
                    column: column.name.to_string(),
                    declared: column.of,
                    expected,
                });
            }
        }
        let mut source: Box<dyn Source> = Box::new(source);
        source.declare(&schema);
        let fitting = Arc::new(Fitting {
            name: source.name().clone(),
            schema,
            known: Mutex::default(),
        });
        Ok(Self { source, fitting })
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared")
            .field("name", &self.fitting.name)
            .field("schema", &self.fitting.schema)
            .finish_non_exhaustive()
    }
}

impl Source for Declared {
    fn name(&self) -> &SourceName {
        &self.fitting.name
    }

    fn resume_from(&mut self, from: Resume) -> Resumption {
        let held = from.held.iter();
        self.fitting
            .known()
            .extend(held.map(|(key, row)| (key.clone(), Digest::dated(row))));
        self.source.resume_from(from)
    }

    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        self.source.acks()
    }

    fn declare(&mut self, schema: &Schema) {
        self.source.declare(schema);
    }

    fn schema(&self) -> Option<&Schema> {
        Some(&self.fitting.schema)
    }

    fn replays(&self) -> bool {
        self.source.replays()
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let fitting = self.fitting;
        self.source
            .run(&out.refitted(Arc::new(move |batch| fitting.batch(batch))))
    }
}

/// Makes records fit.
struct Fitting {
    name: SourceName,
    schema: Schema,
    /// Files that are held, as they fit: one whose undeclared columns have changed, or which says
    /// again what is held of an earlier run, is no event.
    known: Mutex<BTreeMap<Key, Digest>>,
}

impl Fitting {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self, batch: Batch) -> Batch {
        let mut known = self.known();
        // One that was refused meanwhile is said again, whether it changed or not.
        for refused in &batch.rejected {
            if let Some(key) = &refused.key {
                known.remove(key);
            }
        }
        let mut fitted = Batch {
            rejected: batch.rejected,
            resume: batch.resume,
            trace: batch.trace,
            ..Batch::default()
        };
        for change in batch.changes {
            match change {
                Change::Upsert(record) => self.upsert(record, &mut known, &mut fitted),
                Change::Delete { .. } => {
                    known.remove(change.key());
                    fitted.changes.push(change);
                }
            }
        }
        fitted
    }

    fn upsert(&self, record: Record, known: &mut BTreeMap<Key, Digest>, fitted: &mut Batch) {
        let row = match fit(&self.schema, record.row.clone()) {
            Ok(row) => row,
            Err(reason) => {
                known.remove(&record.key);
                if stands(&record.offset) {
                    fitted.changes.push(Change::Delete {
                        key: record.key.clone(),
                        at_ms: record.row.updated_at_ms,
                        is_timed: false,
                        offset: record.offset.clone(),
                    });
                }
                fitted.rejected.push(refused(&self.name, record, reason));
                return;
            }
        };
        let Record { key, offset, .. } = record;
        let mut record = Record::new(key, row, offset);
        if let Offset::File { .. } = record.offset {
            record.digest = Digest::dated(&record.row);
            if known.insert(record.key.clone(), record.digest) == Some(record.digest) {
                return;
            }
        }
        fitted.changes.push(Change::Upsert(record));
    }
}

/// Whether what is refused stands where it was read, so that nothing else is held in its place.
fn stands(offset: &Offset) -> bool {
    matches!(offset, Offset::File { .. } | Offset::Row { .. })
}

/// A record that does not fit.
pub(crate) fn refused(source: &SourceName, record: Record, reason: Rejection) -> Rejected {
    let content = match record.offset {
        Offset::File { .. } => None,
        _ => Some(record.to_json().to_string().into_bytes()),
    };
    Rejected {
        source: source.clone(),
        offset: record.offset,
        key: Some(record.key),
        reason,
        content: content.filter(|content| content.len() <= CONTENT_LIMIT),
    }
}

/// Whether a record of these columns needs no text.
pub(crate) fn is_textless(schema: &Schema) -> bool {
    schema.position(TEXT).is_none()
}

/// The columns of a row that a schema does not name: [`fit`] leaves them out. Who posts them is told.
pub(crate) fn undeclared<'a>(schema: &'a Schema, row: &'a Row) -> impl Iterator<Item = &'a str> {
    let columns = row.columns.iter().map(|(name, _)| name);
    let others = columns.filter(|name| schema.position(name).is_none());
    let text = (is_textless(schema) && !row.text.is_empty()).then_some(TEXT);
    others.chain(text)
}

/// A row as [`fit`] makes it, where no value of it is left out.
///
/// # Errors
/// Besides, [`Rejection::UnknownColumn`] of the first column that has a value and is not in the schema.
pub fn fit_all(schema: &Schema, row: Row) -> Result<Row, Rejection> {
    let has_value = |name: &&str| {
        row.columns
            .get(name)
            .is_none_or(|value| *value != Value::Null)
    };
    let lost = undeclared(schema, &row).find(has_value);
    match lost.map(|column| unknown(schema, column)) {
        Some(reason) => Err(reason),
        None => fit(schema, row),
    }
}

/// What is said of a column that is not in a schema.
pub(crate) fn unknown(schema: &Schema, column: &str) -> Rejection {
    let declared = schema.columns().iter();
    Rejection::UnknownColumn {
        column: shown(column),
        declared: declared.map(|of| of.name.to_string()).collect(),
    }
}

/// A row with the columns that a schema names, each of its type.
///
/// | from | to | how |
/// | --- | --- | --- |
/// | text | integer, float | its decimal digits, if the number is the same |
/// | text | boolean | `true`, `t`, `yes`, `y`, `1`, `false`, `f`, `no`, `n`, `0`, in any case |
/// | text | timestamp | RFC 3339, in UTC where no zone stands; a date is its midnight; milliseconds |
/// | text | JSON, vector | JSON of a list or an object, of a list of numbers |
/// | JSON | vector | a list of numbers |
/// | integer | float | up to 2^53 |
/// | integer | timestamp | milliseconds since 1970 |
/// | integer | boolean | 0 or 1 |
/// | integer, boolean | text | as it is written |
///
/// Blanks around a text that is to be none are left out. A vector's numbers are the nearest of 32
/// bits.
///
/// # Errors
/// [`Rejection::Column`], of the first column that holds anything else.
pub fn fit(schema: &Schema, row: Row) -> Result<Row, Rejection> {
    let carried = schema.columns().iter();
    let carried = carried.filter(|column| !has_meaning(&column.name));
    let columns = carried.map(|column| {
        let value = row.columns.get(&column.name).cloned().unwrap_or_default();
        match read_as(&value, column.of) {
            Some(value) => Ok((column.name.clone(), value)),
            None => Err(Rejection::Column {
                column: column.name.to_string(),
                expected: column.of,
                got: described(&value),
            }),
        }
    });
    let columns = columns.collect::<Result<Columns, _>>()?;
    let text = match is_textless(schema) {
        true => Arc::default(),
        false => row.text,
    };
    Ok(Row {
        text,
        columns,
        ..row
    })
}

/// What stands in a column, in words.
fn described(value: &Value) -> String {
    let of = value
        .type_of()
        .map_or_else(String::new, |of| of.to_string());
    match value {
        Value::Text(text) => format!("{of} {:?}", shown(text)),
        other => format!("{of} {}", shown(&other.to_string())),
    }
}

/// A value as one of another type, where nothing is lost.
fn read_as(value: &Value, of: Type) -> Option<Value> {
    match (value, of) {
        (Value::Text(_), Type::Text | Type::Any) => Some(value.clone()),
        (Value::Text(text), of) => read_text(text.trim(), of),
        (Value::Json(json), Type::Vector) => vector(json),
        (Value::Integer(number @ (0 | 1)), Type::Boolean) => Some(Value::Boolean(*number == 1)),
        (Value::Integer(_) | Value::Boolean(_), Type::Text) => Some(Value::text(value.to_string())),
        (value, of) => value.clone().coerce(of),
    }
}

fn read_text(text: &str, of: Type) -> Option<Value> {
    match of {
        Type::Boolean => match &*text.to_ascii_lowercase() {
            "true" | "t" | "yes" | "y" | "1" => Some(Value::Boolean(true)),
            "false" | "f" | "no" | "n" | "0" => Some(Value::Boolean(false)),
            _ => None,
        },
        Type::Integer => text.parse().ok().map(Value::Integer),
        Type::Float => match text.parse() {
            Ok(integer) => Value::Integer(integer).coerce(Type::Float),
            // One that is beyond the greatest is no infinity.
            Err(_) => {
                let number: f64 = text.parse().ok()?;
                let has_digits = text.bytes().any(|byte| byte.is_ascii_digit());
                (number.is_finite() || !has_digits).then(|| Value::float(number))
            }
        },
        Type::Timestamp => instant(text).map(Value::Timestamp),
        Type::Json => {
            let json = serde_json::from_str(text).ok()?;
            let value = Value::from_json(&json);
            (value.type_of() == Some(Type::Json)).then_some(value)
        }
        Type::Vector => vector(text),
        _ => None,
    }
}

/// Milliseconds since 1970.
fn instant(text: &str) -> Option<i64> {
    let milliseconds = text.parse().ok();
    let is_date = text.len() == "2024-05-01".len();
    milliseconds
        .or_else(|| timestamp::milliseconds(text))
        .or_else(|| timestamp::milliseconds(&format!("{text}Z")))
        .or_else(|| timestamp::milliseconds(&format!("{text}T00:00:00Z")).filter(|_| is_date))
}

/// The vector of a JSON list of numbers.
fn vector(json: &str) -> Option<Value> {
    let elements: Vec<f32> = serde_json::from_str(json).ok()?;
    let is_finite = elements.iter().all(|element| element.is_finite());
    is_finite.then(|| Value::vector(&elements))
}

#[cfg(test)]
mod tests {
    use perennial_rows::Column;
    use proptest::prelude::*;

    use super::*;

    fn schema(of: Type) -> Schema {
        Schema::new([Column::new("c", of)])
    }

    fn row(value: Value) -> Row {
        Row {
            columns: [("c", value), ("other", 1i64.into())].into_iter().collect(),
            ..Row::of_text("text")
        }
    }

    fn fitted(value: impl Into<Value>, of: Type) -> Option<Value> {
        let row = fit(&schema(of), row(value.into())).ok()?;
        assert_eq!(row.columns.get("other"), None);
        assert_eq!(&*row.text, "");
        Some(row.columns.get("c").cloned().unwrap_or_default())
    }

    #[test]
    fn texts_are_read_where_nothing_is_lost() {
        let cases = [
            (" 12 ", Type::Integer, Some(Value::Integer(12))),
            ("12.0", Type::Integer, None),
            ("9223372036854775808", Type::Integer, None),
            ("-0.5", Type::Float, Some(Value::float(-0.5))),
            ("1e3", Type::Float, Some(Value::float(1000.0))),
            ("inf", Type::Float, Some(Value::float(f64::INFINITY))),
            ("1e999", Type::Float, None),
            ("9007199254740993", Type::Float, None),
            ("Yes", Type::Boolean, Some(Value::Boolean(true))),
            ("2", Type::Boolean, None),
            (
                "1970-01-02",
                Type::Timestamp,
                Some(Value::Timestamp(86_400_000)),
            ),
            (
                "1970-01-01 00:00:01",
                Type::Timestamp,
                Some(Value::Timestamp(1000)),
            ),
            (
                "1970-01-01T01:00:00+01:00",
                Type::Timestamp,
                Some(Value::Timestamp(0)),
            ),
            ("17", Type::Timestamp, Some(Value::Timestamp(17))),
            ("soon", Type::Timestamp, None),
            (
                "[1, {\"b\": 2, \"a\": 1}]",
                Type::Json,
                Some(Value::Json(r#"[1,{"a":1,"b":2}]"#.into())),
            ),
            ("5", Type::Json, None),
            ("[1, 0.5]", Type::Vector, Some(Value::vector(&[1.0, 0.5]))),
            ("[1e300]", Type::Vector, None),
            (" x ", Type::Text, Some(Value::text(" x "))),
            ("", Type::Integer, None),
        ];
        for (text, of, expected) in cases {
            assert_eq!(fitted(text, of), expected, "{text:?} as {of}");
        }
    }

    #[test]
    fn other_values_are_what_they_are() {
        assert_eq!(fitted(12i64, Type::Text), Some("12".into()));
        assert_eq!(fitted(true, Type::Text), Some("true".into()));
        assert_eq!(fitted(1i64, Type::Boolean), Some(true.into()));
        assert_eq!(fitted(3i64, Type::Float), Some(3.0.into()));
        assert_eq!(fitted(3.0, Type::Integer), None);
        assert_eq!(fitted(0.5, Type::Text), None);
        assert_eq!(fitted(Value::Null, Type::Integer), Some(Value::Null));
        assert_eq!(fitted(0.5, Type::Any), Some(0.5.into()));
        let list = Value::from_json(&serde_json::json!([1, 2]));
        assert_eq!(fitted(list, Type::Vector), Some(Value::vector(&[1.0, 2.0])));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let long = "x".repeat(1000);
        let refused = fit(&schema(Type::Integer), row(long.as_str().into())).unwrap_err();
        let said = refused.to_string();
        assert!(said.starts_with("the column \"c\" must be INTEGER, got TEXT \"xxx"));
        assert!(said.len() < 150, "{said}");
        let refused = fit(&schema(Type::Boolean), row(2.5.into())).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the column \"c\" must be BOOLEAN, got FLOAT 2.5"
        );
    }

    #[test]
    fn a_meaning_has_its_type() {
        struct Nothing(SourceName);
        impl Source for Nothing {
            fn name(&self) -> &SourceName {
                &self.0
            }
            fn run(self: Box<Self>, _: &Outlet) -> Result<(), Halt> {
                Ok(())
            }
        }
        let over = |name: &str, of| {
            let source = Nothing(SourceName::new("s"));
            Declared::over(source, Schema::new([Column::new(name, of)]))
        };
        assert!(over(TEXT, Type::Text).is_ok());
        assert!(over(UPDATED_AT, Type::Timestamp).is_ok());
        let refused = over(TEXT, Type::Integer).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the column \"text\" is TEXT: it cannot be declared to be INTEGER"
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::Timestamp),
            "[0-9a-z.:-]{0,12}".prop_map(|text| Value::text(text.as_str())),
            any::<i64>().prop_map(|n| Value::text(n.to_string())),
            any::<f64>().prop_map(|n| Value::text(n.to_string())),
            prop::collection::vec(any::<i8>(), 0..3)
                .prop_map(|list| Value::from_json(&serde_json::json!(list))),
        ]
    }

    fn of() -> impl Strategy<Value = Type> {
        prop::sample::select(Type::NAMES.map(|(of, _)| of).to_vec())
    }

    proptest! {
        #[test]
        fn what_fits_is_of_its_type_and_fits_again_as_it_is(value in value(), of in of()) {
            if let Ok(once) = fit(&schema(of), row(value.clone())) {
                let found = once.columns.get("c").cloned().unwrap_or_default();
                prop_assert_eq!(found == Value::Null, value == Value::Null);
                prop_assert_eq!(found.clone().coerce(of), Some(found));
                prop_assert_eq!(fit(&schema(of), once.clone()), Ok(once));
            }
        }

        #[test]
        fn numbers_that_are_written_are_read(integer: i64, float: f64) {
            let read = fitted(integer.to_string().as_str(), Type::Integer);
            prop_assert_eq!(read, Some(Value::Integer(integer)));
            // With a point, as every float that is no whole number has one.
            let read = fitted(format!("{float:?}").as_str(), Type::Float);
            prop_assert_eq!(read, Some(Value::float(float)));
        }
    }
}
