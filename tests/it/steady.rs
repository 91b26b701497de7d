//! Under edits that never pause: who waits for what was said before is served all the same.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use perennial::ask::scripted::Scripted;
use perennial::views::query::builder::{col, scan};
use perennial::{Engine, Policy, View};

use crate::rig::{Rig, view};

const DEADLINE: Duration = Duration::from_secs(120);
/// Stands in no other text.
const CANARY: &str = "the heron nests behind the old pump house";

/// A document that is edited again and again, as long as this is there.
struct Load {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn on(engine: &Engine) -> Self {
        let (engine, is_over) = (engine.clone(), Arc::new(AtomicBool::new(false)));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            for i in 0.. {
                let text = format!("Version {i} of what is edited .");
                // An engine that has ended takes nothing any more.
                if over.load(Ordering::Relaxed) || engine.upsert("docs", "busy", &text).is_err() {
                    return;
                }
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a call gives.
fn in_time<T: Send + 'static>(
    engine: &Engine,
    call: impl FnOnce(&Engine) -> T + Send + 'static,
) -> T {
    let (engine, (sender, outcome)) = (engine.clone(), mpsc::channel());
    std::thread::spawn(move || sender.send(call(&engine)));
    outcome.recv_timeout(DEADLINE).expect("served in time")
}

fn start(policy: Policy, state: Option<&Path>) -> Rig {
    let mut rig = Rig::start(Scripted::borrowing(), |builder| {
        let tables = builder.table("docs").table("questions");
        let builder = tables.view(view(2000).policy(policy));
        match state {
            Some(dir) => builder.state(dir),
            None => builder,
        }
    });
    for (key, question) in [("q", "alpha"), ("r", "beta"), ("s", "edited")] {
        rig.upsert("questions", key, question);
    }
    rig.upsert("docs", "a", "alpha is here.");
    rig.upsert("docs", "b", "beta is here.");
    rig.engine.settle().expect("runs");
    rig
}

fn text_of(engine: &Engine, view: &str, key: &str) -> String {
    let answers = engine.answers(view).expect("runs");
    let answer = answers.into_iter().find(|(of, _)| of.as_str() == key);
    let (_, current) = answer.expect("answered");
    current.answer.expect("no error").text.to_string()
}

#[test]
fn flush_and_settle_wait_for_what_was_sent_before_and_for_nothing_later() {
    for policy in [Policy::Exact, Policy::Eventual, Policy::Append] {
        let mut rig = start(policy, None);
        let load = Load::on(&rig.engine);
        rig.upsert("docs", "a", "alpha has moved.");
        in_time(&rig.engine, Engine::flush).expect("runs");
        assert!(text_of(&rig.engine, "answers", "q").contains("alpha has moved."));
        rig.upsert("docs", "b", "beta has moved.");
        in_time(&rig.engine, Engine::settle).expect("runs");
        assert!(text_of(&rig.engine, "answers", "r").contains("beta has moved."));
        drop(load);
    }
}

#[test]
fn a_view_over_one_that_never_rests_hears_of_what_it_has_completed() {
    let second = View::named("second")
        .prompt("Answer.")
        .context("questions")
        .data_source("answers")
        .token_budget(2000)
        .max_tokens(200);
    let model = Scripted::new().taking(Duration::from_millis(20));
    let rig = Rig::start(model, |builder| {
        let tables = builder.table("docs").table("questions");
        tables.view(view(2000)).view(second)
    });
    let engine = &rig.engine;
    // It reads the same, and is soon done: so an epoch is closed whenever the first view is ready for one.
    let rows = scan("docs").project(["key", "text"].map(|name| col(name).named(name)));
    let rows = rows.bind(engine).expect("sound");
    engine.create_query("rows", rows).expect("new");
    engine.upsert("docs", "a", "alpha is here.").expect("runs");
    engine.upsert("questions", "q", "alpha").expect("runs");
    engine.flush().expect("runs");
    let load = Load::on(engine);
    engine
        .upsert("docs", "a", "alpha has moved.")
        .expect("runs");
    in_time(engine, |engine| engine.flush_into(&["second"])).expect("runs");
    assert!(text_of(engine, "second", "q").contains("alpha has moved."));
    drop(load);
}

#[test]
fn a_document_is_forgotten_between_two_epochs() {
    for policy in [Policy::Exact, Policy::Eventual, Policy::Append] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut rig = start(policy, Some(dir.path()));
        rig.upsert("docs", "secret", &format!("alpha knows that {CANARY}."));
        rig.upsert("docs", "other", &format!("beta knows that {CANARY} too."));
        rig.engine.flush().expect("runs");
        let load = Load::on(&rig.engine);
        let keys = ["secret", "other"].map(Into::into);
        let receipts = in_time(&rig.engine, |engine| engine.forget_all("docs", keys));
        drop(load);
        for receipt in receipts.expect("forgets") {
            assert!(receipt.was_there, "{receipt:?}");
            assert_eq!(receipt.remains, Vec::<String>::new());
        }
        let engine = rig.engine.clone();
        engine.flush().expect("runs");
        for file in std::fs::read_dir(dir.path()).expect("there") {
            let path = file.expect("a file").path();
            if path.is_file() {
                let bytes = std::fs::read(path).expect("readable");
                let mut windows = bytes.windows(CANARY.len());
                assert!(!windows.any(|window| window == CANARY.as_bytes()));
            }
        }
    }
}
