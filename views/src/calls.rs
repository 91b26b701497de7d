//! The answering calls of a view: from a row of the dataflow to a job, and back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use perennial_ask::Cancel;
use perennial_ask::{
    Answer, AnswerModel, AnswerRequest, Attempt, Before, CallError, CallProgress, Dependencies,
    Dependency, DraftCheck, Executor, Failure, Measured, Outcome, Performed, Priority, RemoteCall,
    Skip, Tolerance,
};
use perennial_bank::{ContextKey, DocumentKey, PassageLayout};
use perennial_operators::call::{Calls, Reply};
use serde::{Deserialize, Serialize};

use crate::agenda::Agenda;
use crate::dataflow::Epoch;
use crate::memo::{Memo, RequestDigest};
use crate::plan::Plan;
use crate::view::{DEPENDENCY_FLOOR, Delivery, Policy};

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
    /// What was asked, of which context.
    pub request: Request,
    /// Its digest.
    pub digest: RequestDigest,
    /// The epoch it was made for.
    pub epoch: Epoch,
    /// The answer and how it was reached.
    pub outcome: Result<Outcome, CallError>,
    /// From the start of the call to its end.
    pub elapsed: Duration,
}

/// Hears of calls while and when they run. Called from executor threads. What it does not want to
/// hear it need not implement.
///
/// # Contract
/// `refreshed` is called before the answer enters the dataflow, so it has been heard when
/// the epoch is complete. Of one context the epochs only grow: nothing is heard of a call that a
/// newer one has overtaken.
pub trait Observer: Send + Sync + 'static {
    /// Fragments are being encoded for an answer.
    fn encoding(&self, _view: &str, _context: &ContextKey, _done: usize, _total: usize) {}
    /// An answer to what is asked is being written; `text` is all of it so far.
    fn writing(&self, _view: &str, _request: &Request, _text: &str) {}
    /// A call is done.
    fn refreshed(&self, _refresh: Refresh) {}
    /// A text was embedded: `done` of `total` that one worker met since the view was made.
    fn embedding(&self, _view: &str, _done: usize, _total: usize) {}
    /// Rows were asked about: `done` of `total` that the view met since it was made.
    fn asking(&self, _view: &str, _done: usize, _total: usize) {}
    /// A provider was asked about a row; nothing came of it where that is `None`.
    fn performed(&self, _view: &str, _performed: Option<&Performed>, _elapsed: Duration) {}
    /// The server of a model was asked, for an answer of this epoch.
    fn called(&self, _view: &str, _context: &ContextKey, _epoch: Epoch, _call: &RemoteCall<'_>) {}
    /// A call has failed so often by now, and is tried again.
    fn late(&self, _view: &str, _n_tries: u32, _reason: &str) {}
    /// What a change has to do with an answer cannot be told: all answers are read.
    fn cannot_judge(&self, _view: &str, _reason: &str) {}
    /// A text could not be tokenized or embedded, or a task about it never will succeed: the view
    /// goes on without.
    fn passed_over(&self, _view: &str, _text: &str, _reason: &str) {}
    /// A document of a relation came that cannot be cut or tokenized, or not all of it, for this reason: the
    /// view goes on without. With none, such a document goes. It is heard before the epoch is complete.
    fn unread(&self, _view: &str, _relation: &str, _document: &DocumentKey, _reason: Option<&str>) {
    }
}

/// Hears nothing.
impl Observer for () {}

/// Which answer a call is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// At once, over borrowed fragments where that is quicker.
    Provisional,
    /// What a run from scratch gives.
    Exact,
}

/// A row of the call operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Staged {
    pub(crate) request: Request,
    pub(crate) stage: Stage,
}

/// What the call operator gives for a row: a function of the request where that is exact, and
/// retracted as it was given where it is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Generated {
    pub(crate) answer: Answer,
    /// What the answer depends on.
    pub(crate) dependencies: Arc<[Dependency]>,
}

