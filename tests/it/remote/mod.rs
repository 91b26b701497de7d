//! Models behind HTTP: what is asked of servers of several kinds, and what becomes of their troubles.

mod embedder;
mod leave_one_out;
mod prefixes;
mod prices;
mod stub;
#[cfg(all(feature = "otel", feature = "http"))]
mod traces;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial::ask::remote::{ApiKey, RemoteError, RemoteModel, RemoteOptions};
use perennial::ask::scripted::ScriptedEmbedder;
use perennial::ask::{CallError, Rung};
use perennial::engine::AnswerUpdate;
use perennial::sql::{Outcome, Script, Session};
use perennial::{Edit, Engine, Error, Policy, Runtime, Scope, Subscription, Update, View};
use proptest::prelude::*;
use serde_json::json;

use stub::{Dialect, KEY, MODEL, Stub, Thinking, Trouble, answer};

const ALL: [Dialect; 6] = [
    Dialect::Vllm,
    Dialect::Sglang,
    Dialect::LlamaCpp,
    Dialect::OpenAi,
    Dialect::Ollama,
    Dialect::Bare,
];

fn options() -> RemoteOptions {
    RemoteOptions {
        key: Some(ApiKey::new(KEY).expect("a key")),
        patience: Duration::from_secs(20),
        always_checks: true,
        ..RemoteOptions::default()
    }
}

fn open(stub: &Stub) -> RemoteModel {
    RemoteModel::open(&stub.url(), &options()).expect("opens")
}

fn runtime(stub: &Stub) -> Runtime {
    Runtime::remote(
        Arc::new(open(stub)),
        Arc::new(ScriptedEmbedder::default()),
        1,
    )
}

/// An engine over one table of documents and one of questions.
fn engine_over(runtime: Runtime, view: View) -> Engine {
    let builder = Engine::builder(runtime).table("notes").table("questions");
    builder.view(view).start().expect("starts")
}

/// The view of all tests.
fn answers() -> View {
    View::named("answers")
        .context("questions")
        .data_source("notes")
}

/// A view of one table of documents and one of questions.
struct Rig {
    engine: Engine,
    updates: Subscription,
}

impl Rig {
    fn new(stub: &Stub) -> Self {
        Self::with(stub, Policy::Exact, None)
    }

    fn with(stub: &Stub, policy: Policy, state: Option<&Path>) -> Self {
        let view = answers();
        let mut builder = Engine::builder(runtime(stub))
            .table("notes")
            .table("questions")
            .view(view.policy(policy).max_tokens(40));
        if let Some(state) = state {
            builder = builder.state(state);
        }
        let engine = builder.start().expect("starts");
        let updates = engine.subscribe("answers").expect("a view");
        Self { engine, updates }
    }

    fn note(&mut self, key: &str, text: &str) {
        self.engine.upsert("notes", key, text).expect("runs");
    }

    fn ask(&mut self, key: &str, text: &str) {
        self.engine.upsert("questions", key, text).expect("runs");
    }

    /// What an epoch says.
    fn said(&mut self) -> Vec<AnswerUpdate> {
        self.engine.flush().expect("runs");
        let updates = std::iter::from_fn(|| self.updates.try_recv());
        let answers = updates.filter_map(|update| match update {
            Update::Answer(answer) => Some(answer),
            _ => None,
        });
        answers.collect()
    }

    /// What stands: the text of each answer, or why there is none.
    fn stands(&mut self) -> BTreeMap<String, String> {
        self.engine.settle().expect("runs");
        let snapshot = self.engine.answers("answers").expect("a view");
        let shown = snapshot.into_iter().map(|(context, current)| {
            let text = match current.answer {
                Ok(answer) => answer.text.to_string(),
                Err(error) => error.to_string(),
            };
            (context.to_string(), text)
        });
        shown.collect()
    }
}

