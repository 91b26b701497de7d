//! Each tuple as often as a list has elements, with one of these behind its columns.
//!
//! What is no list, NULL among it, has none. An element that stands twice makes two tuples.

use perennial_rows::Value;

use crate::query::expression::Expression;
use crate::render::{Tuples, with};

pub(super) fn unnest<'scope>(tuples: Tuples<'scope>, list: Expression<usize>) -> Tuples<'scope> {
    tuples.flat_map(move |tuple| {
        let elements = elements(&list.value(&tuple)).into_iter();
        elements.map(move |element| with(&tuple, element))
    })
}

/// The elements of a list, in its order.
fn elements(list: &Value) -> Vec<Value> {
    let Value::Json(text) = list else {
        return Vec::new();
    };
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Array(all)) => all.iter().map(Value::from_json).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_has_elements() {
        let json = |text: &str| Value::Json(text.into());
        let one = Value::Json(r#"{"a":1}"#.into());
        for (list, expected) in [
            (
                json(r#"["x", 1, null, 1, {"a": 1}]"#),
                vec![
                    "x".into(),
                    1i64.into(),
                    Value::Null,
                    1i64.into(),
                    one.clone(),
                ],
            ),
            (json("[]"), vec![]),
            (one, vec![]),
            (Value::text("[1]"), vec![]),
            (Value::Null, vec![]),
        ] {
            assert_eq!(elements(&list), expected, "{list}");
        }
    }
}
