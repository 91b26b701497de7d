//! What calls cost in money, and budgets of it.

use std::sync::Arc;

use perennial::ask::remote::{RemoteModel, RemoteOptions};
use perennial::ask::scripted::ScriptedEmbedder;
use perennial::ask::{Money, Prices, Rung, Work};
use perennial::engine::{AnswerUpdate, ViewStatus};
use perennial::sql::{Outcome, Script, Session};
use perennial::{Engine, Error, PaceOption, Runtime, Subscription, Update, View};

use super::stub::{Dialect, Stub, Trouble, answer};
use super::{ALL, answers, options};

fn money(text: &str) -> Money {
    text.parse().expect("money")
}

fn prices_in(currency: &str) -> Prices {
    let of = (money("0.15"), Some(money("0.075")), money("0.6"));
    Prices::of_a_million(of, currency.parse().expect("a currency")).expect("prices")
}

fn prices() -> Prices {
    prices_in("USD")
}

/// A runtime over a stub whose tokens have these prices.
fn runtime(stub: &Stub, prices: Option<Prices>) -> Runtime {
    let options = RemoteOptions {
        prices,
        ..options()
    };
    let model = RemoteModel::open(&stub.url(), &options).expect("opens");
    Runtime::remote(Arc::new(model), Arc::new(ScriptedEmbedder::default()), 1)
}

/// An engine over `notes` and `questions` whose calls cost money.
fn engine(stub: &Stub, view: View) -> Engine {
    let builder = Engine::builder(runtime(stub, Some(prices())));
    let builder = builder.table("notes").table("questions").view(view);
    builder.start().expect("starts")
}

fn note(engine: &Engine, key: &str, text: &str) {
    engine.upsert("notes", key, text).expect("runs");
}

/// The answers that were told since, and what their epochs came to.
fn told(updates: &Subscription) -> (Vec<AnswerUpdate>, Work) {
    let (mut answers, mut work) = (Vec::new(), Work::default());
    for update in std::iter::from_fn(|| updates.try_recv()) {
        match update {
            Update::Answer(answer) => answers.push(answer),
            Update::EpochComplete(summary) => work += summary.work,
            _ => {}
        }
    }
    (answers, work)
}

/// What a refresh of one request costs, by its tokens.
fn of_one_request(work: &Work) -> Money {
    let n_prompt = work.n_from_scratch - work.n_decoded;
    let n_cached = n_prompt - work.n_prompt - work.n_draft;
    prices().cost(n_prompt, n_cached, work.n_decoded).amount()
}

fn text_of(engine: &Engine, view: &str, key: &str) -> String {
    let answers = engine.answers(view).expect("a view");
    let found = answers.into_iter().find(|(of, _)| of.as_str() == key);
    let (_, current) = found.expect("an answer");
    current.answer.expect("no error").text.to_string()
}

#[test]
fn a_call_costs_what_its_tokens_cost_over_any_server() {
    for dialect in ALL {
        let stub = Stub::new(dialect);
        let engine = engine(&stub, answers().max_tokens(40));
        let updates = engine.subscribe("answers").expect("a view");
        note(&engine, "hours", "The library opens at nine.");
        engine.upsert("questions", "q", "library").expect("runs");
        engine.flush().expect("runs");
        let (said, total) = told(&updates);
        let [new] = &said[..] else {
            panic!("{dialect:?}: {said:?}");
        };
        let cost = new.work.cost.told();
        let (amount, currency) = cost.expect("a model with prices");
        assert_eq!(currency.to_string(), "USD", "{dialect:?}");
        assert!(!amount.is_zero(), "{dialect:?}");
        assert_eq!(amount, of_one_request(&new.work), "{dialect:?}");
        assert_eq!(total.cost, new.work.cost, "{dialect:?}");
    }
}

