//! Records that are posted, as their senders see it, whatever they send.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use perennial_connectors::{
    Batch, BearerToken, Change, Declared, Error, Event, HttpLimits, HttpListener, JsonLines,
    Offset, Resume, Resumption, Source as _, TraceParent, start,
};
use perennial_rows::{Column, Schema, Type};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{Client, request};
use crate::listening::{DEADLINE, Listener, Mark};

fn bind(limits: HttpLimits) -> HttpListener {
    HttpListener::bind("127.0.0.1:0", None, limits).unwrap()
}

/// A source that has caught up, and where it listens.
fn listening(limits: HttpLimits) -> (Listener, SocketAddr) {
    let listener = bind(limits);
    let mut listening = Listener::start(listener.source("docs").unwrap());
    listening.until(&Mark::CaughtUp);
    (listening, listener.address())
}

fn limits(change: impl FnOnce(&mut HttpLimits)) -> HttpLimits {
    let mut limits = HttpLimits::default();
    change(&mut limits);
    limits
}

fn line(key: &str, text: &str) -> String {
    json!({ "key": key, "text": text }).to_string() + "\n"
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn chunked(headers: &[(&str, &str)], chunks: &[&[u8]], is_ended: bool) -> Vec<u8> {
    let mut bytes = b"POST /v1/streams/docs HTTP/1.1\r\nhost: localhost\r\n".to_vec();
    bytes.extend(b"transfer-encoding: chunked\r\n");
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    for chunk in chunks {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(*chunk);
        bytes.extend(b"\r\n");
    }
    if is_ended {
        bytes.extend(b"0\r\n\r\n");
    }
    bytes
}

#[test]
fn a_request_is_one_batch_and_its_reply_names_what_was_refused() {
    let (mut source, address) = listening(limits(|limits| limits.line = 100));
    let mut body = b"\xef\xbb\xbf{\"key\": \"a\", \"text\": \"One.\"}\r\n\n{\"delete\"".to_vec();
    body.extend(b": {\"key\": \"b\"}}\n{\"txt\": 1}\n\xff\xfe\n{\"key\": \"c\"}\n{\"key\": \"d\n");
    body.extend([b'x'; 101]);
    // The last line has no line feed.
    body.extend(b"\n{\"key\": \"e\", \"text\": \"Five.\", \"updated_at\": 7}");
    let mut client = Client::connect(address);
    let reply = client.post("docs", &body);
    assert_eq!(reply.status, 202);
    assert_eq!(reply.headers["content-type"], "application/json");
    let said = reply.json();
    assert_eq!(
        (&said["accepted"], &said["n_rejected"]),
        (&3.into(), &5.into())
    );
    assert_eq!(
        (&said["visible"], &said["epoch"]),
        (&false.into(), &Value::Null)
    );
    let reasons: Vec<(u64, &str)> = said["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refused| {
            (
                refused["line"].as_u64().unwrap(),
                refused["reason"].as_str().unwrap(),
            )
        })
        .collect();
    for ((line, reason), (at, says)) in reasons.iter().zip([
        (4, "unknown operation \"txt\""),
        (5, "not UTF-8"),
        (6, "\"text\" is missing"),
        (7, "cut off"),
        (8, "line too long"),
    ]) {
        assert!(*line == at && reason.contains(says), "{line}: {reason}");
    }
    assert_eq!(said["rejected"][2]["key"], "c");
    assert_eq!(said["left_out"], Value::Array(Vec::new()));

    source.until(&Mark::Batch);
    let batch = &source.batches[0];
    let Some(Offset::Posted { run, last: 1 }) = batch.resume else {
        panic!("{:?}", batch.resume);
    };
    let at = |line| Offset::PostedLine {
        run,
        request: 1,
        line,
    };
    let [
        Change::Upsert(a),
        Change::Delete { key, offset, .. },
        Change::Upsert(e),
    ] = &batch.changes[..]
    else {
        panic!("{:?}", batch.changes);
    };
    assert_eq!(
        (a.key.as_str(), &a.offset, a.row.is_timed),
        ("a", &at(1), false)
    );
    assert!(
        a.row.updated_at_ms > 1_600_000_000_000,
        "it is as new as its arrival"
    );
    assert_eq!((key.as_str(), offset), ("b", &at(3)));
    assert_eq!((e.row.updated_at_ms, &e.offset), (7, &at(9)));
    let places: Vec<&Offset> = batch.rejected.iter().map(|r| &r.offset).collect();
    assert_eq!(places, [&at(4), &at(5), &at(6), &at(7), &at(8)]);
    assert_eq!(
        batch.rejected[0].content.as_deref(),
        Some(&b"{\"txt\": 1}"[..])
    );
}

