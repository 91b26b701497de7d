//! Scripts of SQL: what they do to an engine, and what is said where they are wrong.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::sql::{Outcome, Script, Session, SessionError};
use perennial::{Engine, Runtime, Update};

/// The example, of which only the declaration is called here.
#[path = "../../examples/subscribe.rs"]
#[allow(dead_code)]
mod subscribe;

fn session() -> Session {
    let (model, embedder) = (Scripted::new(), ScriptedEmbedder::default());
    let runtime = Runtime::scripted(Arc::new(model), Arc::new(embedder));
    Session::new(
        Engine::builder(runtime).start().expect("starts"),
        "scripted",
    )
}

/// What a script's queries give, a row a line, values with `|` between.
fn rows(session: &mut Session, text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let ran = session.run(&Script::new("x.sql", text), |_, outcome| {
        if let Outcome::Rows { rows, .. } = outcome {
            let line = |row: &Arc<[perennial::rows::Value]>| {
                let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                values.join("|")
            };
            all.extend(rows.iter().map(line));
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    all
}

/// Why a script is not carried out.
fn refused(session: &mut Session, text: &str) -> String {
    match session.run(&Script::new("x.sql", text), |_, _| Ok(())) {
        Err(error @ SessionError::Script(_)) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("carried out: {text}"),
    }
}

const TOWNS: &str = "
    CREATE TABLE towns (key TEXT, country TEXT, people INTEGER, since TIMESTAMP, tags JSON);
    INSERT INTO towns (key, country, people) VALUES
        ('bergen', 'no', 290 * 1000), ('oslo', 'no', 710000), ('turku', 'fi', 200000),
        ('nowhere', NULL, NULL);
";

#[test]
fn rows_are_set_changed_and_deleted() {
    let mut session = session();
    rows(&mut session, TOWNS);
    let all = "SELECT key, people FROM towns ORDER BY key";
    assert_eq!(
        rows(&mut session, all),
        [
            "bergen|290000",
            "nowhere|NULL",
            "oslo|710000",
            "turku|200000"
        ]
    );
    rows(
        &mut session,
        "UPDATE towns SET people = people + 1, Country = upper(country) WHERE country = 'no';
         DELETE FROM towns WHERE country IS NULL;
         INSERT INTO towns (key, people, since, tags)
             VALUES ('turku', 1, '1229-01-01T00:00:00Z', '[\"old\", 1]');
         UPDATE towns SET key = 'OSLO' WHERE key = 'oslo';",
    );
    let all = "SELECT key, country, people, tags FROM towns ORDER BY key;
               SELECT since < '1300-01-01T00:00:00Z'::TIMESTAMP FROM towns WHERE key = 'turku'";
    assert_eq!(
        rows(&mut session, all),
        [
            "OSLO|NO|710001|NULL",
            "bergen|NO|290001|NULL",
            "turku|NULL|1|[\"old\",1]",
            "true"
        ]
    );
    rows(&mut session, "DELETE FROM towns");
    assert_eq!(rows(&mut session, "SELECT count(*) FROM towns"), ["0"]);
}

/// An instant that a comparison reads may be stored as it is written.
#[test]
fn instants_are_written_in_a_row_as_they_are_compared() {
    let mut session = session();
    rows(&mut session, "CREATE TABLE days (key TEXT, at TIMESTAMP)");
    let forms = [
        "2026-01-01",
        "2026-01-01 00:00",
        "2026-01-01T01:00:00+01:00",
    ];
    for form in forms {
        rows(
            &mut session,
            &format!("INSERT INTO days (key, at) VALUES ('{form}', '{form}')"),
        );
        let same =
            format!("SELECT key FROM days WHERE key = '{form}' AND at = '2026-01-01T00:00:00Z'");
        assert_eq!(rows(&mut session, &same), [form]);
    }
    rows(&mut session, "UPDATE days SET at = '2026-02-03'");
    assert_eq!(
        rows(&mut session, "SELECT DISTINCT at FROM days"),
        ["1770076800000"]
    );
    let said = refused(
        &mut session,
        "INSERT INTO days (key, at) VALUES ('x', 'tomorrow')",
    );
    assert!(
        said.contains("which `tomorrow` is not") && said.contains("2026-05-01"),
        "{said}"
    );
}

#[test]
fn a_row_that_gets_another_key_takes_no_other_rows() {
    let mut session = session();
    let all = "SELECT key, text FROM r ORDER BY key;";
    rows(
        &mut session,
        "CREATE TABLE r (key TEXT, text TEXT);
         INSERT INTO r VALUES ('a', 'one'), ('b', 'two');",
    );
    let said = refused(&mut session, "UPDATE r SET key = 'b' WHERE key = 'a';");
    assert!(said.contains("another row has that key"), "{said}");
    let said = refused(&mut session, "UPDATE r SET key = 'c';");
    assert!(said.contains("another row has that key"), "{said}");
    assert_eq!(rows(&mut session, all), ["a|one", "b|two"]);
    let swap = "UPDATE r SET key = CASE key WHEN 'a' THEN 'b' ELSE 'a' END;";
    rows(&mut session, swap);
    assert_eq!(rows(&mut session, all), ["a|two", "b|one"]);
    rows(&mut session, "UPDATE r SET key = 'z' WHERE key = 'a';");
    assert_eq!(rows(&mut session, all), ["b|one", "z|two"]);
}

#[test]
fn what_a_view_says_of_nothing_stands_before_anything_comes() {
    let mut session = session();
    let all = "SELECT n FROM counted; SELECT twice FROM over_it; SELECT n FROM constant;";
    rows(
        &mut session,
        "CREATE TABLE r (key TEXT, text TEXT);
         CREATE VIEW counted AS SELECT count(*) AS n FROM r;
         CREATE VIEW over_it AS SELECT n * 2 AS twice FROM counted;
         CREATE VIEW constant AS SELECT 7 AS n;",
    );
    assert_eq!(rows(&mut session, all), ["0", "0", "7"]);
    rows(&mut session, "INSERT INTO r VALUES ('a', 'one');");
    assert_eq!(rows(&mut session, all), ["1", "2", "7"]);
}

#[test]
fn views_of_queries_are_kept_and_listed() {
    let mut session = session();
    rows(&mut session, TOWNS);
    rows(
        &mut session,
        "CREATE VIEW countries AS
             SELECT country, sum(people) AS people FROM towns
             WHERE country IS NOT NULL GROUP BY country;
         CREATE VIEW large AS SELECT country FROM countries WHERE people > 500000;",
    );
    assert_eq!(rows(&mut session, "SELECT * FROM large"), ["no"]);
    rows(
        &mut session,
        "UPDATE towns SET people = 900000 WHERE key = 'turku'",
    );
    assert_eq!(
        rows(&mut session, "SELECT * FROM large ORDER BY 1 DESC"),
        ["no", "fi"]
    );
    let shown = rows(&mut session, "SHOW VIEWS");
    assert!(
        shown[0].starts_with("countries|SELECT|towns|2|"),
        "{shown:?}"
    );
    assert_eq!(
        rows(&mut session, "SHOW COLUMNS FROM countries"),
        ["country|TEXT", "people|INTEGER"]
    );
    let told = refused(&mut session, "DROP VIEW countries");
    assert!(
        told.contains("x.sql:1:11") && told.contains("large"),
        "{told}"
    );
    rows(
        &mut session,
        "DROP VIEW large; DROP VIEW countries; DROP VIEW IF EXISTS large",
    );
    assert_eq!(rows(&mut session, "SHOW VIEWS"), [""; 0]);
}

#[test]
fn a_continuous_view_answers_from_the_rows_of_its_own_session() {
    let mut session = session();
    let script = "
        CREATE TABLE turns (key TEXT, text TEXT, session TEXT);
        CREATE TABLE questions (key TEXT, text TEXT, session TEXT);
        CREATE CONTINUOUS VIEW replies AS LLM_GENERATE(
            PROMPT = 'Answer.',
            CONTEXT = STREAM(questions),
            DATA_SOURCE = STREAM(turns) MATCHING (session)
        ) WITH (SCOPE = 'window:64', MAX_TOKENS = 200);
        INSERT INTO turns VALUES ('1', 'The lamp is blue. ', 'a'), ('2', 'The lamp is red. ', 'b');
        INSERT INTO questions VALUES
            ('qa', 'Which lamp', 'a'), ('qb', 'Which lamp', 'b'), ('qc', 'Which lamp', 'c');";
    rows(&mut session, script);
    let replies = "SELECT key, text FROM replies ORDER BY key";
    let said = rows(&mut session, replies);
    assert!(
        said.contains(&"qa|The lamp is blue.".to_owned()),
        "{said:?}"
    );
    assert!(said.contains(&"qb|The lamp is red.".to_owned()), "{said:?}");
    rows(
        &mut session,
        "UPDATE turns SET text = 'The lamp is green. ' WHERE key = '2'",
    );
    let said = rows(&mut session, replies);
    assert!(
        said.contains(&"qb|The lamp is green.".to_owned()),
        "{said:?}"
    );
    // Views of queries over answers.
    let long = "CREATE VIEW words AS SELECT key, length(text) AS n FROM replies;
                SELECT n FROM words WHERE key = 'qb'";
    assert_eq!(rows(&mut session, long), ["18"]);
}

#[test]
fn sources_and_sinks_are_named_in_the_script() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("hours.md"), "The library opens at nine. ").expect("writable");
    let questions = "{\"upsert\": {\"key\": \"q\", \"text\": \"When opens the library\"}}\n";
    fs::write(path("q.jsonl"), questions).expect("writable");
    let mut session = session().once();
    let script = format!(
        "CREATE SOURCE notes FROM FOLDER '{}';
         CREATE SOURCE questions FROM FILE '{}';
         CREATE CONTINUOUS VIEW answers AS
             LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes));
         CREATE SINK out FROM answers INTO '{}';
         SELECT text FROM answers;
         SHOW SINKS;",
        path("."),
        path("q.jsonl"),
        path("out.jsonl"),
    );
    let said = rows(&mut session, &script);
    assert_eq!(said[0], "The library opens at nine.");
    assert!(said[1].starts_with("out|answers|"), "{said:?}");
    rows(&mut session, "DROP SINK out");
    let delivered = fs::read_to_string(path("out.jsonl")).expect("readable");
    assert!(
        delivered.contains("The library opens at nine."),
        "{delivered}"
    );
}

