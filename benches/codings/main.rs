//! What does a model expect of an answer over passages that were coded?
//!
//! `cargo bench --bench codings -- --data FILE… [--model NAME…]` takes questions with their passages, encodes
//! each passage alone behind the shared prefix, codes it, and lays out what comes back. Beside f16 it tells of
//! the tokens of the gold answer, teacher-forced: KL(f16 || coded) in nats, and whether the likeliest is the same;
//! a row for each file, and with several files one for all of them. A line of the files is as
//! `perennial calibrate` takes it. Codings across layers are learnt from the texts that the program brings, and from
//! none of these.

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

mod low_rank;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::ask::TextCodec as _;
use perennial::calibration::PROMPT;
use perennial::calibration::set::{Case, Set};
use perennial::model::divergence::kl;
use perennial::model::kv::coding::{CodedKv, Coding, Deviation, LayerSet};
use perennial::model::kv::{KeyFrame, KvFragment};

use rig::Error;
use rig::framed::Framed;
use rig::opened::encode;

/// Passages of a layout.
const N_PASSAGES: usize = 4;

/// Codings of KV beside f16.
#[derive(Parser)]
#[command(name = "codings")]
struct Options {
    /// Question sets: JSON lines.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Models: names, files or folders.
    #[arg(long, num_args = 1.., default_values = ["smollm2-135m"])]
    model: Vec<String>,
    /// Questions of each set.
    #[arg(long, default_value_t = 24)]
    questions: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// A question over some passages.
struct Asked {
    fragments: Vec<Arc<KvFragment>>,
    tokens: Vec<u32>,
    /// Tokens of the answer: the last of `tokens`, and the one behind them.
    n_answer: usize,
    /// Of f16, one an answer token.
    expected: Vec<Vec<f64>>,
}

/// How fragments get into fewer bytes.
#[derive(Clone, Copy)]
enum Way {
    Coding(Coding),
    /// A baseline: of so many bytes one.
    LowRank(usize),
}

const WAYS: [(&str, Way); 8] = [
    (
        "k8v4: keys 8 bits a channel, values 4 a token",
        Way::Coding(Coding::K8V4),
    ),
    (
        "the same, keys 4 bits",
        Way::Coding(Coding::K8Mixed(LayerSet::of_none())),
    ),
    ("t4: across layers", Way::Coding(Coding::T4)),
    ("t8: across layers", Way::Coding(Coding::T8)),
    (
        "q8: blocks of 32 as stored, 8 bits",
        Way::Coding(Coding::Q8Blocks),
    ),
    (
        "q4: blocks of 32 as stored, 4 bits",
        Way::Coding(Coding::Q4Blocks),
    ),
    ("low rank of each layer", Way::LowRank(4)),
    ("low rank of each layer", Way::LowRank(8)),
];

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

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("codings: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    println!(
        "| model | set, answer tokens | coding | bytes, of f16 | KL mean | KL 95 % | same likeliest | off: keys | \
         values | encode, decode: µs a token |\n\
         | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for spec in &options.model {
        let framed = Framed::open(spec, options.threads, &[])?;
        let begin = Instant::now();
        let frame = framed.model.coding_frame(Coding::T4)?;
        let took = begin.elapsed().as_secs_f64();
        eprintln!(
            "{}: what codings across layers need, learnt in {took:.1} s",
            framed.name
        );
        let mut all: Vec<Line> = WAYS.iter().map(|_| Line::default()).collect();
        for path in &options.data {
            let set = Set::read(path)?;
            let name = name_of(path);
            let mut asked = Vec::new();
            for case in set.cases(options.questions, (N_PASSAGES, 1)) {
                eprint!("\r{}, {name}: question {}   ", framed.name, asked.len() + 1);
                asked.push(Asked::new(&framed, &case)?);
            }
            for ((what, way), all) in WAYS.iter().zip(&mut all) {
                let line = measure(&framed, &frame, *way, &asked)?;
                line.print(&framed.name, &name, what);
                all.add(line);
            }
        }
        if options.data.len() > 1 {
            for ((what, _), line) in WAYS.iter().zip(&all) {
                line.print(&framed.name, "all", what);
            }
        }
        eprintln!();
    }
    Ok(())
}

/// A file by its folder and its name: most sets are called `dev`.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{stem}", folder.to_string_lossy()),
        None => stem.into_owned(),
    }
}

