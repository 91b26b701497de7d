//! The engine over a scripted model: what a view promises, without tensors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial::ask::scripted::{BORROWED, ERROR_WORD, PANIC_WORD, Scripted, ScriptedEmbedder};
use perennial::ask::{CallError, Rung};
use perennial::connectors::{
    Acks, Batch, Change, Event, Folder, Halt, JsonLines, Offset, Outlet, Record, Source,
    SourceName, Watching,
};
use perennial::engine::ChangeKind;
use perennial::rows::Row;
use perennial::{Delivery, Engine, Error, Order, PaceOption, Policy, Runtime, Scope, Update, View};
use proptest::prelude::*;

use crate::history::{Collections, steps};
use crate::rig::{Rig, view};

fn rig_of(model: Scripted, view: View, n_workers: usize) -> Rig {
    Rig::start(model, |builder| {
        let tables = builder.table("docs").table("questions");
        tables.view(view).workers(n_workers)
    })
}

fn rig() -> Rig {
    rig_of(Scripted::new(), view(2000), 1)
}

#[test]
fn an_answer_follows_inserts_corrections_and_deletes() {
    let mut rig = rig();
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("docs", "pets", "No pets are allowed.");
    rig.upsert("questions", "q", "library");
    assert_eq!(rig.texts()["q"], "The library opens at nine.");
    rig.upsert("docs", "hours", "The library opens at ten.");
    assert_eq!(rig.texts()["q"], "The library opens at ten.");
    rig.engine.delete("docs", "hours").expect("runs");
    assert_eq!(rig.texts()["q"], "Nothing is known of library.");
    rig.engine.delete("questions", "q").expect("runs");
    assert!(rig.texts().is_empty());
}

#[test]
fn without_documents_there_is_no_answer_and_nobody_is_asked() {
    let without = "error: there are no documents to answer from";
    let view = |budget| view(budget).answer_without_documents(false);
    for (policy, delivery) in [
        (Policy::Exact, Delivery::Epoch),
        (Policy::Eventual, Delivery::Epoch),
        (Policy::Append, Delivery::Epoch),
        (Policy::Exact, Delivery::Each),
    ] {
        let declared = view(2000).policy(policy).deliver(delivery);
        let mut rig = rig_of(Scripted::new(), declared, 2);
        rig.upsert("questions", "q", "library");
        let updates = rig.engine.subscribe("answers").expect("known");
        assert_eq!(rig.texts()["q"], without);
        let epoch = std::iter::from_fn(|| updates.try_recv()).find_map(|update| match update {
            Update::EpochComplete(summary) => Some(summary.rungs),
            _ => None,
        });
        let rungs = epoch.expect("an epoch");
        assert_eq!((rungs.failed, rungs.keep), (1, 0));
        rig.upsert("docs", "hours", "The library opens at nine.");
        assert_eq!(rig.texts()["q"], "The library opens at nine.");
        rig.engine.delete("docs", "hours").expect("runs");
        assert_eq!(rig.texts()["q"], without);
        assert_eq!(rig.model.n_calls(), 1, "{policy}, {delivery}");
    }
    // An answer that waits to be made exact waits for nothing any more.
    let declared = view(2000).policy(Policy::Eventual).calls_per_hour(2);
    let mut rig = rig_of(Scripted::borrowing(), declared, 1);
    rig.upsert("questions", "q", "library");
    for time in ["nine", "ten"] {
        rig.upsert("docs", "hours", &format!("The library opens at {time}."));
        rig.engine.flush().expect("there is room");
    }
    rig.engine.delete("docs", "hours").expect("runs");
    assert!(rig.engine.flush().is_err(), "the budget is used up");
    let unlimited = [PaceOption::CallsPerHour(None)];
    rig.engine.alter_view("answers", unlimited).expect("known");
    rig.engine.settle().expect("runs");
    assert_eq!(rig.texts()["q"], without);
    assert_eq!(rig.model.n_calls(), 2);
    // Documents of which nothing can be read are none either.
    let mut rig = rig_of(Scripted::new(), view(2), 1);
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    let text = &rig.texts()["q"];
    assert!(
        text.starts_with("error: the most relevant passage does not fit the token budget of 2"),
        "{text}"
    );
    assert_eq!(rig.model.n_calls(), 0);
}

