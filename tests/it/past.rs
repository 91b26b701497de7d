//! What stood at earlier epochs, as far back as a state directory remembers.

use std::collections::BTreeMap;
use std::path::Path;

use perennial::ask::scripted::Scripted;
use perennial::bank::ContextKey;
use perennial::engine::CurrentAnswer;
use perennial::state::{self, AsOf, StateAsOf, StateError};
use perennial::{Edit, Engine, EngineBuilder, Error, Policy};
use proptest::prelude::*;

use crate::rig::{Rig, view};

/// Answers by context with whether they are exact, and rows by stream and key.
pub(crate) type Told = (
    BTreeMap<String, (String, bool)>,
    BTreeMap<(String, String), String>,
);

/// Upsert (of the text with this number) or delete of a document or a question.
#[derive(Clone, Debug)]
struct Change {
    is_document: bool,
    key: u8,
    value: Option<u8>,
}

impl Change {
    fn row(&self) -> ((String, String), Option<String>) {
        let stream = if self.is_document {
            "docs"
        } else {
            "questions"
        };
        let text = self.value.map(|value| match self.is_document {
            true => format!("word{value} stands here. And word{} too.", value / 2),
            false => format!("word{value}"),
        });
        ((stream.to_owned(), self.key.to_string()), text)
    }

    fn edit(&self, at: i64) -> Edit {
        let ((stream, key), text) = self.row();
        match text {
            Some(text) => Edit::upsert(stream, key, text).at(at),
            None => Edit::delete(stream, key),
        }
    }
}

fn changes() -> impl Strategy<Value = Change> {
    let value = prop::option::weighted(0.7, 0u8..9);
    (prop::bool::weighted(0.7), 0u8..5, value).prop_map(|(is_document, key, value)| Change {
        is_document,
        key,
        value,
    })
}

fn start(dir: &Path, declare: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Rig {
    Rig::start(Scripted::borrowing(), |builder| {
        declare(builder.table("docs").table("questions").state(dir))
    })
}

fn tables(dir: &Path) -> Rig {
    start(dir, |builder| builder.view(view(2000)))
}

fn said<'a>(
    answers: impl IntoIterator<Item = (&'a ContextKey, &'a CurrentAnswer)>,
) -> BTreeMap<String, (String, bool)> {
    let said = answers.into_iter().map(|(context, current)| {
        let text = current.answer.as_ref().expect("no errors").text.to_string();
        (context.to_string(), (text, current.drift.is_none()))
    });
    said.collect()
}

pub(crate) fn told(state: &StateAsOf) -> Told {
    let answers = said(state.answers.get("answers").into_iter().flatten());
    let rows = state.documents.iter().flat_map(|(stream, rows)| {
        let row = |row: &perennial::bank::Document| {
            ((stream.clone(), row.key.to_string()), row.text.to_string())
        };
        rows.iter().map(row).collect::<Vec<_>>()
    });
    (answers, rows.collect())
}

