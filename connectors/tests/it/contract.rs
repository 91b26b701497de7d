//! What every source promises, held against each of them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use perennial_connectors::{
    Event, Folder, HttpLimits, HttpListener, JsonLines, Kafka, Source, Table, Watching, start,
};
use perennial_rows::Row;
use tempfile::TempDir;

use crate::cluster::{Cluster, Message, producer, write};
use crate::listening::{Listener, Mark};
use crate::parquet::write as write_parquet;

/// A source that goes on, and how its outside changes.
struct Case {
    name: &'static str,
    open: fn(&Path) -> Box<dyn Source>,
    /// Adds a document of this number.
    add: fn(&Path, usize),
}

/// Where the test's cluster is, for sources that read a topic.
const SERVERS: &str = "servers";

const LIVE: [Case; 6] = [
    Case {
        name: "watched folder",
        open: |dir| Box::new(Folder::open("s", [dir]).unwrap()),
        add: add_file,
    },
    Case {
        name: "polled folder",
        open: |dir| {
            let every = Duration::from_millis(20);
            Box::new(
                Folder::open("s", [dir])
                    .unwrap()
                    .watching(Watching::Poll { every }),
            )
        },
        add: add_file,
    },
    Case {
        name: "followed lines",
        open: |dir| {
            Box::new(
                JsonLines::open("s", dir.join("s.jsonl"))
                    .unwrap()
                    .follow(true),
            )
        },
        add: add_line,
    },
    Case {
        name: "followed table",
        open: |dir| Box::new(Table::open("s", dir.join("s.csv")).unwrap().follow(true)),
        add: add_row,
    },
    Case {
        name: "followed Parquet file",
        open: |dir| {
            Box::new(
                Table::open("s", dir.join("s.parquet"))
                    .unwrap()
                    .follow(true),
            )
        },
        add: add_parquet_row,
    },
    Case {
        name: "topic",
        open: |dir| Box::new(topic(dir)),
        add: add_message,
    },
];

/// What is posted has no first state, and is gone from the outside once it is taken in.
const POSTED: Case = Case {
    name: "posted",
    open: |_| {
        let listener = HttpListener::bind("127.0.0.1:0", None, HttpLimits::default());
        Box::new(listener.unwrap().source("s").unwrap())
    },
    add: |_, _| {},
};

const ENDING: [Case; 3] = [
    Case {
        name: "folder read once",
        open: |dir| Box::new(Folder::open("s", [dir]).unwrap().watching(Watching::Once)),
        add: add_file,
    },
    Case {
        name: "lines read once",
        open: |dir| Box::new(JsonLines::open("s", dir.join("s.jsonl")).unwrap()),
        add: add_line,
    },
    Case {
        name: "topic read once",
        open: |dir| Box::new(topic(dir).once(true)),
        add: add_message,
    },
];

fn add_row(dir: &Path, i: usize) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(dir.join("s.csv"))
        .unwrap();
    writeln!(file, "{i}.md,text {i},{i}").unwrap();
}

/// Tables of this format are written anew; documents are added in order.
fn add_parquet_row(dir: &Path, i: usize) {
    let rows = (0..=i).map(|i| (format!("{i}.md"), format!("text {i}")));
    write_parquet(&dir.join("s.parquet"), &rows.collect::<Vec<_>>());
}

fn topic(dir: &Path) -> Kafka {
    let servers = fs::read_to_string(dir.join(SERVERS)).unwrap();
    Kafka::open("s", servers, "docs").unwrap()
}

fn add_message(dir: &Path, i: usize) {
    let producer = producer(&fs::read_to_string(dir.join(SERVERS)).unwrap());
    write(
        &producer,
        Message {
            partition: i32::try_from(i % 2).unwrap(),
            key: Some(&format!("{i}.md")),
            payload: Some(format!("{{\"text\":\"text {i}\",\"n\":{i}}}").as_bytes()),
            ..Message::default()
        },
    );
}