/// The exact answer to a request whose answer was provisional.
pub struct Healed {
    /// Which request.
    pub request: RequestDigest,
    /// The answer.
    pub outcome: Result<Outcome, CallError>,
    /// If that was asked for, how well the provisional one stood where this was written; nothing in it
    /// where that cannot be known.
    pub audit: Option<Option<DraftCheck>>,
    /// Whether the provisional answer had been left unread.
    pub was_skipped: bool,
    /// Whether it was left unread wrongly: its regret is past the view's bound.
    pub is_missed: bool,
    /// Whether the exact answer is another.
    pub is_changed: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// The last answer of each context, and exact answers that wait to be emitted.
///
/// What is known of the last answer changes what the next costs and, where it may be
/// provisional, what it says; an exact answer never depends on it.
///
/// Where newer edits overtake, a call may end after a newer one of its context has begun, or even
/// ended. What it says does not count any more: the book tells which call is the newest.
#[derive(Default)]
pub struct ContextBook {
    contexts: Mutex<HashMap<ContextKey, Before>>,
    healed: Mutex<HashMap<ContextKey, Healed>>,
    /// The newest epoch for which a call of each context has begun. Locked before all others.
    newest: Mutex<HashMap<ContextKey, Epoch>>,
    has_fallen_back: AtomicBool,
    is_forgetting: AtomicBool,
}

impl ContextBook {
    /// What is known of a context; nothing if it had no answer.
    pub fn before(&self, context: &ContextKey) -> Before {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.get(context).cloned().unwrap_or_default()
    }

    /// Notes what is known of a context's answer.
    pub fn put(&self, context: ContextKey, before: Before) {
        self.contexts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(context, before);
    }

    /// Notes that a call begins.
    fn begin(&self, context: &ContextKey, epoch: Epoch) {
        let mut newest = self.newest();
        let of_context = newest.entry(context.clone()).or_default();
        *of_context = epoch.max(*of_context);
    }

    /// Whether no newer call of the context has begun.
    fn is_newest(&self, context: &ContextKey, epoch: Epoch) -> bool {
        let newest = self.newest();
        newest.get(context).is_none_or(|newest| *newest <= epoch)
    }

    /// Has a call say what it gave, if that counts. A newer call that begins waits until it has,
    /// and a context that is gone stays forgotten.
    fn say(&self, context: &ContextKey, epoch: Epoch, cancel: &Cancel, say: impl FnOnce()) {
        let newest = self.newest();
        let is_newest = newest.get(context).is_none_or(|newest| *newest <= epoch);
        if is_newest && !cancel.is_cancelled() {
            say();
        }
    }

    fn newest(&self) -> MutexGuard<'_, HashMap<ContextKey, Epoch>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a context that is gone.
    pub fn remove(&self, context: &ContextKey) {
        let mut newest = self.newest();
        newest.remove(context);
        self.contexts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(context);
        self.take_healed(context);
    }

    /// Leaves an exact answer for the call that will ask for it.
    pub fn put_healed(&self, context: ContextKey, healed: Healed) {
        self.healed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(context, healed);
    }

    fn take_healed(&self, context: &ContextKey) -> Option<Healed> {
        let mut healed = self.healed.lock().unwrap_or_else(PoisonError::into_inner);
        healed.remove(context)
    }

    /// From here on, no refresh of the view is skipped.
    pub fn fall_back(&self) {
        self.has_fallen_back.store(true, Ordering::Relaxed);
    }

    /// Notes whether a document is being forgotten: then no answer goes on from one that may know of it.
    pub fn set_forgetting(&self, is_forgetting: bool) {
        self.is_forgetting.store(is_forgetting, Ordering::Relaxed);
    }

    /// Whether a document is being forgotten.
    fn is_forgetting(&self) -> bool {
        self.is_forgetting.load(Ordering::Relaxed)
    }

