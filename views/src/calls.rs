//! The model calls of a view: from a row of the dataflow to a job, and back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial_operators::Cancel;
use perennial_operators::call::{Calls, Reply};
use perennial_operators::select::Vector;
use perennial_operators::{
    Answer, AnswerModel, AnswerRequest, CallError, CallProgress, ContextKey, Embed, Executor,
    Outcome, PassageLayout, Priority,
};
use serde::{Deserialize, Serialize};

use crate::dataflow::Epoch;
use crate::memo::{Memo, RequestDigest, VectorDigest};
use crate::plan::Plan;

/// One context with the layout it is to be answered over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Which context.
    pub context: ContextKey,
    /// Its text.
    pub question: Arc<str>,
    /// Its passages.
    pub layout: PassageLayout,
}

/// A finished model call, as it is told to the engine: beside the dataflow, for what the
/// dataflow must not carry.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// The view.
    pub view: Arc<str>,
    /// The context.
    pub context: ContextKey,
    /// The epoch it was made for.
    pub epoch: Epoch,
    /// The answer and how it was reached.
    pub outcome: Result<Outcome, CallError>,
    /// From the start of the call to its end.
    pub elapsed: Duration,
}

/// Hears of calls while and when they run. Called from executor threads.
///
/// # Contract
/// `refreshed` is called before the answer enters the dataflow, so it has been heard when
/// the epoch is complete.
pub trait Observer: Send + Sync + 'static {
    /// Fragments are being encoded for an answer.
    fn encoding(&self, view: &str, context: &ContextKey, done: usize, total: usize);
    /// An answer is being written; `text` is all of it so far.
    fn writing(&self, view: &str, context: &ContextKey, text: &str);
    /// A call is done.
    fn refreshed(&self, refresh: Refresh);
    /// A text was embedded: `done` of `total` that one worker met since the view was made.
    fn embedding(&self, view: &str, done: usize, total: usize);
    /// A text could not be tokenized or embedded: the view goes on without it.
    fn passed_over(&self, view: &str, text: &str, reason: &str);
}

/// The last answer of each context, as the next one's draft.
///
/// A draft is a hint: an answer never depends on it.
#[derive(Default)]
pub struct DraftBook {
    drafts: Mutex<HashMap<ContextKey, Arc<[u32]>>>,
}

impl DraftBook {
    /// The draft for a context, empty if there is none.
    pub fn get(&self, context: &ContextKey) -> Arc<[u32]> {
        let drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.get(context).cloned().unwrap_or_default()
    }

    /// Notes an answer.
    pub fn put(&self, context: ContextKey, tokens: Arc<[u32]>) {
        self.drafts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(context, tokens);
    }

    /// Forgets a context that is gone.
    pub fn remove(&self, context: &ContextKey) {
        self.drafts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(context);
    }
}

