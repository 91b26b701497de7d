//! How much of what agents ask for does a store of fragments still hold, where memory is short?
//!
//! ```console
//! $ cargo bench --bench hits -- --data squad.jsonl
//! $ cargo bench --bench hits -- --data squad.jsonl --requests 3000 --skew 0.8,1,1.2
//! ```
//! Some agents share a collection of passages (`id, title, text, questions[{question, answers[]}]`, as JSON lines): each
//! reads the shared ones and some of its own. They ask in turns, about a passage that is drawn by Zipf's law; one
//! order of how much passages are asked about holds for all. What a memory recalls for the question, of what the agent
//! reads, is laid out, best first. Now and then a passage that is drawn so is edited ([`trace`]).
//!
//! - *KV by id*: the model of a view over its real store ([`bank`](perennial::bank)), whose budget is a share of
//!   the bytes that all fragments have. What is missing is read by the model. Passages that stand are named by
//!   references, as those of a view are, and the store is swept after each edit;
//! - all others are simulated over the same trace, with as many tokens of room ([`caches`]): a prefix cache as a tree
//!   of passages, least recently used leaves first, the passages best first and in order of key; whole prompts, least
//!   recently used first; fragments by id, least recently used first; and fragments by id where it is known which is
//!   asked for the latest: no store can do better by much.

mod caches;
mod trace;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use perennial::Scope;
use perennial::ask::{AnswerModel as _, Priority, TensorModel};
use perennial::bank::scope::Piece;
use perennial::bank::{FragmentId, FragmentStore, LayoutPassage, References};
use perennial::calibration::set::Set;
use perennial::model::cancel::Cancel;
use perennial::model::kv::{KvFragment, KvShape};

use caches::{Cache, Found, Part};
use rig::remembered::evenly;
use rig::{Error, Rig};
use trace::{Event, Trace};

/// Hits of a store whose memory is short.
#[derive(Parser)]
#[command(name = "hits")]
struct Options {
    /// A file of passages with questions.
    #[arg(long)]
    data: PathBuf,
    /// Passages, evenly from the file.
    #[arg(long, default_value_t = 100)]
    documents: usize,
    /// Agents.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    agents: u16,
    /// Share of the passages that all agents read; the others are dealt out.
    #[arg(long, default_value_t = 0.5)]
    shared: f64,
    /// Requests of all agents together.
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// Passages of a request.
    #[arg(long, default_value_t = 4)]
    best: usize,
    /// Exponents of Zipf's law; a table for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0])]
    skew: Vec<f64>,
    /// Requests between two edits; 0 for no edits.
    #[arg(long, default_value_t = 50)]
    edit_every: usize,
    /// The store's budget, of the bytes of all fragments.
    #[arg(long, default_value_t = 0.4)]
    budget: f64,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Nothing is read: what is missing is zeros, as many as it would have. What the store keeps depends on lengths
    /// and costs alone, so long traces take seconds.
    #[arg(long)]
    blank: bool,
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

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    if !(0.0..=1.0).contains(&options.shared) || !(0.0..=1.0).contains(&options.budget) {
        return Err("--shared and --budget are shares, from 0 to 1".into());
    }
    let set = Set::read(&options.data)?;
    let passages = evenly(&set.passages, options.documents);
    let rig = Rig::open(&options.model, options.threads, 1)?;
    for skew in &options.skew {
        let trace = Trace::new(&rig, &passages, options, *skew)?;
        measure(&rig.model, &trace, options, *skew)?;
    }
    Ok(())
}

