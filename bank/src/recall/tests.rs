use std::sync::Arc;

use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Decoder, QueryHead};
use perennial_model::latent::{KeyBits, Units, score};
use perennial_model::layout::Layout;
use perennial_model::seeded::{tiny, tiny_config};
use proptest::prelude::*;

use super::*;
use crate::id::ModelIdentity;
use crate::parcel::{DecoderEncoder, EncodeFragments as _};

fn profile() -> LatentProfile {
    let head = |(layer, head)| QueryHead { layer, head };
    let heads = [(1, 3), (0, 1), (1, 0)].map(head).to_vec();
    let units = Units {
        mean: 0.0,
        spread: 1.0,
    };
    LatentProfile::new(heads, 2, KeyBits::Four, units)
}

struct World {
    decoder: Decoder,
    identity: ModelIdentity,
}

impl World {
    fn new() -> Self {
        let config = tiny_config();
        let decoder = Decoder::load(config.clone(), &tiny(&config, 9), 1, &mut |_, _| {}).unwrap();
        let identity = ModelIdentity::new(&[9; 32], "test", "f16");
        Self { decoder, identity }
    }

    /// Entry number `n`: a short text.
    fn entry(&self, n: u32) -> (FragmentId, KeyStrips) {
        let tokens: Vec<u32> = (0..5 + n % 23)
            .map(|t| (n * 31 + t * (7 + n % 5)) % 96)
            .collect();
        let cancel = &Cancel::new();
        let mut encoder = DecoderEncoder {
            decoder: &self.decoder,
            cancel,
        };
        let kv = Arc::new(encoder.encode(&[&tokens]).unwrap());
        let frame = self.decoder.key_frame();
        let strips = KeyStrips::of(&kv, 0, &frame, &profile()).unwrap();
        (FragmentId::of(&self.identity, None, &tokens), strips)
    }

    fn question(&self, tokens: &[u32]) -> TokenQueries {
        let cancel = &Cancel::new();
        let read = self
            .decoder
            .queries(&Layout::new(), &[tokens], profile().heads(), cancel);
        read.unwrap().remove(0)
    }
}

fn index_of(
    entries: impl IntoIterator<Item = (FragmentId, KeyStrips)>,
    stages: Stages,
) -> LatentIndex {
    let mut index = LatentIndex::new(profile(), stages);
    for (id, strips) in entries {
        index.insert(id, strips);
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// What came and went, and in which order, does not show: neither in what is recalled nor in a
    /// single score.
    #[test]
    fn insert_and_delete_is_never_stored(
        steps in prop::collection::vec((0u32..40, any::<bool>()), 0..60),
        question in prop::collection::vec(0u32..96, 1..12),
        k in 0usize..8,
        two_stages: bool,
    ) {
        let world = World::new();
        let stages = match two_stages {
            true => Stages { from: 4, n_heads: 1, keep_each: 2, keep_least: 3 },
            false => Stages::default(),
        };
        let mut index = LatentIndex::new(profile(), stages);
        let mut held = std::collections::BTreeSet::new();
        for (n, is_insert) in steps {
            let (id, strips) = world.entry(n);
            if is_insert {
                index.insert(id, strips);
                held.insert(n);
            } else {
                prop_assert_eq!(index.remove(&id), held.remove(&n));
            }
        }
        let fresh = index_of(held.iter().rev().map(|n| world.entry(*n)), stages);
        let question = world.question(&question);
        prop_assert_eq!((index.len(), index.n_bytes()), (fresh.len(), fresh.n_bytes()));
        let recalled = index.recall(&question, k, |_| true);
        prop_assert_eq!(&recalled, &fresh.recall(&question, k, |_| true));
        prop_assert!(recalled.is_sorted_by(|a, b| a.score >= b.score));
        for found in &recalled {
            prop_assert_eq!(index.score(&question, &found.id), Some(found.score));
        }
        // With one stage it is the ranking by plain scores.
        if !two_stages {
            let mut plain: Vec<(FragmentId, f32)> = held
                .iter()
                .map(|n| world.entry(*n))
                .map(|(id, strips)| (id, score(&profile(), 3, &question, &strips)))
                .collect();
            plain.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            plain.dedup_by_key(|(id, _)| *id);
            plain.truncate(k);
            let got: Vec<_> = recalled.iter().map(|r| (r.id, r.score)).collect();
            prop_assert_eq!(got, plain);
        }
    }

    /// What may not be seen is as if it were not there.
    #[test]
    fn what_may_not_be_seen_pushes_nothing_out(
        hidden in prop::collection::btree_set(0u32..40, 0..30),
        question in prop::collection::vec(0u32..96, 1..12),
        two_stages: bool,
    ) {
        let world = World::new();
        let stages = match two_stages {
            true => Stages { from: 4, n_heads: 1, keep_each: 2, keep_least: 3 },
            false => Stages::default(),
        };
        let ids: std::collections::BTreeSet<_> = hidden.iter().map(|n| world.entry(*n).0).collect();
        let index = index_of((0..40).map(|n| world.entry(n)), stages);
        let without = (0..40).map(|n| world.entry(n)).filter(|(id, _)| !ids.contains(id));
        let without = index_of(without, stages);
        let question = world.question(&question);
        let seen = index.recall(&question, 5, |id| !ids.contains(id));
        prop_assert_eq!(seen, without.recall(&question, 5, |_| true));
    }
}

#[test]
fn a_question_of_nothing_recalls_nothing() {
    let world = World::new();
    let index = index_of((0..5).map(|n| world.entry(n)), Stages::default());
    assert_eq!(index.recall(&world.question(&[]), 3, |_| true), []);
    assert_eq!(index.recall(&world.question(&[1, 2]), 0, |_| true), []);
    assert!(index.n_bytes() > 0 && !index.is_empty());
}
