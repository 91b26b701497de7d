//! What does a model say of a row? One table of outputs for all views.
//!
//! # Design
//! An output is named by the digest of its provider, task and values. The first view that needs it
//! has the provider asked; a view that needs it meanwhile waits for the same call, and one that
//! needs it later is given what was said. The memo is asked before the provider is, so a restart
//! asks nothing again.
//!
//! # Invariants
//! - A call that nobody waits for any more is not begun, and told to end if it was.
//! - A failure that may pass is tried again for as long as somebody waits. One that never will is
//!   NULL, said once, and kept in no memo.
//! - The memo hears of an output's first use and of its last, whatever number of views use it.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use perennial_ask::task::Subject;
use perennial_ask::{
    Attempt, CallError, Cancel, Capabilities, Executor, Failure, Performed, Prices, Priority,
    Provider, Task, TaskCall, TaskDigest, Work,
};
use perennial_operators::call::{Calls, Reply};
use perennial_rows::{Tuple, Value};

use crate::calls::{Observer, is_told, with_pause};
use crate::dataflow::Epoch;
use crate::embeddings::{EmbedCalls, Embeddings};
use crate::measure::{Asker, Measure};
use crate::memo::Memo;
use crate::shared::{Asked, SharedResults};
use crate::speed::Speed;

/// A task over a row's values.
#[derive(Clone)]
struct Question {
    task: Arc<Task>,
    values: Tuple,
    /// Raised when nobody uses the output any more.
    cancel: Cancel,
}

/// Who is told an output.
enum Told {
    /// The operator that called.
    Operator(Reply<Value>),
    /// Somebody who goes on from it, on the thread that tells.
    Caller(Box<dyn FnOnce(Value) + Send>),
}

/// Who waits for an output.
struct Waiting {
    told: Told,
    view: Arc<str>,
    observer: Arc<dyn Observer>,
    count: Arc<AskCount>,
    /// Where it is counted.
    asker: Asker,
}

/// How many rows a view has had to ask about, and was answered.
#[derive(Debug, Default)]
struct AskCount {
    n_asked: AtomicUsize,
    n_done: AtomicUsize,
}

/// The outputs of all tasks in use.
pub struct Outputs {
    provider: Arc<dyn Provider>,
    memo: Arc<dyn Memo>,
    executor: Arc<Executor>,
    results: Mutex<SharedResults<TaskDigest, Question, Value, Waiting>>,
    speed: Arc<Speed>,
}

/// Whom a view asks.
#[derive(Clone)]
pub struct Asking {
    /// Where its calls queue, and who is told of them.
    view: Arc<str>,
    /// Of the model that is asked where none is named.
    outputs: Arc<Outputs>,
    /// Of models that may be asked by name.
    named: BTreeMap<Arc<str>, Arc<Outputs>>,
    observer: Arc<dyn Observer>,
    count: Arc<AskCount>,
    /// Who embeds texts.
    embeddings: Option<Arc<Embeddings>>,
}

impl Asking {
    /// A view that asks; `observer` hears of its calls.
    pub fn new(view: Arc<str>, outputs: Arc<Outputs>, observer: Arc<dyn Observer>) -> Self {
        Self {
            view,
            outputs,
            named: BTreeMap::new(),
            observer,
            count: Arc::default(),
            embeddings: None,
        }
    }

    /// The same, which may have texts embedded.
    #[must_use]
    pub fn embedding_with(mut self, embeddings: Arc<Embeddings>) -> Self {
        self.embeddings = Some(embeddings);
        self
    }

    /// Embedding as calls of this view.
    ///
    /// # Panics
    /// If it has no embedder.
    pub(crate) fn embedding(&self) -> EmbedCalls {
        let embeddings = self.embeddings.clone();
        EmbedCalls {
            embeddings: embeddings.expect("a query that embeds is given an embedder"),
            count: Arc::default(),
            view: self.view.clone(),
            observer: self.observer.clone(),
            uses: HashMap::new(),
            overlaps: false,
        }
    }

    /// The same, which may ask these models by name besides.
    #[must_use]
    pub fn naming(mut self, named: BTreeMap<Arc<str>, Arc<Outputs>>) -> Self {
        self.named = named;
        self
    }

