//! Rows that are posted: to sources and to tables.

use super::*;

#[test]
fn a_table_is_fed_whole_requests_at_a_time_with_tokens() {
    let serving = Serving::start(
        "CREATE TABLE docs (key TEXT, text TEXT, n INTEGER);
         CREATE VIEW all_of_them AS SELECT key, n FROM docs;",
    );
    let mut client = serving.client();
    let row = |key: &str, n: Value| json!({ "key": key, "text": "x", "n": n }).to_string() + "\n";
    let body = row("a", json!(1)) + &row("b", json!("no number")) + &row("c", json!(3));
    let reply = client.post("docs?wait=60", body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let said = reply.json();
    assert_eq!(
        (&said["accepted"], &said["n_rejected"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(said["rejected"][0]["line"], 2);
    assert_eq!(serving.json("/v1/views/all_of_them")["n_rows"], 2);
    let first = reply.token();
    assert_eq!(client.look(&first, 0).json()["visible"], true);
    // One after the other, and in order.
    let tokens: Vec<String> = (0..30)
        .map(|n| {
            let body = match n % 3 {
                2 => gone("a"),
                _ => row("a", json!(n)),
            };
            loop {
                let reply = client.post("docs", &body);
                match reply.status {
                    200 | 202 => break reply.token(),
                    503 => std::thread::sleep(Duration::from_millis(5)),
                    _ => panic!("{}", reply.body),
                }
            }
        })
        .collect();
    let last = client.look(&tokens[29], 60);
    assert_eq!(last.json()["visible"], true, "{}", last.body);
    assert!(
        tokens
            .iter()
            .all(|token| client.look(token, 0).json()["visible"] == true)
    );
    let rows = serving.json("/v1/views/all_of_them")["rows"].clone();
    assert_eq!(rows.as_array().expect("rows").len(), 1, "{rows}");
    let unknown = first.rsplit_once('.').expect("parts").0.to_owned() + ".999";
    assert_eq!(client.look(&unknown, 0).status, 404);
    serving.run("DROP VIEW all_of_them; DROP TABLE docs");
    assert_eq!(client.post("docs", "{}").status, 404);
    serving.run("CREATE TABLE docs (key TEXT, text TEXT)");
    assert_eq!(client.post("docs?wait=60", line("a", "x")).status, 200);
    assert_eq!(client.look(&first, 0).status, 410, "of a table of before");
}

#[test]
fn what_was_posted_stands_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = || {
        let setup = Setup {
            state: Some(dir.path()),
            ..Setup::default()
        };
        Serving::with(SUPPORT, setup)
    };
    let first = start();
    let reply = first
        .client()
        .post("docs?wait=60", line("a", "alpha is one."));
    let of_source = reply.token();
    let reply = first.client().post("questions?wait=60", line("q", "alpha"));
    let of_table = reply.token();
    drop(first);
    let second = start();
    eventually("the answer stands", || {
        second
            .answers("answers")
            .get("q")
            .is_some_and(|text| text == "alpha is one.")
    });
    let mut client = second.client();
    assert_eq!(client.look(&of_source, 60).json()["visible"], true);
    assert_eq!(
        client.look(&of_table, 60).status,
        410,
        "tables do not know of runs before"
    );
}

#[test]
fn a_source_that_is_made_at_run_time_is_posted_to() {
    let serving = Serving::start(SUPPORT);
    assert_eq!(serving.client().post("more", line("a", "x")).status, 404);
    let outcome = serving.run("CREATE SOURCE more FROM HTTP");
    assert!(
        text(&outcome[0]["notice"]).contains("/v1/streams/more"),
        "{outcome}"
    );
    serving.post("more", &line("a", "x is here."));
    assert_eq!(serving.json("/v1/views/more")["n_rows"], 1);
    serving.run("DROP SOURCE more");
    assert_eq!(serving.client().post("more", line("a", "x")).status, 404);
    // One with an address of its own is not posted to here.
    serving.run("CREATE SOURCE own FROM HTTP WITH (LISTEN = '127.0.0.1:0')");
    let reply = serving.client().post("own", line("a", "x"));
    assert_eq!(reply.status, 409, "{}", reply.body);
}

#[test]
fn who_may_read_a_memory_is_not_posted() {
    let serving = Serving::start(
        "CREATE TABLE turns (key TEXT, text TEXT, room TEXT);
         CREATE MEMORY team FROM turns WITH (NAMESPACE = room);",
    );
    let mut client = serving.client();
    let grant = json!({"key": "x", "reader": "eve", "namespace": "desk"}).to_string() + "\n";
    let refused = client.post("team_grants?wait=60", &grant);
    assert_eq!(refused.status, 409, "{}", refused.body);
    let said = refused.json();
    assert!(
        said["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("GRANT READ")),
        "{said}"
    );
    assert_eq!(serving.json("/v1/views/team_grants")["n_rows"], 0);
    // Its rows are, and once it is dropped the name is nobody's.
    assert_eq!(client.post("turns?wait=60", line("a", "x")).status, 200);
    serving.run("DROP MEMORY team; CREATE TABLE team_grants (key TEXT, text TEXT)");
    let posted = client.post("team_grants?wait=60", line("a", "x"));
    assert_eq!(posted.status, 200, "{}", posted.body);
}

#[test]
fn a_column_that_is_not_there_is_refused_by_a_table_and_told_by_a_source() {
    let serving = Serving::start(
        "CREATE TABLE notes (key TEXT, text TEXT);
         CREATE SOURCE docs (key TEXT, text TEXT) FROM HTTP;
         CREATE SOURCE mail FROM HTTP;",
    );
    let mut client = serving.client();
    let wrong = json!({"key": "a", "txet": "x", "text": "y"}).to_string() + "\n";
    let reply = client.post("notes?wait=60", line("b", "x") + &wrong);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let said = reply.json();
    assert_eq!(
        (&said["accepted"], &said["rejected"][0]["line"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        said["rejected"][0]["reason"],
        "there is no column \"txet\"; there are key, text"
    );
    // Nothing accepted is no success, and says so in a word.
    let reply = client.post("notes?wait=60", &wrong);
    assert_eq!(reply.status, 400, "{}", reply.body);
    let said = reply.json();
    assert!(
        text(&said["error"]).starts_with("nothing was accepted: line 1: there is no column"),
        "{said}"
    );
    assert_eq!(serving.json("/v1/views/notes")["n_rows"], 1);
    let said = client.post("docs?wait=60", &wrong).json();
    assert_eq!(
        said["left_out"],
        json!([{"column": "txet", "n_records": 1}])
    );
    assert_eq!(said["accepted"], 1);
    let said = client.post("mail?wait=60", &wrong).json();
    assert_eq!(said["left_out"], json!([]));
    assert_eq!(
        serving.json("/v1/views/mail")["rows"][0]["row"]["txet"],
        "x"
    );
}

#[test]
fn a_row_without_text_is_the_same_whether_it_is_inserted_or_posted() {
    let serving = Serving::start(
        "CREATE TABLE notes (key TEXT, text TEXT, n INTEGER);
         CREATE SOURCE mail (key TEXT, text TEXT, n INTEGER) FROM HTTP;
         CREATE VIEW all_of_them AS SELECT key, text, n FROM notes;",
    );
    let mut client = serving.client();
    serving.run("INSERT INTO notes (key, n) VALUES ('a', 1)");
    serving.run("INSERT INTO notes (key, text, n) VALUES ('b', NULL, 1)");
    for line in [
        json!({"key": "c", "n": 1}),
        json!({"key": "d", "n": 1, "text": null}),
    ] {
        let reply = client.post("notes?wait=60", line.to_string() + "\n");
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let rows = serving.json("/v1/views/all_of_them")["rows"].clone();
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!(
            (&row["row"]["text"], &row["row"]["n"]),
            (&json!(""), &json!(1))
        );
    }
    // A misspelled column is named, with those that there are.
    let misspelled = json!({"key": "e", "txt": "x"}).to_string() + "\n";
    let reply = client.post("notes?wait=60", &misspelled);
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.json()["rejected"][0]["reason"],
        "there is no column \"txt\"; there are key, text, n"
    );
    // What a source is sent is no row of a table: its text is what is asked about.
    let reply = client.post("mail?wait=60", &misspelled);
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.json()["rejected"][0]["reason"],
        "the field \"text\" is missing; the record has \"key\", \"txt\""
    );
}
