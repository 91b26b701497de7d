//! An engine over a scripted model, and what it has been asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::engine::CurrentAnswer;
use perennial::{Engine, EngineBuilder, Runtime, View};

pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) model: Arc<Scripted>,
    pub(crate) embedder: Arc<ScriptedEmbedder>,
}

/// The view `answers` over `docs` and `questions`. Without documents the scripted model is asked, too:
/// it says that nothing is known.
pub(crate) fn view(budget: usize) -> View {
    View::named("answers")
        .prompt("Answer.")
        .answer_without_documents(true)
        .context("questions")
        .data_source("docs")
        .token_budget(budget)
        .max_tokens(200)
}

impl AsMut<Engine> for Rig {
    fn as_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

impl Rig {
    /// A builder over a scripted model, with nothing declared.
    pub(crate) fn builder(model: Scripted) -> EngineBuilder {
        let embedder = Arc::new(ScriptedEmbedder::default());
        Engine::builder(Runtime::scripted(Arc::new(model), embedder))
    }

    /// Streams and views as declared.
    pub(crate) fn start(
        model: Scripted,
        declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
    ) -> Self {
        let (model, embedder) = (Arc::new(model), Arc::new(ScriptedEmbedder::default()));
        let builder = Engine::builder(Runtime::scripted(model.clone(), embedder.clone()));
        let engine = declare(builder).start().expect("starts");
        Self {
            engine,
            model,
            embedder,
        }
    }

    pub(crate) fn upsert(&mut self, stream: &str, key: &str, text: &str) {
        self.engine.upsert(stream, key, text).expect("runs");
    }

    /// Says something, takes a backup of it, and goes on. The answers then, which the backup has not.
    pub(crate) fn past_a_backup(&mut self, file: &Path) -> BTreeMap<String, String> {
        self.upsert("docs", "a", "alpha is here.");
        for key in ["p", "q"] {
            self.upsert("questions", key, "alpha");
        }
        self.engine.flush().expect("runs");
        let out = std::fs::File::create(file).expect("writable");
        self.engine.backup(out).expect("backed up");
        self.upsert("docs", "a", "alpha has moved.");
        self.upsert("questions", "r", "alpha");
        self.engine.delete("questions", "p").expect("runs");
        self.texts()
    }

    /// The answers by context, once everything before is visible.
    pub(crate) fn texts(&mut self) -> BTreeMap<String, String> {
        self.engine.flush().expect("runs");
        let answers = self.engine.answers("answers").expect("runs");
        let text = |answer: CurrentAnswer| match answer.answer {
            Ok(answer) => answer.text.to_string(),
            Err(error) => format!("error: {error}"),
        };
        answers
            .into_iter()
            .map(|(key, answer)| (key.as_str().to_owned(), text(answer)))
            .collect()
    }
}
