//! From a plan to operators.
//!
//! ```text
//! documents -> passages -+-> corpus: all of them, while they fit the budget -+
//!                        |                                                   +-> layout per context
//!                        +-> embedded -> select per context, once they do not -+        |
//! contexts --------------+-> embedded ---^                                              v
//!                        +--------------------------------------------> staged -> generate -> answers
//!                                                                          dependencies <-+
//! healed (requests whose exact answer is wanted) -----------------------^
//!                                                          layouts -> fragment ids, arranged
//! ```
//! Passages of documents that newer ones supersede are taken out, or marked, before all this.
//! Nothing is embedded while the documents fit; when they no longer do, the passages flow
//! into the embedding call, and out of it again should they fit once more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use differential_dataflow::{AsCollection, VecCollection};
use perennial_ask::{Answer, AnswerModel, CallError, Dependency, Embed, Executor};
use perennial_bank::fragment_store::ViewReferences;
use perennial_bank::{
    ContextKey, Document, DocumentKey, LayoutPassage, Passage, PassageId, PassageLayout, passage,
};
use perennial_operators::call::call;
use perennial_operators::select::{Vector, select};
use serde::{Deserialize, Serialize};
use timely::dataflow::Scope as Dataflow;
use timely::dataflow::operators::ToStream;

use crate::calls::{
    ContextBook, EmbedCalls, EmbedCount, Embedded, GenerateCalls, Observer, Request, Stage, Staged,
};
use crate::memo::{Memo, RequestDigest};
use crate::plan::Plan;
use crate::view::{Order, Policy};

/// The logical time at which a set of deltas becomes visible.
pub type Epoch = u64;

/// Answer calls of one view that are handed to the executor at a time by each worker.
const MAX_ANSWERS_IN_FLIGHT: usize = 64;
/// Likewise for texts to embed.
const MAX_EMBEDDINGS_IN_FLIGHT: usize = 256;

/// What a view runs on.
#[derive(Clone)]
pub struct Services {
    /// Writes the answers.
    pub model: Arc<dyn AnswerModel>,
    /// Hears which fragments layouts refer to. `None` for a model without tensors.
    pub references: Option<Arc<ViewReferences>>,
    /// Embeds passages and contexts where documents exceed the budget.
    pub embedder: Arc<dyn Embed>,
    /// Runs the model calls.
    pub model_executor: Arc<Executor>,
    /// Runs the embedding calls.
    pub embed_executor: Arc<Executor>,
    /// What is known of this view's last answers.
    pub book: Arc<ContextBook>,
    /// Asked before a model is.
    pub memo: Arc<dyn Memo>,
    /// Hears of calls.
    pub observer: Arc<dyn Observer>,
}

type Rows<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// All passages, while they fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Corpus {
    Fits(PassageLayout),
    ExceedsBudget,
}

/// A built view.
pub struct Built<'scope> {
    /// One answer for each context.
    pub answers: VecCollection<'scope, Epoch, (ContextKey, Answer), isize>,
    /// Which sub-paragraphs of present answers depend on which passages.
    pub dependencies: Rows<'scope, Dependency>,
    /// Empty; its frontier passes an epoch when the store has heard of all its references.
    pub references: VecCollection<'scope, Epoch, (), isize>,
}

/// Builds a view over its two streams, and the requests whose exact answer is wanted (which
/// only a view that may answer provisionally reads).
///
/// # Contract
/// An epoch is complete when the frontiers of both outputs have passed it.
pub fn build<'scope>(
    scope: Dataflow<'scope, Epoch>,
    plan: &Arc<Plan>,
    documents: Rows<'scope, Document>,
    contexts: Rows<'scope, (ContextKey, Arc<str>)>,
    healed: Rows<'scope, (ContextKey, RequestDigest)>,
    services: &Services,
) -> Built<'scope> {
    let superseded = superseded(documents.clone());
    let passages = current(plan, passages(plan, documents, services), superseded);
    let corpus = corpus(scope, plan, passages.clone());
    let (whole, mut failed) = (whole_corpus(corpus.clone(), contexts.clone()), None);
    let exceeds = corpus
        .filter(|corpus| *corpus == Corpus::ExceedsBudget)
        .map(|_| ());
    let selected = {
        let gate = exceeds.map(|()| ((), ()));
        let passages = passages
            .map(|p| ((), p))
            .join_map(gate.clone(), |(), p, ()| p.clone());
        let contexts = contexts
            .map(|c| ((), c))
            .join_map(gate, |(), c, ()| c.clone());
        let (selected, errors) = selected(plan, passages, contexts, services);
        failed.replace(errors);
        selected
    };
    let requests = whole.concat(selected);
    let references = refer(plan, requests.clone(), services);
    let calls = GenerateCalls {
        plan: plan.clone(),
        model: services.model.clone(),
        book: services.book.clone(),
        memo: services.memo.clone(),
        executor: services.model_executor.clone(),
        observer: services.observer.clone(),
    };
    let staged = staged(plan, requests, healed, services);
    let generated = call(staged, "LlmGenerate", MAX_ANSWERS_IN_FLIGHT, calls);
    let dependencies = generated
        .clone()
        .flat_map(|(_, generated)| generated.dependencies.to_vec());
    let answers = generated.map(|(staged, generated)| (staged.request.context, generated.answer));
    let answers = match failed {
        Some(errors) => answers.concat(errors),
        None => answers,
    };
    // An answer equal to the one before is no delta.
    Built {
        answers: answers.consolidate(),
        dependencies,
        references,
    }
}

