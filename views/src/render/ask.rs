//! What does a model say of each tuple?
//!
//! Tuples are arranged by the values that the task reads, and each such set of values is asked
//! about once, however many tuples have it. A retraction asks nobody: what was said is retracted as
//! it was said.

use std::hash::Hash;

use differential_dataflow::{ExchangeData, VecCollection};
use perennial_operators::call::call;
use perennial_rows::{Tuple, Value};

use crate::dataflow::Epoch;
use crate::outputs::TaskCalls;
use crate::query::expression::Expression;
use crate::render::{Tuples, with};

/// Questions of one node that are asked at a time by each worker; what is asked of the provider at
/// a time is the executor's to bound.
pub(super) const MAX_IN_FLIGHT: usize = 256;

/// Values that are asked about, and who asks.
pub(super) type Questions<'scope, D> = VecCollection<'scope, Epoch, (Tuple, D), isize>;
/// Who asked, and what is said.
pub(super) type Said<'scope, D> = VecCollection<'scope, Epoch, (D, Value), isize>;

/// The tuples, each with what is said of it behind it.
pub(super) fn ask<'scope>(
    tuples: Tuples<'scope>,
    arguments: Vec<Expression<usize>>,
    answered: impl FnOnce(Questions<'scope, Tuple>) -> Said<'scope, Tuple>,
) -> Tuples<'scope> {
    let by_values = tuples.map(move |tuple| {
        let values = arguments.iter().map(|argument| argument.value(&tuple));
        (values.collect::<Tuple>(), tuple)
    });
    let is_unknown = |(values, _): &(Tuple, Tuple)| values.contains(&Value::Null);
    let unknown = by_values.clone().filter(is_unknown);
    let known = by_values.filter(move |row| !is_unknown(row));
    let answered = answered(known).map(|(tuple, output)| with(&tuple, output));
    answered.concat(unknown.map(|(_, tuple)| with(&tuple, Value::Null)))
}

/// Who asks about some values, with what is said of these.
pub(super) fn answered<'scope, D: ExchangeData + Hash>(
    questions: Questions<'scope, D>,
    calls: TaskCalls,
) -> Said<'scope, D> {
    let values = questions.clone().map(|(values, _)| values).distinct();
    let outputs = call(values, "Ask", MAX_IN_FLIGHT, calls);
    questions.join_map(outputs, |_, who, output| (who.clone(), output.clone()))
}
