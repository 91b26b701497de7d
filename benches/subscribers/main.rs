//! Are a thousand subscribers told of two hundred changes a second, all of them and soon?
//!
//! `cargo bench --bench subscribers -- [--subscribers 1000] [--everything 100] [--changes 200]
//! [--seconds 60] [--contexts 100] [--idle 10000]` runs on Linux. A server of `perennial::serve` with a
//! scripted model is a process of its own (`server.rs`), so that its memory is nobody else's. Here are its
//! clients, each over a TCP connection, all on one thread (`subscriber.rs`): some follow every answer, the
//! others one each. One more asks for all and never reads. Documents are posted at a steady pace
//! (`changes.rs`), each a change of one answer; it says when it was posted, and which change of its answer
//! it is, so that a subscriber can tell how late it is and what was merged before it.
//!
//! At the end what each subscriber holds is held against what the view says. One that holds anything else
//! is a loss, and the run fails.
//!
//! Clients come from addresses of 127.0.0.0/8, few enough from each for the server's limit as it stands by
//! default. With `--idle` one address opens so many connections and says nothing: all beyond that limit
//! are to be closed, and the others to be served as ever.

mod changes;
mod crowd;
mod open_files;
mod process;
mod server;
mod subscriber;
mod table;
mod unframed;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use cpu_time::ProcessTime;

use changes::Changes;
use crowd::{Crowd, Idle, Unread};
use process::Child;
use table::Run;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long subscribers may take to hold the last word.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures what many subscribers of one view are told.
#[derive(Parser)]
#[command(name = "subscribers")]
struct Options {
    /// How many follow the view.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// How many of them follow every answer, rather than one; a tenth unless given.
    #[arg(long)]
    everything: Option<usize>,
    /// Changes a second.
    #[arg(long, default_value_t = 200)]
    changes: u32,
    /// For how long.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Answers of the view.
    #[arg(long, default_value_t = 100)]
    contexts: usize,
    /// Connections that one further address opens, and says nothing.
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// Is the server, for so many connections and requests a second; given by this program.
    #[arg(long, hide = true, num_args = 2)]
    serve: Option<Vec<u32>>,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.serve.as_deref() {
        Some([connections, rate]) => server::run(*connections, *rate).map(|()| true),
        _ => run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("subscribers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it all, and prints a table. False where a subscriber does not hold what the view says.
fn run(options: &Options) -> Result<bool, Error> {
    let n_everything = options.everything.unwrap_or(options.subscribers / 10);
    if options.subscribers == 0 || options.changes == 0 || options.seconds == 0 {
        return Err("--subscribers, --changes and --seconds are at least 1".into());
    }
    if n_everything > options.subscribers {
        return Err("--everything is at most --subscribers".into());
    }
    // The server gives the rows of a view in one reply of at most so many.
    if !(1..=10_000).contains(&options.contexts) {
        return Err("--contexts is between 1 and 10,000".into());
    }
    open_files::allow(options.subscribers + options.idle + 1_024)?;
    let connections = u32::try_from(options.subscribers)? + 1_024;
    let rate = options.changes.saturating_mul(2).max(1_000);
    let child = Child::start(connections, rate)?;
    let changes = Changes::new(&child, options.contexts);
    changes.begin()?;
    let before = child.status()?;
    let resident_at_start = child.resident()?;

    // One thread reads for all of them.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("subscribers")
        .enable_all()
        .build()?;
    let idle = runtime.block_on(Idle::open(child.address, options.idle))?;
    let unread = runtime.block_on(Unread::open(child.address))?;
    let crowd = Crowd::gather(
        &runtime,
        child.address,
        options.subscribers,
        n_everything,
        options.contexts,
        changes.began,
    )?;
    let n_turned_away = idle.turned_away(&runtime);
    let resident_with_all = child.resident()?;
    eprintln!(
        "{} subscribers are told what stands; changes begin",
        options.subscribers
    );

    let (server_cpu, clients_cpu) = (child.cpu()?, ProcessTime::now());
    let begin = Instant::now();
    let made = changes.make(options.changes, options.seconds)?;
    let elapsed = begin.elapsed();
    let standing = Arc::new(changes.settle(made.n_changes)?);
    let told = crowd.compare(&runtime, standing, PATIENCE)?;
    let server_cpu = child.cpu()?.saturating_sub(server_cpu);
    let clients_cpu = clients_cpu.elapsed();
    let after = child.status()?;
    let resident_at_end = child.resident()?;
    let resident_peak = child.resident_peak()?;
    let n_losses = told.n_losses();
    Run {
        n_everything,
        n_contexts: options.contexts,
        asked_a_second: options.changes,
        n_idle: options.idle,
        n_turned_away,
        made,
        elapsed,
        before,
        after,
        resident_at_start,
        resident_with_all,
        resident_at_end,
        resident_peak,
        server_cpu,
        clients_cpu,
    }
    .print(&told);
    drop((told, idle, unread));
    child.end()?;
    if n_losses > 0 {
        eprintln!(
            "{n_losses} of {} subscribers do not hold what the view says",
            options.subscribers
        );
    }
    Ok(n_losses == 0)
}