fn oldest(error: &StateError) -> Option<u64> {
    match error {
        StateError::NotInHistory { oldest, .. } => *oldest,
        error => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is inserted, updated and deleted, and however often the engine is started anew:
    /// every epoch that the history holds is told as the engine told it then.
    #[test]
    fn any_epoch_in_the_history_is_told_as_it_was(
        parts in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(changes(), 1..4), 1..7), 1..4),
        n_epochs in prop::sample::select(vec![0u64, 1, 2, 5, 1000]),
        policy in prop::sample::select(vec![Policy::Exact, Policy::Eventual, Policy::Append]),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut rows, mut history) = (BTreeMap::new(), BTreeMap::<u64, Told>::new());
        for (part, at) in parts.iter().zip((0i64..).step_by(100)) {
            let rig = start(dir.path(), |builder| {
                builder.view(view(2000).policy(policy)).history(n_epochs)
            });
            let nothing = Vec::new();
            let batches = std::iter::once(&nothing).chain(part);
            for (batch, at) in batches.zip(at..) {
                for change in batch {
                    let (key, text) = change.row();
                    match text {
                        Some(text) => rows.insert(key, text),
                        None => rows.remove(&key),
                    };
                }
                let edits = batch.iter().map(|change| change.edit(at)).collect();
                rig.engine.apply(edits).expect("runs");
                if let Some(epoch) = rig.engine.settle().expect("runs") {
                    let answers = rig.engine.answers("answers").expect("runs");
                    let answers = said(answers.iter().map(|(context, answer)| (context, answer)));
                    history.insert(epoch, (answers, rows.clone()));
                }
            }
            let Some(newest) = history.keys().next_back().copied() else {
                continue;
            };
            let held = rig.engine.history().expect("whole");
            let first_held = held.first().map_or(newest, |entry| entry.epoch);
            for (epoch, expected) in &history {
                match rig.engine.as_of(AsOf::Epoch(*epoch)) {
                    Ok(found) => {
                        prop_assert!(*epoch >= first_held, "epoch {epoch} of {newest}");
                        prop_assert_eq!(found.epoch, *epoch);
                        prop_assert_eq!(&told(&found), expected, "epoch {}", epoch);
                    }
                    Err(Error::State(error)) => {
                        prop_assert_eq!(oldest(&error), Some(first_held));
                        prop_assert!(*epoch < first_held, "{error}");
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                }
            }
        }
        if let Some((newest, expected)) = history.last_key_value() {
            let found = state::as_of(dir.path(), AsOf::Present).expect("whole");
            prop_assert_eq!((found.epoch, &told(&found)), (*newest, expected));
            let listed = state::history(dir.path()).expect("whole");
            // As many as changed something, or more: not each change stands at the end of a batch.
            let told: Vec<&Told> = history.values().collect();
            let n_changes = told.windows(2).filter(|two| two[0] != two[1]).count() as u64 + 1;
            let n_listed = listed.len() as u64;
            prop_assert!(n_listed >= n_epochs.min(n_changes), "{n_listed} of {n_changes}");
            prop_assert!(n_listed <= n_epochs.min(newest + 1), "{n_listed} of {newest}");
            prop_assert_eq!(state::check(dir.path()).expect("whole").n_epochs, listed.len());
        }
    }
}

#[test]
fn what_each_epoch_changed_is_listed_and_a_time_names_the_last_epoch_by_then() {
    let dir = tempfile::tempdir().expect("a folder");
    let rig = tables(dir.path());
    rig.engine
        .apply(vec![
            Edit::upsert("docs", "hours", "The library opens at nine."),
            Edit::upsert("docs", "pets", "Dogs wait outside."),
            Edit::upsert("questions", "q", "library"),
            Edit::upsert("questions", "r", "Dogs"),
        ])
        .expect("runs");
    rig.engine.flush().expect("runs");
    rig.engine
        .apply(vec![
            Edit::upsert("docs", "hours", "The library opens at ten."),
            Edit::delete("docs", "pets"),
            Edit::delete("questions", "r"),
        ])
        .expect("runs");
    rig.engine.flush().expect("runs");
    drop(rig);
    let listed = state::history(dir.path()).expect("whole");
    let [first, second] = &listed[..] else {
        panic!("{listed:?}");
    };
    let rows = |of: &state::HistoryEntry| -> Vec<_> {
        let rows = of.streams.iter();
        rows.map(|s| (s.stream.clone(), s.n_inserted, s.n_updated, s.n_deleted))
            .collect()
    };
    assert_eq!(
        rows(first),
        [("docs".into(), 2, 0, 0), ("questions".into(), 2, 0, 0)]
    );
    assert_eq!(
        rows(second),
        [("docs".into(), 0, 1, 1), ("questions".into(), 0, 0, 1)]
    );
    let answers = |of: &state::HistoryEntry| {
        let views = of.views.iter();
        let counts = views.map(|v| (v.n_new, v.n_changed, v.n_gone));
        counts.collect::<Vec<_>>()
    };
    assert_eq!(
        (answers(first), answers(second)),
        (vec![(2, 0, 0)], vec![(0, 1, 1)])
    );

    let at = |ms: i64| state::as_of(dir.path(), AsOf::Time(ms));
    assert_eq!(
        at(second.committed_at_ms).expect("held").epoch,
        second.epoch
    );
    assert_eq!(at(i64::MAX).expect("held").epoch, second.epoch);
    let before = at(first.committed_at_ms - 1).expect_err("too early");
    assert_eq!(oldest(&before), Some(first.epoch));
    assert!(
        before.to_string().contains("begins with epoch 0"),
        "{before}"
    );
    let later = state::as_of(dir.path(), AsOf::Epoch(7)).expect_err("not yet");
    assert!(later.to_string().contains("ends with epoch 1"), "{later}");
}

