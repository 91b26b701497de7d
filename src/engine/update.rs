//! What subscribers are told.

use std::sync::Arc;
use std::time::Duration;

use perennial_ask::{Answer, Evidence, PassagesRead, Rung, SubParagraph, Work};
#[cfg(feature = "serve")]
use perennial_ask::{AnswerText, Finish};
use perennial_bank::{ContextKey, DocumentKey};
use perennial_connectors::Rejected;
use perennial_rows::Tuple;
use perennial_views::Epoch;

use super::audits::AuditStats;
use super::current::CurrentAnswer;

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Update {
    /// An answer is new, changed, gone, or was checked and stands.
    Answer(AnswerUpdate),
    /// The result of a query changed.
    Rows(RowsUpdate),
    /// How far a call is. Only an observation: the answer counts when its epoch is complete.
    Progress(Progress),
    /// An epoch was closed: what changed is known, and the refreshes begin.
    EpochStarted(EpochStart),
    /// Every update of this epoch has been delivered.
    EpochComplete(EpochSummary),
    /// A record went to quarantine.
    Rejected(Rejected),
    /// Something a person should know about a source: how it watches, that it restarted.
    Notice {
        /// The stream.
        source: String,
        /// What happened.
        message: String,
    },
    /// A source has no more to give; its documents stay.
    SourceEnded {
        /// The stream.
        source: String,
    },
    /// A source failed; its documents stay as they were.
    SourceFailed {
        /// The stream.
        source: String,
        /// Why, and what to do.
        message: String,
    },
    /// The engine cannot go on; nothing follows.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
    /// The subscriber was slow: so many notices were dropped (answers never are; they were
    /// merged to their latest).
    Lagged {
        /// Number of dropped updates.
        n_dropped: u64,
    },
}

/// What happened to one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// There was none before.
    New,
    /// It differs from the one before.
    Changed,
    /// It was refreshed and is the same.
    Stands,
    /// Its context is gone.
    Gone,
}

/// One answer, before and after an epoch.
#[derive(Clone, Debug)]
pub struct AnswerUpdate {
    /// The view.
    pub view: Arc<str>,
    /// The context.
    pub context: ContextKey,
    /// The context's text; empty if the context is gone.
    pub question: Arc<str>,
    /// The epoch.
    pub epoch: Epoch,
    /// The answer before, if there was one.
    pub old: Option<Answer>,
    /// The answer now, if there is one.
    pub new: Option<Answer>,
    /// How it was reached.
    pub rung: Rung,
    /// The answer now by sub-paragraphs, with the passages each leans on.
    pub sub_paragraphs: Vec<SubParagraph>,
    /// What tells which passages these are.
    pub evidence: Evidence,
    /// What it cost.
    pub work: Work,
    /// How long the call took.
    pub elapsed: Duration,
    /// Whether a run from scratch gives the same: always, under policy `EXACT`. A
    /// provisional answer is followed by an exact one.
    pub is_exact: bool,
    /// Whether a model said it that promises no same words: it is not exact, and stands until what it
    /// was asked changes.
    pub is_memoised: bool,
    /// Share of a provisional answer's attention to passages that went to borrowed
    /// fragments, 0 to 1: an estimate of how far it may be from exact.
    pub drift: f32,
    /// By how much another answer was likelier where this one was read, in nats a token; of one that was
    /// left unread, what is expected of it. 0 for an exact answer.
    pub regret: f32,
    /// How many passages it was written over, and how many its context may see: fewer where these exceed the
    /// view's token budget. Documents that are left out come and go without an update of their own; none of
    /// an error, or where that is not known.
    pub passages: Option<PassagesRead>,
    /// Whether this was told before its epoch was complete, as views do that tell each answer when
    /// it is there: others of the same epoch follow, or stand as of an earlier one. It is not told
    /// again when the epoch is complete.
    pub is_early: bool,
}

/// By how much the result of a query changed in an epoch, or in several where the subscriber was
/// slow.
#[derive(Clone, Debug)]
pub struct RowsUpdate {
    /// The view.
    pub view: Arc<str>,
    /// The (last) epoch.
    pub epoch: Epoch,
    /// By how much the multiplicity of each tuple grows; never zero.
    pub rows: Vec<(Tuple, isize)>,
}

impl AnswerUpdate {
    /// That an answer stands now, or that there is none any more.
    pub(super) fn of(
        view: Arc<str>,
        context: ContextKey,
        question: Arc<str>,
        epoch: Epoch,
        (old, new): (Option<Answer>, Option<&CurrentAnswer>),
    ) -> Self {
        Self {
            view,
            context,
            question,
            epoch,
            old,
            new: new.map(|new| new.answer.clone()),
            rung: new.map_or(Rung::Regenerate, |new| new.rung),
            sub_paragraphs: new.map_or_else(Vec::new, |new| new.sub_paragraphs.clone()),
            evidence: new.map_or_else(Evidence::default, |new| new.dependencies.evidence()),
            work: new.map(|new| new.work).unwrap_or_default(),
            elapsed: new.map(|new| new.elapsed).unwrap_or_default(),
            is_exact: new.is_none_or(CurrentAnswer::is_exact),
            is_memoised: new.is_some_and(|new| new.is_memoised),
            drift: new.and_then(|new| new.drift).unwrap_or(0.0),
            regret: new.map_or(0.0, |new| new.regret),
            passages: new.and_then(|new| new.passages),
            is_early: false,
        }
    }

