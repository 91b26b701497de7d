//! The engine as an assistant finds it, over the Model Context Protocol: by the client of its SDK, and by
//! lines that are written by hand.

mod bounds;
mod memories;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::mcp::{NotOpened, Opening};
use perennial::serve::{Limits, Served, Server, ServerOptions, Tokens};
use perennial::sql::{Script, Session, parse};
use perennial::{Engine, Runtime};
use rmcp::model::{
    CallToolRequestParams, ClientConfig, ProtocolVersion, ReadResourceRequestParams,
    ResourceContents, ResourceUpdatedNotificationParam, ServerNotification, SubscribeRequestParams,
    SubscriptionFilter,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RoleClient, RunningService,
};
use rmcp::{ClientHandler, ServiceExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::client::request;

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const NOTES: &str = "
    CREATE TABLE notes (key TEXT, text TEXT, title TEXT);
    CREATE TABLE questions (key TEXT, text TEXT);
    CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
        CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes));
";

fn served(script: &str, model: Scripted) -> Arc<Served> {
    let embedder = Arc::new(ScriptedEmbedder::default());
    let builder = Engine::builder(Runtime::scripted(Arc::new(model), embedder));
    let engine = builder.held().start().expect("starts");
    let served = Served::over(Session::new(engine, "scripted").held(), Limits::default());
    let script = Script::new("test.sql", script);
    let statements = parse(&script).expect("a script");
    served
        .declare(&script, &statements, |_| {})
        .unwrap_or_else(|error| panic!("{error}"));
    served
}

/// A client that passes on which resources changed.
struct Client(mpsc::UnboundedSender<String>);

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::default()
    }

    async fn on_resource_updated(
        &self,
        told: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let _ = self.0.send(told.uri);
    }
}