/// `LLM_GENERATE` as calls.
pub(crate) struct GenerateCalls {
    pub(crate) plan: Arc<Plan>,
    pub(crate) model: Arc<dyn AnswerModel>,
    pub(crate) drafts: Arc<DraftBook>,
    pub(crate) memo: Arc<dyn Memo>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Calls<Epoch, Request, Answer> for GenerateCalls {
    fn start(&mut self, request: &Request, epoch: &Epoch, reply: Reply<Answer>, cancel: Cancel) {
        let (request, epoch) = (request.clone(), *epoch);
        let (plan, model) = (self.plan.clone(), self.model.clone());
        let (drafts, observer) = (self.drafts.clone(), self.observer.clone());
        let digest = RequestDigest::of(&model.digest(), &plan, &request);
        if let Some(kept) = self.memo.answer(&plan.name, &request.context, &digest) {
            drafts.put(request.context.clone(), kept.tokens.clone());
            let answer = Ok(kept.answer.clone());
            observer.refreshed(Refresh {
                view: plan.name.clone(),
                context: request.context,
                epoch,
                outcome: Ok(kept),
                elapsed: Duration::ZERO,
            });
            reply.send(answer);
            return;
        }
        let memo = self.memo.clone();
        self.executor.submit(Priority::Fresh, move || {
            if cancel.is_cancelled() {
                return;
            }
            let begin = Instant::now();
            let draft = drafts.get(&request.context);
            let mut progress = Reporter {
                view: &plan.name,
                context: &request.context,
                observer: &*observer,
            };
            let asked = AnswerRequest {
                scope: plan.scope,
                prompt: &plan.prompt,
                question: &request.question,
                passages: request.layout.passages(),
                draft: &draft,
                max_tokens: plan.max_tokens,
                sampling: plan.sampling,
                cancel,
            };
            let outcome = model.answer(&asked, &mut progress);
            if let Ok(outcome) = &outcome {
                drafts.put(request.context.clone(), outcome.tokens.clone());
                memo.answered(&plan.name, &request.context, &digest, outcome);
            }
            let answer = outcome
                .as_ref()
                .map(|o| o.answer.clone())
                .map_err(Clone::clone);
            observer.refreshed(Refresh {
                view: plan.name.clone(),
                context: request.context,
                epoch,
                outcome,
                elapsed: begin.elapsed(),
            });
            reply.send(answer);
        });
    }

    fn lost(&mut self, _request: &Request) -> Answer {
        Err(CallError::Lost)
    }
}

struct Reporter<'a> {
    view: &'a str,
    context: &'a ContextKey,
    observer: &'a dyn Observer,
}

impl CallProgress for Reporter<'_> {
    fn encoding(&mut self, done: usize, total: usize) {
        self.observer.encoding(self.view, self.context, done, total);
    }

    fn writing(&mut self, text: &str) {
        self.observer.writing(self.view, self.context, text);
    }
}

/// What embedding a text gives; an error is data.
pub(crate) type Embedded = Result<Vector, String>;

/// How many texts one worker of a view has had to embed, and has embedded.
#[derive(Default)]
pub(crate) struct EmbedCount {
    pub(crate) n_done: AtomicUsize,
    pub(crate) n_asked: AtomicUsize,
}

/// Embedding as calls.
pub(crate) struct EmbedCalls {
    pub(crate) count: Arc<EmbedCount>,
    pub(crate) view: Arc<str>,
    pub(crate) embedder: Arc<dyn Embed>,
    pub(crate) memo: Arc<dyn Memo>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Calls<Epoch, Arc<str>, Embedded> for EmbedCalls {
    fn start(&mut self, text: &Arc<str>, _epoch: &Epoch, reply: Reply<Embedded>, cancel: Cancel) {
        let (text, view) = (text.clone(), self.view.clone());
        let count = self.count.clone();
        let (embedder, observer) = (self.embedder.clone(), self.observer.clone());
        let digest = VectorDigest::of(&embedder.digest(), &text);
        if let Some(vector) = self.memo.vector(&digest) {
            count.n_done.fetch_add(1, Ordering::Relaxed);
            reply.send(Ok(Vector::new(&vector)));
            return;
        }
        let memo = self.memo.clone();
        self.executor.submit(Priority::Fresh, move || {
            if cancel.is_cancelled() {
                return;
            }
            let embedded = embedder.embed(&[&text]).and_then(|mut vectors| {
                let vector = vectors
                    .pop()
                    .ok_or_else(|| "no vector was returned".to_owned())?;
                memo.embedded(&digest, &vector);
                Ok(Vector::new(&vector))
            });
            if let Err(reason) = &embedded {
                observer.passed_over(&view, &text, reason);
            }
            let n_done = count.n_done.fetch_add(1, Ordering::Relaxed) + 1;
            let n_asked = count.n_asked.load(Ordering::Relaxed).max(n_done);
            observer.embedding(&view, n_done, n_asked);
            reply.send(embedded);
        });
    }

    fn lost(&mut self, text: &Arc<str>) -> Embedded {
        let reason = "the embedding ended without a reply".to_owned();
        self.observer.passed_over(&self.view, text, &reason);
        Err(reason)
    }

    fn released(&mut self, text: &Arc<str>) {
        let digest = VectorDigest::of(&self.embedder.digest(), text);
        self.memo.released(&digest);
    }
}
