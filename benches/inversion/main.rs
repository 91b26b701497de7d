//! How much of a text does its KV give away?
//!
//! ```console
//! $ cargo bench --bench inversion -- --data squad/dev.jsonl --model smollm2-135m
//! $ cargo bench --bench inversion -- --data squad/dev.jsonl --model qwen2.5-coder-0.5b --to qwen2.5-coder-1.5b
//! ```
//! Texts are read behind the prefix that all prompts share, and their tokens are looked for in what is kept of them
//! (`tokens.rs`): in f16, in codings, and in two bits a number; in the first layer and in deeper ones. With `--to` it is tried,
//! too, whether a linear map makes one model's KV of another's (`cross.rs`).
//!
//! These are attacks as anybody would try them, in an hour and with the weights at hand. What they give back is the least
//! that KV gives away; what they do not is no protection.

mod cross;
mod nearest;
mod ridge;
mod tokens;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use perennial::calibration::set::{Passage, Set};

use rig::Error;
use rig::framed::Framed;

/// How much of a text does its KV give away?
#[derive(Parser)]
#[command(name = "inversion")]
struct Options {
    /// A file of passages with questions, as `perennial calibrate` takes it.
    #[arg(long)]
    data: PathBuf,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Another with the same tokens: whether KV of the first can be mapped to its own.
    #[arg(long)]
    to: Option<String>,
    /// With `--to`: leaves out which tokens are given back.
    #[arg(long)]
    map_only: bool,
    /// Looks at the coding across layers `t8`, too, which takes a while to learn.
    #[arg(long)]
    across: bool,
    /// Texts that maps are fitted on.
    #[arg(long, default_value_t = 40)]
    training: usize,
    /// Texts whose tokens are looked for, and whose questions are asked.
    #[arg(long, default_value_t = 8)]
    texts: usize,
    /// Tokens of a text, at most.
    #[arg(long, default_value_t = 96)]
    tokens: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inversion: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let passages = passages(options)?;
    let framed = Framed::open(&options.model, options.threads, &[])?;
    if !options.map_only || options.to.is_none() {
        let texts: Vec<String> = passages
            .iter()
            .map(|passage| passage.text.clone())
            .collect();
        tokens::measure(&framed, options, &texts)?;
    }
    if let Some(to) = &options.to {
        let to = Framed::open(to, options.threads, &[])?;
        cross::measure(&framed, &to, options, &passages)?;
    }
    Ok(())
}

/// Passages, evenly from the file: first those of maps, then the others, none of an article of both kinds.
fn passages(options: &Options) -> Result<Vec<Passage>, Error> {
    let set = Set::read(&options.data)?;
    let n = options.training + options.texts;
    if options.training == 0 || options.texts == 0 || set.passages.len() < n {
        let path = options.data.display();
        let n_there = set.passages.len();
        return Err(format!(
            "{path}: {n} texts are wanted, some of each kind, and it has {n_there}"
        )
        .into());
    }
    // What is tested is of the last part of the file, which no map has seen an article of.
    let cut = set.passages.len() * options.training / n;
    let evenly = |from: &[Passage], n: usize| -> Vec<Passage> {
        (0..n).map(|i| from[i * from.len() / n].clone()).collect()
    };
    let article = set.passages[cut].article();
    let behind = set.passages[cut..]
        .iter()
        .filter(|passage| passage.article() != article);
    let behind: Vec<Passage> = behind.cloned().collect();
    let tested = if behind.len() < options.texts {
        &set.passages[cut..]
    } else {
        &behind
    };
    let mut passages = evenly(&set.passages[..cut], options.training);
    passages.extend(evenly(tested, options.texts));
    Ok(passages)
}
