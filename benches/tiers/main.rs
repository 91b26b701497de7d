//! What is memory worth where it is short: as fragments alone, or partly as codes?
//!
//! `cargo bench --bench tiers -- --data FILE [--model NAME]`. Questions come one after another, each over passages of
//! which some are asked about far more often than others (rank r with weight 1/r). Each passage is read alone, behind
//! the shared prefix, and its fragment serves all questions. Memory has room for a part of them. A question is
//! answered as a view under `EVENTUAL` does it: at once over what is there, where codes may stand in, and then, if that
//! was provisional, exactly. Beside this the same trace is told to a memory that drops what was used longest ago.
//!
//! Everything is counted, but for times: a fragment is looked up once a question, before it is answered.

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use perennial::Scope;
use perennial::ask::{AnswerModel as _, Before, Outcome, TensorModel, Tolerance};
use perennial::bank::{FragmentId, FragmentStore, KeptFragments, PassageLayout};
use perennial::calibration::Random;
use perennial::calibration::set::{Passage, Set};
use perennial::model::kv::KvShape;
use perennial::model::kv::coding::Coding;

use rig::question::TitledText;
use rig::{Error, Rig};

/// Short memory, in several ways.
#[derive(Parser)]
#[command(name = "tiers")]
struct Options {
    /// A question set: JSON lines, as `perennial calibrate` takes them.
    #[arg(long)]
    data: PathBuf,
    /// The model: a name, a file or a folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Passages that are asked about.
    #[arg(long, default_value_t = 100)]
    passages: usize,
    /// Passages of a question.
    #[arg(long, default_value_t = 3)]
    each: usize,
    /// Questions that are counted.
    #[arg(long, default_value_t = 120)]
    questions: usize,
    /// Questions before these.
    #[arg(long, default_value_t = 60)]
    before: usize,
    /// The part of all fragments' bytes that memory has room for.
    #[arg(long, default_value_t = 0.4)]
    memory: f64,
    /// Codings, beside none.
    #[arg(long, value_delimiter = ',', default_values = ["k8v4", "t4", "t8"])]
    coding: Vec<Coding>,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

const ANSWER_TOKENS: usize = 16;
const SEED: u64 = 7;

/// A question and the passages that it is asked over, by number.
struct Asked {
    question: String,
    of: Vec<usize>,
}

/// What is there, and what is asked.
struct Trace {
    passages: Vec<TitledText>,
    /// By passage.
    ids: Vec<FragmentId>,
    n_tokens: Vec<usize>,
    asked: Vec<Asked>,
}

fn main() -> Result<(), Error> {
    let options = Options::parse();
    let rig = Rig::open(&options.model, options.threads, ANSWER_TOKENS)?;
    let trace = Trace::draw(&rig, &options)?;
    let bytes_per_token = KvShape::of(rig.model.decoder().config()).bytes_per_token();
    let n_all: usize = trace.n_tokens.iter().sum();
    let n_bytes = (n_all * bytes_per_token) as f64;
    let budget = (n_bytes * options.memory) as usize;
    println!(
        "{}: {} passages of {n_all} tokens, {:.0} MB; memory for {:.0} MB; {} questions over {} passages each\n",
        rig.name,
        trace.ids.len(),
        n_bytes / 1e6,
        budget as f64 / 1e6,
        options.questions,
        options.each,
    );
    println!(
        "| memory | kept of {} | MB as they are, as codes | found as it is | as codes | not | read before the answer, \
         tokens | read in all | time to the answer | provisional | same as exact |",
        trace.ids.len()
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let room = budget / bytes_per_token;
    least_recently_used(&trace, room, options.before);
    let none = measure(&rig, &trace, &options, budget, None)?;
    none.print("fragments alone");
    for coding in &options.coding {
        let line = measure(&rig, &trace, &options, budget, Some(*coding))?;
        line.print(&format!("up to half as {coding}"));
    }
    Ok(())
}

impl Trace {
    fn draw(rig: &Rig, options: &Options) -> Result<Self, Error> {
        let set = Set::read(&options.data)?;
        let has_questions = |passage: &&Passage| !passage.questions.is_empty();
        // Evenly over the file, so over its articles.
        let all: Vec<&Passage> = set.passages.iter().filter(has_questions).collect();
        let step = (all.len() / options.passages.max(1)).max(1);
        let chosen: Vec<&Passage> = all
            .into_iter()
            .step_by(step)
            .take(options.passages)
            .collect();
        let passages: Vec<TitledText> = chosen.iter().map(|passage| titled(passage)).collect();
        let layout = rig.layout(&passages)?;
        // The first is the prefix.
        let fragments = rig.model.fragments(Scope::Independent, layout.passages());
        let n_tokens = layout.passages().iter().map(|of| of.tokens.len()).collect();
        let ids = fragments.iter().skip(1).map(|(id, _)| *id).collect();
        let mut random = Random(SEED);
        let weights: Vec<usize> = (1..=chosen.len()).map(|rank| 1_000_000 / rank).collect();
        let mut n_asked = vec![0; chosen.len()];
        let asked = (0..options.before + options.questions).map(|_| {
            let mut of = Vec::new();
            while of.len() < options.each.min(chosen.len()) {
                let drawn = draw(&weights, &mut random);
                if !of.contains(&drawn) {
                    of.push(drawn);
                }
            }
            // Each time another of its questions.
            let questions = &chosen[of[0]].questions;
            let question = questions[n_asked[of[0]] % questions.len()].question.clone();
            n_asked[of[0]] += 1;
            of.sort_unstable();
            Asked { question, of }
        });
        Ok(Self {
            asked: asked.collect(),
            passages,
            ids,
            n_tokens,
        })
    }

    /// The passages of a question.
    fn layout(&self, rig: &Rig, asked: &Asked) -> Result<PassageLayout, Error> {
        let passages: Vec<TitledText> =
            asked.of.iter().map(|n| self.passages[*n].clone()).collect();
        rig.layout(&passages)
    }
}

fn titled(passage: &Passage) -> TitledText {
    TitledText {
        title: passage.title.clone(),
        text: passage.text.clone(),
    }
}

/// A number, by weight.
fn draw(weights: &[usize], random: &mut Random) -> usize {
    let mut at = random.below(weights.iter().sum());
    weights
        .iter()
        .position(|weight| {
            let is_here = at < *weight;
            at = at.saturating_sub(*weight);
            is_here
        })
        .unwrap_or(0)
}

/// What is counted of a trace.
#[derive(Default)]
struct Line {
    n_kept: usize,
    n_bytes: usize,
    n_bytes_coded: usize,
    /// Lookups of passages.
    n_found: usize,
    n_coded: usize,
    n_missed: usize,
    n_questions: usize,
    n_first: usize,
    n_later: usize,
    time: Duration,
    n_provisional: usize,
    n_same: usize,
}

impl Line {
    fn print(&self, what: &str) {
        let n_looked_up = (self.n_found + self.n_coded + self.n_missed).max(1) as f64;
        let part = |n: usize| format!("{:.1} %", 100.0 * n as f64 / n_looked_up);
        let each = |n: usize| format!("{:.0}", n as f64 / self.n_questions.max(1) as f64);
        let (n_bytes, n_coded) = (self.n_bytes as f64 / 1e6, self.n_bytes_coded as f64 / 1e6);
        println!(
            "| {what} | {} | {n_bytes:.1}, {n_coded:.1} | {} | {} | {} | {} | {} | {:.0} ms | {} of {} | {} of {} |",
            self.n_kept,
            part(self.n_found),
            part(self.n_coded),
            part(self.n_missed),
            each(self.n_first),
            each(self.n_first + self.n_later),
            1e3 * self.time.as_secs_f64() / self.n_questions.max(1) as f64,
            self.n_provisional,
            self.n_questions,
            self.n_same,
            self.n_provisional,
        );
    }
}

/// Answers all questions over a memory of its own.
fn measure(
    rig: &Rig,
    trace: &Trace,
    options: &Options,
    budget: usize,
    coding: Option<Coding>,
) -> Result<Line, Error> {
    let store = Arc::new(FragmentStore::new(budget));
    let model = rig.model.with_store(store.clone());
    if let Some(coding) = coding {
        model.keep_coded(coding)?;
    }
    // All passages stand somewhere.
    let prefix = model
        .fragments(Scope::Independent, &[])
        .into_iter()
        .map(|(id, _)| id);
    let _kept = KeptFragments::of(
        store.clone(),
        trace.ids.iter().copied().chain(prefix).collect(),
    );
    let mut line = Line::default();
    for (n, asked) in trace.asked.iter().enumerate() {
        let is_counted = n >= options.before;
        if is_counted {
            eprint!("\r{n} of {}   ", trace.asked.len());
            line.look_up(&store, asked.of.iter().map(|n| &trace.ids[*n]));
        }
        let layout = trace.layout(rig, asked)?;
        let begin = Instant::now();
        let nothing = Before::default();
        let first = answer(rig, &model, asked, &layout, &nothing, Tolerance::BORROWED)?;
        let time = begin.elapsed();
        let mut n_later = 0;
        let mut is_same = true;
        if !first.is_exact {
            let before = Before {
                tokens: first.tokens.clone(),
                ..Before::default()
            };
            let exact = answer(rig, &model, asked, &layout, &before, Tolerance::EXACT)?;
            n_later = exact.work.n_encoded;
            is_same = exact.tokens == first.tokens;
        }
        // As at the end of an epoch.
        store.sweep();
        if is_counted {
            line.n_questions += 1;
            line.n_first += first.work.n_encoded;
            line.n_later += n_later;
            line.time += time;
            line.n_provisional += usize::from(!first.is_exact);
            line.n_same += usize::from(!first.is_exact && is_same);
        }
    }
    eprintln!();
    let stats = store.stats();
    line.n_kept = stats.n_fragments.saturating_sub(1) + stats.warm.n_fragments;
    line.n_bytes = stats.n_bytes;
    line.n_bytes_coded = stats.warm.n_bytes;
    Ok(line)
}

impl Line {
    fn look_up<'a>(&mut self, store: &FragmentStore, ids: impl Iterator<Item = &'a FragmentId>) {
        for id in ids {
            match (store.contains(id), store.has_codes_of(id)) {
                (true, _) => self.n_found += 1,
                (false, true) => self.n_coded += 1,
                (false, false) => self.n_missed += 1,
            }
        }
    }
}

fn answer(
    rig: &Rig,
    model: &TensorModel,
    asked: &Asked,
    layout: &PassageLayout,
    before: &Before,
    tolerance: Tolerance,
) -> Result<Outcome, Error> {
    let question = format!("Question: {}", asked.question);
    let request = rig.request(&question, layout, before, tolerance, Scope::Independent);
    Ok(model.answer(&request, &mut ())?)
}

/// The same trace over a memory for so many tokens that drops what was used longest ago.
fn least_recently_used(trace: &Trace, room: usize, n_before: usize) {
    let mut line = Line::default();
    let mut used: Vec<usize> = Vec::new();
    for (n, asked) in trace.asked.iter().enumerate() {
        for of in &asked.of {
            let place = used.iter().position(|known| known == of);
            if n >= n_before {
                match place {
                    Some(_) => line.n_found += 1,
                    None => line.n_missed += 1,
                }
                line.n_first += place.map_or(trace.n_tokens[*of], |_| 0);
            }
            if let Some(place) = place {
                used.remove(place);
            }
            used.push(*of);
            while used.iter().map(|of| trace.n_tokens[*of]).sum::<usize>() > room {
                used.remove(0);
            }
        }
        line.n_questions += usize::from(n >= n_before);
    }
    let n_looked_up = (line.n_found + line.n_missed).max(1) as f64;
    let part = |n: usize| 100.0 * n as f64 / n_looked_up;
    println!(
        "| what was used longest ago goes (counted, not run) | {} | - | {:.1} % | - | {:.1} % | {:.0} | {:.0} | - | - | - |",
        used.len(),
        part(line.n_found),
        part(line.n_missed),
        line.n_first as f64 / line.n_questions.max(1) as f64,
        line.n_first as f64 / line.n_questions.max(1) as f64,
    );
}