/// Runs a trace, and prints a table.
fn measure(model: &TensorModel, trace: &Trace, options: &Options, skew: f64) -> Result<(), Error> {
    let shape = KvShape::of(model.decoder().config());
    let n_tokens: usize = trace.first.iter().map(|passage| passage.tokens.len()).sum();
    let n_room = (n_tokens as f64 * options.budget) as usize;
    let n_edits = trace
        .events
        .iter()
        .filter(|event| matches!(event, Event::Edit { .. }))
        .count();
    println!(
        "Zipf's exponent {skew}: {} passages of {n_tokens} tokens, {} requests of {} agents, {n_edits} edits, \
         room for {n_room} tokens\n",
        trace.first.len(),
        trace.events.len() - n_edits,
        options.agents
    );
    println!(
        "| cache | passages found | of those that were there before | tokens found | tokens read again |\n\
         | --- | ---: | ---: | ---: | ---: |"
    );

    // The beginning of all prompts is kept beside.
    let lengths = trace.first.iter().map(|passage| passage.tokens.len());
    let whole: usize = lengths.map(|n| n_bytes(shape, n)).sum();
    let budget = (whole as f64 * options.budget) as usize + n_bytes(shape, model.n_prefix_tokens());
    let store = Arc::new(FragmentStore::new(budget));
    let over = model.with_store(store.clone());
    let found = stored(&over, trace, options.blank)?;
    found.print("KV by id: the store");
    let stats = store.stats();
    let simulated: [(&str, Cache); 5] = [
        ("prefix cache, best first", Cache::tree(n_room)),
        ("prefix cache, in order of key", Cache::tree(n_room)),
        ("whole prompts, LRU", Cache::prompts(n_room)),
        ("KV by id, LRU", Cache::fragments(n_room)),
        (
            "KV by id, if the future is known",
            Cache::clairvoyant(n_room),
        ),
    ];
    for (place, (name, cache)) in simulated.into_iter().enumerate() {
        let scope = match place {
            0..=2 => Scope::Causal,
            _ => Scope::Independent,
        };
        let prompts = prompts(model, trace, scope, place == 1);
        cache.run(&prompts).print(name);
    }
    println!(
        "\nThe store: {} fragments evicted, {:.1} MB at most of {:.1} MB; by its own gauges {:.1} % of \
         lookups hit, the beginning of prompts among them\n",
        stats.n_evicted,
        stats.n_bytes_peak as f64 / 1e6,
        budget as f64 / 1e6,
        100.0 * stats.n_hits as f64 / (stats.n_hits + stats.n_misses).max(1) as f64
    );
    Ok(())
}

/// What a model finds in its store, which reads what is missing, or puts zeros there.
fn stored(model: &TensorModel, trace: &Trace, is_blank: bool) -> Result<Found, Error> {
    let store = model.store();
    let references = References::to(store.clone());
    let count = |passage: &LayoutPassage, diff: isize| {
        let plan = model.plan(Scope::Independent, std::slice::from_ref(passage));
        for piece in plan.fragments() {
            references.add(piece.id, diff);
        }
    };
    trace.first.iter().for_each(|passage| count(passage, 1));
    let mut found = Found::default();
    for (n, event) in trace.events.iter().enumerate() {
        eprint!("\r{} of {}   ", n + 1, trace.events.len());
        match event {
            Event::Ask { passages } => {
                let plan = model.plan(Scope::Independent, passages);
                for piece in plan.pieces() {
                    let part = Part {
                        id: piece.id,
                        n_tokens: piece.tokens.len(),
                    };
                    found.count(part, store.contains(&piece.id));
                }
                if is_blank {
                    plan.fragments()
                        .try_for_each(|piece| put_zeros(model, piece))?;
                } else {
                    model.lay_out(&plan, Priority::Fresh, &Cancel::new())?;
                }
            }
            Event::Edit { old, new } => {
                count(new, 1);
                count(old, -1);
                store.sweep();
            }
        }
    }
    eprintln!();
    Ok(found)
}

/// Bytes of a fragment.
fn n_bytes(shape: KvShape, n_tokens: usize) -> usize {
    shape.n_bytes(n_tokens).unwrap_or(usize::MAX)
}

/// Looks a fragment up as a layout does, and puts zeros where it is missing.
fn put_zeros(model: &TensorModel, piece: &Piece) -> Result<(), Error> {
    if model.store().get(&piece.id).is_none() {
        let shape = KvShape::of(model.decoder().config());
        let n_tokens = piece.tokens.len();
        let zeros = vec![0; n_bytes(shape, n_tokens)];
        let kv = KvFragment::from_bytes(shape, 0, n_tokens, &zeros)
            .ok_or("a fragment has another length than it should")?;
        model.store().insert(piece.id, Arc::new(kv), n_tokens);
    }
    Ok(())
}

/// The fragments of every request in order, in a scope.
fn prompts(model: &TensorModel, trace: &Trace, scope: Scope, by_key: bool) -> Vec<Vec<Part>> {
    let asked = trace.events.iter().filter_map(|event| match event {
        Event::Ask { passages } => Some(passages.clone()),
        Event::Edit { .. } => None,
    });
    asked
        .map(|mut passages| {
            if by_key {
                passages.sort_by(|a, b| a.document.cmp(&b.document));
            }
            let part = |(id, n_tokens): (FragmentId, usize)| Part { id, n_tokens };
            let fragments = model.fragments(scope, &passages).into_iter();
            // The first is the beginning of all prompts.
            fragments.skip(1).map(part).collect()
        })
        .collect()
}
