//! What does one scope answer, and how far is it from another's first token?

use std::sync::Arc;

use perennial::Scope;
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Logits, Rows};
use perennial::model::layout::Layout;
use perennial::model::locator::{Located, Progress};
use perennial::model::model::{Model, OpenOptions};
use perennial::model::sampling::Sampling;
use perennial::operators::chat::ChatCodec;
use perennial::operators::{
    AnswerModel, AnswerRequest, DocumentKey, FragmentStore, LayoutPassage, PassageId, TensorModel,
};

use crate::options::Options;
use crate::question::Question;
use crate::{Error, PROMPT};

/// Room for the fragments of one row in all scopes.
const STORE_BYTES: usize = 2 << 30;

/// A model that answers rows from scratch.
pub struct Answerer {
    model: TensorModel,
    max_tokens: usize,
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
    /// Loads the decoder.
    pub fn open(
        located: &Located,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let open = OpenOptions {
            n_threads: options.threads,
            ..OpenOptions::default()
        };
        let model = Model::open(located, &open, progress)?;
        let codec = ChatCodec::new(model.tokenizer().clone(), model.template())?;
        let store = Arc::new(FragmentStore::new(STORE_BYTES));
        let digest = model.digest();
        let decoder = Arc::new(model.into_decoder());
        Ok(Self {
            model: TensorModel::new(decoder, digest.as_bytes(), codec, store),
            max_tokens: options.max_tokens,
        })
    }

    /// The ids of the plain prompt.
    pub fn prompt(&self, question: &Question) -> Result<Vec<u32>, Error> {
        let passages = self.passages(question)?;
        let text = format!("Question: {}", question.question);
        Ok(self
            .model
            .prompt_tokens(&self.request(&passages, &text, Scope::Causal))?)
    }

    /// The greedy answer in `scope`.
    pub fn answer(&self, question: &Question, scope: Scope) -> Result<Answered, Error> {
        let passages = self.passages(question)?;
        let text = format!("Question: {}", question.question);
        let request = self.request(&passages, &text, scope);
        let outcome = self.model.answer(&request, &mut ())?;
        let mut layout = Layout::new();
        for id in self.model.fragment_ids(scope, &passages) {
            let kv = self.model.store().get(&id);
            layout.push(kv.ok_or("a fragment of the row was evicted: STORE_BYTES is too small")?);
        }
        let prompt = self.model.prompt_tokens(&request)?;
        let n_before = self.model.n_prefix_tokens()
            + passages
                .iter()
                .map(|passage| passage.tokens.len())
                .sum::<usize>();
        let mut tail = self.model.decoder().new_tail(layout.end());
        let rows = Rows {
            layout: &layout,
            tail: &mut tail,
            tokens: &prompt[n_before..],
            logits: Logits::Last,
            mass: false,
        };
        let output = self.model.decoder().forward(&mut [rows], &Cancel::new())?;
        Ok(Answered {
            text: outcome.answer.text.trim().to_owned(),
            first_token: log_softmax(&output[0].logits).into(),
        })
    }

    /// Empties the store of what the last row left.
    pub fn forget(&self) {
        self.model.store().sweep();
    }

    fn passages(&self, question: &Question) -> Result<Vec<LayoutPassage>, Error> {
        let passages = question.passages.iter().enumerate();
        passages
            .map(|(n, passage)| {
                Ok(LayoutPassage {
                    document: DocumentKey::new(n.to_string()),
                    ordinal: 0,
                    id: PassageId::of(&passage.title, &passage.text),
                    title: passage.title.as_str().into(),
                    text: passage.text.as_str().into(),
                    tokens: self
                        .model
                        .passage_tokens(&passage.title, &passage.text)?
                        .into(),
                })
            })
            .collect()
    }

    fn request<'a>(
        &self,
        passages: &'a [LayoutPassage],
        question: &'a str,
        scope: Scope,
    ) -> AnswerRequest<'a> {
        AnswerRequest {
            splice: None,
            scope,
            prompt: PROMPT,
            question,
            passages,
            draft: &[],
            max_tokens: self.max_tokens,
            sampling: Sampling::Greedy,
            cancel: Cancel::new(),
        }
    }
}

/// KL(p || q) in nats, of distributions given by their logarithms.
pub fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let max = f64::from(max);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    logits
        .iter()
        .map(|&x| f64::from(x) - max - sum.ln())
        .collect()
}