#[test]
fn a_subscription_tells_what_stands_unless_it_is_not_wanted() {
    let mut session = session();
    rows(&mut session, TOWNS);
    rows(
        &mut session,
        "CREATE VIEW all_towns AS SELECT key FROM towns; SELECT * FROM all_towns",
    );
    let subscribed = |text: &str| {
        let mut found = None;
        let script = Script::new("x.sql", text);
        let ran = session.run(&script, |_, outcome| {
            if let Outcome::Subscription { updates, after, .. } = outcome {
                found = Some((updates, after));
            }
            Ok(())
        });
        assert!(ran.is_ok(), "{ran:?}");
        found.expect("a subscription")
    };
    let (updates, after) = subscribed("SUBSCRIBE TO all_towns");
    let Some(Update::Rows(first)) = updates.try_recv() else {
        panic!("what stands comes first");
    };
    assert_eq!((first.rows.len(), after), (4, None));
    let (_, after) = subscribed("SUBSCRIBE TO all_towns WITH (SNAPSHOT = false)");
    assert_eq!(after, Some(first.epoch));
    let present = format!("SUBSCRIBE TO all_towns AS OF {}", first.epoch);
    subscribed(&present);
    let told = refused(&mut session, "SUBSCRIBE TO all_towns AS OF 99");
    assert!(told.contains("x.sql:1:30"), "{told}");
}

