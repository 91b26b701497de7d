//! The decoder against plain loops, and against itself: bit for bit however the rows are
//! batched, cut into passes, threaded and vectorised.

mod joined;

use std::sync::Arc;

use proptest::prelude::*;

use super::layers::natural_dimension;
use super::naive::{Naive, Seen};
use super::*;
use crate::arithmetic::Instructions;
use crate::config::{
    Activation, Architecture, BlockNorms, OtherRotation, RopeScaling, Scales, SlidingWindow,
    SoftCaps,
};
use crate::kv::KvFragment;
use crate::layout::Overlay;
use crate::seeded::{tiny, tiny_config};
use crate::weights::{Dequantized, RawTensor};

/// Settings that decoders have had since the first release.
fn older_config() -> impl Strategy<Value = ModelConfig> {
    let heads = prop::sample::select(vec![(4, 2), (3, 1), (7, 1), (2, 2), (6, 3)]);
    let widths = prop::sample::select(vec![16usize, 64, 80]);
    // An original context in which waves of all three kinds are found: kept, blended, stretched.
    let scalings = prop::sample::select(vec![
        RopeScaling::None,
        RopeScaling::Linear { factor: 2.5 },
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 128,
        },
    ]);
    let norms = prop::sample::select(vec![QkNorm::None, QkNorm::EachHead]);
    let switches = any::<[bool; 3]>();
    (heads, widths, scalings, norms, switches, 2usize..4).prop_map(
        |((n_heads, n_kv_heads), head_dim, rope_scaling, qk_norm, switches, n_layers)| {
            let [bias, tied, interleaved] = switches;
            ModelConfig {
                rope_scaling,
                architecture: Architecture::Llama,
                n_heads,
                n_kv_heads,
                head_dim,
                rotated_dims: head_dim,
                n_layers,
                d_model: 48,
                qkv_bias: bias,
                qk_norm,
                tied_embeddings: tied,
                interleaved_rope_rows: interleaved,
                ..tiny_config()
            }
        },
    )
}

/// What of a rotation only some decoders have: how much of a head it turns, in which layers it is
/// another, and divisors with their attention factor.
fn rotation() -> impl Strategy<Value = (usize, Option<OtherRotation>, Option<f32>)> {
    let parts = prop::sample::select(vec![1usize, 2, 4]);
    let layers = prop::sample::select(vec![vec![0], vec![1], vec![0, 1]]);
    let thetas = prop::sample::select(vec![None, Some(500.0)]);
    let other = (layers, thetas).prop_map(|(layers, theta)| OtherRotation { layers, theta });
    let factors = prop::sample::select(vec![1.0f32, 1.3]);
    (parts, prop::option::of(other), prop::option::of(factors))
}

fn scales() -> impl Strategy<Value = Scales> {
    let granite = Scales {
        embedding: 3.0,
        attention: Some(0.2),
        residual: 0.4,
        logits: 0.25,
    };
    prop::sample::select(vec![Scales::PLAIN, granite])
}

/// All settings of all decoders, in any combination, but half of them as they were.
fn config() -> impl Strategy<Value = ModelConfig> {
    let norms = prop::sample::select(vec![
        BlockNorms::Before,
        BlockNorms::After,
        BlockNorms::Both,
    ]);
    let qk_norms = prop::sample::select(vec![None, Some(QkNorm::AllHeads)]);
    let activations = prop::sample::select(vec![Activation::Silu, Activation::GeluTanh]);
    let caps = (
        prop::sample::select(vec![None, Some(2.0)]),
        prop::sample::select(vec![None, Some(3.0)]),
    );
    let window = (
        1usize..70,
        prop::sample::select(vec![vec![0], vec![1], vec![0, 1, 2]]),
    )
        .prop_map(|(n_tokens, layers)| SlidingWindow { n_tokens, layers });
    let newer = (
        rotation(),
        scales(),
        (norms, qk_norms, activations, any::<bool>()),
        caps,
        prop::option::of(window),
        any::<bool>(),
    );
    (older_config(), newer).prop_map(|(older, newer)| {
        let (rotation, scales, (norms, qk_norm, activation, less), caps, window, is_plain) = newer;
        if is_plain {
            return older;
        }
        let (part, other_rotation, attention_factor) = rotation;
        let rotated_dims = older.head_dim / part;
        let divisors = |attention_factor| RopeScaling::Divisors {
            divisors: (0..rotated_dims / 2)
                .map(|i| 1.0 + 0.3 * i as f32)
                .collect(),
            attention_factor,
        };
        let rope_scaling = attention_factor.map_or(older.rope_scaling.clone(), divisors);
        ModelConfig {
            rotated_dims,
            rope_scaling,
            other_rotation,
            scales,
            norms,
            qk_norm: qk_norm.unwrap_or(older.qk_norm),
            activation,
            norms_less_one: less,
            soft_caps: SoftCaps {
                scores: caps.0,
                logits: caps.1,
            },
            window,
            ..older
        }
    })
}

