//! Histories of a folder, as a snapshot sees them.

use proptest::prelude::*;

use super::super::globs::Globs;
use super::*;
use crate::{Error, Event};

/// A folder on disk, what is known of it, and the fold of all that was emitted.
struct Bench {
    dir: tempfile::TempDir,
    snapshot: Snapshot,
    out: Outlet,
    fold: BTreeMap<Key, Record>,
    /// Whether what could not be read or said for a while is said again.
    may_repeat: bool,
}

fn outlet() -> Outlet {
    Outlet::new(crossbeam_channel::bounded::<Event>(1).0, StopFlag::new())
}

fn snapshot(dir: &Path, held: Vec<(Key, Digest)>) -> Snapshot {
    let roots = Roots::open([dir]).unwrap();
    Snapshot::new(
        SourceName::new("test"),
        roots,
        Filter::default(),
        1000,
        held,
    )
}

/// The keys of deletes and upserts, as `-key` and `+key`, then refused offsets as `!offset`.
fn signs(batch: &Batch) -> Vec<String> {
    let changes = batch.changes.iter().map(|change| match change {
        Change::Upsert(record) => format!("+{}", record.key),
        Change::Delete { key, .. } => format!("-{key}"),
    });
    changes
        .chain(batch.rejected.iter().map(|r| format!("!{}", r.offset)))
        .collect()
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = snapshot(dir.path(), Vec::new());
        Self {
            dir,
            snapshot,
            out: outlet(),
            fold: BTreeMap::new(),
            may_repeat: false,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn reconcile(&mut self, touched: &Touched) -> Batch {
        let batch = self.snapshot.reconcile(touched, &self.out).unwrap();
        for change in batch.changes.clone() {
            match change {
                Change::Upsert(record) => {
                    let before = self.fold.insert(record.key.clone(), record.clone());
                    let is_same = before.map(|r| r.digest) == Some(record.digest);
                    assert!(!is_same || self.may_repeat, "no change of {}", record.key);
                }
                Change::Delete { key, .. } => {
                    assert!(self.fold.remove(&key).is_some(), "{key} was not held");
                }
            }
        }
        batch
    }

    fn scan(&mut self) -> Vec<String> {
        signs(&self.reconcile(&Touched::everything()))
    }

    fn touch(&mut self, paths: &[&str]) -> Vec<String> {
        let paths = paths.iter().map(|path| self.path(path)).collect();
        signs(&self.reconcile(&Touched {
            paths,
            ..Touched::default()
        }))
    }

    /// What a new run finds, by key.
    fn fresh(&self) -> BTreeMap<Key, Digest> {
        let batch = snapshot(self.dir.path(), Vec::new())
            .reconcile(&Touched::everything(), &self.out)
            .unwrap();
        let records = batch.changes.into_iter().map(|change| match change {
            Change::Upsert(record) => (record.key, record.digest),
            Change::Delete { key, .. } => panic!("{key} deleted from nothing"),
        });
        records.collect()
    }

    fn folded(&self) -> BTreeMap<Key, Digest> {
        self.fold
            .iter()
            .map(|(key, record)| (key.clone(), record.digest))
            .collect()
    }
}

#[test]
fn the_first_scan_is_sorted_and_names_everything() {
    let mut bench = Bench::new();
    bench.write("b.md", b"# B\n");
    bench.write("a/z.txt", b"z");
    bench.write("a.md", b"a");
    bench.write("empty.md", b"");
    bench.write("picture.png", b"\x89PNG");
    bench.write(".git/x.md", b"x");
    bench.write("node_modules/m/readme.md", b"x");
    bench.write("bad.md", b"\xff");
    assert_eq!(
        bench.scan(),
        ["+a/z.txt", "+a.md", "+b.md", "+empty.md", "!bad.md"]
    );
    let told = bench.snapshot.take_left_out();
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    let expected = [
        "left out: 1, not named like documents (as picture.png)",
        "left out: 1, folders of what programs make (as node_modules)",
    ];
    assert_eq!(told, expected);
    let record = &bench.fold[&Key::new("b.md")];
    assert_eq!(record.row.title.as_deref(), Some("B"));
    let mtime = fs::metadata(bench.path("b.md"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(
        record.row.updated_at_ms,
        stamp::nanoseconds(mtime) / 1_000_000
    );
    assert!(bench.scan().is_empty());
    assert!(bench.snapshot.take_left_out().is_empty(), "told once");
}

#[test]
fn what_ignore_files_name_comes_and_goes_with_them() {
    let mut bench = Bench::new();
    bench.write("a.md", b"a");
    bench.write("gen/b.md", b"b");
    bench.write("sub/gen/c.md", b"c");
    bench.write(".gitignore", b"gen/\n");
    assert_eq!(bench.scan(), ["+a.md"]);
    let told = bench.snapshot.take_left_out();
    let expected = "left out: 2, named by a .gitignore or .ignore file (as gen)";
    assert_eq!(told[0].to_string().replace("sub/gen", "gen"), expected);
    bench.write("sub/.ignore", b"!gen\n");
    assert_eq!(bench.touch(&["sub"]), ["+sub/gen/c.md"]);
    bench.write("sub/gen/d.md", b"d");
    bench.write("gen/e.md", b"e");
    assert_eq!(
        bench.touch(&["sub/gen/d.md", "gen/e.md"]),
        ["+sub/gen/d.md"]
    );
    bench.write("sub/.ignore", b"d.md\n");
    assert_eq!(bench.scan(), ["-sub/gen/c.md", "-sub/gen/d.md"]);
    let mut filter = Filter::default();
    filter.obeys_ignore_files = false;
    bench.snapshot.filter = filter;
    let all = ["+gen/b.md", "+gen/e.md", "+sub/gen/c.md", "+sub/gen/d.md"];
    assert_eq!(bench.scan(), all);
}

#[test]
fn other_patterns_over_what_an_earlier_run_held_delete_what_no_longer_matches() {
    let mut bench = Bench::new();
    for path in ["a.md", "b.txt", "sub/c.md"] {
        bench.write(path, path.as_bytes());
    }
    bench.scan();
    let held = bench.folded().into_iter().collect();
    let mut later = snapshot(bench.dir.path(), held);
    let sub = Globs::new(&["sub".to_owned()]).unwrap();
    later.filter.set_excluded(Some(sub));
    let markdown = Globs::new(&["*.md".to_owned()]).unwrap();
    later.filter.set_included(Some(markdown));
    let batch = later.reconcile(&Touched::everything(), &bench.out).unwrap();
    assert_eq!(signs(&batch), ["-b.txt", "-sub/c.md"]);
}

#[test]
fn a_file_that_was_named_is_read_whatever_its_name_and_nothing_beside_it() {
    let bench = Bench::new();
    bench.write("report", b"text");
    bench.write("other.md", b"text");
    let roots = Roots::open([bench.path("report")]).unwrap();
    let name = SourceName::new("test");
    let mut one = Snapshot::new(name, roots, Filter::default(), 1000, Vec::new());
    let mut look = |paths: &[&str]| {
        let paths = paths.iter().map(|path| bench.path(path)).collect();
        let touched = Touched {
            everything: paths == BTreeSet::new(),
            paths,
            ..Touched::default()
        };
        signs(&one.reconcile(&touched, &bench.out).unwrap())
    };
    assert_eq!(look(&[]), ["+report"]);
    bench.write("other.md", b"more");
    assert!(look(&["other.md"]).is_empty() && look(&[]).is_empty());
    fs::remove_file(bench.path("report")).unwrap();
    assert_eq!(look(&["report"]), ["-report"]);
    bench.write("report", b"again");
    assert_eq!(look(&["report"]), ["+report"]);
}

#[cfg(unix)]
#[test]
fn a_link_is_read_where_its_file_lies_in_the_folder_under_no_name_of_its_own() {
    use std::os::unix::fs::symlink;
    let mut bench = Bench::new();
    // As Kubernetes mounts what it may exchange.
    bench.write("..2024/a.md", b"one");
    symlink("..2024", bench.path("..data")).unwrap();
    symlink("..data/a.md", bench.path("a.md")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("b.md"), "secret").unwrap();
    symlink(elsewhere.path().join("b.md"), bench.path("b.md")).unwrap();
    assert_eq!(bench.scan(), ["+a.md", "!b.md"]);
    bench.write("..2025/a.md", b"two");
    fs::remove_file(bench.path("..data")).unwrap();
    symlink("..2025", bench.path("..data")).unwrap();
    assert_eq!(bench.scan(), ["+a.md"]);
    assert_eq!(&*bench.fold[&Key::new("a.md")].row.text, "two");
    assert!(bench.snapshot.take_left_out().is_empty());
}

#[test]
fn a_look_at_everything_waits_for_what_is_being_written() {
    let mut bench = Bench::new();
    bench.snapshot = snapshot(bench.dir.path(), Vec::new()).resting(Duration::from_millis(400));
    bench.write("a.md", b"half");
    let path = bench.path("a.md");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        fs::write(path, "whole").unwrap();
    });
    let begin = Instant::now();
    assert_eq!(bench.scan(), ["+a.md"]);
    writer.join().unwrap();
    assert_eq!(&*bench.fold[&Key::new("a.md")].row.text, "whole");
    assert!(begin.elapsed() >= Duration::from_millis(400));
    // What is known to be open is left to its notification.
    bench.write("a.md", b"half again");
    let touched = Touched {
        unfinished: BTreeSet::from([bench.path("a.md")]),
        ..Touched::everything()
    };
    assert!(signs(&bench.reconcile(&touched)).is_empty());
    assert_eq!(bench.touch(&["a.md"]), ["+a.md"]);
}

#[test]
fn an_equal_save_is_a_change_of_time_and_an_edit_of_equal_length_is_seen() {
    let mut bench = Bench::new();
    bench.write("a.md", b"one");
    bench.scan();
    let set_time = |bench: &Bench| {
        let path = bench.path("a.md");
        let file = fs::File::options().write(true).open(path).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        file.set_modified(time).unwrap();
    };
    set_time(&bench);
    assert_eq!(bench.touch(&["a.md"]), ["+a.md"]);
    assert_eq!(bench.fold[&Key::new("a.md")].row.updated_at_ms, 1_000_000);
    bench.write("a.md", b"one");
    set_time(&bench);
    assert!(bench.touch(&["a.md"]).is_empty());
    // Within the clock's grain, with the same length: the stamp may well be equal.
    bench.write("a.md", b"two");
    assert_eq!(bench.touch(&["a.md"]), ["+a.md"]);
}

#[test]
fn a_settled_file_is_not_read_again() {
    let mut bench = Bench::new();
    bench.write("a.md", b"one");
    bench.scan();
    let place = Place {
        root: 0,
        path: "a.md".into(),
    };
    let meta = fs::metadata(bench.path("a.md")).unwrap();
    // Just written: another write could leave the stamp as it is.
    let now_ns = stamp::nanoseconds(SystemTime::now());
    assert!(!bench.snapshot.known[&place].is_fresh(&Stamp::of(&meta, now_ns)));
    // As if the scan had been later. A wrong digest would be noticed by reading.
    let settled = Stamp::of(&meta, now_ns + 10_000_000_000);
    let digest = Digest::of(&Row::of_text("never read"));
    bench.snapshot.known.insert(
        place.clone(),
        Known::Held {
            digest,
            stamp: Some(settled),
        },
    );
    assert!(bench.scan().is_empty());
    bench.write("a.md", b"more");
    assert_eq!(bench.scan(), ["+a.md"]);
}

#[test]
fn a_rename_is_a_delete_and_an_insert_in_one_batch() {
    let mut bench = Bench::new();
    bench.write("a.md", b"one");
    bench.scan();
    fs::rename(bench.path("a.md"), bench.path("b.md")).unwrap();
    assert_eq!(bench.touch(&["a.md", "b.md"]), ["-a.md", "+b.md"]);
}

#[test]
fn folders_move_vanish_and_change_places_with_files() {
    let mut bench = Bench::new();
    bench.write("d/x.md", b"x");
    bench.write("d/e/y.md", b"y");
    bench.write("f.md", b"f");
    bench.scan();
    fs::rename(bench.path("d"), bench.path("g")).unwrap();
    let moved = bench.touch(&["d", "g"]);
    assert_eq!(moved, ["-d/e/y.md", "-d/x.md", "+g/e/y.md", "+g/x.md"]);
    // A file takes a folder's place, and a folder a file's. Only inner paths are hinted.
    fs::remove_dir_all(bench.path("g")).unwrap();
    bench.write("g", b"no document by its name");
    fs::remove_file(bench.path("f.md")).unwrap();
    bench.write("f.md/inner.md", b"i");
    let swapped = bench.touch(&["g/x.md", "f.md/inner.md"]);
    assert_eq!(swapped, ["-g/e/y.md", "-g/x.md", "+f.md/inner.md"]);
    assert_eq!(bench.touch(&["f.md"]), ["-f.md"]);
}

#[test]
fn a_good_document_that_turns_bad_is_deleted_and_reported_once() {
    let mut bench = Bench::new();
    bench.write("a.md", b"good");
    bench.scan();
    bench.write("a.md", &[b'x'; 1001]);
    assert_eq!(bench.touch(&["a.md"]), ["-a.md", "!a.md"]);
    bench.write("a.md", &[b'x'; 1002]);
    assert!(bench.touch(&["a.md"]).is_empty());
    bench.write("a.md", b"\0");
    assert_eq!(bench.touch(&["a.md"]), ["!a.md"]);
    bench.write("a.md", b"good");
    assert_eq!(bench.touch(&["a.md"]), ["+a.md"]);
}

#[cfg(unix)]
#[test]
fn links_pipes_and_names_without_a_key_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let mut bench = Bench::new();
    bench.write("d/a.md", b"a");
    symlink(bench.path(""), bench.path("d/loop")).unwrap();
    symlink(bench.path("d/a.md"), bench.path("link.md")).unwrap();
    symlink(bench.path("nowhere"), bench.path("dangling.md")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("s.md")).unwrap();
    let odd = bench.path("").join(OsStr::from_bytes(b"\xff.md"));
    fs::write(odd, "x").unwrap();
    let other = bench.path("").join(OsStr::from_bytes(b"\xfe.md"));
    fs::write(other, "x").unwrap();
    let mut batch = bench.reconcile(&Touched::everything());
    // Each is told as what it is.
    let last = batch.rejected.pop().unwrap().to_string();
    assert_eq!(last, "\\xff.md: the file's name is not UTF-8");
    let before = batch.rejected.last().unwrap().to_string();
    assert_eq!(before, "\\xfe.md: the file's name is not UTF-8");
    let reasons: Vec<_> = batch.rejected.iter().map(|r| r.reason.clone()).collect();
    let expected = [
        Rejection::Link,
        Rejection::Link,
        Rejection::Link,
        Rejection::NotAFile,
        Rejection::NameNotUtf8,
    ];
    assert_eq!(reasons, expected);
    let keys: Vec<_> = batch.rejected.iter().map(|r| r.key.is_some()).collect();
    assert_eq!(keys, [false, true, true, true, false]);
    assert!(bench.scan().is_empty());
}

