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
