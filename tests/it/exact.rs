//! `EXACT` over real tensors: whatever the history, an answer is token-identical to a run
//! from scratch, and the fragment store holds the same bits.
//!
//! The model has two layers and seeded weights: it says nothing sensible, but every
//! kernel, layout, draft and fragment on the way is the real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial::model::decoder::Decoder;
use perennial::model::error::Error;
use perennial::model::seeded;
use perennial::operators::scripted::ScriptedEmbedder;
use perennial::operators::{FragmentId, FragmentStore, PassageSizes, TensorModel, TextCodec};
use perennial::{Engine, Order, Runtime, Scope, View};
use proptest::prelude::*;

/// Printable ASCII: one token a character.
struct CharCodec;

impl CharCodec {
    fn encode(text: &str) -> Vec<u32> {
        text.bytes()
            .map(|b| u32::from(b.clamp(32, 127) - 32))
            .collect()
    }
}

impl TextCodec for CharCodec {
    fn digest(&self) -> [u8; 32] {
        [0; 32]
    }

    fn prefix(&self) -> &[u32] {
        &[1, 2, 3, 4, 5]
    }

    fn passage(&self, title: &str, text: &str) -> Result<Vec<u32>, Error> {
        Ok(Self::encode(&format!("{title}: {text} ")))
    }

    fn suffix(&self, prompt: &str, question: &str) -> Result<Vec<u32>, Error> {
        Ok(Self::encode(&format!("{prompt} {question}")))
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        Ok(tokens
            .iter()
            .map(|t| char::from(u8::try_from(t + 32).unwrap_or(b'?')))
            .collect())
    }

    fn stop(&self) -> &[u32] {
        &[95, 17]
    }
}

fn decoder(n_threads: usize) -> Arc<Decoder> {
    let config = seeded::tiny_config();
    let tensors = seeded::tiny(&config, 11);
    Arc::new(Decoder::load(config, &tensors, n_threads, &mut |_, _| {}).expect("loads"))
}

struct Case {
    scope: Scope,
    order: Order,
    budget: usize,
    sampled: bool,
    workers: usize,
    store_bytes: usize,
}

struct Rig {
    engine: Engine,
    store: Arc<FragmentStore>,
}

impl Case {
    fn rig(&self, decoder: &Arc<Decoder>, workers: usize, store_bytes: usize) -> Rig {
        let store = Arc::new(FragmentStore::new(store_bytes));
        let model = TensorModel::new(decoder.clone(), &[9; 32], CharCodec, store.clone());
        let embedder = Arc::new(ScriptedEmbedder::default());
        let runtime = Runtime::new(Arc::new(model), store.clone(), embedder, 1);
        let mut view = View::named("answers")
            .prompt("Say.")
            .context("questions")
            .data_source("docs")
            .scope(self.scope)
            .order_by(self.order)
            .token_budget(self.budget)
            .passage_sizes(PassageSizes { min: 16, max: 64 })
            .max_tokens(24);
        if self.sampled {
            view = view.sampled(5, 0.9);
        }
        let engine = Engine::builder(runtime)
            .table("docs")
            .table("questions")
            .view(view)
            .workers(workers)
            .start()
            .expect("starts");
        Rig { engine, store }
    }
}

impl Rig {
    fn texts(&mut self) -> BTreeMap<String, String> {
        self.engine.flush().expect("runs");
        let answers = self.engine.answers("answers").expect("runs");
        let text =
            |a: perennial::engine::CurrentAnswer| a.answer.expect("answers").text.to_string();
        answers
            .into_iter()
            .map(|(key, a)| (key.as_str().to_owned(), text(a)))
            .collect()
    }

    fn contents(&mut self) -> Vec<(FragmentId, [u8; 32])> {
        self.engine.flush().expect("runs");
        self.store.contents()
    }
}

const WORDS: [&str; 8] = [
    "amber gate",
    "blue heron",
    "cold river",
    "dim lamp",
    "east wind",
    "fern",
    "grey",
    "hill",
];

fn text(seed: u8) -> String {
    let sentence = |i: u8| {
        let word = |j: u8| WORDS[usize::from(seed.wrapping_mul(7).wrapping_add(i * 3 + j) % 8)];
        format!("The {} meets the {} of {}.", word(0), word(1), word(2))
    };
    (0..1 + seed % 4)
        .map(sentence)
        .collect::<Vec<_>>()
        .join("\n\n")
}

#[derive(Clone, Debug)]
enum Step {
    Document(u8, Option<u8>),
    Question(u8, Option<u8>),
    Flush,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..5, prop::option::weighted(0.7, any::<u8>())).prop_map(|(k, v)| Step::Document(k, v)),
        2 => (0u8..2, prop::option::weighted(0.8, 0u8..4)).prop_map(|(k, v)| Step::Question(k, v)),
        3 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 4..16)
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Causal),
        Just(Scope::Independent),
        (8u32..160).prop_map(|tokens| Scope::Window { tokens }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        scope(),
        prop::sample::select(vec![Order::Key, Order::UpdatedAt]),
        prop::sample::select(vec![120usize, 3000]),
        prop::bool::weighted(0.25),
        prop::sample::select(vec![1usize, 2, 4]),
        // The small store holds about forty tokens: most fragments are lost and encoded
        // again.
        prop::sample::select(vec![20_000usize, 1 << 26]),
    )
        .prop_map(
            |(scope, order, budget, sampled, workers, store_bytes)| Case {
                scope,
                order,
                budget,
                sampled,
                workers,
                store_bytes,
            },
        )
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case {
            scope,
            order,
            budget,
            sampled,
            workers,
            store_bytes,
        } = self;
        write!(
            f,
            "{scope} by {order}, budget {budget}, sampled {sampled}, {workers} workers, store {store_bytes}"
        )
    }
}

