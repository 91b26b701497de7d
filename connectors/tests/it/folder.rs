//! Folders under an editor's hands.

use std::fs;
use std::path::Path;
use std::time::Duration;

use perennial_connectors::{Change, Error, Folder, Rejection, Watching};

use crate::listening::{Listener, Mark};

/// Bursts that a busy machine does not break.
fn patient(root: &Path) -> Folder {
    let folder = Folder::open("notes", [root]).unwrap();
    folder
        .burst(Duration::from_secs(1), Duration::from_secs(10))
        .unwrap()
}

#[test]
fn a_burst_of_saves_is_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(patient(dir.path()));
    listener.until(&Mark::CaughtUp);
    for i in 0..20 {
        fs::write(dir.path().join(format!("{i:02}.md")), "text").unwrap();
    }
    listener.until_held(|held| held.len() == 20);
    assert_eq!(listener.batches.len(), 1);
}

#[test]
fn a_save_through_a_temporary_file_is_one_upsert() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.md"), "old").unwrap();
    let mut listener = Listener::start(patient(dir.path()));
    listener.until(&Mark::CaughtUp);
    // As vim does it: the old file becomes a backup, a new one takes the name, the backup goes.
    fs::rename(dir.path().join("a.md"), dir.path().join("a.md~")).unwrap();
    fs::write(dir.path().join("a.md"), "new").unwrap();
    fs::remove_file(dir.path().join("a.md~")).unwrap();
    listener.until_held(|held| held.get("a.md").is_some_and(|text| text == "new"));
    // As most others do: a temporary file is renamed over the old one.
    fs::write(dir.path().join(".a.md.tmp"), "newer").unwrap();
    fs::rename(dir.path().join(".a.md.tmp"), dir.path().join("a.md")).unwrap();
    listener.until_held(|held| held.get("a.md").is_some_and(|text| text == "newer"));
    assert!(
        listener
            .batches
            .iter()
            .all(|batch| batch.changes.len() == 1)
    );
}

/// Only where the system tells that a file is closed.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_written_slowly_is_read_when_it_is_closed() {
    use std::io::Write as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.md");
    fs::write(&path, "old").unwrap();
    let quick = Folder::open("notes", [dir.path()]).unwrap();
    let quick = quick.burst(Duration::from_millis(20), Duration::from_millis(100));
    let mut listener = Listener::start(quick.unwrap());
    listener.until(&Mark::CaughtUp);
    // It is empty, then holds half, and is whole at last.
    let mut file = fs::File::create(&path).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    file.write_all(b"new, ").unwrap();
    std::thread::sleep(Duration::from_millis(700));
    file.write_all(b"and whole").unwrap();
    drop(file);
    listener.until_held(|held| {
        held.get("a.md")
            .is_some_and(|text| text == "new, and whole")
    });
    let texts = listener.batches.iter().flat_map(|batch| &batch.changes);
    let texts: Vec<&str> = texts
        .filter_map(|change| match change {
            Change::Upsert(record) => Some(&*record.row.text),
            Change::Delete { .. } => None,
        })
        .collect();
    assert!(
        texts
            .iter()
            .all(|text| ["old", "new, and whole"].contains(text)),
        "{texts:?}"
    );
    // One that stays open is read all the same.
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"stays open").unwrap();
    listener.until_held(|held| held.get("a.md").is_some_and(|text| text == "stays open"));
    drop(file);
}

#[test]
fn a_renamed_file_is_deleted_and_inserted_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("a.md"), "text").unwrap();
    let mut listener = Listener::start(patient(dir.path()));
    listener.until(&Mark::CaughtUp);
    fs::rename(dir.path().join("a.md"), dir.path().join("sub/b.md")).unwrap();
    listener.until_held(|held| held.contains_key("sub/b.md"));
    assert_eq!(listener.keys(), ["sub/b.md"]);
    let changes = &listener.batches.last().unwrap().changes;
    assert!(matches!(
        &changes[..],
        [Change::Delete { .. }, Change::Upsert(_)]
    ));
}

