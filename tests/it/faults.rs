//! Killed at every named point, between any two writes: it goes on as if it had not been.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use perennial::ask::scripted::Scripted;
use perennial::bank::ContextKey;
use perennial::connectors::{JsonLines, JsonLinesSink};
use perennial::engine::CurrentAnswer;
use perennial::recording::Replay;
use perennial::state::{self, AsOf};
use perennial::{Edit, Engine, fault};
use serde_json::Value;

use crate::delivered::folded;
use crate::killed;
use crate::rig::view;
use crate::stand_in::StandIn;

const SINK: &str = "answers.jsonl";
const RECORDING: &str = "session.rec";
const ASKED: &str = "asked.txt";
const LOG: &str = "log.jsonl";
/// Stands in a document that is forgotten.
const CANARY: &str = "the heron nests behind the pump house";

/// What the child does, one after the other.
enum Step {
    /// Changes that are visible together.
    Apply(Vec<Edit>),
    /// A line that is refused, so that offsets and quarantine are stored without an epoch.
    Refuse,
    Forget(&'static str),
}

/// No request of a model is made twice in it.
fn script() -> Vec<Step> {
    let docs = |key, text: &str| Edit::upsert("docs", key, text).at(1);
    let asks = |key, text: &str| Edit::upsert("questions", key, text).at(1);
    vec![
        Step::Apply(vec![
            docs("a", "alpha is one."),
            docs("b", "beta is one."),
            docs("c", CANARY),
            asks("q", "alpha"),
            asks("r", "beta"),
        ]),
        Step::Refuse,
        Step::Apply(vec![docs("a", "alpha is two.")]),
        Step::Apply(vec![
            Edit::delete("docs", "b"),
            docs("d", "delta is one."),
            asks("s", "heron delta"),
        ]),
        Step::Forget("c"),
        Step::Apply(vec![
            docs("d", "delta is two."),
            Edit::delete("questions", "r"),
        ]),
        Step::Refuse,
        Step::Apply(vec![docs("a", "alpha is three."), asks("t", "three")]),
    ]
}

/// Goes through the script from where it was left, in a process that may be killed.
#[test]
#[ignore = "runs in a process of its own"]
fn child_of_the_fault_test() {
    let Some(dir) = killed::begin() else { return };
    let dir = &*dir;
    let log = JsonLines::open("log", dir.join(LOG)).expect("there");
    let sink = JsonLinesSink::open(dir.join(SINK)).expect("sound");
    let runtime = StandIn::writing(dir.join(ASKED)).runtime();
    let engine = Engine::builder(runtime)
        .table("docs")
        .table("questions")
        .source(log.follow(true))
        .view(view(2000))
        .sink("answers", sink)
        .state(dir.join("state"))
        .record(dir.join(RECORDING))
        .start()
        .expect("starts");
    let done = killed::n_done(dir);
    let mut n_refused = 0;
    for (i, step) in script().into_iter().enumerate() {
        n_refused += usize::from(matches!(step, Step::Refuse));
        if i < done {
            continue;
        }
        match step {
            Step::Apply(edits) => engine.apply(edits).expect("runs"),
            Step::Refuse => {
                let said = fs::read_to_string(dir.join(LOG)).expect("there");
                if said.lines().count() < n_refused {
                    let mut log = fs::OpenOptions::new()
                        .append(true)
                        .open(dir.join(LOG))
                        .expect("there");
                    log.write_all(b"no record\n").expect("writable");
                }
                while engine.quarantine().expect("runs").len() < n_refused {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Step::Forget(key) => {
                // What is owed when a document is forgotten is merged.
                while folded_so_far(&dir.join(SINK)) != texts(&engine) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                engine.forget("docs", key).expect("forgets");
            }
        }
        engine.flush().expect("runs");
        killed::note_done(dir, i + 1);
    }
}

fn run(dir: &Path, point: Option<&str>) -> ExitStatus {
    killed::run("faults::child_of_the_fault_test", dir, point)
}

fn was_aborted(status: ExitStatus) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt as _;
        // SIGABRT.
        status.signal() == Some(6)
    }
    #[cfg(not(unix))]
    {
        !status.success()
    }
}

/// What is left when all is done.
#[derive(Debug, PartialEq)]
struct Left {
    answers: BTreeMap<String, String>,
    rows: Vec<(String, String, String)>,
    n_quarantined: usize,
    /// What the model was asked.
    asked: BTreeSet<String>,
}

/// What is left in `dir`, and how many requests were made again.
fn left(dir: &Path) -> (Left, usize) {
    let held = dir.join("state");
    let stood = state::as_of(&held, AsOf::Present).expect("whole");
    let answers = stood.answers["answers"].iter().map(|(context, current)| {
        let text = current.answer.as_ref().expect("no errors").text.to_string();
        (context.to_string(), text)
    });
    let answers: BTreeMap<String, String> = answers.collect();
    assert_eq!(folded(&dir.join(SINK)), answers, "what was delivered");
    let rows = stood.documents.iter().flat_map(|(stream, rows)| {
        let rows = rows.iter();
        rows.map(move |row| (stream.clone(), row.key.to_string(), row.text.to_string()))
    });
    let asked = fs::read_to_string(dir.join(ASKED)).expect("there");
    let n_asked = asked.lines().count();
    let left = Left {
        rows: rows.collect(),
        n_quarantined: state::check(&held).expect("whole").n_quarantined,
        asked: asked.lines().map(str::to_owned).collect(),
        answers,
    };
    for entry in state::history(&held).expect("whole") {
        state::as_of(&held, AsOf::Epoch(entry.epoch)).expect("held");
    }
    // The fragments have a folder of their own.
    let files = fs::read_dir(&held).expect("there");
    let files = files.filter(|entry| entry.as_ref().expect("there").path().is_file());
    assert_eq!(files.count(), 1, "nothing half made is left");
    let bytes = fs::read(held.join("state.redb")).expect("there");
    assert!(!bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()));
    assert!(!state::receipts(&held).expect("whole").is_empty());
    let runtime = StandIn::ending("").runtime();
    for epoch in Replay::open(dir.join(RECORDING), runtime).expect("there") {
        let epoch = epoch.expect("sound");
        assert!(epoch.differences.is_empty(), "{epoch:?}");
    }
    let n_again = n_asked - left.asked.len();
    (left, n_again)
}

