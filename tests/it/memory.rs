//! Memories: what stands of what was stored, who may read it, and that nothing is left of what is
//! gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::engine::{CurrentAnswer, Edit};
use perennial::memory::{
    Bank, Entry, ForgetBy, Memory, MemoryError, NewEntry, PairScore, Recall, Recalled, Retain,
    ScoreBy,
};
use perennial::rows::{Column, Schema, Type};
use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, EngineBuilder, Runtime, View};
use proptest::prelude::*;

use crate::rig::Rig;

/// The columns of the table that memories here are made from.
fn columns() -> Schema {
    let text = |name: &str| Column::new(name, Type::Text);
    Schema::new([
        text("key"),
        text("text"),
        text("room"),
        text("session"),
        text("who"),
        Column::new("pin", Type::Boolean),
    ])
}

fn declare(builder: EngineBuilder) -> EngineBuilder {
    builder.table_of("turns", columns()).table("questions")
}

fn memory() -> Memory {
    Memory::named("team")
        .from("turns")
        .namespace("room")
        .session("session")
        .writer("who")
        .pinned("pin")
}

fn rig() -> (Rig, Bank) {
    let rig = Rig::start(Scripted::new(), declare);
    let bank = Bank::create(&rig.engine, memory()).expect("is declared");
    (rig, bank)
}

fn keys(recalled: &Recalled) -> Vec<&str> {
    recalled.hits.iter().map(|hit| &*hit.entry.key).collect()
}

fn standing(bank: &Bank) -> Vec<(String, String, Vec<String>)> {
    let listed = bank.list(None, None).expect("the owner reads all");
    let mut listed: Vec<_> = listed
        .iter()
        .map(|entry| {
            let sources = entry.sources.iter().map(ToString::to_string).collect();
            (entry.namespace.to_string(), entry.key.to_string(), sources)
        })
        .collect();
    listed.sort();
    listed
}