#[test]
fn a_folder_that_appears_moves_and_goes_takes_its_files_along() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir_all(elsewhere.path().join("in/deep")).unwrap();
    fs::write(elsewhere.path().join("in/deep/a.md"), "text").unwrap();
    let mut listener = Listener::start(Folder::open("notes", [dir.path()]).unwrap());
    listener.until(&Mark::CaughtUp);
    if fs::rename(elsewhere.path().join("in"), dir.path().join("x")).is_err() {
        fs::create_dir_all(dir.path().join("x/deep")).unwrap();
        fs::write(dir.path().join("x/deep/a.md"), "text").unwrap();
    }
    listener.until_held(|held| held.contains_key("x/deep/a.md"));
    fs::rename(dir.path().join("x"), dir.path().join("y")).unwrap();
    listener.until_held(|held| held.contains_key("y/deep/a.md") && held.len() == 1);
    // The moved folder is still watched, under its new name.
    fs::write(dir.path().join("y/deep/b.md"), "text").unwrap();
    listener.until_held(|held| held.contains_key("y/deep/b.md"));
    fs::remove_dir_all(dir.path().join("y")).unwrap();
    listener.until_held(|held| held.is_empty());
}

#[test]
fn bad_files_are_reported_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good.md"), "good").unwrap();
    fs::write(dir.path().join("latin1.txt"), b"caf\xe9").unwrap();
    fs::write(dir.path().join("binary.md"), b"\x7fELF\0").unwrap();
    let large = fs::File::create(dir.path().join("large.md")).unwrap();
    large.set_len(50 << 20).unwrap();
    let mut listener = Listener::start(Folder::open("notes", [dir.path()]).unwrap());
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.keys(), ["good.md"]);
    let shown: Vec<String> = listener.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "binary.md: a binary file: NUL at byte 4",
            "large.md: too large: 52428800 bytes, the limit is 8388608",
            "latin1.txt: not UTF-8 text: byte 3 begins no valid character",
        ]
    );
    fs::write(dir.path().join("latin1.txt"), "café").unwrap();
    listener.until_held(|held| held.contains_key("latin1.txt"));
    fs::write(dir.path().join("good.md"), b"\xff").unwrap();
    listener.until_held(|held| !held.contains_key("good.md"));
    assert_eq!(
        listener.rejected.last().unwrap().reason,
        Rejection::NotUtf8 { at: 0 }
    );
}

#[test]
fn a_deleted_root_is_awaited_and_an_empty_one_in_its_place_takes_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let (root, aside) = (dir.path().join("docs"), dir.path().join("aside"));
    for watching in [
        Watching::Auto,
        Watching::Poll {
            every: Duration::from_millis(20),
        },
    ] {
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.md"), "one").unwrap();
        fs::write(root.join("b.md"), "two").unwrap();
        let folder = Folder::open("notes", [&root]).unwrap().watching(watching);
        let mut listener = Listener::start(folder);
        listener.until(&Mark::CaughtUp);
        // Something is unmounted: its files are not deleted.
        fs::rename(&root, &aside).unwrap();
        listener.until(&Mark::Notice);
        let said = |listener: &Listener| listener.notices.last().unwrap().to_string();
        assert!(
            said(&listener).ends_with("gone, waiting for it"),
            "{:?}",
            listener.notices
        );
        fs::create_dir(&root).unwrap();
        listener.until(&Mark::Notice);
        assert!(
            said(&listener).ends_with("until it holds some: 2"),
            "{:?}",
            listener.notices
        );
        assert_eq!(listener.keys(), ["a.md", "b.md"]);
        // What comes is what stands.
        fs::write(root.join("c.md"), "three").unwrap();
        listener.until_held(|held| held.keys().eq(["c.md"]));
        // And back again, at once.
        fs::remove_dir_all(&root).unwrap();
        fs::rename(&aside, &root).unwrap();
        listener.until_held(|held| held.keys().eq(["a.md", "b.md"]));
        fs::write(root.join("b.md"), "two, mended").unwrap();
        listener.until_held(|held| held["b.md"] == "two, mended");
        // In the folder itself, a deletion is one.
        fs::remove_file(root.join("a.md")).unwrap();
        fs::remove_file(root.join("b.md")).unwrap();
        listener.until_held(|held| held.is_empty());
        fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn a_root_that_is_replaced_at_once_stays_watched() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("docs");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.md"), "old").unwrap();
    let mut listener = Listener::start(patient(&root));
    listener.until(&Mark::CaughtUp);
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("b.md"), "new").unwrap();
    listener.until_held(|held| held.contains_key("b.md") && held.len() == 1);
    fs::write(root.join("c.md"), "newer").unwrap();
    listener.until_held(|held| held.contains_key("c.md"));
}

#[test]
fn several_roots_have_keys_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for root in [&a, &b] {
        fs::create_dir(root).unwrap();
        fs::write(root.join("same.md"), "text").unwrap();
    }
    let mut listener = Listener::start(Folder::open("notes", [&a, &b]).unwrap());
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.keys(), ["a/same.md", "b/same.md"]);
    fs::write(b.join("more.md"), "text").unwrap();
    listener.until_held(|held| held.contains_key("b/more.md"));
}

