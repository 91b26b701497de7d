//! What may be typed of models, and of what embeds texts?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use perennial::ask::{Currency, Money};
use perennial::model::arithmetic::Arithmetic;

use super::super::values::{self, Size};

/// The model that answers unless another is named.
pub(crate) const DEFAULT_MODEL: &str = "qwen2.5-coder-0.5b";

/// Which model, and what it may use.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A known name (see `perennial models`), a GGUF file, a folder of safetensors, or the address of
    /// a server that speaks OpenAI's interface, as http://localhost:8000/v1#name.
    #[arg(long, value_name = "NAME|FILE|FOLDER|URL", default_value = DEFAULT_MODEL)]
    pub(crate) model: String,

    /// Of a model behind HTTP: a file with the key that its server wants. By default
    /// $PERENNIAL_API_KEY, if that is set.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Of a model behind HTTP: a PEM file of authorities to believe instead of the usual ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Of a model behind HTTP: tokens that it attends to, where its server does not say.
    #[arg(long, value_parser = values::at_least_one, value_name = "N")]
    pub(crate) context_window: Option<usize>,

    /// Of a model behind HTTP that scores prompts: passages of an answer that are left out, one at a
    /// time, to measure how much it depends on each. That is one more call for each of them, and one, made
    /// when nothing fresh is to do. [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) leave_one_out: Option<usize>,

    /// What the tokens of a model behind HTTP cost.
    #[command(flatten)]
    pub(crate) prices: PriceArgs,

    /// What a model of this machine multiplies in: `int16`, next to f32 in every answer, or `int8`,
    /// as llama.cpp does: sooner, and further from it. What was read and answered in one is kept
    /// apart from the other. [default: int16]
    #[arg(long, value_name = "int16|int8")]
    pub(crate) arithmetic: Option<Arithmetic>,

    /// Threads that compute. By default one for each core.
    #[arg(long, value_parser = values::at_least_one, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Memory for what was read of the documents, as 512M or 2GiB; what does not fit is
    /// read again when it is needed. Provisional answers hold more until they are exact.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) memory: Size,

    /// Where models are kept. By default $PERENNIAL_CACHE, else the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,

    /// What embeds texts.
    #[command(flatten)]
    pub(crate) embedder: EmbedderArgs,
}

/// What the tokens of a model behind HTTP cost.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct PriceArgs {
    /// Of a model behind HTTP: what a million tokens of prompts cost, as 0.15. What is spent is told
    /// then, and --cost-per-hour bounds it.
    #[arg(long, requires = "price_output", value_name = "AMOUNT")]
    pub(crate) price_input: Option<Money>,

    /// The same of tokens of prompts that the server still knew. By default as much as others.
    #[arg(long, requires = "price_input", value_name = "AMOUNT")]
    pub(crate) price_cached_input: Option<Money>,

    /// The same of tokens that it writes.
    #[arg(long, requires = "currency", value_name = "AMOUNT")]
    pub(crate) price_output: Option<Money>,

    /// The currency of these prices, as USD.
    #[arg(long, requires = "price_input", value_name = "LETTERS")]
    pub(crate) currency: Option<Currency>,
}

/// What embeds texts.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Embedder")]
pub(crate) struct EmbedderArgs {
    /// What embeds texts, instead of the model of this machine: the address of a server that speaks
    /// OpenAI's interface, as http://localhost:8000/v1#name.
    #[arg(long, value_name = "URL")]
    pub(crate) embedder: Option<String>,

    /// A file with the key that this server wants. By default $PERENNIAL_EMBEDDER_KEY, if that is
    /// set.
    #[arg(long, requires = "embedder", value_name = "FILE")]
    pub(crate) embedder_key_file: Option<PathBuf>,

    /// A PEM file of authorities to believe instead of the usual ones.
    #[arg(long, requires = "embedder", value_name = "FILE")]
    pub(crate) embedder_ca_file: Option<PathBuf>,

    /// Most requests at the same time. [default: 8]
    #[arg(long, requires = "embedder", value_parser = values::at_least_one, value_name = "N")]
    pub(crate) embedder_calls_at_once: Option<usize>,

    /// Most requests of any minute.
    #[arg(long, requires = "embedder", value_parser = clap::value_parser!(u64).range(1..),
          value_name = "N")]
    pub(crate) embedder_requests_per_minute: Option<u64>,

    /// Most tokens of any minute.
    #[arg(long, requires = "embedder", value_parser = clap::value_parser!(u64).range(1..),
          value_name = "N")]
    pub(crate) embedder_tokens_per_minute: Option<u64>,
}

/// Arguments of `models`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial models
  perennial models --cache /data/perennial
  perennial watch --model ./my-model.gguf notes \"…\"     any other GGUF file
  perennial models probe http://localhost:8000/v1        what a server of models can do")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ModelsArgs {
    /// Something else than the list.
    #[command(subcommand)]
    pub(crate) command: Option<ModelsCommand>,

    /// Where models are kept. By default $PERENNIAL_CACHE, else the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,
}

/// What `models` does besides listing them.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Ask a server that speaks OpenAI's interface what it can do, by some ten short requests.
    Probe(ProbeArgs),
}

/// Arguments of `models probe`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial models probe http://localhost:8000/v1
  perennial models probe https://host/v1#name --key-file ./key --json")]
pub(crate) struct ProbeArgs {
    /// Its address, with the name of a model where it serves several: http://host:port/v1#name
    #[arg(value_name = "URL")]
    pub(crate) address: String,

    /// A file with the key that the server wants. By default $PERENNIAL_API_KEY, if that is set.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// A PEM file of authorities to believe instead of the usual ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
