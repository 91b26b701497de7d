//! What does a line of JSON say, exactly? Values whose objects keep every field.
//!
//! `serde_json::Value` keeps the last of two fields of the same name and drops the first in
//! silence. Here fields stay a list, so that such a line can be refused. Depth is limited by
//! the parser (128), size by the line's limit.

use std::fmt;

use perennial_rows::Value;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{JsonKind, Rejection};

/// Bytes of an escape by number: `\u00e9`.
const ESCAPE: usize = 6;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Boolean(bool),
    Integer(i64),
    /// A number that is no 64-bit integer.
    Number(serde_json::Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Reads one value that fills the line, in which no object names a field twice.
pub(crate) fn parse(line: &str) -> Result<Json, Rejection> {
    let value: Json = serde_json::from_str(line).map_err(|error| refusal(line, &error))?;
    match value.duplicate() {
        Some(name) => Err(Rejection::DuplicateField {
            name: name.to_owned(),
        }),
        None => Ok(value),
    }
}

/// Why the parser takes no value from a line.
fn refusal(line: &str, error: &serde_json::Error) -> Rejection {
    if error.is_eof() {
        return Rejection::Truncated {
            len: line.len() as u64,
        };
    }
    // Such an escape stops the parser, so it is the first that stands before where it stopped.
    let n_read = n_read(line, error);
    let lone = lone_surrogate(line).filter(|at| at + ESCAPE <= n_read);
    match lone.and_then(|at| Some((at, line.get(at..at + ESCAPE)?))) {
        Some((at, escape)) => Rejection::LoneSurrogate {
            at: at as u64 + 1,
            escape: escape.to_owned(),
        },
        None => Rejection::Malformed {
            column: error.column() as u64,
            message: words(error),
        },
    }
}

/// Bytes up to where the parser stopped: its column counts from the last line's beginning.
fn n_read(text: &str, error: &serde_json::Error) -> usize {
    let lines = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1));
    lines.map(str::len).sum::<usize>() + error.column()
}

/// Where the first escape begins that is a surrogate without its other half, given what is JSON up to
/// there.
fn lone_surrogate(text: &str) -> Option<usize> {
    let text = text.as_bytes();
    let unit = |at: usize| {
        let digits = text.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|byte| *byte == b'\\')?;
        at += match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + ESCAPE), Some(0xdc00..=0xdfff)) => {
                2 * ESCAPE
            }
            Some(0xd800..=0xdfff) => return Some(at),
            Some(_) => ESCAPE,
            // What is escaped may be a backslash itself.
            None => 2,
        };
    }
}

/// The parser's words without its position: a line of its own is always "line 1".
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ")
        .map_or(text.as_str(), |(words, _)| words)
        .to_owned()
}

impl Json {
    pub(crate) fn kind(&self) -> JsonKind {
        match self {
            Self::Null => JsonKind::Null,
            Self::Boolean(_) => JsonKind::Boolean,
            Self::Integer(_) => JsonKind::Integer,
            Self::Number(_) => JsonKind::Number,
            Self::String(_) => JsonKind::String,
            Self::Array(_) => JsonKind::Array,
            Self::Object(_) => JsonKind::Object,
        }
    }