fn add_file(dir: &Path, i: usize) {
    fs::write(dir.join(format!("{i}.md")), format!("text {i}")).unwrap();
}

fn add_line(dir: &Path, i: usize) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(dir.join("s.jsonl"))
        .unwrap();
    writeln!(file, r#"{{"key":"{i}.md","text":"text {i}","n":{i}}}"#).unwrap();
}

/// A folder with all that a case may read; it ends with its cluster.
struct Outside(
    TempDir,
    #[expect(dead_code, reason = "held open")] Option<Cluster>,
);

impl Outside {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn outside(case: &Case, n_documents: usize) -> Outside {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("s.jsonl"), "").unwrap();
    fs::write(dir.path().join("s.csv"), "key,text,n\n").unwrap();
    write_parquet(&dir.path().join("s.parquet"), &[]);
    let cluster = case
        .name
        .starts_with("topic")
        .then(|| Cluster::with_docs(2));
    if let Some(cluster) = &cluster {
        fs::write(dir.path().join(SERVERS), cluster.servers()).unwrap();
    }
    (0..n_documents).for_each(|i| (case.add)(dir.path(), i));
    Outside(dir, cluster)
}

#[test]
fn the_first_state_stands_before_caught_up_and_changes_after() {
    for case in LIVE {
        let dir = outside(&case, 3);
        let mut listener = Listener::start((case.open)(dir.path()));
        listener.until(&Mark::CaughtUp);
        assert_eq!(listener.keys(), ["0.md", "1.md", "2.md"], "{}", case.name);
        // The partitions of a topic arrive when they do.
        let is_whole = listener.batches.len() == 1 || case.name == "topic";
        assert!(is_whole, "{}", case.name);
        (case.add)(dir.path(), 3);
        listener.until_held(|held| held.get("3.md").is_some_and(|text| text == "text 3"));
        listener.silence(Duration::from_millis(300));
    }
}

#[test]
fn what_is_folded_has_the_columns_of_a_fresh_run() {
    for case in LIVE {
        let dir = outside(&case, 2);
        let mut listener = Listener::start((case.open)(dir.path()));
        listener.until(&Mark::CaughtUp);
        (case.add)(dir.path(), 2);
        listener.until_held(|held| held.get("2.md").is_some_and(|text| text == "text 2"));
        let mut fresh = Listener::start((case.open)(dir.path()));
        fresh.until(&Mark::CaughtUp);
        assert_eq!(listener.rows, fresh.rows, "{}", case.name);
        let has_columns = |row: &Row| !row.columns.is_empty();
        // This file has none but key and text.
        let is_bare = case.name == "followed Parquet file";
        assert_eq!(fresh.rows.len(), 3, "{}", case.name);
        assert!(
            is_bare || fresh.rows.values().all(has_columns),
            "{}",
            case.name
        );
    }
}

#[test]
fn an_empty_outside_is_caught_up_too() {
    for case in LIVE {
        let dir = outside(&case, 0);
        let mut listener = Listener::start((case.open)(dir.path()));
        while listener.next() != Mark::CaughtUp {}
        assert!(
            listener.held.is_empty() && listener.batches.is_empty(),
            "{}",
            case.name
        );
    }
}

#[test]
fn a_source_that_ends_says_so_last_and_once() {
    for case in ENDING {
        let dir = outside(&case, 2);
        let mut listener = Listener::start((case.open)(dir.path()));
        listener.until(&Mark::CaughtUp);
        assert_eq!(listener.keys(), ["0.md", "1.md"], "{}", case.name);
        assert_eq!(listener.next(), Mark::Ended, "{}", case.name);
        assert!(
            listener.running.events().recv().is_err(),
            "{}: closed",
            case.name
        );
    }
}