/// The rows of each whole epoch that a file got, without what depends on its number.
fn delivered(path: &Path) -> Vec<Vec<(String, Option<String>)>> {
    // The file may not have come to be.
    let text = fs::read_to_string(path).unwrap_or_default();
    let (mut epochs, mut rows) = (Vec::new(), Vec::new());
    for line in text.lines() {
        // The last one may be being written.
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            break;
        };
        if line.get("end_of").is_some() {
            epochs.push(std::mem::take(&mut rows));
        } else if let Some(key) = line["key"].as_str() {
            rows.push((key.to_owned(), line["text"].as_str().map(str::to_owned)));
        }
    }
    epochs
}

/// The answers that they leave behind.
fn folded_so_far(path: &Path) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    for (key, text) in delivered(path).into_iter().flatten() {
        match text {
            Some(text) => answers.insert(key, text),
            None => answers.remove(&key),
        };
    }
    answers
}

fn texts(engine: &Engine) -> BTreeMap<String, String> {
    let answers = engine.answers("answers").expect("runs").into_iter();
    let text = |(context, current): (ContextKey, CurrentAnswer)| {
        let text = current.answer.expect("no errors").text.to_string();
        (context.to_string(), text)
    };
    answers.map(text).collect()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join(LOG), "").expect("writable");
    dir
}

#[test]
fn killed_at_any_fault_point_it_goes_on_as_if_it_had_not_been() {
    let undisturbed = folder();
    assert!(run(undisturbed.path(), None).success());
    let (expected, n_again) = left(undisturbed.path());
    assert_eq!(n_again, 0, "the script asks nothing twice");
    let expected_deliveries = delivered(&undisturbed.path().join(SINK));
    assert!(expected_deliveries.len() > 4, "{expected_deliveries:?}");
    // Most that one epoch asks: what a crash before its commit costs again.
    let n_lost = 3;
    let mut runs: Vec<(String, u64)> = Vec::new();
    for nth in [1, 2, 4] {
        runs.extend(fault::all().map(|point| (point.name().to_owned(), nth)));
    }
    let (runs, n_aborted) = (Mutex::new(runs), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = runs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((point, nth)) = next else { return };
                    let dir = folder();
                    let status = run(dir.path(), Some(&format!("{point}:{nth}")));
                    let sink = dir.path().join(SINK);
                    // A file that nothing was delivered to gets what stands in one piece.
                    let had_none = delivered(&sink).is_empty();
                    let is_aborted = was_aborted(status);
                    assert!(
                        is_aborted || nth > 1 && status.success(),
                        "{point}:{nth}: {status}"
                    );
                    *n_aborted.lock().unwrap_or_else(PoisonError::into_inner) +=
                        usize::from(is_aborted);
                    if is_aborted {
                        assert!(run(dir.path(), None).success(), "{point}:{nth}");
                    }
                    let (left, n_again) = left(dir.path());
                    assert_eq!(left, expected, "{point}:{nth}");
                    if !had_none {
                        assert_eq!(delivered(&sink), expected_deliveries, "{point}:{nth}");
                    }
                    // With a commit, its calls are kept. Sinks and the recording have threads of
                    // their own: the next epoch may be half done when they die.
                    let is_beside = ["deliver.", "sink-file.", "record."];
                    let may_lose = ["commit.begin", "commit.staged"].contains(&&*point)
                        || is_beside.iter().any(|beside| point.starts_with(beside));
                    let most = if may_lose { n_lost } else { 0 };
                    assert!(n_again <= most, "{point}:{nth}: {n_again} calls again");
                }
            });
        }
    });
    let n_aborted = n_aborted
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    eprintln!(
        "{n_aborted} processes died at {} points",
        fault::all().count()
    );
}

/// The scripted model stands for itself.
#[test]
fn a_stand_in_without_words_of_its_own_is_the_scripted_model() {
    use perennial::ask::AnswerModel as _;
    assert_eq!(StandIn::ending("").digest(), Scripted::new().digest());
}