#[test]
fn a_restart_that_changes_nothing_is_no_epoch_of_the_history() {
    let dir = tempfile::tempdir().expect("a folder");
    let rig = tables(dir.path());
    let edits = vec![
        Edit::upsert("docs", "hours", "The library opens at nine."),
        Edit::upsert("questions", "q", "library"),
    ];
    rig.engine.apply(edits).expect("runs");
    rig.engine.flush().expect("runs");
    drop(rig);
    let before = state::history(dir.path()).expect("whole");
    let stood = told(&state::as_of(dir.path(), AsOf::Present).expect("whole"));
    let mut newest = None;
    for _ in 0..3 {
        let rig = tables(dir.path());
        newest = rig.engine.flush().expect("runs");
        assert_eq!(rig.model.n_calls(), 0);
        for (_, answer) in rig.engine.answers("answers").expect("runs") {
            assert_eq!(answer.epoch, 0, "it was reached then");
        }
    }
    assert_eq!(newest, Some(3));
    assert_eq!(state::history(dir.path()).expect("whole"), before);
    // Every epoch that was told can be asked for.
    for asked in [
        AsOf::Present,
        AsOf::Epoch(0),
        AsOf::Epoch(2),
        AsOf::Epoch(3),
    ] {
        let found = state::as_of(dir.path(), asked).expect("told");
        assert_eq!(told(&found), stood, "{asked}");
    }
    let rig = tables(dir.path());
    rig.engine
        .upsert("docs", "hours", "The library opens at ten.")
        .expect("runs");
    rig.engine.flush().expect("runs");
    drop(rig);
    let after = state::history(dir.path()).expect("whole");
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    let found = state::as_of(dir.path(), AsOf::Epoch(3)).expect("told");
    assert_eq!((found.epoch, told(&found)), (3, stood));
}

#[test]
fn the_history_keeps_to_its_bytes_and_a_change_beyond_them_begins_it_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let rig = start(dir.path(), |builder| {
        builder.view(view(2000)).history_bytes(10_000)
    });
    let change = |text: &str, n: usize| {
        let edits = (0..n).map(|i| Edit::upsert("docs", i.to_string(), text));
        rig.engine.apply(edits.collect()).expect("runs");
        rig.engine.flush().expect("runs").expect("an epoch")
    };
    let mut newest = 0;
    for i in 0..30 {
        newest = change(&format!("{i:0>1000}"), 1);
    }
    let held = |engine: &Engine, epoch| engine.as_of(AsOf::Epoch(epoch)).is_ok();
    assert!(held(&rig.engine, newest - 8) && !held(&rig.engine, newest - 11));
    let change = |text: &str, n: usize| {
        let edits = (0..n).map(|i| Edit::upsert("docs", i.to_string(), text));
        rig.engine.apply(edits.collect()).expect("runs");
        rig.engine.flush().expect("runs").expect("an epoch")
    };
    let many = "x".repeat(1000);
    // What was not there before takes little.
    change(&many, 40);
    let newest = change("y", 40);
    assert!(held(&rig.engine, newest) && !held(&rig.engine, newest - 1));
    drop(rig);
    let found = state::check(dir.path()).expect("whole");
    assert_eq!((found.epoch, found.n_epochs), (Some(newest), 1));
}

#[test]
fn without_a_state_directory_or_an_epoch_there_is_no_past() {
    let rig = Rig::start(Scripted::new(), |builder| {
        builder.table("docs").table("questions").view(view(2000))
    });
    let error = rig.engine.as_of(AsOf::Present).expect_err("no state");
    assert!(matches!(error, Error::NoState), "{error}");
    let dir = tempfile::tempdir().expect("a folder");
    drop(tables(dir.path()));
    let error = state::as_of(dir.path(), AsOf::Present).expect_err("nothing yet");
    assert_eq!(oldest(&error), None);
    assert!(state::history(dir.path()).expect("whole").is_empty());
}