#[test]
fn a_document_is_forgotten_and_a_plan_explained() {
    let mut session = session();
    rows(&mut session, TOWNS);
    let mut told = Vec::new();
    let script = Script::new(
        "x.sql",
        "FORGET 'oslo' FROM towns;
         EXPLAIN SELECT key FROM towns WHERE people > 1;
         EXPLAIN CREATE CONTINUOUS VIEW a AS
             LLM_GENERATE(CONTEXT = STREAM(towns), DATA_SOURCE = STREAM(towns))
             WITH (SCOPE = 'window:64', DELIVER = EACH);",
    );
    let ran = session.run(&script, |_, outcome| {
        match outcome {
            Outcome::Forgotten(receipt) => told.push(format!("{}", receipt.was_there)),
            Outcome::Plan(plan) => told.push(plan),
            _ => panic!("neither"),
        }
        Ok(())
    });
    assert!(ran.is_ok(), "{ran:?}");
    assert_eq!(told[0], "true");
    assert!(told[1].contains("towns"), "{}", told[1]);
    assert!(told[2].contains("WINDOW(64)"), "{}", told[2]);
    assert!(told[2].contains("delivery EACH"), "{}", told[2]);
    assert_eq!(rows(&mut session, "SELECT count(*) FROM towns"), ["3"]);
    assert_eq!(rows(&mut session, "SHOW VIEWS"), [""; 0]);
}

