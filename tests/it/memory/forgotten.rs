//! Nothing is left of what is gone, and a receipt claims no more than was looked for.

use perennial::Error;
use perennial::ask::scripted::Scripted;
use perennial::connectors::{Folder, Watching};
use perennial::memory::{Bank, ForgetBy, Memory, MemoryError, NewEntry, Recall};
use perennial::sql::{Script, Session};

use super::{declare, keys, memory, standing};
use crate::rig::Rig;

#[test]
fn what_is_forgotten_is_nowhere_and_the_receipt_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = || {
        let builder = declare(Rig::builder(Scripted::new())).state(dir.path());
        let engine = builder.start().expect("starts");
        let bank = Bank::create(&engine, memory()).expect("is declared");
        bank.flush().expect("runs");
        (engine, bank)
    };
    let (engine, bank) = start();
    let secret = "Zyzzyva is the password of the attic.";
    bank.store_all([
        // The same words twice, and one that is superseded: rows that do not stand.
        NewEntry::new(secret)
            .key("a")
            .namespace("desk")
            .writer("ada")
            .session("s")
            .at(1),
        NewEntry::new(secret.to_uppercase())
            .key("b")
            .namespace("desk")
            .writer("ada")
            .at(2),
        NewEntry::new("Zyzzyva again.")
            .key("c")
            .namespace("desk")
            .writer("ada")
            .at(1),
        NewEntry::new("All is well.")
            .key("d")
            .namespace("desk")
            .writer("bob")
            .at(3)
            .superseding(["c"]),
    ])
    .expect("is stored");
    bank.grant("desk", "eve").expect("runs");
    bank.flush().expect("runs");
    let receipt = bank
        .forget(&ForgetBy::Writer("ada".into()))
        .expect("is forgotten");
    assert_eq!(
        (receipt.n_records, receipt.remains.len()),
        (3, 0),
        "{receipt:?}"
    );
    assert_eq!(standing(&bank).len(), 1);
    let none = bank.forget(&ForgetBy::Session("s".into())).expect("runs");
    assert_eq!(none.n_records, 0);
    let key = bank.forget(&ForgetBy::Key("a".into())).expect("runs");
    assert_eq!((key.n_records, key.records.len()), (0, 1));
    drop((bank, engine));
    for file in std::fs::read_dir(dir.path()).expect("a folder") {
        let path = file.expect("a file").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            assert!(!text.contains("zyzzyva"), "{}", path.display());
        }
    }
    let (_engine, bank) = start();
    let receipt = bank
        .forget(&ForgetBy::Namespace("desk".into()))
        .expect("is forgotten");
    assert_eq!((receipt.n_records, receipt.n_grants), (1, 1));
    assert!(bank.stats().expect("runs").namespaces.is_empty());
}

#[test]
fn a_memory_that_a_view_feeds_takes_nothing_by_hand() {
    let rig = Rig::start(Scripted::new(), declare);
    let script = "CREATE VIEW said AS SELECT key, text, room FROM turns WHERE text <> 'no';";
    let session = Session::new(rig.engine.clone(), "scripted");
    session
        .run(&Script::new("v.sql", script), |_, _| Ok(()))
        .expect("sound");
    let bank = Bank::create(
        &rig.engine,
        Memory::named("m").from("said").namespace("room"),
    );
    let bank = bank.expect("is declared");
    rig.engine
        .upsert("turns", "a", "The library opens.")
        .expect("runs");
    bank.flush().expect("runs");
    assert_eq!(
        keys(&bank.recall(&Recall::new("library")).expect("runs")),
        ["a"]
    );
    for refused in [
        bank.store(NewEntry::new("x")).map(drop),
        bank.delete("a"),
        bank.forget(&ForgetBy::Key("a".into())).map(drop),
    ] {
        let error = refused.expect_err("is not fed by hand");
        assert!(
            matches!(
                error,
                MemoryError::NotByHand { .. } | MemoryError::Engine(_)
            ),
            "{error}"
        );
    }
}

#[test]
fn what_no_row_can_be_told_by_is_refused() {
    let rig = Rig::start(Scripted::new(), declare);
    let bank = Bank::create(&rig.engine, Memory::named("plain").from("turns"));
    let bank = bank.expect("is declared");
    for by in [
        ForgetBy::Writer("ada".into()),
        ForgetBy::Session("s".into()),
    ] {
        let refused = bank.forget(&by).expect_err("is refused").to_string();
        assert!(refused.contains("declares no column for it"), "{refused}");
    }
    // Without a column all are in one namespace.
    bank.store(NewEntry::new("The library opens."))
        .expect("is stored");
    let receipt = bank.forget(&ForgetBy::Namespace("default".into()));
    assert_eq!(receipt.expect("is forgotten").n_records, 1);
}