    /// The same, which asks nobody: what no view was told is NULL.
    #[must_use]
    pub(crate) fn knowing_only(&self) -> Self {
        let executor = Arc::new(Executor::new(1));
        let knowing = |outputs: &Arc<Outputs>| {
            let provider = Arc::new(KnownOnly(outputs.clone()));
            Arc::new(Outputs::new(provider, Arc::new(()), executor.clone()))
        };
        let named = self.named.iter();
        Self {
            outputs: knowing(&self.outputs),
            named: named
                .map(|(name, of)| (name.clone(), knowing(of)))
                .collect(),
            observer: Arc::new(()),
            count: Arc::default(),
            ..self.clone()
        }
    }

    /// The outputs of a model.
    pub(crate) fn outputs(&self, model: Option<&Arc<str>>) -> &Arc<Outputs> {
        match model {
            None => &self.outputs,
            Some(name) => {
                let named = self.named.get(name);
                named.expect("a view is given every model that it names")
            }
        }
    }
}

/// Performs what was performed already, for a view that still uses it.
struct KnownOnly(Arc<Outputs>);

impl Provider for KnownOnly {
    fn digest(&self) -> [u8; 32] {
        self.0.digest()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn check(&self, task: &Task) -> Result<(), String> {
        self.0.provider.check(task)
    }

    fn perform(&self, call: &TaskCall<'_>) -> Result<Performed, Failure> {
        let known = self.0.known(call.task, &call.values.into());
        Ok(Performed {
            value: known.unwrap_or_default(),
            work: Work::default(),
        })
    }
}

impl Outputs {
    /// An empty table over a provider, which is called by `executor` if the memo does not know.
    pub fn new(provider: Arc<dyn Provider>, memo: Arc<dyn Memo>, executor: Arc<Executor>) -> Self {
        Self {
            provider,
            memo,
            executor,
            results: Mutex::default(),
            speed: Arc::default(),
        }
    }

    /// What the provider can do.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    /// What is said of some values, where a view uses that already.
    pub(crate) fn known(&self, task: &Task, values: &Tuple) -> Option<Value> {
        let digest = TaskDigest::of(&self.digest(), task, values);
        self.results().known(&digest).cloned()
    }

    /// Tokens that the model forwards in a second of work; `None` if it was not asked yet.
    pub(crate) fn tokens_a_second(&self) -> Option<f64> {
        self.speed.tokens_a_second(Instant::now())
    }

    /// What the model's tokens cost, where that was said.
    pub(crate) fn prices(&self) -> Option<Prices> {
        self.provider.prices()
    }

    /// The provider's digest.
    pub fn digest(&self) -> [u8; 32] {
        self.provider.digest()
    }

    fn results(&self) -> MutexGuard<'_, SharedResults<TaskDigest, Question, Value, Waiting>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `waiting` told an output, now or later, and counts one use.
    fn ask(self: &Arc<Self>, digest: TaskDigest, question: &Question, waiting: Waiting) {
        let (lane, asker) = (waiting.view.clone(), waiting.asker.clone());
        let asked = self.results().ask(digest, question, waiting, |_| true);
        match asked {
            Asked::Known(output, waiting) => {
                asker.knew();
                waiting.tell(output, false);
            }
            Asked::Joined { .. } => asker.knew(),
            Asked::First => match self.memo.output(&digest) {
                Some(output) => {
                    asker.knew();
                    self.know(&digest, output, false);
                }
                None => self.submit(digest, &lane),
            },
        }
    }

    /// Has `told` told what comes of a task, now or later, on this thread or another; and counts one use
    /// of what is returned.
    pub fn ask_then(
        self: &Arc<Self>,
        task: &Arc<Task>,
        values: Tuple,
        (asking, asker): (&Asking, Asker),
        told: impl FnOnce(Value) + Send + 'static,
    ) -> TaskDigest {
        let digest = TaskDigest::of(&self.digest(), task, &values);
        let question = Question {
            task: task.clone(),
            values,
            cancel: Cancel::new(),
        };
        let waiting = Waiting {
            told: Told::Caller(Box::new(told)),
            view: asking.view.clone(),
            observer: asking.observer.clone(),
            count: asking.count.clone(),
            asker,
        };
        asking.count.n_asked.fetch_add(1, Relaxed);
        self.ask(digest, &question, waiting);
        digest
    }

