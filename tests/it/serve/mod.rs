//! The engine behind HTTP: what is promised to who asks, subscribes, goes on, and to who breaks the rules.

mod asking;
mod backup;
mod crash;
mod events;
mod feeding;
mod looking;
mod many;
mod openai;
mod parcels;
mod program;
mod refused;
mod resume;
mod sharing;
mod subscribing;
mod tenants;
#[cfg(feature = "otel")]
mod traces;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::engine::Tracer;
use perennial::serve::{Limits, Served, Server, ServerOptions, Tokens};
use perennial::sql::{Script, Session, parse};
use perennial::{Engine, Runtime};
use serde_json::{Value, json};

use crate::client::{Client, Reply, request};
use events::Events;

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Documents and questions that are posted, and the answers.
const SUPPORT: &str = "
    CREATE SOURCE docs FROM HTTP;
    CREATE TABLE questions (key TEXT, text TEXT);
    CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
        CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs)) WITH (ORDER_BY = 'key');
";

/// Limits that no test meets that does not set them.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.rate = 1_000_000;
    limits.burst = 1_000_000;
    limits.connections = 4_096;
    limits.peer_connections = 4_096;
    limits
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            state: None,
            tokens: None,
            limits: limits(),
            tls: false,
            tracer: None,
            model: Scripted::new(),
            runtime: None,
        }
    }
}

/// How a server is set up.
struct Setup<'a> {
    state: Option<&'a Path>,
    tokens: Option<Arc<Tokens>>,
    limits: Limits,
    tls: bool,
    tracer: Option<Arc<dyn Tracer>>,
    model: Scripted,
    /// Another model than that.
    runtime: Option<Runtime>,
}

/// A server over a scripted model, unless told otherwise.
struct Serving {
    served: Arc<Served>,
    /// Ends before the engine.
    server: Option<Server>,
    address: SocketAddr,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.take();
    }
}

impl Serving {
    fn start(script: &str) -> Self {
        Self::with(script, Setup::default())
    }

    fn with(script: &str, setup: Setup<'_>) -> Self {
        let embedder = Arc::new(ScriptedEmbedder::default());
        let scripted = || Runtime::scripted(Arc::new(setup.model), embedder);
        let mut builder = Engine::builder(setup.runtime.unwrap_or_else(scripted));
        if let Some(state) = setup.state {
            builder = builder.state(state);
        }
        if let Some(tracer) = setup.tracer {
            builder = builder.traced(tracer);
        }
        let engine = builder.held().start().expect("starts");
        let served = Served::over(Session::new(engine, "scripted").held(), setup.limits);
        let script = Script::new("test.sql", script);
        let statements = parse(&script).expect("a script");
        served
            .declare(&script, &statements, |_| {})
            .unwrap_or_else(|error| panic!("{error}"));
        let mut options = ServerOptions::at("127.0.0.1:0");
        options.tokens = setup.tokens;
        if setup.tls {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/serve/tls");
            options.tls = Some((folder.join("cert.pem"), folder.join("key.pem")));
        }
        let server = Server::start(served.clone(), options).expect("listens");
        Self {
            address: server.address(),
            served,
            server: Some(server),
        }
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    fn get(&self, path: &str) -> Reply {
        self.client().get(path)
    }

    fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json()
    }

    /// Posts records, and waits until they are visible. Returns the epoch.
    fn post(&self, stream: &str, lines: &str) -> Option<u64> {
        let reply = self.client().post(&format!("{stream}?wait=60"), lines);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["epoch"].as_u64()
    }

    fn sql(&self, sql: &str) -> Reply {
        let body = json!({ "sql": sql }).to_string();
        self.client()
            .ask(&request("POST", "/v1/sql", &[], body.as_bytes()))
    }

    /// Statements that are carried out.
    fn run(&self, sql: &str) -> Value {
        let reply = self.sql(sql);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["outcomes"].clone()
    }

    fn subscribe(&self, view: &str) -> Events {
        Events::open(self.address, &format!("/v1/views/{view}/subscribe"), &[])
    }

    /// The texts of a view of answers, by key.
    fn answers(&self, view: &str) -> std::collections::BTreeMap<String, String> {
        let held = self.json(&format!("/v1/views/{view}?limit=10000"));
        let rows = held["rows"].as_array().expect("rows").iter();
        rows.map(|row| (text(&row["key"]), text(&row["text"])))
            .collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A record as a line.
fn line(key: &str, text: &str) -> String {
    json!({ "key": key, "text": text }).to_string() + "\n"
}

/// A deletion as a line.
fn gone(key: &str) -> String {
    json!({ "delete": { "key": key } }).to_string() + "\n"
}

/// Waits for something to be so.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
