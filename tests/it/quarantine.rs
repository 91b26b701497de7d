//! What was refused is kept with the offsets behind it, until a person deals with it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use perennial::ask::scripted::{Scripted, UNREADABLE_WORD};
use perennial::connectors::{Folder, JsonLines, Watching};
use perennial::state::{self, StateError};

use crate::rig::{Rig, view};

struct Dir {
    dir: tempfile::TempDir,
}

impl Dir {
    /// With these lines of documents, and the question `alpha`.
    fn new(docs: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("docs.jsonl"), docs).expect("writable");
        let question = "{\"key\":\"q\",\"text\":\"alpha\"}\n";
        fs::write(dir.path().join("questions.jsonl"), question).expect("writable");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn append(&self, line: &str) {
        let path = self.path("docs.jsonl");
        let file = fs::OpenOptions::new().append(true).open(path);
        writeln!(file.expect("there"), "{line}").expect("writable");
    }

    fn start(&self) -> Rig {
        let open = |name: &str| {
            let path = self.path(name).with_extension("jsonl");
            JsonLines::open(name, path).expect("there")
        };
        Rig::start(Scripted::new(), |builder| {
            builder
                .source(open("docs"))
                .source(open("questions"))
                .view(view(2000))
                .state(self.state())
        })
    }

    /// Numbers and contents of what is stored.
    fn stored(&self) -> Vec<(u64, String)> {
        let entries = state::quarantine(&self.state()).expect("whole").into_iter();
        let text = |content: Option<Vec<u8>>| String::from_utf8(content.expect("kept"));
        entries
            .map(|e| (e.number, text(e.content).expect("text")))
            .collect()
    }
}

const BAD: &str = "{\"key\":\"a\",\"txt\":\"alpha is here.\"}";

#[test]
fn refusals_are_stored_once_even_where_nothing_else_changes() {
    let dir = Dir::new("");
    let mut first = dir.start();
    first.texts();
    drop(first);
    // From here on nothing but poison comes: no epoch carries it.
    for n in 1..4u64 {
        dir.append(&format!("{{\"poison\":{n}}}"));
        let mut rig = dir.start();
        rig.texts();
        assert_eq!(rig.engine.quarantine().expect("runs").len() as u64, n);
        drop(rig);
        let expected: Vec<_> = (1..=n)
            .map(|n| (n - 1, format!("{{\"poison\":{n}}}")))
            .collect();
        assert_eq!(dir.stored(), expected);
    }
    assert_eq!(state::check(&dir.state()).expect("whole").n_quarantined, 3);
}

#[test]
fn a_record_is_taken_in_mended_and_once() {
    let dir = Dir::new(&format!("{BAD}\n"));
    let mut rig = dir.start();
    assert_eq!(rig.texts()["q"], "Nothing is known of alpha.");
    let in_use = state::quarantine(&dir.state()).expect_err("in use");
    assert!(matches!(in_use, StateError::InUse { .. }));
    drop(rig);
    assert_eq!(dir.stored(), [(0, BAD.to_owned())]);

    let as_it_came = state::resubmit(&dir.state(), 0, None).expect_err("still bad");
    assert!(
        matches!(as_it_came, StateError::NoRecord { .. }),
        "{as_it_came}"
    );
    let unknown = state::resubmit(&dir.state(), 7, None).expect_err("unknown");
    assert!(matches!(unknown, StateError::NotInQuarantine { number: 7 }));
    // The key is known: the record need not name it.
    let mended = BAD.replace("txt", "text");
    let key = state::resubmit(&dir.state(), 0, Some(mended.as_bytes())).expect("a record");
    assert_eq!(key.as_str(), "a");
    assert!(dir.stored().is_empty());
    assert_eq!(dir.start().texts()["q"], "alpha is here.");

    // What its source says later counts, and is not undone by another start.
    dir.append("{\"key\":\"a\",\"text\":\"alpha is there.\"}");
    assert_eq!(dir.start().texts()["q"], "alpha is there.");
    assert_eq!(dir.start().texts()["q"], "alpha is there.");
}

