//! Backups that are taken while epochs go on, and what becomes of a state that is restored from one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use perennial::ask::scripted::Scripted;
use perennial::connectors::{
    Delivery, Error as ConnectorError, JsonLinesSink, Replaced, Sink, StopFlag,
};
use perennial::state::{self, AsOf, BackupError, BackupSummary};
use perennial::{Engine, Error};
use proptest::prelude::*;

use crate::delivered::folded_over_lives;
use crate::history::{Collections, steps};
use crate::past::told;
use crate::rig::{Rig, view};

/// Longer than any delivery takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

fn tables(state: Option<&Path>, sink: Option<Box<dyn Sink>>) -> Rig {
    Rig::start(Scripted::new(), |mut builder| {
        if let Some(state) = state {
            builder = builder.state(state);
        }
        builder = builder.table("docs").table("questions").view(view(2000));
        match sink {
            Some(sink) => builder.sink("answers", sink),
            None => builder,
        }
    })
}

fn lines(dir: &Path) -> Option<Box<dyn Sink>> {
    let sink = JsonLinesSink::open(dir.join("answers.jsonl")).expect("writable");
    Some(Box::new(sink))
}

/// A backup of an engine, as a file.
fn backed_up(engine: &Engine, file: &Path) -> BackupSummary {
    let out = File::create(file).expect("writable");
    engine.backup(out).expect("backed up")
}

/// A folder that is restored from a backup of an engine.
fn restored(engine: &Engine, dir: &Path) -> PathBuf {
    let file = dir.join("a.backup");
    backed_up(engine, &file);
    let to = dir.join("restored");
    state::restore(&file, &to, |_, _| {}).expect("restores");
    to
}

/// Raises a flag when it is dropped.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_taken_while_epochs_go_on_is_the_state_as_of_its_epoch() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut rig = tables(Some(&dir.path().join("state")), None);
    rig.upsert("questions", "q", "word1");
    rig.upsert("docs", "0", "word1 stands here.");
    rig.engine.flush().expect("runs");
    let (engine, is_over) = (rig.engine.clone(), AtomicBool::new(false));
    let summaries = std::thread::scope(|scope| {
        // Whatever fails here, the other thread ends.
        let over = Raised(&is_over);
        scope.spawn(|| {
            for i in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (key, word) = (format!("{}", i % 7), i % 4);
                match i % 5 {
                    4 => engine.delete("docs", &key).expect("runs"),
                    _ => engine
                        .upsert("docs", &key, &format!("word{word} was said {i} times."))
                        .expect("runs"),
                }
                let wording = format!("word{word}");
                engine.upsert("questions", &key, &wording).expect("runs");
                engine.flush().expect("runs");
            }
        });
        let summaries: Vec<BackupSummary> = (0..8)
            .map(|n| {
                let before = rig.engine.history().expect("there").len();
                let summary = backed_up(&rig.engine, &dir.path().join(format!("{n}.backup")));
                // Others than the one before.
                let deadline = Instant::now() + DEADLINE;
                while rig.engine.history().expect("there").len() < before + 2 {
                    assert!(Instant::now() < deadline, "no epoch follows");
                    std::thread::sleep(Duration::from_millis(1));
                }
                summary
            })
            .collect();
        drop(over);
        summaries
    });
    for (n, summary) in summaries.iter().enumerate() {
        let to = dir.path().join(format!("restored {n}"));
        let file = dir.path().join(format!("{n}.backup"));
        let found = state::verify_backup(&file).expect("whole");
        assert_eq!(&found, summary);
        let found = state::restore(&file, &to, |_, _| {}).expect("restores");
        assert_eq!(&found, summary);
        let epoch = summary.epoch.expect("an epoch");
        let expected = rig.engine.as_of(AsOf::Epoch(epoch)).expect("held");
        let found = state::as_of(&to, AsOf::Present).expect("whole");
        assert_eq!((found.epoch, told(&found)), (epoch, told(&expected)));
        // The past is there, too.
        let past = state::as_of(&to, AsOf::Epoch(0)).expect("held");
        let expected = rig.engine.as_of(AsOf::Epoch(0)).expect("held");
        assert_eq!(told(&past), told(&expected));
        let checked = state::check(&to).expect("whole");
        assert_eq!(checked.epoch, Some(epoch));
        assert!(checked.was_closed);
    }
    let epochs = summaries.iter().map(|summary| summary.epoch);
    assert!(epochs.is_sorted_by(|a, b| a < b));
}