    /// Whether the view's audits went past its budget.
    pub fn has_fallen_back(&self) -> bool {
        self.has_fallen_back.load(Ordering::Relaxed)
    }
}

/// Asks for the exact answer to a request whose answer is provisional, and, for an audit, how
/// far that was from it.
///
/// # Errors
/// How long to wait before it is asked for again, where the model said so, if it may be had later.
pub fn heal(
    plan: &Plan,
    model: &dyn AnswerModel,
    book: &ContextBook,
    request: &Request,
    digest: RequestDigest,
    is_audit: bool,
    cancel: Cancel,
) -> Result<Healed, Option<Duration>> {
    let begin = Instant::now();
    let before = book.before(&request.context);
    let asked = AnswerRequest {
        priority: Priority::Background,
        ..asked(plan, request, &before, Tolerance::EXACT, cancel)
    };
    let outcome = match model.answer(&asked, &mut ()) {
        Ok(outcome) => Ok(outcome),
        Err(Failure::Final(error)) => Err(error),
        Err(Failure::Retry { after, .. }) => return Err(after),
        Err(Failure::Wait(pause)) => return Err(Some(pause)),
    };
    let written = before.written.as_deref();
    let is_changed = match (&outcome, written) {
        (Ok(outcome), Some(written)) => outcome.answer != written.answer,
        _ => false,
    };
    // The provisional answer was the draft.
    let check = outcome.as_ref().ok().and_then(|outcome| outcome.draft);
    let was_skipped = written.is_some_and(|written| written.was_skipped);
    let bound = plan.policy.tolerated_regret();
    Ok(Healed {
        request: digest,
        audit: is_audit.then_some(check),
        was_skipped,
        is_missed: was_skipped && check.is_some_and(|check| check.regret > bound),
        is_changed,
        outcome,
        elapsed: begin.elapsed(),
    })
}

/// Measures what an answer depends on, where its model does that; nothing where that cannot be told.
///
/// # Errors
/// [`Failure`] of the model.
pub fn measure(
    plan: &Plan,
    model: &dyn AnswerModel,
    book: &ContextBook,
    request: &Request,
    answer: &str,
    cancel: Cancel,
) -> Result<Option<Measured>, Failure> {
    let before = book.before(&request.context);
    let asked = AnswerRequest {
        priority: Priority::Background,
        ..asked(plan, request, &before, Tolerance::EXACT, cancel)
    };
    model.measure(&asked, answer, &mut ())
}

fn asked<'a>(
    plan: &'a Plan,
    request: &'a Request,
    before: &'a Before,
    tolerance: Tolerance,
    cancel: Cancel,
) -> AnswerRequest<'a> {
    AnswerRequest {
        scope: plan.scope,
        prompt: &plan.prompt,
        question: &request.question,
        layout: &request.layout,
        repair: plan.superseded,
        before,
        tolerance,
        keeps_log: plan.policy == Policy::Append,
        reencode: plan.reencode,
        turnover: plan.turnover,
        max_tokens: plan.max_tokens,
        sampling: plan.sampling,
        priority: Priority::Fresh,
        cancel,
    }
}