impl Asked {
    fn new(framed: &Framed, case: &Case) -> Result<Self, Error> {
        let behind = framed.layout(&[]);
        let mut fragments = Vec::new();
        for passage in &case.documents {
            let tokens = framed.codec.passage(&passage.title, &passage.text)?;
            fragments.push(encode(framed.decoder(), &behind, &tokens)?);
        }
        let (_, asked) = case.asked.first().ok_or("an article without questions")?;
        let question = format!("Question: {}", asked.question);
        let mut tokens = framed.codec.suffix(PROMPT, &question)?;
        let answer = framed.codec.answer(&asked.answers[0])?;
        tokens.extend(&answer[..answer.len() - 1]);
        let mut of = Self {
            fragments,
            tokens,
            n_answer: answer.len(),
            expected: Vec::new(),
        };
        of.expected = of.forward(framed, &of.fragments)?;
        Ok(of)
    }

    /// What is expected of each answer token over these fragments.
    fn forward(
        &self,
        framed: &Framed,
        fragments: &[Arc<KvFragment>],
    ) -> Result<Vec<Vec<f64>>, Error> {
        let layout = framed.layout(fragments);
        Ok(framed.expected(&layout, &self.tokens, self.n_answer)?)
    }
}

fn measure(framed: &Framed, frame: &KeyFrame, way: Way, asked: &[Asked]) -> Result<Line, Error> {
    let mut line = Line::default();
    for asked in asked {
        let mut back = Vec::new();
        for kv in &asked.fragments {
            back.push(Arc::new(line.code(kv, way, frame)?));
        }
        for (p, q) in asked.expected.iter().zip(asked.forward(framed, &back)?) {
            line.divergences.push(kl(p, &q));
            line.n_same += usize::from(likeliest(p) == likeliest(&q));
        }
    }
    Ok(line)
}

fn likeliest(p: &[f64]) -> Option<usize> {
    (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b]))
}

impl Line {
    /// What comes back of a fragment, noted.
    fn code(&mut self, kv: &KvFragment, way: Way, frame: &KeyFrame) -> Result<KvFragment, Error> {
        self.n_tokens += kv.n_tokens();
        self.n_f16 += kv.shape().bytes_per_token() * kv.n_tokens();
        let begin = Instant::now();
        match way {
            Way::Coding(coding) => {
                let coded = CodedKv::encode(kv, coding, frame)?;
                self.encoding += begin.elapsed();
                let begin = Instant::now();
                let back = coded.decode(frame)?;
                self.decoding += begin.elapsed();
                self.n_coded += coded.n_bytes();
                self.deviations.push(coded.deviation());
                Ok(back)
            }
            Way::LowRank(ratio) => {
                let (back, n_bytes) = low_rank::nearest(kv, ratio, frame)
                    .ok_or("a number of a low rank is not finite")?;
                self.encoding += begin.elapsed();
                self.n_coded += n_bytes;
                self.deviations.push(Deviation::between(kv, &back, frame));
                Ok(back)
            }
        }
    }

    /// With what became of other questions.
    fn add(&mut self, other: Self) {
        self.n_f16 += other.n_f16;
        self.n_coded += other.n_coded;
        self.divergences.extend(other.divergences);
        self.n_same += other.n_same;
        self.deviations.extend(other.deviations);
        self.encoding += other.encoding;
        self.decoding += other.decoding;
        self.n_tokens += other.n_tokens;
    }

    fn print(&self, model: &str, set: &str, coding: &str) {
        let mut divergences = self.divergences.clone();
        divergences.sort_unstable_by(f64::total_cmp);
        let n = divergences.len();
        let share = |part: f64| part / n.max(1) as f64;
        let of = |part: fn(&Deviation) -> f32| {
            let sum: f32 = self.deviations.iter().map(part).sum();
            sum / self.deviations.len().max(1) as f32
        };
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / self.n_tokens.max(1) as f64;
        println!(
            "| {model} | {set} {n} | {coding} | 1 of {:.2} | {:.4} | {:.4} | {:.3} | {:.4} | {:.4} | {:.1}, {:.1} |",
            self.n_f16 as f64 / self.n_coded.max(1) as f64,
            share(divergences.iter().sum()),
            divergences
                .get(n.saturating_sub(1) * 95 / 100)
                .copied()
                .unwrap_or(0.0),
            share(self.n_same as f64),
            of(|deviation| deviation.keys),
            of(|deviation| deviation.values),
            micros(self.encoding),
            micros(self.decoding),
        );
    }
}
