//! What does checking an answer over HTTP save, beside writing it anew over the same server?
//!
//! Two engines keep the same view over the same documents and ask the same server: one offers the
//! answer before, which the server reads in one request where it tells how likely a prompt's tokens
//! were; the other has every answer written. Each has a first document of its own, so neither finds in
//! the server's cache what the other had it read. Passages are inserted, corrected and deleted, sides
//! take turns at going first, and both final answers are compared.
//!
//! Token counts are the server's; *read* leaves out what it says that it still knew, which is *cached*.
//!
//! ```text
//! cargo bench --bench remote -- --url http://localhost:8000/v1 --tokens 2048
//! ```

#[path = "../rig/towns.rs"]
mod towns;

use std::time::{Duration, Instant};

use clap::Parser;
use perennial::ask::Rung;
use perennial::ask::remote::{ApiKey, RemoteModel, RemoteOptions};
use perennial::engine::CurrentAnswer;
use perennial::model::locator::{Locator, Progress, Settings, Silent};
use perennial::{Engine, RemoteRuntime as _, View};

use perennial::calibration::Random;
use towns::passage;

/// Measures refreshes over a server, with and without offering it the answer before.
#[derive(Parser)]
struct Arguments {
    /// The server, with the name of a model where it serves several.
    #[arg(long)]
    url: String,
    /// A file with its key.
    #[arg(long)]
    key_file: Option<std::path::PathBuf>,
    /// Tokens of passages, about.
    #[arg(long, default_value_t = 2048)]
    tokens: usize,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 96)]
    answer_tokens: usize,
    /// Checks the answer before even where writing it was measured to be sooner.
    #[arg(long)]
    always: bool,
    /// Edits of each kind.
    #[arg(long, default_value_t = 3)]
    edits: usize,
    /// Seed of the places of the edits.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Tokens of a passage, about.
const PASSAGE_TOKENS: usize = 64;
const PROMPT: &str = "Answer from the documents above, in three sentences.";
/// Asked of a town that no edit touches.
const QUESTION: &str = "What is told of Elham Hill number 4?";
const KEPT: usize = 4;

type Error = Box<dyn std::error::Error>;

/// One engine.
struct Side {
    engine: Engine,
}

/// What a refresh cost.
struct Measured {
    answer: CurrentAnswer,
    wall: Duration,
}

/// Sums over refreshes.
#[derive(Default)]
struct Sum {
    n_read: usize,
    n_cached: usize,
    n_decoded: usize,
    n_requests: usize,
    wall: Duration,
}

impl Side {
    fn new(model: RemoteModel, name: &str, arguments: &Arguments) -> Result<Self, Error> {
        let silent = || -> Box<dyn Progress> { Box::new(Silent) };
        let runtime = model.runtime(&Locator::new(Settings::from_env()?), 1, silent);
        let view = View::named("answers")
            .context("questions")
            .data_source("documents")
            .prompt(PROMPT)
            .token_budget(4 * arguments.tokens)
            .max_tokens(arguments.answer_tokens);
        let engine = Engine::builder(runtime)
            .table("documents")
            .table("questions")
            .view(view)
            .start()?;
        engine.upsert_at("documents", "0", &format!("This is the book of {name}."), 0)?;
        Ok(Self { engine })
    }

    fn edit(&self, edit: &Edit) -> Result<(), Error> {
        match edit {
            Edit::Put { key, text, at } => self.engine.upsert_at("documents", key, text, *at)?,
            Edit::Delete { key } => self.engine.delete("documents", key)?,
        };
        Ok(())
    }

    /// Has an edit answered.
    fn refreshed(&self, edit: &Edit) -> Result<Measured, Error> {
        let begin = Instant::now();
        self.edit(edit)?;
        self.engine.flush()?;
        self.answer(begin)
    }

    fn answer(&self, begin: Instant) -> Result<Measured, Error> {
        let wall = begin.elapsed();
        let answers = self.engine.answers("answers")?;
        let (_, answer) = answers.into_iter().next().ok_or("there is no answer")?;
        Ok(Measured { answer, wall })
    }
}

/// A change of one document.
enum Edit {
    Put { key: String, text: String, at: i64 },
    Delete { key: String },
}

