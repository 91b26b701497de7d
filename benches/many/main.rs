//! One edit, many standing questions: what is read again, what changes, and what does that cost?
//!
//! `--curve` reads every answer after each edit, and shows how well what is expected of an answer
//! without reading it ([`perennial::ask::Profile`]) tells those that have to change; `--fit` fits that
//! anew, by the gold answers alone, as `perennial calibrate` does, which also reads those that have to change
//! and keeps what it fits. Otherwise engines keep many questions over many documents, by
//! policy, and the refresh after each edit is held against the cold run of the same view by the same
//! program, which shares fragments as well.
//!
//! ```console
//! $ cargo bench --bench many -- --data squad.jsonl --model smollm2-135m
//! $ cargo bench --bench many -- --data squad.jsonl --curve --dump points.csv
//! $ cargo bench --bench many -- --data squad.jsonl --fit --cases 22 --edits 25
//! $ cargo bench --bench many -- --data squad.jsonl --model qwen2.5-coder-0.5b --reports 14 --max-tokens 400
//! $ cargo bench --bench many -- --data squad.jsonl --model qwen2.5-coder-0.5b --askers 1,5,20
//! ```

mod curve;
mod facts;
mod meter;
mod reports;
#[path = "../rig/mod.rs"]
#[allow(dead_code, reason = "a benchmark uses what it needs of it")]
mod rig;
mod table;

use std::path::PathBuf;

use clap::Parser;
use perennial::Policy;
use perennial::ask::AnswerModel as _;
use perennial::calibration::measure::{Measuring, Reads, measure};
use perennial::calibration::set::Set;
use rig::opened::embedder;
use rig::{Error, Rig};

/// One edit, many standing questions.
#[derive(Debug, Parser)]
pub struct Options {
    /// Passages with their questions, or questions with their passages, as JSON lines.
    #[arg(long)]
    data: PathBuf,
    /// Which models.
    #[arg(long, value_delimiter = ',', default_value = "smollm2-135m")]
    model: Vec<String>,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 24)]
    max_tokens: usize,
    /// Documents of a view.
    #[arg(long, default_value_t = 14)]
    documents: usize,
    /// Questions of a view.
    #[arg(long, default_value_t = 100)]
    questions: usize,
    /// Instead of the questions, so many reports of ten sentences or more, each about what a passage
    /// begins with: give `--max-tokens` 400 or so.
    #[arg(long, default_value_t = 0, conflicts_with_all = ["curve", "fit"])]
    reports: usize,
    /// Instead of edits of each kind: a fact that so many questions ask for is corrected, and
    /// contradicted.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["curve", "fit", "reports"])]
    askers: Vec<usize>,
    /// Edits, of each kind in turn.
    #[arg(long, default_value_t = 5)]
    edits: usize,
    /// The bound of regret, in nats a token.
    #[arg(long, default_value_t = 0.05)]
    bound: f32,
    /// Where chance begins.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Policies: exact, stable, bounded, eventual.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "exact,stable,bounded,eventual"
    )]
    policies: Vec<String>,
    /// What a passage may attend to.
    #[arg(long, default_value = "causal")]
    scope: perennial::Scope,
    /// The order of passages, where it is not the scope's own.
    #[arg(long)]
    order: Option<perennial::Order>,
    /// Most tokens of passages a question: beyond it, the nearest are selected.
    #[arg(long, default_value_t = 8192)]
    token_budget: usize,
    /// Answers written at a time.
    #[arg(long, default_value_t = 16)]
    calls: usize,
    /// Read every answer after each edit, and show what tells those that have to change.
    #[arg(long)]
    curve: bool,
    /// Fit what is expected of an answer, without reading any again.
    #[arg(long, conflicts_with = "curve")]
    fit: bool,
    /// Articles or rows of the curve, each with documents and questions of its own.
    #[arg(long, default_value_t = 6)]
    cases: usize,
    /// Where the points of the curve go, as comma-separated values.
    #[arg(long)]
    dump: Option<PathBuf>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// A policy, with its bound where it has one.
    fn policy(&self, name: &str) -> Result<Policy, Error> {
        Ok(match name {
            "stable" | "bounded" => format!("{name}:{}", self.bound).parse()?,
            other => other.parse()?,
        })
    }
}

fn main() -> Result<(), Error> {
    let options = Options::parse();
    let set = Set::read(&options.data)?;
    for model in &options.model {
        if options.curve || options.fit {
            show_curve(model, &set, &options)?;
        } else if !options.askers.is_empty() {
            facts::measure(model, &set.passages, &options)?;
        } else {
            table::measure(model, &set.passages, &options)?;
        }
    }
    Ok(())
}

/// What tells which answers an edit concerns, and how well.
fn show_curve(model: &str, set: &Set, options: &Options) -> Result<(), Error> {
    let cases = set.cases(options.cases, (options.documents, options.questions));
    let rig = Rig::open(model, options.threads, options.max_tokens)?;
    let how = Measuring {
        edits: options.edits,
        max_tokens: options.max_tokens,
        seed: options.seed,
        reads: match options.fit {
            true => Reads::None,
            false => Reads::All,
        },
    };
    let mut progress = |done, total| eprint!("\r{}: {done} of {total}      ", rig.name);
    let points = measure(
        &rig.model,
        embedder(options.threads)?,
        (&cases, &set.passages),
        how,
        &mut progress,
    )?;
    eprintln!();
    let profile = rig.model.judges_by().cloned().unwrap_or_default();
    if let Some(path) = &options.dump {
        curve::dump(&points, &profile, path)?;
    }
    if options.fit {
        let expected = (profile.regret(), options.bound);
        curve::print_fit(&rig.name, &points, expected);
    }
    curve::print(&rig.name, &points, &profile, options.bound);
    Ok(())
}
