//! `EXACT` over real tensors: whatever the history, an answer is token-identical to a run
//! from scratch, and the fragment store holds the same bits.

use std::sync::Arc;

use perennial::ask::{AnswerModel, AnswerRequest, Before, Priority, TensorModel, Tolerance};
use perennial::bank::repair::Extent;
use perennial::bank::{
    DocumentKey, FragmentStore, LayoutPassage, PassageId, PassageLayout, Repair,
};
use perennial::{Order, Policy, Scope};
use proptest::prelude::*;

use crate::history::steps;
use crate::tensors::{Case, CharCodec, PLAIN, collections, decoder, text, wording};

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Causal),
        Just(Scope::Independent),
        (8u32..160).prop_map(|tokens| Scope::Window { tokens }),
        // Passages have 64 tokens at most.
        (1u32..80).prop_map(|tokens| Scope::Boundary { tokens }),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let bounded = Policy::Bounded { millinats: 50 };
    let stable = Policy::Stable { millinats: 200 };
    prop::sample::select(vec![
        Policy::Exact,
        Policy::Eventual,
        Policy::Append,
        stable,
        bounded,
    ])
}

fn case() -> impl Strategy<Value = Case> {
    (
        scope(),
        prop::sample::select(vec![Order::Key, Order::UpdatedAt]),
        prop::sample::select(vec![120usize, 3000]),
        prop::bool::weighted(0.25),
        policy(),
        prop::sample::select(vec![
            Repair::Evict,
            Repair::Hide,
            Repair::ZeroValues(Extent::default()),
        ]),
        0usize..3,
        prop::sample::select(vec![0.0f32, 0.2, 0.5, 1.0]),
        prop::sample::select(vec![1usize, 2, 4]),
        // The small store holds about forty tokens: most fragments are lost and encoded
        // again.
        prop::sample::select(vec![20_000usize, 1 << 26]),
    )
        .prop_map(
            |(
                scope,
                order,
                budget,
                sampled,
                policy,
                superseded,
                reencode,
                turnover,
                workers,
                store_bytes,
            )| Case {
                scope,
                order,
                budget,
                sampled,
                policy,
                superseded,
                reencode,
                turnover,
                workers,
                store_bytes,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_is_token_identical_to_a_run_from_scratch(
        case in case(),
        steps in steps(5, 0..=u8::MAX, 2, 0..4, 4..16),
    ) {
        let decoder = decoder(2);
        let mut collections = collections();
        collections.questions.insert(0, 0);
        let mut rig = collections.run(steps, || case.rig(&decoder, case.workers, case.store_bytes));
        rig.engine.settle().expect("runs");
        // What it keeps to go on from an answer is a function of the answer.
        let policy = match case.policy {
            Policy::Append => Policy::Append,
            _ => Policy::Exact,
        };
        let mut fresh = Case { policy, ..case }.rig(&decoder, 1, 1 << 26);
        collections.fill(&mut fresh.engine);
        prop_assert_eq!(rig.texts(), fresh.texts());
        if case.store_bytes == 1 << 26 {
            prop_assert_eq!(rig.contents(), fresh.contents());
        }
    }

    #[test]
    fn insert_and_delete_leave_the_store_as_never_inserted(
        scope in scope(),
        seeds in prop::collection::vec(any::<u8>(), 1..5),
        guest in any::<u8>(),
        guest_key in 0u8..10,
    ) {
        let case = Case { scope, ..PLAIN };
        let decoder = decoder(1);
        let mut collections = collections();
        collections.documents =
            (0u8..).zip(&seeds).map(|(i, seed)| (i * 2, (*seed, 0))).collect();
        collections.questions.insert(0, 3);
        let mut rig = case.rig(&decoder, 2, 1 << 26);
        collections.fill(&mut rig.engine);
        let before = rig.contents();
        prop_assert!(!before.is_empty());
        let key = format!("{}b", guest_key);
        rig.engine.upsert_at("docs", &key, &text(guest), 0).expect("runs");
        prop_assert!(rig.contents() != before);
        rig.engine.delete("docs", &key).expect("runs");
        prop_assert_eq!(rig.contents(), before);
    }
}

/// Nothing is compared in vain: the seeded model's answers depend on documents, order,
/// question and scope.
#[test]
fn the_seeded_model_tells_its_inputs_apart() {
    let decoder = decoder(2);
    let answer = |scope, order, seeds: [u8; 3], question: u8| {
        let case = Case {
            scope,
            order,
            ..PLAIN
        };
        let mut rig = case.rig(&decoder, 1, 1 << 26);
        let at = [3, 1, 2];
        let mut collections = collections();
        collections.documents = (0u8..).zip(seeds.into_iter().zip(at)).collect();
        collections.questions.insert(0, question);
        collections.fill(&mut rig.engine);
        rig.texts().remove("0").expect("one answer")
    };
    let plain = answer(Scope::Causal, Order::Key, [7, 31, 113], 0);
    assert!(plain.len() > 4, "{plain:?}");
    for other in [
        answer(Scope::Causal, Order::Key, [7, 31, 114], 0),
        answer(Scope::Causal, Order::UpdatedAt, [7, 31, 113], 0),
        answer(Scope::Causal, Order::Key, [7, 31, 113], 1),
        answer(Scope::Independent, Order::Key, [7, 31, 113], 0),
    ] {
        assert_ne!(plain, other);
    }
}

/// Borrowed fragments change what is answered at once and what it costs, and nothing else.
#[test]
fn a_spliced_answer_is_marked_and_costs_the_new_passage_only() {
    let decoder = decoder(2);
    let case = Case {
        policy: Policy::Eventual,
        ..PLAIN
    };
    let mut rig = case.rig(&decoder, 1, 1 << 26);
    let mut collections = collections();
    collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    assert!(updates.answers().next().expect("present").is_exact);

    let edited = "1: The grey fern meets the blue heron.";
    rig.engine.upsert_at("docs", "1", edited, 0).expect("runs");
    rig.engine.settle().expect("runs");
    let told: Vec<_> = updates.answers().take(2).collect();
    assert_eq!((told[0].is_exact, told[1].is_exact), (false, true));
    assert!(
        told[0].drift > 0.0 && told[0].drift < 1.0,
        "{}",
        told[0].drift
    );
    let n_encoded = |i: usize| told[i].work.n_encoded;
    assert!(n_encoded(0) < 64 && n_encoded(0) > 0, "{}", n_encoded(0));
    // Everything behind the edit is encoded again to heal it.
    assert!(
        n_encoded(1) > 4 * n_encoded(0),
        "{} {}",
        n_encoded(1),
        n_encoded(0)
    );

    // A deletion encodes nothing at all before its answer is healed.
    rig.engine.delete("docs", "2").expect("runs");
    rig.engine.settle().expect("runs");
    let told: Vec<_> = updates.answers().take(2).collect();
    assert_eq!((told[0].is_exact, told[0].work.n_encoded), (false, 0));
    assert!(told[1].is_exact && told[1].work.n_encoded > 0);
}

#[test]
fn passages_that_are_missing_are_read_in_one_pass() {
    let decoder = decoder(2);
    let mut rig = PLAIN.rig(&decoder, 1, 1 << 26);
    let mut collections = collections();
    collections.documents = (0..3).map(|i| (i, (i * 9, 0))).collect();
    collections.questions.insert(0, 1);
    collections.fill(&mut rig.engine);
    rig.engine.settle().expect("runs");
    let updates = rig.engine.subscribe("answers").expect("known");
    let work = updates.answers().next().expect("present").work;
    assert!((100..512).contains(&work.n_encoded), "{work:?}");
    // The prefix, all passages each behind the others, the question; then the answer.
    assert_eq!(work.n_passes, 3 + work.n_decoded, "{work:?}");
}

#[test]
fn passages_behind_a_change_are_read_again_where_the_view_says_so() {
    let decoder = decoder(2);
    let n_encoded = |reencode: usize| {
        let case = Case {
            policy: Policy::Eventual,
            reencode,
            ..PLAIN
        };
        let mut rig = case.rig(&decoder, 1, 1 << 26);
        let mut collections = collections();
        collections.documents = (0..8).map(|i| (i, (i * 9, 0))).collect();
        collections.questions.insert(0, 1);
        collections.fill(&mut rig.engine);
        rig.engine.settle().expect("runs");
        let updates = rig.engine.subscribe("answers").expect("known");
        updates.answers().next().expect("present");
        rig.engine.delete("docs", "2").expect("runs");
        rig.engine.flush().expect("runs");
        let first = updates.answers().next().expect("told");
        assert!(!first.is_exact);
        first.work.n_encoded
    };
    let (none, one, two) = (n_encoded(0), n_encoded(1), n_encoded(2));
    assert!(none == 0 && one > 0 && two > one, "{none} {one} {two}");
    assert!(two < 150, "two passages of at most 64 bytes: {two}");
}

/// Every passage is replaced, one after the other, and nothing is healed in between.
#[test]
fn passages_whose_context_has_turned_over_are_read_again_before_an_answer() {
    let store = Arc::new(FragmentStore::new(1 << 26));
    let model = TensorModel::new(decoder(2), &[9; 32], CharCodec, store);
    let passage = |key: usize, text: String| LayoutPassage {
        document: DocumentKey::new(key.to_string()),
        ordinal: 0,
        id: PassageId::of("", &text),
        title: "".into(),
        tokens: model.passage_tokens("", &text).expect("tokens").into(),
        text: text.into(),
        is_superseded: false,
        copies: Arc::default(),
    };
    let n_again = |turnover: f32| {
        let model = model.with_store(Arc::new(FragmentStore::new(1 << 26)));
        let answer = |layout: &PassageLayout, before: &Before, tolerance| {
            let request = AnswerRequest {
                scope: Scope::Causal,
                prompt: "Say.",
                question: "Why?",
                layout,
                repair: Repair::default(),
                before,
                tolerance,
                keeps_log: false,
                reencode: 0,
                turnover,
                priority: Priority::Fresh,
                max_tokens: 8,
                sampling: Default::default(),
                cancel: Default::default(),
            };
            model.answer(&request, &mut ()).expect("answers")
        };
        let mut passages: Vec<_> = (0..6)
            .map(|n| passage(n, format!("old {n} it is.")))
            .collect();
        let mut layout = PassageLayout::new(passages.clone());
        let mut last = answer(&layout, &Before::default(), Tolerance::EXACT);
        let mut n_again = Vec::new();
        for place in [2, 0, 5, 1, 4, 3] {
            passages[place] = passage(place, format!("new {place} it is."));
            let n_new = passages[place].tokens.len();
            let next = PassageLayout::new(passages.clone());
            let before = Before::of("Why?".into(), layout, &last);
            last = answer(&next, &before, Tolerance::BORROWED);
            n_again.push((last.work.n_encoded - n_new) / n_new);
            layout = next;
        }
        let exact = answer(&layout, &Before::default(), Tolerance::EXACT);
        (
            n_again,
            last.is_exact,
            last.answer.text == exact.answer.text,
        )
    };
    // All that can be is borrowed.
    let (again, is_exact, _) = n_again(1.0);
    assert_eq!((again, is_exact), (vec![0; 6], false));
    // Nothing whose context changed: all that stands behind the edit.
    assert_eq!(n_again(0.0), (vec![3, 5, 0, 4, 1, 2], true, true));
    let (again, is_exact, _) = n_again(0.5);
    assert!(!is_exact);
    // Two of six are others: what stood before the passages between is mostly gone.
    assert_eq!(again, [0, 3, 0, 0, 0, 0]);
}

#[test]
fn forgetting_drops_the_fragments_that_attended_to_it() {
    let decoder = decoder(2);
    let bounded = Policy::Bounded { millinats: 50 };
    let stable = Policy::Stable { millinats: 200 };
    for policy in [
        Policy::Exact,
        Policy::Eventual,
        Policy::Append,
        stable,
        bounded,
    ] {
        let case = Case { policy, ..PLAIN };
        let mut rig = case.rig(&decoder, 1, 1 << 26);
        let mut collections = collections();
        collections.documents = (1..5).map(|i| (i, (i * 9, 0))).collect();
        collections.questions.insert(0, 1);
        collections.fill(&mut rig.engine);
        rig.engine.settle().expect("runs");
        let before = rig.contents();
        rig.engine
            .upsert_at("docs", "0", &text(77), 0)
            .expect("runs");
        rig.engine.settle().expect("runs");
        let n_then = rig.contents().len();
        let receipt = rig.engine.forget("docs", "0").expect("forgets");
        // All but the prefix stood behind it.
        assert_eq!(receipt.n_fragments, n_then - 1, "{receipt:?}");
        assert!(
            receipt.n_answers > 0 && receipt.remains.is_empty(),
            "{receipt:?}"
        );
        assert_eq!(rig.contents(), before);
    }
}

#[test]
fn a_draft_of_another_model_is_no_draft() {
    let store = Arc::new(FragmentStore::new(1 << 26));
    let model = TensorModel::new(decoder(1), &[9; 32], CharCodec, store);
    let answer = |draft: &[u32]| {
        let request = AnswerRequest {
            scope: Scope::Causal,
            prompt: "Say.",
            question: "Why?",
            layout: &PassageLayout::new(Vec::new()),
            repair: Repair::default(),
            before: &Before::draft(draft.into()),
            tolerance: Tolerance::EXACT,
            keeps_log: false,
            reencode: 0,
            turnover: 1.0,
            priority: Priority::Fresh,
            max_tokens: 16,
            sampling: Default::default(),
            cancel: Default::default(),
        };
        model.answer(&request, &mut ()).expect("answers").tokens
    };
    let right = answer(&[]);
    assert!(!right.is_empty());
    assert_eq!(answer(&[1_000_000, 3]), right);
    assert_eq!(answer(&[right[0], u32::MAX]), right);
}

/// Of many questions over the same documents each reads itself, and one reads the instruction.
#[test]
fn an_instruction_is_read_once_for_all_questions_over_the_same_passages() {
    for (scope, policy) in [
        (Scope::Causal, Policy::Exact),
        (Scope::Independent, Policy::Exact),
        (Scope::Window { tokens: 40 }, Policy::Exact),
        (Scope::Boundary { tokens: 8 }, Policy::Exact),
        (Scope::Boundary { tokens: 8 }, Policy::Eventual),
        (Scope::Causal, Policy::Eventual),
    ] {
        let case = Case {
            scope,
            policy,
            ..PLAIN
        };
        let mut rig = case.rig(&decoder(2), 1, 1 << 26);
        let mut collections = collections();
        collections.documents = (0..3).map(|i| (i, (i * 9, 0))).collect();
        collections.questions = (0..5).map(|i| (i, i)).collect();
        collections.fill(&mut rig.engine);
        rig.engine.settle().expect("runs");
        let updates = rig.engine.subscribe("answers").expect("known");
        let n_prompt: usize = updates.answers().take(5).map(|a| a.work.n_prompt).sum();
        let n_questions: usize = (0..5).map(|i| " ".len() + wording(i).len()).sum();
        assert_eq!(n_prompt, "Say.".len() + n_questions, "{scope} {policy}");
        // What no layout names is not kept.
        assert!(rig.store.unreferenced().is_empty(), "{scope} {policy}");
        let fresh = Case {
            policy: Policy::Exact,
            ..case
        };
        let mut fresh = fresh.rig(&decoder(1), 2, 1 << 26);
        collections.fill(&mut fresh.engine);
        assert_eq!(rig.texts(), fresh.texts());
    }
}
