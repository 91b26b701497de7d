//! From a document to an answer with the small real model, which the locator fetches if it
//! is not on this machine: the whole way, nothing scripted.

use perennial::ask::Rung;
use perennial::engine::ChangeKind;
use perennial::model::locator::{Locator, OnStderr, Progress, Settings};
use perennial::{Engine, LocalModel, LocalModelOptions, Scope, View};

fn open() -> LocalModel {
    let locator = Locator::new(Settings::from_env().expect("settings"));
    let on_stderr = || Box::new(OnStderr::default()) as Box<dyn Progress>;
    let options = LocalModelOptions::default();
    LocalModel::open_with(
        "smollm2-135m",
        &options,
        &locator,
        &mut OnStderr::default(),
        on_stderr,
    )
    .expect("the model can be had")
}

#[test]
fn a_corrected_fact_shows_and_a_deleted_fact_is_gone() {
    let model = open();
    for scope in [
        Scope::Causal,
        Scope::Window { tokens: 64 },
        Scope::Independent,
    ] {
        let engine = Engine::builder(model.runtime())
            .table("docs")
            .table("questions")
            .view(
                View::named("answers")
                    .context("questions")
                    .data_source("docs")
                    .scope(scope)
                    .max_tokens(48),
            )
            .start()
            .expect("starts");
        let updates = engine.subscribe("answers").expect("known");
        let mut answers = updates.answers();
        let hours = |hour: &str| format!("The town library opens at {hour} in the morning.\n");
        let documents = [
            (
                "pets.txt",
                "Dogs are not allowed in the reading room.\n".to_owned(),
                1,
            ),
            (
                "cards.txt",
                "A reader's card costs five crowns a year.\n".to_owned(),
                2,
            ),
            ("hours.txt", hours("nine"), 3),
        ];
        for (key, text, time) in &documents {
            engine.upsert_at("docs", key, text, *time).expect("runs");
        }
        engine
            .upsert("questions", "q", "When does the town library open?")
            .expect("runs");
        let first = answers.next().expect("an answer");
        let text = first.new_text().unwrap_or_default();
        assert!(text.contains("nine"), "{scope}: {text}");

        engine
            .upsert_at("docs", "hours.txt", &hours("eleven"), 4)
            .expect("runs");
        let second = answers.next().expect("an answer");
        let text = second.new_text().unwrap_or_default();
        assert_eq!(second.kind(), ChangeKind::Changed, "{scope}");
        assert!(
            text.contains("eleven") && !text.contains("nine"),
            "{scope}: {text}"
        );
        // "nine" became "eleven" in the document, and so in the draft: one pass confirms it.
        assert_eq!(second.rung, Rung::Patch, "{scope}");
        assert!(
            second.work.n_forwarded() < second.work.n_from_scratch,
            "{scope}"
        );

        engine.delete("docs", "hours.txt").expect("runs");
        let third = answers.next().expect("an answer");
        let text = third.new_text().unwrap_or_default();
        assert!(!text.contains("eleven"), "{scope}: {text}");
    }
}
