//! How do two values stand to each other?
//!
//! Three relations, each for its purpose:
//! - *identity* is `Value`'s own `Eq`: what GROUP BY, DISTINCT and retraction go by;
//! - [`compare`] is what SQL's `=` and `<` ask: numbers by what they are worth, exactly, whatever
//!   their type; nothing where a NULL or two incomparable types stand;
//! - [`order`] is what ORDER BY, MIN and MAX go by: total, NULL least, agrees with `compare`.
//!
//! `=` in a join is found by hash, so [`join_key`] gives equal values one form.

use std::cmp::Ordering;

use perennial_rows::Value;

/// How a whole number stands to a float. Exact: no rounding of large integers. NaN is greatest.
fn compare_numbers(integer: i64, float: f64) -> Ordering {
    // 2^63 is the least float above every i64; -2^63 is one.
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() || float >= TWO_63 {
        return Ordering::Less;
    }
    if float < -TWO_63 {
        return Ordering::Greater;
    }
    let whole = float.trunc() as i64;
    let fraction = float - float.trunc();
    integer
        .cmp(&whole)
        .then(0.0f64.partial_cmp(&fraction).unwrap_or(Ordering::Equal))
}

/// As `=`, `<` and `>` see it: `None` where one is NULL, or both are of types that do not compare.
pub(crate) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Integer(n), Value::Float(x)) => Some(compare_numbers(*n, x.get())),
        (Value::Float(x), Value::Integer(n)) => Some(compare_numbers(*n, x.get()).reverse()),
        _ if left.type_of() == right.type_of() => Some(left.cmp(right)),
        _ => None,
    }
}

/// A total order: NULL, booleans, numbers by worth, texts, timestamps, vectors, JSON. Numbers of
/// one worth stand integer first.
pub(crate) fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Integer(n), Value::Float(x)) => compare_numbers(*n, x.get()).then(Ordering::Less),
        (Value::Float(x), Value::Integer(n)) => compare_numbers(*n, x.get())
            .reverse()
            .then(Ordering::Greater),
        _ => left.cmp(right),
    }
}

/// Tuples by [`order`], column by column.
pub(crate) fn order_tuples(left: &[Value], right: &[Value]) -> Ordering {
    let columns = left.iter().zip(right);
    columns
        .map(|(left, right)| order(left, right))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| left.len().cmp(&right.len()))
}

/// One form for all values that [`compare`] equal: a float that is a whole number is that integer.
pub(crate) fn join_key(value: Value) -> Value {
    match &value {
        Value::Float(x) => {
            let whole = x.get().trunc();
            // Within these bounds the cast is exact.
            let is_integer = whole == x.get()
                && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole);
            if is_integer {
                Value::Integer(whole as i64)
            } else {
                value
            }
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = Value> {
        prop_oneof![
            (-3i64..3).prop_map(Value::from),
            (-6i64..6).prop_map(|halves| Value::from(halves as f64 / 2.0)),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec![i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1])
                .prop_map(Value::from),
            prop::sample::select(vec![i64::MAX as f64, i64::MIN as f64, 9e15])
                .prop_map(Value::from),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => number(),
            1 => Just(Value::Null),
            1 => any::<bool>().prop_map(Value::from),
            1 => "[ab]{0,2}".prop_map(|text| Value::text(text.as_str())),
        ]
    }

    proptest! {
        #[test]
        fn the_order_is_total_and_agrees_with_comparison(a in value(), b in value(), c in value()) {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            prop_assert_eq!(order(&a, &b).is_eq(), a == b);
            if order(&a, &b).is_le() && order(&b, &c).is_le() {
                prop_assert!(order(&a, &c).is_le());
            }
            match compare(&a, &b) {
                Some(Ordering::Equal) => prop_assert_eq!(join_key(a), join_key(b)),
                Some(unequal) => {
                    prop_assert_eq!(order(&a, &b), unequal);
                    prop_assert_ne!(join_key(a), join_key(b));
                }
                None => prop_assert!(
                    a == Value::Null || b == Value::Null || a.type_of() != b.type_of()
                ),
            }
        }
    }

    #[test]
    fn large_integers_are_not_rounded() {
        let integer = Value::from((1i64 << 53) + 1);
        let float = Value::from((1i64 << 53) as f64);
        assert_eq!(compare(&integer, &float), Some(Ordering::Greater));
        assert_eq!(
            compare(&Value::from(i64::MAX), &Value::from(f64::NAN)),
            Some(Ordering::Less)
        );
    }
}