#[test]
fn updates_tell_old_new_and_rung_and_end_with_their_epoch() {
    let mut rig = rig();
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    rig.engine.flush().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    let snapshot = updates.answers().next().expect("present answer");
    assert_eq!(snapshot.kind(), ChangeKind::New);

    rig.upsert("docs", "other", "Something else.");
    rig.engine.flush().expect("runs");
    rig.upsert("docs", "hours", "The library opens at ten.");
    rig.engine.flush().expect("runs");
    let mut seen = Vec::new();
    while let Some(update) = updates.try_recv() {
        match update {
            Update::Answer(answer) => seen.push((answer.epoch, Some((answer.kind(), answer.rung)))),
            Update::EpochComplete(summary) => seen.push((summary.epoch, None)),
            _ => {}
        }
    }
    assert_eq!(
        seen,
        [
            (1, Some((ChangeKind::Stands, Rung::Verify))),
            (1, None),
            (2, Some((ChangeKind::Changed, Rung::Rewrite))),
            (2, None),
        ]
    );
}

#[test]
fn a_change_that_touches_nothing_calls_nothing() {
    let mut rig = rig();
    rig.engine
        .upsert_at("docs", "a", "One fact.", 1)
        .expect("runs");
    rig.engine
        .upsert_at("docs", "b", "Two facts.", 2)
        .expect("runs");
    rig.upsert("questions", "q", "fact.");
    rig.engine.flush().expect("runs");
    assert_eq!(rig.model.n_calls(), 1);
    // The same text, saved again: the order of the layout is as before.
    rig.engine
        .upsert_at("docs", "b", "Two facts.", 3)
        .expect("runs");
    rig.engine.flush().expect("runs");
    assert_eq!(rig.model.n_calls(), 1);
    // A retraction of a context calls nothing either.
    rig.engine.delete("questions", "q").expect("runs");
    rig.engine.flush().expect("runs");
    assert_eq!(rig.model.n_calls(), 1);
}

#[test]
fn a_burst_of_saves_costs_one_refresh() {
    let mut rig = rig_of(
        Scripted::new().taking(Duration::from_millis(50)),
        view(2000),
        1,
    );
    rig.upsert("questions", "q", "version");
    rig.engine.flush().expect("runs");
    let before = rig.model.n_calls();
    for i in 0..100 {
        rig.upsert("docs", "d", &format!("This is version {i}."));
    }
    assert_eq!(rig.texts()["q"], "This is version 99.");
    // At most: one epoch that closed on the first saves, and one with the rest.
    assert!(
        rig.model.n_calls() - before <= 3,
        "{} calls",
        rig.model.n_calls() - before
    );
}

#[test]
fn documents_beyond_the_budget_are_selected_and_nothing_is_embedded_before() {
    let mut rig = rig_of(Scripted::new(), view(60), 1);
    rig.upsert("docs", "a", "alpha lives here.");
    rig.upsert("questions", "q", "alpha");
    assert_eq!(rig.texts()["q"], "alpha lives here.");
    assert_eq!(rig.embedder.n_texts(), 0);
    for i in 0..20 {
        let text = format!("filler number {i} speaks of other things.");
        rig.upsert("docs", &format!("f{i}"), &text);
    }
    assert_eq!(rig.texts()["q"], "alpha lives here.");
    assert_eq!(rig.embedder.n_texts(), 22);
    // An edit embeds its own passage only.
    rig.upsert("docs", "a", "alpha moved away.");
    assert_eq!(rig.texts()["q"], "alpha moved away.");
    assert_eq!(rig.embedder.n_texts(), 23);
    // A passage that does not enter the selection costs no call.
    let n_calls = rig.model.n_calls();
    rig.upsert(
        "docs",
        "g",
        "gamma is far from it, and what it says takes long.",
    );
    rig.engine.flush().expect("runs");
    assert_eq!(rig.model.n_calls(), n_calls);
    // And back: everything fits again.
    for i in 0..20 {
        rig.engine.delete("docs", &format!("f{i}")).expect("runs");
    }
    rig.engine.delete("docs", "g").expect("runs");
    assert_eq!(rig.texts()["q"], "alpha moved away.");
}

