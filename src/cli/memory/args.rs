//! What may be typed behind `perennial memory`?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use perennial::memory::{RecallBy, Retain};

use super::super::args::{DEFAULT_MODEL, EmbedderArgs, ModelArgs};
use super::super::values;

const EXAMPLES: &str = "\
Examples:
  perennial memory store --state ./mem --namespace team --writer ada \"The library opens at nine.\"
  perennial memory store --state ./mem - < turns.jsonl
  perennial memory recall --state ./mem \"When does the library open?\"
  perennial memory answer --state ./mem --as bob \"When does the library open?\"
  perennial memory grant --state ./mem team bob
  perennial memory retain --state ./mem \"30 d\"
  perennial memory forget --state ./mem --writer ada

Storing asks no language model. What stands of what was stored, how it is scored, and what rights
mean: docs/memory.md. One process at a time uses a state folder.";

/// Arguments of `memory`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MemoryArgs {
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: MemoryCommand,
}

/// What can be done with a memory.
#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// Store texts; prints their keys.
    Store(StoreArgs),
    /// Find what is nearest to a question.
    Recall(RecallArgs),
    /// Answer a question from what is nearest to it.
    Answer(AnswerArgs),
    /// List what stands.
    List(ListArgs),
    /// Erase records, with all that remembers them; prints the receipt.
    Forget(ForgetArgs),
    /// Let a reader read a namespace.
    Grant(GrantArgs),
    /// Take a reader's right back.
    Revoke(GrantArgs),
    /// Say, or set, how much of each namespace is kept.
    Retain(RetainArgs),
    /// Say how much there is, by namespace.
    Stats(StatsArgs),
    /// Choose the heads of a model by which entries are recalled with --by latent.
    Calibrate(CalibrateArgs),
}

/// Where a memory is, and how it is told of.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The folder that holds the memory; it is made where there is none.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: PathBuf,

    /// Write JSON, one object a line, to standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// Where models are kept. By default $PERENNIAL_CACHE, else the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,

    /// What embeds texts.
    #[command(flatten)]
    pub(crate) embedder: EmbedderArgs,
}

/// Arguments of `memory store`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory store --state ./mem \"The library opens at nine.\" \"A card costs 5 crowns.\"
  perennial memory store --state ./mem --key price --supersedes old-price \"A card costs 6 crowns.\"
  perennial memory store --state ./mem - < turns.jsonl