#[test]
fn what_cannot_be_carried_out_is_said_at_its_place() {
    let mut session = session();
    rows(&mut session, TOWNS);
    rows(
        &mut session,
        "CREATE VIEW v AS SELECT key, country FROM towns; CREATE MODEL small FROM 'scripted'",
    );
    let over = |context: &str, rest: &str| {
        format!(
            "CREATE CONTINUOUS VIEW a AS\n LLM_GENERATE(CONTEXT = STREAM({context}), \
             DATA_SOURCE = STREAM(towns){rest}"
        )
    };
    for (text, place, says) in [
        ("CREATE TABLE towns (key TEXT)", "1:14", "already"),
        ("CREATE TABLE v (key TEXT)", "1:14", "DROP VIEW v"),
        (&over("town", ")"), "2:32", "did you mean towns?"),
        (
            &over("towns", " MATCHING (land))"),
            "2:78",
            "no column land",
        ),
        (
            &over("towns", ") WITH (MODEL = big)"),
            "2:75",
            "there is no model big",
        ),
        (
            &over("towns", ") WITH (MODEL = smal)"),
            "2:75",
            "did you mean small?",
        ),
        ("CREATE MODEL small FROM 'scripted'", "1:14", "already"),
        (
            "CREATE MODEL big FROM 'other'",
            "1:23",
            "nothing opens models here",
        ),
        (
            &over("towns", ") WITH (MAX_TOKENS = 1000000)"),
            "1:1",
            "max_tokens",
        ),
        (
            &over("towns", ") WITH (MAX_TOKENS = 18446744073709551615)"),
            "2:88",
            "at most 1000000",
        ),
        (
            "SELECT sem_map('{key}', max_tokens => 18446744073709551615) AS x FROM towns",
            "1:25",
            "1 to 1000000",
        ),
        ("CREATE VIEW w AS SELECT kee FROM towns", "1:25", "kee"),
        ("SELECT *\nFROM tonws", "2:6", "tonws"),
        (
            "CREATE SINK s FROM nothing INTO 'x'",
            "1:20",
            "no relation nothing",
        ),
        ("CREATE SOURCE s FROM FOLDER './no-such'", "1:29", "no-such"),
        (
            "CREATE SOURCE s FROM HTTP WITH (LISTEN = 'x')",
            "1:33",
            "listen",
        ),
        ("INSERT INTO v VALUES ('a', 'b')", "1:13", "no table"),
        (
            "INSERT INTO towns (key, land) VALUES ('a', 'b')",
            "1:25",
            "no column land",
        ),
        (
            "INSERT INTO towns (key, people)\nVALUES ('a', 1), ('b', 'many')",
            "2:24",
            "INTEGER",
        ),
        (
            "INSERT INTO towns (key, since) VALUES ('a', 'today')",
            "1:45",
            "2026-05-01",
        ),
        ("INSERT INTO towns (country) VALUES ('a')", "1:13", "no key"),
        (
            "INSERT INTO towns (key) VALUES (NULL)",
            "1:33",
            "cannot be NULL",
        ),
        (
            "INSERT INTO towns VALUES ('a', 'b')",
            "1:27",
            "2 values for 5 columns",
        ),
        ("INSERT INTO towns (key) VALUES (kee)", "1:33", "kee"),
        (
            "UPDATE towns SET people = 'x' WHERE key = 'oslo'",
            "1:27",
            "INTEGER",
        ),
        ("UPDATE towns SET land = 'x'", "1:18", "no column land"),
        ("UPDATE towns SET people = peple + 1", "1:27", "peple"),
        ("DELETE FROM towns WHERE kee = 'a'", "1:25", "kee"),
        ("SUBSCRIBE TO towns", "1:14", "CREATE VIEW"),
        ("SHOW COLUMNS FROM town", "1:19", "did you mean towns?"),
        ("DROP VIEW towns", "1:11", "DROP TABLE towns"),
        ("DROP TABLE town", "1:12", "there is no table town"),
        ("DROP SINK s", "1:11", "there is no sink s"),
        ("DROP TABLE towns", "1:12", "v"),
        ("FORGET 'oslo' FROM v", "1:8", "v"),
    ] {
        let told = refused(&mut session, text);
        let at = format!("x.sql:{place}:");
        assert!(
            told.starts_with(&at) && told.contains(says),
            "{text}\n{told}"
        );
        assert!(told.contains('^'), "{told}");
    }
    // Nothing of it was done.
    assert_eq!(rows(&mut session, "SELECT count(*) FROM towns"), ["4"]);
    assert_eq!(rows(&mut session, "SHOW SINKS; SHOW SOURCES"), [""; 0]);
}