#[test]
fn an_answer_follows_its_documents_over_any_server() {
    for dialect in ALL {
        let stub = Stub::new(dialect);
        let mut rig = Rig::new(&stub);
        rig.note("hours", "The library opens at nine.");
        rig.note("cards", "A card costs five crowns.");
        rig.ask("q", "library");
        let said = rig.said();
        let [new] = &said[..] else {
            panic!("{dialect:?}: {said:?}");
        };
        assert_eq!(
            new.new_text(),
            Some("The library opens at nine."),
            "{dialect:?}"
        );
        assert!(new.is_memoised && !new.is_exact, "{dialect:?}");
        assert_eq!(new.sub_paragraphs[0].sources[0].document.as_str(), "hours");
        assert!(
            new.work.n_decoded > 0 && new.work.n_from_scratch > 20,
            "{:?}",
            new.work
        );
        rig.note("hours", "The library opens at ten.");
        let said = rig.said();
        assert_eq!(
            said[0].new_text(),
            Some("The library opens at ten."),
            "{dialect:?}"
        );
        rig.engine.delete("notes", "hours").expect("runs");
        let said = rig.said();
        assert_eq!(
            said[0].new_text(),
            Some("Nothing is known of library."),
            "{dialect:?}"
        );
        let n_asked = stub.asked().len();
        rig.engine.delete("questions", "q").expect("runs");
        rig.engine.flush().expect("runs");
        assert_eq!(stub.asked().len(), n_asked, "a retraction asks nobody");
    }
}

#[test]
fn a_rerun_over_a_plain_prompt_reads_all_of_it() {
    let stub = Stub::new(Dialect::Bare);
    let mut rig = Rig::new(&stub);
    let long = "The library opens at nine, and closes at five. ".repeat(20);
    rig.note("hours", &long);
    rig.ask("q", "library");
    rig.engine.flush().expect("runs");
    let told = std::iter::from_fn(|| rig.updates.try_recv());
    let complete = told.filter_map(|update| match update {
        Update::EpochComplete(summary) => Some(summary),
        _ => None,
    });
    let last = complete.last().expect("an epoch");
    // The first answer is what a rerun makes.
    assert_eq!(last.n_rerun, last.work.n_from_scratch);
    assert!(last.n_rerun > 200, "{}", last.n_rerun);
}

#[test]
fn what_a_server_can_do_is_found_by_asking() {
    for dialect in ALL {
        let stub = Stub::new(dialect);
        let model = open(&stub);
        let report = model.report();
        assert_eq!(
            model.name().trim_end_matches(":latest"),
            MODEL,
            "{dialect:?}"
        );
        let says = |of: &[Dialect]| of.contains(&dialect);
        let open = [Dialect::Vllm, Dialect::Sglang];
        assert_eq!(report.scores_prompts, says(&open), "{dialect:?}");
        let is_native = says(&[Dialect::Sglang]);
        assert_eq!(report.scores_natively, is_native, "{dialect:?}");
        assert_eq!(report.obeys_schemas, stub_obeys(dialect), "{dialect:?}");
        assert_eq!(report.scores_answers, says(&open), "{dialect:?}");
        assert_eq!(report.streams, dialect != Dialect::Bare);
        assert_eq!(report.counts_tokens, dialect != Dialect::Bare);
        let tells_window = says(&[Dialect::Vllm, Dialect::Sglang, Dialect::LlamaCpp]);
        assert_eq!(report.n_positions, tells_window.then_some(stub::WINDOW));
        assert_eq!(
            report.n_cached.is_some_and(|n| n > 100),
            stub_obeys(dialect),
            "{dialect:?}"
        );
        assert!(!report.thinks);
        assert_eq!(report.repeats.alone, report.repeats.of);
    }
}

#[test]
fn an_answer_that_stands_is_read_in_one_request_and_not_written_again() {
    an_answer_that_stands_is_read(Dialect::Vllm, 1);
}

#[test]
fn sglang_reads_an_answer_that_stands_in_two_requests() {
    an_answer_that_stands_is_read(Dialect::Sglang, 2);
}

