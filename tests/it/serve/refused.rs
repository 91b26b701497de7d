//! Who is refused, with which status, and that nothing of it is carried out.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::events::Events;
use super::*;
use crate::client::request;

const ADMIN: &str = "admin-0123456789abcdef";
const READER: &str = "reader-0123456789abcdef";
const WRITER: &str = "writer-0123456789abcdef";
const NARROW: &str = "narrow-0123456789abcdef";

const FILE: &str = "\
# roles token names
admin admin-0123456789abcdef
read reader-0123456789abcdef
write writer-0123456789abcdef
read,write narrow-0123456789abcdef questions answers
";

fn guarded(dir: &Path) -> (Serving, Arc<Tokens>) {
    let path = dir.join("tokens");
    std::fs::write(&path, FILE).expect("writable");
    let tokens = Arc::new(Tokens::open(path).expect("tokens"));
    let setup = Setup {
        tokens: Some(tokens.clone()),
        ..Setup::default()
    };
    (Serving::with(SUPPORT, setup), tokens)
}

fn ask(serving: &Serving, token: &str, method: &str, path: &str, body: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer)];
    let reply = serving
        .client()
        .ask(&request(method, path, &headers, body.as_bytes()));
    assert!(
        !reply.body.contains("0123456789abcdef"),
        "a token is told: {}",
        reply.body
    );
    reply.status
}

#[test]
fn every_path_but_the_open_ones_wants_a_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let (serving, _) = guarded(dir.path());
    let api = serving.json("/v1/openapi.json");
    let paths = api["paths"].as_object().expect("paths");
    let mut n_guarded = 0;
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let path = path
                .replace("{view}", "answers")
                .replace("{memory}", "team")
                .replace("{stream}", "docs")
                .replace("{token}", "docs.00000000000000aa.1")
                .replace("{model}", "answers")
                .replace("{number}", "1");
            let reply = serving
                .client()
                .ask(&request(&method.to_uppercase(), &path, &[], b"x"));
            let is_open = ["/healthz", "/readyz", "/v1/openapi.json"].contains(&&*path);
            match is_open {
                true => assert_ne!(reply.status, 401, "{path}"),
                false => {
                    n_guarded += 1;
                    assert_eq!(reply.status, 401, "{method} {path}: {}", reply.body);
                    assert_eq!(reply.headers["www-authenticate"], "Bearer");
                }
            }
        }
    }
    assert!(n_guarded > 12, "{n_guarded}");
    for wrong in ["", "x", "admin-0123456789abcdeF", &ADMIN[1..]] {
        assert_eq!(
            ask(&serving, wrong, "GET", "/v1/relations", ""),
            401,
            "{wrong}"
        );
    }
}

