//! Rows of queries as they are delivered: applied in order they are what the view says, whatever
//! ends the engine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::connectors::{
    Delivery, Error as ConnectorError, Output, OutputTuple, Sink, StopFlag,
};
use perennial::rows::json::object;
use perennial::sql::{Script, Session};
use perennial::{Engine, Runtime, fault};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::killed;

/// Longer than any delivery takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// A session whose engine begins once all of a script is declared.
fn session(state: Option<&Path>) -> Session {
    let (model, embedder) = (Scripted::new(), ScriptedEmbedder::default());
    let mut builder = Engine::builder(Runtime::scripted(Arc::new(model), Arc::new(embedder)));
    if let Some(state) = state {
        builder = builder.state(state);
    }
    let engine = builder.held().start().expect("starts");
    Session::new(engine, "scripted").held()
}

fn run(session: &mut Session, script: &str) {
    let ran = session.run(&Script::new("x.sql", script), |_, _| Ok(()));
    ran.unwrap_or_else(|error| panic!("{error}\n{script}"));
}

/// Rows with how often each stands.
type Bag = BTreeMap<String, u64>;

/// What a view says, once all that was said before is in it.
fn says(session: &Session, view: &str) -> Bag {
    session.engine().flush().expect("runs");
    let snapshot = session.engine().snapshot(view).expect("a view");
    let columns = snapshot.schema.columns();
    let mut bag = Bag::new();
    for (tuple, count) in &snapshot.rows {
        let names = columns.iter().map(|column| &*column.name);
        // Rows that look alike in JSON count together.
        let row = object(names.zip(&**tuple)).to_string();
        *bag.entry(row).or_default() += count.unsigned_abs() as u64;
    }
    bag
}

/// The lines of a sink's file, of each epoch apart, and what they leave behind by key.
#[derive(Default)]
struct Delivered {
    epochs: Vec<Vec<Value>>,
    /// How many histories of epochs follow one another.
    n_origins: usize,
    stands: BTreeMap<String, (String, u64)>,
}

impl Delivered {
    /// Reads a file. Panics unless the epochs of each history rise, and each is whole, with its rows by key.
    fn of(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("readable");
        let (mut delivered, mut of_epoch) = (Self::default(), Vec::new());
        let mut last = None;
        for line in text.lines().skip(1) {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let Some(end) = line.get("end_of") else {
                of_epoch.push(line);
                continue;
            };
            let (epoch, origin) = (end["epoch"].as_u64(), end["origin"].clone());
            match &last {
                Some((of, last)) if *of == origin => {
                    assert!(epoch > *last, "{epoch:?} after {last:?}");
                }
                _ => delivered.n_origins += 1,
            }
            last = Some((origin, epoch));
            assert_eq!(end["rows"], of_epoch.len());
            let keys = of_epoch.iter().map(|row: &Value| row["key"].as_str());
            assert!(keys.is_sorted_by(|a, b| a < b), "{of_epoch:?}");
            of_epoch.iter().for_each(|row| delivered.apply(row));
            delivered.epochs.push(std::mem::take(&mut of_epoch));
        }
        assert!(of_epoch.is_empty(), "the last epoch is whole");
        delivered
    }

    fn apply(&mut self, row: &Value) {
        let key = row["key"].as_str().expect("a text").to_owned();
        if row.get("gone").is_some() {
            // Of what came and went while a sink was away, the last is told.
            self.stands.remove(&key);
            return;
        }
        let count = row
            .get("count")
            .map_or(1, |n| n.as_u64().expect("a number"));
        self.stands.insert(key, (row["row"].to_string(), count));
    }

    fn bag(&self) -> Bag {
        let mut bag = Bag::new();
        for (row, count) in self.stands.values() {
            *bag.entry(row.clone()).or_default() += count;
        }
        bag
    }
}

/// Views of every kind of key: with their queries.
const VIEWS: [(&str, &str); 7] = [
    ("plain", "SELECT key, n FROM t WHERE n > 1"),
    ("bag", "SELECT grp FROM t"),
    ("pairs", "SELECT grp, n FROM t"),
    (
        "totals",
        "SELECT grp, sum(n) AS n, avg(n) AS mean FROM t GROUP BY grp",
    ),
    ("one", "SELECT count(*) AS n, max(key) AS key FROM t"),
    (
        "joined",
        "SELECT a.key, b.key AS other FROM t a JOIN t b ON a.grp = b.grp",
    ),
    ("above", "SELECT n, count(*) AS many FROM totals GROUP BY n"),
];