fn an_answer_that_stands_is_read(dialect: Dialect, n_requests: usize) {
    let stub = Stub::new(dialect);
    let mut rig = Rig::new(&stub);
    rig.note("hours", "The library opens at nine. It closes at five.");
    rig.ask("q", "library closes");
    rig.said();
    let (n_decoded, n_asked) = (stub.n_decoded(), stub.asked().len());
    rig.note("cards", "A card costs five crowns.");
    let said = rig.said();
    assert_eq!(said[0].rung, Rung::Verify);
    assert_eq!(said[0].kind(), perennial::engine::ChangeKind::Stands);
    assert_eq!(stub.n_decoded(), n_decoded, "nothing is written");
    assert_eq!(stub.asked().len(), n_asked + n_requests);
    assert_eq!(said[0].work.n_draft, 9);
    // The new words stand in the place of the old ones.
    rig.note("hours", "The library opens at ten. It closes at five.");
    let said = rig.said();
    assert_eq!(said[0].rung, Rung::Patch);
    assert_eq!(
        said[0].new_text(),
        Some("The library opens at ten. It closes at five.")
    );
    assert_eq!(stub.n_decoded(), n_decoded);
    // What stands of it is kept, and the model goes on from there: here it has nothing to add.
    rig.note("hours", "The library opens at ten.");
    let said = rig.said();
    assert_eq!(said[0].rung, Rung::Rewrite);
    assert_eq!(said[0].new_text(), Some("The library opens at ten."));
    // A server writes one token where it is asked to check.
    assert_eq!(stub.n_decoded(), n_decoded + 1);
    let asked = stub.asked();
    let last = asked.last().expect("a request");
    let begin = last.pointer("/messages/2/content");
    assert_eq!(begin, Some(&json!("The library opens at ten.")));
    assert!(last.get("prompt_logprobs").is_none());
    // And here it has.
    rig.note("hours", "The library opens at ten. Then closes it.");
    let said = rig.said();
    assert_eq!(said[0].rung, Rung::Rewrite);
    assert_eq!(
        said[0].new_text(),
        Some("The library opens at ten. Then closes it.")
    );
    assert_eq!(
        said[0].work.n_decoded,
        3 + 1,
        "and one token while it was checked"
    );
}

#[test]
fn a_stable_answer_goes_on_where_documents_say_more() {
    let stub = Stub::new(Dialect::Vllm);
    let native = Stub::new(Dialect::Sglang);
    for (stub, millinats) in [(&stub, 5000), (&stub, 100), (&native, 5000), (&native, 100)] {
        let mut rig = Rig::with(stub, Policy::Stable { millinats }, None);
        rig.note("hours", "The library opens at nine.");
        rig.ask("q", "library");
        rig.said();
        rig.note("more", "The library rests.");
        let said = rig.said();
        let new = said[0].new_text().expect("an answer");
        // Behind the old answer the model would go on: that is no ending of it.
        assert_eq!(new, "The library opens at nine. The library rests.");
        rig.engine.delete("notes", "hours").expect("runs");
        let said = rig.said();
        assert_eq!(
            said[0].new_text(),
            Some("The library rests."),
            "{millinats}"
        );
    }
}

#[test]
fn a_stable_answer_stands_while_another_is_not_much_likelier() {
    let stub = Stub::new(Dialect::Vllm);
    let native = Stub::new(Dialect::Sglang);
    // Three of five words are less likely by two nats: 1.2 nats a token.
    for (stub, millinats, stands) in [
        (&stub, 2000, true),
        (&stub, 1000, false),
        (&native, 2000, true),
        (&native, 1000, false),
    ] {
        let mut rig = Rig::with(stub, Policy::Stable { millinats }, None);
        rig.note("hours", "The library opens at nine.");
        rig.ask("q", "library");
        rig.said();
        let edits = vec![
            Edit::delete("notes", "hours"),
            Edit::upsert("notes", "rest", "The library rests."),
        ];
        rig.engine.apply(edits).expect("runs");
        let said = rig.said();
        let [answer] = &said[..] else {
            panic!("{said:?}");
        };
        if stands {
            assert_eq!(answer.rung, Rung::Verify);
            assert_eq!(answer.new_text(), Some("The library opens at nine."));
            assert!((answer.regret - 1.2).abs() < 1e-5, "{}", answer.regret);
            assert!(!answer.is_exact);
        } else {
            assert_eq!(answer.rung, Rung::Rewrite);
            assert_eq!(answer.new_text(), Some("The library rests."));
        }
    }
}