/// `LLM_GENERATE` as calls.
pub(crate) struct GenerateCalls {
    pub(crate) plan: Arc<Plan>,
    pub(crate) model: Arc<dyn AnswerModel>,
    pub(crate) book: Arc<ContextBook>,
    pub(crate) memo: Arc<dyn Memo>,
    pub(crate) executor: Arc<Executor>,
    /// What waits, where newer edits overtake.
    pub(crate) agenda: Arc<Agenda>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Calls<Epoch, Staged, Generated> for GenerateCalls {
    fn start(&mut self, staged: &Staged, epoch: &Epoch, reply: Reply<Generated>, cancel: Cancel) {
        let Staged { request, stage } = staged.clone();
        let (plan, model) = (self.plan.clone(), self.model.clone());
        let job = Answering {
            digest: RequestDigest::of(&model.digest(), &plan, &request),
            epoch: *epoch,
            plan,
            request,
            book: self.book.clone(),
            memo: Arc::downgrade(&self.memo),
            observer: self.observer.clone(),
            cancel,
        };
        job.book.begin(&job.request.context, *epoch);
        // Of another request it is of no use any more.
        let healed = self.book.take_healed(&job.request.context);
        let kept = self
            .memo
            .answer(&self.plan.name, &job.request.context, &job.digest);
        if let Some(mut kept) = kept {
            // What is stored does not say it.
            kept.dependencies = kept.dependencies.by(self.model.evidence());
            return job.done(Ok(kept), Duration::ZERO, reply);
        }
        if stage == Stage::Exact
            && let Some(healed) = healed
            && healed.request == job.digest
        {
            return job.done(healed.outcome, healed.elapsed, reply);
        }
        if let Some(standing) = job.standing() {
            return job.done(Ok(standing), Duration::ZERO, reply);
        }
        match self.plan.delivery {
            Delivery::Epoch => {
                let lane = &self.plan.name;
                let run = asking(model, job, stage, reply);
                self.executor.submit_until_done(Priority::Fresh, lane, run);
            }
            Delivery::Each => self.ask_in_turn(job, stage, reply),
        }
    }

    fn lost(&mut self, _staged: &Staged) -> Generated {
        Generated {
            answer: Err(CallError::Lost),
            dependencies: Arc::default(),
        }
    }
}

impl GenerateCalls {
    /// Has a call wait for its turn among those of the view.
    fn ask_in_turn(&self, job: Answering, stage: Stage, reply: Reply<Generated>) {
        let agenda = Arc::downgrade(&self.agenda);
        let (context, epoch) = (job.request.context.clone(), job.epoch);
        let cancel = job.cancel.clone();
        let (key, is_given_up) = (context.clone(), cancel.clone());
        let mut run = asking(self.model.clone(), job, stage, reply);
        let in_turn = move |n_tries| {
            let attempt = run(n_tries);
            if attempt == Attempt::Done
                && let Some(agenda) = agenda.upgrade()
            {
                agenda.ended(&key, is_given_up.is_cancelled());
            }
            attempt
        };
        if self.agenda.put(context, epoch, cancel, in_turn) {
            let agenda = self.agenda.clone();
            // A call that is to be tried again keeps its ticket.
            let mut taken = None;
            let ticket = move |n_tries| {
                let Some(mut job) = taken.take().or_else(|| agenda.take()) else {
                    return Attempt::Done;
                };
                let attempt = job(n_tries);
                taken = (attempt != Attempt::Done).then_some(job);
                attempt
            };
            let lane = &self.plan.name;
            self.executor
                .submit_until_done(Priority::Fresh, lane, ticket);
        }
    }
}

/// Asks the model until it answers, or nobody wants to know any more: then the reply is lost.
fn asking(
    model: Arc<dyn AnswerModel>,
    job: Answering,
    stage: Stage,
    reply: Reply<Generated>,
) -> impl FnMut(u32) -> Attempt + Send + 'static {
    let mut waiting = Some((job, reply));
    move |n_tries| {
        let Some((job, reply)) = waiting.take() else {
            return Attempt::Done;
        };
        let begin = Instant::now();
        let outcome = match job.ask(&*model, stage) {
            None => return Attempt::Done,
            Some(Ok(outcome)) => Ok(outcome),
            Some(Err(Failure::Final(error))) => Err(error),
            Some(Err(Failure::Wait(pause))) => {
                waiting = Some((job, reply));
                return Attempt::Wait(pause);
            }
            Some(Err(Failure::Retry { reason, after })) => {
                if is_told(n_tries, after) {
                    let reason = with_pause(reason, after);
                    job.observer.late(&job.plan.name, n_tries + 1, &reason);
                }
                waiting = Some((job, reply));
                return Attempt::Later(after);
            }
        };
        let next = job.plan.policy.leaves_unread().then(|| job.request.clone());
        job.done(outcome, begin.elapsed(), reply);
        if let Some(Request {
            question, layout, ..
        }) = next
        {
            model.prepare(&question, &layout);
        }
        Attempt::Done
    }
}

