//! Which functions are there, what do they take, and what do they return?
//!
//! A function of a NULL is NULL, but for `coalesce`. Positions in texts count characters from 1.

use perennial_rows::{Type, Value};

use crate::query::cast::cast;
use crate::query::compare::compare;
use crate::query::expression::common;

/// Longest text that a function makes, in bytes; a longer one is NULL.
const MAX_TEXT: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Function {
    Abs,
    Ceil,
    Coalesce,
    Concat,
    Floor,
    /// `->`: a field or an element of JSON.
    JsonField,
    /// `->>`: the same as text.
    JsonText,
    Length,
    Lower,
    NullIf,
    /// Bytes of a text.
    OctetLength,
    Position,
    Replace,
    Round,
    StartsWith,
    Substr,
    Trim,
    TrimEnd,
    TrimStart,
    Upper,
}

/// What an argument may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Anything,
    Integer,
    Json,
    Number,
    Text,
    TextOrInteger,
}

impl Takes {
    pub(crate) fn accepts(self, of: Type) -> bool {
        matches!(
            (self, of),
            (_, Type::Any)
                | (Self::Anything, _)
                | (Self::Integer | Self::TextOrInteger, Type::Integer)
                | (Self::Number, Type::Integer | Type::Float)
                | (Self::Text | Self::TextOrInteger, Type::Text)
                | (Self::Json, Type::Json)
        )
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anything => "anything",
            Self::Integer => "INTEGER",
            Self::Json => "JSON",
            Self::Number => "INTEGER or FLOAT",
            Self::Text => "TEXT",
            Self::TextOrInteger => "TEXT or INTEGER",
        }
    }
}