#[test]
fn what_was_answered_is_not_asked_again_after_a_restore() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut rig = tables(Some(&dir.path().join("state")), None);
    rig.upsert("docs", "a", "alpha is here.");
    rig.upsert("questions", "q", "alpha");
    let expected = rig.texts();
    let to = restored(&rig.engine, dir.path());
    // The engine goes on meanwhile, and both may.
    let mut second = tables(Some(&to), None);
    assert_eq!((second.texts(), second.model.n_calls()), (expected, 0));
    rig.upsert("docs", "a", "alpha has moved.");
    assert_eq!(rig.texts()["q"], "alpha has moved.");
    assert_eq!(second.texts()["q"], "alpha is here.");
}

#[test]
fn without_a_state_directory_there_is_nothing_to_back_up() {
    let rig = tables(None, None);
    let error = rig.engine.backup(Vec::new()).expect_err("no state");
    assert!(matches!(error, Error::NoState), "{error}");
}

#[test]
fn whoever_takes_it_may_fail_and_the_engine_goes_on() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut rig = tables(Some(dir.path()), None);
    let error = rig.engine.backup(Full).expect_err("full");
    assert!(
        matches!(error, Error::Backup(BackupError::Write { .. })),
        "{error}"
    );
    rig.upsert("questions", "q", "omega");
    assert_eq!(rig.texts().len(), 1);
}

fn text(value: u8) -> String {
    format!("word{value} stands here.")
}

