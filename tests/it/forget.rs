//! A forgotten document is found nowhere.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use perennial::ask::scripted::Scripted;
use perennial::connectors::{Folder, JsonLinesSink, Watching};
use perennial::state::{self, AsOf};
use perennial::{Engine, EngineBuilder, Error, Update};

use crate::rig::{Rig, view};

/// Stands in no other text, the question aside.
const CANARY: &str = "the heron nests behind the old pump house";

fn start(dir: &Path, declare: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Engine {
    let declare = |builder: EngineBuilder| declare(builder).view(view(150)).state(dir);
    Rig::start(Scripted::new(), declare).engine
}

fn tables(dir: &Path) -> Engine {
    start(dir, |builder| builder.table("docs").table("questions"))
}

fn is_on_disk(dir: &Path) -> bool {
    let mut files = fs::read_dir(dir).expect("there");
    files.any(|file| {
        let bytes = fs::read(file.expect("a file").path()).expect("readable");
        let mut windows = bytes.windows(CANARY.len());
        windows.any(|window| window == CANARY.as_bytes())
    })
}

/// Feeds what stays; enough that passages are selected by their vectors.
fn feed(engine: &mut Engine) {
    for i in 0..12 {
        let text = format!("Note number {i} is about something else altogether.");
        engine
            .upsert_at("docs", &format!("n{i:02}"), &text, 0)
            .expect("runs");
    }
    engine.upsert("questions", "q", "heron").expect("runs");
    engine.upsert("questions", "r", "number 7").expect("runs");
    engine.flush().expect("runs");
}

#[test]
fn forgotten_is_as_never_inserted_in_answers_updates_and_on_disk() {
    let (dir, clean) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let mut engine = tables(dir.path());
    feed(&mut engine);
    // A reader that reads nothing until the end.
    let slow = engine.subscribe("answers").expect("known");
    let text = format!("In spring {CANARY}.");
    engine.upsert("docs", "secret", &text).expect("runs");
    engine.flush().expect("runs");
    engine
        .upsert("docs", "secret", &format!("{text} Again."))
        .expect("runs");
    engine.flush().expect("runs");
    let answers = engine.answers("answers").expect("runs");
    let says = |text: &str| text.contains(CANARY);
    assert!(
        answers
            .iter()
            .any(|(_, a)| a.answer.as_ref().is_ok_and(|a| says(&a.text)))
    );
    engine.delete("docs", "secret").expect("runs");
    engine.flush().expect("runs");
    assert!(is_on_disk(dir.path()), "a deletion leaves free pages");

    let receipt = engine.forget("docs", "secret").expect("forgets");
    assert_eq!(receipt.remains, Vec::<String>::new());
    assert!(receipt.n_updates > 0 && receipt.n_state_bytes.is_some());
    assert!(!is_on_disk(dir.path()));
    // Three epochs that held it, and the one before, can be asked for no more.
    let present = receipt.epoch.expect("an epoch");
    assert_eq!(receipt.n_epochs, present);
    assert!(engine.as_of(AsOf::Epoch(present)).is_ok());
    let before = engine.as_of(AsOf::Epoch(present - 1));
    assert!(matches!(
        before,
        Err(Error::State(state::StateError::NotInHistory { oldest: Some(oldest), .. }))
            if oldest == present
    ));
    while let Some(update) = slow.try_recv() {
        if let Update::Answer(answer) = update {
            assert!(!answer.old_text().is_some_and(says), "{answer:?}");
            assert!(!answer.new_text().is_some_and(says), "{answer:?}");
        }
    }
    let mut never = tables(clean.path());
    feed(&mut never);
    let texts = |engine: &Engine| -> Vec<_> {
        let answers = engine.answers("answers").expect("runs");
        answers
            .into_iter()
            .map(|(key, a)| (key, a.answer))
            .collect()
    };
    assert_eq!(texts(&engine), texts(&never));

    // What is written later does not bring it back, and the state goes on.
    engine.upsert("questions", "s", "number 3").expect("runs");
    engine.flush().expect("runs");
    let before = texts(&engine);
    drop(engine);
    let found = state::check(dir.path()).expect("whole");
    never.upsert("questions", "s", "number 3").expect("runs");
    never.flush().expect("runs");
    drop(never);
    let expected = state::check(clean.path()).expect("whole");
    assert_eq!(
        (found.n_rows, found.n_answers, found.n_vectors),
        (expected.n_rows, expected.n_answers, expected.n_vectors)
    );
    let again = tables(dir.path());
    again.flush().expect("runs");
    assert_eq!(texts(&again), before);
    assert!(!is_on_disk(dir.path()));
}

#[test]
fn it_deletes_first_and_finds_nothing_where_nothing_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut engine = tables(dir.path());
    feed(&mut engine);
    let text = format!("In spring {CANARY}.");
    engine.upsert("docs", "secret", &text).expect("runs");
    let receipt = engine.forget("docs", "secret").expect("forgets");
    assert!(
        receipt.was_there && receipt.remains.is_empty(),
        "{receipt:?}"
    );
    assert!(!is_on_disk(dir.path()));
    let nothing = engine.forget("docs", "secret").expect("forgets");
    assert!(!nothing.was_there && nothing.n_updates == 0, "{nothing:?}");
    // A text that another document says as well is that document's.
    engine.upsert("docs", "a", &text).expect("runs");
    engine.upsert("docs", "b", &text).expect("runs");
    let receipt = engine.forget("docs", "a").expect("forgets");
    assert!(
        receipt.remains.is_empty() && is_on_disk(dir.path()),
        "{receipt:?}"
    );
    let gone = engine.forget("docs", "b").expect("forgets");
    assert!(
        gone.remains.is_empty() && !is_on_disk(dir.path()),
        "{gone:?}"
    );
    drop(engine);
    let kept = state::receipts(dir.path()).expect("whole");
    assert_eq!((kept.len(), &kept[2..]), (4, &[receipt, gone][..]));
}

