//! Many views: each at its own pace, one over another, created and dropped while others run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perennial::ask::scripted::{SLOW_WORD, Scripted};
use perennial::engine::{Edit, RelationKind};
use perennial::rows::{Column, Schema, Tuple, Type, Value};
use perennial::views::query::builder;
use perennial::{Engine, Error, Update, View};
use proptest::prelude::*;

use crate::rig::{Rig, view};

/// A view of this name over these two.
fn over(name: &str, contexts: &str, documents: &str) -> View {
    View::named(name)
        .prompt("Answer.")
        .answer_without_documents(true)
        .context(contexts)
        .data_source(documents)
        .token_budget(2000)
        .max_tokens(200)
}

fn rig(model: Scripted, views: impl IntoIterator<Item = View>, n_workers: usize) -> Rig {
    Rig::start(model, |builder| {
        let tables = builder.table("docs").table("questions").table("others");
        let views = views.into_iter();
        views
            .fold(tables, |builder, view| builder.view(view))
            .workers(n_workers)
    })
}

/// The texts of a view's answers, by context.
fn texts(engine: &Engine, view: &str) -> BTreeMap<String, String> {
    let answers = engine.answers(view).expect("runs").into_iter();
    let text = |answer: perennial::engine::CurrentAnswer| match answer.answer {
        Ok(answer) => answer.text.to_string(),
        Err(error) => format!("error: {error}"),
    };
    answers
        .map(|(key, answer)| (key.to_string(), text(answer)))
        .collect()
}

#[test]
fn a_view_over_a_view_reflects_one_epoch_of_both() {
    let views = [
        over("first", "questions", "docs"),
        over("second", "others", "first"),
    ];
    let rig = rig(Scripted::new(), views, 2);
    let engine = &rig.engine;
    engine
        .upsert("docs", "hours", "The library opens at nine.")
        .expect("runs");
    engine.upsert("questions", "q", "library").expect("runs");
    engine.upsert("others", "o", "nine.").expect("runs");
    engine.flush().expect("runs");
    assert_eq!(texts(engine, "second")["o"], "The library opens at nine.");
    let updates = engine.subscribe("second").expect("known");
    for hour in ["ten", "eleven", "twelve"] {
        // Both edits are of one epoch: no answer sees one without the other.
        engine
            .apply(vec![
                Edit::upsert("docs", "hours", format!("The library opens at {hour}.")),
                Edit::upsert("others", "o", format!("{hour}.")),
            ])
            .expect("runs");
        engine.flush().expect("runs");
    }
    let said: Vec<String> = std::iter::from_fn(|| updates.try_recv())
        .filter_map(|update| match update {
            Update::Answer(answer) => answer.new_text().map(str::to_owned),
            _ => None,
        })
        .collect();
    let of = |hour: &str| format!("The library opens at {hour}.");
    assert_eq!(said, [of("nine"), of("ten"), of("eleven"), of("twelve")]);
    // An early end: what the first says again moves nothing.
    let n_calls = rig.model.n_calls();
    engine
        .upsert("docs", "pets", "No pets are allowed.")
        .expect("runs");
    engine.flush().expect("runs");
    assert_eq!(rig.model.n_calls(), n_calls + 1);
}

