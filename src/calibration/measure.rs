//! What is known of each answer after each edit, and had it to change?
//!
//! Documents, and questions about them. Every question is answered; then edits are made, each to the
//! documents as they were, and what is known of every answer without reading it stands beside whether its
//! gold answer is another. To read answers over the new documents says their regret, and costs what reading
//! costs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_ask::pull::fit::Sample;
use perennial_ask::{
    AnswerModel, AnswerRequest, Before, Cancel, Embed, LayoutDelta, Outcome, Priority, Profile,
    Pull, Pulled, Sampling, Tolerance,
};
use perennial_bank::document::{DocumentKey, LayoutPassage, PassageLayout};
use perennial_bank::id::PassageId;
use perennial_bank::{Repair, Scope};

use super::edit::{Edit, Kind};
use super::random::Random;
use super::set::{Asked, Case, Passage};
use super::{CalibrationError, PROMPT};

/// Answers written or read at a time: their passes are joined.
const AT_A_TIME: usize = 8;

/// Which answers are read over the new documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// None: to fit what tells them apart, gold answers are enough.
    None,
    /// Those that have to change.
    Concerned,
    /// All.
    All,
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measuring {
    /// Edits of each article, of each kind in turn.
    pub edits: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Where chance begins.
    pub seed: u64,
    /// Which answers are read.
    pub reads: Reads,
}

/// One answer after one edit.
#[derive(Clone, Debug)]
pub struct Point {
    /// By which answers are grouped where something is fitted.
    pub group: Arc<str>,
    /// Of the edit.
    pub kind: Kind,
    /// What is known without reading.
    pub pulled: Pulled,
    /// Least margin of the old answer, in logits.
    pub margin: f32,
    /// Tokens of the old answer.
    pub n_tokens: usize,
    /// What reading it says.
    pub read: Option<Reading>,
    /// Whether the gold answer is another.
    pub is_concerned: bool,
}

/// What became of an answer that was read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Of the old answer over the new layout, in nats a token.
    pub regret: f32,
    /// Whether the answer from scratch is another.
    pub is_changed: bool,
}

impl Point {
    /// As it is fitted.
    pub fn sample(&self) -> Sample<'_> {
        Sample {
            pulled: self.pulled,
            group: &self.group,
            is_concerned: self.is_concerned,
        }
    }
}

/// A question with its answer before the edit.
struct Standing<'a> {
    /// The ids of the documents that it is about.
    of: &'a [String],
    asked: &'a Asked,
    before: Before,
}

/// A model over the questions of one article.
struct Rig<'a> {
    model: &'a dyn AnswerModel,
    pull: &'a Pull,
    case: &'a Case,
    how: Measuring,
}