#[test]
fn what_is_checked_and_stands_costs_what_is_read() {
    let stub = Stub::new(Dialect::Vllm);
    let engine = engine(&stub, answers().max_tokens(40));
    let updates = engine.subscribe("answers").expect("a view");
    note(&engine, "hours", "The library opens at nine.");
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
    told(&updates);
    note(&engine, "cards", "A card costs five crowns.");
    engine.flush().expect("runs");
    let (said, _) = told(&updates);
    assert_eq!(said[0].rung, Rung::Verify);
    assert_eq!(said[0].work.n_decoded, 0);
    assert_eq!(
        said[0].work.cost.amount(),
        of_one_request(&said[0].work),
        "{:?}",
        said[0].work
    );
}

#[test]
fn what_a_reply_cost_that_was_of_no_use_is_told_with_the_next() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let engine = engine(&stub, answers().max_tokens(40));
    let updates = engine.subscribe("answers").expect("a view");
    note(&engine, "hours", "The library opens at nine.");
    stub.trouble([Trouble::Empty]);
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
    let (said, _) = told(&updates);
    let work = said.last().expect("an answer").work;
    assert!(work.cost.amount() > of_one_request(&work), "{work:?}");
}

#[test]
fn a_model_without_prices_costs_nothing_that_is_told() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let builder = Engine::builder(runtime(&stub, None));
    let builder = builder.table("notes").table("questions").view(answers());
    let engine = builder.start().expect("starts");
    let updates = engine.subscribe("answers").expect("a view");
    note(&engine, "hours", "The library opens at nine.");
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
    assert_eq!(told(&updates).0[0].work.cost.told(), None);
}

#[test]
fn a_budget_of_money_holds_until_it_is_raised_and_nothing_is_lost() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let least = money("0.000000000001");
    let engine = engine(&stub, answers().max_tokens(40).cost_per_hour(least));
    note(&engine, "hours", "The library opens at nine.");
    engine.upsert("questions", "q", "library").expect("runs");
    // The first epoch with something to ask is taken: nothing was spent before it.
    engine.flush().expect("runs");
    assert_eq!(
        text_of(&engine, "answers", "q"),
        "The library opens at nine."
    );
    let n_asked = stub.asked().len();
    note(&engine, "hours", "The library opens at ten.");
    let stale = engine.flush().expect_err("all is spent").to_string();
    assert!(
        stale.contains("`answers`") && stale.contains("COST_PER_HOUR = 0.000000000001"),
        "{stale}"
    );
    note(&engine, "rest", "The library rests.");
    engine.upsert("questions", "r", "rests.").expect("runs");
    assert!(engine.settle().is_err());
    let relations = engine.relations().expect("runs");
    let view = relations.iter().find(|of| &*of.name == "answers");
    let staleness = view.and_then(|of| of.staleness).expect("a view");
    assert_eq!(staleness.status, ViewStatus::Budget);
    assert_eq!(stub.asked().len(), n_asked, "nobody is asked meanwhile");
    assert_eq!(
        text_of(&engine, "answers", "q"),
        "The library opens at nine."
    );
    // Raised, it takes all that waited, and says what a fresh run says.
    let more = [PaceOption::CostPerHour(Some(money("5")))];
    engine.alter_view("answers", more).expect("known");
    engine.settle().expect("there is room");
    let texts = ["The library opens at ten.", "The library rests."];
    assert_eq!(text_of(&engine, "answers", "q"), answer(texts, "library"));
    assert_eq!(text_of(&engine, "answers", "r"), answer(texts, "rests."));
}