#[test]
fn a_slow_view_keeps_no_other_waiting() {
    let is_held = Arc::new(AtomicBool::new(true));
    let model = Scripted::new().held_while(is_held.clone());
    let views = [
        over("slow", "questions", "docs"),
        over("fast", "others", "docs"),
    ];
    let rig = rig(model, views, 1);
    // Dropped before the engine, which waits for its calls.
    let release = Release(is_held);
    let engine = &rig.engine;
    let updates = engine.subscribe("fast").expect("known");
    let mut answers = updates.answers();
    let edits = vec![
        Edit::upsert("docs", "d", "This is version 0."),
        Edit::upsert("questions", "q", format!("version {SLOW_WORD}")),
        Edit::upsert("others", "o", "version"),
    ];
    engine.apply(edits).expect("runs");
    let of = |i: i32| format!("This is version {i}.");
    assert_eq!(answers.next().and_then(|a| a.new), answers_of(&of(0)));
    // Each is answered while the slow view is still at its first.
    for i in 1..=5 {
        engine.upsert("docs", "d", &of(i)).expect("runs");
        assert_eq!(answers.next().and_then(|a| a.new), answers_of(&of(i)));
        assert!(texts(engine, "slow").is_empty());
    }
    // Who waits for one view, or for the rows of a table, does not wait for the slow one.
    engine.upsert("questions", "r", "version").expect("runs");
    engine.upsert("others", "p", "is").expect("runs");
    engine.flush_into(&["questions", "fast"]).expect("runs");
    assert_eq!(engine.snapshot("questions").expect("known").rows.len(), 2);
    assert_eq!(texts(engine, "fast")["p"], of(5));
    assert!(texts(engine, "slow").is_empty());
    drop(release);
    engine.flush().expect("runs");
    // One call for what stood first, and one for all that came meanwhile.
    assert_eq!(texts(engine, "slow")["q"], of(5));
    let (of_fast, of_late_question) = (7, 1);
    assert_eq!(rig.model.n_calls(), of_fast + 2 + of_late_question);
}

/// Lets held calls go on.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn answers_of(text: &str) -> Option<perennial::ask::Answer> {
    Some(Ok(perennial::ask::AnswerText {
        text: text.into(),
        finish: perennial::ask::Finish::Stop,
    }))
}

#[test]
fn streams_and_views_come_and_go_while_others_run() {
    let rig = rig(Scripted::new(), [view(2000)], 2);
    let engine = rig.engine.clone();
    engine
        .upsert("docs", "hours", "The library opens at nine.")
        .expect("runs");
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
    engine.create_table("late").expect("new");
    engine
        .create_view(over("later", "late", "docs"))
        .expect("new");
    engine.upsert("late", "l", "nine.").expect("runs");
    engine.flush().expect("runs");
    assert_eq!(texts(&engine, "later")["l"], "The library opens at nine.");
    // It begins with what stands, though nothing changes.
    engine
        .create_view(over("last", "questions", "docs"))
        .expect("new");
    engine.flush().expect("runs");
    assert_eq!(texts(&engine, "last")["q"], "The library opens at nine.");

    let says = |result: Result<(), Error>| result.expect_err("refused").to_string();
    assert!(says(engine.create_table("late")).contains("`late` is declared twice"));
    assert!(says(engine.create_view(over("answers", "late", "docs"))).contains("twice"));
    assert!(says(engine.create_view(over("v", "late", "nowhere"))).contains("`nowhere`"));
    let in_use = says(engine.drop_relation("docs"));
    assert!(in_use.contains("answers, later, last"), "{in_use}");
    assert!(says(engine.drop_relation("nothing")).contains("`nothing`"));

    let updates = engine.subscribe("later").expect("known");
    engine.drop_relation("later").expect("there");
    assert!(updates.iter().last().is_some(), "its subscription ends");
    assert!(matches!(
        engine.answers("later"),
        Err(Error::UnknownView { .. })
    ));
    engine.drop_relation("late").expect("no longer read");
    assert!(matches!(
        engine.upsert("late", "k", "t"),
        Err(Error::UnknownStream { .. })
    ));
    // Its name is free.
    engine.create_table("late").expect("new");
    engine
        .upsert("docs", "hours", "The library opens at ten.")
        .expect("runs");
    engine.flush().expect("runs");
    assert_eq!(texts(&engine, "answers")["q"], "The library opens at ten.");
}

