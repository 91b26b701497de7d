//! What does one scope answer, and how far is it from another's first token?

use std::sync::Arc;

use perennial::Scope;
use perennial::model::cancel::Cancel;
use perennial::model::decoder::{Logits, Rows};
use perennial::model::divergence::log_softmax;
use perennial::model::layout::Layout;
use perennial::model::locator::{Located, Progress};
use perennial::model::model::{Model, OpenOptions};
use perennial::model::sampling::Sampling;
use perennial::operators::chat::ChatCodec;
use perennial::operators::{
    AnswerModel, AnswerRequest, Before, DocumentKey, FragmentStore, Latitude, LayoutPassage,
    PassageId, PassageLayout, Priority, Repair, TensorModel,
};

use crate::options::Options;
use crate::question::Question;
use crate::{Error, PROMPT};

/// Room for the fragments of one row in all scopes.
const STORE_BYTES: usize = 2 << 30;

/// A model that answers rows from scratch.
pub struct Answerer {
    model: TensorModel,
    /// No answer before.
    nothing: Before,
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
            nothing: Before::default(),
        })
    }

    /// The ids of the plain prompt.
    pub fn prompt(&self, question: &Question) -> Result<Vec<u32>, Error> {
        let layout = PassageLayout::new(self.passages(question)?);
        let text = format!("Question: {}", question.question);
        Ok(self
            .model
            .prompt_tokens(&self.request(&layout, &text, Scope::Causal))?)
    }

    /// The greedy answer in `scope`.
    pub fn answer(&self, question: &Question, scope: Scope) -> Result<Answered, Error> {
        let layout = PassageLayout::new(self.passages(question)?);
        let text = format!("Question: {}", question.question);
        let request = self.request(&layout, &text, scope);
        let outcome = self.model.answer(&request, &mut ())?;
        let mut fragments = Layout::new();
        for id in self.model.fragment_ids(scope, layout.passages()) {
            let kv = self.model.store().get(&id);
            fragments
                .push(kv.ok_or("a fragment of the row was evicted: STORE_BYTES is too small")?);
        }
        let prompt = self.model.prompt_tokens(&request)?;
        let n_before = self.model.n_prefix_tokens()
            + layout
                .passages()
                .iter()
                .map(|passage| passage.tokens.len())
                .sum::<usize>();
        let mut tail = self.model.decoder().new_tail(fragments.end());
        let rows = Rows {
            layout: &fragments,
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
                    is_superseded: false,
                    tokens: self
                        .model
                        .passage_tokens(&passage.title, &passage.text)?
                        .into(),
                })
            })
            .collect()
    }

    fn request<'a>(
        &'a self,
        layout: &'a PassageLayout,
        question: &'a str,
        scope: Scope,
    ) -> AnswerRequest<'a> {
        AnswerRequest {
            scope,
            prompt: PROMPT,
            question,
            layout,
            repair: Repair::default(),
            before: &self.nothing,
            latitude: Latitude::Exact,
            priority: Priority::Fresh,
            max_tokens: self.max_tokens,
            sampling: Sampling::Greedy,
            cancel: Cancel::new(),
        }
    }
}
