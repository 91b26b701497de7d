//! Views, asked as models by clients of OpenAI's interface.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;

/// Documents of tenants, and questions that are matched with them.
const TENANTS: &str = "
    CREATE TABLE docs (key TEXT, text TEXT, tenant TEXT);
    CREATE TABLE questions (key TEXT, text TEXT, tenant TEXT);
    CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
        CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs) MATCHING (tenant));
    INSERT INTO docs VALUES
        ('a', 'alpha is of acme.', 'acme'), ('b', 'alpha is of bolt.', 'bolt');
";

fn send(serving: &Serving, path: &str, token: Option<&str>, body: &Value) -> Reply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = bearer
        .iter()
        .map(|bearer| ("authorization", &**bearer))
        .collect();
    let body = body.to_string();
    serving
        .client()
        .ask(&request("POST", path, &headers, body.as_bytes()))
}

fn chat_of(question: &str) -> Value {
    json!({"model": "answers", "messages": [{"role": "user", "content": question}]})
}

fn chat(serving: &Serving, body: &Value) -> Value {
    let reply = send(serving, "/v1/chat/completions", None, body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

fn content(reply: &Value) -> String {
    text(&reply["choices"][0]["message"]["content"])
}

fn n_calls(serving: &Serving) -> u64 {
    let plan = serving.json("/v1/views/answers/plan");
    let nodes = plan["nodes"].as_array().expect("nodes");
    let answers = nodes.iter().find(|node| node["id"] == "answers");
    answers.expect("the view")["asks"]["n_calls"]
        .as_u64()
        .expect("a number")
}

fn keys(serving: &Serving, table: &str) -> Vec<String> {
    let held = serving.json(&format!("/v1/views/{table}?limit=10000"));
    let rows = held["rows"].as_array().expect("rows").iter();
    rows.map(|row| text(&row["row"]["key"])).collect()
}

/// A reply that is streamed, and what is left of the connection.
fn open(serving: &Serving, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(serving.address).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time");
    let headers = [("connection", "close")];
    let body = body.to_string();
    let asked = request("POST", "/v1/chat/completions", &headers, body.as_bytes());
    stream.write_all(&asked).expect("written");
    stream
}

/// What is told of a reply that is streamed, to its end.
fn stream(serving: &Serving, mut body: Value) -> Vec<Value> {
    body["stream"] = true.into();
    let mut told = String::new();
    open(serving, &body)
        .read_to_string(&mut told)
        .expect("a reply");
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(told.contains("text/event-stream"), "{told}");
    let mut chunks: Vec<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    if chunks.last() == Some(&"[DONE]") {
        chunks.pop();
    }
    chunks
        .iter()
        .map(|chunk| serde_json::from_str(chunk).expect("JSON"))
        .collect()
}

#[test]
fn a_view_answers_as_a_model_with_its_sources() {
    let serving = Serving::start(SUPPORT);
    let letters = json!({ "key": "a", "title": "Letters", "text": "alpha is one." });
    let address = json!({ "key": "https://a.example/b", "text": "beta is alpha's neighbour." });
    serving.post("docs", &format!("{letters}\n{address}\n"));

    let models = serving.json("/v1/models");
    let names: Vec<String> = models["data"]
        .as_array()
        .expect("models")
        .iter()
        .map(|model| text(&model["id"]))
        .collect();
    assert_eq!(names, ["answers", "perennial-embedder"]);
    assert_eq!(serving.json("/v1/models/answers")["owned_by"], "perennial");

    let reply = chat(&serving, &chat_of("alpha beta"));
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "answers");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    let said = content(&reply);
    assert!(said.contains("alpha is one."), "{said}");
    let annotations = reply["choices"][0]["message"]["annotations"]
        .as_array()
        .expect("annotations");
    assert!(!annotations.is_empty());
    let characters: Vec<char> = said.chars().collect();
    let mut cited = Vec::new();
    for annotation in annotations {
        assert_eq!(annotation["type"], "url_citation");
        let of = &annotation["url_citation"];
        let at = |name: &str| of[name].as_u64().expect("a place") as usize;
        let sentence: String = characters[at("start_index")..at("end_index")]
            .iter()
            .collect();
        assert!(!sentence.trim().is_empty());
        cited.push((text(&of["url"]), text(&of["title"])));
    }
    assert!(
        cited.contains(&("perennial://views/docs/a".into(), "Letters".into())),
        "{cited:?}"
    );
    let usage = &reply["usage"];
    let n = |of: &Value| of.as_u64().expect("a number");
    assert!(n(&usage["completion_tokens"]) as usize == said.len());
    assert!(n(&usage["prompt_tokens"]) > n(&usage["prompt_tokens_details"]["cached_tokens"]));
    assert_eq!(reply["perennial"]["kept"], false);
}

#[test]
fn what_is_asked_again_is_there_without_a_call_and_right() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let start = || {
        let setup = Setup {
            state: Some(&state),
            ..Setup::default()
        };
        Serving::with(SUPPORT, setup)
    };
    let serving = start();
    serving.post("docs", &line("a", "alpha is one."));
    let first = chat(&serving, &chat_of("alpha"));
    let again = chat(&serving, &chat_of("  alpha\n"));
    assert_eq!(content(&first), content(&again));
    assert_eq!(first["id"], again["id"]);
    assert_eq!(again["perennial"]["kept"], true);
    let usage = &again["usage"];
    assert_eq!(
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"]
    );
    assert_eq!(n_calls(&serving), 1);
    // What was posted before it is asked is in the answer, though it is not waited for there.
    for n in 0..5 {
        let said = format!("alpha is number {n}.");
        serving.client().post("docs", line("a", &said));
        // A source takes what is posted when it is drained; `wait` says when it is.
        serving.post("docs", &line("z", &format!("omega {n}")));
        assert_eq!(content(&chat(&serving, &chat_of("alpha"))), said);
    }
    let n_before = n_calls(&serving);
    assert_eq!(keys(&serving, "questions").len(), 1);
    drop(serving);
    // Of an earlier process, too.
    let serving = start();
    let again = chat(&serving, &chat_of("alpha"));
    assert_eq!(content(&again), "alpha is number 4.");
    assert_eq!(again["perennial"]["kept"], true);
    assert_eq!(keys(&serving, "questions").len(), 1);
    assert!(
        n_before > 1 && n_calls(&serving) == 0,
        "it was written again"
    );
}

