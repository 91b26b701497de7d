//! What outlives an engine: rows, offsets, answers and vectors, whatever ends it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use perennial::ask::Rung;
use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::connectors::{
    Batch, Change, Event, Folder, Halt, JsonLines, JsonLinesSink, Key, Offset, Outlet, Record,
    Source, SourceName, Watching,
};
use perennial::engine::{ChangeKind, DocumentChangeKind};
use perennial::rows::Row;
use perennial::state::{self, StateError};
use perennial::{Engine, EngineBuilder, Error, Policy, Runtime, Update, View};
use proptest::prelude::*;

use crate::delivered::folded;
use crate::history::{Collections, steps};
use crate::rig::{Rig, view};

fn rig(declare: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Rig {
    Rig::start(Scripted::new(), declare)
}

/// Two tables and a view over them, kept in `dir`.
fn tables(dir: &Path, budget: usize) -> Rig {
    rig(|builder| {
        builder
            .table("docs")
            .table("questions")
            .view(view(budget))
            .state(dir)
    })
}

/// A source of nothing that keeps the first epoch open until it is let go: who subscribes
/// before that misses nothing.
struct Gate(SourceName, Receiver<()>);

impl Source for Gate {
    fn name(&self) -> &SourceName {
        &self.0
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        // A gate that is dropped is open, too.
        let _ = self.1.recv();
        out.send(Event::CaughtUp)
    }
}

fn gate() -> (Sender<()>, Gate) {
    let (open, gate) = channel();
    (open, Gate(SourceName::new("gate"), gate))
}

#[test]
fn a_restart_calls_no_model_for_what_was_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = tables(dir.path(), 2000);
    first.upsert("docs", "hours", "The library opens at nine.");
    first.upsert("questions", "q", "library");
    first.upsert("questions", "r", "opens");
    let before = first.texts();
    let epoch = first.engine.flush().expect("runs");
    assert_eq!(first.model.n_calls(), 2);
    drop(first);

    let (open, gate) = gate();
    let mut second = rig(|builder| {
        let tables = builder.source(gate).table("docs").table("questions");
        tables.view(view(2000)).state(dir.path())
    });
    // There before the first epoch of this process, from the last of the one before.
    let updates = second.engine.subscribe("answers").expect("known");
    let snapshot: Vec<_> = updates.answers().take(2).collect();
    assert!(snapshot.iter().all(|a| a.kind() == ChangeKind::New));
    let questions: Vec<&str> = snapshot.iter().map(|a| &*a.question).collect();
    assert_eq!(questions, ["library", "opens"]);
    drop(open);
    assert_eq!(second.texts(), before);
    assert_eq!(second.model.n_calls(), 0);
    assert!(second.engine.flush().expect("runs") > epoch);
    let kept = updates.answers().next().expect("the epoch's word");
    assert_eq!((kept.kind(), kept.rung), (ChangeKind::Stands, Rung::Keep));
    assert_eq!(kept.work.n_forwarded(), 0);

    // Only what a change touches is asked again, with the old answer told beside.
    second.upsert("questions", "q", "at nine");
    second.engine.flush().expect("runs");
    assert_eq!(second.model.n_calls(), 1);
    drop(second);
    let mut third = tables(dir.path(), 2000);
    third.engine.delete("docs", "hours").expect("runs");
    let texts = third.texts();
    assert_eq!(texts["r"], "Nothing is known of opens.");
    assert_eq!(third.model.n_calls(), 2);
}

