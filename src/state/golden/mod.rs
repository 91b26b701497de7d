//! Golden files: state directories and records as past and present versions of the format write
//! them, in `tests/golden`.
//!
//! | what | written by |
//! | --- | --- |
//! | `state-1/` | the program of that version |
//! | `state-2/` | [`write`] of version 3, as the program of version 2 did |
//! | `state-3/` | [`write`] of that version |
//! | `records-3.txt` | the same: a name and the bytes of each structure, in hexadecimal |
//! | `state-4/`, `records-4.txt` | [`write`] of that version |
//! | `state-5/`, `records-5.txt` | the same |
//! | `state-6/`, `records-6.txt` | the same |
//! | `state-7/`, `records-7.txt` | the same |
//! | `state-8/`, `records-8.txt` | [`write`] |
//!
//! A structure or an enumeration that is changed makes [`records_have_the_bytes_they_had`] fail.
//! Then [`VERSION`] is to rise, and after that
//! `cargo test --release -p perennial --lib golden::write -- --ignored` adds the new version's
//! files. Those that are there are never written again: they are what is out there.

mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use perennial_ask::{Finish, PassagesRead, Rung, TaskDigest};
use perennial_bank::ContextKey;
use perennial_connectors::{Delivery, Output};
use perennial_views::Memo as _;
use perennial_views::memo::VectorDigest;
use redb::ReadableTable as _;

use super::format::{
    self, EPOCHS, FILE, FORMAT, HISTORY_BYTES_KEY, MANIFEST, ORIGIN_KEY, RESUBMITTED, StoredAnswer,
    StoredRow, StoredValue, VERSION, VERSION_KEY,
};
use super::history::StoredEpoch;
use super::{
    AsOf, Commit, DeclaredSink, State, StateAsOf, StateError, as_of, check, quarantine, receipts,
};
use crate::engine::Receipt;
use values::{
    COMMITTED_AT_MS, EPOCH, FIRST_OFFSETS, OLDER, ORIGIN, VECTOR, VIEW, answers, delivery,
    delivery_of_rows, n_undo_bytes, offsets, offsets_of_3, outputs, receipt, refusals, resubmitted,
    rows, rows_of_4, schemas, stored_epoch, text,
};

fn golden(name: impl AsRef<Path>) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name)
}

/// Every structure that is stored, and every case of every enumeration in one.
fn records() -> BTreeMap<String, Vec<u8>> {
    let rungs = [
        Rung::Keep,
        Rung::Verify,
        Rung::Rewrite,
        Rung::Regenerate,
        Rung::Skip,
        Rung::Patch,
    ];
    let mut records = BTreeMap::new();
    let mut add = |name: String, bytes| {
        assert!(records.insert(name, bytes).is_none());
    };
    for (name, row) in rows() {
        add(format!("row {name}"), format::encode(&row));
    }
    for (name, offset) in offsets() {
        add(format!("offset {name}"), format::encode(&offset));
    }
    for (name, schema) in schemas() {
        add(format!("schema of {name}"), format::encode(&schema));
    }
    for (name, answer) in answers() {
        add(format!("answer {name}"), format::encode(&answer));
    }
    for refused in refusals() {
        let name = format!("refusal {}", refused.number);
        add(name, format::encode(&refused));
    }
    for (number, row) in resubmitted() {
        add(format!("resubmitted {number}"), format::encode(&row));
    }
    for rung in rungs {
        add(format!("rung {rung}"), format::encode(&rung));
    }
    for finish in [Finish::Stop, Finish::Length] {
        add(format!("finish {finish:?}"), format::encode(&finish));
    }
    add("epoch".to_owned(), format::encode(&stored_epoch()));
    add("receipt".to_owned(), format::encode_receipt(&receipt()));
    add("delivery".to_owned(), format::encode(&delivery()));
    add(
        "delivery of rows".to_owned(),
        format::encode(&delivery_of_rows()),
    );
    add("vector".to_owned(), format::vector_bytes(&VECTOR.1));
    for (digest, output) in outputs() {
        let name = format!("output {}", digest.0[0]);
        add(name, format::encode(&StoredValue::of(&output)));
    }
    records
}

fn record_lines() -> String {
    records()
        .iter()
        .fold(String::new(), |mut lines, (name, bytes)| {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("memory");
                hex
            });
            writeln!(lines, "{name}: {hex}").expect("memory");
            lines
        })
}