#[test]
fn failing_calls_are_data_and_the_rest_goes_on() {
    let mut rig = rig();
    rig.upsert("docs", "a", "alpha lives here.");
    rig.upsert("questions", "good", "alpha");
    rig.upsert("questions", "bad", ERROR_WORD);
    rig.upsert("questions", "panics", PANIC_WORD);
    rig.upsert("questions", "long", &"very long ".repeat(1000));
    let texts = rig.texts();
    assert_eq!(texts["good"], "alpha lives here.");
    assert!(texts["bad"].contains("asked to fail"));
    assert_eq!(texts["panics"], format!("error: {}", CallError::Lost));
    assert!(texts["long"].contains("does not fit"), "{}", texts["long"]);
    rig.upsert("questions", "panics", "alpha");
    assert_eq!(rig.texts()["panics"], "alpha lives here.");
}

#[test]
fn who_subscribes_late_still_hears_what_sources_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("docs.jsonl");
    std::fs::write(&path, "{\"upsert\": {\"key\": \"cut\n").expect("writable");
    let source = JsonLines::open("docs", &path).expect("there");
    let runtime = Runtime::scripted(
        Arc::new(Scripted::new()),
        Arc::new(ScriptedEmbedder::default()),
    );
    let engine = Engine::builder(runtime)
        .source(source)
        .table("questions")
        .view(view(100))
        .start()
        .expect("starts");
    // The source has caught up: it has said all it has to say.
    engine.flush().expect("runs");
    assert_eq!(engine.quarantine().expect("runs").len(), 1);
    let updates = engine.subscribe("answers").expect("known");
    assert!(matches!(updates.try_recv(), Some(Update::Rejected(_))));
}

