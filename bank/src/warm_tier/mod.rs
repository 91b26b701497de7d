//! Fragments in fewer bytes: what the memory has no room for as it is.
//!
//! # Goals
//! Where memory is short, a question about what gave way is answered sooner than by reading its passages again.
//!
//! # Design
//! A fragment that gives way is coded, if its store was told how
//! ([`keep_coded`](crate::FragmentStore::keep_coded)), by whoever made it give way, and outside the store's lock.
//! Its codes take part of the store's own budget: at most half of it, and only what is in use, so that without
//! need for codes fragments have all of it. Among codes the same rule says which gives way next; what does is on
//! disk, or is encoded again.
//!
//! What comes back of codes is not the fragment. It has a name of its own
//! ([`FragmentId::stand_in`]) and stands in for the fragment as what another process computed does
//! ([`handed_over`](crate::handed_over)): a layout that may borrow uses it and is provisional, and is made
//! exact afterwards; no other layout looks at it. Nothing is coded before somebody has asked for something to
//! stand in, so where every answer is exact from the first, memory goes to fragments as they are.
//!
//! Rejected: a thread that codes, as one writes to disk. Coding takes about a tenth of the time of encoding (`k8v4`), and who
//! encodes is who makes others give way, so nothing can pile up. And codes on disk: what is there is exact in the
//! time of reading it.
//!
//! # Invariants
//! - Only what a layout refers to is kept as codes, and never beside the fragment itself.
//! - What comes back is within the bound of its coding ([`Tolerance`]), by its own measurement.

use perennial_model::kv::coding::{CodedKv, Coding, CodingError, Deviation, Tolerance};
use perennial_model::kv::{KeyFrame, KvFragment};

use crate::id::FragmentId;

/// The part of a store's budget that codes may have: one of so many.
pub(crate) const SHARE: usize = 2;

/// What is kept as codes, and what became of it since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WarmStats {
    /// How fragments are coded, if they are.
    pub coding: Option<Coding>,
    /// Fragments that are kept as codes now.
    pub n_fragments: usize,
    /// Bytes of these codes.
    pub n_bytes: usize,
    /// Bytes that these fragments have as they are.
    pub n_bytes_uncoded: usize,
    /// Lookups that found codes, and not the fragment itself.
    pub n_hits: u64,
    /// Fragments coded.
    pub n_coded: u64,
    /// Fragments not kept because they would come back too far from what they were.
    pub n_refused: u64,
    /// Codes dropped to stay within the budget.
    pub n_evicted: u64,
    /// The largest deviation among those that are kept, of keys and of values.
    pub deviation: Deviation,
}

/// How the fragments of one model are coded.
pub(crate) struct Coder {
    coding: Coding,
    frame: KeyFrame,
    tolerance: Tolerance,
}

/// The codes of a fragment.
pub(crate) struct Coded {
    codes: CodedKv,
    /// What comes back is called so.
    name: FragmentId,
    /// Bytes of the fragment itself.
    n_bytes_uncoded: usize,
}

impl Coder {
    pub fn new(coding: Coding, frame: KeyFrame) -> Self {
        Self {
            coding,
            frame,
            tolerance: Tolerance::of(coding),
        }
    }

    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Bytes that the codes of a fragment will have; none if it is of another model.
    pub fn n_bytes(&self, kv: &KvFragment) -> Option<usize> {
        let n_bytes = self.coding.n_bytes(kv.shape(), kv.n_tokens())?;
        (kv.shape() == self.frame.shape()).then_some(n_bytes + CodedKv::HEADER_BYTES)
    }

    /// Codes a fragment; none if what comes back is past the bound, or nothing does.
    pub fn encode(&self, id: &FragmentId, kv: &KvFragment) -> Option<Coded> {
        let codes = CodedKv::encode(kv, self.coding, &self.frame).ok()?;
        if !self.tolerance.holds(codes.deviation()) {
            return None;
        }
        let digest = blake3::hash(&codes.to_bytes());
        Some(Coded {
            name: FragmentId::stand_in(id, digest.as_bytes()),
            codes,
            n_bytes_uncoded: kv.n_bytes(),
        })
    }

    /// What comes back.
    ///
    /// # Errors
    /// Codes of another model.
    pub fn decode(&self, coded: &Coded) -> Result<KvFragment, CodingError> {
        coded.codes.decode(&self.frame)
    }
}

impl Coded {
    pub fn name(&self) -> FragmentId {
        self.name
    }

    pub fn deviation(&self) -> Deviation {
        self.codes.deviation()
    }

    pub fn n_bytes_uncoded(&self) -> usize {
        self.n_bytes_uncoded
    }
}

#[cfg(test)]
mod tests;