    /// Has the provider asked.
    fn submit(self: &Arc<Self>, digest: TaskDigest, lane: &Arc<str>) {
        // Not held: who stops the engine does not wait for a call to close the memo.
        let outputs = Arc::downgrade(self);
        let run = move |n_tries| {
            let Some(held) = outputs.upgrade() else {
                return Attempt::Done;
            };
            let question = held.results().wanted(&digest, |_| true).cloned();
            let Some(question) = question else {
                return Attempt::Done;
            };
            let (provider, speed) = (held.provider.clone(), held.speed.clone());
            drop(held);
            let begin = Instant::now();
            speed.begun(begin);
            let performed = perform(&*provider, &question);
            let n_tokens = performed
                .as_ref()
                .map(|performed| performed.work.n_forwarded());
            speed.ended(Instant::now(), n_tokens.unwrap_or(0));
            let elapsed = begin.elapsed();
            let Some(held) = outputs.upgrade() else {
                return Attempt::Done;
            };
            // Nobody wanted it any more. Who wants it anew has had a call of its own submitted.
            if question.cancel.is_cancelled() {
                return Attempt::Done;
            }
            if let Err(Failure::Wait(pause)) = performed {
                return Attempt::Wait(pause);
            }
            if let Err(Failure::Retry { reason, after }) = &performed {
                if is_told(n_tries, *after) {
                    let reason = with_pause(reason.clone(), *after);
                    for (observer, view, _) in held.waiting(&digest) {
                        observer.late(&view, n_tries + 1, &reason);
                    }
                }
                return Attempt::Later(*after);
            }
            let waiting = held.waiting(&digest);
            if let Some((observer, view, asker)) = waiting.first() {
                let work = performed.as_ref().ok().map(|performed| performed.work);
                asker.called(work, elapsed);
                observer.performed(view, performed.as_ref().ok(), elapsed);
            }
            match performed {
                Ok(Performed { value, .. }) => held.know(&digest, value, true),
                Err(failure) => {
                    let (task, values) = (&question.task, &question.values);
                    let (about, reason) = (about(task, values), reason(&failure));
                    for (observer, view, _) in waiting {
                        observer.passed_over(&view, &about, &reason);
                    }
                    held.know(&digest, Value::Null, false);
                }
            }
            Attempt::Done
        };
        self.executor.submit_until_done(Priority::Fresh, lane, run);
    }

    /// The views that wait for an output, each once, the one that had it computed first.
    fn waiting(&self, digest: &TaskDigest) -> Vec<(Arc<dyn Observer>, Arc<str>, Asker)> {
        let mut waiting = self.results().waiting(digest, |waiting| {
            (
                waiting.observer.clone(),
                waiting.view.clone(),
                waiting.asker.clone(),
            )
        });
        let mut seen: Vec<Arc<str>> = Vec::new();
        waiting.retain(|(_, view, _)| {
            let is_new = !seen.contains(view);
            seen.push(view.clone());
            is_new
        });
        waiting
    }

    /// Takes one use back.
    pub(crate) fn release(&self, digest: &TaskDigest) {
        let unused = self.results().release(digest);
        let Some(unanswered) = unused else { return };
        if let Some((question, waiting)) = unanswered {
            question.cancel.cancel();
            // Those who wait hear of their loss, outside the lock.
            drop(waiting);
        }
        self.memo.output_released(digest);
    }

