//! Which JSON stands for what a server says, besides what programs read elsewhere, too
//! ([`json`](crate::json))?
//!
//! Fields are promised in `docs/serve.md`; new ones may come, none goes.

use perennial_ask::{Evidence, Rung, Source, SubParagraph};
use perennial_rows::Schema;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::{
    AnswerUpdate, ChangeKind, CurrentAnswer, EpochStart, EpochSummary, RungCounts,
};
use crate::json;
pub(super) use crate::json::{WorkJson, milliseconds, row};

/// A column.
#[derive(Serialize, ToSchema)]
pub struct ColumnJson {
    /// Its name.
    name: String,
    /// `TEXT`, `INTEGER`, … or `ANY`.
    r#type: String,
}

pub(super) fn columns(schema: &Schema) -> Vec<ColumnJson> {
    let columns = schema.columns().iter().map(|column| ColumnJson {
        name: column.name.to_string(),
        r#type: column.of.to_string(),
    });
    columns.collect()
}

/// Refreshes by how they were served.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct RungsJson {
    keep: usize,
    verify: usize,
    rewrite: usize,
    regenerate: usize,
    skip: usize,
    patch: usize,
    append: usize,
    failed: usize,
}

impl From<&RungCounts> for RungsJson {
    fn from(counts: &RungCounts) -> Self {
        let RungCounts {
            keep,
            verify,
            rewrite,
            regenerate,
            skip,
            patch,
            append,
            failed,
        } = *counts;
        Self {
            keep,
            verify,
            rewrite,
            regenerate,
            skip,
            patch,
            append,
            failed,
        }
    }
}

/// A passage that a sentence leans on.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct SourceJson {
    /// The document.
    document: String,
    /// Its passage, counted from 0.
    ordinal: u32,
    /// The part of the attention to passages that went to this one.
    share: f32,
}

impl From<&Source> for SourceJson {
    fn from(source: &Source) -> Self {
        Self {
            document: source.document.to_string(),
            ordinal: source.ordinal,
            share: source.share,
        }
    }
}

/// A sentence or list item of an answer.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct SubParagraphJson {
    /// As it stands in the answer.
    text: String,
    /// What it leans on, strongest first.
    sources: Vec<SourceJson>,
}

impl From<&SubParagraph> for SubParagraphJson {
    fn from(part: &SubParagraph) -> Self {
        Self {
            text: part.text.clone(),
            sources: part.sources.iter().map(SourceJson::from).collect(),
        }
    }
}

/// An answer as it stands.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct AnswerJson {
    /// The key of its context.
    pub(super) key: String,
    /// The text of its context.
    pub(super) question: String,
    /// The epoch in which it came to be as it is.
    pub(super) epoch: u64,
    /// The answer; null where there is an error, or none any more.
    pub(super) text: Option<String>,
    /// Why there is no answer.
    pub(super) error: Option<String>,
    /// `stop` or `length`.
    #[schema(example = "stop")]
    pub(super) finish: Option<&'static str>,
    /// How it was reached: keep, skip, patch, verify, append, rewrite or
    /// regenerate.
    #[schema(value_type = String, example = "regenerate")]
    pub(super) rung: Rung,
    /// Whether a run from nothing gives the same.
    pub(super) exact: bool,
    /// Whether a model said it that promises no same words.
    pub(super) memoised: bool,
    /// Of one that is not exact: the part of its attention that went to what is stale.
    pub(super) drift: f32,
    /// By how much another answer was likelier, in nats a token.
    pub(super) regret: f32,
    /// How many passages it was written over; null of an error, and where that is not known.
    pub(super) passages_read: Option<usize>,
    /// How many passages its context could see: more than were read where these exceed the view's token
    /// budget.
    pub(super) passages_of: Option<usize>,
    /// By sentences, with what each leans on.
    pub(super) sub_paragraphs: Vec<SubParagraphJson>,
    /// What tells that: attention, leave-one-out or lexical; null of an earlier epoch.
    #[schema(value_type = Option<String>, example = "attention")]
    pub(super) evidence: Option<Evidence>,
    /// What its last refresh cost.
    pub(super) work: WorkJson,
    /// How long that took.
    pub(super) elapsed_ms: u64,
}

impl AnswerJson {
    /// An answer that became what it is in an epoch.
    pub(super) fn of(update: &AnswerUpdate, epoch: u64) -> Self {
        let (mut text, mut error, mut finish) = (None, None, None);
        match &update.new {
            Some(Ok(answer)) => {
                text = Some(answer.text.to_string());
                finish = Some(json::finish(answer.finish));
            }
            Some(Err(reason)) => error = Some(reason.to_string()),
            None => {}
        }
        Self {
            key: update.context.to_string(),
            question: update.question.to_string(),
            epoch,
            text,
            error,
            finish,
            rung: update.rung,
            exact: update.is_exact,
            memoised: update.is_memoised,
            drift: update.drift,
            regret: update.regret,
            passages_read: update.passages.map(|passages| passages.read),
            passages_of: update.passages.map(|passages| passages.of),
            sub_paragraphs: update
                .sub_paragraphs
                .iter()
                .map(SubParagraphJson::from)
                .collect(),
            evidence: Some(update.evidence),
            work: WorkJson::from(&update.work),
            elapsed_ms: milliseconds(update.elapsed),
        }
    }
}

