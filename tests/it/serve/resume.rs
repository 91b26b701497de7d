//! Going on after a connection is lost: nothing is lost, nothing told twice, and no state seen that was of
//! no epoch.

use std::collections::BTreeMap;

use perennial::engine::Edit;
use proptest::prelude::*;

use super::events::{Event, Events, Held};
use super::*;

const ANSWERS: &str = "/v1/views/answers/subscribe";

fn again(serving: &Serving, id: &str) -> Events {
    Events::open(serving.address, ANSWERS, &[("last-event-id", id)])
}

/// What was told of answers: key and change.
fn changes(events: &[Event]) -> Vec<(String, String)> {
    let answers = events.iter().filter(|event| event.name == "answer");
    answers
        .map(|event| (text(&event.data["key"]), text(&event.data["change"])))
        .collect()
}

#[test]
fn what_was_missed_is_told_once_and_nothing_else() {
    let serving = Serving::start(SUPPORT);
    serving.post(
        "docs",
        &(line("a", "alpha is one.") + &line("b", "beta is one.")),
    );
    let questions = line("q1", "alpha") + &line("q2", "beta") + &line("q3", "beta");
    serving.post("questions", &questions);
    let mut held = Held::default();
    held.take_all(&serving.subscribe("answers").upto("up_to_date"));
    let id = held.id.clone().expect("an id");
    let told = again(&serving, &id).upto("up_to_date");
    assert_eq!(told.len(), 1, "nothing was missed: {told:?}");

    // Several epochs: the last word of each counts.
    serving.post("docs", &line("a", "alpha is two."));
    serving.post("docs", &line("a", "alpha is three."));
    serving.post("questions", &gone("q3"));
    serving.post("questions", &line("q4", "alpha"));
    let told = again(&serving, &id).upto("up_to_date");
    let mut said = changes(&told);
    said.sort();
    let expected = [("q1", "changed"), ("q3", "gone"), ("q4", "new")];
    let expected = expected.map(|(key, change)| (key.to_owned(), change.to_owned()));
    assert_eq!(said, expected, "{told:?}");
    held.take_all(&told);
    assert_eq!(held.answers, serving.answers("answers"));
    assert_eq!(held.n_resets, 0);
    // By the option, too.
    let path = format!("{ANSWERS}?as_of={id}");
    let by_option = Events::open(serving.address, &path, &[]).upto("up_to_date");
    assert_eq!(changes(&by_option).len(), 3);
    // A browser repeats the address with which it began: where it has come to counts.
    let last = held.id.clone().expect("an id");
    let both = Events::open(serving.address, &path, &[("last-event-id", &last)]);
    let mut both = both;
    assert_eq!(both.upto("up_to_date").len(), 1);
}

#[test]
fn what_cannot_be_gone_on_from_begins_anew() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha"));
    let told = serving.subscribe("answers").upto("up_to_date");
    let id = told[told.len() - 1].id.clone().expect("an id");
    let (origin, epoch) = id.split_once('.').expect("two parts");
    for unknown in [
        format!("{origin}.{}", u64::MAX),
        format!("00000000000000aa.{epoch}"),
    ] {
        let told = again(&serving, &unknown).upto("up_to_date");
        let names: Vec<&str> = told.iter().map(|event| &*event.name).collect();
        assert_eq!(
            names,
            ["reset", "snapshot", "answer", "up_to_date"],
            "{unknown}"
        );
    }
    for wrong in [
        "7",
        "x.7",
        ".",
        &format!("{origin}.-1"),
        &format!("{origin}.07"),
    ] {
        let client = serving.get(&format!("{ANSWERS}?as_of={wrong}"));
        assert_eq!(client.status, 400, "{wrong}: {}", client.body);
    }
}