#[test]
fn a_request_says_of_which_trace_it_is() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let http = bind(HttpLimits::default());
    // On its way a batch becomes another, which is of the same trace.
    let columns = Schema::new([Column::new("text", Type::Text)]);
    let source = Declared::over(http.source("docs").unwrap(), columns).unwrap();
    let mut source = Listener::start(source);
    source.until(&Mark::CaughtUp);
    let mut client = Client::connect(http.address());
    let headers = [
        &[("traceparent", PARENT)][..],
        &[],
        &[("traceparent", "nothing of the kind")],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
    ];
    for (n, headers) in headers.into_iter().enumerate() {
        let body = line("a", &format!("It is {n}."));
        let posted = request("POST", "/v1/streams/docs", headers, body.as_bytes());
        assert_eq!(client.ask(&posted).status, 202, "{headers:?}");
        source.until(&Mark::Batch);
    }
    let traces: Vec<_> = source.batches.iter().map(|batch| batch.trace).collect();
    assert_eq!(traces, [TraceParent::parse(PARENT), None, None, None]);
    assert!(traces[0].is_some());
}

#[test]
fn what_cannot_be_taken_is_refused_whole_and_says_what_to_do() {
    let small = limits(|limits| {
        limits.body = 1000;
        limits.records = 3;
        limits.body_time = Duration::from_secs(1);
    });
    let (source, address) = listening(small);
    let good = line("a", "One.").into_bytes();
    let post =
        |path: &str, headers: &[(&str, &str)], body: &[u8]| request("POST", path, headers, body);
    let docs = "/v1/streams/docs";
    let (big, many) = ([b'\n'; 1001], good.repeat(4));
    let bomb = gzip(&[b'\n'; 100_000]);
    let cut_gzip = {
        let packed = gzip(&good);
        packed[..packed.len() - 4].to_vec()
    };
    let cut_zstd = {
        let packed = zstd::encode_all(&good[..], 1).unwrap();
        packed[..packed.len() - 2].to_vec()
    };
    let (gz, zst) = (("content-encoding", "gzip"), ("content-encoding", "zstd"));
    for (status, says, bytes) in [
        (405, "POST", request("GET", docs, &[], b"")),
        (405, "POST", request("PUT", docs, &[], &good)),
        (405, "POST", request("OPTIONS", docs, &[], b"")),
        (405, "GET", post("/v1/tokens/docs.1.1", &[], &good)),
        (405, "GET", post("/healthz", &[], &good)),
        (404, "/v1/streams/STREAM", post("/", &[], &good)),
        (404, "/v1/streams/STREAM", post("/v1/streams", &[], &good)),
        (404, "there are: docs", post("/v1/streams/dogs", &[], &good)),
        (
            404,
            "there are: docs",
            post("/v1/streams/docs/", &[], &good),
        ),
        (
            404,
            "there are: docs",
            post("/v1/streams/../docs", &[], &good),
        ),
        (404, "`token`", request("GET", "/v1/tokens/", &[], b"")),
        (
            404,
            "`token`",
            request("GET", "/v1/tokens/nonsense", &[], b""),
        ),
        (
            404,
            "there are: docs",
            request("GET", "/v1/tokens/x.0000000000000001.1", &[], b""),
        ),
        (
            400,
            "wait=SECONDS",
            post("/v1/streams/docs?wait=soon", &[], &good),
        ),
        (
            400,
            "wait=SECONDS",
            post("/v1/streams/docs?wait=-1", &[], &good),
        ),
        (
            400,
            "wait=SECONDS",
            post("/v1/streams/docs?weight=1", &[], &good),
        ),
        (400, "no records", post(docs, &[], b"")),
        (400, "no records", post(docs, &[], b" \n\r\n\t")),
        (413, "1000 bytes", post(docs, &[], &big)),
        (
            413,
            "1000 bytes",
            chunked(&[], &[&big[..500], &big[..501]], true),
        ),
        (413, "1000 bytes", post(docs, &[gz], &bomb)),
        (413, "3 records", post(docs, &[], &many)),
        (
            413,
            "3 records",
            post(docs, &[zst], &zstd::encode_all(&many[..], 1).unwrap()),
        ),
        (
            415,
            "gzip or zstd",
            post(docs, &[("content-encoding", "br")], &good),
        ),
        (
            415,
            "gzip or zstd",
            post(docs, &[("content-encoding", "gzip, gzip")], &good),
        ),
        (400, "unpacked", post(docs, &[gz], &good)),
        (400, "unpacked", post(docs, &[zst], &good)),
        (400, "unpacked", post(docs, &[gz], &cut_gzip)),
        (400, "unpacked", post(docs, &[zst], &cut_zstd)),
        (
            403,
            "127.0.0.1",
            post(docs, &[("origin", "https://evil.example")], &good),
        ),
        (
            403,
            "127.0.0.1",
            post(docs, &[("host", "evil.example")], &good),
        ),
        // A body that never comes.
        (
            408,
            "in time",
            format!("POST {docs} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{{")
                .into_bytes(),
        ),
    ] {
        let mut client = Client::connect(address);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let reply = client.ask(&bytes);
        assert_eq!(reply.status, status, "{shown}: {}", reply.body);
        let said = reply.json();
        let (error, hint) = (said["error"].as_str(), said["hint"].as_str());
        let all = format!("{} {}", error.unwrap(), hint.unwrap());
        assert!(all.contains(says), "{shown}: {all}");
        assert_eq!(reply.headers.contains_key("allow"), status == 405);
    }
    source.silence(Duration::from_millis(200));
    let health = Client::connect(address).get("/healthz");
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &"ok".into())
    );
}