    /// That there is no answer any more, of which nothing else is known.
    #[cfg(feature = "serve")]
    pub(crate) fn gone(view: Arc<str>, context: ContextKey, epoch: Epoch) -> Self {
        let unknown = AnswerText {
            text: "".into(),
            finish: Finish::Stop,
        };
        Self::of(view, context, "".into(), epoch, (Some(Ok(unknown)), None))
    }

    /// What happened.
    pub fn kind(&self) -> ChangeKind {
        match (&self.old, &self.new) {
            (None, _) => ChangeKind::New,
            (Some(_), None) => ChangeKind::Gone,
            (Some(old), Some(new)) if old == new => ChangeKind::Stands,
            (Some(_), Some(_)) => ChangeKind::Changed,
        }
    }

    /// The text of the answer now, if there is one and it is no error.
    pub fn new_text(&self) -> Option<&str> {
        self.new.as_ref()?.as_ref().ok().map(|answer| &*answer.text)
    }

    /// The text of the answer before, if there was one and it was no error.
    pub fn old_text(&self) -> Option<&str> {
        self.old.as_ref()?.as_ref().ok().map(|answer| &*answer.text)
    }
}

/// How far a call is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// Fragments are being encoded.
    Encoding {
        /// The view.
        view: Arc<str>,
        /// The context.
        context: ContextKey,
        /// Tokens encoded.
        done: usize,
        /// Tokens to encode.
        total: usize,
    },
    /// Texts are being embedded, because the documents exceed the view's budget.
    Embedding {
        /// The view.
        view: Arc<str>,
        /// Texts embedded by one worker since the view was made.
        done: usize,
        /// Texts that this worker has met since then.
        total: usize,
    },
    /// A model is being asked about rows.
    Asking {
        /// The view.
        view: Arc<str>,
        /// Rows that it was answered about since it was made.
        done: usize,
        /// Rows that it has had to ask about since then.
        total: usize,
    },
    /// The answer is being written.
    Writing {
        /// The view.
        view: Arc<str>,
        /// The context.
        context: ContextKey,
        /// What is asked.
        question: Arc<str>,
        /// All of it so far.
        text: String,
    },
}

impl Progress {
    /// The view and, where there is one, the context it is about.
    pub(crate) fn about(&self) -> (&str, Option<&ContextKey>) {
        match self {
            Self::Encoding { view, context, .. } | Self::Writing { view, context, .. } => {
                (view, Some(context))
            }
            Self::Embedding { view, .. } | Self::Asking { view, .. } => (view, None),
        }
    }
}

/// What became of one document in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentChangeKind {
    /// It was not there before.
    Inserted,
    /// It has another text, title or time.
    Updated,
    /// It is gone.
    Deleted,
}

/// A document that an epoch changes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DocumentChange {
    /// The document.
    pub key: DocumentKey,
    /// What became of it.
    pub change: DocumentChangeKind,
}

/// An epoch of one view at its beginning.
#[derive(Clone, Debug)]
pub struct EpochStart {
    /// The view.
    pub view: Arc<str>,
    /// The epoch.
    pub epoch: Epoch,
    /// The changed documents in order of their keys: the first [`MAX_NAMED_CHANGES`].
    pub changes: Vec<DocumentChange>,
    /// Number of changed documents.
    pub n_changes: usize,
    /// Number of provisional answers that are replaced by exact ones.
    pub n_healed: usize,
    /// Of these, those that were told what changed (policy `APPEND`): their documents are laid out anew.
    pub n_compacted: usize,
    /// Number of documents that the view now reads.
    pub n_documents: usize,
}

/// Changed documents that an [`EpochStart`] names.
pub const MAX_NAMED_CHANGES: usize = 256;

/// Number of refreshes by rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RungCounts {
    /// Contexts that no change touched.
    pub keep: usize,
    /// Old answers checked in one pass.
    pub verify: usize,
    /// Old answers that served as draft.
    pub rewrite: usize,
    /// Answers written from nothing.
    pub regenerate: usize,
    /// Old answers left unread: nothing that changed has a dependency.
    pub skip: usize,
    /// Old answers with words exchanged as in their documents, checked in one pass.
    pub patch: usize,
    /// Answers that went on from the old one, told what changed.
    pub append: usize,
    /// Calls that gave an error.
    pub failed: usize,
}

impl RungCounts {
    /// Contexts whose question a model read.
    pub fn n_read(&self) -> usize {
        self.patch + self.verify + self.append + self.rewrite + self.regenerate
    }
}

impl std::ops::AddAssign for RungCounts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            keep,
            verify,
            rewrite,
            regenerate,
            skip,
            patch,
            append,
            failed,
        } = other;
        self.keep += keep;
        self.verify += verify;
        self.rewrite += rewrite;
        self.regenerate += regenerate;
        self.skip += skip;
        self.patch += patch;
        self.append += append;
        self.failed += failed;
    }
}

/// An epoch of one view, complete.
#[derive(Clone, Debug)]
pub struct EpochSummary {
    /// The view.
    pub view: Arc<str>,
    /// The epoch.
    pub epoch: Epoch,
    /// How its contexts were served.
    pub rungs: RungCounts,
    /// Work of all its refreshes.
    pub work: Work,
    /// Tokens that a run from nothing over the same collections would forward: what contexts share
    /// once, and of each its question and its answer. 0 for a view of a query.
    pub n_rerun: usize,
    /// From the epoch's closing to its completion; from that of the first one, where it overtook
    /// others.
    pub elapsed: Duration,
    /// What audits found of provisional answers so far.
    pub audits: AuditStats,
}