type Documents = BTreeMap<u8, (u8, i64)>;

fn fill(rig: &mut Rig, documents: &Documents, questions: &BTreeMap<u8, u8>) {
    for (key, (seed, at)) in documents {
        rig.engine
            .upsert_at("docs", &key.to_string(), &text(*seed), *at)
            .expect("runs");
    }
    for (key, value) in questions {
        let question = WORDS[usize::from(*value)];
        rig.engine
            .upsert("questions", &key.to_string(), question)
            .expect("runs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_is_token_identical_to_a_run_from_scratch(case in case(), steps in steps()) {
        let decoder = decoder(2);
        let mut documents = Documents::new();
        let mut questions = BTreeMap::from([(0, 0)]);
        let mut rig = case.rig(&decoder, case.workers, case.store_bytes);
        fill(&mut rig, &documents, &questions);
        for (at, step) in (1..).zip(steps) {
            match step {
                Step::Document(key, Some(seed)) => {
                    documents.insert(key, (seed, at));
                    rig.engine.upsert_at("docs", &key.to_string(), &text(seed), at).expect("runs");
                }
                Step::Document(key, None) => {
                    documents.remove(&key);
                    rig.engine.delete("docs", &key.to_string()).expect("runs");
                }
                Step::Question(key, Some(value)) => {
                    questions.insert(key, value);
                    let question = WORDS[usize::from(value)];
                    rig.engine.upsert("questions", &key.to_string(), question).expect("runs");
                }
                Step::Question(key, None) => {
                    questions.remove(&key);
                    rig.engine.delete("questions", &key.to_string()).expect("runs");
                }
                Step::Flush => {
                    rig.engine.flush().expect("runs");
                }
                Step::Restart => {
                    rig = case.rig(&decoder, case.workers, case.store_bytes);
                    fill(&mut rig, &documents, &questions);
                }
            }
        }
        let mut fresh = case.rig(&decoder, 1, 1 << 26);
        fill(&mut fresh, &documents, &questions);
        prop_assert_eq!(rig.texts(), fresh.texts());
        if case.store_bytes == 1 << 26 {
            prop_assert_eq!(rig.contents(), fresh.contents());
        }
    }

    #[test]
    fn insert_and_delete_leave_the_store_as_never_inserted(
        scope in scope(),
        seeds in prop::collection::vec(any::<u8>(), 1..5),
        guest in any::<u8>(),
        guest_key in 0u8..10,
    ) {
        let case = Case {
            scope, order: Order::Key, budget: 3000, sampled: false, workers: 2,
            store_bytes: 1 << 26,
        };
        let decoder = decoder(1);
        let documents: Documents =
            (0u8..).zip(&seeds).map(|(i, seed)| (i * 2, (*seed, 0))).collect();
        let mut rig = case.rig(&decoder, 2, 1 << 26);
        fill(&mut rig, &documents, &BTreeMap::from([(0, 3)]));
        let before = rig.contents();
        prop_assert!(!before.is_empty());
        let key = format!("{}b", guest_key);
        rig.engine.upsert_at("docs", &key, &text(guest), 0).expect("runs");
        prop_assert!(rig.contents() != before);
        rig.engine.delete("docs", &key).expect("runs");
        prop_assert_eq!(rig.contents(), before);
    }
}

/// Nothing is compared in vain: the seeded model's answers depend on documents, order,
/// question and scope.
#[test]
fn the_seeded_model_tells_its_inputs_apart() {
    let decoder = decoder(2);
    let answer = |scope, order, seeds: [u8; 3], question: u8| {
        let case = Case {
            scope,
            order,
            budget: 3000,
            sampled: false,
            workers: 1,
            store_bytes: 1 << 26,
        };
        let mut rig = case.rig(&decoder, 1, 1 << 26);
        let at = [3, 1, 2];
        let documents = (0u8..).zip(seeds.into_iter().zip(at)).collect();
        fill(&mut rig, &documents, &BTreeMap::from([(0, question)]));
        rig.texts().remove("0").expect("one answer")
    };
    let plain = answer(Scope::Causal, Order::Key, [7, 31, 113], 0);
    assert!(plain.len() > 4, "{plain:?}");
    for other in [
        answer(Scope::Causal, Order::Key, [7, 31, 114], 0),
        answer(Scope::Causal, Order::UpdatedAt, [7, 31, 113], 0),
        answer(Scope::Causal, Order::Key, [7, 31, 113], 1),
        answer(Scope::Independent, Order::Key, [7, 31, 113], 0),
    ] {
        assert_ne!(plain, other);
    }
}