#[test]
fn a_script_is_checked_against_what_it_makes_before_any_of_it_is_carried_out() {
    let mut session = session();
    rows(&mut session, TOWNS);
    let wrong = "DELETE FROM towns;\nSELECT nonsense FROM towns;\nSELECT 1 FROM nowhere;";
    let told = refused(&mut session, wrong);
    assert!(
        told.contains("x.sql:2:8:") && told.contains("x.sql:3:15:"),
        "{told}"
    );
    assert_eq!(rows(&mut session, "SELECT count(*) FROM towns"), ["4"]);
    let wrong = "CREATE VIEW v AS SELECT key FROM towns;\nSELECT country FROM v;\nDROP TABLE towns;\n\
                 CREATE TABLE v (key TEXT);\nUPDATE towns SET people = 'many' WHERE FALSE;";
    let told = refused(&mut session, wrong);
    for place in ["2:8", "3:12", "4:14", "5:27"] {
        assert!(told.contains(&format!("x.sql:{place}:")), "{place}\n{told}");
    }
    assert!(told.contains("is used by v"), "{told}");
    assert_eq!(rows(&mut session, "SHOW VIEWS"), [""; 0]);
    // What is wrong with a view is not wrong with those who read it, too.
    let wrong = "CREATE VIEW v AS SELECT kee FROM towns;\nSELECT anything FROM v;";
    let told = refused(&mut session, wrong);
    assert_eq!(told.matches("x.sql:").count(), 1, "{told}");
    // A name may be taken again once it is free.
    let sound = "CREATE VIEW v AS SELECT key FROM towns;
                 DROP VIEW v;
                 CREATE VIEW v AS SELECT count(*) AS n FROM towns;
                 SELECT n FROM v;
                 DROP VIEW v; DROP TABLE towns;
                 CREATE TABLE towns (key TEXT, mayor TEXT);
                 INSERT INTO towns VALUES ('oslo', 'Anne');
                 SELECT mayor FROM towns";
    assert_eq!(rows(&mut session, sound), ["4", "Anne"]);
}

#[test]
fn columns_that_come_with_rows_are_not_missed_before_they_are_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("docs.jsonl");
    fs::write(
        &path,
        "{\"key\": \"a\", \"text\": \"A lamp.\", \"price\": 3}\n",
    )
    .expect("writable");
    let mut session = session().once();
    let source = format!("CREATE SOURCE docs FROM FILE '{}';", path.display());
    let told = refused(
        &mut session,
        &format!("{source}\nCREATE VIEW w AS SELECT key FROM docs;\nSELECT price FROM w;"),
    );
    assert!(told.starts_with("x.sql:3:8:"), "{told}");
    assert_eq!(rows(&mut session, "SHOW SOURCES"), [""; 0]);
    let script = format!(
        "{source} SELECT count(*) FROM docs; CREATE VIEW v AS SELECT * FROM docs; SELECT price FROM v;"
    );
    assert_eq!(rows(&mut session, &script), ["1", "3"]);
}

