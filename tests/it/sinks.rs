//! Answers as they are delivered: every epoch once, whatever ends the engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use perennial::ask::scripted::Scripted;
use perennial::connectors::{
    Delivery, Error as ConnectorError, JsonLinesSink, Output, OutputAnswer, OutputRow, Sink,
    StopFlag,
};
use perennial::{Error, Update};
use proptest::prelude::*;

use crate::delivered::folded;
use crate::history::{Collections, steps};
use crate::rig::{Rig, view};

/// Longer than any delivery takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

fn rig(state: Option<&Path>, sink: impl Sink) -> Rig {
    Rig::start(Scripted::new(), |mut builder| {
        if let Some(state) = state {
            builder = builder.state(state);
        }
        builder
            .table("docs")
            .table("questions")
            .view(view(2000))
            .sink("answers", sink)
    })
}

fn file(dir: &Path) -> JsonLinesSink {
    JsonLinesSink::open(dir.join("answers.jsonl")).expect("writable")
}

/// A sink that says what it gets, and fails while it is told to.
struct Told {
    name: &'static str,
    got: Sender<Delivery>,
    /// One word for each attempt: whether it succeeds. Once hung up, all do.
    attempts: Receiver<bool>,
}

impl Sink for Told {
    fn name(&self) -> &str {
        self.name
    }

    fn deliver(&mut self, delivery: &Delivery, _stop: &StopFlag) -> Result<(), ConnectorError> {
        if !self.attempts.recv().unwrap_or(true) {
            return Err(ConnectorError::Kafka {
                reason: "no broker".to_owned(),
            });
        }
        self.got.send(delivery.clone()).expect("the test listens");
        Ok(())
    }
}

fn told(name: &'static str) -> (Told, Receiver<Delivery>, Sender<bool>) {
    let ((got, gets), (attempt, attempts)) = (channel(), channel());
    let sink = Told {
        name,
        got,
        attempts,
    };
    (sink, gets, attempt)
}

/// A text that must not be delivered.
const CANARY: &str = "the heron nests behind the pump house";

/// The last of all deliveries, none of which holds the canary.
fn last_without_canary(gets: &Receiver<Delivery>) -> Delivery {
    let mut last = None;
    while let Ok(delivery) = gets.recv_timeout(Duration::from_secs(2)) {
        assert!(!format!("{delivery:?}").contains(CANARY));
        last = Some(delivery);
    }
    last.expect("a delivery")
}

fn answer(row: &OutputRow) -> Option<OutputAnswer> {
    match row.output.clone()? {
        Output::Answer(answer) => Some(answer),
        Output::Tuple(row) => panic!("a row of a query: {row:?}"),
    }
}

fn texts(delivery: &Delivery) -> Vec<(&str, Option<&str>)> {
    let text = |row: &OutputRow| {
        let answer = answer(row)?;
        Some(answer.text.expect("no error"))
    };
    let rows = delivery.rows.iter();
    rows.map(|row| (&*row.key, text(row).map(|text| &*text.leak())))
        .collect()
}

#[test]
fn epochs_are_delivered_in_order_and_only_what_changed() {
    let (sink, gets, attempt) = told("told");
    drop(attempt);
    let mut rig = rig(None, sink);
    let next = |rig: &mut Rig| {
        rig.engine.flush().expect("runs");
        gets.recv_timeout(DEADLINE).expect("a delivery")
    };
    rig.upsert("docs", "a", "alpha is here.");
    rig.upsert("questions", "q", "alpha");
    rig.upsert("questions", "r", "omega");
    let first = next(&mut rig);
    assert_eq!(
        texts(&first),
        [
            ("q", Some("alpha is here.")),
            ("r", Some("Nothing is known of omega."))
        ]
    );
    let answer = answer(&first.rows[0]).expect("an answer");
    assert_eq!((&*answer.question, answer.is_exact), ("alpha", true));
    assert_eq!(answer.sources, ["a"]);
    // What stands is not said again.
    rig.upsert("docs", "a", "alpha is there.");
    let second = next(&mut rig);
    assert_eq!(texts(&second), [("q", Some("alpha is there."))]);
    assert!(second.epoch > first.epoch && second.origin == first.origin);
    rig.engine.delete("questions", "q").expect("runs");
    assert_eq!(texts(&next(&mut rig)), [("q", None)]);
}

