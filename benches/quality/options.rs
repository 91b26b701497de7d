//! What does the caller want compared?

use std::path::PathBuf;

use clap::Parser;
use perennial::Scope;

/// Answer quality of every scope, and of llama.cpp, on question sets.
#[derive(Parser)]
#[command(name = "quality")]
pub struct Options {
    /// Question sets: JSON lines.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Models: names, files or folders.
    #[arg(long = "model", value_name = "MODEL", default_values = ["smollm2-135m", "qwen2.5-coder-0.5b"])]
    pub models: Vec<String>,
    /// Scopes: causal, independent, window:N, boundary:N.
    #[arg(
        long,
        value_delimiter = ',',
        default_values = ["causal", "window:64", "window:128", "window:256", "window:512", "independent"]
    )]
    pub scopes: Vec<Scope>,
    /// Only the first rows of each set.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Limit of answer tokens.
    #[arg(long, default_value_t = 32)]
    pub max_tokens: usize,
    /// Threads of both engines.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// A Python interpreter that can import `llama_cpp`: the reference is run with it.
    #[arg(long)]
    pub peer_python: Option<PathBuf>,
    /// Instead of answers, compare next-token distributions: those of the decoder, and of
    /// llama.cpp, with those of a decoder that computes with the same weights in f32.
    #[arg(long)]
    pub arithmetic: bool,
    /// Tokens of each prompt that distributions are compared after.
    #[arg(long, default_value = "256")]
    pub tokens: std::num::NonZeroUsize,
    /// Where the reference's prompts and answers are kept between runs.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/quality"))]
    pub keep: PathBuf,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}