#[test]
fn a_reply_is_told_as_it_is_written_and_is_the_same() {
    let serving = Serving::start(SUPPORT);
    serving.post("docs", &line("a", "alpha is one. "));
    for question in ["alpha", "alpha", "gamma"] {
        let mut body = chat_of(question);
        body["stream_options"] = json!({ "include_usage": true });
        let told = stream(&serving, body);
        assert_eq!(told[0]["choices"][0]["delta"]["role"], "assistant");
        let said: String = told
            .iter()
            .map(|chunk| text(&chunk["choices"][0]["delta"]["content"]))
            .collect();
        let whole = chat(&serving, &chat_of(question));
        assert_eq!(said, content(&whole), "{question}");
        let (last, usage) = (&told[told.len() - 2], &told[told.len() - 1]);
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        assert_eq!(
            last["choices"][0]["delta"]["annotations"],
            whole["choices"][0]["message"]["annotations"]
        );
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(
            usage["usage"]["total_tokens"],
            whole["usage"]["total_tokens"]
        );
        assert!(told.iter().all(|chunk| chunk["id"] == whole["id"]));
    }
    // Without being asked for, usage is not told.
    let told = stream(&serving, chat_of("alpha"));
    assert!(told.iter().all(|chunk| chunk["usage"].is_null()));
}

#[test]
fn a_conversation_goes_on_under_its_name_in_one_row() {
    let serving = Serving::start(SUPPORT);
    serving.post(
        "docs",
        &(line("a", "alpha is one.") + &line("b", "beta is two.")),
    );
    serving.run("INSERT INTO questions VALUES ('mine', 'alpha')");
    let mut body = chat_of("alpha");
    body["metadata"] = json!({"conversation": "monday", "colour": "blue"});
    let first = chat(&serving, &body);
    assert_eq!(content(&first), "alpha is one.");
    body["messages"] = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Tell me more."},
        {"role": "assistant", "content": "Gladly."},
        {"role": "user", "content": "beta"},
    ]);
    let second = chat(&serving, &body);
    assert_eq!(content(&second), "beta is two.");
    assert_eq!(first["id"], second["id"]);
    let conversations = keys(&serving, "questions");
    assert_eq!(conversations.len(), 2, "{conversations:?}");
    assert!(conversations.contains(&"mine".to_owned()));
}

