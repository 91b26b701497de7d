//! Drafts change the cost of an answer, never the answer.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Rows};
use crate::seeded::{SeededTensors, tiny, tiny_config};
use crate::weights::{RawTensor, TensorSource};

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
        let run_with = |draft: &[u32], tolerance: f32| {
            let request = GenerationRequest {
                layout: &layout,
                prompt: &prompt,
                draft,
                tolerance,
                sub_paragraphs: None,
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
        let run = |draft: &[u32]| run_with(draft, 0.0);
        let plain = run(&[]);
        let rows_of = |answer: &Generation| {
            let tail = answer.tail.as_ref()?;
            let n_unread = usize::from(answer.finish == Finish::Length);
            let n_rows = prompt.len() + answer.tokens.len() - n_unread;
            assert_eq!(tail.n_tokens(), n_rows);
            Some(*tail.slice(0..n_rows).content_digest().as_bytes())
        };
        prop_assert_eq!(rows_of(&plain).is_some(), max_tokens > 0);
        prop_assert_eq!(plain.mass.len(), if mass { plain.tokens.len() } else { 0 });
        let n_all = plain.tokens.len() + usize::from(plain.finish == Finish::Stop);
        prop_assert_eq!(plain.work.n_passes, n_all);
        for draft in [&plain.tokens[..], &corrupt(&plain.tokens, &corruptions), &noise] {
            let drafted = run(draft);
            prop_assert_eq!(&drafted.tokens, &plain.tokens);
            prop_assert_eq!(drafted.finish, plain.finish);
            prop_assert_eq!(rows_of(&drafted), rows_of(&plain));
            prop_assert_eq!(&drafted.margins, &plain.margins);
            prop_assert_eq!(&drafted.mass, &plain.mass);
            prop_assert_eq!(&drafted.prompt_mass, &plain.prompt_mass);
        }
        for draft in [&plain.tokens[..], &corrupt(&plain.tokens, &corruptions), &noise] {
            let tolerated = run_with(draft, f32::MAX);
            let is_answer = !draft.is_empty() && draft.len() <= max_tokens;
            match tolerated.draft.filter(|_| is_answer && sampling == Sampling::Greedy) {
                // It stands as it is, and says by how much the answer would be likelier.
                Some(check) => {
                    prop_assert_eq!(&tolerated.tokens, draft);
                    prop_assert_eq!(tolerated.is_tolerated, *draft != plain.tokens);
                    prop_assert_eq!(check.regret == 0.0, *draft == plain.tokens);
                    prop_assert_eq!(check.agreement == 1.0, *draft == plain.tokens);
                    prop_assert!(tolerated.work.n_passes == 1);
                    prop_assert!(tolerated.margins.iter().any(|m| *m < 0.0) == tolerated.is_tolerated);
                    let n_mass = if mass { draft.len() } else { 0 };
                    prop_assert_eq!(tolerated.mass.len(), n_mass);
                    let less = run_with(draft, check.regret * 0.99);
                    prop_assert_eq!(&less.tokens, &plain.tokens);
                    prop_assert_eq!(less.draft, tolerated.draft);
                }
                None => prop_assert_eq!(&tolerated.tokens, &plain.tokens),
            }
        }
        let verified = run(&plain.tokens);
        prop_assert!(verified.work.n_passes <= 1);
        prop_assert_eq!(verified.n_draft_accepted, plain.tokens.len());
    }
}

/// Logits of the rows of `tokens` behind a layout, from row `from` on.
fn logits(decoder: &Decoder, layout: &Layout, tokens: &[u32], from: usize) -> Vec<Vec<f32>> {
    let mut tail = decoder.new_tail(layout.end());
    let rows = Rows {
        layout,
        pending: &[],
        tail: &mut tail,
        tokens,
        logits: Logits::From(from),
        mass: false,
    };
    let mut forwarded = decoder.forward(&mut [rows], &Cancel::new()).expect("valid");
    let logits = forwarded.swap_remove(0).logits;
    let rows = logits.chunks(decoder.config().n_vocab);
    rows.map(<[f32]>::to_vec).collect()
}

fn likeliest(row: &[f32]) -> u32 {
    let first = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).fold(0, first) as u32
}

fn gap(row: &[f32], tokens: &[u32]) -> f32 {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of = tokens.iter().map(|token| row[*token as usize]);
    highest - of.fold(f32::NEG_INFINITY, f32::max)
}

