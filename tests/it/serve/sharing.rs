//! What one who asks may take of what all share; and what it is not told of others.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::*;
use crate::client::request;
use crate::hold::Hold;

const ADMIN: &str = "admin-0123456789abcdef";
const ONE: &str = "one-0123456789abcdef";
const OTHER: &str = "other-0123456789abcdef";
/// Restricted to a name that nothing has.
const LOST: &str = "lost-0123456789abcdef";

const FILE: &str = "\
admin admin-0123456789abcdef
read one-0123456789abcdef
read other-0123456789abcdef
read,write lost-0123456789abcdef nothing
";

fn tokens(dir: &Path) -> Option<Arc<Tokens>> {
    let path = dir.join("tokens");
    std::fs::write(&path, FILE).expect("writable");
    Some(Arc::new(Tokens::open(path).expect("tokens")))
}

fn ask(serving: &Serving, token: &str, method: &str, path: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer)];
    let asked = request(method, path, &headers, body.as_bytes());
    serving.client().ask(&asked)
}

fn chat(question: &str) -> String {
    let messages = json!([{"role": "user", "content": question}]);
    json!({"model": "answers", "messages": messages}).to_string()
}

#[test]
fn the_rows_of_all_statements_are_bounded_together() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.rows = 5;
            limits.script = 20;
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    serving.run("INSERT INTO questions VALUES ('a', 'x'), ('b', 'x'), ('c', 'x')");
    assert_eq!(serving.sql("SELECT key FROM questions").status, 200);
    let twice = "SELECT key FROM questions; SELECT key FROM questions";
    let reply = serving.sql(twice);
    assert_eq!(reply.status, 413, "{}", reply.body);
    let said = reply.json();
    assert!(text(&said["error"]).contains("5 rows"), "{said}");
    assert_eq!(said["outcomes"].as_array().map(Vec::len), Some(1), "{said}");
    assert_eq!(
        serving.sql("SHOW TABLES; SHOW SOURCES; SHOW VIEWS").status,
        200
    );
    assert_eq!(
        serving.sql(&"SHOW VIEWS;".repeat(6)).status,
        413,
        "rows of listings count, too"
    );
    // What is changed is not told, and so does not count.
    let changed = serving.run(
        "SELECT key FROM questions;
         UPDATE questions SET text = 'y' WHERE text = 'x';
         DELETE FROM questions WHERE text = 'y'",
    );
    assert_eq!(changed[1]["n_rows"], 3);
    let reply = serving.sql(&"SHOW SINKS;".repeat(21));
    assert_eq!(reply.status, 413, "{}", reply.body);
    assert!(text(&reply.json()["error"]).contains("21 statements"));
    assert!(reply.json()["outcomes"].is_null(), "nothing is carried out");
}

#[test]
fn a_join_that_is_too_large_is_refused_with_what_to_do() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.pairs = 1_000;
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let rows: Vec<String> = (0..40).map(|n| format!("('k{n}', 'x')")).collect();
    serving.run(&format!("INSERT INTO questions VALUES {}", rows.join(",")));
    for sql in [
        "SELECT a.key FROM questions a CROSS JOIN questions b CROSS JOIN questions c \
         WHERE a.key || b.key || c.key = 'none'",
        "SELECT a.key || b.key AS pair FROM questions a CROSS JOIN questions b LIMIT 1",
        "UPDATE questions SET text = 'y' WHERE key IN \
         (SELECT a.key FROM questions a JOIN questions b ON a.key || b.key <> 'none')",
    ] {
        let reply = serving.sql(sql);
        assert_eq!(reply.status, 413, "{sql}: {}", reply.body);
        let said = reply.json();
        assert!(text(&said["error"]).contains("1000 pairs"), "{said}");
        assert!(text(&said["hint"]).contains("LIMIT"), "{said}");
    }
    let alike = "SELECT a.key FROM questions a CROSS JOIN questions b CROSS JOIN questions c \
                 CROSS JOIN questions d CROSS JOIN questions e";
    let reply = serving.sql(&alike.replace("a.key", "1 AS x"));
    assert_eq!(reply.status, 413, "{}", reply.body);
    let joined = "SELECT a.key FROM questions a JOIN questions b ON a.key = b.key";
    let outcome = serving.run(joined);
    assert_eq!(outcome[0]["rows"].as_array().map(Vec::len), Some(40));
    let unchanged = serving.run("SELECT count(*) AS n FROM questions WHERE text = 'x'");
    assert_eq!(unchanged[0]["rows"], json!([{"n": 40}]));
}