#[test]
fn contexts_and_views_that_are_gone_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = tables(dir.path(), 2000);
    first.upsert("docs", "hours", "The library opens at nine.");
    first.upsert("questions", "q", "library");
    first.upsert("questions", "r", "opens");
    first.texts();
    first.engine.delete("questions", "r").expect("runs");
    first.texts();
    drop(first);
    let found = state::check(dir.path()).expect("whole");
    assert_eq!((found.n_rows, found.n_answers), (2, 1));

    // Another instruction is another view: its answers are its own.
    let other = |dir: &Path| {
        rig(|builder| {
            builder
                .table("docs")
                .table("questions")
                .view(view(2000).prompt("Answer again."))
                .state(dir)
        })
    };
    let mut second = other(dir.path());
    assert!(second.engine.answers("answers").expect("runs").is_empty());
    assert_eq!(second.texts()["q"], "The library opens at nine.");
    assert_eq!(second.model.n_calls(), 1);
    drop(second);
    assert_eq!(other(dir.path()).texts().len(), 1);
}

#[test]
fn vectors_are_kept_as_long_as_their_texts() {
    let dir = tempfile::tempdir().expect("a folder");
    let fill = |rig: &mut Rig| {
        for i in 0..20 {
            let text = format!("filler number {i} about nothing much at all.");
            rig.upsert("docs", &format!("f{i:02}"), &text);
        }
    };
    let mut first = tables(dir.path(), 120);
    fill(&mut first);
    first.upsert("questions", "q", "number 7");
    let before = first.texts();
    let n_embedded = first.embedder.n_texts();
    assert_eq!(n_embedded, 21);
    drop(first);
    assert_eq!(state::check(dir.path()).expect("whole").n_vectors, 21);

    let mut second = tables(dir.path(), 120);
    assert_eq!(second.texts(), before);
    assert_eq!((second.embedder.n_texts(), second.model.n_calls()), (0, 0));
    second.engine.delete("docs", "f03").expect("runs");
    second.texts();
    drop(second);
    assert_eq!(state::check(dir.path()).expect("whole").n_vectors, 20);
}

#[test]
fn a_folder_that_changed_meanwhile_is_found_changed() {
    let (dir, docs) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let put = |name: &str, text: &str| fs::write(docs.path().join(name), text).expect("writable");
    let start = |gate| {
        rig(|builder| {
            let folder = Folder::open("docs", [docs.path()]).expect("there");
            builder
                .source(folder.watching(Watching::Once))
                .source(gate)
                .table("questions")
                .view(view(2000))
                .state(dir.path())
        })
    };
    put("a.md", "alpha stays.");
    put("b.md", "beta was here.");
    put("c.md", "gamma leaves.");
    let mut first = start(gate().1);
    first.upsert("questions", "q", "beta");
    assert_eq!(first.texts()["q"], "beta was here.");
    drop(first);

    put("b.md", "beta has moved.");
    put("d.md", "delta is new.");
    fs::remove_file(docs.path().join("c.md")).expect("there");
    let (open, gate) = gate();
    let mut second = start(gate);
    let updates = second.engine.subscribe("answers").expect("known");
    drop(open);
    assert_eq!(second.texts()["q"], "beta has moved.");
    let started = updates.iter().find_map(|update| match update {
        Update::EpochStarted(start) => Some(start),
        _ => None,
    });
    let changes: Vec<_> = started
        .expect("an epoch")
        .changes
        .into_iter()
        .map(|change| (change.key.as_str().to_owned(), change.change))
        .collect();
    assert_eq!(
        changes,
        [
            ("b.md".to_owned(), DocumentChangeKind::Updated),
            ("c.md".to_owned(), DocumentChangeKind::Deleted),
            ("d.md".to_owned(), DocumentChangeKind::Inserted),
        ]
    );
}

fn lines(dir: &Path, docs: &Path, questions: &Path) -> Rig {
    rig(|builder| {
        builder
            .source(JsonLines::open("docs", docs).expect("there"))
            .source(JsonLines::open("questions", questions).expect("there"))
            .view(view(2000))
            .state(dir)
    })
}

