//! When views take their epochs: target lags and budgets, what they hold back, and what they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial::ask::scripted::{BORROWED, SLOW_WORD, Scripted, ScriptedEmbedder};
use perennial::engine::{Edit, Staleness, ViewStatus};
use perennial::sql::{Outcome, Script, Session};
use perennial::{Delivery, Engine, Error, PaceOption, Policy, Runtime, Subscription, Update, View};
use proptest::prelude::*;

use crate::each::refill;
use crate::history::{Collections, Step, steps};
use crate::rig::{Rig, view};

/// Longer than any test takes.
const HOUR: Duration = Duration::from_secs(3600);
/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn rig(model: Scripted, views: impl IntoIterator<Item = View>) -> Rig {
    Rig::start(model, |builder| {
        let tables = builder.table("docs").table("questions").table("others");
        views
            .into_iter()
            .fold(tables, |builder, view| builder.view(view))
    })
}

fn version(i: usize) -> String {
    format!("This is version {i}.")
}

/// The first document and question, of one epoch.
fn begin(engine: &Engine) {
    let edits = vec![
        Edit::upsert("docs", "d", version(0)),
        Edit::upsert("questions", "q", "version"),
    ];
    engine.apply(edits).expect("runs");
    engine.flush().expect("runs");
}

/// The present answer of a view to `q`, without waiting for anything.
fn answer(engine: &Engine, view: &str) -> String {
    let answers = engine.answers(view).expect("runs").into_iter();
    let mut answers = answers.filter(|(key, _)| key.as_str() == "q");
    let (_, answer) = answers.next().expect("an answer");
    answer.answer.expect("a text").text.to_string()
}

fn staleness(engine: &Engine, view: &str) -> Staleness {
    let relations = engine.relations().expect("runs").into_iter();
    let mut of_name = relations.filter(|relation| *relation.name == *view);
    let found = of_name.next().expect("declared");
    found.staleness.expect("a view")
}

/// Waits until something is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "it never is");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How far a view is behind, once it waits for this: an edit is closed a moment after it is taken.
fn once(engine: &Engine, view: &str, status: ViewStatus) -> Staleness {
    until(|| staleness(engine, view).status == status);
    staleness(engine, view)
}

/// What came so far: epochs that began, and notices.
fn heard(updates: &Subscription) -> (usize, Vec<String>) {
    let (mut n_begun, mut notices) = (0, Vec::new());
    while let Some(update) = updates.try_recv() {
        match update {
            Update::EpochStarted(_) => n_begun += 1,
            Update::Notice { message, .. } => notices.push(message),
            _ => {}
        }
    }
    (n_begun, notices)
}

#[test]
fn a_burst_under_a_target_lag_is_one_refresh() {
    let rig = rig(Scripted::new(), [view(2000).target_lag(HOUR)]);
    let engine = &rig.engine;
    begin(engine);
    // The first epoch is taken at once.
    assert_eq!(answer(engine, "answers"), version(0));
    let n_calls = rig.model.n_calls();
    let updates = engine.subscribe("answers").expect("known");
    heard(&updates);
    for i in 1..=50 {
        engine.upsert("docs", "d", &version(i)).expect("runs");
    }
    let waiting = once(engine, "answers", ViewStatus::TargetLag);
    assert!((1..=50).contains(&waiting.n_behind), "{waiting:?}");
    assert!(waiting.lag.is_some());
    assert_eq!(answer(engine, "answers"), version(0));
    assert_eq!(rig.model.n_calls(), n_calls);

    engine.flush().expect("runs");
    assert_eq!(answer(engine, "answers"), version(50));
    assert_eq!(rig.model.n_calls(), n_calls + 1);
    assert_eq!(heard(&updates).0, 1);
    let fresh = Staleness {
        n_behind: 0,
        lag: None,
        status: ViewStatus::Fresh,
    };
    assert_eq!(staleness(engine, "answers"), fresh);
}

#[test]
fn what_has_waited_long_enough_is_taken_by_itself() {
    let lag = Duration::from_millis(30);
    let rig = rig(Scripted::new(), [view(2000).target_lag(lag)]);
    begin(&rig.engine);
    for i in 1..=3 {
        let edited = rig.engine.upsert("docs", "d", &version(i));
        edited.expect("runs");
        until(|| answer(&rig.engine, "answers") == version(i));
    }
}