#[test]
fn a_later_run_says_only_what_changed_meanwhile() {
    let mut bench = Bench::new();
    for name in ["same.md", "edited.md", "gone.md"] {
        bench.write(name, name.as_bytes());
    }
    bench.scan();
    let mut held: Vec<_> = bench.folded().into_iter().collect();
    held.push((Key::new("../outside.md"), Digest::of(&Row::of_text(""))));
    bench.write("edited.md", b"now");
    bench.write("new.md", b"new");
    fs::remove_file(bench.path("gone.md")).unwrap();
    let mut later = snapshot(bench.dir.path(), held);
    let batch = later.reconcile(&Touched::everything(), &bench.out).unwrap();
    let expected = ["-../outside.md", "-gone.md", "+edited.md", "+new.md"];
    assert_eq!(signs(&batch), expected);
}

#[test]
fn a_root_that_is_empty_at_a_start_keeps_what_an_earlier_run_held_until_it_holds_something() {
    let mut bench = Bench::new();
    bench.write("a.md", b"one");
    bench.write("sub/b.md", b"two");
    bench.scan();
    let held: Vec<_> = bench.folded().into_iter().collect();
    let (sender, events) = crossbeam_channel::bounded::<Event>(4);
    let out = Outlet::new(sender, StopFlag::new());
    let look = |later: &mut Snapshot| {
        let batch = later.reconcile(&Touched::everything(), &out);
        signs(&batch.unwrap())
    };
    let n_kept = || match events.try_recv() {
        Ok(Event::Notice(Notice::Emptied { documents, .. })) => documents,
        other => panic!("{other:?}"),
    };
    // What was mounted there is not; a file that is no document is none.
    fs::remove_file(bench.path("a.md")).unwrap();
    fs::remove_dir_all(bench.path("sub")).unwrap();
    bench.write("lost+found.bin", b"");
    let mut later = snapshot(bench.dir.path(), held.clone());
    assert!(look(&mut later).is_empty());
    assert_eq!(n_kept(), 2);
    assert!(later.is_any_emptied() && !later.has_moved());
    assert!(look(&mut later).is_empty());
    assert!(events.is_empty(), "told once");
    // It is back.
    bench.write("a.md", b"one");
    bench.write("c.md", b"three");
    let said = look(&mut later);
    assert!(said.contains(&"-sub/b.md".to_owned()) && said.contains(&"+c.md".to_owned()));
    assert!(!later.is_any_emptied());
    // In a folder that is known, a deletion is one.
    for name in ["a.md", "c.md"] {
        fs::remove_file(bench.path(name)).unwrap();
    }
    assert_eq!(look(&mut later), ["-a.md", "-c.md"]);
    // So it is where that is to be believed.
    let mut believing = snapshot(bench.dir.path(), held).believing_empty(true);
    assert_eq!(look(&mut believing), ["-a.md", "-sub/b.md"]);
    assert!(events.is_empty());
}