#[test]
fn a_sink_that_fails_gets_all_later_and_says_so_meanwhile() {
    let (sink, gets, attempt) = told("told");
    let mut rig = rig(None, sink);
    let updates = rig.engine.subscribe("answers").expect("known");
    rig.upsert("docs", "a", "alpha is here.");
    rig.upsert("questions", "q", "alpha");
    attempt.send(false).expect("listens");
    rig.engine.flush().expect("runs");
    let notice = updates.iter().find_map(|update| match update {
        Update::Notice { source, message } => Some((source, message)),
        _ => None,
    });
    let (source, message) = notice.expect("told");
    assert_eq!(source, "told");
    assert!(message.contains("no broker"), "{message}");
    // The engine went on meanwhile.
    rig.upsert("docs", "a", "alpha is there.");
    assert_eq!(rig.texts()["q"], "alpha is there.");
    drop(attempt);
    let all: Vec<Delivery> = (0..2)
        .map(|_| gets.recv_timeout(DEADLINE).expect("a delivery"))
        .collect();
    assert_eq!(texts(&all[0]), [("q", Some("alpha is here."))]);
    assert_eq!(texts(&all[1]), [("q", Some("alpha is there."))]);
}

#[test]
fn what_was_owed_when_the_engine_ended_is_delivered_by_the_next() {
    let dir = tempfile::tempdir().expect("a folder");
    let (sink, _gets, attempt) = told("told");
    let mut first = rig(Some(dir.path()), sink);
    first.upsert("docs", "a", "alpha is here.");
    first.upsert("questions", "q", "alpha");
    first.engine.flush().expect("runs");
    attempt.send(false).expect("listens");
    attempt.send(false).expect("listens");
    drop(first);
    let owed = perennial::state::check(dir.path()).expect("whole").n_owed;
    assert_eq!(owed, 1);
    let (sink, gets, attempt) = told("told");
    drop(attempt);
    let second = rig(Some(dir.path()), sink);
    let delivery = gets.recv_timeout(DEADLINE).expect("a delivery");
    assert_eq!(texts(&delivery), [("q", Some("alpha is here."))]);
    drop(second);
    // Another sink is new to this state: it gets what stands; the old one's debts are gone.
    let (sink, gets, attempt) = told("another");
    drop(attempt);
    let third = rig(Some(dir.path()), sink);
    let delivery = gets.recv_timeout(DEADLINE).expect("a delivery");
    assert_eq!(texts(&delivery), [("q", Some("alpha is here."))]);
    drop(third);
    let owed = perennial::state::check(dir.path()).expect("whole").n_owed;
    assert_eq!(owed, 0);
}

#[test]
fn a_sink_that_is_away_for_a_while_is_owed_what_it_missed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (sink, gets, attempt) = told("told");
    drop(attempt);
    let mut first = rig(Some(dir.path()), sink);
    first.upsert("docs", "a", "alpha is here.");
    for (key, question) in [("q", "alpha"), ("r", "omega")] {
        first.upsert("questions", key, question);
    }
    first.engine.flush().expect("runs");
    gets.recv_timeout(DEADLINE).expect("a delivery");
    drop(first);

    // Another takes its place for a while: an answer changes twice, one goes.
    let (other, _other_gets, attempt) = told("other");
    drop(attempt);
    let mut without = rig(Some(dir.path()), other);
    for text in ["alpha is there.", "alpha is gone."] {
        without.upsert("docs", "a", text);
        without.engine.flush().expect("runs");
    }
    without.engine.delete("questions", "r").expect("runs");
    without.engine.flush().expect("runs");
    drop(without);

    let (sink, gets, attempt) = told("told");
    drop(attempt);
    let back = rig(Some(dir.path()), sink);
    let delivery = gets.recv_timeout(DEADLINE).expect("a delivery");
    assert_eq!(
        texts(&delivery),
        [("q", Some("alpha is gone.")), ("r", None)]
    );
    drop(back);
    assert!(gets.try_recv().is_err(), "all of it at once");
}

/// A sink that takes nothing.
struct Away;

impl Sink for Away {
    fn name(&self) -> &str {
        "told"
    }

    fn deliver(&mut self, _delivery: &Delivery, _stop: &StopFlag) -> Result<(), ConnectorError> {
        Err(ConnectorError::Kafka {
            reason: "no broker".to_owned(),
        })
    }
}

#[test]
fn a_sink_that_is_away_for_long_holds_up_no_view_and_is_told_how_it_ends() {
    const N_EDITS: usize = 1_010;
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = rig(Some(dir.path()), Away);
    let updates = first.engine.subscribe("answers").expect("known");
    first.upsert("docs", "a", "alpha is here.");
    first.upsert("questions", "q", "alpha");
    first.upsert("questions", "r", "omega");
    first.engine.flush().expect("runs");
    first.engine.delete("questions", "r").expect("runs");
    for n in 0..N_EDITS {
        first.upsert("docs", "a", &format!("alpha is number {n}."));
        first.engine.flush().expect("runs");
    }
    let right = first.texts();
    assert_eq!(right["q"], format!("alpha is number {}.", N_EDITS - 1));
    let owed = first.engine.undelivered().expect("runs");
    assert_eq!(owed, [("told".to_owned(), 1_000)]);
    drop(first);
    let is_of_many = |update: &Update| {
        matches!(update, Update::Notice { source, message }
            if source == "told" && message.starts_with("1000 epochs are not delivered"))
    };
    assert_eq!(updates.iter().filter(is_of_many).count(), 1);

    let (sink, gets, attempt) = told("told");
    drop(attempt);
    let back = rig(Some(dir.path()), sink);
    let (mut held, mut last) = (BTreeMap::new(), None);
    for _ in 0..1_000 {
        let delivery = gets.recv_timeout(DEADLINE).expect("a delivery");
        assert!(last.is_none_or(|last| last < delivery.epoch));
        last = Some(delivery.epoch);
        for (key, text) in texts(&delivery) {
            match text {
                Some(text) => held.insert(key.to_owned(), text.to_owned()),
                None => held.remove(key),
            };
        }
    }
    assert_eq!(held, right);
    drop(back);
    assert!(gets.try_recv().is_err(), "all that was owed is told");
}

