//! What may stand in a column?

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A finite or infinite number, or the one NaN: totally ordered (NaN last), never `-0.0`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Float(f64);

impl Float {
    /// The number, with one zero and one NaN.
    pub fn new(number: f64) -> Self {
        Self(match number {
            0.0 => 0.0,
            n if n.is_nan() => f64::NAN,
            n => n,
        })
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl From<f64> for Float {
    fn from(number: f64) -> Self {
        Self::new(number)
    }
}

impl From<Float> for f64 {
    fn from(float: Float) -> Self {
        float.0
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Float {}
impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Float {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Type {
    /// Whatever each row holds: columns of a relation without a declared schema.
    Any,
    /// True or false.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A floating-point number of 64 bits.
    Float,
    /// Unicode text.
    Text,
    /// An instant, in milliseconds since 1970 UTC.
    Timestamp,
    /// Numbers of 32 bits in a row: an embedding.
    Vector,
    /// A list or an object, as canonical JSON.
    Json,
}

impl Type {
    /// Every type, with the name that SQL knows it by.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::Any, "ANY"),
        (Self::Boolean, "BOOLEAN"),
        (Self::Integer, "INTEGER"),
        (Self::Float, "FLOAT"),
        (Self::Text, "TEXT"),
        (Self::Timestamp, "TIMESTAMP"),
        (Self::Vector, "VECTOR"),
        (Self::Json, "JSON"),
    ];
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(of, _)| of == self);
        f.write_str(name.map_or("ANY", |(_, name)| name))
    }
}

/// A name that no type has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is no type; there are BOOLEAN, INTEGER, FLOAT, TEXT, TIMESTAMP, VECTOR, JSON and ANY"
)]
pub struct ParseTypeError {
    /// What was given.
    pub name: String,
}

impl FromStr for Type {
    type Err = ParseTypeError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let upper = name.to_ascii_uppercase();
        let synonym = match upper.as_str() {
            "BOOL" => "BOOLEAN",
            "INT" | "BIGINT" | "SMALLINT" | "INT8" | "INT4" => "INTEGER",
            "REAL" | "DOUBLE" | "DOUBLE PRECISION" | "DECIMAL" | "NUMERIC" => "FLOAT",
            "STRING" | "VARCHAR" | "CHAR" => "TEXT",
            "TIMESTAMPTZ" | "DATETIME" => "TIMESTAMP",
            "JSONB" => "JSON",
            other => other,
        };
        let found = Self::NAMES.iter().find(|(_, name)| *name == synonym);
        found.map(|(of, _)| *of).ok_or_else(|| ParseTypeError {
            name: name.to_owned(),
        })
    }
}

/// What stands in one column of one row. Ordered by type first, `Null` least.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// Nothing is known.
    #[default]
    Null,
    /// See [`Type::Boolean`].
    Boolean(bool),
    /// See [`Type::Integer`].
    Integer(i64),
    /// See [`Type::Float`].
    Float(Float),
    /// See [`Type::Text`].
    Text(Arc<str>),
    /// See [`Type::Timestamp`].
    Timestamp(i64),
    /// The bits of each `f32`.
    Vector(Arc<[u32]>),
    /// Canonical JSON text of a list or an object: no blanks, object keys sorted.
    Json(Arc<str>),
}

impl Value {
    /// The float value of this number.
    pub fn float(number: f64) -> Self {
        Self::Float(Float::new(number))
    }

    /// A text value.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// A vector value.
    pub fn vector(elements: &[f32]) -> Self {
        Self::Vector(elements.iter().map(|x| x.to_bits()).collect())
    }