#[test]
fn stopping_is_prompt_while_idle_and_while_nobody_receives() {
    for case in LIVE.into_iter().chain([POSTED]) {
        for received in [true, false] {
            let dir = outside(&case, 50);
            let running = start((case.open)(dir.path()), 1).unwrap();
            if received {
                while !matches!(running.events().recv().unwrap(), Event::CaughtUp) {}
            }
            std::thread::sleep(Duration::from_millis(100));
            let begin = Instant::now();
            running.stop();
            // The promise is 100 ms; the rest is for a busy machine.
            assert!(
                begin.elapsed() < Duration::from_millis(400),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn a_raised_flag_closes_the_events_in_silence() {
    for case in LIVE.into_iter().chain([POSTED]) {
        let dir = outside(&case, 1);
        let mut listener = Listener::start((case.open)(dir.path()));
        listener.until(&Mark::CaughtUp);
        listener.running.stop_flag().raise();
        let end = listener
            .running
            .events()
            .recv_timeout(crate::listening::DEADLINE);
        assert!(end.is_err(), "{}: {end:?}", case.name);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_and_no_file_stay_behind() {
    // Other tests run beside this one: only threads and files of these sources are counted.
    for case in LIVE.into_iter().chain([POSTED]) {
        let dir = outside(&case, 1);
        let mut listener = Listener::start((case.open)(dir.path()));
        listener.until(&Mark::CaughtUp);
        drop(listener);
        let dir_path = fs::canonicalize(dir.path()).unwrap();
        let open = fs::read_dir("/proc/self/fd").unwrap().filter(|fd| {
            let target = fd
                .as_ref()
                .ok()
                .and_then(|fd| fs::read_link(fd.path()).ok());
            target.is_some_and(|target| target.starts_with(&dir_path))
        });
        assert_eq!(open.count(), 0, "{}", case.name);
    }
}

#[test]
fn random_edits_fold_to_a_fresh_run() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    // Few cases: each waits for a real watcher. `snapshot`'s own test tries many.
    let mut runner = TestRunner::new(Config {
        cases: 8,
        ..Config::default()
    });
    let edits = prop::collection::vec((0..4u8, 0..8usize, 0..8usize, 0..3u64), 1..40);
    runner
        .run(&edits, |edits| {
            let dir = tempfile::tempdir().unwrap();
            let burst = (Duration::from_millis(10), Duration::from_millis(40));
            let folder = Folder::open("s", [dir.path()])
                .unwrap()
                .burst(burst.0, burst.1)
                .unwrap();
            let mut listener = Listener::start(folder);
            for (i, (edit, from, to, pause)) in edits.into_iter().enumerate() {
                let (from, to) = (dir.path().join(NAMES[from]), dir.path().join(NAMES[to]));
                // An edit that cannot be done, as a rename of what is not there, is none.
                let _ = match edit {
                    0 | 1 => fs::create_dir_all(from.parent().unwrap())
                        .and_then(|()| fs::write(&from, format!("text {i}"))),
                    2 => fs::rename(&from, &to),
                    _ => fs::remove_file(&from).or_else(|_| fs::remove_dir_all(&from)),
                };
                std::thread::sleep(Duration::from_millis(pause * 10));
            }
            // Notifications arrive in order, so all before this one have arrived with it.
            fs::write(dir.path().join("last.md"), "last").unwrap();
            listener.until_held(|held| held.contains_key("last.md"));
            let once = Folder::open("s", [dir.path()])
                .unwrap()
                .watching(Watching::Once);
            let mut fresh = Listener::start(once);
            fresh.until(&Mark::Ended);
            prop_assert_eq!(&listener.held, &fresh.held);
            for (key, row) in &listener.rows {
                // The time and the size may be those of the last change noticed.
                let path = row.columns.get("path");
                prop_assert_eq!(path, fresh.rows[key].columns.get("path"));
            }
            Ok(())
        })
        .unwrap();
}

const NAMES: [&str; 8] = [
    "a.md",
    "b.md",
    "d",
    "d/a.md",
    "d/e",
    "d/e/a.md",
    "d/e/f/g.md",
    "h/d/e/f.md",
];