#[test]
fn a_body_that_is_cut_off_is_not_applied() {
    let (mut source, address) = listening(HttpLimits::default());
    let body = line("a", "One.").repeat(20).into_bytes();
    let whole = request("POST", "/v1/streams/docs", &[], &body);
    // Ended in the middle of a line, and at the end of one.
    for end in [
        whole.len() - body.len() / 2 - 3,
        whole.len() - line("a", "One.").len(),
    ] {
        let mut client = Client::connect(address);
        client.send(&whole[..end]);
        client.end();
        let refused = client.reply();
        assert!(refused.is_none_or(|reply| reply.status == 400));
    }
    let mut client = Client::connect(address);
    client.send(&chunked(&[], &[&body], false));
    client.end();
    let refused = client.reply();
    assert!(refused.is_none_or(|reply| reply.status == 400));
    // Gone without a goodbye.
    let mut client = Client::connect(address);
    client.send(&whole[..whole.len() - 1]);
    drop(client);
    source.silence(Duration::from_millis(200));
    assert_eq!(Client::connect(address).ask(&whole).status, 202);
    source.until(&Mark::Batch);
    assert_eq!(source.batches[0].changes.len(), 20);
}

#[test]
fn bodies_may_be_packed_and_come_in_pieces() {
    let (mut source, address) = listening(HttpLimits::default());
    let body: String = (0..2000).map(|i| line(&format!("k{i}"), "Text.")).collect();
    let zstd = zstd::encode_all(body.as_bytes(), 3).unwrap();
    let pieces: Vec<&[u8]> = body.as_bytes().chunks(777).collect();
    let mut client = Client::connect(address);
    for bytes in [
        chunked(&[], &pieces, true),
        request(
            "POST",
            "/v1/streams/docs",
            &[("content-encoding", "gzip")],
            &gzip(body.as_bytes()),
        ),
        chunked(
            &[("content-encoding", "zstd")],
            &zstd.chunks(100).collect::<Vec<_>>(),
            true,
        ),
        request(
            "POST",
            "/v1/streams/docs",
            &[("expect", "100-continue")],
            body.as_bytes(),
        ),
    ] {
        let reply = client.ask(&bytes);
        assert_eq!(
            (reply.status, &reply.json()["accepted"]),
            (202, &2000.into())
        );
        source.until(&Mark::Batch);
    }
    let batches = &source.batches;
    for batch in &batches[1..] {
        let keys = |batch: &Batch| -> Vec<String> {
            batch
                .changes
                .iter()
                .map(|change| change.key().to_string())
                .collect()
        };
        assert_eq!(keys(batch), keys(&batches[0]));
    }
}