/// Judges all answers of some articles after each edit; what comes is taken from `passages`. `progress` hears
/// how many answers and edits of how many are done.
///
/// # Errors
/// A passage or a question that the model refuses; what embeds failing.
pub fn measure(
    model: &dyn AnswerModel,
    embedder: Arc<dyn Embed>,
    (cases, passages): (&[Case], &[Passage]),
    how: Measuring,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Vec<Point>, CalibrationError> {
    // What is known of an answer does not depend on the profile.
    let pull = Pull::new(embedder, Arc::new(Profile::default()));
    let mut random = Random(how.seed);
    let mut points = Vec::new();
    let total = cases.iter().map(|case| case.asked.len() + how.edits).sum();
    let mut done = 0;
    for case in cases {
        let rig = Rig {
            model,
            pull: &pull,
            case,
            how,
        };
        let before = rig.layout(&case.documents)?;
        let mut answered = |n: usize| progress(done + n, total);
        let standing = in_parallel(&case.asked, &mut answered, |(of, asked)| {
            let outcome = rig.answer(asked, &before, &Before::default())?;
            let question = asked.question.as_str().into();
            Ok(Standing {
                of,
                asked,
                before: Before::of(question, before.clone(), &outcome),
            })
        })?;
        done += case.asked.len();
        for kind in Kind::ALL.iter().cycle().take(how.edits) {
            if let Some(edit) = Edit::draw(*kind, &case.documents, passages, &mut random) {
                let after = rig.layout(&edit.apply(&case.documents))?;
                let of_edit = in_parallel(&standing, &mut |_| (), |standing| {
                    rig.point(standing, &edit, &after)
                })?;
                points.extend(of_edit.into_iter().flatten());
            }
            done += 1;
            progress(done, total);
        }
    }
    Ok(points)
}

impl Rig<'_> {
    /// Passages, one a document.
    fn layout(&self, documents: &[Passage]) -> Result<PassageLayout, CalibrationError> {
        let passage = |document: &Passage| {
            let tokens = self.model.passage_tokens(&document.title, &document.text);
            let tokens = tokens.map_err(|reason| CalibrationError::Passage {
                id: document.id.clone(),
                reason,
            })?;
            Ok(LayoutPassage {
                document: DocumentKey::new(&*document.id),
                ordinal: 0,
                id: PassageId::of(&document.title, &document.text),
                title: document.title.as_str().into(),
                text: document.text.as_str().into(),
                tokens: tokens.into(),
                is_superseded: false,
                copies: Arc::default(),
            })
        };
        let passages = documents.iter().map(passage);
        Ok(PassageLayout::new(passages.collect::<Result<_, _>>()?))
    }

    fn answer(
        &self,
        asked: &Asked,
        layout: &PassageLayout,
        before: &Before,
    ) -> Result<Outcome, CalibrationError> {
        let request = AnswerRequest {
            scope: Scope::Causal,
            prompt: PROMPT,
            question: &asked.question,
            layout,
            repair: Repair::default(),
            before,
            tolerance: Tolerance::EXACT,
            keeps_log: false,
            reencode: 0,
            turnover: 1.0,
            max_tokens: self.how.max_tokens,
            sampling: Sampling::Greedy,
            priority: Priority::Fresh,
            cancel: Cancel::new(),
        };
        let outcome = self.model.answer(&request, &mut ());
        outcome.map_err(|failure| self.failed(asked, failure.to_string()))
    }

    fn failed(&self, asked: &Asked, reason: String) -> CalibrationError {
        CalibrationError::Model {
            article: self.case.group.clone(),
            question: asked.question.clone(),
            reason,
        }
    }

    /// Nothing where too much changed to say anything of an answer unread: it is read then.
    fn point(
        &self,
        standing: &Standing<'_>,
        edit: &Edit,
        after: &PassageLayout,
    ) -> Result<Option<Point>, CalibrationError> {
        let (before, asked) = (&standing.before, standing.asked);
        let Some(written) = before.written.as_deref() else {
            return Ok(None);
        };
        let delta = LayoutDelta::between(written.layout.passages(), after.passages());
        let pulled = self.pull.of(written, after.passages(), &delta);
        let Some(pulled) = pulled.map_err(|reason| self.failed(asked, reason))? else {
            return Ok(None);
        };
        let is_concerned = edit.concerns(&self.case.documents, standing.of, asked);
        let reads = match self.how.reads {
            Reads::None => false,
            Reads::Concerned => is_concerned,
            Reads::All => true,
        };
        Ok(Some(Point {
            group: self.case.group.as_str().into(),
            kind: edit.kind,
            pulled,
            margin: written.min_margin,
            n_tokens: before.tokens.len(),
            read: if reads {
                self.read(standing, after)?
            } else {
                None
            },
            is_concerned,
        }))
    }

    /// What the old answer's regret is; nothing where it has no tokens.
    fn read(
        &self,
        standing: &Standing<'_>,
        after: &PassageLayout,
    ) -> Result<Option<Reading>, CalibrationError> {
        // The old answer as the draft, without words exchanged in it.
        let draft = Before::draft(standing.before.tokens.clone());
        let outcome = self.answer(standing.asked, after, &draft)?;
        Ok(outcome.draft.map(|check| Reading {
            regret: check.regret,
            is_changed: outcome.tokens != standing.before.tokens,
        }))
    }
}

/// What `of` makes of each item, by some threads, in the order of the items; `done` hears how many are. The
/// first failure ends it.
fn in_parallel<'a, T: Sync, U: Send>(
    items: &'a [T],
    done: &mut (dyn FnMut(usize) + Send),
    of: impl Fn(&'a T) -> Result<U, CalibrationError> + Sync,
) -> Result<Vec<U>, CalibrationError> {
    let next = AtomicUsize::new(0);
    type Numbered<U> = Vec<(usize, Result<U, CalibrationError>)>;
    let results = Mutex::new((Numbered::new(), done));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { return };
                    let result = of(item);
                    if result.is_err() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.0.push((i, result));
                    let n_done = results.0.len();
                    (results.1)(n_done);
                }
            });
        }
    });
    let (mut results, _) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}
