//! One tuple a group: its key, and what is known of its tuples.
//!
//! Counts, sums and means are totals, kept as differences ([`totals`](crate::render::totals)).
//! The least and the greatest are found by [`leaders`]. Over DISTINCT values the totals are those
//! of each value once. The parts of a group meet in one tuple; without keys there is one group,
//! with no tuples too.

use std::sync::Arc;

use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use perennial_rows::{Tuple, Value};
use timely::dataflow::Scope;
use timely::dataflow::operators::ToStream;

use crate::dataflow::Epoch;
use crate::query::compare::order;
use crate::query::expression::Expression;
use crate::query::node::AggregateFunction;
use crate::render::Tuples;
use crate::render::leaders::{Order, leaders};
use crate::render::totals::Totals;

/// An aggregate over the positions of a tuple.
pub(super) struct Aggregate {
    pub(super) function: AggregateFunction,
    pub(super) is_distinct: bool,
    /// `None` for `count(*)`.
    pub(super) argument: Option<Expression<usize>>,
}

/// What is known of a group: the values of the aggregates at these places.
type Part = Vec<(u32, Value)>;
type Parts<'scope> = VecCollection<'scope, Epoch, (Tuple, Part), isize>;
type Grouped<'scope> = VecCollection<'scope, Epoch, (Tuple, Value), isize>;

pub(super) fn reduce<'scope>(
    scope: Scope<'scope, Epoch>,
    tuples: Tuples<'scope>,
    keys: Vec<Expression<usize>>,
    aggregates: Vec<Aggregate>,
) -> Tuples<'scope> {
    let (keys, n_aggregates) = (Arc::new(keys), aggregates.len());
    let (mut totals, mut others) = (Vec::new(), Vec::new());
    // What a group without tuples has.
    let empty: Vec<Value> = aggregates
        .iter()
        .map(|aggregate| match aggregate.function {
            AggregateFunction::Count => Value::Integer(0),
            _ => Value::Null,
        })
        .collect();
    for (at, aggregate) in (0u32..).zip(aggregates) {
        let is_extreme = matches!(
            aggregate.function,
            AggregateFunction::Min | AggregateFunction::Max
        );
        match aggregate.argument {
            Some(argument) if is_extreme || aggregate.is_distinct => {
                let values = grouped(tuples.clone(), keys.clone(), argument);
                others.push(match is_extreme {
                    true => extreme(values, at, aggregate.function),
                    false => of_distinct(values, at, aggregate.function),
                });
            }
            argument => totals.push((at, aggregate.function, argument)),
        }
    }
    let is_one_group = keys.is_empty();
    // The totals say which groups there are.
    let base = of_totals(tuples, keys, totals);
    let groups = match others.is_empty() {
        true => base,
        false => others.into_iter().fold(base, |all, part| all.concat(part)),
    };
    let groups = match is_one_group {
        true => {
            let none: Part = (0u32..).zip(empty.iter().cloned()).collect();
            let none = unless_there(scope, groups.clone(), none);
            groups.concat(none)
        }
        false => groups,
    };
    // A key has all its values in few parts: putting them together costs no more than these.
    let assembled = groups.reduce_named("Group", move |_, parts, output| {
        let mut values = empty.clone();
        for (part, _) in parts {
            for (at, value) in part.iter() {
                values[*at as usize] = value.clone();
            }
        }
        output.push((values, 1));
    });
    assembled.map(move |(key, values)| {
        debug_assert_eq!(values.len(), n_aggregates);
        key.iter().cloned().chain(values).collect()
    })
}

fn key_of(tuple: &Tuple, keys: &[Expression<usize>]) -> Tuple {
    keys.iter().map(|key| key.value(tuple)).collect()
}

/// The known values of an argument, by group.
fn grouped<'scope>(
    tuples: Tuples<'scope>,
    keys: Arc<Vec<Expression<usize>>>,
    argument: Expression<usize>,
) -> Grouped<'scope> {
    tuples.flat_map(move |tuple| {
        let value = argument.value(&tuple);
        (value != Value::Null).then(|| (key_of(&tuple, &keys), value))
    })
}

/// Which groups there are, with the aggregates that are totals.
fn of_totals<'scope>(
    tuples: Tuples<'scope>,
    keys: Arc<Vec<Expression<usize>>>,
    aggregates: Vec<(u32, AggregateFunction, Option<Expression<usize>>)>,
) -> Parts<'scope> {
    // `count(*)` has no argument, and aggregates of one argument share its total.
    let mut arguments: Vec<Expression<usize>> = Vec::new();
    let mut wanted: Vec<(u32, AggregateFunction, Option<usize>)> = Vec::new();
    for (at, function, argument) in aggregates {
        let place = argument.map(|argument| {
            let known = arguments.iter().position(|known| *known == argument);
            known.unwrap_or_else(|| {
                arguments.push(argument);
                arguments.len() - 1
            })
        });
        wanted.push((at, function, place));
    }
    let exploded = tuples.explode(move |tuple| {
        let totals = Totals::of(arguments.iter().map(|argument| argument.value(&tuple)));
        Some((key_of(&tuple, &keys), totals))
    });
    exploded.count_total().map(move |(key, totals)| {
        let values = wanted.iter();
        let part = values.map(|(at, function, place)| (*at, totals.value(*function, *place)));
        (key, part.collect())
    })
}

/// The least or greatest of each group.
fn extreme(values: Grouped<'_>, at: u32, function: AggregateFunction) -> Parts<'_> {
    let by: Order<Value> = match function {
        AggregateFunction::Max => Arc::new(|a, b| order(b, a)),
        _ => Arc::new(order),
    };
    leaders(values, 0, Some(1), &by).map(move |(key, value)| (key, vec![(at, value)]))
}

/// A count, sum or mean of each group's distinct values.
fn of_distinct(values: Grouped<'_>, at: u32, function: AggregateFunction) -> Parts<'_> {
    let totals = values
        .distinct()
        .explode(|(key, value)| Some((key, Totals::of(std::iter::once(value)))));
    totals
        .count_total()
        .map(move |(key, totals)| (key, vec![(at, totals.value(function, Some(0)))]))
}

/// The part of the one group, where no part of it is there.
fn unless_there<'scope>(
    scope: Scope<'scope, Epoch>,
    groups: Parts<'scope>,
    none: Part,
) -> Parts<'scope> {
    let key = Tuple::from([]);
    let seed = (scope.index() == 0).then_some(((key, none), 0, 1));
    let there = groups.map(|(key, _)| key).distinct();
    seed.to_stream(scope).as_collection().antijoin(there)
}