#[test]
fn what_is_stored_is_found_and_no_model_is_asked() {
    let (rig, bank) = rig();
    bank.store_all([
        NewEntry::new("The library opens at nine.")
            .key("a")
            .namespace("desk")
            .writer("ada"),
        NewEntry::new("A ferry ticket costs twelve crowns.")
            .key("b")
            .namespace("desk"),
        NewEntry::new("The choir sings on Sundays.")
            .key("c")
            .namespace("choir"),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let recalled = bank.recall(&Recall::new("The library opens when?").best(2));
    let recalled = recalled.expect("is recalled");
    assert_eq!(keys(&recalled)[0], "a");
    assert_eq!((recalled.hits.len(), recalled.n_entries), (2, 3));
    let first = &recalled.hits[0];
    assert_eq!(first.entry.writer.as_deref(), Some("ada"));
    assert!(first.words > 0.0 && first.words <= 1.0, "{first:?}");
    let only = Recall::new("The library opens when?").namespace("choir");
    assert_eq!(keys(&bank.recall(&only).expect("is recalled")), ["c"]);
    let by_words = Recall::new("choir").by(ScoreBy::Words).best(1);
    let n_embedded = rig.embedder.n_texts();
    assert_eq!(keys(&bank.recall(&by_words).expect("is recalled")), ["c"]);
    assert_eq!(rig.embedder.n_texts(), n_embedded);
    assert_eq!(rig.model.n_calls(), 0);
}

#[test]
fn a_text_without_a_key_is_there_once() {
    let (_rig, bank) = rig();
    let entry = || NewEntry::new("The library opens at nine.").namespace("desk");
    let key = bank.store(entry()).expect("is stored");
    assert_eq!(bank.store(entry()).expect("is stored"), key);
    let other = bank.store(entry().writer("ada")).expect("is stored");
    assert_ne!(other, key);
    bank.flush().expect("runs");
    assert_eq!(bank.stats().expect("runs").n_stored, 2);
}

#[test]
fn what_is_said_again_is_one_entry_and_its_sources_are_listed() {
    let (_rig, bank) = rig();
    let said =
        |key: &str, text: &str, at: i64| NewEntry::new(text).key(key).namespace("desk").at(at);
    bank.store_all([
        said("old", "The library opens at nine.", 1),
        said("new", "the  library\nopens at NINE.", 2),
        said("other", "The library opens at ten.", 3),
        // Elsewhere it is another entry.
        NewEntry::new("The library opens at nine.")
            .key("away")
            .namespace("choir")
            .at(9),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let entry = |namespace: &str, key: &str, sources: &[&str]| {
        let sources = sources.iter().map(ToString::to_string).collect();
        (namespace.to_owned(), key.to_owned(), sources)
    };
    let both = [
        entry("choir", "away", &["away"]),
        entry("desk", "new", &["new", "old"]),
        entry("desk", "other", &["other"]),
    ];
    assert_eq!(standing(&bank), both);
    // A retraction brings the next back.
    bank.delete("new").expect("runs");
    bank.flush().expect("runs");
    assert_eq!(standing(&bank)[1], entry("desk", "old", &["old"]));
}

#[test]
fn a_superseded_entry_is_gone_while_the_newer_stands() {
    let (_rig, bank) = rig();
    let said = |key: &str, at: i64| NewEntry::new(format!("Fact {key}.")).key(key).at(at);
    bank.store_all([
        said("price", 1),
        said("correction", 2).superseding(["price", "later", "elsewhere"]),
        // Newer than what supersedes it.
        said("later", 3),
        said("elsewhere", 1).namespace("choir"),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let stands = |bank: &Bank| -> Vec<String> {
        standing(bank).into_iter().map(|(_, key, _)| key).collect()
    };
    assert_eq!(stands(&bank), ["elsewhere", "correction", "later"]);
    bank.delete("correction").expect("runs");
    bank.flush().expect("runs");
    assert_eq!(stands(&bank), ["elsewhere", "later", "price"]);
}

#[test]
fn the_pinned_and_the_newest_of_each_namespace_are_retained() {
    let rig = Rig::start(Scripted::new(), declare);
    let of = |retain| memory().retain(retain);
    let said = |key: &str, at: i64| {
        NewEntry::new(format!("Fact {key}."))
            .key(key)
            .namespace("desk")
            .at(at)
    };
    let day = 24 * 3600 * 1000;
    let stands = |retain| -> Vec<String> {
        let bank = Bank::create(&rig.engine, of(retain)).expect("is declared");
        bank.store_all([
            said("pinned", 0).pinned(true),
            said("old", 10 * day),
            said("newer", 98 * day),
            said("newest", 100 * day),
            said("alone", 1).namespace("choir"),
        ])
        .expect("is stored");
        bank.flush().expect("runs");
        let keys = standing(&bank).into_iter().map(|(_, key, _)| key).collect();
        bank.drop().expect("nobody reads it");
        keys
    };
    assert_eq!(stands(Retain::Count(2)), ["alone", "newest", "pinned"]);
    let age = "30 d".parse().expect("an age");
    assert_eq!(stands(age), ["alone", "newer", "newest", "pinned"]);
    // What was not retained is back where more is.
    assert_eq!(stands(Retain::Count(9)).len(), 5);
}

#[test]
fn a_reader_reads_what_is_granted_and_learns_nothing_of_the_rest() {
    let (_rig, bank) = rig();
    let said = |key: &str, namespace: &str| {
        NewEntry::new(format!("The library is at {key}."))
            .key(key)
            .namespace(namespace)
    };
    bank.store_all([said("a", "desk"), said("b", "choir")])
        .expect("is stored");
    bank.grant("desk", "bob").expect("runs");
    bank.grant("attic", "bob").expect("runs");
    bank.flush().expect("runs");
    let asked = || Recall::new("Where is the library?").reader("bob");
    let before = bank.recall(&asked()).expect("is recalled");
    assert_eq!(keys(&before), ["a"]);
    // What is granted and holds nothing is there; what is not granted and what does not exist are
    // alike.
    let empty = bank
        .recall(&asked().namespace("attic"))
        .expect("is granted");
    assert!(empty.hits.is_empty());
    let told = |namespace: &str| {
        let refused = bank
            .recall(&asked().namespace(namespace))
            .expect_err("is not granted");
        refused.to_string().replace(namespace, "…")
    };
    assert_eq!(told("choir"), told("nowhere"));
    assert_eq!(told("choir"), "there is no namespace `…` that bob may read");
    assert!(bank.list(Some("bob"), Some("choir")).is_err());
    // What is hidden changes no score.
    bank.store(said("library library", "choir"))
        .expect("is stored");
    bank.flush().expect("runs");
    assert_eq!(
        bank.recall(&asked()).expect("is recalled").hits,
        before.hits
    );
    bank.revoke("desk", "bob").expect("runs");
    bank.flush().expect("runs");
    assert!(bank.recall(&asked()).expect("is recalled").hits.is_empty());
}

#[test]
fn bad_input_is_refused_by_name() {
    let (_rig, bank) = rig();
    let refused = |entry: NewEntry| bank.store(entry).expect_err("is refused").to_string();
    assert_eq!(refused(NewEntry::new(" \n")), "the text is empty");
    assert_eq!(
        refused(NewEntry::new("x".repeat((64 << 10) + 1))),
        "the text has 65537 bytes; at most 65536 are taken"
    );
    assert_eq!(
        refused(NewEntry::new("a\u{1b}[2J")),
        "the text holds the control character U+001B at byte 1"
    );
    assert_eq!(
        refused(NewEntry::new("a").namespace("")),
        "the namespace is empty"
    );
    assert_eq!(
        refused(NewEntry::new("a").key("k".repeat(2000)))
            .split(';')
            .next(),
        Some("the key has 2000 bytes")
    );
    let asked = |recall: Recall| bank.recall(&recall).expect_err("is refused").to_string();
    assert_eq!(asked(Recall::new("")), "the question is empty");
    assert_eq!(
        asked(Recall::new("a").best(0)),
        "the number of entries must be from 1 to 1000, not 0"
    );
    assert!(asked(Recall::new("a").folding(1.5)).contains("at most 1, not 1.5"));
    assert_eq!(
        asked(Recall::new("a").namespace("x")),
        "there is no namespace `x`"
    );
    assert!(bank.grant("", "bob").is_err() && bank.grant("desk", "\u{7}").is_err());
    // Nothing of it is there, and of several none is stored where one is refused.
    assert!(
        bank.store_all([NewEntry::new("a"), NewEntry::new("")])
            .is_err()
    );
    bank.flush().expect("runs");
    assert_eq!(bank.stats().expect("runs").n_stored, 0);
}

#[test]
fn rows_that_are_no_entries_are_listed_with_the_reason() {
    let (rig, bank) = rig();
    for (key, text) in [("long", "x".repeat(70_000)), ("blank", " \n\t ".to_owned())] {
        rig.engine.upsert("turns", key, &text).expect("runs");
    }
    rig.engine
        .upsert("turns", "sound", "The library opens.")
        .expect("runs");
    rig.engine.flush().expect("runs");
    let refused = rig.engine.snapshot("team_refused").expect("is there").rows;
    let mut reasons: Vec<String> = refused
        .iter()
        .map(|(row, _)| format!("{}: {}", row[0], row[2]))
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "blank: the text is empty",
            "long: the text has more than 65536 bytes"
        ]
    );
    let stats = bank.stats().expect("runs");
    assert_eq!((stats.n_stored, stats.n_refused), (3, 2));
    assert_eq!(stats.namespaces["default"].n_entries, 1);
}

#[test]
fn entries_that_are_near_are_folded_into_the_newest_where_asked() {
    let (_rig, bank) = rig();
    let said =
        |key: &str, text: &str, at: i64| NewEntry::new(text).key(key).namespace("desk").at(at);
    bank.store_all([
        said("a", "the library opens at nine", 1),
        said("b", "the library opens at nine today", 2),
        said("c", "no dogs in the garden please", 3),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let asked = || Recall::new("the library opens at nine");
    let plain = bank.recall(&asked()).expect("is recalled");
    assert_eq!(keys(&plain)[0], "a");
    let folded = bank.recall(&asked().folding(0.6)).expect("is recalled");
    let sources: Vec<Vec<&str>> = folded
        .hits
        .iter()
        .map(|hit| hit.entry.sources.iter().map(|key| &**key).collect())
        .collect();
    assert_eq!(sources, [vec!["b", "a"], vec!["c"]]);
    bank.delete("b").expect("runs");
    bank.flush().expect("runs");
    let folded = bank.recall(&asked().folding(0.6)).expect("is recalled");
    assert_eq!(keys(&folded), ["a", "c"]);
}

/// Prefers long texts.
struct Longest;

impl PairScore for Longest {
    fn scores(&self, _: &str, entries: &[Arc<Entry>]) -> Result<Vec<f32>, String> {
        Ok(entries
            .iter()
            .map(|entry| entry.text.len() as f32)
            .collect())
    }

    fn scale(&self) -> f64 {
        1.0
    }
}

#[test]
fn a_further_score_joins_the_two_of_text() {
    let (_rig, bank) = rig();
    bank.store_all([
        NewEntry::new("library").key("short"),
        NewEntry::new("some words about something else").key("long"),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let asked = Recall::new("library");
    assert_eq!(keys(&bank.recall(&asked).expect("is recalled"))[0], "short");
    let asked = asked.scored_by(Arc::new(Longest));
    let recalled = bank.recall(&asked).expect("is recalled");
    assert_eq!(keys(&recalled)[0], "long");
    assert_eq!(recalled.hits[0].further, Some(31.0));
}

/// The answers of a view, by question.
fn answers(engine: &Engine, view: &str) -> BTreeMap<String, String> {
    engine.flush().expect("runs");
    let text = |answer: CurrentAnswer| match answer.answer {
        Ok(answer) => answer.text.to_string(),
        Err(error) => format!("error: {error}"),
    };
    let answers = engine.answers(view).expect("is there").into_iter();
    answers
        .map(|(key, answer)| (key.to_string(), text(answer)))
        .collect()
}

/// A standing question of a reader.
fn standing_question(engine: &Engine, bank: &Bank, reader: &str) -> String {
    let name = format!("answers of {reader}");
    let view = View::named(&name)
        .context("questions")
        .data_source(bank.readable_by(reader).expect("a reader"))
        .answer_without_documents(true)
        .max_tokens(400);
    engine.create_view(view).expect("is declared");
    name
}

#[test]
fn a_revocation_rewrites_what_leaned_on_what_is_gone() {
    let (rig, bank) = rig();
    let engine = &rig.engine;
    bank.store_all([
        NewEntry::new("The library opens at nine.")
            .key("a")
            .namespace("desk"),
        NewEntry::new("The library has a secret door.")
            .key("b")
            .namespace("attic"),
    ])
    .expect("is stored");
    engine.upsert("questions", "q", "library").expect("runs");
    bank.grant("desk", "bob").expect("runs");
    bank.grant("attic", "bob").expect("runs");
    let view = standing_question(engine, &bank, "bob");
    let both = &answers(engine, &view)["q"];
    assert!(both.contains("nine") && both.contains("secret"), "{both}");
    bank.revoke("attic", "bob").expect("runs");
    assert_eq!(answers(engine, &view)["q"], "The library opens at nine.");
    // What is hidden asks nobody.
    let n_calls = rig.model.n_calls();
    bank.store(NewEntry::new("The library has rats.").namespace("attic"))
        .expect("is stored");
    answers(engine, &view);
    assert_eq!(rig.model.n_calls(), n_calls);
}

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
fn a_memory_is_declared_shared_and_dropped_in_sql() {
    let session = Session::new(
        Rig::builder(Scripted::new()).start().expect("starts"),
        "scripted",
    );
    let script = Script::new(
        "team.sql",
        "CREATE TABLE turns (key TEXT, text TEXT, room TEXT, who TEXT);
         CREATE TABLE questions (key TEXT, text TEXT);
         CREATE MEMORY team FROM turns WITH (NAMESPACE = room, WRITER = who, RETAIN = 10);
         INSERT INTO turns VALUES ('a', 'The library opens at nine.', 'desk', 'ada'),
                                  ('b', 'The library has a secret door.', 'attic', 'eve');
         INSERT INTO questions VALUES ('q', 'library');
         GRANT READ ON NAMESPACE 'desk' OF MEMORY team TO 'bob';
         CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
             CONTEXT = STREAM(questions), DATA_SOURCE = MEMORY(team) AS 'bob');
         RECALL 'library' FROM team AS 'bob' LIMIT 3;
         SELECT key, writer FROM team ORDER BY key;
         SELECT text FROM answers;
         SHOW MEMORIES;
         EXPLAIN CREATE MEMORY other FROM turns WITH (RETAIN = '7 d');
         REVOKE READ ON NAMESPACE 'desk' OF MEMORY team FROM 'bob';
         RECALL 'library' FROM team AS 'bob';
         FORGET WRITER 'ada' FROM MEMORY team;
         SELECT key FROM team;
         DROP VIEW answers;
         DROP MEMORY team;
         SHOW VIEWS;",
    );
    let mut said: Vec<String> = Vec::new();
    session
        .run(&script, |_, outcome| {
            match outcome {
                Outcome::Rows { rows, .. } => {
                    let shown = rows.iter().map(|row| {
                        let values = row.iter().take(2).map(ToString::to_string);
                        values.collect::<Vec<_>>().join("|")
                    });
                    said.push(shown.collect::<Vec<_>>().join(" "));
                }
                Outcome::Plan(plan) => said.push(plan),
                Outcome::MemoryForgotten(receipt) => {
                    said.push(format!("{} forgotten", receipt.n_records))
                }
                _ => {}
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let plan = said.remove(4);
    assert!(
        plan.contains("of each namespace what came within 7 d of the newest"),
        "{plan}"
    );
    assert_eq!(
        said,
        [
            "a|The library opens at nine.",
            "a|ada b|eve",
            "The library opens at nine.",
            "team|turns",
            "",
            "1 forgotten",
            "b",
            "",
        ]
    );
}

#[test]
fn what_a_statement_of_memories_gets_wrong_is_told_at_its_place() {
    let session = Session::new(
        Rig::builder(Scripted::new()).start().expect("starts"),
        "scripted",
    );
    let told = |text: &str| {
        let done = session.run(&Script::new("m.sql", text), |_, _| Ok(()));
        done.map_or_else(|error| error.to_string(), |()| String::new())
    };
    assert_eq!(
        told("CREATE TABLE turns (key TEXT, text TEXT); CREATE MEMORY team FROM turns;"),
        ""
    );
    for (text, says) in [
        (
            "CREATE MEMORY x FROM turns WITH (NAMESPACE = rom);",
            "`turns` has no column `rom`; it has key TEXT, text TEXT",
        ),
        (
            "CREATE MEMORY x FROM nothing;",
            "there is no relation nothing",
        ),
        (
            "CREATE MEMORY team FROM turns;",
            "there is a view team already",
        ),
        ("RECALL '' FROM team;", "the question is empty"),
        ("RECALL 'a' FROM taem;", "did you mean team?"),
        (
            "RECALL 'a' FROM team IN NAMESPACE 'x';",
            "there is no namespace `x`",
        ),
        ("DROP VIEW team_index;", "team_index belongs to memory team"),
        (
            "CREATE MEMORY x FROM turns WITH (RETAIN = 0);",
            "expected a number of entries",
        ),
        (
            "GRANT READ ON NAMESPACE '' OF MEMORY team TO 'bob';",
            "the namespace is empty",
        ),
    ] {
        let error = told(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// Something that happens to a memory.
#[derive(Clone, Debug)]
enum Step {
    Store {
        key: u8,
        namespace: u8,
        text: u8,
        at: i64,
        pin: bool,
        supersedes: Option<u8>,
    },
    Delete(u8),
    Grant(u8, u8),
    Revoke(u8, u8),
    Forget(u8, u8),
    Flush,
    Restart,
}

const NAMESPACES: [&str; 3] = ["desk", "attic", "choir"];
const READERS: [&str; 2] = ["bob", "eve"];
const WRITERS: [&str; 2] = ["ada", "max"];
const TEXTS: [&str; 7] = [
    "The library opens at nine.",
    "the library opens at NINE.",
    "The library has a secret door.",
    "A ticket costs twelve crowns.",
    "The choir sings in the library.",
    "Nobody knows the price of a ticket.",
    "Doors open late.",
];
const QUESTIONS: [&str; 3] = [
    "When does the library open?",
    "ticket price",
    "the secret door",
];

fn step() -> impl Strategy<Value = Step> {
    let store = (
        0..8u8,
        0..3u8,
        0..7u8,
        0..6i64,
        any::<bool>(),
        prop::option::of(0..8u8),
    );
    prop_oneof![
        6 => store.prop_map(|(key, namespace, text, at, pin, supersedes)| Step::Store {
            key, namespace, text, at, pin: pin && at == 0, supersedes
        }),
        2 => (0..8u8).prop_map(Step::Delete),
        2 => (0..3u8, 0..2u8).prop_map(|(n, r)| Step::Grant(n, r)),
        1 => (0..3u8, 0..2u8).prop_map(|(n, r)| Step::Revoke(n, r)),
        1 => (0..4u8, 0..3u8).prop_map(|(by, of)| Step::Forget(by, of)),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ]
}

/// What stands in the table in the end, and who may read what.
#[derive(Default)]
struct Model {
    rows: BTreeMap<String, NewEntryOf>,
    grants: BTreeSet<(&'static str, &'static str)>,
}

/// An entry with what it is forgotten by.
#[derive(Clone)]
struct NewEntryOf {
    entry: NewEntry,
    namespace: &'static str,
    writer: &'static str,
    session: String,
    text: &'static str,
    at: i64,
    is_pinned: bool,
    supersedes: Option<String>,
}

impl Model {
    /// What stands, by the words of the documentation: namespaces, keys, sources.
    fn standing(&self, retain: Option<Retain>) -> Vec<(String, String, Vec<String>)> {
        let mut standing = Vec::new();
        for namespace in NAMESPACES {
            let of = self
                .rows
                .iter()
                .filter(|(_, row)| row.namespace == namespace);
            let of: Vec<(&String, &NewEntryOf)> = of.collect();
            let is_superseded = |key: &String, row: &NewEntryOf| {
                of.iter().any(|(newer, by)| {
                    by.supersedes.as_ref() == Some(key) && (by.at, *newer) > (row.at, key)
                })
            };
            let mut said: BTreeMap<Vec<String>, Vec<(i64, &String, bool)>> = BTreeMap::new();
            for (key, row) in &of {
                if !is_superseded(key, row) {
                    let text = row.text.to_lowercase();
                    let words = text.split_whitespace().map(str::to_owned).collect();
                    said.entry(words)
                        .or_default()
                        .push((row.at, key, row.is_pinned));
                }
            }
            let mut entries = Vec::new();
            for mut same in said.into_values() {
                same.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)));
                let sources = same.iter().map(|(_, key, _)| (*key).clone()).collect();
                let is_pinned = same.iter().any(|(.., is_pinned)| *is_pinned);
                entries.push((is_pinned, same[0].0, same[0].1.clone(), sources));
            }
            entries.sort_by(|a, b| (b.0, b.1, &b.2).cmp(&(a.0, a.1, &a.2)));
            let newest = entries.iter().map(|(_, at, ..)| *at).max().unwrap_or(0);
            match retain {
                None => {}
                Some(Retain::Count(n)) => entries.truncate(usize::try_from(n).expect("few")),
                Some(Retain::Age(age)) => {
                    let age = i64::try_from(age.as_millis()).expect("short");
                    entries.retain(|(is_pinned, at, ..)| *is_pinned || *at >= newest - age);
                }
            }
            let entries = entries.into_iter();
            standing.extend(entries.map(|(_, _, key, of)| (namespace.to_owned(), key, of)));
        }
        standing.sort();
        standing
    }
}

/// A run: an engine over a state directory, with a memory and standing questions of two readers.
struct Run {
    engine: Engine,
    bank: Bank,
    model: Arc<Scripted>,
}

impl Run {
    fn start(dir: Option<&std::path::Path>, retain: Option<Retain>) -> Self {
        let model = Arc::new(Scripted::new());
        let embedder = Arc::new(ScriptedEmbedder::default());
        let builder = Engine::builder(Runtime::scripted(model.clone(), embedder));
        // Held, so that the first epoch has all that is declared.
        let mut builder = declare(builder).held();
        if let Some(dir) = dir {
            builder = builder.state(dir);
        }
        let engine = builder.start().expect("starts");
        let memory = match retain {
            Some(retain) => memory().retain(retain),
            None => memory(),
        };
        let bank = Bank::create(&engine, memory).expect("is declared");
        for (at, question) in QUESTIONS.iter().enumerate() {
            let key = format!("q{at}");
            engine
                .apply(vec![Edit::upsert("questions", key, *question).at(0)])
                .expect("runs");
        }
        for reader in READERS {
            standing_question(&engine, &bank, reader);
        }
        engine.release().expect("runs");
        Self {
            engine,
            bank,
            model,
        }
    }

    /// All that a reader can see.
    fn seen_by(&self, reader: Option<&str>) -> (Vec<Recalled>, BTreeMap<String, String>) {
        self.engine.flush().expect("runs");
        let recalled = QUESTIONS.iter().flat_map(|question| {
            [None, Some(0.7)].map(|fold| {
                let mut asked = Recall::new(*question).best(4);
                if let Some(reader) = reader {
                    asked = asked.reader(reader);
                }
                if let Some(fold) = fold {
                    asked = asked.folding(fold);
                }
                let mut recalled = self.bank.recall(&asked).expect("is recalled");
                // Which epoch it is depends on how it came to be.
                recalled.epoch = None;
                recalled
            })
        });
        let recalled = recalled.collect();
        let answers = match reader {
            Some(reader) => answers(&self.engine, &format!("answers of {reader}")),
            None => BTreeMap::new(),
        };
        (recalled, answers)
    }
}

/// What a run from nothing shows to a reader that is given what they may read, and no more.
fn from_scratch(
    of: &Model,
    reader: Option<&str>,
    retain: Option<Retain>,
) -> (Vec<Recalled>, BTreeMap<String, String>) {
    let run = Run::start(None, retain);
    let may_read = |namespace: &str| {
        reader.is_none_or(|reader| {
            of.grants
                .iter()
                .any(|(n, r)| *n == namespace && *r == reader)
        })
    };
    let rows = of.rows.values().filter(|row| may_read(row.namespace));
    run.bank
        .store_all(rows.map(|row| row.entry.clone()))
        .expect("is stored");
    for (namespace, to) in &of.grants {
        if reader == Some(*to) {
            run.bank.grant(namespace, to).expect("runs");
        }
    }
    run.seen_by(reader)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_a_reader_sees_what_a_run_without_the_rest_shows(
        steps in prop::collection::vec(step(), 1..24),
        retain in prop::option::of(prop_oneof![
            (1..4u64).prop_map(Retain::Count),
            Just(Retain::Age(std::time::Duration::from_millis(2))),
        ]),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut run = Run::start(Some(dir.path()), retain);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Store { key, namespace, text, at, pin, supersedes } => {
                    let (writer, session) = (WRITERS[usize::from(key % 2)], format!("s{}", key % 3));
                    let namespace = NAMESPACES[usize::from(namespace)];
                    let key = format!("k{key}");
                    let entry = NewEntry::new(TEXTS[usize::from(text)])
                        .key(&key)
                        .namespace(namespace)
                        .writer(writer)
                        .session(&session)
                        .pinned(pin)
                        .at(at)
                        .superseding(supersedes.map(|of| format!("k{of}")));
                    run.bank.store(entry.clone()).expect("is stored");
                    model.rows.insert(key, NewEntryOf {
                        entry,
                        namespace,
                        writer,
                        session,
                        text: TEXTS[usize::from(text)],
                        at,
                        is_pinned: pin,
                        supersedes: supersedes.map(|of| format!("k{of}")),
                    });
                }
                Step::Delete(key) => {
                    let key = format!("k{key}");
                    run.bank.delete(&key).expect("runs");
                    model.rows.remove(&key);
                }
                Step::Grant(namespace, reader) => {
                    let pair = (NAMESPACES[usize::from(namespace)], READERS[usize::from(reader)]);
                    run.bank.grant(pair.0, pair.1).expect("runs");
                    model.grants.insert(pair);
                }
                Step::Revoke(namespace, reader) => {
                    let pair = (NAMESPACES[usize::from(namespace)], READERS[usize::from(reader)]);
                    run.bank.revoke(pair.0, pair.1).expect("runs");
                    model.grants.remove(&pair);
                }
                Step::Forget(by, of) => {
                    let (by, of) = (usize::from(by), usize::from(of));
                    let by = match by {
                        0 => ForgetBy::Key(format!("k{of}")),
                        1 => ForgetBy::Session(format!("s{of}")),
                        2 => ForgetBy::Writer(WRITERS[of % 2].to_owned()),
                        _ => ForgetBy::Namespace(NAMESPACES[of].to_owned()),
                    };
                    let n_before = model.rows.len();
                    model.rows.retain(|key, row| match &by {
                        ForgetBy::Key(of) => key != of,
                        ForgetBy::Session(of) => row.session != *of,
                        ForgetBy::Writer(of) => row.writer != of,
                        ForgetBy::Namespace(of) => row.namespace != of,
                    });
                    if let ForgetBy::Namespace(of) = &by {
                        model.grants.retain(|(namespace, _)| namespace != of);
                    }
                    let receipt = run.bank.forget(&by).expect("is forgotten");
                    prop_assert_eq!(receipt.n_records, n_before - model.rows.len());
                    prop_assert_eq!(&receipt.remains, &Vec::<String>::new());
                }
                Step::Flush => drop(run.engine.flush().expect("runs")),
                Step::Restart => {
                    run.engine.flush().expect("runs");
                    drop(run);
                    run = Run::start(Some(dir.path()), retain);
                    run.engine.flush().expect("runs");
                    // What was answered is not asked again.
                    prop_assert_eq!(run.model.n_calls(), 0);
                }
            }
        }
        run.engine.flush().expect("runs");
        prop_assert_eq!(standing(&run.bank), model.standing(retain));
        for reader in [None, Some(READERS[0]), Some(READERS[1])] {
            let seen = run.seen_by(reader);
            prop_assert_eq!(&seen, &from_scratch(&model, reader, retain), "{:?}", reader);
        }
    }
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