#[test]
fn a_root_in_which_rules_leave_all_out_is_not_empty() {
    let mut bench = Bench::new();
    bench.write("a.md", b"one");
    bench.scan();
    let mut later = snapshot(bench.dir.path(), bench.folded().into_iter().collect());
    let all = Globs::new(&["*".to_owned()]).unwrap();
    later.filter.set_excluded(Some(all));
    let batch = later.reconcile(&Touched::everything(), &bench.out).unwrap();
    assert_eq!(signs(&batch), ["-a.md"]);
}

#[test]
fn what_cannot_be_read_just_now_stands_and_is_looked_at_again() {
    fn failing(_: &Path, _: Kind, _: u64, _: &StopFlag) -> Reading {
        // EMFILE: too many open files.
        Reading::Refused(Rejection::unreadable(&std::io::Error::from_raw_os_error(
            24,
        )))
    }
    let mut bench = Bench::new();
    bench.may_repeat = true;
    bench.write("a.md", b"one");
    bench.scan();
    bench.snapshot.read = failing;
    bench.write("a.md", b"two");
    bench.write("b.md", b"new");
    assert_eq!(bench.touch(&["a.md", "b.md"]), ["!a.md", "!b.md"]);
    let unread = [bench.path("a.md"), bench.path("b.md")];
    assert_eq!(bench.snapshot.unread().collect::<Vec<_>>(), unread);
    assert!(bench.touch(&["a.md", "b.md"]).is_empty(), "told once");
    bench.snapshot.read = document::read;
    assert_eq!(bench.touch(&["a.md", "b.md"]), ["+a.md", "+b.md"]);
    assert_eq!(bench.snapshot.unread().count(), 0);
    assert_eq!(bench.folded(), bench.fresh());
    // One that has not changed is said again, so that its refusal goes.
    bench.snapshot.read = failing;
    bench.snapshot.known.values_mut().for_each(|known| {
        if let Known::Held { stamp, .. } = known {
            *stamp = None;
        }
    });
    assert_eq!(bench.touch(&["a.md"]), ["!a.md"]);
    bench.snapshot.read = document::read;
    assert_eq!(bench.touch(&["a.md"]), ["+a.md"]);
    bench.snapshot.read = failing;
    fs::remove_file(bench.path("a.md")).unwrap();
    assert_eq!(bench.touch(&["a.md"]), ["-a.md"]);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_too_long_for_the_system_is_refused_once() {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let mut bench = Bench::new();
    bench.write("a.md", b"one");
    let name = "d".repeat(250);
    let how = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut at = open(bench.path(""), how, Mode::empty()).unwrap();
    // Each of these paths is short; together they are longer than 4,096 bytes.
    for _ in 0..17 {
        mkdirat(&at, &*name, Mode::RWXU).unwrap();
        at = openat(&at, &*name, how, Mode::empty()).unwrap();
    }
    let said = bench.scan();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0] == "+a.md" && said[1].starts_with("!ddd"),
        "{said:?}"
    );
    assert_eq!(bench.snapshot.unread().count(), 0);
    assert!(bench.scan().is_empty());
}