#[test]
fn a_budget_of_all_views_holds_those_that_cost_money() {
    let (stub, free) = (Stub::new(Dialect::LlamaCpp), Stub::new(Dialect::LlamaCpp));
    let for_free = View::named("for_free")
        .context("questions")
        .data_source("notes")
        .model("free");
    let builder = Engine::builder(runtime(&stub, Some(prices())))
        .model("free", runtime(&free, None))
        .table("notes")
        .table("questions")
        .view(answers())
        .view(for_free)
        .cost_per_hour(money("0.000001"));
    let engine = builder.start().expect("starts");
    note(&engine, "hours", "The library opens at nine.");
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
    note(&engine, "hours", "The library opens at ten.");
    let stale = engine.flush().expect_err("all is spent").to_string();
    assert!(
        stale.contains("`answers`")
            && stale.contains("COST_PER_HOUR = 0.000001 of all views together"),
        "{stale}"
    );
    engine.flush_into(&["for_free"]).expect("it costs nothing");
    assert_eq!(
        text_of(&engine, "for_free", "q"),
        "The library opens at ten."
    );
    assert_eq!(
        text_of(&engine, "answers", "q"),
        "The library opens at nine."
    );
}

#[test]
fn prices_that_cannot_be_counted_and_budgets_of_nothing_are_refused() {
    let (stub, other) = (Stub::new(Dialect::LlamaCpp), Stub::new(Dialect::LlamaCpp));
    let start = |runtime: Runtime, view: View| {
        let builder = Engine::builder(runtime).table("notes").table("questions");
        builder.view(view).start()
    };
    let budget = answers().cost_per_hour(money("1"));
    let unpriced = start(runtime(&stub, None), budget.clone()).err();
    assert!(
        matches!(unpriced, Some(Error::Unpriced { .. })),
        "{unpriced:?}"
    );
    let nothing = answers().cost_per_hour(Money::ZERO);
    let nothing = start(runtime(&stub, Some(prices())), nothing).err();
    assert!(matches!(nothing, Some(Error::View(_))), "{nothing:?}");

    let engine = start(runtime(&stub, Some(prices())), budget).expect("starts");
    let euros = engine.create_model("euros", &runtime(&other, Some(prices_in("EUR"))));
    let said = euros.expect_err("another currency").to_string();
    assert!(said.contains("EUR") && said.contains("USD"), "{said}");
    let again = engine.create_model("again", &runtime(&stub, None));
    assert!(matches!(again, Err(Error::Prices { .. })), "{again:?}");
    let same = runtime(&other, Some(prices()));
    engine
        .create_model("same", &same)
        .expect("the same currency");
}

#[test]
fn a_budget_of_nothing_is_told_at_its_place_before_anything_is_carried_out() {
    let (stub, other) = (Stub::new(Dialect::LlamaCpp), Stub::new(Dialect::LlamaCpp));
    let engine = Engine::builder(runtime(&stub, None)).start();
    let priced = runtime(&other, Some(prices()));
    let session = Session::new(engine.expect("starts"), "remote");
    let session = session.opening(move |_| Ok(priced.clone()));
    let run = |text: &str| {
        let ran = session.run(&Script::new("r.sql", text), |_, _| Ok(()));
        ran.map_err(|error| error.to_string())
    };
    let models = "CREATE MODEL free FROM 'http://h/v1';
        CREATE MODEL priced FROM 'http://p/v1'
            WITH (PRICE_INPUT = 1, PRICE_OUTPUT = 1, CURRENCY = 'USD');";
    let answers = |with: &str| {
        format!(
            "CREATE TABLE notes (key TEXT, text TEXT);
             CREATE TABLE questions (key TEXT, text TEXT);
             {models}
             CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
                 CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes))\nWITH ({with});"
        )
    };
    let rows = |with: &str, model: &str| {
        format!(
            "CREATE TABLE notes (key TEXT, text TEXT);
             {models}
             CREATE VIEW angry\nWITH ({with}) AS SELECT key FROM notes
                 WHERE sem_filter('Is {{text}} angry?'{model});"
        )
    };
    for (script, place) in [
        (answers("COST_PER_HOUR = 5"), "r.sql:8:7"),
        (answers("MODEL = free, COST_PER_HOUR = 5"), "r.sql:8:21"),
        (rows("COST_PER_HOUR = 5", ""), "r.sql:6:7"),
        (rows("COST_PER_HOUR = 5", ", model => free"), "r.sql:6:7"),
    ] {
        let told = run(&script).expect_err("there are no prices");
        assert!(told.contains(place) && told.contains("price"), "{told}");
        assert!(
            session.engine().models().is_empty(),
            "nothing is carried out"
        );
    }
    run(&answers("MODEL = priced, COST_PER_HOUR = 5")).expect("it has prices");
    run("CREATE VIEW unasked AS SELECT key FROM notes").expect("runs");
    let told = run("ALTER VIEW unasked\nSET (COST_PER_HOUR = 5)").expect_err("no model is asked");
    assert!(told.contains("r.sql:2:6"), "{told}");
}

