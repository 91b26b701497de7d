//! Is the passage found that answers the question?

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use perennial_ask::TextCodec as _;
use perennial_bank::id::FragmentId;
use perennial_bank::recall::{LatentIndex, Stages};
use perennial_model::cancel::Cancel;
use perennial_model::decoder::TokenQueries;
use perennial_model::embedding::Embedder;
use perennial_model::kv::KvFragment;
use perennial_model::latent::{
    CalibrationPair, KeyBits, KeyStrips, LatentProfile, Units, calibrate, scores,
};
use perennial_model::locator::{Locator, ModelSpec, OnStderr, Settings};

use crate::set::Case;
use crate::{Bench, Error};

/// Heads of profiles.
const N_HEADS: [usize; 3] = [4, 8, 16];
/// Entries of indexes that are timed, made of the same strips again and again.
const SIZES: [usize; 2] = [1_150, 10_000];

/// How questions and passages fare.
struct Ranking {
    name: String,
    n_bytes: Option<f64>,
    /// One a test question: how many passages score at least as high as its own.
    ranks: Vec<usize>,
}

impl Ranking {
    /// `scores` are `[n_cases][n_cases]`.
    fn new(name: String, set: &[Case], scores: &[Vec<f32>]) -> Self {
        let rank = |(n, scores): (usize, &Vec<f32>)| {
            let own = scores[n];
            scores.iter().filter(|score| **score >= own).count()
        };
        let tested = scores
            .iter()
            .enumerate()
            .filter(|(n, _)| !set[*n].calibrates);
        Self {
            name,
            n_bytes: None,
            ranks: tested.map(rank).collect(),
        }
    }

    fn at(&self, k: usize) -> f64 {
        let found = self.ranks.iter().filter(|rank| **rank <= k).count();
        found as f64 / self.ranks.len() as f64
    }

    fn mrr(&self) -> f64 {
        let sum: f64 = self.ranks.iter().map(|rank| 1.0 / *rank as f64).sum();
        sum / self.ranks.len() as f64
    }
}

/// Recall by latent keys, by embeddings, and by both.
pub fn table(bench: &Bench, set: &[Case], n_threads: usize) -> Result<String, Error> {
    let layout = bench.behind_prefix();
    let begin = Instant::now();
    let mut tokens = Vec::new();
    let mut fragments: Vec<KvFragment> = Vec::new();
    let mut questions = Vec::new();
    for (n, case) in set.iter().enumerate() {
        eprint!("\r{}: passage {} of {}", bench.name, n + 1, set.len());
        tokens.push(bench.codec.passage(&case.title, &case.text)?);
        fragments.push(bench.encode(&layout, &tokens[n])?);
        questions.push(bench.codec.answer(&case.question)?);
    }
    eprintln!();
    let n_encoded: usize = tokens.iter().map(Vec::len).sum();
    let encoding = begin.elapsed();
    let pairs: Vec<CalibrationPair> = (0..set.len())
        .filter(|n| set[*n].calibrates)
        .map(|n| CalibrationPair {
            question: questions[n].clone(),
            passage: tokens[n].clone(),
        })
        .collect();
    let cancel = Cancel::new();
    let begin = Instant::now();
    let calibrated = calibrate(
        &bench.decoder,
        &bench.prefix,
        &pairs,
        N_HEADS[2],
        KeyBits::Four,
        &cancel,
    )?;
    let calibrating = begin.elapsed();
    let dense = embedded(set, n_threads)?;
    let dense_units = units_of(set, &dense);
    let mut rankings = vec![Ranking::new("all-MiniLM-L6-v2".to_owned(), set, &dense)];

    let group = bench.decoder.config().n_heads / bench.decoder.config().n_kv_heads;
    let frame = bench.decoder.key_frame();
    let texts: Vec<&[u32]> = questions.iter().map(|text| &text[..]).collect();
    let mut timed = None;
    for (n_heads, bits) in N_HEADS
        .into_iter()
        .map(|n| (n, KeyBits::Four))
        .chain([(N_HEADS[1], KeyBits::Eight)])
    {
        let heads = calibrated.profile.heads()[..n_heads].to_vec();
        let no_units = Units {
            mean: 0.0,
            spread: 1.0,
        };
        let profile = LatentProfile::new(heads, group, bits, no_units);
        let queries = bench
            .decoder
            .queries(&layout, &texts, profile.heads(), &cancel)?;
        let strips: Vec<KeyStrips> = fragments
            .iter()
            .map(|kv| KeyStrips::of(kv, 0, &frame, &profile))
            .collect::<Result<_, _>>()?;
        let of = |question: &TokenQueries| {
            let strips: Vec<&KeyStrips> = strips.iter().collect();
            scores(&profile, n_heads, question, &strips)
        };
        let latent: Vec<Vec<f32>> = queries.iter().map(of).collect();
        let units = units_of(set, &latent);
        let n_bytes: usize = strips.iter().map(KeyStrips::n_bytes).sum();
        let bits = match bits {
            KeyBits::Eight => 8,
            KeyBits::Four => 4,
        };
        let mut alone = Ranking::new(format!("{n_heads} heads, {bits} bits"), set, &latent);
        alone.n_bytes = Some(n_bytes as f64 / n_encoded as f64);
        let sums: Vec<Vec<f32>> = latent
            .iter()
            .zip(&dense)
            .map(|(a, b)| {
                let both = a.iter().zip(b);
                both.map(|(a, b)| units.of(*a) + dense_units.of(*b))
                    .collect()
            })
            .collect();
        let fused = format!("{n_heads} heads, {bits} bits + MiniLM");
        rankings.extend([alone, Ranking::new(fused, set, &sums)]);
        if (n_heads, bits) == (N_HEADS[1], 4) {
            timed = Some((profile, units, queries, strips));
        }
    }
    let n_tests = rankings[0].ranks.len();
    let mut table = format!(
        "{} passages, {n_tests} questions; heads and scales chosen on {} others (MRR of {} heads \
         there {:.3}). Encoded {n_encoded} tokens in {:.1} s; {} heads ranked in {:.1} s.\n\n",
        set.len(),
        set.len() - n_tests,
        N_HEADS[2],
        calibrated.mrr,
        encoding.as_secs_f64(),
        calibrated.heads.len(),
        calibrating.as_secs_f64(),
    );
    table += "| recall by | R@1 | R@5 | R@10 | MRR | bytes a token |\n\
              | --- | --- | --- | --- | --- | --- |\n";
    for ranking in &rankings {
        let bytes = ranking
            .n_bytes
            .map_or("-".to_owned(), |n| format!("{n:.0}"));
        writeln!(
            table,
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} | {bytes} |",
            ranking.name,
            ranking.at(1),
            ranking.at(5),
            ranking.at(10),
            ranking.mrr(),
        )?;
    }
    table += "\nHeads, the best first (layer, head: MRR alone):";
    for rank in &calibrated.heads[..N_HEADS[2]] {
        let head = rank.head;
        write!(table, " ({}, {}: {:.3})", head.layer, head.head, rank.mrr)?;
    }
    table.push('\n');
    if let Some((profile, units, queries, strips)) = timed {
        writeln!(
            table,
            "Units of 8 heads, 4 bits: mean {}, spread {}.",
            units.mean, units.spread
        )?;
        for n in SIZES {
            table += &times(&profile, &queries, &strips, n)?;
        }
    }
    Ok(table)
}