#[test]
fn whatever_goes_wrong_on_the_way_only_a_whole_reply_is_an_answer() {
    let all = [
        Trouble::Busy,
        Trouble::Fails,
        Trouble::HangsUp,
        Trouble::CutOff,
        Trouble::Html,
        Trouble::Empty,
        Trouble::ErrorInside,
        Trouble::NoJson,
        Trouble::OtherModel,
    ];
    let dialects = [Dialect::Vllm, Dialect::Sglang];
    for (trouble, dialect) in all.into_iter().flat_map(|of| dialects.map(|in_| (of, in_))) {
        let stub = Stub::new(dialect);
        let mut rig = Rig::new(&stub);
        rig.note("hours", "The library opens at nine.");
        stub.trouble([trouble, trouble]);
        rig.ask("q", "library");
        let said = rig.said();
        let texts: Vec<_> = said.iter().map(AnswerUpdate::new_text).collect();
        assert_eq!(texts, [Some("The library opens at nine.")], "{trouble:?}");
        // An answer that is checked, too.
        stub.trouble([trouble]);
        rig.note("hours", "The library opens at ten.");
        let said = rig.said();
        let texts: Vec<_> = said.iter().map(AnswerUpdate::new_text).collect();
        assert_eq!(texts, [Some("The library opens at ten.")], "{trouble:?}");
    }
}

#[test]
fn whatever_goes_wrong_while_a_draft_is_read_the_answer_is_right() {
    let all = [
        Trouble::Busy,
        Trouble::Fails,
        Trouble::HangsUp,
        Trouble::CutOff,
        Trouble::Html,
        Trouble::Empty,
        Trouble::ErrorInside,
    ];
    for trouble in all {
        let stub = Stub::new(Dialect::Sglang);
        let mut rig = Rig::new(&stub);
        rig.note("hours", "The library opens at nine.");
        rig.ask("q", "library");
        rig.said();
        stub.trouble_reading([trouble]);
        rig.note("hours", "The library opens at ten.");
        let said = rig.said();
        let texts: Vec<_> = said.iter().map(AnswerUpdate::new_text).collect();
        assert_eq!(texts, [Some("The library opens at ten.")], "{trouble:?}");
    }
}

#[test]
fn an_engine_that_ends_waits_for_no_server_that_hangs() {
    let deadline = Duration::from_secs(60);
    let stub = Stub::new(Dialect::Vllm);
    let options = RemoteOptions {
        patience: 100 * deadline,
        ..options()
    };
    let model = RemoteModel::open(&stub.url(), &options).expect("opens");
    let embedder = Arc::new(ScriptedEmbedder::default());
    let engine = engine_over(Runtime::remote(Arc::new(model), embedder, 1), answers());
    let n_before = stub.asked().len();
    stub.trouble([Trouble::Hangs]);
    let note = Edit::upsert("notes", "hours", "The library opens at nine.");
    let question = Edit::upsert("questions", "q", "library");
    engine.apply(vec![note, question]).expect("runs");
    let begun = Instant::now();
    while stub.asked().len() == n_before {
        assert!(begun.elapsed() < deadline, "it is asked");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(engine);
        sender.send(())
    });
    ended.recv_timeout(deadline).expect("it ends");
}

#[test]
fn a_call_that_is_tried_again_is_told_as_late() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let mut rig = Rig::new(&stub);
    rig.note("hours", "The library opens at nine.");
    stub.trouble([Trouble::OtherModel, Trouble::OtherModel]);
    rig.ask("q", "library");
    rig.engine.flush().expect("runs");
    let updates = std::iter::from_fn(|| rig.updates.try_recv());
    let reasons: Vec<String> = updates
        .filter_map(|update| match update {
            Update::Notice { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("answers as `another-model`")),
        "{reasons:?}"
    );
}

#[test]
fn a_prompt_that_a_server_shortens_in_silence_has_no_answer() {
    let stub = Stub::new(Dialect::Ollama);
    let spacious = RemoteOptions {
        n_positions: Some(100_000),
        ..options()
    };
    let model = RemoteModel::open(&stub.url(), &spacious).expect("opens");
    let runtime = Runtime::remote(Arc::new(model), Arc::new(ScriptedEmbedder::default()), 1);
    let engine = engine_over(runtime, answers().token_budget(50_000));
    let long = "The museum shows many old ships and maps. ".repeat(200);
    engine.upsert("notes", "long", &long).expect("runs");
    engine.upsert("questions", "q", "ships").expect("runs");
    engine.settle().expect("runs");
    let stands = engine.answers("answers").expect("a view");
    let (_, current) = stands.into_iter().next().expect("one");
    assert!(
        matches!(current.answer, Err(CallError::DoesNotFit { .. })),
        "{:?}",
        current.answer
    );
}