#[test]
fn records_have_the_bytes_they_had() {
    let name = format!("records-{VERSION}.txt");
    let golden = fs::read_to_string(golden(name)).expect("written with the version");
    let lines = record_lines();
    for (found, golden) in lines.lines().zip(golden.lines()) {
        assert_eq!(
            found, golden,
            "a stored structure has changed: a new version"
        );
    }
    assert_eq!(lines, golden, "a record came or went");
}

/// Cases that came behind the last of an enumeration since the version began: no older one is written
/// otherwise for them.
#[test]
fn cases_that_were_added_stand_behind_the_others() {
    assert_eq!(format::encode(&Rung::Append), [6]);
}

/// How many passages were read stands behind a structure: who does not know it reads the rest, and what is
/// without it is read.
#[test]
fn what_stands_behind_a_structure_is_read_by_who_knows_it() {
    let plain = answers().remove("exact").expect("there");
    let counted = StoredAnswer {
        passages: Some(PassagesRead::all(300).chosen_from(Some(70_000))),
        ..plain.clone()
    };
    let bytes = format::encode_answer(&counted);
    assert_eq!(format::decode_answer(&bytes).expect("whole"), counted);
    let older: StoredAnswer = format::decode("an answer", &bytes).expect("whole");
    assert_eq!(older, plain);
    let bytes = format::encode_answer(&plain);
    assert_eq!(bytes, format::encode(&plain));
    assert_eq!(format::decode_answer(&bytes).expect("whole"), plain);

    let plain = delivery();
    assert_eq!(format::encode_delivery(&plain), format::encode(&plain));
    let mut counted = plain.clone();
    let answers = counted
        .rows
        .iter_mut()
        .filter_map(|row| row.output.as_mut());
    for output in answers.skip(1) {
        if let Output::Answer(answer) = output {
            answer.passages = Some((3, 300));
        }
    }
    assert_ne!(counted, plain);
    let bytes = format::encode_delivery(&counted);
    assert_eq!(format::decode_delivery(&bytes).expect("whole"), counted);
    let older: Delivery = format::decode("a delivery", &bytes).expect("whole");
    assert_eq!(older, plain);
    let cut = &bytes[..bytes.len() - 1];
    assert!(format::decode_delivery(cut).is_err());
}

/// What did not change with a version is read as it was written.
#[test]
fn records_of_older_versions_are_read() {
    let present = record_lines();
    let of_each = [
        (3, &["delivery", "receipt", "row", "resubmitted 1"][..]),
        (4, &["delivery", "row", "resubmitted 1"]),
        (5, &["delivery"]),
        (6, &["delivery"]),
    ];
    for (version, changed) in of_each {
        let golden = fs::read_to_string(golden(format!("records-{version}.txt"))).expect("there");
        let is_same = |line: &&str| !changed.iter().any(|name| line.starts_with(name));
        let lines = golden.lines().filter(is_same);
        assert!(lines.clone().count() > 20);
        for line in lines {
            assert!(present.lines().any(|present| present == line), "{line}");
        }
    }
}

/// A copy of a golden directory, which opening may change.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::copy(golden(name).join(FILE), dir.path().join(FILE)).expect("there");
    dir
}

/// What a directory of any version holds that could hold it.
fn assert_holds_rows_and_answers(state: &State, rows: BTreeMap<&str, StoredRow>, streams: &[&str]) {
    let restored = state.restore().expect("whole");
    assert_eq!(restored.epoch, Some(EPOCH));
    let expected: BTreeMap<String, StoredRow> = rows
        .into_iter()
        .map(|(key, row)| (key.to_owned(), row))
        .collect();
    assert_eq!(restored.rows.len(), 1);
    assert_eq!(restored.rows["docs"], expected);
    assert_eq!(restored.offsets.len(), streams.len());
    for stream in streams {
        assert_eq!(restored.offsets[*stream], offsets()[stream], "{stream}");
    }
    assert_eq!(
        restored.views.into_iter().collect::<Vec<_>>(),
        [("answers".to_owned(), VIEW)]
    );
    let expected: BTreeMap<ContextKey, StoredAnswer> = answers()
        .into_iter()
        .map(|(context, answer)| (ContextKey::new(context), answer))
        .collect();
    assert_eq!(restored.answers["answers"], expected);
    let found = state.vector(&VectorDigest(VECTOR.0));
    assert_eq!(found.as_deref(), Some(&VECTOR.1[..]));
}

