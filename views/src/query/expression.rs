//! What does a scalar expression say, and what is it for one tuple?
//!
//! Evaluation is total: it never fails and never panics. What has no value is NULL: an overflow of
//! 64 bits, a division by zero, a result that is not a number, a cast without counterpart
//! ([`cast`]), a function of a value of another type, a comparison of types that do not compare.
//! So an expression may be moved, and evaluated where its value is not needed. This is stated
//! here and nowhere else.
//!
//! The static type of an expression ([`Expression::of`]) binds: each value is of it, or NULL. What
//! is [`Type::Any`] is looked at when it is there.

use std::collections::BTreeSet;

use perennial_rows::{Type, Value};

use crate::query::cast::cast;
use crate::query::compare::compare;
use crate::query::functions::Function;
use crate::query::like::is_like;

/// A scalar expression over columns: by [`ColumnId`](crate::query::column::ColumnId) in a plan,
/// by position in a dataflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Expression<C> {
    Column(C),
    Literal(Value),
    Not(Box<Self>),
    Negate(Box<Self>),
    IsNull(Box<Self>),
    Compare(Comparison, Box<Self>, Box<Self>),
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    In(Box<Self>, Vec<Self>),
    Like {
        value: Box<Self>,
        pattern: Box<Self>,
        escape: Option<char>,
        is_case_blind: bool,
    },
    Case {
        branches: Vec<(Self, Self)>,
        otherwise: Box<Self>,
    },
    Cast(Box<Self>, Type),
    Call(Function, Vec<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    /// IS DISTINCT FROM: a NULL is like another, and like nothing else.
    Distinct,
    /// IS NOT DISTINCT FROM.
    NotDistinct,
}

impl Comparison {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "<>",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Distinct => "IS DISTINCT FROM",
            Self::NotDistinct => "IS NOT DISTINCT FROM",
        }
    }

    fn value(self, left: &Value, right: &Value) -> Value {
        let order = compare(left, right);
        let is = match (self, order) {
            (Self::Distinct, Some(order)) => order.is_ne(),
            (Self::Distinct, None) => *left != Value::Null || *right != Value::Null,
            (Self::NotDistinct, Some(order)) => order.is_eq(),
            (Self::NotDistinct, None) => *left == Value::Null && *right == Value::Null,
            (_, None) => return Value::Null,
            (Self::Equal, Some(order)) => order.is_eq(),
            (Self::Unequal, Some(order)) => order.is_ne(),
            (Self::Less, Some(order)) => order.is_lt(),
            (Self::AtMost, Some(order)) => order.is_le(),
            (Self::Greater, Some(order)) => order.is_gt(),
            (Self::AtLeast, Some(order)) => order.is_ge(),
        };
        Value::Boolean(is)
    }
}

/// Integers with integers give integers (division cuts the fraction), all else floats. An instant
/// may be moved by milliseconds, and two instants have a distance in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// The type of the result; `None` where the operands' types have none.
    pub(crate) fn of(self, left: Type, right: Type) -> Option<Type> {
        use Type::{Any, Float, Integer, Timestamp};
        match (self, left, right) {
            (_, Integer, Integer) => Some(Integer),
            (_, Integer | Float, Float) | (_, Float, Integer) => Some(Float),
            (Self::Add, Timestamp, Integer) | (Self::Add, Integer, Timestamp) => Some(Timestamp),
            (Self::Subtract, Timestamp, Integer) => Some(Timestamp),
            (Self::Subtract, Timestamp, Timestamp) => Some(Integer),
            (_, Any, Any | Integer | Float | Timestamp) | (_, Integer | Float | Timestamp, Any) => {
                Some(Any)
            }
            _ => None,
        }
    }

    fn value(self, left: &Value, right: &Value) -> Value {
        use Value::{Float, Integer, Timestamp};
        let instant = |ms: Option<i64>| ms.map(Timestamp).unwrap_or_default();
        match (left, right) {
            (Integer(a), Integer(b)) => self.integers(*a, *b).map(Integer).unwrap_or_default(),
            (Integer(a), Float(b)) => self.floats(*a as f64, b.get()),
            (Float(a), Integer(b)) => self.floats(a.get(), *b as f64),
            (Float(a), Float(b)) => self.floats(a.get(), b.get()),
            (Timestamp(ms), Integer(n)) | (Integer(n), Timestamp(ms)) if self == Self::Add => {
                instant(ms.checked_add(*n))
            }
            (Timestamp(ms), Integer(n)) if self == Self::Subtract => instant(ms.checked_sub(*n)),
            (Timestamp(a), Timestamp(b)) if self == Self::Subtract => {
                a.checked_sub(*b).map(Integer).unwrap_or_default()
            }
            _ => Value::Null,
        }
    }

    fn integers(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => left.checked_div(right),
            Self::Remainder => left.checked_rem(right),
        }
    }

    fn floats(self, left: f64, right: f64) -> Value {
        let result = match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide | Self::Remainder if right == 0.0 => f64::NAN,
            Self::Divide => left / right,
            Self::Remainder => left % right,
        };
        match result.is_nan() {
            true => Value::Null,
            false => Value::float(result),
        }
    }
}