#[test]
fn a_view_that_lags_holds_no_other_back() {
    let lagging = view(2000).target_lag(HOUR);
    let fast = View::named("fast").context("questions").data_source("docs");
    let rig = rig(Scripted::new(), [lagging, fast]);
    let engine = &rig.engine;
    begin(engine);
    for i in 1..=5 {
        engine.upsert("docs", "d", &version(i)).expect("runs");
        until(|| answer(engine, "fast") == version(i));
    }
    // Who waits for one waits for no other.
    engine.upsert("docs", "d", &version(6)).expect("runs");
    engine.flush_into(&["fast", "docs"]).expect("runs");
    assert_eq!(answer(engine, "fast"), version(6));
    assert_eq!(answer(engine, "answers"), version(0));
    assert_eq!(staleness(engine, "answers").n_behind, 6);
    // An edit that is taken back is no change: there is nothing to wait for.
    engine.upsert_at("docs", "e", "An extra.", 1).expect("runs");
    engine.flush_into(&["fast"]).expect("runs");
    engine.flush().expect("runs");
    engine.upsert_at("docs", "e", "Another.", 2).expect("runs");
    engine.flush_into(&["fast"]).expect("runs");
    assert_eq!(staleness(engine, "answers").n_behind, 1);
    engine.upsert_at("docs", "e", "An extra.", 1).expect("runs");
    engine.flush_into(&["fast"]).expect("runs");
    until(|| staleness(engine, "answers").status == ViewStatus::Fresh);
}

#[test]
fn a_view_over_one_that_lags_brings_it_along_when_it_is_flushed() {
    let first = view(2000).target_lag(HOUR);
    let second = View::named("second")
        .context("others")
        .data_source("answers");
    let rig = rig(Scripted::new(), [first, second]);
    let engine = &rig.engine;
    engine.upsert("others", "q", "version").expect("runs");
    begin(engine);
    assert_eq!(answer(engine, "second"), version(0));
    engine.upsert("docs", "d", &version(1)).expect("runs");
    engine.upsert("others", "q", "is version").expect("runs");
    // It reflects one epoch of all that it reads, so it waits for the other.
    once(engine, "second", ViewStatus::Upstream);
    engine.flush_into(&["second"]).expect("runs");
    assert_eq!(answer(engine, "second"), version(1));
    assert_eq!(answer(engine, "answers"), version(1));
}

#[test]
fn a_lag_may_be_changed_while_changes_wait_for_it() {
    let rig = rig(Scripted::new(), [view(2000).target_lag(HOUR)]);
    let engine = &rig.engine;
    begin(engine);
    engine.upsert("docs", "d", &version(1)).expect("runs");
    once(engine, "answers", ViewStatus::TargetLag);
    let at_once = [PaceOption::TargetLag(None)];
    engine.alter_view("answers", at_once).expect("known");
    until(|| answer(engine, "answers") == version(1));
    let unknown = engine.alter_view("docs", at_once).expect_err("no view");
    assert!(matches!(unknown, Error::UnknownView { .. }));
    // Nothing waits for what waits: the engine ends at once.
    let long = [PaceOption::TargetLag(Some(Duration::MAX))];
    engine.alter_view("answers", long).expect("known");
    engine.upsert("docs", "d", &version(2)).expect("runs");
    once(engine, "answers", ViewStatus::TargetLag);
}

