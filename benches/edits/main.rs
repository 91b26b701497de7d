//! What do edits do to answers, and what do they cost?
//!
//! `cargo bench --bench edits -- --data FILE… [FLAGS]` edits the passages of question sets:
//!
//! - `--task facts` ([`facts`]): the fact that a row asks for is replaced by another in place,
//!   or its passage deleted, or every passage replaced one after the other with nothing
//!   healed; the provisional answer is compared with the exact one and with the facts.
//! - `--task ladder` ([`ladder`]): random edits run through engines of every policy at once;
//!   which rung served each, what it forwarded, and whether the answer was that of a run from
//!   scratch.
//!
//! A row of the input is one of `quality`'s; `replacement` is another value of the answer's
//! kind, and where a row has none the answer of another row is taken.

mod facts;
mod ladder;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;
#[allow(dead_code)]
#[path = "../quality/score.rs"]
mod score;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use perennial::bank::turnover::MAX_TURNOVER;
use rig::{Error, Rig};

/// What edits do to answers, and what they cost.
#[derive(Parser)]
#[command(name = "edits")]
struct Options {
    /// Question sets: JSON lines.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["facts", "ladder"])]
    task: Vec<Task>,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "qwen2.5-coder-0.5b")]
    model: String,
    /// Only the first rows of each set.
    #[arg(long)]
    limit: Option<usize>,
    /// Edits of the ladder.
    #[arg(long, default_value_t = 200)]
    edits: usize,
    /// Budget of the ladder's BOUNDED view, in nats a token.
    #[arg(long, default_value_t = 0.05)]
    drift: f32,
    /// Passages behind each change that are encoded again, of the facts; each number a table
    /// of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [0])]
    reencode: Vec<usize>,
    /// Turnover of a layout from which on what it borrows is encoded again, of the facts; each number a table of
    /// its own.
    #[arg(long, value_delimiter = ',', default_values_t = [MAX_TURNOVER])]
    turnover: Vec<f32>,
    /// How the first answers of the facts come about; each a table of its own.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["eventual", "append"])]
    first: Vec<facts::First>,
    /// Limit of answer tokens.
    #[arg(long, default_value_t = 32)]
    max_tokens: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Task {
    Facts,
    Ladder,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let mut rig = Rig::open(&options.model, options.threads, options.max_tokens)?;
    let sets = rig::read_sets(&options.data, options.limit)?;
    for task in &options.task {
        match task {
            Task::Facts => {
                let borrowed = options.first.contains(&facts::First::Eventual);
                for reencode in options.reencode.iter().filter(|_| borrowed) {
                    for turnover in &options.turnover {
                        (rig.reencode, rig.turnover) = (*reencode, *turnover);
                        facts::measure(&rig, facts::First::Eventual, &sets, options.seed)?;
                    }
                }
                if options.first.contains(&facts::First::Append) {
                    facts::measure(&rig, facts::First::Append, &sets, options.seed)?;
                }
            }
            Task::Ladder => ladder::measure(&rig, &sets, options)?,
        }
    }
    Ok(())
}