impl<C> Expression<C> {
    pub(crate) fn literal(value: impl Into<Value>) -> Self {
        Self::Literal(value.into())
    }

    pub(crate) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    pub(crate) fn compared(self, how: Comparison, other: Self) -> Self {
        Self::Compare(how, Box::new(self), Box::new(other))
    }

    /// Its direct parts, in order.
    pub(crate) fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Column(_) | Self::Literal(_) => Vec::new(),
            Self::Not(a) | Self::Negate(a) | Self::IsNull(a) | Self::Cast(a, _) => vec![a],
            Self::Compare(_, a, b) | Self::Arithmetic(_, a, b) => vec![a, b],
            Self::And(all) | Self::Or(all) | Self::Call(_, all) => all.iter().collect(),
            Self::In(value, list) => std::iter::once(&**value).chain(list).collect(),
            Self::Like { value, pattern, .. } => vec![value, pattern],
            Self::Case {
                branches,
                otherwise,
            } => {
                let pairs = branches.iter().flat_map(|(when, then)| [when, then]);
                pairs.chain(std::iter::once(&**otherwise)).collect()
            }
        }
    }

    /// How many expressions it is made of, itself included.
    pub(crate) fn size(&self) -> usize {
        1 + self.parts().iter().map(|part| part.size()).sum::<usize>()
    }

    /// The expression of other direct parts; of a column, which has none, that column.
    pub(crate) fn rebuilt<D>(
        &self,
        part: &mut dyn FnMut(&Self) -> Expression<D>,
    ) -> Result<Expression<D>, &C> {
        use Expression as E;
        let mut one = |of: &Self| Box::new(part(of));
        Ok(match self {
            Self::Column(c) => return Err(c),
            Self::Literal(value) => E::Literal(value.clone()),
            Self::Not(a) => E::Not(one(a)),
            Self::Negate(a) => E::Negate(one(a)),
            Self::IsNull(a) => E::IsNull(one(a)),
            Self::Cast(a, to) => E::Cast(one(a), *to),
            Self::Compare(how, a, b) => E::Compare(*how, one(a), one(b)),
            Self::Arithmetic(how, a, b) => E::Arithmetic(*how, one(a), one(b)),
            Self::And(all) => E::And(all.iter().map(part).collect()),
            Self::Or(all) => E::Or(all.iter().map(part).collect()),
            Self::Call(f, all) => E::Call(*f, all.iter().map(part).collect()),
            Self::In(value, list) => E::In(one(value), list.iter().map(part).collect()),
            Self::Like {
                value,
                pattern,
                escape,
                is_case_blind,
            } => E::Like {
                value: one(value),
                pattern: one(pattern),
                escape: *escape,
                is_case_blind: *is_case_blind,
            },
            Self::Case {
                branches,
                otherwise,
            } => {
                let pairs = branches.iter();
                E::Case {
                    branches: pairs.map(|(when, then)| (part(when), part(then))).collect(),
                    otherwise: Box::new(part(otherwise)),
                }
            }
        })
    }

    /// The expression with each column replaced, and then, from the leaves up, each expression
    /// that is none.
    pub(crate) fn map<D>(
        &self,
        column: &mut dyn FnMut(&C) -> Expression<D>,
        after: &mut dyn FnMut(Expression<D>) -> Expression<D>,
    ) -> Expression<D> {
        match self.rebuilt(&mut |part| part.map(column, after)) {
            Ok(mapped) => after(mapped),
            Err(c) => column(c),
        }
    }

    /// The expression with each column replaced.
    pub(crate) fn substitute<D>(
        &self,
        mut column: impl FnMut(&C) -> Expression<D>,
    ) -> Expression<D> {
        self.map(&mut column, &mut |mapped| mapped)
    }

    /// Its static type, given those of columns. Of an expression that the binder would refuse, ANY.
    pub(crate) fn of(&self, column: &dyn Fn(&C) -> Type) -> Type {
        match self {
            Self::Column(c) => column(c),
            Self::Literal(value) => value.type_of().unwrap_or(Type::Any),
            Self::Not(_)
            | Self::IsNull(_)
            | Self::Compare(..)
            | Self::And(_)
            | Self::Or(_)
            | Self::In(..)
            | Self::Like { .. } => Type::Boolean,
            Self::Negate(a) => a.of(column),
            Self::Arithmetic(how, a, b) => how.of(a.of(column), b.of(column)).unwrap_or(Type::Any),
            Self::Case {
                branches,
                otherwise,
            } => {
                let results = branches.iter().map(|(_, then)| then);
                let results = results.chain(std::iter::once(&**otherwise));
                common(results.filter(|e| !e.is_null()).map(|e| e.of(column))).unwrap_or(Type::Any)
            }
            Self::Cast(_, Type::Json) => Type::Any,
            Self::Cast(_, to) => *to,
            Self::Call(function, arguments) => {
                let arguments = arguments.iter().filter(|e| !e.is_null());
                function.of(&arguments.map(|e| e.of(column)).collect::<Vec<_>>())
            }
        }
    }

    /// Whether it is the literal NULL, which fits every type.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Literal(Value::Null))
    }
}

