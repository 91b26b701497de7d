//! Records that make others obsolete, and records that come too late.

use std::fs;
use std::time::{Duration, Instant};

use perennial::ask::scripted::Scripted;
use perennial::connectors::{JsonLines, Rejection};
use perennial::{Policy, Repair};

use crate::rig::{Rig, view};

fn start(repair: Repair, policy: Policy) -> Rig {
    Rig::start(Scripted::new(), |builder| {
        let tables = builder.table("docs").table("questions");
        tables.view(view(2000).superseded(repair).policy(policy))
    })
}

fn put(rig: &mut Rig, key: &str, text: &str, at: i64, supersedes: &[&str]) {
    rig.engine
        .upsert_superseding("docs", key, text, at, supersedes)
        .expect("runs");
}

#[test]
fn a_superseded_document_is_not_read_and_comes_back() {
    for policy in [Policy::Exact, Policy::Eventual] {
        let mut rig = start(Repair::Evict, policy);
        rig.upsert("questions", "q", "airport");
        put(&mut rig, "old", "The airport is SFO.", 1, &[]);
        put(&mut rig, "new", "The airport is AUS.", 2, &["old"]);
        rig.engine.settle().expect("runs");
        assert_eq!(rig.texts()["q"], "The airport is AUS.");
        rig.engine.delete("docs", "new").expect("runs");
        rig.engine.settle().expect("runs");
        assert_eq!(rig.texts()["q"], "The airport is SFO.");
    }
}

#[test]
fn the_newest_of_a_circle_stands_and_chains_end_in_one() {
    let mut rig = start(Repair::Evict, Policy::Exact);
    rig.upsert("questions", "q", "airport");
    put(&mut rig, "a", "The airport is SFO.", 5, &["b", "a"]);
    put(&mut rig, "b", "The airport is AUS.", 6, &["a"]);
    assert_eq!(rig.texts()["q"], "The airport is AUS.");
    put(&mut rig, "c", "The airport is JFK.", 7, &["b"]);
    assert_eq!(rig.texts()["q"], "The airport is JFK.");
    // An older record makes nothing obsolete.
    put(&mut rig, "d", "The airport is OSL.", 1, &["c"]);
    assert_eq!(rig.texts()["q"], "The airport is OSL. The airport is JFK.");
}

#[test]
fn other_repairs_keep_the_passage_in_the_layout() {
    let mut rig = start(Repair::Hide, Policy::Exact);
    rig.upsert("questions", "q", "airport");
    put(&mut rig, "old", "The airport is SFO.", 1, &[]);
    rig.texts();
    let n_calls = rig.model.n_calls();
    put(&mut rig, "new", "Nothing else.", 2, &["old"]);
    rig.texts();
    // The scripted model reads what is there; overlays are tensors' business.
    assert_eq!(rig.texts()["q"], "The airport is SFO.");
    assert_eq!(rig.model.n_calls(), n_calls + 1);
    // The same passages, one of them current again: another request.
    put(&mut rig, "new", "Nothing else.", 2, &[]);
    rig.texts();
    assert_eq!(rig.model.n_calls(), n_calls + 2);
}

#[test]
fn json_lines_say_what_they_supersede_and_late_ones_go_to_quarantine() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("memory.jsonl");
    let lines = [
        r#"{"key":"old","text":"The airport is SFO.","updated_at":10}"#,
        r#"{"key":"new","text":"The airport is AUS.","updated_at":20,"supersedes":"old"}"#,
        r#"{"key":"new","text":"The airport is LHR.","updated_at":15}"#,
        r#"{"key":"free","text":"The airport has trees.","updated_at":null}"#,
        r#"{"key":"free","text":"The airport has no trees."}"#,
    ];
    fs::write(&path, lines.join("\n") + "\n").expect("writable");
    let mut rig = Rig::start(Scripted::new(), |builder| {
        let docs = JsonLines::open("docs", &path).expect("there");
        builder.source(docs).table("questions").view(view(2000))
    });
    rig.upsert("questions", "q", "airport");
    assert_eq!(
        rig.texts()["q"],
        "The airport has no trees. The airport is AUS."
    );
    let quarantine = rig.engine.quarantine().expect("runs");
    assert_eq!(quarantine.len(), 1);
    let late = Rejection::Late {
        held_ms: 20,
        got_ms: 15,
    };
    assert_eq!(quarantine[0].reason, late.to_string());
    assert!(quarantine[0].place.contains('3'), "{}", quarantine[0].place);
}

