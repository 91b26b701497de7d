//! Each tuple as another.

use crate::query::expression::Expression;
use crate::render::Tuples;

pub(super) fn project<'scope>(
    tuples: Tuples<'scope>,
    columns: Vec<Expression<usize>>,
) -> Tuples<'scope> {
    tuples.map(move |tuple| columns.iter().map(|column| column.value(&tuple)).collect())
}