#[test]
fn a_restart_over_a_state_folder_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = || Setup {
        state: Some(dir.path()),
        ..Setup::default()
    };
    let mut held = Held::default();
    let first = Serving::with(SUPPORT, setup());
    first.post(
        "docs",
        &(line("a", "alpha is one.") + &line("b", "beta is one.")),
    );
    let questions = line("q1", "alpha") + &line("q2", "beta") + &line("q3", "beta");
    first.post("questions", &questions);
    held.take_all(&first.subscribe("answers").upto("up_to_date"));
    let id = held.id.clone().expect("an id");
    // Missed before the end, and after it.
    first.post("docs", &line("a", "alpha is two."));
    first.post("questions", &gone("q3"));
    drop(first);
    let second = Serving::with(SUPPORT, setup());
    let told = again(&second, &id).upto("up_to_date");
    let mut said = changes(&told);
    said.sort();
    let keys: Vec<&str> = said.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, ["q1", "q3"], "{told:?}");
    held.take_all(&told);
    assert_eq!(held.answers, second.answers("answers"));
    assert_eq!(held.n_resets, 0);
    let id = held.id.clone().expect("an id");
    assert_eq!(
        again(&second, &id).upto("up_to_date").len(),
        1,
        "nothing is told twice"
    );
    drop(second);
    // Nothing changed between two processes.
    let third = Serving::with(SUPPORT, setup());
    let told = again(&third, &id).upto("up_to_date");
    assert_eq!(changes(&told), [], "{told:?}");
    assert_eq!(told.iter().filter(|event| event.name == "reset").count(), 0);
}

#[test]
fn one_key_goes_on_over_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = || Setup {
        state: Some(dir.path()),
        ..Setup::default()
    };
    let first = Serving::with(SUPPORT, setup());
    let documents = line("a", "alpha is one.") + &line("b", "beta is one.");
    first.post("docs", &documents);
    first.post("questions", &(line("q1", "alpha") + &line("q2", "beta")));
    let told = first.subscribe("answers").upto("up_to_date");
    let id = told[told.len() - 1].id.clone().expect("an id");
    // Several epochs, and other answers between.
    first.post("docs", &line("a", "alpha is two."));
    first.post("docs", &line("b", "beta is two."));
    first.post("docs", &line("a", "alpha is three."));
    drop(first);
    let second = Serving::with(SUPPORT, setup());
    for (key, expected) in [("q1", &["q1"][..]), ("q2", &["q2"]), ("q3", &[])] {
        let path = format!("{ANSWERS}?as_of={id}&key={key}");
        let told = Events::open(second.address, &path, &[]).upto("up_to_date");
        let said = changes(&told);
        let keys: Vec<&str> = said.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, expected, "{told:?}");
        assert!(told.iter().all(|event| event.name != "reset"), "{told:?}");
    }
}

#[test]
fn another_question_of_the_view_after_a_restart_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = || Setup {
        state: Some(dir.path()),
        ..Setup::default()
    };
    let mut held = Held::default();
    let first = Serving::with(SUPPORT, setup());
    first.post(
        "docs",
        &(line("a", "alpha is one. ") + &line("b", "beta is here.")),
    );
    first.post("questions", &(line("q1", "alpha") + &line("q2", "beta")));
    held.take_all(&first.subscribe("answers").upto("up_to_date"));
    drop(first);
    let other = SUPPORT.replace("LLM_GENERATE(", "LLM_GENERATE(PROMPT = 'Otherwise.', ");
    let second = Serving::with(&other, setup());
    let id = held.id.clone().expect("an id");
    held.take_all(&again(&second, &id).upto("up_to_date"));
    assert_eq!(held.answers, second.answers("answers"));
    assert_eq!(held.n_resets, 1, "it is another view");
}