#[test]
fn a_deletion_that_names_an_older_time_is_late_and_can_be_meant_all_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("memory.jsonl");
    let lines = [
        r#"{"key":"a","text":"The airport is AUS.","updated_at":20}"#,
        r#"{"delete":{"key":"a","updated_at":19}}"#,
        r#"{"key":"b","text":"The airport is SFO.","updated_at":20}"#,
        r#"{"delete":{"key":"b","updated_at":21}}"#,
        r#"{"key":"c","text":"The airport has trees.","updated_at":20}"#,
        r#"{"delete":{"key":"c"}}"#,
    ];
    fs::write(&path, lines.join("\n") + "\n").expect("writable");
    let mut rig = Rig::start(Scripted::new(), |builder| {
        let docs = JsonLines::open("docs", &path).expect("there");
        builder.source(docs).table("questions").view(view(2000))
    });
    rig.upsert("questions", "q", "airport");
    assert_eq!(rig.texts()["q"], "The airport is AUS.");
    let quarantine = rig.engine.quarantine().expect("runs");
    assert_eq!(quarantine.len(), 1);
    let late = Rejection::Late {
        held_ms: 20,
        got_ms: 19,
    };
    assert_eq!(quarantine[0].reason, late.to_string());
    let meant = rig.engine.resubmit(quarantine[0].number, None);
    let (_, key) = meant.expect("it is a deletion");
    assert_eq!(key.as_str(), "a");
    rig.engine.flush().expect("runs");
    let relations = rig.engine.relations().expect("runs");
    let docs = relations.iter().find(|of| &*of.name == "docs");
    assert_eq!(docs.map(|of| of.n_rows), Some(0));
}

#[test]
fn a_version_older_than_its_deletion_is_late_after_a_restart_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, state) = (dir.path().join("memory.jsonl"), dir.path().join("state"));
    let say = |lines: &[&str]| {
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let lines = lines.join("\n") + "\n";
        std::io::Write::write_all(&mut file.expect("writable"), lines.as_bytes()).expect("written");
        let mut rig = Rig::start(Scripted::new(), |builder| {
            let docs = JsonLines::open("docs", &path).expect("there");
            let builder = builder.source(docs).table("questions").view(view(2000));
            builder.state(&state)
        });
        rig.upsert("questions", "q", "airport");
        let answer = rig.texts()["q"].clone();
        let n_refused = rig.engine.quarantine().expect("runs").len();
        (answer, n_refused)
    };
    let nothing = "Nothing is known of airport.".to_owned();
    let deletion = r#"{"delete":{"key":"a","updated_at":20}}"#;
    let at = |at: u64, code: &str| {
        format!("{{\"key\":\"a\",\"text\":\"The airport is {code}.\",\"updated_at\":{at}}}")
    };
    // Nothing was there that it could delete.
    assert_eq!(say(&[deletion]), (nothing.clone(), 0));
    assert_eq!(say(&[&at(10, "SFO")]), (nothing.clone(), 1));
    // A deletion that is older still is none of anything.
    let older = r#"{"delete":{"key":"a","updated_at":5}}"#;
    assert_eq!(say(&[older, &at(19, "AUS")]), (nothing, 2));
    let newer = "The airport is LHR.".to_owned();
    assert_eq!(say(&[&at(21, "LHR")]), (newer.clone(), 2));
    assert_eq!(say(&[deletion]), (newer, 3));
}

#[test]
fn a_file_in_the_place_of_another_says_all_there_is_to_a_running_and_a_restarted_engine() {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, state) = (dir.path().join("memory.jsonl"), dir.path().join("state"));
    let line = |key: &str, code: &str, at: u64| {
        format!("{{\"key\":\"{key}\",\"text\":\"The airport is {code}.\",\"updated_at\":{at}}}\n")
    };
    let replace = |text: String| {
        let other = dir.path().join("other");
        fs::write(&other, text).expect("writable");
        fs::rename(&other, &path).expect("renamed");
    };
    let start = || {
        Rig::start(Scripted::new(), |builder| {
            let docs = JsonLines::open("docs", &path).expect("there").follow(true);
            let builder = builder.source(docs).table("questions").view(view(2000));
            builder.state(&state)
        })
    };
    replace(line("a", "SFO", 10) + &line("b", "AUS", 20));
    let mut rig = start();
    rig.upsert("questions", "q", "airport");
    assert_eq!(rig.texts()["q"], "The airport is SFO. The airport is AUS.");
    // A version that claims an older time is none of before.
    replace(line("b", "LHR", 15));
    let until = Instant::now() + Duration::from_secs(60);
    while rig.texts()["q"] != "The airport is LHR." && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(rig.texts()["q"], "The airport is LHR.");
    assert!(rig.engine.quarantine().expect("runs").is_empty());
    drop(rig);
    replace(line("c", "OSL", 5));
    let mut rig = start();
    rig.upsert("questions", "q", "airport");
    assert_eq!(rig.texts()["q"], "The airport is OSL.");
    assert!(rig.engine.quarantine().expect("runs").is_empty());
}

#[test]
fn a_file_that_is_written_anew_is_never_late() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("memory.jsonl");
    let line = |year: u16, code: &str| {
        format!(
            "{{\"key\":\"k\",\"text\":\"The airport is {code}.\",\"updated_at\":\"{year}-01-01T00:00:00Z\"}}\n"
        )
    };
    fs::write(&path, line(2099, "SFO (a slip of the keyboard)")).expect("writable");
    let mut rig = Rig::start(Scripted::new(), |builder| {
        let docs = JsonLines::open("docs", &path).expect("there").follow(true);
        builder.source(docs).table("questions").view(view(2000))
    });
    rig.upsert("questions", "q", "airport");
    assert!(rig.texts()["q"].contains("slip"));
    fs::write(&path, line(2024, "AUS")).expect("writable");
    let until = Instant::now() + Duration::from_secs(60);
    while rig.texts()["q"] != "The airport is AUS." && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(rig.texts()["q"], "The airport is AUS.");
    assert!(rig.engine.quarantine().expect("runs").is_empty());
}