#[test]
fn stopping_does_not_wait_for_queued_calls() {
    let mut rig = rig_of(
        Scripted::new().taking(Duration::from_millis(200)),
        view(2000),
        2,
    );
    for i in 0..100 {
        rig.upsert("questions", &format!("q{i}"), "alpha");
    }
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    drop(rig);
    // A hundred calls on four threads would take five seconds.
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn declarations_that_cannot_work_are_refused() {
    let runtime = || {
        Runtime::scripted(
            Arc::new(Scripted::new()),
            Arc::new(ScriptedEmbedder::default()),
        )
    };
    let unknown = Engine::builder(runtime())
        .table("docs")
        .view(view(100))
        .start();
    assert!(matches!(unknown, Err(Error::UnknownStream { .. })));
    let twice = Engine::builder(runtime())
        .table("docs")
        .table("docs")
        .start();
    assert!(matches!(twice, Err(Error::DeclaredTwice { .. })));
    let rig = rig();
    assert!(matches!(
        rig.engine.subscribe("nothing"),
        Err(Error::UnknownView { .. })
    ));
    assert!(matches!(
        rig.engine.upsert("nothing", "k", "t"),
        Err(Error::UnknownStream { .. })
    ));
}

fn text(value: u8) -> String {
    format!(
        "word{value} stands here with some more words. And word{} too.",
        value / 2
    )
}

#[test]
fn an_eventual_view_answers_at_once_and_then_exactly() {
    let mut rig = rig_of(
        Scripted::borrowing(),
        view(2000).policy(Policy::Eventual),
        1,
    );
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    rig.engine.settle().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    // With nothing to borrow, the first answer is exact.
    let first = updates.answers().next().expect("present");
    assert!(first.is_exact);
    rig.upsert("docs", "hours", "The library opens at ten.");
    rig.engine.settle().expect("runs");
    let told: Vec<_> = updates.answers().take(2).collect();
    let texts: Vec<_> = told.iter().map(|a| (a.new_text(), a.is_exact)).collect();
    let exact = "The library opens at ten.";
    let borrowed = format!("{exact}{BORROWED}");
    assert_eq!(texts, [(Some(&*borrowed), false), (Some(exact), true)]);
    assert!(told[0].drift > 0.0 && told[1].drift == 0.0);
    assert_eq!(told[1].old_text(), told[0].new_text());
    assert!(told[1].epoch > told[0].epoch);
    assert_eq!(rig.texts()["q"], exact);
    // One exact call, one provisional, one to heal it.
    assert_eq!(rig.model.n_calls(), 3);
}

#[test]
fn healing_gives_way_to_fresh_work_and_heals_what_then_stands() {
    let model = Scripted::borrowing().taking(Duration::from_millis(60));
    let mut rig = rig_of(model, view(2000).policy(Policy::Eventual), 2);
    rig.upsert("questions", "q", "version");
    rig.engine.settle().expect("runs");
    for i in 0..6 {
        rig.upsert("docs", "d", &format!("This is version {i}."));
        rig.engine.flush().expect("runs");
        std::thread::sleep(Duration::from_millis(20 * i));
    }
    rig.engine.settle().expect("runs");
    assert_eq!(rig.texts()["q"], "This is version 5.");
    // A context that goes while it is healed leaves nothing to wait for.
    rig.upsert("docs", "d", "This is the last version .");
    rig.engine.flush().expect("runs");
    rig.engine.delete("questions", "q").expect("runs");
    rig.engine.settle().expect("runs");
    assert!(rig.texts().is_empty());
}

#[test]
fn an_answer_that_cannot_be_healed_says_so_and_is_waited_for_once() {
    let model = Scripted::borrowing().panicking_when_healing();
    let mut rig = rig_of(model, view(2000).policy(Policy::Eventual), 1);
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    rig.engine.settle().expect("runs");
    rig.upsert("docs", "hours", "The library opens at ten.");
    rig.engine.settle().expect("runs");
    assert!(rig.texts()["q"].starts_with("error: "), "{:?}", rig.texts());
    let n_calls = rig.model.n_calls();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(rig.model.n_calls(), n_calls);
}

#[test]
fn more_rows_than_may_wait_are_taken_all_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("bulk.jsonl");
    let n_rows = 100_010;
    let lines: String = (0..n_rows)
        .map(|i| format!("{{\"key\":\"{i}\",\"text\":\"x\"}}\n"))
        .collect();
    std::fs::write(&path, lines).expect("writable");
    // No view reads them: what is measured is the way in.
    let mut rig = Rig::start(Scripted::new(), |builder| {
        let bulk = JsonLines::open("bulk", &path).expect("there");
        let tables = builder.source(bulk).table("docs").table("questions");
        tables.view(view(2000))
    });
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(rig.texts()));
    let texts = done.recv_timeout(Duration::from_secs(120));
    assert_eq!(texts.expect("not stuck")["q"], "The library opens at nine.");
}

/// A source whose listener panics, on the thread that keeps every view.
struct Cursed(SourceName);

impl Source for Cursed {
    fn name(&self) -> &SourceName {
        &self.0
    }

    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        struct Panics;
        impl Acks for Panics {
            fn committed(&mut self, _: &Offset, _: Option<u64>) {
                panic!("as the test wants it");
            }
        }
        Some(Box::new(Panics))
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let offset = Offset::Sequence(1);
        let record = Record::new("a".into(), Row::of_text("alpha is here."), offset.clone());
        out.batch(Batch {
            changes: vec![Change::Upsert(record)],
            resume: Some(offset),
            ..Batch::default()
        })?;
        out.send(Event::CaughtUp)?;
        out.wait(Duration::from_secs(600))
    }
}

#[test]
fn nobody_waits_for_an_engine_that_panicked() {
    let rig = Rig::start(Scripted::new(), |builder| {
        let cursed = Cursed(SourceName::new("docs"));
        builder
            .source(cursed)
            .table("questions")
            .view(view(2000))
            .held()
    });
    let updates = rig.engine.subscribe("answers").expect("known");
    rig.engine.release().expect("runs");
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // They end.
        let all: Vec<Update> = updates.iter().collect();
        let flushed = rig.engine.flush();
        sender.send((all, flushed.is_err()))
    });
    let (all, is_refused) = done
        .recv_timeout(Duration::from_secs(60))
        .expect("not stuck");
    let is_told = |update: &Update| matches!(update, Update::Failed { reason } if reason.contains("panicked"));
    assert!(all.iter().any(is_told), "{all:?}");
    assert!(is_refused);
}