#[test]
fn rows_of_a_query_go_on_in_one_process_and_begin_anew_in_the_next() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = "CREATE TABLE t (key TEXT, n INTEGER);
        CREATE VIEW large AS SELECT key, n FROM t WHERE n > 10;";
    let start = || {
        let setup = Setup {
            state: Some(dir.path()),
            ..Setup::default()
        };
        Serving::with(script, setup)
    };
    let row = |key: &str, n: i64| json!({ "key": key, "n": n }).to_string() + "\n";
    let serving = start();
    serving.post("t", &(row("a", 20) + &row("b", 30)));
    let mut held = Held::default();
    held.take_all(&serving.subscribe("large").upto("up_to_date"));
    let go_on = |serving: &Serving, held: &mut Held| {
        let id = held.id.clone().expect("an id");
        let path = format!("/v1/views/large/subscribe?as_of={id}");
        held.take_all(&Events::open(serving.address, &path, &[]).upto("up_to_date"));
        let rows = serving.json("/v1/views/large")["rows"].clone();
        let rows = rows.as_array().expect("rows").iter();
        let rows: BTreeMap<String, i64> = rows
            .map(|row| {
                (
                    row["row"].to_string(),
                    row["count"].as_i64().expect("a count"),
                )
            })
            .collect();
        assert_eq!(held.rows, rows);
    };
    serving.post("t", &row("a", 5));
    serving.post("t", &row("c", 50));
    serving.post("t", &row("c", 60));
    go_on(&serving, &mut held);
    assert_eq!(held.n_resets, 0);
    drop(serving);
    let serving = start();
    serving.post("t", &row("d", 70));
    go_on(&serving, &mut held);
    assert_eq!(held.n_resets, 1);
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Document(u8, u8),
    NoDocument(u8),
    Question(u8, u8),
    NoQuestion(u8),
    /// The subscriber reads so many events.
    Read(u8),
    /// Its connection is lost.
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 0..9u8).prop_map(|(key, n)| Step::Document(key, n)),
        1 => (0..4u8).prop_map(Step::NoDocument),
        3 => (0..5u8, 0..4u8).prop_map(|(key, word)| Step::Question(key, word)),
        2 => (0..5u8).prop_map(Step::NoQuestion),
        4 => (1..6u8).prop_map(Step::Read),
        2 => Just(Step::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A subscriber that comes and goes at random holds what the view holds, and at every id what the view
    /// held at that epoch.
    #[test]
    fn one_that_comes_and_goes_holds_what_the_view_holds(steps in prop::collection::vec(step(), 1..40)) {
        let serving = Serving::start(
            "CREATE TABLE docs (key TEXT, text TEXT);
             CREATE TABLE questions (key TEXT, text TEXT);
             CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
                 CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs));",
        );
        let engine = serving.served.engine();
        // What the view said at each of its epochs, by who was never away.
        let mut constant = serving.subscribe("answers");
        let mut witness = Held::default();
        let mut states: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let see = |events: &mut Events, witness: &mut Held,
                   states: &mut BTreeMap<String, BTreeMap<String, String>>| {
            loop {
                let event = events.next().expect("an event");
                if witness.take(&event) {
                    let id = witness.id.clone().expect("an id");
                    states.insert(id, witness.answers.clone());
                    break;
                }
            }
        };
        let edit = |edits: Vec<Edit>| {
            engine.apply(edits).expect("runs");
        };
        edit(vec![
            Edit::upsert("docs", "d0", "word0 is here."),
            Edit::upsert("questions", "q0", "word0"),
        ]);
        engine.flush().expect("runs");
        see(&mut constant, &mut witness, &mut states);
        let mut visitor: Option<Events> = None;
        let mut held = Held::default();
        for step in steps {
            match step {
                Step::Document(key, n) => edit(vec![Edit::upsert(
                    "docs", format!("d{key}").as_str(), format!("word{key} is {n}."),
                )]),
                Step::NoDocument(key) => edit(vec![Edit::delete("docs", format!("d{key}").as_str())]),
                Step::Question(key, word) => edit(vec![Edit::upsert(
                    "questions", format!("q{key}").as_str(), format!("word{word}"),
                )]),
                Step::NoQuestion(key) => {
                    edit(vec![Edit::delete("questions", format!("q{key}").as_str())]);
                }
                Step::Lose => {
                    visitor = None;
                    held.lose();
                }
                Step::Read(n) => {
                    // What is under way comes to its end, so that there is something to read.
                    engine.flush().expect("runs");
                    let events = visitor.get_or_insert_with(|| match &held.id {
                        Some(id) => again(&serving, id),
                        None => serving.subscribe("answers"),
                    });
                    let now = serving.json("/v1/views/answers")["epoch"].clone();
                    for _ in 0..n {
                        if held.id.as_ref().is_some_and(|id| id.ends_with(&format!(".{now}"))) {
                            break;
                        }
                        held.take(&events.next().expect("an event"));
                    }
                }
            }
        }
        engine.flush().expect("runs");
        let last = serving.json("/v1/views/answers")["epoch"].clone();
        let is_last = |id: &Option<String>| {
            id.as_ref().is_some_and(|id| id.ends_with(&format!(".{last}")))
        };
        while !is_last(&witness.id) {
            see(&mut constant, &mut witness, &mut states);
        }
        // Each reconnection begins at the last id that it was told.
        held.lose();
        let mut events = match &held.id {
            Some(id) => again(&serving, id),
            None => serving.subscribe("answers"),
        };
        loop {
            let event = events.next().expect("an event");
            if held.take(&event) {
                let id = held.id.clone().expect("an id");
                // The witness may have been told of several epochs as one.
                if let Some(state) = states.get(&id) {
                    prop_assert_eq!(&held.answers, state, "{}", id);
                }
                if is_last(&held.id) {
                    break;
                }
            }
        }
        prop_assert_eq!(held.n_resets, 0);
        prop_assert_eq!(&held.answers, &serving.answers("answers"));
        prop_assert_eq!(&held.answers, &witness.answers);
    }
}

