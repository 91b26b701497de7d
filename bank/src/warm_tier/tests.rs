use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_model::decoder::Decoder;
use perennial_model::kv::coding::Coding;
use perennial_model::kv::{KeyFrame, KvFragment, KvShape};
use perennial_model::seeded::{tiny, tiny_config};
use proptest::prelude::*;

use crate::cold_tier::ColdTier;
use crate::fragment_store::{FragmentStore, KeptFragments, References};
use crate::id::FragmentId;

/// Tokens of a fragment here.
const N_TOKENS: usize = 64;

fn frame() -> KeyFrame {
    let config = tiny_config();
    let weights = tiny(&config, 1);
    let decoder = Decoder::load(config, &weights, 1, &mut |_, _| {}).expect("loads");
    decoder.key_frame()
}

fn id(n: u8) -> FragmentId {
    FragmentId::from_bytes([n; 32])
}

/// Halves between a half and two, of either sign, drawn from a seed.
fn fragment(seed: u8) -> Arc<KvFragment> {
    let shape = KvShape::of(&tiny_config());
    let n_bytes = shape.n_bytes(N_TOKENS).expect("is counted");
    let mut state = u64::from(seed) + 1;
    let halves = (0..n_bytes / 2).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let drawn = (state >> 48) as u16;
        0x3800 | (drawn & 0x07ff) | (drawn & 0x8000)
    });
    let bytes: Vec<u8> = halves.flat_map(u16::to_le_bytes).collect();
    Arc::new(KvFragment::from_bytes(shape, 0, N_TOKENS, &bytes).expect("has the length"))
}

fn n_bytes() -> usize {
    fragment(0).n_bytes()
}

/// A store with room for so many fragments, and somebody who refers to these.
fn store(
    n_fragments: usize,
    ids: impl IntoIterator<Item = u8>,
) -> (Arc<FragmentStore>, KeptFragments) {
    let store = Arc::new(FragmentStore::new(n_fragments * n_bytes()));
    let kept = KeptFragments::of(store.clone(), ids.into_iter().map(id).collect());
    (store, kept)
}

fn insert(store: &FragmentStore, n: u8) {
    store.insert(id(n), fragment(n), N_TOKENS);
}

/// Asks for something to stand in, as a layout does that may borrow.
fn borrow(store: &FragmentStore) {
    assert!(store.stand_in_for(&id(255)).is_none());
}

fn coded(store: &FragmentStore) -> BTreeSet<u8> {
    (0..=255).filter(|n| store.has_codes_of(&id(*n))).collect()
}

#[test]
fn what_gives_way_is_kept_coded_and_only_stands_in() {
    let (store, _kept) = store(4, 0..20);
    store.keep_coded(Coding::K8V4, frame());
    borrow(&store);
    for n in 0..6 {
        insert(&store, n);
    }
    let codes = coded(&store);
    assert!(!codes.is_empty(), "{:?}", store.stats());
    let n = *codes.first().expect("one");
    // It is not there, but for who borrows.
    assert!(!store.contains(&id(n)) && store.get(&id(n)).is_none());
    let lent = store.stand_in_for(&id(n)).expect("comes back");
    assert_ne!(lent.id, id(n));
    assert_ne!(lent.kv, fragment(n));
    assert_eq!(lent.kv.n_tokens(), N_TOKENS);
    let again = store.stand_in_for(&id(n)).expect("comes back");
    assert_eq!((again.id, again.kv), (lent.id, lent.kv));
    let stats = store.stats();
    assert_eq!(stats.warm.n_hits, 2);
    assert_eq!(stats.warm.n_fragments, codes.len());
    assert_eq!(stats.warm.n_bytes_uncoded, codes.len() * n_bytes());
    assert!(stats.warm.n_bytes * 2 < stats.warm.n_bytes_uncoded + n_bytes());
    assert!(stats.n_bytes + stats.warm.n_bytes <= store.budget_bytes());
    assert!(stats.warm.deviation.values > 0.0 && stats.warm.deviation.values < 0.25);
    // Encoded again, it needs no codes, and is what it was.
    insert(&store, n);
    assert!(!store.has_codes_of(&id(n)));
    assert_eq!(store.get(&id(n)), Some(fragment(n)));
}

#[test]
fn nothing_is_coded_unless_asked_for_and_before_somebody_borrows() {
    let (plain, _kept) = store(2, 0..9);
    borrow(&plain);
    (0..9).for_each(|n| insert(&plain, n));
    assert_eq!(plain.stats().warm, super::WarmStats::default());
    let (exact, _kept) = store(2, 0..9);
    exact.keep_coded(Coding::K8V4, frame());
    (0..9).for_each(|n| insert(&exact, n));
    let stats = exact.stats();
    assert_eq!((stats.warm.n_coded, stats.n_fragments), (0, 2));
    assert_eq!(stats.warm.coding, Some(Coding::K8V4));
}

#[test]
fn without_need_fragments_have_all_of_the_budget() {
    let (store, _kept) = store(4, 0..20);
    store.keep_coded(Coding::K8V4, frame());
    borrow(&store);
    (0..4).for_each(|n| insert(&store, n));
    let stats = store.stats();
    assert_eq!((stats.n_fragments, stats.n_evicted), (4, 0));
}

