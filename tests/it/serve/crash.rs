//! A served process that is killed, and a subscriber that goes on with the next one.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::events::{Events, Held};
use super::*;

/// Where the child listens.
const ADDRESS: &str = "address";
const DIR: &str = "PERENNIAL_TEST_SERVED";
const N_KEYS: u64 = 4;

/// Serves until it is killed; see the test, which starts it.
#[test]
#[ignore = "runs in a process of its own"]
fn child_of_the_crash_test() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let state = dir.join("state");
    let setup = Setup {
        state: Some(&state),
        model: Scripted::new().taking(Duration::from_millis(2)),
        ..Setup::default()
    };
    let serving = Serving::with(SUPPORT, setup);
    let new = dir.join("address.new");
    std::fs::write(&new, serving.address.to_string()).expect("writable");
    std::fs::rename(new, dir.join(ADDRESS)).expect("writable");
    std::thread::sleep(DEADLINE);
}

fn child(dir: &Path) -> (Child, SocketAddr) {
    let file = dir.join(ADDRESS);
    // There is none at first.
    let _ = std::fs::remove_file(&file);
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "serve::crash::child_of_the_crash_test",
            "--exact",
            "--ignored",
        ])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    match address_in(&file) {
        Some(address) => (child, address),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the child does not listen");
        }
    }
}

/// The address that a child writes once it listens.
fn address_in(file: &Path) -> Option<SocketAddr> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Ok(address) = std::fs::read_to_string(file) {
            return Some(address.parse().expect("an address"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

#[test]
fn a_subscriber_of_a_killed_server_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut held = Held::default();
    let mut number = 0_u64;
    let mut n_gone_on = 0;
    for round in 0..12_u64 {
        let (mut child, address) = child(dir.path());
        let mut client = Client::connect(address);
        if round == 0 {
            let docs: String = (0..N_KEYS)
                .map(|key| line(&format!("d{key}"), &format!("word{key} is 0.")))
                .collect();
            assert_eq!(client.post("docs?wait=60", docs).status, 200);
        }
        // A question comes, and another goes.
        let come = line(
            &format!("q{}", round % N_KEYS),
            &format!("word{}", round % N_KEYS),
        );
        let go = gone(&format!("q{}", (round + 2) % N_KEYS));
        assert_eq!(client.post("questions?wait=60", come + &go).status, 200);
        let path = "/v1/views/answers/subscribe";
        let mut events = match &held.id {
            Some(id) => Events::open(address, path, &[("last-event-id", id)]),
            None => Events::open(address, path, &[]),
        };
        let told = events.upto("up_to_date");
        n_gone_on += usize::from(told.iter().all(|event| event.name != "snapshot"));
        held.take_all(&told);
        let now = client.get("/v1/views/answers").json();
        let rows = now["rows"].as_array().expect("rows").iter();
        let answers = rows.map(|row| (text(&row["key"]), text(&row["text"])));
        let answers: std::collections::BTreeMap<_, _> = answers.collect();
        if held
            .id
            .as_ref()
            .is_some_and(|id| id.ends_with(&format!(".{}", now["epoch"])))
        {
            assert_eq!(held.answers, answers, "round {round}");
        }
        // Changes come while it is killed: some are told, some are not, some are lost.
        for _ in 0..3 {
            number += 1;
            let key = number % N_KEYS;
            client.post(
                "docs",
                line(&format!("d{key}"), &format!("word{key} is {number}.")),
            );
        }
        if round % 2 == 0 {
            held.take_all(&events.upto("epoch"));
        }
        std::thread::sleep(Duration::from_millis(round % 4 * 3));
        child.kill().expect("kills");
        child.wait().expect("ends");
        held.lose();
    }
    let (mut child, address) = child(dir.path());
    let id = held.id.clone().expect("an id");
    let headers = [("last-event-id", &*id)];
    held.take_all(
        &Events::open(address, "/v1/views/answers/subscribe", &headers).upto("up_to_date"),
    );
    let now = Client::connect(address).get("/v1/views/answers").json();
    let rows = now["rows"].as_array().expect("rows").iter();
    let answers: std::collections::BTreeMap<_, _> = rows
        .map(|row| (text(&row["key"]), text(&row["text"])))
        .collect();
    child.kill().expect("kills");
    child.wait().expect("ends");
    assert_eq!(held.answers, answers);
    assert_eq!(held.n_resets, 0);
    assert_eq!(n_gone_on, 11, "all but the first went on where they were");
}
