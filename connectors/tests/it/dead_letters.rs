//! What a sink refuses for good: put aside once, while the rest is delivered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use perennial_connectors::{
    DeadLettered, DeadLetters, Delivery, Error, HeldLetters, Output, OutputAnswer, OutputRow,
    Refusal, Replaced, Sink, StopFlag, Webhook,
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

/// A receiver, a sink that delivers to it, and where the sink's letters go.
struct Rig {
    dir: tempfile::TempDir,
    path: PathBuf,
    receiver: Receiver,
    hook: fn(&Receiver) -> Webhook,
    sink: DeadLettered<Webhook>,
    stop: StopFlag,
}

impl Rig {
    fn over(receiver: Receiver, hook: fn(&Receiver) -> Webhook) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("refused.jsonl");
        Self {
            sink: DeadLetters::open(&path).unwrap().of(hook(&receiver)),
            dir,
            path,
            receiver,
            hook,
            stop: StopFlag::new(),
        }
    }

    /// Over a receiver that answers a request that has a text with a status; it is sent a few rows in each.
    fn refusing(status: u16, text: &'static str) -> Self {
        let receiver = Receiver::start([]);
        receiver.refuse(status, text);
        Self::over(receiver, |receiver| {
            Webhook::open(&receiver.url()).unwrap().part_bytes(300)
        })
    }

    /// The same, as after a restart.
    fn again(self) -> Self {
        drop(self.sink);
        let letters = DeadLetters::open(&self.path).unwrap();
        Self {
            sink: letters.of((self.hook)(&self.receiver)),
            ..self
        }
    }

    fn deliver(&mut self, delivery: &Delivery) -> Result<(), Error> {
        self.sink.deliver(delivery, &self.stop)
    }

    fn n_letters(&self) -> u64 {
        self.sink.dead_letters().unwrap().n()
    }
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
    let mut rig = Rig::refusing(422, "Because of 3.");
    assert!(!rig.sink.is_empty());
    rig.deliver(&delivery(1, 7)).unwrap();
    assert_eq!(
        taken(&rig.receiver.taken()),
        keys((0..7).filter(|i| *i != 3)),
        "the others"
    );
    let (told, n_epochs) = letters(&rig.path);
    assert_eq!((told.len(), n_epochs), (1, 1));
    assert_eq!(told[0].0, "q3");
    assert!(told[0].1.contains("422") && told[0].1.contains("not this one"));
    assert_eq!(rig.n_letters(), 1);

    // After a crash before it was struck off, the same comes again: nobody is asked.
    let mut rig = rig.again();
    let n_requests = rig.receiver.got().len();
    assert_eq!(rig.n_letters(), 1);
    rig.deliver(&delivery(1, 7)).unwrap();
    assert_eq!(rig.receiver.got().len(), n_requests);
    assert_eq!(letters(&rig.path).0.len(), 1);
    // What is not refused makes no letter.
    rig.receiver.relent();
    rig.deliver(&delivery(2, 7)).unwrap();
    assert_eq!(letters(&rig.path), (told, 1));
}

#[test]
fn letters_that_were_moved_away_are_not_counted_any_more() {
    let mut rig = Rig::refusing(422, "Because of 3.");
    for epoch in 1..3 {
        rig.deliver(&delivery(epoch, 7)).unwrap();
    }
    assert_eq!(rig.n_letters(), 2);
    // Moved away: a new one is begun, and counted.
    let moved = rig.dir.path().join("moved.jsonl");
    std::fs::rename(&rig.path, &moved).unwrap();
    rig.deliver(&delivery(3, 7)).unwrap();
    assert_eq!((letters(&moved).1, letters(&rig.path).1), (2, 1));
    assert_eq!(rig.n_letters(), 1);
    assert_eq!(rig.sink.dead_letters().unwrap().n_put(), 3);
}

#[test]
fn what_may_pass_is_tried_again_and_writes_nothing() {
    let mut rig = Rig::over(Receiver::start([]), |receiver| {
        // Both rows in one request.
        Webhook::open(&receiver.url()).unwrap()
    });
    for passing in [
        Act::Answer(401, "", ""),
        Act::Answer(403, "", ""),
        Act::Answer(429, "", ""),
        Act::Answer(503, "", ""),
        // It says when it will be taken.
        Act::Answer(422, "retry-after: 1\r\n", ""),
        Act::Cut,
    ] {
        rig.receiver.then([passing]);
        let error = rig.deliver(&delivery(1, 2)).unwrap_err();
        assert!(!error.is_permanent(), "{error}");
    }
    // In the midst of what is refused for good, too.
    rig.receiver.then([
        Act::Answer(422, "", ""),
        Act::Answer(200, "", ""),
        Act::Answer(500, "", ""),
    ]);
    assert!(rig.deliver(&delivery(1, 2)).is_err());
    assert_eq!(letters(&rig.path), (Vec::new(), 0));
    rig.deliver(&delivery(1, 2)).unwrap();
    assert_eq!(taken(&rig.receiver.taken()), keys(0..2));
    assert_eq!(letters(&rig.path), (Vec::new(), 0));
}

