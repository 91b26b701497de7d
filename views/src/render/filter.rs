//! The tuples for which every condition is true.

use crate::query::expression::Expression;
use crate::render::Tuples;

pub(super) fn filter<'scope>(
    tuples: Tuples<'scope>,
    conditions: Vec<Expression<usize>>,
) -> Tuples<'scope> {
    tuples.filter(move |tuple| conditions.iter().all(|condition| condition.is_true(tuple)))
}