/// What recall of 5 takes over `n` entries, with one stage and with two.
fn times(
    profile: &LatentProfile,
    queries: &[TokenQueries],
    strips: &[KeyStrips],
    n: usize,
) -> Result<String, Error> {
    let mut line = format!("Recall of 5 from {n} entries:");
    let two = Stages {
        from: 0,
        ..Stages::default()
    };
    let one = Stages {
        from: usize::MAX,
        ..two
    };
    let mut found = Vec::new();
    for (name, stages) in [("one stage", one), ("two stages", two)] {
        let mut index = LatentIndex::new(profile.clone(), stages);
        for number in 0..n {
            let name = blake3::hash(&number.to_le_bytes());
            let id = FragmentId::from_bytes(*name.as_bytes());
            index.insert(id, strips[number % strips.len()].clone());
        }
        let mut took: Vec<Duration> = Vec::new();
        let mut firsts = Vec::new();
        for question in queries.iter().take(60) {
            let begin = Instant::now();
            let recalled = index.recall(question, 5, |_| true);
            took.push(begin.elapsed());
            firsts.push(recalled.first().map(|recalled| recalled.score));
        }
        took.sort_unstable();
        let ms = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
        write!(line, " {name} p50 {:.1} ms, p95 {:.1} ms;", ms(50), ms(95))?;
        found.push(firsts);
    }
    let same = found[0]
        .iter()
        .zip(&found[1])
        .filter(|(a, b)| a == b)
        .count();
    writeln!(line, " the same first in {same} of {}.", found[0].len())?;
    Ok(line)
}

/// Cosines of all questions with all passages.
fn embedded(set: &[Case], n_threads: usize) -> Result<Vec<Vec<f32>>, Error> {
    let mut progress = OnStderr::default();
    let spec = ModelSpec::parse("all-minilm-l6-v2")?;
    let located = Locator::new(Settings::from_env()?).locate(&spec, &mut progress)?;
    let embedder = Embedder::open(&located.path, n_threads)?;
    let passages: Vec<String> = set
        .iter()
        .map(|case| format!("{}\n{}", case.title, case.text))
        .collect();
    let passages: Vec<&str> = passages.iter().map(|text| &**text).collect();
    let questions: Vec<&str> = set.iter().map(|case| &*case.question).collect();
    let (passages, questions) = (embedder.embed(&passages)?, embedder.embed(&questions)?);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    let of = |question: &Vec<f32>| passages.iter().map(|p| dot(question, p)).collect();
    Ok(questions.iter().map(of).collect())
}

/// Units of scores of pairs that do not belong together, of the questions that calibrate, over the
/// passages that do.
fn units_of(set: &[Case], scores: &[Vec<f32>]) -> Units {
    let calibrates: Vec<usize> = (0..set.len()).filter(|n| set[*n].calibrates).collect();
    let mut others = Vec::new();
    for question in &calibrates {
        let passages = calibrates.iter().filter(|passage| *passage != question);
        others.extend(passages.map(|passage| f64::from(scores[*question][*passage])));
    }
    let n = others.len() as f64;
    let mean = others.iter().sum::<f64>() / n;
    let variance = others.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    Units {
        mean: mean as f32,
        spread: variance.sqrt() as f32,
    }
}
