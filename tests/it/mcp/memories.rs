//! What an assistant stores in a memory, finds there, and forgets.

use perennial::ask::scripted::Scripted;
use perennial::sql::{Script, parse};
use serde_json::json;

use super::{Speaking, run, served};

/// A memory over a table, beside another that no assistant may feed.
const TEAM: &str = "
    CREATE TABLE turns (key TEXT, text TEXT, title TEXT, room TEXT);
    CREATE VIEW loud AS SELECT key, text, room FROM turns WHERE room = 'loud';
    CREATE MEMORY team FROM turns WITH (NAMESPACE = room);
    CREATE MEMORY shouted FROM loud WITH (NAMESPACE = room);
    CREATE TABLE foo (key TEXT, text TEXT);
    CREATE TABLE foo_index (key TEXT, text TEXT);
";

#[test]
fn a_memory_is_fed_recalled_from_and_forgotten_by_its_name() {
    run(async {
        let served = served(TEAM, Scripted::new());
        let of = Speaking::with(served.clone()).await;
        let remember = |text: &str, room: &str| json!({"text": text, "memory": "team", "columns": {"room": room}});
        let stored = of
            .ok("remember", remember("The library opens at nine.", "desk"))
            .await;
        assert_eq!(
            (&stored["table"], &stored["visible"]),
            (&json!("turns"), &json!(true))
        );
        // The same words of another tenant are another row.
        let other = of
            .ok("remember", remember("The library opens at nine.", "attic"))
            .await;
        assert_ne!(stored["key"], other["key"]);
        let question = json!({"question": "When does the library open?", "memory": "team"});
        let recalled = of.ok("recall", question.clone()).await;
        assert_eq!(recalled["memory"], "team");
        assert_eq!(recalled["entries"].as_array().map(Vec::len), Some(2));
        let mut asked = question.clone();
        asked["namespace"] = json!("desk");
        let recalled = of.ok("recall", asked.clone()).await;
        assert_eq!(recalled["entries"][0]["key"], stored["key"]);
        assert_eq!(recalled["entries"].as_array().map(Vec::len), Some(1));
        asked["reader"] = json!("bob");
        let said = of.refused("recall", asked.clone()).await;
        assert!(said.contains("there is no namespace `desk`"), "{said}");
        let session = Script::new(
            "g",
            "GRANT READ ON NAMESPACE 'desk' OF MEMORY team TO 'bob';",
        );
        let statements = parse(&session).expect("a script");
        let granting = served.clone();
        tokio::task::spawn_blocking(move || granting.declare(&session, &statements, |_| {}))
            .await
            .expect("no panic")
            .expect("is granted");
        let recalled = of.ok("recall", asked).await;
        assert_eq!(recalled["entries"].as_array().map(Vec::len), Some(1));
        for (tool, arguments, part) in [
            // What is called like the parts of a memory is none.
            (
                "recall",
                json!({"question": "x", "memory": "foo"}),
                "no memory `foo`",
            ),
            (
                "remember",
                json!({"text": "x", "memory": "shouted"}),
                "follows from `loud`",
            ),
            (
                "forget",
                json!({"key": "x", "memory": "shouted"}),
                "follows from `loud`",
            ),
            (
                "remember",
                json!({"text": "x", "memory": "team", "table": "turns"}),
                "a table and a memory",
            ),
            (
                "remember",
                json!({"text": "x", "table": "team_grants",
                       "columns": {"reader": "eve", "namespace": "desk"}}),
                "who may read the memory `team`",
            ),
            (
                "remember",
                json!({"text": "x", "memory": "team", "columns": {"updated_at": "1"}}),
                "`updated_at` is no further column",
            ),
            (
                "remember",
                json!({"text": "x", "memory": "team", "columns": {"rom": "desk"}}),
                "no column `rom`",
            ),
            (
                "remember",
                json!({"text": "x", "memory": "team", "key": ""}),
                "the key is empty",
            ),
            (
                "remember",
                json!({"text": "x".repeat((64 << 10) + 1), "memory": "team"}),
                "at most 65536",
            ),
        ] {
            let said = of.refused(tool, arguments).await;
            assert!(said.contains(part), "{tool}: {said}");
        }
        // As a document of the table alone it is taken, and said of the memory.
        let long = json!({"text": "x".repeat((64 << 10) + 1), "table": "turns", "key": "long"});
        let long = of.ok("remember", long).await;
        assert_eq!(long["refused_by"], json!(["team"]));
        let forgotten = json!({"key": stored["key"], "memory": "team"});
        let receipt = of.ok("forget", forgotten).await["receipt"].clone();
        assert_eq!(
            (&receipt["was_there"], &receipt["remains"]),
            (&json!(true), &json!([]))
        );
        let recalled = of.ok("recall", question).await;
        assert_eq!(recalled["entries"][0]["key"], other["key"]);
        assert_eq!(recalled["entries"].as_array().map(Vec::len), Some(1));
    });
}
