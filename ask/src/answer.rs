//! What a view asks of a model, and what it gets back.
//!
//! An [`Answer`] is a row of the dataflow: a function of the request alone, so that it can
//! be retracted as it was emitted and compared with the answer before. How it was reached
//! (rung, work, provenance) is an [`Outcome`] beside it: it depends on what was known
//! before, and never flows.

use std::sync::Arc;
use std::time::Duration;

use perennial_model::cancel::Cancel;
use perennial_model::generation::DraftCheck;
use perennial_model::passes::Priority;
use perennial_model::sampling::Sampling;
use serde::{Deserialize, Serialize};

use crate::append::AppendLog;
use crate::before::Before;
use crate::cost::Cost;
use crate::dependency::{Dependencies, Evidence};
use crate::provider::Failure;
use crate::pull::Profile;
use perennial_bank::document::{DocumentKey, LayoutPassage, PassageLayout};
use perennial_bank::live_layout::LiveLayout;
use perennial_bank::repair::Repair;
use perennial_bank::scope::Scope;

/// Why an answer ended where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model said it was done.
    Stop,
    /// The view's limit of answer tokens was reached.
    Length,
}

/// The text of an answer and why it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AnswerText {
    /// The decoded answer.
    pub text: Arc<str>,
    /// Why it ends.
    pub finish: Finish,
}

/// A model call that could not give an answer. Data, not a failure of the dataflow.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[non_exhaustive]
pub enum CallError {
    /// Prompt, question and the room for the answer exceed what the model can attend to.
    #[error(
        "the question does not fit: {required} tokens with its documents and answer, but the model \
         attends to {limit}; shorten the question or lower the token budget"
    )]
    DoesNotFit {
        /// Tokens that would be needed.
        required: usize,
        /// Tokens the model attends to.
        limit: usize,
    },
    /// The model reported an error.
    #[error("the model call failed: {reason}")]
    Model {
        /// What the model said.
        reason: String,
    },
    /// The call ended without a reply.
    #[error("the model call ended without a reply; standard error tells of a panic")]
    Lost,
    /// No document stands that the context may see.
    #[error("there are no documents to answer from")]
    NoDocuments,
    /// Documents stand, but the passage that matters most is larger than the view's budget.
    #[error(
        "the most relevant passage does not fit the token budget of {budget}, so there is nothing to \
         answer from"
    )]
    NothingFits {
        /// Most tokens of passages a context.
        budget: usize,
    },
}

/// What a view emits for one context.
pub type Answer = Result<AnswerText, CallError>;

/// The cheapest way in which a refresh could be served: keep, skip, patch, verify, append, rewrite,
/// regenerate. (Stored by number: new ones come last.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// Nothing changed of what the model reads: it was not asked. Sources may have other names.
    Keep,
    /// The old answer was checked in one pass and stands.
    Verify,
    /// The old answer served as draft; part of it stands.
    Rewrite,
    /// Written from nothing.
    Regenerate,
    /// Nothing that changed has a dependency: the old answer was left as it is, unchecked.
    Skip,
    /// The old answer with words exchanged as in its documents was checked and stands.
    Patch,
    /// The conversation went on: behind the old answer it was told what changed, and asked again.
    Append,
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Verify => "verify",
            Self::Rewrite => "rewrite",
            Self::Regenerate => "regenerate",
            Self::Skip => "skip",
            Self::Patch => "patch",
            Self::Append => "append",
        })
    }
}

/// Work done for one refresh: tokens forwarded through the model, and what was paid for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Tokens forwarded to encode fragments that were not in the store.
    pub n_encoded: usize,
    /// Tokens of the question, and of the instruction where it was not read for another question.
    pub n_prompt: usize,
    /// Tokens of the old answer that were checked.
    pub n_draft: usize,
    /// Tokens written one by one.
    pub n_decoded: usize,
    /// Forward passes.
    pub n_passes: usize,
    /// Tokens that a run of the plain prompt forwards: prefix, passages, question, answer.
    pub n_from_scratch: usize,
    /// Tokens of prompts that a server still knew, and did not read again. They are not forwarded, and not
    /// stored.
    #[serde(skip)]
    pub n_cached: usize,
    /// What was paid for it. It is not stored: what is kept was paid for by an earlier process.
    #[serde(skip)]
    pub cost: Cost,
}

impl Work {
    /// All tokens forwarded.
    pub fn n_forwarded(&self) -> usize {
        self.n_encoded + self.n_prompt + self.n_draft + self.n_decoded
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.n_encoded += other.n_encoded;
        self.n_prompt += other.n_prompt;
        self.n_draft += other.n_draft;
        self.n_decoded += other.n_decoded;
        self.n_passes += other.n_passes;
        self.n_from_scratch += other.n_from_scratch;
        self.n_cached += other.n_cached;
        self.cost += other.cost;
    }
}

