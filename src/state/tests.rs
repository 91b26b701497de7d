//! Commits on disks that fail: full, cut off at any write, or lying about what they have synced.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use perennial_connectors::{Delivery, Offset, OutputRow};
use perennial_rows::{Column, Schema, Type};
use proptest::prelude::*;
use redb::{Database, StorageBackend};

use super::format::{StoredRow, StoredSchema};
use super::{Commit, Restored, State, StateError, open_database};
use crate::engine::Quarantined;

/// A disk in memory whose failures are scripted. Clones share it.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// As a process sees it.
    bytes: Vec<u8>,
    /// As it is after a crash, before any of `since`.
    synced: Vec<u8>,
    /// What was written since the last sync that was kept.
    since: Vec<Write>,
    /// The disk has no room beyond this; none if it is endless.
    room: Option<u64>,
    /// Writes and syncs until the power fails; none if it does not.
    until_power_fails: Option<usize>,
    /// Whether a sync keeps nothing.
    is_lying: bool,
}

#[derive(Clone, Debug)]
enum Write {
    At(u64, Vec<u8>),
    Len(u64),
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::At(at, data) => {
                let at = usize::try_from(*at).expect("small");
                let end = at + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[at..end].copy_from_slice(data);
            }
            Self::Len(len) => bytes.resize(usize::try_from(*len).expect("small"), 0),
        }
    }
}