#[test]
fn what_a_root_that_went_away_kept_from_being_said_is_said_when_it_is_back() {
    fn away(path: &Path) -> (PathBuf, PathBuf) {
        let root = path.parent().unwrap();
        (root.to_path_buf(), root.with_extension("away"))
    }
    fn taking_it_away(path: &Path, kind: Kind, limit: u64, stop: &StopFlag) -> Reading {
        let reading = document::read(path, kind, limit, stop);
        let (root, aside) = away(path);
        let _is_away_already = fs::rename(root, aside);
        reading
    }
    let mut bench = Bench::new();
    bench.may_repeat = true;
    for name in ["edited.md", "gone.md", "lost.md", "same.md"] {
        bench.write(name, name.as_bytes());
    }
    bench.scan();
    bench.write("edited.md", b"now");
    bench.write("bad.md", b"\xff");
    fs::remove_file(bench.path("gone.md")).unwrap();
    bench.snapshot.read = taking_it_away;
    let path = bench.path("edited.md");
    let failed = bench.snapshot.reconcile(&Touched::everything(), &bench.out);
    assert!(matches!(failed, Err(Halt::Failed(Error::RootGone { .. }))));
    let (root, aside) = away(&path);
    fs::rename(aside, root).unwrap();
    bench.snapshot.read = document::read;
    let said = bench.scan();
    for expected in ["-gone.md", "+edited.md", "!bad.md"] {
        assert!(said.iter().any(|said| said == expected), "{said:?}");
    }
    assert_eq!(bench.folded(), bench.fresh());
    assert!(bench.scan().is_empty());
}

