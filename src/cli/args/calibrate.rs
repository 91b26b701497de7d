//! What may be typed of calibration?

use std::path::PathBuf;

use clap::Args;
use perennial::model::arithmetic::Arithmetic;

use super::super::values::{self, Size};
use super::DEFAULT_MODEL;

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file has one object a line: a passage with its questions, where what stands before the / of
its id is its article, and gold answers stand in the text word for word:

  {\"id\": \"Oslo/0\", \"title\": \"Oslo\", \"text\": \"Oslo was founded in 1040.\",
   \"questions\": [{\"question\": \"When was Oslo founded?\", \"answers\": [\"1040\"]}]}

or a question with passages of its own:

  {\"id\": \"r1\", \"question\": \"…?\", \"answers\": [\"yes\"],
   \"passages\": [{\"title\": \"…\", \"text\": \"…\", \"supporting\": true}, …]}

Examples:
  perennial calibrate --model ./my-model.gguf --data squad.jsonl
  perennial calibrate --model ./my-model.gguf --data squad.jsonl --articles 8     sooner, rougher
  perennial calibrate --data handbook.jsonl --out handbook.json                   for some views:
  perennial watch handbook --contexts questions.jsonl --policy bounded:0.05 --profile handbook.json")]
pub(crate) struct CalibrateArgs {
    /// The model: a known name (see `perennial models`), a GGUF file, or a folder of safetensors.
    #[arg(long, value_name = "NAME|FILE|FOLDER", default_value = DEFAULT_MODEL)]
    pub(crate) model: String,

    /// Passages with questions and their gold answers, as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,

    /// Where the profile goes. By default to where it is found whenever the model is opened: beside the
    /// folder in which models are kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Most articles (or questions with passages of their own), taken from all of the file alike.
    #[arg(long, value_parser = values::measured, value_name = "N", default_value = "22")]
    pub(crate) articles: usize,

    /// Most passages of an article that are documents; the others may come by an edit.
    #[arg(long, value_parser = values::measured, value_name = "N", default_value = "14")]
    pub(crate) documents: usize,

    /// Most questions about an article.
    #[arg(long, value_parser = values::measured, value_name = "N", default_value = "40")]
    pub(crate) questions: usize,

    /// Edits of each article: of a fact, by a sentence, by a passage of the same article, by one of
    /// another, and without a passage, in turn.
    #[arg(long, value_parser = values::measured, value_name = "N", default_value = "25")]
    pub(crate) edits: usize,

    /// Most tokens of an answer.
    #[arg(long, value_parser = values::measured, value_name = "N", default_value = "24")]
    pub(crate) max_tokens: usize,

    /// The bound, as of `--policy bounded:REGRET`, at which it is said what is read and missed.
    #[arg(long, value_parser = values::bound, value_name = "REGRET", default_value = "0.05")]
    pub(crate) bound: f32,

    /// Where chance begins, by which edits are drawn.
    #[arg(long, value_name = "N", default_value = "7")]
    pub(crate) seed: u64,

    /// Write one JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// What the model multiplies in.
    #[arg(long, value_name = "int16|int8", default_value = "int16")]
    pub(crate) arithmetic: Arithmetic,

    /// Threads that compute. By default one for each core.
    #[arg(long, value_parser = values::at_least_one, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Memory for what was read of the documents, as 512M or 2GiB.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) memory: Size,

    /// Where models are kept, and profiles beside them. By default $PERENNIAL_CACHE, else the user's cache
    /// folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,
}
