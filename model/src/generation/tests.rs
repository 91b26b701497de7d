//! Drafts change the cost of an answer, never the answer.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::decoder::{Decoder, Rows};
use crate::seeded::{tiny, tiny_config};

fn passes(seed: u64) -> Passes {
    let config = tiny_config();
    let decoder = Decoder::load(config.clone(), &tiny(&config, seed), 1, &mut |_, _| {});
    Passes::new(Arc::new(decoder.expect("loads")))
}

fn layout(decoder: &Decoder, tokens: &[u32]) -> Arc<Layout> {
    let mut tail = decoder.new_tail(0);
    let empty = Layout::new();
    let rows = Rows {
        layout: &empty,
        pending: &[],
        tail: &mut tail,
        tokens,
        logits: Logits::None,
        mass: false,
    };
    decoder.forward(&mut [rows], &Cancel::new()).expect("valid");
    let mut layout = Layout::new();
    layout.push(Arc::new(tail.freeze()));
    Arc::new(layout)
}

/// What to do to a true answer to make a draft of it.
#[derive(Clone, Debug)]
enum Corruption {
    Replace(usize, u32),
    Insert(usize, u32),
    Delete(usize, usize),
    Cut(usize),
}

fn corruption() -> impl Strategy<Value = Corruption> {
    prop_oneof![
        (any::<usize>(), 0u32..96).prop_map(|(i, t)| Corruption::Replace(i, t)),
        (any::<usize>(), 0u32..96).prop_map(|(i, t)| Corruption::Insert(i, t)),
        (any::<usize>(), 1usize..6).prop_map(|(i, n)| Corruption::Delete(i, n)),
        any::<usize>().prop_map(Corruption::Cut),
    ]
}

fn corrupt(answer: &[u32], corruptions: &[Corruption]) -> Vec<u32> {
    let mut draft = answer.to_vec();
    for corruption in corruptions {
        let n = draft.len();
        match *corruption {
            _ if n == 0 => {}
            Corruption::Replace(i, t) => draft[i % n] = t,
            Corruption::Insert(i, t) => draft.insert(i % n, t),
            Corruption::Delete(i, k) => drop(draft.drain(i % n..(i % n + k).min(n))),
            Corruption::Cut(i) => draft.truncate(i % n),
        }
    }
    draft
}

fn sampling() -> impl Strategy<Value = Sampling> {
    prop_oneof![
        Just(Sampling::Greedy),
        any::<u64>().prop_map(|seed| Sampling::Seeded {
            seed,
            temperature: 0.7,
            top_k: 20,
            top_p: 0.9
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn an_answer_does_not_depend_on_the_draft(
        seed in any::<u64>(),
        document in prop::collection::vec(0u32..96, 1..40),
        prompt in prop::collection::vec(0u32..96, 1..20),
        corruptions in prop::collection::vec(corruption(), 0..4),
        noise in prop::collection::vec(0u32..96, 0..40),
        max_tokens in 0usize..60,
        sampling in sampling(),
        mass in any::<bool>(),
    ) {
        let passes = passes(seed);
        let layout = layout(passes.decoder(), &document);
        let cancel = Cancel::new();
        let run = |draft: &[u32]| {
            let request = GenerationRequest {
                layout: &layout,
                prompt: &prompt,
                draft,
                max_tokens,
                sampling,
                stop: &[5, 6, 7],
                mass,
                priority: Priority::Fresh,
                cancel: &cancel,
            };
            let mut told = Vec::new();
            let answer = generate(&passes, &request, &mut |token| {
                told.push(token);
                ControlFlow::Continue(())
            });
            let answer = answer.expect("valid");
            assert_eq!(told, answer.tokens);
            answer
        };
        let plain = run(&[]);
        prop_assert_eq!(plain.mass.len(), if mass { plain.tokens.len() } else { 0 });
        let n_all = plain.tokens.len() + usize::from(plain.finish == Finish::Stop);
        prop_assert_eq!(plain.work.n_passes, n_all);
        for draft in [&plain.tokens[..], &corrupt(&plain.tokens, &corruptions), &noise] {
            let drafted = run(draft);
            prop_assert_eq!(&drafted.tokens, &plain.tokens);
            prop_assert_eq!(drafted.finish, plain.finish);
            prop_assert_eq!(&drafted.margins, &plain.margins);
            prop_assert_eq!(&drafted.mass, &plain.mass);
            prop_assert_eq!(&drafted.prompt_mass, &plain.prompt_mass);
        }
        let verified = run(&plain.tokens);
        prop_assert!(verified.work.n_passes <= 1);
        prop_assert_eq!(verified.n_draft_accepted, plain.tokens.len());
    }
}

#[test]
fn a_replaced_token_costs_few_passes() {
    let passes = passes(11);
    let layout = layout(passes.decoder(), &[1, 2, 3]);
    let cancel = Cancel::new();
    let mut request = GenerationRequest {
        layout: &layout,
        prompt: &[9, 8],
        draft: &[],
        max_tokens: 120,
        sampling: Sampling::Greedy,
        stop: &[],
        mass: false,
        priority: Priority::Fresh,
        cancel: &cancel,
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    let plain = generate(&passes, &request, go_on).expect("valid");
    let mut draft = plain.tokens.clone();
    draft[40] = (draft[40] + 1) % 96;
    request.draft = &draft;
    let drafted = generate(&passes, &request, go_on).expect("valid");
    assert_eq!(drafted.tokens, plain.tokens);
    assert!(drafted.work.n_passes <= 6, "{:?}", drafted.work);
}

#[test]
fn a_listener_or_a_flag_can_end_it() {
    let passes = passes(11);
    let layout = Arc::new(Layout::new());
    let cancel = Cancel::new();
    let request = GenerationRequest {
        layout: &layout,
        prompt: &[9, 8],
        draft: &[],
        max_tokens: 50,
        sampling: Sampling::Greedy,
        stop: &[],
        mass: false,
        priority: Priority::Fresh,
        cancel: &cancel,
    };
    let mut left = 3;
    let answer = generate(&passes, &request, &mut |_| {
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let answer = answer.expect("valid");
    assert_eq!((answer.tokens.len(), answer.finish), (3, Finish::Cancelled));
    let answer = generate(&passes, &request, &mut |_| {
        cancel.cancel();
        ControlFlow::Continue(())
    });
    let answer = answer.expect("valid");
    assert_eq!((answer.tokens.len(), answer.finish), (1, Finish::Cancelled));
    let nothing = GenerationRequest {
        prompt: &[],
        ..request
    };
    let error = generate(&passes, &nothing, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(Error::EmptyPrompt)));
}
