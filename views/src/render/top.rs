//! The tuples at a range of places in an order: of all, or of those of each key.
//!
//! The query's order ends with columns that tell all tuples apart that its result tells apart; the
//! whole tuple decides what remains.

use std::cmp::Ordering;
use std::sync::Arc;

use perennial_rows::{Tuple, Value};

use crate::query::compare::{order, order_tuples};
use crate::query::expression::Expression;
use crate::render::Tuples;
use crate::render::leaders::{Order, leaders};

/// A key to sort by.
pub(super) struct SortKey {
    pub(super) by: Expression<usize>,
    pub(super) is_descending: bool,
    pub(super) nulls_first: bool,
}

impl SortKey {
    fn compare(&self, left: &Tuple, right: &Tuple) -> Ordering {
        let (left, right) = (self.by.value(left), self.by.value(right));
        match (left == Value::Null, right == Value::Null) {
            (true, true) => Ordering::Equal,
            (true, false) if self.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if self.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if self.is_descending => order(&right, &left),
            (false, false) => order(&left, &right),
        }
    }
}

pub(super) fn top<'scope>(
    tuples: Tuples<'scope>,
    keys: Vec<Expression<usize>>,
    sort: Vec<SortKey>,
    (limit, offset): (Option<u64>, u64),
) -> Tuples<'scope> {
    let order: Order<Tuple> = Arc::new(move |left: &Tuple, right: &Tuple| {
        let by_keys = sort.iter().map(|key| key.compare(left, right));
        let decided = by_keys.into_iter().find(|order| order.is_ne());
        decided.unwrap_or_else(|| order_tuples(left, right))
    });
    if keys.is_empty() {
        let grouped = tuples.map(|tuple| ((), tuple));
        return leaders(grouped, offset, limit, &order).map(|((), tuple)| tuple);
    }
    let grouped = tuples.map(move |tuple| {
        let key: Tuple = keys.iter().map(|key| key.value(&tuple)).collect();
        (key, tuple)
    });
    leaders(grouped, offset, limit, &order).map(|(_, tuple)| tuple)
}