#[test]
fn past_the_bound_or_not_finite_nothing_is_kept() {
    let (far, _kept) = store(2, 0..9);
    // Four bits of keys as they are stored.
    far.keep_coded(Coding::Q4Blocks, frame());
    borrow(&far);
    (0..9).for_each(|n| insert(&far, n));
    let stats = far.stats().warm;
    assert_eq!((stats.n_fragments, stats.n_bytes), (0, 0));
    assert!(stats.n_refused >= 7, "{stats:?}");

    let (infinite, _kept) = store(2, 0..9);
    infinite.keep_coded(Coding::K8V4, frame());
    borrow(&infinite);
    let shape = KvShape::of(&tiny_config());
    let bytes = vec![0x7c; n_bytes()];
    let kv = KvFragment::from_bytes(shape, 0, N_TOKENS, &bytes).expect("has the length");
    infinite.insert(id(0), Arc::new(kv), 1);
    (1..5).for_each(|n| insert(&infinite, n));
    assert_eq!(infinite.stats().warm.n_refused, 1);
    assert!(!infinite.has_codes_of(&id(0)));
}

#[test]
fn what_nobody_refers_to_is_neither_coded_nor_kept() {
    let (store, kept) = store(4, 0..5);
    store.keep_coded(Coding::K8V4, frame());
    borrow(&store);
    // Of nobody: it gives way first, for it costs least.
    store.insert(id(100), fragment(100), 1);
    (0..6).for_each(|n| insert(&store, n));
    assert!(!store.has_codes_of(&id(100)));
    let codes = coded(&store);
    assert!(!codes.is_empty());
    assert!(codes.iter().all(|n| store.ids().contains(&id(*n))));
    drop(kept);
    assert!(codes.iter().all(|n| store.unreferenced().contains(&id(*n))));
    store.purge().expect("there is no disk");
    assert_eq!(store.ids(), BTreeSet::new());
    assert_eq!(store.stats().warm.n_bytes, 0);
}

#[test]
fn a_fragment_of_another_model_is_not_coded() {
    let (store, _kept) = store(2, 0..9);
    store.keep_coded(Coding::K8V4, frame());
    borrow(&store);
    let shape = KvShape {
        n_layers: 3,
        ..KvShape::of(&tiny_config())
    };
    let bytes = vec![0; shape.n_bytes(16).expect("is counted")];
    let kv = KvFragment::from_bytes(shape, 0, 16, &bytes).expect("has the length");
    store.insert(id(0), Arc::new(kv), 1);
    (1..4).for_each(|n| insert(&store, n));
    assert!(!store.has_codes_of(&id(0)) && store.has_codes_of(&id(1)));
}

#[test]
fn what_is_on_disk_comes_from_there_and_is_not_coded() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _none) = store(2, []);
    store.keep_coded(Coding::K8V4, frame());
    let references = Arc::new(References::to(store.clone()));
    (0..6).for_each(|n| references.add(id(n), 1));
    let cold = ColdTier::open(dir.path(), 1 << 20).expect("opens");
    let attached = store.attach(cold, references).expect("the only one");
    borrow(&store);
    (0..2).for_each(|n| insert(&store, n));
    store.sweep();
    let begin = Instant::now();
    while store.cold_stats().n_fragments < 2 {
        assert!(begin.elapsed() < Duration::from_secs(60), "not written");
        std::thread::sleep(Duration::from_millis(5));
    }
    (2..4).for_each(|n| insert(&store, n));
    assert_eq!(coded(&store), BTreeSet::new());
    assert!(store.contains(&id(0)));
    assert_eq!(store.get(&id(0)), Some(fragment(0)));
    let stats = store.stats();
    assert_eq!((stats.n_hits, stats.n_disk_hits), (1, 1));
    drop(attached);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    Look(u8),
    Borrow(u8),
    Refer(u8),
    LetGo(usize),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..12).prop_map(Step::Insert),
        3 => (0u8..12).prop_map(Step::Look),
        3 => (0u8..12).prop_map(Step::Borrow),
        3 => (0u8..12).prop_map(Step::Refer),
        2 => (0usize..12).prop_map(Step::LetGo),
        1 => Just(Step::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_comes_and_goes_the_budget_holds_and_what_is_got_is_what_was_inserted(
        steps in prop::collection::vec(step(), 0..80),
        room in 1usize..5,
    ) {
        let (store, _none) = store(room, []);
        store.keep_coded(Coding::K8V4, frame());
        let mut kept: Vec<KeptFragments> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(n) => insert(&store, n),
                Step::Look(n) => {
                    let got = store.get(&id(n));
                    prop_assert!(got.is_none() || got == Some(fragment(n)));
                }
                Step::Borrow(n) => {
                    let lent = store.stand_in_for(&id(n));
                    prop_assert_eq!(lent.is_some(), store.has_codes_of(&id(n)));
                }
                Step::Refer(n) => kept.push(KeptFragments::of(store.clone(), vec![id(n)])),
                Step::LetGo(at) if at < kept.len() => drop(kept.swap_remove(at)),
                Step::LetGo(_) => {}
                Step::Sweep => {
                    store.sweep();
                    prop_assert_eq!(store.unreferenced(), BTreeSet::new());
                }
            }
            let stats = store.stats();
            prop_assert!(stats.n_bytes + stats.warm.n_bytes <= store.budget_bytes());
            prop_assert!(stats.warm.n_bytes <= store.budget_bytes() / 2);
            prop_assert!(coded(&store).iter().all(|n| !store.contains(&id(*n))));
        }
        drop(kept);
        store.sweep();
        prop_assert_eq!(store.stats().warm.n_fragments, 0);
        prop_assert_eq!(store.stats().warm.n_bytes, 0);
        prop_assert_eq!(store.ids(), BTreeSet::new());
    }
}
