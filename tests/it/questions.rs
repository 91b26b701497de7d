//! Questions that share answers: the same one in other words, one that is made of others, and those that are
//! proposed. Whatever happens to questions, documents and kept questions, all of it is as from nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use perennial::ask::scripted::Scripted;
use perennial::sql::{Outcome, Script};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::tasks::Rig;

const TABLES: &str = "
    CREATE TABLE notes (key TEXT, text TEXT);
    CREATE TABLE questions (key TEXT, text TEXT);
    CREATE TABLE bases (key TEXT, text TEXT);";

/// Documents stand by key, so that an answer does not hang on when they came.
const SHARED: &str = "
    CREATE CONTINUOUS VIEW answers AS
    LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes))
    WITH (SHARE = 0.82, ORDER_BY = 'key');";

/// The scripted model holds two questions for the same if one of them has a word of the prompt, as `in`.
const COMPOSED: &str = "
    CREATE CONTINUOUS VIEW answers AS
    LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes))
    WITH (SHARE = 0.82, BASES = bases, ORDER_BY = 'key');";

const NOTES: &str = "
    INSERT INTO notes VALUES
        ('a', 'Alphaville of 1965 is a film by Godard.'), ('r', 'Ran of 1985 is a film by Kurosawa.'),
        ('k', 'Kurosawa comes from Tokyo.'), ('g', 'Godard comes from Paris.');";

