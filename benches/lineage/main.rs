//! Are stale records repaired as well, and updates served as fast, as LineageKV says?
//!
//! `cargo bench --bench lineage -- --data FILE… [FLAGS]` answers LineageKV's cases, in which a
//! record supersedes another, under every policy ([`policy`]): repairs of the cache, and the
//! baselines that the paper lists as missing. Prompt, spans and grading are the paper's
//! ([`prompt`], [`grade`]).
//!
//! `cargo bench --bench lineage -- --curve [FLAGS]` replaces one passage of many and times the
//! answer: from scratch, with a prefix cache, and as an EVENTUAL view gives it ([`curve`]);
//! with `--peer-python`, llama.cpp with its prompt cache on the same ids. The curves are
//! written as a picture.
//!
//! Source: LineageKV (`cbun/lineagekv`).

mod case;
mod chain;
mod corpus;
mod curve;
mod decode;
mod grade;
mod options;
mod plot;
mod policy;
mod prompt;
mod prompt_cache;
mod table;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use perennial::model::passes::Passes;

use chain::Chain;
use grade::{Grade, Said};
use options::Options;
use policy::Policy;
use prompt::Prompt;
use rig::Error;
use rig::opened::Opened;
use table::Table;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lineage: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    if options.data.is_empty() && !options.curve {
        return Err("nothing to do: name cases with --data FILE…, or ask for --curve".into());
    }
    let opened = Opened::find(&options.model, options.threads)?;
    if options.curve {
        return curve::measure(opened, options);
    }
    let passes = Passes::new(opened.decoder.clone());
    let mut chain = Chain::new(&opened.decoder);
    for path in &options.data {
        let table = answer_all(&opened, &passes, &mut chain, path, options)?;
        println!("{}", table.markdown());
    }
    Ok(())
}

/// Every case of a file under every policy.
fn answer_all(
    opened: &Opened,
    passes: &Passes,
    chain: &mut Chain<'_>,
    path: &Path,
    options: &Options,
) -> Result<Table, Error> {
    let cases = case::read(path, options.limit)?;
    let mut table = Table::new(path, opened, &cases);
    for (n, case) in cases.iter().enumerate() {
        eprint!("\r{}: {} of {}", table.name(), n + 1, cases.len());
        let prompt = Prompt::of(case, &opened.tokenizer)?;
        chain.begin();
        let seen = Policy::all()
            .into_iter()
            .map(|policy| policy.apply(&prompt, chain))
            .collect::<Result<Vec<_>, _>>()?;
        let layouts: Vec<_> = seen.iter().map(|seen| seen.layout.clone()).collect();
        let texts = decode::answers(passes, &opened.tokenizer, &layouts, &prompt.suffix)?;
        for (row, (seen, text)) in seen.iter().zip(&texts).enumerate() {
            let key = case.key(seen.shows_stale);
            let grade = Grade::of(&Said::read(text, &key), &key);
            if options.verbose {
                let policy = Policy::all()[row];
                eprintln!("\n{} | {policy} | {grade:?}\n{text}", case.id);
            }
            table.add(row, &grade, seen.n_encoded_again);
        }
    }
    eprintln!();
    Ok(table)
}