#[test]
fn json_lines_go_on_behind_the_last_committed_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let (docs, questions) = (dir.path().join("d.jsonl"), dir.path().join("q.jsonl"));
    let bad = "{\"merge\": {}}\n";
    fs::write(
        &docs,
        format!("{{\"key\":\"a\",\"text\":\"alpha is here.\"}}\n{bad}"),
    )
    .expect("writable");
    fs::write(&questions, "{\"key\":\"q\",\"text\":\"alpha\"}\n").expect("writable");
    let state = dir.path().join("state");
    let mut first = lines(&state, &docs, &questions);
    assert_eq!(first.texts()["q"], "alpha is here.");
    assert_eq!(first.engine.quarantine().expect("runs").len(), 1);
    drop(first);

    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&docs)
        .expect("there");
    file.write_all(b"{\"delete\":{\"key\":\"a\"}}\n")
        .expect("writable");
    let mut second = lines(&state, &docs, &questions);
    assert_eq!(second.texts()["q"], "Nothing is known of alpha.");
    // The line that was refused is not read again, and is still known.
    let quarantine = second.engine.quarantine().expect("runs");
    assert_eq!(quarantine.len(), 1);
    assert_eq!(
        quarantine[0].content.as_deref(),
        Some(bad.trim_end().as_bytes())
    );
    drop(second);

    // Another file is another source: what only the old one said is no more.
    let other = dir.path().join("other.jsonl");
    fs::write(&other, "{\"key\":\"b\",\"text\":\"alpha is too.\"}\n").expect("writable");
    assert_eq!(
        lines(&state, &other, &questions).texts()["q"],
        "alpha is too."
    );
    assert_eq!(state::check(&state).expect("whole").n_rows, 2);
}

#[test]
fn lines_that_were_changed_behind_its_back_are_read_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (docs, questions) = (dir.path().join("d.jsonl"), dir.path().join("q.jsonl"));
    let line = |key: &str, text: &str| format!("{{\"key\":\"{key}\",\"text\":\"{text}\"}}\n");
    let put = |lines: String| fs::write(&docs, lines).expect("writable");
    fs::write(&questions, line("q", "opens")).expect("writable");
    let state = dir.path().join("state");
    let now = || lines(&state, &docs, &questions).texts()["q"].clone();
    put(line("a", "It opens at seven.") + &line("b", "Nothing else."));
    assert_eq!(now(), "It opens at seven.");
    // In place, with as many bytes.
    put(line("a", "It opens at eight.") + &line("b", "Nothing else."));
    assert_eq!(now(), "It opens at eight.");
    // Cut: what it no longer says is no more.
    put(line("b", "Nothing else."));
    assert_eq!(now(), "Nothing is known of opens.");
    assert_eq!(state::check(&state).expect("whole").n_rows, 2);
    // Cut to nothing: that is not believed.
    put(line("a", "It opens at nine."));
    assert_eq!(now(), "It opens at nine.");
    put(String::new());
    assert_eq!(now(), "It opens at nine.");
    assert_eq!(state::check(&state).expect("whole").n_rows, 2);
}

#[test]
fn another_source_of_the_same_name_leaves_no_offset_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let (docs, notes) = (dir.path().join("d.jsonl"), dir.path().join("notes"));
    fs::write(&docs, "{\"key\":\"a\",\"text\":\"It opens at seven.\"}\n").expect("writable");
    fs::create_dir(&notes).expect("writable");
    fs::write(notes.join("b.md"), "It opens at nine.").expect("writable");
    let state = dir.path().join("state");
    let with = |declare: &dyn Fn(EngineBuilder) -> EngineBuilder| {
        let tables = |b: EngineBuilder| declare(b).table("questions");
        let mut rig = rig(|b| tables(b).view(view(2000)).state(&state));
        rig.upsert("questions", "q", "opens");
        rig.texts()["q"].clone()
    };
    let file = |b: EngineBuilder| b.source(JsonLines::open("docs", &docs).expect("there"));
    let folder = |b: EngineBuilder| {
        let folder = Folder::open("docs", [&notes]).expect("there");
        b.source(folder.watching(Watching::Once))
    };
    assert_eq!(with(&file), "It opens at seven.");
    assert_eq!(with(&folder), "It opens at nine.");
    assert_eq!(with(&file), "It opens at seven.");
}