/// What a directory of this version holds besides.
fn assert_holds_columns(state: &State) {
    let restored = state.restore().expect("whole");
    let of = |(stream, schema): (&str, _)| (stream.to_owned(), schema);
    assert_eq!(restored.schemas, schemas().into_iter().map(of).collect());
}

/// What a directory of version 7 holds besides, and one of this version.
fn assert_holds_what_sinks_have(state: &State) {
    let restored = state.restore().expect("whole");
    let given = [("a".to_owned(), [11; 32]), ("b".to_owned(), [12; 32])];
    assert_eq!(restored.upserts["totals"], BTreeMap::from(given));
    assert_eq!(restored.upserts.len(), 1);
    let (view, owed) = &restored.sinks["rows"];
    assert_eq!((&**view, &owed[..]), ("totals", &[delivery_of_rows()][..]));
}

/// What a directory of version 6 holds besides, and one of this version.
fn assert_holds_outputs(state: &State) {
    for (digest, output) in outputs() {
        assert_eq!(state.output(&digest), Some(output));
    }
    assert_eq!(state.output(&TaskDigest([99; 32])), None);
}

/// What a directory holds besides, of any version since 3.
fn assert_holds_what_is_owed_and_refused(state: &State) {
    let restored = state.restore().expect("whole");
    assert_eq!(restored.origin, ORIGIN);
    assert_eq!(
        (restored.quarantine, restored.next_quarantined),
        (refusals(), 5)
    );
    assert_eq!(restored.resubmitted, resubmitted());
    let of_answers = |(_, (view, _)): &(String, (String, Vec<Delivery>))| view == "answers";
    let sinks = restored.sinks.into_iter().filter(of_answers);
    let sinks: BTreeMap<_, _> = sinks.collect();
    let sink = |owed: &[Delivery]| ("answers".to_owned(), owed.to_vec());
    let next = Delivery {
        epoch: EPOCH + 1,
        ..delivery()
    };
    let expected = [
        ("behind".to_owned(), sink(&[delivery(), next])),
        ("level".to_owned(), sink(&[])),
    ];
    assert_eq!(sinks, BTreeMap::from(expected));
}

/// A copy of a directory of any version since 5, and what all of these hold.
fn opened(name: &str) -> (tempfile::TempDir, State) {
    let dir = copy(name);
    let state = State::open(dir.path()).expect("opens");
    let streams: Vec<_> = offsets().into_keys().collect();
    assert_holds_rows_and_answers(&state, rows(), &streams);
    assert_holds_what_is_owed_and_refused(&state);
    (dir, state)
}

#[test]
fn a_state_of_this_version_holds_what_was_written() {
    let (dir, state) = opened(&format!("state-{VERSION}"));
    assert_holds_outputs(&state);
    assert_holds_what_sinks_have(&state);
    assert_holds_columns(&state);
    drop(state);
    assert_holds_its_history(dir.path(), &rows());
}

#[test]
fn a_state_of_version_7_becomes_one_of_this_version() {
    let (dir, state) = opened("state-7");
    assert_holds_outputs(&state);
    assert_holds_what_sinks_have(&state);
    assert_eq!(version(&state), Some(VERSION));
    // Nobody knows which columns were declared.
    assert!(state.restore().expect("whole").schemas.is_empty());
    drop(state);
    assert_holds_its_history(dir.path(), &rows());
}

#[test]
fn a_state_of_version_6_becomes_one_of_this_version() {
    let (dir, state) = opened("state-6");
    assert_holds_outputs(&state);
    assert_eq!(version(&state), Some(VERSION));
    assert!(state.restore().expect("whole").upserts.is_empty());
    drop(state);
    assert_holds_its_history(dir.path(), &rows());
}

#[test]
fn a_state_of_version_5_becomes_one_of_this_version() {
    let (dir, state) = opened("state-5");
    assert_eq!(version(&state), Some(VERSION));
    assert_eq!(state.output(&TaskDigest([1; 32])), None);
    drop(state);
    assert_holds_its_history(dir.path(), &rows());
}

