//! Which sources are told that what they said is there for good?
//!
//! # Invariants
//! - An offset is told after the commit that holds it, never before: with the epoch, after its
//!   answers are told, or with the note that stores it. Without a state directory, when the epoch
//!   is complete.
//! - Each offset is told once.

use perennial_connectors::{Acks, Offset};

use super::Coordinator;

/// Who is told how far a source's batches are committed.
pub(super) struct Listener {
    acks: Box<dyn Acks>,
    /// What it was told last.
    told: Option<Offset>,
}

impl Listener {
    /// Nothing of this run is there yet: what an earlier one left, `stored`, is not told.
    pub(super) fn new(acks: Box<dyn Acks>, stored: Option<Offset>) -> Self {
        Self { acks, told: stored }
    }
}

impl Coordinator {
    /// While nothing is pending: tells what was taken in, if it is stored where anything is.
    pub(super) fn acknowledge_all(&mut self) {
        let is_heard = self.streams.iter().any(|stream| stream.listener.is_some());
        if is_heard && self.durable.is_none() {
            self.saved_offsets = self.streams.iter().map(|s| s.resume.clone()).collect();
        }
        self.acknowledge_saved();
    }

    /// Tells the offsets of the last commit.
    pub(super) fn acknowledge_saved(&mut self) {
        for (stream, saved) in self.streams.iter_mut().zip(&self.saved_offsets) {
            let (Some(listener), Some(offset)) = (&mut stream.listener, saved) else {
                continue;
            };
            if listener.told.as_ref() != Some(offset) {
                listener.acks.committed(offset, self.last_complete);
                listener.told = Some(offset.clone());
            }
        }
    }
}
