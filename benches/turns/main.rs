//! What does a question over a conversation that goes on cost, and what an edit in its middle?
//!
//! ```console
//! $ cargo bench --bench turns -- --data longmemeval/dev8.json --tokens 2000,6000
//! $ cargo bench --bench turns -- --data longmemeval/dev8.json --model qwen2.5-coder-0.5b
//! ```
//! Two histories ([`conversation`]): the conversations of a file as LongMemEval has them (`--data`), one after the
//! other, and a replay of short turns that is made up from a seed. A history of so many tokens stands; then a turn
//! comes and a question is asked over all that stands, some times ([`replay`]). At last a turn in the middle is
//! corrected, or deleted, and a question asked. Each side has the same turns and questions:
//!
//! - *full re-encode*: the whole prompt, read for this question. It is run once a history, since that takes long;
//!   its tokens are counted for every question;
//! - *prefix cache* ([`prefix_cache`]): what the prompt has in common with the one before, from its beginning, stays.
//!   Token ids are compared, nothing is run. While a conversation only grows it forwards what we do: there it
//!   ties;
//! - *text-RAG*: the best turns that a memory recalls by text, read for this question; the beginning of all prompts
//!   stays;
//! - *KV*: the turns stand as fragments (`CAUSAL`). A turn that comes is read once, when it comes; a question forwards
//!   itself and the instruction. The answer is exact. After an edit it is *exact* where all behind the edit is
//!   read again, or *provisional* (`EVENTUAL`) where what stands behind the edit is borrowed; that
//!   is healed later at the cost of the exact one.
//!
//! Tokens and times are those before the first token of the answer.

mod conversation;
mod prefix_cache;
mod replay;
mod table;

// Every benchmark needs a part of it.
#[allow(dead_code)]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use conversation::Conversation;
use rig::{Error, Rig};

/// Questions over a conversation that goes on.
#[derive(Parser)]
#[command(name = "turns")]
struct Options {
    /// Conversations, as LongMemEval has them: a JSON file.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "smollm2-135m")]
    model: String,
    /// Tokens of history; those that the model has no positions for are left out, which is said.
    #[arg(long, value_delimiter = ',', default_values_t = [2000, 6000, 18_000])]
    tokens: Vec<usize>,
    /// Turns that come, with a question each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// Turns that text-RAG recalls.
    #[arg(long, default_value_t = 5)]
    best: usize,
    /// Limit of answer tokens.
    #[arg(long, default_value_t = 16)]
    max_tokens: usize,
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
            eprintln!("turns: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    let rig = Rig::open(&options.model, options.threads, options.max_tokens)?;
    let mut conversations = vec![Conversation::made_up(options.seed)];
    if let Some(path) = &options.data {
        conversations.push(Conversation::read(path)?);
    }
    println!("{}", table::HEAD);
    for conversation in &conversations {
        for n_tokens in &options.tokens {
            let point = replay::measure(&rig, conversation, *n_tokens, options)?;
            if let Some(point) = point {
                print!("{}", point.markdown(&rig.name, &conversation.name));
            }
        }
    }
    Ok(())
}