/// The answer of a request, sub-paragraph by sub-paragraph and token by token.
fn judged_one_by_one(passes: &Passes, request: &GenerationRequest<'_>) -> Vec<u32> {
    let (decoder, draft, max) = (passes.decoder(), request.draft, request.max_tokens);
    let rows = |behind: &[u32], tokens: &[u32]| {
        let all: Vec<u32> = [request.prompt, behind, tokens].concat();
        let from = request.prompt.len() + behind.len() - 1;
        logits(decoder, request.layout, &all, from)
    };
    let parts = request.sub_paragraphs.expect("given");
    let judged = Judged::of(request);
    let mut answer: Vec<u32> = Vec::new();
    let mut part = judged.as_ref().map(|_| 0);
    let is_cut = draft.len() == max;
    loop {
        if let Some(at) = part {
            let start = if at == 0 { 0 } else { parts.ends[at - 1] };
            let tokens = &draft[start..parts.ends[at]];
            let is_last = at + 1 == parts.ends.len();
            let rows = rows(&answer, tokens);
            let mut gaps: Vec<f32> = tokens
                .iter()
                .zip(&rows)
                .map(|(t, row)| gap(row, &[*t]))
                .collect();
            if is_last && !is_cut {
                gaps.push(gap(&rows[tokens.len()], request.stop));
            }
            if gaps.iter().sum::<f32>() / gaps.len() as f32 <= request.tolerance {
                answer.extend(tokens);
                match is_last {
                    true => return answer,
                    false => part = Some(at + 1),
                }
                continue;
            }
        }
        let since = answer.len();
        loop {
            let next = likeliest(&rows(&answer, &[])[0]);
            if request.stop.contains(&next) || answer.len() == max {
                return answer;
            }
            answer.push(next);
            if answer.len() == max {
                return answer;
            }
            if part.is_some() && (parts.end_with)(&answer) {
                break;
            }
        }
        let behind = part.zip(judged.as_ref());
        part = behind.map(|(at, judged)| judged.behind(at, &answer[since..]));
        part = part.filter(|at| {
            let is_left = *at < parts.ends.len();
            let start = if *at == 0 { 0 } else { parts.ends[at - 1] };
            is_left && !is_cut && answer.len() + draft.len() - start < max
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    // Reading ahead, and guesses at what follows, change the cost of an answer, never the answer.
    #[test]
    fn sub_paragraphs_stand_or_fall_as_if_they_were_judged_one_by_one(
        seed in any::<u64>(),
        document in prop::collection::vec(0u32..96, 1..40),
        prompt in prop::collection::vec(0u32..96, 1..20),
        corruptions in prop::collection::vec(corruption(), 0..4),
        cuts in prop::collection::btree_set(1usize..40, 0..8),
        max_tokens in 1usize..50,
        tolerance in prop::sample::select(vec![0.01f32, 0.2, 1.0, 3.0, 1e9]),
        every in 2u32..9,
    ) {
        let passes = passes(seed);
        let layout = layout(passes.decoder(), &document);
        let cancel = Cancel::new();
        let end_with = |tokens: &[u32]| tokens.last().is_some_and(|last| last % every == 0);
        let ends = |draft: &[u32]| -> Vec<usize> {
            let cuts = cuts.iter().copied().filter(|cut| *cut < draft.len());
            cuts.chain((!draft.is_empty()).then_some(draft.len())).collect()
        };
        let request = |draft, ends, tolerance| GenerationRequest {
            layout: &layout,
            prompt: &prompt,
            draft,
            tolerance,
            sub_paragraphs: Some(SubParagraphs { ends, end_with: &end_with }),
            max_tokens,
            sampling: Sampling::Greedy,
            stop: &[5, 6, 7],
            mass: true,
            priority: Priority::Fresh,
            cancel: &cancel,
        };
        let run = |request: &GenerationRequest<'_>| {
            generate(&passes, request, &mut |_| ControlFlow::Continue(())).expect("valid")
        };
        let plain = run(&request(&[], &[], 0.0)).tokens;
        let draft = corrupt(&plain, &corruptions);
        let ends = ends(&draft);
        let request = request(&draft, &ends, tolerance);
        let answer = run(&request);
        prop_assert_eq!(&answer.tokens, &judged_one_by_one(&passes, &request));
        prop_assert_eq!(answer.mass.len(), answer.tokens.len());
        let n_ends = usize::from(answer.finish == Finish::Stop);
        prop_assert_eq!(answer.margins.len(), answer.tokens.len() + n_ends);
        prop_assert!(answer.tokens.len() <= max_tokens);
        prop_assert!((0.0..=tolerance).contains(&answer.regret), "{}", answer.regret);
        prop_assert!(answer.regret == 0.0 || answer.is_tolerated);
        if !answer.is_tolerated {
            prop_assert_eq!(&answer.tokens, &plain);
        }
    }
}

/// The regret of a draft is what its tokens' log-probabilities say, computed one by one.
#[test]
fn regret_is_the_mean_of_what_the_likeliest_would_gain() {
    let passes = passes(11);
    let decoder = passes.decoder();
    let layout = layout(decoder, &[1, 2, 3]);
    let draft = [40, 41, 42, 43];
    let request = GenerationRequest {
        layout: &layout,
        prompt: &[9, 8],
        draft: &draft,
        tolerance: f32::MAX,
        sub_paragraphs: None,
        max_tokens: 20,
        sampling: Sampling::Greedy,
        stop: &[5, 6],
        mass: false,
        priority: Priority::Fresh,
        cancel: &Cancel::new(),
    };
    let answer = generate(&passes, &request, &mut |_| ControlFlow::Continue(())).expect("valid");
    assert_eq!(
        (&answer.tokens[..], answer.finish),
        (&draft[..], Finish::Stop)
    );
    let mut tail = decoder.new_tail(layout.end());
    let tokens: Vec<u32> = [9, 8].into_iter().chain(draft).collect();
    let rows = Rows {
        layout: &layout,
        pending: &[],
        tail: &mut tail,
        tokens: &tokens,
        logits: Logits::From(1),
        mass: false,
    };
    let logits = decoder
        .forward(&mut [rows], &Cancel::new())
        .expect("valid")
        .swap_remove(0)
        .logits;
    let n_vocab = decoder.config().n_vocab;
    let highest = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let gaps = logits.chunks(n_vocab).enumerate().map(|(i, row)| {
        let chosen = match draft.get(i) {
            Some(token) => row[*token as usize],
            None => row[5].max(row[6]),
        };
        highest(row) - chosen
    });
    let gaps: Vec<f32> = gaps.collect();
    assert_eq!(gaps.len(), 5);
    let regret = answer.draft.expect("read whole").regret;
    assert!(
        (regret - gaps.iter().sum::<f32>() / 5.0).abs() < 1e-4,
        "{regret} {gaps:?}"
    );
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
        tolerance: 0.0,
        sub_paragraphs: None,
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
        tolerance: 0.0,
        sub_paragraphs: None,
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

/// Weights of which one token's are no numbers.
struct Overflowing {
    weights: SeededTensors,
    embeddings: Vec<u8>,
}

impl Overflowing {
    fn at(token: usize, config: &ModelConfig) -> Self {
        let weights = tiny(config, 3);
        let tensor = weights.tensor("token_embd.weight").expect("there");
        let mut embeddings = tensor.bytes.to_vec();
        let start = token * config.d_model * size_of::<f32>();
        embeddings[start..start + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        Self {
            weights,
            embeddings,
        }
    }
}

impl TensorSource for Overflowing {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let tensor = self.weights.tensor(name)?;
        Some(match name {
            "token_embd.weight" => RawTensor {
                bytes: &self.embeddings,
                ..tensor
            },
            _ => tensor,
        })
    }
}

#[test]
fn numbers_that_overflow_choose_no_token_unless_nobody_looks_at_them() {
    const BAD: u32 = 5;
    let config = tiny_config();
    let weights = Overflowing::at(BAD as usize, &config);
    let decoder = Decoder::load(config, &weights, 1, &mut |_, _| {}).expect("loads");
    let passes = Passes::new(Arc::new(decoder));
    let layout = Arc::new(Layout::new());
    let written = |prompt: &[u32], draft: &[u32], tolerance| {
        let request = GenerationRequest {
            layout: &layout,
            prompt,
            draft,
            tolerance,
            sub_paragraphs: None,
            max_tokens: 4,
            sampling: Sampling::Greedy,
            stop: &[],
            mass: false,
            priority: Priority::Fresh,
            cancel: &Cancel::new(),
        };
        let written = generate(&passes, &request, &mut |_| ControlFlow::Continue(()));
        written.map(|generation| generation.tokens)
    };
    let bad = written(&[1, BAD, 2], &[], 0.0);
    assert!(matches!(bad, Err(Error::NotFinite)), "{bad:?}");
    let plain = written(&[1, 4, 2], &[], 0.0).expect("finite");
    assert!(!plain.contains(&BAD));
    // Behind what the draft has wrong nothing counts; and no tolerance takes what overflows.
    for tolerance in [0.0, 1e9] {
        let draft = [plain[0], BAD, 1, 1];
        let again = written(&[1, 4, 2], &draft, tolerance).expect("finite");
        assert_eq!(again, plain, "{tolerance}");
    }
}
