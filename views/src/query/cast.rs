//! What is a value as one of another type?

use perennial_rows::{Type, Value};

use crate::query::timestamp;

/// Whether CAST between these types has a meaning. (A value may still have no counterpart.)
pub(crate) fn is_castable(from: Type, to: Type) -> bool {
    use Type::{Any, Boolean, Float, Integer, Json, Text, Timestamp, Vector};
    match (from, to) {
        (Any, _) | (_, Any | Text) => true,
        (from, to) if from == to => true,
        (Boolean | Float | Timestamp | Text, Integer) => true,
        (Integer | Text, Float) => true,
        (Integer | Text, Boolean) => true,
        (Integer | Text, Timestamp) => true,
        (Text | Boolean | Integer | Float | Vector, Json) => true,
        _ => false,
    }
}

/// The value as one of type `to`, or NULL where there is none: a text that is no number, a float
/// beyond the integers. A float becomes an integer by cutting its fraction.
pub(crate) fn cast(value: Value, to: Type) -> Value {
    if value == Value::Null || to == Type::Any || value.type_of() == Some(to) {
        return value;
    }
    let cast = match (value, to) {
        (value, Type::Text) => text(&value),
        (Value::Boolean(is), Type::Integer) => Some(Value::Integer(is.into())),
        (Value::Float(x), Type::Integer) => whole(x.get()).map(Value::Integer),
        (Value::Timestamp(ms), Type::Integer) => Some(Value::Integer(ms)),
        (Value::Text(text), Type::Integer) => {
            let text = text.trim();
            let float = || text.parse().ok().and_then(whole);
            text.parse().ok().or_else(float).map(Value::Integer)
        }
        (Value::Integer(n), Type::Float) => Some(Value::float(n as f64)),
        (Value::Text(text), Type::Float) => text.trim().parse().ok().map(Value::float),
        (Value::Integer(n), Type::Boolean) => Some(Value::Boolean(n != 0)),
        (Value::Text(text), Type::Boolean) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(Value::Boolean(true)),
            "false" | "f" | "0" => Some(Value::Boolean(false)),
            _ => None,
        },
        (Value::Integer(ms), Type::Timestamp) => Some(Value::Timestamp(ms)),
        (Value::Text(text), Type::Timestamp) => timestamp::parse(&text).map(Value::Timestamp),
        // A scalar in JSON is that scalar: so a cast to JSON has the static type ANY.
        (Value::Text(text), Type::Json) => {
            let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            parsed.map(|json| Value::from_json(&json))
        }
        (value @ (Value::Boolean(_) | Value::Integer(_) | Value::Float(_)), Type::Json) => {
            Some(value)
        }
        (value @ Value::Vector(_), Type::Json) => Some(Value::from_json(&value.to_json())),
        _ => None,
    };
    cast.unwrap_or_default()
}

/// The text of a value, as `||` and CAST write it; `None` for NULL.
fn text(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Text(_) => value.clone(),
        Value::Timestamp(ms) => Value::text(timestamp::format(*ms)?),
        other => Value::text(other.to_string()),
    })
}

/// A float without its fraction, if that is a whole number of 64 bits.
fn whole(float: f64) -> Option<i64> {
    let whole = float.trunc();
    let is_i64 = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole);
    is_i64.then_some(whole as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_counterpart_is_null() {
        let nulls = [
            (Value::text("x"), Type::Integer),
            (Value::float(1e300), Type::Integer),
            (Value::float(f64::NAN), Type::Integer),
            (Value::text("maybe"), Type::Boolean),
            (Value::text("{"), Type::Json),
            (Value::text("soon"), Type::Timestamp),
            (Value::Timestamp(i64::MAX), Type::Text),
            (Value::Null, Type::Text),
        ];
        for (value, to) in nulls {
            assert_eq!(cast(value.clone(), to), Value::Null, "{value} to {to}");
        }
    }

    #[test]
    fn casts_keep_what_they_can() {
        let casts = [
            (Value::float(-2.7), Type::Integer, Value::from(-2i64)),
            (Value::text(" 12 "), Type::Integer, Value::from(12i64)),
            (Value::text("1.5"), Type::Integer, Value::from(1i64)),
            (Value::from(3i64), Type::Float, Value::float(3.0)),
            (Value::from(true), Type::Text, Value::text("true")),
            (
                Value::Timestamp(0),
                Type::Text,
                Value::text("1970-01-01T00:00:00.000Z"),
            ),
            (Value::text("7"), Type::Json, Value::from(7i64)),
            (
                Value::text(r#"{"b":1,"a":2}"#),
                Type::Json,
                Value::Json(r#"{"a":2,"b":1}"#.into()),
            ),
        ];
        for (value, to, expected) in casts {
            assert_eq!(cast(value, to), expected);
        }
    }
}
