//! Backups that are whole, and files that are none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use perennial_connectors::Delivery;
use proptest::prelude::*;
use tempfile::TempDir;

use super::read::Reader;
use super::*;
use crate::state::format::StoredRow;
use crate::state::tests::commit;
use crate::state::{Commit, DeclaredSink, State, StateError};

/// Tables that another life begins anew.
const BEGUN_ANEW: [&str; 4] = ["manifest", "outbox", "sinks", "upserts"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A state of so many epochs.
fn state_of(dir: &Path, n_epochs: u64) -> State {
    let state = State::open(dir).expect("opens");
    for epoch in 0..n_epochs {
        commit(&state, epoch).expect("committed");
    }
    state
}

fn taken(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    let backup = state.begin_backup().expect("begins");
    let written = backup.write_to(&mut bytes).expect("memory");
    assert_eq!(written.n_bytes, bytes.len() as u64);
    bytes
}

/// By table: its records, as they are written.
fn records(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let (mut reader, _) = Reader::over(bytes, Path::new("memory")).expect("a backup");
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    while let Some(records) = reader.next_records().expect("whole") {
        let of_table = all.entry(records.table.to_owned()).or_default();
        of_table.extend_from_slice(records.bytes);
    }
    all
}

/// Why bytes are no whole backup.
fn refusal(bytes: &[u8]) -> Option<BackupError> {
    let read = || {
        let (mut reader, _) = Reader::over(bytes, Path::new("memory"))?;
        while reader.next_records()?.is_some() {}
        Ok(())
    };
    read().err()
}

fn file_of(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("a.backup");
    std::fs::write(&path, bytes).expect("writable");
    path
}

/// A backup of a few epochs.
fn small() -> &'static [u8] {
    static SMALL: OnceLock<Vec<u8>> = OnceLock::new();
    SMALL.get_or_init(|| {
        let dir = folder();
        taken(&state_of(&dir.path().join("state"), 4))
    })
}

#[test]
fn a_state_that_is_restored_holds_what_was_backed_up_and_begins_another_life() {
    let dir = folder();
    let state = state_of(&dir.path().join("state"), 5);
    let before = state.restore().expect("whole");
    let bytes = taken(&state);
    let to = dir.path().join("deep/restored");
    let mut heard = (0, 0);
    let restored = restore(&file_of(dir.path(), &bytes), &to, |at, of| heard = (at, of));
    let restored = restored.expect("restores");
    assert_eq!((restored.epoch, restored.n_rows), (Some(4), 4));
    assert_eq!(
        restored.n_owed, 6,
        "five epochs of one sink, and what another is to get"
    );
    assert_eq!(restored.n_bytes, bytes.len() as u64);
    assert!(heard.0 > 0 && heard.0 <= heard.1, "{heard:?}");
    let again = State::open(&to).expect("opens");
    let mut expected = records(&bytes);
    let mut found = records(&taken(&again));
    for table in BEGUN_ANEW {
        expected.remove(table);
        found.remove(table);
    }
    assert!(expected.len() >= 7, "{:?}", expected.keys());
    assert_eq!(found, expected);
    let after = again.restore().expect("whole");
    assert_eq!(after.former, [before.origin]);
    assert_ne!(after.origin, before.origin);
    assert!(after.sinks.is_empty() && after.upserts.is_empty() && !before.sinks.is_empty());
    // It goes on, and its backup can be restored in its turn.
    commit(&again, 5).expect("goes on");
    let third = dir.path().join("third");
    let file = file_of(dir.path(), &taken(&again));
    restore(&file, &third, |_, _| {}).expect("restores");
    let third = State::open(&third)
        .expect("opens")
        .restore()
        .expect("whole");
    let mut former = vec![before.origin, after.origin];
    former.sort_by_key(|origin| format!("{origin:016x}"));
    assert_eq!((third.epoch, third.former), (Some(5), former));
}

#[test]
fn what_is_committed_later_is_not_in_it() {
    let dir = folder();
    let state = state_of(dir.path(), 4);
    let expected = records(&taken(&state));
    let backup = state.begin_backup().expect("begins");
    for epoch in 4..40 {
        commit(&state, epoch).expect("goes on");
    }
    state.cut_history().expect("written");
    state.delivered("sink", 40).expect("written");
    assert_eq!(backup.epoch(), Some(3));
    let mut bytes = Vec::new();
    backup.write_to(&mut bytes).expect("memory");
    assert_eq!(records(&bytes), expected);
    assert_ne!(records(&taken(&state)), expected);
}

