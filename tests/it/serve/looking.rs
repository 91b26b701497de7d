//! What there is to see: relations, plans, lineage, history, quarantine, numbers, health.

use perennial::engine::{Ending, Follower, Standing};
use perennial::serve::openapi;
use serde_json::json;

use super::*;

#[test]
fn relations_views_plans_and_lineage_say_what_the_engine_knows() {
    let serving = Serving::start(&format!(
        "{SUPPORT} CREATE VIEW short AS SELECT key, text FROM answers;"
    ));
    let documents = json!({ "key": "a", "title": "Letters", "text": "alpha is one." });
    serving.post(
        "docs",
        &(documents.to_string() + "\n" + &line("b", "beta is here.")),
    );
    serving.post("questions", &(line("q1", "alpha") + &line("q2", "beta")));
    let relations = serving.json("/v1/relations")["relations"].clone();
    let of = |name: &str| {
        let all = relations.as_array().expect("relations").iter();
        all.clone()
            .find(|of| of["name"] == name)
            .expect(name)
            .clone()
    };
    assert_eq!(
        (&of("docs")["kind"], &of("docs")["n_rows"]),
        (&json!("source"), &json!(2))
    );
    assert_eq!(of("questions")["kind"], "table");
    assert_eq!(
        (&of("answers")["kind"], &of("answers")["status"]),
        (&json!("answers"), &json!("fresh"))
    );
    assert_eq!(of("answers")["reads"], json!(["docs", "questions"]));
    assert_eq!(of("short")["kind"], "query");
    assert_eq!(
        of("questions")["columns"][0],
        json!({ "name": "key", "type": "TEXT" })
    );

    let held = serving.json("/v1/views/answers?key=q1");
    assert_eq!(
        (&held["n_rows"], &held["rows"][0]["text"]),
        (&json!(2), &json!("alpha is one."))
    );
    let page = serving.json("/v1/views/answers?limit=1&offset=1");
    assert_eq!(page["rows"].as_array().expect("rows").len(), 1);
    assert_eq!(page["rows"][0]["key"], "q2");
    let short = serving.json("/v1/views/short?key=q2");
    assert_eq!(
        short["rows"][0],
        json!({"row": {"key": "q2", "text": "beta is here."}, "count": 1})
    );
    assert_eq!(
        serving.json("/v1/views/docs?key=a")["rows"][0]["row"]["title"],
        "Letters"
    );

    let plan = serving.json("/v1/views/short/plan");
    let nodes = plan["nodes"].as_array().expect("nodes");
    let ids: Vec<String> = nodes.iter().map(|node| text(&node["id"])).collect();
    assert_eq!(ids, ["docs", "questions", "answers", "short"]);
    assert_eq!(plan["edges"].as_array().expect("edges").len(), 3);
    assert_eq!(nodes[2]["asks"]["models"], json!([null]));
    assert!(nodes[2]["asks"]["n_calls"].as_u64() >= Some(2), "{plan}");
    assert!(nodes[3]["asks"].is_null());
    assert!(text(&plan["text"]).contains("answers"), "{plan}");

    let lineage = serving.json("/v1/views/answers/lineage?key=q1");
    let part = &lineage["sub_paragraphs"][0];
    assert_eq!(part["text"], "alpha is one.");
    assert_eq!(part["sources"][0]["document"], "a");
    assert!(
        part["sources"][0]["score"].as_f64() > Some(0.0),
        "{lineage}"
    );
    let passages = lineage["passages"].as_array().expect("passages");
    let of_a = passages
        .iter()
        .find(|of| of["document"] == "a")
        .expect("it was read");
    assert_eq!(
        (&of_a["title"], &of_a["text"]),
        (&json!("Letters"), &json!("alpha is one."))
    );
    assert_eq!(serving.get("/v1/views/short/lineage?key=q1").status, 409);

    let models = serving.json("/v1/engine/models");
    assert_eq!(models["models"][0]["spec"], "scripted");
    assert_eq!(models["models"][0]["is_default"], true);
}

