//! Statements that are typed one by one: what an earlier process left waits for what is still to be
//! declared, and what was typed outlives the prompt.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use perennial::ask::scripted::Scripted;
use perennial::sql::{self, Outcome, Script};

use crate::hold::Hold;
use crate::tasks::Rig;

const TABLES: &str =
    "CREATE TABLE docs (key TEXT, text TEXT); CREATE TABLE asked (key TEXT, text TEXT);";
const SAID: &str = "CREATE VIEW said AS
    SELECT key, sem_map('Say {text}', max_tokens => 60) AS said FROM docs;";
const VIEWS: &str = "
    CREATE VIEW said AS SELECT key, sem_map('Say {text}', max_tokens => 60) AS said FROM docs;
    CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
        PROMPT = 'Answer.', CONTEXT = STREAM(asked), DATA_SOURCE = STREAM(docs)) WITH (POLICY = 'exact');";

/// An engine over a state, as the prompt has it.
fn open(state: &Path) -> Rig {
    let Rig { session, model } = Rig::over(Scripted::new(), |builder| builder.state(state).held());
    Rig {
        session: session.held(),
        model,
    }
}

/// Carries statements out one by one, as the prompt does. The rows of the last, as text.
fn typed(rig: &Rig, text: &str) -> Vec<String> {
    let script = Script::new("typed", text);
    let statements = sql::parse(&script).expect("SQL");
    let mut last = Vec::new();
    for statement in &statements {
        let outcome = rig.session.execute(&script, statement);
        let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
        rig.session.begin().expect("runs");
        if let Outcome::Rows { rows, .. } = outcome {
            let shown = rows.iter().map(|row| {
                let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                values.join("|")
            });
            last = shown.collect();
        }
    }
    last
}

#[test]
fn what_an_earlier_process_left_is_there_for_what_is_declared_after_rows_came() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = "SELECT key, said FROM said ORDER BY key";
    let answers = "SELECT key, text FROM answers ORDER BY key";
    let first = open(dir.path());
    typed(&first, TABLES);
    typed(
        &first,
        "INSERT INTO docs (key, text) VALUES ('a', 'refunds take days'), ('b', 'shipping is free');
         INSERT INTO asked (key, text) VALUES ('q', 'refunds');",
    );
    typed(&first, VIEWS);
    assert_eq!(typed(&first, all).len(), 2);
    let answered = typed(&first, answers);
    assert_eq!(answered, ["q|refunds take days"]);
    // Two texts, and a question.
    assert_eq!(first.n_calls(), 3);
    drop(first);

    // Rows come and are looked at, and nothing that asks is declared.
    for key in ["c", "d"] {
        let looks = open(dir.path());
        typed(&looks, TABLES);
        typed(
            &looks,
            &format!("INSERT INTO asked (key, text) VALUES ('{key}', 'nothing')"),
        );
        typed(&looks, "SELECT key FROM asked");
        typed(&looks, &format!("DELETE FROM asked WHERE key = '{key}'"));
        typed(&looks, "SELECT key FROM asked");
        assert_eq!(looks.n_calls(), 0);
    }

    let declares = open(dir.path());
    typed(&declares, TABLES);
    typed(
        &declares,
        "INSERT INTO asked (key, text) VALUES ('r', 'shipping')",
    );
    assert_eq!(
        typed(&declares, "SELECT key FROM asked ORDER BY key"),
        ["q", "r"]
    );
    typed(&declares, VIEWS);
    assert_eq!(typed(&declares, all).len(), 2);
    let both = typed(&declares, answers);
    assert_eq!(both, ["q|refunds take days", "r|shipping is free"]);
    assert_eq!(declares.n_calls(), 1, "only the new question is asked");
    // What loses its last use goes all the same, with the next epoch that is stored.
    typed(&declares, "DELETE FROM docs WHERE key = 'b'");
    typed(&declares, all);
    typed(
        &declares,
        "INSERT INTO asked (key, text) VALUES ('z', 'nothing')",
    );
    typed(&declares, answers);
    typed(&declares, "DELETE FROM asked WHERE key = 'z'");
    typed(&declares, answers);
    drop(declares);
    let again = open(dir.path());
    typed(&again, TABLES);
    typed(&again, SAID);
    typed(
        &again,
        "INSERT INTO docs (key, text) VALUES ('b', 'shipping is free')",
    );
    assert_eq!(typed(&again, all).len(), 2);
    assert_eq!(again.n_calls(), 1, "what nobody used is forgotten");
    drop(again);
    let again = open(dir.path());
    typed(&again, TABLES);
    typed(&again, VIEWS);
    assert_eq!(typed(&again, answers), both);
    drop(again);

    // A script declares all: it lets go of what is left for others.
    let mut script = open(dir.path());
    script.run(&format!("{TABLES}{SAID}"));
    script.run("INSERT INTO asked (key, text) VALUES ('s', 'more')");
    script.run("SELECT key FROM asked");
    drop(script);
    let mut script = open(dir.path());
    script.run(&format!("{TABLES}{VIEWS}"));
    script.run(all);
    assert_eq!(script.run(answers).len(), 3);
    assert_eq!(script.n_calls(), 3, "all questions are asked again");
}