#[test]
fn where_nobody_is_a_whole_delivery_is_put_aside_at_once() {
    let mut rig = Rig::refusing(410, "answers");
    rig.deliver(&delivery(1, 50)).unwrap();
    assert_eq!(letters(&rig.path).0.len(), 50);
    let n_requests = rig.receiver.got().len();
    assert!(n_requests <= 2, "{n_requests}");
    // So is the word that nothing stands.
    rig.deliver(&delivery(2, 0)).unwrap();
    let (told, n_epochs) = letters(&rig.path);
    assert_eq!((told.len(), n_epochs), (51, 2));
    assert_eq!(told[50].0, "the epoch");
}

#[test]
fn a_delivery_that_replaces_says_so_once_it_can_be_taken() {
    let mut rig = Rig::refusing(422, "Because of 1.");
    let replaced = rig.sink.replace(&delivery(1, 3), &[0xf0], &rig.stop);
    assert_eq!(replaced.unwrap(), Replaced::Unseen);
    assert_eq!(letters(&rig.path).0.len(), 1);
    let taken_last = rig.receiver.taken();
    let replacing = taken_last
        .iter()
        .filter(|got| got.json().get("replaces").is_some())
        .cloned()
        .collect::<Vec<Got>>();
    assert_eq!(taken(&replacing), keys([0, 2]));
    let n_requests = rig.receiver.got().len();
    rig.sink
        .replace(&delivery(1, 3), &[0xf0], &rig.stop)
        .unwrap();
    assert_eq!(rig.receiver.got().len(), n_requests);
}

/// The numbers of the letters of a key.
fn numbers(held: &HeldLetters<'_>, key: &str) -> BTreeSet<usize> {
    let mut numbers = BTreeSet::new();
    let read = held.read(|number, line, letter| {
        assert!(line.ends_with(b"}\n"));
        if letter["key"] == key {
            numbers.insert(number);
        }
        Ok(())
    });
    read.unwrap();
    numbers
}

#[test]
fn letters_that_are_taken_out_are_gone_and_their_deliveries_stand() {
    let mut rig = Rig::refusing(410, "answers");
    for epoch in 1..4 {
        rig.deliver(&delivery(epoch, 3)).unwrap();
    }
    assert_eq!(rig.n_letters(), 9);
    // What a crash has left of an earlier attempt is no use.
    let beside = rig.dir.path().join("refused.jsonl.perennial-anew");
    std::fs::write(&beside, "half of a letter").unwrap();
    let file = rig.sink.dead_letters().unwrap().file().clone();
    let mut held = file.hold().unwrap();
    let of_q1 = numbers(&held, "q1");
    assert_eq!(of_q1.len(), 3);
    held.take_out(&of_q1).unwrap();
    assert_eq!(numbers(&held, "q1"), BTreeSet::new());
    drop(held);
    assert!(!beside.exists());
    assert_eq!(rig.n_letters(), 6);
    // It goes on with the new file, which is nobody else's, and whose ends are where they were.
    let opened = DeadLetters::open(&rig.path);
    assert!(matches!(opened, Err(Error::OutputInUse { .. })));
    let n_requests = rig.receiver.got().len();
    for epoch in 1..4 {
        rig.deliver(&delivery(epoch, 3)).unwrap();
    }
    assert_eq!(rig.receiver.got().len(), n_requests);
    rig.deliver(&delivery(4, 1)).unwrap();
    drop(file);
    let rig = rig.again();
    let (told, n_epochs) = letters(&rig.path);
    assert_eq!((told.len(), n_epochs, rig.n_letters()), (7, 4, 7));
    assert!(told.iter().all(|(key, _)| key != "q1"));
}

#[cfg(unix)]
#[test]
fn a_file_behind_a_link_is_written_anew_where_it_stands() {
    use std::os::unix::fs::PermissionsExt;

    let mut rig = Rig::refusing(410, "answers");
    rig.deliver(&delivery(1, 2)).unwrap();
    let (elsewhere, path) = (rig.dir.path().join("elsewhere.jsonl"), rig.path.clone());
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o640)).unwrap();
    let rig = rig.again();
    let file = rig.sink.dead_letters().unwrap().file();
    let mut held = file.hold().unwrap();
    let of_q0 = numbers(&held, "q0");
    held.take_out(&of_q0).unwrap();
    drop(held);
    assert!(path.is_symlink());
    assert_eq!(letters(&elsewhere).0.len(), 1);
    let mode = std::fs::metadata(&elsewhere).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

/// Is held while it refuses, as by somebody who takes letters out then.
struct Overtaken {
    letters: DeadLetters,
    n_left: usize,
}

impl Sink for Overtaken {
    fn name(&self) -> &str {
        "http://127.0.0.1/overtaken"
    }

    fn deliver(&mut self, _delivery: &Delivery, _stop: &StopFlag) -> Result<(), Error> {
        if self.n_left > 0 {
            self.n_left -= 1;
            drop(self.letters.hold().unwrap());
        }
        Err(Error::Refused {
            reason: "no".to_owned(),
            refusal: Refusal::All,
            rows: None,
        })
    }
}

#[test]
fn what_was_being_delivered_when_letters_were_taken_out_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.jsonl");
    let there = DeadLetters::open(&path).unwrap();
    let mut sink = there.of(Overtaken {
        letters: there.clone(),
        n_left: 1,
    });
    let stop = StopFlag::new();
    let error = sink.deliver(&delivery(1, 2), &stop).unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    assert_eq!(letters(&path), (Vec::new(), 0));
    sink.deliver(&delivery(1, 2), &stop).unwrap();
    assert_eq!(letters(&path).0.len(), 2);
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