/// The one type that values of all these types have, if there is one: integers among floats are
/// floats (who asks has to cast them). `Some(Any)` for no types.
pub(crate) fn common(types: impl IntoIterator<Item = Type>) -> Option<Type> {
    let mut all: Option<Type> = None;
    for of in types {
        all = Some(match (all, of) {
            (None, of) => of,
            (Some(a), b) if a == b => a,
            (Some(Type::Any), _) | (_, Type::Any) => Type::Any,
            (Some(Type::Integer), Type::Float) | (Some(Type::Float), Type::Integer) => Type::Float,
            _ => return None,
        });
    }
    Some(all.unwrap_or(Type::Any))
}

impl<C: Ord + Copy> Expression<C> {
    /// The columns that it reads.
    pub(crate) fn columns(&self) -> BTreeSet<C> {
        let mut all = BTreeSet::new();
        self.collect_columns(&mut all);
        all
    }

    fn collect_columns(&self, all: &mut BTreeSet<C>) {
        if let Self::Column(c) = self {
            all.insert(*c);
        }
        for part in self.parts() {
            part.collect_columns(all);
        }
    }
}

impl Expression<usize> {
    /// Its value for a tuple, which has every position that it names.
    pub(crate) fn value(&self, tuple: &[Value]) -> Value {
        match self {
            Self::Column(at) => tuple[*at].clone(),
            Self::Literal(value) => value.clone(),
            Self::Not(a) => match a.value(tuple) {
                Value::Boolean(is) => Value::Boolean(!is),
                _ => Value::Null,
            },
            Self::Negate(a) => match a.value(tuple) {
                Value::Integer(n) => n.checked_neg().map(Value::Integer).unwrap_or_default(),
                Value::Float(x) => Value::float(-x.get()),
                _ => Value::Null,
            },
            Self::IsNull(a) => Value::Boolean(a.value(tuple) == Value::Null),
            Self::Compare(how, a, b) => how.value(&a.value(tuple), &b.value(tuple)),
            Self::Arithmetic(how, a, b) => how.value(&a.value(tuple), &b.value(tuple)),
            Self::And(all) => decided(all.iter().map(|part| part.value(tuple)), false),
            Self::Or(all) => decided(all.iter().map(|part| part.value(tuple)), true),
            Self::In(value, list) => {
                let value = value.value(tuple);
                let each = list.iter().map(|item| item.value(tuple));
                decided(
                    each.map(|item| Comparison::Equal.value(&value, &item)),
                    true,
                )
            }
            Self::Like {
                value,
                pattern,
                escape,
                is_case_blind,
            } => match (value.value(tuple), pattern.value(tuple)) {
                (Value::Text(text), Value::Text(pattern)) => {
                    Value::Boolean(is_like(&text, &pattern, *escape, *is_case_blind))
                }
                _ => Value::Null,
            },
            Self::Case {
                branches,
                otherwise,
            } => {
                let taken = branches.iter().find(|(when, _)| when.is_true(tuple));
                taken.map_or(&**otherwise, |(_, then)| then).value(tuple)
            }
            Self::Cast(a, to) => cast(a.value(tuple), *to),
            Self::Call(function, arguments) => {
                let arguments = arguments.iter().map(|argument| argument.value(tuple));
                function.value(&arguments.collect::<Vec<_>>())
            }
        }
    }

    /// Whether it is true for a tuple: neither false nor NULL.
    pub(crate) fn is_true(&self, tuple: &[Value]) -> bool {
        self.value(tuple) == Value::Boolean(true)
    }
}

