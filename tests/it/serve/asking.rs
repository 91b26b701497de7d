//! Statements that are sent.

use serde_json::json;

use super::*;

#[test]
fn statements_are_carried_out_in_order_and_told_of() {
    let serving = Serving::start(SUPPORT);
    let outcomes = serving.run(
        "CREATE TABLE notes (key TEXT, text TEXT);
         INSERT INTO notes VALUES ('a', 'alpha is one.'), ('b', 'beta is here.');
         CREATE VIEW words AS SELECT key, text FROM notes;
         SELECT key FROM words ORDER BY key;
         UPDATE notes SET text = 'alpha is two.' WHERE key = 'a';
         SELECT text FROM words WHERE key = 'a';
         EXPLAIN SELECT * FROM words;
         SHOW TABLES;
         DROP VIEW words;
         DROP VIEW IF EXISTS words;",
    );
    let said: Vec<String> = outcomes
        .as_array()
        .expect("outcomes")
        .iter()
        .map(|of| text(&of["outcome"]))
        .collect();
    assert_eq!(
        said,
        [
            "created", "done", "created", "rows", "done", "rows", "plan", "rows", "dropped",
            "dropped"
        ]
    );
    assert_eq!(
        outcomes[0],
        json!({"outcome": "created", "kind": "table", "name": "notes", "notice": null})
    );
    assert_eq!(outcomes[1]["n_rows"], 2);
    assert_eq!(outcomes[3]["rows"], json!([{"key": "a"}, {"key": "b"}]));
    assert_eq!(
        outcomes[3]["columns"],
        json!([{"name": "key", "type": "TEXT"}])
    );
    assert_eq!(outcomes[5]["rows"], json!([{"text": "alpha is two."}]));
    assert_eq!(
        (&outcomes[8]["was_there"], &outcomes[9]["was_there"]),
        (&json!(true), &json!(false))
    );
    // A view that is made at run time may be subscribed to.
    serving.run("CREATE VIEW later AS SELECT key, text FROM notes");
    let told = serving.subscribe("later").upto("up_to_date");
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_was_done_before() {
    let serving = Serving::start(SUPPORT);
    let reply = serving.sql("INSERT INTO questions VALUES ('q', 'alpha');\nSELECT * FROM doks");
    assert_eq!(reply.status, 400);
    let said = reply.json();
    assert_eq!(
        (&said["line"], &said["column"]),
        (&json!(2), &json!(15)),
        "{said}"
    );
    assert!(said["outcomes"].is_null(), "{said}");
    assert!(said["error"].is_string() && said["hint"].is_string());
    assert_eq!(
        serving.run("SELECT key FROM questions")[0]["rows"],
        json!([])
    );
    // What only rows tell is told when its turn comes.
    let reply = serving.sql(
        "INSERT INTO questions VALUES ('p', 'alpha'), ('q', 'alpha');\n\
         DELETE FROM questions WHERE key = 'p';\n\
         INSERT INTO questions VALUES ('p', 'beta');\nUPDATE questions SET key = 'x'",
    );
    assert_eq!(reply.status, 400);
    let said = reply.json();
    assert_eq!(said["line"], json!(4), "{said}");
    let done = [2, 1, 1].map(|n| json!({"outcome": "done", "n_rows": n}));
    assert_eq!(said["outcomes"], json!(done));
    serving.run("DELETE FROM questions WHERE key = 'p'");
    // Nothing of a text that cannot be read is carried out.
    let reply = serving.sql("INSERT INTO questions VALUES ('r', 'alpha'); SELEC 1");
    assert_eq!(reply.status, 400);
    assert!(reply.json()["outcomes"].is_null());
    let held = serving.run("SELECT key FROM questions");
    assert_eq!(held[0]["rows"], json!([{"key": "q"}]));
    let reply = serving.sql("SUBSCRIBE TO answers");
    assert!(text(&reply.json()["hint"]).contains("/v1/views/answers/subscribe"));
}

#[test]
fn a_statement_that_waits_keeps_no_other_waiting_and_not_for_ever() {
    let is_held = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let setup = Setup {
        model: Scripted::new().held_while(is_held.clone()),
        limits: {
            let mut limits = limits();
            limits.visible_time = Duration::from_millis(700);
            limits.statements = 4;
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("docs", &line("a", "alpha is one."));
    serving.client().post("questions", line("q", "alpha !slow"));
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| serving.run("SELECT * FROM answers"));
        let outcome = serving.run("CREATE TABLE other (key TEXT, text TEXT)");
        assert_eq!(outcome[0]["outcome"], "created");
        waiting.join().expect("no panic")
    });
    let notices = waiting[0]["notices"].as_array().expect("notices");
    assert!(text(&notices[0]).contains("not all visible"), "{waiting}");
    is_held.store(false, std::sync::atomic::Ordering::SeqCst);
    eventually("it is visible", || {
        let outcome = serving.run("SELECT * FROM answers");
        outcome[0]["rows"]
            .as_array()
            .is_some_and(|rows| rows.len() == 1)
    });
}
