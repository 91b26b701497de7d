//! Where the tensors are: KV fragments by id, under a byte budget.
//!
//! # Goals
//! One copy of each fragment for all layouts and views; what nothing refers to is dropped;
//! memory stays within a budget.
//!
//! # Design
//! The dataflow arranges fragment ids; the multiplicity of an id is its reference count
//! and reaches the store by the [`References`] of its engine. At the end of an epoch
//! [`FragmentStore::sweep`] drops what has no reference. Above the budget the fragment
//! with the lowest priority goes, whatever refers to it: priority is a clock that rises
//! with every eviction, plus uses times cost a byte (greedy-dual size frequency). A lost
//! fragment is encoded again, or read from the [`ColdTier`], where one is attached and that is
//! sooner done.
//!
//! Tensors that another process says are a fragment's, and that nobody here has compared, are kept under
//! a name of their own ([`FragmentId::stand_in`]): they are got by asking for a stand-in, never as the
//! fragment itself.
//!
//! # Invariants
//! - A stored fragment never changes; the store only hands out shared references.
//! - Equal id, equal bits: inserting under an id that is present keeps what is there.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use perennial_model::kv::KvFragment;

use crate::cold_tier::{ColdTier, ColdTierError};
use crate::id::FragmentId;
use crate::live_layout::Lent;

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
    /// What stands in for a fragment, by the fragment's id: how often that was said of each, and its name.
    stand_ins: HashMap<FragmentId, (FragmentId, usize)>,
    clock: f64,
    stats: StoreStats,
}

/// KV fragments by id.
pub struct FragmentStore {
    budget_bytes: usize,
    inner: Mutex<Inner>,
    /// With the references of the engine that it belongs to: of others it holds nothing.
    cold: RwLock<Option<(Arc<ColdTier>, Arc<References>)>>,
}

/// How often the layouts of one engine refer to each fragment of a store. Dropping it takes them
/// back: what an engine that has ended referred to is not held for it.
pub struct References {
    store: Arc<FragmentStore>,
    counts: Mutex<HashMap<FragmentId, isize>>,
}

impl References {
    /// No references yet.
    pub fn to(store: Arc<FragmentStore>) -> Self {
        Self {
            store,
            counts: Mutex::default(),
        }
    }

    /// Adds to the number of layouts that refer to a fragment.
    pub fn add(&self, id: FragmentId, diff: isize) {
        add(&mut self.counts(), id, diff);
        add(&mut self.store.lock().references, id, diff);
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<FragmentId, isize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for References {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        for (id, count) in self.counts().drain() {
            add(&mut inner.references, id, -count);
        }
    }
}

/// What one view adds to the references of its engine. Dropping it takes them back: what a view
/// that is gone referred to is not held for it.
pub struct ViewReferences {
    all: Arc<References>,
    counts: Mutex<HashMap<FragmentId, isize>>,
}

impl ViewReferences {
    /// No references yet.
    pub fn within(all: Arc<References>) -> Self {
        Self {
            all,
            counts: Mutex::default(),
        }
    }

    /// Adds to the number of layouts that refer to a fragment.
    pub fn add(&self, id: FragmentId, diff: isize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut counts, id, diff);
        self.all.add(id, diff);
    }
}

impl Drop for ViewReferences {
    fn drop(&mut self) {
        let counts = self
            .counts
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for (id, count) in counts.drain() {
            self.all.add(id, -count);
        }
    }
}

/// Fragments that are kept for something which is no layout of a view, as long as the budget has room.
/// Dropping it lets go of them. None of them stays on disk for it.
pub struct KeptFragments {
    store: Arc<FragmentStore>,
    ids: Vec<FragmentId>,
}

impl KeptFragments {
    /// Keeps the fragments of these ids, those too that are not there yet.
    pub fn of(store: Arc<FragmentStore>, ids: Vec<FragmentId>) -> Self {
        let mut inner = store.lock();
        for id in &ids {
            add(&mut inner.references, *id, 1);
        }
        drop(inner);
        Self { store, ids }
    }
}

impl std::fmt::Debug for KeptFragments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeptFragments").field(&self.ids).finish()
    }
}

impl Drop for KeptFragments {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        for id in &self.ids {
            add(&mut inner.references, *id, -1);
        }
    }
}

/// Keeps what is not zero.
fn add(counts: &mut HashMap<FragmentId, isize>, id: FragmentId, diff: isize) {
    let count = counts.entry(id).or_insert(0);
    *count += diff;
    if *count == 0 {
        counts.remove(&id);
    }
}

/// A cold tier in use by a store. Dropping it ends the use: what is in memory and referenced is
/// on disk then, as far as the budget and the time to write it go.
pub struct Attached {
    store: Arc<FragmentStore>,
    cold: Arc<ColdTier>,
}