/// The plans that a script is told.
fn plans(rig: &Rig, text: &str) -> Vec<String> {
    let mut plans = Vec::new();
    let ran = rig.session.run(&Script::new("t.sql", text), |_, outcome| {
        if let Outcome::Plan(plan) = outcome {
            plans.push(plan);
        }
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    plans
}

fn answers(rig: &mut Rig) -> Vec<String> {
    rig.run("SELECT key, asked_as, out_of, text FROM answers ORDER BY key")
}

#[test]
fn the_same_question_is_answered_once_in_whatever_words() {
    let mut rig = Rig::new();
    rig.run(&format!("{TABLES}{NOTES}{SHARED}"));
    rig.run("INSERT INTO questions VALUES ('1', 'Who directed Alphaville in 1965?')");
    let first = answers(&mut rig);
    let said = "documents|Alphaville of 1965 is a film by Godard.";
    assert_eq!(
        first,
        [format!("1|Who directed Alphaville in 1965?|{said}")]
    );
    assert_eq!(rig.n_calls(), 1);

    // Other words: the model says that it is the same, and no more.
    rig.run("INSERT INTO questions VALUES ('2', 'Who directed the film Alphaville in 1965?')");
    let second = answers(&mut rig);
    assert_eq!(second[1], first[0].replacen('1', "2", 1));
    assert_eq!(rig.n_calls(), 2);

    // The same words: nobody is asked, nor when who said them first goes.
    rig.run("INSERT INTO questions VALUES ('3', 'Who directed Alphaville in 1965?')");
    assert_eq!(answers(&mut rig).len(), 3);
    rig.run("DELETE FROM questions WHERE key = '1'");
    assert_eq!(answers(&mut rig)[0], second[1]);
    assert_eq!(rig.n_calls(), 2);

    // The last with these words goes: the other's are asked in their place.
    rig.run("DELETE FROM questions WHERE key = '3'");
    let said_by = "2|Who directed the film Alphaville in 1965?|documents|";
    assert!(answers(&mut rig)[0].starts_with(said_by));
    assert_eq!(rig.n_calls(), 3);

    // As which question one is answered is told with who said so.
    rig.run("INSERT INTO questions VALUES ('5', 'Who directed Alphaville in 1965?')");
    let said = "said \"true\"";
    let why = plans(
        &rig,
        "EXPLAIN WHY answers_asked['2']; LINEAGE OF answers['2'];",
    );
    for plan in &why {
        assert!(plan.contains("the same question in other words?"), "{plan}");
        assert!(
            plan.contains(said) && plan.contains("questions['5']"),
            "{plan}"
        );
    }
    rig.run("DELETE FROM questions WHERE key = '5'");
    assert_eq!(answers(&mut rig).len(), 1);
    let n_calls = rig.n_calls();

    // Another question is another, however much it looks like it.
    rig.run("INSERT INTO questions VALUES ('4', 'Who directed Ran in 1985?')");
    let both = answers(&mut rig);
    assert!(
        both[1].ends_with("Ran of 1985 is a film by Kurosawa."),
        "{both:?}"
    );
    assert_eq!(rig.n_calls(), n_calls + 1);
}

#[test]
fn what_is_asked_often_is_proposed_and_answered_from_once_it_is_kept() {
    let mut rig = Rig::new();
    rig.run(&format!("{TABLES}{NOTES}{COMPOSED}"));
    rig.run(
        "INSERT INTO bases VALUES ('ran', 'Who directed Ran in 1985?');
         INSERT INTO questions VALUES
            ('1', 'Who directed Ran in 1985? Where comes Kurosawa from?'),
            ('2', 'Where comes Kurosawa from? Who made Alphaville?'),
            ('3', 'Who directed Ran in 1985?');",
    );
    let out_of = |rig: &mut Rig| rig.run("SELECT key, out_of FROM answers ORDER BY key");
    assert_eq!(
        out_of(&mut rig),
        ["1|documents", "2|documents", "3|known answers"]
    );
    let proposed = rig.run("SHOW CANDIDATES FROM answers");
    assert_eq!(proposed, ["Where comes Kurosawa from?|2"]);

    // Kept by a word: its answer, and that of the question which is made of it and another that is kept.
    let before = rig.n_calls();
    rig.run("INSERT INTO bases VALUES ('kurosawa', 'Where comes Kurosawa from?')");
    assert_eq!(
        out_of(&mut rig),
        ["1|known answers", "2|documents", "3|known answers"]
    );
    assert_eq!(rig.n_calls(), before + 2);
    assert!(rig.run("SHOW CANDIDATES FROM answers").is_empty());

    // A document that moves a kept answer moves what was made of it.
    rig.run("UPDATE notes SET text = 'Kurosawa comes from Edo.' WHERE key = 'k'");
    let moved = rig.run("SELECT text FROM answers WHERE key = '1'");
    assert!(moved[0].contains("Edo"), "{moved:?}");

    let told = plans(&rig, "EXPLAIN WHY answers['1']; LINEAGE OF answers['1'];");
    for (plan, says) in [
        (&told[0], "answers_asked['1']"),
        (&told[0], "answers_from_known['"),
        (&told[1], "answers_known['kurosawa']"),
        (&told[1], "bases['kurosawa']: given by hand"),
        (&told[1], "notes['k']: given by hand"),
        (&told[1], "questions['1']: given by hand"),
    ] {
        assert!(plan.contains(says), "{says}: {plan}");
    }

    // Not kept any more: as before.
    rig.run("DELETE FROM bases WHERE key = 'kurosawa'");
    assert_eq!(
        out_of(&mut rig),
        ["1|documents", "2|documents", "3|known answers"]
    );
    assert_eq!(rig.run("SHOW CANDIDATES FROM answers"), proposed);
}

#[test]
fn a_view_that_shares_comes_and_goes_with_all_that_it_is_made_of() {
    let mut rig = Rig::new();
    rig.run(&format!("{TABLES}{NOTES}"));
    let explained = plans(&rig, &format!("EXPLAIN {COMPOSED}"));
    assert_eq!(
        explained[0].matches("CREATE ").count(),
        13,
        "{}",
        explained[0]
    );
    assert!(
        rig.run("SHOW VIEWS").is_empty(),
        "explained, it is not made"
    );

    let refused = |rig: &mut Rig, text: &str, says: &str| match rig.try_run(text) {
        Err(error) => assert!(error.contains(says), "{text}: {error}"),
        Ok(rows) => panic!("{text}: {rows:?}"),
    };
    rig.run("CREATE TABLE words (key TEXT, word TEXT)");
    let of_words = SHARED.replace("STREAM(questions)", "STREAM(words)");
    refused(&mut rig, &of_words, "words has no column text");
    let of_words = COMPOSED.replace("BASES = bases", "BASES = words");
    refused(&mut rig, &of_words, "words has no column text");
    let of_nothing = COMPOSED.replace("BASES = bases", "BASES = basis");
    refused(&mut rig, &of_nothing, "did you mean bases?");
    // What is wrong with a part is told where the whole stands.
    rig.run("CREATE VIEW numbers AS SELECT key, 1 AS text FROM notes");
    let of_numbers = SHARED.replace("STREAM(questions)", "STREAM(numbers)");
    refused(&mut rig, &of_numbers, "compares TEXT, not INTEGER");
    refused(&mut rig, &of_numbers, "t.sql:2:5");
    rig.run("DROP VIEW numbers");
    rig.run("CREATE VIEW answers_facts AS SELECT key FROM notes");
    refused(&mut rig, COMPOSED, "there is a view answers_facts already");
    assert_eq!(rig.run("SHOW VIEWS").len(), 1, "all or none");
    rig.run("DROP VIEW answers_facts");

    rig.run(SHARED);
    refused(
        &mut rig,
        "SHOW CANDIDATES FROM answers",
        "answers proposes no questions",
    );
    rig.run("DROP VIEW answers");
    rig.run(COMPOSED);
    assert_eq!(rig.run("SHOW VIEWS").len(), 13);
    refused(
        &mut rig,
        "SHOW CANDIDATES FROM notes",
        "notes proposes no questions",
    );
    refused(
        &mut rig,
        "DROP VIEW answers_facts",
        "is a part of view answers",
    );
    rig.run("CREATE VIEW mine AS SELECT key FROM answers_asked");
    refused(&mut rig, "DROP VIEW answers", "mine");
    // In one script, too, where all is foreseen.
    rig.run(&format!(
        "DROP VIEW mine; DROP VIEW answers; {SHARED} DROP VIEW answers;"
    ));
    assert!(rig.run("SHOW VIEWS").is_empty());
}

/// What stands in the tables: by table and key.
type Rows = BTreeMap<(&'static str, String), String>;

/// Questions, some of which are made of others, and in some of which these have other words.
const ASKED: [&str; 8] = [
    "Who directed Ran in 1985?",
    "Who directed the film Ran in 1985?",
    "Where comes Kurosawa from?",
    "Who directed Ran in 1985? Where comes Kurosawa from?",
    "Where comes Kurosawa from? Who directed Alphaville in 1965?",
    "Who directed Alphaville in 1965? Where comes Godard from?",
    "Nothing of it?",
    "",
];
const KEPT: [&str; 5] = [
    "Who directed Ran in 1985?",
    "Who directed the film Ran in 1985?",
    "Where comes Kurosawa from?",
    "Where comes the Kurosawa from?",
    "Who directed Alphaville in 1965?",
];
const SAID: [&str; 5] = [
    "Ran of 1985 is a film by Kurosawa.",
    "Kurosawa comes from Tokyo.",
    "Kurosawa comes from Edo.",
    "Alphaville of 1965 is a film by Godard.",
    "in short, in all.",
];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A row is set, of a table by its place, to a text by its place.
    Set(usize, u8, usize),
    Gone(usize, u8),
    Restarted,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, 0..5u8, 0..40usize).prop_map(|(table, key, text)| Step::Set(table, key, text)),
        3 => (0..3usize, 0..5u8).prop_map(|(table, key)| Step::Gone(table, key)),
        1 => Just(Step::Restarted),
    ]
}

