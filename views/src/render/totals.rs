//! What is counted and summed of a group, as a difference?
//!
//! Counts and sums are kept where differential dataflow keeps how often a record occurs: in the
//! difference of an update. So no value of a group is held to know its sum, and a change costs
//! itself.

use differential_dataflow::difference::{IsZero, Multiply, Semigroup};
use perennial_rows::Value;
use serde::{Deserialize, Serialize};

use crate::query::node::AggregateFunction;
use crate::render::exact_sum::ExactSum;

/// What is known of a group: how many tuples, and a total for each aggregate that is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Totals {
    n_tuples: i64,
    totals: Vec<Total>,
}

/// What is known of the values of one argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Total {
    /// Values that are not NULL.
    n_known: i64,
    n_integers: i64,
    n_floats: i64,
    /// An i64 each: 2^63 of them fit.
    integers: i128,
    floats: ExactSum,
    /// Floats that no sum of finite ones can hold: infinite, minus infinite, not a number.
    infinite: i64,
    minus_infinite: i64,
    not_numbers: i64,
}

impl Totals {
    /// The totals of one tuple, given each argument's value.
    pub(super) fn of(arguments: impl Iterator<Item = Value>) -> Self {
        Self {
            n_tuples: 1,
            totals: arguments.map(|value| Total::of(&value)).collect(),
        }
    }

    /// The value of an aggregate whose argument is at this place; `None` for the place counts
    /// tuples.
    pub(super) fn value(&self, function: AggregateFunction, at: Option<usize>) -> Value {
        match at {
            None => Value::Integer(self.n_tuples),
            Some(at) => self.totals[at].value(function),
        }
    }
}

impl Total {
    fn of(value: &Value) -> Self {
        let mut total = Self::default();
        if *value != Value::Null {
            total.n_known = 1;
        }
        match value {
            Value::Integer(n) => {
                total.n_integers = 1;
                total.integers = i128::from(*n);
            }
            Value::Float(float) => {
                total.n_floats = 1;
                match float.get() {
                    x if x.is_nan() => total.not_numbers = 1,
                    f64::INFINITY => total.infinite = 1,
                    f64::NEG_INFINITY => total.minus_infinite = 1,
                    finite => total.floats.add(finite, 1),
                }
            }
            _ => {}
        }
        total
    }

    fn value(&self, function: AggregateFunction) -> Value {
        let n_numbers = self.n_integers + self.n_floats;
        match function {
            AggregateFunction::Count => Value::Integer(self.n_known),
            AggregateFunction::Sum if n_numbers == 0 => Value::Null,
            AggregateFunction::Sum if self.n_floats == 0 => i64::try_from(self.integers)
                .map(Value::Integer)
                .unwrap_or_default(),
            AggregateFunction::Sum => number(self.sum()),
            AggregateFunction::Avg if n_numbers == 0 => Value::Null,
            AggregateFunction::Avg => number(self.sum() / n_numbers as f64),
            AggregateFunction::Min | AggregateFunction::Max => Value::Null,
        }
    }

    /// The sum of all numbers, rounded once.
    fn sum(&self) -> f64 {
        match (self.infinite > 0, self.minus_infinite > 0) {
            _ if self.not_numbers > 0 => f64::NAN,
            (true, true) => f64::NAN,
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (false, false) => {
                let mut sum = self.floats.clone();
                sum.add_integer(self.integers);
                sum.rounded()
            }
        }
    }

    fn plus(&mut self, other: &Self) {
        self.n_known += other.n_known;
        self.n_integers += other.n_integers;
        self.n_floats += other.n_floats;
        self.integers += other.integers;
        self.floats.plus(&other.floats);
        self.infinite += other.infinite;
        self.minus_infinite += other.minus_infinite;
        self.not_numbers += other.not_numbers;
    }

    fn times(&mut self, factor: i64) {
        self.n_known *= factor;
        self.n_integers *= factor;
        self.n_floats *= factor;
        self.integers *= i128::from(factor);
        self.floats.times(factor.into());
        self.infinite *= factor;
        self.minus_infinite *= factor;
        self.not_numbers *= factor;
    }

    fn is_zero(&self) -> bool {
        self.n_known == 0
            && self.n_integers == 0
            && self.n_floats == 0
            && self.integers == 0
            && self.floats.is_zero()
            && self.infinite == 0
            && self.minus_infinite == 0
            && self.not_numbers == 0
    }
}

/// A float as arithmetic has it: what is no number is NULL.
fn number(float: f64) -> Value {
    match float.is_nan() {
        true => Value::Null,
        false => Value::float(float),
    }
}

impl IsZero for Totals {
    fn is_zero(&self) -> bool {
        self.n_tuples == 0 && self.totals.iter().all(Total::is_zero)
    }
}

impl Semigroup for Totals {
    fn plus_equals(&mut self, other: &Self) {
        self.n_tuples += other.n_tuples;
        for (total, other) in self.totals.iter_mut().zip(&other.totals) {
            total.plus(other);
        }
    }
}

impl Multiply<isize> for Totals {
    type Output = Self;

    fn multiply(mut self, factor: &isize) -> Self {
        let factor = *factor as i64;
        self.n_tuples *= factor;
        self.totals.iter_mut().for_each(|total| total.times(factor));
        self
    }
}
