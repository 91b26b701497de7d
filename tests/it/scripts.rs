//! Whatever happens to a folder, a file of lines, a table and a topic, and whoever looks meanwhile: an
//! engine that ran all along, one that is started again and a new one hold and answer the same, byte for
//! byte.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use perennial::ask::scripted::Scripted;
use perennial::connectors::{Folder, JsonLines, Kafka, Table, Watching};
use perennial::{EngineBuilder, Order, View};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::rig::Rig;

/// Far beyond what any source takes to notice something on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long who writes slowly rests in the middle: shorter than sources wait for the rest of what is being
/// written, so that it is at times seen and at times not.
const PAUSE: Duration = Duration::from_millis(40);
/// How many scripts are played.
const N_SCRIPTS: usize = 5;
/// The sources.
const STREAMS: [&str; 4] = ["notes", "log", "faq", "docs"];
/// Files of the folder.
const NAMES: [&str; 6] = ["a.md", "b.md", "c.txt", "d/a.md", "d/e/b.md", "skipped.bin"];

/// One thing that happens. Numbers say to what.
#[derive(Clone, Debug)]
enum Step {
    File(usize, Edit),
    Renamed(usize, usize),
    Lines(Vec<u8>, Edit),
    LinesRotated,
    Rows(Vec<u8>, Edit),
    Message(u8, bool),
    /// Whoever looks waits until all is visible.
    Looked,
    /// The engine ends, and goes on behind the next step.
    Stopped,
}

/// How a file changes.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Written,
    /// In two halves, with a pause between them.
    WrittenSlowly,
    /// By a file that takes its name.
    Replaced,
    Appended,
    Truncated,
    Touched,
    Removed,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let keys = || prop::collection::vec(0..10u8, 1..5);
    let edit = |edits: &'static [Edit]| prop::sample::select(edits);
    let of_files = edit(&[
        Edit::Written,
        Edit::WrittenSlowly,
        Edit::Replaced,
        Edit::Appended,
        Edit::Truncated,
        Edit::Touched,
        Edit::Removed,
    ]);
    let of_lines = edit(&[
        Edit::Written,
        Edit::WrittenSlowly,
        Edit::Replaced,
        Edit::Appended,
        Edit::Appended,
        Edit::Truncated,
        Edit::Touched,
    ]);
    let of_tables = edit(&[
        Edit::Written,
        Edit::WrittenSlowly,
        Edit::Replaced,
        Edit::Touched,
    ]);
    prop_oneof![
        6 => (name(), of_files).prop_map(|(name, edit)| Step::File(name, edit)),
        2 => (name(), name()).prop_map(|(from, to)| Step::Renamed(from, to)),
        4 => (keys(), of_lines).prop_map(|(keys, edit)| Step::Lines(keys, edit)),
        1 => Just(Step::LinesRotated),
        3 => (keys(), of_tables).prop_map(|(keys, edit)| Step::Rows(keys, edit)),
        3 => (0..5u8, prop::bool::weighted(0.7)).prop_map(|(key, is)| Step::Message(key, is)),
        2 => Just(Step::Looked),
        2 => Just(Step::Stopped),
    ]
}

