//! The fragments that an answer was written over, as the next layout may borrow them.
//!
//! A fragment carries traces of all that stood before it when it was encoded. After an edit
//! the exact layout encodes everything behind the edit again; a *spliced* layout takes what
//! stood behind it from here instead, at its new offset: the tensors are borrowed, the
//! answer over them is provisional, and healing encodes them later.
//!
//! # Invariants
//! - A fragment has the id of what it truly attended to, wherever it stands now: contexts
//!   that were spliced alike name, and share, the same fragments.
//! - Exact fragments are held by the store alone; of what it drops only that can be borrowed which comes
//!   back of codes ([`warm_tier`](crate::warm_tier)). Stale ones are held here too until their context is healed,
//!   but for those that came back of codes: they can again.
//! - A fragment is lent for equal tokens only, each at most once a layout.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use perennial_model::kv::KvFragment;

use crate::fragment_store::FragmentStore;
use crate::id::FragmentId;
use crate::turnover::Attended;

/// The fragments of one layout in order, without the shared prefix.
#[derive(Clone, Debug, Default)]
pub struct LiveLayout {
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    tokens: Arc<[u32]>,
    id: FragmentId,
    /// The fragment whose codes it came back of, if it did.
    codes_of: Option<FragmentId>,
    kv: Weak<KvFragment>,
    attended: Attended,
    /// Keeps a stale fragment.
    _stale: Option<Arc<KvFragment>>,
}

/// A fragment and its name.
#[derive(Clone, Debug)]
pub struct Lent {
    /// Of what it attended to and holds.
    pub id: FragmentId,
    /// The tensors.
    pub kv: Arc<KvFragment>,
    /// The fragment whose codes it came back of, if it did.
    pub codes_of: Option<FragmentId>,
}

impl Lent {
    /// A fragment as it is.
    pub fn new(id: FragmentId, kv: Arc<KvFragment>) -> Self {
        let codes_of = None;
        Self { id, kv, codes_of }
    }
}

/// A fragment that is lent, and what stood right before it.
#[derive(Clone, Debug)]
pub struct Loan {
    id: FragmentId,
    codes_of: Option<FragmentId>,
    /// The tensors; none where they are to come back of codes.
    kv: Option<Arc<KvFragment>>,
    /// Tokens of the fragment before it; none if it was the first.
    pub after: Option<Arc<[u32]>>,
    /// What it carries traces of.
    pub attended: Attended,
}

impl Loan {
    /// The fragment; what came back of its codes, where the store has these and not itself. None if they have
    /// gone meanwhile.
    pub fn lent(&self, store: &FragmentStore) -> Option<Lent> {
        match &self.kv {
            Some(kv) => Some(Lent {
                id: self.id,
                kv: kv.clone(),
                codes_of: self.codes_of,
            }),
            None => store.stand_in_for(&self.codes_of.unwrap_or(self.id)),
        }
    }
}

impl LiveLayout {
    /// Adds the next fragment, which holds `tokens` and `attended` to those when it was encoded.
    pub fn push(&mut self, tokens: Arc<[u32]>, lent: &Lent, is_stale: bool, attended: Attended) {
        self.members.push(Member {
            tokens,
            id: lent.id,
            codes_of: lent.codes_of,
            kv: Arc::downgrade(&lent.kv),
            attended,
            _stale: (is_stale && lent.codes_of.is_none()).then(|| lent.kv.clone()),
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

    /// What can be borrowed of it now, of itself or of the codes that a store has.
    pub fn lender(&self, store: &FragmentStore) -> Lender<'_> {
        let mut by_tokens: HashMap<&[u32], VecDeque<Loan>> = HashMap::new();
        let mut after = None;
        for member in &self.members {
            let (id, codes_of, kv) = (member.id, member.codes_of, member.kv.upgrade());
            if kv.is_some() || store.has_codes_of(&codes_of.unwrap_or(id)) {
                let loans = by_tokens.entry(&member.tokens).or_default();
                let attended = member.attended.clone();
                loans.push_back(Loan {
                    id,
                    codes_of,
                    kv,
                    after,
                    attended,
                });
            }
            after = Some(member.tokens.clone());
        }
        Lender { by_tokens }
    }
}

/// Lends the fragments of a live layout, each once.
pub struct Lender<'a> {
    by_tokens: HashMap<&'a [u32], VecDeque<Loan>>,
}

impl Lender<'_> {
    /// The first fragment of these tokens that was not lent yet.
    pub fn borrow(&mut self, tokens: &[u32]) -> Option<Loan> {
        self.by_tokens.get_mut(tokens)?.pop_front()
    }
}