/// How much further than a decoder without the newer settings another may be from plain loops in f64. Where
/// blocks read what is not normed, or scores are scaled otherwise, attention may be sharper, and that keys are
/// kept in f16 counts for more.
fn slack(config: &ModelConfig) -> f64 {
    match config.norms.are_before() && config.scales == Scales::PLAIN {
        true => 1.0,
        false => 6.0,
    }
}

fn load(isa: Isa, config: &ModelConfig, seed: u64, n_threads: usize) -> Decoder {
    load_from(isa, config, &tiny(config, seed), n_threads)
}

fn load_from(
    isa: Isa,
    config: &ModelConfig,
    source: &dyn TensorSource,
    n_threads: usize,
) -> Decoder {
    load_in(Arithmetic::Int16, isa, config, source, n_threads)
}

fn load_in(
    arithmetic: Arithmetic,
    isa: Isa,
    config: &ModelConfig,
    source: &dyn TensorSource,
    n_threads: usize,
) -> Decoder {
    let kernels = KernelOptions {
        arithmetic,
        instructions: Instructions(isa),
    };
    let loaded = Decoder::load_with(kernels, config.clone(), source, n_threads, &mut |_, _| {});
    loaded.expect("the seeded model loads")
}

fn run(
    decoder: &Decoder,
    layout: &Layout,
    tail: &mut Tail,
    tokens: &[u32],
    mass: bool,
) -> RowsOutput {
    let rows = Rows {
        layout,
        pending: &[],
        tail,
        tokens,
        logits: Logits::From(0),
        mass,
    };
    let mut out = decoder
        .forward(&mut [rows], &Cancel::new())
        .expect("the rows are valid");
    out.pop().expect("one run")
}

