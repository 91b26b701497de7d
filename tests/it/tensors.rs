//! An engine over real tensors, small ones.
//!
//! The model has two layers and seeded weights: it says nothing sensible, but every
//! kernel, layout, draft and fragment on the way is the real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial::ask::scripted::ScriptedEmbedder;
use perennial::ask::{Profile, TensorModel, TextCodec};
use perennial::bank::{FragmentId, FragmentStore, PassageSizes, Repair};
use perennial::model::decoder::Decoder;
use perennial::model::error::Error;
use perennial::model::seeded;
use perennial::{Engine, EngineBuilder, Order, Policy, Runtime, Scope, View};
use proptest::prelude::*;

use crate::history::Collections;

/// Printable ASCII: one token a character.
pub(crate) struct CharCodec;

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

    fn instruction(&self, prompt: &str) -> Result<Vec<u32>, Error> {
        Ok(Self::encode(prompt))
    }

    fn continued(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(Self::encode(text))
    }

    fn turn(&self) -> Option<&[u32]> {
        Some(&[94, 93])
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        Ok(tokens
            .iter()
            .map(|t| char::from(u8::try_from(t + 32).unwrap_or(b'?')))
            .collect())
    }

    fn answer(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(Self::encode(text))
    }

    fn stop(&self) -> &[u32] {
        &[95, 17]
    }

    fn token_bytes(&self, n_vocab: usize) -> Option<Vec<Vec<u8>>> {
        let ends = self.stop();
        let bytes = (0..n_vocab as u32).map(|token| match u8::try_from(token + 32) {
            Ok(byte) if byte.is_ascii() && !ends.contains(&token) => vec![byte],
            _ => Vec::new(),
        });
        Some(bytes.collect())
    }
}

pub(crate) fn decoder(n_threads: usize) -> Arc<Decoder> {
    let config = seeded::tiny_config();
    let tensors = seeded::tiny(&config, 11);
    Arc::new(Decoder::load(config, &tensors, n_threads, &mut |_, _| {}).expect("loads"))
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) scope: Scope,
    pub(crate) order: Order,
    pub(crate) budget: usize,
    pub(crate) sampled: bool,
    pub(crate) policy: Policy,
    pub(crate) superseded: Repair,
    pub(crate) reencode: usize,
    pub(crate) turnover: f32,
    pub(crate) workers: usize,
    pub(crate) store_bytes: usize,
}

/// What cases differ from.
pub(crate) const PLAIN: Case = Case {
    scope: Scope::Causal,
    order: Order::Key,
    budget: 3000,
    sampled: false,
    policy: Policy::Exact,
    superseded: Repair::Evict,
    reencode: 0,
    turnover: 0.5,
    workers: 1,
    store_bytes: 1 << 26,
};

pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<FragmentStore>,
}

impl Case {
    pub(crate) fn rig(&self, decoder: &Arc<Decoder>, workers: usize, store_bytes: usize) -> Rig {
        self.rig_with(decoder, workers, store_bytes, |builder| builder)
    }

    /// The same, with more declared.
    pub(crate) fn rig_with(
        &self,
        decoder: &Arc<Decoder>,
        workers: usize,
        store_bytes: usize,
        declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Rig {
        let declare = |builder: EngineBuilder| declare(builder.view(self.view()).workers(workers));
        Rig::start(decoder, store_bytes, declare)
    }

    /// An engine over this view.
    pub(crate) fn rig_of(&self, decoder: &Arc<Decoder>, view: View) -> Rig {
        let declare = |builder: EngineBuilder| builder.view(view).workers(self.workers);
        Rig::start(decoder, self.store_bytes, declare)
    }

    pub(crate) fn view(&self) -> View {
        let view = View::named("answers")
            .prompt("Say.")
            .answer_without_documents(true)
            .context("questions")
            .data_source("docs")
            .scope(self.scope)
            .order_by(self.order)
            .policy(self.policy)
            .superseded(self.superseded)
            .reencode(self.reencode)
            .turnover(self.turnover)
            .token_budget(self.budget)
            .passage_sizes(PassageSizes { min: 16, max: 64 })
            .max_tokens(24);
        match self.sampled {
            true => view.sampled(5, 0.9),
            false => view,
        }
    }
}

impl AsMut<Engine> for Rig {
    fn as_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

impl Rig {
    pub(crate) fn start(
        decoder: &Arc<Decoder>,
        store_bytes: usize,
        declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        Self::judging(decoder, Profile::default(), store_bytes, declare)
    }

    /// One that leaves answers unread by this profile, where it may.
    pub(crate) fn judging(
        decoder: &Arc<Decoder>,
        profile: Profile,
        store_bytes: usize,
        declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        let store = Arc::new(FragmentStore::new(store_bytes));
        let embedder = Arc::new(ScriptedEmbedder::default());
        let model = TensorModel::new(decoder.clone(), &[9; 32], CharCodec, store.clone());
        let model = Arc::new(model.judging_by(embedder.clone(), Arc::new(profile)));
        let runtime = Runtime::new(model, store.clone(), embedder, 1);
        let builder = Engine::builder(runtime).table("docs").table("questions");
        let engine = declare(builder).start().expect("starts");
        Self { engine, store }
    }

    pub(crate) fn texts(&mut self) -> BTreeMap<String, String> {
        self.engine.flush().expect("runs");
        let answers = self.engine.answers("answers").expect("runs");
        let text =
            |a: perennial::engine::CurrentAnswer| a.answer.expect("answers").text.to_string();
        answers
            .into_iter()
            .map(|(key, a)| (key.as_str().to_owned(), text(a)))
            .collect()
    }

    pub(crate) fn contents(&mut self) -> Vec<(FragmentId, [u8; 32])> {
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

pub(crate) fn text(seed: u8) -> String {
    let sentence = |i: u8| {
        let word = |j: u8| WORDS[usize::from(seed.wrapping_mul(7).wrapping_add(i * 3 + j) % 8)];
        format!("The {} meets the {} of {}.", word(0), word(1), word(2))
    };
    (0..1 + seed % 4)
        .map(sentence)
        .collect::<Vec<_>>()
        .join("\n\n")
}

pub(crate) fn wording(value: u8) -> String {
    WORDS[usize::from(value)].to_owned()
}

pub(crate) fn collections() -> Collections {
    Collections::empty(text, wording)
}

/// What an answer may promise where memory is short.
pub(crate) fn policies() -> impl Strategy<Value = Policy> {
    let bounded = Policy::Bounded { millinats: 50 };
    prop::sample::select(vec![Policy::Exact, Policy::Eventual, bounded])
}
