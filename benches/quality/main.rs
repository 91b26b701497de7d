//! How good are the answers of each scope, and are they as good as a reference's?
//!
//! `cargo bench --bench quality -- --data FILE… [FLAGS]` answers every row of question
//! sets from scratch in each scope and prints a Markdown table: F1 and exact match
//! against the gold answers ([`score`]), whether the gold answer stands in the answer,
//! agreement with `CAUSAL`, the divergence KL(CAUSAL || scope) of the first answer
//! token, and the tokens that a question has encoded. With `--peer-python`, llama.cpp answers the same prompts, id for id. With
//! `--arithmetic` it prints another table: what rounding does to every distribution of a prompt.
//!
//! A row of the input is `{"id", "question", "answers": [text], "passages": [{"title",
//! "text"}]}`; one passage of the set is one passage of the layout, in the set's order.
//!
//! Invariants: one prompt for all ([`rig::PROMPT`]); greedy decoding; one scoring code for both
//! engines. Before each answer the store holds each passage of the row, encoded alone, and nothing
//! else: so what an answer has encoded is what its scope asks for beyond that.

mod arithmetic;
mod compare;
mod options;
mod reference;
// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;
mod score;
mod table;

use std::process::ExitCode;

use clap::Parser;
use perennial::Scope;

use compare::{Answered, Answerer};
use options::Options;
use rig::{Error, question};
use table::Line;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quality: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    if options.arithmetic {
        return arithmetic::run(options);
    }
    let mut lines = Vec::new();
    for spec in &options.models {
        let answerer = Answerer::open(spec, options)?;
        for data in &options.data {
            let set = data
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let questions = question::read(data, options.limit)?;
            if let Some(python) = &options.peer_python {
                let prompts = questions
                    .iter()
                    .map(|question| answerer.prompt(question))
                    .collect::<Result<Vec<_>, _>>()?;
                let name = format!("{}-{set}", answerer.name());
                let answers = reference::answers(
                    options,
                    python,
                    answerer.path(),
                    &name,
                    &questions,
                    &prompts,
                )?;
                let mut line = Line::new(answerer.name(), &set, "llama.cpp (causal)");
                for (question, answer) in questions.iter().zip(&answers) {
                    line.add(question, answer, None);
                }
                lines.push(line);
            }
            lines.extend(scopes(
                options,
                &answerer,
                answerer.name(),
                &set,
                &questions,
            )?);
            // Each set's lines as soon as they are known: the next takes a while.
            eprintln!("{}", table::markdown(&lines));
        }
    }
    println!("{}", table::markdown(&lines));
    Ok(())
}

/// One line a scope, all scopes of a row before the next row.
fn scopes(
    options: &Options,
    answerer: &Answerer,
    model: &str,
    set: &str,
    questions: &[question::Question],
) -> Result<Vec<Line>, Error> {
    let mut lines: Vec<Line> = options
        .scopes
        .iter()
        .map(|scope| Line::new(model, set, &scope.to_string()))
        .collect();
    for (n, question) in questions.iter().enumerate() {
        eprint!("\r{model}, {set}: {} of {}", n + 1, questions.len());
        let row = answerer.row(question)?;
        let causal = row.answer(Scope::Causal)?;
        for (scope, line) in options.scopes.iter().zip(&mut lines) {
            let answered: Answered = match scope {
                Scope::Causal => causal.clone(),
                scope => row.answer(*scope)?,
            };
            line.add(question, &answered.text, Some((&causal, &answered)));
            line.add_encoded(answered.n_encoded, row.n_tokens());
        }
    }
    eprintln!();
    Ok(lines)
}