impl AnswerJson {
    /// One of an earlier epoch, as it was stored.
    pub(super) fn held(key: &str, question: String, answer: &CurrentAnswer) -> Self {
        let text = answer.answer.as_ref().ok();
        Self {
            key: key.to_owned(),
            question,
            epoch: answer.epoch,
            text: text.map(|answer| answer.text.to_string()),
            error: answer.answer.as_ref().err().map(ToString::to_string),
            finish: text.map(|answer| json::finish(answer.finish)),
            rung: answer.rung,
            exact: answer.drift.is_none() && !answer.is_memoised,
            memoised: answer.is_memoised,
            drift: answer.drift.unwrap_or(0.0),
            regret: answer.regret,
            passages_read: answer.passages.map(|passages| passages.read),
            passages_of: answer.passages.map(|passages| passages.of),
            sub_paragraphs: answer
                .sub_paragraphs
                .iter()
                .map(SubParagraphJson::from)
                .collect(),
            // What is stored does not say which kind of model it was.
            evidence: None,
            work: WorkJson::from(&answer.work),
            elapsed_ms: milliseconds(answer.elapsed),
        }
    }
}

/// Sentences of an old answer that gave way to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct PatchJson {
    /// The first of them, counted in those of the old answer.
    pub(super) at: usize,
    /// What stood there.
    pub(super) old: Vec<String>,
    /// What stands there now.
    pub(super) new: Vec<String>,
}

/// An answer that is told of.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct AnswerEventJson {
    /// The answer.
    #[serde(flatten)]
    pub(super) answer: AnswerJson,
    /// `new`, `changed`, `stands` or `gone`.
    pub(super) change: &'static str,
    /// The epoch of the answer that `changed` is a patch of.
    pub(super) since: Option<u64>,
    /// The same as `text`, as what differs from the answer as of `since`.
    pub(super) changed: Option<Vec<PatchJson>>,
    /// Whether its epoch is not complete: it is told again when it is.
    pub(super) early: bool,
}

impl AnswerEventJson {
    /// What became of an answer in an epoch; before, it was as it became in `since`.
    pub(super) fn of(update: &AnswerUpdate, epoch: u64, since: Option<u64>) -> Self {
        let texts = since.and(update.old_text().zip(update.new_text()));
        Self {
            answer: AnswerJson::of(update, epoch),
            change: match update.kind() {
                ChangeKind::New => "new",
                ChangeKind::Changed => "changed",
                ChangeKind::Stands => "stands",
                ChangeKind::Gone => "gone",
            },
            since: texts.and(since),
            changed: texts.map(|(old, new)| patch(old, new)),
            early: update.is_early,
        }
    }
}

/// What differs between two answers, by sentences.
pub(super) fn patch(old: &str, new: &str) -> Vec<PatchJson> {
    let cut = |text| {
        let ranges = perennial_ask::provenance::sub_paragraphs(text);
        ranges.into_iter().map(|range| &text[range]).collect()
    };
    let (old, new): (Vec<&str>, Vec<&str>) = (cut(old), cut(new));
    let diff = similar::capture_diff_slices(similar::Algorithm::Myers, &old, &new);
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    let patches = diff.iter().filter_map(|of| {
        let (tag, before, after) = of.as_tag_tuple();
        let is_kept = tag == similar::DiffTag::Equal;
        (!is_kept).then(|| PatchJson {
            at: before.start,
            old: owned(&old[before]),
            new: owned(&new[after]),
        })
    });
    patches.collect()
}

/// An epoch of a view, complete.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct SummaryJson {
    /// The epoch.
    pub(super) epoch: u64,
    /// Answers, or rows, that differ.
    pub(super) n_changes: usize,
    /// How its contexts were served.
    pub(super) rungs: RungsJson,
    /// Work of all its refreshes.
    pub(super) work: WorkJson,
    /// Tokens that a run from nothing would forward.
    pub(super) rerun: usize,
    /// Contexts that were read by the model.
    pub(super) n_read: usize,
    /// All contexts.
    pub(super) n_answers: usize,
    /// From its closing to its completion.
    pub(super) elapsed_ms: u64,
}

impl SummaryJson {
    pub(super) fn of(summary: &EpochSummary, n_changes: usize) -> Self {
        let counts = &summary.rungs;
        let n_read = counts.n_read() + counts.failed;
        Self {
            epoch: summary.epoch,
            n_changes,
            rungs: RungsJson::from(counts),
            work: WorkJson::from(&summary.work),
            rerun: summary.n_rerun,
            n_read,
            n_answers: n_read + counts.keep + counts.skip,
            elapsed_ms: milliseconds(summary.elapsed),
        }
    }
}

/// An epoch that begins.
pub(super) fn started(start: &EpochStart) -> Value {
    serde_json::json!({
        "epoch": start.epoch,
        "documents": start.changes,
        "n_changes": start.n_changes,
        "n_healed": start.n_healed,
        "n_documents": start.n_documents,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(old: &str, patches: &[PatchJson]) -> String {
        let ranges = perennial_ask::provenance::sub_paragraphs(old);
        let mut parts: Vec<String> = ranges.into_iter().map(|r| old[r].to_owned()).collect();
        for patch in patches.iter().rev() {
            let end = patch.at + patch.old.len();
            assert_eq!(parts[patch.at..end], patch.old[..]);
            parts.splice(patch.at..end, patch.new.iter().cloned());
        }
        parts.concat()
    }

    #[test]
    fn a_patch_makes_the_new_answer_of_the_old() {
        let old = "We open at nine. On Sundays at noon. Tickets cost 4 euros.";
        for new in [
            "We open at ten. On Sundays at noon. Tickets cost 4 euros.",
            "On Sundays at noon.",
            "We open at nine. We close at six. On Sundays at noon. Tickets cost 5 euros.",
            "",
            old,
        ] {
            let patches = patch(old, new);
            assert_eq!(applied(old, &patches), new);
            assert_eq!(patches.is_empty(), old == new);
        }
        let one = patch(
            old,
            "We open at ten. On Sundays at noon. Tickets cost 4 euros.",
        );
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].at, one[0].old.len()), (0, 1));
    }
}
