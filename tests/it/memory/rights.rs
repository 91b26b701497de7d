//! Who may read what, and by which view.

use perennial::engine::Edit;
use perennial::memory::{NewEntry, Recall};

use super::{answers, keys, rig, standing_question};

#[test]
fn a_reader_reads_what_is_granted_and_learns_nothing_of_the_rest() {
    let (_rig, bank) = rig();
    let said = |key: &str, namespace: &str| {
        NewEntry::new(format!("The library is at {key}."))
            .key(key)
            .namespace(namespace)
    };
    bank.store_all([said("a", "desk"), said("b", "choir")])
        .expect("is stored");
    bank.grant("desk", "bob").expect("runs");
    bank.grant("attic", "bob").expect("runs");
    bank.flush().expect("runs");
    let asked = || Recall::new("Where is the library?").reader("bob");
    let before = bank.recall(&asked()).expect("is recalled");
    assert_eq!(keys(&before), ["a"]);
    // What is granted and holds nothing is there; what is not granted and what does not exist are
    // alike.
    let empty = bank
        .recall(&asked().namespace("attic"))
        .expect("is granted");
    assert!(empty.hits.is_empty());
    let told = |namespace: &str| {
        let refused = bank
            .recall(&asked().namespace(namespace))
            .expect_err("is not granted");
        refused.to_string().replace(namespace, "…")
    };
    assert_eq!(told("choir"), told("nowhere"));
    assert_eq!(told("choir"), "there is no namespace `…` that bob may read");
    assert!(bank.list(Some("bob"), Some("choir")).is_err());
    // What is hidden changes no score.
    bank.store(said("library library", "choir"))
        .expect("is stored");
    bank.flush().expect("runs");
    assert_eq!(
        bank.recall(&asked()).expect("is recalled").hits,
        before.hits
    );
    bank.revoke("desk", "bob").expect("runs");
    bank.flush().expect("runs");
    assert!(bank.recall(&asked()).expect("is recalled").hits.is_empty());
}

#[test]
fn a_revocation_rewrites_what_leaned_on_what_is_gone() {
    let (rig, bank) = rig();
    let engine = &rig.engine;
    bank.store_all([
        NewEntry::new("The library opens at nine.")
            .key("a")
            .namespace("desk"),
        NewEntry::new("The library has a secret door.")
            .key("b")
            .namespace("attic"),
    ])
    .expect("is stored");
    engine.upsert("questions", "q", "library").expect("runs");
    bank.grant("desk", "bob").expect("runs");
    bank.grant("attic", "bob").expect("runs");
    let view = standing_question(engine, &bank, "bob");
    let both = &answers(engine, &view)["q"];
    assert!(both.contains("nine") && both.contains("secret"), "{both}");
    bank.revoke("attic", "bob").expect("runs");
    assert_eq!(answers(engine, &view)["q"], "The library opens at nine.");
    // What is hidden asks nobody.
    let n_calls = rig.model.n_calls();
    bank.store(NewEntry::new("The library has rats.").namespace("attic"))
        .expect("is stored");
    answers(engine, &view);
    assert_eq!(rig.model.n_calls(), n_calls);
}

#[test]
fn a_right_is_taken_back_however_it_was_given() {
    let (rig, bank) = rig();
    bank.store(NewEntry::new("The library opens at nine.").namespace("desk"))
        .expect("is stored");
    bank.grant("desk", "bob").expect("runs");
    // The table takes rows under any key.
    for (key, reader) in [("x", "bob"), ("y", "bob"), ("z", "eve")] {
        let edit = Edit::upsert("team_grants", key, "");
        let edit = edit.with("reader", reader).with("namespace", "desk");
        rig.engine.apply(vec![edit]).expect("runs");
    }
    let n_found = |reader: &str| {
        bank.flush().expect("runs");
        let asked = Recall::new("library").reader(reader);
        bank.recall(&asked).expect("is recalled").hits.len()
    };
    assert_eq!((n_found("bob"), n_found("eve")), (1, 1));
    // One that was just given is taken back, too.
    let edit = Edit::upsert("team_grants", "w", "");
    let edit = edit.with("reader", "bob").with("namespace", "desk");
    rig.engine.apply(vec![edit]).expect("runs");
    bank.revoke("desk", "bob").expect("runs");
    assert_eq!((n_found("bob"), n_found("eve")), (0, 1));
}