#[test]
fn what_takes_longer_than_it_may_is_given_up() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.statement_time = Duration::ZERO;
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let reply = serving.sql("INSERT INTO questions VALUES ('q', 'x'); SELECT 1 AS x");
    assert_eq!(reply.status, 413, "{}", reply.body);
    assert!(text(&reply.json()["error"]).contains("longer"));
    assert_eq!(
        reply.json()["outcomes"],
        json!([{"outcome": "done", "n_rows": 1}])
    );
}

#[test]
fn who_hangs_up_gives_up_what_was_looked_for() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.statements = 1;
            limits.patience = Duration::from_secs(2);
            limits.pairs = usize::MAX;
            limits.statement_time = Duration::from_secs(1 << 20);
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with("CREATE TABLE notes (key TEXT, text TEXT)", setup);
    for half in 0..2 {
        let rows = (0..30_000).map(|n| line(&format!("{half} {n}"), "x"));
        serving.post("notes", &rows.collect::<String>());
    }
    // Far more pairs than are looked at while this test waits.
    let sql = "SELECT a.key FROM notes a JOIN notes b ON a.key || b.key = 'none'";
    let body = json!({ "sql": sql }).to_string();
    let mut stream = TcpStream::connect(serving.address).expect("somebody listens");
    let asked = request("POST", "/v1/sql", &[], body.as_bytes());
    stream.write_all(&asked).expect("written");
    eventually("it is under way", || {
        serving.sql("SELECT 1 AS x").status == 503
    });
    drop(stream);
    eventually("it is given up", || {
        serving.sql("SELECT 1 AS x").status == 200
    });
}

#[test]
fn one_token_does_not_keep_others_from_asking() {
    let dir = tempfile::tempdir().expect("a folder");
    let hold = Hold::new();
    let setup = Setup {
        tokens: tokens(dir.path()),
        model: Scripted::new().held_while(hold.0.clone()),
        limits: {
            let mut limits = limits();
            limits.askers = 2;
            limits.patience = Duration::from_millis(50);
            limits
        },
        ..Setup::default()
    };
    let script = "
        CREATE TABLE docs (key TEXT, text TEXT);
        CREATE TABLE questions (key TEXT, text TEXT);
        CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
            CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs));
        INSERT INTO docs VALUES ('a', 'alpha is one.');";
    let serving = Serving::with(script, setup);
    let n_asked = || {
        let sql = json!({"sql": "SELECT count(*) AS n FROM questions"}).to_string();
        let told = ask(&serving, ADMIN, "POST", "/v1/sql", &sql).json();
        told["outcomes"][0]["rows"][0]["n"].as_u64()
    };
    let path = "/v1/chat/completions";
    std::thread::scope(|scope| {
        // Whatever fails here, nobody waits for ever.
        let hold = hold;
        let one = scope.spawn(|| ask(&serving, ONE, "POST", path, &chat("alpha !slow")));
        eventually("one has its share", || n_asked() == Some(1));
        assert_eq!(ask(&serving, ONE, "POST", path, &chat("beta")).status, 503);
        let other = scope.spawn(|| ask(&serving, OTHER, "POST", path, &chat("alpha !slow")));
        eventually("the other has a turn", || n_asked() == Some(2));
        hold.release();
        assert_eq!(one.join().expect("no panic").status, 200);
        assert_eq!(other.join().expect("no panic").status, 200);
    });
}