fn perennial(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(stdin.as_bytes()).expect("read");
    drop(input);
    child.wait_with_output().expect("ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_script_without_a_model_runs_and_ends() {
    let script = format!(
        "{TOWNS}
         CREATE VIEW large AS SELECT key, people FROM towns WHERE people > 250000;
         SELECT * FROM large ORDER BY people;"
    );
    let output = perennial(&["run", "--once", "-"], &script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("bergen") && shown.contains("2 rows"),
        "{shown}"
    );
    let output = perennial(&["run", "--once", "--json", "-"], &script);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(result["columns"], serde_json::json!(["key", "people"]));
    assert_eq!(result["rows"][1]["people"], 710_000);
}

#[test]
fn a_source_that_fails_is_told_by_who_reads_what_stands_behind_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let table = dir.path().join("prices.csv");
    fs::write(&table, "key,price\na,\"1\nb,2\nc,3\n").expect("writable");
    let script = format!(
        "CREATE SOURCE prices (key TEXT, price INTEGER) FROM TABLE '{}';
         CREATE VIEW dear AS SELECT * FROM prices WHERE price > 1;
         CREATE TABLE other (key TEXT);
         SELECT count(*) FROM dear;
         SELECT count(*) FROM other;",
        table.display()
    );
    let ran = perennial(&["run", "--once", "--json", "-"], &script);
    let lines = text(&ran.stdout);
    let results = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let results: Vec<serde_json::Value> = results.collect();
    let notice = results[0]["notices"][0].as_str().unwrap_or_default();
    assert!(notice.starts_with("source prices has failed: "), "{lines}");
    assert!(
        notice.contains("a quote is opened and not closed"),
        "{lines}"
    );
    assert_eq!(results[1]["notices"], serde_json::Value::Null);
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("prices cannot be read"));
}

#[test]
fn a_wrong_script_is_refused_whole() {
    let output = perennial(&["run", "-"], "SELECT 1;\nSELEC 2;\nDROP TABEL x;");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let told = text(&output.stderr);
    assert!(
        told.contains("stdin:2:1: ") && told.contains("stdin:3:6: "),
        "{told}"
    );
    assert!(
        told.contains("\n  2 | SELEC 2;\n    | ^^^^^\n  try: did you mean SELECT?"),
        "{told}"
    );
    for command in ["run", "sql"] {
        let args: &[&str] = match command {
            "run" => &["run", "-"],
            _ => &["sql"],
        };
        let output = perennial(args, "SELECT 1;\nSELECT nonsense FROM nowhere;");
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert_eq!(text(&output.stdout), "", "{command}");
        assert!(text(&output.stderr).contains("stdin:2:"), "{command}");
    }
    let output = perennial(&["run", "./no-such.sql"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no-such.sql"));
}

#[test]
fn a_wrong_script_opens_no_model_and_makes_no_state() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let script = dir.path().join("wrong.sql");
    let asks =
        "CREATE TABLE notes (key TEXT, text TEXT);\nSELECT sem_map('Shorten {txt}') FROM notes;";
    fs::write(&script, asks).expect("writable");
    let (script, state) = (script.display().to_string(), state.display().to_string());
    let commands: &[&[&str]] = match cfg!(feature = "mcp") {
        true => &[&["run"], &["serve", "--listen", "127.0.0.1:0"], &["mcp"]],
        false => &[&["run"]],
    };
    for command in commands {
        let options = [&script, "--model", "./no-such.gguf", "--state", &state];
        let output = perennial(&[command, &options[..]].concat(), "");
        let told = text(&output.stderr);
        assert!(told.contains("wrong.sql:2:"), "{command:?}: {told}");
        assert!(!told.contains("no-such"), "{command:?}: {told}");
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(!std::path::Path::new(&state).exists(), "{command:?}");
    }
}

#[test]
fn the_real_model_answers_a_script() {
    let dir = tempfile::tempdir().expect("a folder");
    let notes = dir.path().join("notes");
    fs::create_dir(&notes).expect("writable");
    fs::write(
        notes.join("hours.md"),
        "The library opens at nine o'clock.\n",
    )
    .expect("writable");
    let script = format!(
        "CREATE MODEL small FROM 'smollm2-135m';
         CREATE SOURCE notes FROM FOLDER '{}';
         CREATE TABLE questions (key TEXT, text TEXT);
         INSERT INTO questions VALUES ('q', 'When does the library open?');
         CREATE CONTINUOUS VIEW answers AS
             LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes))
             WITH (MODEL = small, MAX_TOKENS = 24);",
        notes.display()
    );
    let state = dir.path().join("state");
    let state = state.to_str().expect("UTF-8");
    let run = || {
        let output = perennial(&["run", "--once", "--json", "--state", state, "-"], &script);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        let events = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object"));
        let mut events: Vec<serde_json::Value> = events.collect();
        events.retain(|event| event["event"] == "answer");
        assert_eq!(events.len(), 1, "{lines}");
        events.remove(0)
    };
    let first = run();
    assert_eq!(first["view"], "answers");
    assert!(
        first["text"].as_str().is_some_and(|text| !text.is_empty()),
        "{first}"
    );
    // What stands is not written again.
    let again = run();
    assert_eq!(again["text"], first["text"]);
    assert_eq!(again["rung"], "keep");
}

