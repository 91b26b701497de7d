//! Passages that say the same: read once, cited wherever they stand.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use perennial::ask::Rung;
use perennial::ask::scripted::Scripted;
use perennial::connectors::JsonLinesSink;
use perennial::engine::{ChangeKind, CurrentAnswer};
use perennial::{Delivery, Edit, Policy, Update};
use serde_json::Value;

use crate::rig::{Rig, view};

/// How many documents say the same, more than fit any budget of these tests.
const N_COPIES: usize = 120;
const HOURS: &str = "The library opens at nine.";

fn copy(i: usize) -> String {
    format!("copy{i:03}")
}

fn hours(key: &str) -> Edit {
    Edit::upsert("docs", key, HOURS).titled("Hours").at(0)
}

fn rig(state: Option<&Path>, policy: Policy, delivery: Delivery) -> Rig {
    let declared = view(120).policy(policy).deliver(delivery);
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

fn fill(rig: &Rig) {
    let copies = (0..N_COPIES).map(|i| hours(&copy(i)));
    let fees = Edit::upsert("docs", "fees", "A library card costs nothing.")
        .titled("Fees")
        .at(0);
    let question = Edit::upsert("questions", "q", "library");
    let all = copies.chain([fees, question]).collect::<Vec<_>>();
    rig.engine.apply(all).expect("runs");
    rig.engine.settle().expect("runs");
}

fn answer(rig: &Rig) -> CurrentAnswer {
    rig.engine.flush().expect("runs");
    let answers = rig.engine.answers("answers").expect("runs");
    answers.into_iter().next().expect("one").1
}

/// The documents that a sentence names, each once.
fn cited(answer: &CurrentAnswer, sentence: usize) -> BTreeSet<String> {
    let sources = &answer.sub_paragraphs[sentence].sources;
    let named: BTreeSet<String> = sources.iter().map(|s| s.document.to_string()).collect();
    assert_eq!(named.len(), sources.len(), "each once");
    named
}

/// The documents that the last answer in a sink's file names, once it names one no more.
fn delivered_without(dir: &Path, gone: &str) -> BTreeSet<String> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(dir.join("answers.jsonl")).unwrap_or_default();
        // The last line may be half written.
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let last = lines
            .rfind(|line: &Value| line.get("sources").is_some())
            .unwrap_or_default();
        let sources = last["sources"].as_array().into_iter().flatten();
        let sources = sources.map(|source| source.as_str().expect("a text").to_owned());
        let sources: BTreeSet<String> = sources.collect();
        if !sources.is_empty() && !sources.contains(gone) {
            return sources;
        }
        assert!(Instant::now() < until, "{sources:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn equal_passages_are_read_once_and_all_their_documents_are_named() {
    for (policy, delivery) in [
        (Policy::Exact, Delivery::Epoch),
        (Policy::Eventual, Delivery::Epoch),
        (Policy::Exact, Delivery::Each),
    ] {
        let rig = rig(None, policy, delivery);
        fill(&rig);
        let of = |copies: &mut dyn Iterator<Item = usize>| -> BTreeSet<String> {
            let fees = std::iter::once("fees".to_owned());
            copies.map(copy).chain(fees).collect()
        };
        // None of them keeps what else is relevant out.
        let before = answer(&rig);
        let text = before.answer.as_ref().expect("answered").text.clone();
        assert_eq!(
            &*text,
            "The library opens at nine. A library card costs nothing."
        );
        assert_eq!(cited(&before, 0), of(&mut (0..N_COPIES)));

        // One that nobody read goes, then the one that was read: the citation moves, and no more.
        let n_calls = rig.model.n_calls();
        for gone in [50, 0] {
            let updates = rig.engine.subscribe("answers").expect("known");
            rig.engine.flush().expect("runs");
            while updates.try_recv().is_some() {}
            rig.engine.delete("docs", &copy(gone)).expect("runs");
            rig.engine.flush().expect("runs");
            // What tells each answer tells none that stands.
            if delivery == Delivery::Epoch {
                let mut told = std::iter::from_fn(|| updates.try_recv());
                let told = told.find_map(|update| match update {
                    Update::Answer(answer) => Some(answer),
                    _ => None,
                });
                let told = told.expect("told");
                assert_eq!((told.kind(), told.rung), (ChangeKind::Stands, Rung::Keep));
                assert!(told.is_exact && told.work.n_forwarded() == 0);
            }
        }
        let left = || (1..N_COPIES).filter(|i| *i != 50);
        let now = answer(&rig);
        assert_eq!(cited(&now, 0), of(&mut left()));
        assert_eq!(now.answer, before.answer);
        assert_eq!(rig.model.n_calls(), n_calls);

        // A run from scratch names the same.
        let fresh = self::rig(None, policy, delivery);
        fill(&fresh);
        for gone in [0, 50] {
            fresh.engine.delete("docs", &copy(gone)).expect("runs");
        }
        assert_eq!(answer(&fresh).sub_paragraphs, now.sub_paragraphs);

        // One that says something else is a passage of its own.
        let other = Edit::upsert("docs", copy(7), "The library opens at ten.").titled("Hours");
        rig.engine.apply(vec![other]).expect("runs");
        rig.engine.settle().expect("runs");
        assert!(rig.model.n_calls() > n_calls);
        let text = answer(&rig).answer.expect("answered").text.to_string();
        assert!(
            text.contains("at nine") && text.contains("at ten"),
            "{text}"
        );
    }
}

#[test]
fn who_takes_answers_is_told_of_a_citation_that_moved_and_a_restart_asks_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let opened = || rig(Some(dir.path()), Policy::Exact, Delivery::Epoch);
    let running = opened();
    fill(&running);
    running.engine.delete("docs", &copy(3)).expect("runs");
    let stood = answer(&running);
    let named = delivered_without(dir.path(), &copy(3));
    assert_eq!(named.len(), N_COPIES, "{named:?}");
    assert!(named.contains("fees"));
    drop(running);

    let again = opened();
    assert_eq!(answer(&again).sub_paragraphs, stood.sub_paragraphs);
    again.engine.delete("docs", &copy(4)).expect("runs");
    again.engine.flush().expect("runs");
    assert_eq!(again.model.n_calls(), 0);
    assert_eq!(delivered_without(dir.path(), &copy(4)).len(), N_COPIES - 1);
}

#[test]
fn a_document_that_is_renamed_is_cited_by_its_new_name_without_a_call() {
    let rig = rig(None, Policy::Exact, Delivery::Epoch);
    let question = Edit::upsert("questions", "q", "library");
    rig.engine
        .apply(vec![hours("old"), question])
        .expect("runs");
    assert_eq!(cited(&answer(&rig), 0), BTreeSet::from(["old".to_owned()]));
    let n_calls = rig.model.n_calls();
    rig.engine
        .apply(vec![hours("new"), Edit::delete("docs", "old")])
        .expect("runs");
    assert_eq!(cited(&answer(&rig), 0), BTreeSet::from(["new".to_owned()]));
    assert_eq!(rig.model.n_calls(), n_calls);
}