/// What the sources read, and how often something was said in it: no two texts are alike.
struct Outside {
    dir: TempDir,
    cluster: Cluster,
    n_said: usize,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("notes")).expect("writable");
        let outside = Self {
            dir,
            cluster: Cluster::with_docs(2),
            n_said: 0,
        };
        fs::write(outside.at("log.jsonl"), "").expect("writable");
        fs::write(outside.at("faq.csv"), "key,text\n").expect("writable");
        outside
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn said(&mut self) -> String {
        self.n_said += 1;
        format!("It is alpha, {} of it.", self.n_said)
    }

    /// Lines of these keys; of an odd one, a deletion.
    fn lines(&mut self, keys: &[u8]) -> String {
        let mut line = |key: &u8| {
            let (name, text) = (key / 2, self.said());
            match key % 2 {
                0 => format!("{{\"key\":\"l{name}\",\"text\":\"{text}\"}}\n"),
                _ => format!("{{\"delete\":{{\"key\":\"l{name}\"}},\"n\":\"{text}\"}}\n"),
            }
        };
        keys.iter().map(&mut line).collect()
    }

    /// A table with a row for each of these keys.
    fn rows(&mut self, keys: &[u8]) -> String {
        let mut rows = BTreeMap::new();
        for key in keys {
            rows.insert(key, self.said());
        }
        let rows = rows
            .iter()
            .map(|(key, text)| format!("r{key},\"{text}\"\n"));
        std::iter::once("key,text\n".to_owned())
            .chain(rows)
            .collect()
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::File(name, edit) => {
                let text = format!("# Title\n\n{}\n", self.said());
                change(&self.at("notes").join(NAMES[*name]), &text, *edit);
            }
            Step::Renamed(from, to) => {
                let [from, to] = [from, to].map(|name| self.at("notes").join(NAMES[*name]));
                make_parent(&to);
                // What is not there is not renamed.
                let _ = fs::rename(from, to);
            }
            Step::Lines(keys, edit) => {
                let lines = self.lines(keys);
                change(&self.at("log.jsonl"), &lines, *edit);
            }
            Step::LinesRotated => {
                fs::rename(self.at("log.jsonl"), self.at("log.jsonl.1")).expect("renames");
                fs::write(self.at("log.jsonl"), "").expect("writable");
            }
            Step::Rows(keys, edit) => {
                let rows = self.rows(keys);
                change(&self.at("faq.csv"), &rows, *edit);
            }
            Step::Message(key, is_there) => {
                let (name, text) = (format!("m{key}"), self.said());
                let partition = i32::from(key % 2);
                match is_there {
                    true => self.cluster.upsert(partition, &name, &text),
                    false => self.cluster.delete(partition, &name),
                }
            }
            Step::Looked | Step::Stopped => {}
        }
    }

    /// A last word of each source: nobody takes what is empty for an end.
    fn end(&mut self) {
        let words = [
            Step::File(0, Edit::Written),
            Step::Lines(vec![8], Edit::Appended),
            Step::Rows(vec![3, 4], Edit::Written),
            Step::Message(4, true),
        ];
        words.iter().for_each(|step| self.apply(step));
    }

    /// An engine over the sources; it follows them where it has a state.
    fn engine(&self, state: Option<&Path>) -> Rig {
        Rig::start(Scripted::new(), |builder| {
            let builder = self.sources(builder, state.is_some()).table("questions");
            let views = STREAMS.map(|stream| {
                View::named(format!("of_{stream}"))
                    .prompt("Answer.")
                    .answer_without_documents(true)
                    .context("questions")
                    .data_source(stream)
                    .order_by(Order::UpdatedAt)
                    .token_budget(250)
                    .max_tokens(1_500)
            });
            let builder = views
                .into_iter()
                .fold(builder, |builder, view| builder.view(view));
            match state {
                Some(dir) => builder.state(dir),
                None => builder,
            }
        })
    }

    fn sources(&self, builder: EngineBuilder, follows: bool) -> EngineBuilder {
        let watching = match follows {
            true => Watching::Auto,
            false => Watching::Once,
        };
        let notes = Folder::open("notes", [self.at("notes")]).expect("there");
        let log = JsonLines::open("log", self.at("log.jsonl")).expect("there");
        let faq = Table::open("faq", self.at("faq.csv")).expect("there");
        let docs = Kafka::open("docs", self.cluster.servers(), "docs").expect("sound");
        builder
            .source(notes.watching(watching))
            .source(log.follow(follows))
            .source(faq.follow(follows))
            .source(docs.once(!follows))
    }
}

fn make_parent(path: &Path) {
    // One of its folders may have become a file by a rename.
    let _ = fs::create_dir_all(path.parent().expect("in the folder"));
}

