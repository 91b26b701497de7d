//! What `EXPLAIN`, `EXPLAIN COST`, `EXPLAIN ANALYZE`, `EXPLAIN WHY` and `LINEAGE OF` say, word by word.

use std::fs;
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::sql::{Outcome, Script, Session, SessionError};
use perennial::{Engine, Runtime};

fn session() -> Session {
    let (model, embedder) = (Scripted::new(), ScriptedEmbedder::default());
    let runtime = Runtime::scripted(Arc::new(model), Arc::new(embedder));
    // Held, so that all that stands before the first question is one epoch.
    let engine = Engine::builder(runtime).held().start().expect("starts");
    Session::new(engine, "scripted").held()
}

/// The last that a script tells, without tokens and times.
fn told(session: &Session, text: &str) -> String {
    let mut last = String::new();
    let ran = session.run(&Script::new("x.sql", text), |_, outcome| {
        if let Outcome::Plan(plan) = outcome {
            last = plan;
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    without_work(&last)
}

/// A text without work, which is the model's: `; 12 tokens forwarded, 3 reused; 0.3 s` is `; W`.
fn without_work(text: &str) -> String {
    let line = |line: &str| {
        let Some((before, work)) = line.split_once(" tokens forwarded") else {
            return line.to_owned();
        };
        let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
        let after = work.split_once(" s").map_or("", |(_, after)| after);
        format!("{before}W{after}")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn refused(session: &Session, text: &str) -> String {
    match session.run(&Script::new("x.sql", text), |_, _| Ok(())) {
        Err(error @ SessionError::Script(_)) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("carried out: {text}"),
    }
}

const LETTERS: &str = "
    CREATE TABLE letters (key TEXT, shop TEXT, text TEXT);
    INSERT INTO letters VALUES ('a', 'north', 'refunds late'), ('b', 'south', 'refunds soon'),
        ('c', 'south', 'praise');
    CREATE VIEW refunds AS
        SELECT key, shop, text FROM letters WHERE sem_filter('Is {text} about refunds ?');
    CREATE VIEW shops AS SELECT shop, count(*) AS n FROM refunds GROUP BY shop;
";

#[test]
fn analysis_of_a_view_tells_what_the_last_change_asked_and_all_that_was() {
    let session = session();
    let first = told(&session, &format!("{LETTERS} EXPLAIN ANALYZE shops;"));
    assert_eq!(first, FIRST);
    let changed =
        "UPDATE letters SET text = 'praise again' WHERE key = 'a'; EXPLAIN ANALYZE shops;";
    assert_eq!(told(&session, changed), CHANGED);
    // What changes elsewhere is asked about by nobody.
    let elsewhere = "UPDATE letters SET shop = 'east' WHERE key = 'b'; EXPLAIN ANALYZE refunds;";
    assert_eq!(told(&session, elsewhere), ELSEWHERE);
    let told = refused(&session, "EXPLAIN ANALYZE letters");
    assert!(
        told.contains("x.sql:1:17: letters is a table, and no view"),
        "{told}"
    );
}

const FIRST: &str = "\
view shops: 2 rows, last at work in epoch 0
result (shop TEXT, n INTEGER)
└ group by shop: count(*) [2 rows]
  └ scan refunds (shop) [2 rows]
view refunds: 2 rows, last at work in epoch 0
result (key TEXT, shop TEXT, text TEXT)
└ project key, shop, text [2 rows]
  └ filter sem_filter [2 rows]
    └ ask sem_filter('Is {text} about refunds ?') AS sem_filter (a pass a row) [3 rows; 3 calls, 0 known; W]
      └ scan letters (key, shop, text) [3 rows]
for epoch 0: 3 calls, 0 known; W
in all: 3 calls, 0 known; W";
const CHANGED: &str = "\
view shops: 1 row, last at work in epoch 1
result (shop TEXT, n INTEGER)
└ group by shop: count(*) [1 row]
  └ scan refunds (shop) [1 row]
view refunds: 1 row, last at work in epoch 1
result (key TEXT, shop TEXT, text TEXT)
└ project key, shop, text [1 row]
  └ filter sem_filter [1 row]
    └ ask sem_filter('Is {text} about refunds ?') AS sem_filter (a pass a row) [3 rows; 1 call, 0 known; W]
      └ scan letters (key, shop, text) [3 rows]
for epoch 1: 1 call, 0 known; W
in all: 4 calls, 0 known; W";
const ELSEWHERE: &str = "\
view refunds: 1 row, last at work in epoch 2
result (key TEXT, shop TEXT, text TEXT)
└ project key, shop, text [1 row]
  └ filter sem_filter [1 row]
    └ ask sem_filter('Is {text} about refunds ?') AS sem_filter (a pass a row) [3 rows; 0 calls, 0 known]
      └ scan letters (key, shop, text) [3 rows]
for epoch 2: 0 calls, 0 known
in all: 4 calls, 0 known; W";

#[test]
fn analysis_of_a_query_carries_it_out_and_knows_what_views_were_told() {
    let session = session();
    let same = format!(
        "{LETTERS} SELECT count(*) FROM shops; \
         EXPLAIN ANALYZE SELECT key FROM letters WHERE sem_filter('Is {{text}} about refunds ?');"
    );
    assert_eq!(told(&session, &same), KNOWN);
    let new =
        "EXPLAIN ANALYZE SELECT key, sem_map('Say {text}', max_tokens => 9) AS m FROM letters;";
    assert_eq!(told(&session, new), NEW);
}

const KNOWN: &str = "\
result (key TEXT)
└ project key [2 rows]
  └ filter sem_filter [2 rows]
    └ ask sem_filter('Is {text} about refunds ?') AS sem_filter (a pass a row) [3 rows; 0 calls, 3 known]
      └ scan letters (key, text) [3 rows]
2 rows: 0 calls, 3 known";
const NEW: &str = "\
result (key TEXT, m TEXT)
└ project key, sem_map [3 rows]
  └ ask sem_map('Say {text}', max_tokens => 9) AS sem_map (a call a row) [3 rows; 3 calls, 0 known; W]
    └ scan letters (key, text) [3 rows]
3 rows: 3 calls, 0 known; W";

const ANSWERS: &str = "
    CREATE TABLE questions (key TEXT, text TEXT);
    INSERT INTO questions VALUES ('q', 'When opens the library');
    CREATE CONTINUOUS VIEW answers AS
        LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes));
";

#[test]
fn why_an_answer_is_as_it_is_names_the_documents_that_changed() {
    let session = session();
    let notes = "
        CREATE TABLE notes (key TEXT, text TEXT);
        INSERT INTO notes VALUES ('hours', 'The library opens at nine.'), ('cards', 'Cards are free.');";
    let first = format!("{notes} {ANSWERS} EXPLAIN WHY answers['q'];");
    assert_eq!(told(&session, &first), WHY_FIRST);
    let changed = "DELETE FROM notes WHERE key = 'cards';
                   UPDATE notes SET text = 'The library opens at ten.' WHERE key = 'hours';
                   EXPLAIN WHY answers['q'];";
    let changed = told(&session, changed);
    assert!(changed.contains("hours changed"), "{changed}");
    assert!(
        changed.contains("\"The library opens at ten.\""),
        "{changed}"
    );
    let analysed = told(&session, "EXPLAIN ANALYZE answers");
    assert!(
        analysed.starts_with("view answers: 1 row, last at work in epoch "),
        "{analysed}"
    );
    assert!(
        analysed.contains("└ LLM_GENERATE [1 call, 0 known"),
        "{analysed}"
    );
    let none = refused(&session, "EXPLAIN WHY answers['z']");
    assert!(
        none.contains("x.sql:1:21: answers has no answer to z"),
        "{none}"
    );
}

const WHY_FIRST: &str = "\
answers['q']
├ so since epoch 0, by regenerate (exact): W
├ 2 of 2 passages read
├ what changed for it
│ └ it was asked for the first time since the program was started
└ \"The library opens at nine.\"
  └ 1.00 passage 0 of hours";

#[test]
fn why_a_row_is_as_it_is_names_what_changed_and_what_it_depends_on() {
    let session = session();
    let changed = format!(
        "{LETTERS} SELECT count(*) FROM shops;
         INSERT INTO letters VALUES ('d', 'south', 'refunds never');
         EXPLAIN WHY shops['south'];"
    );
    assert_eq!(told(&session, &changed), WHY_ROW);
    let none = refused(&session, "EXPLAIN WHY shops['west']");
    assert!(
        none.contains("shops has no row west") && none.contains("told apart by shop"),
        "{none}"
    );
    let none = refused(&session, "EXPLAIN WHY letters['a']");
    assert!(none.contains("letters is a table, and no view"), "{none}");
    // What is forgotten is not named any more.
    let forgotten = told(
        &session,
        "FORGET 'd' FROM letters; EXPLAIN WHY shops['south'];",
    );
    assert!(!forgotten.contains("['d']"), "{forgotten}");
}

const WHY_ROW: &str = "\
shops['south']
├ so since epoch 1
│ ├ was n = 1
│ ├ is n = 2
│ └ what changed for it
│   └ letters['d'] came
└ depends on
  ├ refunds['b']
  └ refunds['d']";

#[test]
fn lineage_goes_through_views_over_views_down_to_bytes_of_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let notes = dir.path().join("notes");
    fs::create_dir(&notes).expect("writable");
    let text = "# Hours\n\nThe library opens at nine.\n";
    fs::write(notes.join("hours.md"), text).expect("writable");
    let lines = dir.path().join("letters.jsonl");
    let first = "{\"key\": \"a\", \"text\": \"refunds late\"}\n";
    let second = "{\"key\": \"b\", \"text\": \"refunds soon\"}\n";
    fs::write(&lines, format!("{first}{second}")).expect("writable");
    let session = session();
    let script = format!(
        "CREATE SOURCE notes FROM FOLDER '{}';
         CREATE SOURCE letters FROM FILE '{}';
         {ANSWERS}
         CREATE VIEW refunds AS SELECT key, text FROM letters WHERE sem_filter('Is {{text}} about refunds ?');
         CREATE VIEW all_of_them AS SELECT count(*) AS n FROM refunds;
         LINEAGE OF all_of_them[''];",
        notes.display(),
        lines.display()
    );
    let placed = |text: &str| text.replace(&dir.path().display().to_string(), "DIR");
    assert_eq!(placed(&told(&session, &script)), LINEAGE_OF_ROW);
    let of_answer = placed(&told(&session, "LINEAGE OF answers['q']"));
    // The passage is the whole text without its last line break.
    let n = text.len() - 1;
    assert!(
        of_answer.contains(&format!("DIR/notes/hours.md, bytes 0 to {n}")),
        "{of_answer}"
    );
    assert!(
        of_answer.contains("questions['q']: given by hand"),
        "{of_answer}"
    );
    let none = refused(&session, "LINEAGE OF refunds['z']");
    assert!(none.contains("refunds has no row z"), "{none}");
    let none = refused(&session, "LINEAGE OF nothing['z']");
    assert!(none.contains("there is no relation nothing"), "{none}");
}

const LINEAGE_OF_ROW: &str = "\
all_of_them['']
├ refunds['a']
│ ├ sem_filter('Is {text} about refunds ?') of \"refunds late\" said \"true\"
│ └ letters['a']: DIR/letters.jsonl, line 1, bytes 0 to 36
└ refunds['b']
  ├ sem_filter('Is {text} about refunds ?') of \"refunds soon\" said \"true\"
  └ letters['b']: DIR/letters.jsonl, line 2, bytes 37 to 73";

#[test]
fn a_plan_and_what_it_would_cost_are_told() {
    let session = session();
    let plan = format!("{LETTERS} EXPLAIN SELECT * FROM refunds WHERE shop = 'south';");
    assert_eq!(told(&session, &plan), PLAN);
    let cost = "SELECT count(*) FROM shops;
        EXPLAIN COST SELECT key FROM letters
        WHERE sem_filter('Is {text} about refunds ?') AND sem_filter('Is {text} short?');";
    let cost = told(&session, cost);
    let of_filter =
        "sem_filter('Is {text} about refunds ?'): 3 rows, 3 calls: 3 known, 0 to be made";
    assert!(cost.contains(of_filter), "{cost}");
    assert!(
        cost.contains("sem_filter('Is {text} short?'): 2 rows, 2 calls: 0 known, 2 to be made"),
        "{cost}"
    );
}

const PLAN: &str = "\
result (key TEXT, shop TEXT, text TEXT)
└ filter shop = 'south'
  └ scan refunds (key, shop, text)";