/// Lets held calls go on.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[cfg(feature = "http")]
#[test]
fn rows_for_a_view_that_lags_are_stored_and_acknowledged_before_it_takes_them() {
    use perennial::connectors::{HttpLimits, HttpListener};

    use crate::client::Client;

    let dir = tempfile::tempdir().expect("a folder");
    let start = |model: Scripted| {
        let limits = HttpLimits::default();
        let listener = HttpListener::bind("127.0.0.1:0", None, limits).expect("a port");
        let client = Client::connect(listener.address());
        // A view that reads other streams may be at work all the while.
        let busy = View::named("busy").context("others").data_source("others");
        let rig = Rig::start(model, |builder| {
            builder
                .source(listener.source("docs").expect("a name"))
                .table("questions")
                .table("others")
                .view(view(2000).target_lag(HOUR))
                .view(busy)
                .state(dir.path())
        });
        (rig, client)
    };
    let line = |i: usize| {
        let text = version(i);
        serde_json::json!({ "key": "d", "text": text }).to_string() + "\n"
    };
    let is_held = Arc::new(AtomicBool::new(true));
    let (rig, mut client) = start(Scripted::new().held_while(is_held.clone()));
    // Dropped before the engine, which waits for its calls.
    let release = Release(is_held);
    let engine = &rig.engine;
    engine.upsert("questions", "q", "version").expect("runs");
    assert_eq!(client.post("docs?wait=60", line(0)).status, 200);
    engine.flush().expect("runs");
    for i in 1..=3 {
        if i == 3 {
            engine.upsert("others", "slow", SLOW_WORD).expect("runs");
            until(|| staleness(engine, "busy").status == ViewStatus::Refreshing);
        }
        let reply = client.post("docs?wait=60", line(i));
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(answer(engine, "answers"), version(0));
        once(engine, "answers", ViewStatus::TargetLag);
    }
    drop(release);
    drop(rig);

    // What was acknowledged is there, and the first epoch waits for nothing.
    let (rig, _client) = start(Scripted::new());
    until(|| answer(&rig.engine, "answers") == version(3));
}

#[test]
fn what_waited_at_the_end_is_taken_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let start = || {
        Rig::start(Scripted::new(), |builder| {
            let builder = builder.table("docs").table("questions");
            builder.view(view(2000).target_lag(HOUR)).state(dir.path())
        })
    };
    let rig = start();
    begin(&rig.engine);
    rig.engine.upsert("docs", "d", &version(1)).expect("runs");
    until(|| staleness(&rig.engine, "answers").status == ViewStatus::TargetLag);
    drop(rig);
    let rig = start();
    until(|| answer(&rig.engine, "answers") == version(1));
    assert_eq!(rig.model.n_calls(), 1);
    // And nothing is asked that was answered, whatever the pace.
    drop(rig);
    let rig = start();
    rig.engine.flush().expect("runs");
    assert_eq!(rig.model.n_calls(), 0);
}

#[test]
fn a_budget_holds_until_it_is_raised_and_is_said_once() {
    let rig = rig(Scripted::new(), [view(2000).calls_per_hour(3)]);
    let engine = &rig.engine;
    begin(engine);
    let updates = engine.subscribe("answers").expect("known");
    for i in 1..=2 {
        engine.upsert("docs", "d", &version(i)).expect("runs");
        engine.flush().expect("runs");
        assert_eq!(answer(engine, "answers"), version(i));
    }
    assert_eq!(rig.model.n_calls(), 3);
    assert_eq!(heard(&updates).1, [""; 0]);
    for i in 3..=4 {
        engine.upsert("docs", "d", &version(i)).expect("runs");
        // Nobody waits for an hour.
        let told = engine.flush().expect_err("used up");
        assert!(matches!(told, Error::OverBudget { .. }), "{told}");
        let told = told.to_string();
        let says = |what| assert!(told.contains(what), "{told}");
        says("`answers`");
        says("CALLS_PER_HOUR = 3");
        says("ALTER VIEW");
        assert!(engine.settle().is_err());
        let stale = staleness(engine, "answers");
        assert_eq!((stale.n_behind, stale.status), (i - 2, ViewStatus::Budget));
    }
    assert_eq!(answer(engine, "answers"), version(2));
    let (_, notices) = heard(&updates);
    assert!(
        matches!(&notices[..], [one] if one.contains("CALLS_PER_HOUR = 3 is used up")),
        "{notices:?}"
    );
    // Who waits for other relations is not told of it.
    engine.flush_into(&["docs", "questions"]).expect("runs");

    let nothing = engine.alter_view("answers", [PaceOption::CallsPerHour(Some(0))]);
    assert!(matches!(nothing, Err(Error::View(_))));
    let more = [PaceOption::CallsPerHour(Some(4))];
    engine.alter_view("answers", more).expect("known");
    engine.flush().expect("there is room");
    assert_eq!(answer(engine, "answers"), version(4));
    assert_eq!(rig.model.n_calls(), 4);
    engine.upsert("docs", "d", &version(5)).expect("runs");
    assert!(engine.flush().is_err());
    // A moment later it is said again.
    until(|| heard(&updates).1.len() == 1);
    engine
        .alter_view("answers", [PaceOption::CallsPerHour(None)])
        .expect("known");
    until(|| answer(engine, "answers") == version(5));
}

