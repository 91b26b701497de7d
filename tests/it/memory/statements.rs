//! Memories in SQL.

use std::time::Duration;

use perennial::ask::scripted::Scripted;
use perennial::sql::{Outcome, Script, Session};

use crate::rig::Rig;

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
        ("RECALL 'a' FROM turns;", "turns is a table and no memory"),
        ("RECALL 'a' FROM turns;", "CREATE MEMORY m FROM turns"),
        (
            "RECALL 'a' FROM team_index;",
            "it belongs to memory team; name that",
        ),
        // Nothing of a script is carried out that is wrong about what a memory will have.
        (
            "CREATE MEMORY m FROM turns; SELECT key, nonsense FROM m;",
            "nonsense",
        ),
        ("RECALL 'a' FROM m;", "there is no memory m"),
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

#[test]
fn what_is_not_visible_in_time_is_said_beside_what_is_recalled() {
    let engine = Rig::builder(Scripted::new()).start().expect("starts");
    let session = Session::new(engine, "scripted").waiting_at_most(Duration::ZERO);
    let script = Script::new(
        "m.sql",
        "CREATE TABLE turns (key TEXT, text TEXT);
         CREATE MEMORY team FROM turns;
         INSERT INTO turns VALUES ('a', 'The library opens at nine.');
         RECALL 'library' FROM team;",
    );
    let mut recalled = None;
    session
        .run(&script, |_, outcome| {
            if let Outcome::Rows { rows, notices, .. } = outcome {
                recalled = Some((rows.len(), notices.len()));
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let (n_rows, n_notices) = recalled.expect("is recalled");
    assert!(n_rows == 1 || n_notices == 1);
}