#[test]
fn a_context_sees_the_documents_of_its_own_group() {
    let view = view(2000).matching(["tenant"]);
    let rig = rig(Scripted::new(), [view], 3);
    let engine = &rig.engine;
    let of = |table: &str, key: &str, text: &str, tenant: &str| {
        Edit::upsert(table, key, text.to_owned()).with("tenant", tenant)
    };
    let edits = vec![
        of("docs", "a", "The code is 1.", "red"),
        of("docs", "b", "The code is 2.", "blue"),
        Edit::upsert("docs", "c", "The code is 3."),
        of("questions", "red", "code", "red"),
        of("questions", "blue", "code", "blue"),
        of("questions", "green", "code", "green"),
        Edit::upsert("questions", "none", "code"),
    ];
    engine.apply(edits).expect("runs");
    engine.flush().expect("runs");
    let answers = texts(engine, "answers");
    assert_eq!(answers["red"], "The code is 1.");
    assert_eq!(answers["blue"], "The code is 2.");
    assert_eq!(answers["green"], "Nothing is known of code.");
    assert_eq!(answers["none"], "Nothing is known of code.");
    // A document moves to another group; nobody else is asked.
    let n_calls = rig.model.n_calls();
    engine
        .apply(vec![of("docs", "b", "The code is 2.", "green")])
        .expect("runs");
    engine.flush().expect("runs");
    assert_eq!(texts(engine, "answers")["green"], "The code is 2.");
    assert_eq!(
        texts(engine, "answers")["blue"],
        "Nothing is known of code."
    );
    assert_eq!(rig.model.n_calls(), n_calls + 2);
}

#[test]
fn a_query_is_declared_beside_what_reads_it() {
    use builder::{col, count_all, lit, scan};
    let columns = ["key", "text", "state"].map(|name| Column::new(name, Type::Text));
    let builder = Rig::builder(Scripted::new())
        .table_of("tickets", Schema::new(columns))
        .table("questions");
    let misspelt = scan("tickets").filter(col("stat").eq(lit("open")));
    let misspelt = misspelt.bind(&builder).expect_err("no such column");
    assert!(misspelt.to_string().contains("stat"), "{misspelt}");
    let open = scan("tickets").filter(col("state").eq(lit("open")));
    let builder = {
        let bound = open.clone().bind(&builder).expect("sound");
        builder.query("open", bound)
    };
    let number = scan("open").project([count_all().named("n")]);
    let bound = number.bind(&builder).expect("sound");
    let engine = builder.query("number", bound);
    let engine = engine.view(over("answers", "questions", "open"));
    let engine = engine.start().expect("starts");
    let ticket = |key: &str, text: &str, state: &str| {
        Edit::upsert("tickets", key, text.to_owned()).with("state", state)
    };
    engine
        .apply(vec![
            ticket("1", "The pump leaks.", "open"),
            ticket("2", "The pump squeaks.", "closed"),
            Edit::upsert("questions", "q", "pump"),
        ])
        .expect("runs");
    engine.flush().expect("runs");
    assert_eq!(texts(&engine, "answers")["q"], "The pump leaks.");
    let number = engine.snapshot("number").expect("there").rows;
    assert_eq!(number, [([Value::Integer(1)].into(), 1)]);

    let unknown = Rig::builder(Scripted::new()).query("v", open.bind(&engine).expect("sound"));
    let unknown = unknown.start().err().expect("reads what is not there");
    assert!(unknown.to_string().contains("`tickets`"), "{unknown}");
}