#[test]
fn a_budget_of_tokens_holds_as_one_of_calls_does() {
    let views = [
        view(2000).tokens_per_hour(1),
        View::named("second")
            .context("others")
            .data_source("answers"),
    ];
    let rig = rig(Scripted::new(), views);
    let engine = &rig.engine;
    engine.upsert("others", "q", "version").expect("runs");
    engine.flush().expect("nothing was spent");
    begin_or_stale(engine);
    engine.upsert("docs", "d", &version(1)).expect("runs");
    // Who waits for a view that reads it is told of which it is.
    let told = engine.flush_into(&["second"]).expect_err("used up");
    let told = told.to_string();
    assert!(
        told.contains("`answers`") && told.contains("TOKENS_PER_HOUR = 1"),
        "{told}"
    );
}

/// The first document and question, where a budget may be used up by one of them.
fn begin_or_stale(engine: &Engine) {
    let edits = vec![
        Edit::upsert("docs", "d", version(0)),
        Edit::upsert("questions", "q", "version"),
    ];
    engine.apply(edits).expect("runs");
    match engine.flush() {
        Ok(_) | Err(Error::OverBudget { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_tells_each_answer_is_counted_while_it_is_at_work() {
    let each = view(2000).deliver(Delivery::Each).calls_per_hour(2);
    let is_held = Arc::new(AtomicBool::new(true));
    let rig = rig(Scripted::new().held_while(is_held.clone()), [each]);
    let release = Release(is_held);
    let engine = &rig.engine;
    engine.upsert("questions", "slow", SLOW_WORD).expect("runs");
    let updates = engine.subscribe("answers").expect("known");
    for i in 1..=2 {
        let text = format!("question {i}");
        engine.upsert("questions", "q", &text).expect("runs");
        let mut answers = updates.answers();
        while answers.next().is_some_and(|told| *told.question != *text) {}
    }
    // The slow call is not done, but the budget is.
    engine.upsert("questions", "q", "question 3").expect("runs");
    until(|| staleness(engine, "answers").n_behind == 1);
    assert_eq!(rig.model.n_calls(), 3);
    drop(release);
    assert!(matches!(engine.flush(), Err(Error::OverBudget { .. })));
    engine
        .alter_view("answers", [PaceOption::CallsPerHour(None)])
        .expect("known");
    engine.flush().expect("runs");
    assert_eq!(rig.model.n_calls(), 4);
}

#[test]
fn healing_counts_once_and_waits_for_the_budget_too() {
    let eventual = view(2000).policy(Policy::Eventual).calls_per_hour(4);
    let rig = rig(Scripted::borrowing(), [eventual]);
    let engine = &rig.engine;
    begin(engine);
    engine.upsert("docs", "d", &version(1)).expect("runs");
    engine.settle().expect("there is room");
    assert_eq!(rig.model.n_calls(), 3);
    engine.upsert("docs", "d", &version(2)).expect("runs");
    engine.flush().expect("there is room for one");
    let provisional = version(2) + BORROWED;
    assert_eq!(answer(engine, "answers"), provisional);
    assert!(matches!(engine.settle(), Err(Error::OverBudget { .. })));
    assert_eq!(answer(engine, "answers"), provisional);
    assert_eq!(rig.model.n_calls(), 4);
    engine
        .alter_view("answers", [PaceOption::CallsPerHour(Some(5))])
        .expect("known");
    until(|| answer(engine, "answers") == version(2));
    assert_eq!(rig.model.n_calls(), 5);
}

#[test]
fn forgetting_waits_for_neither_lag_nor_budget() {
    let paced = view(2000).target_lag(HOUR).calls_per_hour(1);
    let rig = rig(Scripted::new(), [paced]);
    let engine = &rig.engine;
    begin(engine);
    let receipt = engine.forget("docs", "d").expect("runs");
    assert!(receipt.was_there);
    assert_eq!(receipt.remains, [""; 0]);
    assert_eq!(answer(engine, "answers"), "Nothing is known of version.");
}

fn session() -> Session {
    let (model, embedder) = (Scripted::new(), ScriptedEmbedder::default());
    let runtime = Runtime::scripted(Arc::new(model), Arc::new(embedder));
    let engine = Engine::builder(runtime).start().expect("starts");
    Session::new(engine, "scripted")
}

/// Rows of the last statement, with what was said of them.
fn run(session: &mut Session, text: &str) -> (Vec<String>, Vec<String>) {
    let mut last = (Vec::new(), Vec::new());
    let ran = session.run(&Script::new("x.sql", text), |_, outcome| {
        if let Outcome::Rows { rows, notices, .. } = outcome {
            let line = |row: &Arc<[perennial::rows::Value]>| {
                let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                values.join("|")
            };
            last = (rows.iter().map(line).collect(), notices);
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
    last
}

const VERSIONS: &str = "
    CREATE TABLE docs (key TEXT, text TEXT);
    CREATE TABLE questions (key TEXT, text TEXT);
    INSERT INTO docs VALUES ('d', 'This is version 0.');
    INSERT INTO questions VALUES ('q', 'version');
    CREATE CONTINUOUS VIEW answers AS
        LLM_GENERATE(CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(docs))
        WITH (TARGET_LAG = '1 h');
    CREATE VIEW texts WITH (TARGET_LAG = '60 m') AS SELECT text FROM docs;
    SELECT text FROM answers;";

#[test]
fn a_select_waits_for_no_lag_and_show_views_tells_of_it() {
    let mut session = session();
    assert_eq!(run(&mut session, VERSIONS).0, ["This is version 0."]);
    run(&mut session, "UPDATE docs SET text = 'This is version 1.'");
    for name in ["answers", "texts"] {
        once(session.engine(), name, ViewStatus::TargetLag);
    }
    let (shown, _) = run(&mut session, "SHOW VIEWS");
    let of = |name: &str| shown.iter().find(|row| row.starts_with(name)).cloned();
    for name in ["answers|", "texts|"] {
        let row = of(name).expect("a view");
        let columns: Vec<&str> = row.split('|').collect();
        let [_, _, _, _, _, behind, lag_ms, status, options] = columns[..] else {
            panic!("{row}");
        };
        assert_eq!(
            (behind, status, options),
            ("1", "target lag", "TARGET_LAG = '1 h'")
        );
        assert!(lag_ms.parse::<u64>().is_ok(), "{row}");
    }
    assert_eq!(
        run(&mut session, "SELECT text FROM texts").0,
        ["This is version 1."]
    );
    assert_eq!(
        run(&mut session, "SELECT text FROM answers").0,
        ["This is version 1."]
    );
    let alter = "ALTER VIEW answers SET (TARGET_LAG = none, TOKENS_PER_HOUR = 100000); SHOW VIEWS";
    let (shown, _) = run(&mut session, alter);
    assert!(
        shown[0].ends_with("|0|NULL|fresh|TOKENS_PER_HOUR = 100000"),
        "{shown:?}"
    );
    let table = Script::new("x.sql", "ALTER VIEW docs SET (TARGET_LAG = none)");
    let told = session.run(&table, |_, _| Ok(())).expect_err("no view");
    assert!(told.to_string().contains("docs is a table"), "{told}");
}

#[test]
fn a_select_over_a_used_up_budget_tells_that_it_is_stale() {
    let mut session = session();
    let script = "
        CREATE TABLE docs (key TEXT, text TEXT);
        INSERT INTO docs VALUES ('a', 'refunds take days'), ('b', 'shipping is free');
        CREATE VIEW about WITH (CALLS_PER_HOUR = 2) AS
            SELECT key FROM docs WHERE sem_filter('Is {text} about refunds ?');
        SELECT key FROM about";
    let fresh = run(&mut session, script);
    assert_eq!(fresh, (vec!["a".to_owned()], Vec::new()));
    let more = "INSERT INTO docs VALUES ('c', 'refunds are rare'); SELECT key FROM about";
    let (rows, notices) = run(&mut session, more);
    assert_eq!(rows, ["a"]);
    let is_said = |notice: &String| notice.contains("`about` is stale: CALLS_PER_HOUR = 2");
    assert!(
        notices.len() == 1 && notices.iter().all(is_said),
        "{notices:?}"
    );
    // What reads only the table is not stale, and is changed as ever.
    let (rows, notices) = run(
        &mut session,
        "DELETE FROM docs WHERE key = 'b'; SELECT key FROM docs ORDER BY key",
    );
    assert_eq!((rows.len(), notices.len()), (2, 0));
    let raised = "ALTER VIEW about SET (CALLS_PER_HOUR = 3); SELECT key FROM about ORDER BY key";
    let raised = run(&mut session, raised);
    assert_eq!(raised, (vec!["a".to_owned(), "c".to_owned()], Vec::new()));
}

/// A change of pace between two steps.
fn pace() -> impl Strategy<Value = Option<PaceOption>> {
    let lag = prop::sample::select(vec![
        None,
        Some(Duration::ZERO),
        Some(Duration::from_millis(2)),
        Some(HOUR),
    ]);
    let calls = prop::option::of(1u64..12);
    prop_oneof![
        4 => Just(None),
        2 => lag.prop_map(|lag| Some(PaceOption::TargetLag(lag))),
        1 => calls.prop_map(|calls| Some(PaceOption::CallsPerHour(calls))),
        1 => Just(Some(PaceOption::TokensPerHour(Some(200)))),
        1 => Just(Some(PaceOption::TokensPerHour(None))),
    ]
}

fn text(i: u8) -> String {
    format!("Fact {i} is about word{} and word{}. ", i % 4, i % 7)
}

fn wording(i: u8) -> String {
    format!("word{} or word{}", i % 5, i % 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_the_pace_the_answers_are_those_of_a_run_from_scratch(
        is_each in any::<bool>(),
        is_exact in any::<bool>(),
        steps in steps(5, 0..=15, 6, 0..12, 8..40),
        paces in prop::collection::vec(pace(), 40),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let start = || {
            let model = if is_exact { Scripted::new() } else { Scripted::borrowing() };
            Rig::start(model, |builder| {
                let mut paced = view(2000).target_lag(Duration::from_millis(5));
                if is_each {
                    paced = paced.deliver(Delivery::Each);
                }
                if !is_exact {
                    paced = paced.policy(Policy::Eventual);
                }
                let plain = View::named("plain").context("questions").data_source("answers");
                let builder = builder.table("docs").table("questions");
                builder.view(paced).view(plain).state(dir.path())
            })
        };
        let mut collections = Collections::empty(text, wording);
        let mut rig = start();
        for (at, (step, pace)) in (1..).zip(steps.into_iter().zip(paces)) {
            if let Some(pace) = pace {
                rig.engine.alter_view("answers", [pace]).expect("known");
            }
            match step {
                Step::Restart => {
                    drop(rig);
                    rig = start();
                    refill(&collections, &mut rig.engine);
                }
                Step::Flush => match rig.engine.flush() {
                    Ok(_) | Err(Error::OverBudget { .. }) => {}
                    Err(error) => panic!("{error}"),
                },
                step => rig = collections.go_on(rig, vec![step], at),
            }
        }
        // As much as is asked for, and not before it is.
        let unlimited = [
            PaceOption::CallsPerHour(None),
            PaceOption::TokensPerHour(None),
            PaceOption::TargetLag(Some(HOUR)),
        ];
        rig.engine.alter_view("answers", unlimited).expect("known");
        rig.engine.settle().expect("runs");
        let mut fresh = Rig::start(Scripted::new(), |builder| {
            builder.table("docs").table("questions").view(view(2000))
        });
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(rig.texts(), fresh.texts());
        let behind = staleness(&rig.engine, "plain");
        prop_assert_eq!((behind.n_behind, behind.status), (0, ViewStatus::Fresh));
    }
}