With `-`, standard input has one JSON object a line; all fields but text may be left out, and then are
as the options say:
  {\"text\": \"…\", \"key\": \"…\", \"namespace\": \"…\", \"session\": \"…\", \"writer\": \"…\", \"title\": \"…\",
   \"pinned\": true, \"supersedes\": [\"…\"], \"updated_at\": 1714550400000}
A line that is refused is told with its number and reason, and the others are stored; the exit code is 1
then. With --json, each text stored is {\"event\": \"stored\", key}, each line refused {\"event\": \"refused\",
line, reason}.")]
pub(crate) struct StoreArgs {
    /// What is said; `-` reads JSON lines.
    #[arg(required = true, value_name = "TEXT…|-")]
    pub(crate) texts: Vec<String>,

    /// Where it belongs; `default` unless told.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// The session in which it is said.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,

    /// Who says it.
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Option<String>,

    /// Its key, of one text: what stands there is replaced. By default it follows from the text.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,

    /// Keep it before all that is not pinned.
    #[arg(long)]
    pub(crate) pin: bool,

    /// A key of the same namespace that this makes obsolete; may be repeated.
    #[arg(long, value_name = "KEY")]
    pub(crate) supersedes: Vec<String>,

    /// Where the memory is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// What of a memory is seen.
#[derive(Clone, Debug, Args)]
pub(crate) struct SeenArgs {
    /// Who reads: only what is granted to them. By default the owner, who reads everything.
    #[arg(long = "as", value_name = "READER")]
    pub(crate) reader: Option<String>,

    /// Of this namespace alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// What is asked of a memory.
#[derive(Clone, Debug, Args)]
pub(crate) struct AskedArgs {
    /// The question.
    #[arg(value_name = "QUESTION")]
    pub(crate) question: String,

    /// How many entries.
    #[arg(short = 'k', long, value_parser = values::at_least_one, value_name = "N", default_value = "5")]
    pub(crate) best: usize,

    /// Who sees what.
    #[command(flatten)]
    pub(crate) seen: SeenArgs,

    /// Entries whose vectors have this cosine or more are one: the newest stands for all.
    #[arg(long, value_name = "COSINE")]
    pub(crate) fold: Option<f32>,

    /// By what entries are scored: `text` (vectors and words), `similarity`, `words`, `latent` (what a
    /// model reads in question and entries), or `both` (text, then latent for the best).
    #[arg(long, value_name = "WHAT", default_value = "text")]
    pub(crate) by: RecallBy,

    /// For latent and both: the heads of the model, as `memory calibrate` wrote them. By default those
    /// that are known of it.
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
}

/// Arguments of `memory recall`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory recall --state ./mem \"When does the library open?\"
  perennial memory recall --state ./mem -k 3 --as bob --explain \"When does the library open?\"
  perennial memory recall --state ./mem --by latent --model smollm2-135m \"When does the library open?\"

With --json, each entry is one object: event: recalled, rank, score, similarity, words, latent, entry {key,
namespace, session, writer, title, text, updated_at_ms, is_pinned, sources}.")]
pub(crate) struct RecallArgs {
    /// What is asked.
    #[command(flatten)]
    pub(crate) asked: AskedArgs,

    /// Show where each score comes from.
    #[arg(long)]
    pub(crate) explain: bool,

    /// For --by latent and both: the model that reads question and entries. Entries are read once, and
    /// what is kept of them is in the state folder.
    #[arg(long, value_name = "NAME|FILE|FOLDER", default_value = DEFAULT_MODEL)]
    pub(crate) model: String,

    /// Where the memory is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Arguments of `memory answer`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory answer --state ./mem \"When does the library open?\"
  perennial memory answer --state ./mem --as bob --model smollm2-135m \"When does the library open?\"

With --json, the answer is one object: event: answer, question, text, sources [key], entries [key].")]
pub(crate) struct AnswerArgs {
    /// What is asked.
    #[command(flatten)]
    pub(crate) asked: AskedArgs,

    /// Most tokens of the answer.
    #[arg(long, value_parser = values::at_least_one, value_name = "TOKENS", default_value = "128")]
    pub(crate) max_tokens: usize,

    /// The folder that holds the memory.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: PathBuf,

    /// Write one JSON object to standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Arguments of `memory list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory list --state ./mem
  perennial memory list --state ./mem --as bob --namespace team --json

With --json, each entry is one object: event: entry, entry {key, namespace, session, writer, title,
text, updated_at_ms, is_pinned, sources}.")]
pub(crate) struct ListArgs {
    /// Who sees what.
    #[command(flatten)]
    pub(crate) seen: SeenArgs,

    /// Of this session alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,

    /// Of this writer alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Option<String>,

    /// Where the memory is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Arguments of `memory forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory forget --state ./mem --key price
  perennial memory forget --state ./mem --session monday --json")]
pub(crate) struct ForgetArgs {
    /// What is forgotten.
    #[command(flatten)]
    pub(crate) by: By,

    /// Where the memory is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Which records.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct By {
    /// The record of this key.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,

    /// All of a session.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,

    /// All of a writer.
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Option<String>,

    /// All of a namespace, and who may read it.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// Arguments of `memory grant` and `memory revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory grant --state ./mem team bob
  perennial memory revoke --state ./mem team bob

A right counts for whoever names themselves with --as: the program authenticates nobody.")]
pub(crate) struct GrantArgs {
    /// The namespace, which need not hold anything yet.
    #[arg(value_name = "NAMESPACE")]
    pub(crate) namespace: String,

    /// Who.
    #[arg(value_name = "READER")]
    pub(crate) reader: String,

    /// Where the memory is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Arguments of `memory retain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory retain --state ./mem            what is kept
  perennial memory retain --state ./mem 1000       the pinned, then the newest
  perennial memory retain --state ./mem \"30 d\"     what came within 30 days of the newest
  perennial memory retain --state ./mem all

What is not retained is not recalled, and comes back where more is; to erase it, forget it.")]
pub(crate) struct RetainArgs {
    /// A number of entries, an age, or `all`.
    #[arg(value_name = "N|AGE|all", value_parser = retained)]
    pub(crate) retain: Option<Retained>,

    /// Where the memory is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// What may be set: a bound, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retained(pub(crate) Option<Retain>);

fn retained(text: &str) -> Result<Retained, String> {
    match text {
        "all" => Ok(Retained(None)),
        other => {
            let retain = other.parse();
            retain
                .map(|retain| Retained(Some(retain)))
                .map_err(|expected: String| format!("{expected}, or all"))
        }
    }
}

/// Arguments of `memory stats`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory stats --state ./mem
  perennial memory stats --state ./mem --json")]
pub(crate) struct StatsArgs {
    /// Where the memory is.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Arguments of `memory calibrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory calibrate --model ./my-model --pairs pairs.jsonl --output heads.json
  perennial memory recall --state ./mem --by latent --model ./my-model --profile heads.json \"When does the library open?\"

Each line of the pairs is {\"question\": \"…\", \"text\": \"…\", \"title\": \"…\"}: a question, and the text that
answers it; the title may be left out. Sixty pairs of different texts are enough. With --json, what comes
of it is one object: event: calibrated, model, weights, pairs, mrr, heads [{layer, head, mrr}].")]
pub(crate) struct CalibrateArgs {
    /// The model: a known name, a GGUF file or a folder of safetensors.
    #[arg(long, value_name = "NAME|FILE|FOLDER", default_value = DEFAULT_MODEL)]
    pub(crate) model: String,

    /// Questions with the texts that answer them, as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: PathBuf,

    /// Where the profile is written; standard output unless told.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// How many heads are chosen.
    #[arg(long, value_parser = values::at_least_one, value_name = "N", default_value = "8")]
    pub(crate) heads: usize,

    /// Write what came of it as one JSON object to standard output.
    #[arg(long, requires = "output")]
    pub(crate) json: bool,

    /// Where models are kept. By default $PERENNIAL_CACHE, else the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,
}