/// A call under way, and whom to tell.
struct Answering {
    digest: RequestDigest,
    epoch: Epoch,
    plan: Arc<Plan>,
    request: Request,
    book: Arc<ContextBook>,
    /// Not held: who stops the engine does not wait for a call to close the memo.
    memo: Weak<dyn Memo>,
    observer: Arc<dyn Observer>,
    /// Raised when nobody wants the answer any more.
    cancel: Cancel,
}

impl Answering {
    /// The answer before, where the model would read what it has read: an edit moved passages to other
    /// documents, or took some of several that say the same.
    fn standing(&self) -> Option<Outcome> {
        let Request {
            context,
            question,
            layout,
        } = &self.request;
        self.book.before(context).standing(question, layout)
    }

    /// Asks the model; nothing if nobody wants to know any more.
    fn ask(&self, model: &dyn AnswerModel, stage: Stage) -> Option<Result<Outcome, Failure>> {
        let context = &self.request.context;
        if self.cancel.is_cancelled() || !self.book.is_newest(context, self.epoch) {
            return None;
        }
        let before = self.book.before(context);
        let tolerance = tolerance(&self.plan, stage, &self.book);
        let cancel = self.cancel.clone();
        let asked = asked(&self.plan, &self.request, &before, tolerance, cancel);
        let mut progress = Reporter {
            view: &self.plan.name,
            request: &self.request,
            epoch: self.epoch,
            observer: &*self.observer,
        };
        Some(model.answer(&asked, &mut progress))
    }

    fn done(self, outcome: Result<Outcome, CallError>, elapsed: Duration, reply: Reply<Generated>) {
        let generated = match &outcome {
            Ok(outcome) => Generated {
                answer: Ok(outcome.answer.clone()),
                dependencies: depends(&self.request, &outcome.dependencies),
            },
            Err(error) => Generated {
                answer: Err(error.clone()),
                dependencies: Arc::default(),
            },
        };
        let (book, cancel, epoch) = (self.book.clone(), self.cancel.clone(), self.epoch);
        let context = self.request.context.clone();
        book.say(&context, epoch, &cancel, move || {
            self.say(outcome, elapsed);
        });
        reply.send(generated);
    }

    /// Leaves what was heard where the next call, a restart and the engine find it.
    fn say(self, outcome: Result<Outcome, CallError>, elapsed: Duration) {
        let context = &self.request.context;
        if let Ok(outcome) = &outcome {
            let (question, layout) = (self.request.question.clone(), self.request.layout.clone());
            let before = Before::of(question, layout, outcome);
            self.book.put(context.clone(), before);
            if outcome.is_exact
                && let Some(memo) = self.memo.upgrade()
            {
                memo.answered(&self.plan.name, context, &self.digest, outcome);
            }
        }
        self.observer.refreshed(Refresh {
            view: self.plan.name.clone(),
            digest: self.digest,
            request: self.request,
            epoch: self.epoch,
            outcome,
            elapsed,
        });
    }
}

/// Pauses from which on a first failure is told.
const LONG_PAUSE: Duration = Duration::from_secs(2);

/// Whether it is told that a call failed which had failed so often before: when it did for the
/// second time, and then whenever that doubles; for the first time only where the provider asks for a
/// pause that somebody would notice.
pub(crate) fn is_told(n_tries: u32, after: Option<Duration>) -> bool {
    let is_noticed = || after.is_some_and(|after| after >= LONG_PAUSE);
    n_tries.is_power_of_two() || (n_tries == 0 && is_noticed())
}

/// A reason, with when the provider is asked again where it said so.
pub(crate) fn with_pause(reason: String, after: Option<Duration>) -> String {
    match after.filter(|after| *after >= LONG_PAUSE) {
        None => reason,
        Some(after) => format!("{reason}; next try in {} s", after.as_secs()),
    }
}

