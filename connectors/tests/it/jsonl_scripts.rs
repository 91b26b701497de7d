//! A file of JSON lines that is appended to, cut, written anew, replaced and rotated, while it is followed
//! and while nobody looks: running, restarted and new sources hold the same.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use perennial_connectors::{JsonLines, Notice, Resume, Resumption, Source as _};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use crate::listening::{Listener, Mark};

/// One thing that happens to the file, or to who follows it.
#[derive(Clone, Debug)]
enum Step {
    /// Lines of these keys are appended; of an odd number, a deletion. 8 is a blank line, 9 no record.
    Append(Vec<u8>),
    /// It is cut behind so many lines.
    Truncate(usize),
    /// It is written anew, in place.
    Rewrite(Vec<u8>),
    /// Another file gets its name.
    Replace(Vec<u8>),
    /// It is moved away, and an empty one begun.
    Rotate,
    /// Who follows it stops, and goes on behind the next step.
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    let lines = || prop::collection::vec(0..10u8, 0..4);
    prop_oneof![
        4 => lines().prop_map(Step::Append),
        2 => (0..4usize).prop_map(Step::Truncate),
        1 => lines().prop_map(Step::Rewrite),
        2 => lines().prop_map(Step::Replace),
        2 => Just(Step::Rotate),
        2 => Just(Step::Stop),
    ]
}

/// A file of lines, no two of which are alike.
struct Log {
    dir: TempDir,
    n_lines: usize,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log.jsonl"), "").unwrap();
        Self { dir, n_lines: 0 }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log.jsonl")
    }

    fn lines(&mut self, keys: &[u8]) -> String {
        let mut lines = String::new();
        for key in keys {
            self.n_lines += 1;
            let (name, n) = (key / 2, self.n_lines);
            lines += &match key {
                8 => " \n".to_owned(),
                9 => format!("no record {n}\n"),
                _ if key % 2 == 0 => format!("{{\"key\":\"{name}\",\"text\":\"{n}\"}}\n"),
                _ => format!("{{\"delete\":{{\"key\":\"{name}\"}},\"n\":{n}}}\n"),
            };
        }
        lines
    }

    fn apply(&mut self, step: &Step) {
        let path = self.path();
        match step {
            Step::Append(keys) => {
                let lines = self.lines(keys);
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(lines.as_bytes()).unwrap();
            }
            Step::Truncate(n_lines) => {
                let text = fs::read_to_string(&path).unwrap();
                let kept = text.split_inclusive('\n').take(*n_lines);
                let n_bytes: usize = kept.map(str::len).sum();
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(n_bytes as u64).unwrap();
            }
            Step::Rewrite(keys) => {
                let lines = self.lines(keys);
                fs::write(path, lines).unwrap();
            }
            Step::Replace(keys) => {
                let other = self.dir.path().join("other");
                fs::write(&other, self.lines(keys)).unwrap();
                fs::rename(other, path).unwrap();
            }
            Step::Rotate => {
                fs::rename(&path, self.dir.path().join("log.jsonl.1")).unwrap();
                fs::write(path, "").unwrap();
            }
            Step::Stop => {}
        }
    }
}

/// What a new run holds.
fn fresh(path: &Path) -> BTreeMap<String, String> {
    let mut fresh = Listener::start(JsonLines::open("log", path).unwrap());
    fresh.until(&Mark::Ended);
    fresh.held
}

/// Goes on where another run stood.
fn restarted(path: &Path, stood: &Listener) -> Listener {
    let mut source = JsonLines::open("log", path).unwrap().follow(true);
    let held = stood.rows.clone();
    let how = source.resume_from(Resume {
        held: held.into_iter().collect(),
        offset: stood.resume.clone(),
    });
    let mut listener = Listener::start(source);
    if how != Resumption::Anew {
        listener.held.clone_from(&stood.held);
        listener.rows.clone_from(&stood.rows);
    }
    if how == Resumption::FromOffset {
        listener.resume.clone_from(&stood.resume);
    }
    listener
}