impl Function {
    /// The names by which SQL calls functions.
    pub(crate) const NAMES: [(&'static str, Self); 24] = [
        ("abs", Self::Abs),
        ("ceil", Self::Ceil),
        ("ceiling", Self::Ceil),
        ("char_length", Self::Length),
        ("coalesce", Self::Coalesce),
        ("concat", Self::Concat),
        ("floor", Self::Floor),
        ("ifnull", Self::Coalesce),
        ("instr", Self::Position),
        ("length", Self::Length),
        ("lower", Self::Lower),
        ("ltrim", Self::TrimStart),
        ("nullif", Self::NullIf),
        ("octet_length", Self::OctetLength),
        ("replace", Self::Replace),
        ("round", Self::Round),
        ("rtrim", Self::TrimEnd),
        ("starts_with", Self::StartsWith),
        ("strpos", Self::Position),
        ("substr", Self::Substr),
        ("substring", Self::Substr),
        ("trim", Self::Trim),
        ("ucase", Self::Upper),
        ("upper", Self::Upper),
    ];

    /// The function that SQL calls so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let known = Self::NAMES.iter();
        known
            .copied()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, function)| function)
    }

    /// How many arguments must be there, and what each may be. Of a function of any number of
    /// arguments the last stands for all further ones.
    pub(crate) fn takes(self) -> (usize, &'static [Takes]) {
        use Takes::{Anything, Integer, Json, Number, Text, TextOrInteger};
        match self {
            Self::Abs | Self::Ceil | Self::Floor => (1, &[Number]),
            Self::Coalesce | Self::Concat => (1, &[Anything]),
            Self::JsonField | Self::JsonText => (2, &[Json, TextOrInteger]),
            Self::Length | Self::Lower | Self::OctetLength | Self::Upper => (1, &[Text]),
            Self::NullIf => (2, &[Anything, Anything]),
            Self::Position | Self::StartsWith => (2, &[Text, Text]),
            Self::Replace => (3, &[Text, Text, Text]),
            Self::Round => (1, &[Number, Integer]),
            Self::Substr => (2, &[Text, Integer, Integer]),
            Self::Trim | Self::TrimEnd | Self::TrimStart => (1, &[Text, Text]),
        }
    }

    pub(crate) fn is_variadic(self) -> bool {
        matches!(self, Self::Coalesce | Self::Concat)
    }

    /// How it stands in an explanation, and its number in digests, which never changes.
    pub(crate) fn name(self) -> (&'static str, u64) {
        match self {
            Self::Abs => ("abs", 1),
            Self::Ceil => ("ceil", 2),
            Self::Coalesce => ("coalesce", 3),
            Self::Concat => ("concat", 4),
            Self::Floor => ("floor", 5),
            Self::JsonField => ("->", 6),
            Self::JsonText => ("->>", 7),
            Self::Length => ("length", 8),
            Self::Lower => ("lower", 9),
            Self::NullIf => ("nullif", 10),
            Self::Position => ("position", 11),
            Self::Replace => ("replace", 12),
            Self::Round => ("round", 13),
            Self::StartsWith => ("starts_with", 14),
            Self::Substr => ("substr", 15),
            Self::Trim => ("trim", 16),
            Self::TrimEnd => ("rtrim", 17),
            Self::TrimStart => ("ltrim", 18),
            Self::Upper => ("upper", 19),
            Self::OctetLength => ("octet_length", 20),
        }
    }

    /// The type of the result for arguments of these types (NULL literals left out).
    pub(crate) fn of(self, arguments: &[Type]) -> Type {
        match self {
            Self::Abs | Self::Ceil | Self::Floor | Self::NullIf | Self::Round => {
                arguments.first().copied().unwrap_or(Type::Any)
            }
            Self::Coalesce => common(arguments.iter().copied()).unwrap_or(Type::Any),
            Self::JsonField => Type::Any,
            Self::Length | Self::OctetLength | Self::Position => Type::Integer,
            Self::StartsWith => Type::Boolean,
            Self::Concat
            | Self::JsonText
            | Self::Lower
            | Self::Replace
            | Self::Substr
            | Self::Trim
            | Self::TrimEnd
            | Self::TrimStart
            | Self::Upper => Type::Text,
        }
    }

    /// Its value; the binder has seen to the number of arguments.
    pub(crate) fn value(self, arguments: &[Value]) -> Value {
        if self == Self::Coalesce {
            let known = arguments.iter().find(|value| **value != Value::Null);
            return known.cloned().unwrap_or_default();
        }
        if self == Self::NullIf {
            let [value, other] = arguments else {
                return Value::Null;
            };
            let is_equal = compare(value, other).is_some_and(|order| order.is_eq());
            return if is_equal { Value::Null } else { value.clone() };
        }
        if arguments.contains(&Value::Null) {
            return Value::Null;
        }
        self.of_known(arguments).unwrap_or_default()
    }

    /// The value for arguments none of which is NULL; `None` if one is of the wrong type.
    fn of_known(self, arguments: &[Value]) -> Option<Value> {
        let text = |at: usize| arguments.get(at)?.as_text().map(|text| &**text);
        Some(match self {
            Self::Abs => match arguments.first()? {
                Value::Integer(n) => Value::Integer(n.checked_abs()?),
                Value::Float(x) => Value::float(x.get().abs()),
                _ => return None,
            },
            Self::Ceil => rounded(arguments.first()?, f64::ceil)?,
            Self::Floor => rounded(arguments.first()?, f64::floor)?,
            Self::Round => {
                let digits = match arguments.get(1) {
                    None => 0,
                    Some(Value::Integer(digits)) => *digits,
                    Some(_) => return None,
                };
                rounded(arguments.first()?, |x| round(x, digits))?
            }
            Self::Coalesce | Self::NullIf => return None,
            Self::Concat => {
                let mut joined = String::new();
                for argument in arguments {
                    let Value::Text(part) = cast(argument.clone(), Type::Text) else {
                        return None;
                    };
                    if joined.len() + part.len() > MAX_TEXT {
                        return None;
                    }
                    joined.push_str(&part);
                }
                Value::text(joined)
            }
            Self::JsonField => field(arguments.first()?, arguments.get(1)?)?,
            Self::JsonText => cast(field(arguments.first()?, arguments.get(1)?)?, Type::Text),
            Self::Length => Value::Integer(text(0)?.chars().count() as i64),
            Self::OctetLength => Value::Integer(text(0)?.len() as i64),
            Self::Lower => bounded(text(0)?.to_lowercase())?,
            Self::Upper => bounded(text(0)?.to_uppercase())?,
            Self::Position => {
                let at = text(0)?.find(text(1)?);
                let before = at.map(|at| text(0).unwrap_or_default()[..at].chars().count());
                Value::Integer(before.map_or(0, |before| before as i64 + 1))
            }
            Self::Replace => replace(text(0)?, text(1)?, text(2)?)?,
            Self::StartsWith => Value::Boolean(text(0)?.starts_with(text(1)?)),
            Self::Substr => {
                let start = integer(arguments.get(1)?)?;
                let n_chars = match arguments.get(2) {
                    None => i64::MAX,
                    Some(n) => integer(n)?,
                };
                Value::text(substr(text(0)?, start, n_chars))
            }
            Self::Trim | Self::TrimEnd | Self::TrimStart => {
                let blanks: Vec<char> = match arguments.len() {
                    1 => vec![' '],
                    _ => text(1)?.chars().collect(),
                };
                let mut kept = text(0)?;
                if self != Self::TrimEnd {
                    kept = kept.trim_start_matches(&blanks[..]);
                }
                if self != Self::TrimStart {
                    kept = kept.trim_end_matches(&blanks[..]);
                }
                Value::text(kept)
            }
        })
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(n) => Some(*n),
        _ => None,
    }
}

fn bounded(text: String) -> Option<Value> {
    (text.len() <= MAX_TEXT).then(|| Value::text(text))
}

fn rounded(number: &Value, round: impl Fn(f64) -> f64) -> Option<Value> {
    match number {
        Value::Integer(n) => Some(Value::Integer(*n)),
        Value::Float(x) => Some(Value::float(round(x.get()))),
        _ => None,
    }
}