fn declared(dir: &Path, without: &[usize]) -> String {
    let mut script = "CREATE TABLE t (key TEXT, grp TEXT, n INTEGER);".to_owned();
    for (name, query) in VIEWS {
        script += &format!("CREATE VIEW {name} AS {query};");
    }
    for (at, (name, _)) in VIEWS.iter().enumerate() {
        if !without.contains(&at) {
            let path = dir.join(name).display().to_string();
            script += &format!("CREATE SINK to_{name} FROM {name} INTO '{path}';");
        }
    }
    script
}

/// What happens to the table.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8, Option<u8>),
    Delete(u8),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0u8..6, 0u8..4, prop::option::weighted(0.8, 0u8..4))
            .prop_map(|(key, grp, n)| Step::Set(key, grp, n)),
        3 => (0u8..6).prop_map(Step::Delete),
        2 => Just(Step::Flush),
    ]
}

fn take(session: &mut Session, step: &Step) {
    match step {
        Step::Set(key, grp, n) => {
            // One group is NULL, another looks as its key does.
            let grp = ["NULL", "'[null]'", "'a'", "'b'"][usize::from(*grp)];
            let n = n.map_or("NULL".to_owned(), |n| n.to_string());
            run(
                session,
                &format!("INSERT INTO t VALUES ('k{key}', {grp}, {n})"),
            );
        }
        Step::Delete(key) => run(session, &format!("DELETE FROM t WHERE key = 'k{key}'")),
        Step::Flush => {
            session.engine().flush().expect("runs");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// However often the engine is started anew, with sinks left out for a while and files that are
    /// removed: each file's upserts applied in order give what its view says.
    #[test]
    fn upserts_in_order_are_the_view_through_any_restarts(
        parts in prop::collection::vec(
            (
                prop::collection::vec(step(), 0..8),
                prop::collection::vec(0..VIEWS.len(), 0..3),
                prop::option::weighted(0.2, 0..VIEWS.len()),
            ),
            1..5,
        ),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path().join("state");
        let last = parts.len() - 1;
        for (at, (steps, without, removed)) in parts.iter().enumerate() {
            if let Some(removed) = removed {
                let _ = fs::remove_file(dir.path().join(VIEWS[*removed].0));
            }
            // In the end all are there.
            let without = if at == last { &[][..] } else { without };
            let mut session = session(Some(&state));
            run(&mut session, &declared(dir.path(), without));
            for step in steps {
                take(&mut session, step);
            }
            let said: Vec<Bag> = VIEWS.iter().map(|(view, _)| says(&session, view)).collect();
            drop(session);
            for (i, (view, _)) in VIEWS.iter().enumerate() {
                if !without.contains(&i) {
                    let delivered = Delivered::of(&dir.path().join(view));
                    prop_assert!(delivered.n_origins <= 1);
                    prop_assert_eq!(delivered.bag(), said[i].clone(), "{}", view);
                }
            }
        }
        // Where nothing changes, nothing is delivered.
        let files = || -> Vec<Vec<u8>> {
            let files = VIEWS.iter().map(|(view, _)| fs::read(dir.path().join(view)));
            files.map(|file| file.expect("there")).collect()
        };
        let before = files();
        let mut again = session(Some(&state));
        run(&mut again, &declared(dir.path(), &[]));
        again.engine().flush().expect("runs");
        drop(again);
        prop_assert!(files() == before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whatever became of the table after a backup: the files of a state that is restored from it hold
    /// what its views say, and nothing that was said between.
    #[test]
    fn restored_upserts_are_the_view_and_nothing_of_what_was_lost(
        before in prop::collection::vec(step(), 0..8),
        lost in prop::collection::vec(step(), 0..8),
        after in prop::collection::vec(step(), 0..5),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path().join("state");
        let mut first = session(Some(&state));
        run(&mut first, &declared(dir.path(), &[]));
        // An epoch there is.
        run(&mut first, "INSERT INTO t VALUES ('first', 'a', 1)");
        before.iter().for_each(|step| take(&mut first, step));
        first.engine().flush().expect("runs");
        let file = dir.path().join("a.backup");
        let out = fs::File::create(&file).expect("writable");
        first.engine().backup(out).expect("backed up");
        lost.iter().for_each(|step| take(&mut first, step));
        first.engine().flush().expect("runs");
        drop(first);

        let restored = dir.path().join("restored");
        perennial::state::restore(&file, &restored, |_, _| {}).expect("restores");
        let mut second = session(Some(&restored));
        run(&mut second, &declared(dir.path(), &[]));
        after.iter().for_each(|step| take(&mut second, step));
        let said: Vec<Bag> = VIEWS.iter().map(|(view, _)| says(&second, view)).collect();
        drop(second);
        for ((view, _), said) in VIEWS.iter().zip(said) {
            let delivered = Delivered::of(&dir.path().join(view));
            prop_assert_eq!(delivered.bag(), said, "{}", view);
        }
    }
}

/// A sink that says what it gets, while it is told that it may.
struct Told {
    name: &'static str,
    got: Sender<Delivery>,
    may: Receiver<()>,
}

impl Sink for Told {
    fn name(&self) -> &str {
        self.name
    }

    fn deliver(&mut self, delivery: &Delivery, stop: &StopFlag) -> Result<(), ConnectorError> {
        // Once hung up, it always may.
        while self.may.recv_timeout(Duration::from_millis(10))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            if stop.raised() {
                return Err(ConnectorError::Kafka {
                    reason: "stopped".to_owned(),
                });
            }
        }
        self.got.send(delivery.clone()).expect("the test listens");
        Ok(())
    }
}

fn told(name: &'static str) -> (Told, Receiver<Delivery>, Sender<()>) {
    let ((got, gets), (allow, may)) = (channel(), channel());
    (Told { name, got, may }, gets, allow)
}

/// Keys, with the values that stand there and how often.
fn upserts(delivery: &Delivery) -> Vec<(String, Option<(String, u64)>)> {
    let values = |tuple: &OutputTuple| {
        let values: Vec<String> = tuple.values.iter().map(ToString::to_string).collect();
        (values.join("|"), tuple.count)
    };
    let row = |row: &perennial::connectors::OutputRow| match &row.output {
        Some(Output::Tuple(tuple)) => (row.key.clone(), Some(values(tuple))),
        Some(Output::Answer(answer)) => panic!("an answer: {answer:?}"),
        None => (row.key.clone(), None),
    };
    delivery.rows.iter().map(row).collect()
}

fn stands(key: &str, values: &str, count: u64) -> (String, Option<(String, u64)>) {
    (key.to_owned(), Some((values.to_owned(), count)))
}

fn gone(key: &str) -> (String, Option<(String, u64)>) {
    (key.to_owned(), None)
}

const TOWNS: &str = "
    CREATE TABLE towns (key TEXT, country TEXT, people INTEGER);
    CREATE VIEW large AS SELECT people, key FROM towns WHERE people > 100;
    CREATE VIEW countries AS SELECT country FROM towns;
    CREATE VIEW totals AS SELECT country, sum(people) AS people FROM towns GROUP BY country;
    INSERT INTO towns VALUES ('bergen', 'no', 290), ('oslo', 'no', 710), ('turku', 'fi', 200),
        ('nowhere', NULL, 1);";

/// A session over towns, and a sink of one of its views.
fn towns(view: &str) -> (Session, Receiver<Delivery>) {
    let mut session = session(None);
    run(&mut session, TOWNS);
    let (sink, gets, _) = told("told");
    session.engine().create_sink(view, sink).expect("a view");
    (session, gets)
}

fn next(gets: &Receiver<Delivery>) -> Vec<(String, Option<(String, u64)>)> {
    upserts(&gets.recv_timeout(DEADLINE).expect("a delivery"))
}

#[test]
fn a_row_that_changes_under_its_key_is_one_upsert() {
    let (mut session, gets) = towns("large");
    let expected = [
        stands("bergen", "290|bergen", 1),
        stands("oslo", "710|oslo", 1),
        stands("turku", "200|turku", 1),
    ];
    assert_eq!(next(&gets), expected);
    run(
        &mut session,
        "UPDATE towns SET people = people - 150 WHERE country IS NOT NULL",
    );
    let expected = [
        stands("bergen", "140|bergen", 1),
        stands("oslo", "560|oslo", 1),
        gone("turku"),
    ];
    assert_eq!(next(&gets), expected);
    // What the view does not say is not delivered.
    run(&mut session, "UPDATE towns SET country = 'x'");
    session.engine().flush().expect("runs");
    drop(session);
    assert_eq!(gets.iter().count(), 0);
}

#[test]
fn rows_that_nothing_tells_apart_are_counted() {
    let (mut session, gets) = towns("countries");
    let expected = [
        stands("[null]", "NULL", 1),
        stands("fi", "fi", 1),
        stands("no", "no", 2),
    ];
    assert_eq!(next(&gets), expected);
    run(&mut session, "DELETE FROM towns WHERE people = 710");
    assert_eq!(next(&gets), [stands("no", "no", 1)]);
    run(
        &mut session,
        "UPDATE towns SET country = '[null]' WHERE country IS NULL",
    );
    assert_eq!(
        next(&gets),
        [stands(r#"["[null]"]"#, "[null]", 1), gone("[null]")]
    );
}

#[test]
fn a_sink_of_a_view_that_has_not_begun_gets_all_with_its_first_epoch() {
    let mut session = session(None);
    run(
        &mut session,
        "CREATE TABLE t (key TEXT, n INTEGER); SHOW TABLES;",
    );
    run(
        &mut session,
        "CREATE VIEW one AS SELECT count(*) AS n FROM t;",
    );
    let (sink, gets, _) = told("told");
    session.engine().create_sink("one", sink).expect("a view");
    // Of no rows a query may say something, too.
    assert_eq!(next(&gets), [stands("[]", "0", 1)]);
    run(&mut session, "INSERT INTO t VALUES ('a', 1)");
    assert_eq!(next(&gets), [stands("[]", "1", 1)]);
}

#[test]
fn a_second_sink_into_one_place_is_refused_and_says_which_two() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rows.jsonl");
    for place in ["http://127.0.0.1:9/rows", file.to_str().expect("a text")] {
        let mut session = session(None);
        run(
            &mut session,
            &format!(
                "CREATE TABLE t (key TEXT, n INTEGER);
                 CREATE VIEW one AS SELECT key FROM t;
                 CREATE VIEW two AS SELECT n FROM t;
                 CREATE SINK first FROM one INTO '{place}';"
            ),
        );
        // The same file by another path.
        let again = place.replace("/rows.jsonl", "/./rows.jsonl");
        let second = format!("CREATE SINK second FROM two INTO '{again}';");
        let refused = session.run(&Script::new("x.sql", &*second), |_, _| Ok(()));
        let said = refused.expect_err("two in one").to_string();
        for told in ["first", "one", "two", "DROP SINK first", "x.sql:1:"] {
            assert!(said.contains(told), "{told}: {said}");
        }
        run(&mut session, &format!("DROP SINK first; {second}"));
    }
    // Sinks of an engine have no names but their places.
    let (session, _gets) = towns("totals");
    let (second, _, _) = told("told");
    let created = session.engine().create_sink("countries", second);
    let said = created.expect_err("two in one").to_string();
    assert!(
        said.contains("`countries` cannot") && said.contains("`totals` is delivered there already"),
        "{said}"
    );
}

#[test]
fn what_went_while_the_program_was_not_there_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, notes) = (dir.path().join("state"), dir.path().join("notes"));
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(&notes).expect("writable");
    let write = |name: &str, text: &str| fs::write(notes.join(name), text).expect("writable");
    write("a.md", "one");
    write("b.md", "two");
    write("c.md", "two");
    let script = format!(
        "CREATE SOURCE notes FROM FOLDER '{}' WITH (BELIEVE_EMPTY);
         CREATE VIEW texts AS SELECT key, text FROM notes;
         CREATE VIEW words AS SELECT text FROM notes;
         CREATE SINK texts FROM texts INTO '{}';
         CREATE SINK words FROM words INTO '{}';",
        notes.display(),
        path("texts.jsonl").display(),
        path("words.jsonl").display(),
    );
    let go = || {
        let mut session = session(Some(&state)).once();
        run(&mut session, &script);
        let said = ["texts", "words"].map(|view| says(&session, view));
        drop(session);
        let delivered = ["texts.jsonl", "words.jsonl"].map(|name| Delivered::of(&path(name)));
        for (delivered, said) in delivered.iter().zip(said) {
            assert_eq!(delivered.bag(), said);
        }
        delivered.map(|delivered| delivered.epochs)
    };
    let first = go();
    assert_eq!(first.each_ref().map(Vec::len), [1, 1]);
    // Nothing happened meanwhile.
    assert_eq!(go(), first);
    fs::remove_file(notes.join("b.md")).expect("there");
    write("a.md", "three");
    let [texts, words] = go().map(|epochs| {
        assert_eq!(epochs.len(), 2);
        epochs[1].clone()
    });
    let brief = |rows: &[Value]| -> Vec<Value> {
        let rows = rows.iter();
        rows.map(|row| json!([row["key"], row["row"], row.get("count")]))
            .collect()
    };
    assert_eq!(
        brief(&texts),
        [
            json!(["a.md", {"key": "a.md", "text": "three"}, null]),
            json!(["b.md", null, null]),
        ]
    );
    assert_eq!(
        brief(&words),
        [
            json!(["one", null, null]),
            json!(["three", {"text": "three"}, null]),
            json!(["two", {"text": "two"}, null]),
        ]
    );
    // The last of them goes, too: there is no row to begin with.
    fs::remove_dir_all(&notes).expect("there");
    fs::create_dir(&notes).expect("writable");
    let all = go();
    assert!(all.iter().all(|epochs| epochs.len() == 3));
}

/// It is named again when the next engine starts, or while one runs that began without it.
#[test]
fn a_sink_that_is_away_is_owed_the_last_of_each_key() {
    [false, true].into_iter().for_each(a_sink_that_comes_back);
}

fn a_sink_that_comes_back(while_it_runs: bool) {
    let dir = tempfile::tempdir().expect("a folder");
    let declare = |sink: Told| {
        let session = session(Some(dir.path()));
        let script = "CREATE TABLE t (key TEXT, n INTEGER); CREATE VIEW v AS SELECT * FROM t;";
        for statement in perennial::sql::parse(&Script::new("x.sql", script)).expect("sound") {
            let script = Script::new("x.sql", script);
            session.execute(&script, &statement).expect("carried out");
        }
        session.engine().create_sink("v", sink).expect("a view");
        session.release().expect("runs");
        session
    };
    let (sink, gets, _) = told("told");
    let mut first = declare(sink);
    run(&mut first, "INSERT INTO t VALUES ('a', 1), ('b', 1)");
    assert_eq!(next(&gets).len(), 2);
    drop(first);
    let (other, others, _) = told("other");
    let mut without = declare(other);
    assert_eq!(
        next(&others).len(),
        2,
        "it is new, and gets all that stands"
    );
    for n in [2, 3] {
        run(
            &mut without,
            &format!("UPDATE t SET n = {n} WHERE key = 'a'"),
        );
        without.engine().flush().expect("runs");
    }
    run(&mut without, "DELETE FROM t WHERE key = 'b'");
    without.engine().flush().expect("runs");
    let (sink, gets, _) = told("told");
    if while_it_runs {
        without.engine().create_sink("v", sink).expect("a view");
        drop(without);
    } else {
        drop(without);
        drop(declare(sink));
    }
    let all: Vec<_> = gets.iter().map(|delivery| upserts(&delivery)).collect();
    assert_eq!(all, [vec![stands("a", "a|3", 1), gone("b")]]);
}

#[test]
fn a_view_that_is_declared_otherwise_takes_back_what_it_does_not_say() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, path) = (dir.path().join("state"), dir.path().join("out.jsonl"));
    let with = |view: &str, edit: &str| {
        let mut session = session(Some(&state));
        let script = format!(
            "CREATE TABLE docs (key TEXT, text TEXT); CREATE TABLE questions (key TEXT, text TEXT);
             {view}; CREATE SINK out FROM v INTO '{}'; {edit}",
            path.display()
        );
        run(&mut session, &script);
        session.engine().flush().expect("runs");
        drop(session);
        let text = fs::read_to_string(&path).expect("readable");
        let mut keys = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let Some(key) = line["key"].as_str() else {
                continue;
            };
            match line.get("gone") {
                Some(_) => keys.remove(key),
                None => keys.insert(key.to_owned(), line.get("row").is_some()),
            };
        }
        keys.into_iter().collect::<Vec<(String, bool)>>()
    };
    let is = |keys: &[&str], are_rows| -> Vec<(String, bool)> {
        keys.iter()
            .map(|key| ((*key).to_owned(), are_rows))
            .collect()
    };
    let edit = "INSERT INTO docs VALUES ('a', 'alpha is here.'), ('b', 'beta is here.');
                INSERT INTO questions VALUES ('a', 'alpha'), ('q', 'beta');";
    let rows = "CREATE VIEW v AS SELECT key, text FROM docs";
    assert_eq!(with(rows, edit), is(&["a", "b"], true));
    let by_text = "CREATE VIEW v AS SELECT text FROM docs";
    assert_eq!(
        with(by_text, ""),
        is(&["alpha is here.", "beta is here."], true)
    );
    let answers = "CREATE CONTINUOUS VIEW v AS LLM_GENERATE(
        CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs))";
    assert_eq!(with(answers, ""), is(&["a", "q"], false));
    assert_eq!(with(rows, ""), is(&["a", "b"], true));
}

