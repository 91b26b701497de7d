//! Which heads of this model tell which passage a question is about? Asked of pairs.
//!
//! Every query head of the lower two thirds of the layers ranks all passages for each question,
//! alone; the heads whose mean reciprocal rank is highest are taken. Layers above are about what
//! comes next rather than about what was said. The units are those of scores of pairs that do not
//! belong together.

use super::{KeyBits, KeyStrips, LatentProfile, TextKeys, Units, WINDOW_TOKENS, scores};
use crate::cancel::Cancel;
use crate::decoder::{Decoder, QueryHead};
use crate::error::Error;
use crate::kv::KvFragment;
use crate::layout::Layout;

/// A question and the passage that answers it, as tokens.
#[derive(Clone, Debug)]
pub struct CalibrationPair {
    /// As recall will read it.
    pub question: Vec<u32>,
    /// As it is stored.
    pub passage: Vec<u32>,
}

/// A head, and how well it ranks alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadRank {
    /// The head.
    pub head: QueryHead,
    /// Mean over questions of one by the rank of their passage.
    pub mrr: f64,
}

/// A profile, and what it was chosen from.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The profile.
    pub profile: LatentProfile,
    /// All heads that were tried, the best first.
    pub heads: Vec<HeadRank>,
    /// How well the profile ranks the pairs that it was chosen on.
    pub mrr: f64,
}

/// Chooses `n_heads` heads by pairs whose questions and passages are read behind `layout`; of each
/// passage one window is read. Two questions may be about one passage: then it counts as such, by its
/// tokens.
///
/// # Errors
/// As [`Decoder::forward`]. [`Error::Calibration`] if fewer than two passages can be told apart.
pub fn calibrate(
    decoder: &Decoder,
    layout: &Layout,
    pairs: &[CalibrationPair],
    n_heads: usize,
    bits: KeyBits,
    cancel: &Cancel,
) -> Result<Calibrated, Error> {
    let c = decoder.config();
    let group = c.n_heads / c.n_kv_heads;
    let mut passages: Vec<&[u32]> = pairs.iter().map(|pair| &pair.passage[..]).collect();
    passages.sort_unstable();
    passages.dedup();
    if passages.len() < 2
        || pairs
            .iter()
            .any(|p| p.question.is_empty() || p.passage.is_empty())
    {
        return Err(Error::Calibration {
            n_passages: passages.len(),
        });
    }
    let gold: Vec<usize> = pairs
        .iter()
        .map(|pair| passages.partition_point(|p| *p < &pair.passage[..]))
        .collect();
    let n_layers = (2 * c.n_layers).div_ceil(3);
    let mut kv: Vec<KvFragment> = Vec::with_capacity(passages.len());
    for tokens in &passages {
        let window = &tokens[..tokens.len().min(WINDOW_TOKENS)];
        let read = decoder.read(layout, &[window], &[], n_layers, cancel)?;
        kv.extend(read.into_iter().map(|read| read.kv));
    }
    let all: Vec<QueryHead> = (0..n_layers)
        .flat_map(|layer| (0..c.n_heads).map(move |head| QueryHead { layer, head }))
        .collect();
    let questions: Vec<&[u32]> = pairs.iter().map(|pair| &pair.question[..]).collect();
    let mut queries = Vec::with_capacity(questions.len());
    for question in &questions {
        queries.extend(decoder.queries(layout, &[question], &all, cancel)?);
    }
    let frame = decoder.key_frame();
    // Ranks of the passages that belong to the questions, under some of the heads.
    let judge = |numbers: &[usize]| -> Result<(LatentProfile, Vec<Vec<f32>>), Error> {
        let heads = numbers.iter().map(|n| all[*n]).collect();
        let profile = LatentProfile::new(heads, group, bits, Units::PLAIN);
        let strips = kv
            .iter()
            .map(|kv| Ok(TextKeys::of(vec![KeyStrips::of(kv, &frame, &profile)?])))
            .collect::<Result<Vec<_>, Error>>()?;
        let strips: Vec<&TextKeys> = strips.iter().collect();
        let of_question = queries.iter().map(|q| {
            let question = q.select(numbers);
            scores(&profile, numbers.len(), &question, &strips)
        });
        let of_question = of_question.collect();
        Ok((profile, of_question))
    };
    let mut ranked = Vec::with_capacity(all.len());
    for n in 0..all.len() {
        let (_, scores) = judge(&[n])?;
        ranked.push((n, mrr(&scores, &gold)));
    }
    // Of equal ones the first: heads have an order.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let numbers: Vec<usize> = ranked.iter().take(n_heads).map(|(n, _)| *n).collect();
    let (profile, scores) = judge(&numbers)?;
    let units = units(&scores, &gold);
    Ok(Calibrated {
        mrr: mrr(&scores, &gold),
        profile: LatentProfile::new(profile.heads().to_vec(), group, bits, units),
        heads: ranked
            .iter()
            .map(|(n, mrr)| HeadRank {
                head: all[*n],
                mrr: *mrr,
            })
            .collect(),
    })
}