#[test]
fn a_role_may_what_it_says_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let (serving, _) = guarded(dir.path());
    let sql = |sql: &str| json!({ "sql": sql }).to_string();
    let post = line("k", "alpha is here.");
    let look = sql("SHOW VIEWS; SELECT 1; EXPLAIN SELECT * FROM docs");
    let change = sql("INSERT INTO questions VALUES ('q', 'alpha')");
    let asks = sql("SELECT sem_map('Shorten {text}') FROM docs");
    let cost = sql("EXPLAIN COST SELECT sem_map('Shorten {text}') FROM docs");
    let (streams, views) = ("/v1/streams/", "/v1/views/");
    let token = "/v1/tokens/docs.00000000000000aa.1";
    for (of, method, path, body, statuses) in [
        // admin, reader, writer, narrow
        (
            "looking",
            "GET",
            "/v1/relations".to_owned(),
            "",
            [200, 200, 403, 200],
        ),
        (
            "a view",
            "GET",
            format!("{views}answers"),
            "",
            [200, 200, 403, 200],
        ),
        (
            "another",
            "GET",
            format!("{views}docs"),
            "",
            [200, 200, 403, 403],
        ),
        (
            "none",
            "GET",
            format!("{views}nothing"),
            "",
            [404, 404, 403, 403],
        ),
        (
            "the plan",
            "GET",
            format!("{views}answers/plan"),
            "",
            [200, 200, 403, 200],
        ),
        (
            "lineage",
            "GET",
            format!("{views}answers/lineage?key=x"),
            "",
            [404, 404, 403, 404],
        ),
        (
            "models",
            "GET",
            "/v1/engine/models".to_owned(),
            "",
            [200, 200, 403, 403],
        ),
        (
            "status",
            "GET",
            "/v1/status".to_owned(),
            "",
            [200, 200, 403, 403],
        ),
        (
            "metrics",
            "GET",
            "/metrics".to_owned(),
            "",
            [200, 200, 403, 403],
        ),
        (
            "quarantine",
            "GET",
            "/v1/quarantine".to_owned(),
            "",
            [200, 200, 403, 403],
        ),
        (
            "discarding",
            "DELETE",
            "/v1/quarantine/9".to_owned(),
            "",
            [404, 403, 403, 403],
        ),
        (
            "mending",
            "POST",
            "/v1/quarantine/9".to_owned(),
            "{}",
            [404, 403, 403, 403],
        ),
        (
            "history",
            "GET",
            "/v1/history".to_owned(),
            "",
            [400, 400, 403, 403],
        ),
        (
            "backing up",
            "POST",
            "/v1/backup".to_owned(),
            "",
            [400, 403, 403, 403],
        ),
        (
            "handing over",
            "POST",
            "/v1/memories/team/parcel".to_owned(),
            "{}",
            [404, 404, 403, 403],
        ),
        (
            "feeding",
            "POST",
            format!("{streams}docs"),
            &*post,
            [202, 403, 202, 403],
        ),
        (
            "a table",
            "POST",
            format!("{streams}questions"),
            &*post,
            [202, 403, 202, 202],
        ),
        ("a fate", "GET", token.to_owned(), "", [410, 403, 410, 403]),
        (
            "reading SQL",
            "POST",
            "/v1/sql".to_owned(),
            &*look,
            [200, 200, 403, 403],
        ),
        (
            "changing SQL",
            "POST",
            "/v1/sql".to_owned(),
            &*change,
            [200, 403, 403, 403],
        ),
        (
            "asking SQL",
            "POST",
            "/v1/sql".to_owned(),
            &*asks,
            [200, 403, 403, 403],
        ),
        (
            "what asking would cost",
            "POST",
            "/v1/sql".to_owned(),
            &*cost,
            [200, 403, 403, 403],
        ),
    ] {
        for (token, expected) in [ADMIN, READER, WRITER, NARROW].into_iter().zip(statuses) {
            let status = ask(&serving, token, method, &path, body);
            let is_so = status == expected || expected == 202 && status == 200;
            assert!(
                is_so,
                "{of}: {method} {path} as {token}: {status}, not {expected}"
            );
        }
    }
    // What a restricted token does not reach, it is not told of.
    let bearer = format!("Bearer {NARROW}");
    let headers = [("authorization", &*bearer)];
    let reply = serving
        .client()
        .ask(&request("GET", "/v1/relations", &headers, b""));
    let relations = reply.json()["relations"].clone();
    let names: Vec<String> = relations
        .as_array()
        .expect("relations")
        .iter()
        .map(|of| text(&of["name"]))
        .collect();
    assert_eq!(names, ["questions", "answers"]);
}

#[test]
fn a_token_is_taken_back_and_another_given_without_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (serving, _) = guarded(dir.path());
    let status = |token: &str| ask(&serving, token, "GET", "/v1/relations", "");
    assert_eq!(status(READER), 200);
    let new = "newest-0123456789abcdef";
    let path = dir.path().join("tokens");
    let text = FILE.replace(READER, new);
    let beside = dir.path().join("tokens.new");
    std::fs::write(&beside, text).expect("writable");
    std::fs::rename(beside, &path).expect("writable");
    eventually("the new one is let in", || status(new) == 200);
    assert_eq!(status(READER), 401);
    assert_eq!(status(ADMIN), 200);
    // Nonsense takes nobody's token.
    std::fs::write(&path, "nonsense").expect("writable");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(status(new), 200);
}