/// The epoch before, of any version since 4.
fn assert_holds_its_history(dir: &Path, rows: &BTreeMap<&str, StoredRow>) {
    assert_eq!(receipts(dir).expect("whole"), [receipt()]);
    let before = as_of(dir, AsOf::Epoch(EPOCH - 1)).expect("in the history");
    assert_eq!(before.committed_at_ms, Some(COMMITTED_AT_MS));
    let texts = |of: &StateAsOf| -> Vec<String> {
        let rows = of.documents["docs"].iter();
        rows.map(|document| document.text.to_string()).collect()
    };
    assert_eq!(texts(&before), [OLDER]);
    assert!(before.answers.is_empty(), "{:?}", before.answers);
    let present = as_of(dir, AsOf::Present).expect("in the history");
    let expected: Vec<String> = rows.values().map(|row| row.text.to_string()).collect();
    assert_eq!(texts(&present), expected);
}

/// Bytes of the history: of all of it, and of each epoch.
fn history_bytes(state: &State) -> (u64, Vec<u64>) {
    let read = state.read(|txn| {
        let manifest = txn.open_table(MANIFEST)?;
        let n_bytes = manifest.get(HISTORY_BYTES_KEY)?.map_or(0, |n| n.value());
        let mut of_epochs = Vec::new();
        for entry in txn.open_table(EPOCHS)?.iter()? {
            let entry: StoredEpoch = format::decode("an epoch", entry?.1.value())?;
            of_epochs.push(entry.n_undo_bytes);
        }
        Ok((n_bytes, of_epochs))
    });
    read.expect("whole")
}

#[test]
fn a_state_of_version_4_becomes_one_of_this_version() {
    let dir = copy("state-4");
    let state = State::open(dir.path()).expect("opens");
    let streams: Vec<_> = offsets().into_keys().collect();
    assert_holds_rows_and_answers(&state, rows_of_4(), &streams);
    assert_holds_what_is_owed_and_refused(&state);
    assert_eq!(version(&state), Some(VERSION));
    // Of the row that is in the present version's only, nothing was there before.
    let n_bytes = n_undo_bytes() - ("docs".len() + "columned".len()) as u64;
    assert_eq!(history_bytes(&state), (n_bytes, vec![0, n_bytes]));
    drop(state);
    assert_holds_its_history(dir.path(), &rows_of_4());
    // It is what it became.
    let again = State::open(dir.path()).expect("opens");
    assert_holds_rows_and_answers(&again, rows_of_4(), &streams);
}

#[test]
fn a_state_of_version_3_becomes_one_of_this_version() {
    let dir = copy("state-3");
    let state = State::open(dir.path()).expect("opens");
    assert_holds_rows_and_answers(&state, rows_of_4(), &offsets_of_3());
    assert_holds_what_is_owed_and_refused(&state);
    assert_eq!(version(&state), Some(VERSION));
    drop(state);
    let before = Receipt {
        n_epochs: 0,
        ..receipt()
    };
    assert_eq!(receipts(dir.path()).expect("whole"), [before]);
    let past = as_of(dir.path(), AsOf::Epoch(EPOCH - 1));
    assert!(matches!(past, Err(StateError::NotInHistory { .. })));
}

fn version(state: &State) -> Option<u64> {
    let version = state.read(|txn| {
        let format = txn.open_table(FORMAT)?;
        Ok(format.get(VERSION_KEY)?.map(|version| version.value()))
    });
    version.expect("whole")
}

#[test]
fn a_state_of_version_2_becomes_one_of_this_version() {
    let dir = copy("state-2");
    let first = State::open(dir.path()).expect("opens");
    assert_holds_rows_and_answers(&first, rows_of_4(), &FIRST_OFFSETS);
    let restored = first.restore().expect("whole");
    assert!(restored.quarantine.is_empty() && restored.sinks.is_empty());
    assert_eq!(version(&first), Some(VERSION));
    drop(first);
    // It keeps the origin that it was given.
    let again = State::open(dir.path()).expect("opens");
    assert_eq!(again.restore().expect("whole").origin, restored.origin);
}

#[test]
fn a_state_of_version_1_is_refused_by_its_number() {
    let dir = copy("state-1");
    let refused = State::open(dir.path()).map(|_| ());
    assert!(
        matches!(refused, Err(StateError::Older { found: 1, .. })),
        "{refused:?}"
    );
}

