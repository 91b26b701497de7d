//! Which relations a memory has, and which it takes with it.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use perennial::Error;
use perennial::ask::scripted::Scripted;
use perennial::connectors::{Delivery, Error as ConnectorError, Sink, StopFlag};
use perennial::memory::{Bank, Memory, MemoryError, NewEntry, Recall};
use perennial::sql::{Script, Session};

use super::{memory, rig};
use crate::rig::Rig;

/// Longer than any delivery takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn session() -> Session {
    let engine = Rig::builder(Scripted::new()).start().expect("starts");
    Session::new(engine, "scripted")
}

/// What a script gets wrong; empty where that is nothing.
fn run(session: &Session, text: &str) -> String {
    let done = session.run(&Script::new("m.sql", text), |_, _| Ok(()));
    done.map_or_else(|error| error.to_string(), |()| String::new())
}

fn names(session: &Session) -> Vec<String> {
    let relations = session.engine().relations().expect("runs");
    let mut names: Vec<String> = relations.iter().map(|of| of.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_memory_that_is_dropped_takes_nothing_of_others() {
    let session = session();
    let made = run(
        &session,
        "CREATE TABLE turns (key TEXT, text TEXT);
         CREATE TABLE questions (key TEXT, text TEXT);
         CREATE TABLE team_as_notes (key TEXT, text TEXT);
         CREATE MEMORY team FROM turns;
         CREATE MEMORY team_as_x FROM turns;
         CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
             CONTEXT = STREAM(questions), DATA_SOURCE = MEMORY(team) AS 'bob');",
    );
    assert_eq!(made, "");
    assert!(names(&session).contains(&"team_as_bob".to_owned()));
    // What belongs to a memory is not dropped by itself.
    let refused = run(&session, "DROP VIEW team_as_bob;");
    assert!(refused.contains("belongs to memory team"), "{refused}");
    let refused = run(&session, "DROP MEMORY team;");
    assert!(refused.contains("is used by answers"), "{refused}");
    assert_eq!(run(&session, "DROP VIEW answers; DROP MEMORY team;"), "");
    assert_eq!(
        names(&session),
        [
            "questions",
            "team_as_notes",
            "team_as_x",
            "team_as_x_grants",
            "team_as_x_index",
            "team_as_x_refused",
            "turns",
        ]
    );
}

#[test]
fn a_name_that_something_else_bears_is_no_view_of_a_reader() {
    let session = session();
    let made = run(
        &session,
        "CREATE TABLE turns (key TEXT, text TEXT);
         CREATE TABLE questions (key TEXT, text TEXT);
         CREATE MEMORY a FROM turns;
         CREATE MEMORY a_as_b FROM turns;
         CREATE VIEW a_as_eve AS SELECT key, text FROM turns;",
    );
    assert_eq!(made, "");
    let ask = |view: &str, memory: &str, reader: &str| {
        let text = format!(
            "CREATE CONTINUOUS VIEW {view} AS LLM_GENERATE(
                 CONTEXT = STREAM(questions), DATA_SOURCE = MEMORY({memory}) AS '{reader}');"
        );
        run(&session, &text)
    };
    // Another memory, whose entries nobody granted; and a view that somebody made before.
    for reader in ["b", "eve"] {
        let refused = ask("v", "a", reader);
        assert!(refused.contains("declared twice"), "{reader}: {refused}");
    }
    // Two readers whose views would be called alike.
    assert_eq!(ask("v", "a", "b_as_c"), "");
    let refused = ask("w", "a_as_b", "c");
    assert!(refused.contains("declared twice"), "{refused}");
    // The same reader asks again.
    assert_eq!(ask("x", "a", "b_as_c"), "");
}

#[test]
fn those_who_ask_at_once_as_one_reader_get_one_view() {
    let (_rig, bank) = rig();
    let names: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| bank.readable_by("bob")))
            .collect();
        let asked = asking.into_iter().map(|of| of.join().expect("no panic"));
        asked.map(|name| name.expect("a reader")).collect()
    });
    assert_eq!(names, vec!["team_as_bob"; 8]);
}

/// Passes on what it gets.
struct Passed(Sender<Delivery>);

