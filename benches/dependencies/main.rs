//! Does attention know what an answer depends on?
//!
//! `cargo bench --bench dependencies -- --data FILE… [FLAGS]` answers every row of question
//! sets, then deletes each of its passages in turn and answers again, exactly. A sub-paragraph
//! that is not in the new answer depended on the passage: that is the truth. The score of the
//! dependency relation ([`perennial::ask::dependency`]) is held against it:
//!
//! - AUC: how often a passage that mattered scores higher than one that did not;
//! - for recalls from 90 % to 100 %: the threshold, and how many of all changes lie below it,
//!   which is what policy `BOUNDED` may leave unread.
//!
//! The curve of recall against skip rate is written as a picture.

mod curve;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use perennial::ask::{Before, Tolerance};
use perennial::bank::PassageLayout;

use curve::{Pair, Pairs};
use rig::{Error, Rig};

/// How well dependency scores foretell what a deletion changes.
#[derive(Parser)]
#[command(name = "dependencies")]
struct Options {
    /// Question sets: JSON lines.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "qwen2.5-coder-0.5b")]
    model: String,
    /// Only the first rows of each set.
    #[arg(long)]
    limit: Option<usize>,
    /// Limit of answer tokens.
    #[arg(long, default_value_t = 32)]
    max_tokens: usize,
    /// Threads of a forward pass.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where the picture goes (SVG).
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/dependencies.svg"))]
    plot: PathBuf,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dependencies: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let rig = Rig::open(&options.model, options.threads, options.max_tokens)?;
    let mut all: Vec<(String, Pairs)> = Vec::new();
    for (set, rows) in rig::read_sets(&options.data, options.limit)? {
        let mut pairs = Pairs::default();
        for (n, row) in rows.iter().enumerate() {
            eprint!("\r{}, {set}: {} of {}", rig.name, n + 1, rows.len());
            measure(&rig, row, &mut pairs)?;
            // Nothing refers to the fragments of a row that is done.
            rig.model.store().sweep();
        }
        eprintln!();
        all.push((set, pairs));
    }
    if all.len() > 1 {
        let together = all.iter().flat_map(|(_, pairs)| pairs.0.iter().copied());
        all.push(("all".to_owned(), Pairs(together.collect())));
    }
    print!("{}", curve::markdown(&rig.name, &all));
    curve::draw(&options.plot, &rig.name, &all)?;
    eprintln!("the curve: {}", options.plot.display());
    Ok(())
}

/// A row's passages deleted one by one.
fn measure(rig: &Rig, row: &rig::question::Question, pairs: &mut Pairs) -> Result<(), Error> {
    let question = format!("Question: {}", row.question);
    let layout = rig.layout(&row.passages)?;
    let nothing = Before::default();
    let base = rig.answer(&question, &layout, &nothing, Tolerance::EXACT)?;
    let draft = Before::draft(base.tokens.clone());
    for place in 0..row.passages.len() {
        let mut passages = layout.passages().to_vec();
        passages.remove(place);
        let without = PassageLayout::new(passages);
        let after = rig.answer(&question, &without, &draft, Tolerance::EXACT)?;
        for (part, scores) in base.sub_paragraphs.iter().zip(base.dependencies.scores()) {
            let stands = after.sub_paragraphs.iter().any(|p| p.text == part.text);
            pairs.0.push(Pair {
                score: scores[place],
                mattered: !stands,
            });
        }
    }
    Ok(())
}
