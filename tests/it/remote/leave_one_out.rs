//! What answers depend on, measured by leaving passages out.

use std::sync::mpsc::channel;

use perennial::ask::Evidence;
use perennial::engine::Lineage;
use perennial::{PaceOption, View};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// An engine whose model leaves out so many passages of an answer.
fn engine(stub: &Stub, n: usize, view: View, state: Option<&Path>) -> Engine {
    let options = RemoteOptions {
        leave_one_out: n,
        ..options()
    };
    let model = RemoteModel::open(&stub.url(), &options).expect("opens");
    let embedder = Arc::new(ScriptedEmbedder::default());
    let builder = Engine::builder(Runtime::remote(Arc::new(model), embedder, 1));
    let mut builder = builder.table("notes").table("questions").view(view);
    if let Some(state) = state {
        builder = builder.state(state);
    }
    builder.start().expect("starts")
}

fn ask(engine: &Engine) {
    for (key, text) in [
        ("weather", "It rains today."),
        ("cards", "A card costs five crowns."),
        ("hours", "The library opens at nine."),
    ] {
        engine.upsert("notes", key, text).expect("runs");
    }
    engine.upsert("questions", "q", "library").expect("runs");
    engine.flush().expect("runs");
}

fn lineage(engine: &Engine) -> Lineage {
    let lineage = engine.lineage("answers", "q").expect("a view");
    lineage.expect("an answer")
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn until_measured(engine: &Engine) -> Lineage {
    until("it is measured", || {
        lineage(engine).answer.evidence == Evidence::LeaveOneOut
    });
    lineage(engine)
}

/// The score of the first sentence for each document.
fn scores(of: &Lineage) -> BTreeMap<String, f32> {
    let passages = of.passages.iter().map(|of| of.document.to_string());
    passages.zip(of.scores[0].iter().copied()).collect()
}

#[test]
fn an_answer_depends_on_the_passages_without_which_it_is_less_likely() {
    for (dialect, n_requests) in [(Dialect::Vllm, 1), (Dialect::Sglang, 2)] {
        let stub = Stub::new(dialect);
        let engine = engine(&stub, 2, answers().max_tokens(40), None);
        let n_asked = stub.asked().len();
        ask(&engine);
        let measured = until_measured(&engine);
        // The answer from nothing, as it is and without two of three passages.
        let n_measured = stub.asked().len() - n_asked - 1;
        assert_eq!(n_measured, 3 * n_requests, "{dialect:?}");
        let of = scores(&measured);
        assert_eq!(of["hours"], 2.0, "{dialect:?}: {of:?}");
        assert_eq!((of["cards"], of["weather"]), (0.0, 0.0), "{of:?}");
        let sources = &measured.answer.sub_paragraphs[0].sources;
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].document.as_str(), "hours");
        let dependents = engine.dependents("answers", "hours").expect("a view");
        assert_eq!(dependents[0].score, 2000);
        assert_eq!(dependents[0].evidence, Evidence::LeaveOneOut);
        assert!(
            engine
                .dependents("answers", "cards")
                .expect("a view")
                .is_empty()
        );
        // Another answer is not what was measured.
        engine
            .upsert("notes", "hours", "The library opens at ten.")
            .expect("runs");
        engine.flush().expect("runs");
        let text = until_measured(&engine);
        assert_eq!(text.answer.new_text(), Some("The library opens at ten."));
        assert_eq!(scores(&text)["hours"], 2.0);
    }
}

#[test]
fn without_the_option_or_a_server_that_scores_dependencies_are_lexical_and_cost_no_call() {
    for (dialect, n) in [
        (Dialect::Vllm, 0),
        (Dialect::LlamaCpp, 3),
        (Dialect::OpenAi, 3),
    ] {
        let stub = Stub::new(dialect);
        let engine = engine(&stub, n, answers().max_tokens(40), None);
        let n_asked = stub.asked().len();
        ask(&engine);
        let lexical = lineage(&engine);
        assert_eq!(lexical.answer.evidence, Evidence::Lexical, "{dialect:?}");
        assert!(scores(&lexical)["hours"] > 0.0, "{dialect:?}");
        let dependents = engine.dependents("answers", "hours").expect("a view");
        assert_eq!(dependents[0].evidence, Evidence::Lexical);
        // Who ends an engine waits for what runs.
        drop(engine);
        assert_eq!(stub.asked().len(), n_asked + 1, "{dialect:?}");
    }
}

#[test]
fn measuring_counts_in_the_budget_and_waits_for_it() {
    let stub = Stub::new(Dialect::Vllm);
    let view = answers().max_tokens(40).calls_per_hour(1);
    let engine = engine(&stub, 3, view, None);
    let n_asked = stub.asked().len();
    ask(&engine);
    // The answer has used it up.
    engine.flush().expect("nothing waits");
    assert_eq!(stub.asked().len(), n_asked + 1);
    let set = |calls| {
        let set = [PaceOption::CallsPerHour(Some(calls))];
        engine.alter_view("answers", set).expect("a view");
    };
    set(2);
    until_measured(&engine);
    assert_eq!(stub.asked().len(), n_asked + 1 + 4);
    set(5);
    engine
        .upsert("notes", "hours", "The library opens at ten.")
        .expect("runs");
    let over = engine.flush().expect_err("five calls were made");
    assert!(matches!(over, Error::OverBudget { .. }), "{over}");
    set(6);
    engine.flush().expect("there is room for one");
    assert_eq!(
        lineage(&engine).answer.new_text(),
        Some("The library opens at ten.")
    );
}

#[test]
fn what_is_measured_gives_way_to_what_is_fresh() {
    let stub = Stub::new(Dialect::Vllm);
    let engine = engine(&stub, 3, answers().max_tokens(40).calls_per_hour(1), None);
    ask(&engine);
    let n_asked = stub.asked().len();
    stub.trouble([Trouble::Hangs]);
    let set = [PaceOption::CallsPerHour(None)];
    engine.alter_view("answers", set).expect("a view");
    until("it is measured", || stub.asked().len() > n_asked);
    engine
        .upsert("notes", "hours", "The library opens at ten.")
        .expect("runs");
    let (sender, flushed) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(engine.flush()));
        let flushed = flushed.recv_timeout(DEADLINE).expect("it is answered");
        flushed.expect("runs");
    });
    let measured = until_measured(&engine);
    assert_eq!(
        measured.answer.new_text(),
        Some("The library opens at ten.")
    );
    // A question that goes while its answer is measured takes it along.
    engine
        .upsert("questions", "q", "library card")
        .expect("runs");
    engine.flush().expect("runs");
    engine.delete("questions", "q").expect("runs");
    engine.flush().expect("runs");
    assert!(engine.lineage("answers", "q").expect("a view").is_none());
    assert!(
        engine
            .dependents("answers", "hours")
            .expect("a view")
            .is_empty()
    );
}

#[test]
fn a_restart_knows_what_an_answer_came_with_and_measures_nothing_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let stub = Stub::new(Dialect::Vllm);
    let open = || engine(&stub, 3, answers().max_tokens(40), Some(folder.path()));
    let first = open();
    ask(&first);
    until_measured(&first);
    drop(first);
    let again = open();
    let n_asked = stub.asked().len();
    again.flush().expect("runs");
    let kept = again.answers("answers").expect("a view");
    assert_eq!(kept[0].1.dependencies.evidence(), Evidence::Lexical);
    assert_eq!(kept[0].1.rung, Rung::Regenerate);
    drop(again);
    assert_eq!(stub.asked().len(), n_asked);
}
