//! Rows that a receiver refuses for good, from the engine to a file of dead letters.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::connectors::{DeadLetters, Sink, Webhook};
use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, Runtime, Update, state};
use serde_json::Value;

use crate::receiver::Receiver;
use crate::rig::{Rig, view};

fn rig(dir: &Path, receiver: &Receiver, has_letters: bool) -> Rig {
    let hook = Webhook::open(&receiver.url()).expect("a URL");
    let sink: Box<dyn Sink> = match has_letters {
        true => {
            let letters = DeadLetters::open(dir.join("refused.jsonl")).expect("writable");
            Box::new(letters.of(hook))
        }
        false => Box::new(hook),
    };
    Rig::start(Scripted::new(), |builder| {
        builder
            .state(dir)
            .table("docs")
            .table("questions")
            .view(view(2000))
            .sink("answers", sink)
    })
}

fn fill(rig: &mut Rig) {
    rig.upsert("docs", "a", "alpha is here.");
    rig.upsert("docs", "b", "beta is here.");
    rig.upsert("questions", "p", "alpha");
    rig.upsert("questions", "q", "beta");
    rig.engine.flush().expect("runs");
}

/// Waits until nothing is owed.
fn drained(rig: &Rig) {
    let until = Instant::now() + Duration::from_secs(60);
    while !rig.engine.undelivered().expect("runs").is_empty() {
        assert!(Instant::now() < until, "it is owed something still");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The keys of the letters in a folder.
fn letters(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("refused.jsonl")).unwrap_or_default();
    // The last line may be half written.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let letters = lines.filter(|line| line.get("refused").is_some());
    letters
        .map(|letter| letter["key"].as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn without_a_file_what_is_refused_waits_and_with_one_the_rest_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start([]);
    receiver.refuse(422, "beta is here.");
    let mut first = rig(dir.path(), &receiver, false);
    let updates = first.engine.subscribe("answers").expect("known");
    fill(&mut first);
    let until = Instant::now() + Duration::from_secs(60);
    let said = loop {
        assert!(Instant::now() < until, "no word of it");
        if let Some(Update::Notice { message, .. }) = updates.try_recv() {
            break message;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(
        said.contains("422") && said.contains("dead letters"),
        "{said}"
    );
    assert_eq!(first.engine.undelivered().expect("runs").len(), 1);
    assert!(first.engine.dead_letters().expect("runs").is_empty());
    drop(first);

    // It is still owed, and now it has where to go.
    let second = rig(dir.path(), &receiver, true);
    second.engine.flush().expect("runs");
    drained(&second);
    assert_eq!(letters(dir.path()), ["q"]);
    let last = receiver.taken();
    let rows: Vec<Value> = last.iter().map(|got| got.json()["rows"].clone()).collect();
    let told = serde_json::to_string(&rows).expect("JSON");
    assert!(told.contains("alpha is here.") && !told.contains("beta is here."));
    let put_aside = second.engine.dead_letters().expect("runs");
    assert_eq!((put_aside.len(), put_aside[0].n_rows), (1, 1));
    assert!(put_aside[0].file.ends_with("refused.jsonl"));
    drop(second);

    // Once, over restarts; and what comes next is delivered.
    let mut third = rig(dir.path(), &receiver, true);
    third.upsert("docs", "b", "beta has moved.");
    third.engine.flush().expect("runs");
    drained(&third);
    assert_eq!(letters(dir.path()), ["q"]);
    receiver.until(|got| {
        let last = got.last().map(|got| got.json().to_string());
        last.is_some_and(|last| last.contains("beta has moved."))
    });
}

#[test]
fn a_script_names_the_file_and_shows_how_many_stand_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start([]);
    receiver.refuse(400, "south");
    let runtime = Runtime::scripted(
        Arc::new(Scripted::new()),
        Arc::new(ScriptedEmbedder::default()),
    );
    let engine = Engine::builder(runtime).start().expect("starts");
    let session = Session::new(engine, "scripted");
    let file = dir.path().join("refused.jsonl");
    let script = format!(
        "CREATE TABLE shops (key TEXT, text TEXT);
         INSERT INTO shops VALUES ('north', 'one'), ('south', 'two');
         CREATE VIEW all_shops AS SELECT key, text FROM shops;
         CREATE SINK hook FROM all_shops INTO '{}' WITH (DEAD_LETTERS = '{}');",
        receiver.url(),
        file.display()
    );
    let run = |text: &str| {
        let mut shown = Vec::new();
        let ran = session.run(&Script::new("x.sql", text), |_, outcome| {
            if let Outcome::Rows { rows, .. } = outcome {
                shown = rows.into_iter().map(|row| format!("{row:?}")).collect();
            }
            Ok(())
        });
        if let Err(error) = ran {
            panic!("{error}");
        }
        shown
    };
    run(&script);
    receiver.until(|got| !got.is_empty());
    let until = Instant::now() + Duration::from_secs(60);
    while letters(dir.path()).is_empty()
        || !session.engine().undelivered().expect("runs").is_empty()
    {
        assert!(Instant::now() < until, "nothing is put aside");
        std::thread::sleep(Duration::from_millis(10));
    }
    let shown: Vec<String> = run("SHOW SINKS;");
    assert_eq!(shown.len(), 1);
    assert!(shown[0].contains("Integer(1)"), "{shown:?}");
}

/// A text of documents that must be found nowhere once they are forgotten.
const CANARY: &str = "beta nests behind the old pump house.";

/// An engine both of whose answers were refused.
fn refused(dir: &Path, receiver: &Receiver) -> Rig {
    receiver.refuse(410, "answers");
    let mut rig = rig(dir, receiver, true);
    rig.upsert("docs", "a", "alpha is here.");
    rig.upsert("docs", "b", CANARY);
    rig.upsert("docs", "c", "gamma stays.");
    rig.upsert("questions", "p", "alpha");
    rig.upsert("questions", "q", "beta");
    rig.engine.flush().expect("runs");
    drained(&rig);
    assert!(text(dir).contains(CANARY) && text(dir).contains("alpha is here."));
    rig
}

fn text(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("refused.jsonl")).expect("there")
}

#[test]
fn what_is_forgotten_leaves_the_dead_letters() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start([]);
    let rig = refused(dir.path(), &receiver);
    // By its text, and as what an answer leans on.
    let receipt = rig.engine.forget("docs", "b").expect("forgets");
    assert_eq!((receipt.n_letters, &receipt.remains[..]), (1, &[][..]));
    drained(&rig);
    assert!(!text(dir.path()).contains(CANARY));
    assert!(text(dir.path()).contains("alpha is here."));
    // By its key: the question is too short to be sought.
    let receipt = rig.engine.forget("questions", "p").expect("forgets");
    assert!(receipt.n_letters >= 1, "{receipt:?}");
    drained(&rig);
    assert!(!text(dir.path()).contains("alpha is here."));
    drop(rig);
    let kept = state::receipts(dir.path()).expect("whole");
    assert_eq!((kept.len(), kept[0].n_letters), (2, 1));
}

#[test]
fn letters_of_a_sink_that_is_not_declared_any_more_are_reached() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start([]);
    drop(refused(dir.path(), &receiver));
    let engine = Rig::start(Scripted::new(), |builder| {
        let builder = builder.state(dir.path()).table("docs");
        builder.table("questions").view(view(2000))
    })
    .engine;
    engine.flush().expect("runs");
    let receipt = engine.forget("docs", "b").expect("forgets");
    assert_eq!((receipt.n_letters, &receipt.remains[..]), (1, &[][..]));
    assert!(!text(dir.path()).contains(CANARY));
}