#[test]
fn a_connection_that_hangs_is_closed() {
    let hasty = limits(|limits| limits.head_time = Duration::from_millis(200));
    let (_source, address) = listening(hasty);
    let mut heads = Client::connect(address);
    heads.send(b"POST /v1/streams/docs HTTP/1.1\r\nhost: ");
    let mut idle = Client::connect(address);
    assert_eq!(idle.post("docs", line("a", "One.")).status, 202);
    let closed = |reply: Option<crate::client::Reply>| reply.is_none_or(|r| r.status == 408);
    assert!(closed(heads.reply()) && closed(idle.reply()));

    let brief = limits(|limits| limits.connection_time = Duration::from_millis(200));
    let (_source, address) = listening(brief);
    let mut client = Client::connect(address);
    assert!(client.reply().is_none());
}

#[test]
fn requests_in_a_row_are_answered_and_applied_in_order() {
    let (mut source, address) = listening(HttpLimits::default());
    let mut client = Client::connect(address);
    let all: Vec<u8> = (0..20)
        .flat_map(|i| {
            request(
                "POST",
                "/v1/streams/docs",
                &[],
                line("a", &format!("{i}.")).as_bytes(),
            )
        })
        .collect();
    client.send(&all);
    for i in 0..20 {
        let token = client.reply().unwrap().token();
        assert!(token.ends_with(&format!(".{}", i + 1)), "{token}");
        source.until(&Mark::Batch);
        assert_eq!(source.held["a"], format!("{i}."));
    }
}

#[test]
fn sockets_that_say_nothing_give_way_to_who_asks() {
    let (_source, address) = listening(limits(|limits| {
        limits.connections = 4;
        limits.idle_time = Duration::from_millis(200);
        // Longer than a client waits for its reply.
        limits.head_time = DEADLINE * 10;
        limits.connection_time = DEADLINE * 10;
    }));
    let silent: Vec<TcpStream> = (0..8)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // One that is answered, and asks nothing more, is as idle.
    let asked: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = Client::connect(address);
            assert_eq!(client.get("/healthz").status, 200);
            client
        })
        .collect();
    drop((silent, asked));
}

#[test]
fn a_hundred_senders_at_once_lose_and_mix_up_nothing() {
    let listener = bind(limits(|limits| {
        limits.queue = 2;
        limits.connections = 64;
        limits.patience = DEADLINE;
    }));
    let (source, address) = (listener.source("docs").unwrap(), listener.address());
    let (n_senders, n_versions) = (100, 5);
    let mut listening = Listener::start(source);
    let senders: Vec<_> = (0..n_senders)
        .map(|sender| {
            std::thread::spawn(move || {
                for version in 0..n_versions {
                    let text = line(&format!("k{sender}"), &format!("{version}"));
                    let reply = Client::connect(address).post("docs", text);
                    assert_eq!(reply.status, 202, "{}", reply.body);
                }
            })
        })
        .collect();
    let mut of_sender: BTreeMap<String, u64> = BTreeMap::new();
    while listening.batches.len() < n_senders * n_versions {
        listening.next();
        let Some(batch) = listening.batches.last() else {
            continue;
        };
        let n = listening.batches.len() as u64;
        assert!(matches!(batch.resume, Some(Offset::Posted { last, .. }) if last == n));
        let Change::Upsert(record) = &batch.changes[0] else {
            panic!("{batch:?}")
        };
        let next = of_sender.entry(record.key.to_string()).or_default();
        assert_eq!(
            *record.row.text,
            *next.to_string(),
            "in the order of its sender"
        );
        *next += 1;
    }
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    assert_eq!(of_sender.len(), n_senders);
    assert!(listening.held.values().all(|text| text == "4"));
    listening.silence(Duration::from_millis(100));
}

#[test]
fn where_nobody_takes_what_waits_is_bounded_and_the_rest_is_refused() {
    let listener = bind(limits(|limits| {
        limits.queue = 3;
        limits.patience = Duration::from_millis(100);
    }));
    let running = start(listener.source("docs").unwrap(), 1).unwrap();
    let mut client = Client::connect(listener.address());
    let mut tokens = Vec::new();
    let refused = loop {
        let reply = client.post("docs", line("a", &tokens.len().to_string()));
        match reply.status {
            202 => tokens.push(reply.token()),
            _ => break reply,
        }
        // The source's channel, what the source has in hand, and the queue.
        assert!(tokens.len() <= 5, "more than there is room for");
    };
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    // Those that were taken come, and no other.
    let mut texts = Vec::new();
    while texts.len() < tokens.len() {
        if let Event::Batch(batch) = running.events().recv_timeout(DEADLINE).unwrap() {
            let Change::Upsert(record) = &batch.changes[0] else {
                panic!("{batch:?}")
            };
            texts.push(record.row.text.to_string());
        }
    }
    let expected: Vec<String> = (0..tokens.len()).map(|i| i.to_string()).collect();
    assert_eq!(texts, expected);
    assert!(
        running
            .events()
            .recv_timeout(Duration::from_millis(200))
            .is_err()
    );
    assert_eq!(client.post("docs", line("a", "again")).status, 202);
}