#[test]
fn tables_and_rules_that_are_read_whole_are_not_taken_for_shortened() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let mut rig = Rig::new(&stub);
    let rule = "=".repeat(70);
    let contents = format!("Chapter {} 7\n", ".".repeat(60));
    rig.note(
        "book",
        &format!(
            "{rule}\n{}\n\n\nThe library opens at nine.",
            contents.repeat(9)
        ),
    );
    rig.ask("q", "library");
    assert_eq!(rig.stands()["q"], "The library opens at nine.");
}

#[test]
fn a_model_that_says_nothing_is_asked_three_times_and_believed() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let mut rig = Rig::new(&stub);
    rig.note("hours", "The library opens at nine.");
    stub.trouble([Trouble::Empty; 3]);
    let n_asked = stub.asked().len();
    rig.ask("q", "library");
    assert!(rig.stands()["q"].contains("the model says nothing"));
    assert_eq!(stub.asked().len() - n_asked, 3);
}

#[test]
fn who_waits_for_limits_has_not_failed() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let mut slow = options();
    slow.limits.at_once = 1;
    let model = RemoteModel::open(&stub.url(), &slow).expect("opens");
    let runtime = Runtime::remote(Arc::new(model), Arc::new(ScriptedEmbedder::default()), 1);
    let runtime = runtime.calling_at_a_time(4);
    let engine = engine_over(runtime, answers());
    let updates = engine.subscribe("answers").expect("a view");
    engine
        .upsert("notes", "hours", "The library opens at nine.")
        .expect("runs");
    for q in 0..6 {
        engine
            .upsert("questions", &format!("q{q}"), "library")
            .expect("runs");
    }
    engine.settle().expect("runs");
    let is_late = |update: &Update| matches!(update, Update::Notice { message, .. } if message.starts_with("late"));
    let late: Vec<Update> = std::iter::from_fn(|| updates.try_recv())
        .filter(is_late)
        .collect();
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_prompt_that_does_not_fit_is_an_answer_that_says_so() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let mut rig = Rig::new(&stub);
    rig.note("hours", "The library opens at nine.");
    rig.ask("q", &"word ".repeat(1000));
    let stands = rig.stands();
    assert!(stands["q"].contains("does not fit"), "{stands:?}");
}

#[test]
fn what_a_model_thinks_is_left_out() {
    for thinking in [Thinking::Tags, Thinking::Unopened, Thinking::Field] {
        let stub = Stub::thinking(Dialect::Vllm, thinking, Duration::ZERO);
        let model = open(&stub);
        assert!(model.report().thinks, "{thinking:?}");
        assert!(
            !model.report().scores_prompts,
            "what it thought is not known"
        );
        let mut rig = Rig::new(&stub);
        rig.note("hours", "The library opens at nine.");
        rig.ask("q", "library");
        let said = rig.said();
        assert_eq!(
            said[0].new_text(),
            Some("The library opens at nine."),
            "{thinking:?}"
        );
        let asked = stub.asked();
        let limit = asked.last().expect("a request")["max_tokens"].as_u64();
        assert!(limit > Some(200), "room to think: {limit:?}");
    }
}

#[test]
fn a_server_that_cannot_be_used_is_told_where_the_model_is_created() {
    let stub = Stub::new(Dialect::OpenAi);
    let wrong = RemoteOptions {
        key: Some(ApiKey::new("sk-wrong-and-secret").expect("a key")),
        ..options()
    };
    let said = |spec: &str, options: &RemoteOptions| {
        let error = RemoteModel::open(spec, options).err().expect("an error");
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
        error.to_string()
    };
    let refused = said(&stub.url(), &wrong);
    assert!(refused.contains("wants another key"), "{refused}");
    let named = said(&format!("{}#other", stub.url()), &options());
    assert!(
        named.contains("no model `other`") && named.contains(MODEL),
        "{named}"
    );
    let nobody = said("http://127.0.0.1:1/v1", &options());
    assert!(nobody.contains("cannot be reached"), "{nobody}");
    assert!(matches!(
        RemoteModel::open("http://", &options()),
        Err(RemoteError::Address { .. })
    ));
    let ollama = Stub::new(Dialect::Ollama);
    let tagged = RemoteModel::open(&format!("{}#{MODEL}", ollama.url()), &options());
    assert_eq!(tagged.expect("opens").name(), MODEL);
}

