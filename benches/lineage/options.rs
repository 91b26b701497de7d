//! What does the caller want measured?

use std::path::PathBuf;

use clap::Parser;

/// Repairs of stale records on LineageKV's cases, and the speed of a persistent update.
#[derive(Parser)]
#[command(name = "lineage")]
pub struct Options {
    /// LineageKV's cases: JSON lines.
    #[arg(long, num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// The model: a name, file or folder.
    #[arg(long, default_value = "qwen2.5-coder-0.5b")]
    pub model: String,
    /// Only the first cases of each file.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Tell every answer on stderr.
    #[arg(long)]
    pub verbose: bool,
    /// Measure the speed of a persistent update instead.
    #[arg(long)]
    pub curve: bool,
    /// Tokens of passages, for the curve; as many as the model has positions for.
    #[arg(long, value_delimiter = ',', default_values = ["2048", "6700", "32000"])]
    pub tokens: Vec<usize>,
    /// Places at which a passage is replaced, for the curve.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub edits: u16,
    /// A Python interpreter that can import `llama_cpp`: its prompt cache is timed, too.
    #[arg(long)]
    pub peer_python: Option<PathBuf>,
    /// Where the picture of the curve goes (SVG).
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/lineage.svg"))]
    pub plot: PathBuf,
    /// Threads of a forward pass, of both engines.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Given by `cargo bench`; without meaning here.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}
