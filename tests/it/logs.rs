//! What the program logs: which events, at which level, in which form. No model is asked.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs a script over a source of one document, one line that is no record, and one that would forge a line
/// of the log.
fn run(dir: &Path, args: &[&str]) -> Output {
    let documents = "{\"key\": \"a\", \"text\": \"A secret of nobody's.\"}\nno JSON\n\
                     {\"key\": \"b\\nERROR forged\"}\n";
    let file = dir.join("docs.jsonl");
    fs::write(&file, documents).expect("writable");
    let script = dir.join("script.sql");
    let text = format!(
        "CREATE SOURCE docs FROM FILE '{}';
         CREATE VIEW keys AS SELECT key FROM docs;
         SELECT key FROM keys;",
        file.display()
    );
    fs::write(&script, text).expect("writable");
    let script = script.to_str().expect("UTF-8");
    perennial(&[&["run", "--once", "--json"], args, &[script]].concat())
}

fn perennial(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .expect("runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The events of a log of JSON, which is all of standard error.
fn events(output: &Output) -> Vec<Value> {
    let said = stderr(output);
    let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"));
    said.lines().map(event).collect()
}

#[test]
fn events_are_objects_of_the_level_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let of = |args: &[&str]| {
        let output = run(dir.path(), &[args, &["--log-format", "json"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!stderr(&output).contains("secret"), "{}", stderr(&output));
        events(&output)
    };
    // Info, where nothing is said.
    let told = of(&[]);
    let named = |told: &[Value], message: &str| -> Vec<Value> {
        let of_name = told.iter().filter(|event| event["message"] == message);
        of_name.cloned().collect()
    };
    let refused = named(&told, "a record was refused");
    assert_eq!(refused.len(), 2, "{told:?}");
    let [first, second] = &refused[..] else {
        unreachable!("there are two");
    };
    assert_eq!(
        (&first["level"], &first["target"], &first["source"]),
        (&"WARN".into(), &"perennial::engine".into(), &"docs".into())
    );
    let place = first["place"].as_str().unwrap_or_default();
    assert!(place.contains("docs.jsonl:2"), "{first}");
    assert_eq!(second["key"], "b\nERROR forged");
    let complete = named(&told, "an epoch is complete");
    assert!(
        complete.iter().any(|event| event["view"] == "keys"),
        "{told:?}"
    );
    assert!(told.iter().all(|event| event["level"] != "DEBUG"));

    let warned = of(&["--log", "warn"]);
    assert_eq!(named(&warned, "a record was refused").len(), 2);
    assert!(named(&warned, "an epoch is complete").is_empty());

    let state = dir.path().join("state");
    let state = state.to_str().expect("UTF-8");
    let all = of(&["--log", "debug", "--state", state]);
    let commits = named(&all, "a commit");
    assert!(
        commits.iter().any(|event| event["is_ok"] == true),
        "{all:?}"
    );
}

#[test]
fn as_text_an_event_is_a_line_and_nothing_is_logged_unasked() {
    let dir = tempfile::tempdir().expect("a folder");
    let logged = run(dir.path(), &["--log", "info"]);
    let said = stderr(&logged);
    let of = |word: &str| said.lines().filter(|line| line.contains(word)).count();
    assert_eq!(
        of("WARN perennial::engine: a record was refused"),
        2,
        "{said}"
    );
    assert!(
        of("INFO perennial::engine: an epoch is complete") > 0,
        "{said}"
    );
    assert!(
        !said.lines().any(|line| line.starts_with("ERROR")),
        "{said}"
    );
    let silent = run(dir.path(), &[]);
    assert!(
        !stderr(&silent).contains("perennial::"),
        "{}",
        stderr(&silent)
    );
    let off = run(dir.path(), &["--log", "off"]);
    assert!(!stderr(&off).contains("perennial::"), "{}", stderr(&off));
}

#[test]
fn why_a_command_cannot_go_on_is_an_event_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let none = dir.path().join("none.sql");
    let none = none.to_str().expect("UTF-8");
    let output = perennial(&["run", "--log-format", "json", none]);
    assert_eq!(output.status.code(), Some(1));
    let told = events(&output);
    let [only] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(only["level"], "ERROR");
    let message = only["message"].as_str().unwrap_or_default();
    assert!(message.contains("none.sql"), "{only}");
    assert!(only["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
}
