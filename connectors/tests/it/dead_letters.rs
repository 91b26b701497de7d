//! What a sink refuses for good: put aside once, while the rest is delivered.

use std::collections::BTreeSet;
use std::path::Path;

use perennial_connectors::{
    DeadLettered, DeadLetters, Delivery, Error, Output, OutputAnswer, OutputRow, Refusal, Replaced,
    Sink, StopFlag, Webhook,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::receiver::{Act, Got, Receiver};

fn delivery(epoch: u64, n_rows: usize) -> Delivery {
    let row = |i| OutputRow {
        key: format!("q{i}"),
        output: Some(Output::Answer(OutputAnswer {
            question: "Why?".to_owned(),
            text: Ok(format!("Because of {i}.")),
            rung: "verify".to_owned(),
            is_exact: true,
            drift: 0.0,
            sources: Vec::new(),
            passages: Some((1, 2)),
        })),
    };
    Delivery {
        origin: 0xf1,
        view: "answers".to_owned(),
        epoch,
        rows: (0..n_rows).map(row).collect(),
    }
}

fn open(path: &Path, receiver: &Receiver) -> DeadLettered<Webhook> {
    let hook = Webhook::open(&receiver.url()).unwrap().part_bytes(300);
    DeadLetters::open(path).unwrap().of(hook)
}

/// The keys of letters in a file, with the reasons, and how many epochs it holds.
fn letters(path: &Path) -> (Vec<(String, String)>, usize) {
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let letters = lines.iter().filter(|line| line.get("refused").is_some());
    let said = letters.map(|letter| {
        let key = letter["key"].as_str().unwrap_or("the epoch").to_owned();
        assert!(letter["refused"]["at"].as_str().unwrap().ends_with('Z'));
        let sink = letter["refused"]["sink"].as_str().unwrap();
        assert!(sink.starts_with("http://127.0.0.1"), "{sink}");
        (
            key,
            letter["refused"]["reason"].as_str().unwrap().to_owned(),
        )
    });
    let ends = lines.iter().filter(|line| line.get("end_of").is_some());
    (said.collect(), ends.count())
}

/// The keys of rows that a receiver took.
fn taken(got: &[Got]) -> BTreeSet<String> {
    let rows = got
        .iter()
        .flat_map(|got| got.json()["rows"].as_array().cloned().unwrap_or_default());
    rows.map(|row| row["key"].as_str().unwrap().to_owned())
        .collect()
}

fn keys(of: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    of.into_iter().map(|i| format!("q{i}")).collect()
}

#[test]
fn the_others_arrive_and_a_refused_row_stands_in_the_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let receiver = Receiver::start([]);
    receiver.refuse(422, "Because of 3.");
    let stop = StopFlag::new();
    let mut sink = open(&path, &receiver);
    assert!(!sink.is_empty());
    sink.deliver(&delivery(1, 7), &stop).unwrap();
    assert_eq!(
        taken(&receiver.taken()),
        keys((0..7).filter(|i| *i != 3)),
        "the others"
    );
    let (told, n_epochs) = letters(&path);
    assert_eq!((told.len(), n_epochs), (1, 1));
    assert_eq!(told[0].0, "q3");
    assert!(told[0].1.contains("422") && told[0].1.contains("not this one"));
    assert_eq!(sink.dead_letters().unwrap().n(), 1);

    // After a crash before it was struck off, the same comes again: nobody is asked.
    drop(sink);
    let n_requests = receiver.got().len();
    let mut sink = open(&path, &receiver);
    assert_eq!(sink.dead_letters().unwrap().n(), 1);
    sink.deliver(&delivery(1, 7), &stop).unwrap();
    assert_eq!(receiver.got().len(), n_requests);
    assert_eq!(letters(&path).0.len(), 1);
    // What is not refused makes no letter.
    receiver.relent();
    sink.deliver(&delivery(2, 7), &stop).unwrap();
    assert_eq!(letters(&path), (told, 1));
}

#[test]
fn letters_that_were_moved_away_are_not_counted_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let receiver = Receiver::start([]);
    receiver.refuse(422, "Because of 3.");
    let stop = StopFlag::new();
    let mut sink = open(&path, &receiver);
    for epoch in 1..3 {
        sink.deliver(&delivery(epoch, 7), &stop).unwrap();
    }
    assert_eq!(sink.dead_letters().unwrap().n(), 2);
    // Moved away: a new one is begun, and counted.
    let moved = dir.path().join("moved.jsonl");
    std::fs::rename(&path, &moved).unwrap();
    sink.deliver(&delivery(3, 7), &stop).unwrap();
    assert_eq!((letters(&moved).1, letters(&path).1), (2, 1));
    let count = sink.dead_letters().unwrap();
    assert_eq!((count.n(), count.n_put()), (1, 3));
}

#[test]
fn what_may_pass_is_tried_again_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let receiver = Receiver::start([]);
    let stop = StopFlag::new();
    // Both rows in one request.
    let hook = Webhook::open(&receiver.url()).unwrap();
    let mut sink = DeadLetters::open(&path).unwrap().of(hook);
    for passing in [
        Act::Answer(401, "", ""),
        Act::Answer(403, "", ""),
        Act::Answer(429, "", ""),
        Act::Answer(503, "", ""),
        // It says when it will be taken.
        Act::Answer(422, "retry-after: 1\r\n", ""),
        Act::Cut,
    ] {
        receiver.then([passing]);
        let error = sink.deliver(&delivery(1, 2), &stop).unwrap_err();
        assert!(!error.is_permanent(), "{error}");
    }
    // In the midst of what is refused for good, too.
    receiver.then([
        Act::Answer(422, "", ""),
        Act::Answer(200, "", ""),
        Act::Answer(500, "", ""),
    ]);
    assert!(sink.deliver(&delivery(1, 2), &stop).is_err());
    assert_eq!(letters(&path), (Vec::new(), 0));
    sink.deliver(&delivery(1, 2), &stop).unwrap();
    assert_eq!(taken(&receiver.taken()), keys(0..2));
    assert_eq!(letters(&path), (Vec::new(), 0));
}

