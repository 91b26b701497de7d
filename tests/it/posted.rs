//! What is posted, over a whole engine: visible when it is said to be, whatever ends the engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use perennial::ask::scripted::Scripted;
use perennial::connectors::{HttpLimits, HttpListener};
use serde_json::json;

use crate::client::Client;
use crate::rig::{Rig, view};

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Documents are posted, questions asked by hand.
fn rig(state: Option<&Path>, model: Scripted) -> (Rig, Client) {
    let limits = HttpLimits::default();
    let listener = HttpListener::bind("127.0.0.1:0", None, limits).expect("a port");
    let client = Client::connect(listener.address());
    let rig = Rig::start(model, |mut builder| {
        if let Some(state) = state {
            builder = builder.state(state);
        }
        builder
            .source(listener.source("docs").expect("a name"))
            .table("questions")
            .view(view(2000))
    });
    (rig, client)
}

fn line(key: &str, text: &str) -> String {
    json!({ "key": key, "text": text }).to_string() + "\n"
}

/// The present answer to a question, without waiting for anything.
fn answer(rig: &Rig, question: &str) -> (String, u64) {
    let answers = rig.engine.answers("answers").expect("runs");
    let found = answers
        .into_iter()
        .find(|(key, _)| key.as_str() == question);
    let (_, answer) = found.expect("an answer");
    let text = answer.answer.expect("a text").text.to_string();
    (text, answer.epoch)
}

/// With a state directory, and without.
fn each(test: impl Fn(Option<&Path>)) {
    test(None);
    let dir = tempfile::tempdir().expect("a folder");
    test(Some(dir.path()));
}

#[test]
fn an_edit_is_there_when_its_reply_says_so() {
    each(|state| {
        let (mut rig, mut client) = rig(state, Scripted::new());
        rig.upsert("questions", "q", "alpha");
        rig.engine.flush().expect("runs");
        let mut last = None;
        for i in 0..20 {
            let text = format!("alpha is {i}.");
            let reply = client.post("docs?wait=60", line("a", &text));
            assert_eq!(reply.status, 200, "{}", reply.body);
            let epoch = reply.json()["epoch"].as_u64();
            assert!(epoch > last, "{epoch:?} after {last:?}");
            last = epoch;
            assert_eq!(answer(&rig, "q"), (text, epoch.expect("a number")));
        }
    });
}

#[test]
fn what_changes_nothing_is_there_too() {
    each(|state| {
        let (mut rig, mut client) = rig(state, Scripted::new());
        rig.upsert("questions", "q", "alpha");
        rig.engine.flush().expect("runs");
        let n_refused = |rig: &Rig| rig.engine.quarantine().expect("runs").len();
        let dated = |day: u8| {
            let at = format!("2024-05-{day:02}T00:00:00Z");
            json!({ "key": "b", "text": "beta is here.", "updated_at": at }).to_string()
        };
        for (body, n) in [
            (line("a", "alpha is here."), 0),
            // The same time: the same row.
            (dated(2), 0),
            (dated(2), 0),
            ("{\"delete\": {\"key\": \"nobody\"}}".to_owned(), 0),
            ("no JSON\n".to_owned(), 1),
            (dated(1), 2),
        ] {
            let reply = client.post("docs?wait=60", &body);
            let status = if body.starts_with("no") { 400 } else { 200 };
            assert_eq!(reply.status, status, "{body}: {}", reply.body);
            assert_eq!(n_refused(&rig), n, "{body}");
        }
        assert_eq!(answer(&rig, "q").0, "alpha is here.");
    });
}

#[test]
fn after_a_restart_it_goes_on_and_knows_the_tokens_of_the_run_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut tokens: Vec<String> = Vec::new();
    for run in 0..3 {
        let (mut rig, mut client) = rig(Some(dir.path()), Scripted::new());
        rig.upsert("questions", "q", "alpha");
        rig.engine.flush().expect("runs");
        if run > 0 {
            let before = format!("alpha is {}.", run - 1);
            assert_eq!(
                answer(&rig, "q").0,
                before,
                "it stands, though nobody posts it again"
            );
        }
        for (of, token) in (0..run).zip(&tokens) {
            let fate = client.look(token, 60);
            match of + 1 == run {
                true => assert_eq!(fate.json()["visible"], true),
                false => assert_eq!(fate.status, 410, "{}", fate.body),
            }
        }
        let reply = client.post("docs?wait=60", line("a", &format!("alpha is {run}.")));
        assert_eq!(reply.status, 200, "{}", reply.body);
        tokens.push(reply.token());
    }
}

#[test]
fn what_was_under_way_when_it_ended_is_said_to_be_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let slow = || Scripted::new().taking(Duration::from_secs(2));
    let (mut first, mut client) = rig(Some(dir.path()), slow());
    first.upsert("questions", "q", "alpha");
    let stored = client.post("docs?wait=60", line("a", "alpha is here."));
    assert_eq!(stored.status, 200, "{}", stored.body);
    let lost = client.post("docs", line("a", "alpha is gone."));
    assert_eq!(lost.status, 202, "{}", lost.body);
    drop(first);
    let (second, mut client) = rig(Some(dir.path()), Scripted::new());
    assert_eq!(client.look(&stored.token(), 60).json()["visible"], true);
    let fate = client.look(&lost.token(), 60);
    assert_eq!(fate.status, 410);
    assert!(
        fate.body.contains("lost") && fate.body.contains("again"),
        "{}",
        fate.body
    );
    assert_eq!(answer(&second, "q").0, "alpha is here.");
    let again = client.post("docs?wait=60", line("a", "alpha is gone."));
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(answer(&second, "q").0, "alpha is gone.");
}

