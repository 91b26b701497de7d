//! How fast does the decoder compute tokens, beside llama.cpp on the same file?
//!
//! `cargo bench --bench speed -- [FLAGS]` prints one Markdown table. Both engines run
//! in the same minutes: each repeat measures Perennial, then llama.cpp with flash
//! attention, then without, so that whatever else the machine does falls on all
//! alike. A cell is the median over repeats. Wall-clock rates say what a user sees;
//! tokens per CPU-second say what the kernels cost, and survive a busy machine best.
//!
//! The limit is what the machine's measured peaks allow ([`limit`]).
//!
//! Invariants: both sides get the same ids, want logits of the last position only (when
//! they verify: of all), and keep keys and values in 16-bit floats. Neither tokenizes while the clock runs.
//! Perennial's times include the choice of the greedy token, llama.cpp's do not.
//!
//! With `--kernels` several kernels of ours are measured side by side: instructions that give the
//! same bits sooner or later, and arithmetic that gives others.
//!
//! llama.cpp is optional: `peer/llama.py` says how to install it. Without it the
//! table has Perennial's columns only, and the reason stands below.

mod clock;
#[path = "../rig/limit.rs"]
mod limit;
mod machine;
mod measurement;
mod options;
mod ours;
mod peer;
mod table;

use std::process::ExitCode;

use clap::Parser;
use perennial::model::locator::{Locator, ModelSpec, OnStderr, Settings};

use limit::Peaks;
use measurement::{Measurement, Task};
use options::{Kernels, Options};
use ours::Ours;
use peer::Peer;
use table::Line;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut lines = Vec::new();
    let mut peer_note = None;
    let locator = Locator::new(Settings::from_env()?);
    let mut peaks = Vec::new();
    for &n_threads in &options.threads {
        eprintln!("peaks of {n_threads} threads");
        peaks.push(Peaks::measure(n_threads));
    }
    for spec in &options.models {
        let model = locator.locate(&ModelSpec::parse(spec)?, &mut OnStderr::default())?;
        for (&n_threads, peaks) in options.threads.iter().zip(&peaks) {
            eprintln!("{} with {n_threads} threads", model.name);
            let load = |kernels: &Kernels| Ours::load(&model.path, kernels.0, n_threads);
            let ours: Vec<Ours> = options.kernels.iter().map(load).collect::<Result<_, _>>()?;
            let first = ours.first().ok_or("no kernels to measure")?;
            let mut peers = Vec::new();
            for flash_attention in [true, false] {
                match Peer::load(options, &model.path, n_threads, flash_attention) {
                    Ok(peer) => {
                        peer_note.get_or_insert_with(|| peer.description().to_owned());
                        peers.push(peer);
                    }
                    Err(error) => {
                        peer_note = Some(format!("not measured: {error}"));
                        peers.clear();
                        break;
                    }
                }
            }
            for task in options.tasks(first.n_vocab(), first.n_positions()) {
                eprintln!("  {task}");
                let (ours, theirs) = measure(&task, &ours, &mut peers, options.repeats.get())?;
                for (kernels, measured) in options.kernels.iter().zip(&ours) {
                    lines.push(Line {
                        model: model.name.clone(),
                        task: task.to_string(),
                        kernels: kernels.to_string(),
                        n_threads,
                        ours: *measured,
                        first: ours[0],
                        limit: first.least(&task).seconds(peaks),
                        peers: theirs.clone(),
                    });
                }
            }
        }
    }
    println!("{}", table::markdown(&lines));
    println!("Machine: {}.", machine::describe());
    for (n_threads, peaks) in options.threads.iter().zip(&peaks) {
        println!("Peaks of {n_threads} threads: {peaks}.");
    }
    println!("llama.cpp: {}.", peer_note.unwrap_or_default());
    println!("Median of {} interleaved runs.", options.repeats);
    Ok(())
}

/// Runs one task on every side, `repeats` times in turn: the medians of all kernels of ours, and of
/// all peers.
fn measure(
    task: &Task,
    ours: &[Ours],
    peers: &mut [Peer],
    repeats: usize,
) -> Result<(Vec<Measurement>, Vec<Measurement>), Box<dyn std::error::Error>> {
    let mut our_runs = vec![Vec::new(); ours.len()];
    let mut peer_runs = vec![Vec::new(); peers.len()];
    let mut states: Vec<_> = ours
        .iter()
        .map(|ours| ours.prepare(task))
        .collect::<Result<_, _>>()?;
    for _ in 0..repeats {
        for ((ours, state), runs) in ours.iter().zip(&mut states).zip(&mut our_runs) {
            runs.push(ours.run(task, state)?);
        }
        for (peer, runs) in peers.iter_mut().zip(&mut peer_runs) {
            runs.push(peer.run(task)?);
        }
    }
    let medians = |runs: Vec<Vec<_>>| runs.iter().map(|runs| Measurement::median(runs)).collect();
    Ok((medians(our_runs), medians(peer_runs)))
}