#[test]
fn what_is_said_next_under_a_name_is_told_none_of_the_words_before() {
    let serving = Serving::start(SUPPORT);
    serving.post(
        "docs",
        &(line("a", "alpha is one.") + &line("b", "beta is two.")),
    );
    let mut body = chat_of("alpha");
    body["metadata"] = json!({"conversation": "monday"});
    chat(&serving, &body);
    body["messages"] = json!([{"role": "user", "content": "beta"}]);
    let told = stream(&serving, body);
    let words = told
        .iter()
        .map(|chunk| text(&chunk["choices"][0]["delta"]["content"]));
    assert_eq!(words.collect::<String>(), "beta is two.");
    let last = told.last().expect("an end");
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
}

#[test]
fn conversations_are_bounded_and_go_when_nobody_asks_for_them() {
    let limits = |n, time| {
        let mut limits = limits();
        limits.conversations = n;
        limits.conversation_time = time;
        limits.sweep_every = Duration::from_millis(20);
        limits
    };
    let setup = Setup {
        limits: limits(2, Duration::from_secs(3_600)),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("docs", &line("a", "alpha is one."));
    serving.run("INSERT INTO questions VALUES ('mine', 'alpha'), ('asked:mine', 'alpha')");
    for n in 0..6 {
        chat(&serving, &chat_of(&format!("alpha {n}")));
    }
    eventually("the oldest went", || keys(&serving, "questions").len() == 4);
    // The newest stands, the oldest does not.
    assert_eq!(
        chat(&serving, &chat_of("alpha 5"))["perennial"]["kept"],
        true
    );
    assert_eq!(
        chat(&serving, &chat_of("alpha 0"))["perennial"]["kept"],
        false
    );
    drop(serving);

    let setup = Setup {
        limits: limits(10, Duration::from_millis(1)),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("docs", &line("a", "alpha is one."));
    serving.run("INSERT INTO questions VALUES ('mine', 'alpha')");
    chat(&serving, &chat_of("alpha"));
    eventually("it went by itself", || {
        keys(&serving, "questions") == ["mine"]
    });
}

#[test]
fn a_question_is_taken_back_when_nobody_waits_for_it() {
    let is_held = Arc::new(AtomicBool::new(true));
    let setup = Setup {
        model: Scripted::new().held_while(is_held.clone()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.post("docs", &line("a", "alpha is one."));
    for is_stream in [true, false] {
        let mut body = chat_of("alpha !slow");
        body["stream"] = is_stream.into();
        let (one, other) = (open(&serving, &body), open(&serving, &body));
        eventually("the question is there", || {
            keys(&serving, "questions").len() == 1
        });
        drop(one);
        std::thread::sleep(Duration::from_millis(100));
        eventually("somebody waits still", || {
            keys(&serving, "questions").len() == 1
        });
        drop(other);
        // An epoch under way is completed; the next has the question no more.
        is_held.store(false, Ordering::SeqCst);
        eventually("the question is gone", || {
            keys(&serving, "questions").is_empty()
        });
        is_held.store(true, Ordering::SeqCst);
    }
    is_held.store(false, Ordering::SeqCst);
    // It can be asked again.
    assert_eq!(
        content(&chat(&serving, &chat_of("alpha !slow"))),
        "alpha is one."
    );
}

#[test]
fn what_cannot_be_answered_is_refused_in_the_form_of_these_clients() {
    let serving = Serving::start(&format!(
        "{SUPPORT}
         CREATE SOURCE asked FROM HTTP;
         CREATE CONTINUOUS VIEW closed AS LLM_GENERATE(
             CONTEXT = STREAM(asked), DATA_SOURCE = STREAM(docs));
         CREATE VIEW short AS SELECT key, text FROM answers;"
    ));
    let with = |name: &str, value: Value| {
        let mut body = chat_of("alpha");
        body[name] = value;
        body
    };
    let cases = [
        (
            with("model", "answrs".into()),
            404,
            "model",
            "model_not_found",
        ),
        // Its contexts come from elsewhere; it asks no model.
        (
            with("model", "closed".into()),
            404,
            "model",
            "model_not_found",
        ),
        (
            with("model", "short".into()),
            404,
            "model",
            "model_not_found",
        ),
        (with("model", 7.into()), 400, "model", "invalid_value"),
        (
            with("temperature", 0.7.into()),
            400,
            "temperature",
            "unsupported_parameter",
        ),
        (with("n", 2.into()), 400, "n", "unsupported_parameter"),
        (
            with("max_tokens", 1.into()),
            400,
            "max_tokens",
            "unsupported_parameter",
        ),
        (
            with("tools", json!([{"type": "function"}])),
            400,
            "tools",
            "unsupported_parameter",
        ),
        (
            with("logprobs", true.into()),
            400,
            "logprobs",
            "unsupported_parameter",
        ),
        (
            with("nonsense", 1.into()),
            400,
            "nonsense",
            "unknown_parameter",
        ),
        (
            with("messages", json!([])),
            400,
            "messages",
            "invalid_value",
        ),
        (with("stream", "yes".into()), 400, "stream", "invalid_value"),
        (
            with("metadata", json!({"a": []})),
            400,
            "metadata.a",
            "invalid_value",
        ),
    ];
    for (body, status, parameter, code) in cases {
        let reply = send(&serving, "/v1/chat/completions", None, &body);
        let error = reply.json()["error"].clone();
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert_eq!(error["param"], parameter, "{body}: {error}");
        assert_eq!(error["code"], code, "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(text(&error["message"]).len() > 10);
    }
    // Nothing of it was asked.
    assert!(keys(&serving, "questions").is_empty());
    // A method that a path does not have, and a path that is none, are told in this form, too.
    for (method, path, status) in [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/answers/more", 404),
    ] {
        let reply = serving.client().ask(&request(method, path, &[], b""));
        assert_eq!(reply.status, status, "{method} {path}");
        let error = &reply.json()["error"];
        assert_eq!(error["type"], "invalid_request_error", "{error}");
        assert!(text(&error["message"]).len() > 10);
    }
    // There are no documents: that is no answer, and is asked again once there are.
    let reply = send(&serving, "/v1/chat/completions", None, &chat_of("alpha"));
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (400, &json!("no_documents"))
    );
    eventually("it was taken back", || {
        keys(&serving, "questions").is_empty()
    });
    serving.post("docs", &line("a", "alpha is one."));
    let reply = send(
        &serving,
        "/v1/chat/completions",
        None,
        &chat_of("alpha !error"),
    );
    assert_eq!(reply.status, 500, "{}", reply.body);
    assert_eq!(reply.json()["error"]["type"], "server_error");
    let told = stream(&serving, chat_of("alpha !error"));
    let error = &told.last().expect("a word")["error"];
    assert_eq!(error["code"], "model_failed", "{told:?}");
    let large = "x".repeat(2 << 20);
    let reply = send(&serving, "/v1/chat/completions", None, &chat_of(&large));
    assert_eq!(reply.status, 413);
    assert!(reply.json()["error"]["message"].is_string());
}

#[test]
fn who_may_only_ask_sees_nothing_of_others_and_asks_as_its_tenant() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokens");
    let file = "admin admin-0123456789abcdef\n\
                ask acme-0123456789abcdef answers tenant=acme\n\
                ask bolt-0123456789abcdef answers tenant=bolt\n\
                ask other-0123456789abcdef tenant=acme colour=blue\n\
                write writer-0123456789abcdef\n\
                read reader-0123456789abcdef answers\n";
    std::fs::write(&path, file).expect("writable");
    let setup = Setup {
        tokens: Some(Arc::new(Tokens::open(path).expect("tokens"))),
        ..Setup::default()
    };
    let serving = Serving::with(TENANTS, setup);
    let ask = |token: &str, body: &Value| send(&serving, "/v1/chat/completions", Some(token), body);
    let body = chat_of("alpha");
    let (acme, bolt) = ("acme-0123456789abcdef", "bolt-0123456789abcdef");
    let (of_acme, of_bolt) = (ask(acme, &body).json(), ask(bolt, &body).json());
    assert_eq!(content(&of_acme), "alpha is of acme.");
    assert_eq!(content(&of_bolt), "alpha is of bolt.");
    assert!(!of_bolt.to_string().contains("acme") && !of_acme.to_string().contains("bolt"));
    assert_ne!(of_acme["id"], of_bolt["id"]);
    // Nor how much of the prompt had been read for others.
    for reply in [&of_acme, &of_bolt] {
        assert_eq!(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    }
    // Another tenant cannot be claimed.
    let claimed = |tenant: &str| {
        let mut body = chat_of("alpha");
        body["metadata"] = json!({ "tenant": tenant });
        body
    };
    assert_eq!(ask(acme, &claimed("acme")).status, 200);
    let reply = ask(acme, &claimed("bolt"));
    assert_eq!(
        (reply.status, &reply.json()["error"]["type"]),
        (403, &json!("permission_error"))
    );
    // Who is bound by a column that the view does not match is not let through.
    assert_eq!(ask("other-0123456789abcdef", &body).status, 403);
    // A reader says whose documents it means.
    let reader = "reader-0123456789abcdef";
    let reply = ask(reader, &body);
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert!(reply.body.contains("tenant"));
    let reply = ask(reader, &claimed("acme")).json();
    assert_eq!(content(&reply), "alpha is of acme.");
    // The same words of another token are another context: that they were asked is not told.
    assert_eq!(reply["perennial"]["kept"], false);

    let get = |token: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        serving.client().ask(&request("GET", path, &headers, b""))
    };
    for path in [
        "/v1/views/answers",
        "/v1/views/answers/subscribe",
        "/v1/views/questions",
        "/v1/relations",
        "/v1/status",
        "/metrics",
    ] {
        assert_eq!(get(acme, path).status, 403, "{path}");
    }
    let models = get(acme, "/v1/models");
    assert_eq!(
        (models.status, models.body.contains("answers")),
        (200, true)
    );
    assert_eq!(get("writer-0123456789abcdef", "/v1/models").status, 403);
    let reply = send(&serving, "/v1/chat/completions", None, &body);
    let error = reply.json()["error"].clone();
    assert_eq!(
        (reply.status, &error["code"]),
        (401, &json!("invalid_api_key"))
    );
    assert_eq!(error["type"], "authentication_error");
}

#[test]
fn texts_are_embedded_as_the_engine_embeds_them() {
    let serving = Serving::start(SUPPORT);
    let embed = |body: Value| send(&serving, "/v1/embeddings", None, &body);
    let model = "perennial-embedder";
    let one = embed(json!({"model": model, "input": "alpha beta"})).json();
    let vector = |of: &Value| -> Vec<f32> {
        let numbers = of["embedding"].as_array().expect("numbers").iter();
        numbers
            .map(|x| x.as_f64().expect("a number") as f32)
            .collect()
    };
    let expected = perennial::ask::Embed::embed(&ScriptedEmbedder::default(), &["alpha beta"]);
    assert_eq!(vector(&one["data"][0]), expected.expect("a vector")[0]);
    let batch = embed(json!({
        "model": model, "input": ["gamma", "alpha beta"], "encoding_format": "float",
        "dimensions": 64, "user": "ada",
    }))
    .json();
    assert_eq!(batch["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(batch["data"][1]["index"], 1);
    assert_eq!(vector(&batch["data"][1]), vector(&one["data"][0]));
    let packed = embed(json!({"model": model, "input": "alpha beta", "encoding_format": "base64"}));
    let packed = packed.json();
    let bytes: Vec<u8> = vector(&one["data"][0])
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    assert_eq!(packed["data"][0]["embedding"], encoded(&bytes));
    for (body, parameter) in [
        (json!({"model": "answers", "input": "x"}), "model"),
        (json!({"input": "x"}), "model"),
        (json!({"model": model}), "input"),
        (json!({"model": model, "input": []}), "input"),
        (json!({"model": model, "input": ""}), "input"),
        (json!({"model": model, "input": [[1, 2]]}), "input"),
        (
            json!({"model": model, "input": "x", "dimensions": 3}),
            "dimensions",
        ),
        (
            json!({"model": model, "input": "x", "encoding_format": "int8"}),
            "encoding_format",
        ),
        (
            json!({"model": model, "input": "x", "encoding_format": 7}),
            "encoding_format",
        ),
        (
            json!({"model": model, "input": "x", "colour": "blue"}),
            "colour",
        ),
        (json!({"model": model, "input": vec!["x"; 2_049]}), "input"),
    ] {
        let reply = embed(body.clone());
        assert!([400, 404].contains(&reply.status), "{body}");
        assert_eq!(
            reply.json()["error"]["param"],
            parameter,
            "{body}: {}",
            reply.body
        );
    }
}

#[test]
fn refusals_at_the_paths_of_these_clients_have_their_form() {
    let serving = Serving::start(SUPPORT);
    for (method, path, status) in [
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/v1/models/answers/x", 404),
        // No text is of these bytes.
        ("GET", "/v1/models/%ff", 400),
    ] {
        let reply = serving.client().ask(&request(method, path, &[], b""));
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        let error = &reply.json()["error"];
        assert_eq!(error["type"], "invalid_request_error", "{}", reply.body);
    }
    let mut body = chat_of("alpha");
    body["stream_options"] = json!(7);
    let reply = send(&serving, "/v1/chat/completions", None, &body);
    let parameter = reply.json()["error"]["param"].clone();
    assert_eq!((reply.status, parameter), (400, json!("stream_options")));
}

/// Bytes in base 64.
fn encoded(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        let digit = |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        let digits: String = (0..=group.len()).map(digit).collect();
        format!("{digits:=<4}")
    };
    bytes.chunks(3).map(group).collect()
}