#[test]
fn who_only_looks_at_a_golden_state_leaves_it_as_it_is() {
    for (version, n_rows) in [
        (1, None),
        (2, Some(2)),
        (3, Some(2)),
        (4, Some(2)),
        (5, Some(3)),
        (6, Some(3)),
        (7, Some(3)),
        (8, Some(3)),
    ] {
        let dir = golden(format!("state-{version}"));
        let before = fs::read(dir.join(FILE)).expect("there");
        let found = check(&dir)
            .map(|found| (found.n_rows, found.was_closed))
            .ok();
        assert_eq!(
            found,
            n_rows.map(|n_rows| (n_rows, true)),
            "version {version}"
        );
        assert_eq!(receipts(&dir).is_ok(), n_rows.is_some());
        assert_eq!(quarantine(&dir).is_ok(), n_rows.is_some());
        assert!(
            before == fs::read(dir.join(FILE)).expect("there"),
            "version {version}"
        );
    }
}

/// Writes the golden files of the present version, if it has none.
#[test]
#[ignore = "writes files of this repository; see the module's documentation"]
fn write() {
    let records = golden(format!("records-{VERSION}.txt"));
    if !records.exists() {
        fs::write(records, record_lines()).expect("writable");
    }
    let dir = golden(format!("state-{VERSION}"));
    if !dir.exists() {
        fs::create_dir_all(&dir).expect("writable");
        write_present(&dir);
    }
}

fn write_present(dir: &Path) {
    let state = State::open(dir).expect("opens");
    let digest = VectorDigest(VECTOR.0);
    // Who asks for a vector keeps it.
    assert_eq!(state.vector(&digest), None);
    state.embedded(&digest, &VECTOR.1);
    for (digest, output) in outputs() {
        assert_eq!(state.output(&digest), None);
        state.performed(&digest, &output);
    }
    let sink = |name, view, snapshot| DeclaredSink {
        name,
        view,
        is_waiting: false,
        snapshot,
    };
    let first = delivery();
    let sinks = [
        sink("behind", "answers", Some(Some(&first))),
        sink("level", "answers", Some(None)),
    ];
    state.declare_sinks(&sinks).expect("writable");
    let next = Delivery {
        epoch: EPOCH + 1,
        ..delivery()
    };
    let refusals = refusals().into_iter();
    let refusals = refusals.map(|refused| (refused.number, Some(refused)));
    let rows = rows();
    let older = StoredRow {
        text: text(OLDER),
        ..rows["full"].clone()
    };
    state
        .commit(&Commit {
            epoch: EPOCH - 1,
            at_ms: COMMITTED_AT_MS,
            rows: vec![("docs", "full", Some(&older))],
            offsets: Vec::new(),
            deletions: Vec::new(),
            schemas: Vec::new(),
            views: Vec::new(),
            answers: Vec::new(),
            knows_uses: true,
            quarantine: &Default::default(),
            resubmitted: &[],
            deliveries: Vec::new(),
            merged: Vec::new(),
            given: Vec::new(),
            begun: vec![("rows", "totals")],
        })
        .expect("writable");
    let of_rows = delivery_of_rows();
    state
        .commit(&Commit {
            epoch: EPOCH,
            at_ms: COMMITTED_AT_MS,
            rows: rows
                .iter()
                .map(|(key, row)| ("docs", *key, Some(row)))
                .collect(),
            offsets: offsets()
                .into_iter()
                .map(|(stream, offset)| (stream, Some(offset)))
                .collect(),
            deletions: Vec::new(),
            schemas: schemas()
                .into_iter()
                .map(|(stream, schema)| (stream, Some(schema)))
                .collect(),
            views: vec![("answers", Some(VIEW))],
            answers: answers()
                .into_iter()
                .map(|(context, answer)| ("answers", ContextKey::new(context), Some(answer)))
                .collect(),
            knows_uses: true,
            quarantine: &refusals.collect(),
            resubmitted: &[],
            deliveries: vec![("behind", &next), ("rows", &of_rows)],
            merged: Vec::new(),
            given: vec![
                ("totals", "a", Some([11; 32])),
                ("totals", "b", Some([12; 32])),
            ],
            begun: Vec::new(),
        })
        .expect("writable");
    state.keep_receipts([&receipt()]).expect("writable");
    state
        .write(|txn| {
            txn.open_table(MANIFEST)?.insert(ORIGIN_KEY, ORIGIN)?;
            let mut table = txn.open_table(RESUBMITTED)?;
            for (number, row) in resubmitted() {
                table.insert(number, format::encode(&row).as_slice())?;
            }
            Ok(())
        })
        .expect("writable");
}