/// AND (decided by `false`) and OR (decided by `true`) of three-valued logic.
fn decided(parts: impl Iterator<Item = Value>, by: bool) -> Value {
    let mut is_unknown = false;
    for part in parts {
        match part {
            Value::Boolean(is) if is == by => return Value::Boolean(by),
            Value::Boolean(_) => {}
            _ => is_unknown = true,
        }
    }
    match is_unknown {
        true => Value::Null,
        false => Value::Boolean(!by),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type E = Expression<usize>;

    fn lit(value: impl Into<Value>) -> Box<E> {
        Box::new(E::literal(value))
    }

    fn null() -> Box<E> {
        lit(Value::Null)
    }

    #[test]
    fn logic_has_three_values() {
        let (t, f, n) = (Value::from(true), Value::from(false), Value::Null);
        let table = [
            (&t, &t, &t, &t),
            (&t, &f, &f, &t),
            (&t, &n, &n, &t),
            (&f, &f, &f, &f),
            (&f, &n, &f, &n),
            (&n, &n, &n, &n),
        ];
        for (a, b, and, or) in table {
            for (a, b) in [(a, b), (b, a)] {
                let both = || vec![E::Literal(a.clone()), E::Literal(b.clone())];
                assert_eq!(&E::And(both()).value(&[]), and, "{a} AND {b}");
                assert_eq!(&E::Or(both()).value(&[]), or, "{a} OR {b}");
            }
        }
        assert_eq!(E::Not(null()).value(&[]), Value::Null);
    }

    #[test]
    fn what_has_no_value_is_null() {
        let nulls = [
            E::Arithmetic(Arithmetic::Divide, lit(1i64), lit(0i64)),
            E::Arithmetic(Arithmetic::Remainder, lit(1.0), lit(0i64)),
            E::Arithmetic(Arithmetic::Divide, lit(i64::MIN), lit(-1i64)),
            E::Arithmetic(Arithmetic::Remainder, lit(i64::MIN), lit(-1i64)),
            E::Arithmetic(Arithmetic::Add, lit(i64::MAX), lit(1i64)),
            E::Arithmetic(Arithmetic::Add, lit("a"), lit(1i64)),
            E::Arithmetic(Arithmetic::Subtract, lit(f64::INFINITY), lit(f64::INFINITY)),
            E::Negate(lit(i64::MIN)),
            E::Compare(Comparison::Equal, lit("1"), lit(1i64)),
            E::Compare(Comparison::Less, null(), lit(1i64)),
            E::In(lit(1i64), vec![*lit(2i64), *null()]),
        ];
        for expression in nulls {
            assert_eq!(expression.value(&[]), Value::Null, "{expression:?}");
        }
    }

    #[test]
    fn division_of_integers_cuts_and_instants_have_distances() {
        let value = |how, a, b| E::Arithmetic(how, a, b).value(&[]);
        assert_eq!(
            value(Arithmetic::Divide, lit(-7i64), lit(2i64)),
            Value::from(-3i64)
        );
        assert_eq!(
            value(Arithmetic::Remainder, lit(-7i64), lit(2i64)),
            Value::from(-1i64)
        );
        assert_eq!(
            value(Arithmetic::Divide, lit(7i64), lit(2.0)),
            Value::from(3.5)
        );
        let at = |ms| Box::new(E::Literal(Value::Timestamp(ms)));
        assert_eq!(
            value(Arithmetic::Subtract, at(10), at(4)),
            Value::from(6i64)
        );
        assert_eq!(
            value(Arithmetic::Add, lit(5i64), at(10)),
            Value::Timestamp(15)
        );
    }

    #[test]
    fn nulls_are_distinct_from_values_only() {
        let is = |how, a, b| E::Compare(how, a, b).value(&[]);
        assert_eq!(is(Comparison::Distinct, null(), null()), Value::from(false));
        assert_eq!(
            is(Comparison::Distinct, null(), lit(1i64)),
            Value::from(true)
        );
        assert_eq!(
            is(Comparison::NotDistinct, lit(1i64), lit(1.0)),
            Value::from(true)
        );
    }

    #[test]
    fn a_case_takes_the_first_true_branch() {
        let case = E::Case {
            branches: vec![
                (*null(), *lit("unknown")),
                (E::Column(0), *lit("first")),
                (*lit(true), *lit("second")),
            ],
            otherwise: null(),
        };
        assert_eq!(case.value(&[true.into()]), Value::text("first"));
        assert_eq!(case.value(&[false.into()]), Value::text("second"));
    }

    #[test]
    fn types_have_common_ones() {
        assert_eq!(common([Type::Integer, Type::Float]), Some(Type::Float));
        assert_eq!(common([Type::Any, Type::Text]), Some(Type::Any));
        assert_eq!(common([Type::Text, Type::Integer]), None);
        assert_eq!(common([]), Some(Type::Any));
    }
}
