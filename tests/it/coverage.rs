//! How many passages of how many an answer was written over.

use std::path::Path;
use std::time::{Duration, Instant};

use perennial::ask::PassagesRead;
use perennial::ask::scripted::Scripted;
use perennial::connectors::JsonLinesSink;
use perennial::state::{self, AsOf};
use perennial::{Delivery, Edit, Update, View};
use serde_json::Value;

use crate::rig::{Rig, view};

/// Documents of one passage each, more than fit the budget.
const N_DOCS: usize = 12;
/// Tokens that a few of them fit in.
const BUDGET: usize = 200;

fn doc(i: usize) -> Edit {
    let text = format!("The library of town {i} opens at nine.");
    Edit::upsert("docs", format!("d{i:02}"), text).at(0)
}

/// One that no question of these tests is about.
fn aside(key: &str) -> Edit {
    Edit::upsert("docs", key, "stripes stripes stripes").at(0)
}

fn rig(declared: View, state: Option<&Path>) -> Rig {
    Rig::start(Scripted::new(), |builder| {
        let builder = builder.table("docs").table("questions").view(declared);
        match state {
            None => builder,
            Some(dir) => {
                let sink = JsonLinesSink::open(dir.join("answers.jsonl")).expect("writable");
                builder.state(dir).sink("answers", sink)
            }
        }
    })
}

fn fill(rig: &Rig, n: usize) {
    let question = Edit::upsert("questions", "q", "library");
    let all = (0..n).map(doc).chain([question]);
    rig.engine.apply(all.collect::<Vec<_>>()).expect("runs");
    rig.engine.flush().expect("runs");
}

/// What stands of the answer to a question.
fn standing(rig: &Rig, key: &str) -> PassagesRead {
    rig.engine.flush().expect("runs");
    let answers = rig.engine.answers("answers").expect("runs");
    let (_, answer) = answers
        .into_iter()
        .find(|(context, _)| context.as_str() == key)
        .expect("answered");
    answer.passages.expect("known")
}

#[test]
fn all_are_read_while_they_fit_and_then_it_is_said_how_many() {
    for delivery in [Delivery::Epoch, Delivery::Each] {
        let rig = rig(view(BUDGET).deliver(delivery), None);
        fill(&rig, 2);
        assert_eq!(standing(&rig, "q"), PassagesRead::all(2));

        let updates = rig.engine.subscribe("answers").expect("known");
        fill(&rig, N_DOCS);
        let some = standing(&rig, "q");
        assert!(some.leaves_out() && some.read > 0, "{some}");
        assert_eq!(some.of, N_DOCS);
        let told = std::iter::from_fn(|| updates.try_recv()).filter_map(|update| match update {
            Update::Answer(answer) => answer.passages,
            _ => None,
        });
        assert_eq!(told.last(), Some(some), "{delivery}");

        // A copy is read with the passage that it repeats.
        let copy = Edit::upsert("docs", "copy", "The library of town 3 opens at nine.");
        rig.engine
            .apply(vec![copy.titled("d03").at(0)])
            .expect("runs");
        assert_eq!(standing(&rig, "q").of, N_DOCS);
        rig.engine.delete("docs", "copy").expect("runs");

        // They fit again.
        for i in 2..N_DOCS {
            rig.engine
                .delete("docs", &format!("d{i:02}"))
                .expect("runs");
        }
        assert_eq!(standing(&rig, "q"), PassagesRead::all(2));
    }
}

#[test]
fn what_is_left_out_comes_and_goes_without_a_call_and_the_present_number_is_told() {
    let rig = rig(view(BUDGET), None);
    fill(&rig, N_DOCS);
    let before = standing(&rig, "q");
    let n_calls = rig.model.n_calls();
    let updates = rig.engine.subscribe("answers").expect("known");
    // What stands is told first.
    while updates.try_recv().is_some() {}
    rig.engine
        .apply(vec![aside("north"), aside("south")])
        .expect("runs");
    let now = standing(&rig, "q");
    assert_eq!((now.read, now.of), (before.read, N_DOCS + 2));
    assert_eq!(rig.model.n_calls(), n_calls);
    let mut told = std::iter::from_fn(|| updates.try_recv());
    assert!(!told.any(|update| matches!(update, Update::Answer(_))));
    // Who comes later is told how many there are.
    let later = rig.engine.subscribe("answers").expect("known");
    let first = std::iter::from_fn(|| later.try_recv()).find_map(|update| match update {
        Update::Answer(answer) => answer.passages,
        _ => None,
    });
    assert_eq!(first, Some(now));

    // A run from scratch says the same.
    let fresh = self::rig(view(BUDGET), None);
    fresh
        .engine
        .apply(vec![aside("south"), aside("north")])
        .expect("runs");
    fill(&fresh, N_DOCS);
    assert_eq!(standing(&fresh, "q"), now);
}

#[test]
fn a_context_is_told_of_the_passages_of_its_own_group() {
    let rig = rig(view(BUDGET).matching(["tenant"]), None);
    let of = |edit: Edit, tenant: &str| edit.with("tenant", tenant);
    let mut edits: Vec<Edit> = (0..N_DOCS).map(|i| of(doc(i), "large")).collect();
    edits.push(of(aside("one"), "small"));
    for tenant in ["large", "small"] {
        edits.push(of(Edit::upsert("questions", tenant, "library"), tenant));
    }
    rig.engine.apply(edits).expect("runs");
    assert_eq!(standing(&rig, "large").of, N_DOCS);
    assert_eq!(standing(&rig, "small"), PassagesRead::all(1));
    // Who moves to another group reads what is there.
    let moved = Edit::upsert("questions", "small", "library");
    rig.engine.apply(vec![of(moved, "large")]).expect("runs");
    assert_eq!(standing(&rig, "small"), standing(&rig, "large"));
}

#[test]
fn both_numbers_are_stored_and_delivered_and_a_restart_asks_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = rig(view(BUDGET), Some(dir.path()));
    fill(&running, N_DOCS);
    let stood = standing(&running, "q");
    let row = delivered(dir.path());
    assert_eq!(row["passages_read"], stood.read);
    assert_eq!(row["passages_of"], stood.of);
    drop(running);

    let held = state::as_of(dir.path(), AsOf::Present).expect("whole");
    let answer = held.answers["answers"].values().next().expect("one");
    assert_eq!(answer.passages, Some(stood));

    let again = rig(view(BUDGET), Some(dir.path()));
    assert_eq!(standing(&again, "q"), stood);
    again.engine.apply(vec![aside("north")]).expect("runs");
    assert_eq!(standing(&again, "q").of, N_DOCS + 1);
    assert_eq!(again.model.n_calls(), 0);
}

/// The last row in a sink's file, once there is one.
fn delivered(dir: &Path) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(dir.join("answers.jsonl")).unwrap_or_default();
        // The last line may be half written.
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        if let Some(row) = lines.rfind(|line: &Value| line.get("text").is_some()) {
            return row;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
