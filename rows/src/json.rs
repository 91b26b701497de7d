//! Which JSON stands for a row, and which text for what tells it from others?
//!
//! [`object`] is for readers: a timestamp is a number, NaN is null. So two rows that differ may look
//! alike in it. [`key`] is for who must tell rows apart: other values have another text.
//!
//! | values | [`key`] |
//! | --- | --- |
//! | the text `oslo` alone | `oslo` |
//! | the text `[x]` alone | `["[x]"]` |
//! | a number alone | `[7]` |
//! | NULL alone | `[null]` |
//! | several | `["no",7]` |
//! | none | `[]` |
//! | in a column that holds anything: a timestamp, a vector, a list or an object | `[{"TIMESTAMP":0}]` |
//! | a number that JSON has no word for | `[{"FLOAT":"NaN"}]` |

use std::fmt::Write as _;

use crate::{Type, Value};

/// Named values as a JSON object, in the form of [`Value::to_json`].
pub fn object<'a>(named: impl IntoIterator<Item = (&'a str, &'a Value)>) -> serde_json::Value {
    let named = named.into_iter();
    let fields = named.map(|(name, value)| (name.to_owned(), value.to_json()));
    serde_json::Value::Object(fields.collect())
}

/// The text that stands for these values of columns of these types, and for no others: a text that
/// is alone stands for itself, unless it begins as a list does; all else is a JSON list.
pub fn key<'a>(values: impl IntoIterator<Item = (&'a Value, Type)>) -> String {
    let values: Vec<(&Value, Type)> = values.into_iter().collect();
    if let [(Value::Text(text), _)] = &values[..]
        && !text.starts_with('[')
    {
        return text.to_string();
    }
    let mut list = "[".to_owned();
    for (at, (value, of)) in values.iter().enumerate() {
        list.push_str(if at == 0 { "" } else { "," });
        element(&mut list, value, *of);
    }
    list.push(']');
    list
}

/// A value of a column of this type, so that no other value of the column has the same text.
fn element(list: &mut String, value: &Value, of: Type) {
    let plain = match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(is) => is.to_string(),
        Value::Integer(integer) | Value::Timestamp(integer) => integer.to_string(),
        Value::Float(float) => match serde_json::Number::from_f64(float.get()) {
            Some(number) => number.to_string(),
            None => format!("{{\"FLOAT\":\"{}\"}}", float.get()),
        },
        Value::Text(text) => serde_json::Value::from(&**text).to_string(),
        Value::Vector(bits) => {
            let elements: Vec<String> = bits.iter().map(|bits| number_of_32(*bits)).collect();
            format!("[{}]", elements.join(","))
        }
        // It is canonical, and read by nobody: what is read may be another number.
        Value::Json(json) => json.to_string(),
    };
    // JSON has no word of its own for these.
    let tag = match value {
        Value::Timestamp(_) => Some(Type::Timestamp),
        Value::Vector(_) => Some(Type::Vector),
        Value::Json(_) => Some(Type::Json),
        _ => None,
    };
    match tag.filter(|tag| *tag != of) {
        // Memory takes what is written.
        Some(tag) => write!(list, "{{\"{tag}\":{plain}}}").unwrap_or_default(),
        None => list.push_str(&plain),
    }
}

/// An element of a vector; one that is no number by its bits.
fn number_of_32(bits: u32) -> String {
    match serde_json::Number::from_f64(f32::from_bits(bits).into()) {
        Some(number) => number.to_string(),
        None => format!("\"{bits:08x}\""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(values: &[Value], types: &[Type]) -> String {
        key(values.iter().zip(types.iter().copied()))
    }

    #[test]
    fn a_text_alone_is_its_own_key_and_all_else_a_list() {
        use Type::{Any, Float, Integer, Json, Text, Timestamp, Vector};
        let vector = Value::vector(&[0.5, -0.0, f32::INFINITY]);
        let list = Value::from_json(&json!([1, {"b": 2, "a": null}]));
        for (values, types, expected) in [
            (&["oslo".into()][..], &[Text][..], "oslo"),
            (&["".into()], &[Text], ""),
            (&["oslo".into()], &[Any], "oslo"),
            (&["[null]".into()], &[Text], r#"["[null]"]"#),
            (&[Value::Null], &[Text], "[null]"),
            (&[7i64.into()], &[Integer], "[7]"),
            (&[7.0.into()], &[Float], "[7.0]"),
            (&[f64::NAN.into()], &[Float], r#"[{"FLOAT":"NaN"}]"#),
            (&[f64::NEG_INFINITY.into()], &[Any], r#"[{"FLOAT":"-inf"}]"#),
            (&[Value::Timestamp(7)], &[Timestamp], "[7]"),
            (&[Value::Timestamp(7)], &[Any], r#"[{"TIMESTAMP":7}]"#),
            (
                &[vector.clone(), vector],
                &[Vector, Any],
                r#"[[0.5,-0.0,"7f800000"],{"VECTOR":[0.5,-0.0,"7f800000"]}]"#,
            ),
            (
                &[list.clone(), list],
                &[Json, Any],
                r#"[[1,{"a":null,"b":2}],{"JSON":[1,{"a":null,"b":2}]}]"#,
            ),
            (
                &["a\"\n".into(), true.into()],
                &[Text, Any],
                r#"["a\"\n",true]"#,
            ),
            (&[], &[], "[]"),
        ] {
            assert_eq!(of(values, types), expected);
            assert!(
                !expected.starts_with('[')
                    || serde_json::from_str::<serde_json::Value>(expected).is_ok()
            );
        }
    }

    #[test]
    fn an_object_has_the_values_by_name() {
        let values = [Value::Timestamp(7), f64::NAN.into(), Value::vector(&[1.0])];
        let named = ["at", "share", "of"].into_iter().zip(&values);
        let expected = json!({"at": 7, "share": null, "of": [1.0]});
        assert_eq!(object(named), expected);
    }

    fn value() -> impl Strategy<Value = Value> {
        let json = prop_oneof![
            Just(json!([])),
            Just(json!([7])),
            Just(json!({"TIMESTAMP": 7})),
            Just(json!({"FLOAT": "NaN"})),
        ];
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0i64..9).prop_map(Value::from),
            (0i64..9).prop_map(Value::Timestamp),
            prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(7.0), any::<f64>()]
                .prop_map(Value::from),
            r#"\[?(null|7|"|,|\]){0,2}"#.prop_map(|text| Value::text(text.as_str())),
            prop::collection::vec(any::<u32>(), 0..3).prop_map(|bits| Value::Vector(bits.into())),
            json.prop_map(|json| Value::from_json(&json)),
        ]
    }

    fn value_of(of: Type) -> impl Strategy<Value = Value> {
        value().prop_filter_map("of another type", move |value| value.coerce(of))
    }

    proptest! {
        #[test]
        fn other_values_of_the_same_columns_have_another_key(
            many in prop::sample::select(Type::NAMES.to_vec()).prop_flat_map(|(of, _)| {
                let rows = prop::collection::vec((value(), value_of(of)), 2..40);
                (rows, Just(of))
            }),
        ) {
            let (rows, of) = many;
            let mut seen = HashMap::new();
            for (any, typed) in rows {
                for (values, types) in [
                    (vec![any.clone()], vec![Type::Any]),
                    (vec![typed.clone()], vec![of]),
                    (vec![any, typed], vec![Type::Any, of]),
                ] {
                    let text = key(values.iter().zip(types.clone()));
                    let before = seen.entry((types, text)).or_insert_with(|| values.clone());
                    prop_assert_eq!(before, &values);
                }
            }
        }
    }
}