#[test]
fn answers_that_failed_are_counted_until_they_are_answered() {
    let serving = Serving::start(&format!(
        "{SUPPORT} CREATE VIEW short AS SELECT key, text FROM answers;"
    ));
    serving.post("docs", &line("a", "alpha is one."));
    serving.post(
        "questions",
        &(line("q1", "alpha !error") + &line("q2", "alpha")),
    );
    let counted = |path: &str, all: &str, name: &str| {
        let told = serving.json(path)[all].clone();
        let of = told.as_array().expect("a list").iter();
        let of = of.clone().find(|of| of["name"] == name).expect(name);
        (of["n_failed"].clone(), of["n_rows"].clone())
    };
    for (path, all) in [("/v1/relations", "relations"), ("/v1/status", "views")] {
        assert_eq!(counted(path, all, "answers"), (json!(1), json!(1)));
        assert_eq!(counted(path, all, "short").0, json!(null));
    }
    assert_eq!(counted("/v1/relations", "relations", "docs").0, json!(null));
    serving.post("questions", &line("q1", "alpha"));
    for (path, all) in [("/v1/relations", "relations"), ("/v1/status", "views")] {
        assert_eq!(counted(path, all, "answers"), (json!(0), json!(2)));
    }
}

#[test]
fn earlier_epochs_are_told_where_there_is_a_state_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = Setup {
        state: Some(dir.path()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha"));
    let before = serving.json("/v1/views/answers")["epoch"]
        .as_u64()
        .expect("an epoch");
    serving.post("docs", &line("a", "alpha is two."));
    let then = serving.json(&format!("/v1/views/answers?as_of={before}"));
    assert_eq!(
        (&then["epoch"], &then["rows"][0]["text"]),
        (&json!(before), &json!("alpha is one."))
    );
    assert_eq!(then["rows"][0]["question"], "alpha");
    let docs = serving.json(&format!("/v1/views/docs?as_of={before}&key=a"));
    assert_eq!(docs["rows"][0]["row"]["text"], "alpha is one.");
    assert_eq!(serving.answers("answers")["q"], "alpha is two.");
    assert_eq!(serving.get("/v1/views/answers?as_of=99999").status, 410);
    let epochs = serving.json("/v1/history")["epochs"].clone();
    let last = epochs
        .as_array()
        .expect("epochs")
        .last()
        .expect("one")
        .clone();
    assert_eq!(last["views"][0]["view"], "answers");
    let one = serving.json("/v1/history?limit=1");
    assert_eq!(one["epochs"], json!([last]));
}

#[test]
fn the_question_of_an_earlier_answer_is_no_document_of_its_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = Setup {
        state: Some(dir.path()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("docs", &line("1", "alpha is one."));
    serving.post("questions", &line("1", "alpha"));
    let before = serving.json("/v1/views/answers")["epoch"].clone();
    serving.post("questions", &line("1", "beta"));
    let then = serving.json(&format!("/v1/views/answers?as_of={before}"));
    assert_eq!(
        (&then["rows"][0]["question"], &then["rows"][0]["text"]),
        (&json!("alpha"), &json!("alpha is one."))
    );
}

#[test]
fn what_was_refused_is_listed_mended_and_forgotten() {
    let serving = Serving::start(SUPPORT);
    serving.post("questions", &line("q", "alpha"));
    let body = line("a", "alpha is one.") + "no JSON\n{\"key\": \"b\"}\n";
    let reply = serving.client().post("docs?wait=60", body);
    assert_eq!(reply.json()["n_rejected"], 2, "{}", reply.body);
    let listed = serving.json("/v1/quarantine");
    assert_eq!(listed["n_records"], 2);
    // Page by page, and by stream.
    let page = serving.json("/v1/quarantine?limit=1&after=0&stream=docs");
    assert_eq!(
        (&page["records"], &page["n_records"]),
        (&json!([listed["records"][1]]), &json!(2))
    );
    assert_eq!(
        serving.json("/v1/quarantine?stream=mail"),
        json!({"records": [], "n_records": 0})
    );
    assert_eq!(serving.json("/v1/status")["n_quarantined"], 2);
    let number = |at: usize| listed["records"][at]["number"].as_u64().expect("a number");
    let path = |at: usize| format!("/v1/quarantine/{}", number(at));
    let ask = |method: &str, path: &str, body: &[u8]| {
        serving.client().ask(&request(method, path, &[], body))
    };
    assert_eq!(
        ask("POST", &path(0), b"").status,
        400,
        "it is no record still"
    );
    let meant = line("c", "alpha is mended.");
    let mended = ask("POST", &path(0), meant.as_bytes());
    assert_eq!(mended.status, 200, "{}", mended.body);
    assert_eq!(mended.json()["key"], "c");
    assert_eq!(ask("DELETE", &path(1), b"").status, 200);
    assert_eq!(ask("DELETE", &path(1), b"").status, 404);
    assert_eq!(serving.json("/v1/quarantine")["n_records"], 0);
    serving.served.engine().flush().expect("runs");
    assert_eq!(
        serving.answers("answers")["q"],
        "alpha is one. alpha is mended."
    );
}

#[test]
fn the_numbers_are_those_of_the_engine_and_can_be_scraped() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q \"1\"", "alpha"));
    let _events = serving.subscribe("answers").upto("up_to_date");
    let reply = serving.get("/metrics");
    assert_eq!(reply.status, 200);
    assert!(reply.headers["content-type"].starts_with("application/openmetrics-text"));
    let lines: Vec<&str> = reply.body.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    let mut described = std::collections::BTreeSet::new();
    for line in &lines {
        if let Some(rest) = line.strip_prefix("# ") {
            if let Some(name) = rest.strip_prefix("TYPE ") {
                let name = name.split(' ').next().expect("a name");
                assert!(described.insert(name), "{name} is described twice");
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().expect("a name");
        let of = name.strip_suffix("_total").unwrap_or(name);
        assert!(described.contains(of), "{line}: not described");
    }
    let value = |of: &str| {
        let line = lines.iter().find(|line| line.starts_with(of));
        let line = line.unwrap_or_else(|| panic!("{of} in {}", reply.body));
        let value = line.rsplit(' ').next().expect("a value");
        value.parse::<f64>().expect("a number")
    };
    let status = serving.json("/v1/status");
    let view = &status["views"][0];
    assert_eq!(value("perennial_ready "), 1.0);
    assert_eq!(
        value("perennial_view_epoch{view=\"answers\"}"),
        view["epoch"].as_f64().expect("one")
    );
    assert_eq!(value("perennial_rows{relation=\"docs\"}"), 1.0);
    assert_eq!(
        value("perennial_view_refreshes_total{view=\"answers\",rung=\"regenerate\"}"),
        view["rungs"]["regenerate"].as_f64().expect("one")
    );
    assert!(value("perennial_view_calls_total{view=\"answers\"}") >= 1.0);
    assert!(value("perennial_view_tokens_total{view=\"answers\",of=\"decoded\"}") > 0.0);
    assert_eq!(value("perennial_quarantine "), 0.0);
    assert_eq!(status["ready"], true);
    assert_eq!(status["sources"].as_array().expect("sources").len(), 2);
}

/// A follower that breaks its contract.
struct Broken;

impl Follower for Broken {
    fn begin(&self, _standing: Standing) {}
    fn hear(&self, _update: &perennial::Update) {
        panic!("a test breaks the engine");
    }
    fn forget(&self) -> usize {
        0
    }
    fn n_readers(&self) -> usize {
        0
    }
    fn end(&self, _ending: Ending<'_>) {}
}

#[test]
fn health_and_readiness_tell_the_truth_of_the_engine() {
    let is_held = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let setup = Setup {
        model: Scripted::new().held_while(is_held.clone()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    // Nothing was ever posted: there is nothing that it could not answer.
    eventually("it is ready", || serving.get("/readyz").status == 200);
    let mut client = serving.client();
    client.post("docs", line("a", "alpha is one."));
    client.post("questions", line("q", "alpha !slow"));
    assert_eq!(serving.get("/healthz").status, 200);
    eventually("the view is at work", || {
        serving.json("/v1/status")["views"][0]["status"] == "refreshing"
    });
    is_held.store(false, std::sync::atomic::Ordering::SeqCst);
    eventually("it is ready again", || serving.get("/readyz").status == 200);
    // The engine breaks down.
    let broken: Arc<dyn Follower> = Arc::new(Broken);
    let engine = serving.served.engine();
    engine
        .follow("answers", Arc::downgrade(&broken))
        .expect("runs");
    let mut events = serving.subscribe("answers");
    events.upto("up_to_date");
    client.post("docs", line("a", "alpha is two."));
    let told = events.upto("end");
    let end = &told[told.len() - 1].data;
    assert_eq!(end["code"], "failed", "{told:?}");
    assert!(text(&end["reason"]).contains("failed"), "{told:?}");
    eventually("it is not healthy", || {
        serving.get("/healthz").status == 500
    });
    assert_eq!(serving.get("/readyz").status, 500);
    assert_eq!(serving.get("/v1/relations").status, 500);
}

/// Whoever generates a client of the description finds in it what is refused before a handler sees it.
#[test]
fn what_any_path_may_answer_is_described_at_each() {
    let api = serde_json::to_value(openapi()).expect("JSON");
    let said = |method: &str, path: &str| -> Vec<String> {
        let replies = api["paths"][path][method]["responses"].as_object();
        replies.expect("replies").keys().cloned().collect()
    };
    assert_eq!(said("get", "/healthz"), ["200", "403", "429", "500"]);
    let of_all = ["200", "401", "403", "429", "500", "503"];
    assert_eq!(said("get", "/v1/status"), of_all);
    let posted = said("post", "/v1/sql");
    for status in ["400", "401", "403", "408", "413", "429", "503"] {
        assert!(
            posted.iter().any(|of| of == status),
            "{status} in {posted:?}"
        );
    }
    let body = |path: &str, method: &str| {
        let reply = &api["paths"][path][method]["responses"]["401"];
        text(&reply["content"]["application/json"]["schema"]["$ref"])
    };
    assert!(body("/v1/sql", "post").ends_with("/RefusalBody"));
    assert!(body("/v1/models/{model}", "get").ends_with("/ApiErrorBody"));
    // No whole of a stream is described, which has none.
    let told = &api["paths"]["/v1/views/{view}/subscribe"]["get"]["responses"]["200"]["content"];
    assert_eq!(told["text/event-stream"], json!({}));
    // Numbers without a sign are described as wide as they are read.
    let number =
        api["paths"]["/v1/quarantine/{number}"]["delete"]["parameters"][0]["schema"].clone();
    assert_eq!(number["maximum"], u64::MAX);
    assert_eq!(number["format"], "uint64");
}

#[test]
fn the_description_has_every_route_and_no_other() {
    let api = serde_json::to_value(openapi()).expect("JSON");
    assert!(text(&api["openapi"]).starts_with("3.1"));
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one."));
    let paths = api["paths"].as_object().expect("paths");
    let mut operations = std::collections::BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = text(&operation["operationId"]);
            assert!(operations.insert(id.clone()), "{id} is there twice");
            assert!(!text(&operation["summary"]).is_empty(), "{method} {path}");
            let real = path
                .replace("{view}", "answers")
                .replace("{stream}", "docs")
                .replace("{token}", "x")
                .replace("{model}", "answers")
                .replace("{number}", "1");
            if real.ends_with("/subscribe") {
                assert_eq!(serving.subscribe("answers").status, 200);
                continue;
            }
            let reply = serving
                .client()
                .ask(&request(&method.to_uppercase(), &real, &[], b""));
            let is_route =
                reply.status != 405 && !reply.body.contains("there is nothing at this path");
            assert!(is_route, "{method} {path}: {} {}", reply.status, reply.body);
        }
    }
    // What the page for people names is there for programs, and the other way round.
    let page = include_str!("../../../docs/serve.md");
    let named: std::collections::BTreeSet<(String, String)> = page
        .split('`')
        .filter_map(|code| {
            let (method, path) = code.split_once(' ')?;
            let is_method = ["GET", "POST", "DELETE"].contains(&method);
            let path = path.split(['?', '[']).next()?;
            (is_method && path.starts_with('/')).then(|| (method.to_lowercase(), path.to_owned()))
        })
        .filter(|(_, path)| !path.contains("/v1/views/v"))
        .collect();
    let described: std::collections::BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods
                .map(|method| (method.clone(), path.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(named, described);
}
