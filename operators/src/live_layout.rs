//! The fragments that an answer was written over, as the next layout may borrow them.
//!
//! A fragment carries traces of all that stood before it when it was encoded. After an edit
//! the exact layout encodes everything behind the edit again; a *spliced* layout takes what
//! stood behind it from here instead, at its new offset: the tensors are borrowed, the
//! answer over them is provisional, and healing encodes them later.
//!
//! # Invariants
//! - Exact fragments are held by the store alone; what it drops cannot be borrowed. Stale
//!   ones have no name that another layout could ask for, and are held here until their
//!   context is healed.
//! - A fragment is lent for equal tokens only, each at most once a layout.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use perennial_model::kv::KvFragment;

/// The fragments of one layout in order, without the shared prefix.
#[derive(Clone, Debug, Default)]
pub struct LiveLayout {
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    tokens: Arc<[u32]>,
    kv: Weak<KvFragment>,
    /// Keeps a stale fragment.
    _stale: Option<Arc<KvFragment>>,
}

impl LiveLayout {
    /// Adds the next fragment, which holds `tokens`.
    pub fn push(&mut self, tokens: Arc<[u32]>, kv: &Arc<KvFragment>, is_stale: bool) {
        self.members.push(Member {
            tokens,
            kv: Arc::downgrade(kv),
            _stale: is_stale.then(|| kv.clone()),
        });
    }

    /// Number of fragments.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nothing to borrow.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What can be borrowed of it now.
    pub fn lender(&self) -> Lender<'_> {
        let mut by_tokens: HashMap<&[u32], VecDeque<Arc<KvFragment>>> = HashMap::new();
        for member in &self.members {
            if let Some(kv) = member.kv.upgrade() {
                by_tokens.entry(&member.tokens).or_default().push_back(kv);
            }
        }
        Lender { by_tokens }
    }
}

/// Lends the fragments of a live layout, each once.
pub struct Lender<'a> {
    by_tokens: HashMap<&'a [u32], VecDeque<Arc<KvFragment>>>,
}

impl Lender<'_> {
    /// The first fragment of these tokens that was not lent yet.
    pub fn borrow(&mut self, tokens: &[u32]) -> Option<Arc<KvFragment>> {
        self.by_tokens.get_mut(tokens)?.pop_front()
    }
}
