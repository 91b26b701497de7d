//! Several models in one engine: who asks which, and what each is known to have said.

use std::collections::BTreeMap;
use std::path::Path;

use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, EngineBuilder, Runtime, View};

use crate::stand_in::StandIn;

/// The model that is asked where none is named.
fn plain() -> Runtime {
    StandIn::ending("").runtime()
}

/// Another, told by what it says behind everything.
fn sailor() -> Runtime {
    StandIn::ending(" Ahoy!").runtime()
}

/// A session that opens `sailor`, and nothing else.
fn session(builder: EngineBuilder) -> Session {
    let engine = builder.start().expect("starts");
    Session::new(engine, "plain").opening(|model| match &*model.spec.of {
        "sailor" => Ok(sailor()),
        other => Err(format!("there are no weights of {other}").into()),
    })
}

fn try_run(session: &mut Session, text: &str) -> Result<Vec<String>, String> {
    let mut rows = Vec::new();
    let ran = session.run(&Script::new("m.sql", text), |_, outcome| {
        match outcome {
            Outcome::Rows { rows: all, .. } => {
                let shown = all.iter().map(|row| {
                    let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                    values.join("|")
                });
                rows = shown.collect();
            }
            Outcome::Plan(plan) => rows = plan.lines().map(str::to_owned).collect(),
            _ => {}
        }
        Ok(())
    });
    ran.map_err(|error| error.to_string())?;
    Ok(rows)
}

#[track_caller]
fn run(session: &mut Session, text: &str) -> Vec<String> {
    try_run(session, text).unwrap_or_else(|error| panic!("{error}"))
}

const NOTES: &str = "
    CREATE TABLE notes (key TEXT, text TEXT);
    CREATE TABLE questions (key TEXT, text TEXT);
    INSERT INTO notes VALUES ('hours', 'The library opens at nine.');
    INSERT INTO questions VALUES ('q', 'library');
    CREATE MODEL sailor FROM 'sailor';
";

const VIEWS: &str = "
    CREATE CONTINUOUS VIEW here AS
        LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes));
    CREATE CONTINUOUS VIEW there AS
        LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes))
        WITH (MODEL = sailor);
    CREATE VIEW both AS
        SELECT key, sem_map('{text}', max_tokens => 9) AS a,
               sem_map('{text}', max_tokens => 9, model => sailor) AS b FROM notes;
";

#[test]
fn every_view_and_every_question_asks_the_model_that_it_names() {
    let mut session = session(Engine::builder(plain()).workers(2));
    run(&mut session, NOTES);
    run(&mut session, VIEWS);
    let here = run(&mut session, "SELECT text FROM here");
    assert_eq!(
        run(&mut session, "SELECT text FROM there"),
        [format!("{} Ahoy!", here[0])]
    );
    let both = run(&mut session, "SELECT a, b FROM both");
    let (a, b) = both[0].split_once('|').expect("two");
    assert_eq!(b, format!("{a} Ahoy!"));
    // A query that is evaluated once may, too.
    let once = "SELECT sem_map('{text}', model => sailor) AS a FROM notes";
    assert!(run(&mut session, once)[0].ends_with(" Ahoy!"));
    // An edit reaches both.
    run(
        &mut session,
        "UPDATE notes SET text = 'The library opens at ten.'",
    );
    let here = run(&mut session, "SELECT text FROM here");
    let there = run(&mut session, "SELECT text FROM there");
    assert!(here[0].contains("ten"), "{here:?}");
    assert_eq!(there, [format!("{} Ahoy!", here[0])]);
    let plan = run(
        &mut session,
        &format!("EXPLAIN {}", once.replace("sem_map", "sem_filter")),
    );
    assert!(
        plan.iter()
            .any(|line| line.contains("asked is sailor (sailor)")),
        "{plan:?}"
    );
}

#[test]
fn a_model_is_there_before_who_asks_it_and_is_not_dropped_under_it() {
    let mut session = session(Engine::builder(plain()));
    run(&mut session, NOTES);
    run(&mut session, VIEWS);
    assert_eq!(run(&mut session, "SHOW MODELS"), ["sailor|sailor|false"]);
    for (text, says) in [
        ("DROP MODEL sailor", "used by there, both"),
        ("DROP MODEL soldier", "there is no model soldier"),
        (
            "CREATE MODEL b FROM 'soldier'",
            "there are no weights of soldier",
        ),
        (
            "CREATE VIEW v AS SELECT sem_filter('{text}', model => sailer) AS a FROM notes",
            "there is no model `sailer`; did you mean `sailor`?",
        ),
    ] {
        let error = try_run(&mut session, text).expect_err(text);
        assert!(error.contains(says), "{text}\n{error}");
    }
    run(
        &mut session,
        "DROP VIEW both; DROP VIEW there; DROP MODEL sailor",
    );
    assert_eq!(run(&mut session, "SHOW MODELS"), [""; 0]);
    let refused = Engine::builder(plain())
        .table("notes")
        .table("questions")
        .view(
            View::named("v")
                .context("questions")
                .data_source("notes")
                .model("nobody"),
        )
        .start();
    let error = refused.err().expect("refused").to_string();
    assert!(error.contains("there is no model `nobody`"), "{error}");
}

#[test]
fn two_names_of_one_model_are_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let asked = dir.path().join("asked");
    let runtime = StandIn::writing(asked.clone()).runtime();
    let engine = Engine::builder(runtime).start().expect("starts");
    engine.create_model("same", &plain()).expect("a name");
    let mut session = Session::new(engine, "plain");
    run(
        &mut session,
        "CREATE TABLE notes (key TEXT, text TEXT); INSERT INTO notes VALUES ('a', 'Rain.');
         CREATE VIEW v AS SELECT sem_map('{text}') AS a, sem_map('{text}', model => same) AS b
         FROM notes; SELECT * FROM v",
    );
    let asked = std::fs::read_to_string(asked).expect("asked");
    assert_eq!(asked.lines().count(), 1, "{asked}");
}

/// All that two views of two models and a query of both say after these texts of notes, in one
/// process or, where `restarts`, in one for each of them.
fn said(texts: &[&str], restarts: Option<&Path>) -> BTreeMap<&'static str, Vec<String>> {
    let open = || {
        let builder = Engine::builder(plain());
        let mut session = session(match restarts {
            Some(dir) => builder.state(dir).held(),
            None => builder.held(),
        })
        .held();
        let notes = NOTES.replace(
            "INSERT INTO notes VALUES ('hours', 'The library opens at nine.');",
            "",
        );
        run_declared(&mut session, &format!("{notes}{VIEWS}"));
        session
    };
    let mut session = open();
    for text in texts {
        if restarts.is_some() {
            drop(session);
            session = open();
        }
        let insert = format!("INSERT INTO notes VALUES ('hours', '{text}')");
        run(&mut session, &insert);
        run(&mut session, "SELECT text FROM here");
    }
    let views = ["here", "there", "both"];
    let all = views.map(|view| (view, run(&mut session, &format!("SELECT * FROM {view}"))));
    all.into()
}

/// Carries statements out without letting epochs close.
fn run_declared(session: &mut Session, text: &str) {
    let script = Script::new("m.sql", text);
    for statement in perennial::sql::parse(&script).expect("a script") {
        session
            .execute(&script, &statement)
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_each_model_said_stands_after_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let texts = ["Opens at nine.", "Opens at ten.", "Opens at nine."];
    assert_eq!(said(&texts, Some(dir.path())), said(&texts, None));
}
