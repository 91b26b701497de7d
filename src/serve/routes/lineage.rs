//! `GET /v1/views/{view}/lineage`: what each sentence of an answer leans on.

use std::sync::Arc;

use axum::extract::State;
use perennial_ask::{Evidence, SubParagraph};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::admission::Caller;
use super::super::refusal::{Json, Refusal, RefusalBody};
use super::super::served::Served;
use super::super::tokens::Role;
use super::request::{Named, Params};
use crate::engine::LineagePassage;

/// Passages of a reply.
const MAX_PASSAGES: usize = 1_000;

/// Which answer.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The key of its context.
    key: String,
}

/// An answer and what it leans on.
#[derive(Serialize, ToSchema)]
pub(crate) struct LineageJson {
    view: String,
    key: String,
    /// The epoch of its last refresh.
    epoch: u64,
    question: String,
    text: Option<String>,
    exact: bool,
    /// What tells the scores: attention, leave-one-out (by how many nats a token the sentence is less
    /// likely without the passage) or lexical (rare words that both have).
    #[schema(value_type = String, example = "attention")]
    evidence: Evidence,
    /// How many passages it was written over; null where that is not known.
    passages_read: Option<usize>,
    /// How many passages its context can see now.
    passages_of: Option<usize>,
    /// By sentences.
    sub_paragraphs: Vec<LeaningJson>,
    /// The passages that it was written over, in the order of their layout. Empty where they are not known
    /// any more, as after a restart: then sentences name their strongest documents only.
    passages: Vec<PassageJson>,
    /// How many there are; the first 1,000 are told.
    n_passages: usize,
}

/// A sentence, and what it leans on.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeaningJson {
    /// From 0.
    index: usize,
    text: String,
    /// Most first.
    sources: Vec<LeansOnJson>,
}

/// A passage that a sentence leans on.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeansOnJson {
    document: String,
    /// The passage, counted from 0 in its document.
    ordinal: u32,
    /// Its part of what the sentence leans on, where the answer names it; else 0.
    share: f32,
    /// How much the sentence depends on it. Of attention: that of the question and of the sentence, by how
    /// near the sentence was to being another. Null where it is not known any more.
    score: Option<f32>,
}

/// A passage.
#[derive(Serialize, ToSchema)]
pub(crate) struct PassageJson {
    document: String,
    ordinal: u32,
    title: String,
    /// As the model read it.
    text: String,
    /// Whether a newer document makes it obsolete.
    superseded: bool,
}

/// Tells what each sentence of an answer leans on, with the texts.
#[utoipa::path(
    get,
    path = "/v1/views/{view}/lineage",
    tag = "views",
    params(("view" = String, Path, description = "A view that asks a model"), Which),
    responses(
        (status = 200, description = "What it leans on", body = LineageJson),
        (status = 404, description = "There is no such view, or answer", body = RefusalBody),
        (status = 409, description = "The view has no answers", body = RefusalBody),
    ),
)]
pub(crate) async fn lineage(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(view): Named<String>,
    Params(Which { key }): Params<Which>,
) -> Result<Json<LineageJson>, Refusal> {
    caller.may_of(Role::Read, &view)?;
    // That it is there, and how it is called, is said in the same words everywhere.
    served.feed_for(&caller, &view)?;
    let (name, context) = (view.clone(), key.clone());
    let lineage = served
        .ask(move |engine| engine.lineage(&name, &context))
        .await?;
    let lineage = lineage.ok_or_else(|| {
        let error = format!("`{view}` has no answer under the key `{key}`");
        let hint = format!("GET /v1/views/{view} tells what it holds");
        Refusal::not_found(error, hint)
    })?;
    let parts = lineage.answer.sub_paragraphs.iter().enumerate();
    let parts = parts.map(|(index, part)| LeaningJson {
        index,
        text: part.text.clone(),
        sources: leans_on(part, lineage.scores.get(index), &lineage.passages),
    });
    let passages = lineage.passages.iter().take(MAX_PASSAGES);
    let passages = passages.map(|passage| PassageJson {
        document: passage.document.to_string(),
        ordinal: passage.ordinal,
        title: passage.title.to_string(),
        text: passage.text.to_string(),
        superseded: passage.is_superseded,
    });
    Ok(Json(LineageJson {
        view,
        key,
        epoch: lineage.answer.epoch,
        question: lineage.answer.question.to_string(),
        text: lineage.answer.new_text().map(str::to_owned),
        exact: lineage.answer.is_exact,
        evidence: lineage.answer.evidence,
        passages_read: lineage.answer.passages.map(|passages| passages.read),
        passages_of: lineage.answer.passages.map(|passages| passages.of),
        sub_paragraphs: parts.collect(),
        n_passages: lineage.passages.len(),
        passages: passages.collect(),
    }))
}

fn leans_on(
    part: &SubParagraph,
    scores: Option<&Vec<f32>>,
    passages: &[LineagePassage],
) -> Vec<LeansOnJson> {
    let share = |document: &str, ordinal: u32| {
        let mut named = part.sources.iter();
        let named = named.find(|s| s.document.as_str() == document && s.ordinal == ordinal);
        named.map_or(0.0, |source| source.share)
    };
    let Some(scores) = scores.filter(|_| !passages.is_empty()) else {
        let named = part.sources.iter().map(|source| LeansOnJson {
            document: source.document.to_string(),
            ordinal: source.ordinal,
            share: source.share,
            score: None,
        });
        return named.collect();
    };
    let scored = passages
        .iter()
        .zip(scores)
        .filter(|(_, score)| **score > 0.0);
    let mut leans: Vec<LeansOnJson> = scored
        .flat_map(|(passage, score)| {
            let share = share(&passage.document, passage.ordinal);
            let copies = passage.copies.iter();
            let copies = copies.map(|copy| (copy.document.as_str(), copy.ordinal));
            let all = std::iter::once((&*passage.document, passage.ordinal)).chain(copies);
            all.map(move |(document, ordinal)| LeansOnJson {
                document: document.to_owned(),
                ordinal,
                share,
                score: Some(*score),
            })
        })
        .collect();
    leans.sort_by(|a, b| b.score.unwrap_or(0.0).total_cmp(&a.score.unwrap_or(0.0)));
    leans.truncate(MAX_PASSAGES);
    leans
}