#[test]
fn readiness_and_embedding_do_not_wait_for_calls_of_the_engine() {
    /// More than there are at once.
    const N_CALLS: usize = 80;
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.patience = Duration::from_millis(50);
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    eventually("it is ready", || serving.get("/readyz").status == 200);
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    // It ends before the threads that wait for it.
    let hold = Hold::new();
    for _ in 0..N_CALLS {
        let (served, is_held) = (serving.served.clone(), hold.0.clone());
        runtime.spawn(async move {
            let wait = move |_: &Engine| {
                while is_held.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            };
            // Some are refused.
            let _ = served.ask(wait).await;
        });
    }
    eventually("all are held", || {
        serving.get("/v1/relations").status == 503
    });
    assert_eq!(serving.get("/readyz").status, 200);
    let body = json!({"model": "perennial-embedder", "input": "alpha"}).to_string();
    let asked = request("POST", "/v1/embeddings", &[], body.as_bytes());
    assert_eq!(serving.client().ask(&asked).status, 200);
    hold.release();
    eventually("they are given back", || {
        serving.get("/v1/relations").status == 200
    });
}

#[test]
fn who_reaches_some_names_is_told_of_no_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = Setup {
        tokens: tokens(dir.path()),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let paths = [
        "/v1/views/nothing",
        "/v1/views/nothing?as_of=1",
        "/v1/views/nothing/plan",
        "/v1/views/nothing/lineage?key=q",
        "/v1/views/nothing/subscribe",
        "/v1/tokens/nothing.00000000000000aa.1",
        "/v1/relations",
    ];
    for path in paths {
        let reply = ask(&serving, LOST, "GET", path, "");
        for name in ["docs", "questions", "answers"] {
            assert!(!reply.body.contains(name), "{path}: {}", reply.body);
        }
    }
    for (path, body) in [
        ("/v1/streams/nothing", line("a", "x")),
        (
            "/v1/chat/completions",
            chat("alpha").replace("answers", "nothing"),
        ),
    ] {
        let reply = ask(&serving, LOST, "POST", path, &body);
        for name in ["docs", "questions", "answers"] {
            assert!(!reply.body.contains(name), "{path}: {}", reply.body);
        }
    }
    // Who reaches all is told what there is.
    for path in ["/v1/views/nothing", "/v1/views/nothing/plan"] {
        let reply = ask(&serving, ADMIN, "GET", path, "");
        assert_eq!(reply.status, 404, "{}", reply.body);
        assert!(text(&reply.json()["hint"]).contains("answers"), "{path}");
    }
}

#[test]
fn a_view_over_its_budget_keeps_no_post_waiting() {
    let serving = Serving::start(
        "CREATE TABLE docs (key TEXT, text TEXT);
         CREATE TABLE questions (key TEXT, text TEXT);
         CREATE TABLE other (key TEXT, text TEXT);
         CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
             CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs)) WITH (CALLS_PER_HOUR = 1);",
    );
    serving.post("docs", &line("a", "alpha is one."));
    serving.post("questions", &line("q", "alpha"));
    let mut client = serving.client();
    client.post("docs", line("a", "alpha is two."));
    let mut last = String::new();
    for n in 0..40 {
        let reply = client.post("other", line("k", &n.to_string()));
        assert!([200, 202].contains(&reply.status), "{}", reply.body);
        last = reply.token();
    }
    serving.run("ALTER VIEW answers SET (CALLS_PER_HOUR = none)");
    let fate = client.look(&last, 60);
    assert_eq!(fate.json()["visible"], true, "{}", fate.body);
    assert_eq!(serving.answers("answers")["q"], "alpha is two.");
    let held = serving.json("/v1/views/other");
    assert_eq!(held["rows"][0]["row"]["text"], "39");
}