fn wording(value: u8) -> String {
    format!("word{value}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever came after the backup is as if it had not been: a run over the restored state says what a
    /// fresh engine says, and so does the file that was delivered to before and after.
    #[test]
    fn a_run_over_a_restored_state_goes_on_as_a_fresh_one(
        before in steps(5, 0..=8, 3, 0..9, 0..12),
        lost in steps(5, 0..=8, 3, 0..9, 0..12),
        after in steps(5, 0..=8, 3, 0..9, 0..8),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut collections = Collections::empty(text, wording);
        let mut first = tables(Some(&dir.path().join("state")), lines(dir.path()));
        // An epoch there is.
        first.upsert("docs", "first", "A first word.");
        let first = collections.go_on(first, before, 100);
        first.engine.flush().expect("runs");
        let to = restored(&first.engine, dir.path());
        let mut lives_on = Collections {
            documents: collections.documents.clone(),
            questions: collections.questions.clone(),
            supersedes: collections.supersedes.clone(),
            ..Collections::empty(text, wording)
        };
        let first = lives_on.go_on(first, lost, 200);
        first.engine.flush().expect("runs");
        drop(first);

        let second = tables(Some(&to), lines(dir.path()));
        let mut second = collections.go_on(second, after, 300);
        let said = second.texts();
        drop(second);
        let mut fresh = tables(None, None);
        fresh.upsert("docs", "first", "A first word.");
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(&said, &fresh.texts());
        let (held, _) = folded_over_lives(&dir.path().join("answers.jsonl"));
        prop_assert_eq!(held, said);
    }
}

/// What a sink was told: what it takes the place of, if it does, and the rows' keys.
type Heard = (Option<Vec<u64>>, u64, Vec<String>);

/// A sink that says what it gets, and takes nothing while it is held.
struct Looking {
    heard: Sender<Heard>,
    /// Hung up when it is not held any more.
    hold: Receiver<()>,
}

impl Looking {
    fn hear(&self, delivery: &Delivery, former: Option<&[u64]>) -> Result<(), ConnectorError> {
        if self.hold.try_recv() != Err(TryRecvError::Disconnected) {
            return Err(ConnectorError::Zero { name: "patience" });
        }
        let keys = delivery.rows.iter().map(|row| row.key.clone());
        let heard = (former.map(<[u64]>::to_vec), delivery.origin, keys.collect());
        self.heard.send(heard).expect("the test listens");
        Ok(())
    }
}

impl Sink for Looking {
    fn name(&self) -> &str {
        "looking"
    }

    fn deliver(&mut self, delivery: &Delivery, _stop: &StopFlag) -> Result<(), ConnectorError> {
        self.hear(delivery, None)
    }

    fn replace(
        &mut self,
        delivery: &Delivery,
        former: &[u64],
        _stop: &StopFlag,
    ) -> Result<Replaced, ConnectorError> {
        self.hear(delivery, Some(former))?;
        Ok(Replaced::TakenBack(0))
    }
}

fn looking() -> (Option<Box<dyn Sink>>, Receiver<Heard>, Sender<()>) {
    let ((heard, hears), (held, hold)) = (channel(), channel());
    (Some(Box::new(Looking { heard, hold })), hears, held)
}

#[test]
fn the_first_delivery_replaces_those_of_the_old_life_and_no_other_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let (sink, hears, held) = looking();
    drop(held);
    let next = |hears: &Receiver<Heard>| hears.recv_timeout(DEADLINE).expect("a delivery");
    let mut first = tables(Some(&dir.path().join("state")), sink);
    first.upsert("docs", "a", "alpha is here.");
    first.upsert("questions", "q", "alpha");
    first.engine.flush().expect("runs");
    let (replaced, origin, _) = next(&hears);
    assert_eq!(replaced, None);
    let to = restored(&first.engine, dir.path());
    drop(first);

    // The process ends before the sink has it.
    let (sink, _hears, _held) = looking();
    drop(tables(Some(&to), sink));
    // So does one in which it is not declared.
    let mut without = tables(Some(&to), None);
    without.upsert("questions", "r", "alpha");
    without.engine.flush().expect("runs");
    drop(without);

    let (sink, hears, held) = looking();
    drop(held);
    let mut second = tables(Some(&to), sink);
    let (replaced, new_origin, keys) = next(&hears);
    assert_eq!(
        (replaced, keys),
        (Some(vec![origin]), vec!["q".to_owned(), "r".to_owned()])
    );
    assert_ne!(new_origin, origin);
    second.upsert("questions", "s", "alpha");
    second.engine.flush().expect("runs");
    assert_eq!(next(&hears), (None, new_origin, vec!["s".to_owned()]));
    drop(second);

    let (sink, hears, held) = looking();
    drop(held);
    let mut third = tables(Some(&to), sink);
    third.upsert("questions", "t", "alpha");
    third.engine.flush().expect("runs");
    assert_eq!(next(&hears), (None, new_origin, vec!["t".to_owned()]));
}

#[test]
fn that_nothing_stands_any_more_is_told_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = tables(Some(&dir.path().join("state")), lines(dir.path()));
    first.upsert("docs", "a", "alpha is here.");
    first.engine.flush().expect("runs");
    let to = restored(&first.engine, dir.path());
    first.upsert("questions", "q", "alpha");
    first.engine.flush().expect("runs");
    drop(first);
    let path = dir.path().join("answers.jsonl");
    assert_eq!(folded_over_lives(&path).0.len(), 1);
    let second = tables(Some(&to), lines(dir.path()));
    second.engine.flush().expect("runs");
    drop(second);
    let (held, n_origins) = folded_over_lives(&path);
    assert_eq!((held.len(), n_origins), (0, 2));
}
