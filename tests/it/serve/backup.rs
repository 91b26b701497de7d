//! Backups over HTTP: who may take one, what it is, and what subscribers of the old life are told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use perennial::state::{self, AsOf};

use super::events::Events;
use super::*;
use crate::past::told;

const ADMIN: &str = "admin-0123456789abcdef";

const FILE: &str = "\
admin admin-0123456789abcdef
read reader-0123456789abcdef
write writer-0123456789abcdef
read,write both-0123456789abcdef
ask asker-0123456789abcdef
";

/// What is told at `POST /v1/backup`.
fn taken(serving: &Serving, token: Option<&str>) -> (u16, Option<Vec<u8>>) {
    streamed(serving, "/v1/backup", token, b"")
}

/// What is told of what is posted: the status, and the body without the marks of its chunks. None where
/// it was cut off.
pub(super) fn streamed(
    serving: &Serving,
    path: &str,
    token: Option<&str>,
    body: &[u8],
) -> (u16, Option<Vec<u8>>) {
    let mut stream = TcpStream::connect(serving.address).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time");
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|of| ("authorization", &**of)).collect();
    let asked = request("POST", path, &headers, body);
    stream.write_all(&asked).expect("written");
    let mut stream = BufReader::new(stream);
    let (mut status, mut is_chunked) = (0, false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a head");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().expect("a status");
        }
        is_chunked |= line == "transfer-encoding: chunked";
        if line.is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    while is_chunked {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a chunk");
        if line.is_empty() {
            return (status, None);
        }
        let n = usize::from_str_radix(line.trim_end(), 16).expect("a length");
        let mut chunk = vec![0; n + 2];
        stream.read_exact(&mut chunk).expect("a chunk");
        body.extend_from_slice(&chunk[..n]);
        is_chunked = n > 0;
    }
    (status, Some(body))
}

/// Restores what a server gives.
fn restored(serving: &Serving, token: Option<&str>, dir: &Path, name: &str) -> PathBuf {
    let (status, body) = taken(serving, token);
    assert_eq!(status, 200);
    let (file, to) = (dir.join(format!("{name}.backup")), dir.join(name));
    std::fs::write(&file, body.expect("whole")).expect("writable");
    state::restore(&file, &to, |_, _| {}).expect("restores");
    to
}

#[test]
fn an_administrator_takes_a_backup_while_rows_are_posted_and_nobody_else_may() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokens");
    std::fs::write(&path, FILE).expect("writable");
    let state = dir.path().join("state");
    let setup = Setup {
        state: Some(&state),
        tokens: Some(Arc::new(Tokens::open(path).expect("tokens"))),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let bearer = format!("Bearer {ADMIN}");
    let post = |stream: &str, lines: &str| {
        let path = format!("/v1/streams/{stream}?wait=60");
        let headers = [("authorization", &*bearer)];
        let asked = request("POST", &path, &headers, lines.as_bytes());
        let reply = serving.client().ask(&asked);
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    post("docs", &line("a", "alpha is one."));
    post("questions", &line("q", "alpha"));
    for (token, status) in [
        (None, 401),
        (Some("reader-0123456789abcdef"), 403),
        (Some("writer-0123456789abcdef"), 403),
        (Some("both-0123456789abcdef"), 403),
        (Some("asker-0123456789abcdef"), 403),
    ] {
        assert_eq!(taken(&serving, token).0, status, "{token:?}");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..30 {
                post("docs", &line(&format!("k{n}"), &format!("alpha is {n}.")));
            }
        });
        for n in 0..3 {
            let name = format!("restored {n}");
            let to = restored(&serving, Some(ADMIN), dir.path(), &name);
            let found = state::as_of(&to, AsOf::Present).expect("whole");
            let engine = serving.served.engine();
            let expected = engine.as_of(AsOf::Epoch(found.epoch)).expect("held");
            assert_eq!(told(&found), told(&expected));
        }
    });
    // Without a state folder there is none.
    let without = Serving::start(SUPPORT);
    assert_eq!(taken(&without, None).0, 400);
}

#[test]
fn subscribers_of_the_old_life_begin_anew() {
    const ANSWERS: &str = "/v1/views/answers/subscribe";
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    let over = |state: &Path| {
        let setup = Setup {
            state: Some(state),
            ..Setup::default()
        };
        Serving::with(SUPPORT, setup)
    };
    let last_id = |serving: &Serving| {
        let told = serving.subscribe("answers").upto("up_to_date");
        told[told.len() - 1].id.clone().expect("an id")
    };
    let first = over(&state);
    first.post("docs", &line("a", "alpha is one."));
    first.post("questions", &line("q", "alpha"));
    let (stood, at_backup) = (first.answers("answers"), last_id(&first));
    let to = restored(&first, None, dir.path(), "restored");
    let token = first
        .client()
        .post("docs?wait=60", line("b", "alpha is two."))
        .token();
    first.post("questions", &line("r", "alpha"));
    let later = last_id(&first);
    drop(first);

    let second = over(&to);
    eventually("it is complete", || second.get("/readyz").status == 200);
    assert_eq!(second.answers("answers"), stood);
    for id in [at_backup, later] {
        let mut events = Events::open(second.address, ANSWERS, &[("last-event-id", &*id)]);
        let told = events.upto("up_to_date");
        let names: Vec<&str> = told.iter().map(|event| &*event.name).collect();
        assert_eq!(names, ["reset", "snapshot", "answer", "up_to_date"], "{id}");
    }
    // What was posted after the backup is lost, and said to be.
    assert_eq!(second.client().look(&token, 0).status, 410);
    // Those of the new life go on.
    let id = last_id(&second);
    second.post("docs", &line("a", "alpha is three."));
    let mut events = Events::open(second.address, ANSWERS, &[("last-event-id", &*id)]);
    let told = events.upto("up_to_date");
    let names: Vec<&str> = told.iter().map(|event| &*event.name).collect();
    assert!(!names.contains(&"reset"), "{names:?}");
}