const N_KEYS: u64 = 4;

/// Where the crash test's child listens.
const ADDRESS: &str = "address";

/// Listens until it is killed; see the crash test, which starts it.
#[test]
#[ignore = "runs in a process of its own"]
fn child_of_the_crash_test() {
    let Ok(dir) = std::env::var("PERENNIAL_TEST_POSTED") else {
        return;
    };
    let (_rig, address) = crashing(Path::new(&dir));
    let new = Path::new(&dir).join("address.new");
    std::fs::write(&new, address.to_string()).expect("writable");
    std::fs::rename(new, Path::new(&dir).join(ADDRESS)).expect("writable");
    std::thread::sleep(DEADLINE);
}

fn crashing(dir: &Path) -> (Rig, SocketAddr) {
    let limits = HttpLimits::default();
    let listener = HttpListener::bind("127.0.0.1:0", None, limits).expect("a port");
    let address = listener.address();
    let model = Scripted::new().taking(Duration::from_millis(3));
    let mut rig = Rig::start(model, |builder| {
        builder
            .source(listener.source("docs").expect("a name"))
            .table("questions")
            .view(view(2000))
            .state(dir.join("state"))
    });
    for key in 0..N_KEYS {
        rig.upsert("questions", &format!("k{key}"), &format!("word{key}"));
    }
    (rig, address)
}

fn child(dir: &Path) -> (Child, Client) {
    let file = dir.join(ADDRESS);
    // There is none at first.
    let _ = std::fs::remove_file(&file);
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["posted::child_of_the_crash_test", "--exact", "--ignored"])
        .env("PERENNIAL_TEST_POSTED", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let deadline = Instant::now() + DEADLINE;
    let address = loop {
        if let Ok(address) = std::fs::read_to_string(&file) {
            break address.parse().expect("an address");
        }
        assert!(Instant::now() < deadline, "the child does not listen");
        std::thread::sleep(Duration::from_millis(2));
    };
    (child, Client::connect(address))
}

/// A request of a run that was killed.
struct Sent {
    token: String,
    key: u64,
    /// None is a deletion.
    text: Option<String>,
    /// Whether it was said to be there.
    was_visible: bool,
}

/// Learns what became of requests: those that are there are a beginning of them, and hold all that
/// were said to be there. Returns how many were lost.
fn settle(client: &mut Client, sent: &mut Vec<Sent>, held: &mut BTreeMap<u64, String>) -> usize {
    let mut n_lost = 0;
    for request in sent.drain(..) {
        let fate = client.look(&request.token, 60);
        match fate.status {
            200 => {
                assert_eq!(fate.json()["visible"], true, "of an earlier run");
                assert_eq!(n_lost, 0, "behind one that was lost");
                match request.text {
                    Some(text) => held.insert(request.key, text),
                    None => held.remove(&request.key),
                };
            }
            410 => {
                assert!(!request.was_visible, "it was there: {}", fate.body);
                n_lost += 1;
            }
            _ => panic!("{}: {}", fate.status, fate.body),
        }
    }
    n_lost
}

#[test]
fn killed_at_any_instant_it_tells_what_is_there_and_what_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut sent, mut held) = (Vec::new(), BTreeMap::new());
    let (mut n_visible, mut n_lost) = (0, 0);
    let mut number = 0_u64;
    for round in 0..25_u64 {
        let (mut child, mut client) = child(dir.path());
        n_lost += settle(&mut client, &mut sent, &mut held);
        for i in 0..2 + round % 5 {
            number += 1;
            let key = number * 7 % N_KEYS;
            let text = (!number.is_multiple_of(5)).then(|| format!("word{key} is {number}."));
            let body = match &text {
                Some(text) => line(&format!("d{key}"), text),
                None => json!({ "delete": { "key": format!("d{key}") } }).to_string(),
            };
            // Some are waited for, and so are surely there before the end.
            let is_waited_for = (i + round).is_multiple_of(3);
            let stream = if is_waited_for {
                "docs?wait=60"
            } else {
                "docs"
            };
            let reply = client.post(stream, body);
            assert!(matches!(reply.status, 200 | 202), "{}", reply.body);
            let was_visible = reply.status == 200;
            n_visible += usize::from(was_visible);
            sent.push(Sent {
                token: reply.token(),
                key,
                text,
                was_visible,
            });
        }
        std::thread::sleep(Duration::from_millis(round % 4 * 2));
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    let (mut survivor, address) = crashing(dir.path());
    n_lost += settle(&mut Client::connect(address), &mut sent, &mut held);
    let answers = survivor.texts();
    for key in 0..N_KEYS {
        let known = held.get(&key).cloned();
        let expected = known.unwrap_or_else(|| format!("Nothing is known of word{key}."));
        assert_eq!(answers[&format!("k{key}")], expected);
    }
    // Otherwise nothing was tried.
    assert!(
        n_visible > 10 && n_lost > 0,
        "{n_visible} visible, {n_lost} lost"
    );
}