/// A client of the SDK, and the server that it speaks with.
struct Speaking {
    client: RunningService<RoleClient, Client>,
    changed: mpsc::UnboundedReceiver<String>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Speaking {
    async fn with(served: Arc<Served>) -> Self {
        let (_, opening) = watch::channel(Some(Ok(served)));
        Self::over(opening).await
    }

    async fn over(opening: watch::Receiver<Opening>) -> Self {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (heard, said) = tokio::io::split(there);
        let server = tokio::spawn(perennial::mcp::speak(opening, heard, said));
        let (sender, changed) = mpsc::unbounded_channel();
        let client = Client(sender).serve(here).await.expect("speaks");
        Self {
            client,
            changed,
            server,
        }
    }

    /// What a tool gives, and whether it is an error.
    async fn call(&self, tool: &'static str, arguments: Value) -> (Value, bool) {
        let arguments = arguments.as_object().expect("an object").clone();
        let request = CallToolRequestParams::new(tool).with_arguments(arguments);
        let result = self.client.call_tool(request).await.expect("a result");
        let given = result.structured_content.expect("what is given");
        (given, result.is_error == Some(true))
    }

    async fn ok(&self, tool: &'static str, arguments: Value) -> Value {
        let (given, is_error) = self.call(tool, arguments).await;
        assert!(!is_error, "{tool}: {given}");
        given
    }

    async fn refused(&self, tool: &'static str, arguments: Value) -> String {
        let (given, is_error) = self.call(tool, arguments).await;
        assert!(is_error, "{tool}: {given}");
        assert!(
            given["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
            "{given}"
        );
        given["error"].as_str().expect("what is wrong").to_owned()
    }

    async fn read(&self, uri: &str) -> Value {
        let read = self
            .client
            .read_resource(ReadResourceRequestParams::new(uri));
        match &read.await.expect("a resource").contents[..] {
            [ResourceContents::TextResourceContents { text, .. }] => {
                serde_json::from_str(text).expect("JSON")
            }
            other => panic!("{other:?}"),
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let test = async {
        tokio::time::timeout(DEADLINE * 2, test)
            .await
            .expect("in time")
    };
    runtime.block_on(test);
}

#[test]
fn what_is_remembered_is_asked_corrected_and_forgotten() {
    run(async {
        let of = Speaking::with(served(NOTES, Scripted::new())).await;
        let tools = of.client.list_all_tools().await.expect("tools");
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(
            names,
            [
                "ask",
                "views",
                "snapshot",
                "changes_since",
                "sql_query",
                "remember",
                "recall",
                "forget"
            ]
        );
        let stored = json!({"text": "alpha is one.", "key": "a", "title": "Letters"});
        let stored = of.ok("remember", stored).await;
        assert_eq!(
            (&stored["table"], &stored["visible"]),
            (&json!("notes"), &json!(true))
        );
        let asked = json!({"question": "alpha"});
        let answer = of.ok("ask", asked.clone()).await;
        assert_eq!(answer["answer"], "alpha is one.");
        assert_eq!(answer["sentences"][0]["citations"][0]["document"], "a");
        assert_eq!(answer["sentences"][0]["citations"][0]["title"], "Letters");
        let address = answer["sentences"][0]["citations"][0]["address"].as_str();
        let cited = of.read(address.expect("an address")).await;
        assert_eq!(cited["rows"][0]["row"]["text"], "alpha is one.");
        assert_eq!(answer["kept"], false);
        // Corrected, it is answered anew; asked again, the answer is there.
        of.ok("remember", json!({"text": "alpha is two.", "key": "a"}))
            .await;
        let again = of
            .ok("ask", json!({"question": "alpha", "view": "answers"}))
            .await;
        assert_eq!(
            (&again["answer"], &again["kept"]),
            (&json!("alpha is two."), &json!(true))
        );
        // What says the same is stored once.
        let one = of.ok("remember", json!({"text": "beta is here."})).await;
        let other = of.ok("remember", json!({"text": " beta is here.\n"})).await;
        assert_eq!(one["key"], other["key"]);
        let held = of.ok("snapshot", json!({"view": "notes"})).await;
        assert_eq!(held["n_rows"], 2);
        // A key that is chosen names it; one that was chosen stays.
        let named = json!({"text": "beta is here.", "key": "beta"});
        let named = of.ok("remember", named).await;
        assert_eq!(
            (&named["key"], &named["renamed"]),
            (&json!("beta"), &one["key"])
        );
        let one = of.ok("remember", json!({"text": "beta is here."})).await;
        assert_eq!(
            (&one["key"], &one["renamed"]),
            (&json!("beta"), &Value::Null)
        );
        let held = of.ok("snapshot", json!({"view": "notes"})).await;
        assert_eq!(held["n_rows"], 2);
        let titled = json!({"text": "beta is here.", "title": "B"});
        let titled = of.ok("remember", titled).await;
        assert_ne!(titled["key"], one["key"]);
        of.ok("forget", json!({"key": titled["key"]})).await;
        let receipt = of.ok("forget", json!({"key": "a"})).await["receipt"].clone();
        assert_eq!(
            (&receipt["was_there"], &receipt["remains"]),
            (&json!(true), &json!([]))
        );
        let rows = of
            .ok("sql_query", json!({"sql": "SELECT key FROM notes"}))
            .await;
        assert_eq!(rows["rows"], json!([{"key": one["key"]}]));
        let answer = of.ok("ask", asked).await;
        assert_eq!(answer["answer"], "Nothing is known of alpha.");
        of.client.cancel().await.expect("ends");
        of.server.await.expect("ends").expect("in order");
    });
}

#[test]
fn what_cannot_be_done_is_an_error_of_the_tool_with_a_hint() {
    run(async {
        let script = format!(
            "{NOTES} CREATE TABLE other (key TEXT, text TEXT);
             CREATE TABLE \"Upper\" (key TEXT, text TEXT);
             CREATE TABLE blocked (key TEXT, text TEXT);
             CREATE TABLE answers_of_blocked (key TEXT, text TEXT);"
        );
        let of = Speaking::with(served(&script, Scripted::new())).await;
        for (tool, arguments, part) in [
            (
                "ask",
                json!({"question": "alpha", "view": "answrs"}),
                "no view `answrs`",
            ),
            ("ask", json!({"question": " "}), "empty"),
            (
                "ask",
                json!({"question": "alpha", "source": "nowhere"}),
                "nowhere",
            ),
            (
                "ask",
                json!({"question": "alpha", "source": "x; DROP"}),
                "no name",
            ),
            (
                "ask",
                json!({"question": "alpha", "view": "answers", "source": "other"}),
                "does not answer from `other`",
            ),
            ("ask", json!({}), "question"),
            ("ask", json!({"question": "alpha"}), "no documents"),
            ("snapshot", json!({"view": "nowhere"}), "nowhere"),
            (
                "snapshot",
                json!({"view": "notes", "key": "nobody"}),
                "nobody",
            ),
            (
                "snapshot",
                json!({"view": "notes", "limit": -1}),
                "not understood",
            ),
            ("changes_since", json!({"view": "notes"}), "no view"),
            (
                "changes_since",
                json!({"view": "answers", "since": "x"}),
                "no id",
            ),
            (
                "sql_query",
                json!({"sql": "DELETE FROM notes"}),
                "only what looks",
            ),
            ("sql_query", json!({"sql": "SELECT 1; SELECT 2"}), ""),
            ("sql_query", json!({"sql": "SELEC 1"}), ""),
            ("remember", json!({"text": ""}), "empty"),
            ("remember", json!({"text": "x"}), "several tables"),
            (
                "remember",
                json!({"text": "x", "table": "answers"}),
                "no table",
            ),
            (
                "remember",
                json!({"text": "x", "memory": "team"}),
                "no memory",
            ),
            ("recall", json!({"question": "x"}), "no memory"),
            (
                "recall",
                json!({"question": "x", "memory": "team"}),
                "no memory `team`",
            ),
            ("forget", json!({"key": "a"}), "several tables"),
            ("forget", json!({"key": "a", "colour": "blue"}), "colour"),
        ] {
            let said = of.refused(tool, arguments.clone()).await;
            assert!(said.contains(part), "{tool} {arguments}: {said}");
        }
        // A tool that is not there is an error of the protocol.
        let unknown = of.client.call_tool(CallToolRequestParams::new("rm")).await;
        assert!(unknown.is_err());
        // Over documents that no view is asked about, one is made.
        of.ok(
            "remember",
            json!({"text": "alpha is one.", "table": "other"}),
        )
        .await;
        let answer = of
            .ok("ask", json!({"question": "alpha", "source": "other"}))
            .await;
        assert_eq!(
            (&answer["view"], &answer["answer"]),
            (&json!("answers_of_other"), &json!("alpha is one."))
        );
        let again = of
            .ok("ask", json!({"question": "alpha", "source": "other"}))
            .await;
        assert_eq!(again["kept"], true);
        // Its name is taken as it is.
        of.ok(
            "remember",
            json!({"text": "beta is two.", "table": "Upper"}),
        )
        .await;
        let answer = of
            .ok("ask", json!({"question": "beta", "source": "Upper"}))
            .await;
        assert_eq!(
            (&answer["view"], &answer["answer"]),
            (&json!("answers_of_Upper"), &json!("beta is two."))
        );
        // Where the view cannot be made nothing is left of it.
        let said = of
            .refused("ask", json!({"question": "alpha", "source": "blocked"}))
            .await;
        assert!(said.contains("answers_of_blocked"), "{said}");
        let table = json!({"view": "questions_of_blocked"});
        let said = of.refused("snapshot", table).await;
        assert!(said.contains("questions_of_blocked"), "{said}");
    });
}

#[test]
#[allow(deprecated, reason = "clients of today speak so")]
fn views_are_resources_that_are_read_and_followed() {
    run(async {
        let served = served(NOTES, Scripted::new());
        let mut of = Speaking::with(served.clone()).await;
        let views = of.ok("views", json!({})).await;
        let answers = views["views"].as_array().expect("views").iter();
        let answers = answers
            .clone()
            .find(|of| of["name"] == "answers")
            .expect("it");
        assert_eq!(
            (&answers["can_be_asked"], &answers["documents"]),
            (&json!(true), &json!("notes"))
        );
        let resources = of.client.list_all_resources().await.expect("resources");
        assert_eq!(resources.len(), 1);
        let uri = resources[0].uri.clone();
        assert_eq!(uri, "perennial://views/answers");

        of.ok("remember", json!({"text": "alpha is one.", "key": "a/1"}))
            .await;
        of.ok("ask", json!({"question": "alpha"})).await;
        assert_eq!(of.read(&uri).await["rows"][0]["text"], "alpha is one.");
        let document = of.read("perennial://views/notes/a%2F1").await;
        assert_eq!(document["rows"][0]["row"]["text"], "alpha is one.");
        for wrong in ["perennial://views/nowhere", "file:///etc/passwd"] {
            let read = of
                .client
                .read_resource(ReadResourceRequestParams::new(wrong));
            assert!(read.await.is_err(), "{wrong}");
        }

        let at = of.ok("changes_since", json!({"view": "answers"})).await;
        assert_eq!(
            (&at["is_all"], at["changes"].as_array().map(Vec::len)),
            (&json!(true), Some(1))
        );
        let nothing = json!({"view": "answers", "since": at["id"]});
        assert_eq!(
            of.ok("changes_since", nothing.clone()).await["changes"],
            json!([])
        );
        of.client
            .subscribe(SubscribeRequestParams::new(uri.clone()))
            .await
            .expect("subscribed");
        // Somebody else changes a document.
        let engine = served.engine().clone();
        engine
            .upsert("notes", "a/1", "alpha is two.")
            .expect("runs");
        assert_eq!(of.changed.recv().await, Some(uri.clone()));
        let since = json!({"view": "answers", "since": at["id"], "wait_s": 30});
        let told = of.ok("changes_since", since).await;
        assert_eq!(
            (&told["is_all"], &told["changes"][0]["text"]),
            (&json!(false), &json!("alpha is two."))
        );
        assert_ne!(told["id"], at["id"]);
        // Who follows no more is told no more.
        let unsubscribed = rmcp::model::UnsubscribeRequestParams::new(uri.clone());
        of.client
            .unsubscribe(unsubscribed)
            .await
            .expect("unsubscribed");
        engine
            .upsert("notes", "a/1", "alpha is three.")
            .expect("runs");
        tokio::task::spawn_blocking(move || engine.flush())
            .await
            .expect("no panic")
            .expect("runs");
        of.ok("views", json!({})).await;
        assert!(of.changed.try_recv().is_err());
    });
}

/// In versions of the protocol without sessions, what is followed is one request that stays open.
#[test]
fn views_are_followed_without_a_session() {
    run(async {
        let served = served(NOTES, Scripted::new());
        let (_, there) = watch::channel(Some(Ok(served.clone())));
        let (here, other) = tokio::io::duplex(1 << 16);
        let (heard, said) = tokio::io::split(other);
        tokio::spawn(perennial::mcp::speak(there, heard, said));
        let lifecycle = ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        };
        let (sender, _changed) = mpsc::unbounded_channel();
        let client = Client(sender).serve_with_lifecycle(here, lifecycle);
        let client = client.await.expect("speaks");
        let engine = served.engine().clone();
        engine.upsert("notes", "a", "alpha is one.").expect("runs");
        engine.upsert("questions", "q", "alpha").expect("runs");
        let flushed = engine.clone();
        tokio::task::spawn_blocking(move || flushed.flush())
            .await
            .expect("no panic")
            .expect("runs");
        let uri = "perennial://views/answers/q";
        let filter = SubscriptionFilter::builder()
            .resource_subscriptions([uri, "file:///etc/passwd"])
            .build();
        let mut followed = client.listen(filter).await.expect("subscribed");
        let accepted = followed.acknowledged().resource_subscriptions.clone();
        assert_eq!(accepted, Some(vec![uri.to_owned()]));
        // It is acknowledged before it begins: so it is changed until that is told.
        let told = async {
            loop {
                match followed.next().await.expect("goes on") {
                    Some(ServerNotification::ResourceUpdatedNotification(told)) => {
                        return told.params.uri;
                    }
                    Some(_) => {}
                    None => panic!("it ended"),
                }
            }
        };
        let changes = async {
            for n in 0.. {
                engine
                    .upsert("notes", "a", &format!("alpha is {n}."))
                    .expect("runs");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let told = tokio::select! {
            told = told => told,
            () = changes => unreachable!(),
        };
        assert_eq!(told, uri);
    });
}

#[test]
fn a_call_that_is_cancelled_takes_its_question_back() {
    run(async {
        let is_held = Arc::new(AtomicBool::new(true));
        let served = served(NOTES, Scripted::new().held_while(is_held.clone()));
        served
            .engine()
            .upsert("notes", "a", "alpha is one.")
            .expect("runs");
        let of = Speaking::with(served.clone()).await;
        let n_questions = || {
            let snapshot = served.engine().snapshot("questions").expect("runs");
            snapshot.rows.len()
        };
        let asked = json!({"question": "alpha !slow", "timeout_s": 1});
        let said = of.refused("ask", asked).await;
        assert!(said.contains("within 1 s"), "{said}");
        // An epoch under way is completed; the next has the question no more.
        is_held.store(false, Ordering::SeqCst);
        while n_questions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        is_held.store(true, Ordering::SeqCst);
        let asked = json!({"question": "is alpha !slow"});
        let arguments = asked.as_object().expect("an object").clone();
        let request = CallToolRequestParams::new("ask").with_arguments(arguments);
        let request =
            rmcp::model::ClientRequest::CallToolRequest(rmcp::model::CallToolRequest::new(request));
        let options = rmcp::service::PeerRequestOptions::default();
        let call = of
            .client
            .send_cancellable_request(request, options)
            .await
            .expect("sent");
        while n_questions() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        call.cancel(None).await.expect("cancelled");
        is_held.store(false, Ordering::SeqCst);
        while n_questions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_client_may_speak_before_there_is_an_engine() {
    run(async {
        let (ready, served_later) = watch::channel(None);
        let of = Speaking::over(served_later).await;
        assert_eq!(of.client.list_all_tools().await.expect("tools").len(), 8);
        let views = of.ok("views", json!({}));
        let later = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            ready.send_replace(Some(Ok(served(NOTES, Scripted::new()))));
        };
        let (views, ()) = tokio::join!(views, later);
        assert_eq!(views["views"].as_array().map(Vec::len), Some(3));
    });
}

#[test]
fn a_client_is_told_why_there_is_no_engine() {
    run(async {
        let (ready, opening) = watch::channel(None);
        let of = Speaking::over(opening).await;
        let asked = of.call("views", json!({}));
        let later = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            ready.send_replace(Some(Err(NotOpened {
                error: "./state: in use by process 7 (perennial)".to_owned(),
                hint: "end that program".to_owned(),
            })));
        };
        let ((said, is_error), ()) = tokio::join!(asked, later);
        assert!(is_error);
        assert_eq!(
            said,
            json!({"error": "./state: in use by process 7 (perennial)", "hint": "end that program"})
        );
        // Further ones are told at once.
        let (said, is_error) = of.call("sql_query", json!({"sql": "SHOW VIEWS"})).await;
        assert!(is_error && said["hint"] == "end that program", "{said}");
    });
}

#[test]
fn the_program_answers_calls_where_it_has_no_engine_and_ends_with_its_client() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["mcp", "--model", "./no-such-model.gguf"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("piped");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut say = |message: Value| {
        let line = message.to_string() + "\n";
        input.write_all(line.as_bytes()).expect("read");
    };
    let answer = |id: u64| loop {
        let line = heard.recv_timeout(DEADLINE).expect("a reply");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        if said["id"] == id {
            return said;
        }
    };
    let client = json!({"name": "test", "version": "0"});
    let begin = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
    say(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin}));
    answer(1);
    say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let call = json!({"name": "views", "arguments": {}});
    say(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}));
    let said = answer(2);
    assert_eq!(said["result"]["isError"], true, "{said}");
    assert!(said.to_string().contains("no-such-model"), "{said}");
    drop(input);
    assert!(!child.wait().expect("ends").success());
}

/// Posts a message to a server, and returns the status, the session and what is told of it.
fn post(
    server: &Server,
    token: Option<&str>,
    session: Option<&str>,
    message: &Value,
) -> (u16, Option<String>, Value) {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("connection", "close"),
    ];
    headers.extend(bearer.iter().map(|bearer| ("authorization", &**bearer)));
    headers.extend(session.map(|session| ("mcp-session-id", session)));
    let body = message.to_string();
    let mut stream = TcpStream::connect(server.address()).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time");
    stream
        .write_all(&request("POST", "/mcp", &headers, body.as_bytes()))
        .expect("written");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("a reply");
    let status = told
        .get(9..12)
        .and_then(|s| s.parse().ok())
        .expect("a status");
    let session = told.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        (name.eq_ignore_ascii_case("mcp-session-id")).then(|| value.trim().to_owned())
    });
    let json = told
        .lines()
        .map(|line| line.strip_prefix("data: ").unwrap_or(line))
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .next_back();
    (status, session, json.unwrap_or(Value::Null))
}