#[test]
fn bodies_held_at_once_are_bounded_and_slow_ones_hold_up_no_small_one() {
    let listener = bind(limits(|limits| {
        limits.body = 1 << 20;
        limits.held = 0; // No more than the least: two bodies.
        limits.patience = Duration::from_millis(200);
        limits.body_time = DEADLINE;
    }));
    let address = listener.address();
    let mut listening = Listener::start(listener.source("docs").unwrap());
    let head = "POST /v1/streams/docs HTTP/1.1\r\nhost: localhost\r\ncontent-length: ";
    let mut slow: Vec<Client> = (0..2).map(|_| Client::connect(address)).collect();
    let len = (1 << 20) - 4096;
    for client in &mut slow {
        client.send(format!("{head}{len}\r\n\r\n").as_bytes());
    }
    let deadline = Instant::now() + DEADLINE;
    // Once both are being read, a third of their size finds no room; a small one does.
    loop {
        let mut third = Client::connect(address);
        third.send(format!("{head}{len}\r\nexpect: 100-continue\r\n\r\n").as_bytes());
        third.end();
        if third.reply().is_some_and(|reply| reply.status == 503) {
            break;
        }
        assert!(Instant::now() < deadline);
    }
    let reply = Client::connect(address).post("docs", line("a", "One."));
    assert_eq!(reply.status, 202, "{}", reply.body);
    listening.until(&Mark::Batch);
}

#[test]
fn a_token_says_when_its_request_is_there_for_good() {
    let listener = bind(HttpLimits::default());
    let mut source = listener.source("docs").unwrap();
    let mut acks = source.acks().expect("it wants to know");
    let mut listening = Listener::start(source);
    let mut client = Client::connect(listener.address());
    let first = client.post("docs", line("a", "One."));
    let token = first.token();
    let pending = client.look(&token, 0);
    assert_eq!(pending.json(), json!({ "visible": false, "epoch": null }));
    // In vain.
    let reply = client.post("docs?wait=1", line("a", "Two."));
    assert_eq!(
        (reply.status, &reply.json()["visible"]),
        (202, &false.into())
    );
    listening.until(&Mark::Batch);
    let offset = listening.batches[0].resume.clone().unwrap();
    // Of another run: not of this.
    acks.committed(&Offset::Posted { run: 0, last: 9 }, Some(6));
    assert_eq!(client.look(&token, 0).json()["visible"], false);
    acks.committed(&offset, Some(7));
    let there = client.look(&token, 0);
    assert_eq!(there.json(), json!({ "visible": true, "epoch": 7 }));
    assert_eq!(client.look(&reply.token(), 0).json()["visible"], false);
    // One that waits is told when it comes.
    let address = listener.address();
    let waiting = std::thread::spawn(move || {
        Client::connect(address).post("docs?wait=60", line("a", "Three."))
    });
    while listening.batches.len() < 3 {
        listening.next();
    }
    acks.committed(listening.batches[2].resume.as_ref().unwrap(), Some(8));
    let told = waiting.join().unwrap();
    assert_eq!((told.status, &told.json()["epoch"]), (200, &8.into()));
    // The last stands for all before it.
    assert_eq!(client.look(&reply.token(), 60).json()["visible"], true);
    let unknown = token.trim_end_matches('1').to_owned() + "9";
    assert_eq!(client.look(&unknown, 60).status, 404);
}

