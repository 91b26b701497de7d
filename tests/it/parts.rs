//! Several sources that are one stream: what a person sends in stays with the source that refused it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use perennial::state::{self, AsOf};

const MODEL: &str = "smollm2-135m";

/// Runs the program in a folder, to a good end.
fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
    let output = command.args(args).current_dir(dir).env("NO_COLOR", "1");
    let output = output.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    output
}

/// The keys of all documents that a state holds.
fn keys(state: &Path) -> Vec<String> {
    let stood = state::as_of(state, AsOf::Present).expect("whole");
    let documents = stood.documents["documents"].iter();
    documents
        .map(|document| document.key.as_str().to_owned())
        .collect()
}

#[test]
fn a_line_without_a_key_that_is_sent_in_mended_stays_through_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("writable");
    fs::create_dir(dir.path().join("notes")).expect("writable");
    write("notes/hours.md", "The library opens at nine.");
    write(
        "a.jsonl",
        "{\"key\":\"pets\",\"text\":\"Dogs stay outside.\"}\n{\"text\":\"A card costs five crowns.\"}\n",
    );
    write("b.jsonl", "{\"key\":\"cafe\",\"text\":\"Tea is free.\"}\n");
    write(
        "mended.json",
        "{\"key\":\"card\",\"text\":\"A card costs five crowns.\"}",
    );
    // Beside a folder, whose keys have no prefix, and beside files alone.
    for folders in [&["notes"][..], &[]] {
        let state = dir.path().join(format!("state-{}", folders.len()));
        let of = state.to_str().expect("UTF-8");
        let watch = || {
            let args = ["watch", "--once", "--model", MODEL, "--state", of];
            let files = ["a.jsonl", "b.jsonl", "What does a card cost?"];
            run(dir.path(), &[&args[..], folders, &files].concat());
            keys(&state)
        };
        let mut expected = vec!["a.jsonl#pets".to_owned(), "b.jsonl#cafe".to_owned()];
        expected.extend(folders.iter().map(|_| "hours.md".to_owned()));
        assert_eq!(watch(), expected);
        let resubmit = ["quarantine", "resubmit", of, "0", "--with", "mended.json"];
        let said = run(dir.path(), &resubmit).stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("a.jsonl#card will be taken in"), "{said}");
        expected.insert(0, "a.jsonl#card".to_owned());
        for start in 1..4 {
            assert_eq!(watch(), expected, "start {start}");
        }
    }
}
