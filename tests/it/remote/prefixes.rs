//! A prefix that calls share is read once.

use super::*;
use stub::tokens;

/// How long a reply takes: others come meanwhile.
const DELAY: Duration = Duration::from_millis(40);
const N_QUESTIONS: usize = 8;

fn open_slow(dialect: Dialect) -> (Stub, Engine) {
    let stub = Stub::thinking(dialect, Thinking::Never, DELAY);
    let engine = engine_over(runtime(&stub), answers().max_tokens(40));
    (stub, engine)
}

/// A document that is long enough to wait for.
fn long() -> String {
    "Many ships lie in the harbour of the town. ".repeat(20)
}

/// Asks many questions in one epoch.
fn ask(engine: &Engine) {
    let question = |q| Edit::upsert("questions", format!("q{q}"), format!("library {q}"));
    engine
        .apply((0..N_QUESTIONS).map(question).collect())
        .expect("runs");
    engine.flush().expect("runs");
}

/// Tokens that a server still knew, in the epochs that were told since.
fn n_cached(updates: &Subscription) -> usize {
    let told = std::iter::from_fn(|| updates.try_recv());
    let cached = told.map(|update| match update {
        Update::EpochComplete(summary) => summary.work.n_cached,
        _ => 0,
    });
    cached.sum()
}

#[test]
fn a_prefix_that_many_share_is_read_once() {
    let long = long();
    for dialect in [Dialect::LlamaCpp, Dialect::OpenAi, Dialect::Sglang] {
        let (_stub, engine) = open_slow(dialect);
        let updates = engine.subscribe("answers").expect("a view");
        engine.upsert("notes", "ships", &long).expect("runs");
        engine.flush().expect("runs");
        n_cached(&updates);
        ask(&engine);
        let n_shared = tokens(long.trim()).len();
        let others = N_QUESTIONS - 1;
        let first = n_cached(&updates);
        assert!(first >= others * n_shared, "{dialect:?}: {first}");
        // A change before all that they share.
        let changed = format!("It rains. {long}");
        engine.upsert("notes", "ships", &changed).expect("runs");
        engine.flush().expect("runs");
        let second = n_cached(&updates);
        assert!(second >= others * n_shared, "{dialect:?}: {second}");
        let stands = engine.answers("answers").expect("a view");
        assert_eq!(stands.len(), N_QUESTIONS);
    }
}

#[test]
fn who_reads_a_prefix_for_all_and_fails_holds_up_nobody() {
    for trouble in [Trouble::HangsUp, Trouble::Busy, Trouble::CutOff] {
        let (stub, engine) = open_slow(Dialect::LlamaCpp);
        engine
            .upsert(
                "notes",
                "hours",
                &format!("The library opens at nine. {}", long()),
            )
            .expect("runs");
        engine.flush().expect("runs");
        stub.trouble([trouble, trouble]);
        ask(&engine);
        let stands = engine.answers("answers").expect("a view");
        let is_right = |of: &perennial::engine::CurrentAnswer| match &of.answer {
            Ok(answer) => &*answer.text == "The library opens at nine.",
            Err(_) => false,
        };
        let n_right = stands.iter().filter(|(_, of)| is_right(of)).count();
        assert_eq!(n_right, N_QUESTIONS, "{trouble:?}: {stands:?}");
    }
}

#[test]
fn nobody_waits_where_a_server_keeps_nothing_or_the_answer_is_checked() {
    for dialect in [Dialect::Bare, Dialect::Vllm] {
        let (stub, engine) = open_slow(dialect);
        engine
            .upsert(
                "notes",
                "hours",
                &format!("The library opens at nine. {}", long()),
            )
            .expect("runs");
        ask(&engine);
        stub.take_peak();
        engine
            .upsert(
                "notes",
                "hours",
                &format!("The library opens at ten. {}", long()),
            )
            .expect("runs");
        engine.flush().expect("runs");
        assert!(stub.take_peak() > 1, "{dialect:?}");
    }
}