#[test]
fn after_a_restart_what_was_stored_is_there_and_what_was_not_is_lost() {
    let token = |run: u64, request: u64| format!("docs.{run:016x}.{request}");
    let from = |offset| Resume {
        offset,
        ..Resume::default()
    };
    let listener = bind(HttpLimits::default());
    let mut source = listener.source("docs").unwrap();
    let how = source.resume_from(from(Some(Offset::Posted { run: 7, last: 5 })));
    assert_eq!(how, Resumption::FromOffset);
    let mut client = Client::connect(listener.address());
    // An engine that still loads its model knows nothing yet, and does not say that it never will.
    let starting = client.look(&token(7, 5), 0);
    assert_eq!(starting.status, 503);
    assert_eq!(starting.headers["retry-after"], "1");
    let address = listener.address();
    let waiting = std::thread::spawn(move || Client::connect(address).look(&token(7, 5), 60));
    let _running = start(source, 8).unwrap();
    assert_eq!(waiting.join().unwrap().json()["visible"], true);
    assert_eq!(client.look(&token(7, 5), 0).json()["visible"], true);
    for (run, request, says) in [(7, 6, "lost"), (8, 1, "not known any more")] {
        let gone = client.look(&token(run, request), 60);
        assert_eq!(gone.status, 410);
        let said = gone.json();
        assert!(said["error"].as_str().unwrap().contains(says), "{said}");
        assert!(said["hint"].as_str().unwrap().contains("again"), "{said}");
    }
    for other in [None, Some(Offset::Sequence(7))] {
        let mut source = listener.source("docs").unwrap();
        assert_eq!(source.resume_from(from(other)), Resumption::Anew);
    }
}

