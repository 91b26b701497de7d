//! What is done to a state folder that nobody has open, or its server has.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{path, refused, run, stderr, stdout};
use crate::rig::{Rig, view};

/// A state folder of one answer.
fn answered(state: &Path) {
    let mut rig = Rig::start(perennial::ask::scripted::Scripted::new(), |builder| {
        let builder = builder.table("docs").table("questions");
        builder.view(view(2000)).state(state)
    });
    rig.upsert("docs", "a", "alpha is here.");
    rig.upsert("questions", "q", "alpha");
    assert_eq!(rig.texts()["q"], "alpha is here.");
}

#[test]
fn a_record_is_forgotten_from_a_folder_by_its_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = path(dir.path());
    answered(dir.path());
    refused(&["forget", state, "a"], 1, "there is no stream `documents`");
    refused(&["forget", state], 2, "<KEY>");
    refused(
        &["forget", state, "a", "--token-file", "t"],
        2,
        "--token-file",
    );

    let output = run(&["forget", state, "a", "--from", "docs"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = "a is forgotten: 1 answer erased with it, to be made again at the next start\n";
    assert_eq!(stdout(&output), said);
    assert!(
        stderr(&output).contains("comes again"),
        "{}",
        stderr(&output)
    );
    let output = run(&["forget", state, "a", "b", "--from", "docs", "--json"]);
    let told = stdout(&output);
    let told: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let receipts: Vec<(&Value, &Value)> = told
        .iter()
        .map(|told| (&told["receipt"]["key"], &told["receipt"]["was_there"]))
        .collect();
    let (a, b, no) = ("a".into(), "b".into(), false.into());
    assert_eq!(receipts, [(&a, &no), (&b, &no)]);
    let kept = stdout(&run(&["check", "--receipts", state]));
    assert_eq!(kept.lines().count(), 3, "{kept}");
    assert!(stdout(&run(&["answers", state])).is_empty());
}

#[test]
fn a_state_folder_becomes_a_file_and_a_state_folder_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| path(&dir.path().join(name)).to_owned();
    let (state, file, to) = (at("state"), at("nightly.backup"), at("restored"));
    answered(Path::new(&state));
    let backup = ["backup", "--state", &state, "--out", &file];
    let output = run(&backup);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        said.contains("epoch") && said.contains("2 rows, 1 answer"),
        "{said}"
    );
    // Another takes its place.
    let output = run(&[&backup[..], &["--json"]].concat());
    let summary: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(summary["n_answers"], 1);
    let restore = ["restore", &file, "--state", &to];
    let output = run(&restore);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 answer"), "{}", stdout(&output));
    let answers = |folder: &str| stdout(&run(&["answers", folder, "--json"]));
    assert!(answers(&to).contains("alpha is here."), "{}", answers(&to));
    assert_eq!(answers(&to), answers(&state));

    refused(&restore, 1, "something in it already");
    let bytes = fs::read(&file).expect("there");
    let half = at("half.backup");
    fs::write(&half, &bytes[..bytes.len() / 2]).expect("writable");
    let other = at("other");
    refused(&["restore", &half, "--state", &other], 1, "cut off after");
    fs::write(&half, "no backup at all").expect("writable");
    refused(&["restore", &half, "--state", &other], 1, "no backup");
    assert!(!Path::new(&other).exists());
    refused(&["backup", "--out", &file], 2, "--state");
    refused(
        &["backup", "--state", &other, "--out", &half],
        1,
        "no state here",
    );
    // What was there stays.
    assert_eq!(fs::read(&half).expect("there"), b"no backup at all");
    assert_eq!(fs::read(&file).expect("there").len(), bytes.len());
}

#[test]
fn a_state_folder_in_use_is_backed_up_by_its_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, file) = (dir.path().join("state"), dir.path().join("a.backup"));
    let _open = Rig::start(perennial::ask::scripted::Scripted::new(), |builder| {
        builder.table("docs").state(&state)
    });
    let args = ["backup", "--state", path(&state), "--out", path(&file)];
    refused(&args, 2, "--url");
    assert!(!file.exists());
}
