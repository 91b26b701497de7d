//! The answers as they stand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use perennial_ask::{
    Answer, Dependencies, Dependency, Evidence, Measured, PassagesRead, Rung, SubParagraph, Work,
};
use perennial_bank::{DocumentKey, PassageLayout};
use perennial_connectors::{Output, OutputAnswer};
use perennial_views::calls::{Request, depends};
use perennial_views::{Epoch, Refresh};

use crate::recording::RecordedAnswer;
use crate::state::StoredAnswer;

/// An answer as it stands, with how it was last reached.
#[derive(Clone, Debug)]
pub struct CurrentAnswer {
    /// The answer.
    pub answer: Answer,
    /// The epoch of its last refresh.
    pub epoch: Epoch,
    /// The rung of its last refresh.
    pub rung: Rung,
    /// By sub-paragraphs, with the passages each leans on.
    pub sub_paragraphs: Vec<SubParagraph>,
    /// Work of its last refresh.
    pub work: Work,
    /// Duration of its last refresh.
    pub elapsed: Duration,
    /// Its tokens: the draft of the next refresh. Empty for an error.
    pub tokens: Arc<[u32]>,
    /// Least difference of logits between a chosen token and the next best: how near the
    /// answer was to being another.
    pub min_margin: f32,
    /// How much each sub-paragraph depends on each passage of the layout.
    pub dependencies: Dependencies,
    /// Of a provisional answer, its estimated drift (see [`AnswerUpdate`]); none if exact.
    ///
    /// [`AnswerUpdate`]: super::AnswerUpdate
    pub drift: Option<f32>,
    /// Its regret (see [`AnswerUpdate`]); not known any more after a restart.
    ///
    /// [`AnswerUpdate`]: super::AnswerUpdate
    pub regret: f32,
    /// Whether it is what a model said that promises no same words: it stands until what it was asked
    /// changes, and is not called exact.
    pub is_memoised: bool,
    /// How many passages it was written over, and from how many they were chosen; none of an error, and of
    /// one that an earlier version stored.
    pub passages: Option<PassagesRead>,
    /// What was known of its dependencies before they were measured.
    measured: Option<Arc<MeasuredAnswer>>,
}

/// What stays as it was when an answer is measured, and what dependents are told.
#[derive(Debug)]
pub(super) struct MeasuredAnswer {
    /// By sub-paragraphs, as the answer came.
    came_with: Vec<SubParagraph>,
    /// Dependencies as the answer came.
    came_by: Dependencies,
    /// The passages that it was measured over.
    pub(super) layout: PassageLayout,
    /// Rows of the dependency relation.
    pub(super) rows: Arc<[Dependency]>,
}

/// The answer that a call gave.
pub(super) fn answer_of(refresh: &Refresh) -> Answer {
    match &refresh.outcome {
        Ok(outcome) => Ok(outcome.answer.clone()),
        Err(error) => Err(error.clone()),
    }
}

/// A delivered row quotes no more of its question, in bytes: brokers refuse long messages.
const MAX_QUESTION: usize = 16 << 10;
/// A delivered row names no more documents.
const MAX_SOURCES: usize = 256;

/// The beginning of a long question.
fn shortened(question: &str) -> String {
    let mut end = MAX_QUESTION.min(question.len());
    while !question.is_char_boundary(end) {
        end -= 1;
    }
    match end < question.len() {
        true => format!("{}…", &question[..end]),
        false => question.to_owned(),
    }
}

impl CurrentAnswer {
    /// An answer as of an epoch, with how a call reached it; nothing is known of that where none
    /// was made.
    pub(super) fn of(answer: Answer, epoch: Epoch, refresh: Option<Refresh>) -> Self {
        let mut current = Self {
            answer,
            epoch,
            rung: Rung::Regenerate,
            sub_paragraphs: Vec::new(),
            work: Work::default(),
            elapsed: refresh.as_ref().map(|r| r.elapsed).unwrap_or_default(),
            tokens: Arc::default(),
            min_margin: f32::INFINITY,
            dependencies: Dependencies::default(),
            drift: None,
            regret: 0.0,
            is_memoised: false,
            passages: None,
            measured: None,
        };
        let n_passages = refresh.as_ref().map(|r| r.request.layout.passages().len());
        if let Some(outcome) = refresh.and_then(|refresh| refresh.outcome.ok()) {
            current.rung = outcome.rung;
            current.sub_paragraphs = outcome.sub_paragraphs;
            current.work = outcome.work;
            current.tokens = outcome.tokens;
            current.min_margin = outcome.min_margin;
            current.dependencies = outcome.dependencies;
            current.drift = (!outcome.is_exact).then_some(outcome.drift);
            current.regret = outcome.regret;
            current.passages = n_passages.map(PassagesRead::all);
        }
        current
    }

    /// The same, of a model that promises no same words where that is so.
    #[must_use]
    pub(super) fn memoised(self, is_memoised: bool) -> Self {
        Self {
            is_memoised,
            ..self
        }
    }

