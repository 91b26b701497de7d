//! What does a model expect of an answer over passages that were coded?

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_ask::TextCodec as _;
use perennial_model::cancel::Cancel;
use perennial_model::decoder::{Logits, Rows};
use perennial_model::divergence::{kl, log_softmax};
use perennial_model::kv::KvFragment;
use perennial_model::kv::coding::{Basis, CodedKv, Coding, Deviation, KeyFrame, LayerSet};
use perennial_model::layout::Layout;

use crate::set::Case;
use crate::{Bench, Error};

/// The instruction; the question follows it.
const PROMPT: &str =
    "Answer the question with a short phrase from the documents above, nothing else.";
/// Passages of a layout: the one that answers, and others before and behind it.
const N_PASSAGES: usize = 4;
/// Of all layers, the part that keeps eight bits where the mixed coding is tuned here.
const EIGHT_BITS_EACH: usize = 4;

/// A question over some passages.
struct Layouts {
    fragments: Vec<Arc<KvFragment>>,
    tokens: Vec<u32>,
    /// Tokens of the answer, the last of `tokens` but for the very last.
    n_answer: usize,
    /// Of f16, one an answer token.
    expected: Vec<Vec<f64>>,
}

/// What became of a coding.
#[derive(Default)]
struct Line {
    n_f16: usize,
    n_coded: usize,
    divergences: Vec<f64>,
    n_same: usize,
    deviations: Vec<Deviation>,
    encoding: Duration,
    decoding: Duration,
    n_tokens: usize,
}

/// Codings beside each other.
pub fn table(bench: &Bench, set: &[Case], n_cases: usize) -> Result<String, Error> {
    let frame = bench.decoder.key_frame();
    let of = |calibrates: bool| {
        let cases = (0..set.len()).filter(move |n| set[*n].calibrates == calibrates);
        cases.collect::<Vec<usize>>()
    };
    let (tested, calibrating) = (of(false), of(true));
    let mut layouts = Vec::new();
    for n in spread(&tested, n_cases) {
        layouts.push(Layouts::new(bench, set, n)?);
        eprint!("\r{}: question {} of {n_cases}", bench.name, layouts.len());
    }
    let mut chosen = Vec::new();
    for n in spread(&calibrating, (n_cases / 4).max(2)) {
        chosen.push(Layouts::new(bench, set, n)?);
    }
    let eight = tender_layers(bench, &frame, &chosen)?;
    eprint!("\r{}: learning a basis          ", bench.name);
    let begin = Instant::now();
    let basis = learn(bench, &frame, set, &calibrating)?;
    let learning = begin.elapsed();
    let frame = frame.with_basis(Arc::new(basis));
    let mixed = Coding::K8Mixed(LayerSet::of(eight.clone()));
    let codings = [
        ("K8V4", Coding::K8V4),
        ("K8 in tender layers, else K4; V4", mixed),
        ("K4V4", Coding::K8Mixed(LayerSet::default())),
        ("transform, 4x", Coding::Transform(4)),
        ("transform, 8x", Coding::Transform(8)),
        ("transform, 12x", Coding::Transform(12)),
        ("q8_0-like: blocks of 32, as stored", Coding::Q8Blocks),
        ("q4_0-like: blocks of 32, as stored", Coding::Q4Blocks),
    ];
    let n_answer: usize = layouts.iter().map(|layout| layout.n_answer).sum();
    let mut table = format!(
        "{} questions, {N_PASSAGES} passages each, each encoded alone behind the prefix; {n_answer} answer \
         tokens. Tender layers, found on {} other questions: {eight:?}. The transform's basis was learnt on {} other \
         passages in {:.1} s.\n\n\
         | coding | ratio | KL mean | KL 95 % | top-1 | off: keys | values | encode / decode µs a token |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        layouts.len(),
        chosen.len(),
        calibrating.len(),
        learning.as_secs_f64(),
    );
    for (name, coding) in codings {
        eprint!("\r{}: {name}                    ", bench.name);
        let line = measure(bench, &frame, coding, &layouts)?;
        line.write(name, &mut table)?;
    }
    eprintln!();
    Ok(table)
}

/// What keys and values vary by, over the passages of the questions that calibrate.
fn learn(bench: &Bench, frame: &KeyFrame, set: &[Case], of: &[usize]) -> Result<Basis, Error> {
    let behind = bench.behind_prefix();
    let mut fragments = Vec::new();
    for case in of.iter().map(|n| &set[*n]) {
        let tokens = bench.codec.passage(&case.title, &case.text)?;
        fragments.push(bench.encode(&behind, &tokens)?);
    }
    Ok(Basis::learn(&fragments.iter().collect::<Vec<_>>(), frame)?)
}

/// So many of them, evenly.
fn spread(of: &[usize], n: usize) -> impl Iterator<Item = usize> {
    let n = n.min(of.len());
    (0..n).map(move |i| of[i * of.len() / n])
}