#[test]
fn over_http_the_same_tokens_hold() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokens");
    let file = "admin admin-0123456789abcdef\nread reader-0123456789abcdef\n\
                ask asker-0123456789abcdef answers\n\
                write writer-0123456789abcdef notes\n";
    std::fs::write(&path, file).expect("writable");
    let script = format!(
        "{NOTES} CREATE TABLE hidden (key TEXT, text TEXT); CREATE MEMORY vault FROM hidden;"
    );
    let served = served(&script, Scripted::new());
    served
        .engine()
        .upsert("notes", "a", "alpha is one.")
        .expect("runs");
    let mut options = ServerOptions::at("127.0.0.1:0");
    options.tokens = Some(Arc::new(Tokens::open(path).expect("tokens")));
    options.besides.guarded = Some(perennial::mcp::router(&served));
    let server = Server::start(served.clone(), options).expect("listens");
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}}});
    assert_eq!(post(&server, None, None, &initialize).0, 401);
    let call = |token: &str, tool: &str, arguments: Value| {
        let (status, session, begun) = post(&server, Some(token), None, &initialize);
        assert_eq!(status, 200, "{begun}");
        assert_eq!(begun["result"]["serverInfo"]["name"], "perennial");
        let session = session.expect("a session");
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(post(&server, Some(token), Some(&session), &ready).0, 202);
        let message = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
                             "params": {"name": tool, "arguments": arguments}});
        let (status, _, told) = post(&server, Some(token), Some(&session), &message);
        assert_eq!(status, 200, "{told}");
        told["result"].clone()
    };
    let (reader, asker) = ("reader-0123456789abcdef", "asker-0123456789abcdef");
    let writer = "writer-0123456789abcdef";
    let said_of = |refused: &Value| {
        let content = &refused["structuredContent"];
        format!("{} {}", content["error"], content["hint"])
    };
    let asked = call(asker, "ask", json!({"question": "alpha"}));
    assert_eq!(
        asked["structuredContent"]["answer"], "alpha is one.",
        "{asked}"
    );
    // Where the documents are is told to who may read them.
    let cited = |asked: &Value| {
        let sentence = &asked["structuredContent"]["sentences"][0];
        sentence["citations"][0]["address"].clone()
    };
    assert!(cited(&asked).is_null(), "{asked}");
    let listed = call(asker, "views", json!({}));
    assert_eq!(
        listed["structuredContent"]["views"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    // Who may only ask is not told what is behind the view.
    let told = &listed["structuredContent"]["views"][0];
    assert_eq!(told["can_be_asked"], true);
    assert!(told["documents"].is_null() && told["matching"].is_null());
    for (token, tool, arguments) in [
        (asker, "snapshot", json!({"view": "answers"})),
        (asker, "sql_query", json!({"sql": "SELECT * FROM answers"})),
        (asker, "changes_since", json!({"view": "answers"})),
        (reader, "remember", json!({"text": "beta is two."})),
        (reader, "forget", json!({"key": "a"})),
        (
            writer,
            "remember",
            json!({"text": "x", "table": "questions"}),
        ),
        // Only who may do all declares views.
        (
            reader,
            "ask",
            json!({"question": "alpha", "source": "questions"}),
        ),
    ] {
        let refused = call(token, tool, arguments);
        assert_eq!(refused["isError"], true, "{tool}: {refused}");
    }
    // Names are told to those who reach what bears them.
    let named = json!({"text": "x", "table": "secrets"});
    for (token, arguments) in [
        (reader, json!({"text": "x"})),
        (reader, named.clone()),
        (writer, named),
        (writer, json!({"text": "x", "memory": "vault"})),
    ] {
        let refused = call(token, "remember", arguments);
        assert_eq!(refused["isError"], true, "{refused}");
        let said = said_of(&refused);
        for name in ["questions", "hidden", "there are: vault"] {
            assert!(!said.contains(name), "{said}");
        }
    }
    let stored = call(writer, "remember", json!({"text": "gamma is three."}));
    assert_eq!(stored["structuredContent"]["table"], "notes", "{stored}");
    let held = call(reader, "snapshot", json!({"view": "answers"}));
    assert_eq!(held["structuredContent"]["n_rows"], 1);
    let read = call(
        reader,
        "ask",
        json!({"question": "alpha", "view": "answers"}),
    );
    assert_eq!(cited(&read), "perennial://views/notes/a", "{read}");
    let stored = call(
        "admin-0123456789abcdef",
        "remember",
        json!({"text": "beta is two.", "table": "notes"}),
    );
    assert_eq!(stored["isError"], false, "{stored}");
    drop(server);
}

/// The program, by lines that are written by hand, over the small real model.
#[test]
fn the_program_speaks_the_protocol_and_nothing_else_on_standard_output() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let mut child = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["mcp", "--model", "smollm2-135m", "--state"])
        .arg(&state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("an input");
    let mut lines = BufReader::new(child.stdout.take().expect("an output")).lines();
    let mut ask = |message: Value| {
        writeln!(input, "{message}").expect("written");
        let Some(id) = message.get("id") else {
            return Value::Null;
        };
        loop {
            let line = lines.next().expect("a line").expect("a text");
            let told: Value = serde_json::from_str(&line).expect("only JSON");
            assert_eq!(told["jsonrpc"], "2.0");
            if told["id"] == *id {
                return told;
            }
        }
    };
    let begun = ask(
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}}}),
    );
    assert_eq!(begun["result"]["protocolVersion"], "2025-06-18");
    ask(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let mut call = |id: u64, tool: &str, arguments: Value| {
        let told = ask(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                              "params": {"name": tool, "arguments": arguments}}));
        told["result"].clone()
    };
    let stored = call(
        2,
        "remember",
        json!({
        "text": "The library opens at nine on weekdays.", "key": "hours", "title": "Hours"}),
    );
    assert_eq!(stored["isError"], false, "{stored}");
    let asked = call(
        3,
        "ask",
        json!({"question": "When does the library open on weekdays?"}),
    );
    let answer = &asked["structuredContent"];
    assert!(
        answer["answer"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{asked}"
    );
    assert_eq!(answer["sentences"][0]["citations"][0]["document"], "hours");
    let again = call(
        4,
        "ask",
        json!({"question": "When does the library open on weekdays?"}),
    );
    assert_eq!(again["structuredContent"]["kept"], true);
    assert_eq!(again["structuredContent"]["answer"], answer["answer"]);
    // Who hangs up ends it.
    drop(input);
    assert!(child.wait().expect("ends").success());
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("an output");
    stderr.read_to_string(&mut said).expect("a text");
    assert!(said.contains("speaking MCP"), "{said}");
}