#[test]
fn what_is_refused_before_an_engine_is_released_is_kept() {
    let dir = Dir::new(&format!("{BAD}\n"));
    for n_refused in 1..3 {
        let lines = JsonLines::open("docs", dir.path("docs.jsonl")).expect("there");
        let rig = Rig::start(Scripted::new(), |builder| {
            builder.source(lines).state(dir.state()).held()
        });
        while rig.engine.quarantine().expect("runs").len() < n_refused {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        rig.engine.release().expect("runs");
        rig.engine.flush().expect("runs");
        drop(rig);
        assert_eq!(dir.stored().len(), n_refused);
        // A stream that a run does not declare keeps what was refused of it.
        let rig = Rig::start(Scripted::new(), |builder| {
            builder.table("t").state(dir.state())
        });
        rig.engine.flush().expect("runs");
        drop(rig);
        assert_eq!(dir.stored().len(), n_refused);
        dir.append("{\"poison\":1}");
    }
}

#[test]
fn numbers_are_given_once_and_files_are_mended_where_they_stand() {
    let dir = Dir::new(&format!("{BAD}\n"));
    dir.start().texts();
    state::drop_quarantined(&dir.state(), &[0]).expect("whole");
    dir.append("{\"x\":1}");
    dir.start().texts();
    assert_eq!(dir.stored()[0].0, 1, "not the number that another had");

    let table = dir.path("faq.csv");
    fs::write(&table, "key,text\na\n").expect("writable");
    let state = dir.path("of-table");
    let source = perennial::connectors::Table::open("docs", &table).expect("there");
    let mut rig = Rig::start(Scripted::new(), |builder| {
        let builder = builder.source(source).table("questions");
        builder.view(view(2000)).state(&state)
    });
    rig.upsert("questions", "q", "alpha");
    rig.engine.flush().expect("runs");
    drop(rig);
    let error = state::resubmit(&state, 0, Some(b"{\"key\":\"a\",\"text\":\"t\"}"));
    let error = error.expect_err("stands at its source");
    assert!(matches!(error, StateError::MendAtSource { .. }), "{error}");
}

#[test]
fn what_is_dropped_is_gone() {
    let dir = Dir::new(&format!("{BAD}\n{{\"x\":1}}\n"));
    dir.start().texts();
    assert_eq!(
        state::drop_quarantined(&dir.state(), &[0, 5]).expect("whole"),
        1
    );
    assert_eq!(dir.stored(), [(1, "{\"x\":1}".to_owned())]);
    assert_eq!(dir.start().engine.quarantine().expect("runs").len(), 1);
}

#[test]
fn a_file_is_in_quarantine_as_long_as_it_is_bad() {
    let (docs, state) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let bad = docs.path().join("bad.md");
    fs::write(&bad, b"\xff").expect("writable");
    let quarantined = |state: &Path| {
        let folder = Folder::open("docs", [docs.path()]).expect("there");
        let rig = Rig::start(Scripted::new(), |builder| {
            builder
                .source(folder.watching(Watching::Once))
                .table("questions")
                .view(view(2000))
                .state(state)
        });
        rig.engine.flush().expect("runs");
        rig.engine.quarantine().expect("runs").len()
    };
    // Each run finds it anew; it is one entry.
    assert_eq!(
        [quarantined(state.path()), quarantined(state.path())],
        [1, 1]
    );
    fs::write(&bad, "mended").expect("writable");
    assert_eq!(quarantined(state.path()), 0);
    assert_eq!(state::check(state.path()).expect("whole").n_quarantined, 0);
}

#[test]
fn what_is_forgotten_is_not_kept_in_quarantine_either() {
    const CANARY: &str = "the heron nests behind the pump house";
    let dir = Dir::new(&format!("{{\"key\":\"a\",\"txt\":\"{CANARY}\"}}\n"));
    let mut rig = dir.start();
    rig.texts();
    drop(rig);
    let on_disk = || {
        let bytes = fs::read(dir.state().join("state.redb")).expect("readable");
        bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes())
    };
    assert!(on_disk());
    let rig = dir.start();
    rig.engine.flush().expect("runs");
    // The refused line names its key only where it can be told.
    let key = rig.engine.quarantine().expect("runs")[0].key.clone();
    let receipt = rig
        .engine
        .forget("docs", &key.expect("told"))
        .expect("runs");
    assert_eq!((receipt.n_rejected, receipt.remains.len()), (1, 0));
    assert!(!on_disk());
}

/// A tokenizer that panics over a passage costs that passage, and its document is named until it is mended.
#[test]
fn a_document_that_cannot_be_read_is_kept_by_its_key_until_it_is_another() {
    let dir = Dir::new("{\"key\":\"a\",\"text\":\"alpha is one.\"}\n");
    let unreadable =
        |key: &str| format!("{{\"key\":\"{key}\",\"text\":\"alpha is {UNREADABLE_WORD}.\"}}");
    // After each step: the answer, and the keys that are kept.
    let after = |said: &str, kept: &[&str]| {
        // A restart refuses again what stands, once.
        for _ in 0..2 {
            let mut rig = dir.start();
            assert_eq!(rig.texts()["q"], said);
            let entries = rig.engine.quarantine().expect("runs");
            let keys: Vec<&str> = entries.iter().filter_map(|of| of.key.as_deref()).collect();
            assert_eq!(keys, kept);
            for entry in &entries {
                assert_eq!(entry.stream, "docs");
                assert!(entry.reason.starts_with("answers "), "{}", entry.reason);
                assert!(entry.reason.contains("panicked"), "{}", entry.reason);
            }
        }
    };
    after("alpha is one.", &[]);
    dir.append(&unreadable("b"));
    after("alpha is one.", &["b"]);
    dir.append("{\"key\":\"b\",\"text\":\"alpha is two.\"}");
    after("alpha is one. alpha is two.", &[]);
    // One that goes leaves nothing, and takes nothing else with it.
    dir.append(&unreadable("c"));
    after("alpha is one. alpha is two.", &["c"]);
    dir.append("{\"delete\":{\"key\":\"c\"}}");
    after("alpha is one. alpha is two.", &[]);
}
