//! From a plan to operators.
//!
//! ```text
//! documents -> passages -+
//!                        +-> layout per context -+-> staged -> generate -> answers
//! contexts --------------+                       |      ^         +-> dependencies
//! healed (requests whose exact answer is wanted) ------+
//!                                                +-> fragment ids, arranged
//! ```
//! Passages of documents that newer ones supersede are taken out, or marked, before all this.
//! Which passages a context's layout has is the business of the folder `layout`.

use std::sync::Arc;

use differential_dataflow::VecCollection;
use perennial_ask::{Answer, AnswerModel, Dependency, Executor};
use perennial_bank::fragment_store::ViewReferences;
use perennial_bank::{ContextKey, Document};
use perennial_operators::call::call;
use perennial_rows::Tuple;

use crate::agenda::Agenda;
use crate::calls::{ContextBook, GenerateCalls, Observer, Request, Stage, Staged};
use crate::embeddings::Embeddings;
use crate::layout::{LaidOut, PassageShelf, current, lay_out, passages, superseded};
use crate::memo::{Memo, RequestDigest};
use crate::plan::Plan;
use crate::rerun::Rerun;
use crate::view::{Delivery, Policy};

/// The logical time at which a set of deltas becomes visible.
pub type Epoch = u64;

/// Answer calls of one view that are handed to the executor at a time by each worker.
const MAX_ANSWERS_IN_FLIGHT: usize = 64;

/// What a view runs on.
#[derive(Clone)]
pub struct Services {
    /// Writes the answers.
    pub model: Arc<dyn AnswerModel>,
    /// Hears which fragments layouts refer to. `None` for a model without tensors.
    pub references: Option<Arc<ViewReferences>>,
    /// Texts and tokens of passages; shared by all views.
    pub shelf: Arc<PassageShelf>,
    /// Embeds passages and contexts where documents exceed the budget; shared by all views.
    pub embeddings: Arc<Embeddings>,
    /// Runs the model calls.
    pub model_executor: Arc<Executor>,
    /// What is known of this view's last answers.
    pub book: Arc<ContextBook>,
    /// What of this view waits for a model, where newer edits overtake.
    pub agenda: Arc<Agenda>,
    /// What a run from nothing would cost.
    pub rerun: Arc<Rerun>,
    /// Asked before a model is.
    pub memo: Arc<dyn Memo>,
    /// Hears of calls.
    pub observer: Arc<dyn Observer>,
}

type Rows<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// A built view.
pub struct Built<'scope> {
    /// One answer for each context.
    pub answers: VecCollection<'scope, Epoch, (ContextKey, Answer), isize>,
    /// Which sub-paragraphs of present answers depend on which passages.
    pub dependencies: Rows<'scope, Dependency>,
    /// Empty; its frontier passes an epoch when the store has heard of all its references.
    pub references: VecCollection<'scope, Epoch, (), isize>,
    /// How many passages there are for contexts with these values, where not all of them are read: one row
    /// for each group that exceeds the budget.
    pub n_passages: VecCollection<'scope, Epoch, (Tuple, isize), isize>,
}

/// Builds a view over its two streams, each row with the values by which documents and contexts
/// meet, and the requests whose exact answer is wanted (which only a view that may answer
/// provisionally reads).
///
/// # Contract
/// An epoch is complete when the frontiers of all outputs have passed it.
pub fn build<'scope>(
    plan: &Arc<Plan>,
    documents: Rows<'scope, (Tuple, Document)>,
    contexts: Rows<'scope, (Tuple, (ContextKey, Arc<str>))>,
    healed: Rows<'scope, (ContextKey, RequestDigest)>,
    services: &Services,
) -> Built<'scope> {
    let superseded = superseded(documents.clone().map(|(_, document)| document));
    let passages = current(plan, passages(plan, documents, services), superseded);
    let LaidOut {
        requests,
        failed,
        n_passages,
    } = lay_out(plan, passages, contexts, services);
    let references = refer(plan, requests.clone(), services);
    let calls = GenerateCalls {
        plan: plan.clone(),
        model: services.model.clone(),
        book: services.book.clone(),
        memo: services.memo.clone(),
        executor: services.model_executor.clone(),
        agenda: services.agenda.clone(),
        observer: services.observer.clone(),
    };
    let staged = staged(plan, requests, healed, services);
    let max_in_flight = match plan.delivery {
        Delivery::Epoch => MAX_ANSWERS_IN_FLIGHT,
        // What waits is the agenda's: there a newer call goes first.
        Delivery::Each => usize::MAX,
    };
    let generated = call(staged, "LlmGenerate", max_in_flight, calls);
    let dependencies = generated
        .clone()
        .flat_map(|(_, generated)| generated.dependencies.to_vec());
    let answers = generated.map(|(staged, generated)| (staged.request.context, generated.answer));
    // An answer equal to the one before is no delta.
    Built {
        answers: answers.concat(failed).consolidate(),
        dependencies,
        references,
        n_passages,
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

/// Arranges the ids of the fragments that layouts need; the multiplicities are the store's
/// reference counts. Each is counted once among the tokens that a rerun encodes; with each layout, the
/// instruction behind it.
fn refer<'scope>(
    plan: &Arc<Plan>,
    requests: Rows<'scope, Request>,
    services: &Services,
) -> Rows<'scope, ()> {
    let (scope, model) = (plan.scope, services.model.clone());
    let references = services.references.clone();
    let (rerun, of_layouts) = (services.rerun.clone(), services.rerun.clone());
    // A plain prompt has no fragments, not even of its prefix.
    let is_plain = model.fragments(scope, &[]).is_empty();
    let n_prefix = model.n_prefix_tokens();
    requests
        .map(|request| request.layout)
        .distinct()
        .inspect(move |(layout, _epoch, diff)| {
            let n_plain = if is_plain {
                n_prefix + layout.n_tokens()
            } else {
                0
            };
            of_layouts.add_layout(n_plain, *diff);
        })
        .flat_map(move |layout| model.fragments(scope, layout.passages()))
        .consolidate()
        .inspect(move |((id, _), _epoch, diff)| {
            if let Some(references) = &references {
                references.add(*id, *diff);
            }
        })
        .distinct()
        .inspect(move |((_, n_tokens), _epoch, diff)| rerun.add(*n_tokens, *diff))
        .filter(|_| false)
        .map(|_| ())
}