/// A document that a sub-paragraph leans on: of a passage that several hold, each of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The document.
    pub document: DocumentKey,
    /// Its passage, counted from 0.
    pub ordinal: u32,
    /// Share of the sub-paragraph's attention to passages that went to this one, 0 to 1.
    pub share: f32,
}

/// A sentence or list item of an answer and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubParagraph {
    /// The text, as it stands in the answer.
    pub text: String,
    /// Strongest first.
    pub sources: Vec<Source>,
}

/// How an answer was reached.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: AnswerText,
    /// Its tokens: the draft of the next refresh.
    pub tokens: Arc<[u32]>,
    /// The rung that served it.
    pub rung: Rung,
    /// What it cost.
    pub work: Work,
    /// The answer by sub-paragraphs with their sources.
    pub sub_paragraphs: Vec<SubParagraph>,
    /// Least difference of logits between the chosen token and the next best, over the
    /// answer: how near the answer was to being another.
    pub min_margin: f32,
    /// Whether a run from scratch gives the same: not if fragments were borrowed, if it stands though
    /// another is likelier, if it was not read, or if it goes on from another.
    pub is_exact: bool,
    /// By how much another answer was likelier where this one was read, in nats a token; of one that
    /// was left unread, what is expected. 0 for an exact answer.
    pub regret: f32,
    /// How well the answer before stood, where all of it was read.
    pub draft: Option<DraftCheck>,
    /// Share of the answer's attention to passages that went to borrowed fragments, 0 to 1:
    /// an estimate of how far it may be from exact. 0 for an exact answer.
    pub drift: f32,
    /// How much each sub-paragraph depends on each passage.
    pub dependencies: Dependencies,
    /// What it was written over.
    pub live: Arc<LiveLayout>,
    /// What the next may go on from, where the request wants that kept.
    pub log: Option<Arc<AppendLog>>,
}

/// What an answer that stands depends on, as it was measured afterwards.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The answer by sub-paragraphs with their sources.
    pub sub_paragraphs: Vec<SubParagraph>,
    /// How much each sub-paragraph depends on each passage.
    pub dependencies: Dependencies,
    /// Calls that were made for it.
    pub n_calls: usize,
    /// What they cost.
    pub work: Work,
}

/// How far an answer may be from what a run from scratch gives; not at all by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tolerance {
    /// The answer before stands while its regret is at most this, in nats a token: while no other
    /// is likelier by more. Where this is 0 it stands if nothing is likelier.
    pub regret: f32,
    /// Whether fragments may be borrowed from the layout before.
    pub borrows: bool,
    /// Whether the answer before may be left as it is, unread, where what changed is unlikely to
    /// matter to it.
    pub skips: Option<Skip>,
    /// Whether the conversation may go on from the answer before ([`append`](crate::append)), where its
    /// [log](Outcome::log) was kept.
    pub appends: bool,
}

/// Which answers are left unread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skip {
    /// Those whose expected regret is below this, in nats a token.
    pub below: f32,
}

impl Tolerance {
    /// What a run from scratch gives.
    pub const EXACT: Self = Self {
        regret: 0.0,
        borrows: false,
        skips: None,
        appends: false,
    };
    /// Checked over fragments that may be borrowed.
    pub const BORROWED: Self = Self {
        borrows: true,
        ..Self::EXACT
    };
    /// Going on from the answer before, where that can be.
    pub const APPENDED: Self = Self {
        appends: true,
        ..Self::EXACT
    };

    /// Whether the answer must be the one of a run from scratch.
    pub fn is_exact(&self) -> bool {
        *self == Self::EXACT
    }
}

/// One question over one layout.
#[derive(Clone, Debug)]
pub struct AnswerRequest<'a> {
    /// What passages may attend to.
    pub scope: Scope,
    /// The view's instruction.
    pub prompt: &'a str,
    /// The context's text.
    pub question: &'a str,
    /// Its passages, in order.
    pub layout: &'a PassageLayout,
    /// What is laid on superseded passages of the layout.
    pub repair: Repair,
    /// What is known of the answer before: it changes the cost, never an exact answer.
    pub before: &'a Before,
    /// How far the answer may be from exact.
    pub tolerance: Tolerance,
    /// Whether what a later request needs to go on from this answer is kept.
    pub keeps_log: bool,
    /// Where fragments are borrowed: passages behind each change that are encoded again all
    /// the same.
    pub reencode: usize,
    /// Where fragments are borrowed: how much of what these attended to may have turned over, from 0 to 1 (mean over
    /// the tokens of the layout), before the worst are encoded again all the same ([`perennial_bank::turnover`]).
    pub turnover: f32,
    /// Limit of answer tokens.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Which other calls its forward passes go before.
    pub priority: Priority,
    /// Raised when nobody wants the answer any more.
    pub cancel: Cancel,
}

