//! What does a query give over rows that stand?
//!
//! The same operators that keep a view give the answer once, in a dataflow of their own that ends
//! with it: a query has one meaning, asked or kept.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use differential_dataflow::AsCollection;
use perennial_rows::{Tuple, Value};
use timely::dataflow::operators::ToStream;
use timely::worker::Worker;

use crate::bounds::{Bounds, Exceeded, Meter, guarded};
use crate::dataflow::Epoch;
use crate::measure::Measures;
use crate::outputs::Asking;
use crate::query::compare::{order, order_tuples};
use crate::query::{OrderBy, Query};
use crate::render::render_within;

/// How long a worker that waits for a model waits at a time.
const PARK: Duration = Duration::from_millis(50);

/// The rows of a query over its inputs, each as often as it stands, in the order that the query
/// asks for (among equals, and without one, by value). The inputs are those of
/// [`Query::inputs`], in that order, with the columns that it names. Models are asked through
/// `asking`, and waited for.
///
/// # Errors
/// [`Exceeded`] where it takes more than the bounds allow. Nothing of it is kept then.
///
/// # Panics
/// If there are not as many inputs as the query reads, or nobody to ask where it [asks](Query::asks).
pub fn evaluate(
    query: &Query,
    inputs: Vec<Vec<(Tuple, isize)>>,
    asking: Option<&Asking>,
    bounds: &Bounds,
) -> Result<Vec<Tuple>, Exceeded> {
    evaluated(query, inputs, (asking, None), bounds)
}

/// The same, with what its operators did.
///
/// # Errors
/// As [`evaluate`].
///
/// # Panics
/// As [`evaluate`].
pub fn analyze(
    query: &Query,
    inputs: Vec<Vec<(Tuple, isize)>>,
    asking: Option<&Asking>,
    bounds: &Bounds,
) -> Result<(Vec<Tuple>, Arc<Measures>), Exceeded> {
    let measures = Arc::new(Measures::default());
    let rows = evaluated(query, inputs, (asking, Some(measures.clone())), bounds)?;
    Ok((rows, measures))
}

fn evaluated(
    query: &Query,
    inputs: Vec<Vec<(Tuple, isize)>>,
    (asking, measures): (Option<&Asking>, Option<Arc<Measures>>),
    bounds: &Bounds,
) -> Result<Vec<Tuple>, Exceeded> {
    let (rendered, asking, bounds) = (query.clone(), asking.cloned(), bounds.clone());
    let mut counts = timely::execute_directly(move |worker| {
        let meter = Rc::new(Meter::new(bounds));
        let counts: Rc<RefCell<Vec<(Tuple, isize)>>> = Rc::default();
        let dataflow = worker.next_dataflow_index();
        worker.dataflow::<Epoch, _, _>(|scope| {
            let inputs = inputs.into_iter().map(|rows| {
                let rows = rows.into_iter().map(|(tuple, count)| (tuple, 0, count));
                rows.to_stream(scope).container::<Vec<_>>().as_collection()
            });
            let inputs = inputs.collect();
            let rows = render_within(
                scope,
                &rendered,
                inputs,
                asking.as_ref(),
                (Some(&meter), measures.as_deref()),
            );
            let (meter, counts) = (meter.clone(), counts.clone());
            rows.inspect(move |(tuple, _, count)| {
                if meter.count_result(*count) {
                    counts.borrow_mut().push((tuple.clone(), *count));
                }
            });
        });
        let done = step_to_end(worker, &meter);
        if done.is_err() {
            worker.drop_dataflow(dataflow);
        }
        done.map(|()| counts.take())
    })?;
    counts.sort_by(|(a, _), (b, _)| compared(query.order(), a, b));
    let rows = counts.into_iter().flat_map(|(tuple, count)| {
        let count = usize::try_from(count).unwrap_or(0);
        std::iter::repeat_n(tuple, count)
    });
    Ok(rows.collect())
}

/// Lets a worker work until nothing is left to do, or too much is done.
pub(crate) fn step_to_end(worker: &mut Worker, meter: &Meter) -> Result<(), Exceeded> {
    while worker.has_dataflows() {
        meter.look()?;
        guarded(|| worker.step_or_park(Some(PARK)))?;
    }
    meter.look()
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