#[test]
fn a_view_that_needs_fragments_is_refused() {
    let stub = Stub::new(Dialect::Vllm);
    let view = answers();
    let start = |view: View| {
        let builder = Engine::builder(runtime(&stub))
            .table("notes")
            .table("questions");
        builder.view(view).start()
    };
    let error = start(view.clone().scope(Scope::Window { tokens: 64 })).err();
    let error = error.expect("refused");
    assert!(matches!(error, Error::View(_)), "{error}");
    assert!(error.to_string().contains("plain prompts"), "{error}");
    let hidden = view.superseded("hide".parse().expect("a repair"));
    assert!(start(hidden).is_err());
}

#[test]
fn a_document_that_is_superseded_is_not_sent() {
    let stub = Stub::new(Dialect::Vllm);
    let mut rig = Rig::new(&stub);
    rig.note("old", "The library opens at nine.");
    rig.ask("q", "library");
    rig.said();
    let new = Edit::upsert("notes", "new", "The library opens at ten.").superseding(["old"]);
    rig.engine.apply(vec![new]).expect("runs");
    let said = rig.said();
    assert_eq!(
        said.last().and_then(AnswerUpdate::new_text),
        Some("The library opens at ten.")
    );
}

#[test]
fn no_more_requests_run_at_once_than_may() {
    let stub = Stub::thinking(
        Dialect::LlamaCpp,
        Thinking::Never,
        Duration::from_millis(20),
    );
    let mut few = options();
    few.limits.at_once = 3;
    let model = RemoteModel::open(&stub.url(), &few).expect("opens");
    stub.take_peak();
    let runtime = Runtime::remote(Arc::new(model), Arc::new(ScriptedEmbedder::default()), 1);
    let engine = engine_over(runtime, answers());
    engine
        .upsert("notes", "hours", "The library opens at nine.")
        .expect("runs");
    for q in 0..12 {
        let key = format!("q{q}");
        engine.upsert("questions", &key, "library").expect("runs");
    }
    engine.settle().expect("runs");
    assert_eq!(engine.answers("answers").expect("a view").len(), 12);
    let peak = stub.take_peak();
    assert!((2..=3).contains(&peak), "{peak}");
}

#[test]
fn a_restart_asks_nothing_and_checks_what_changed_meanwhile() {
    let stub = Stub::new(Dialect::Vllm);
    let dir = tempfile::tempdir().expect("a folder");
    let mut rig = Rig::with(&stub, Policy::Exact, Some(dir.path()));
    rig.note("hours", "The library opens at nine.");
    rig.ask("q", "library");
    assert_eq!(rig.stands()["q"], "The library opens at nine.");
    drop(rig);
    let probes = Stub::new(Dialect::Vllm);
    open(&probes);
    let n_of_probe = probes.asked().len();
    let n_asked = stub.asked().len();
    let mut rig = Rig::with(&stub, Policy::Exact, Some(dir.path()));
    assert_eq!(rig.stands()["q"], "The library opens at nine.");
    assert_eq!(stub.asked().len() - n_asked, n_of_probe, "only the probe");
    let n_decoded = stub.n_decoded();
    rig.note("cards", "A card costs five crowns.");
    let said = rig.said();
    assert_eq!(said.last().map(|update| update.rung), Some(Rung::Verify));
    assert_eq!(stub.n_decoded(), n_decoded);
}