#[test]
fn a_query_is_kept_and_read_by_a_view_that_asks() {
    use builder::{col, lit, scan};
    let rig = rig(Scripted::new(), [], 2);
    let engine = &rig.engine;
    let open = scan("docs").filter(col("state").eq(lit("open")));
    let open = open.project(["key", "text", "state"].map(|name| col(name).named(name)));
    let open = open.bind(engine).expect("sound");
    engine.create_query("open", open).expect("new");
    engine
        .create_view(over("answers", "questions", "open"))
        .expect("new");
    let ticket = |key: &str, text: &str, state: &str| {
        Edit::upsert("docs", key, text.to_owned()).with("state", state)
    };
    engine
        .apply(vec![
            ticket("1", "The pump leaks.", "open"),
            ticket("2", "The pump squeaks.", "closed"),
            Edit::upsert("questions", "q", "pump"),
        ])
        .expect("runs");
    engine.flush().expect("runs");
    assert_eq!(texts(engine, "answers")["q"], "The pump leaks.");
    let snapshot = engine.snapshot("open").expect("known");
    let row: Tuple = ["1".into(), "The pump leaks.".into(), "open".into()].into();
    assert_eq!(snapshot.rows, [(row.clone(), 1)]);
    let updates = engine.subscribe("open").expect("known");
    engine
        .apply(vec![ticket("1", "The pump leaks.", "closed")])
        .expect("runs");
    engine.flush().expect("runs");
    assert_eq!(texts(engine, "answers")["q"], "Nothing is known of pump.");
    let rows = std::iter::from_fn(|| updates.try_recv()).filter_map(|update| match update {
        Update::Rows(rows) => Some(rows.rows),
        _ => None,
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [vec![(row.clone(), 1)], vec![(row, -1)]]
    );
    let relations = engine.relations().expect("runs");
    let kinds: Vec<_> = relations.iter().map(|r| (&*r.name, r.kind)).collect();
    assert_eq!(
        kinds[3..],
        [
            ("open", RelationKind::Query),
            ("answers", RelationKind::Answers)
        ]
    );
    assert_eq!(relations[4].reads, ["open".into(), "questions".into()]);
}

/// One step of a history of many views.
#[derive(Clone, Debug)]
enum Step {
    /// Upsert or delete of a row of one of the tables.
    Row(u8, u8, Option<u8>),
    Create(u8),
    Drop(u8),
    Flush,
    /// All that was said is visible, then the process ends, and another goes on.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0u8..3, 0u8..4, prop::option::weighted(0.7, 0u8..6));
    let step = prop_oneof![
        8 => row.prop_map(|(table, key, text)| Step::Row(table, key, text)),
        3 => (0u8..7).prop_map(Step::Create),
        1 => (0u8..7).prop_map(Step::Drop),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..30)
}

/// What a view does.
#[derive(Clone, Copy)]
enum Kind {
    /// Answers each of these contexts over these documents.
    Answers(&'static str, &'static str),
    /// Keeps a query over this relation.
    Query(&'static str, &'static str),
}

impl Kind {
    fn reads(self) -> Vec<&'static str> {
        match self {
            Self::Answers(contexts, documents) => vec![contexts, documents],
            Self::Query(of, _) => vec![of],
        }
    }
}

/// The views that a history may make: some read others, some ask a model about rows.
const VIEWS: [(&str, Kind); 7] = [
    ("v0", Kind::Answers("questions", "docs")),
    ("v1", Kind::Answers("others", "docs")),
    ("v2", Kind::Answers("others", "v0")),
    ("v3", Kind::Answers("v1", "v0")),
    (
        "r0",
        Kind::Query(
            "docs",
            "SELECT key, text FROM docs WHERE sem_filter('Is {text} of word1 ?')",
        ),
    ),
    ("v4", Kind::Answers("questions", "r0")),
    (
        "r1",
        Kind::Query(
            "v0",
            "SELECT sem_classify('Of what is {text} ?', 'word1', 'word2') AS kind, count(*) AS n,
                    max(sem_map('Say {text}', max_tokens => 40)) AS said
             FROM v0 GROUP BY kind",
        ),
    ),
];

const TABLES: [&str; 3] = ["docs", "questions", "others"];

fn row_text(table: u8, text: u8) -> String {
    match table {
        0 => format!("word{text} stands here. And word{} too.", text / 2),
        1 => format!("word{text}"),
        _ => format!("word{} stands", text / 2),
    }
}

/// Makes the view of this number.
fn make(engine: &Engine, view: usize) -> Result<(), Error> {
    let (name, kind) = VIEWS[view];
    match kind {
        Kind::Answers(contexts, documents) => engine.create_view(over(name, contexts, documents)),
        Kind::Query(_, text) => {
            let script = perennial::sql::Script::new("view", text);
            let mut statements = perennial::views::sql::parse(&script).expect("sound");
            let perennial::views::sql::Statement::Select(query) = statements.remove(0).of else {
                panic!("a query");
            };
            let bound = perennial::views::query::bind(&query, engine);
            // What reads a relation that is not there cannot be bound.
            let bound = bound.map_err(|_| Error::NoState)?;
            engine.create_query(name, bound)
        }
    }
}

