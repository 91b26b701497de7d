//! Memories: what stands of what was stored, who may read it, and that nothing is left of what is
//! gone.

mod any_order;
mod exchanged;
mod forgotten;
mod handed_over;
mod latent;
mod relations;
mod rights;
mod statements;
mod terminal;

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial::ask::scripted::Scripted;
use perennial::engine::CurrentAnswer;
use perennial::memory::{
    Bank, Entry, Memory, NewEntry, PairScore, Recall, RecallBy, Recalled, Retain,
};
use perennial::rows::{Column, Schema, Type};
use perennial::{Engine, EngineBuilder, View};

use crate::rig::Rig;

/// The columns of the table that memories here are made from.
fn columns() -> Schema {
    let text = |name: &str| Column::new(name, Type::Text);
    Schema::new([
        text("key"),
        text("text"),
        text("room"),
        text("session"),
        text("who"),
        Column::new("pin", Type::Boolean),
    ])
}

fn declare(builder: EngineBuilder) -> EngineBuilder {
    builder.table_of("turns", columns()).table("questions")
}

fn memory() -> Memory {
    Memory::named("team")
        .from("turns")
        .namespace("room")
        .session("session")
        .writer("who")
        .pinned("pin")
}

fn rig() -> (Rig, Bank) {
    let rig = Rig::start(Scripted::new(), declare);
    let bank = Bank::create(&rig.engine, memory()).expect("is declared");
    (rig, bank)
}

fn keys(recalled: &Recalled) -> Vec<&str> {
    recalled.hits.iter().map(|hit| &*hit.entry.key).collect()
}

fn standing(bank: &Bank) -> Vec<(String, String, Vec<String>)> {
    let listed = bank.list(None, None).expect("the owner reads all");
    let mut listed: Vec<_> = listed
        .iter()
        .map(|entry| {
            let sources = entry.sources.iter().map(ToString::to_string).collect();
            (entry.namespace.to_string(), entry.key.to_string(), sources)
        })
        .collect();
    listed.sort();
    listed
}