impl Platter {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.until_power_fails {
            Some(0) => Err(io::Error::other("the power is out")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn take(&mut self, write: Write) {
        write.apply(&mut self.bytes);
        self.since.push(write);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("sound").bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().expect("sound");
        let at = usize::try_from(offset).expect("small");
        let found = platter.bytes.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock().expect("sound");
        platter.step()?;
        if platter.room.is_some_and(|room| len > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.take(Write::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().expect("sound");
        platter.step()?;
        if !platter.is_lying {
            platter.since.clear();
            platter.synced = platter.bytes.clone();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().expect("sound");
        platter.step()?;
        platter.take(Write::At(offset, data.to_vec()));
        Ok(())
    }
}

impl Disk {
    fn with(&self, change: impl FnOnce(&mut Platter)) {
        change(&mut self.0.lock().expect("sound"));
    }

    /// The power comes back: of what was not synced, these writes had arrived.
    fn after_a_crash(&self, has_arrived: impl Fn(usize) -> bool) -> Self {
        let platter = self.0.lock().expect("sound");
        let mut bytes = platter.synced.clone();
        for (i, write) in platter.since.iter().enumerate() {
            if has_arrived(i) {
                write.apply(&mut bytes);
            }
        }
        let after = Self::default();
        after.with(|platter| {
            platter.synced = bytes.clone();
            platter.bytes = bytes;
        });
        after
    }

    fn open(&self) -> Result<State, StateError> {
        let path = Path::new("disk");
        let open = || Database::builder().create_with_backend(self.clone());
        State::over(path.to_owned(), open_database(path, open)?)
    }
}

/// Commits epoch `epoch`: a row that all others depend on, and something in every table.
pub(super) fn commit(state: &State, epoch: u64) -> Result<(), StateError> {
    let row = StoredRow {
        text: format!("text of {epoch} ").repeat(40).into(),
        updated_at_ms: i64::try_from(epoch).expect("small"),
        ..StoredRow::default()
    };
    let delivery = Delivery {
        origin: 1,
        view: "answers".to_owned(),
        epoch,
        rows: vec![OutputRow {
            key: "q".to_owned(),
            output: None,
        }],
    };
    let refused = Quarantined {
        number: epoch,
        stream: "docs".to_owned(),
        place: "here".to_owned(),
        key: None,
        reason: "bad".to_owned(),
        refused_at_ms: 0,
        content: None,
        is_standing: false,
    };
    state.commit(&Commit {
        epoch,
        at_ms: row.updated_at_ms,
        rows: vec![
            ("docs", "last", Some(&row)),
            ("docs", &format!("k{epoch}"), Some(&row)),
            ("docs", &format!("k{}", epoch.saturating_sub(3)), None),
        ],
        offsets: vec![("docs", Some(Offset::Sequence(epoch)))],
        deletions: Vec::new(),
        schemas: vec![("docs", Some(schema_of(epoch)))],
        views: Vec::new(),
        answers: Vec::new(),
        knows_uses: true,
        quarantine: &vec![(epoch, Some(refused))],
        resubmitted: &[],
        deliveries: vec![("sink", &delivery)],
        merged: vec![("away", &delivery)],
        given: vec![("totals", "q", Some([7; 32]))],
        begun: vec![("new", "totals")],
    })
}

/// Other columns in every epoch.
fn schema_of(epoch: u64) -> StoredSchema {
    StoredSchema::of(Some(&Schema::new([Column::new(
        format!("c{epoch}"),
        Type::Integer,
    )])))
}

/// Which epoch stands, all of it and nothing else.
fn epoch_of(restored: &Restored) -> Result<Option<u64>, String> {
    let Some(epoch) = restored.epoch else {
        let is_empty = restored.rows.is_empty() && restored.offsets.is_empty();
        return is_empty
            .then_some(None)
            .ok_or("rows of no epoch".to_owned());
    };
    let offset = restored.offsets.get("docs");
    if restored.schemas.get("docs") != Some(&schema_of(epoch)) {
        return Err("columns of another epoch".to_owned());
    }
    if offset != Some(&Offset::Sequence(epoch)) {
        return Err(format!("epoch {epoch} with offset {offset:?}"));
    }
    let mut expected = BTreeMap::new();
    for e in 0..=epoch {
        expected.insert("last".to_owned(), e);
        expected.insert(format!("k{e}"), e);
        expected.remove(&format!("k{}", e.saturating_sub(3)));
    }
    let rows = restored.rows.get("docs").into_iter().flatten();
    let found: BTreeMap<String, u64> = rows
        .map(|(key, row)| {
            (
                key.clone(),
                u64::try_from(row.updated_at_ms).expect("positive"),
            )
        })
        .collect();
    if found != expected {
        return Err(format!("epoch {epoch} with rows {found:?}"));
    }
    let n_refused = restored.quarantine.len() as u64;
    if n_refused != epoch + 1 {
        return Err(format!("epoch {epoch} with {n_refused} refusals"));
    }
    Ok(Some(epoch))
}

#[test]
fn a_full_disk_fails_the_commit_and_leaves_the_epoch_before() {
    let disk = Disk::default();
    let state = disk.open().expect("opens");
    commit(&state, 0).expect("room");
    let n_bytes = disk.len().expect("known");
    disk.with(|platter| platter.room = Some(n_bytes));
    let mut n_committed = 1;
    let error = loop {
        match commit(&state, n_committed) {
            Ok(()) => n_committed += 1,
            Err(error) => break error,
        }
        assert!(n_committed < 100_000, "the disk never fills");
    };
    assert!(matches!(error, StateError::Write { .. }), "{error}");
    drop(state);
    let again = disk.after_a_crash(|_| true).open().expect("whole");
    let restored = again.restore().expect("whole");
    assert_eq!(epoch_of(&restored), Ok(Some(n_committed - 1)));
    // With room again, it goes on.
    commit(&again, n_committed).expect("room");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The power fails at any write or sync, and of what was not synced anything may have
    /// arrived: what stands is the last epoch committed, or the one that was being committed.
    #[test]
    fn cut_off_at_any_write_one_whole_epoch_stands(
        n_before in 0u64..4, steps in 0usize..60, arrived in any::<u64>(),
    ) {
        let disk = Disk::default();
        let state = disk.open().expect("opens");
        for epoch in 0..n_before {
            commit(&state, epoch).expect("powered");
        }
        disk.with(|platter| platter.until_power_fails = Some(steps));
        let mut committed = n_before.checked_sub(1);
        for epoch in n_before..n_before + 3 {
            if commit(&state, epoch).is_err() {
                break;
            }
            committed = Some(epoch);
        }
        drop(state);
        let after = disk.after_a_crash(|i| arrived >> (i % 64) & 1 == 1);
        let restored = after.open().and_then(|state| state.restore());
        let found = epoch_of(&restored.map_err(|e| TestCaseError::fail(e.to_string()))?);
        let next = Some(committed.map_or(0, |epoch| epoch + 1));
        prop_assert!(found == Ok(committed) || found == Ok(next), "{found:?} after {committed:?}");
    }

    /// A disk that keeps nothing when it is told to: afterwards one whole epoch stands, or the
    /// state is refused; it is never a mixture, and nobody panics.
    #[test]
    fn a_disk_that_lies_costs_epochs_and_never_mixes_them(
        n_honest in 0u64..3, n_lied in 1u64..4, arrived in any::<u64>(), kept in 0usize..80,
    ) {
        let disk = Disk::default();
        let state = disk.open().expect("opens");
        for epoch in 0..n_honest {
            commit(&state, epoch).expect("powered");
        }
        disk.with(|platter| platter.is_lying = true);
        for epoch in n_honest..n_honest + n_lied {
            commit(&state, epoch).expect("it says so");
        }
        drop(state);
        let after = disk.after_a_crash(|i| i < kept && arrived >> (i % 64) & 1 == 1);
        if let Ok(restored) = after.open().and_then(|state| state.restore()) {
            let found = epoch_of(&restored);
            prop_assert!(found.is_ok(), "{found:?}");
        }
    }
}

#[test]
fn variants_of_offsets_keep_their_numbers() {
    let number = |offset: &Offset| super::format::encode(offset)[0];
    assert_eq!(number(&Offset::Sequence(0)), 3);
    assert_eq!(number(&Offset::Parts(BTreeMap::new())), 6);
    assert_eq!(
        super::format::encode(&Offset::Posted { run: 1, last: 2 }),
        [9, 1, 2]
    );
}