/// A source that begins anew, says what it is given, and then may fail.
struct Told(SourceName, Option<&'static str>);

impl Source for Told {
    fn name(&self) -> &SourceName {
        &self.0
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        let Some(text) = self.1 else {
            let path = "nowhere".into();
            return Err(Halt::Failed(perennial::connectors::Error::Missing { path }));
        };
        let record = Record::new(Key::new("a"), Row::of_text(text), Offset::Sequence(1));
        out.batch(Batch {
            changes: vec![Change::Upsert(record)],
            ..Batch::default()
        })?;
        out.send(Event::CaughtUp)
    }
}

#[test]
fn a_source_that_fails_before_it_has_spoken_takes_nothing_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let told = |text| {
        rig(|builder| {
            let source = Told(SourceName::new("docs"), text);
            let tables = builder.source(source).table("questions");
            tables.view(view(2000)).state(dir.path())
        })
    };
    let mut first = told(Some("It opens at seven."));
    first.upsert("questions", "q", "opens");
    first.texts();
    drop(first);
    let mut failing = told(None);
    assert_eq!(failing.texts()["q"], "It opens at seven.");
    assert_eq!(failing.model.n_calls(), 0);
    drop(failing);
    assert_eq!(state::check(dir.path()).expect("whole").n_rows, 2);
}