#[test]
fn a_backup_is_not_complete_where_something_is_forgotten_meanwhile() {
    let dir = folder();
    let state = state_of(dir.path(), 3);
    let backup = state.begin_backup().expect("begins");
    state.rewrite().expect("written anew");
    let mut bytes = Vec::new();
    let error = backup.write_to(&mut bytes).expect_err("interrupted");
    assert!(matches!(error, BackupError::Interrupted), "{error}");
    assert!(refusal(&bytes).is_some());
    // The next one is.
    assert!(refusal(&taken(&state)).is_none());
}

#[test]
fn records_of_any_length_are_there() {
    let dir = folder();
    let state = State::open(&dir.path().join("state")).expect("opens");
    let row = |n: usize| StoredRow {
        text: "x".repeat(n).into(),
        ..StoredRow::default()
    };
    let rows: Vec<(String, StoredRow)> = [FRAME - 40, 3 * FRAME, 0, 1, FRAME / 2, FRAME / 2, 7]
        .into_iter()
        .enumerate()
        .map(|(at, n)| (format!("k{at}"), row(n)))
        .collect();
    state
        .commit(&Commit {
            epoch: 0,
            at_ms: 0,
            rows: rows
                .iter()
                .map(|(key, row)| ("docs", &**key, Some(row)))
                .collect(),
            offsets: Vec::new(),
            deletions: Vec::new(),
            schemas: Vec::new(),
            views: Vec::new(),
            knows_uses: true,
            answers: Vec::new(),
            quarantine: &Vec::new(),
            resubmitted: &[],
            deliveries: Vec::new(),
            merged: Vec::new(),
            given: Vec::new(),
            begun: Vec::new(),
        })
        .expect("committed");
    let to = dir.path().join("restored");
    restore(&file_of(dir.path(), &taken(&state)), &to, |_, _| {}).expect("restores");
    let restored = State::open(&to).expect("opens").restore().expect("whole");
    let expected: BTreeMap<String, StoredRow> = rows.into_iter().collect();
    assert_eq!(restored.rows["docs"], expected);
}

#[test]
fn bytes_are_as_described() {
    let bytes = small();
    assert_eq!(&bytes[..16], b"perennial backup");
    assert_eq!(bytes[16..20], [1, 0, 0, 0]);
    let len = u32::from_le_bytes([bytes[21], bytes[22], bytes[23], bytes[24]]);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&20u64.to_le_bytes());
    hasher.update(&bytes[20..25]);
    assert_eq!(bytes[20], HEAD);
    assert_eq!(bytes[25..29], hasher.finalize().as_bytes()[..4]);
    let (_, head) = Reader::over(bytes, Path::new("memory")).expect("a backup");
    let held = &bytes[29..29 + len as usize];
    assert_eq!(held, crate::state::format::encode(&head));
    let (all, digest) = bytes.split_at(bytes.len() - DIGEST);
    assert_eq!(digest, blake3::hash(all).as_bytes());
}

#[test]
fn cut_off_at_any_byte_it_is_refused() {
    let bytes = small();
    assert!(refusal(bytes).is_none());
    for n in 0..bytes.len() {
        match refusal(&bytes[..n]) {
            Some(BackupError::Cut { n_bytes, .. }) => assert_eq!(n_bytes, n as u64),
            Some(BackupError::NotABackup { .. }) if n == 0 => {}
            other => panic!("cut off after {n} bytes: {other:?}"),
        }
    }
    let longer = [bytes, b"x"].concat();
    let error = refusal(&longer).expect("refused").to_string();
    assert!(error.contains("something follows"), "{error}");
}