#[test]
fn a_file_that_was_removed_gets_all_that_stands() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let mut first = rig(Some(&state), file(dir.path()));
    first.upsert("docs", "a", "alpha is here.");
    first.upsert("questions", "q", "alpha");
    let right = first.texts();
    drop(first);
    let path = dir.path().join("answers.jsonl");
    std::fs::remove_file(&path).expect("there");
    drop(rig(Some(&state), file(dir.path())));
    assert_eq!(folded(&path), right);
}

#[test]
fn a_delivery_under_way_is_cut_when_it_comes_back() {
    let (sink, gets, attempt) = told("told");
    let mut rig = rig(None, sink);
    rig.upsert("docs", "secret", &format!("Here {CANARY}."));
    rig.upsert("questions", "q", "heron");
    rig.engine.flush().expect("runs");
    // The first attempt waits for its word meanwhile.
    let receipt = rig.engine.forget("docs", "secret").expect("runs");
    assert!(receipt.was_there);
    attempt.send(false).expect("listens");
    drop(attempt);
    let last = last_without_canary(&gets);
    assert_eq!(texts(&last), [("q", Some("Nothing is known of heron."))]);
}

#[test]
fn what_is_forgotten_is_not_delivered_any_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let (sink, gets, attempt) = told("told");
    let mut rig = rig(Some(dir.path()), sink);
    rig.upsert("docs", "other", "A quiet day.");
    rig.upsert("questions", "q", "quiet");
    rig.engine.flush().expect("runs");
    rig.upsert("questions", "q", "heron");
    rig.upsert("docs", "secret", &format!("Here {CANARY}."));
    rig.engine.flush().expect("runs");
    rig.engine.delete("docs", "secret").expect("runs");
    let receipt = rig.engine.forget("docs", "secret").expect("runs");
    assert!(receipt.remains.is_empty(), "{:?}", receipt.remains);
    let file = std::fs::read(dir.path().join("state.redb")).expect("readable");
    let mut windows = file.windows(CANARY.len());
    assert!(!windows.any(|window| window == CANARY.as_bytes()));
    drop(attempt);
    let last = last_without_canary(&gets);
    assert_eq!(texts(&last), [("q", Some("Nothing is known of heron."))]);
}

#[test]
fn a_sink_needs_a_view_and_a_name_of_its_own() {
    let start = |names: [&'static str; 2], view_name: &str| {
        let mut builder = perennial::Engine::builder(perennial::Runtime::scripted(
            std::sync::Arc::new(Scripted::new()),
            std::sync::Arc::new(perennial::ask::scripted::ScriptedEmbedder::default()),
        ))
        .table("docs")
        .table("questions")
        .view(view(2000));
        for name in names {
            builder = builder.sink(view_name, told(name).0);
        }
        builder.start().map(|_| ())
    };
    assert!(matches!(
        start(["a", "a"], "answers"),
        Err(Error::SinkTaken { sink, view, other }) if sink == "a" && view == other
    ));
    assert!(matches!(
        start(["a", "b"], "replies"),
        Err(Error::UnknownView { .. })
    ));
}

fn text(value: u8) -> String {
    format!("word{value} stands here.")
}

fn wording(value: u8) -> String {
    format!("word{value}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However often the engine is started anew between steps, the file's epochs rise, each is there once, and
    /// they fold to what a fresh engine says.
    #[test]
    fn a_file_folds_to_the_answers_through_any_restarts(
        parts in prop::collection::vec(steps(5, 0..=8, 3, 0..9, 1..12), 1..5),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path().join("state");
        let mut collections = Collections::empty(text, wording);
        for (at, part) in (1i64..).zip(parts) {
            let rig = collections.go_on(rig(Some(&state), file(dir.path())), part, at * 100);
            rig.engine.flush().expect("runs");
        }
        let (sink, _gets, attempt) = told("told");
        drop(attempt);
        let mut fresh = rig(None, sink);
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(folded(&dir.path().join("answers.jsonl")), fresh.texts());
    }
}