#[test]
fn changes_applied_together_are_one_epoch() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut rig = tables(dir.path());
    rig.upsert("questions", "q", "library");
    let first = rig.engine.flush().expect("runs").expect("an epoch");
    for round in 0..20 {
        let edits = (0..50).map(|i| Edit::upsert("docs", format!("{round}/{i}"), "The library."));
        rig.engine.apply(edits.collect()).expect("runs");
    }
    let last = rig.engine.flush().expect("runs").expect("an epoch");
    for epoch in first..=last {
        let stood = rig.engine.as_of(AsOf::Epoch(epoch)).expect("held");
        let n_documents = stood.documents.get("docs").map_or(0, Vec::len);
        assert_eq!(n_documents % 50, 0, "epoch {epoch}");
    }
    let wrong = vec![
        Edit::upsert("docs", "z", "Not this one."),
        Edit::upsert("nowhere", "z", "For that one."),
    ];
    assert!(matches!(
        rig.engine.apply(wrong),
        Err(Error::UnknownStream { .. })
    ));
    assert_eq!(rig.engine.flush().expect("runs"), Some(last));
}

#[test]
fn a_state_of_format_3_becomes_this_one_with_its_origin_and_receipts() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = tables(dir.path());
    first.upsert("docs", "hours", "The library opens at nine.");
    first.upsert("docs", "pets", "Dogs wait outside.");
    first.upsert("questions", "q", "library");
    first.texts();
    let receipt = first.engine.forget("docs", "pets").expect("forgets");
    let right = first.texts();
    drop(first);
    let file = redb::Database::open(dir.path().join("state.redb")).expect("whole");
    let txn = file.begin_write().expect("writable");
    for name in ["epochs", "undo_rows", "undo_answers"] {
        let table = redb::TableDefinition::<&str, &str>::new(name);
        assert!(txn.delete_table(table).expect("writable"), "{name}");
    }
    let numbers = |name| redb::TableDefinition::<&str, u64>::new(name);
    let origin = {
        let mut format = txn.open_table(numbers("format")).expect("there");
        format.insert("version", 3).expect("writable");
        let mut manifest = txn.open_table(numbers("manifest")).expect("there");
        assert!(
            manifest
                .remove("history_bytes")
                .expect("writable")
                .is_some()
        );
        let origin = manifest.remove("origin").expect("writable");
        let origin = origin.expect("there").value();
        manifest.insert("origin", origin).expect("writable");
        // The fields of that format, in their order.
        let old = (
            (&receipt.stream, &receipt.key, receipt.was_there),
            (receipt.forgotten_at_ms, receipt.epoch),
            (receipt.n_fragments, receipt.n_answers),
            (receipt.n_rejected, receipt.n_updates),
            (receipt.n_state_bytes, &receipt.remains),
        );
        let old = postcard::to_allocvec(&old).expect("encodes");
        let receipts = redb::TableDefinition::<u64, &[u8]>::new("receipts");
        let mut receipts = txn.open_table(receipts).expect("there");
        receipts.insert(0, old.as_slice()).expect("writable");
        origin
    };
    txn.commit().expect("writable");
    drop(file);

    let mut again = tables(dir.path());
    assert_eq!((again.texts(), again.model.n_calls()), (right, 0));
    // The history begins with what was committed since.
    let newest = again.engine.flush().expect("runs").expect("an epoch");
    assert!(again.engine.as_of(AsOf::Epoch(newest)).is_ok());
    assert!(again.engine.as_of(AsOf::Epoch(newest - 1)).is_err());
    drop(again);
    let file = redb::Database::open(dir.path().join("state.redb")).expect("whole");
    let txn = redb::ReadableDatabase::begin_read(&file).expect("readable");
    let manifest = txn.open_table(numbers("manifest")).expect("there");
    let kept = redb::ReadableTable::get(&manifest, "origin").expect("readable");
    assert_eq!(kept.map(|origin| origin.value()), Some(origin));
    drop((txn, manifest, file));
    let kept = state::receipts(dir.path()).expect("whole");
    assert_eq!(kept, [state_receipt_without_history(receipt)]);
}

/// A receipt as format 3 knew it.
fn state_receipt_without_history(
    receipt: perennial::engine::Receipt,
) -> perennial::engine::Receipt {
    perennial::engine::Receipt {
        n_epochs: 0,
        ..receipt
    }
}
