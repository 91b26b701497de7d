//! What does a parcel save who receives it, beside reading the text again?
//!
//! ```console
//! $ cargo bench --bench exchange
//! $ cargo bench --bench exchange -- --model qwen2.5-coder-0.5b --tokens 2000 --answers 1 64
//! ```
//! One process stores a text and packs it; a second takes the parcel; a third has the text alone. The last
//! two are asked the same, each in a process that begins with nothing in memory. Printed are the tokens
//! that each forwarded, the time of its call, and whether both say the same, word for word. The first
//! token of an answer is what hand-over brings sooner: an answer of one token is that.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser;
use serde_json::Value;

type Error = Box<dyn std::error::Error>;

const QUESTION: &str = "When does the library open on the ninth day?";

/// What a parcel saves.
#[derive(Parser)]
#[command(name = "exchange")]
struct Options {
    /// The model, of this machine.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Tokens of the text, at least.
    #[arg(long, default_value_t = 2000)]
    tokens: u64,
    /// Most tokens of the answers.
    #[arg(long, num_args = 1.., default_values_t = [1, 64])]
    answers: Vec<usize>,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("exchange: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let (text, packed) = packed(options, dir.path())?;
    println!(
        "{} tokens in {} fragments, {:.1} MB, by {}",
        packed["n_tokens"],
        packed["n_fragments"],
        packed["n_bytes"].as_f64().unwrap_or_default() / 1e6,
        options.model
    );
    for verify in ["ids", "audit"] {
        let begin = Instant::now();
        let parcel = at("a.parcel");
        let parcel = parcel.to_str().ok_or("a folder that is no text")?;
        let more = ["--verify", verify, "--model", &options.model, parcel];
        told("import", &at(verify), &more)?;
        let seconds = begin.elapsed().as_secs_f64();
        println!("import --verify {verify}: {seconds:.2} s, its model opened");
    }
    store(&at("text"), &text)?;
    println!("\n| answer of at most | by | exact | forwarded | from scratch | s | says the same |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for n_tokens in &options.answers {
        let n_tokens = n_tokens.to_string();
        let mut of_text = None;
        for (name, by) in [
            ("text", "the text, read again"),
            ("ids", "the parcel"),
            ("audit", "the parcel, audited"),
        ] {
            let more = [
                "-k",
                "1",
                "--max-tokens",
                &n_tokens,
                "--model",
                &options.model,
            ];
            let more = [&more[..], &[QUESTION]].concat();
            let answer = told("answer", &at(name), &more)?;
            let said = answer["text"].clone();
            let is_same = *of_text.get_or_insert_with(|| said.clone()) == said;
            println!(
                "| {n_tokens} | {by} | {} | {} | {} | {:.3} | {is_same} |",
                answer["exact"],
                answer["n_forwarded"],
                answer["n_from_scratch"],
                answer["seconds"].as_f64().unwrap_or_default(),
            );
        }
    }
    Ok(())
}

/// A text of so many tokens, packed. It grows until it has them.
fn packed(options: &Options, dir: &Path) -> Result<(String, Value), Error> {
    let mut text = String::new();
    let mut n_days = 0;
    loop {
        // Some twenty tokens a sentence.
        for _ in 0..(options.tokens / 20).max(1) {
            n_days += 1;
            let hour = 7 + n_days % 5;
            text +=
                &format!("On day {n_days} the library opens at {hour} and the ferry sails twice. ");
        }
        let (state, parcel) = (dir.join("giver"), dir.join("a.parcel"));
        let _ = std::fs::remove_dir_all(&state);
        let _ = std::fs::remove_file(&parcel);
        store(&state, &text)?;
        let out = parcel.to_str().ok_or("a folder that is no text")?;
        let exported = told("export", &state, &["--model", &options.model, out])?;
        let packed = exported["parcel"].clone();
        if packed["n_tokens"].as_u64().unwrap_or_default() >= options.tokens {
            return Ok((text, packed));
        }
    }
}

fn store(state: &Path, text: &str) -> Result<(), Error> {
    told("store", state, &["--key", "days", text]).map(drop)
}

/// What a command says, its last line.
fn told(command: &str, state: &Path, more: &[&str]) -> Result<Value, Error> {
    let output = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["memory", command, "--json", "--state"])
        .arg(state)
        .args(more)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let said = String::from_utf8(output.stdout)?;
    let last = said.lines().last().ok_or("it says nothing")?;
    Ok(serde_json::from_str(last)?)
}
