//! Views that tell each answer when it is there: early answers, newer edits that overtake, and
//! what is complete.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use perennial::ask::Answer;
use perennial::ask::scripted::{SLOW_WORD, Scripted, ScriptedEmbedder};
use perennial::connectors::JsonLinesSink;
use perennial::engine::{AnswerUpdate, ChangeKind, Edit};
use perennial::recording::{Replay, ReplayedEpoch};
use perennial::{Delivery, Engine, EngineBuilder, Policy, Runtime, Subscription, Update, View};
use proptest::prelude::*;

use crate::history::{Collections, Step, steps};
use crate::hold::Hold;
use crate::rig::{Rig, view};

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

fn each(budget: usize) -> View {
    view(budget).deliver(Delivery::Each)
}

/// Over a document, asks what is not answered for now, and waits until the model was asked.
fn keep_the_thread_busy(rig: &Rig) {
    let engine = &rig.engine;
    engine
        .upsert("docs", "d", "The library opens at nine.")
        .expect("runs");
    engine.upsert("questions", "slow", SLOW_WORD).expect("runs");
    while rig.model.n_calls() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An engine that makes so many calls at a time.
fn rig(
    model: Scripted,
    at_a_time: usize,
    declare: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> Rig {
    let (model, embedder) = (Arc::new(model), Arc::new(ScriptedEmbedder::default()));
    let runtime = Runtime::scripted(model.clone(), embedder.clone()).calling_at_a_time(at_a_time);
    let builder = Engine::builder(runtime).table("docs").table("questions");
    let engine = declare(builder).start().expect("starts");
    Rig {
        engine,
        model,
        embedder,
    }
}

fn next(updates: &Subscription) -> Update {
    let next = updates.recv_timeout(PATIENCE).expect("in time");
    next.expect("the engine runs")
}

fn next_answer(updates: &Subscription) -> AnswerUpdate {
    loop {
        match next(updates) {
            Update::Answer(answer) => return answer,
            Update::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
}

/// Waits until the view has taken one more epoch.
fn next_start(updates: &Subscription) {
    while !matches!(next(updates), Update::EpochStarted(_)) {}
}

/// Waits until what was fed has gone through the dataflow. A worker answers between two of its steps,
/// however slow the machine is.
fn reach_the_operators(engine: &Engine) {
    for _ in 0..100 {
        engine.dependents("answers", "d").expect("known");
    }
}

/// What waits, up to the end of an epoch.
fn until_complete(updates: &Subscription) -> Vec<AnswerUpdate> {
    let mut answers = Vec::new();
    loop {
        match next(updates) {
            Update::Answer(answer) => answers.push(answer),
            Update::EpochComplete(_) => return answers,
            _ => {}
        }
    }
}

/// What a subscriber knows of the answers, who believes all that it is told.
#[derive(Default)]
struct Reader {
    answers: BTreeMap<String, Answer>,
    epochs: BTreeMap<String, u64>,
}

impl Reader {
    /// Reads what waits. What an update says was told before is what was told before, and epochs
    /// only grow.
    fn read(&mut self, updates: &Subscription) {
        while let Some(update) = updates.try_recv() {
            let Update::Answer(update) = update else {
                continue;
            };
            let key = update.context.to_string();
            assert_eq!(self.answers.get(&key), update.old.as_ref(), "{key}");
            let epoch = self.epochs.insert(key.clone(), update.epoch);
            assert!(epoch <= Some(update.epoch), "{key}: {epoch:?}");
            match update.new {
                Some(answer) => self.answers.insert(key, answer),
                None => self.answers.remove(&key),
            };
        }
    }
}

/// The answers of a view as of its last complete epoch.
fn complete(engine: &Engine) -> BTreeMap<String, Answer> {
    let answers = engine.answers("answers").expect("known").into_iter();
    answers
        .map(|(key, a)| (key.to_string(), a.answer))
        .collect()
}

fn text(number: u8) -> String {
    format!(
        "The alpha{} is beta{}. Some gamma too.",
        number % 3,
        number % 5
    )
}

fn wording(number: u8) -> String {
    format!("alpha{} beta{}", number % 3, number % 4)
}

/// An engine over a state directory.
fn kept(dir: &Path, case: &Case) -> Rig {
    let model = match case.policy {
        Policy::Exact => Scripted::new(),
        _ => Scripted::borrowing(),
    };
    let model = model.taking(Duration::from_millis(case.takes_ms));
    let declared = each(case.budget).policy(case.policy);
    rig(model, case.at_a_time, |builder| {
        builder.view(declared).workers(case.workers).state(dir)
    })
}

#[derive(Clone, Debug)]
struct Case {
    workers: usize,
    at_a_time: usize,
    takes_ms: u64,
    budget: usize,
    policy: Policy,
    /// Whether an engine ends with all complete, or in the middle of its work.
    ends_complete: bool,
}

fn case() -> impl Strategy<Value = Case> {
    (
        1usize..3,
        1usize..4,
        0u64..4,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(workers, at_a_time, takes_ms, is_small, is_exact, ends_complete)| Case {
                workers,
                at_a_time,
                takes_ms,
                budget: if is_small { 120 } else { 2000 },
                policy: if is_exact {
                    Policy::Exact
                } else {
                    Policy::Eventual
                },
                ends_complete,
            },
        )
}

/// Has an engine hold what stands, whatever it held.
pub(crate) fn refill(collections: &Collections, engine: &mut Engine) {
    for key in 0..6u8 {
        if !collections.documents.contains_key(&key) {
            engine.delete("docs", &key.to_string()).expect("runs");
        }
        if !collections.questions.contains_key(&key) {
            engine.delete("questions", &key.to_string()).expect("runs");
        }
    }
    collections.fill(engine);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_interleaving_is_a_run_from_scratch_when_it_is_complete(
        case in case(),
        steps in steps(5, 0..=15, 6, 0..12, 8..40),
        pause_ms in 0u64..3,
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut collections = Collections::empty(text, wording);
        collections.questions.insert(0, 0);
        let mut rig = kept(dir.path(), &case);
        collections.fill(&mut rig.engine);
        let mut updates = rig.engine.subscribe("answers").expect("known");
        let mut reader = Reader::default();
        for (at, step) in (1..).zip(steps) {
            if let Step::Restart = step {
                if case.ends_complete {
                    rig.engine.flush().expect("runs");
                }
                drop(rig);
                rig = kept(dir.path(), &case);
                refill(&collections, &mut rig.engine);
                updates = rig.engine.subscribe("answers").expect("known");
                reader = Reader::default();
            } else {
                let is_flush = matches!(step, Step::Flush);
                rig = collections.go_on(rig, vec![step], at);
                if is_flush {
                    reader.read(&updates);
                }
            }
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
        rig.engine.settle().expect("runs");
        reader.read(&updates);
        let complete = complete(&rig.engine);
        prop_assert_eq!(&reader.answers, &complete);

        let mut fresh = Rig::start(Scripted::new(), |builder| {
            builder.table("docs").table("questions").view(view(case.budget))
        });
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(rig.texts(), fresh.texts());
        drop(rig);

        // What was complete is asked of no model again.
        let mut again = kept(dir.path(), &case);
        prop_assert_eq!(again.texts(), fresh.texts());
        prop_assert_eq!(again.model.n_calls(), 0);
    }
}

#[test]
fn a_held_call_keeps_no_other_answer_waiting() {
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let rig = rig(model, 2, |builder| builder.view(each(2000)));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    let edits = vec![
        Edit::upsert("docs", "d", "The library opens at nine."),
        Edit::upsert("questions", "slow", format!("library {SLOW_WORD}")),
        Edit::upsert("questions", "q", "library"),
    ];
    engine.apply(edits).expect("runs");
    let first = next_answer(&updates);
    assert_eq!((first.context.as_str(), first.is_early), ("q", true));
    assert_eq!(first.new_text(), Some("The library opens at nine."));
    for word in ["opens", "nine.", "nothing"] {
        engine.upsert("questions", "q", word).expect("runs");
        let told = next_answer(&updates);
        assert_eq!((told.context.as_str(), told.is_early), ("q", true));
        assert_eq!(&*told.question, word);
        assert!(told.epoch > first.epoch);
    }
    // A newcomer hears what was told; who asks for what is complete gets nothing.
    let newcomer = engine.subscribe("answers").expect("known");
    let told = next_answer(&newcomer);
    assert_eq!(
        (told.new_text(), told.is_early),
        (Some("Nothing is known of nothing."), true)
    );
    assert!(complete(engine).is_empty());

    hold.release();
    engine.flush().expect("runs");
    let told = until_complete(&updates);
    let told: Vec<_> = told
        .iter()
        .map(|a| (a.context.as_str(), a.kind()))
        .collect();
    assert_eq!(told, [("slow", ChangeKind::New)]);
    assert_eq!(complete(engine).len(), 2);
    // Every call was of use.
    assert_eq!(rig.model.n_calls(), 5);
}

#[test]
fn a_context_that_changes_while_it_waits_is_asked_once() {
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let rig = rig(model, 1, |builder| builder.view(each(2000)));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    keep_the_thread_busy(&rig);
    while updates.try_recv().is_some() {}
    for word in ["library", "opens", "nine."] {
        engine.upsert("questions", "q", word).expect("runs");
        next_start(&updates);
    }
    // One that comes and goes is not asked at all.
    engine
        .upsert("questions", "guest", "library")
        .expect("runs");
    next_start(&updates);
    engine.delete("questions", "guest").expect("runs");
    next_start(&updates);
    reach_the_operators(engine);
    hold.release();
    engine.flush().expect("runs");
    let told = until_complete(&updates);
    let told: Vec<_> = told
        .iter()
        .map(|a| (a.context.as_str(), &*a.question))
        .collect();
    assert_eq!(told, [("slow", SLOW_WORD), ("q", "nine.")]);
    assert_eq!(rig.model.n_calls(), 2);
}

#[test]
fn what_is_urgent_goes_first_then_what_is_newest() {
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let rig = rig(model, 1, |builder| builder.view(each(2000)).workers(2));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    keep_the_thread_busy(&rig);
    while updates.try_recv().is_some() {}
    let edits = vec![
        Edit::upsert("questions", "late", "library").with("priority", -1i64),
        Edit::upsert("questions", "plain", "library"),
        Edit::upsert("questions", "urgent", "library").with("priority", 7i64),
        Edit::upsert("questions", "raised", "library"),
    ];
    engine.apply(edits).expect("runs");
    next_start(&updates);
    engine
        .upsert("questions", "newest", "library")
        .expect("runs");
    next_start(&updates);
    // A priority alone is no change of what is asked, and moves who waits.
    let raised = Edit::upsert("questions", "raised", "library").with("priority", 9i64);
    engine.apply(vec![raised]).expect("runs");
    next_start(&updates);
    reach_the_operators(engine);
    hold.release();
    engine.flush().expect("runs");
    let told = until_complete(&updates);
    let told: Vec<_> = told.iter().map(|a| a.context.as_str()).collect();
    assert_eq!(
        told,
        ["slow", "raised", "urgent", "newest", "plain", "late"]
    );
    assert_eq!(rig.model.n_calls(), 6);
}

#[test]
fn a_running_call_that_nobody_wants_is_cancelled() {
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let rig = rig(model, 1, |builder| builder.view(each(2000)));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    keep_the_thread_busy(&rig);
    // The only thread is free again.
    engine.upsert("questions", "slow", "library").expect("runs");
    assert_eq!(
        next_answer(&updates).new_text(),
        Some("The library opens at nine.")
    );
    engine.flush().expect("runs");
    assert!(hold.0.load(Ordering::SeqCst), "it is still held");
    assert_eq!(rig.model.n_calls(), 2);
}

#[test]
fn an_answer_that_goes_is_told_once_and_at_once() {
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let rig = rig(model, 2, |builder| builder.view(each(2000)));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    engine
        .upsert("docs", "d", "The library opens at nine.")
        .expect("runs");
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
    assert_eq!(until_complete(&updates).len(), 1);
    engine.upsert("questions", "slow", SLOW_WORD).expect("runs");
    engine.delete("questions", "q").expect("runs");
    let gone = next_answer(&updates);
    assert_eq!(
        (gone.context.as_str(), gone.kind()),
        ("q", ChangeKind::Gone)
    );
    assert!(gone.is_early);
    // It stands until the epoch is complete.
    assert_eq!(complete(engine).len(), 1);
    hold.release();
    engine.flush().expect("runs");
    let told = until_complete(&updates);
    let told: Vec<_> = told.iter().map(|a| a.context.as_str()).collect();
    assert_eq!(told, ["slow"]);
    assert_eq!(complete(engine).len(), 1);
}

#[test]
fn a_view_over_a_view_reads_what_is_complete() {
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let second = View::named("second")
        .context("questions")
        .data_source("answers");
    let rig = rig(model, 4, |builder| builder.view(each(2000)).view(second));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    engine
        .upsert("docs", "d", "The library opens at nine.")
        .expect("runs");
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
    let stood = engine.answers("second").expect("known");
    assert_eq!(until_complete(&updates).len(), 1);
    engine.upsert("questions", "slow", SLOW_WORD).expect("runs");
    engine.upsert("questions", "q", "opens at").expect("runs");
    while &*next_answer(&updates).question != "opens at" {}
    assert_eq!(engine.answers("second").expect("known").len(), stood.len());
    let rows = engine.snapshot("answers").expect("known").rows;
    assert_eq!(rows.len(), 1);
    hold.release();
    engine.flush().expect("runs");
    assert_eq!(engine.answers("second").expect("known").len(), 2);
    assert_eq!(engine.snapshot("answers").expect("known").rows.len(), 2);
}

#[test]
fn a_recording_and_a_sink_have_what_is_complete() {
    let dir = tempfile::tempdir().expect("a folder");
    let (record, out) = (dir.path().join("record"), dir.path().join("out.jsonl"));
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let rig = rig(model, 2, |builder| {
        let sink = JsonLinesSink::open(&out).expect("writable");
        let builder = builder.view(each(2000)).sink("answers", sink);
        builder.record(&record)
    });
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    engine.upsert("questions", "slow", SLOW_WORD).expect("runs");
    for word in ["one", "two", "three"] {
        engine
            .upsert("docs", "d", &format!("The code is {word}."))
            .expect("runs");
        engine
            .upsert("questions", "q", &format!("code {word}"))
            .expect("runs");
        while next_answer(&updates).new_text() != Some(&format!("The code is {word}.")) {}
    }
    hold.release();
    engine.flush().expect("runs");
    drop(rig);
    let delivered = std::fs::read_to_string(&out).expect("readable");
    assert!(!delivered.contains("two"), "{delivered}");
    assert!(delivered.contains("The code is three."), "{delivered}");

    let model = Arc::new(Scripted::new());
    let runtime = Runtime::scripted(model, Arc::new(ScriptedEmbedder::default()));
    let replay = Replay::open(&record, runtime).expect("there");
    let epochs: Vec<ReplayedEpoch> = replay.collect::<Result<_, _>>().expect("sound");
    assert!(!epochs.is_empty());
    assert!(
        epochs.iter().all(|e| e.differences.is_empty()),
        "{epochs:?}"
    );
}

/// An edit that touches all contexts does not hide the next one of one context.
#[test]
fn a_large_edit_hides_no_small_one() {
    let model = Scripted::new().taking(Duration::from_millis(2));
    let rig = rig(model, 1, |builder| builder.view(each(2000)));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    let mut edits = vec![Edit::upsert("docs", "d", "The library opens at nine.")];
    edits.extend((0..500).map(|i| Edit::upsert("questions", i.to_string(), "library")));
    engine.apply(edits).expect("runs");
    next_answer(&updates);
    engine.upsert("questions", "250", "nine.").expect("runs");
    let mut n_before = 0;
    loop {
        let told = next_answer(&updates);
        if &*told.question == "nine." {
            break;
        }
        n_before += 1;
    }
    // Those that ended while the edit was on its way, the one that ran, and a turn of the oldest.
    assert!(n_before < 100, "{n_before} of 500 were answered before it");
    assert!(complete(engine).is_empty());
    engine.flush().expect("runs");
    assert_eq!(complete(engine).len(), 500);
}

/// Edits that come faster than a call takes do not cancel every call.
#[test]
fn edits_without_end_are_answered_now_and_then() {
    let model = Scripted::new().taking(Duration::from_millis(30));
    let rig = rig(model, 1, |builder| builder.view(each(2000)));
    let (engine, updates) = (&rig.engine, rig.engine.subscribe("answers").expect("known"));
    engine.upsert("questions", "q", "version").expect("runs");
    let mut n_told = 0;
    for i in 0.. {
        engine
            .upsert("docs", "d", &format!("This is version {i}."))
            .expect("runs");
        std::thread::sleep(Duration::from_millis(2));
        while let Some(update) = updates.try_recv() {
            n_told += usize::from(matches!(update, Update::Answer(_)));
        }
        if n_told > 5 {
            break;
        }
        assert!(i < 10_000, "no edit is answered");
    }
    engine.flush().expect("runs");
}
