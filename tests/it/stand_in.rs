//! A scripted model under another identity, or one that writes down what it is asked.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use perennial::Runtime;
use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::ask::{
    AnswerModel, AnswerRequest, AnswerText, CallProgress, Capabilities, Failure, Outcome,
    Performed, Provider, Task, TaskCall,
};
use perennial::bank::{FragmentId, FragmentStore, LayoutPassage, Scope};
use perennial::rows::Value;

/// Answers as [`Scripted`] does.
pub(crate) struct StandIn {
    inner: Scripted,
    /// What it says behind every answer and every text of a row: with words of its own it is another model.
    ending: &'static str,
    /// Where every request is written down, a line each.
    asked: Option<PathBuf>,
}

impl StandIn {
    /// Another model, whose answers end so.
    pub(crate) fn ending(ending: &'static str) -> Self {
        Self {
            inner: Scripted::new(),
            ending,
            asked: None,
        }
    }

    /// The scripted model, which appends to a file what it is asked.
    pub(crate) fn writing(asked: PathBuf) -> Self {
        Self {
            inner: Scripted::new(),
            ending: "",
            asked: Some(asked),
        }
    }

    pub(crate) fn runtime(self) -> Runtime {
        let store = Arc::new(FragmentStore::new(1 << 20));
        let embedder = Arc::new(ScriptedEmbedder::default());
        Runtime::new(Arc::new(self), store, embedder, 1)
    }
}

impl StandIn {
    /// Writes down what it is asked.
    fn note(&self, question: &str, texts: &[&str]) {
        let Some(asked) = &self.asked else { return };
        let line = format!("{question} | {}\n", texts.join(" "));
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(asked);
        // One write, so that a line is there or is not.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("writable");
    }
}

impl Provider for StandIn {
    fn digest(&self) -> [u8; 32] {
        AnswerModel::digest(self)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn check(&self, task: &Task) -> Result<(), String> {
        self.inner.check(task)
    }

    fn perform(&self, call: &TaskCall<'_>) -> Result<Performed, Failure> {
        let rendered = call.task.rendered(call.values);
        let texts: Vec<&str> = rendered.documents.iter().map(|(_, text)| &**text).collect();
        self.note(&rendered.instruction, &texts);
        let mut performed = self.inner.perform(call)?;
        if let Value::Text(said) = &performed.value {
            performed.value = Value::text(format!("{said}{}", self.ending));
        }
        Ok(performed)
    }
}

impl AnswerModel for StandIn {
    fn digest(&self) -> [u8; 32] {
        let mut digest = AnswerModel::digest(&self.inner);
        for (byte, other) in digest.iter_mut().zip(self.ending.bytes()) {
            *byte ^= other;
        }
        digest
    }

    fn n_positions(&self) -> usize {
        self.inner.n_positions()
    }

    fn n_prefix_tokens(&self) -> usize {
        self.inner.n_prefix_tokens()
    }

    fn n_instruction_tokens(&self, prompt: &str) -> usize {
        self.inner.n_instruction_tokens(prompt)
    }

    fn passage_tokens(&self, title: &str, text: &str) -> Result<Vec<u32>, String> {
        self.inner.passage_tokens(title, text)
    }

    fn fragments(&self, scope: Scope, passages: &[LayoutPassage]) -> Vec<(FragmentId, usize)> {
        self.inner.fragments(scope, passages)
    }

    fn answer(
        &self,
        request: &AnswerRequest<'_>,
        progress: &mut dyn CallProgress,
    ) -> Result<Outcome, Failure> {
        let passages = request.layout.passages().iter();
        let texts: Vec<&str> = passages.map(|passage| &*passage.text).collect();
        self.note(request.question, &texts);
        let mut outcome = self.inner.answer(request, progress)?;
        outcome.answer = AnswerText {
            text: format!("{}{}", outcome.answer.text, self.ending).into(),
            finish: outcome.answer.finish,
        };
        Ok(outcome)
    }
}