/// Which answer each request is to get.
fn staged<'scope>(
    plan: &Arc<Plan>,
    requests: Rows<'scope, Request>,
    healed: Rows<'scope, (ContextKey, RequestDigest)>,
    services: &Services,
) -> Rows<'scope, Staged> {
    let at = |stage| move |request| Staged { request, stage };
    if plan.policy == Policy::Exact {
        return requests.map(at(Stage::Exact));
    }
    let (model, plan) = (services.model.digest(), plan.clone());
    let keyed = requests.map(move |request| {
        let digest = RequestDigest::of(&model, &plan, &request);
        ((request.context.clone(), digest), request)
    });
    let exact = keyed.clone().semijoin(healed.clone());
    let provisional = keyed.antijoin(healed);
    exact
        .map(|(_, request)| request)
        .map(at(Stage::Exact))
        .concat(
            provisional
                .map(|(_, request)| request)
                .map(at(Stage::Provisional)),
        )
}

fn passages<'scope>(
    plan: &Arc<Plan>,
    documents: Rows<'scope, Document>,
    services: &Services,
) -> Rows<'scope, Passage> {
    let (plan, services) = (plan.clone(), services.clone());
    documents.flat_map(move |document| {
        let passage = |(text, ordinal): (&str, u32)| {
            let tokens = match services.model.passage_tokens(&document.title, text) {
                Ok(tokens) => tokens.into(),
                Err(reason) => {
                    services.observer.passed_over(&plan.name, text, &reason);
                    return None;
                }
            };
            Some(Passage {
                document: document.key.clone(),
                ordinal,
                updated_at_ms: document.updated_at_ms,
                id: PassageId::of(&document.title, text),
                title: document.title.clone(),
                text: text.into(),
                tokens,
                is_superseded: false,
            })
        };
        let texts = passage::split(&document.text, plan.passage_sizes);
        texts
            .into_iter()
            .zip(0..)
            .filter_map(passage)
            .collect::<Vec<_>>()
    })
}

/// Keys of documents that a newer one makes obsolete. Newer is by time, then by key: so there
/// are no circles, and the newest of any documents that supersede one another stands.
fn superseded<'scope>(documents: Rows<'scope, Document>) -> Rows<'scope, DocumentKey> {
    let age = |document: &Document| (document.updated_at_ms, document.key.clone());
    let edges = documents.clone().flat_map(move |document| {
        let newer = age(&document);
        let edge = |old: &DocumentKey| (old.clone(), newer.clone());
        document.supersedes.iter().map(edge).collect::<Vec<_>>()
    });
    let ages = documents.map(move |document| (document.key.clone(), age(&document)));
    edges
        .join_map(ages, |old, newer, older| {
            (newer > older).then(|| old.clone())
        })
        .flat_map(|old| old)
        .distinct()
}

/// The passages with those of superseded documents marked, or taken out.
fn current<'scope>(
    plan: &Arc<Plan>,
    passages: Rows<'scope, Passage>,
    superseded: Rows<'scope, DocumentKey>,
) -> Rows<'scope, Passage> {
    let by_document = passages.map(|passage| (passage.document.clone(), passage));
    let current = by_document
        .clone()
        .antijoin(superseded.clone())
        .map(|(_, passage)| passage);
    if plan.superseded.takes_out() {
        return current;
    }
    let marked = by_document
        .semijoin(superseded)
        .map(|(_, passage)| Passage {
            is_superseded: true,
            ..passage
        });
    current.concat(marked)
}

fn layout(order: Order, mut passages: Vec<&Passage>) -> PassageLayout {
    passages.sort_by(|a, b| {
        let by_key = || a.document.cmp(&b.document).then(a.ordinal.cmp(&b.ordinal));
        match order {
            Order::UpdatedAt => a.updated_at_ms.cmp(&b.updated_at_ms).then_with(by_key),
            Order::Key => by_key(),
        }
    });
    PassageLayout::new(passages.into_iter().map(LayoutPassage::from).collect())
}