#[test]
fn running_restarted_and_new_runs_hold_the_same_whatever_happens_to_the_file() {
    // Few cases: each waits for a real file.
    let mut runner = TestRunner::new(Config {
        cases: 12,
        ..Config::default()
    });
    let script = prop::collection::vec((step(), 0..3u64), 1..10);
    runner
        .run(&script, |script| {
            let mut log = Log::new();
            let path = log.path();
            let mut listener = Listener::start(JsonLines::open("log", &path).unwrap().follow(true));
            listener.until(&Mark::CaughtUp);
            let mut is_stopped = false;
            for (step, pause) in script {
                log.apply(&step);
                std::thread::sleep(std::time::Duration::from_millis(pause * 60));
                match step {
                    Step::Stop => {
                        // What it has said by now is what an engine holds.
                        while let Ok(event) = listener.running.events().try_recv() {
                            listener.take(event);
                        }
                        is_stopped = true;
                    }
                    _ if is_stopped => {
                        listener = restarted(&path, &listener);
                        is_stopped = false;
                    }
                    _ => {}
                }
            }
            if is_stopped {
                listener = restarted(&path, &listener);
            }
            // A file without a record is not believed.
            log.apply(&Step::Append(vec![0]));
            let expected = fresh(&path);
            listener.until_held(|held| *held == expected);
            let mut again = restarted(&path, &listener);
            again.until(&Mark::CaughtUp);
            prop_assert_eq!(&again.held, &expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_only_the_file_before_said_is_gone_once_another_is_whole() {
    let line = |key: &str| format!("{{\"key\":\"{key}\",\"text\":\"text\"}}\n");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    fs::write(&path, line("a") + &line("b")).unwrap();
    let mut listener = Listener::start(JsonLines::open("log", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    let other = dir.path().join("other");
    fs::write(&other, line("b")).unwrap();
    fs::rename(&other, &path).unwrap();
    listener.until(&Mark::SaidAgain);
    assert_eq!(listener.keys(), ["b"]);
    // While nobody looks.
    fs::write(&path, line("c")).unwrap();
    let mut later = restarted(&path, &listener);
    assert_eq!(later.keys(), ["b"], "until it is read");
    later.until(&Mark::SaidAgain);
    assert_eq!(later.keys(), ["c"]);
    later.until(&Mark::CaughtUp);
    // Now it goes on where it is.
    let mut last = restarted(&path, &later);
    last.until(&Mark::CaughtUp);
    assert!(last.batches.is_empty() && last.keys() == ["c"]);
}

#[test]
fn an_empty_file_in_the_place_of_one_takes_nothing_away_unless_it_is_believed() {
    let line = |key: &str| format!("{{\"key\":\"{key}\",\"text\":\"text\"}}\n");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    fs::write(&path, line("a")).unwrap();
    let mut listener = Listener::start(JsonLines::open("log", &path).unwrap().follow(true));
    listener.until(&Mark::CaughtUp);
    let emptied = Notice::EmptiedFile { path: path.clone() };
    fs::write(&path, "").unwrap();
    while listener.notices.last() != Some(&emptied) {
        listener.next();
    }
    assert_eq!(listener.keys(), ["a"]);
    // Nor does it where another run finds it so.
    let mut later = restarted(&path, &listener);
    later.until(&Mark::CaughtUp);
    assert_eq!(later.notices, [emptied]);
    assert_eq!(later.keys(), ["a"]);
    fs::write(&path, line("b")).unwrap();
    for each in [&mut listener, &mut later] {
        each.until(&Mark::SaidAgain);
        assert_eq!(each.keys(), ["b"]);
    }
    fs::write(&path, "").unwrap();
    let mut believing = JsonLines::open("log", &path).unwrap().believe_empty(true);
    let held = listener.rows.clone();
    believing.resume_from(Resume {
        held: held.into_iter().collect(),
        offset: listener.resume.clone(),
    });
    let mut believing = Listener::start(believing);
    believing.rows.clone_from(&listener.rows);
    believing.held.clone_from(&listener.held);
    believing.until(&Mark::Ended);
    assert!(believing.keys().is_empty());
}

#[test]
fn a_file_that_holds_no_record_takes_nothing_away_by_whom_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    fs::write(&path, "{\"key\":\"a\",\"text\":\"text\"}\n").unwrap();
    let mut listener = Listener::start(JsonLines::open("log", &path).unwrap());
    listener.until(&Mark::Ended);
    for text in ["", "\n", " \n\n", "no record\n", "{\"key\":\"z\",\"te"] {
        fs::write(&path, text).unwrap();
        for follow in [false, true] {
            let mut source = JsonLines::open("log", &path).unwrap().follow(follow);
            source.resume_from(Resume {
                held: listener.rows.clone().into_iter().collect(),
                offset: listener.resume.clone(),
            });
            let mut later = Listener::start(source);
            later.rows.clone_from(&listener.rows);
            later.held.clone_from(&listener.held);
            later.until(&Mark::CaughtUp);
            assert_eq!(later.keys(), ["a"], "{text:?}");
            assert_eq!(later.resume, None, "who goes on begins anew: {text:?}");
        }
    }
}
