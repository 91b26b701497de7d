//! What grows with what is held, and what with what changes?
//!
//! `cargo bench --bench scale -- [--passages 400000] [--contexts 10000] [--only NAME…]` has no
//! model: vectors are drawn by chance around topics, and nothing but the dataflow is timed.
//!
//! - *selections*: contexts select about twenty passages each by their vectors, through the
//!   engine's own operator, at a sixteenth, a quarter and all of the size: building, then one
//!   passage inserted and one deleted at a time, each until it is visible in every selection;
//! - *before*: building and changing, beside a plain copy of the algorithm that ranked all
//!   passages for each context (`ranking.rs`), at a size that it manages.
//!
//! - *views*: an edit of one source with five views, with no, four and nineteen sources beside it;
//! - *pace*: an edit of what a view reads, alone and beside a view whose call goes on all the while;
//! - *overtaking*: an edit of one context behind an edit that touches all of them, where each answer is
//!   told when it is there, and where an epoch's are told at once.
//!
//! Work is printed beside time: inner products, rankings that were touched, scans.

mod pace;
mod ranking;
mod selections;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

type Error = Box<dyn std::error::Error>;

/// What grows with what is held.
#[derive(Parser)]
#[command(name = "scale")]
struct Options {
    /// Passages of the largest size.
    #[arg(long, default_value_t = 400_000)]
    passages: usize,
    /// Contexts of the largest size.
    #[arg(long, default_value_t = 10_000)]
    contexts: usize,
    /// Elements of a vector.
    #[arg(long, default_value_t = 384)]
    elements: usize,
    /// Passages inserted, and as many deleted, one by one.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Passages that are ranked before and now.
    #[arg(long, default_value_t = 20_000)]
    before_passages: usize,
    /// Contexts that rank them.
    #[arg(long, default_value_t = 200)]
    before_contexts: usize,
    /// Workers of the dataflow.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Only these: views, pace, overtaking, selections, before.
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    if options.changes == 0 || options.elements == 0 {
        return Err("--changes and --elements are at least 1".into());
    }
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    if is_wanted("views") {
        pace::views(options)?;
    }
    if is_wanted("pace") {
        pace::pace(options)?;
    }
    if is_wanted("overtaking") {
        pace::overtaking(options)?;
    }
    // Peaks of memory only grow: the largest size comes last, the other algorithm after it.
    if is_wanted("selections") {
        selections::growth(options)?;
    }
    if is_wanted("before") {
        selections::before(options)?;
    }
    Ok(())
}

/// The most memory that this process has had, in MiB.
fn peak_mib() -> Result<f64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: f64 = kib.ok_or("no VmHWM")?.trim().parse()?;
    Ok(kib / 1024.0)
}

/// Median, 99th percentile and maximum in milliseconds.
fn spread(times: &[Duration]) -> String {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(share * (times.len() - 1) as f64).round() as usize];
    format!("{:.2} / {:.2} / {:.2} ms", at(0.5), at(0.99), at(1.0))
}
