//! Where do embedded candidates stand, under which small number?
//!
//! A candidate of a group has a slot as long as it lives; slots of candidates that are gone are
//! used again. Vectors stand in one matrix by slot, whatever group they belong to.

use std::sync::Arc;

use perennial_model::dot::{Rows, Vectors};

use super::Vector;

/// Names a live candidate, or a live context, of one worker.
pub(super) type Slot = u32;

struct Held<P> {
    candidate: Arc<P>,
    /// Where its group's list names it.
    place: usize,
}

/// The live candidates of one worker.
pub(super) struct CandidateSlab<P> {
    held: Vec<Option<Held<P>>>,
    free: Vec<Slot>,
    /// A bit a slot: read more often than anything else here.
    live: Vec<u64>,
    vectors: Vectors,
}

impl<P> Default for CandidateSlab<P> {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            free: Vec::new(),
            live: Vec::new(),
            vectors: Vectors::default(),
        }
    }
}

impl<P> CandidateSlab<P> {
    /// Gives a candidate a slot; its group's list names it at `place`.
    pub(super) fn insert(&mut self, candidate: Arc<P>, vector: &Vector, place: usize) -> Slot {
        let held = Some(Held { candidate, place });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.held[slot as usize] = held;
                slot
            }
            None => {
                self.held.push(held);
                next_slot(self.held.len() - 1)
            }
        };
        let word = slot as usize / 64;
        if self.live.len() <= word {
            self.live.resize(word + 1, 0);
        }
        self.live[word] |= 1 << (slot % 64);
        self.vectors.set(slot, vector.elements());
        slot
    }

    /// Ends a slot, and says where its group's list names it. The slot is not used again
    /// before [`CandidateSlab::reuse`].
    pub(super) fn remove(&mut self, slot: Slot) -> usize {
        self.live[slot as usize / 64] &= !(1 << (slot % 64));
        let held = self.held[slot as usize].take();
        held.expect("a group names live slots only").place
    }

    /// Lets the slot of a candidate that is gone be used again: no ranking names it any more.
    pub(super) fn reuse(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// The group's list names a candidate elsewhere now.
    pub(super) fn moved(&mut self, slot: Slot, place: usize) {
        let held = self.held[slot as usize].as_mut();
        held.expect("a group names live slots only").place = place;
    }

    pub(super) fn is_live(&self, slot: Slot) -> bool {
        self.live[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    pub(super) fn candidate(&self, slot: Slot) -> &P {
        let held = self.held[slot as usize].as_ref();
        &held.expect("rankings name live slots only").candidate
    }

    /// Makes vectors as wide as others, and says how wide they are.
    pub(super) fn widen(&mut self, width: usize) -> usize {
        self.vectors.widen(width);
        self.vectors.width()
    }

    pub(super) fn rows<'a>(&'a self, slots: &'a [Slot]) -> Rows<'a> {
        Rows {
            vectors: &self.vectors,
            slots,
        }
    }
}

/// The slot with this index.
pub(super) fn next_slot(index: usize) -> Slot {
    Slot::try_from(index).expect("fewer than 2^32 rows stand on a worker")
}
