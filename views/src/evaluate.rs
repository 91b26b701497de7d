//! What does a query give over rows that stand?
//!
//! The same operators that keep a view give the answer once, in a dataflow of their own that ends
//! with it: a query has one meaning, asked or kept.

use std::cmp::Ordering;
use std::sync::mpsc;

use differential_dataflow::AsCollection;
use perennial_rows::{Tuple, Value};
use timely::dataflow::operators::ToStream;

use crate::dataflow::Epoch;
use crate::outputs::Asking;
use crate::query::compare::{order, order_tuples};
use crate::query::{OrderBy, Query};
use crate::render::render;

/// The rows of a query over its inputs, each as often as it stands, in the order that the query
/// asks for (among equals, and without one, by value). The inputs are those of
/// [`Query::inputs`], in that order, with the columns that it names. Models are asked through
/// `asking`, and waited for.
///
/// # Panics
/// If there are not as many inputs as the query reads, or nobody to ask where it [asks](Query::asks).
pub fn evaluate(
    query: &Query,
    inputs: Vec<Vec<(Tuple, isize)>>,
    asking: Option<&Asking>,
) -> Vec<Tuple> {
    let (sender, changes) = mpsc::channel();
    let (rendered, asking) = (query.clone(), asking.cloned());
    timely::execute_directly(move |worker| {
        worker.dataflow::<Epoch, _, _>(|scope| {
            let inputs = inputs.into_iter().map(|rows| {
                let rows = rows.into_iter().map(|(tuple, count)| (tuple, 0, count));
                rows.to_stream(scope).container::<Vec<_>>().as_collection()
            });
            let rows = render(scope, &rendered, inputs.collect(), asking.as_ref());
            rows.inspect(move |(tuple, _, count)| {
                // Nobody hears only if this function is gone.
                let _ = sender.send((tuple.clone(), *count));
            });
        });
    });
    let mut counts: Vec<(Tuple, isize)> = changes.into_iter().collect();
    counts.sort_by(|(a, _), (b, _)| compared(query.order(), a, b));
    let rows = counts.into_iter().flat_map(|(tuple, count)| {
        let count = usize::try_from(count).unwrap_or(0);
        std::iter::repeat_n(tuple, count)
    });
    rows.collect()
}

fn compared(by: &[OrderBy], left: &[Value], right: &[Value]) -> Ordering {
    let columns = by.iter().map(|by| {
        let (left, right) = (&left[by.column], &right[by.column]);
        let (no_left, no_right) = (*left == Value::Null, *right == Value::Null);
        match (no_left || no_right, by.nulls_first, by.is_descending) {
            (true, true, _) => no_right.cmp(&no_left),
            (true, false, _) => no_left.cmp(&no_right),
            (false, _, true) => order(right, left),
            (false, _, false) => order(left, right),
        }
    });
    let mut columns = columns.filter(|ordering| ordering.is_ne());
    columns.next().unwrap_or_else(|| order_tuples(left, right))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perennial_rows::{Column, Schema, Type};

    use super::*;
    use crate::query::{RelationSchema, Relations, bind};
    use crate::sql::{Script, Statement, parse};

    struct Towns;

    impl Relations for Towns {
        fn relation(&self, name: &str) -> Option<RelationSchema> {
            let columns = [("key", Type::Text), ("n", Type::Integer)];
            (name == "towns").then(|| RelationSchema {
                columns: Schema::new(columns.map(|(name, of)| Column::new(name, of))),
                is_open: false,
                unique: vec![vec![Arc::from("key")]],
            })
        }
    }

    fn asked(text: &str) -> Vec<String> {
        let mut statements = parse(&Script::new("t", text)).expect("sound");
        let Statement::Select(query) = statements.remove(0).of else {
            panic!("a query");
        };
        let query = bind(&query, &Towns).expect("binds");
        let town = |key: &str, n: Value| -> [(&str, Value); 2] { [("key", key.into()), ("n", n)] };
        let all = [
            town("a", 2i64.into()),
            town("b", Value::Null),
            town("c", 10i64.into()),
        ];
        let inputs = query.inputs().iter().map(|input| {
            let rows = all.iter().map(|town| {
                let columns = input.columns.columns().iter();
                let value = |name: &str| {
                    let found = town.iter().find(|(column, _)| *column == name);
                    found.map(|(_, value)| value.clone()).unwrap_or_default()
                };
                (columns.map(|column| value(&column.name)).collect(), 1)
            });
            rows.collect()
        });
        let inputs = inputs.collect();
        let shown = |row: &Tuple| {
            row.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("|")
        };
        evaluate(&query, inputs, None).iter().map(shown).collect()
    }

    #[test]
    fn rows_come_in_the_order_that_is_asked_for() {
        assert_eq!(
            asked("SELECT key, n FROM towns ORDER BY n DESC NULLS LAST"),
            ["c|10", "a|2", "b|NULL"]
        );
        assert_eq!(
            asked("SELECT n FROM towns ORDER BY n NULLS FIRST"),
            ["NULL", "2", "10"]
        );
        assert_eq!(asked("SELECT key FROM towns WHERE n > 1"), ["a", "c"]);
    }

    #[test]
    fn a_row_stands_as_often_as_it_is_there() {
        let twice = "SELECT 1 AS x FROM towns WHERE n > 1";
        assert_eq!(asked(twice), ["1", "1"]);
        assert_eq!(asked("SELECT count(*), max(n) FROM towns"), ["3|10"]);
        assert_eq!(asked("VALUES (1 + 2, upper('x'))"), ["3|X"]);
    }
}