    /// As what stands in a column.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::String(text) => Value::text(text),
            other => Value::from_json(&other.into_serde()),
        }
    }

    /// The same, where no object names a field twice.
    fn into_serde(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Boolean(is) => is.into(),
            Self::Integer(integer) => integer.into(),
            Self::Number(number) => serde_json::Value::Number(number),
            Self::String(text) => text.into(),
            Self::Array(items) => items.into_iter().map(Self::into_serde).collect(),
            Self::Object(fields) => {
                let fields = fields.into_iter();
                let fields = fields.map(|(name, value)| (name, value.into_serde()));
                serde_json::Value::Object(fields.collect())
            }
        }
    }

    /// A field's name that stands twice in one object, at any depth.
    fn duplicate(&self) -> Option<&str> {
        match self {
            Self::Array(items) => items.iter().find_map(Self::duplicate),
            Self::Object(fields) => {
                let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                names.sort_unstable();
                let twice = names
                    .windows(2)
                    .find(|pair| pair[0] == pair[1])
                    .map(|pair| pair[0]);
                twice.or_else(|| fields.iter().find_map(|(_, value)| value.duplicate()))
            }
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or_else(|_| Json::Number(value.into()), Json::Integer))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        let number = serde_json::Number::from_f64(value);
        number
            .map(Json::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    // The lists grow with what is there: the parser knows no lengths that could be believed.
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = access.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_named_twice_are_refused_at_any_depth() {
        for line in [
            r#"{"a":1,"a":1}"#,
            r#"[{"b":{"a":1,"x":2,"a":null}}]"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert_eq!(
                parse(line),
                Err(Rejection::DuplicateField { name: "a".into() }),
                "{line}"
            );
        }
        assert!(parse(r#"[{"a":1},{"a":1}]"#).is_ok());
    }

    #[test]
    fn cut_lines_are_told_from_wrong_ones() {
        for line in [r#"{"a":1"#, r#"{"a":"xy"#, "[", r#"{"a"#] {
            let len = line.len() as u64;
            assert_eq!(parse(line), Err(Rejection::Truncated { len }), "{line}");
        }
        for line in ["{]", "x", r#"{"a":1}}"#, r#"{'a':1}"#, &"[".repeat(500)] {
            assert!(
                matches!(parse(line), Err(Rejection::Malformed { .. })),
                "{line}"
            );
        }
        match parse(r#"{"a":1} x"#) {
            Err(Rejection::Malformed { column: 9, message }) => {
                assert_eq!(message, "trailing characters");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn half_a_character_is_named_as_such() {
        let lone = |at, escape: &str| {
            let escape = escape.to_owned();
            Err(Rejection::LoneSurrogate { at, escape })
        };
        for (line, at, escape) in [
            (r#"{"a":"\ud83d"}"#, 7, r"\ud83d"),
            (r#"{"a":"\ud83dx"}"#, 7, r"\ud83d"),
            (r#"{"a":"\ud83d\n"}"#, 7, r"\ud83d"),
            (r#"{"a":"\ud83d\u0041"}"#, 7, r"\ud83d"),
            (r#"{"a":"\uDE00"}"#, 7, r"\uDE00"),
            (r#"{"a":"\\","b":"\ud83d\ude00 \ude00"}"#, 29, r"\ude00"),
            ("{\"a\":1,\n\"b\":\"\\ud83d\"}", 14, r"\ud83d"),
        ] {
            assert_eq!(parse(line), lone(at, escape), "{line}");
        }
        let whole = parse(r#"{"a":"\ud83d\ude00 \\ud83d"}"#);
        let text = "\u{1f600} \\ud83d".to_owned();
        assert_eq!(
            whole,
            Ok(Json::Object(vec![("a".into(), Json::String(text))]))
        );
        // What is wrong before it is what is told.
        let first = parse(r#"{"a":x,"b":"\ud83d"}"#);
        assert!(
            matches!(first, Err(Rejection::Malformed { .. })),
            "{first:?}"
        );
        let cut = parse(r#"{"a":"\ud83d"#);
        assert!(matches!(cut, Err(Rejection::Truncated { .. })), "{cut:?}");
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(parse("-3"), Ok(Json::Integer(-3)));
        let number = |number: serde_json::Number| Ok(Json::Number(number));
        assert_eq!(parse("18446744073709551615"), number(u64::MAX.into()));
        let fraction = serde_json::Number::from_f64(1.5).unwrap();
        assert_eq!(parse("1.5"), number(fraction));
    }

    #[test]
    fn values_are_those_of_columns() {
        let value = |line: &str| parse(line).unwrap().into_value();
        assert_eq!(value("null"), Value::Null);
        assert_eq!(value("true"), Value::Boolean(true));
        assert_eq!(value("-3"), Value::Integer(-3));
        assert_eq!(
            value("18446744073709551615"),
            Value::float(1.8446744073709552e19)
        );
        assert_eq!(value(r#""x""#), Value::text("x"));
        assert_eq!(
            value(r#"{"b": [1, 2.5, null], "a": "x"}"#),
            Value::Json(r#"{"a":"x","b":[1,2.5,null]}"#.into())
        );
    }
}
