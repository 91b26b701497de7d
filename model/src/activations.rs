//! How do activations lie in memory?
//!
//! In panels of sixteen columns: `[n_panels][n_rows]` lanes. A kernel that computes a
//! panel of outputs writes one contiguous piece, so threads share a result by cutting a
//! slice; and a kernel that multiplies rows reads the sixteen next inputs of all its rows
//! side by side. Columns are padded to whole pairs of panels with zeros.

use crate::lanes::{Lane, WIDTH};

/// A matrix of f32 in panels of sixteen columns.
#[derive(Clone, Debug)]
pub(crate) struct Activations {
    n_rows: usize,
    n_panels: usize,
    lanes: Vec<Lane>,
}

/// Panels that hold `n_columns`: whole pairs.
pub(crate) fn panels_of(n_columns: usize) -> usize {
    n_columns.div_ceil(2 * WIDTH) * 2
}

impl Activations {
    /// `n_rows` by `n_columns` zeros.
    pub fn zeros(n_rows: usize, n_columns: usize) -> Self {
        let n_panels = panels_of(n_columns);
        Self {
            n_rows,
            n_panels,
            lanes: vec![Lane::ZERO; n_panels * n_rows],
        }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Number of panels of sixteen columns.
    pub fn n_panels(&self) -> usize {
        self.n_panels
    }

    /// All lanes: `[n_panels][n_rows]`.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// All lanes: `[n_panels][n_rows]`.
    pub fn lanes_mut(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }

    /// Writes `values` into the first columns of a row.
    pub fn set_row(&mut self, row: usize, values: &[f32]) {
        for (panel, values) in values.chunks(WIDTH).enumerate() {
            self.lanes[panel * self.n_rows + row].0[..values.len()].copy_from_slice(values);
        }
    }

    /// Copies columns `first..first + into.len()` of a row; `first` starts a panel.
    pub fn read_row(&self, row: usize, first: usize, into: &mut [f32]) {
        debug_assert_eq!(first % WIDTH, 0);
        for (panel, into) in into.chunks_mut(WIDTH).enumerate() {
            let lane = &self.lanes[(first / WIDTH + panel) * self.n_rows + row];
            into.copy_from_slice(&lane.0[..into.len()]);
        }
    }

    /// Adds `other`, of the same sizes, times a number.
    pub fn add_scaled(&mut self, other: &Self, scale: f32) {
        for (to, from) in self.lanes.iter_mut().zip(&other.lanes) {
            for (to, from) in to.0.iter_mut().zip(from.0) {
                *to += from * scale;
            }
        }
    }

    /// The rows of these numbers, in this order.
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut lanes = Vec::with_capacity(self.n_panels * rows.len());
        for panel in 0..self.n_panels {
            lanes.extend(rows.iter().map(|row| self.lanes[panel * self.n_rows + row]));
        }
        Self {
            n_rows: rows.len(),
            n_panels: self.n_panels,
            lanes,
        }
    }
}