    /// Notes an output, and tells all who wait.
    fn know(&self, digest: &TaskDigest, output: Value, is_new: bool) {
        let mut results = self.results();
        let Some((_, waiting)) = results.know(digest, output.clone()) else {
            return;
        };
        if is_new {
            // Under the lock, so that the last use cannot end before this is noted.
            self.memo.performed(digest, &output);
        }
        drop(results);
        for waiting in waiting {
            waiting.tell(output.clone(), is_new);
        }
    }
}

impl Waiting {
    fn tell(self, output: Value, is_new: bool) {
        let n_done = self.count.n_done.fetch_add(1, Relaxed) + 1;
        if is_new {
            let n_asked = self.count.n_asked.load(Relaxed).max(n_done);
            self.observer.asking(&self.view, n_done, n_asked);
        }
        match self.told {
            Told::Operator(reply) => reply.send(output),
            Told::Caller(told) => told(output),
        }
    }
}

/// How what a task is asked about is called in a sentence: by the first of the values that are read,
/// of several rows with their number.
fn about(task: &Task, values: &Tuple) -> String {
    let first = values.first().map(ToString::to_string).unwrap_or_default();
    let n = match task.subject() {
        Subject::Row => 1,
        Subject::Pair => 2,
        Subject::Rows => values.len() / task.columns().len().max(1),
        Subject::Answers { .. } => values.len(),
    };
    match n {
        0 | 1 => first,
        n => format!("(one of {n} in one call) {first}"),
    }
}

/// Why nothing came of a row, for people.
fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Final(CallError::DoesNotFit { required, limit }) => format!(
            "with the prompt and its output it has {required} tokens, but the model attends to \
             {limit}; ask about less of it, as of substr(text, 1, 8000) in a query below"
        ),
        other => other.to_string(),
    }
}

/// Asks the provider; a panic is a failure like any other.
fn perform(provider: &dyn Provider, question: &Question) -> Result<Performed, Failure> {
    let call = TaskCall {
        task: &question.task,
        values: &question.values,
        priority: Priority::Fresh,
        cancel: question.cancel.clone(),
    };
    let performed = catch_unwind(AssertUnwindSafe(|| provider.perform(&call)));
    performed.unwrap_or(Err(Failure::Final(CallError::Lost)))
}

/// A task as calls of one worker of a view.
pub(crate) struct TaskCalls {
    task: Arc<Task>,
    outputs: Arc<Outputs>,
    asking: Asking,
    provider: [u8; 32],
    measure: Arc<Measure>,
    /// How often this worker uses each output.
    uses: HashMap<TaskDigest, usize>,
}

impl TaskCalls {
    /// Of a task, whose outputs are in `outputs`, and whose calls are counted.
    pub(crate) fn new(
        task: Arc<Task>,
        outputs: &Arc<Outputs>,
        asking: &Asking,
        measure: Arc<Measure>,
    ) -> Self {
        Self {
            task,
            measure,
            provider: outputs.digest(),
            outputs: outputs.clone(),
            asking: asking.clone(),
            uses: HashMap::new(),
        }
    }

    fn digest(&self, values: &Tuple) -> TaskDigest {
        TaskDigest::of(&self.provider, &self.task, values)
    }
}

impl Calls<Epoch, Tuple, Value> for TaskCalls {
    fn start(&mut self, values: &Tuple, epoch: &Epoch, reply: Reply<Value>, _: Cancel) {
        let digest = self.digest(values);
        *self.uses.entry(digest).or_default() += 1;
        let question = Question {
            task: self.task.clone(),
            values: values.clone(),
            cancel: Cancel::new(),
        };
        let waiting = Waiting {
            told: Told::Operator(reply),
            view: self.asking.view.clone(),
            observer: self.asking.observer.clone(),
            count: self.asking.count.clone(),
            asker: Asker::new(self.measure.clone(), *epoch),
        };
        self.asking.count.n_asked.fetch_add(1, Relaxed);
        self.outputs.ask(digest, &question, waiting);
    }

    fn lost(&mut self, values: &Tuple) -> Value {
        let reason = CallError::Lost.to_string();
        let Asking { view, observer, .. } = &self.asking;
        observer.passed_over(view, &about(&self.task, values), &reason);
        Value::Null
    }

    fn released(&mut self, values: &Tuple) {
        let digest = self.digest(values);
        if let Some(n_uses) = self.uses.get_mut(&digest) {
            *n_uses -= 1;
            if *n_uses == 0 {
                self.uses.remove(&digest);
            }
        }
        self.outputs.release(&digest);
    }
}

/// A view that is dropped uses nothing any more.
impl Drop for TaskCalls {
    fn drop(&mut self) {
        for (digest, n_uses) in self.uses.drain() {
            (0..n_uses).for_each(|_| self.outputs.release(&digest));
        }
    }
}