/// Rows of the last statement, as text, and notices.
fn run(session: &mut Session, text: &str) -> (Vec<String>, Vec<String>) {
    let (mut rows, mut said) = (Vec::new(), Vec::new());
    let ran = session.run(&Script::new("r.sql", text), |_, outcome| {
        if let Outcome::Rows {
            rows: all, notices, ..
        } = outcome
        {
            let shown = all.iter().map(|row| {
                let values: Vec<String> = row.iter().map(ToString::to_string).collect();
                values.join("|")
            });
            rows = shown.collect();
            said.extend(notices.iter().map(ToString::to_string));
        }
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    (rows, said)
}

#[test]
fn questions_about_rows_are_asked_of_servers_too() {
    for dialect in ALL {
        let stub = Stub::new(dialect);
        let engine = Engine::builder(runtime(&stub)).start().expect("starts");
        let mut session = Session::new(engine, "remote");
        let (rows, notices) = run(
            &mut session,
            "CREATE TABLE letters (key TEXT, text TEXT);
             INSERT INTO letters VALUES ('a', 'the tone is angry'), ('b', 'the tone is calm');
             SELECT key, sem_classify('What is the tone of {text}?', 'calm', 'angry') AS tone
             FROM letters ORDER BY key;",
        );
        match stub_obeys(dialect) {
            true => assert_eq!(
                (rows, notices.len()),
                (vec!["a|angry".into(), "b|calm".into()], 0)
            ),
            // What is none of the choices is no choice.
            false => {
                assert_eq!(rows, ["a|NULL", "b|NULL"], "{dialect:?}");
                assert!(
                    notices[0].contains("which is none of: calm, angry"),
                    "{notices:?}"
                );
            }
        }
    }
}

#[test]
fn values_are_read_out_of_rows_by_servers_too() {
    for dialect in ALL {
        let stub = Stub::new(dialect);
        let engine = Engine::builder(runtime(&stub)).start().expect("starts");
        let mut session = Session::new(engine, "remote");
        let (rows, notices) = run(
            &mut session,
            "CREATE TABLE letters (key TEXT, text TEXT);
             INSERT INTO letters VALUES ('a', 'angry about 12.5 crowns'), ('b', 'nothing is said');
             SELECT key, price + 1 AS more, tone, is_new FROM
             (SELECT key, sem_extract('{text}', price => FLOAT, tone => ('calm', 'angry'),
                                      is_new => BOOLEAN) FROM letters) AS x ORDER BY key;",
        );
        match stub_obeys(dialect) {
            true => {
                assert_eq!(
                    rows,
                    ["a|13.5|angry|NULL", "b|NULL|NULL|NULL"],
                    "{dialect:?}"
                );
                assert!(notices.is_empty(), "{notices:?}");
            }
            // What is no record is told, and all of its columns are NULL.
            false => {
                assert_eq!(
                    rows,
                    ["a|NULL|NULL|NULL", "b|NULL|NULL|NULL"],
                    "{dialect:?}"
                );
                assert!(
                    notices[0].contains("which is no JSON object"),
                    "{notices:?}"
                );
            }
        }
    }
}

fn stub_obeys(dialect: Dialect) -> bool {
    matches!(
        dialect,
        Dialect::Vllm | Dialect::Sglang | Dialect::OpenAi | Dialect::LlamaCpp
    )
}

#[test]
fn a_statement_opens_a_model_behind_http_as_it_says() {
    let stub = Stub::new(Dialect::LlamaCpp);
    let engine = Engine::builder(runtime(&stub)).start().expect("starts");
    let opening = stub.url();
    let mut session = Session::new(engine, "plain").opening(move |model| {
        assert!(model.spec.of.starts_with(&*opening));
        assert_eq!(model.options.len(), 2);
        let opened = RemoteModel::open(&model.spec.of, &options())?;
        Ok(Runtime::remote(
            Arc::new(opened),
            Arc::new(ScriptedEmbedder::default()),
            1,
        ))
    });
    let url = stub.url();
    let (rows, _) = run(
        &mut session,
        &format!(
            "CREATE MODEL far FROM '{url}#{MODEL}' WITH (CALLS_AT_ONCE = 2, PATIENCE = '9 s');
             SHOW MODELS;"
        ),
    );
    assert_eq!(
        rows,
        [format!(
            "far|{url}#{MODEL} WITH (CALLS_AT_ONCE = 2, PATIENCE = '9 s')|false"
        )]
    );
    let mut plan = String::new();
    session
        .run(
            &Script::new(
                "r.sql",
                "CREATE TABLE t (key TEXT, text TEXT);
                 EXPLAIN SELECT key FROM t WHERE sem_filter('Is {text} so?', model => far);",
            ),
            |_, outcome| {
                if let Outcome::Plan(told) = outcome {
                    plan = told;
                }
                Ok(())
            },
        )
        .expect("runs");
    assert!(
        plan.contains("an answer stands until its row changes"),
        "{plan}"
    );
}

/// What happens in a random history.
#[derive(Clone, Debug)]
enum Step {
    Note(u8, Option<u8>),
    Ask(u8, Option<u8>),
    Trouble(Trouble),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let troubles = prop::sample::select(vec![
        Trouble::Busy,
        Trouble::Fails,
        Trouble::HangsUp,
        Trouble::CutOff,
        Trouble::Html,
        Trouble::Empty,
        Trouble::ErrorInside,
        Trouble::NoJson,
        Trouble::OtherModel,
    ]);
    let step = prop_oneof![
        5 => (0u8..4, prop::option::weighted(0.8, 0u8..8)).prop_map(|(k, t)| Step::Note(k, t)),
        2 => (0u8..3, prop::option::weighted(0.8, 0u8..4)).prop_map(|(k, t)| Step::Ask(k, t)),
        1 => troubles.prop_map(Step::Trouble),
        3 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 4..20)
}

const SENTENCES: [&str; 8] = [
    "The library opens at nine.",
    "The library opens at ten.",
    "A card costs five crowns.",
    "A card costs six crowns. Children pay nothing.",
    "The boat leaves at noon. The boat is red.",
    "The boat leaves at one. The boat is red.",
    "Nobody knows the library.",
    "It rains.",
];
const QUESTIONS: [&str; 4] = ["library", "card costs", "boat", "library boat"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the history, and whatever goes wrong on the way: what stands is what a server says
    /// that is asked once, over what stands.
    #[test]
    fn any_history_with_any_troubles_ends_as_a_run_from_scratch(
        steps in steps(),
        dialect in prop::sample::select(vec![
            Dialect::Vllm,
            Dialect::Sglang,
            Dialect::LlamaCpp,
            Dialect::Bare,
        ]),
    ) {
        let stub = Stub::new(dialect);
        let mut rig = Rig::new(&stub);
        let (mut notes, mut questions) = (BTreeMap::new(), BTreeMap::new());
        let (mut at, mut n_empty, mut n_troubles) = (0, 0, 0);
        for step in steps {
            at += 1;
            match step {
                Step::Note(key, Some(text)) => {
                    let (key_text, text_of) = (key.to_string(), SENTENCES[usize::from(text)]);
                    let edit = Edit::upsert("notes", key_text.as_str(), text_of).at(at);
                    rig.engine.apply(vec![edit]).expect("runs");
                    notes.insert(key, (at, text));
                }
                Step::Note(key, None) => {
                    rig.engine.delete("notes", &key.to_string()).expect("runs");
                    notes.remove(&key);
                }
                Step::Ask(key, Some(text)) => {
                    rig.ask(&key.to_string(), QUESTIONS[usize::from(text)]);
                    questions.insert(key, text);
                }
                Step::Ask(key, None) => {
                    rig.engine.delete("questions", &key.to_string()).expect("runs");
                    questions.remove(&key);
                }
                // A model that says nothing three times is believed, and a server that fails again
                // and again is left alone for long.
                Step::Trouble(Trouble::Empty) if n_empty == 2 => {}
                Step::Trouble(trouble) if n_troubles < 5 => {
                    n_troubles += 1;
                    n_empty += usize::from(trouble == Trouble::Empty);
                    stub.trouble([trouble]);
                }
                Step::Trouble(_) => {}
                Step::Flush => {
                    rig.engine.flush().expect("runs");
                }
            }
        }
        let stands = rig.stands();
        let mut ordered: Vec<(i64, u8)> = notes.values().copied().collect();
        ordered.sort_unstable();
        let texts = || ordered.iter().map(|(_, text)| SENTENCES[usize::from(*text)]);
        let expected: BTreeMap<String, String> = questions
            .iter()
            .map(|(key, wording)| {
                let said = match ordered.is_empty() {
                    true => CallError::NoDocuments.to_string(),
                    false => answer(texts(), QUESTIONS[usize::from(*wording)]),
                };
                (key.to_string(), said)
            })
            .collect();
        prop_assert_eq!(stands, expected);
    }
}