    /// The same, of a model whose answers come with this evidence: what is stored does not say it.
    #[must_use]
    pub(super) fn by(self, evidence: Evidence) -> Self {
        Self {
            dependencies: self.dependencies.by(evidence),
            ..self
        }
    }

    /// Notes from how many passages those that it was written over were chosen; all were read where that is
    /// not told.
    pub(super) fn choose_from(&mut self, n: Option<usize>) {
        self.passages = self.passages.map(|passages| passages.chosen_from(n));
    }

    /// Takes in what it was measured to depend on. What is stored and delivered stays as it came: that is
    /// told when it is there, and this may never be.
    pub(super) fn measure(&mut self, request: &Request, measured: Measured) {
        let rows = depends(request, &measured.dependencies);
        let came_with = std::mem::replace(&mut self.sub_paragraphs, measured.sub_paragraphs);
        let came_by = std::mem::replace(&mut self.dependencies, measured.dependencies);
        self.measured = Some(Arc::new(MeasuredAnswer {
            came_with,
            came_by,
            layout: request.layout.clone(),
            rows,
        }));
    }

    /// What it was measured to depend on, if it was.
    pub(super) fn measured(&self) -> Option<&MeasuredAnswer> {
        self.measured.as_deref()
    }

    /// Its sub-paragraphs with their sources, as it came.
    fn came_with(&self) -> &[SubParagraph] {
        match &self.measured {
            Some(measured) => &measured.came_with,
            None => &self.sub_paragraphs,
        }
    }

    /// It was reached by an earlier process, as that has stored.
    pub(super) fn stand_as(&mut self, stored: &StoredAnswer) {
        self.epoch = stored.epoch;
        self.rung = stored.rung;
        self.work = stored.work;
        self.elapsed = stored.elapsed;
    }

    /// Whether a run from scratch gives the same.
    pub(super) fn is_exact(&self) -> bool {
        self.drift.is_none() && !self.is_memoised
    }

    /// As it is delivered.
    pub(super) fn output(&self, question: &str) -> Output {
        let mut shares: Vec<(&DocumentKey, f32)> = Vec::new();
        for source in self.came_with().iter().flat_map(|s| &s.sources) {
            match shares
                .iter_mut()
                .find(|(known, _)| *known == &source.document)
            {
                Some((_, share)) => *share += source.share,
                None => shares.push((&source.document, source.share)),
            }
        }
        shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        shares.truncate(MAX_SOURCES);
        Output::Answer(OutputAnswer {
            question: shortened(question),
            text: match &self.answer {
                Ok(answer) => Ok(answer.text.to_string()),
                Err(error) => Err(error.to_string()),
            },
            rung: self.rung.to_string(),
            is_exact: self.is_exact(),
            drift: self.drift.unwrap_or(0.0),
            sources: shares.iter().map(|(key, _)| key.to_string()).collect(),
            passages: self
                .passages
                .map(|passages| (passages.read as u64, passages.of as u64)),
        })
    }

    /// What sinks are told beside the text: whether it is exact, and which documents it leans on. By how
    /// much it leans on each changes with every reading.
    pub(super) fn told_beside(&self) -> (bool, BTreeSet<DocumentKey>) {
        let sources = self.came_with().iter().flat_map(|s| &s.sources);
        let documents = sources.map(|source| source.document.clone());
        (self.is_exact(), documents.collect())
    }

    /// As it is recorded.
    pub(crate) fn recorded(&self) -> RecordedAnswer {
        RecordedAnswer::of(&self.answer, &self.tokens, self.rung, self.is_exact())
    }

    /// As it is kept in a state directory, with the request it was given to.
    pub(super) fn stored(&self, request: Option<[u8; 32]>) -> StoredAnswer {
        StoredAnswer {
            request: request.filter(|_| self.answer.is_ok() && self.drift.is_none()),
            answer: self.answer.clone(),
            tokens: self.tokens.clone(),
            sub_paragraphs: self.came_with().to_vec(),
            epoch: self.epoch,
            rung: self.rung,
            work: self.work,
            min_margin: self.min_margin,
            dependencies: match &self.measured {
                Some(measured) => measured.came_by.clone(),
                None => self.dependencies.clone(),
            },
            drift: self.drift,
            elapsed: self.elapsed,
            passages: self.passages,
        }
    }
}

impl From<StoredAnswer> for CurrentAnswer {
    fn from(stored: StoredAnswer) -> Self {
        Self {
            answer: stored.answer,
            epoch: stored.epoch,
            rung: stored.rung,
            sub_paragraphs: stored.sub_paragraphs,
            work: stored.work,
            elapsed: stored.elapsed,
            tokens: stored.tokens,
            min_margin: stored.min_margin,
            dependencies: stored.dependencies,
            drift: stored.drift,
            regret: 0.0,
            is_memoised: false,
            passages: stored.passages,
            measured: None,
        }
    }
}