/// One row: the layout of everything, or that everything is too much. Gathering reads the
/// passages' rows once an epoch; it calls nothing.
fn corpus<'scope>(
    scope: Dataflow<'scope, Epoch>,
    plan: &Arc<Plan>,
    passages: Rows<'scope, Passage>,
) -> Rows<'scope, Corpus> {
    // A row that is always there, so that no documents are a corpus as well.
    let marker = (scope.index() == 0).then_some((((), None), 0, 1));
    let marker = marker
        .to_stream(scope)
        .container::<Vec<_>>()
        .as_collection();
    let (order, budget) = (plan.order, plan.token_budget);
    passages
        .map(|passage| ((), Some(passage)))
        .concat(marker)
        .reduce(move |(), rows, output| {
            let passages: Vec<&Passage> = rows.iter().filter_map(|(p, _)| p.as_ref()).collect();
            let n_tokens: usize = passages.iter().map(|p| p.tokens.len()).sum();
            let corpus = if n_tokens <= budget {
                Corpus::Fits(layout(order, passages))
            } else {
                Corpus::ExceedsBudget
            };
            output.push((corpus, 1));
        })
        .map(|((), corpus)| corpus)
}

fn whole_corpus<'scope>(
    corpus: Rows<'scope, Corpus>,
    contexts: Rows<'scope, (ContextKey, Arc<str>)>,
) -> Rows<'scope, Request> {
    let layouts = corpus.flat_map(|corpus| match corpus {
        Corpus::Fits(layout) => Some(((), layout)),
        Corpus::ExceedsBudget => None,
    });
    contexts
        .map(|context| ((), context))
        .join_map(layouts, |(), (context, question), layout| Request {
            context: context.clone(),
            question: question.clone(),
            layout: layout.clone(),
        })
}

/// Requests over selected passages, and answers for contexts that could not be embedded.
fn selected<'scope>(
    plan: &Arc<Plan>,
    passages: Rows<'scope, Passage>,
    contexts: Rows<'scope, (ContextKey, Arc<str>)>,
    services: &Services,
) -> (Rows<'scope, Request>, Rows<'scope, (ContextKey, Answer)>) {
    let count = Arc::new(EmbedCount::default());
    let embed = |texts: Rows<'scope, Arc<str>>, name: &str| {
        let asked = count.clone();
        let texts = texts.distinct().inspect(move |(_, _, diff)| {
            if *diff > 0 {
                asked.n_asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let calls = EmbedCalls {
            count: count.clone(),
            view: plan.name.clone(),
            embedder: services.embedder.clone(),
            memo: services.memo.clone(),
            executor: services.embed_executor.clone(),
            observer: services.observer.clone(),
        };
        call(texts, name, MAX_EMBEDDINGS_IN_FLIGHT, calls)
    };
    let by_text = passages.map(|p| (Arc::<str>::from(format!("{}\n{}", p.title, p.text)), p));
    let vectors = embed(by_text.clone().map(|(text, _)| text), "EmbedPassages");
    let embedded = by_text
        .join_map(vectors, |_, passage, vector| {
            (passage.clone(), vector.clone())
        })
        .flat_map(|(passage, vector)| vector.ok().map(|vector| (passage, vector)));

    let by_question = contexts
        .clone()
        .map(|(context, question)| (question, context));
    let vectors = embed(
        by_question.clone().map(|(question, _)| question),
        "EmbedContexts",
    );
    let asked = by_question.join_map(vectors, |_, context, vector: &Embedded| {
        (context.clone(), vector.clone())
    });
    let errors = asked.clone().flat_map(|(context, vector)| {
        let reason = vector.err()?;
        Some((context, Err(CallError::Model { reason })))
    });
    let asked = asked.flat_map(|(context, vector)| {
        let vector: Vector = vector.ok()?;
        Some((context, vector))
    });
    let order = plan.order;
    let empty = asked.clone().map(|(context, _)| (context, None));
    let layouts = select(embedded, asked, plan.token_budget)
        .map(|(context, passage)| (context, Some(passage)))
        .concat(empty)
        .reduce(move |_context, rows, output| {
            let passages = rows.iter().filter_map(|(p, _)| p.as_ref()).collect();
            output.push((layout(order, passages), 1));
        });
    let requests = contexts.join_map(layouts, |context, question, layout| Request {
        context: context.clone(),
        question: question.clone(),
        layout: layout.clone(),
    });
    (requests, errors)
}

/// Arranges the ids of the fragments that layouts need; the multiplicities are the store's
/// reference counts.
fn refer<'scope>(
    plan: &Arc<Plan>,
    requests: Rows<'scope, Request>,
    services: &Services,
) -> Rows<'scope, ()> {
    let (scope, model) = (plan.scope, services.model.clone());
    let references = services.references.clone();
    requests
        .map(|request| request.layout)
        .distinct()
        .flat_map(move |layout| model.fragment_ids(scope, layout.passages()))
        .consolidate()
        .inspect(move |(id, _epoch, diff)| {
            if let Some(references) = &references {
                references.add(*id, *diff);
            }
        })
        .filter(|_| false)
        .map(|_| ())
}
