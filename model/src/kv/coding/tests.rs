use std::sync::{Arc, OnceLock};

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::config::ModelConfig;
use crate::kv::{PlainLayer, Tail};
use crate::lanes::{Halves, Isa, WIDTH, numbers};
use crate::seeded::tiny_config;

fn config() -> ModelConfig {
    ModelConfig {
        n_heads: 6,
        n_kv_heads: 3,
        head_dim: 32,
        rotated_dims: 32,
        rope_theta: 1e6,
        max_positions: 8192,
        ..tiny_config()
    }
}

/// Numbers in [-1, 1) that follow from a seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from((self.0 >> 40) as u32) / f64::from(1 << 23) - 1.0
    }
}

/// With a basis of what [`varied`] makes.
fn frame() -> KeyFrame {
    static BASIS: OnceLock<Arc<Basis>> = OnceLock::new();
    let basis = BASIS.get_or_init(|| {
        let texts: Vec<KvFragment> = (0..8).map(|seed| varied(seed, 3, 100)).collect();
        let n_dimensions = 2 * 3 * 32;
        let asked: Vec<f64> = (0..n_dimensions).map(|d| f64::from(1 + d % 3)).collect();
        Arc::new(Basis::of_fragments(&texts, &asked, &plain_frame()).unwrap())
    });
    plain_frame().with_basis(basis.clone())
}

/// Keys and values that are sums of forty things, the same of all tokens and layers, and a little besides: without
/// a function that another machine computes otherwise.
fn varied(seed: u64, base: u32, n_tokens: usize) -> KvFragment {
    let width = 3 * 32;
    let mut of_all = Draw(1);
    let things: Vec<Vec<f64>> = (0..40)
        .map(|_| (0..4 * width).map(|_| of_all.next()).collect())
        .collect();
    let mut draw = Draw(seed + 100);
    let mut layers = vec![
        PlainLayer {
            keys: Vec::new(),
            values: Vec::new(),
        };
        2
    ];
    for _ in 0..n_tokens {
        let amounts: Vec<f64> = things.iter().map(|_| draw.next()).collect();
        let mut token = (0..4 * width).map(|d| {
            let of_things: f64 = things
                .iter()
                .zip(&amounts)
                .map(|(thing, x)| thing[d] * x)
                .sum();
            (of_things + draw.next() / 16.0) as f32
        });
        for layer in &mut layers {
            layer.keys.extend(token.by_ref().take(width));
            layer.values.extend(token.by_ref().take(width));
        }
    }
    plain_frame().fragment(&layers, base, n_tokens).unwrap()
}

/// Biases: in one head two hundred long, in the others short.
fn plain_frame() -> KeyFrame {
    let mut draw = Draw(7);
    let config = config();
    let n = config.n_layers * config.n_kv_heads * config.head_dim;
    let bias = |i: usize, x: f64| x as f32 * if i < config.head_dim { 40.0 } else { 1.5 };
    let biases = (0..n).map(|i| bias(i, draw.next())).collect();
    KeyFrame::new(&config, biases)
}

fn frequency(i: usize) -> f64 {
    let c = config();
    f64::from(c.rope_theta).powf(-2.0 * i as f64 / c.head_dim as f64)
}

/// A fragment as a model would make it: keys drawn, the bias added, turned in f64.
fn fragment(seed: u64, base: u32, n_tokens: usize) -> KvFragment {
    let (c, frame) = (config(), plain_frame());
    let mut draw = Draw(seed);
    let mut tail = Tail::new(KvShape::of(&c), 0);
    tail.grow(n_tokens);
    let half = c.head_dim / 2;
    for layer in 0..c.n_layers {
        for (kv_head, strip) in tail.strips_mut(layer).iter_mut().enumerate() {
            let bias = frame.bias(layer, kv_head);
            let widths: Vec<f64> = (0..c.head_dim)
                .map(|d| if d % 11 == 0 { 9.0 } else { 1.0 })
                .collect();
            for token in 0..n_tokens {
                let key: Vec<f64> = (0..c.head_dim)
                    .map(|d| draw.next() * widths[d] + f64::from(bias[d]))
                    .collect();
                let mut turned = vec![0u16; c.head_dim];
                for i in 0..half {
                    let (sin, cos) = (f64::from(base + token as u32) * frequency(i)).sin_cos();
                    let (low, high) = (key[i], key[half + i]);
                    turned[i] = f16::from_f64(low * cos - high * sin).to_bits();
                    turned[half + i] = f16::from_f64(high * cos + low * sin).to_bits();
                }
                let value: Vec<u16> = (0..c.head_dim)
                    .map(|_| f16::from_f64(draw.next()).to_bits())
                    .collect();
                let halves = |x: &[u16]| -> Vec<Halves> {
                    x.as_chunks().0.iter().map(|h| Halves(*h)).collect()
                };
                strip.set(token, &halves(&turned), &halves(&value));
            }
        }
    }
    let mut fragment = tail.freeze();
    fragment.base = base;
    fragment
}

