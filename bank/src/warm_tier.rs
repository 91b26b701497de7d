//! Fragments in fewer bytes: what the memory has no room for in full, coded.
//!
//! # Design
//! A fragment that leaves the memory is coded ([`perennial_model::kv::coding`]) and kept here while the
//! budget has room; above it, what came first goes. What comes back is *not* that fragment: it has a
//! name of its own ([`FragmentId::borrowed`]), the store never hands it out for an id, and a layout that
//! takes it is on borrowed state. So an exact answer never stands on it; one that is provisional may,
//! and healing encodes the fragment again.
//!
//! # Invariants
//! - Each coded fragment was measured, and is within the tier's tolerance; what is not is not kept.
//! - The bytes of all codes stay within the budget.
//! - What is dropped by a sweep, or is in memory again, is not here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_model::kv::KvFragment;
use perennial_model::kv::coding::{CodedKv, Coding, KeyFrame, Tolerance};

use crate::id::FragmentId;
use crate::live_layout::Lent;

/// What a warm tier holds, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmStats {
    /// Fragments.
    pub n_fragments: usize,
    /// Bytes of their codes.
    pub n_bytes: usize,
    /// Fragments coded.
    pub n_coded: u64,
    /// Fragments that were further off than the tolerance, or that no codes stand for.
    pub n_refused: u64,
    /// Fragments dropped to stay within the budget.
    pub n_dropped: u64,
    /// Fragments that were lent.
    pub n_lent: u64,
}

#[derive(Default)]
struct Inner {
    coded: HashMap<FragmentId, Arc<CodedKv>>,
    /// The ids in the order in which they came; some may be gone.
    order: VecDeque<FragmentId>,
    stats: WarmStats,
}

/// Coded fragments.
pub struct WarmTier {
    frame: KeyFrame,
    coding: Coding,
    tolerance: Tolerance,
    budget_bytes: usize,
    inner: Mutex<Inner>,
}

impl WarmTier {
    /// A tier of at most `budget_bytes` bytes of codes, each within a tolerance.
    pub fn new(frame: KeyFrame, coding: Coding, tolerance: Tolerance, budget_bytes: usize) -> Self {
        Self {
            frame,
            coding,
            tolerance,
            budget_bytes,
            inner: Mutex::default(),
        }
    }

    /// A fragment leaves the memory: it is coded and kept, where that may be.
    pub(crate) fn keep(&self, id: FragmentId, kv: &KvFragment) {
        if self.lock().coded.contains_key(&id) {
            return;
        }
        let coded = CodedKv::encode(kv, self.coding, &self.frame);
        let within = coded.ok().filter(|c| self.tolerance.holds(c.deviation()));
        let within = within.filter(|coded| coded.n_bytes() <= self.budget_bytes);
        let mut inner = self.lock();
        let Some(coded) = within else {
            inner.stats.n_refused += 1;
            return;
        };
        inner.stats.n_coded += 1;
        while inner.stats.n_bytes + coded.n_bytes() > self.budget_bytes {
            let Some(first) = inner.order.pop_front() else {
                break;
            };
            if inner.remove(&first) {
                inner.stats.n_dropped += 1;
            }
        }
        inner.put(id, coded);
    }

    /// What comes back of a fragment, under its own name.
    pub(crate) fn borrow(&self, id: &FragmentId) -> Option<Lent> {
        let coded = self.lock().coded.get(id)?.clone();
        let kv = Arc::new(coded.decode(&self.frame).ok()?);
        self.lock().stats.n_lent += 1;
        Some(Lent {
            id: FragmentId::borrowed(id, kv.content_digest().as_bytes()),
            kv,
        })
    }

    /// Forgets a fragment.
    pub(crate) fn remove(&self, id: &FragmentId) {
        self.lock().remove(id);
    }

    /// Forgets what is not live.
    pub(crate) fn sweep(&self, is_live: impl Fn(&FragmentId) -> bool) {
        let mut inner = self.lock();
        let dead: Vec<FragmentId> = inner
            .coded
            .keys()
            .filter(|id| !is_live(id))
            .copied()
            .collect();
        for id in dead {
            inner.remove(&id);
        }
        let Inner { coded, order, .. } = &mut *inner;
        order.retain(|id| coded.contains_key(id));
    }

