//! What stands for rows spread over tiles where no processor has products of tiles.

use std::ops::Range;

use super::block_floats::BlockFloats;
use super::packed::CodeStore;
use crate::arithmetic::Arithmetic;
use crate::lanes::{Isa, Lane};
use crate::quant::BlockFormat;

/// Rows that are never spread.
#[derive(Default)]
pub(super) struct SpreadRows;

impl SpreadRows {
    /// Does nothing.
    pub fn spread(&mut self, _: Isa, _: &BlockFloats, _: BlockFormat, _: usize) {}

    /// Computes nothing, and says so.
    pub fn panels(
        &self,
        _: (&CodeStore, Arithmetic),
        _: usize,
        _: Range<usize>,
        _: &mut [Lane],
    ) -> bool {
        false
    }
}
