//! Does a memory still say what was corrected?
//!
//! ```console
//! $ cargo bench --bench freshness -- --data records/dev36.jsonl lineagekv/agent_memory_update_nonce_option_probe80.jsonl
//! $ cargo bench --bench freshness -- --data longmemeval/dev8.json --outdated "six months" four
//! ```
//! Facts are stored, then corrected in batches (`--edits`), and after each batch the questions are asked that it touches
//! (at most `--questions` of them, evenly). *Stale use* is the share of answers that still say what held before and not
//! what holds now; *right* the share that says what holds now. The sides, all in one run and by one model:
//!
//! - *memory, maintained*: a memory of this program (`CREATE MEMORY`, [`Bank`](perennial::memory::Bank)). A correction
//!   is stored under its key, or says what it supersedes; fragments are kept, and answers that stand;
//! - *from scratch, of what holds*: another, built of what holds now alone: the floor of what this model still says
//!   wrongly. Where nobody said what became obsolete, it is told all the same;
//! - *text-RAG, indexed again*: an index over the texts, built anew, and every prompt read from its beginning;
//! - *facts, extracted by the model*: as mem0 and its like do it, in small (`extracted.rs`).
//!
//! Model calls, tokens and seconds are those of the batch and its questions together. Embedding is in the seconds alone.
//! What kinds of files there are, and who says there what is corrected, tells `scenario.rs`.

mod extracted;
mod scenario;
mod side;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;
#[allow(dead_code)]
#[path = "../quality/score.rs"]
mod score;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use perennial::Scope;
use perennial::local_model::embedding_only;
use perennial::model::locator::{Locator, OnStderr, Progress, Settings};

use extracted::Extracted;
use rig::{Error, Rig};
use scenario::Scenario;
use side::{Answering, Cost, Maintained, Rebuilt, Side};

/// Does a memory still say what was corrected?
#[derive(Parser)]
#[command(name = "freshness")]
struct Options {
    /// Files: question sets with planted facts, LineageKV's cases, conversations.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Facts that each batch corrects; what a file has no more facts for is left out.
    #[arg(long, num_args = 1.., default_values_t = [1, 10, 100])]
    edits: Vec<usize>,
    /// Most facts of a question set.
    #[arg(long, default_value_t = 100)]
    facts: usize,
    /// Most questions after a batch.
    #[arg(long, default_value_t = 24)]
    questions: usize,
    /// What the user said before, of each conversation about an update in turn: such files do not tell.
    #[arg(long, num_args = 1..)]
    outdated: Vec<String>,
    /// Entries that an answer reads.
    #[arg(long, default_value_t = 5)]
    recalled: usize,
    /// What an entry attends to.
    #[arg(long, default_value_t = Scope::Causal)]
    scope: Scope,
    /// Limit of answer tokens.
    #[arg(long, default_value_t = 24)]
    max_tokens: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leaves out the side that asks the model what to keep: most of the time is its.
    #[arg(long)]
    no_extraction: bool,
    /// Prints questions, answers and extracted facts on standard error.
    #[arg(long)]
    show: bool,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// What became of one side, of a batch or of several.
#[derive(Clone, Default)]
struct Line {
    n_asked: usize,
    n_stale: usize,
    n_right: usize,
    cost: Cost,
    seconds: f64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("freshness: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let rig = Rig::open(&options.model, options.threads, options.max_tokens)?;
    let on_stderr = || Box::new(OnStderr::default()) as Box<dyn Progress>;
    let answering = Answering {
        runtime: embedding_only(Locator::new(Settings::from_env()?), on_stderr),
        rig: &rig,
        n_recalled: options.recalled,
        scope: options.scope,
    };
    println!(
        "| model | set | edits | by | asked | stale use (- floor) | right | model calls | tokens forwarded | s |\n\
         | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for path in &options.data {
        let scenario = Scenario::read(path, options)?;
        // The floor comes first: the others are held against it.
        let mut sides: Vec<Box<dyn Side + '_>> = vec![
            Box::new(Rebuilt::floor(&answering)?),
            Box::new(Maintained::new(&answering)?),
            Box::new(Rebuilt::text_rag(&answering)?),
        ];
        if !options.no_extraction {
            sides.push(Box::new(Extracted::new(&answering, options.show)?));
        }
        let mut all = vec![Line::default(); sides.len()];
        for (number, batch) in scenario.batches.iter().enumerate() {
            let mut floor = None;
            for (side, all) in sides.iter_mut().zip(&mut all) {
                let what = match batch.n_edits {
                    0 => "none yet".to_owned(),
                    n => n.to_string(),
                };
                eprint!("\r{}, {what}: {}            ", scenario.name, side.name());
                let line = measure(&mut **side, &scenario, number, options.show)?;
                let floor = *floor.get_or_insert(line.stale_use());
                line.print((&rig.name, &scenario.name, &what, side.name()), floor);
                if batch.n_edits > 0 {
                    all.add(&line);
                }
            }
        }
        eprintln!();
        let floor = all[0].stale_use();
        for (side, line) in sides.iter().zip(&all) {
            line.print((&rig.name, &scenario.name, "all", side.name()), floor);
        }
    }
    Ok(())
}

fn measure(
    side: &mut dyn Side,
    scenario: &Scenario,
    number: usize,
    show: bool,
) -> Result<Line, Error> {
    let mut line = Line::default();
    let begin = Instant::now();
    line.cost += side.store(scenario, number)?;
    for asked in &scenario.batches[number].asked {
        let (answer, cost) = side.ask(&asked.question)?;
        line.n_asked += 1;
        line.n_stale += usize::from(asked.is_stale(&answer));
        line.n_right += usize::from(asked.is_right(&answer));
        line.cost += cost;
        if show {
            eprintln!(
                "\n{}: {} -> {answer:?}, right {:?}, outdated {:?}",
                side.name(),
                asked.question,
                asked.right,
                asked.outdated
            );
        }
    }
    line.seconds = begin.elapsed().as_secs_f64();
    Ok(line)
}

impl Line {
    fn stale_use(&self) -> f64 {
        self.n_stale as f64 / self.n_asked.max(1) as f64
    }

    fn add(&mut self, other: &Self) {
        self.n_asked += other.n_asked;
        self.n_stale += other.n_stale;
        self.n_right += other.n_right;
        self.cost += other.cost;
        self.seconds += other.seconds;
    }

    fn print(&self, (model, set, edits, side): (&str, &str, &str, &str), floor: f64) {
        let stale = self.stale_use();
        println!(
            "| {model} | {set} | {edits} | {side} | {} | {stale:.3} ({:+.3}) | {:.3} | {} | {} | {:.1} |",
            self.n_asked,
            stale - floor,
            self.n_right as f64 / self.n_asked.max(1) as f64,
            self.cost.n_calls,
            self.cost.n_tokens,
            self.seconds,
        );
    }
}
