//! The best match of every query among a fragment's keys.
//!
//! Lanes run over sixteen keys of a tile. A tile becomes f32 once, and all queries of all heads
//! that look at it pass over it, some at a time: each is one chain of fused multiply-adds a key, in
//! the order of the dimensions. The bits of a match do not depend on how many pass together.

use rayon::prelude::*;

use super::strips::{KeyBits, KeyStrip, KeyStrips};
use super::{LatentProfile, TextKeys};
use crate::decoder::TokenQueries;
use crate::lanes::{Bytes, Isa, Kernel, Lane, Lanes, WIDTH};

/// Queries that pass over a tile together: as many sums as registers hold.
const TOGETHER: usize = 8;

/// What a question that says nothing scores, and a text that does: less than any other pair.
const NOTHING: f32 = f32::MIN;

/// How much a question has to do with each text: over the profile's first `n_heads` heads, the mean
/// over the question's tokens of the largest inner product with a key, in units of attention's
/// scores; of the windows of a text the best counts. Always finite.
///
/// # Panics
/// If the queries are not of the profile's heads, or the keys not of its keys.
pub fn scores(
    profile: &LatentProfile,
    n_heads: usize,
    question: &TokenQueries,
    texts: &[&TextKeys],
) -> Vec<f32> {
    let (isa, asked) = (Isa::best(), Asked::new(profile, n_heads, question));
    let of_text = |text: &&TextKeys| {
        let of_windows = text.windows.iter().map(|strips| asked.score(isa, strips));
        of_windows.fold(NOTHING, f32::max)
    };
    texts.par_iter().with_min_len(8).map(of_text).collect()
}

/// A question, by the keys that its queries look at.
struct Asked {
    /// Strips that a fragment of the profile has.
    n_strips: usize,
    head_dim: usize,
    n_tokens: usize,
    /// Numbers of strips, each with `[n_heads * n_tokens][head_dim]` queries.
    by_strip: Vec<(usize, Vec<f32>)>,
}

impl Asked {
    fn new(profile: &LatentProfile, n_heads: usize, question: &TokenQueries) -> Self {
        assert_eq!(question.heads(), profile.heads(), "queries of the profile");
        let n_strips = profile.kv_heads().len();
        let mut by_strip: Vec<(usize, Vec<f32>)> = (0..n_strips).map(|n| (n, Vec::new())).collect();
        for n in 0..n_heads.min(profile.heads().len()) {
            by_strip[profile.strip_of(n)].1.extend(question.of_head(n));
        }
        by_strip.retain(|(_, queries)| !queries.is_empty());
        Self {
            n_strips,
            head_dim: question.head_dim(),
            n_tokens: question.n_tokens(),
            by_strip,
        }
    }

    fn score(&self, isa: Isa, strips: &KeyStrips) -> f32 {
        assert_eq!(strips.strips.len(), self.n_strips, "keys of the profile");
        assert_eq!(strips.head_dim, self.head_dim, "heads of one width");
        if self.by_strip.is_empty() || self.n_tokens == 0 || strips.n_tokens == 0 {
            return NOTHING;
        }
        let mut sum = 0.0;
        for (number, queries) in &self.by_strip {
            let best = isa.run(MaxSim {
                strip: &strips.strips[*number],
                bits: strips.bits,
                n_tokens: strips.n_tokens,
                head_dim: self.head_dim,
                queries,
            });
            sum += best.iter().sum::<f32>();
        }
        sum / (self.n_tokens as f32 * (self.head_dim as f32).sqrt())
    }
}

/// The largest inner product of each query with a key.
struct MaxSim<'a> {
    strip: &'a KeyStrip,
    bits: KeyBits,
    n_tokens: usize,
    head_dim: usize,
    /// `[n_queries][head_dim]`.
    queries: &'a [f32],
}

impl Kernel for MaxSim<'_> {
    /// `[n_queries]`.
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<f32> {
        let Self {
            strip,
            bits,
            n_tokens,
            head_dim,
            queries,
        } = self;
        let n_queries = queries.len() / head_dim;
        let mut found = vec![Lane([f32::NEG_INFINITY; WIDTH]); n_queries];
        let mut keys = vec![Lane::ZERO; head_dim];
        let tiles = strip.codes.chunks_exact(bits.tile_len(head_dim));
        for (number, (codes, steps)) in tiles.zip(&strip.steps).enumerate() {
            widen(l, bits, codes, &mut keys);
            let mut past = Lane::ZERO;
            let n_here = (n_tokens - number * WIDTH).min(WIDTH);
            past.0[n_here..].fill(f32::NEG_INFINITY);
            let scale = (l.load(steps), l.load(&past));
            let mut q = 0;
            while q + TOGETHER <= n_queries {
                pass::<L, TOGETHER>(l, &keys, scale, &queries[q * head_dim..], &mut found[q..]);
                q += TOGETHER;
            }
            while q < n_queries {
                pass::<L, 1>(l, &keys, scale, &queries[q * head_dim..], &mut found[q..]);
                q += 1;
            }
        }
        let mut best = vec![f32::NEG_INFINITY; n_queries];
        for (best, found) in best.iter_mut().zip(&found) {
            for x in found.0 {
                *best = best.max(x);
            }
        }
        best
    }
}