#[test]
fn a_root_that_is_gone_is_an_error_and_deletes_nothing() {
    let bench = Bench::new();
    bench.write("docs/a.md", b"a");
    let mut inner = snapshot(&bench.path("docs"), Vec::new());
    inner.reconcile(&Touched::everything(), &bench.out).unwrap();
    fs::remove_dir_all(bench.path("docs")).unwrap();
    let gone = inner.reconcile(&Touched::everything(), &bench.out);
    assert!(matches!(gone, Err(Halt::Failed(Error::RootGone { .. }))));
}

#[test]
fn a_raised_flag_ends_a_scan() {
    let mut bench = Bench::new();
    bench.out.stop().raise();
    let stopped = bench.snapshot.reconcile(&Touched::everything(), &bench.out);
    assert!(matches!(stopped, Err(Halt::Stopped)));
}

/// An edit of the folder, by small numbers so that scripts collide often.
#[derive(Clone, Debug)]
enum Edit {
    Write { path: usize, content: usize },
    Remove { path: usize },
    Rename { from: usize, to: usize },
}

const PATHS: [&str; 10] = [
    "a.md",
    "b.txt",
    "d",
    "d/a.md",
    "d/b.md",
    "d/e",
    "d/e/a.md",
    "x.md",
    "x.md/in.md",
    "target/a.md",
];
const CONTENTS: [&[u8]; 6] = [b"", b"one", b"two", b"# T\n\nthree\r\n", b"\xff", b"nul\0"];

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (0..PATHS.len(), 0..CONTENTS.len())
            .prop_map(|(path, content)| Edit::Write { path, content }),
        1 => (0..PATHS.len()).prop_map(|path| Edit::Remove { path }),
        2 => (0..PATHS.len(), 0..PATHS.len()).prop_map(|(from, to)| Edit::Rename { from, to }),
    ]
}

