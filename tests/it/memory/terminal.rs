//! `perennial memory`, as far as it needs no model.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use perennial::ask::scripted::Scripted;
use perennial::rows::{Column, Schema, Type};

use crate::rig::Rig;

fn retain(state: &Path, set: &[&str]) -> Output {
    memory("retain", state, set)
}

fn memory(command: &str, state: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["memory", command, "--state"])
        .arg(state)
        .args(more)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

#[test]
fn a_setting_that_cannot_be_read_is_set_anew_as_the_hint_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let columns = Schema::new(["key", "text"].map(|name| Column::new(name, Type::Text)));
    let builder = Rig::builder(Scripted::new()).state(dir.path()).history(0);
    let engine = builder.table_of("memory_settings", columns).start();
    let engine = engine.expect("starts");
    engine
        .upsert("memory_settings", "retain", "much")
        .expect("runs");
    engine.flush().expect("runs");
    drop(engine);
    let refused = retain(dir.path(), &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("retain `much`"), "{said}");
    assert!(said.contains("memory retain --state FOLDER all"), "{said}");
    let set = retain(dir.path(), &["all"]);
    let said = String::from_utf8_lossy(&set.stderr);
    assert!(set.status.success(), "{said}");
    assert_eq!(retain(dir.path(), &[]).stdout, b"all\n");
}

#[test]
fn who_looks_for_what_was_stored_makes_no_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("misspelt");
    for (command, more) in [
        ("recall", &["tea"][..]),
        ("list", &[]),
        ("forget", &["--key", "k"]),
        ("export", &["--texts-only", "out.parcel"]),
        ("stats", &[]),
    ] {
        let refused = memory(command, &state, more);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{command}: {said}");
        assert!(
            said.contains("there is no such folder"),
            "{command}: {said}"
        );
        assert!(!state.exists(), "{command}");
    }
}

#[test]
fn what_is_no_parcel_is_refused_by_name_and_nothing_is_stored() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, file) = (dir.path().join("mem"), dir.path().join("a.parcel"));
    std::fs::write(&file, b"perennial pk, or so it says").expect("writable");
    let file = file.to_str().expect("a text");
    for (more, says) in [
        (&["--verify", "digests", file][..], "cut off"),
        (&["--verify", "signature", file], "--trust KEY"),
        (&["--verify", "audit", "--sample", "3", file], "--sample"),
        (&["--trust", "12", file], "64 hexadecimal digits"),
        (&["--verify", "digests", "there/is/none"], "there/is/none"),
    ] {
        let refused = memory("import", &state, more);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{more:?}: {said}");
        assert!(said.contains(says), "{more:?}: {said}");
    }
}

#[test]
fn pairs_that_are_none_are_named_with_their_line_before_a_model_is_opened() {
    let dir = tempfile::tempdir().expect("a folder");
    let pairs = dir.path().join("pairs.jsonl");
    let good = r#"{"question": "When?", "text": "At nine."}"#;
    for (text, said) in [
        (format!("{good}\n\nnine\n"), "line 3: "),
        (
            format!("{good}\n{{\"question\": \"When?\"}}\n"),
            "line 2: missing field `text`",
        ),
        (
            r#"{"question": " ", "text": "At nine."}"#.to_owned(),
            "line 1: question or text is empty",
        ),
        (
            r#"{"question": "a", "text": "b", "answer": "c"}"#.to_owned(),
            "unknown field `answer`",
        ),
        ("x".repeat((1 << 20) + 1), "line 1 has more than"),
        (format!("{good}\n").repeat(1001), "more than 1000 pairs"),
    ] {
        std::fs::write(&pairs, text).expect("is written");
        let refused = Command::new(env!("CARGO_BIN_EXE_perennial"))
            .args(["memory", "calibrate", "--model", "no/such/model", "--pairs"])
            .arg(&pairs)
            .output()
            .expect("the program starts");
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn by_what_is_recalled_is_one_of_five_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = memory("recall", dir.path(), &["--by", "luck", "tea"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("expected text, similarity, words, latent or both"),
        "{said}"
    );
    // A server shows nothing of what its model reads.
    let server = ["--by", "both", "--model", "http://localhost:1/v1", "tea"];
    let refused = memory("recall", dir.path(), &server);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("shows nothing of what it reads"), "{said}");
}
