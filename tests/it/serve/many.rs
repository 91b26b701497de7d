//! Many subscribers at once, and some that do not read.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::events::Held;
use super::*;
use crate::client::request;

const N_SUBSCRIBERS: usize = 200;
const N_CHANGES: usize = 60;

#[test]
fn each_of_many_subscribers_sees_every_last_word_in_order() {
    let serving = Serving::start(SUPPORT);
    let documents: String = (0..8)
        .map(|key| line(&format!("d{key}"), &format!("word{key} is 0.")))
        .collect();
    serving.post("docs", &documents);
    let questions: String = (0..8)
        .map(|key| line(&format!("q{key}"), &format!("word{key}")))
        .collect();
    serving.post("questions", &questions);
    let end = format!("word0 is {N_CHANGES}.");
    let subscribers: Vec<_> = (0..N_SUBSCRIBERS)
        .map(|_| {
            let (mut events, end) = (serving.subscribe("answers"), end.clone());
            std::thread::Builder::new()
                .stack_size(256 << 10)
                .spawn(move || {
                    let mut held = Held::default();
                    let mut last: BTreeMap<String, u64> = BTreeMap::new();
                    loop {
                        let event = events.next().expect("an event");
                        if event.name == "answer" {
                            let key = text(&event.data["key"]);
                            let words = text(&event.data["text"]);
                            let n = words.trim_end_matches('.').rsplit(' ').next();
                            let n: u64 = n.and_then(|n| n.parse().ok()).expect("a number");
                            let before = last.insert(key, n);
                            assert!(before.is_none_or(|before| before < n), "{before:?} {n}");
                        }
                        let is_whole = held.take(&event);
                        if is_whole && held.answers.get("q0") == Some(&end) {
                            return held.answers;
                        }
                    }
                })
                .expect("a thread")
        })
        .collect();
    let mut client = serving.client();
    for n in 1..=N_CHANGES {
        for key in [n % 7 + 1, 0] {
            let body = line(&format!("d{key}"), &format!("word{key} is {n}."));
            let wait = if n == N_CHANGES { "?wait=60" } else { "" };
            let reply = client.post(&format!("docs{wait}"), body);
            // Where the engine is behind, what was posted is sent again.
            assert!([200, 202, 503].contains(&reply.status), "{}", reply.body);
            if reply.status == 503 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    // The last word is said in any case.
    let rest: String = (0..8)
        .map(|key| {
            let n = match key {
                0 => N_CHANGES,
                _ => N_CHANGES + 1,
            };
            line(&format!("d{key}"), &format!("word{key} is {n}."))
        })
        .collect();
    serving.post("docs", &rest);
    let answers = serving.answers("answers");
    for subscriber in subscribers {
        let held = subscriber.join().expect("no panic");
        assert_eq!(held["q0"], answers["q0"]);
        assert_eq!(held.len(), answers.len());
    }
    eventually("all are gone", || {
        serving.json("/v1/status")["n_subscribers"] == 0
    });
}

#[test]
fn a_client_that_never_reads_is_cut_and_holds_nobody_up() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.write_time = Duration::from_millis(500);
            limits.heartbeat = Duration::from_millis(50);
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    // So long that what is told of 200 answers fills the buffers of a socket soon, and so short that the
    // model has room for it. What changes is in the first passage, which is the one that is told.
    let long = |n: usize| format!("alpha {n} {}.", "is here and there ".repeat(40));
    serving.post("docs", &line("a", &long(0)));
    let questions: String = (0..200).map(|q| line(&format!("q{q}"), "alpha")).collect();
    serving.post("questions", &questions);
    // One whose machine takes little in advance.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let deaf = deaf.expect("a socket");
    deaf.set_recv_buffer_size(4 << 10).expect("a size");
    deaf.connect(&serving.address.into()).expect("listens");
    let mut deaf = TcpStream::from(deaf);
    let path = "/v1/views/answers/subscribe";
    deaf.write_all(&request("GET", path, &[], b""))
        .expect("written");
    let n_subscribers = || {
        let n = serving.json("/v1/status")["n_subscribers"].as_u64();
        n.expect("a number")
    };
    eventually("it is there", || n_subscribers() == 1);
    let mut reader = serving.subscribe("answers");
    let reading = std::thread::spawn(move || {
        let mut held = Held::default();
        while held.answers.is_empty()
            || !held.answers.values().all(|text| text.contains(" 1000000 "))
        {
            held.take(&reader.next().expect("it is served still"));
        }
    });
    eventually("the other is there", || n_subscribers() == 2);
    let deadline = Instant::now() + DEADLINE;
    let mut n = 0;
    while n_subscribers() == 2 {
        assert!(Instant::now() < deadline, "it is not cut after {n} epochs");
        n += 1;
        serving.post("docs", &line("a", &long(n)));
    }
    serving.post("docs", &line("a", &long(1_000_000)));
    reading.join().expect("no panic");
    // What it had not read is all that there was.
    let mut rest = Vec::new();
    deaf.set_read_timeout(Some(DEADLINE)).expect("a time");
    let _ = deaf.read_to_end(&mut rest);
}

#[test]
fn sockets_that_say_nothing_leave_others_served() {
    let setup = Setup {
        limits: {
            let mut limits = limits();
            limits.peer_connections = 20;
            limits.head_time = Duration::from_millis(300);
            limits
        },
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(serving.address).expect("listens"))
        .collect();
    // Beyond the bound they are closed at once, the others once their time is over.
    eventually("there is room again", || {
        let Ok(mut stream) = TcpStream::connect(serving.address) else {
            return false;
        };
        let sent = stream.write_all(&request("GET", "/healthz", &[], b""));
        let mut reply = [0; 12];
        sent.is_ok() && stream.read_exact(&mut reply).is_ok() && &reply == b"HTTP/1.1 200"
    });
    drop(silent);
}