/// Tokens of all these parts together; the most that a number holds, where they are more.
pub(crate) fn n_tokens_of(parts: impl IntoIterator<Item = usize>) -> usize {
    parts.into_iter().fold(0, usize::saturating_add)
}

/// A request to the server of a model, ended.
#[derive(Clone, Copy, Debug)]
pub struct RemoteCall<'a> {
    /// Scheme, host, port and path of the server's interface.
    pub server: &'a str,
    /// The path of the endpoint below.
    pub endpoint: &'static str,
    /// The HTTP status, where there was a reply.
    pub status: Option<u16>,
    /// Whether the reply was of use.
    pub is_ok: bool,
    /// From the request to the end of its reply.
    pub elapsed: Duration,
}

/// What a call reports while it runs. Observations only: an answer counts when its epoch
/// is complete.
pub trait CallProgress {
    /// `done` of `total` tokens of missing fragments are encoded.
    fn encoding(&mut self, done: usize, total: usize);
    /// The answer so far, whole; it replaces what was reported before.
    fn writing(&mut self, text: &str);
    /// What changed cannot be judged for this reason, so the answer is read.
    fn cannot_judge(&mut self, _reason: &str) {}
    /// The model's server was asked.
    fn called(&mut self, _call: &RemoteCall<'_>) {}
}

impl CallProgress for () {
    fn encoding(&mut self, _done: usize, _total: usize) {}
    fn writing(&mut self, _text: &str) {}
}

/// A model that answers over passages.
///
/// # Contract
/// Under greedy decoding, and under seeded sampling with the same seed, an exact answer is a
/// function of the request without what was before; `digest` covers everything else that it
/// depends on.
pub trait AnswerModel: Send + Sync + 'static {
    /// A digest of weights, kernels, tokenizer and templates.
    fn digest(&self) -> [u8; 32];
    /// Most positions the model attends to, in tokens.
    fn n_positions(&self) -> usize;
    /// Tokens before the first passage.
    fn n_prefix_tokens(&self) -> usize;
    /// A passage as the model reads it.
    ///
    /// # Errors
    /// A text that the model's tokenizer refuses, for people.
    fn passage_tokens(&self, title: &str, text: &str) -> Result<Vec<u32>, String>;
    /// The fragments that a layout needs in `scope`, that of the prefix first; each with its number of
    /// tokens.
    fn fragments(
        &self,
        scope: Scope,
        passages: &[LayoutPassage],
    ) -> Vec<(perennial_bank::id::FragmentId, usize)>;
    /// Answers one request.
    ///
    /// # Errors
    /// [`Failure`]; of one that is final, the error is the answer.
    fn answer(
        &self,
        request: &AnswerRequest<'_>,
        progress: &mut dyn CallProgress,
    ) -> Result<Outcome, Failure>;
    /// Tokens of an instruction that are read once for all questions over the same passages.
    fn n_instruction_tokens(&self, _prompt: &str) -> usize {
        0
    }
    /// Makes ready what judging the next change for a question over this layout will need. It is called
    /// when its answer has been told, for requests that may be left unread.
    fn prepare(&self, _question: &str, _layout: &PassageLayout) {}
    /// By what it guesses which answers may be left unread; nothing where it does not guess by a profile.
    /// Exact answers do not depend on it, and so [`digest`](Self::digest) does not.
    fn judges_by(&self) -> Option<&Arc<Profile>> {
        None
    }
    /// What tells the dependencies that an answer comes with.
    fn evidence(&self) -> Evidence {
        Evidence::Attention
    }
    /// Whether [`measure`](Self::measure) tells more of an answer than it came with.
    fn measures(&self) -> bool {
        false
    }
    /// Measures how much an answer to a request depends on its passages. It is called after the answer has
    /// been told, when nothing fresh is to do, and may cost several calls. Nothing where that cannot be
    /// told of this answer.
    ///
    /// # Errors
    /// [`Failure`].
    fn measure(
        &self,
        _request: &AnswerRequest<'_>,
        _answer: &str,
        _progress: &mut dyn CallProgress,
    ) -> Result<Option<Measured>, Failure> {
        Ok(None)
    }
}
