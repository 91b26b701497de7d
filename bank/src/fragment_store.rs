//! Where the tensors are: KV fragments by id, under a byte budget.
//!
//! # Goals
//! One copy of each fragment for all layouts and views; what nothing refers to is dropped;
//! memory stays within a budget.
//!
//! # Design
//! The dataflow arranges fragment ids; the multiplicity of an id is its reference count
//! and reaches the store by the [`References`] of its engine. At the end of an epoch
//! [`FragmentStore::sweep`] drops what has no reference. Above the budget what is used least for what it
//! costs gives way (`ranked`), whatever refers to it, and is never an error:
//!
//! | a fragment is | it gets there when | an exact layout | one that may borrow |
//! | --- | --- | --- | --- |
//! | in memory | it was encoded, or read from disk | takes it | takes it |
//! | on disk ([`ColdTier`]) | an epoch ends, or it leaves the memory | reads it, if that is sooner than encoding | the same |
//! | kept as codes ([`warm_tier`](crate::warm_tier)) | it leaves the memory, is not on disk, and a coding was said | encodes it again | takes what comes back, and is provisional |
//! | gone | codes have no room | encodes it again | encodes it again |
//!
//! Tensors that another process says are a fragment's, and that nobody here has compared, are kept under
//! a name of their own ([`FragmentId::stand_in`]): they are got by asking for a stand-in, never as the
//! fragment itself.
//!
//! # Invariants
//! - A stored fragment never changes; the store only hands out shared references.
//! - Equal id, equal bits: inserting under an id that is present keeps what is there.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use perennial_model::kv::coding::{Coding, Deviation};
use perennial_model::kv::{KeyFrame, KvFragment};

use crate::cold_tier::{ColdStats, ColdTier, ColdTierError};
use crate::id::FragmentId;
use crate::live_layout::Lent;
use crate::ranked::{Ranked, Ranking};
use crate::warm_tier::{Coded, Coder, SHARE, WarmStats};

/// Counters of a store since it was made, and its present size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StoreStats {
    /// Fragments now in memory, as they are.
    pub n_fragments: usize,
    /// Their bytes.
    pub n_bytes: usize,
    /// Most bytes held in memory at any time, codes included.
    pub n_bytes_peak: usize,
    /// Lookups that found their fragment, in memory or on disk.
    pub n_hits: u64,
    /// Of these, those that found it on disk.
    pub n_disk_hits: u64,
    /// Lookups that did not find it. For some of them its codes were there ([`WarmStats::n_hits`]).
    pub n_misses: u64,
    /// Fragments that left the memory to stay within the budget, those that were coded included.
    pub n_evicted: u64,
    /// Fragments that are kept as codes.
    pub warm: WarmStats,
}

#[derive(Default)]
struct Inner {
    /// Fragments as they are.
    hot: Ranking<Arc<KvFragment>>,
    /// Those of which codes are kept.
    warm: Ranking<Arc<Coded>>,
    /// Bytes that are set aside for codes of fragments which are being coded.
    n_bytes_set_aside: usize,
    /// Multiplicities of the arrangement, where not zero.
    references: HashMap<FragmentId, isize>,
    /// What stands in for a fragment, by the fragment's id: how often that was said of each, and its name.
    stand_ins: HashMap<FragmentId, (FragmentId, usize)>,
    stats: StoreStats,
}

/// A fragment that gave way.
struct Evicted {
    id: FragmentId,
    fragment: Ranked<Arc<KvFragment>>,
    /// Bytes set aside for its codes; none if it is not to be coded.
    n_set_aside: Option<usize>,
}