/// To `digits` after the point, halves away from zero.
fn round(number: f64, digits: i64) -> f64 {
    // A float has at most 17 digits that mean something, and at most 309 before the point.
    let digits = digits.clamp(-310, 310) as i32;
    let scale = 10f64.powi(digits.abs());
    let rounded = match digits {
        0.. => (number * scale).round() / scale,
        _ => (number / scale).round() * scale,
    };
    match rounded.is_finite() {
        true => rounded,
        false => number,
    }
}

/// The characters at positions `start` to `start + n_chars`, those before 1 left out, as standard
/// SQL has it.
fn substr(text: &str, start: i64, n_chars: i64) -> String {
    let end = start.saturating_add(n_chars.max(0));
    let skipped = usize::try_from(start.max(1) - 1).unwrap_or(usize::MAX);
    let taken = usize::try_from(end.saturating_sub(start.max(1))).unwrap_or(0);
    text.chars().skip(skipped).take(taken).collect()
}

fn replace(text: &str, old: &str, new: &str) -> Option<Value> {
    if old.is_empty() {
        return Some(Value::text(text));
    }
    let n_found = text.matches(old).count();
    let length = text.len() + n_found.saturating_mul(new.len());
    (length <= MAX_TEXT).then(|| Value::text(text.replace(old, new)))
}

/// A field of an object by name, an element of a list by number (from the end if negative).
fn field(json: &Value, which: &Value) -> Option<Value> {
    let Value::Json(text) = json else { return None };
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let found = match which {
        Value::Text(name) => json.as_object()?.get(&**name)?,
        Value::Integer(at) => {
            let list = json.as_array()?;
            let from_start = if *at < 0 { list.len() as i64 + at } else { *at };
            list.get(usize::try_from(from_start).ok()?)?
        }
        _ => return None,
    };
    Some(Value::from_json(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &[Value]) -> Value {
        Function::named(name).expect(name).value(arguments)
    }

    #[test]
    fn functions_return_what_sql_says() {
        let json = || Value::Json(r#"{"a":[1,"x",{"b":null}]}"#.into());
        let list = || Function::JsonField.value(&[json(), "a".into()]);
        let cases = [
            (call("lower", &["ÄB".into()]), Value::text("äb")),
            (call("LENGTH", &["äb".into()]), Value::from(2i64)),
            (call("octet_length", &["äb".into()]), Value::from(3i64)),
            (
                call("substr", &["abcdef".into(), 2i64.into(), 3i64.into()]),
                "bcd".into(),
            ),
            (
                call("substr", &["abc".into(), 0i64.into(), 2i64.into()]),
                "a".into(),
            ),
            (
                call("substr", &["abc".into(), i64::MIN.into(), i64::MAX.into()]),
                "".into(),
            ),
            (
                call("substr", &["abc".into(), 3i64.into(), (-1i64).into()]),
                "".into(),
            ),
            (call("trim", &["  a ".into()]), "a".into()),
            (call("ltrim", &["xxay".into(), "x".into()]), "ay".into()),
            (
                call("replace", &["aXbX".into(), "X".into(), "--".into()]),
                "a--b--".into(),
            ),
            (
                call("replace", &["ab".into(), "".into(), "--".into()]),
                "ab".into(),
            ),
            (call("round", &[2.5.into()]), 3.0.into()),
            (call("round", &[(-2.5).into()]), (-3.0).into()),
            (call("round", &[1.25.into(), 1i64.into()]), 1.3.into()),
            (call("round", &[1e300.into(), 300i64.into()]), 1e300.into()),
            (call("abs", &[(-3i64).into()]), 3i64.into()),
            (call("abs", &[i64::MIN.into()]), Value::Null),
            (call("coalesce", &[Value::Null, 2i64.into()]), 2i64.into()),
            (call("nullif", &[1i64.into(), 1.0.into()]), Value::Null),
            (call("nullif", &[1i64.into(), Value::Null]), 1i64.into()),
            (call("concat", &["a".into(), 1i64.into()]), "a1".into()),
            (call("concat", &["a".into(), Value::Null]), Value::Null),
            (call("strpos", &["äbc".into(), "c".into()]), 3i64.into()),
            (call("lower", &[1i64.into()]), Value::Null),
            (Function::JsonText.value(&[list(), 0i64.into()]), "1".into()),
            (
                Function::JsonField.value(&[list(), (-2i64).into()]),
                "x".into(),
            ),
            (
                Function::JsonField.value(&[list(), 9i64.into()]),
                Value::Null,
            ),
            (
                Function::JsonText.value(&["no".into(), "a".into()]),
                Value::Null,
            ),
        ];
        for (at, (value, expected)) in cases.into_iter().enumerate() {
            assert_eq!(value, expected, "case {at}");
        }
    }

    #[test]
    fn texts_do_not_grow_without_bound() {
        let mut text = Value::text("aaaaaaaa");
        for _ in 0..10 {
            text = call("replace", &[text, "a".into(), "aaaaaaaa".into()]);
        }
        assert_eq!(text, Value::Null);
    }
}