#[test]
fn who_lacks_the_token_gets_nothing_and_an_open_address_needs_one() {
    for open in ["0.0.0.0:0", "[::]:0"] {
        let error = HttpListener::bind(open, None, HttpLimits::default()).unwrap_err();
        assert!(matches!(error, Error::Unguarded { .. }), "{error}");
    }
    let token = BearerToken::new("0123456789abcdef").unwrap();
    let listener = HttpListener::bind("0.0.0.0:0", Some(token), HttpLimits::default()).unwrap();
    let port = listener.address().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut listening = Listener::start(listener.source("docs").unwrap());
    listening.until(&Mark::CaughtUp);
    let mut client = Client::connect(address);
    let body = line("a", "One.");
    for (path, value) in [
        ("/v1/streams/docs", "Bearer 0123456789abcdeg"),
        ("/v1/streams/docs", "Basic 0123456789abcdef"),
        ("/v1/streams/dogs", "Bearer "),
        ("/nowhere", "Bearer 0"),
    ] {
        let with = request("POST", path, &[("authorization", value)], body.as_bytes());
        let refused = client.ask(&with);
        assert_eq!(refused.status, 401, "{path}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(client.post("docs", &body).status, 401);
    assert_eq!(client.get("/v1/tokens/docs.0000000000000001.1").status, 401);
    assert_eq!(client.get("/healthz").status, 200);
    // From whatever site: no browser sends the token along by itself.
    let fields = [
        ("authorization", "Bearer 0123456789abcdef"),
        ("host", "example.com"),
    ];
    let with = request("POST", "/v1/streams/docs", &fields, body.as_bytes());
    assert_eq!(client.ask(&with).status, 202);
    listening.until(&Mark::Batch);
    assert_eq!(listening.batches.len(), 1);
}

#[test]
fn stopping_is_prompt_whatever_clients_do() {
    let listener = bind(limits(|limits| limits.queue = 4));
    let address = listener.address();
    let running = start(listener.source("docs").unwrap(), 1).unwrap();
    drop(listener);
    let mut client = Client::connect(address);
    let waiting = std::thread::spawn(move || client.post("docs?wait=60", line("a", "One.")));
    // Others are in the middle of a head, and of a body; and the queue is full.
    let mut heads = Client::connect(address);
    heads.send(b"POST /v1/str");
    let mut bodies = Client::connect(address);
    let head = "POST /v1/streams/docs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n";
    bodies.send(format!("{head}{{").as_bytes());
    let mut idle = Client::connect(address);
    let mut token = String::new();
    for i in 0..3 {
        let reply = idle.post("docs", line("a", &i.to_string()));
        assert_eq!(reply.status, 202, "{}", reply.body);
        token = reply.token();
    }
    // By then the one that waits is in there, too.
    let last = token.rsplit_once('.').unwrap().0.to_owned() + ".4";
    let deadline = Instant::now() + DEADLINE;
    while idle.look(&last, 0).status != 200 {
        assert!(Instant::now() < deadline);
    }
    let begin = Instant::now();
    running.stop();
    // The promise is 100 ms; the rest is for a busy machine.
    assert!(begin.elapsed() < Duration::from_secs(1));
    // Who waited is told that it is not there yet.
    let told = waiting.join().unwrap();
    assert_eq!((told.status, &told.json()["visible"]), (202, &false.into()));
    assert!(heads.reply().is_none() && bodies.reply().is_none());
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn a_stream_that_ended_is_said_to_be_away_while_another_goes_on() {
    let listener = bind(HttpLimits::default());
    let docs = start(listener.source("docs").unwrap(), 8).unwrap();
    let mut questions = Listener::start(listener.source("questions").unwrap());
    questions.until(&Mark::CaughtUp);
    let mut client = Client::connect(listener.address());
    assert_eq!(client.post("docs", line("a", "One.")).status, 202);
    docs.stop();
    let away = client.post("docs", line("a", "Two."));
    assert_eq!(away.status, 503);
    assert!(away.body.contains("not read now"), "{}", away.body);
    assert_eq!(client.post("questions", line("q", "Why?")).status, 202);
    questions.until(&Mark::Batch);
    assert_eq!(questions.held["q"], "Why?");
}

#[test]
fn names_and_addresses_that_cannot_be_are_refused() {
    let listener = bind(HttpLimits::default());
    for name in ["", "a b", "a/b", "a.b", "ä"] {
        let error = listener.source(name).unwrap_err();
        assert!(matches!(error, Error::NotPostable { .. }), "{error}");
    }
    let taken = listener.address().to_string();
    for address in ["127.0.0.1", "nonsense:port", &taken] {
        let error = HttpListener::bind(address, None, HttpLimits::default()).unwrap_err();
        assert!(error.to_string().contains(address), "{error}");
    }
}

/// Upserts and deletions of a sender's own keys, and after how many lines a request ends.
type Sender = Vec<(u8, Option<u8>, bool)>;

fn lines(number: usize, sender: &Sender) -> Vec<String> {
    let line = |(key, text, _): &(u8, Option<u8>, bool)| {
        let key = format!("s{number}k{key}");
        match text {
            Some(text) => line(&key, &format!("Text {text}.")),
            None => json!({ "delete": { "key": key } }).to_string() + "\n",
        }
    };
    sender.iter().map(line).collect()
}

#[test]
fn any_split_into_requests_of_any_senders_gives_what_one_file_says() {
    use proptest::test_runner::{Config, TestRunner};

    let mut runner = TestRunner::new(Config {
        cases: 24,
        ..Config::default()
    });
    let sender = prop::collection::vec(
        (
            0..4u8,
            prop::option::weighted(0.7, any::<u8>()),
            any::<bool>(),
        ),
        1..20,
    );
    let senders = prop::collection::vec(sender, 1..6);
    runner
        .run(&senders, |senders| {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("all.jsonl");
            let all = senders.iter().enumerate();
            let all: String = all
                .flat_map(|(number, sender)| lines(number, sender))
                .collect();
            std::fs::write(&file, all).unwrap();
            let mut from_file = Listener::start(JsonLines::open("docs", &file).unwrap());
            from_file.until(&Mark::Ended);

            let (mut listening, address) = listening(HttpLimits::default());
            // A request ends where its sender says so, and with the last line.
            let n_requests = |sender: &Sender| {
                let before_last = sender[..sender.len() - 1].iter();
                1 + before_last.filter(|(_, _, is_end)| *is_end).count()
            };
            let n_requests: usize = senders.iter().map(n_requests).sum();
            let posting = senders.into_iter().enumerate().map(|(number, sender)| {
                std::thread::spawn(move || {
                    let (mut client, mut body) = (Client::connect(address), String::new());
                    let last = sender.len() - 1;
                    for (i, line) in lines(number, &sender).into_iter().enumerate() {
                        body += &line;
                        if sender[i].2 || i == last {
                            let reply = client.post("docs", std::mem::take(&mut body));
                            assert_eq!(reply.status, 202, "{}", reply.body);
                        }
                    }
                })
            });
            let posting: Vec<_> = posting.collect();
            while listening.batches.len() < n_requests {
                listening.next();
            }
            posting
                .into_iter()
                .for_each(|posting| posting.join().unwrap());
            prop_assert_eq!(&listening.held, &from_file.held);
            Ok(())
        })
        .unwrap();
}
