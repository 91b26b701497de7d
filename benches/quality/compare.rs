//! What does one scope answer, and how far is it from another's first token?

use std::sync::Arc;

use perennial::Scope;
use perennial::ask::{AnswerModel, Before, Priority, Tolerance};
use perennial::bank::{PassageLayout, References};
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Logits, Rows};
use perennial::model::divergence::log_softmax;

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
    /// Tokens of passages that were encoded for it: each passage alone was there.
    pub n_encoded: usize,
}

/// A row whose passages are in the store, each encoded alone: as those of a collection are, from
/// which a question selects some.
pub struct Row<'a> {
    answerer: &'a Answerer,
    question: String,
    layout: PassageLayout,
    /// What the store keeps of the row. All else goes before each answer.
    _apart: References,
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

    /// Encodes each passage of a row alone.
    pub fn row(&self, question: &Question) -> Result<Row<'_>, Error> {
        let model = &self.rig.model;
        let layout = self.rig.layout(&question.passages)?;
        let apart = model.plan(Scope::Independent, layout.passages());
        model.lay_out(&apart, Priority::Fresh, &Cancel::new())?;
        let references = References::to(model.store().clone());
        apart
            .fragments()
            .for_each(|piece| references.add(piece.id, 1));
        Ok(Row {
            answerer: self,
            question: format!("Question: {}", question.question),
            layout,
            _apart: references,
        })
    }
}

impl Row<'_> {
    /// Tokens of its passages.
    pub fn n_tokens(&self) -> usize {
        self.layout.n_tokens()
    }

    /// The greedy answer in `scope`.
    pub fn answer(&self, scope: Scope) -> Result<Answered, Error> {
        let rig = &self.answerer.rig;
        let (model, before) = (&rig.model, Before::default());
        model.store().sweep();
        let exact = Tolerance::EXACT;
        let request = rig.request(&self.question, &self.layout, &before, exact, scope);
        let outcome = model.answer(&request, &mut ())?;
        let plan = model.plan(scope, self.layout.passages());
        if plan
            .fragments()
            .any(|piece| !model.store().contains(&piece.id))
        {
            return Err("a fragment of the row was evicted: its store is too small".into());
        }
        let layout = model.lay_out(&plan, Priority::Fresh, &Cancel::new())?;
        let prompt = model.prompt_tokens(&request)?;
        let n_before = model.n_prefix_tokens() + self.n_tokens();
        let mut tail = model.decoder().new_tail(layout.end());
        let rows = Rows {
            layout: &layout,
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
            n_encoded: outcome.work.n_encoded,
        })
    }
}
