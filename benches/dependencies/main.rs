//! What knows what an answer depends on: attention, its words, or scoring it without a passage?
//!
//! `cargo bench --bench dependencies -- --data FILE… [FLAGS]` answers every row of question
//! sets, then deletes each of its passages in turn and answers again, exactly. A sub-paragraph
//! that is not in the new answer depended on the passage: that is the truth. The scores of three
//! kinds of evidence ([`perennial::ask::Evidence`]) are held against it: the model's attention; the
//! rare words that passage and sub-paragraph share; and by how much less likely the sub-paragraph is
//! without the passage, scored by the model itself as a server would.
//!
//! The last reads the prompt without the passage, as the truth does, so it is near the truth by its
//! making. What it lacks is what a likelihood does not say: which answer would be written instead.
//!
//! - AUC: how often a passage that mattered scores higher than one that did not;
//! - for recalls from 90 % to 100 %: the threshold, and how many of all changes lie below it,
//!   which is what policy `BOUNDED` may leave unread.
//!
//! The curve of recall against skip rate, of attention, is written as a picture.

mod curve;
mod scorer;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use perennial::Scope;
use perennial::ask::{Before, Evidence, Tolerance, leave_one_out, lexical};
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
    let mut all: Vec<(String, Sets)> = Vec::new();
    for (set, rows) in rig::read_sets(&options.data, options.limit)? {
        let mut pairs = Sets::default();
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
        let together = KINDS.map(|kind| {
            let of_sets = all.iter().map(|(_, sets)| &sets[kind as usize]);
            Pairs(of_sets.flat_map(|pairs| pairs.0.iter().copied()).collect())
        });
        all.push(("all".to_owned(), together));
    }
    let of_kind = |kind: Evidence| {
        let sets = all.iter();
        let sets = sets.map(|(set, sets)| (set.clone(), Pairs(sets[kind as usize].0.clone())));
        sets.collect::<Vec<(String, Pairs)>>()
    };
    let kinds = KINDS.map(|kind| (kind, of_kind(kind)));
    print!("{}", curve::markdown(&rig.name, &kinds));
    curve::draw(&options.plot, &rig.name, &of_kind(Evidence::Attention))?;
    eprintln!("the curve: {}", options.plot.display());
    Ok(())
}

/// The kinds of evidence, by their numbers.
const KINDS: [Evidence; 3] = [
    Evidence::Attention,
    Evidence::LeaveOneOut,
    Evidence::Lexical,
];

/// What each kind says of the same pairs.
type Sets = [Pairs; KINDS.len()];

/// A row's passages deleted one by one.
fn measure(rig: &Rig, row: &rig::question::Question, sets: &mut Sets) -> Result<(), Error> {
    let question = format!("Question: {}", row.question);
    let layout = rig.layout(&row.passages)?;
    let nothing = Before::default();
    let base = rig.answer(&question, &layout, &nothing, Tolerance::EXACT)?;
    let (text, passages) = (&*base.answer.text, layout.passages());
    let means = |layout: &PassageLayout| {
        let (exact, scope) = (Tolerance::EXACT, Scope::Causal);
        let request = rig.request(&question, layout, &nothing, exact, scope);
        let tokens = scorer::likelihoods(&rig.model, &request, text, &base.tokens)?;
        Ok::<_, Error>(leave_one_out::means(text, &tokens))
    };
    let with_all = means(&layout)?;
    let (_, by_words) = lexical::attributed(text, &question, passages);
    let draft = Before::draft(base.tokens.clone());
    let (mut left_out, mut stands) = (Vec::new(), Vec::new());
    for place in 0..passages.len() {
        let mut others = passages.to_vec();
        others.remove(place);
        let without = PassageLayout::new(others);
        let after = rig.answer(&question, &without, &draft, Tolerance::EXACT)?;
        let says = |part: &perennial::ask::SubParagraph| {
            after.sub_paragraphs.iter().any(|p| p.text == part.text)
        };
        stands.push(base.sub_paragraphs.iter().map(says).collect::<Vec<bool>>());
        left_out.push(Some(means(&without)?));
    }
    let (_, by_leaving) = leave_one_out::attributed(text, &with_all, &left_out, passages);
    for (kind, of_kind) in KINDS
        .into_iter()
        .zip([&base.dependencies, &by_leaving, &by_words])
    {
        for (part, scores) in of_kind.scores().iter().enumerate() {
            for (place, score) in scores.iter().enumerate() {
                sets[kind as usize].0.push(Pair {
                    score: *score,
                    mattered: stands[place].get(part) == Some(&false),
                });
            }
        }
    }
    Ok(())
}