#[test]
fn a_source_must_let_go_first_and_its_refusals_go_too() {
    let (state, docs) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let file = docs.path().join("secret.md");
    fs::write(&file, CANARY).expect("writable");
    let bad = docs.path().join("bad.md");
    fs::write(&bad, b"\xff\xfe\xff").expect("writable");
    let open = || {
        let folder = Folder::open("docs", [docs.path()]).expect("there");
        let folder = folder.watching(Watching::Once).believe_empty(true);
        start(state.path(), |builder| {
            builder.source(folder).table("questions")
        })
    };
    let engine = open();
    engine.flush().expect("runs");
    let error = engine.forget("docs", "secret.md").expect_err("stands");
    assert!(matches!(error, Error::StillThere { .. }), "{error}");
    assert_eq!(engine.quarantine().expect("runs").len(), 1);
    let receipt = engine.forget("docs", "bad.md").expect("forgets");
    assert_eq!((receipt.was_there, receipt.n_rejected), (false, 1));
    assert!(engine.quarantine().expect("runs").is_empty());
    drop(engine);

    fs::remove_file(&file).expect("there");
    fs::remove_file(&bad).expect("there");
    let engine = open();
    engine.flush().expect("runs");
    let receipt = engine.forget("docs", "secret.md").expect("forgets");
    assert!(receipt.remains.is_empty() && !is_on_disk(state.path()));
}

/// A canary is in the text of a row, in its answer, in what is quarantined of its key, and in the past.
#[test]
fn a_folder_that_nobody_has_open_forgets_without_an_engine() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut engine = tables(dir.path());
    feed(&mut engine);
    let text = format!("In spring {CANARY}.");
    engine.upsert("docs", "secret", &text).expect("runs");
    engine.flush().expect("runs");
    engine
        .upsert("docs", "secret", &format!("{text} heron heron"))
        .expect("runs");
    engine.flush().expect("runs");
    let in_use = state::forget(dir.path(), "docs", &["secret"]).expect_err("in use");
    assert!(
        matches!(in_use, state::StateError::InUse { .. }),
        "{in_use}"
    );
    drop(engine);
    assert!(is_on_disk(dir.path()));
    let before = state::check(dir.path()).expect("whole");

    let unknown = state::forget(dir.path(), "doc", &["secret"]).expect_err("no stream");
    assert!(
        unknown.to_string().contains("there are: docs, questions"),
        "{unknown}"
    );
    assert_eq!(
        state::check(dir.path()).expect("whole").n_answers,
        before.n_answers
    );
    let receipts = state::forget(dir.path(), "docs", &["secret", "none"]).expect("forgets");
    let [secret, none] = &receipts[..] else {
        panic!("{receipts:?}");
    };
    assert!(secret.was_there && !none.was_there);
    assert_eq!(secret.n_answers, before.n_answers);
    assert!(
        secret.n_epochs > 0 && secret.remains.is_empty(),
        "{secret:?}"
    );
    assert!(!is_on_disk(dir.path()));
    assert_eq!(state::receipts(dir.path()).expect("whole"), receipts);
    let after = state::check(dir.path()).expect("whole");
    assert_eq!(
        (after.n_rows, after.n_answers, after.n_vectors, after.epoch),
        (before.n_rows - 1, 0, 0, before.epoch)
    );

    // What goes on there answers as one that never knew it.
    let clean = tempfile::tempdir().expect("a folder");
    let mut never = tables(clean.path());
    feed(&mut never);
    let again = tables(dir.path());
    again.flush().expect("runs");
    let texts = |engine: &Engine| -> Vec<_> {
        let answers = engine.answers("answers").expect("runs");
        answers
            .into_iter()
            .map(|(key, a)| (key, a.answer))
            .collect()
    };
    assert_eq!(texts(&again), texts(&never));
    assert!(!is_on_disk(dir.path()));
}

#[test]
fn what_a_sink_is_owed_keeps_a_record_from_being_forgotten_without_an_engine() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("answers.jsonl");
    let open = || JsonLinesSink::open(&file).expect("writable");
    let declare = |builder: EngineBuilder| builder.table("docs").table("questions");
    let engine = start(dir.path(), |builder| {
        declare(builder).sink("answers", open())
    });
    engine.upsert("docs", "a", "heron here.").expect("runs");
    engine.upsert("questions", "q", "heron").expect("runs");
    engine.flush().expect("runs");
    drop(engine);
    // It goes on without the sink, which is owed what it misses.
    let engine = start(dir.path(), declare);
    engine.upsert("docs", "a", "heron there.").expect("runs");
    engine.flush().expect("runs");
    drop(engine);
    let owed = state::forget(dir.path(), "docs", &["a"]).expect_err("owed");
    assert!(matches!(owed, state::StateError::Owed { .. }), "{owed}");
    // With the sink it is delivered, in a moment, and then forgotten.
    let until = Instant::now() + Duration::from_secs(60);
    let receipts = loop {
        let with_sink = |builder| declare(builder).sink("answers", open());
        start(dir.path(), with_sink).flush().expect("runs");
        match state::forget(dir.path(), "docs", &["a"]) {
            Ok(receipts) => break receipts,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    };
    assert!(receipts[0].was_there);
}
