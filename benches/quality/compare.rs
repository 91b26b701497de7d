//! What does one scope answer, and how far is it from another's first token?

use std::sync::Arc;

use perennial::Scope;
use perennial::ask::{AnswerModel, Before, Tolerance};
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Logits, Rows};
use perennial::model::divergence::log_softmax;
use perennial::model::layout::Layout;

use crate::Error;
use crate::options::Options;
use crate::rig::Rig;
use crate::rig::question::Question;

/// A model that answers rows from scratch.
pub struct Answerer {
    rig: Rig,
}

/// An answer and the distribution it began with.
#[derive(Clone)]
pub struct Answered {
    /// The answer.
    pub text: String,
    /// Logarithms of the first answer token's probabilities, `[n_vocab]`.
    pub first_token: Arc<[f64]>,
}

impl Answerer {
    /// Loads the model that `spec` names.
    pub fn open(spec: &str, options: &Options) -> Result<Self, Error> {
        let rig = Rig::open(spec, options.threads, options.max_tokens)?;
        Ok(Self { rig })
    }

    /// What the model is called.
    pub fn name(&self) -> &str {
        &self.rig.name
    }

    /// The file or folder of the weights.
    pub fn path(&self) -> &std::path::Path {
        &self.rig.path
    }

    /// The ids of the plain prompt.
    pub fn prompt(&self, question: &Question) -> Result<Vec<u32>, Error> {
        let layout = self.rig.layout(&question.passages)?;
        let before = Before::default();
        let text = format!("Question: {}", question.question);
        let request = self
            .rig
            .request(&text, &layout, &before, Tolerance::EXACT, Scope::Causal);
        Ok(self.rig.model.prompt_tokens(&request)?)
    }

    /// The greedy answer in `scope`.
    pub fn answer(&self, question: &Question, scope: Scope) -> Result<Answered, Error> {
        let (model, before) = (&self.rig.model, Before::default());
        let layout = self.rig.layout(&question.passages)?;
        let text = format!("Question: {}", question.question);
        let request = self
            .rig
            .request(&text, &layout, &before, Tolerance::EXACT, scope);
        let outcome = model.answer(&request, &mut ())?;
        let mut fragments = Layout::new();
        for id in model.fragment_ids(scope, layout.passages()) {
            let kv = model.store().get(&id);
            fragments.push(kv.ok_or("a fragment of the row was evicted: its store is too small")?);
        }
        let prompt = model.prompt_tokens(&request)?;
        let passages = layout.passages().iter();
        let n_passages: usize = passages.map(|passage| passage.tokens.len()).sum();
        let n_before = model.n_prefix_tokens() + n_passages;
        let mut tail = model.decoder().new_tail(fragments.end());
        let rows = Rows {
            layout: &fragments,
            pending: &[],
            tail: &mut tail,
            tokens: &prompt[n_before..],
            logits: Logits::Last,
            mass: false,
        };
        let output = model.decoder().forward(&mut [rows], &Cancel::new())?;
        Ok(Answered {
            text: outcome.answer.text.trim().to_owned(),
            first_token: log_softmax(&output[0].logits).into(),
        })
    }

    /// Empties the store of what the last row left.
    pub fn forget(&self) {
        self.rig.model.store().sweep();
    }
}