/// How far from exact the answer of a stage may be.
fn tolerance(plan: &Plan, stage: Stage, book: &ContextBook) -> Tolerance {
    let regret = plan.policy.tolerated_regret();
    match (stage, plan.policy) {
        (Stage::Exact, _) | (Stage::Provisional, Policy::Exact) => Tolerance::EXACT,
        (Stage::Provisional, Policy::Eventual) => Tolerance::BORROWED,
        // What is to be forgotten is told to nobody any more.
        (Stage::Provisional, Policy::Append) if book.is_forgetting() => Tolerance::EXACT,
        (Stage::Provisional, Policy::Append) => Tolerance::APPENDED,
        (Stage::Provisional, Policy::Stable { .. }) => Tolerance {
            regret,
            ..Tolerance::EXACT
        },
        (Stage::Provisional, Policy::Bounded { .. }) if book.has_fallen_back() => {
            Tolerance::BORROWED
        }
        (Stage::Provisional, Policy::Bounded { .. }) => Tolerance {
            regret,
            borrows: true,
            skips: Some(Skip {
                below: plan.skip_below.unwrap_or(regret),
            }),
            ..Tolerance::EXACT
        },
    }
}

/// The rows of the dependency relation that an answer gives.
pub fn depends(request: &Request, dependencies: &Dependencies) -> Arc<[Dependency]> {
    let passages = request.layout.passages();
    let mut rows = Vec::new();
    for (sub_paragraph, scores) in (0..).zip(dependencies.scores()) {
        for (passage, score) in passages.iter().zip(scores) {
            if *score >= DEPENDENCY_FLOOR {
                rows.push(Dependency {
                    document: passage.document.clone(),
                    ordinal: passage.ordinal,
                    context: request.context.clone(),
                    sub_paragraph,
                    score: (score * 1000.0).round().max(1.0) as u32,
                    evidence: dependencies.evidence(),
                });
            }
        }
    }
    rows.into()
}

struct Reporter<'a> {
    view: &'a str,
    request: &'a Request,
    epoch: Epoch,
    observer: &'a dyn Observer,
}

