//! All tuples of several collections.

use differential_dataflow::AsCollection;
use timely::dataflow::Scope;
use timely::dataflow::operators::Concatenate;

use crate::dataflow::Epoch;
use crate::query::ColumnId;
use crate::render::Tuples;

/// A collection with its columns in another order.
pub(super) fn arranged<'scope>(
    tuples: Tuples<'scope>,
    layout: &[ColumnId],
    wanted: &[ColumnId],
) -> Tuples<'scope> {
    if layout == wanted {
        return tuples;
    }
    let position = |id: &ColumnId| {
        let at = layout.iter().position(|column| column == id);
        at.expect("an operator's input makes what the operator reads")
    };
    let wanted: Vec<usize> = wanted.iter().map(position).collect();
    tuples.map(move |tuple| wanted.iter().map(|at| tuple[*at].clone()).collect())
}

pub(super) fn union<'scope>(
    scope: Scope<'scope, Epoch>,
    inputs: Vec<Tuples<'scope>>,
) -> Tuples<'scope> {
    scope
        .concatenate(inputs.into_iter().map(|input| input.inner))
        .as_collection()
}
