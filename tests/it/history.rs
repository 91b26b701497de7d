//! Random histories of documents and questions, and the collections they leave behind.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use perennial::Engine;
use proptest::prelude::*;

/// One step of a history.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Upsert (of the text with this number) or delete of a document.
    Document(u8, Option<u8>),
    /// Upsert of a document (of the text with this number) that supersedes another.
    Supersede(u8, u8, u8),
    /// Upsert or delete of a question.
    Question(u8, Option<u8>),
    Flush,
    /// A new engine, fed what is there.
    Restart,
}

/// Steps over so many keys of documents and of questions, and these texts and wordings.
pub(crate) fn steps(
    n_documents: u8,
    texts: RangeInclusive<u8>,
    n_questions: u8,
    wordings: Range<u8>,
    n_steps: Range<usize>,
) -> impl Strategy<Value = Vec<Step>> {
    let document = (0..n_documents, prop::option::weighted(0.7, texts.clone()));
    let supersede = (0..n_documents, texts, 0..n_documents);
    let question = (0..n_questions, prop::option::weighted(0.8, wordings));
    let step = prop_oneof![
        6 => document.prop_map(|(key, text)| Step::Document(key, text)),
        1 => supersede.prop_map(|(key, text, old)| Step::Supersede(key, text, old)),
        2 => question.prop_map(|(key, wording)| Step::Question(key, wording)),
        3 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, n_steps)
}

/// What stands: documents with their times, and questions.
pub(crate) struct Collections {
    pub(crate) documents: BTreeMap<u8, (u8, i64)>,
    pub(crate) questions: BTreeMap<u8, u8>,
    /// Which document each of these supersedes.
    pub(crate) supersedes: BTreeMap<u8, u8>,
    /// The text of a number.
    pub(crate) text: fn(u8) -> String,
    /// The question of a number.
    pub(crate) wording: fn(u8) -> String,
}

impl Collections {
    pub(crate) fn empty(text: fn(u8) -> String, wording: fn(u8) -> String) -> Self {
        Self {
            documents: BTreeMap::new(),
            questions: BTreeMap::new(),
            supersedes: BTreeMap::new(),
            text,
            wording,
        }
    }

    /// Feeds all that stands.
    pub(crate) fn fill(&self, engine: &mut Engine) {
        for key in self.documents.keys() {
            self.feed(*key, engine);
        }
        for (key, wording) in &self.questions {
            engine
                .upsert("questions", &key.to_string(), &(self.wording)(*wording))
                .expect("runs");
        }
    }

    fn feed(&self, key: u8, engine: &mut Engine) {
        let (text, at) = self.documents[&key];
        let old = self.supersedes.get(&key).map(u8::to_string);
        let supersedes: Vec<&str> = old.iter().map(String::as_str).collect();
        let (key, text) = (key.to_string(), (self.text)(text));
        engine
            .upsert_superseding("docs", &key, &text, at, &supersedes)
            .expect("runs");
    }

    /// Takes the steps, here and in engines that `start` gives; the last one is returned.
    pub(crate) fn run<R: AsMut<Engine>>(&mut self, steps: Vec<Step>, start: impl Fn() -> R) -> R {
        let mut rig = start();
        self.fill(rig.as_mut());
        for (at, step) in (1..).zip(steps) {
            if let Step::Restart = step {
                rig = start();
                self.fill(rig.as_mut());
            } else {
                self.take(step, at, rig.as_mut());
            }
        }
        rig
    }

    /// Takes the steps, from time `at` on, in an engine that holds what stands; restarts
    /// are left out.
    pub(crate) fn go_on<R: AsMut<Engine>>(&mut self, mut rig: R, steps: Vec<Step>, at: i64) -> R {
        for (at, step) in (at..).zip(steps) {
            self.take(step, at, rig.as_mut());
        }
        rig
    }

    fn take(&mut self, step: Step, at: i64, engine: &mut Engine) {
        match step {
            Step::Document(key, Some(text)) => {
                self.documents.insert(key, (text, at));
                self.supersedes.remove(&key);
                self.feed(key, engine);
            }
            Step::Supersede(key, text, old) => {
                self.documents.insert(key, (text, at));
                self.supersedes.insert(key, old);
                self.feed(key, engine);
            }
            Step::Document(key, None) => {
                self.documents.remove(&key);
                self.supersedes.remove(&key);
                engine.delete("docs", &key.to_string()).expect("runs");
            }
            Step::Question(key, Some(wording)) => {
                self.questions.insert(key, wording);
                engine
                    .upsert("questions", &key.to_string(), &(self.wording)(wording))
                    .expect("runs");
            }
            Step::Question(key, None) => {
                self.questions.remove(&key);
                engine.delete("questions", &key.to_string()).expect("runs");
            }
            Step::Flush => {
                engine.flush().expect("runs");
            }
            Step::Restart => {}
        }
    }
}
