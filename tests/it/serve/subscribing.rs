//! What a subscriber is told.

use serde_json::json;

use super::events::{Events, Held};
use super::*;

/// The names of events.
fn names(events: &[events::Event]) -> Vec<&str> {
    events.iter().map(|event| &*event.name).collect()
}

#[test]
fn a_corrected_document_is_pushed_as_a_patch_of_the_answer() {
    let serving = Serving::start(SUPPORT);
    serving.post(
        "docs",
        &(line("a", "alpha is one.") + &line("b", "alpha has a tail.")),
    );
    serving.post("questions", &line("q", "alpha"));
    let mut events = serving.subscribe("answers");
    assert_eq!(
        (events.status, &*events.content_type),
        (200, "text/event-stream")
    );
    let told = events.upto("up_to_date");
    assert_eq!(names(&told), ["snapshot", "answer", "up_to_date"]);
    assert_eq!(told[0].data["n_rows"], 1);
    assert_eq!(told[1].data["text"], "alpha is one. alpha has a tail.");
    assert_eq!(told[1].data["change"], "new");
    let epoch = told[2].data["epoch"].as_u64().expect("an epoch");
    assert!(
        told[2]
            .id
            .as_ref()
            .expect("an id")
            .ends_with(&format!(".{epoch}"))
    );

    serving.post("docs", &line("a", "alpha is two."));
    let told = events.upto("epoch");
    assert_eq!(names(&told), ["answer", "epoch"]);
    let answer = &told[0].data;
    assert_eq!(answer["text"], "alpha is two. alpha has a tail.");
    assert_eq!(
        (&answer["change"], &answer["since"]),
        (&json!("changed"), &json!(epoch))
    );
    let patch = &answer["changed"][0];
    assert_eq!(
        answer["changed"].as_array().expect("patches").len(),
        1,
        "{answer}"
    );
    assert_eq!(patch["new"], json!(["alpha is two. alpha has a tail."]));
    assert_eq!(
        (&answer["exact"], &answer["early"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(answer["sub_paragraphs"][0]["sources"][0]["document"], "a");
    let summary = &told[1].data;
    assert_eq!(summary["n_changes"], 1);
    assert_eq!(
        (&summary["n_read"], &summary["n_answers"]),
        (&json!(1), &json!(1))
    );

    serving.post("questions", &gone("q"));
    let told = events.upto("epoch");
    assert_eq!(told[0].data["change"], "gone");
    assert!(told[0].data["text"].is_null());
}

#[test]
fn ndjson_says_the_same() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha"));
    let path = "/v1/views/answers/subscribe";
    for (path, headers) in [
        (format!("{path}?format=ndjson"), &[][..]),
        (path.to_owned(), &[("accept", "application/x-ndjson")]),
    ] {
        let mut events = Events::open(serving.address, &path, headers);
        assert_eq!(events.content_type, "application/x-ndjson");
        let lines: Vec<Value> = (0..3).map(|_| events.line().expect("a line")).collect();
        let said: Vec<&str> = lines
            .iter()
            .map(|l| l["event"].as_str().expect("a name"))
            .collect();
        assert_eq!(said, ["snapshot", "answer", "up_to_date"]);
        assert_eq!(lines[1]["key"], "q");
        assert!(lines[2]["id"].is_string());
    }
}

#[test]
fn what_stands_may_be_left_out_and_one_key_asked_for() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one. beta is here."));
    serving.post("questions", &(line("q1", "alpha") + &line("q2", "beta")));
    let open = |options: &str| {
        let path = format!("/v1/views/answers/subscribe?{options}");
        Events::open(serving.address, &path, &[])
    };
    let mut changes = open("snapshot=false");
    assert_eq!(names(&changes.upto("up_to_date")), ["up_to_date"]);
    let mut one = open("key=q2");
    let told = one.upto("up_to_date");
    assert_eq!(names(&told), ["snapshot", "answer", "up_to_date"]);
    assert_eq!(told[1].data["key"], "q2");
    serving.post("docs", &line("a", "alpha is two. beta is here."));
    let told = changes.upto("epoch");
    assert_eq!(names(&told), ["answer", "epoch"]);
    assert_eq!(told[0].data["key"], "q1");
    assert_eq!(
        names(&one.upto("epoch")),
        ["epoch"],
        "it is of no other key"
    );
}

#[test]
fn rows_of_a_query_come_and_go() {
    let serving = Serving::start(
        "CREATE TABLE towns (key TEXT, country TEXT, people INTEGER);
         CREATE VIEW large AS SELECT country, people FROM towns WHERE people > 10;",
    );
    let town = |key: &str, people: i64| {
        json!({ "key": key, "country": "no", "people": people }).to_string() + "\n"
    };
    serving.post("towns", &(town("a", 20) + &town("b", 20) + &town("c", 5)));
    let mut events = serving.subscribe("large");
    let mut held = Held::default();
    held.take_all(&events.upto("up_to_date"));
    let row = |people: i64| json!({ "country": "no", "people": people }).to_string();
    assert_eq!(held.rows, [(row(20), 2)].into());
    serving.post("towns", &(town("a", 30) + &town("c", 11)));
    held.take_all(&events.upto("epoch"));
    assert_eq!(held.rows, [(row(11), 1), (row(20), 1), (row(30), 1)].into());
    serving.post("towns", &(gone("a") + &gone("b")));
    held.take_all(&events.upto("epoch"));
    assert_eq!(held.rows, [(row(11), 1)].into());
}

#[test]
fn an_answer_is_previewed_where_each_is_told_and_told_again_with_its_epoch() {
    let is_held = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let setup = Setup {
        model: Scripted::new().held_while(is_held.clone()),
        ..Setup::default()
    };
    let serving = Serving::with(
        "CREATE TABLE docs (key TEXT, text TEXT);
         CREATE TABLE questions (key TEXT, text TEXT);
         CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
             CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs)) WITH (DELIVER = 'each');
         INSERT INTO docs VALUES ('a', 'alpha is one. beta is here.');
         INSERT INTO questions VALUES ('q0', 'beta');",
        setup,
    );
    let mut events = serving.subscribe("answers");
    let mut held = Held::default();
    held.take_all(&events.upto("up_to_date"));
    assert_eq!(held.answers.len(), 1);
    serving.client().post(
        "questions",
        line("q1", "alpha") + &line("q2", "alpha !slow"),
    );
    let told = events.upto("answer");
    let early = &told[told.len() - 1];
    assert_eq!(
        (&early.data["key"], &early.data["early"]),
        (&json!("q1"), &json!(true))
    );
    assert_eq!(early.id, None);
    is_held.store(false, std::sync::atomic::Ordering::SeqCst);
    let told = events.upto("epoch");
    held.take_all(&told);
    assert_eq!(held.answers.len(), 3, "{told:?}");
    assert_eq!(held.answers, serving.answers("answers"));
}