    /// The value of a JSON value. Whole numbers of 64 bits are integers, other numbers floats;
    /// lists and objects stay JSON.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(is) => Self::Boolean(*is),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(integer) => Self::Integer(integer),
                None => Self::float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::text(text.as_str()),
            list_or_object => Self::Json(canonical(list_or_object).to_string().into()),
        }
    }

    /// The JSON form: timestamps are numbers of milliseconds, a number that JSON has no word for
    /// (NaN, an infinity) is null.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Boolean(is) => (*is).into(),
            Self::Integer(integer) | Self::Timestamp(integer) => (*integer).into(),
            Self::Float(float) => float.get().into(),
            Self::Text(text) => (&**text).into(),
            Self::Vector(bits) => {
                let elements = bits.iter().map(|bits| f32::from_bits(*bits));
                elements.map(serde_json::Value::from).collect()
            }
            Self::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }

    /// The type of what stands here; `None` for [`Value::Null`], which every column may hold.
    pub fn type_of(&self) -> Option<Type> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(_) => Type::Boolean,
            Self::Integer(_) => Type::Integer,
            Self::Float(_) => Type::Float,
            Self::Text(_) => Type::Text,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Vector(_) => Type::Vector,
            Self::Json(_) => Type::Json,
        })
    }

    /// This value as a column of type `wanted` holds it, where nothing is lost: a whole number is
    /// a float or a timestamp too. `None` if it is of another type.
    pub fn coerce(self, wanted: Type) -> Option<Self> {
        match (self, wanted) {
            (Self::Null, _) => Some(Self::Null),
            (value, Type::Any) => Some(value),
            // Beyond 2^53 a float would be another number.
            (Self::Integer(n), Type::Float) if n.unsigned_abs() <= 1 << 53 => {
                Some(Self::float(n as f64))
            }
            (Self::Integer(ms), Type::Timestamp) => Some(Self::Timestamp(ms)),
            (value, wanted) => (value.type_of() == Some(wanted)).then_some(value),
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&Arc<str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The same JSON with the keys of every object sorted.
fn canonical(json: &serde_json::Value) -> serde_json::Value {
    match json {
        serde_json::Value::Array(list) => list.iter().map(canonical).collect(),
        serde_json::Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            let sorted = sorted.into_iter();
            sorted
                .map(|(name, value)| (name.clone(), canonical(value)))
                .collect()
        }
        plain => plain.clone(),
    }
}

impl fmt::Display for Value {
    /// As a cell of a table: a text without quotes, `NULL`, all else as JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Text(text) | Self::Json(text) => f.write_str(text),
            Self::Float(float) => write!(f, "{}", float.get()),
            other => write!(f, "{}", other.to_json()),
        }
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Boolean(is)
    }
}
impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}
impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::float(number)
    }
}
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}
impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_zero_and_one_nan() {
        assert_eq!(Value::float(-0.0), Value::float(0.0));
        assert_eq!(Value::float(f64::NAN), Value::float(-f64::NAN));
        assert!(Value::float(f64::NAN) > Value::float(f64::INFINITY));
    }

    #[test]
    fn json_keeps_whole_numbers_whole_and_objects_canonical() {
        let json = serde_json::json!({"b": [1, 2.5, null], "a": {"d": true, "c": "x"}});
        let value = Value::from_json(&json);
        assert_eq!(
            value.to_string(),
            r#"{"a":{"c":"x","d":true},"b":[1,2.5,null]}"#
        );
        assert_eq!(value.to_json(), json);
        assert_eq!(Value::from_json(&serde_json::json!(1)), Value::Integer(1));
        assert_eq!(Value::from_json(&serde_json::json!(1.0)), Value::float(1.0));
    }

    #[test]
    fn a_value_fits_a_column_only_without_loss() {
        assert_eq!(
            Value::Integer(3).coerce(Type::Float),
            Some(Value::float(3.0))
        );
        assert_eq!(Value::Integer(i64::MAX).coerce(Type::Float), None);
        assert_eq!(Value::float(3.0).coerce(Type::Integer), None);
        assert_eq!(Value::text("3").coerce(Type::Integer), None);
        assert_eq!(Value::Null.coerce(Type::Text), Some(Value::Null));
    }

    #[test]
    fn types_are_known_by_their_names_and_synonyms() {
        for (of, name) in Type::NAMES {
            assert_eq!(name.parse(), Ok(of));
            assert_eq!(of.to_string(), name);
        }
        assert_eq!("varchar".parse(), Ok(Type::Text));
        assert!("blob".parse::<Type>().is_err());
    }
}
