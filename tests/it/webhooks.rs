//! Answers as they are posted: every epoch, whatever becomes of the receiver and of the engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use perennial::Update;
use perennial::ask::scripted::Scripted;
use perennial::connectors::Webhook;

use crate::receiver::{Act, Got, Receiver};
use crate::rig::{Rig, view};

fn rig(state: Option<&Path>, receiver: &Receiver) -> Rig {
    let hook = Webhook::open(&receiver.url()).expect("a URL");
    let hook = hook.patience(Duration::from_millis(500)).part_bytes(200);
    Rig::start(Scripted::new(), |mut builder| {
        if let Some(state) = state {
            builder = builder.state(state);
        }
        builder
            .table("docs")
            .table("questions")
            .view(view(2000))
            .sink("answers", hook)
    })
}

/// What a reader makes of what it was sent: parts in order, each epoch whole, folded to answers.
fn folded(taken: &[Got]) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    let mut last: Option<(u64, u64, u64)> = None;
    for got in taken {
        let body = got.json();
        let number = |name: &str| body[name].as_u64().expect("a number");
        let (epoch, part, parts) = (number("epoch"), number("part"), number("parts"));
        match last {
            Some((epoch_before, part_before, parts_before)) if part_before < parts_before => {
                assert_eq!((epoch, part), (epoch_before, part_before + 1));
            }
            Some((epoch_before, ..)) => assert!(epoch > epoch_before && part == 1, "{body}"),
            None => assert_eq!(part, 1),
        }
        last = Some((epoch, part, parts));
        for row in body["rows"].as_array().expect("rows") {
            let key = row["key"].as_str().expect("a text").to_owned();
            match row["text"].as_str() {
                Some(text) => answers.insert(key, text.to_owned()),
                None => answers.remove(&key),
            };
        }
    }
    if let Some((_, part, parts)) = last {
        assert_eq!(part, parts, "the last epoch is whole");
    }
    answers
}

#[test]
fn every_epoch_comes_in_order_through_failures_and_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start([]);
    let late = Act::Late(Duration::from_secs(3));
    let no = Act::Answer(500, "", "");
    let mut texts = BTreeMap::new();
    for run in 0..4 {
        let mut rig = rig(Some(dir.path()), &receiver);
        receiver.then([
            no,
            Act::Cut,
            Act::TakeAndCut,
            Act::Answer(200, "", ""),
            late,
            no,
        ]);
        for i in 0..6 {
            let key = format!("k{}", i % 3);
            rig.upsert("questions", &key, &format!("word{}", i % 3));
            match (run + i) % 5 {
                0 => rig.engine.delete("questions", &key).expect("runs"),
                _ => rig.upsert("docs", &key, &format!("word{} is {run}.{i}.", i % 3)),
            }
            texts = rig.texts();
        }
    }
    // What the last run still owed.
    let last = rig(Some(dir.path()), &receiver);
    receiver.until(|taken| {
        let body = taken.last().map(Got::json);
        body.is_some_and(|body| body["part"] == body["parts"]) && folded(taken) == texts
    });
    drop(last);
    assert_eq!(folded(&receiver.taken()), texts);
    let n_again = receiver.got().iter().filter(|got| got.is_taken).count();
    assert!(n_again > receiver.taken().len(), "something came twice");
}

#[test]
fn a_receiver_that_fails_is_told_and_holds_up_no_answer() {
    let answer = "retry-after: 1\r\n";
    let receiver = Receiver::start([Act::Answer(503, answer, "we move house")]);
    let mut rig = rig(None, &receiver);
    let updates = rig.engine.subscribe("answers").expect("known");
    rig.upsert("questions", "q", "alpha");
    rig.upsert("docs", "a", "alpha is here.");
    assert_eq!(rig.texts()["q"], "alpha is here.");
    let notice = updates.iter().find_map(|update| match update {
        Update::Notice { source, message } => Some((source, message)),
        _ => None,
    });
    let (source, message) = notice.expect("told");
    assert_eq!(source, receiver.url());
    assert!(
        message.contains("503") && message.contains("we move house"),
        "{message}"
    );
    let texts = rig.texts();
    receiver.until(|taken| !taken.is_empty() && folded(taken) == texts);
}

/// What a reader holds who drops what came under origins that are replaced.
fn held(taken: &[Got]) -> BTreeMap<String, String> {
    let mut held: BTreeMap<String, (String, String)> = BTreeMap::new();
    for got in taken {
        let body = got.json();
        let origin = body["origin"].as_str().expect("a text").to_owned();
        if let Some(former) = body["replaces"].as_array()
            && body["part"] == 1
        {
            held.retain(|_, (of, _)| !former.iter().any(|former| former == &**of));
        }
        for row in body["rows"].as_array().expect("rows") {
            let key = row["key"].as_str().expect("a text").to_owned();
            match row["text"].as_str() {
                Some(text) => held.insert(key, (origin.clone(), text.to_owned())),
                None => held.remove(&key),
            };
        }
    }
    held.into_iter()
        .map(|(key, (_, text))| (key, text))
        .collect()
}

#[test]
fn a_receiver_of_a_restored_state_is_told_what_is_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start([]);
    let mut first = rig(Some(&dir.path().join("state")), &receiver);
    let file = dir.path().join("a.backup");
    let lost = first.past_a_backup(&file);
    let before = receiver.until(|taken| held(taken) == lost);
    assert!(before.iter().all(|got| got.json()["replaces"].is_null()));
    drop(first);

    let restored = dir.path().join("restored");
    perennial::state::restore(&file, &restored, |_, _| {}).expect("restores");
    // Tried until it is taken.
    receiver.then([Act::Answer(500, "", "")]);
    let mut second = rig(Some(&restored), &receiver);
    let updates = second.engine.subscribe("answers").expect("known");
    second.upsert("questions", "s", "alpha");
    let texts = second.texts();
    assert_eq!(texts.keys().collect::<Vec<_>>(), ["p", "q", "s"]);
    let all = receiver.until(|taken| held(taken) == texts);
    let notice = updates.iter().find_map(|update| match update {
        Update::Notice { message, .. } if message.contains("restored") => Some(message),
        _ => None,
    });
    let notice = notice.expect("told");
    assert!(notice.contains("cannot be looked at"), "{notice}");
    // Under keys of its own, so that no receiver takes them for what it has.
    let old: Vec<&str> = before.iter().map(Got::key).collect();
    let new = all.iter().skip(before.len());
    assert!(new.clone().count() > 0);
    assert!(new.map(Got::key).all(|key| !old.contains(&key)));
}