/// FNV-1a over words.
pub(crate) fn digest(words: impl IntoIterator<Item = u32>) -> u64 {
    let add = |hash: u64, word: u32| (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, add)
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// A fragment that saw nothing but itself, and the same for the naive decoder.
fn fragment(
    decoder: &Decoder,
    naive: &Naive<'_>,
    tokens: &[u32],
    cut: usize,
    segment: usize,
) -> (Arc<KvFragment>, Vec<Seen>) {
    let mut tail = decoder.new_tail(0);
    run(decoder, &Layout::new(), &mut tail, tokens, false);
    let mut seen = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        naive.step(&mut seen, *token, 0, i as i64, segment);
    }
    seen.drain(..cut);
    (Arc::new(tail.slice(cut..tokens.len())), seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn segments_at_offsets_with_overlays_equal_plain_attention(
        config in config(),
        seed in any::<u64>(),
        parts in prop::collection::vec(
            (prop::collection::vec(0u32..96, 1..40), 0usize..20, 0u32..9, any::<[u32; 4]>(), 0..8u8),
            0..4,
        ),
        prompt in prop::collection::vec(0u32..96, 1..30),
        gap in 0u32..300,
    ) {
        let source = tiny(&config, seed);
        let decoder = load(Isa::best(), &config, seed, 2);
        let naive = Naive { config: &config, source: &source };
        let mut layout = Layout::new();
        let mut seen = Vec::new();
        for (segment, (tokens, cut, space, ends, overlay)) in parts.iter().enumerate() {
            let cut = cut % tokens.len();
            let (kv, mut tokens) = fragment(&decoder, &naive, tokens, cut, segment);
            let offset = layout.end() + space;
            let n = tokens.len() as u32;
            let (a, b) = (ends[0] % (n + 1), ends[1] % (n + 1));
            let span = a.min(b)..a.max(b);
            let layers = 0..ends[2] % 4;
            let mut overlays = Vec::new();
            if overlay & 1 != 0 {
                overlays.push(Overlay::Hide { span: span.clone() });
            }
            if overlay & 2 != 0 {
                overlays.push(Overlay::ZeroValues { span: span.clone(), layers: layers.clone() });
            }
            if overlay & 4 != 0 {
                overlays.push(Overlay::ZeroKeys { span: span.clone(), layers: layers.clone() });
            }
            for (i, token) in tokens.iter_mut().enumerate() {
                token.position = i64::from(offset) + i as i64;
                if span.contains(&(i as u32)) {
                    token.hidden = overlay & 1 != 0;
                    if overlay & 2 != 0 {
                        token.zeroed = layers.start as usize..layers.end as usize;
                    }
                    if overlay & 4 != 0 {
                        token.keyless = layers.start as usize..layers.end as usize;
                    }
                }
            }
            seen.extend(tokens);
            layout.push_at(kv, offset, overlays);
        }
        let start = layout.end() + gap;
        let mut tail = decoder.new_tail(start);
        let got = run(&decoder, &layout, &mut tail, &prompt, true);
        for (i, token) in prompt.iter().enumerate() {
            let want = naive.step(&mut seen, *token, i64::from(start), i as i64, parts.len());
            let got_logits = &got.logits[i * config.n_vocab..][..config.n_vocab];
            for (a, b) in got_logits.iter().zip(&want.logits) {
                prop_assert!((f64::from(*a) - b).abs() < 4e-3 * slack(&config), "row {}: {} is not {}", i, a, b);
            }
            prop_assert!((got.mass[i].iter().sum::<f32>() - 1.0).abs() < 1e-4);
            for (a, b) in got.mass[i].iter().zip(&want.mass) {
                prop_assert!((f64::from(*a) - b).abs() < 2e-3 * slack(&config), "row {}: {} is not {}", i, a, b);
            }
        }
    }

    #[test]
    fn queries_and_plain_keys_are_what_projections_make_of_tokens(
        config in config(),
        seed in any::<u64>(),
        before in prop::collection::vec(0u32..96, 1..20),
        texts in prop::collection::vec(prop::collection::vec(0u32..96, 1..30), 1..4),
        wanted in prop::collection::vec(any::<[usize; 2]>(), 0..6),
    ) {
        let source = tiny(&config, seed);
        let decoder = load(Isa::best(), &config, seed, 2);
        let naive = Naive { config: &config, source: &source };
        let (kv, seen) = fragment(&decoder, &naive, &before, 0, 0);
        let mut layout = Layout::new();
        layout.push(kv);
        let heads: Vec<QueryHead> = wanted
            .iter()
            .map(|[layer, head]| QueryHead { layer: layer % config.n_layers, head: head % config.n_heads })
            .collect();
        let texts: Vec<&[u32]> = texts.iter().map(|text| &text[..]).collect();
        let found = decoder.queries(&layout, &texts, &heads, &Cancel::new()).unwrap();
        let frame = decoder.key_frame();
        for (text, found) in texts.iter().zip(&found) {
            let (mut seen, start) = (seen.clone(), i64::from(layout.end()));
            // What is read beside others has the bits that it has alone, and passes are as they were.
            let alone = decoder.queries(&layout, &[text], &heads, &Cancel::new()).unwrap();
            prop_assert_eq!(&alone[0], found);
            let mut tail = decoder.new_tail(layout.end());
            run(&decoder, &layout, &mut tail, text, false);
            let kv = tail.freeze();
            for (i, token) in text.iter().enumerate() {
                let row = naive.step(&mut seen, *token, start, i as i64, 1);
                for (n, head) in heads.iter().enumerate() {
                    let got = &found.of_head(n)[i * config.head_dim..][..config.head_dim];
                    let want = &row.queries[head.layer][head.head * config.head_dim..];
                    for (d, a) in got.iter().enumerate() {
                        let b = want[natural_dimension(&config, d)];
                        prop_assert!((f64::from(*a) - b).abs() < 4e-3 * slack(&config), "{} is not {}", a, b);
                    }
                }
                for layer in 0..config.n_layers {
                    for kv_head in 0..config.n_kv_heads {
                        let got = frame.plain_keys(&kv, layer, kv_head);
                        let want = &row.plain_keys[layer][kv_head * config.head_dim..];
                        for d in 0..config.head_dim {
                            let a = got[i / 16 * config.head_dim + d].0[i % 16];
                            let b = want[natural_dimension(&config, d)];
                            prop_assert!((f64::from(a) - b).abs() < 1e-2 * slack(&config), "{} is not {}", a, b);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_batch_passes_threads_or_processor(
        config in config(),
        seed in any::<u64>(),
        documents in prop::collection::vec(prop::collection::vec(0u32..96, 1..90), 0..3),
        prompts in prop::collection::vec(prop::collection::vec(0u32..96, 1..80), 1..4),
        cuts in prop::collection::vec(1usize..12, 1..6),
        quantized in any::<bool>(),
        arithmetic in prop::sample::select(Arithmetic::ALL.to_vec()),
    ) {
        let source = match quantized {
            true => tiny(&config, seed).quantized(),
            false => tiny(&config, seed),
        };
        let reference = load_in(arithmetic, Isa::best(), &config, &source, 1);
        let mut layout = Layout::new();
        for tokens in &documents {
            let mut tail = reference.new_tail(0);
            run(&reference, &Layout::new(), &mut tail, tokens, false);
            layout.push(Arc::new(tail.freeze()));
        }
        // Token by token.
        let want: Vec<_> = prompts
            .iter()
            .map(|prompt| {
                let mut tail = reference.new_tail(layout.end());
                let logits: Vec<u32> = prompt
                    .iter()
                    .flat_map(|t| bits(&run(&reference, &layout, &mut tail, &[*t], false).logits))
                    .collect();
                (logits, tail.freeze())
            })
            .collect();
        for isa in Isa::available() {
            let decoder = load_in(arithmetic, isa, &config, &source, 2);
            // All prompts in one pass.
            let mut tails: Vec<_> =
                prompts.iter().map(|_| decoder.new_tail(layout.end())).collect();
            let mut batch: Vec<_> = tails
                .iter_mut()
                .zip(&prompts)
                .map(|(tail, tokens)| Rows {
                    layout: &layout,
                    pending: &[],
                    tail,
                    tokens,
                    logits: Logits::From(0),
                    mass: false,
                })
                .collect();
            let got = decoder.forward(&mut batch, &Cancel::new()).expect("valid");
            for ((got, tail), (logits, kv)) in got.iter().zip(tails).zip(&want) {
                prop_assert_eq!(&bits(&got.logits), logits, "{:?}", isa);
                prop_assert_eq!(&tail.freeze(), kv);
            }
            // In passes of odd lengths.
            let mut tail = decoder.new_tail(layout.end());
            let (mut rest, mut logits) = (&prompts[0][..], Vec::new());
            for n in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*n).min(rest.len()));
                logits.extend(bits(&run(&decoder, &layout, &mut tail, now, false).logits));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(&logits, &want[0].0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]
    /// Contexts so long that attention is cut into spans, in a source, between sources, and in
    /// the tail.
    #[test]
    fn bits_do_not_depend_on_who_computes_a_span(
        config in config(),
        seed in any::<u64>(),
        long in 530usize..800,
        others in prop::collection::vec(1usize..300, 0..3),
        in_tail in 400usize..700,
        n_rows in 2usize..40,
    ) {
        // Heads of one width, so that contexts may be long; no divisors, which are for another.
        let rope_scaling = match config.rope_scaling {
            RopeScaling::Divisors { .. } => RopeScaling::None,
            older => older,
        };
        let window = config.window.map(|window| SlidingWindow {
            n_tokens: 9 * window.n_tokens,
            ..window
        });
        let config = ModelConfig {
            max_positions: 8192,
            head_dim: 16,
            rotated_dims: 16,
            rope_scaling,
            window,
            ..config
        };
        let source = tiny(&config, seed);
        let naive = Naive { config: &config, source: &source };
        let alone = load(Isa::best(), &config, seed, 1);
        let tokens = |n: usize, salt: u64| -> Vec<u32> {
            (0..n as u64).map(|i| ((i * 37 + salt) * 0x9e37_79b9 % 96) as u32).collect()
        };
        let (mut layout, mut seen) = (Layout::new(), Vec::new());
        let lengths: Vec<usize> = [long].into_iter().chain(others).collect();
        for (segment, n) in lengths.iter().enumerate() {
            let tokens = tokens(*n, seed % 1000 + segment as u64);
            let (kv, mut of_fragment) = fragment(&alone, &naive, &tokens, 0, segment);
            let offset = layout.end();
            // Across the cut in the long source.
            let overlays = match segment {
                0 => vec![
                    Overlay::Hide { span: 505..514 },
                    Overlay::ZeroValues { span: 510..520, layers: 0..1 },
                    Overlay::ZeroKeys { span: 509..518, layers: 1..2 },
                ],
                _ => Vec::new(),
            };
            for (i, token) in of_fragment.iter_mut().enumerate() {
                token.position = i64::from(offset) + i as i64;
                if segment == 0 {
                    token.hidden = (505..514).contains(&i);
                    token.zeroed = if (510..520).contains(&i) { 0..1 } else { 0..0 };
                    token.keyless = if (509..518).contains(&i) { 1..2 } else { 0..0 };
                }
            }
            seen.extend(of_fragment);
            layout.push_at(kv, offset, overlays);
        }
        let (start, prompt) = (layout.end(), tokens(in_tail + n_rows, 7));
        let (before, rows) = prompt.split_at(in_tail);
        let mut tail = alone.new_tail(start);
        run(&alone, &layout, &mut tail, before, false);
        let mut one_by_one = Vec::new();
        for token in rows {
            one_by_one.push(run(&alone, &layout, &mut tail, &[*token], true));
        }
        for (i, token) in prompt.iter().enumerate() {
            let want = naive.step(&mut seen, *token, i64::from(start), i as i64, lengths.len());
            let Some(got) = i.checked_sub(in_tail).map(|row| &one_by_one[row]) else {
                continue;
            };
            for (a, b) in got.logits.iter().zip(&want.logits) {
                prop_assert!((f64::from(*a) - b).abs() < 4e-3 * slack(&config), "row {}: {} is not {}", i, a, b);
            }
            for (a, b) in got.mass[0].iter().zip(&want.mass) {
                prop_assert!((f64::from(*a) - b).abs() < 2e-3 * slack(&config), "row {}: {} is not {}", i, a, b);
            }
        }
        // With more threads, each span is a task of its own.
        let many = Isa::available().into_iter().map(|isa| load(isa, &config, seed, 5));
        for decoder in [alone].into_iter().chain(many) {
            let mut tail = decoder.new_tail(start);
            let all = run(&decoder, &layout, &mut tail, &prompt, true);
            for (i, want) in one_by_one.iter().enumerate() {
                let logits = &all.logits[(in_tail + i) * config.n_vocab..][..config.n_vocab];
                prop_assert_eq!(bits(logits), bits(&want.logits));
                prop_assert_eq!(bits(&all.mass[in_tail + i]), bits(&want.mass[0]));
            }
            let mut tail = decoder.new_tail(start);
            run(&decoder, &layout, &mut tail, before, false);
            for (token, want) in rows.iter().zip(&one_by_one) {
                let got = run(&decoder, &layout, &mut tail, &[*token], true);
                prop_assert_eq!(bits(&got.logits), bits(&want.logits));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn what_is_pending_is_to_a_run_what_its_fragment_would_be(
        config in config(),
        seed in any::<u64>(),
        documents in prop::collection::vec(
            (prop::collection::vec(0u32..96, 1..150), any::<bool>()),
            1..9,
        ),
        prompt in prop::collection::vec(0u32..96, 1..40),
        others in prop::collection::vec(0u32..96, 1..40),
    ) {
        let decoder = load(Isa::best(), &config, seed, 2);
        // One after the other, each a fragment to those behind it.
        let mut layout = Layout::new();
        for (tokens, _) in &documents {
            let mut tail = decoder.new_tail(layout.end());
            run(&decoder, &layout, &mut tail, tokens, false);
            layout.push(Arc::new(tail.freeze()));
        }
        let mut tail = decoder.new_tail(layout.end());
        let want = run(&decoder, &layout, &mut tail, &prompt, true);
        let want_tail = tail.freeze();

        // Some are there, the others come in one batch, with the prompt behind them, and a
        // run between them that has nothing to do with it.
        let mut present = Layout::new();
        let mut planned: Vec<Planned<'_>> = Vec::new();
        // Runs that are pending, and the segment each goes before.
        let mut behind: Vec<(usize, usize)> = Vec::new();
        let mut fragments = Vec::new();
        for (segment, (tokens, is_pending)) in layout.segments().iter().zip(&documents) {
            if !is_pending {
                present.push_at(segment.kv.clone(), segment.offset, Vec::new());
                continue;
            }
            let number = planned.len();
            let tail = decoder.new_tail(segment.offset);
            planned.push(Planned::new(number, &present, &behind, tail, tokens));
            behind.push((number, present.segments().len()));
            fragments.push((number, segment.kv.clone()));
            let tail = decoder.new_tail(0);
            planned.push(Planned::new(number + 1, &Layout::new(), &[], tail, &others));
        }
        let n_before = planned.len();
        let tail = decoder.new_tail(layout.end());
        planned.push(Planned::new(n_before, &present, &behind, tail, &prompt));
        let mut batch: Vec<_> = planned
            .iter_mut()
            .enumerate()
            .map(|(number, planned)| Rows {
                layout: &planned.layout,
                pending: &planned.pending,
                tail: &mut planned.tail,
                tokens: planned.tokens,
                logits: match number == n_before {
                    true => Logits::From(0),
                    false => Logits::None,
                },
                mass: number == n_before,
            })
            .collect();
        let mut got = decoder.forward(&mut batch, &Cancel::new()).expect("valid");
        let got = got.pop().expect("the prompt");
        prop_assert_eq!(bits(&got.logits), bits(&want.logits));
        prop_assert_eq!(
            got.mass.iter().map(|row| bits(row)).collect::<Vec<_>>(),
            want.mass.iter().map(|row| bits(row)).collect::<Vec<_>>()
        );
        let mut tails: Vec<_> = planned.into_iter().map(|p| Some(p.tail)).collect();
        prop_assert_eq!(tails[n_before].take().map(Tail::freeze), Some(want_tail));
        for (number, kv) in fragments {
            prop_assert_eq!(tails[number].take().map(Tail::freeze), Some((*kv).clone()));
        }
    }
}

/// A run of a batch to be.
struct Planned<'a> {
    layout: Layout,
    pending: Vec<Pending>,
    tail: Tail,
    tokens: &'a [u32],
}

impl<'a> Planned<'a> {
    /// Run number `number`, behind runs that each go before a segment.
    fn new(
        number: usize,
        layout: &Layout,
        behind: &[(usize, usize)],
        tail: Tail,
        tokens: &'a [u32],
    ) -> Self {
        let pending = |&(run, segment): &(usize, usize)| Pending {
            n_back: number - run,
            segment,
        };
        Self {
            layout: layout.clone(),
            pending: behind.iter().map(pending).collect(),
            tail,
            tokens,
        }
    }
}

#[test]
fn chunks_and_wanted_rows_do_not_show_in_the_results() {
    let config = tiny_config();
    let decoder = load(Isa::best(), &config, 3, 2);
    let tokens: Vec<u32> = (0..1100).map(|i| i * 7 % 96).collect();
    let layout = Layout::new();
    let mut whole = decoder.new_tail(0);
    let all = run(&decoder, &layout, &mut whole, &tokens, true);
    assert_eq!(all.mass.len(), tokens.len());
    let whole = whole.freeze();
    for (logits, n_wanted) in [
        (Logits::None, 0),
        (Logits::Last, 1),
        (Logits::From(600), 500),
    ] {
        let mut tail = decoder.new_tail(0);
        let rows = Rows {
            layout: &layout,
            pending: &[],
            tail: &mut tail,
            tokens: &tokens,
            logits,
            mass: false,
        };
        let got = decoder.forward(&mut [rows], &Cancel::new()).expect("valid");
        let n = n_wanted * config.n_vocab;
        assert_eq!(
            bits(&got[0].logits),
            bits(&all.logits[all.logits.len() - n..])
        );
        assert_eq!(tail.freeze(), whole);
    }
}

#[test]
fn what_does_not_fit_is_an_error_and_leaves_the_tail_alone() {
    let config = tiny_config();
    let decoder = load(Isa::best(), &config, 3, 1);
    let other = load(
        Isa::best(),
        &ModelConfig {
            n_layers: 3,
            ..tiny_config()
        },
        3,
        1,
    );
    let mut tail = decoder.new_tail(0);
    let empty = Layout::new();
    let mut foreign = Layout::new();
    foreign.push(Arc::new(other.new_tail(0).freeze()));
    let cancelled = Cancel::new();
    cancelled.cancel();
    let mut check = |layout: &Layout, tokens: &[u32], cancel: &Cancel| {
        let rows = Rows {
            layout,
            pending: &[],
            tail: &mut tail,
            tokens,
            logits: Logits::Last,
            mass: false,
        };
        let result = decoder.forward(&mut [rows], cancel);
        assert_eq!(tail.n_tokens(), 0);
        result.expect_err("does not fit")
    };
    let go = Cancel::new();
    assert!(matches!(
        check(&empty, &[96], &go),
        Error::TokenOutOfRange { token: 96, .. }
    ));
    assert!(matches!(
        check(&empty, &[0; 4097], &go),
        Error::PositionOutOfRange { end: 4097, .. }
    ));
    assert!(matches!(
        check(&foreign, &[0], &go),
        Error::ForeignKv { .. }
    ));
    assert!(matches!(check(&empty, &[0], &cancelled), Error::Cancelled));
}

#[test]
fn what_is_pending_may_be_cut_into_chunks_and_have_a_beginning() {
    let config = tiny_config();
    let decoder = load(Isa::best(), &config, 3, 2);
    let tokens: Vec<u32> = (0..800).map(|i| i * 11 % 96).collect();
    let (a, b, c) = (&tokens[..300], &tokens[300..700], &tokens[700..]);
    let one_by_one = |layout: &mut Layout, tokens: &[u32]| {
        let mut tail = decoder.new_tail(layout.end());
        let out = run(&decoder, layout, &mut tail, tokens, false);
        layout.push(Arc::new(tail.freeze()));
        bits(&out.logits)
    };
    let mut layout = Layout::new();
    one_by_one(&mut layout, a);
    one_by_one(&mut layout, b);
    let want = one_by_one(&mut layout, c);
    // The first 20 tokens of the second run are there before the pass, rows 300 to 680 are in
    // two chunks, and the third run is in the second.
    let mut tails = [0, 300, 700].map(|start| decoder.new_tail(start));
    let mut before = Layout::new();
    before.push(layout.segments()[0].kv.clone());
    run(&decoder, &before, &mut tails[1], &b[..20], false);
    let pending = |n_back| Pending { n_back, segment: 0 };
    let behind = [vec![], vec![pending(1)], vec![pending(2), pending(1)]];
    let empty = Layout::new();
    let mut batch: Vec<_> = tails
        .iter_mut()
        .zip(&behind)
        .zip([a, &b[20..], c])
        .map(|((tail, pending), tokens)| Rows {
            layout: &empty,
            pending,
            tail,
            tokens,
            logits: Logits::From(0),
            mass: false,
        })
        .collect();
    let got = decoder.forward(&mut batch, &Cancel::new()).expect("valid");
    assert_eq!(bits(&got[2].logits), want);
    for (tail, segment) in tails.into_iter().zip(layout.segments()) {
        assert_eq!(tail.freeze(), *segment.kv);
    }
}

#[test]
fn a_run_stands_behind_earlier_ones_only_and_within_its_layout() {
    let config = tiny_config();
    let decoder = load(Isa::best(), &config, 3, 1);
    let mut layout = Layout::new();
    let mut tail = decoder.new_tail(0);
    run(&decoder, &layout, &mut tail, &[5, 6], false);
    layout.push(Arc::new(tail.freeze()));
    let refused = |pending: &[Pending]| {
        let mut tails = [decoder.new_tail(2), decoder.new_tail(3)];
        let [first, second] = &mut tails;
        let rows = |tail, pending| Rows {
            layout: &layout,
            pending,
            tail,
            tokens: &[1],
            logits: Logits::None,
            mass: false,
        };
        let mut batch = [rows(first, &[][..]), rows(second, pending)];
        let result = decoder.forward(&mut batch, &Cancel::new());
        let refused = matches!(result, Err(Error::PendingOutOfRange { run: 1, .. }));
        assert_eq!(refused, result.is_err());
        assert_eq!(tails[0].n_tokens(), usize::from(!refused));
        refused
    };
    let pending = |n_back, segment| Pending { n_back, segment };
    assert!(!refused(&[pending(1, 0)]));
    assert!(!refused(&[pending(1, 0), pending(1, 1)]));
    assert!(refused(&[pending(1, 1), pending(1, 0)]));
    assert!(refused(&[pending(0, 0)]));
    assert!(refused(&[pending(2, 0)]));
    assert!(refused(&[pending(1, 2)]));
}

#[test]
fn rounding_rows_to_sixteen_bits_changes_next_to_nothing() {
    let config = tiny_config();
    let source = tiny(&config, 3).quantized();
    let in_f32 = Dequantized::of(&source, &config);
    let tokens: Vec<u32> = (0..90).map(|i| i * 29 % 96).collect();
    let logits = |source: &dyn TensorSource| {
        let decoder = load_from(Isa::best(), &config, source, 2);
        let mut tail = decoder.new_tail(0);
        run(&decoder, &Layout::new(), &mut tail, &tokens, false).logits
    };
    let (rounded, plain) = (logits(&source), logits(&in_f32));
    assert_ne!(bits(&rounded), bits(&plain));
    for (a, b) in rounded.iter().zip(&plain) {
        // Keys and values are rounded to f16 in both.
        assert!((a - b).abs() < 1e-2, "{a} is not {b}");
    }
}

/// Whoever changes these bits gives their arithmetic another name.
#[test]
fn the_kernel_class_names_these_bits() {
    let config = ModelConfig {
        qk_norm: QkNorm::EachHead,
        ..tiny_config()
    };
    let source = tiny(&config, 1).quantized();
    let tokens: Vec<u32> = (0..700).map(|i| i * 31 % 96).collect();
    let pins = [
        (
            Arithmetic::Int16,
            "codes by block floats of 16 bits, f32 fma, blocks of 128 keys, spans of 512",
            1_769_912_703_870_820_852,
        ),
        (
            Arithmetic::Int8,
            "codes by blocks of 8 bits, f32 fma, blocks of 128 keys, spans of 512",
            111_184_931_654_156_399,
        ),
    ];
    for (isa, (arithmetic, class, pin)) in Isa::available()
        .into_iter()
        .flat_map(|isa| pins.map(|pin| (isa, pin)))
    {
        let decoder = load_in(arithmetic, isa, &config, &source, 2);
        let mut layout = Layout::new();
        for tokens in [&tokens[..600], &tokens[..33]] {
            let mut tail = decoder.new_tail(0);
            run(&decoder, &Layout::new(), &mut tail, tokens, false);
            layout.push(Arc::new(tail.freeze()));
        }
        let mut tail = decoder.new_tail(layout.end());
        let got = run(&decoder, &layout, &mut tail, &tokens[..9], false);
        assert_eq!(
            (arithmetic.kernel_class(), digest(bits(&got.logits))),
            (class, pin),
        );
    }
}

#[test]
fn rows_of_eight_bits_give_other_bits_that_are_near() {
    let config = tiny_config();
    let source = tiny(&config, 3).quantized();
    let tokens: Vec<u32> = (0..90).map(|i| i * 29 % 96).collect();
    let [sixteen, eight] = Arithmetic::ALL.map(|arithmetic| {
        let decoder = load_in(arithmetic, Isa::best(), &config, &source, 2);
        let mut tail = decoder.new_tail(0);
        run(&decoder, &Layout::new(), &mut tail, &tokens, false).logits
    });
    assert_ne!(bits(&sixteen), bits(&eight));
    let apart: f32 = sixteen.iter().zip(&eight).map(|(a, b)| (a - b).abs()).sum();
    let mean = apart / sixteen.len() as f32;
    assert!(mean < 0.25, "{mean} apart on average");
}

/// A checkpoint one of whose tensors has other bytes.
struct Damaged<'a> {
    source: &'a dyn TensorSource,
    name: &'a str,
    bytes: Vec<u8>,
}

impl TensorSource for Damaged<'_> {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let tensor = self.source.tensor(name)?;
        let bytes = match name == self.name {
            true => &self.bytes,
            false => tensor.bytes,
        };
        Some(RawTensor { bytes, ..tensor })
    }
}

#[test]
fn a_scale_that_is_no_number_is_refused_with_its_tensor_and_stored_row() {
    const ROW: usize = 19;
    const BLOCK_BYTES: usize = 34;
    for interleaved_rope_rows in [false, true] {
        let config = ModelConfig {
            interleaved_rope_rows,
            ..tiny_config()
        };
        let source = tiny(&config, 3).quantized();
        for damaged in [
            "blk.1.attn_q.weight",
            "blk.0.ffn_down.weight",
            "token_embd.weight",
        ] {
            let tensor = source.tensor(damaged).expect("a tensor");
            let of_row = tensor.bytes.len() / tensor.shape[0];
            let mut bytes = tensor.bytes.to_vec();
            bytes[(ROW + 1) * of_row - BLOCK_BYTES..][..2].copy_from_slice(&[0x00, 0x7c]);
            let source = Damaged {
                source: &source,
                name: damaged,
                bytes,
            };
            let loaded = Decoder::load(config.clone(), &source, 1, &mut |_, _| {});
            let refused = loaded.expect_err("an infinite scale");
            assert!(
                matches!(&refused, Error::UnfitScale { name, row: ROW } if name == damaged),
                "{refused}"
            );
        }
    }
}
