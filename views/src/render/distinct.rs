//! Each tuple once.

use crate::render::Tuples;

pub(super) fn distinct(tuples: Tuples<'_>) -> Tuples<'_> {
    tuples.distinct()
}