impl Sum {
    fn add(&mut self, measured: &Measured) {
        let work = measured.answer.work;
        self.n_read += work.n_prompt + work.n_draft;
        self.n_cached += work.n_cached;
        self.n_decoded += work.n_decoded;
        self.n_requests += work.n_passes;
        self.wall += measured.wall;
    }
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    let _ = arguments.bench;
    let key = arguments.key_file.as_deref().map(ApiKey::from_file);
    let options = RemoteOptions {
        key: key.transpose()?,
        always_checks: arguments.always,
        ..RemoteOptions::default()
    };
    let open = || RemoteModel::open(&arguments.url, &options);
    let model = open()?;
    let report = model.report();
    eprintln!(
        "{} at {}: {}, checks answers: {}, says what it kept: {}",
        model.name(),
        model.address(),
        report.software.as_deref().unwrap_or("a server"),
        report.scores_prompts,
        report.n_cached.is_some(),
    );
    let checked = Side::new(model, "one side", &arguments)?;
    let written = Side::new(open()?.without_drafts(), "the other side", &arguments)?;
    let n = arguments.tokens.div_ceil(PASSAGE_TOKENS);
    for side in [&checked, &written] {
        for i in 1..=n {
            let put = put(i, i, i as i64);
            side.edit(&put)?;
        }
        let begin = Instant::now();
        side.engine.upsert("questions", "q", QUESTION)?;
        side.engine.flush()?;
        let cold = side.answer(begin)?;
        eprintln!(
            "cold: {:.1} s, {}",
            cold.wall.as_secs_f64(),
            text(&cold.answer)
        );
    }
    println!(
        "| edit | rung | same answer | requests | read | cached | decoded | time | requests, written anew | read | cached | decoded | time | decoded, ratio | time, ratio |"
    );
    println!("| --- | --- | --- |{}", " ---: |".repeat(12));
    let mut random = Random(arguments.seed);
    let (mut sums, mut standing) = (
        [Sum::default(), Sum::default()],
        [Sum::default(), Sum::default()],
    );
    for round in 0..arguments.edits {
        for kind in ["insert", "correct", "delete"] {
            let place = 1 + (KEPT + random.below(n - KEPT)) % n;
            let place = if place == KEPT { place + 1 } else { place };
            let at = (n + 1 + 10 * round) as i64;
            let edit = match kind {
                "insert" => put(n + 1 + round, n + 101 + round, at),
                "correct" => put(place, place + 7 * (round + 1), place as i64),
                _ => Edit::Delete {
                    key: (n + 1 + round).to_string(),
                },
            };
            let is_first = (round + kind.len()) % 2 == 0;
            let (of_checked, of_written) = match is_first {
                true => {
                    let first = checked.refreshed(&edit)?;
                    (first, written.refreshed(&edit)?)
                }
                false => {
                    let first = written.refreshed(&edit)?;
                    (checked.refreshed(&edit)?, first)
                }
            };
            row(kind, &of_checked, &of_written);
            let stands = matches!(of_checked.answer.rung, Rung::Verify | Rung::Patch);
            for (at, measured) in [&of_checked, &of_written].into_iter().enumerate() {
                sums[at].add(measured);
                if stands {
                    standing[at].add(measured);
                }
            }
        }
    }
    total("all", &sums);
    total("of them answers that stood", &standing);
    Ok(())
}

fn put(key: usize, number: usize, at: i64) -> Edit {
    Edit::Put {
        key: key.to_string(),
        text: passage(number),
        at,
    }
}

fn text(answer: &CurrentAnswer) -> String {
    match &answer.answer {
        Ok(answer) => answer.text.to_string(),
        Err(error) => error.to_string(),
    }
}

fn row(kind: &str, checked: &Measured, written: &Measured) {
    let is_same = text(&checked.answer) == text(&written.answer);
    let sums = [checked, written].map(|measured| {
        let mut sum = Sum::default();
        sum.add(measured);
        sum
    });
    let is_same = if is_same { "yes" } else { "no" };
    line(
        &format!("{kind} | {} | {is_same}", checked.answer.rung),
        &sums,
    );
}

fn total(of: &str, sums: &[Sum; 2]) {
    line(&format!("{of} | |"), sums);
}

/// A row of the table: both sides, and how much less the checked one is.
fn line(what: &str, [checked, written]: &[Sum; 2]) {
    let side = |sum: &Sum| {
        format!(
            "{} | {} | {} | {} | {:.1} s",
            sum.n_requests,
            sum.n_read,
            sum.n_cached,
            sum.n_decoded,
            sum.wall.as_secs_f64()
        )
    };
    println!(
        "| {what} | {} | {} | {} | {} |",
        side(checked),
        side(written),
        ratio(written.n_decoded as f64, checked.n_decoded as f64),
        ratio(written.wall.as_secs_f64(), checked.wall.as_secs_f64()),
    );
}

fn ratio(a: f64, b: f64) -> String {
    match b > 0.0 {
        true => format!("{:.1}x", a / b),
        false => "-".to_owned(),
    }
}