#[test]
fn a_folder_that_nobody_has_open_reaches_its_dead_letters() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start([]);
    drop(refused(dir.path(), &receiver));
    // What was delivered last may be owed for a moment.
    let forget = |key: &str| {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match state::forget(dir.path(), "docs", &[key]) {
                Ok(mut receipts) => break receipts.remove(0),
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            let rig = rig(dir.path(), &receiver, true);
            rig.engine.flush().expect("runs");
            drained(&rig);
        }
    };
    let receipt = forget("b");
    assert_eq!((receipt.n_letters, &receipt.remains[..]), (1, &[][..]));
    assert!(!text(dir.path()).contains(CANARY));
    // A file that somebody else writes to is told, and left alone.
    let held = DeadLetters::open(dir.path().join("refused.jsonl")).expect("nobody has it");
    let receipt = forget("a");
    let is_told =
        |place: &String| place.contains("refused.jsonl") && place.contains("another sink");
    assert!(receipt.remains.iter().any(is_told), "{receipt:?}");
    drop(held);
    assert!(text(dir.path()).contains("alpha is here."));
    let kept = state::receipts(dir.path()).expect("whole");
    assert_eq!(kept.last(), Some(&receipt));
    // It is gone from the state, and its key still finds it.
    let receipt = forget("a");
    assert_eq!((receipt.was_there, receipt.n_letters), (false, 1));
    assert!(!text(dir.path()).contains("alpha is here."));
}