#[test]
fn an_engine_that_is_dropped_while_it_heals_lets_go_of_its_state() {
    let dir = tempfile::tempdir().expect("a folder");
    for i in 0..5 {
        let model = Scripted::borrowing().taking(Duration::from_millis(150));
        let mut rig = Rig::start(model, |builder| {
            let tables = builder.table("docs").table("questions");
            let view = view(2000).policy(Policy::Eventual);
            tables.view(view).state(dir.path())
        });
        rig.upsert("questions", "q", "version");
        rig.upsert("docs", "d", &format!("This is version {i}a."));
        rig.engine.flush().expect("runs");
        rig.upsert("docs", "d", &format!("This is version {i}b."));
        rig.engine.flush().expect("runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut last = tables(dir.path(), 2000);
    assert_eq!(last.texts()["q"], "This is version 4b.");
}

#[test]
fn answers_of_views_that_are_declared_no_more_are_not_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = tables(dir.path(), 2000);
    first.upsert("docs", "hours", "The library opens at nine.");
    first.upsert("questions", "q", "library");
    first.texts();
    drop(first);
    let other = rig(|builder| {
        let view = View::named("others")
            .context("questions")
            .data_source("docs");
        let tables = builder.table("docs").table("questions");
        tables.view(view.max_tokens(200)).state(dir.path())
    });
    other.engine.flush().expect("runs");
    drop(other);
    assert_eq!(state::check(dir.path()).expect("whole").n_answers, 1);
    let mut again = tables(dir.path(), 2000);
    assert!(again.engine.answers("answers").expect("runs").is_empty());
    assert_eq!(again.texts().len(), 1);
}

fn text(value: u8) -> String {
    format!("word{value} stands here. And word{} too.", value / 2)
}

fn wording(value: u8) -> String {
    format!("word{value}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// An engine that ends at any point and is started over its state, fed nothing again,
    /// says what a fresh engine says of the same collections.
    #[test]
    fn any_history_with_restarts_gives_what_a_run_from_scratch_gives(
        parts in prop::collection::vec(steps(6, 0..=8, 3, 0..9, 1..12), 1..5),
        budget in prop::sample::select(vec![150usize, 2000]),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut collections = Collections::empty(text, wording);
        for (at, part) in (1i64..).zip(parts) {
            let rig = collections.go_on(tables(dir.path(), budget), part, at * 100);
            rig.engine.flush().expect("runs");
        }
        let mut last = tables(dir.path(), budget);
        let mut fresh = rig(|b| b.table("docs").table("questions").view(view(budget)));
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(last.texts(), fresh.texts());
        prop_assert_eq!(last.model.n_calls(), 0);
    }
}

/// Where the crash test's answers are delivered.
const SINK: &str = "answers.jsonl";

/// Follows two files of lines until it is killed; see the crash test, which starts it.
#[test]
#[ignore = "runs in a process of its own"]
fn child_of_the_crash_test() {
    let Ok(dir) = std::env::var("PERENNIAL_TEST_CRASH") else {
        return;
    };
    let dir = Path::new(&dir);
    let _rig = rig(|builder| {
        let open = |name: &str| {
            let lines = JsonLines::open(name, dir.join(name).with_extension("jsonl"));
            lines.expect("there").follow(true)
        };
        builder
            .source(open("docs"))
            .source(open("questions"))
            .view(view(2000))
            .sink(
                "answers",
                JsonLinesSink::open(dir.join(SINK)).expect("sound"),
            )
            .state(dir.join("state"))
    });
    std::thread::sleep(Duration::from_secs(60));
}

/// A process that follows two files of lines in `dir`.
fn child(dir: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["state::child_of_the_crash_test", "--exact", "--ignored"])
        .env("PERENNIAL_TEST_CRASH", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

#[test]
fn killed_while_its_state_is_made_it_makes_another() {
    let mut random = Random(3);
    for _ in 0..60 {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["docs.jsonl", "questions.jsonl"] {
            fs::write(dir.path().join(name), "").expect("writable");
        }
        let mut child = child(dir.path());
        // About when the file appears, or a little later.
        while fs::read_dir(dir.path().join("state")).is_err() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        child.kill().expect("kills");
        child.wait().expect("ends");
        let mut rig = tables(&dir.path().join("state"), 2000);
        rig.upsert("questions", "q", "library");
        assert_eq!(rig.texts().len(), 1);
        let files = fs::read_dir(dir.path().join("state")).expect("there");
        assert_eq!(files.count(), 1, "nothing half made is left");
    }
}

#[test]
fn killed_at_any_instant_it_goes_on_as_if_it_had_not_been() {
    const N_KILLS: u64 = 200;
    let dir = tempfile::tempdir().expect("a folder");
    let (docs, questions) = (
        dir.path().join("docs.jsonl"),
        dir.path().join("questions.jsonl"),
    );
    fs::write(&docs, "").expect("writable");
    fs::write(&questions, "").expect("writable");
    let append = |path: &Path, line: String| {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(path)
            .expect("there");
        file.write_all(line.as_bytes()).expect("writable");
    };
    let mut random = Random(7);
    let mut below = |n| random.below(n);
    for _ in 0..N_KILLS {
        let mut child = child(dir.path());
        for _ in 0..1 + below(4) {
            let (key, value) = (below(8), below(12));
            append(
                &docs,
                match below(4) {
                    0 => format!("{{\"delete\":{{\"key\":\"{key}\"}}}}\n"),
                    _ => format!("{{\"key\":\"{key}\",\"text\":\"word{value} is here.\"}}\n"),
                },
            );
            append(
                &questions,
                match below(6) {
                    0 => format!("{{\"delete\":{{\"key\":\"{}\"}}}}\n", below(3)),
                    _ => format!(
                        "{{\"key\":\"{}\",\"text\":\"word{}\"}}\n",
                        below(3),
                        below(12)
                    ),
                },
            );
            std::thread::sleep(Duration::from_millis(below(25)));
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    let state = dir.path().join("state");
    let before = state::check(&state).expect("whole after every kill");
    assert!(before.epoch.is_some(), "{before:?}");
    let mut survivor = rig(|builder| {
        let open = |name: &str, path: &Path| JsonLines::open(name, path).expect("there");
        builder
            .source(open("docs", &docs))
            .source(open("questions", &questions))
            .view(view(2000))
            .sink(
                "answers",
                JsonLinesSink::open(dir.path().join(SINK)).expect("sound"),
            )
            .state(&state)
    });
    let survived = survivor.texts();
    // It waits for what is owed.
    drop(survivor);
    assert_eq!(folded(&dir.path().join(SINK)), survived);
    let fresh = lines(&dir.path().join("fresh"), &docs, &questions).texts();
    assert_eq!(survived, fresh);
    let mut again = lines(&state, &docs, &questions);
    assert_eq!((again.texts(), again.model.n_calls()), (fresh, 0));
}

fn open(dir: &Path) -> Result<Engine, Error> {
    let runtime = Runtime::scripted(
        Arc::new(Scripted::new()),
        Arc::new(ScriptedEmbedder::default()),
    );
    let builder = Engine::builder(runtime).table("docs").table("questions");
    builder.view(view(2000)).state(dir).start()
}

fn refused(dir: &Path) -> StateError {
    match open(dir) {
        Err(Error::State(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_state_in_use_or_newer_or_foreign_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    state::check_free(&dir.path().join("none")).expect("nothing is there");
    let running = tables(dir.path(), 2000);
    let error = refused(dir.path());
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("state.redb"));
    let error = state::check_free(dir.path()).expect_err("in use");
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    assert!(
        matches!(refused(dir.path()), StateError::InUse { .. }),
        "still"
    );
    drop(running);
    state::check_free(dir.path()).expect("nobody has it open");

    let file = dir.path().join("state.redb");
    let newer = redb::Database::open(&file).expect("whole");
    let txn = newer.begin_write().expect("writable");
    let format = redb::TableDefinition::<&str, u64>::new("format");
    txn.open_table(format)
        .expect("there")
        .insert("version", 99)
        .expect("writable");
    txn.commit().expect("writable");
    drop(newer);
    let error = refused(dir.path());
    assert!(
        matches!(error, StateError::Newer { found: 99, .. }),
        "{error}"
    );

    fs::write(
        &file,
        "no database at all, but long enough to be one".repeat(100),
    )
    .expect("writable");
    let error = refused(dir.path());
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");

    let error = refused(&file);
    assert!(matches!(error, StateError::Io { .. }), "{error}");
}

/// A state with a document and an answer; what it says.
fn filled(dir: &Path) -> BTreeMap<String, String> {
    let mut first = tables(dir, 2000);
    first.upsert("docs", "hours", "The library opens at nine.");
    first.upsert("questions", "q", "library");
    first.texts()
}

#[test]
fn a_state_of_the_format_before_becomes_this_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let right = filled(dir.path());
    // Format 2 is this one without what sinks and quarantine need.
    let file = redb::Database::open(dir.path().join("state.redb")).expect("whole");
    let txn = file.begin_write().expect("writable");
    for name in ["sinks", "outbox", "quarantine", "resubmitted", "receipts"] {
        let table = redb::TableDefinition::<&str, &str>::new(name);
        assert!(txn.delete_table(table).expect("writable"), "{name}");
    }
    let numbers = |name| redb::TableDefinition::<&str, u64>::new(name);
    let mut format = txn.open_table(numbers("format")).expect("there");
    format.insert("version", 2).expect("writable");
    drop(format);
    let mut manifest = txn.open_table(numbers("manifest")).expect("there");
    manifest.remove("origin").expect("writable");
    drop(manifest);
    txn.commit().expect("writable");
    drop(file);
    let mut again = tables(dir.path(), 2000);
    assert_eq!((again.texts(), again.model.n_calls()), (right, 0));
}

/// Looks at a state in every way that there is. Returns what `check` says.
fn look(dir: &Path) -> Result<state::StateSummary, StateError> {
    let files = || -> BTreeMap<_, _> {
        let files = fs::read_dir(dir).expect("there").map(|file| {
            let file = file.expect("there");
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            let bytes = fs::read(file.path()).expect("there");
            (file.file_name(), (bytes, modified.expect("known")))
        });
        files.collect()
    };
    let before = files();
    let found = state::check(dir);
    assert_eq!(state::receipts(dir).is_ok(), found.is_ok());
    assert_eq!(state::quarantine(dir).is_ok(), found.is_ok());
    assert!(files() == before, "looking changed {}", dir.display());
    found
}

#[test]
fn who_only_looks_changes_no_byte() {
    let dir = tempfile::tempdir().expect("a folder");
    let (closed, killed) = (dir.path().join("closed"), dir.path().join("killed"));
    let mut running = tables(&closed, 2000);
    running.upsert("docs", "hours", "The library opens at nine.");
    running.upsert("questions", "q", "library");
    running.texts();
    let error = look(&closed).expect_err("in use");
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    // What a process leaves that is killed: the file as it is, and one that was not yet moved.
    fs::create_dir(&killed).expect("writable");
    fs::copy(closed.join("state.redb"), killed.join("state.redb")).expect("there");
    fs::write(killed.join("state.redb.x.new"), "half").expect("writable");
    drop(running);

    let found = look(&closed).expect("whole");
    assert!(found.was_closed);
    assert_eq!((found.n_rows, found.n_answers), (2, 1));
    let left = look(&killed).expect("whole");
    assert!(!left.was_closed);
    let expected = state::StateSummary {
        was_closed: true,
        n_bytes: found.n_bytes,
        ..left
    };
    assert_eq!(expected, found);
    // Nothing of it must be writable.
    let paths = [closed.join("state.redb"), closed.clone()];
    let writable = paths.map(|path| {
        let writable = fs::metadata(&path).expect("there").permissions();
        let mut permissions = writable.clone();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).expect("ours");
        (path, writable)
    });
    assert_eq!(look(&closed).expect("whole"), found);
    for (path, permissions) in writable {
        fs::set_permissions(path, permissions).expect("ours");
    }

    let whole = fs::read(closed.join("state.redb")).expect("there");
    let file = killed.join("state.redb");
    let used = whole
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty");
    let mut n_refused = 0;
    for at in (0..used).step_by((used / 60).max(1)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, bytes).expect("writable");
        n_refused += usize::from(look(&killed).is_err());
    }
    for n in [0, 1, 100, 4096, used / 2] {
        fs::write(&file, &whole[..n]).expect("writable");
        let error = look(&killed).expect_err("cut");
        assert!(matches!(error, StateError::Damaged { .. }), "{n}: {error}");
    }
    assert!(n_refused > 0);
    fs::remove_file(&file).expect("there");
    let error = look(&killed).expect_err("nothing there");
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
}

#[test]
fn a_cut_or_flipped_file_is_refused_or_right_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("a folder");
    let right = filled(dir.path());
    let file = dir.path().join("state.redb");
    let whole = fs::read(&file).expect("there");
    let used = whole
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty")
        + 1;
    let (mut n_refused, mut n_right) = (0, 0);
    let mut open_with = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("writable");
        match open(dir.path()) {
            Ok(engine) => {
                engine.flush().expect("runs");
                let answers = engine.answers("answers").expect("runs");
                let texts: BTreeMap<String, String> = answers
                    .into_iter()
                    .map(|(key, a)| {
                        (
                            key.as_str().to_owned(),
                            a.answer.expect("text").text.to_string(),
                        )
                    })
                    .collect();
                // A flip in what is free is none; a state of an earlier epoch is one.
                assert!(texts == right || texts.is_empty(), "{texts:?}");
                n_right += 1;
            }
            Err(Error::State(_)) => n_refused += 1,
            Err(error) => panic!("{error}"),
        }
    };
    for n in [0, 1, 100, 4096, used / 2, used - 1] {
        open_with(&whole[..n]);
    }
    for at in (0..used).step_by((used / 150).max(1)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        open_with(&bytes);
    }
    assert!(
        n_refused > 0 && n_right > 0,
        "{n_refused} refused, {n_right} right"
    );
}
