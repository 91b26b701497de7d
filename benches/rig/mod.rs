//! What do benchmarks over question sets share? A model over stores of their own, rows as
//! layouts, and one prompt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial::Scope;
use perennial::ask::{
    AnswerModel, AnswerRequest, Before, Outcome, Priority, TensorModel, Tolerance,
};
use perennial::bank::turnover::MAX_TURNOVER;
use perennial::bank::{
    DocumentKey, FragmentStore, LayoutPassage, PassageId, PassageLayout, Repair,
};
use perennial::model::cancel::Cancel;
use perennial::model::sampling::Sampling;

pub mod first_token;
pub mod framed;
pub mod opened;
pub mod plot;
pub mod question;
pub mod remembered;
pub mod towns;

use opened::Opened;
use question::{Question, TitledText};

pub type Error = Box<dyn std::error::Error>;

/// The instruction; `Question: …` follows it.
pub use perennial::calibration::PROMPT;

/// Room for the fragments of a few rows.
const STORE_BYTES: usize = 2 << 30;

/// A model that answers rows.
pub struct Rig {
    /// What the model is called.
    pub name: String,
    /// The file or folder of its weights.
    pub path: PathBuf,
    /// The model, over a store of its own.
    pub model: TensorModel,
    max_tokens: usize,
    /// Passages behind each change that are encoded again.
    pub reencode: usize,
    /// Turnover of a layout from which on borrowed passages are encoded again, the worst first.
    pub turnover: f32,
}

impl Rig {
    /// Finds and opens a model.
    pub fn open(spec: &str, n_threads: usize, max_tokens: usize) -> Result<Self, Error> {
        let opened = Opened::find(spec, n_threads)?;
        let store = Arc::new(FragmentStore::new(STORE_BYTES));
        Ok(Self {
            name: opened.name,
            path: opened.path,
            model: opened.model.with_store(store),
            max_tokens,
            reencode: 0,
            turnover: MAX_TURNOVER,
        })
    }

    /// The same model over an empty store.
    pub fn with_empty_store(&self) -> TensorModel {
        self.model
            .with_store(Arc::new(FragmentStore::new(STORE_BYTES)))
    }

    /// The passages of a row, one a document, in the row's order.
    pub fn layout(&self, passages: &[TitledText]) -> Result<PassageLayout, Error> {
        let keys: Vec<String> = (0..passages.len()).map(|n| n.to_string()).collect();
        self.layout_of(passages, keys.iter().map(|key| &**key))
    }

    /// Passages, one a document, whose keys are these.
    pub fn layout_of<'a>(
        &self,
        passages: &[TitledText],
        keys: impl Iterator<Item = &'a str>,
    ) -> Result<PassageLayout, Error> {
        let passage = |(key, passage): (&str, &TitledText)| {
            Ok(LayoutPassage {
                document: DocumentKey::new(key),
                ordinal: 0,
                id: PassageId::of(&passage.title, &passage.text),
                title: passage.title.as_str().into(),
                text: passage.text.as_str().into(),
                tokens: self
                    .model
                    .passage_tokens(&passage.title, &passage.text)?
                    .into(),
                is_superseded: false,
                copies: Arc::default(),
            })
        };
        let passages = keys.zip(passages).map(passage);
        Ok(PassageLayout::new(passages.collect::<Result<_, Error>>()?))
    }

    /// The answer over `layout`, after the answer `before`.
    pub fn answer(
        &self,
        question: &str,
        layout: &PassageLayout,
        before: &Before,
        tolerance: Tolerance,
    ) -> Result<Outcome, Error> {
        let request = self.request(question, layout, before, tolerance, Scope::Causal);
        Ok(self.model.answer(&request, &mut ())?)
    }

    /// What the model is asked.
    pub fn request<'a>(
        &self,
        question: &'a str,
        layout: &'a PassageLayout,
        before: &'a Before,
        tolerance: Tolerance,
        scope: Scope,
    ) -> AnswerRequest<'a> {
        AnswerRequest {
            scope,
            prompt: PROMPT,
            question,
            layout,
            repair: Repair::default(),
            before,
            tolerance,
            keeps_log: tolerance.appends,
            reencode: self.reencode,
            turnover: self.turnover,
            max_tokens: self.max_tokens,
            sampling: Sampling::Greedy,
            priority: Priority::Fresh,
            cancel: Cancel::new(),
        }
    }
}

/// The rows of all sets, with the name of their set.
pub fn read_sets(
    paths: &[impl AsRef<Path>],
    limit: Option<usize>,
) -> Result<Vec<(String, Vec<Question>)>, Error> {
    let read = |path: &Path| {
        let set = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((set.into_owned(), question::read(path, limit)?))
    };
    paths.iter().map(|path| read(path.as_ref())).collect()
}