#[test]
fn a_script_that_looks_before_it_has_declared_all_asks_nobody_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = "SELECT key, said FROM said ORDER BY key";
    let rows = "INSERT INTO docs (key, text) VALUES ('a', 'refunds take days');";
    let mut rig = open(dir.path());
    rig.run(&format!("{TABLES}{VIEWS}{rows}"));
    let said = rig.run(all);
    assert_eq!(rig.n_calls(), 1);
    drop(rig);
    let mut rig = open(dir.path());
    let another = "INSERT INTO asked (key, text) VALUES ('q', 'nothing');";
    rig.run(&format!(
        "{TABLES}{another} SELECT count(*) FROM asked; {VIEWS}"
    ));
    assert_eq!(rig.run(all), said);
    rig.run("SELECT key FROM answers");
    assert_eq!(rig.n_calls(), 1, "only the new question is asked");
}

#[test]
fn a_sink_that_is_declared_after_rows_came_is_given_only_what_is_new() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, out) = (dir.path().join("state"), dir.path().join("out.jsonl"));
    let view = "CREATE VIEW short AS SELECT key, text FROM docs;";
    let sink = format!("CREATE SINK s FROM short INTO '{}';", out.display());
    let lines = || {
        let all = std::fs::read_to_string(&out).unwrap_or_default();
        all.lines().filter(|line| line.contains("\"row\":")).count()
    };
    // A query may be answered before the view's own epoch is stored and owed to its sink.
    let until_delivered = |n_rows: usize| {
        let until = Instant::now() + Duration::from_secs(60);
        while lines() < n_rows {
            assert!(Instant::now() < until, "the sink takes nothing");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let insert = |key: &str| format!("INSERT INTO docs (key, text) VALUES ('{key}', 'text');");
    let first = open(&state);
    typed(&first, &format!("{TABLES}{view}{sink}"));
    typed(&first, &insert("a"));
    assert_eq!(typed(&first, "SELECT key FROM short"), ["a"]);
    until_delivered(1);
    drop(first);
    assert_eq!(lines(), 1);
    let second = open(&state);
    typed(&second, &format!("{TABLES}{}", insert("b")));
    assert_eq!(typed(&second, "SELECT count(*) FROM docs"), ["2"]);
    typed(&second, &format!("{view}{sink}"));
    assert_eq!(typed(&second, "SELECT count(*) FROM short"), ["2"]);
    until_delivered(2);
    drop(second);
    assert_eq!(lines(), 2, "what it has is not said again");
}

#[test]
fn rows_outlive_an_engine_whose_views_have_not_taken_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let hold = Hold::new();
    let model = Scripted::new().held_while(hold.0.clone());
    let Rig { session, model } = Rig::over(model, |builder| builder.state(dir.path()).held());
    let rig = Rig {
        session: session.held(),
        model,
    };
    typed(&rig, &format!("{TABLES}{VIEWS}"));
    typed(
        &rig,
        "INSERT INTO docs (key, text) VALUES ('a', 'refunds take days !slow');
         INSERT INTO asked (key, text) VALUES ('q', 'refunds !slow');",
    );
    // Its views are at work, and say nothing as long as it is there.
    let ends = std::thread::spawn(move || drop(rig));
    for _ in 0..100 {
        if ends.is_finished() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Whatever it waits for at its end.
    hold.release();
    ends.join().expect("ends");
    let again = open(dir.path());
    typed(&again, TABLES);
    assert_eq!(
        typed(&again, "SELECT key, text FROM docs"),
        ["a|refunds take days !slow"]
    );
    typed(&again, VIEWS);
    assert_eq!(
        typed(&again, "SELECT key, text FROM answers"),
        ["q|refunds take days !slow"]
    );
}

/// What the program prints of statements on its standard input.
fn prompt(state: &Path, statements: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["sql", "--state"])
        .arg(state)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(statements.as_bytes()).expect("read");
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn rows_that_were_typed_outlive_the_prompt() {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 1..4 {
        // Nothing looks at them before the end.
        let insert = format!("{TABLES} INSERT INTO docs (key, text) VALUES ('{n}', 'text {n}');");
        prompt(dir.path(), &insert);
        let told = prompt(
            dir.path(),
            &format!("{TABLES} SELECT count(*) + 40 AS n FROM docs;"),
        );
        assert!(told.contains(&format!("4{n}")), "{told}");
    }
}

#[test]
fn what_a_source_refuses_is_told_though_no_view_is_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("notes.jsonl");
    let bad: String = (0..7)
        .map(|n| format!("{{\"key\":\"{n}\",\"txt\":\"x\"}}\n"))
        .collect();
    std::fs::write(&file, format!("{{\"key\":\"a\",\"text\":\"x\"}}\n{bad}")).expect("writable");
    let script = dir.path().join("script.sql");
    let statements = format!(
        "CREATE SOURCE notes FROM FILE '{}'; SELECT key FROM notes;",
        file.display()
    );
    std::fs::write(&script, statements).expect("writable");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
        let command = command.args(args).arg(&script).stdin(Stdio::null());
        let output = command.env("NO_COLOR", "1").output().expect("ends");
        assert!(output.status.success());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (text(output.stdout), text(output.stderr))
    };
    for command in [&["run", "--once"][..], &["sql"]] {
        let (_, said) = run(command);
        assert_eq!(said.matches("warning: left out: ").count(), 6, "{said}");
        assert!(
            said.contains("notes.jsonl:2 (byte 23): the field \"text\""),
            "{said}"
        );
        assert!(said.contains("2 more records"), "{said}");
    }
    let (told, _) = run(&["run", "--once", "--json"]);
    let lines = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let lines: Vec<serde_json::Value> = lines.collect();
    assert_eq!(lines[0]["event"], "result");
    let n_rejected = lines
        .iter()
        .filter(|line| line["event"] == "rejected")
        .count();
    assert_eq!((n_rejected, lines.len()), (7, 8));
    assert_eq!(lines[1]["source"], "notes");
}
