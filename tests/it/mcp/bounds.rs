//! What is given is bounded, and what is left out can be had.

use perennial::Edit;
use perennial::ask::scripted::Scripted;
use serde_json::{Value, json};

use super::{NOTES, Speaking, run, served};

#[test]
fn what_is_given_is_bounded() {
    run(async {
        let served = served(NOTES, Scripted::new());
        let engine = served.engine().clone();
        let large = "x".repeat(100 << 10);
        for n in 0..8 {
            engine
                .upsert("notes", &format!("n{n}"), &large)
                .expect("runs");
        }
        tokio::task::spawn_blocking(move || engine.flush())
            .await
            .expect("no panic")
            .expect("runs");
        let of = Speaking::with(served).await;
        for (tool, arguments) in [
            ("snapshot", json!({"view": "notes"})),
            ("sql_query", json!({"sql": "SELECT * FROM notes"})),
        ] {
            let given = of.ok(tool, arguments).await;
            assert_eq!(given["rows"].as_array().map(Vec::len), Some(2), "{tool}");
            assert_eq!(given["truncated"]["of"], 8);
        }
        let given = of
            .ok(
                "sql_query",
                json!({"sql": "SELECT key FROM notes", "limit": 3}),
            )
            .await;
        assert_eq!(
            (given["rows"].as_array().map(Vec::len), &given["n_rows"]),
            (Some(3), &json!(8))
        );
    });
}

#[test]
fn changes_that_are_too_many_to_be_told_are_looked_at_and_gone_on_from() {
    run(async {
        let script = "CREATE TABLE docs (key TEXT, text TEXT);
                      CREATE VIEW all_of_them AS SELECT key, text FROM docs;";
        let served = served(script, Scripted::new());
        let engine = served.engine().clone();
        let store = move |keys: std::ops::Range<usize>, text: String| {
            let edits = keys.map(|n| Edit::upsert("docs", format!("k{n:04}"), text.clone()));
            engine.apply(edits.collect()).expect("runs");
            let flushed = engine.clone();
            async move {
                tokio::task::spawn_blocking(move || flushed.flush())
                    .await
                    .expect("no panic")
                    .expect("runs");
            }
        };
        store(0..1_100, "one".to_owned()).await;
        let of = Speaking::with(served).await;
        let all = of.ok("changes_since", json!({"view": "all_of_them"})).await;
        assert_eq!(
            (&all["is_all"], &all["changes"], &all["n_changes"]),
            (&json!(true), &json!([]), &json!(1_100))
        );
        assert!(all["look_at"].is_string(), "{all}");
        let held = of
            .ok("snapshot", json!({"view": "all_of_them", "limit": 1}))
            .await;
        assert_eq!(held["id"], all["id"]);
        // From there on what changes is told.
        let since = |id: &Value| json!({"view": "all_of_them", "since": id, "wait_s": 30});
        store(0..1, "two".to_owned()).await;
        let told = of.ok("changes_since", since(&all["id"])).await;
        assert_eq!(told["is_all"], false);
        assert_eq!(told["changes"].as_array().map(Vec::len), Some(2));
        // Large ones are not told in part.
        store(0..4, "x".repeat(100 << 10)).await;
        let large = of.ok("changes_since", since(&told["id"])).await;
        assert_eq!(
            (&large["is_all"], &large["changes"]),
            (&json!(true), &json!([]))
        );
        let nothing = json!({"view": "all_of_them", "since": large["id"]});
        let nothing = of.ok("changes_since", nothing).await;
        assert_eq!(
            (&nothing["is_all"], &nothing["changes"]),
            (&json!(false), &json!([]))
        );
    });
}

#[test]
fn a_row_that_is_larger_than_a_result_is_read_in_part() {
    run(async {
        let served = served(NOTES, Scripted::new());
        let engine = served.engine().clone();
        engine
            .upsert("notes", "a/1", &"x".repeat(300 << 10))
            .expect("runs");
        tokio::task::spawn_blocking(move || engine.flush())
            .await
            .expect("no panic")
            .expect("runs");
        let of = Speaking::with(served).await;
        let given = of.ok("snapshot", json!({"view": "notes"})).await;
        let text = given["rows"][0]["row"]["text"].as_str().expect("a text");
        assert!(text.len() > 200 << 10, "{}", text.len());
        assert_eq!(given["truncated"]["texts_are_cut"], true);
        assert_eq!(given["rows"][0]["row"]["key"], "a/1");
    });
}
