//! Which passages matter most to each context of a group that is too large?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use perennial_ask::{Answer, CallError};
use perennial_bank::{ContextKey, Passage};
use perennial_operators::call::call;
use perennial_operators::select::{Limits, RESERVE, SelectWork, Vector, select};

use super::{Group, Question, Rows, ordered, request};
use crate::calls::Request;
use crate::dataflow::Services;
use crate::embeddings::{EmbedCalls, EmbedCount, EmbedText, Embedded};
use crate::plan::Plan;
use crate::view::Delivery;

/// Texts that each worker of a view has the embedder see at a time: enough to fill the
/// batches of a few threads.
const MAX_EMBEDDINGS_IN_FLIGHT: usize = 1024;
/// How many budgets of passages are looked at to fill one.
const WINDOWS: usize = 2;

/// Requests over selected passages, and answers for contexts that could not be embedded.
pub(super) fn selected<'scope, G: Group>(
    plan: &Arc<Plan>,
    passages: Rows<'scope, (G, Passage)>,
    contexts: Rows<'scope, (G, Question)>,
    services: &Services,
) -> (Rows<'scope, Request>, Rows<'scope, (ContextKey, Answer)>) {
    let count = Arc::new(EmbedCount::default());
    let embed = |texts: Rows<'scope, EmbedText>, name: &str| {
        let asked = count.clone();
        let texts = texts.distinct().inspect(move |(_, _, diff)| {
            if *diff > 0 {
                asked.n_asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let calls = EmbedCalls {
            embeddings: services.embeddings.clone(),
            count: count.clone(),
            view: plan.name.clone(),
            observer: services.observer.clone(),
            uses: Default::default(),
            overlaps: plan.delivery == Delivery::Each,
        };
        call(texts, name, MAX_EMBEDDINGS_IN_FLIGHT, calls)
    };
    // One that is larger than the budget is read by nobody.
    let budget = plan.token_budget;
    let passages = passages.filter(move |(_, passage)| passage.tokens.len() <= budget);
    let embedder = services.embeddings.digest();
    let by_text = passages.map(move |(group, passage)| {
        let text = EmbedText::titled(&embedder, &passage.title, &passage.text);
        (text, (group, passage))
    });
    let vectors = embed(by_text.clone().map(|(text, _)| text), "EmbedPassages");
    let embedded = by_text
        .join_map(vectors, |_, (group, passage), vector: &Embedded| {
            let vector: Vector = vector.clone().ok()?;
            Some((group.clone(), passage.clone(), vector))
        })
        .flat_map(|embedded| embedded);

    let by_question = contexts.map(move |(group, (context, question))| {
        let text = EmbedText::plain(&embedder, &question);
        (text, (group, (context, question)))
    });
    let vectors = embed(by_question.clone().map(|(text, _)| text), "EmbedContexts");
    let asked = by_question.join_map(vectors, |_, (group, question), vector: &Embedded| {
        (group.clone(), question.clone(), vector.clone())
    });
    let failed = asked.clone().flat_map(|(_, (context, _), vector)| {
        let reason = vector.err()?;
        Some((context, Err(CallError::Model { reason })))
    });
    let asked = asked.flat_map(|(group, question, vector)| Some((group, question, vector.ok()?)));

    let limits = Limits {
        budget: plan.token_budget,
        window: plan.token_budget.saturating_mul(WINDOWS),
        reserve: RESERVE,
    };
    let order = plan.order;
    let layouts = select(
        embedded,
        asked,
        limits,
        Arc::new(SelectWork::default()),
        move |selected| ordered(order, selected.iter().cloned()),
    );
    let requests = layouts.map(|(question, layout)| request(question, layout));
    (requests, failed)
}