/// Mean over questions of one by the rank of the passage that belongs to it. One that scores as
/// high stands before it.
fn mrr(scores: &[Vec<f32>], gold: &[usize]) -> f64 {
    let of_question = scores.iter().zip(gold).map(|(scores, gold)| {
        let at_least = scores.iter().filter(|score| **score >= scores[*gold]);
        1.0 / at_least.count().max(1) as f64
    });
    of_question.sum::<f64>() / scores.len() as f64
}

/// Of the scores of pairs that do not belong together.
fn units(scores: &[Vec<f32>], gold: &[usize]) -> Units {
    let others = || {
        scores.iter().zip(gold).flat_map(|(scores, gold)| {
            let others = scores.iter().enumerate().filter(move |(n, _)| n != gold);
            others.map(|(_, score)| f64::from(*score))
        })
    };
    let n = others().count() as f64;
    let mean = others().sum::<f64>() / n;
    let variance = others().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    Units {
        mean: mean as f32,
        spread: variance.sqrt().max(f64::from(f32::MIN_POSITIVE)) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::seeded::{SeededTensors, tiny, tiny_config};
    use crate::weights::{RawTensor, TensorSource};

    fn pairs() -> Vec<CalibrationPair> {
        // A question is a part of its passage: whatever head, alike tokens match.
        let passage = |n: u32| {
            (0..20)
                .map(|t| (n * 13 + t * 5 + n * t) % 96)
                .collect::<Vec<u32>>()
        };
        (0..12)
            .map(|n| CalibrationPair {
                question: passage(n)[3..9].to_vec(),
                passage: passage(n),
            })
            .collect()
    }

    /// A seeded model in which query head 2 of layer 0 asks for what is there: its queries are the
    /// keys that it looks at.
    struct Planted {
        seeded: SeededTensors,
        queries: Vec<u8>,
    }

    const PLANTED: QueryHead = QueryHead { layer: 0, head: 2 };

    impl Planted {
        fn new(config: &ModelConfig) -> Self {
            let seeded = tiny(config, 3);
            let bytes = |name| seeded.tensor(name).unwrap().bytes.to_vec();
            let mut queries = bytes("blk.0.attn_q.weight");
            let keys = bytes("blk.0.attn_k.weight");
            let of_head = 4 * config.head_dim * config.d_model;
            // Of f32, one head behind the other; heads 2 and 3 look at keys 1.
            queries[2 * of_head..3 * of_head].copy_from_slice(&keys[of_head..2 * of_head]);
            Self { seeded, queries }
        }
    }

    impl TensorSource for Planted {
        fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
            let seeded = self.seeded.tensor(name)?;
            Some(match name {
                "blk.0.attn_q.weight" => RawTensor {
                    bytes: &self.queries,
                    ..seeded
                },
                _ => seeded,
            })
        }
    }

    #[test]
    fn the_head_that_asks_for_what_is_there_is_found() {
        let config = tiny_config();
        let planted = Planted::new(&config);
        let decoder = Decoder::load(config, &planted, 1, &mut |_, _| {}).unwrap();
        let cancel = Cancel::new();
        let layout = Layout::new();
        let of = |pairs: &[CalibrationPair]| {
            calibrate(&decoder, &layout, pairs, 1, KeyBits::Eight, &cancel).unwrap()
        };
        let found = of(&pairs());
        assert_eq!(found.heads.len(), 2 * 4);
        assert!(
            found.heads.is_sorted_by(|a, b| a.mrr >= b.mrr),
            "{:?}",
            found.heads
        );
        assert_eq!(found.profile.heads(), [PLANTED], "{:?}", found.heads);
        // By chance it would be a quarter, and so it is for all others.
        assert!(found.mrr > 0.8, "{found:?}");
        assert!(found.heads[1].mrr < 0.5, "{found:?}");
        assert!(found.profile.units().spread > 0.0);
        // The same in any order.
        let mut reversed = pairs();
        reversed.reverse();
        let again = of(&reversed);
        assert_eq!(again.profile.heads(), found.profile.heads());
        assert!((again.mrr - found.mrr).abs() < 1e-9);
    }

    #[test]
    fn pairs_that_tell_nothing_are_refused() {
        let config = tiny_config();
        let decoder = Decoder::load(config.clone(), &tiny(&config, 3), 1, &mut |_, _| {}).unwrap();
        let layout = Layout::new();
        let one = &pairs()[..1];
        let mut empty = pairs();
        empty[4].question.clear();
        for pairs in [&[][..], one, &empty] {
            let refused = calibrate(&decoder, &layout, pairs, 3, KeyBits::Four, &Cancel::new());
            assert!(
                matches!(refused, Err(Error::Calibration { .. })),
                "{refused:?}"
            );
        }
    }
}