/// What the child does, one after the other; a step that is taken twice does no more.
const SCRIPT: [&str; 5] = [
    "INSERT INTO t VALUES ('k1', 'a', 2), ('k2', 'a', 3), ('k3', 'b', 2)",
    "UPDATE t SET n = 7 WHERE grp = 'a'",
    "DELETE FROM t WHERE key = 'k3'",
    "INSERT INTO t VALUES ('k4', NULL, 9), ('k5', NULL, 9); DELETE FROM t WHERE key = 'k1'",
    "UPDATE t SET grp = 'c'",
];

/// Goes through the script from where it was left, in a process that may be killed.
#[test]
#[ignore = "runs in a process of its own"]
fn child_of_the_fault_test() {
    let Some(dir) = killed::begin() else { return };
    let dir = &*dir;
    let mut session = session(Some(&dir.join("state")));
    run(&mut session, &declared(dir, &[]));
    let done = killed::n_done(dir);
    for (at, step) in SCRIPT.iter().enumerate().skip(done) {
        run(&mut session, step);
        session.engine().flush().expect("runs");
        killed::note_done(dir, at + 1);
    }
}

fn child(dir: &Path, point: Option<&str>) -> bool {
    killed::run("query_sinks::child_of_the_fault_test", dir, point).success()
}

