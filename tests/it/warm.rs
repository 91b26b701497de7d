//! Fragments that are kept in fewer bytes change when something is said first, and nothing that is said in the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial::ask::TensorModel;
use perennial::ask::scripted::ScriptedEmbedder;
use perennial::bank::{FragmentId, FragmentStore, PassageSizes};
use perennial::engine::AnswerUpdate;
use perennial::model::decoder::Decoder;
use perennial::model::kv::coding::Coding;
use perennial::{Engine, Error, Policy, Runtime, Scope, Subscription, Update, View};
use proptest::prelude::*;

use crate::history::steps;
use crate::tensors::{Case, CharCodec, PLAIN, Rig, collections, decoder, policies};

/// Room for all of a case here.
const ALL: usize = 1 << 26;
/// Room for half of it.
const LITTLE: usize = 120_000;

/// A model whose store keeps codes of what gives way, if it is told how; and the store.
fn runtime(
    case: &Case,
    decoder: &Arc<Decoder>,
    warm: Option<Coding>,
) -> (Runtime, Arc<FragmentStore>) {
    let store = Arc::new(FragmentStore::new(case.store_bytes));
    let model = TensorModel::new(decoder.clone(), &[9; 32], CharCodec, store.clone());
    if let Some(coding) = warm {
        model.keep_coded(coding).expect("can be coded");
    }
    let embedder = Arc::new(ScriptedEmbedder::default());
    let runtime = Runtime::new(Arc::new(model), store.clone(), embedder, 1);
    (runtime, store)
}

/// An engine over such a model.
fn rig(case: &Case, decoder: &Arc<Decoder>, warm: Option<Coding>) -> Rig {
    let (runtime, store) = runtime(case, decoder, warm);
    let engine = Engine::builder(runtime)
        .table("docs")
        .table("questions")
        .view(case.view())
        .workers(case.workers)
        .start()
        .expect("starts");
    Rig { engine, store }
}

/// The answers that were told, in order.
fn told(updates: &Subscription) -> Vec<AnswerUpdate> {
    let updates = std::iter::from_fn(|| updates.try_recv());
    let answers = updates.filter_map(|update| match update {
        Update::Answer(answer) => Some(answer),
        _ => None,
    });
    answers.collect()
}

const EVENTUAL: Case = Case {
    policy: Policy::Eventual,
    store_bytes: LITTLE,
    ..PLAIN
};

/// The first answer to a question that comes when the memory had no room for what others were answered over, and
/// what it is healed to.
fn later_question(case: &Case, warm: Option<Coding>) -> (AnswerUpdate, AnswerUpdate, Rig) {
    let decoder = decoder(2);
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    let mut rig = rig(case, &decoder, warm);
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    for (key, wording) in [(1, 2), (2, 3)] {
        let updates = rig.engine.subscribe("answers").expect("known");
        collections.questions.insert(key, wording);
        let question = (collections.wording)(wording);
        rig.engine
            .upsert("questions", &key.to_string(), &question)
            .expect("runs");
        rig.engine.settle().expect("runs");
        if key == 2 {
            let of_it = told(&updates);
            let mut of_it = of_it.into_iter().filter(|of| of.context.as_str() == "2");
            let first = of_it.next().expect("is answered");
            let last = of_it.last().unwrap_or_else(|| first.clone());
            let mut fresh = Case {
                policy: Policy::Exact,
                ..*case
            }
            .rig(&decoder, 1, ALL);
            collections.fill(&mut fresh.engine);
            assert_eq!(rig.texts(), fresh.texts());
            return (first, last, rig);
        }
    }
    unreachable!("the second is asked about")
}

#[test]
fn an_answer_over_codes_is_sooner_had_provisional_and_healed() {
    for scope in [
        Scope::Causal,
        Scope::Independent,
        Scope::Boundary { tokens: 16 },
    ] {
        let case = Case { scope, ..EVENTUAL };
        let (first, last, rig) = later_question(&case, Some(Coding::K8V4));
        let stats = rig.store.stats();
        assert!(stats.warm.n_hits > 0, "{scope:?} {stats:?}");
        assert!(!first.is_exact && last.is_exact, "{scope:?}");
        let (without, _, plain) = later_question(&case, None);
        assert!(without.is_exact, "{scope:?}");
        let (n_with, n_without) = (first.work.n_encoded, without.work.n_encoded);
        // Behind what stands in, beginnings that are read in their place are others.
        if !matches!(scope, Scope::Boundary { .. }) {
            assert!(n_with < n_without, "{scope:?} {n_with} {n_without}");
        }
        assert_eq!(plain.store.stats().warm.n_coded, 0);
    }
}

#[test]
fn exact_answers_never_look_at_codes_and_none_are_kept_for_them() {
    let case = Case {
        policy: Policy::Exact,
        ..EVENTUAL
    };
    let (first, last, rig) = later_question(&case, Some(Coding::K8V4));
    assert!(first.is_exact && last.is_exact);
    let warm = rig.store.stats().warm;
    assert_eq!((warm.n_coded, warm.n_hits, warm.n_bytes), (0, 0, 0));
}

