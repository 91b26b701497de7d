//! The program, as scripts and people use it. The model is the small real one, which the
//! locator fetches if it is not on this machine.

mod folders;
mod watching;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const MODEL: &str = "smollm2-135m";

fn perennial(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
    command.args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    perennial(args).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Whether an answer's text holds a word.
fn tells(answer: &Value, word: &str) -> bool {
    let text = answer["text"].as_str();
    text.is_some_and(|text| text.contains(word))
}

/// A folder of two notes.
fn notes() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("writable");
    write(
        "hours.md",
        "# Opening hours\n\nThe library opens at nine o'clock in the morning.\n",
    );
    write(
        "pets.md",
        "# Pets\n\nDogs are not allowed in the reading room.\n",
    );
    dir
}

/// Runs what ends with `code` and an error that `says` so.
fn refused(args: &[&str], code: i32, says: &str) -> Output {
    let output = run(args);
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(says), "{args:?}: {stderr}");
    output
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_to_do() {
    let dir = notes();
    let folder = path(dir.path());
    for (args, says) in [
        (vec!["watch"], "PATH"),
        (vec!["watch", folder], "question is missing"),
        (
            vec!["watch", "When does it open?"],
            "folder of documents is missing",
        ),
        (vec!["watch", folder, " "], "a question is empty"),
        (
            vec!["watch", folder, "What is there?", "What else?"],
            "with -q",
        ),
        (
            vec!["watch", folder, "Q?", "--scope", "sideways"],
            "independent",
        ),
        (
            vec!["watch", folder, "Q?", "--scope", "window:0"],
            "window:128",
        ),
        (
            vec!["watch", folder, "Q?", "--scope", "boundary"],
            "boundary:N",
        ),
        (vec!["watch", folder, "Q?", "--memory", "much"], "512M"),
        (
            vec!["watch", folder, "Q?", "--target-lag", "1 day"],
            "30 s, 5 m or 1 h",
        ),
        (
            vec!["watch", folder, "Q?", "--max-tokens", "0"],
            "at least 1",
        ),
        (vec!["watch", folder, "Q?", "--progress"], "--json"),
        (vec!["watsh", folder, "Q?"], "watch"),
        (
            vec!["watch", folder, "Q?", "--once", "--listen", "127.0.0.1:0"],
            "--once",
        ),
        (
            vec!["watch", "--listen", "127.0.0.1:0"],
            "question is missing",
        ),
        (
            vec!["watch", folder, "Q?", "--contexts", "http"],
            "--listen",
        ),
        (
            vec!["watch", folder, "Q?", "--listen-token-file", "t"],
            "--listen",
        ),
        (
            vec!["watch", folder, "Q?", "--columns", "key=id"],
            "--columns without a table",
        ),
        (
            vec!["watch", folder, "Q?", "--kafka", "client.id=x"],
            "without a topic",
        ),
        (
            vec!["watch", folder, "Q?", "--context-window", "100"],
            "--context-window",
        ),
        (
            vec![
                "watch",
                folder,
                "Q?",
                "--price-input",
                "0.15",
                "--price-output",
                "0.6",
                "--currency",
                "USD",
            ],
            "prices are of a model behind HTTP",
        ),
        (
            vec!["watch", folder, "Q?", "--price-input", "0.15"],
            "--price-output",
        ),
    ] {
        let output = refused(&args, 2, says);
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn what_cannot_be_opened_exits_with_1_and_is_named() {
    let dir = notes();
    let folder = path(dir.path());
    let broken = dir.path().join("broken.gguf");
    fs::write(&broken, b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").expect("writable");
    let foreign = dir.path().join("foreign.gguf");
    fs::write(&foreign, "not a model at all").expect("writable");
    for (args, says) in [
        (
            vec!["watch", "./no-such-folder", "Q?"],
            "./no-such-folder: no such file or folder",
        ),
        (
            vec!["watch", "/dev/null", "Q?"],
            "/dev/null: neither a folder nor a file",
        ),
        (
            vec!["watch", folder, "Q?", "--include", "a["],
            "the pattern \"a[\"",
        ),
        (vec!["watch", "./none.jsonl", "Q?"], "none.jsonl"),
        (
            vec!["watch", folder, "Q?", "--contexts", "./none.jsonl"],
            "none.jsonl",
        ),
        (
            vec!["watch", folder, "Q?", "--model", "./none.gguf"],
            "none.gguf",
        ),
        (
            vec!["watch", folder, "Q?", "--model", path(&broken)],
            "broken.gguf",
        ),
        (
            vec!["watch", folder, "Q?", "--model", path(&foreign)],
            "foreign.gguf",
        ),
        (vec!["watch", folder, "Q?", "--model", "smolm"], MODEL),
        (
            vec!["watch", folder, "Q?", "--listen", "0.0.0.0:0"],
            "--listen-token-file",
        ),
        (
            vec!["watch", folder, "Q?", "--listen", "nowhere"],
            "cannot listen at nowhere",
        ),
        (
            vec!["watch", folder, "Q?", "--sink", "https://u:hunter2@"],
            "URL of a webhook",
        ),
        (vec!["explain", "./no-such-folder", "Q?"], "no-such-folder"),
        (vec!["run", "./no-such.sql"], "check the spelling"),
        (vec!["status", "http://127.0.0.1:9"], "check that it runs"),
    ] {
        let output = refused(&args, 1, says);
        assert!(
            stderr(&output).starts_with("error: "),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn what_is_said_of_a_model_that_a_script_does_not_ask_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("script.sql");
    fs::write(&script, "CREATE MODEL m FROM 'smollm2-135m';").expect("writable");
    for said in [
        ["--arithmetic", "int8"],
        ["--key-file", "./key"],
        ["--context-window", "4096"],
        ["--profile", "./p.json"],
        ["--warm", "k8v4"],
    ] {
        let args = [&["run", "--once", path(&script)][..], &said].concat();
        refused(&args, 2, "CREATE MODEL name");
    }
}

#[test]
fn statements_that_ask_nothing_open_no_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("script.sql");
    let carry_out = |sql: &str| {
        fs::write(&script, sql).expect("writable");
        run(&["sql", "--model", "./no-such-model.gguf", path(&script)])
    };
    let output = carry_out("SELECT 40 + 2 AS n;");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("42"), "{}", stdout(&output));

    let output = carry_out(
        "CREATE TABLE notes (key TEXT, text TEXT); SELECT sem_map('Shorten {text}') FROM notes;",
    );
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("no-such-model"));
}

#[test]
fn a_name_that_is_no_models_is_told_before_anybody_asks_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("script.sql");
    fs::write(&script, "SELECT 40 + 2 AS n;").expect("writable");
    let args = ["sql", "--model", "no-such-model", path(&script)];
    let output = refused(&args, 1, "no-such-model");
    assert!(stderr(&output).contains("smollm2-135m"));
    fs::write(
        &script,
        "CREATE TABLE t (key TEXT);\nCREATE MODEL m FROM 'smolm2-135m';",
    )
    .expect("writable");
    for command in ["run", "serve"] {
        let args = [command, path(&script)];
        let output = refused(&args, 2, "smolm2-135m");
        let told = stderr(&output);
        assert!(told.contains("script.sql:2:21"), "{command}: {told}");
    }
}

#[test]
fn models_and_plans_are_told() {
    let output = run(&["models"]);
    assert!(output.status.success());
    assert!(stdout(&output).contains(MODEL) && stdout(&output).contains("all-minilm-l6-v2"));

    let dir = notes();
    let args = [
        "explain",
        path(dir.path()),
        "Q?",
        "--model",
        MODEL,
        "--scope",
        "window:64",
    ];
    let output = run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    for says in [
        "LLM_GENERATE",
        "WINDOW(64)",
        "documents: 2, 2 passages",
        "all passages fit",
    ] {
        assert!(stdout(&output).contains(says), "{}", stdout(&output));
    }
    let output = run(&[&args[..], &["--budget", "1", "--json"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let plan: Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!(plan["event"], "plan");
    assert_eq!(
        (&plan["documents"], &plan["passages"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        (&plan["budget"], &plan["selects"]),
        (&1.into(), &true.into())
    );
    assert!(
        plan["plan"]
            .as_str()
            .is_some_and(|of| of.contains("WINDOW(64)"))
    );
}

#[test]
fn once_answers_on_standard_output_with_its_sources() {
    let dir = notes();
    let question = "When does the library open?";
    let output = run(&[
        "watch",
        "--once",
        "--model",
        MODEL,
        path(dir.path()),
        question,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.starts_with(question) && text.contains("nine"),
        "{text}"
    );
    assert!(text.contains("[hours.md"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn once_is_not_done_before_its_answers_are_delivered() {
    let (dir, out) = (notes(), tempfile::tempdir().expect("a folder"));
    let (sink, state) = (out.path().join("answers.jsonl"), out.path().join("state"));
    let args = ["watch", "--once", "--model", MODEL, path(dir.path())];
    let question = "When does the library open?";
    let delivered = run(&[&args[..], &[question, "--sink", path(&sink)]].concat());
    assert!(delivered.status.success(), "{}", stderr(&delivered));
    let lines = fs::read_to_string(&sink).expect("delivered");
    assert!(lines.contains("nine"), "{lines}");
    // Nobody listens at a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/answers", port.local_addr().expect("bound"));
    drop(port);
    let away = [question, "--sink", &url, "--state", path(&state)];
    refused(&[&args[..], &away].concat(), 1, "they are kept");
    let found = perennial::state::check(&state).expect("whole");
    assert_eq!(found.n_owed, 1);
}

#[test]
fn a_question_that_does_not_fit_is_an_error_and_the_others_are_answered() {
    let dir = notes();
    let long = "Why is the sky so very blue today? ".repeat(1200);
    let args = ["watch", "--once", "--json", "--model", MODEL];
    let questions = ["-q", long.as_str(), "-q", "When does the library open?"];
    let output = run(&[&args[..], &[path(dir.path())], &questions].concat());
    assert_eq!(output.status.code(), Some(1));
    let says = stderr(&output);
    assert!(
        says.contains("1 of 2 questions") && says.contains("does not fit"),
        "{says}"
    );
    let answers: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|event: &Value| event["event"] == "answer")
        .collect();
    assert!(
        answers[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("does not fit"))
    );
    assert!(tells(&answers[1], "nine"));
}
