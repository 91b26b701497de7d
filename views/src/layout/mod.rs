//! Which passages does each context's answer stand over, and in which order?
//!
//! ```text
//! passages --+-> corpus: all of a group, while they fit the budget --+
//!            |                                                      +-> a request a context
//!            +-> embedded -> select per context, once they do not ---+
//! contexts --+-> embedded ---^
//! ```
//! Passages and contexts carry a *group* and meet within it only: a context sees the
//! passages of its own group. Nothing is embedded while a group's passages fit; when they
//! no longer do, they flow into the embedding calls, and out of them again should they fit
//! once more.
//!
//! A group that fits is read whole; of what is selected, passages with one title and text are read once, and
//! the layout names the documents of all of them.
//!
//! What this does not do: it does not say what a group is. A view without one gives every
//! row the group `()`.

mod corpus;
mod cuts;
mod passages;
mod selected;
mod shelf;

use std::hash::Hash;
use std::sync::Arc;

use differential_dataflow::{ExchangeData, VecCollection};
use perennial_ask::{Answer, CallError};
use perennial_bank::{ContextKey, LayoutPassage, Passage, PassageCopy, PassageLayout};
use perennial_operators::select::Selected;

pub(crate) use passages::{current, passages, superseded};
pub use shelf::PassageShelf;

use crate::calls::Request;
use crate::dataflow::{Epoch, Services};
use crate::plan::Plan;
use crate::view::Order;

type Rows<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// What a passage and a context share if they are to meet.
pub(crate) trait Group: ExchangeData + Hash {}
impl<T: ExchangeData + Hash> Group for T {}

/// A context and its question.
pub(crate) type Question = (ContextKey, Arc<str>);

/// The outcome for each context.
pub(crate) struct LaidOut<'scope, G: Group> {
    /// Contexts with the layout that they are to be answered over: empty only where the view answers
    /// without documents.
    pub(crate) requests: Rows<'scope, Request>,
    /// Answers of contexts that have nothing to be answered from, or could not be embedded: errors.
    pub(crate) failed: Rows<'scope, (ContextKey, Answer)>,
    /// How many passages there are of each group that is too large to be read whole; those with one title
    /// and text, equally in force, count once.
    pub(crate) n_passages: Rows<'scope, (G, isize)>,
}

/// Lays passages out for contexts, each within its group.
pub(crate) fn lay_out<'scope, G: Group>(
    plan: &Arc<Plan>,
    passages: Rows<'scope, (G, Passage)>,
    contexts: Rows<'scope, (G, Question)>,
    services: &Services,
) -> LaidOut<'scope, G> {
    let order = plan.order;
    let corpus = corpus::corpus(
        passages,
        contexts.clone().map(|(group, _)| group),
        plan.token_budget,
        move |passages| ordered(order, passages.iter().copied()),
    );
    let contexts = contexts.arrange_by_key();
    let layouts = corpus.layouts.arrange_by_key();
    let whole = contexts
        .clone()
        .join_core(layouts, |_group, question, layout| {
            Some(request(question.clone(), layout.clone()))
        });
    let asking = contexts.join_core(corpus.too_large, |group, question, ()| {
        Some((group.clone(), question.clone()))
    });
    let different = corpus.passages.clone();
    let different = different.map(|(group, passage)| (group, (passage.id, passage.is_superseded)));
    let n_passages = different.distinct().map(|(group, _)| group).count();
    let (selected, failed) = selected::selected(plan, corpus.passages, asking, services);
    let (whole, without) = over_documents(plan, whole, CallError::NoDocuments);
    let budget = plan.token_budget;
    let (selected, unfit) = over_documents(plan, selected, CallError::NothingFits { budget });
    LaidOut {
        requests: whole.concat(selected),
        failed: failed.concatenate([without, unfit]),
        n_passages,
    }
}

/// Requests that have something to be answered from, and the error of each that has not.
fn over_documents<'scope>(
    plan: &Plan,
    requests: Rows<'scope, Request>,
    otherwise: CallError,
) -> (Rows<'scope, Request>, Rows<'scope, (ContextKey, Answer)>) {
    let answers_all = plan.answers_without_documents;
    let is_answered = move |request: &Request| answers_all || !request.layout.passages().is_empty();
    let failed = requests
        .clone()
        .filter(move |request| !is_answered(request));
    let failed = failed.map(move |request| (request.context, Err(otherwise.clone())));
    (requests.filter(is_answered), failed)
}

fn request((context, question): Question, layout: PassageLayout) -> Request {
    Request {
        context,
        question,
        layout,
    }
}

/// Documents that are named beside the one in which a passage is read, at most: the first by their keys.
const MAX_COPIES: usize = 255;

/// The layout of these passages.
fn ordered<'a>(
    order: Order,
    passages: impl IntoIterator<Item = impl Into<Selected<'a, Passage>>>,
) -> PassageLayout {
    let passages = passages.into_iter().map(Into::into);
    let mut passages: Vec<Selected<'_, Passage>> = passages.collect();
    passages.sort_by(
        |Selected { candidate: a, .. }, Selected { candidate: b, .. }| {
            let by_key = || a.document.cmp(&b.document).then(a.ordinal.cmp(&b.ordinal));
            match order {
                Order::UpdatedAt => a.updated_at_ms.cmp(&b.updated_at_ms).then_with(by_key),
                Order::Key => by_key(),
            }
        },
    );
    let laid_out = |of: Selected<'_, Passage>| {
        let copies = of.copies.into_iter().take(MAX_COPIES);
        LayoutPassage {
            copies: copies.map(PassageCopy::from).collect(),
            ..LayoutPassage::from(of.candidate)
        }
    };
    PassageLayout::new(passages.into_iter().map(laid_out).collect())
}