#[test]
fn all_that_has_no_answer_in_the_end_is_counted() {
    let script = "
        CREATE TABLE notes (key TEXT, text TEXT);
        CREATE TABLE nothing (key TEXT, text TEXT);
        CREATE TABLE questions (key TEXT, text TEXT);
        INSERT INTO questions VALUES ('q', 'When?'), ('r', 'Where?');
        CREATE CONTINUOUS VIEW a AS
            LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(nothing));
        CREATE CONTINUOUS VIEW b AS
            LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(nothing));
        CREATE CONTINUOUS VIEW c AS
            LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes))
            WITH (MAX_TOKENS = 4);
        SELECT count(*) FROM c;
        INSERT INTO notes VALUES ('hours', 'The library opens at nine.');";
    let run = ["run", "--once", "--model", "smollm2-135m", "-"];
    let output = perennial(&run, script);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("4 of 6 questions could not be answered"),
        "{said}"
    );
}

#[test]
fn the_real_model_is_asked_about_rows_and_says_the_same_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = "
        CREATE MODEL small FROM 'smollm2-135m';
        CREATE TABLE notes (key TEXT, text TEXT);
        INSERT INTO notes VALUES
            ('a', 'What a wonderful evening, thank you so much!'),
            ('b', 'The heating is broken again. Terrible.');
        CREATE VIEW moods AS
            SELECT key,
                   sem_classify('Is {text} happy or angry?', 'happy', 'angry') AS mood,
                   sem_map('Repeat {text}', max_tokens => 6) AS said
            FROM notes WHERE sem_filter('Is {text} written in English?') IS NOT NULL;
        SELECT key, mood, said FROM moods ORDER BY key;";
    let state = dir.path().join("state");
    let state = state.to_str().expect("UTF-8");
    let run = |args: &[&str]| {
        let args = [&["run", "--once", "--json"], args, &["-"]].concat();
        let output = perennial(&args, script);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        let results = lines.lines().filter(|line| line.contains("\"result\""));
        let results: Vec<String> = results.map(str::to_owned).collect();
        assert_eq!(results.len(), 1, "{lines}");
        results[0].clone()
    };
    let first = run(&["--state", state]);
    let result: serde_json::Value = serde_json::from_str(&first).expect("an object");
    let rows = result["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{first}");
    for row in rows {
        assert!(
            matches!(row["mood"].as_str(), Some("happy" | "angry")),
            "{row}"
        );
        assert!(
            row["said"].as_str().is_some_and(|said| !said.is_empty()),
            "{row}"
        );
    }
    let summary = perennial::state::check(std::path::Path::new(state)).expect("whole");
    assert_eq!(summary.n_outputs, 6);
    // The state, or one worker more, changes nothing of what is said.
    assert_eq!(run(&["--state", state]), first);
    assert_eq!(run(&["--workers", "2"]), first);
}

#[test]
fn the_example_in_rust_declares_what_the_statement_says() {
    use perennial::views::sql::{Statement, parse};
    let text = "CREATE CONTINUOUS VIEW answers AS
                LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs));";
    let mut statements = parse(&Script::new("x.sql", text)).expect("sound");
    let Statement::CreateContinuousView(of_sql) = statements.remove(0).of else {
        panic!("a view");
    };
    let plan = |view: perennial::View| view.plan(8192, 12).expect("fits");
    let (of_sql, of_rust) = (plan(of_sql.view()), plan(subscribe::view()));
    assert_eq!(of_sql, of_rust);
    let digests = ([1; 32], [2; 32]);
    assert_eq!(
        of_sql.definition(&digests.0, &digests.1),
        of_rust.definition(&digests.0, &digests.1)
    );
}
