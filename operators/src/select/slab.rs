//! Where do embedded passages stand, under which small number?
//!
//! A passage of a group has a slot as long as it lives; slots of passages that are gone are
//! used again. Vectors stand in one matrix by slot, whatever group they belong to.

use std::sync::Arc;

use perennial_model::dot::{Rows, Vectors};

use super::Vector;
use perennial_bank::document::Passage;

/// Names a live passage, or a live context, of one worker.
pub(super) type Slot = u32;

struct Held {
    passage: Arc<Passage>,
    /// Where its group's list names it.
    place: usize,
}

/// The live passages of one worker.
#[derive(Default)]
pub(super) struct PassageSlab {
    held: Vec<Option<Held>>,
    free: Vec<Slot>,
    /// A bit a slot: read more often than anything else here.
    live: Vec<u64>,
    vectors: Vectors,
}

impl PassageSlab {
    /// Gives a passage a slot; its group's list names it at `place`.
    pub(super) fn insert(&mut self, passage: Arc<Passage>, vector: &Vector, place: usize) -> Slot {
        let held = Some(Held { passage, place });
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
    /// before [`PassageSlab::reuse`].
    pub(super) fn remove(&mut self, slot: Slot) -> usize {
        self.live[slot as usize / 64] &= !(1 << (slot % 64));
        let held = self.held[slot as usize].take();
        held.expect("a group names live slots only").place
    }

    /// Lets the slot of a passage that is gone be used again: no ranking names it any more.
    pub(super) fn reuse(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// The group's list names a passage elsewhere now.
    pub(super) fn moved(&mut self, slot: Slot, place: usize) {
        let held = self.held[slot as usize].as_mut();
        held.expect("a group names live slots only").place = place;
    }

    pub(super) fn is_live(&self, slot: Slot) -> bool {
        self.live[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    pub(super) fn passage(&self, slot: Slot) -> &Passage {
        let held = self.held[slot as usize].as_ref();
        &held.expect("rankings name live slots only").passage
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