/// KV fragments by id.
pub struct FragmentStore {
    budget_bytes: usize,
    inner: Mutex<Inner>,
    /// How fragments that give way are coded, if they are to be.
    coder: OnceLock<Coder>,
    /// Whether somebody has asked for something to stand in: before, codes would serve nobody.
    is_borrowed_from: AtomicBool,
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
            coder: OnceLock::new(),
            is_borrowed_from: AtomicBool::new(false),
            cold: RwLock::default(),
        }
    }

    /// From now on keeps codes of fragments that give way, of the model with this frame. Said again, what was
    /// said first counts.
    pub fn keep_coded(&self, coding: Coding, frame: KeyFrame) {
        self.coder.get_or_init(|| Coder::new(coding, frame));
    }

    /// How fragments that give way are coded, if they are to be.
    pub fn coding(&self) -> Option<Coding> {
        self.coder.get().map(Coder::coding)
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
                let mut inner = self.lock();
                inner.stats.n_hits += 1;
                inner.stats.n_disk_hits += 1;
                drop(inner);
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
        let kv = inner.hot.take_up(id)?.clone();
        inner.stats.n_hits += 1;
        Some(kv)
    }

    /// Whether the fragment itself is here; not a use.
    pub fn contains(&self, id: &FragmentId) -> bool {
        self.lock().hot.contains(id) || self.cold().is_some_and(|cold| cold.contains(id))
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
        if let Some(kept) = inner.hot.get(&id) {
            return kept.clone();
        }
        if n_bytes > self.budget_bytes {
            if let Some(cold) = &cold {
                cold.keep(id, kv.clone(), cost_tokens);
            }
            return kv;
        }
        // How often its codes were used counts for it.
        let coded = inner.warm.remove(&id);
        let n_uses = coded.map_or(0, |coded| coded.n_uses).saturating_add(1);
        let is_lending = self.is_borrowed_from.load(Ordering::Relaxed);
        let is_on_disk = |id: &FragmentId| cold.as_ref().is_some_and(|cold| cold.contains(id));
        let coder = self.coder.get().filter(|_| is_lending);
        let evicted = inner.make_room(n_bytes, self.budget_bytes, coder, is_on_disk);
        inner
            .hot
            .insert(id, kv.clone(), n_bytes, cost_tokens, n_uses);
        inner.stats.n_bytes_peak = inner.stats.n_bytes_peak.max(inner.n_bytes());
        if let Some(cold) = &cold {
            for Evicted { id, fragment, .. } in &evicted {
                cold.keep(*id, fragment.value.clone(), fragment.cost_tokens);
            }
        }
        drop(inner);
        evicted.into_iter().for_each(|evicted| self.code(evicted));
        kv
    }

    /// Keeps the codes of a fragment that gave way, if it is to be coded and is still referred to.
    fn code(&self, evicted: Evicted) {
        let (Some(coder), Some(n_set_aside)) = (self.coder.get(), evicted.n_set_aside) else {
            return;
        };
        let (id, fragment) = (evicted.id, evicted.fragment);
        let coded = coder.encode(&id, &fragment.value);
        let mut inner = self.lock();
        inner.n_bytes_set_aside -= n_set_aside;
        let Some(coded) = coded else {
            inner.stats.warm.n_refused += 1;
            return;
        };
        // Meanwhile a sweep may have gone by, or the fragment come back, or all room been taken.
        let is_wanted = inner.references.contains_key(&id) && !inner.hot.contains(&id);
        if is_wanted && inner.n_bytes() + n_set_aside <= self.budget_bytes {
            inner.stats.warm.n_coded += 1;
            let (cost_tokens, n_uses) = (fragment.cost_tokens, fragment.n_uses);
            let coded = Arc::new(coded);
            inner
                .warm
                .insert(id, coded, n_set_aside, cost_tokens, n_uses);
        }
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

    /// What stands in for a fragment, if anything does and is here: what another process said it is, or what
    /// comes back of its codes.
    pub fn stand_in_for(&self, id: &FragmentId) -> Option<Lent> {
        let said = self.lock().stand_ins.get(id).copied();
        let Some((name, _)) = said else {
            return self.decoded(id);
        };
        match self.get(&name) {
            Some(kv) => Some(Lent::new(name, kv)),
            None => self.decoded(&name).or_else(|| self.decoded(id)),
        }
    }

    /// What comes back of the codes of a fragment, if they are here.
    fn decoded(&self, id: &FragmentId) -> Option<Lent> {
        self.is_borrowed_from.store(true, Ordering::Relaxed);
        let coder = self.coder.get()?;
        let coded = {
            let mut inner = self.lock();
            let coded = inner.warm.take_up(id)?.clone();
            inner.stats.warm.n_hits += 1;
            coded
        };
        match coder.decode(&coded) {
            Ok(kv) => Some(Lent {
                id: coded.name(),
                kv: Arc::new(kv),
                codes_of: Some(*id),
            }),
            Err(_) => {
                // Codes that nothing comes back of serve nobody.
                self.lock().warm.remove(id);
                None
            }
        }
    }

    /// Whether codes of a fragment are here; not a use.
    pub fn has_codes_of(&self, id: &FragmentId) -> bool {
        self.lock().warm.contains(id)
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
        inner.drop_unreferenced();
        let cold = self.cold.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((cold, references)) = &*cold {
            let counts = references.counts();
            let is_live = |id: &FragmentId| counts.contains_key(id);
            let entries = inner.hot.iter().filter(|(id, _)| is_live(id));
            cold.sweep(
                is_live,
                entries.map(|(id, entry)| (id, &entry.value, entry.cost_tokens)),
            );
            // What was written meanwhile needs no codes any more.
            inner.warm.retain(|id| !cold.contains(id));
        }
    }

    /// Takes off the disk, and out of memory, what nothing refers to. Returns when it is gone.
    ///
    /// # Errors
    /// [`ColdTierError::Io`].
    pub fn purge(&self) -> Result<(), ColdTierError> {
        self.lock().drop_unreferenced();
        let attached = self.cold.read().unwrap_or_else(PoisonError::into_inner);
        let attached = attached.clone();
        let Some((cold, references)) = attached else {
            return Ok(());
        };
        let live = references.counts().keys().copied().collect();
        cold.purge(live)
    }

    /// Fragments that nothing refers to, in memory, as codes or on disk: none after a sweep.
    pub fn unreferenced(&self) -> BTreeSet<FragmentId> {
        let mut ids = self.ids();
        let inner = self.lock();
        ids.retain(|id| !inner.references.contains_key(id));
        ids
    }

    /// The ids held, in memory, as codes or on disk.
    pub fn ids(&self) -> BTreeSet<FragmentId> {
        let on_disk = self.cold().map(|cold| cold.ids()).unwrap_or_default();
        let mut ids: BTreeSet<FragmentId> = on_disk.into_iter().collect();
        let inner = self.lock();
        ids.extend(inner.hot.iter().map(|(id, _)| *id));
        ids.extend(inner.warm.iter().map(|(id, _)| *id));
        ids
    }

    /// Bytes of tensors that it may keep.
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// What is on disk; nothing without a tier there.
    pub fn cold_stats(&self) -> ColdStats {
        self.cold().map(|cold| cold.stats()).unwrap_or_default()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> StoreStats {
        let inner = self.lock();
        let mut warm = WarmStats {
            coding: self.coding(),
            n_fragments: inner.warm.len(),
            n_bytes: inner.warm.n_bytes(),
            ..inner.stats.warm
        };
        for (_, entry) in inner.warm.iter() {
            let of = entry.value.deviation();
            warm.n_bytes_uncoded += entry.value.n_bytes_uncoded();
            warm.deviation = Deviation {
                keys: warm.deviation.keys.max(of.keys),
                values: warm.deviation.values.max(of.values),
            };
        }
        StoreStats {
            n_fragments: inner.hot.len(),
            n_bytes: inner.hot.n_bytes(),
            warm,
            ..inner.stats
        }
    }

    /// The ids held in memory as they are, and the digests of their bits, in order of id. Two stores with equal
    /// contents are equal here, whatever their histories.
    pub fn contents(&self) -> Vec<(FragmentId, [u8; 32])> {
        let mut contents: Vec<_> = self
            .lock()
            .hot
            .iter()
            .map(|(id, entry)| (*id, *entry.value.content_digest().as_bytes()))
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
    /// Bytes in memory, with those that are set aside.
    fn n_bytes(&self) -> usize {
        self.hot.n_bytes() + self.warm.n_bytes() + self.n_bytes_set_aside
    }

    /// Takes out what gives way for `n_bytes` more, and sets aside the bytes of its codes, where it is to be
    /// coded.
    fn make_room(
        &mut self,
        n_bytes: usize,
        budget: usize,
        coder: Option<&Coder>,
        is_on_disk: impl Fn(&FragmentId) -> bool,
    ) -> Vec<Evicted> {
        let mut evicted: Vec<Evicted> = Vec::new();
        while self.n_bytes() + n_bytes > budget {
            let Some((id, fragment)) = self.hot.pop() else {
                break;
            };
            self.stats.n_evicted += 1;
            // What nothing refers to is swept soon, and what is on disk comes from there.
            let is_coded = self.references.contains_key(&id) && !is_on_disk(&id);
            let coder = coder.filter(|_| is_coded);
            let n_coded = coder.and_then(|coder| coder.n_bytes(&fragment.value));
            let n_set_aside = n_coded.filter(|n| self.make_room_for_codes(*n, budget));
            self.n_bytes_set_aside += n_set_aside.unwrap_or(0);
            evicted.push(Evicted {
                id,
                fragment,
                n_set_aside,
            });
        }
        // What comes is so large that only codes are left: they make room.
        while self.n_bytes() + n_bytes > budget && self.drop_codes() {}
        for of in evicted.iter_mut().rev() {
            if self.n_bytes() + n_bytes <= budget {
                break;
            }
            self.n_bytes_set_aside -= of.n_set_aside.take().unwrap_or(0);
        }
        evicted
    }

    /// Makes room for codes of `n_bytes` within their part of the budget. Returns whether there is.
    fn make_room_for_codes(&mut self, n_bytes: usize, budget: usize) -> bool {
        let share = budget / SHARE;
        while self.warm.n_bytes() + self.n_bytes_set_aside + n_bytes > share {
            if n_bytes > share || !self.drop_codes() {
                return false;
            }
        }
        true
    }

    /// Drops the codes that give way first. Returns whether there were any.
    fn drop_codes(&mut self) -> bool {
        let dropped = self.warm.pop().is_some();
        self.stats.warm.n_evicted += u64::from(dropped);
        dropped
    }

    fn drop_unreferenced(&mut self) {
        let references = &self.references;
        self.hot.retain(|id| references.contains_key(id));
        self.warm.retain(|id| references.contains_key(id));
    }
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