    /// The ids of what is here.
    pub(crate) fn ids(&self) -> Vec<FragmentId> {
        self.lock().coded.keys().copied().collect()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> WarmStats {
        let inner = self.lock();
        WarmStats {
            n_fragments: inner.coded.len(),
            ..inner.stats
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, id: FragmentId, coded: CodedKv) {
        let n_bytes = coded.n_bytes();
        if self.coded.insert(id, Arc::new(coded)).is_none() {
            self.stats.n_bytes += n_bytes;
            self.order.push_back(id);
        }
    }

    /// Whether it was there.
    fn remove(&mut self, id: &FragmentId) -> bool {
        let removed = self.coded.remove(id);
        self.stats.n_bytes -= removed.as_ref().map_or(0, |coded| coded.n_bytes());
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use perennial_model::cancel::Cancel;
    use perennial_model::decoder::Decoder;
    use perennial_model::seeded::{tiny, tiny_config};
    use proptest::prelude::*;

    use super::*;
    use crate::fragment_store::{FragmentStore, References};
    use crate::id::ModelIdentity;
    use crate::parcel::{DecoderEncoder, EncodeFragments as _};

    const WIDE: Tolerance = Tolerance {
        keys: 0.1,
        values: 0.5,
    };

    fn decoder() -> Decoder {
        let config = tiny_config();
        Decoder::load(config.clone(), &tiny(&config, 2), 1, &mut |_, _| {}).unwrap()
    }

    fn encoded(decoder: &Decoder, n: u32) -> (FragmentId, Arc<KvFragment>) {
        let tokens: Vec<u32> = (0..10 + n % 9).map(|t| (n * 17 + t * 3) % 96).collect();
        let cancel = &Cancel::new();
        let kv = DecoderEncoder { decoder, cancel }
            .encode(&[&tokens])
            .unwrap();
        let model = ModelIdentity::new(&[2; 32], "test", "f16");
        (FragmentId::of(&model, None, &tokens), Arc::new(kv))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever came, was asked for and was dropped: under an id there is that fragment, to the
        /// bit, or nothing; what is lent has another name; and what nothing refers to is gone.
        #[test]
        fn an_id_is_never_answered_by_what_came_back_of_codes(
            steps in prop::collection::vec((0u32..12, 0u8..4), 1..60),
            n_in_memory in 1usize..5,
            n_warm in 0usize..5,
        ) {
            let decoder = decoder();
            let all: BTreeMap<u32, _> = (0..12).map(|n| (n, encoded(&decoder, n))).collect();
            let n_bytes = all[&8].1.n_bytes();
            let store = Arc::new(FragmentStore::new(n_in_memory * n_bytes));
            let warm = WarmTier::new(decoder.key_frame(), Coding::K8V4, WIDE, n_warm * n_bytes / 2);
            let warm = store.warm_up(warm);
            let references = References::to(store.clone());
            let mut counts: BTreeMap<u32, isize> = BTreeMap::new();
            for (n, step) in steps {
                let (id, kv) = &all[&n];
                match step {
                    0 => {
                        store.insert(*id, kv.clone(), 10);
                    }
                    1 => {
                        references.add(*id, 1);
                        *counts.entry(n).or_default() += 1;
                    }
                    2 if counts.get(&n).is_some_and(|count| *count > 0) => {
                        references.add(*id, -1);
                        *counts.entry(n).or_default() -= 1;
                    }
                    _ => {
                        store.sweep();
                        prop_assert_eq!(store.n_unreferenced(), 0);
                        let is_held = |n: &u32| counts.get(n).is_some_and(|count| *count > 0);
                        let held: Vec<_> = all.iter().filter(|(n, _)| is_held(n)).map(|(_, e)| e.0).collect();
                        prop_assert!(store.ids().iter().all(|id| held.contains(id)));
                    }
                }
                for (id, kv) in all.values() {
                    if let Some(found) = store.get(id) {
                        prop_assert_eq!(&found, kv);
                        prop_assert!(store.borrow(id).is_none(), "what is here is not borrowed");
                    } else if let Some(lent) = store.borrow(id) {
                        prop_assert_ne!(lent.id, *id);
                        prop_assert_eq!((lent.kv.shape(), lent.kv.n_tokens()), (kv.shape(), kv.n_tokens()));
                    }
                }
                prop_assert!(warm.stats().n_bytes <= n_warm * n_bytes / 2);
            }
        }
    }

    #[test]
    fn what_memory_has_no_room_for_is_lent_and_what_is_too_far_off_is_not() {
        let decoder = decoder();
        let ((a, of_a), (b, of_b)) = (encoded(&decoder, 1), encoded(&decoder, 2));
        let narrow = Tolerance { keys: 1e-9, ..WIDE };
        for (tolerance, is_lent) in [(WIDE, true), (narrow, false)] {
            let store = Arc::new(FragmentStore::new(of_a.n_bytes().max(of_b.n_bytes())));
            let warm = WarmTier::new(decoder.key_frame(), Coding::K8V4, tolerance, 1 << 20);
            let warm = store.warm_up(warm);
            store.insert(a, of_a.clone(), 10);
            store.insert(b, of_b.clone(), 10);
            assert!(store.get(&a).is_none() && !store.contains(&a));
            let lent = store.borrow(&a);
            assert_eq!(lent.is_some(), is_lent);
            assert_eq!(warm.stats().n_refused, u64::from(!is_lent));
            if let Some(lent) = lent {
                assert_ne!(lent.kv, of_a);
                // Encoded again, it is here, and not there.
                store.insert(a, of_a.clone(), 10);
                assert_eq!(store.get(&a), Some(of_a.clone()));
                assert!(store.borrow(&a).is_none());
            }
        }
    }
}