#[test]
fn where_nobody_is_a_whole_delivery_is_put_aside_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let receiver = Receiver::start([]);
    receiver.refuse(410, "answers");
    let mut sink = open(&path, &receiver);
    sink.deliver(&delivery(1, 50), &StopFlag::new()).unwrap();
    assert_eq!(letters(&path).0.len(), 50);
    assert!(receiver.got().len() <= 2, "{}", receiver.got().len());
    // So is the word that nothing stands.
    sink.deliver(&delivery(2, 0), &StopFlag::new()).unwrap();
    let (told, n_epochs) = letters(&path);
    assert_eq!((told.len(), n_epochs), (51, 2));
    assert_eq!(told[50].0, "the epoch");
}

#[test]
fn a_delivery_that_replaces_says_so_once_it_can_be_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let receiver = Receiver::start([]);
    receiver.refuse(422, "Because of 1.");
    let stop = StopFlag::new();
    let mut sink = open(&path, &receiver);
    let replaced = sink.replace(&delivery(1, 3), &[0xf0], &stop).unwrap();
    assert_eq!(replaced, Replaced::Unseen);
    assert_eq!(letters(&path).0.len(), 1);
    let taken_last = receiver.taken();
    let replacing = taken_last
        .iter()
        .filter(|got| got.json().get("replaces").is_some())
        .cloned()
        .collect::<Vec<Got>>();
    assert_eq!(taken(&replacing), keys([0, 2]));
    let n_requests = receiver.got().len();
    sink.replace(&delivery(1, 3), &[0xf0], &stop).unwrap();
    assert_eq!(receiver.got().len(), n_requests);
}

#[test]
fn sinks_may_share_a_file_and_another_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let (one, two) = (Receiver::start([]), Receiver::start([]));
    let letters_of_both = DeadLetters::open(&path).unwrap();
    let stop = StopFlag::new();
    for receiver in [&one, &two] {
        receiver.refuse(400, "Because of 0.");
        let hook = Webhook::open(&receiver.url()).unwrap();
        let mut sink = letters_of_both.of(hook);
        sink.deliver(&delivery(4, 2), &stop).unwrap();
        assert_eq!(sink.dead_letters().unwrap().n(), 1);
    }
    assert_eq!(letters(&path).0.len(), 2);
    let again = DeadLetters::open(&path);
    assert!(matches!(again, Err(Error::OutputInUse { .. })));
    drop(letters_of_both);
    // Each goes on with its own.
    let both = DeadLetters::open(&path).unwrap();
    for receiver in [&one, &two] {
        let mut sink = both.of(Webhook::open(&receiver.url()).unwrap());
        let n_requests = receiver.got().len();
        sink.deliver(&delivery(4, 2), &stop).unwrap();
        assert_eq!(receiver.got().len(), n_requests);
        assert_eq!(sink.dead_letters().unwrap().n(), 1);
    }
    let foreign = dir.path().join("answers.jsonl");
    std::fs::write(&foreign, "{\"perennial\":\"answers\",\"format\":1}\n").unwrap();
    let opened = DeadLetters::open(&foreign);
    assert!(matches!(opened, Err(Error::ForeignOutput { .. })));
}

/// Refuses rows by their keys, and takes the rest in parts of a few rows.
struct Picky {
    refuses: BTreeSet<String>,
    part: usize,
    /// Whether it says which part it refused.
    tells: bool,
    taken: Vec<String>,
}

impl Sink for Picky {
    fn name(&self) -> &str {
        "http://127.0.0.1/picky"
    }

    fn deliver(&mut self, delivery: &Delivery, _stop: &StopFlag) -> Result<(), Error> {
        for (number, rows) in delivery.rows.chunks(self.part).enumerate() {
            if rows.iter().any(|row| self.refuses.contains(&row.key)) {
                let begin = number * self.part;
                return Err(Error::Refused {
                    reason: "no".to_owned(),
                    refusal: Refusal::Rows,
                    rows: self.tells.then(|| begin..begin + rows.len()),
                });
            }
            self.taken.extend(rows.iter().map(|row| row.key.clone()));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_row_is_either_taken_or_put_aside(
        n_rows in 1usize..20, refused in prop::collection::btree_set(0usize..20, 0..6),
        part in 1usize..6, tells in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("refused.jsonl");
        let refused = keys(refused.into_iter().filter(|i| *i < n_rows));
        let picky = Picky { refuses: refused.clone(), part, tells, taken: Vec::new() };
        let letters_there = DeadLetters::open(&path).unwrap();
        let mut sink = letters_there.of(picky);
        sink.deliver(&delivery(1, n_rows), &StopFlag::new()).unwrap();
        let aside: Vec<String> = letters(&path).0.into_iter().map(|(key, _)| key).collect();
        let once: BTreeSet<String> = aside.iter().cloned().collect();
        prop_assert_eq!(aside.len(), once.len());
        prop_assert_eq!(&once, &refused);
        let taken: BTreeSet<String> = sink.inner().taken.iter().cloned().collect();
        let others: BTreeSet<String> = keys(0..n_rows).difference(&refused).cloned().collect();
        prop_assert_eq!(taken, others);
    }
}
