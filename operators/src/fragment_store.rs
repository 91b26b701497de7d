//! Where the tensors are: KV fragments by id, under a byte budget.
//!
//! # Goals
//! One copy of each fragment for all layouts and views; what nothing refers to is dropped;
//! memory stays within a budget.
//!
//! # Design
//! The dataflow arranges fragment ids; the multiplicity of an id is its reference count
//! and reaches the store by [`FragmentStore::add_references`]. At the end of an epoch
//! [`FragmentStore::sweep`] drops what has no reference. Above the budget the fragment
//! with the lowest priority goes, whatever refers to it: priority is a clock that rises
//! with every eviction, plus uses times cost a byte (greedy-dual size frequency). A lost
//! fragment is encoded again.
//!
//! # Invariants
//! - A stored fragment never changes; the store only hands out shared references.
//! - Equal id, equal bits: inserting under an id that is present keeps what is there.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_model::kv::KvFragment;

use crate::id::FragmentId;

/// Counters of a store since it was made, and its present size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Fragments now in the store.
    pub n_fragments: usize,
    /// Their bytes.
    pub n_bytes: usize,
    /// Most bytes held at any time.
    pub n_bytes_peak: usize,
    /// Lookups that found their fragment.
    pub n_hits: u64,
    /// Lookups that did not.
    pub n_misses: u64,
    /// Fragments dropped to stay within the budget.
    pub n_evicted: u64,
}

struct Entry {
    kv: Arc<KvFragment>,
    /// Tokens forwarded to encode it again, conditioning included.
    cost_tokens: usize,
    n_uses: u32,
    priority: f64,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<FragmentId, Entry>,
    /// Ids by ascending priority (as ordered bits), the next victim first.
    by_priority: BTreeSet<(u64, FragmentId)>,
    /// Multiplicities of the arrangement, where not zero.
    references: HashMap<FragmentId, isize>,
    clock: f64,
    stats: StoreStats,
}

/// KV fragments by id.
pub struct FragmentStore {
    budget_bytes: usize,
    inner: Mutex<Inner>,
}

impl FragmentStore {
    /// A store that keeps at most `budget_bytes` bytes of tensors.
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            inner: Mutex::default(),
        }
    }

    /// The fragment of this id, if it is here.
    pub fn get(&self, id: &FragmentId) -> Option<Arc<KvFragment>> {
        let mut inner = self.lock();
        let Inner {
            entries,
            by_priority,
            clock,
            stats,
            ..
        } = &mut *inner;
        let Some(entry) = entries.get_mut(id) else {
            stats.n_misses += 1;
            return None;
        };
        stats.n_hits += 1;
        by_priority.remove(&(entry.priority.to_bits(), *id));
        entry.n_uses = entry.n_uses.saturating_add(1);
        entry.priority = priority(*clock, entry);
        by_priority.insert((entry.priority.to_bits(), *id));
        Some(entry.kv.clone())
    }

    /// Whether the fragment is here; not a use.
    pub fn contains(&self, id: &FragmentId) -> bool {
        self.lock().entries.contains_key(id)
    }

    /// Keeps a fragment whose encoding forwarded `cost_tokens` tokens. If the budget has
    /// no room for it even alone, it is not kept.
    pub fn insert(&self, id: FragmentId, kv: Arc<KvFragment>, cost_tokens: usize) {
        let n_bytes = kv.n_bytes();
        let mut inner = self.lock();
        if n_bytes > self.budget_bytes || inner.entries.contains_key(&id) {
            return;
        }
        while inner.stats.n_bytes + n_bytes > self.budget_bytes {
            let Some((bits, victim)) = inner.by_priority.pop_first() else {
                break;
            };
            inner.clock = f64::from_bits(bits);
            inner.remove(&victim);
            inner.stats.n_evicted += 1;
        }
        let mut entry = Entry {
            kv,
            cost_tokens,
            n_uses: 1,
            priority: 0.0,
        };
        entry.priority = priority(inner.clock, &entry);
        inner.by_priority.insert((entry.priority.to_bits(), id));
        inner.entries.insert(id, entry);
        inner.stats.n_bytes += n_bytes;
        inner.stats.n_bytes_peak = inner.stats.n_bytes_peak.max(inner.stats.n_bytes);
    }

    /// Adds to the number of layouts that refer to a fragment.
    pub fn add_references(&self, id: FragmentId, diff: isize) {
        let mut inner = self.lock();
        let count = inner.references.entry(id).or_insert(0);
        *count += diff;
        if *count == 0 {
            inner.references.remove(&id);
        }
    }

    /// Drops every fragment that nothing refers to. Call it between epochs.
    pub fn sweep(&self) {
        let mut inner = self.lock();
        let Inner {
            entries,
            references,
            ..
        } = &*inner;
        let unreferenced: Vec<FragmentId> = entries
            .keys()
            .filter(|id| !references.contains_key(*id))
            .copied()
            .collect();
        for id in unreferenced {
            inner.remove(&id);
        }
    }

    /// Fragments that nothing refers to: none after a sweep.
    pub fn n_unreferenced(&self) -> usize {
        let inner = self.lock();
        let is_referred_to = |id: &&FragmentId| inner.references.contains_key(*id);
        inner
            .entries
            .keys()
            .filter(|id| !is_referred_to(id))
            .count()
    }

    /// The ids held.
    pub fn ids(&self) -> BTreeSet<FragmentId> {
        self.lock().entries.keys().copied().collect()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> StoreStats {
        let inner = self.lock();
        StoreStats {
            n_fragments: inner.entries.len(),
            ..inner.stats
        }
    }

    /// The ids held and the digests of their bits, in order of id. Two stores with equal
    /// contents are equal here, whatever their histories.
    pub fn contents(&self) -> Vec<(FragmentId, [u8; 32])> {
        let mut contents: Vec<_> = self
            .lock()
            .entries
            .iter()
            .map(|(id, entry)| (*id, *entry.kv.content_digest().as_bytes()))
            .collect();
        contents.sort_unstable();
        contents
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, id: &FragmentId) {
        if let Some(entry) = self.entries.remove(id) {
            self.by_priority.remove(&(entry.priority.to_bits(), *id));
            self.stats.n_bytes -= entry.kv.n_bytes();
        }
    }
}

/// Non-negative and finite, so that the order of the bits is the order of the numbers.
fn priority(clock: f64, entry: &Entry) -> f64 {
    let n_bytes = entry.kv.n_bytes().max(1) as f64;
    clock + f64::from(entry.n_uses) * entry.cost_tokens as f64 / n_bytes
}