#[test]
fn what_is_followed_is_followed_as_long_as_the_token_holds() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokens");
    let admin = "admin admin-0123456789abcdef\n";
    let both = format!("{admin}read reader-0123456789abcdef answers\n");
    std::fs::write(&path, both).expect("writable");
    let served = served(NOTES, Scripted::new());
    let engine = served.engine().clone();
    engine.upsert("questions", "q", "alpha").expect("runs");
    let change = |n: usize| {
        let text = format!("alpha is {n}.");
        engine.upsert("notes", "a", &text).expect("runs");
        engine.flush().expect("runs");
    };
    change(0);
    let mut options = ServerOptions::at("127.0.0.1:0");
    options.tokens = Some(Arc::new(Tokens::open(&path).expect("tokens")));
    options.besides.guarded = Some(perennial::mcp::router(&served));
    let server = Server::start(served.clone(), options).expect("listens");
    let token = Some("reader-0123456789abcdef");
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}}});
    let session = post(&server, token, None, &initialize).1;
    let session = session.expect("a session");
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(post(&server, token, Some(&session), &ready).0, 202);
    let follow = json!({"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe",
                        "params": {"uri": "perennial://views/answers"}});
    let (status, _, told) = post(&server, token, Some(&session), &follow);
    assert!(status == 200 && told["error"].is_null(), "{told}");
    let n_readers = || served.feed("answers").expect("a view").n_readers();
    for n in 1..4 {
        change(n);
        assert_eq!(n_readers(), 1);
    }
    std::fs::write(&path, admin).expect("writable");
    let deadline = std::time::Instant::now() + DEADLINE;
    let mut n = 4;
    while n_readers() > 0 {
        assert!(std::time::Instant::now() < deadline, "it is followed still");
        change(n);
        n += 1;
    }
}
