//! Which tuples of two collections match?
//!
//! Both are arranged by key: a changed tuple meets those of its key. A NULL in a key matches
//! nothing. Left rows without match are those whose key, or, where more than the key decides,
//! whose tuple does not occur among the matches.

use std::rc::Rc;

use differential_dataflow::VecCollection;
use perennial_rows::{Tuple, Value};

use crate::bounds::Meter;
use crate::dataflow::Epoch;
use crate::query::compare::join_key;
use crate::query::expression::Expression;
use crate::query::node::{Join, JoinKind};
use crate::render::{Tuples, all_placed, placed};

type Keyed<'scope> = VecCollection<'scope, Epoch, (Tuple, Tuple), isize>;

pub(super) fn join<'scope>(
    join: &Join,
    left: Tuples<'scope>,
    right: Tuples<'scope>,
    meter: Option<&Rc<Meter>>,
) -> Tuples<'scope> {
    let (left_layout, right_layout) = (join.left.columns(), join.right.columns());
    let n_right = right_layout.len();
    let side = |at: fn(&(_, _)) -> &_, layout: &[_]| -> Vec<Expression<usize>> {
        join.keys
            .iter()
            .map(|key| placed(at(key), layout))
            .collect()
    };
    let left_keys = side(|(left, _)| left, &left_layout);
    let right_keys = side(|(_, right)| right, &right_layout);
    let both: Vec<_> = left_layout.iter().chain(&right_layout).copied().collect();
    let residual = all_placed(&join.residual, &both);
    let keyed_left = keyed(left.clone(), left_keys.clone());
    let keyed_right = keyed(right, right_keys);
    match join.kind {
        JoinKind::Inner => pairs(keyed_left, keyed_right, residual, meter),
        JoinKind::Left if residual.is_empty() => {
            let known = keys(keyed_right.clone());
            let unmatched = keyed_left.clone().antijoin(known).map(|(_, left)| left);
            let unmatched = unmatched.concat(without_key(left, left_keys));
            let matched = pairs(keyed_left, keyed_right, residual, meter);
            matched.concat(with_nulls(unmatched, n_right))
        }
        JoinKind::Left => {
            let matched = pairs(keyed_left, keyed_right, residual, meter);
            let lefts = left_parts(matched.clone(), left_layout.len());
            let unmatched = left
                .map(|left| (left, ()))
                .antijoin(lefts)
                .map(|(left, ())| left);
            matched.concat(with_nulls(unmatched, n_right))
        }
        JoinKind::Semi if residual.is_empty() => {
            keyed_left.semijoin(keys(keyed_right)).map(|(_, left)| left)
        }
        JoinKind::Anti if residual.is_empty() => {
            let unmatched = keyed_left.antijoin(keys(keyed_right)).map(|(_, left)| left);
            unmatched.concat(without_key(left, left_keys))
        }
        JoinKind::Semi => {
            let lefts = left_parts(
                pairs(keyed_left, keyed_right, residual, meter),
                left_layout.len(),
            );
            left.map(|left| (left, ()))
                .semijoin(lefts)
                .map(|(left, ())| left)
        }
        JoinKind::Anti => {
            let lefts = left_parts(
                pairs(keyed_left, keyed_right, residual, meter),
                left_layout.len(),
            );
            left.map(|left| (left, ()))
                .antijoin(lefts)
                .map(|(left, ())| left)
        }
    }
}

/// The values of a key, in the form in which equal ones are alike; `None` if one is NULL.
pub(crate) fn key_of(tuple: &Tuple, keys: &[Expression<usize>]) -> Option<Tuple> {
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        match key.value(tuple) {
            Value::Null => return None,
            known => values.push(join_key(known)),
        }
    }
    Some(values.into())
}

fn keyed<'scope>(tuples: Tuples<'scope>, keys: Vec<Expression<usize>>) -> Keyed<'scope> {
    tuples.flat_map(move |tuple| key_of(&tuple, &keys).map(|key| (key, tuple)))
}

/// The tuples that a NULL in their key keeps from every match.
fn without_key<'scope>(tuples: Tuples<'scope>, keys: Vec<Expression<usize>>) -> Tuples<'scope> {
    tuples.filter(move |tuple| key_of(tuple, &keys).is_none())
}

/// The keys that occur.
fn keys(tuples: Keyed<'_>) -> Tuples<'_> {
    tuples.map(|(key, _)| key).distinct()
}

/// The pairs of one key for which every condition is true.
fn pairs<'scope>(
    left: Keyed<'scope>,
    right: Keyed<'scope>,
    residual: Vec<Expression<usize>>,
    meter: Option<&Rc<Meter>>,
) -> Tuples<'scope> {
    let meter = meter.cloned();
    let left = left.arrange_by_key();
    let right = right.arrange_by_key();
    left.join_core(right, move |_, left: &Tuple, right: &Tuple| {
        if let Some(meter) = &meter {
            meter.count_pairs(1);
        }
        let pair: Tuple = left.iter().chain(right.iter()).cloned().collect();
        residual
            .iter()
            .all(|condition| condition.is_true(&pair))
            .then_some(pair)
    })
}

/// The left tuples that occur in pairs.
fn left_parts(pairs: Tuples<'_>, n_left: usize) -> Tuples<'_> {
    pairs
        .map(move |pair| Tuple::from(&pair[..n_left]))
        .distinct()
}

fn with_nulls(tuples: Tuples<'_>, n_nulls: usize) -> Tuples<'_> {
    tuples.map(move |tuple| {
        let nulls = std::iter::repeat_n(Value::Null, n_nulls);
        tuple.iter().cloned().chain(nulls).collect()
    })
}
