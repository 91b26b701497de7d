//! What may be typed of models, and of what embeds texts?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use perennial::ask::{Coding, Currency, Money};
use perennial::model::arithmetic::Arithmetic;
use perennial::model::total_memory;

use super::super::values::{self, Size};

/// The model that answers unless another is named.
pub(crate) const DEFAULT_MODEL: &str = "qwen2.5-coder-0.5b";

/// What `watch` and `explain` take instead, where the machine has the memory for it.
pub(crate) const BEST_MODEL: &str = "qwen2.5-coder-1.5b";

/// Bytes of memory of a machine that has enough for the best model: its weights, what is read of documents, and
/// room for what else runs there.
const MEMORY_FOR_BEST: u64 = 7 << 30;

/// Which model, and what it may use.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// A known name (see `perennial models`), a GGUF file, a folder of safetensors, or the address of
    /// a server that speaks OpenAI's interface, as http://localhost:8000/v1#name. By default
    /// qwen2.5-coder-0.5b; `watch` and `explain` take qwen2.5-coder-1.5b on a machine with 8 GiB of memory.
    #[arg(long, value_name = "NAME|FILE|FOLDER|URL")]
    pub(crate) model: Option<String>,

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

    /// Of a model of this machine: a file of `perennial calibrate`, by which `--policy bounded` guesses
    /// which answers an edit concerns. By default what was calibrated on this machine, else what the
    /// program knows.
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,

    /// Threads that compute. By default one for each core.
    #[arg(long, value_parser = values::at_least_one, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Memory for what was read of the documents, as 512M or 2GiB; what does not fit is
    /// read again when it is needed. Provisional answers hold more until they are exact.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) memory: Size,

    /// Of models of this machine, for views whose first answer may be provisional (`--policy eventual` or
    /// `bounded`): keep what does not fit into --memory in fewer bytes, as k8v4 (1 of 2.5), t4 (1 of 4) or t8
    /// (1 of 8), in up to half of it. A question about it is answered over that at once, and exactly afterwards.
    /// Without, it is read again, or from --disk. [default: not kept]
    #[arg(long, value_name = "k8v4|t4|t8")]
    pub(crate) warm: Option<Coding>,

    /// Where models are kept. By default $PERENNIAL_CACHE, else the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,

    /// What embeds texts.
    #[command(flatten)]
    pub(crate) embedder: EmbedderArgs,
}

impl ModelArgs {
    /// The model that is named, else the default.
    pub(crate) fn spec(&self) -> &str {
        self.model.as_deref().unwrap_or(DEFAULT_MODEL)
    }

    /// The same options, where the best model is taken if none is named and the machine has the memory.
    pub(crate) fn or_best(&self) -> Self {
        let best = best_for(total_memory()).map(str::to_owned);
        Self {
            model: self.model.clone().or(best),
            ..self.clone()
        }
    }
}

/// The best model, where a machine with so many bytes of memory has enough for it.
fn best_for(memory: Option<u64>) -> Option<&'static str> {
    memory
        .filter(|bytes| *bytes >= MEMORY_FOR_BEST)
        .map(|_| BEST_MODEL)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_model_is_taken_where_the_machine_has_the_memory() {
        // What a machine says it has is less than what was bought.
        let of_mib = |mib: u64| best_for(Some(mib << 20));
        assert_eq!(of_mib(7_700), Some(BEST_MODEL));
        assert_eq!(of_mib(3_900), None);
        assert_eq!(best_for(None), None);
        let known = |name| perennial::model::locator::known(name).is_some();
        assert!(known(BEST_MODEL) && known(DEFAULT_MODEL));
    }
}
