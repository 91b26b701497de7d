//! How do the lines of a task (a query head of a row each) lie in vectors?

use std::ops::Range;

use crate::lanes::WIDTH;

/// What lanes run over while lines (a query head of a row each) attend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectors {
    /// Sixteen keys, or dimensions: a unit is a line.
    OfKeys,
    /// Sixteen rows: a unit is the lines of one head and sixteen rows.
    OfRows,
}

/// How many lines there are, and how they lie in vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub group: usize,
    pub n_rows: usize,
    pub head_dim: usize,
    pub vectors: Vectors,
}

impl Extent {
    /// Number of units.
    pub fn n_units(self) -> usize {
        match self.vectors {
            Vectors::OfKeys => self.group * self.n_rows,
            Vectors::OfRows => self.group * self.n_rows.div_ceil(WIDTH),
        }
    }

    /// Of a unit in [`State::sums`](super::state::State::sums).
    pub fn sums(self, unit: usize) -> Range<usize> {
        match self.vectors {
            Vectors::OfKeys => unit..unit + 1,
            Vectors::OfRows => unit * WIDTH..(unit + 1) * WIDTH,
        }
    }

    /// Of a unit in [`State::out`](super::state::State::out): the first, how many, and how far apart.
    pub fn out(self, unit: usize) -> (usize, usize, usize) {
        match self.vectors {
            Vectors::OfKeys => (unit, self.head_dim / WIDTH, self.n_units()),
            Vectors::OfRows => (unit * self.head_dim, self.head_dim, 1),
        }
    }

    /// How many lanes of a unit are lines. Lines of all units follow each other: line
    /// `head * n_rows + row`.
    pub fn n_lines(self, unit: usize) -> usize {
        match self.vectors {
            Vectors::OfKeys => 1,
            Vectors::OfRows => {
                let sixteen = unit % self.n_rows.div_ceil(WIDTH);
                WIDTH.min(self.n_rows - sixteen * WIDTH)
            }
        }
    }
}