const POOLS: [(&str, &[&str]); 3] = [("questions", &ASKED), ("bases", &KEPT), ("notes", &SAID)];

fn set(table: &str, key: &str, text: &str) -> String {
    format!("INSERT INTO {table} VALUES ('{key}', '{text}');")
}

fn opened(dir: Option<&TempDir>, n_workers: usize) -> Rig {
    let Rig { session, model } = Rig::over(Scripted::new(), |builder| {
        let builder = builder.workers(n_workers).held();
        match dir {
            Some(dir) => builder.state(dir.path()),
            None => builder,
        }
    });
    let mut rig = Rig {
        session: session.held(),
        model,
    };
    rig.run(&format!("{TABLES}{COMPOSED}"));
    rig
}

/// All that is answered, proposed, and known on the way.
fn all(rig: &mut Rig) -> Vec<Vec<String>> {
    let reads = [
        "SELECT key, question, asked_as, out_of, text FROM answers ORDER BY key",
        "SHOW CANDIDATES FROM answers",
        "SELECT key, text FROM answers_known ORDER BY key",
        "SELECT key, whole, part, base, text FROM answers_facts ORDER BY key",
        "SELECT key FROM answers_composed ORDER BY key",
    ];
    reads.iter().map(|read| rig.run(read)).collect()
}

fn from_nothing(rows: &Rows) -> Vec<Vec<String>> {
    let mut rig = opened(None, 1);
    let mut given = String::new();
    for ((table, key), text) in rows {
        write!(given, "{}", set(table, key, text)).expect("writes");
    }
    rig.run(&given);
    all(&mut rig)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_as_a_run_from_nothing(
        steps in prop::collection::vec(step(), 4..14),
        n_workers in 1..3usize,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut rig, mut rows) = (opened(Some(&dir), n_workers), Rows::new());
        let middle = steps.len() / 2;
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Set(table, key, text) => {
                    let (table, pool) = POOLS[table];
                    let (key, text) = (key.to_string(), pool[text % pool.len()]);
                    rig.run(&set(table, &key, text));
                    rows.insert((table, key), text.to_owned());
                }
                Step::Gone(table, key) => {
                    let (table, _) = POOLS[table];
                    rig.run(&format!("DELETE FROM {table} WHERE key = '{key}'"));
                    rows.remove(&(table, key.to_string()));
                }
                Step::Restarted => {
                    let before = all(&mut rig);
                    drop(rig);
                    rig = opened(Some(&dir), n_workers);
                    prop_assert_eq!(all(&mut rig), before);
                    prop_assert_eq!(rig.n_calls(), 0, "a restart asks nobody");
                }
            }
            if at == middle {
                prop_assert_eq!(all(&mut rig), from_nothing(&rows));
            }
        }
        prop_assert_eq!(all(&mut rig), from_nothing(&rows));
    }
}