impl Sink for Passed {
    fn name(&self) -> &str {
        "passed"
    }

    fn deliver(&mut self, delivery: &Delivery, _stop: &StopFlag) -> Result<(), ConnectorError> {
        // Nobody listens once the test is over.
        let _ = self.0.send(delivery.clone());
        Ok(())
    }
}

#[test]
fn a_memory_that_a_sink_takes_is_dropped_whole_or_not_at_all() {
    let (rig, bank) = rig();
    let (sender, delivered) = channel();
    rig.engine
        .create_sink("team", Passed(sender))
        .expect("is declared");
    bank.store(NewEntry::new("The library opens at nine.").key("a"))
        .expect("is stored");
    bank.flush().expect("runs");
    let delivery = loop {
        let delivery = delivered.recv_timeout(DEADLINE).expect("is delivered");
        if !delivery.rows.is_empty() {
            break delivery;
        }
    };
    assert_eq!(delivery.view, "team");
    let reader = bank.readable_by("bob").expect("a reader");
    let refused = bank.clone().drop().expect_err("a sink takes it");
    assert!(
        matches!(&refused, MemoryError::Engine(Error::InUse { name, users })
            if name == "team" && users == "passed"),
        "{refused}"
    );
    // Nothing is gone: it is recalled from, and asked of.
    let recalled = bank.recall(&Recall::new("library")).expect("is recalled");
    assert_eq!(recalled.hits.len(), 1);
    assert_eq!(bank.readable_by("bob").expect("a reader"), reader);
    rig.engine.drop_sink("passed").expect("is there");
    bank.drop().expect("nobody reads it");
    let relations = rig.engine.relations().expect("runs");
    let names: Vec<&str> = relations.iter().map(|of| &*of.name).collect();
    assert_eq!(names, ["turns", "questions"]);
}

#[test]
fn one_that_is_dropped_answers_no_more() {
    let (rig, bank) = rig();
    bank.store(NewEntry::new("The library opens at nine."))
        .expect("is stored");
    bank.flush().expect("runs");
    bank.clone().drop().expect("nobody reads it");
    let is_dropped = |error| matches!(error, MemoryError::Engine(Error::Dropped));
    let recalled = bank.recall(&Recall::new("library"));
    assert!(is_dropped(recalled.expect_err("it is gone")));
    assert!(is_dropped(bank.list(None, None).expect_err("it is gone")));
    assert!(is_dropped(bank.stats().expect_err("it is gone")));
    // One of its name is made from the rows that stayed.
    let again = Bank::create(&rig.engine, memory()).expect("is declared");
    again.flush().expect("runs");
    assert_eq!(again.list(None, None).expect("runs").len(), 1);
}

#[test]
fn what_is_wrong_with_a_memory_leaves_nothing_of_it() {
    let (rig, _bank) = rig();
    rig.engine.create_table("other_refused").expect("is made");
    let refused = Bank::create(&rig.engine, Memory::named("other").from("turns"));
    assert!(
        matches!(refused, Err(MemoryError::Engine(Error::DeclaredTwice { name })) if name == "other_refused")
    );
    let relations = rig.engine.relations().expect("runs");
    let of_other = relations.iter().filter(|of| of.name.starts_with("other"));
    assert_eq!(of_other.count(), 1);
}

#[test]
fn rows_without_a_text_or_a_key_are_listed_as_refused() {
    let session = session();
    let made = run(
        &session,
        "CREATE TABLE turns (key TEXT, text TEXT, said TEXT);
         CREATE VIEW spoken AS SELECT key, said AS text FROM turns;
         CREATE MEMORY team FROM spoken;
         INSERT INTO turns (key, text, said) VALUES ('a', '', 'The library opens.'), ('b', '', NULL);
         SELECT key FROM team;
         SELECT key FROM team_refused;",
    );
    assert_eq!(made, "");
    session.engine().flush().expect("runs");
    let keys = |view: &str| -> Vec<String> {
        let rows = session.engine().snapshot(view).expect("is there").rows;
        rows.iter().map(|(row, _)| row[0].to_string()).collect()
    };
    assert_eq!(keys("team"), ["a"]);
    assert_eq!(keys("team_refused"), ["b"]);
}