#[test]
fn flipped_at_any_byte_it_is_refused() {
    let mut bytes = small().to_vec();
    for at in 0..bytes.len() {
        let bit = 1 << (at % 8);
        bytes[at] ^= bit;
        match refusal(&bytes) {
            Some(BackupError::NotABackup { .. }) if at < MAGIC.len() => {}
            Some(BackupError::Newer { .. } | BackupError::Damaged { .. }) if at >= MAGIC.len() => {}
            other => panic!("flipped at byte {at}: {other:?}"),
        }
        bytes[at] ^= bit;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is wrong with the file: it is refused, and nothing is left where the state was to be.
    #[test]
    fn what_is_refused_leaves_nothing(
        place in 0.0..1.0f64, bit in 0u32..8, is_cut: bool, is_there: bool,
    ) {
        let (dir, bytes) = (folder(), small());
        let at = (place * bytes.len() as f64) as usize;
        let mut wrong = bytes.to_vec();
        match is_cut {
            true => wrong.truncate(at),
            false => wrong[at] ^= 1 << bit,
        }
        let file = file_of(dir.path(), &wrong);
        let to = dir.path().join("restored");
        if is_there {
            std::fs::create_dir(&to).expect("made");
        }
        let error = restore(&file, &to, |_, _| {}).expect_err("refused");
        prop_assert!(error.to_string().contains("a.backup"), "{error}");
        let left = std::fs::read_dir(dir.path()).expect("there").count();
        prop_assert_eq!(left, 1 + usize::from(is_there), "the file, and what was there");
        if is_there {
            prop_assert!(std::fs::read_dir(&to).expect("there").next().is_none());
        }
    }
}

#[test]
fn a_newer_backup_is_refused_by_its_number() {
    let mut bytes = small().to_vec();
    bytes[16] = 2;
    let error = refusal(&bytes).expect("refused");
    assert!(
        matches!(
            error,
            BackupError::Newer {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn only_an_empty_folder_is_restored_to() {
    let dir = folder();
    let file = file_of(dir.path(), small());
    let to = dir.path().join("there");
    std::fs::create_dir(&to).expect("made");
    restore(&file, &to, |_, _| {}).expect("restores");
    let before = std::fs::read(to.join("state.redb")).expect("there");
    let error = restore(&file, &to, |_, _| {}).expect_err("refused");
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    assert_eq!(std::fs::read(to.join("state.redb")).expect("there"), before);
    let error = restore(&file, &file, |_, _| {}).expect_err("refused");
    assert!(matches!(error, BackupError::Folder { .. }), "{error}");
    let error = restore(&dir.path().join("none"), &to, |_, _| {}).expect_err("refused");
    assert!(matches!(error, BackupError::Unreadable { .. }), "{error}");
    let error = restore(dir.path(), &to, |_, _| {}).expect_err("refused");
    assert!(matches!(error, BackupError::Unreadable { .. }), "{error}");
}

#[test]
fn a_folder_that_nobody_has_open_is_backed_up_as_it_is() {
    let dir = folder();
    let at = dir.path().join("state");
    let state = state_of(&at, 3);
    let expected = records(&taken(&state));
    let mut bytes = Vec::new();
    let error = backup(&at, &mut bytes).expect_err("in use");
    assert!(
        matches!(error, BackupError::State(StateError::InUse { .. })),
        "{error}"
    );
    drop(state);
    let before = std::fs::read(at.join("state.redb")).expect("there");
    let mut bytes = Vec::new();
    backup(&at, &mut bytes).expect("memory");
    assert_eq!(records(&bytes), expected);
    assert_eq!(std::fs::read(at.join("state.redb")).expect("there"), before);
    let error = backup(&dir.path().join("none"), Vec::new()).expect_err("none");
    assert!(
        matches!(error, BackupError::State(StateError::Missing { .. })),
        "{error}"
    );
}

#[test]
fn the_first_delivery_of_a_restored_state_is_noted_until_it_is_made() {
    let dir = folder();
    let to = dir.path().join("restored");
    restore(&file_of(dir.path(), small()), &to, |_, _| {}).expect("restores");
    let state = State::open(&to).expect("opens");
    let delivery = Delivery {
        origin: 2,
        view: "answers".to_owned(),
        epoch: 3,
        rows: Vec::new(),
    };
    let sink = |name| DeclaredSink {
        name,
        view: "answers",
        is_waiting: false,
        snapshot: Some(Some(&delivery)),
    };
    let known = |name| DeclaredSink {
        snapshot: None,
        ..sink(name)
    };
    let replaces = |sink: &str| state.replaces(sink).expect("readable");
    let waiting = DeclaredSink {
        is_waiting: true,
        ..sink("waiting")
    };
    let declared = [sink("a"), sink("b"), waiting];
    state.declare_sinks(&declared).expect("written");
    assert!(replaces("a") && replaces("b") && !replaces("waiting"));
    state.delivered("a", 3).expect("written");
    assert!(!replaces("a") && replaces("b"));
    // One that is there still is not begun anew, and one that is dropped is.
    state.declare_sinks(&[known("a")]).expect("written");
    assert!(!replaces("a") && !replaces("b"));
    // One that waited for its view.
    commit(&state, 4).expect("committed");
    assert!(replaces("new"));
    // A state that was never restored does not look back.
    let fresh = State::open(&dir.path().join("fresh")).expect("opens");
    fresh.declare_sinks(&[sink("a")]).expect("written");
    assert!(!fresh.replaces("a").expect("readable"));
}