#[test]
fn a_dry_run_tells_what_questions_would_cost() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let engine = Engine::builder(runtime(&stub, Some(prices()))).start();
    let session = Session::new(engine.expect("starts"), "remote");
    let n_asked = stub.asked().len();
    let mut plan = String::new();
    let script = Script::new(
        "r.sql",
        "CREATE TABLE letters (key TEXT, text TEXT);
         INSERT INTO letters VALUES ('a', 'the tone is angry');
         EXPLAIN COST SELECT key FROM letters WHERE sem_filter('Is {text} angry?');",
    );
    session
        .run(&script, |_, outcome| {
            if let Outcome::Plan(told) = outcome {
                plan = told;
            }
            Ok(())
        })
        .expect("runs");
    assert!(
        plan.contains("; they cost about 0.0000") && plan.contains(" USD at most"),
        "{plan}"
    );
    assert_eq!(stub.asked().len(), n_asked);
}

#[cfg(feature = "serve")]
#[test]
fn a_server_tells_what_calls_cost() {
    use std::time::{Duration, Instant};

    use perennial::serve::{Limits, Served, Server, ServerOptions};
    use perennial::sql::parse;

    use crate::client::Client;

    let stub = Stub::new(Dialect::LlamaCpp);
    let builder = Engine::builder(runtime(&stub, Some(prices()))).held();
    let session = Session::new(builder.start().expect("starts"), "remote").held();
    let served = Served::over(session, Limits::default());
    let script = Script::new(
        "s.sql",
        "CREATE TABLE notes (key TEXT, text TEXT);
         CREATE TABLE questions (key TEXT, text TEXT);
         CREATE CONTINUOUS VIEW answers AS LLM_GENERATE(
             CONTEXT = STREAM(questions), DATA_SOURCE = STREAM(notes)) WITH (COST_PER_HOUR = 5);
         INSERT INTO notes (key, text) VALUES ('hours', 'The library opens at nine.');
         INSERT INTO questions (key, text) VALUES ('q', 'library');",
    );
    let statements = parse(&script).expect("a script");
    served
        .declare(&script, &statements, |_| {})
        .unwrap_or_else(|error| panic!("{error}"));
    let options = ServerOptions::at("127.0.0.1:0");
    let server = Server::start(served.clone(), options).expect("listens");
    let get = |path: &str| Client::connect(server.address()).get(path);
    let deadline = Instant::now() + Duration::from_secs(60);
    let cost = loop {
        let status = get("/v1/status").json();
        let cost = status["views"][0]["work"]["cost"].clone();
        if cost.is_object() {
            break cost;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(cost["currency"], "USD");
    let amount = cost["amount"].as_str().expect("an amount");
    assert!(!money(amount).is_zero(), "{cost}");
    let metrics = get("/metrics").body;
    let name = "perennial_model_cost_total{view=\"answers\",currency=\"USD\"} ";
    let told = metrics.lines().find_map(|line| line.strip_prefix(name));
    let told: f64 = told
        .unwrap_or_else(|| panic!("{metrics}"))
        .parse()
        .expect("a number");
    assert!(
        (told - money(amount).shown()).abs() < 1e-12,
        "{told} {cost}"
    );
}