/// A file whose time alone changes stands elsewhere in the prompt, as it does in a new run.
#[test]
fn a_touched_file_is_answered_from_as_in_a_run_from_scratch() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let docs = dir.path().join("docs");
    std::fs::create_dir(&docs).expect("writable");
    let at = |name: &str, seconds: u64| {
        let path = docs.join(name);
        if !path.exists() {
            let text = format!("alpha is in {name}.");
            std::fs::write(&path, text).expect("writable");
        }
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .expect("there");
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_modified(time).expect("may be set");
    };
    let start = |state: Option<&std::path::Path>| {
        let folder = Folder::open("docs", [&docs]).expect("there");
        let folder = folder.watching(Watching::Poll {
            every: Duration::from_millis(20),
        });
        let mut rig = Rig::start(Scripted::new(), |builder| {
            let builder = builder.source(folder).table("questions");
            let builder = builder.view(view(2000).order_by(Order::UpdatedAt));
            match state {
                Some(state) => builder.state(state),
                None => builder,
            }
        });
        rig.upsert("questions", "q", "alpha");
        rig
    };
    at("a.md", 1_000);
    at("b.md", 2_000);
    let mut running = start(Some(&state));
    let before = running.texts();
    for (name, seconds) in [("a.md", 3_000), ("b.md", 4_000), ("b.md", 500)] {
        at(name, seconds);
        let fresh = start(None).texts();
        let deadline = Instant::now() + Duration::from_secs(60);
        while running.texts() != fresh {
            assert!(
                Instant::now() < deadline,
                "running: {:?}, fresh: {fresh:?}",
                running.texts()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(running);
        running = start(Some(&state));
        assert_eq!(running.texts(), fresh);
    }
    assert_eq!(running.texts().len(), before.len());
}

fn wording(value: u8) -> String {
    format!("word{value}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the history, the workers and the restarts: what stands at the end is what
    /// a fresh engine says of the same collections; of provisional answers, once healed.
    #[test]
    fn any_history_gives_what_a_run_from_scratch_gives(
        steps in steps(6, 0..=8, 3, 0..9, 1..30),
        workers in prop::sample::select(vec![1usize, 2, 4]),
        budget in prop::sample::select(vec![150usize, 2000]),
        order in prop::sample::select(vec![Order::Key, Order::UpdatedAt]),
        scope in prop::sample::select(vec![
            Scope::Causal, Scope::Independent, Scope::Window { tokens: 64 },
            Scope::Boundary { tokens: 16 }]),
        policy in prop::sample::select(vec![
            Policy::Exact, Policy::Eventual, Policy::Append, Policy::Bounded { millinats: 50 }]),
        skips in any::<bool>(),
    ) {
        let view = || view(budget).order_by(order).scope(scope).policy(policy);
        let mut collections = Collections::empty(text, wording);
        let model = || match skips {
            true => Scripted::borrowing().skipping(),
            false => Scripted::borrowing(),
        };
        let mut rig = collections.run(steps, || rig_of(model(), view(), workers));
        rig.engine.settle().expect("runs");
        let mut fresh = rig_of(Scripted::new(), view(), 1);
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(rig.texts(), fresh.texts());
    }
}

#[test]
fn a_budget_that_the_model_has_no_room_for_is_lowered_and_that_is_said() {
    let notices = |budget| {
        let rig = crate::tensors::Case {
            budget,
            ..crate::tensors::PLAIN
        }
        .rig(&crate::tensors::decoder(1), 1, 1 << 24);
        let updates = rig.engine.subscribe("answers").expect("known");
        rig.engine.flush().expect("runs");
        let updates = std::iter::from_fn(|| updates.try_recv());
        let of_budget = |update| match update {
            Update::Notice { message, .. } => message.contains("tokens of documents at most"),
            _ => false,
        };
        updates.map(of_budget).filter(|is_it| *is_it).count()
    };
    assert_eq!([notices(1 << 20), notices(1000)], [1, 0]);
}
