//! `APPEND`: an answer at once that goes on from the one before, and the exact one afterwards.

use std::path::Path;
use std::sync::Arc;

use perennial::ask::append::MAX_TURNS;
use perennial::ask::scripted::{APPENDED, Scripted};
use perennial::ask::{
    AnswerModel, AnswerRequest, Before, Outcome, Priority, Rung, TensorModel, Tolerance,
};
use perennial::bank::{
    DocumentKey, FragmentStore, LayoutPassage, PassageId, PassageLayout, Repair,
};
use perennial::state::AsOf;
use perennial::{Policy, Scope};

use crate::rig::{Rig, view};
use crate::tensors::{Case, CharCodec, PLAIN, collections, decoder};

const CASE: Case = Case {
    policy: Policy::Append,
    ..PLAIN
};

fn started(state: Option<&Path>) -> Rig {
    let declared = view(2000).policy(Policy::Append);
    Rig::start(Scripted::new(), |builder| {
        let builder = builder.table("docs").table("questions").view(declared);
        match state {
            Some(dir) => builder.state(dir),
            None => builder,
        }
    })
}

#[test]
fn an_answer_goes_on_at_once_and_is_exact_then() {
    let mut rig = started(None);
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    rig.engine.settle().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    let first = updates.answers().next().expect("present");
    assert!(first.is_exact);
    rig.upsert("docs", "hours", "The library opens at ten.");
    rig.engine.settle().expect("runs");
    let told: Vec<_> = updates.answers().take(2).collect();
    let exact = "The library opens at ten.";
    let appended = format!("{exact}{APPENDED}");
    assert_eq!(told[0].new_text(), Some(&*appended));
    assert_eq!((told[0].is_exact, told[0].rung), (false, Rung::Append));
    assert_eq!((told[1].new_text(), told[1].is_exact), (Some(exact), true));
    assert_ne!(told[1].rung, Rung::Append);
    assert_eq!(rig.texts()["q"], exact);
}

#[test]
fn nothing_goes_on_where_no_document_is_left_or_something_else_is_asked() {
    let mut rig = started(None);
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    rig.engine.settle().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    updates.answers().next().expect("present");
    rig.upsert("questions", "q", "nine.");
    rig.engine.flush().expect("runs");
    assert!(updates.answers().next().expect("told").is_exact);
    rig.engine.delete("docs", "hours").expect("runs");
    rig.engine.flush().expect("runs");
    let nothing = updates.answers().next().expect("told");
    assert!(nothing.is_exact, "{nothing:?}");
    // What comes then has no conversation to go on with.
    rig.upsert("docs", "hours", "It opens at nine.");
    rig.engine.flush().expect("runs");
    assert!(updates.answers().next().expect("told").is_exact);
}

#[test]
fn the_history_has_the_appended_answers_and_a_restart_begins_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut rig = started(Some(dir.path()));
    rig.upsert("docs", "hours", "The library opens at nine.");
    rig.upsert("questions", "q", "library");
    rig.engine.settle().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    updates.answers().next().expect("present");
    rig.upsert("docs", "hours", "The library opens at ten.");
    rig.engine.settle().expect("runs");
    let epochs: Vec<u64> = updates.answers().take(2).map(|a| a.epoch).collect();
    let stood_at = |epoch| {
        let state = rig
            .engine
            .as_of(AsOf::Epoch(epoch))
            .expect("in the history");
        let answer = state.answers["answers"].values().next().expect("one");
        let text = answer.answer.as_ref().expect("answers").text.to_string();
        (text, answer.rung == Rung::Append)
    };
    let exact = "The library opens at ten.".to_owned();
    assert_eq!(stood_at(epochs[0]), (format!("{exact}{APPENDED}"), true));
    assert_eq!(stood_at(epochs[1]), (exact, false));
    drop((updates, rig));

    let mut rig = started(Some(dir.path()));
    rig.engine.flush().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    updates.answers().next().expect("present");
    rig.upsert("docs", "hours", "The library opens at noon.");
    rig.engine.flush().expect("runs");
    let told = updates.answers().next().expect("told");
    assert_eq!(told.new_text(), Some("The library opens at noon."));
    assert!(told.is_exact);
    // From there on it goes on again.
    rig.upsert("docs", "hours", "The library opens at four.");
    rig.engine.flush().expect("runs");
    assert_eq!(updates.answers().next().expect("told").rung, Rung::Append);
}