/// Does what it can of an edit, and says which paths it touched.
fn apply(bench: &Bench, edit: &Edit) -> Vec<&'static str> {
    match *edit {
        Edit::Write { path, content } => {
            let at = bench.path(PATHS[path]);
            let _ = fs::create_dir_all(at.parent().unwrap());
            let _ = fs::write(at, CONTENTS[content]);
            vec![PATHS[path]]
        }
        Edit::Remove { path } => {
            let at = bench.path(PATHS[path]);
            let _ = fs::remove_file(&at).or_else(|_| fs::remove_dir_all(&at));
            vec![PATHS[path]]
        }
        Edit::Rename { from, to } => {
            let _ = fs::rename(bench.path(PATHS[from]), bench.path(PATHS[to]));
            vec![PATHS[from], PATHS[to]]
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn folded_changes_equal_a_fresh_scan(
        bursts in prop::collection::vec(prop::collection::vec(edit(), 1..5), 1..8)
    ) {
        let mut bench = Bench::new();
        bench.scan();
        for burst in bursts {
            let touched: Vec<&str> =
                burst.iter().flat_map(|edit| apply(&bench, edit)).collect();
            bench.touch(&touched);
            prop_assert_eq!(bench.folded(), bench.fresh());
            // Hints that were not needed emit nothing.
            prop_assert!(bench.touch(&PATHS).is_empty());
            prop_assert!(bench.scan().is_empty());
        }
    }
}