#[test]
fn records_are_told_by_what_their_entries_say() {
    let session = Session::new(
        Rig::builder(Scripted::new()).start().expect("starts"),
        "scripted",
    );
    let script = Script::new(
        "m.sql",
        "CREATE TABLE turns (key TEXT, text TEXT, said_at TIMESTAMP, loud BOOLEAN);
         CREATE MEMORY team FROM turns WITH (SESSION = said_at, WRITER = loud);
         INSERT INTO turns VALUES ('a', 'One.', '2024-05-01T12:00:00Z', TRUE),
                                  ('b', 'Two.', '2024-05-02T12:00:00Z', FALSE);
         RECALL 'one' FROM team;",
    );
    let mut entries: Vec<(String, String, String)> = Vec::new();
    session
        .run(&script, |_, outcome| {
            if let perennial::sql::Outcome::Rows { rows, .. } = outcome {
                let text = |value: &perennial::rows::Value| value.to_string();
                let rows = rows.iter();
                entries = rows
                    .map(|row| (text(&row[0]), text(&row[6]), text(&row[7])))
                    .collect();
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    entries.sort();
    assert_eq!(entries.len(), 2);
    let n_forgotten = |by: &str, of: &str| {
        let text = format!("FORGET {by} '{of}' FROM MEMORY team;");
        let mut n_records = None;
        session
            .run(&Script::new("f.sql", text), |_, outcome| {
                if let perennial::sql::Outcome::MemoryForgotten(receipt) = outcome {
                    n_records = Some(receipt.n_records);
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        n_records
    };
    assert_eq!(n_forgotten("SESSION", &entries[0].1), Some(1));
    assert_eq!(n_forgotten("WRITER", &entries[1].2), Some(1));
}

#[test]
fn what_was_deleted_before_is_erased_by_whom_it_was_of() {
    let dir = tempfile::tempdir().expect("a folder");
    let builder = declare(Rig::builder(Scripted::new())).state(dir.path());
    let engine = builder.start().expect("starts");
    let bank = Bank::create(&engine, memory()).expect("is declared");
    let secret = NewEntry::new("Zyzzyva is the password of the attic.");
    bank.store(secret.key("a").writer("ada"))
        .expect("is stored");
    engine.flush().expect("runs");
    bank.delete("a").expect("runs");
    engine.flush().expect("runs");
    let is_on_disk = || {
        let files = std::fs::read_dir(dir.path()).expect("a folder");
        let paths = files.map(|file| file.expect("a file").path());
        paths.filter(|path| path.is_file()).any(|path| {
            let bytes = std::fs::read(path).expect("a file");
            String::from_utf8_lossy(&bytes).contains("Zyzzyva")
        })
    };
    assert!(is_on_disk(), "a deletion leaves free pages");
    let receipt = bank.forget(&ForgetBy::Writer("ada".into()));
    let receipt = receipt.expect("is forgotten");
    assert_eq!((receipt.n_records, receipt.remains.len()), (0, 0));
    assert!(!is_on_disk());
    drop((bank, engine));
    // Nobody knows whose it was: the receipts that are kept name keys.
    let kept = perennial::state::receipts(dir.path()).expect("whole");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn of_a_source_records_are_forgotten_by_their_keys() {
    let docs = tempfile::tempdir().expect("a folder");
    let file = docs.path().join("a.md");
    std::fs::write(&file, "The library opens at nine.").expect("writable");
    let rig = Rig::start(Scripted::new(), |builder| {
        let folder = Folder::open("docs", [docs.path()]).expect("there");
        builder.source(folder.watching(Watching::Once))
    });
    let bank = Bank::create(&rig.engine, Memory::named("read").from("docs"));
    let bank = bank.expect("is declared");
    bank.flush().expect("runs");
    assert_eq!(
        keys(&bank.recall(&Recall::new("library")).expect("runs")),
        ["a.md"]
    );
    let refused = bank.forget(&ForgetBy::Namespace("default".into()));
    let refused = refused.expect_err("nobody can tell").to_string();
    assert!(refused.contains("forget each by its key"), "{refused}");
    let still_there = bank.forget(&ForgetBy::Key("a.md".into()));
    let still_there = still_there.expect_err("it stands there");
    assert!(
        matches!(&still_there, MemoryError::Engine(Error::StillThere { key, .. }) if key == "a.md"),
        "{still_there}"
    );
    let receipt = bank.forget(&ForgetBy::Key("gone.md".into()));
    assert_eq!(receipt.expect("is forgotten").n_records, 0);
}

#[test]
fn a_receipt_counts_grants_and_says_where_something_is_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let builder = declare(Rig::builder(Scripted::new())).state(dir.path());
    let engine = builder.start().expect("starts");
    let bank = Bank::create(&engine, memory()).expect("is declared");
    bank.grant("desk", "bob").expect("runs");
    bank.grant("desk", "eve").expect("runs");
    bank.grant("attic", "eve").expect("runs");
    bank.flush().expect("runs");
    let forget = || {
        let receipt = bank.forget(&ForgetBy::Namespace("desk".into()));
        receipt.expect("is forgotten")
    };
    let receipt = forget();
    assert_eq!((receipt.n_records, receipt.n_grants), (0, 2));
    assert!(receipt.remains.is_empty(), "{receipt:?}");
    assert_eq!(forget().n_grants, 0);
    let stats = bank.stats().expect("runs");
    assert_eq!(stats.namespaces.len(), 1);
}