/// Changes a file. An edit that cannot be made of what is there is none.
fn change(path: &Path, text: &str, edit: Edit) {
    let open = || OpenOptions::new().write(true).open(path);
    match edit {
        Edit::Written => {
            make_parent(path);
            let _ = fs::write(path, text);
        }
        Edit::WrittenSlowly => {
            make_parent(path);
            let Ok(mut file) = File::create(path) else {
                return;
            };
            let (begin, rest) = text.split_at(text.len() / 2);
            file.write_all(begin.as_bytes()).expect("writable");
            std::thread::sleep(PAUSE);
            file.write_all(rest.as_bytes()).expect("writable");
        }
        Edit::Replaced => {
            make_parent(path);
            let other = path.with_extension("tmp");
            if fs::write(&other, text).is_ok() {
                let _ = fs::rename(other, path);
            }
        }
        Edit::Appended => {
            if let Ok(mut file) = OpenOptions::new().append(true).open(path) {
                file.write_all(text.as_bytes()).expect("writable");
            }
        }
        Edit::Truncated => {
            if let Ok(file) = open() {
                let text = fs::read_to_string(path).expect("readable");
                // At the end of a line.
                let n_lines = text.lines().count() / 2;
                let kept = text.split_inclusive('\n').take(n_lines);
                let n_bytes: usize = kept.map(str::len).sum();
                file.set_len(n_bytes as u64).expect("writable");
            }
        }
        Edit::Touched => {
            if let Ok(file) = open() {
                let seconds = 1_700_000_000 + text.len() as u64 * 86_400;
                let day = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                file.set_modified(day).expect("a time");
            }
        }
        Edit::Removed => {
            let _ = fs::remove_file(path);
        }
    }
}

/// All that an engine holds and says, in words.
fn told(rig: &Rig) -> Vec<String> {
    rig.engine.flush().expect("runs");
    let mut told = Vec::new();
    for stream in STREAMS {
        let held = rig.engine.snapshot(stream).expect("runs");
        let rows = held
            .rows
            .iter()
            .map(|(row, n)| format!("{stream}: {n} {row:?}"));
        let mut rows: Vec<String> = rows.collect();
        rows.sort_unstable();
        told.extend(rows);
        let name = format!("of_{stream}");
        for (context, answer) in rig.engine.answers(&name).expect("runs") {
            let (text, parts) = (&answer.answer, &answer.sub_paragraphs);
            told.push(format!("{name}: {context} {text:?} {parts:?}"));
        }
    }
    told
}

/// What is told by one and not by the other.
fn differences(now: &[String], expected: &[String]) -> String {
    let only = |of: &[String], other: &[String], mark: &str| -> String {
        let only = of.iter().filter(|line| !other.contains(line));
        only.map(|line| format!("{mark} {line}\n")).collect()
    };
    only(now, expected, "-") + &only(expected, now, "+")
}

fn same_whatever_happens(steps: &[Step]) {
    let mut outside = Outside::new();
    let state = tempfile::tempdir().expect("a folder");
    let ask = |rig: &Rig| {
        let asked = rig.engine.upsert("questions", "q", "alpha,");
        asked.expect("runs");
        // What is posted is kept once it is visible; the engine may be stopped at once.
        rig.engine.flush().expect("runs");
    };
    let mut running = Some(outside.engine(Some(state.path())));
    running.iter().for_each(ask);
    for step in steps {
        outside.apply(step);
        match step {
            Step::Stopped => running = None,
            Step::Looked if running.is_some() => {
                let rig = running.as_ref().expect("it is");
                rig.engine.flush().expect("runs");
            }
            _ if running.is_none() => running = Some(outside.engine(Some(state.path()))),
            _ => {}
        }
    }
    let running = running.unwrap_or_else(|| outside.engine(Some(state.path())));
    outside.end();

    let fresh = outside.engine(None);
    ask(&fresh);
    let expected = told(&fresh);
    let until = Instant::now() + DEADLINE;
    loop {
        let now = told(&running);
        if now == expected {
            break;
        }
        let differences = differences(&now, &expected);
        assert!(
            Instant::now() < until,
            "while it ran:\n{differences}{steps:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(running);
    let restarted = outside.engine(Some(state.path()));
    let now = told(&restarted);
    let differences = differences(&now, &expected);
    assert!(now == expected, "started again:\n{differences}{steps:?}");
    assert_eq!(restarted.model.n_calls(), 0);
}

/// Few scripts, for each waits for real files and a real client; and the same ones in every run.
#[test]
fn running_restarted_and_new_engines_say_the_same_whatever_happens_outside() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let scripts = prop::collection::vec(step(), 20..40);
    for _ in 0..N_SCRIPTS {
        let script = scripts.new_tree(&mut runner).expect("a script");
        same_whatever_happens(&script.current());
    }
}
