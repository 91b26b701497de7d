//! From one process to another with the small real model and the program itself: what is answered over a
//! parcel is, token for token, what is answered over the text, and less is read for it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const MODEL: [&str; 2] = ["--model", "smollm2-135m"];
const QUESTION: &str = "When does the town library open?";
const TEXTS: [(&str, &str); 2] = [
    (
        "hours",
        "The town library opens at nine in the morning. On Sundays it opens at ten. It closes at six, \
         and at noon on the day before a feast.",
    ),
    (
        "ferry",
        "A ferry ticket costs twelve crowns. The ferry sails at eight.",
    ),
];

/// What a command says: whether it did what it was to do, its last line as JSON, and its complaints.
fn told(command: &str, state: &Path, more: &[&str]) -> (bool, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["memory", command, "--json", "--state"])
        .arg(state)
        .args(more)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    let json = serde_json::from_str(last).unwrap_or_default();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), json, complaints)
}

fn done(command: &str, state: &Path, more: &[&str]) -> Value {
    let (is_done, json, complaints) = told(command, state, more);
    assert!(is_done, "{command} {more:?}: {complaints}");
    json
}

fn answer(state: &Path, more: &[&str]) -> Value {
    let asked = ["-k", "1", "--max-tokens", "16", QUESTION];
    done("answer", state, &[&asked, &MODEL[..], more].concat())
}

/// The files of what was handed over.
fn kept(state: &Path) -> usize {
    let files = std::fs::read_dir(state.join("handed_over")).into_iter();
    let files = files.flatten().filter_map(Result::ok);
    files.filter(|file| file.path().is_file()).count()
}

#[test]
fn what_was_handed_over_answers_as_the_text_does_and_is_not_read_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let (key, parcel) = (at("key"), at("a.parcel"));
    std::fs::write(&key, "08".repeat(32)).expect("writable");
    for state in [at("giver"), at("reader")] {
        for (name, text) in TEXTS {
            done("store", &state, &["--key", name, "--writer", "ada", text]);
        }
    }
    let [key, parcel] = [key, parcel].map(|path| path.to_str().expect("a text").to_owned());
    let written_by = ["--sign", &key, "--writer", "the desk", &parcel];
    let exported = done("export", &at("giver"), &[&written_by, &MODEL[..]].concat());
    let exported = &exported["parcel"];
    assert_eq!(exported["n_entries"], 2);
    assert_eq!(exported["n_fragments"], 2);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&parcel).expect("is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    let signed_by = exported["signed_by"].as_str().expect("is signed");
    let from = ["--trust", signed_by, &parcel];
    let ids = done("import", &at("ids"), &[&from, &MODEL[..]].concat());
    assert_eq!(ids["parcel"]["n_stand_ins"], 2);
    let all = [&from, &MODEL[..], &["--verify", "audit"]].concat();
    let audited = done("import", &at("audit"), &all);
    assert_eq!(audited["parcel"]["n_audited"], 2);
    // Who reads the text reads more, and says the same.
    let read = answer(&at("reader"), &[]);
    let provisional = answer(&at("ids"), &[]);
    let exact = answer(&at("audit"), &[]);
    let healed = answer(&at("ids"), &["--exact"]);
    for (answer, is_exact) in [(&provisional, false), (&exact, true), (&healed, true)] {
        assert_eq!(answer["text"], read["text"]);
        assert_eq!(answer["entries"], read["entries"]);
        assert_eq!(answer["exact"], is_exact, "{answer}");
    }
    assert_eq!(read["n_forwarded"], healed["n_forwarded"]);
    let n_read = |answer: &Value| answer["n_encoded"].as_u64().expect("a number");
    // Only what stands before all texts.
    assert_eq!(n_read(&provisional), n_read(&exact));
    assert!(n_read(&exact) + 20 < n_read(&read), "{read} {exact}");
    // Where it came from is told, and it goes with its text.
    let listed = done("list", &at("ids"), &[]);
    let provenance = listed["provenance"].as_str().expect("is told");
    for part in [
        signed_by,
        "the desk",
        exported["root"].as_str().expect("is named"),
    ] {
        assert!(provenance.contains(part), "{provenance}");
    }
    assert_eq!(listed["entry"]["writer"], "ada");
    assert_eq!(kept(&at("ids")), 2);
    done("forget", &at("ids"), &["--key", "hours"]);
    assert_eq!(kept(&at("ids")), 1);
    let (is_done, _, said) = told("import", &at("ids"), &[&from, &MODEL[..]].concat());
    assert!(!is_done && said.contains("received before"), "{said}");
}