#[test]
fn what_is_forgotten_is_told_to_no_conversation() {
    let mut rig = CASE.rig(&decoder(2), 1, 1 << 26);
    let mut collections = collections();
    collections.documents = (1..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    let before = rig.contents();
    let updates = rig.engine.subscribe("answers").expect("known");
    updates.answers().next().expect("present");
    // It came, and is told of.
    let secret = "0: The grey fern meets the blue heron.";
    rig.engine.upsert_at("docs", "0", secret, 0).expect("runs");
    rig.engine.flush().expect("runs");
    assert_eq!(updates.answers().next().expect("told").rung, Rung::Append);
    let receipt = rig.engine.forget("docs", "0").expect("forgets");
    assert!(receipt.remains.is_empty(), "{receipt:?}");
    assert_eq!(rig.contents(), before);
    let heard = std::iter::from_fn(|| updates.try_recv());
    let answers = heard.filter_map(|update| match update {
        perennial::Update::Answer(answer) => Some(answer),
        _ => None,
    });
    for answer in answers {
        assert_ne!(answer.rung, Rung::Append, "{answer:?}");
    }
}

/// Of a long context only what changed is read, and the question that asks again.
#[test]
fn a_refresh_reads_what_changed_and_not_the_documents() {
    let mut rig = CASE.rig(&decoder(2), 1, 1 << 26);
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    updates.answers().next().expect("present");

    let edited = "1: The grey fern meets the blue heron.";
    rig.engine.upsert_at("docs", "1", edited, 0).expect("runs");
    rig.engine.settle().expect("runs");
    let told: Vec<_> = updates.answers().take(2).collect();
    assert_eq!((told[0].rung, told[0].is_exact), (Rung::Append, false));
    assert!(told[1].is_exact && told[1].rung != Rung::Append);
    let (turn, healing) = (told[0].work, told[1].work);
    assert!(turn.n_forwarded() * 2 < turn.n_from_scratch, "{turn:?}");
    assert!(
        turn.n_encoded * 2 < healing.n_encoded,
        "{turn:?} {healing:?}"
    );
    let exact = Case {
        policy: Policy::Exact,
        ..CASE
    };
    let mut fresh = exact.rig(&decoder(1), 1, 1 << 26);
    collections.fill(&mut fresh.engine);
    fresh
        .engine
        .upsert_at("docs", "1", edited, 0)
        .expect("runs");
    assert_eq!(rig.texts(), fresh.texts());
}

fn passage(key: usize, text: &str) -> LayoutPassage {
    LayoutPassage {
        document: DocumentKey::new(key.to_string()),
        ordinal: 0,
        id: PassageId::of("", text),
        title: "".into(),
        tokens: text.bytes().map(|b| u32::from(b - 32)).collect(),
        text: text.into(),
        is_superseded: false,
        copies: Arc::default(),
    }
}

fn answer(model: &TensorModel, layout: &PassageLayout, before: &Before) -> Outcome {
    let request = AnswerRequest {
        scope: Scope::Causal,
        prompt: "Say.",
        question: "Why?",
        layout,
        repair: Repair::default(),
        before,
        tolerance: Tolerance::APPENDED,
        keeps_log: true,
        reencode: 0,
        turnover: 1.0,
        max_tokens: 8,
        sampling: Default::default(),
        priority: Priority::Fresh,
        cancel: Default::default(),
    };
    model.answer(&request, &mut ()).expect("answers")
}

/// Turn after turn, what was said before is not read again, though nothing else refers to it, until there
/// were too many; and nothing of it is left when the log is gone.
#[test]
fn what_was_said_is_kept_from_turn_to_turn_and_ends() {
    let store = Arc::new(FragmentStore::new(1 << 26));
    let model = TensorModel::new(decoder(2), &[9; 32], CharCodec, store.clone());
    let text = |key: usize, turn: usize| format!("{key} stands here in words of turn {turn}. ");
    let long = "It is of no use. ".repeat(12);
    let mut passages: Vec<_> = (0..6)
        .map(|key| passage(key, &format!("{}{long}", text(key, 0))))
        .collect();
    let mut layout = PassageLayout::new(passages.clone());
    let mut last = answer(&model, &layout, &Before::default());
    assert!(last.is_exact && last.log.is_some());
    let n_base = layout.n_tokens();
    let mut n_turns = 0;
    loop {
        let before = Before::of("Why?".into(), layout, &last);
        // No view refers to any of it.
        store.sweep();
        passages[0] = passage(0, &text(0, n_turns + 1));
        layout = PassageLayout::new(passages.clone());
        last = answer(&model, &layout, &before);
        if last.rung != Rung::Append {
            break;
        }
        n_turns += 1;
        assert!(!last.is_exact && last.work.n_forwarded() < n_base / 2);
        // Some of it leans on words that are gone.
        assert!(last.drift > 0.0 && last.drift < 1.0, "{}", last.drift);
    }
    assert!((2..=MAX_TURNS).contains(&n_turns), "{n_turns}");
    assert!(last.is_exact && last.log.is_some());
    drop(last);
    store.sweep();
    assert_eq!(store.stats().n_fragments, 0);
}

/// A turn that only says that passages changed places is none, and nothing is read for it.
#[test]
fn passages_that_change_places_are_not_told_of() {
    let store = Arc::new(FragmentStore::new(1 << 26));
    let model = TensorModel::new(decoder(1), &[9; 32], CharCodec, store);
    let (one, two) = (passage(0, "One stands."), passage(1, "Two stands."));
    let layout = PassageLayout::new(vec![one.clone(), two.clone()]);
    let first = answer(&model, &layout, &Before::default());
    let before = Before::of("Why?".into(), layout, &first);
    let moved = answer(&model, &PassageLayout::new(vec![two, one]), &before);
    assert_eq!((moved.rung, moved.is_exact), (Rung::Append, false));
    assert_eq!((moved.work.n_forwarded(), moved.answer), (0, first.answer));
}

/// Where the documents cost no more than the turn, they are read, and the answer is exact.
#[test]
fn what_is_cheaper_laid_out_anew_is() {
    let store = Arc::new(FragmentStore::new(1 << 26));
    let model = TensorModel::new(decoder(1), &[9; 32], CharCodec, store);
    let layout = PassageLayout::new(vec![passage(0, "One stands.")]);
    let first = answer(&model, &layout, &Before::default());
    let before = Before::of("Why?".into(), layout, &first);
    let more = vec![passage(0, "One stands."), passage(1, "Two stands.")];
    let after = answer(&model, &PassageLayout::new(more), &before);
    assert!(after.is_exact && after.rung != Rung::Append);
    assert!(after.log.is_some());
}