impl Attached {
    /// What is attached.
    pub fn cold_tier(&self) -> &ColdTier {
        &self.cold
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let attached = self.store.cold.write();
        let taken = attached.unwrap_or_else(PoisonError::into_inner).take();
        // Not under the lock: the references may end with it, which takes another.
        drop(taken);
        self.cold.close();
    }
}

impl FragmentStore {
    /// A store that keeps at most `budget_bytes` bytes of tensors.
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            inner: Mutex::default(),
            cold: RwLock::default(),
        }
    }

    /// Uses fragments on disk, until what is returned is dropped, for what an engine refers to.
    /// `None` if another tier is attached: then that one serves, and keeps nothing of this engine.
    pub fn attach(
        self: &Arc<Self>,
        cold: ColdTier,
        references: Arc<References>,
    ) -> Option<Attached> {
        let mut attached = self.cold.write().unwrap_or_else(PoisonError::into_inner);
        if attached.is_some() {
            return None;
        }
        let cold = Arc::new(cold);
        *attached = Some((cold.clone(), references));
        drop(attached);
        Some(Attached {
            store: self.clone(),
            cold,
        })
    }

    /// The fragment of this id, if it is here, in memory or on disk.
    pub fn get(&self, id: &FragmentId) -> Option<Arc<KvFragment>> {
        if let Some(kv) = self.get_from_memory(id) {
            return Some(kv);
        }
        let read = self.cold().and_then(|cold| cold.get(id));
        match read {
            Some((kv, cost_tokens)) => {
                self.lock().stats.n_hits += 1;
                Some(self.insert(*id, Arc::new(kv), cost_tokens))
            }
            None => {
                self.lock().stats.n_misses += 1;
                None
            }
        }
    }

    fn get_from_memory(&self, id: &FragmentId) -> Option<Arc<KvFragment>> {
        let mut inner = self.lock();
        let Inner {
            entries,
            by_priority,
            clock,
            stats,
            ..
        } = &mut *inner;
        let entry = entries.get_mut(id)?;
        stats.n_hits += 1;
        by_priority.remove(&(entry.priority.to_bits(), *id));
        entry.n_uses = entry.n_uses.saturating_add(1);
        entry.priority = priority(*clock, entry);
        by_priority.insert((entry.priority.to_bits(), *id));
        Some(entry.kv.clone())
    }

    /// Whether the fragment is here; not a use.
    pub fn contains(&self, id: &FragmentId) -> bool {
        self.lock().entries.contains_key(id) || self.cold().is_some_and(|cold| cold.contains(id))
    }

    /// Keeps a fragment whose encoding forwarded `cost_tokens` tokens, unless it is kept: the
    /// one that is kept is returned. If the budget has no room for it even alone, none is.
    pub fn insert(
        &self,
        id: FragmentId,
        kv: Arc<KvFragment>,
        cost_tokens: usize,
    ) -> Arc<KvFragment> {
        let n_bytes = kv.n_bytes();
        let cold = self.cold();
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get(&id) {
            return entry.kv.clone();
        }
        if n_bytes > self.budget_bytes {
            if let Some(cold) = &cold {
                cold.keep(id, kv.clone(), cost_tokens);
            }
            return kv;
        }
        while inner.stats.n_bytes + n_bytes > self.budget_bytes {
            let Some((bits, victim)) = inner.by_priority.pop_first() else {
                break;
            };
            inner.clock = f64::from_bits(bits);
            if let (Some(evicted), Some(cold)) = (inner.remove(&victim), &cold) {
                cold.keep(victim, evicted.kv, evicted.cost_tokens);
            }
            inner.stats.n_evicted += 1;
        }
        let mut entry = Entry {
            kv: kv.clone(),
            cost_tokens,
            n_uses: 1,
            priority: 0.0,
        };
        entry.priority = priority(inner.clock, &entry);
        inner.by_priority.insert((entry.priority.to_bits(), id));
        inner.entries.insert(id, entry);
        inner.stats.n_bytes += n_bytes;
        inner.stats.n_bytes_peak = inner.stats.n_bytes_peak.max(inner.stats.n_bytes);
        kv
    }

    /// Keeps tensors which are said to be those of the fragment `id`, and are not known to be. Yields
    /// their own name. What stands in already goes on to, and is kept for both.
    pub(crate) fn stand_in(
        &self,
        id: FragmentId,
        kv: Arc<KvFragment>,
        cost_tokens: usize,
    ) -> FragmentId {
        let own = FragmentId::stand_in(&id, kv.content_digest().as_bytes());
        let name = {
            let mut inner = self.lock();
            let (name, n_said) = inner.stand_ins.entry(id).or_insert((own, 0));
            *n_said += 1;
            *name
        };
        if name == own {
            self.insert(name, kv, cost_tokens);
        }
        name
    }

    /// Takes back one time that something was said to stand in for a fragment.
    pub(crate) fn no_stand_in(&self, id: &FragmentId) {
        let mut inner = self.lock();
        if let Some((_, n_said)) = inner.stand_ins.get_mut(id) {
            *n_said -= 1;
            if *n_said == 0 {
                inner.stand_ins.remove(id);
            }
        }
    }

    /// What stands in for a fragment, if anything does and is here.
    pub fn stand_in_for(&self, id: &FragmentId) -> Option<Lent> {
        let (name, _) = *self.lock().stand_ins.get(id)?;
        let kv = self.get(&name)?;
        Some(Lent { id: name, kv })
    }

    /// Tells what encoding tokens took: what reading them from disk is held against.
    pub fn note_encoded(&self, n_tokens: usize, time: Duration) {
        if let Some(cold) = self.cold() {
            cold.note_encoded(n_tokens, time);
        }
    }

    /// Drops every fragment that nothing refers to, and has the others written to disk, where
    /// there is room. Call it between epochs.
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
        let cold = self.cold.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((cold, references)) = &*cold {
            let counts = references.counts();
            let is_live = |id: &FragmentId| counts.contains_key(id);
            let entries = inner.entries.iter().filter(|(id, _)| is_live(id));
            cold.sweep(
                is_live,
                entries.map(|(id, entry)| (id, &entry.kv, entry.cost_tokens)),
            );
        }
    }

    /// Takes off the disk what nothing refers to. Returns when it is gone.
    ///
    /// # Errors
    /// [`ColdTierError::Io`].
    pub fn purge(&self) -> Result<(), ColdTierError> {
        let attached = self.cold.read().unwrap_or_else(PoisonError::into_inner);
        let attached = attached.clone();
        let Some((cold, references)) = attached else {
            return Ok(());
        };
        let live = references.counts().keys().copied().collect();
        cold.purge(live)
    }

    /// Fragments that nothing refers to, in memory or on disk: none after a sweep.
    pub fn unreferenced(&self) -> BTreeSet<FragmentId> {
        let mut ids = self.ids();
        let inner = self.lock();
        ids.retain(|id| !inner.references.contains_key(id));
        ids
    }

    /// The ids held, in memory or on disk.
    pub fn ids(&self) -> BTreeSet<FragmentId> {
        let on_disk = self.cold().map(|cold| cold.ids()).unwrap_or_default();
        let mut ids: BTreeSet<FragmentId> = on_disk.into_iter().collect();
        ids.extend(self.lock().entries.keys());
        ids
    }

    /// Bytes of tensors that it may keep.
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// Bytes of fragments on disk; none without a tier there.
    pub fn disk_bytes(&self) -> u64 {
        self.cold().map_or(0, |cold| cold.stats().n_bytes)
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

    fn cold(&self) -> Option<Arc<ColdTier>> {
        let cold = self.cold.read().unwrap_or_else(PoisonError::into_inner);
        cold.as_ref().map(|(cold, _)| cold.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, id: &FragmentId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.by_priority.remove(&(entry.priority.to_bits(), *id));
        self.stats.n_bytes -= entry.kv.n_bytes();
        Some(entry)
    }
}

/// Non-negative and finite, so that the order of the bits is the order of the numbers.
fn priority(clock: f64, entry: &Entry) -> f64 {
    let n_bytes = entry.kv.n_bytes().max(1) as f64;
    clock + f64::from(entry.n_uses) * entry.cost_tokens as f64 / n_bytes
}

#[cfg(test)]
mod tests {
    use perennial_model::kv::{KvShape, Tail};

    use super::*;

    #[test]
    fn what_is_kept_stays_without_a_layout_until_all_have_let_go_of_it() {
        let store = Arc::new(FragmentStore::new(1 << 20));
        let (kept, other) = (
            FragmentId::from_bytes([1; 32]),
            FragmentId::from_bytes([2; 32]),
        );
        // What is not there yet is kept, too.
        let first = KeptFragments::of(store.clone(), vec![kept]);
        for id in [kept, other] {
            let shape = KvShape {
                n_layers: 1,
                n_kv_heads: 1,
                head_dim: 16,
            };
            store.insert(id, Arc::new(Tail::new(shape, 0).freeze()), 1);
        }
        let second = KeptFragments::of(store.clone(), vec![kept]);
        assert_eq!(store.unreferenced(), BTreeSet::from([other]));
        store.sweep();
        drop(first);
        store.sweep();
        assert!(store.contains(&kept) && !store.contains(&other));
        drop(second);
        store.sweep();
        assert!(!store.contains(&kept));
    }
}