#[test]
fn killed_at_any_fault_point_the_upserts_are_the_view() {
    let undisturbed = tempfile::tempdir().expect("a folder");
    assert!(child(undisturbed.path(), None));
    let bags = |dir: &Path| -> Vec<Bag> {
        let files = VIEWS.iter().map(|(view, _)| Delivered::of(&dir.join(view)));
        files.map(|delivered| delivered.bag()).collect()
    };
    let expected = bags(undisturbed.path());
    let of_sinks = ["commit.", "deliver.", "sink-file."];
    let points = fault::all().map(|point| point.name());
    let points = points.filter(|name| of_sinks.iter().any(|of| name.starts_with(of)));
    let runs: Vec<String> = points
        .flat_map(|name| [1, 2, 5, 9].map(|nth| format!("{name}:{nth}")))
        .collect();
    let n_runs = runs.len();
    let (runs, n_killed) = (Mutex::new(runs), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = runs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(point) = next else { return };
                    let dir = tempfile::tempdir().expect("a folder");
                    if !child(dir.path(), Some(&point)) {
                        *n_killed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                        assert!(child(dir.path(), None), "{point}");
                    }
                    assert_eq!(bags(dir.path()), expected, "{point}");
                }
            });
        }
    });
    let n_killed = n_killed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    assert!(
        n_killed * 4 > n_runs * 3,
        "{n_killed} of {n_runs} were killed"
    );
}