impl Layouts {
    fn new(bench: &Bench, set: &[Case], n: usize) -> Result<Self, Error> {
        let case = &set[n];
        let behind = bench.behind_prefix();
        let mut fragments = Vec::new();
        // The answer stands second; the others are its neighbours in the set.
        for near in (0..N_PASSAGES).map(|i| (n + set.len() + i - 1) % set.len()) {
            let tokens = bench.codec.passage(&set[near].title, &set[near].text)?;
            fragments.push(Arc::new(bench.encode(&behind, &tokens)?));
        }
        let asked = format!("Question: {}", case.question);
        let mut tokens = bench.codec.suffix(PROMPT, &asked)?;
        let answer = bench.codec.answer(&case.answer)?;
        tokens.extend(&answer[..answer.len() - 1]);
        let mut layouts = Self {
            fragments,
            tokens,
            n_answer: answer.len(),
            expected: Vec::new(),
        };
        layouts.expected = layouts.forward(bench, &layouts.fragments)?;
        Ok(layouts)
    }

    /// What is expected of each answer token over these fragments.
    fn forward(
        &self,
        bench: &Bench,
        fragments: &[Arc<KvFragment>],
    ) -> Result<Vec<Vec<f64>>, Error> {
        let mut layout: Layout = bench.behind_prefix();
        fragments.iter().for_each(|kv| layout.push(kv.clone()));
        let mut tail = bench.decoder.new_tail(layout.end());
        let rows = Rows {
            layout: &layout,
            pending: &[],
            tail: &mut tail,
            tokens: &self.tokens,
            logits: Logits::From(self.tokens.len() - self.n_answer),
            mass: false,
        };
        let output = bench.decoder.forward(&mut [rows], &Cancel::new())?;
        let n_vocab = bench.decoder.config().n_vocab;
        Ok(output[0].logits.chunks(n_vocab).map(log_softmax).collect())
    }
}

fn measure(
    bench: &Bench,
    frame: &KeyFrame,
    coding: Coding,
    layouts: &[Layouts],
) -> Result<Line, Error> {
    let mut line = Line::default();
    for layout in layouts {
        let mut back = Vec::new();
        for kv in &layout.fragments {
            let begin = Instant::now();
            let coded = CodedKv::encode(kv, coding, frame)?;
            line.encoding += begin.elapsed();
            let begin = Instant::now();
            back.push(Arc::new(coded.decode(frame)?));
            line.decoding += begin.elapsed();
            line.n_tokens += kv.n_tokens();
            line.n_f16 += kv.shape().bytes_per_token() * kv.n_tokens();
            line.n_coded += coded.n_bytes();
            line.deviations.push(coded.deviation());
        }
        for (p, q) in layout.expected.iter().zip(layout.forward(bench, &back)?) {
            line.divergences.push(kl(p, &q));
            line.n_same += usize::from(likeliest(p) == likeliest(&q));
        }
    }
    line.divergences.sort_unstable_by(f64::total_cmp);
    Ok(line)
}

fn likeliest(p: &[f64]) -> Option<usize> {
    (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b]))
}

/// The layers whose keys lose most in four bits, each alone, a quarter of all.
fn tender_layers(
    bench: &Bench,
    frame: &KeyFrame,
    layouts: &[Layouts],
) -> Result<Vec<usize>, Error> {
    let n_layers = bench.decoder.config().n_layers;
    let mut losses = Vec::new();
    for layer in 0..n_layers {
        eprint!("\r{}: layer {} of {n_layers}      ", bench.name, layer + 1);
        let others = LayerSet::of((0..n_layers).filter(|n| *n != layer));
        let line = measure(bench, frame, Coding::K8Mixed(others), layouts)?;
        losses.push((line.mean(), layer));
    }
    losses.sort_by(|a, b| b.0.total_cmp(&a.0));
    let most = losses.iter().take(n_layers / EIGHT_BITS_EACH);
    let mut layers: Vec<usize> = most.map(|(_, layer)| *layer).collect();
    layers.sort_unstable();
    Ok(layers)
}

impl Line {
    fn mean(&self) -> f64 {
        self.divergences.iter().sum::<f64>() / self.divergences.len() as f64
    }

    fn write(&self, name: &str, table: &mut String) -> Result<(), Error> {
        let n = self.divergences.len();
        let of = |part: fn(&Deviation) -> f32| {
            let sum: f32 = self.deviations.iter().map(part).sum();
            sum / self.deviations.len() as f32
        };
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / self.n_tokens as f64;
        writeln!(
            table,
            "| {name} | {:.2} | {:.4} | {:.4} | {:.3} | {:.4} | {:.4} | {:.1} / {:.1} |",
            self.n_f16 as f64 / self.n_coded as f64,
            self.mean(),
            self.divergences[(n - 1) * 95 / 100],
            self.n_same as f64 / n as f64,
            of(|deviation| deviation.keys),
            of(|deviation| deviation.values),
            micros(self.encoding),
            micros(self.decoding),
        )?;
        Ok(())
    }
}