#[test]
fn what_is_stored_is_found_and_no_model_is_asked() {
    let (rig, bank) = rig();
    bank.store_all([
        NewEntry::new("The library opens at nine.")
            .key("a")
            .namespace("desk")
            .writer("ada"),
        NewEntry::new("A ferry ticket costs twelve crowns.")
            .key("b")
            .namespace("desk"),
        NewEntry::new("The choir sings on Sundays.")
            .key("c")
            .namespace("choir"),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let recalled = bank.recall(&Recall::new("The library opens when?").best(2));
    let recalled = recalled.expect("is recalled");
    assert_eq!(keys(&recalled)[0], "a");
    assert_eq!((recalled.hits.len(), recalled.n_entries), (2, 3));
    let first = &recalled.hits[0];
    assert_eq!(first.entry.writer.as_deref(), Some("ada"));
    assert!(first.words > 0.0 && first.words <= 1.0, "{first:?}");
    let only = Recall::new("The library opens when?").namespace("choir");
    assert_eq!(keys(&bank.recall(&only).expect("is recalled")), ["c"]);
    let by_words = Recall::new("choir").by(RecallBy::Words).best(1);
    let n_embedded = rig.embedder.n_texts();
    assert_eq!(keys(&bank.recall(&by_words).expect("is recalled")), ["c"]);
    assert_eq!(rig.embedder.n_texts(), n_embedded);
    assert_eq!(rig.model.n_calls(), 0);
}

#[test]
fn a_text_without_a_key_is_there_once() {
    let (_rig, bank) = rig();
    let entry = || NewEntry::new("The library opens at nine.").namespace("desk");
    let key = bank.store(entry()).expect("is stored");
    assert_eq!(bank.store(entry()).expect("is stored"), key);
    let other = bank.store(entry().writer("ada")).expect("is stored");
    assert_ne!(other, key);
    bank.flush().expect("runs");
    assert_eq!(bank.stats().expect("runs").n_stored, 2);
}

#[test]
fn what_is_said_again_is_one_entry_and_its_sources_are_listed() {
    let (_rig, bank) = rig();
    let said =
        |key: &str, text: &str, at: i64| NewEntry::new(text).key(key).namespace("desk").at(at);
    bank.store_all([
        said("old", "The library opens at nine.", 1),
        said("new", "the  library\nopens at NINE.", 2),
        said("other", "The library opens at ten.", 3),
        // Elsewhere it is another entry.
        NewEntry::new("The library opens at nine.")
            .key("away")
            .namespace("choir")
            .at(9),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let entry = |namespace: &str, key: &str, sources: &[&str]| {
        let sources = sources.iter().map(ToString::to_string).collect();
        (namespace.to_owned(), key.to_owned(), sources)
    };
    let both = [
        entry("choir", "away", &["away"]),
        entry("desk", "new", &["new", "old"]),
        entry("desk", "other", &["other"]),
    ];
    assert_eq!(standing(&bank), both);
    // A retraction brings the next back.
    bank.delete("new").expect("runs");
    bank.flush().expect("runs");
    assert_eq!(standing(&bank)[1], entry("desk", "old", &["old"]));
}

#[test]
fn a_superseded_entry_is_gone_while_the_newer_stands() {
    let (_rig, bank) = rig();
    let said = |key: &str, at: i64| NewEntry::new(format!("Fact {key}.")).key(key).at(at);
    bank.store_all([
        said("price", 1),
        said("correction", 2).superseding(["price", "later", "elsewhere"]),
        // Newer than what supersedes it.
        said("later", 3),
        said("elsewhere", 1).namespace("choir"),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let stands = |bank: &Bank| -> Vec<String> {
        standing(bank).into_iter().map(|(_, key, _)| key).collect()
    };
    assert_eq!(stands(&bank), ["elsewhere", "correction", "later"]);
    bank.delete("correction").expect("runs");
    bank.flush().expect("runs");
    assert_eq!(stands(&bank), ["elsewhere", "later", "price"]);
}

#[test]
fn what_is_superseded_does_not_stand_again_in_a_copy_until_it_is_said_again() {
    let (_rig, bank) = rig();
    let said = |key: &str, text: &str, at: i64| NewEntry::new(text).key(key).at(at);
    bank.store_all([
        said("first", "Tea costs two crowns.", 1),
        said("copy", "tea costs  TWO crowns.", 2),
        said("away", "Tea costs two crowns.", 2).namespace("choir"),
        said("price", "Tea costs three crowns.", 3).superseding(["copy"]),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let stands = |bank: &Bank| -> Vec<(String, Vec<String>)> {
        let all = standing(bank).into_iter();
        all.map(|(_, key, sources)| (key, sources)).collect()
    };
    let entry = |key: &str, sources: &[&str]| {
        let sources = sources.iter().map(ToString::to_string).collect();
        (key.to_owned(), sources)
    };
    let (away, price) = (entry("away", &["away"]), entry("price", &["price"]));
    assert_eq!(stands(&bank), [away.clone(), price.clone()]);
    bank.store(said("again", "Tea costs two crowns.", 4))
        .expect("is stored");
    bank.flush().expect("runs");
    let again = entry("again", &["again"]);
    assert_eq!(stands(&bank), [away.clone(), again, price]);
    bank.delete("again").expect("runs");
    bank.delete("price").expect("runs");
    bank.flush().expect("runs");
    assert_eq!(stands(&bank), [away, entry("copy", &["copy", "first"])]);
}

#[test]
fn the_pinned_and_the_newest_of_each_namespace_are_retained() {
    let rig = Rig::start(Scripted::new(), declare);
    let of = |retain| memory().retain(retain);
    let said = |key: &str, at: i64| {
        NewEntry::new(format!("Fact {key}."))
            .key(key)
            .namespace("desk")
            .at(at)
    };
    let day = 24 * 3600 * 1000;
    let stands = |retain| -> Vec<String> {
        let bank = Bank::create(&rig.engine, of(retain)).expect("is declared");
        bank.store_all([
            said("pinned", 0).pinned(true),
            said("old", 10 * day),
            said("newer", 98 * day),
            said("newest", 100 * day),
            said("alone", 1).namespace("choir"),
        ])
        .expect("is stored");
        bank.flush().expect("runs");
        let keys = standing(&bank).into_iter().map(|(_, key, _)| key).collect();
        bank.drop().expect("nobody reads it");
        keys
    };
    assert_eq!(stands(Retain::Count(2)), ["alone", "newest", "pinned"]);
    let age = "30 d".parse().expect("an age");
    assert_eq!(stands(age), ["alone", "newer", "newest", "pinned"]);
    // What was not retained is back where more is.
    assert_eq!(stands(Retain::Count(9)).len(), 5);
}

#[test]
fn an_age_is_kept_to_a_sixty_fourth_of_it() {
    let rig = Rig::start(Scripted::new(), declare);
    // Steps of 100 ms: what counts since 3,600 counts since 3,600, and what does since 3,650, too.
    let age = Retain::Age(std::time::Duration::from_millis(6_400));
    let bank = Bank::create(&rig.engine, memory().retain(age)).expect("is declared");
    let said = |key: &str, at: i64| NewEntry::new(format!("Fact {key}.")).key(key).at(at);
    bank.store_all([said("a", 3_599), said("b", 3_600), said("c", 3_699)])
        .expect("is stored");
    let stands = |newest: i64| -> Vec<String> {
        bank.store(said("newest", newest)).expect("is stored");
        bank.flush().expect("runs");
        standing(&bank).into_iter().map(|(_, key, _)| key).collect()
    };
    assert_eq!(stands(10_000), ["b", "c", "newest"]);
    assert_eq!(stands(10_050), ["b", "c", "newest"]);
    assert_eq!(stands(10_100), ["newest"]);
    // What is older again has more within its age.
    assert_eq!(stands(9_999), ["a", "b", "c", "newest"]);
}

#[test]
fn bad_input_is_refused_by_name() {
    let (_rig, bank) = rig();
    let refused = |entry: NewEntry| bank.store(entry).expect_err("is refused").to_string();
    assert_eq!(refused(NewEntry::new(" \n")), "the text is empty");
    assert_eq!(
        refused(NewEntry::new("x".repeat((64 << 10) + 1))),
        "the text has 65537 bytes; at most 65536 are taken"
    );
    assert_eq!(
        refused(NewEntry::new("a\u{1b}[2J")),
        "the text holds the control character U+001B at byte 1"
    );
    assert_eq!(
        refused(NewEntry::new("a").namespace("")),
        "the namespace is empty"
    );
    assert_eq!(
        refused(NewEntry::new("a").key("k".repeat(2000)))
            .split(';')
            .next(),
        Some("the key has 2000 bytes")
    );
    let asked = |recall: Recall| bank.recall(&recall).expect_err("is refused").to_string();
    assert_eq!(asked(Recall::new("")), "the question is empty");
    assert_eq!(
        asked(Recall::new("a").best(0)),
        "the number of entries must be from 1 to 1000, not 0"
    );
    assert!(asked(Recall::new("a").folding(1.5)).contains("at most 1, not 1.5"));
    assert_eq!(
        asked(Recall::new("a").namespace("x")),
        "there is no namespace `x`"
    );
    assert!(bank.grant("", "bob").is_err() && bank.grant("desk", "\u{7}").is_err());
    // Nothing of it is there, and of several none is stored where one is refused.
    assert!(
        bank.store_all([NewEntry::new("a"), NewEntry::new("")])
            .is_err()
    );
    bank.flush().expect("runs");
    assert_eq!(bank.stats().expect("runs").n_stored, 0);
}

#[test]
fn rows_that_are_no_entries_are_listed_with_the_reason() {
    let (rig, bank) = rig();
    for (key, text) in [("long", "x".repeat(70_000)), ("blank", " \n\t ".to_owned())] {
        rig.engine.upsert("turns", key, &text).expect("runs");
    }
    rig.engine
        .upsert("turns", "sound", "The library opens.")
        .expect("runs");
    rig.engine.flush().expect("runs");
    let refused = rig.engine.snapshot("team_refused").expect("is there").rows;
    let mut reasons: Vec<String> = refused
        .iter()
        .map(|(row, _)| format!("{}: {}", row[0], row[2]))
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "blank: the text is empty",
            "long: the text has more than 65536 bytes"
        ]
    );
    let stats = bank.stats().expect("runs");
    assert_eq!((stats.n_stored, stats.n_refused), (3, 2));
    assert_eq!(stats.namespaces["default"].n_entries, 1);
}

#[test]
fn entries_that_are_near_are_folded_into_the_newest_where_asked() {
    let (_rig, bank) = rig();
    let said =
        |key: &str, text: &str, at: i64| NewEntry::new(text).key(key).namespace("desk").at(at);
    bank.store_all([
        said("a", "the library opens at nine", 1),
        said("b", "the library opens at nine today", 2),
        said("c", "no dogs in the garden please", 3),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let asked = || Recall::new("the library opens at nine");
    let plain = bank.recall(&asked()).expect("is recalled");
    assert_eq!(keys(&plain)[0], "a");
    let folded = bank.recall(&asked().folding(0.6)).expect("is recalled");
    let sources: Vec<Vec<&str>> = folded
        .hits
        .iter()
        .map(|hit| hit.entry.sources.iter().map(|key| &**key).collect())
        .collect();
    assert_eq!(sources, [vec!["b", "a"], vec!["c"]]);
    bank.delete("b").expect("runs");
    bank.flush().expect("runs");
    let folded = bank.recall(&asked().folding(0.6)).expect("is recalled");
    assert_eq!(keys(&folded), ["a", "c"]);
}

/// Prefers long texts.
struct Longest;

impl PairScore for Longest {
    fn scores(&self, _: &str, entries: &[Arc<Entry>]) -> Result<Vec<f32>, String> {
        Ok(entries
            .iter()
            .map(|entry| entry.text.len() as f32)
            .collect())
    }

    fn scale(&self) -> f64 {
        1.0
    }
}

#[test]
fn a_further_score_joins_the_two_of_text() {
    let (_rig, bank) = rig();
    bank.store_all([
        NewEntry::new("library").key("short"),
        NewEntry::new("some words about something else").key("long"),
    ])
    .expect("is stored");
    bank.flush().expect("runs");
    let asked = Recall::new("library");
    assert_eq!(keys(&bank.recall(&asked).expect("is recalled"))[0], "short");
    let asked = asked.scored_by(Arc::new(Longest));
    let recalled = bank.recall(&asked).expect("is recalled");
    assert_eq!(keys(&recalled)[0], "long");
    assert_eq!(recalled.hits[0].further, Some(31.0));
}

/// The answers of a view, by question.
fn answers(engine: &Engine, view: &str) -> BTreeMap<String, String> {
    engine.flush().expect("runs");
    let text = |answer: CurrentAnswer| match answer.answer {
        Ok(answer) => answer.text.to_string(),
        Err(error) => format!("error: {error}"),
    };
    let answers = engine.answers(view).expect("is there").into_iter();
    answers
        .map(|(key, answer)| (key.to_string(), text(answer)))
        .collect()
}

/// A standing question of a reader.
fn standing_question(engine: &Engine, bank: &Bank, reader: &str) -> String {
    let name = format!("answers of {reader}");
    let view = View::named(&name)
        .context("questions")
        .data_source(bank.readable_by(reader).expect("a reader"))
        .answer_without_documents(true)
        .max_tokens(400);
    engine.create_view(view).expect("is declared");
    name
}

#[test]
fn a_fold_is_of_the_best_candidates_and_of_few_entries() {
    let (_rig, bank) = rig();
    let said = |n: i64| {
        let text = format!("the library opens at nine and the number is n{n}");
        NewEntry::new(text).key(format!("k{n:03}")).at(n)
    };
    bank.store_all((0..80).map(said)).expect("is stored");
    bank.flush().expect("runs");
    let asked = Recall::new("when does the library open").best(3);
    let folded = bank
        .recall(&asked.clone().folding(0.5))
        .expect("is recalled");
    assert_eq!((folded.hits.len(), folded.n_entries), (1, 80));
    // Eight for each that is asked for, and at least 64: the best, folded into the newest of them.
    let plain = bank.recall(&asked.best(64)).expect("is recalled");
    let mut best: Vec<&str> = keys(&plain);
    best.sort_unstable_by(|a, b| b.cmp(a));
    let sources = folded.hits[0].entry.sources.iter();
    assert_eq!(sources.map(|key| &**key).collect::<Vec<_>>(), best);
    let refused = bank.recall(&Recall::new("library").best(129).folding(0.5));
    assert_eq!(
        refused.expect_err("is refused").to_string(),
        "the number of entries that are folded must be at most 128, not 129"
    );
}