/// Codes as numbers of steps.
#[inline(always)]
fn widen<L: Lanes>(l: L, bits: KeyBits, codes: &[Bytes], keys: &mut [Lane]) {
    let middle = l.splat_word(u32::from(bits.middle()));
    match bits {
        KeyBits::Eight => {
            for (codes, key) in codes.iter().zip(keys) {
                let code = l.load_bytes(codes);
                l.store(l.to_f32(l.sub_words(code, middle)), key);
            }
        }
        KeyBits::Four => {
            let (low, high) = keys.split_at_mut(codes.len());
            for ((codes, low), high) in codes.iter().zip(low).zip(high) {
                let code = l.load_bytes(codes);
                l.store(l.to_f32(l.sub_words(l.and(code, 15), middle)), low);
                l.store(l.to_f32(l.sub_words(l.shr(code, 4), middle)), high);
            }
        }
    }
}

/// `N` queries over sixteen keys, whose steps and whose places past the end are given.
#[inline(always)]
fn pass<L: Lanes, const N: usize>(
    l: L,
    keys: &[Lane],
    (steps, past): (L::F, L::F),
    queries: &[f32],
    found: &mut [Lane],
) {
    let head_dim = keys.len();
    let mut sums = [l.splat(0.0); N];
    for (d, key) in keys.iter().enumerate() {
        let key = l.load(key);
        for (q, sum) in sums.iter_mut().enumerate() {
            *sum = l.fma(l.splat(queries[q * head_dim + d]), key, *sum);
        }
    }
    for (sum, found) in sums.into_iter().zip(found) {
        let score = l.add(l.mul(sum, steps), past);
        l.store(l.max(score, l.load(found)), found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Units;
    use super::*;
    use crate::cancel::Cancel;
    use crate::config::ModelConfig;
    use crate::decoder::{Decoder, Logits, QueryHead, Rows};
    use crate::kv::KvFragment;
    use crate::layout::Layout;
    use crate::seeded::{tiny, tiny_config};

    fn decoder(seed: u64) -> Decoder {
        let config = ModelConfig {
            qkv_bias: true,
            head_dim: 32,
            rotated_dims: 32,
            ..tiny_config()
        };
        Decoder::load(config.clone(), &tiny(&config, seed), 1, &mut |_, _| {}).unwrap()
    }

    fn encoded(decoder: &Decoder, tokens: &[u32]) -> KvFragment {
        let mut tail = decoder.new_tail(0);
        let rows = Rows {
            layout: &Layout::new(),
            pending: &[],
            tail: &mut tail,
            tokens,
            logits: Logits::None,
            mass: false,
        };
        decoder.forward(&mut [rows], &Cancel::new()).unwrap();
        tail.freeze()
    }

    fn profile(bits: KeyBits) -> LatentProfile {
        let head = |(layer, head)| QueryHead { layer, head };
        let heads = [(1, 3), (0, 1), (1, 2), (0, 0)].map(head).to_vec();
        LatentProfile::new(heads, 2, bits, Units::PLAIN)
    }

    fn queries(decoder: &Decoder, profile: &LatentProfile, question: &[u32]) -> TokenQueries {
        let found = decoder.queries(&Layout::new(), &[question], profile.heads(), &Cancel::new());
        found.unwrap().remove(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_score_is_what_plain_loops_give_under_every_instruction_set(
            seed: u64,
            question in prop::collection::vec(0u32..96, 0..25),
            passage in prop::collection::vec(0u32..96, 0..60),
            eight: bool,
            n_heads in 1usize..6,
        ) {
            let decoder = decoder(seed);
            let profile = profile(if eight { KeyBits::Eight } else { KeyBits::Four });
            let kv = encoded(&decoder, &passage);
            let frame = decoder.key_frame();
            let strips = KeyStrips::of(&kv, &frame, &profile).unwrap();
            // A pass that ends at the last layer that is looked at leaves the same keys.
            let alone = decoder.key_strips(&Layout::new(), &[&passage], &profile, &Cancel::new());
            prop_assert_eq!(&alone.unwrap()[0], &strips);
            let queries = queries(&decoder, &profile, &question);
            let asked = Asked::new(&profile, n_heads, &queries);
            let got = asked.score(Isa::best(), &strips);
            for isa in Isa::available() {
                prop_assert_eq!(asked.score(isa, &strips).to_bits(), got.to_bits(), "{:?}", isa);
            }
            if question.is_empty() || passage.is_empty() {
                prop_assert_eq!(got, NOTHING);
                return Ok(());
            }
            // Against the coded keys, and against the keys themselves.
            let (mut of_codes, mut of_keys, mut longest) = (0.0, 0.0, 0.0f64);
            for n in 0..n_heads.min(4) {
                let head = profile.heads()[n];
                let plain = frame.plain_keys(&kv, head.layer, head.head / 2);
                let strip = &strips.strips[profile.strip_of(n)];
                for query in queries.of_head(n).chunks(32) {
                    let dot = |key: &[f32]| -> f64 {
                        key.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum()
                    };
                    let coded = (0..passage.len()).map(|t| dot(&strip.key(t, 32, profile.bits())));
                    of_codes += coded.fold(f64::MIN, f64::max);
                    let exact = (0..passage.len()).map(|t| {
                        let key: Vec<f32> = (0..32).map(|d| plain[t / 16 * 32 + d].0[t % 16]).collect();
                        longest = longest.max(dot(&key).abs());
                        dot(&key)
                    });
                    of_keys += exact.fold(f64::MIN, f64::max);
                }
            }
            let unit = question.len() as f64 * 32f64.sqrt();
            prop_assert!((f64::from(got) - of_codes / unit).abs() < 1e-4, "{got}, {}", of_codes / unit);
            let bound = if eight { 0.02 } else { 0.4 } * longest.max(1.0) * n_heads as f64 / 32f64.sqrt();
            prop_assert!((f64::from(got) - of_keys / unit).abs() < bound, "{got}, {}", of_keys / unit);
        }

        #[test]
        fn it_does_not_matter_where_a_text_stands(
            seed: u64,
            text in prop::collection::vec(0u32..96, 1..40),
        ) {
            // The same tokens' keys, rotated elsewhere, are the same strips but for f16.
            let decoder = decoder(seed);
            let profile = profile(KeyBits::Eight);
            let frame = decoder.key_frame();
            let queries = queries(&decoder, &profile, &[1, 2, 3, 4]);
            let of = |start: u32| {
                let mut tail = decoder.new_tail(start);
                let rows = Rows {
                    layout: &Layout::new(),
                    pending: &[],
                    tail: &mut tail,
                    tokens: &text,
                    logits: Logits::None,
                    mass: false,
                };
                decoder.forward(&mut [rows], &Cancel::new()).unwrap();
                let strips = KeyStrips::of(&tail.freeze(), &frame, &profile).unwrap();
                Asked::new(&profile, 4, &queries).score(Isa::best(), &strips)
            };
            prop_assert_eq!(of(0).to_bits(), of(1000).to_bits());
        }
    }

    #[test]
    fn many_scores_are_those_of_one_by_one_and_of_windows_the_best_counts() {
        let decoder = decoder(5);
        let profile = profile(KeyBits::Four);
        let texts: Vec<Vec<u32>> = (0..40)
            .map(|n| (0..=n).map(|t| (t * 7 + n) % 96).collect())
            .collect();
        let texts: Vec<&[u32]> = texts.iter().map(|text| &text[..]).collect();
        let (layout, cancel) = (Layout::new(), Cancel::new());
        let strips = decoder.key_strips(&layout, &texts, &profile, &cancel);
        let strips = strips.unwrap();
        let queries = queries(&decoder, &profile, &[9, 8, 7]);
        let each: Vec<TextKeys> = strips
            .iter()
            .cloned()
            .map(|of| TextKeys::of(vec![of]))
            .collect();
        let all = scores(&profile, 4, &queries, &each.iter().collect::<Vec<_>>());
        let asked = Asked::new(&profile, 4, &queries);
        for (strips, score) in strips.iter().zip(&all) {
            let alone = asked.score(Isa::best(), strips);
            assert_eq!(alone.to_bits(), score.to_bits());
        }
        let whole = TextKeys::of(strips);
        let best = all.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(scores(&profile, 4, &queries, &[&whole]), [best]);
        assert_eq!(
            scores(&profile, 4, &queries, &[&TextKeys::of(Vec::new())]),
            [NOTHING]
        );
    }

    #[test]
    fn heads_that_the_model_has_not_are_refused() {
        let (decoder, layout, cancel) = (decoder(5), Layout::new(), Cancel::new());
        let no_such = [QueryHead { layer: 2, head: 0 }];
        assert!(
            decoder
                .queries(&layout, &[&[1]], &no_such, &cancel)
                .is_err()
        );
        let profile = LatentProfile::new(no_such.to_vec(), 2, KeyBits::Four, Units::PLAIN);
        assert!(
            decoder
                .key_strips(&layout, &[&[1]], &profile, &cancel)
                .is_err()
        );
    }
}