/// All that a view says.
fn said(engine: &Engine, view: usize) -> BTreeMap<String, String> {
    let (name, kind) = VIEWS[view];
    match kind {
        Kind::Answers(..) => texts(engine, name),
        Kind::Query(..) => {
            let rows = engine.snapshot(name).expect("known").rows.into_iter();
            rows.map(|(row, n)| (format!("{row:?}"), n.to_string()))
                .collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever came and went, and when: each view that is there at the end says what it says in
    /// a fresh engine over the same rows, and a process that goes on asks nothing again.
    #[test]
    fn views_that_came_and_went_leave_nothing(
        steps in steps(),
        workers in prop::sample::select(vec![1usize, 3]),
        delay in prop::sample::select(vec![0u64, 3]),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let start = |made: &[usize]| {
            let model = Scripted::new().taking(Duration::from_millis(delay));
            let rig = Rig::start(model, |builder| {
                let builder = TABLES.iter().fold(builder, |builder, name| builder.table(*name));
                builder.workers(workers).state(dir.path()).held()
            });
            made.iter().for_each(|view| make(&rig.engine, *view).expect("was there"));
            rig.engine.release().expect("runs");
            rig
        };
        let mut rig = start(&[]);
        let mut rows: BTreeMap<(u8, u8), u8> = BTreeMap::new();
        // In the order in which they were made.
        let mut made: Vec<usize> = Vec::new();
        for step in steps {
            let engine = &rig.engine;
            let is_there = |made: &[usize], name: &str| {
                TABLES.contains(&name) || made.iter().any(|view| VIEWS[*view].0 == name)
            };
            match step {
                Step::Row(table, key, Some(text)) => {
                    rows.insert((table, key), text);
                    let (name, key) = (TABLES[usize::from(table)], key.to_string());
                    let edit = Edit::upsert(name, key, row_text(table, text)).at(0);
                    engine.apply(vec![edit]).expect("runs");
                }
                Step::Row(table, key, None) => {
                    rows.remove(&(table, key));
                    engine.delete(TABLES[usize::from(table)], &key.to_string()).expect("runs");
                }
                Step::Create(view) => {
                    let view = usize::from(view);
                    let (name, kind) = VIEWS[view];
                    let may = !is_there(&made, name)
                        && kind.reads().into_iter().all(|read| is_there(&made, read));
                    let outcome = make(engine, view);
                    prop_assert_eq!(outcome.is_ok(), may, "{:?}", outcome);
                    if may {
                        made.push(view);
                    }
                }
                Step::Drop(view) => {
                    let view = usize::from(view);
                    let (name, _) = VIEWS[view];
                    let is_read = made.iter().any(|other| VIEWS[*other].1.reads().contains(&name));
                    let may = is_there(&made, name) && !is_read;
                    let dropped = engine.drop_relation(name);
                    prop_assert_eq!(dropped.is_ok(), may, "{:?}", dropped);
                    if may {
                        made.retain(|other| *other != view);
                    }
                }
                Step::Flush => {
                    engine.flush().expect("runs");
                }
                Step::Restart => {
                    engine.flush().expect("runs");
                    drop(rig);
                    rig = start(&made);
                    rig.engine.flush().expect("runs");
                    prop_assert_eq!(rig.model.n_calls(), 0, "a restart asks nothing");
                }
            }
        }
        rig.engine.flush().expect("runs");
        let fresh = crate::views::rig(Scripted::new(), [], 1);
        made.iter().for_each(|view| make(&fresh.engine, *view).expect("sound"));
        for ((table, key), text) in &rows {
            let name = TABLES[usize::from(*table)];
            let edit = Edit::upsert(name, key.to_string(), row_text(*table, *text)).at(0);
            fresh.engine.apply(vec![edit]).expect("runs");
        }
        fresh.engine.flush().expect("runs");
        for view in made {
            let (name, _) = VIEWS[view];
            prop_assert_eq!(said(&rig.engine, view), said(&fresh.engine, view), "{}", name);
        }
    }
}