#[test]
fn a_subscription_ends_with_its_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokens");
    std::fs::write(&path, FILE).expect("writable");
    let setup = Setup {
        tokens: Some(Arc::new(Tokens::open(&path).expect("tokens"))),
        limits: {
            let mut limits = limits();
            limits.heartbeat = Duration::from_millis(50);
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let post = |stream: &str, line: &str| {
        let path = format!("/v1/streams/{stream}?wait=60");
        assert_eq!(ask(&serving, ADMIN, "POST", &path, line), 200);
    };
    post("docs", &line("a", "alpha is one. beta is here."));
    post("questions", &line("p", "beta"));
    let mut subscribed = [ADMIN, READER, NARROW].map(|token| {
        let bearer = format!("Bearer {token}");
        let path = "/v1/views/answers/subscribe";
        let mut events = Events::open(serving.address, path, &[("authorization", &bearer)]);
        events.upto("up_to_date");
        events
    });
    // The line of one is gone, the other reaches the view no more; nothing is changed meanwhile.
    let text = FILE.replace(READER, "another-0123456789abcdef");
    let text = text.replace("questions answers", "questions");
    std::fs::write(&path, text).expect("writable");
    for events in &mut subscribed[1..] {
        let told = events.upto("end");
        assert_eq!(told[told.len() - 1].data["code"], "token", "{told:?}");
        assert!(events.next().is_none());
    }
    post("questions", &line("q", "alpha"));
    let told = subscribed[0].upto("epoch");
    assert!(told.iter().any(|event| event.name == "answer"), "{told:?}");
}

/// The status of a request that is written as it is.
fn raw(address: SocketAddr, bytes: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).expect("listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time");
    // It may be refused before all of it is written.
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let text = String::from_utf8_lossy(&reply);
    text.strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn what_is_malformed_is_refused_with_the_right_status() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.sql_body = 1_000;
            limits.posted.body = 1_000;
            limits.posted.body_time = Duration::from_millis(300);
            limits.body_time = Duration::from_millis(300);
            limits.head_time = Duration::from_millis(500);
            limits.rows = 50;
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let long = "x".repeat(2_000);
    let many: String = (0..60).map(|n| format!("('k{n}', 'x'),")).collect();
    let many = format!(
        "INSERT INTO questions VALUES {}",
        many.trim_end_matches(',')
    );
    let chunks = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let head = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n")
    };
    let sized = |path: &str, body: &str| {
        head("POST", path, &format!("content-length: {}\r\n", body.len())) + body
    };
    let chunked = |path: &str, body: &str| {
        head("POST", path, "transfer-encoding: chunked\r\n") + &chunks(body)
    };
    let get = |path: &str| head("GET", path, "");
    for (sent, expected) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (get("/"), 404),
        (get("/v1"), 404),
        (get("/v1/views/../../etc/passwd"), 404),
        (get("/v1/views/%2e%2e%2f%2e%2e%2fetc%2fpasswd"), 404),
        (get("/v1/views/..%2fstate"), 404),
        (get("/../../etc/passwd"), 404),
        (get("//etc/passwd"), 404),
        (get("/v1/views/%00"), 404),
        (get("/v1/views/%ff"), 400),
        (get("/v1/views/answers?limit=0"), 400),
        (get("/v1/views/answers?limit=x"), 400),
        (get("/v1/views/answers?limit=99999999999999999999"), 400),
        (get("/v1/views/answers?nonsense=1"), 400),
        (get("/v1/views/answers?key=nobody"), 404),
        (get("/v1/views/answers?as_of=1"), 400),
        (get("/v1/views/answers/lineage"), 400),
        (get("/v1/views/docs/lineage?key=a"), 404),
        (get("/v1/views/answers/subscribe?format=xml"), 400),
        (get("/v1/views/answers/subscribe?snapshot=perhaps"), 400),
        (get("/v1/views/docs/subscribe"), 409),
        (get("/v1/views/nothing/subscribe"), 404),
        (get("/v1/quarantine?limit=5000"), 400),
        (get("/v1/quarantine/x"), 405),
        (head("DELETE", "/v1/quarantine/x", ""), 400),
        (head("DELETE", "/v1/sql", ""), 405),
        (get("/v1/streams/docs"), 405),
        (get("/v1/tokens/nonsense"), 404),
        (get("/v1/tokens/docs.00000000000000aa.1?wait=x"), 400),
        (sized("/v1/sql", "no JSON"), 400),
        (sized("/v1/sql", "{\"sql\": 5}"), 400),
        (
            sized("/v1/sql", "{\"sql\": \"SELECT 1\", \"more\": 1}"),
            400,
        ),
        (sized("/v1/sql", "{\"sql\": \"\"}"), 400),
        (sized("/v1/sql", "{\"sql\": \"SELEC\"}"), 400),
        (sized("/v1/sql", "{\"sql\": \"SUBSCRIBE TO answers\"}"), 400),
        (sized("/v1/sql", &long), 413),
        (chunked("/v1/sql", &long), 413),
        (sized("/v1/streams/docs", &long), 413),
        (chunked("/v1/streams/docs", &long), 413),
        (sized("/v1/streams/docs", ""), 400),
        (sized("/v1/streams/nothing", "{}"), 404),
        (sized("/v1/streams/answers", "{}"), 409),
        (sized("/v1/streams/docs?nonsense=1", "{}"), 400),
        (
            head(
                "POST",
                "/v1/streams/docs",
                "content-encoding: br\r\ncontent-length: 2\r\n",
            ) + "{}",
            415,
        ),
        // Half of a body, and then nothing.
        (
            head("POST", "/v1/sql", "content-length: 100\r\n") + "{",
            408,
        ),
        (
            head("POST", "/v1/streams/docs", "content-length: 100\r\n") + "{",
            408,
        ),
        // A head without an end.
        (
            format!("GET /v1/{long} HTTP/1.1\r\nx: {}", "y".repeat(100_000)),
            431,
        ),
        // A page of another site, and a name of it that points here.
        (
            head("GET", "/v1/relations", "origin: https://evil.example\r\n"),
            403,
        ),
        (
            head("GET", "/v1/relations", "sec-fetch-site: cross-site\r\n"),
            403,
        ),
        (
            "GET /v1/relations HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"
                .to_owned(),
            403,
        ),
    ] {
        let status = raw(serving.address, sent.as_bytes());
        let shown: String = sent.chars().take(120).collect();
        assert_eq!(status, expected, "{shown}");
    }
    let cut = &many[..many.len() - 1];
    assert_eq!(serving.sql(cut).status, 400, "cut off, and so no SQL");
    // A result that is too large.
    for part in 0..6 {
        let rows: Vec<String> = (0..12).map(|n| format!("('p{part}n{n}', 'x')")).collect();
        serving.run(&format!("INSERT INTO questions VALUES {}", rows.join(",")));
    }
    assert_eq!(serving.sql("SELECT * FROM questions").status, 413);
    assert_eq!(serving.sql("SELECT * FROM questions LIMIT 50").status, 200);
    // And all is well for others.
    assert_eq!(serving.get("/healthz").status, 200);
    assert_eq!(serving.json("/v1/quarantine")["n_records"], 0);
    assert_eq!(serving.json("/v1/views/docs")["n_rows"], 0);
}

#[test]
fn who_asks_too_often_is_slowed_down() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.rate = 1;
            limits.burst = 5;
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let mut client = serving.client();
    let statuses: Vec<u16> = (0..8).map(|_| client.get("/healthz").status).collect();
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses.contains(&429), "{statuses:?}");
    let reply = client.get("/healthz");
    if reply.status == 429 {
        assert_eq!(reply.headers["retry-after"], "1");
    }
}

#[test]
fn an_address_that_others_reach_needs_tokens() {
    use perennial::serve::{ServerError, ServerOptions};
    let serving = Serving::start(SUPPORT);
    for address in ["0.0.0.0:0", "[::]:0"] {
        let started = Server::start(serving.served.clone(), ServerOptions::at(address));
        assert!(
            matches!(started, Err(ServerError::Unguarded { .. })),
            "{address}"
        );
    }
}