#[test]
fn one_model_has_one_memory() {
    let decoder = decoder(1);
    let runtime = |warm| runtime(&EVENTUAL, &decoder, warm).0;
    let engine = Engine::builder(runtime(Some(Coding::K8V4)))
        .start()
        .expect("starts");
    engine
        .create_model("same", &runtime(Some(Coding::K8V4)))
        .expect("says the same");
    for other in [None, Some(Coding::Q8Blocks)] {
        let refused = engine.create_model("other", &runtime(other));
        assert!(
            matches!(&refused, Err(Error::OtherWarm { name }) if name == "other"),
            "{refused:?}"
        );
    }
}

#[test]
fn beside_a_view_that_borrows_an_exact_one_is_exact_at_once() {
    let decoder = decoder(2);
    let mut rig = rig(&EVENTUAL, &decoder, Some(Coding::K8V4));
    let exact = View::named("exact")
        .prompt("Say.")
        .context("questions")
        .data_source("docs")
        .policy(Policy::Exact)
        .token_budget(EVENTUAL.budget)
        .passage_sizes(PassageSizes { min: 16, max: 64 })
        .max_tokens(24);
    rig.engine.create_view(exact).expect("declared");
    let updates = rig.engine.subscribe("exact").expect("known");
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions = (0..4).map(|i| (i, i)).collect();
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    assert!(rig.store.stats().warm.n_coded > 0);
    let answers = told(&updates);
    assert!(answers.len() >= 4 && answers.iter().all(|answer| answer.is_exact));
}

/// The fragments of some documents, and what questions are read behind.
fn ids_of(case: &Case, decoder: &Arc<Decoder>, documents: &[u8]) -> BTreeSet<FragmentId> {
    let mut collections = collections();
    collections.documents = documents.iter().map(|i| (*i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    let mut rig = case.rig(decoder, 1, ALL);
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    rig.store.ids()
}

#[test]
fn what_is_deleted_or_forgotten_leaves_no_codes() {
    let case = Case {
        // What a passage is depends on no other.
        scope: Scope::Independent,
        ..EVENTUAL
    };
    for is_forgotten in [false, true] {
        let (_, _, rig) = later_question(&case, Some(Coding::K8V4));
        let decoder = decoder(1);
        let shared = ids_of(&case, &decoder, &[]);
        let own = |i: u8| -> BTreeSet<FragmentId> {
            let all = ids_of(&case, &decoder, &[i]);
            all.difference(&shared).copied().collect()
        };
        let coded = (0..8).map(|i| (i, own(i))).find(|(_, ids)| {
            let mut ids = ids.iter();
            ids.any(|id| rig.store.has_codes_of(id))
        });
        let (key, ids) = coded.expect("some are kept as codes");
        let key = key.to_string();
        match is_forgotten {
            true => {
                let receipt = rig.engine.forget("docs", &key).expect("forgets");
                assert!(receipt.remains.is_empty(), "{receipt:?}");
                assert!(receipt.n_fragments > 0, "{receipt:?}");
            }
            false => {
                rig.engine.delete("docs", &key).expect("runs");
                rig.engine.flush().expect("runs");
            }
        }
        let left = rig.store.ids();
        for id in &ids {
            assert!(!left.contains(id) && !rig.store.has_codes_of(id));
            assert!(rig.store.stand_in_for(id).is_none());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_history_and_the_coding_the_answers_are_those_of_a_run_with_memory_for_all(
        policy in policies(),
        scope in prop::sample::select(vec![
            Scope::Causal,
            Scope::Independent,
            Scope::Boundary { tokens: 16 },
        ]),
        store_bytes in prop::sample::select(vec![12_000usize, 25_000, LITTLE]),
        coding in prop::sample::select(vec![Coding::K8V4, Coding::Q8Blocks]),
        workers in 1usize..3,
        steps in steps(6, 0..=u8::MAX, 3, 0..4, 4..16),
    ) {
        let case = Case { policy, scope, workers, store_bytes, ..PLAIN };
        let decoder = decoder(2);
        let mut collections = collections();
        collections.questions.insert(0, 0);
        let mut rig = collections.run(steps, || rig(&case, &decoder, Some(coding)));
        rig.engine.settle().expect("runs");
        let exact = Case { policy: Policy::Exact, ..case };
        let mut fresh = exact.rig(&decoder, 1, ALL);
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(rig.texts(), fresh.texts());
        let right = fresh.contents();
        prop_assert!(rig.contents().iter().all(|fragment| right.contains(fragment)));
        // What is kept as codes are fragments that stand, and those only.
        let stands: BTreeSet<FragmentId> = right.iter().map(|(id, _)| *id).collect();
        prop_assert!(rig.store.ids().is_subset(&stands));
        let stats = rig.store.stats();
        prop_assert!(stats.n_bytes + stats.warm.n_bytes <= store_bytes);
        if policy == Policy::Exact {
            prop_assert_eq!(stats.warm.n_coded, 0);
        }
        for key in collections.documents.keys() {
            rig.engine.delete("docs", &key.to_string()).expect("runs");
        }
        for key in collections.questions.keys() {
            rig.engine.delete("questions", &key.to_string()).expect("runs");
        }
        rig.engine.settle().expect("runs");
        prop_assert_eq!(rig.store.stats().warm.n_fragments, 0);
        prop_assert_eq!(rig.store.ids(), BTreeSet::new());
    }
}
