//! One edit, many standing questions: what is read again, what changes, and what does that cost?
//!
//! `--curve` reads every answer after each edit, and shows how well what is expected of an answer
//! without reading it ([`perennial::ask::Pulled`]) tells those that have to change; `--fit` fits that
//! anew, by the gold answers alone. Otherwise engines keep many questions over many documents, by
//! policy, and the refresh after each edit is held against the cold run of the same view by the same
//! program, which shares fragments as well.
//!
//! ```console
//! $ cargo bench --bench many -- --data squad.jsonl --model smollm2-135m
//! $ cargo bench --bench many -- --data squad.jsonl --curve --dump points.csv
//! $ cargo bench --bench many -- --data squad.jsonl --fit --cases 22 --edits 25
//! ```

mod corpus;
mod curve;
mod fit;
#[path = "../rig/mod.rs"]
#[allow(dead_code, reason = "a benchmark uses what it needs of it")]
mod rig;
mod table;

use std::path::PathBuf;

use clap::Parser;
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
    /// Instead of the questions, so many reports, each about what a passage begins with: give
    /// `--max-tokens` 200 or so.
    #[arg(long, default_value_t = 0, conflicts_with_all = ["curve", "fit"])]
    reports: usize,
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

fn main() -> Result<(), Error> {
    let options = Options::parse();
    for model in &options.model {
        if options.curve || options.fit {
            let shape = (options.documents, options.questions);
            let cases = corpus::cases(&options.data, options.cases, shape)?;
            let rig = Rig::open(model, options.threads, options.max_tokens)?;
            let points = curve::measure(&rig, &cases, &options)?;
            if let Some(path) = &options.dump {
                curve::dump(&points, path)?;
            }
            if options.fit {
                fit::print(&rig.name, &points, options.bound);
            }
            curve::print(&rig.name, &points, options.bound);
        } else {
            table::measure(model, &corpus::read(&options.data)?, &options)?;
        }
    }
    Ok(())
}