#[test]
fn the_end_of_a_view_is_told_and_another_of_its_name_begins_anew() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one. beta is here."));
    serving.post("questions", &line("q", "alpha"));
    let mut events = serving.subscribe("answers");
    let before = events
        .upto("up_to_date")
        .pop()
        .expect("one")
        .id
        .expect("an id");
    serving.run("DROP VIEW answers");
    let end = events.next().expect("an event");
    assert_eq!((&*end.name, &end.data["code"]), ("end", &json!("dropped")));
    assert!(events.next().is_none());
    assert_eq!(serving.get("/v1/views/answers/subscribe").status, 404);
    serving.run(
        "CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
            CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs));",
    );
    serving.post("questions", &line("q2", "beta"));
    let headers = [("last-event-id", &*before)];
    let path = "/v1/views/answers/subscribe";
    let mut held = Held::default();
    held.take_all(&Events::open(serving.address, path, &headers).upto("up_to_date"));
    assert_eq!(held.n_resets, 1);
    assert_eq!(held.answers, serving.answers("answers"));
}

#[test]
fn subscribers_are_told_when_the_server_ends() {
    let mut serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one."));
    let mut events = serving.subscribe("answers");
    let started = Instant::now();
    serving.server.take();
    assert!(started.elapsed() < DEADLINE);
    let told = events.upto("end");
    let end = &told[told.len() - 1].data;
    assert_eq!(end["code"], "server_ends");
    assert!(end["reason"].as_str().expect("why").contains("ends"));
    assert!(events.next().is_none());
}

#[test]
fn what_is_forgotten_is_in_no_later_word() {
    let serving = Serving::start(SUPPORT);
    serving.post(
        "docs",
        &(line("a", "alpha is secret.") + &line("b", "alpha is plain.")),
    );
    serving.post("questions", &line("q", "alpha"));
    let mut events = serving.subscribe("answers");
    let before = events
        .upto("up_to_date")
        .pop()
        .expect("one")
        .id
        .expect("an id");
    serving.post("docs", &gone("a"));
    assert_eq!(
        serving.run("FORGET 'a' FROM docs")[0]["outcome"],
        "forgotten"
    );
    let headers = [("last-event-id", &*before)];
    let path = "/v1/views/answers/subscribe";
    let told = Events::open(serving.address, path, &headers).upto("up_to_date");
    let said = format!("{told:?}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(told[0].name, "reset", "what was before is not told of");
}