/// What a head's keys are without rotation and bias, in f64: `[n_tokens][head_dim]`.
fn oracle(kv: &KvFragment, layer: usize, kv_head: usize) -> Vec<Vec<f64>> {
    let (c, frame) = (config(), plain_frame());
    let (half, bias) = (c.head_dim / 2, frame.bias(layer, kv_head).to_vec());
    let strip = kv.strip(layer, kv_head);
    let stored = |token: usize, d: usize| {
        f16::from_bits(strip.keys[token / WIDTH * c.head_dim + d].0[token % WIDTH]).to_f64()
    };
    let of_token = |token: usize| {
        let mut key = vec![0.0; c.head_dim];
        for i in 0..half {
            let (sin, cos) = (f64::from(kv.base + token as u32) * frequency(i)).sin_cos();
            let (low, high) = (stored(token, i), stored(token, half + i));
            key[i] = low * cos + high * sin - f64::from(bias[i]);
            key[half + i] = high * cos - low * sin - f64::from(bias[half + i]);
        }
        key
    };
    (0..kv.n_tokens).map(of_token).collect()
}

fn codings() -> [Coding; 7] {
    [
        Coding::K8V4,
        Coding::K8Mixed(LayerSet::of([1])),
        Coding::K8Mixed(LayerSet::default()),
        Coding::Q8Blocks,
        Coding::Q4Blocks,
        Coding::T4,
        Coding::T8,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn frames_take_out_what_a_model_put_in(seed: u64, base in 0u32..4000, n in 1usize..40) {
        let (kv, frame) = (fragment(seed, base, n), frame());
        for (layer, kv_head) in [(0, 0), (0, 2), (1, 1)] {
            let plain = frame.plain(&kv, layer, kv_head);
            for (token, key) in oracle(&kv, layer, kv_head).iter().enumerate() {
                for (d, x) in key.iter().enumerate() {
                    let got = plain.keys[token / WIDTH * 32 + d].0[token % WIDTH];
                    prop_assert!((f64::from(got) - x).abs() < 2e-4, "{got} for {x}");
                }
            }
            // And putting it in again gives what was stored, but for a last bit.
            let strip = frame.strip(&plain, base, n, layer, kv_head).unwrap();
            prop_assert_eq!(&strip.values, &kv.strip(layer, kv_head).values);
            let pairs = strip.keys.iter().zip(&kv.strip(layer, kv_head).keys);
            for (a, b) in pairs.flat_map(|(a, b)| a.0.into_iter().zip(b.0)) {
                let (a, b) = (f16::from_bits(a).to_f32(), f16::from_bits(b).to_f32());
                prop_assert!((a - b).abs() <= b.abs().max(0.25) / 512.0, "{a} for {b}");
            }
        }
    }

    #[test]
    fn keys_come_back_within_half_a_step_of_their_channel(
        seed: u64,
        base in 0u32..4000,
        n in prop_oneof![Just(1usize), Just(16), Just(128), Just(129), 2usize..300],
        bits in prop_oneof![Just(4u8), Just(8)],
    ) {
        let (kv, frame) = (fragment(seed, base, n), frame());
        let eight = LayerSet::of(0..if bits == 8 { 2 } else { 0 });
        let coded = CodedKv::encode(&kv, Coding::K8Mixed(eight), &frame).unwrap();
        prop_assert_eq!(Some(coded.n_bytes()), coded.coding().n_bytes(kv.shape(), n));
        let back = coded.decode(&frame).unwrap();
        prop_assert_eq!((back.base(), back.n_tokens(), back.shape()), (base, n, kv.shape()));
        for (layer, kv_head) in [(0, 0), (0, 1), (1, 2)] {
            let (keys, bias) = (oracle(&kv, layer, kv_head), frame.bias(layer, kv_head));
            let back_keys = oracle(&back, layer, kv_head);
            for first in (0..n).step_by(128) {
                let group = first..(first + 128).min(n);
                for d in 0..32 {
                    let channel = || group.clone().map(|t| keys[t][d]);
                    let (least, most) = channel().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
                    let last = f64::from((1u32 << bits) - 1);
                    let step = (most - least) / last * 1.002 + least.abs() / 1000.0 / last + 1e-7;
                    // Two dimensions turn into each other, and f16 rounds what is as long as they.
                    let lengths = group.clone().map(|t| {
                        let with_bias = |d: usize| keys[t][d] + f64::from(bias[d]);
                        with_bias(d).hypot(with_bias(d ^ 16))
                    });
                    for (t, length) in group.clone().zip(lengths) {
                        let error = (keys[t][d] - back_keys[t][d]).abs();
                        let bound = step / 2.0 + length / 1024.0 + 1e-3;
                        prop_assert!(error <= bound, "{error} past {bound}, step {step}");
                    }
                }
            }
        }
        // Values: sixteen numbers over what a token's head holds.
        let (a, b) = (frame.plain(&kv, 1, 1), frame.plain(&back, 1, 1));
        for (value, back) in a.values().chunks(32).zip(b.values().chunks(32)) {
            let least = value.iter().copied().fold(f32::MAX, f32::min);
            let most = value.iter().copied().fold(f32::MIN, f32::max);
            for (x, back) in value.iter().zip(back) {
                prop_assert!((x - back).abs() <= (most - least) / 30.0 * 1.01 + 1e-3);
            }
        }
    }

    #[test]
    fn bytes_become_the_codes_again(seed: u64, n in 0usize..50) {
        let (kv, frame) = (fragment(seed, 9, n), frame());
        for coding in codings() {
            let coded = CodedKv::encode(&kv, coding, &frame).unwrap();
            let again = CodedKv::from_bytes(&coded.to_bytes()).unwrap();
            prop_assert_eq!(&again, &coded);
            prop_assert_eq!(again.decode(&frame), coded.decode(&frame));
        }
    }

    #[test]
    fn a_flipped_bit_is_refused(seed: u64, at: prop::sample::Index, bit in 0u8..8) {
        let coded = CodedKv::encode(&fragment(seed, 0, 5), Coding::K8V4, &frame()).unwrap();
        let mut bytes = coded.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(CodedKv::from_bytes(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn every_byte_that_is_changed_cut_or_added_is_refused() {
    let coded = CodedKv::encode(&fragment(3, 0, 2), Coding::Q4Blocks, &frame()).unwrap();
    let bytes = coded.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(CodedKv::from_bytes(&changed).is_err(), "byte {at} changed");
        assert!(CodedKv::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(CodedKv::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn every_instruction_set_gives_the_same_codes_and_numbers() {
    let kv = fragment(11, 250, 70);
    for coding in codings() {
        let of = |isa: Isa| {
            let frame = frame().under(isa);
            let coded = CodedKv::encode(&kv, coding, &frame).unwrap();
            let back = coded.decode(&frame).unwrap().content_digest();
            (coded.to_bytes(), back)
        };
        let expected = of(Isa::Portable);
        for isa in Isa::available() {
            assert!(of(isa) == expected, "{coding} under {isa:?}");
        }
    }
}

#[test]
fn fewer_bits_are_further_off_and_the_frame_is_why() {
    let (kv, frame) = (fragment(5, 100, 120), frame());
    let of = |coding| CodedKv::encode(&kv, coding, &frame).unwrap();
    let [k8, mixed, k4, q8, q4, t4, t8] = codings().map(of);
    assert!(t8.n_bytes() < t4.n_bytes() && t4.n_bytes() < k4.n_bytes());
    assert!(t4.deviation().keys < t8.deviation().keys);
    assert!(t4.deviation().values < t8.deviation().values);
    assert!(k8.deviation().keys < mixed.deviation().keys);
    assert!(mixed.deviation().keys < k4.deviation().keys);
    assert!(k8.n_bytes() < q8.n_bytes() && k4.n_bytes() < k8.n_bytes());
    // A bias that is coded with the key takes up its codes.
    assert!(
        k8.deviation().keys < q8.deviation().keys,
        "{:?}, {:?}",
        k8.deviation(),
        q8.deviation()
    );
    assert!(
        k4.deviation().keys < q4.deviation().keys,
        "{:?}, {:?}",
        k4.deviation(),
        q4.deviation()
    );
    let tolerance = Tolerance {
        keys: 0.01,
        values: 0.1,
    };
    assert!(tolerance.holds(k8.deviation()) && !tolerance.holds(k4.deviation()));
    let no_number = Deviation {
        keys: f32::NAN,
        values: 0.0,
    };
    assert!(!tolerance.holds(no_number));
}

#[test]
fn what_is_not_finite_is_refused_where_it_stands() {
    let mut kv = fragment(5, 0, 20);
    kv.strips[4].values[3].0[7] = f16::INFINITY.to_bits();
    for coding in codings() {
        let refused = CodedKv::encode(&kv, coding, &frame());
        assert_eq!(
            refused,
            Err(CodingError::NotFinite {
                layer: 1,
                kv_head: 1
            }),
            "{coding}"
        );
    }
    let mut coded = CodedKv::encode(&fragment(5, 0, 20), Coding::K8V4, &frame()).unwrap();
    coded.payload[2..4].copy_from_slice(&f16::NAN.to_le_bytes());
    // Whole by its digests, and yet no number.
    let coded = CodedKv::from_bytes(&coded.to_bytes()).unwrap();
    let refused = coded.decode(&frame());
    assert_eq!(
        refused,
        Err(CodingError::NotFinite {
            layer: 0,
            kv_head: 0
        })
    );
}

#[test]
fn another_models_codes_are_refused() {
    let coded = CodedKv::encode(&fragment(5, 0, 20), Coding::K8V4, &frame()).unwrap();
    let unbiased = KeyFrame::new(&config(), Vec::new());
    assert_eq!(coded.decode(&unbiased), Err(CodingError::Foreign));
    let other = KeyFrame::new(&tiny_config(), Vec::new());
    assert_eq!(coded.decode(&other), Err(CodingError::Foreign));
    assert_eq!(
        CodedKv::encode(&fragment(5, 0, 20), Coding::K8V4, &other),
        Err(CodingError::Foreign)
    );
}

#[test]
fn claimed_sizes_are_refused_before_anything_is_allocated() {
    let coded = CodedKv::encode(&fragment(5, 0, 1), Coding::K8V4, &frame()).unwrap();
    let huge = [
        CodedKv {
            n_tokens: 1 << 31,
            ..coded.clone()
        },
        CodedKv {
            shape: KvShape {
                n_layers: 200,
                n_kv_heads: 1 << 31,
                head_dim: 1 << 20,
            },
            ..coded.clone()
        },
        CodedKv {
            shape: KvShape {
                n_layers: u32::MAX as usize,
                ..coded.shape
            },
            ..coded.clone()
        },
        CodedKv {
            shape: KvShape {
                head_dim: 17,
                ..coded.shape
            },
            ..coded.clone()
        },
        CodedKv {
            shape: KvShape {
                head_dim: 0,
                ..coded.shape
            },
            ..coded
        },
    ];
    for claims in huge {
        let refused = CodedKv::from_bytes(&claims.to_bytes());
        assert!(
            matches!(refused, Err(CodingError::Damaged(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn what_layers_share_is_coded_once() {
    let (kv, frame) = (varied(50, 40, 90), frame());
    let of = |coding| CodedKv::encode(&kv, coding, &frame).unwrap();
    let [k8, .., t4, t8] = codings().map(of);
    let n_f16 = kv.shape().bytes_per_token() * 90;
    assert_eq!(
        (t4.n_bytes(), t8.n_bytes()),
        (n_f16 / 4 + 16, n_f16 / 8 + 16)
    );
    // In a third of the bytes, values are nearer than four bits a token have them.
    assert!(
        t8.deviation().values < k8.deviation().values,
        "{:?}",
        t8.deviation()
    );
    assert!(
        t4.deviation().values < t8.deviation().values / 2.0,
        "{:?}",
        t4.deviation()
    );
    for coded in [t4, t8] {
        let back = coded.decode(&frame).unwrap();
        assert!(back.is_sound() && (back.base(), back.n_tokens()) == (40, 90));
    }
}

#[test]
fn codings_across_layers_need_the_basis_that_they_were_coded_by() {
    let kv = varied(50, 40, 20);
    let coded = CodedKv::encode(&kv, Coding::T4, &frame()).unwrap();
    let without = CodingError::NoBasis(Coding::T4);
    assert_eq!(
        CodedKv::encode(&kv, Coding::T4, &plain_frame()),
        Err(without.clone())
    );
    assert_eq!(coded.decode(&plain_frame()), Err(without));
    let texts = [varied(51, 0, 400)];
    let other = Basis::of_fragments(&texts, &[1.0; 2 * 3 * 32], &plain_frame()).unwrap();
    let other = plain_frame().with_basis(Arc::new(other));
    assert_eq!(coded.decode(&other), Err(CodingError::Foreign));
    let claims = CodedKv {
        n_tokens: 1 << 19,
        ..coded.clone()
    };
    let refused = CodedKv::from_bytes(&claims.to_bytes());
    assert!(
        matches!(refused, Err(CodingError::Damaged(_))),
        "{refused:?}"
    );
    // Others take no notice of it.
    let [with, without] =
        [frame(), plain_frame()].map(|frame| CodedKv::encode(&kv, Coding::K8V4, &frame));
    assert_eq!(with, without);
}

#[test]
fn codes_that_nobody_wrote_are_refused_or_other_codes_than_those_of_the_fragment() {
    let (kv, frame) = (varied(50, 0, 2), frame());
    for coding in [Coding::T4, Coding::T8] {
        let coded = CodedKv::encode(&kv, coding, &frame).unwrap();
        let mut n_refused = 0;
        for at in 0..coded.payload.len() {
            for bit in [0, 7] {
                let mut changed = coded.clone();
                changed.payload[at] ^= 1 << bit;
                // Whole by its digests.
                let changed = CodedKv::from_bytes(&changed.to_bytes()).unwrap();
                match changed.decode(&frame) {
                    // An audit codes the fragment again, and these are not its codes.
                    Ok(back) => assert!(back.is_sound() && changed != coded),
                    Err(CodingError::Damaged(_) | CodingError::NotFinite { .. }) => n_refused += 1,
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
        }
        assert!(n_refused > 0);
    }
}

/// Written by format version 1.
const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/coded-1.bin");

fn golden() -> CodedKv {
    let eight = LayerSet::of([1]);
    CodedKv::encode(&fragment(1, 17, 3), Coding::K8Mixed(eight), &frame()).unwrap()
}

#[test]
fn what_version_1_wrote_is_written_and_read() {
    assert!(
        golden().to_bytes() == GOLDEN,
        "the format is not that of its version"
    );
    let back = CodedKv::from_bytes(GOLDEN)
        .unwrap()
        .decode(&frame())
        .unwrap();
    assert_eq!(&back.content_digest().to_hex()[..16], "e92c1141f2578541");
}

#[test]
#[ignore = "writes the golden file of a new version"]
fn write_golden() {
    std::fs::write("tests/golden/coded-1.bin", golden().to_bytes()).unwrap();
}

#[test]
fn numbers_of_the_oracle_are_those_of_the_frame() {
    // Behind the last token there is nothing, whatever the bias.
    let plain = frame().plain(&fragment(2, 5, 17), 0, 0);
    let last = &numbers(&plain.keys)[32 * WIDTH..];
    assert!(
        last.chunks(WIDTH)
            .all(|dimension| dimension[1..].iter().all(|x| *x == 0.0))
    );
}
