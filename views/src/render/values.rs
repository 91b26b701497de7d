//! Rows that the query itself holds: there from the first epoch on, on one worker.

use differential_dataflow::AsCollection;
use perennial_rows::{Tuple, Value};
use timely::dataflow::Scope;
use timely::dataflow::operators::ToStream;

use crate::dataflow::Epoch;
use crate::render::Tuples;

pub(super) fn values<'scope>(scope: Scope<'scope, Epoch>, rows: &[Vec<Value>]) -> Tuples<'scope> {
    let rows: Vec<(Tuple, Epoch, isize)> = match scope.index() {
        0 => rows
            .iter()
            .map(|row| (row.as_slice().into(), 0, 1))
            .collect(),
        _ => Vec::new(),
    };
    rows.to_stream(scope).as_collection()
}