impl CallProgress for Reporter<'_> {
    fn encoding(&mut self, done: usize, total: usize) {
        let context = &self.request.context;
        self.observer.encoding(self.view, context, done, total);
    }

    fn writing(&mut self, text: &str) {
        self.observer.writing(self.view, self.request, text);
    }

    fn cannot_judge(&mut self, reason: &str) {
        self.observer.cannot_judge(self.view, reason);
    }

    fn called(&mut self, call: &RemoteCall<'_>) {
        let context = &self.request.context;
        self.observer.called(self.view, context, self.epoch, call);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use perennial_ask::dependency::Read;
    use perennial_ask::scripted::{REFUSED_WORD, Scripted};
    use perennial_ask::{AnswerText, Dependencies, Finish, Rung, Work};
    use perennial_bank::{DocumentKey, LayoutPassage, PassageId};

    use super::*;
    use crate::view::View;

    fn context(name: &str) -> ContextKey {
        ContextKey::new(name)
    }

    fn passage(document: &str, text: &str) -> LayoutPassage {
        LayoutPassage {
            document: DocumentKey::new(document),
            ordinal: 0,
            id: PassageId::of("title", text),
            title: "title".into(),
            text: text.into(),
            tokens: Arc::default(),
            is_superseded: false,
            copies: Arc::default(),
        }
    }

    fn request(question: &str) -> Request {
        let passages = vec![passage("a", "alpha is one."), passage("b", "beta is two.")];
        Request {
            context: context("q"),
            question: question.into(),
            layout: PassageLayout::new(passages),
        }
    }

    fn outcome(text: &str, rung: Rung) -> Outcome {
        Outcome {
            answer: AnswerText {
                text: text.into(),
                finish: Finish::Stop,
            },
            tokens: text.bytes().map(u32::from).collect(),
            rung,
            work: Work::default(),
            sub_paragraphs: Vec::new(),
            min_margin: 1.0,
            is_exact: false,
            regret: 0.0,
            draft: None,
            drift: 0.5,
            dependencies: Dependencies::default(),
            live: Arc::default(),
            log: None,
        }
    }

    fn plan(change: impl FnOnce(View) -> View) -> Plan {
        let view = View::named("v").context("questions").data_source("docs");
        change(view).plan(4096, 30).expect("fits")
    }

    #[test]
    fn only_the_newest_call_of_a_context_is_heard_and_none_that_nobody_wants() {
        let book = ContextBook::default();
        let said = RefCell::new(Vec::new());
        let say = |name: &str, epoch: Epoch, cancel: &Cancel| {
            let note = || said.borrow_mut().push((name.to_owned(), epoch));
            book.say(&context(name), epoch, cancel, note);
        };
        let wanted = Cancel::new();
        book.begin(&context("q"), 3);
        book.begin(&context("q"), 5);
        // One that begins late does not make an older epoch the newest.
        book.begin(&context("q"), 4);
        assert!(!book.is_newest(&context("q"), 4) && book.is_newest(&context("q"), 5));
        say("q", 3, &wanted);
        say("q", 4, &wanted);
        say("q", 5, &wanted);
        say("r", 0, &wanted);
        let unwanted = Cancel::new();
        unwanted.cancel();
        say("q", 6, &unwanted);
        assert_eq!(*said.borrow(), [("q".to_owned(), 5), ("r".to_owned(), 0)]);
    }

    #[test]
    fn a_context_that_is_gone_is_forgotten() {
        let book = ContextBook::default();
        let asked = request("alpha");
        let digest = RequestDigest([1; 32]);
        book.begin(&asked.context, 9);
        let before = Before::of(
            asked.question.clone(),
            asked.layout.clone(),
            &outcome("one", Rung::Keep),
        );
        book.put(asked.context.clone(), before);
        book.put_healed(
            asked.context.clone(),
            Healed {
                request: digest,
                outcome: Ok(outcome("one", Rung::Keep)),
                audit: None,
                was_skipped: false,
                is_missed: false,
                is_changed: false,
                elapsed: Duration::ZERO,
            },
        );
        assert!(book.before(&asked.context).written.is_some());
        book.remove(&asked.context);
        assert!(book.before(&asked.context).written.is_none());
        assert!(book.take_healed(&asked.context).is_none());
        // Its next life begins wherever it does.
        assert!(book.is_newest(&asked.context, 0));
    }

    #[test]
    fn how_far_an_answer_may_be_from_exact_is_the_views_word_until_it_has_fallen_back() {
        let book = ContextBook::default();
        let of = |policy: Policy, stage| tolerance(&plan(|view| view.policy(policy)), stage, &book);
        let (stable, bounded) = (
            Policy::Stable { millinats: 200 },
            Policy::Bounded { millinats: 50 },
        );
        for policy in [
            Policy::Exact,
            Policy::Eventual,
            Policy::Append,
            stable,
            bounded,
        ] {
            assert!(of(policy, Stage::Exact).is_exact(), "{policy}");
        }
        assert!(of(Policy::Exact, Stage::Provisional).is_exact());
        assert_eq!(
            of(Policy::Eventual, Stage::Provisional),
            Tolerance::BORROWED
        );
        assert_eq!(of(Policy::Append, Stage::Provisional), Tolerance::APPENDED);
        book.set_forgetting(true);
        assert!(of(Policy::Append, Stage::Provisional).is_exact());
        book.set_forgetting(false);
        let tolerated = of(stable, Stage::Provisional);
        assert!(!tolerated.borrows && tolerated.skips.is_none());
        assert!((tolerated.regret - 0.2).abs() < 1e-6);
        let tolerated = of(bounded, Stage::Provisional);
        assert!(tolerated.borrows && (tolerated.regret - 0.05).abs() < 1e-6);
        assert_eq!(
            tolerated.skips,
            Some(Skip {
                below: tolerated.regret
            })
        );
        let plan = plan(|view| view.policy(bounded).skip_below(0.01));
        let tolerated = tolerance(&plan, Stage::Provisional, &book);
        assert_eq!(tolerated.skips, Some(Skip { below: 0.01 }));
        book.fall_back();
        assert_eq!(
            tolerance(&plan, Stage::Provisional, &book),
            Tolerance::BORROWED
        );
    }

    #[test]
    fn a_failure_is_told_when_somebody_would_notice_and_then_ever_more_seldom() {
        let told: Vec<u32> = (0..40).filter(|n_tries| is_told(*n_tries, None)).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32]);
        assert!(!is_told(0, Some(Duration::from_millis(1_999))));
        assert!(is_told(0, Some(Duration::from_secs(2))));
        assert!(!is_told(3, Some(Duration::from_secs(60))));
        let said = |after| with_pause("busy".to_owned(), after);
        assert_eq!(said(None), "busy");
        assert_eq!(said(Some(Duration::from_secs(1))), "busy");
        assert_eq!(said(Some(Duration::from_secs(7))), "busy; next try in 7 s");
    }

    #[test]
    fn a_sentence_depends_on_what_is_past_the_floor_and_at_least_a_thousandth() {
        let read = |mass: [f32; 2]| Read {
            mass: mass.to_vec(),
            least_margin: 1.0,
            n_tokens: 1,
        };
        let floor = DEPENDENCY_FLOOR;
        let read = [read([0.25, floor]), read([floor / 2.0, 0.5])];
        let outcome = Outcome {
            dependencies: Dependencies::of(&[0.0, 0.0], &read),
            ..outcome("one. two.", Rung::Regenerate)
        };
        let rows = depends(&request("alpha"), &outcome.dependencies);
        let rows: Vec<(&str, u32, bool)> = rows
            .iter()
            .map(|row| (row.document.as_str(), row.sub_paragraph, row.score >= 1))
            .collect();
        assert_eq!(rows, [("a", 0, true), ("b", 0, true), ("b", 1, true)]);
    }

    /// A provisional answer is healed by the exact one, and audited if that is wanted.
    #[test]
    fn healing_says_how_well_the_answer_before_stood() {
        let (model, book) = (Scripted::new(), ContextBook::default());
        let plan = plan(|view| view.policy(Policy::Bounded { millinats: 50 }));
        let asked = request("alpha");
        let digest = RequestDigest::of(&model.digest(), &plan, &asked);
        let healed = |is_audit| {
            let healed = heal(
                &plan,
                &model,
                &book,
                &asked,
                digest,
                is_audit,
                Cancel::new(),
            );
            healed.expect("answers")
        };
        // Nothing is known of an answer before.
        let first = healed(true);
        assert_eq!(
            (first.is_changed, first.was_skipped, first.audit),
            (false, false, Some(None))
        );
        let text = |healed: &Healed| {
            healed
                .outcome
                .as_ref()
                .expect("answers")
                .answer
                .text
                .clone()
        };
        assert_eq!(&*text(&first), "alpha is one.");
        for (before, rung, is_changed, is_missed) in [
            ("alpha is one.", Rung::Skip, false, false),
            ("alpha is none.", Rung::Skip, true, true),
            ("alpha is none.", Rung::Verify, true, false),
        ] {
            let outcome = outcome(before, rung);
            let before = Before::of(asked.question.clone(), asked.layout.clone(), &outcome);
            book.put(asked.context.clone(), before);
            let again = healed(true);
            assert_eq!(
                (again.is_changed, again.is_missed),
                (is_changed, is_missed),
                "{rung}"
            );
            assert_eq!(again.was_skipped, rung == Rung::Skip);
            let check = again.audit.expect("asked for").expect("there was a draft");
            assert_eq!(check.regret > 0.0, is_changed);
            assert!(healed(false).audit.is_none());
        }
        // A refusal is no answer.
        let refused = request(&format!("alpha {REFUSED_WORD}"));
        let heal = || heal(&plan, &model, &book, &refused, digest, false, Cancel::new());
        assert!(heal().is_err() && heal().is_err() && heal().is_ok());
    }
}