#[test]
fn a_missing_folder_is_an_error_and_a_file_is_one_document() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Folder::open("notes", [dir.path().join("none")]);
    assert!(matches!(missing, Err(Error::Missing { .. })));
    let path = dir.path().join("f");
    fs::write(&path, "one").unwrap();
    fs::write(dir.path().join("beside.md"), "text").unwrap();
    let mut listener = Listener::start(patient(&path));
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.keys(), ["f"]);
    fs::write(dir.path().join("more.md"), "text").unwrap();
    fs::write(dir.path().join("f.tmp"), "two").unwrap();
    fs::rename(dir.path().join("f.tmp"), &path).unwrap();
    listener.until_held(|held| held.get("f").is_some_and(|text| text == "two"));
    assert_eq!(listener.keys(), ["f"]);
}

#[test]
fn a_backup_that_takes_the_name_for_a_moment_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.md"), "old").unwrap();
    let mut listener = Listener::start(Folder::open("notes", [dir.path()]).unwrap());
    listener.until(&Mark::CaughtUp);
    fs::rename(dir.path().join("a.md"), dir.path().join("a.md~")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::write(dir.path().join("a.md"), "new").unwrap();
    listener.until_held(|held| held.get("a.md").is_some_and(|text| text == "new"));
    let changes = listener.batches.iter().flat_map(|batch| &batch.changes);
    let is_upsert = |change: &Change| matches!(change, Change::Upsert(_));
    assert!(changes.into_iter().all(is_upsert), "{:?}", listener.batches);
    fs::remove_file(dir.path().join("a.md")).unwrap();
    listener.until_held(|held| held.is_empty());
}

#[test]
fn rules_that_are_written_and_folders_that_are_made_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("gen/deep")).unwrap();
    fs::write(dir.path().join("gen/deep/a.md"), "text").unwrap();
    fs::write(dir.path().join(".gitignore"), "gen\n").unwrap();
    let mut listener = Listener::start(Folder::open("notes", [dir.path()]).unwrap());
    listener.until(&Mark::CaughtUp);
    assert!(listener.keys().is_empty());
    fs::write(dir.path().join(".gitignore"), "").unwrap();
    listener.until_held(|held| held.contains_key("gen/deep/a.md"));
    // It is watched by now.
    fs::write(dir.path().join("gen/deep/b.md"), "text").unwrap();
    listener.until_held(|held| held.contains_key("gen/deep/b.md"));
    fs::create_dir_all(dir.path().join("new/deep")).unwrap();
    fs::write(dir.path().join("new/deep/c.md"), "text").unwrap();
    listener.until_held(|held| held.contains_key("new/deep/c.md"));
    fs::write(dir.path().join("new/.ignore"), "deep\n").unwrap();
    listener.until_held(|held| !held.contains_key("new/deep/c.md"));
}

#[test]
fn a_conflict_copy_is_told_and_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut listener = Listener::start(Folder::open("notes", [dir.path()]).unwrap());
    listener.until(&Mark::CaughtUp);
    fs::write(dir.path().join("a.sync-conflict-20240501-120000-A.md"), "x").unwrap();
    listener.until(&Mark::Notice);
    let said = listener.notices.last().unwrap().to_string();
    assert!(said.starts_with("left out: 1, conflict copies"), "{said}");
    assert!(listener.keys().is_empty());
}

#[cfg(feature = "documents")]
#[test]
fn a_page_is_a_document_beside_notes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.md"), "# Notes").unwrap();
    fs::write(dir.path().join("b.html"), "<h1>Page</h1><p>Text").unwrap();
    fs::write(dir.path().join("c.pdf"), "no such thing").unwrap();
    let mut listener = Listener::start(Folder::open("notes", [dir.path()]).unwrap());
    listener.until(&Mark::CaughtUp);
    assert_eq!(listener.keys(), ["a.md", "b.html"]);
    let said = listener.rejected[0].to_string();
    assert!(said.starts_with("c.pdf: not a sound PDF: "), "{said}");
    fs::write(dir.path().join("b.html"), "<p>Another").unwrap();
    listener.until_held(|held| held["b.html"] == "Another\n");
}

#[test]
fn an_idle_folder_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.md"), "text").unwrap();
    let mut listener = Listener::start(Folder::open("notes", [dir.path()]).unwrap());
    listener.until(&Mark::CaughtUp);
    // Reading, and files that are no documents: no news.
    let _ = fs::read(dir.path().join("a.md")).unwrap();
    fs::write(dir.path().join("a.png"), "PNG").unwrap();
    listener.silence(Duration::from_millis(800));
}