#[test]
fn a_view_that_has_said_nothing_since_the_start_is_waited_for_and_not_told_as_empty() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().expect("a folder");
    let is_held = Arc::new(AtomicBool::new(false));
    let start = |script: &str, patience: Duration| {
        let mut limits = limits();
        limits.patience = patience;
        let setup = Setup {
            state: Some(dir.path()),
            limits,
            model: Scripted::new().held_while(is_held.clone()),
            ..Setup::default()
        };
        Serving::with(script, setup)
    };
    let prompted = |prompt: &str| {
        let context = format!("PROMPT = '{prompt}', CONTEXT = ");
        SUPPORT.replace("CONTEXT = ", &context)
    };
    let serving = start(SUPPORT, DEADLINE);
    // Nothing was ever posted: there is nothing to wait for.
    assert_eq!(serving.json("/v1/views/answers")["n_rows"], 0);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha !slow"));
    assert_eq!(serving.answers("answers").len(), 1);
    drop(serving);
    // A view that is declared otherwise answers anew.
    is_held.store(true, Ordering::SeqCst);
    let serving = start(&prompted("Be brief."), Duration::from_millis(50));
    let reply = serving.get("/v1/views/answers");
    let is_one = |held: &Value| held["n_rows"] == 1;
    assert_eq!(reply.status, 503, "{}", reply.body);
    let said = reply.json();
    assert!(text(&said["error"]).contains("no complete epoch"), "{said}");
    let waiting = said["waiting"].as_array().expect("names");
    assert!(waiting.contains(&json!("answers")), "{said}");
    is_held.store(false, Ordering::SeqCst);
    eventually("it answers", || {
        let reply = serving.get("/v1/views/answers");
        assert!(
            reply.status == 503 || is_one(&reply.json()),
            "{}",
            reply.body
        );
        reply.status == 200
    });
    drop(serving);
    // Who asks in time waits for it.
    is_held.store(true, Ordering::SeqCst);
    let serving = start(&prompted("Be polite."), DEADLINE);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            is_held.store(false, Ordering::SeqCst);
        });
        assert!(is_one(&serving.json("/v1/views/answers")));
    });
}
