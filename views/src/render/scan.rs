//! A relation that is read: the columns that this scan wants of those that its query reads.

use perennial_rows::Schema;

use crate::query::node::Scan;
use crate::render::Tuples;

pub(super) fn scan<'scope>(scan: &Scan, input: &Schema, tuples: Tuples<'scope>) -> Tuples<'scope> {
    let position = |name| {
        input
            .position(name)
            .expect("an input has its scans' columns")
    };
    let wanted: Vec<usize> = scan
        .columns
        .iter()
        .map(|(name, _)| position(name))
        .collect();
    if wanted.iter().copied().eq(0..input.columns().len()) {
        return tuples;
    }
    tuples.map(move |tuple| wanted.iter().map(|at| tuple[*at].clone()).collect())
}
