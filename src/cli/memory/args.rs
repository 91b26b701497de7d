//! What may be typed behind `perennial memory`?

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use perennial::Scope;
use perennial::memory::{RecallBy, Retain};
use perennial::model::kv::coding::Coding;

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
  perennial memory export --state ./mem --as bob --sign ./key bob.parcel
  perennial memory import --state ./other --trust KEY bob.parcel

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
    /// Write what stands to a parcel: entries, and what a model has read of them.
    Export(ExportArgs),
    /// Store the entries of a parcel, and keep what a model has read of them.
    Import(ImportArgs),
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

With `-`, standard input has one JSON object a line; all fields but text may be left out, and then
are as the options say:
  {\"text\": \"…\", \"key\": \"…\", \"namespace\": \"…\", \"session\": \"…\", \"writer\": \"…\", \"title\": \"…\",
   \"pinned\": true, \"supersedes\": [\"…\"], \"updated_at\": 1714550400000}
A line that is refused is told with its number and reason, and the others are stored; the exit
code is 1 then. With --json, each text stored is {\"event\": \"stored\", key}, each line refused
{\"event\": \"refused\", line, reason}.")]
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
  perennial memory recall --state ./mem --by latent --model smollm2-135m \"When does it open?\"

With --json, each entry is one object: event: recalled, rank, score, similarity, words, latent,
entry {key, namespace, session, writer, title, text, updated_at_ms, is_pinned, sources}.")]
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

With --json, the answer is one object: event: answer, question, text, sources [key], entries
[key], exact, n_encoded, n_forwarded, n_from_scratch (tokens), seconds.")]
pub(crate) struct AnswerArgs {
    /// What is asked.
    #[command(flatten)]
    pub(crate) asked: AskedArgs,

    /// Most tokens of the answer.
    #[arg(long, value_parser = values::at_least_one, value_name = "TOKENS", default_value = "128")]
    pub(crate) max_tokens: usize,

    /// What each passage may see when it is read: causal (all before it: the plain prompt), window:N
    /// (about N to 2N tokens before it), independent (nothing but itself), boundary:N (nothing, but its
    /// first N tokens all before them). What came by parcels was read entry by entry: over several
    /// entries only independent and boundary:N find all of it.
    #[arg(long, value_name = "SCOPE", default_value = "causal")]
    pub(crate) scope: Scope,

    /// Read the texts themselves where what came by a parcel was not audited.
    #[arg(long)]
    pub(crate) exact: bool,

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
text, updated_at_ms, is_pinned, sources}, provenance (of what came by a parcel).")]
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

/// Arguments of `memory export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory export --state ./mem --as bob bob.parcel
  perennial memory export --state ./mem --namespace team --sign ./key --expires \"30 d\" team.parcel
  perennial memory export --state ./mem --texts-only team.parcel
  perennial memory export --state ./mem --coding t4 team.parcel

A parcel holds the texts as they are, and what the model has read of them is as good as the texts:
give it to those only who may read them. A key is made with (umask 077; openssl rand -hex 32 >
FILE); the public one, by which others know you, is printed. With --json, one object: event:
exported, parcel {root, signed_by, n_entries, n_fragments, n_named, n_tokens, n_bytes,
coding}.")]
pub(crate) struct ExportArgs {
    /// The file to be written.
    #[arg(value_name = "OUT.parcel")]
    pub(crate) out: PathBuf,

    /// Who gets what.
    #[command(flatten)]
    pub(crate) seen: SeenArgs,

    /// Sign it with the secret Ed25519 key in this file: 64 hexadecimal digits.
    #[arg(long, value_name = "FILE")]
    pub(crate) sign: Option<PathBuf>,

    /// Who you are, for who receives it.
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Option<String>,

    /// How long it may be received, as "30 d" or "12 h"; for ever unless told.
    #[arg(long, value_parser = perennial_views::pace::parse_duration, value_name = "AGE")]
    pub(crate) expires: Option<Duration>,

    /// The entries alone, without what a model has read of them: no model is opened.
    #[arg(long)]
    pub(crate) texts_only: bool,

    /// In fewer bytes, from which what the model has read comes back nearly as it was: k8v4 (a
    /// 2.5th), t4 (a 4th, and nearer; the model first reads some 5,700 tokens, and so does who
    /// imports it), t8 (an 8th, further off), q8 (half) or q4 (a 3.6th; mostly too far
    /// off, and left out then).
    #[arg(long, value_name = "CODING", conflicts_with = "texts_only")]
    pub(crate) coding: Option<Coding>,

    /// The folder that holds the memory.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: PathBuf,

    /// Write one JSON object to standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// Which model reads the texts.
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// How much of a parcel is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    /// That all came as it was written. The entries are stored; no model is opened.
    Digests,
    /// The same, and that a key given with --trust signed it.
    Signature,
    /// That all is of this model, and each fragment of the text it is said to be of. Answers over
    /// fragments are provisional.
    Ids,
    /// The same, and every fragment is read again and compared in every bit: answers are exact.
    Audit,
}

/// Arguments of `memory import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial memory import --state ./mem --trust KEY bob.parcel
  perennial memory import --state ./mem --verify audit bob.parcel
  perennial memory import --state ./mem --verify digests --namespace bob bob.parcel
  perennial memory import --state ./mem --url http://host:7070 --from-memory team --as bob

From a server of `perennial serve` only what is missing here is fetched; a transfer that breaks
off is taken up where it ended. All of a parcel is checked before anything of it is stored. With
--trust, only what one of these keys signed is taken, however much is verified. With --json, one
object: event: imported, parcel {root, writer, signed_by, n_entries, n_audited, n_stand_ins,
n_left_out}.")]
pub(crate) struct ImportArgs {
    /// The parcel.
    #[arg(
        value_name = "IN.parcel",
        required_unless_present = "url",
        conflicts_with = "url"
    )]
    pub(crate) parcel: Option<PathBuf>,

    /// Where a memory is served.
    #[command(flatten)]
    pub(crate) from: FromServer,

    /// Take only what this public key signed: 64 hexadecimal digits. May be repeated.
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    pub(crate) trust: Vec<PublicKey>,

    /// How much is checked.
    #[arg(long, value_name = "LEVEL", default_value = "ids")]
    pub(crate) verify: Verify,

    /// With --verify ids: read again what came of so many entries, drawn by chance, and refuse the parcel
    /// where one is not what it says.
    #[arg(long, value_parser = values::at_least_one, value_name = "N")]
    pub(crate) sample: Option<usize>,

    /// Store all of it in this namespace.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Where something else is stored under a key of the parcel, replace it.
    #[arg(long)]
    pub(crate) replace: bool,

    /// The folder that holds the memory; it is made where there is none.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: PathBuf,

    /// Write one JSON object to standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// Which model has read the texts.
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// A memory of a running server.
#[derive(Debug, Args)]
#[command(next_help_heading = "From a server")]
pub(crate) struct FromServer {
    /// Where the server is, instead of a file.
    #[arg(long, value_name = "URL", requires = "from_memory")]
    pub(crate) url: Option<String>,

    /// The memory's name there.
    #[arg(long, value_name = "NAME", requires = "url")]
    pub(crate) from_memory: Option<String>,

    /// For whom: only what is granted to them there. By default all that the memory has.
    #[arg(long = "as", value_name = "READER", requires = "url")]
    pub(crate) reader: Option<String>,

    /// In fewer bytes: k8v4, t4, t8, q8 or q4, as of `memory export`.
    #[arg(long, value_name = "CODING", requires = "url")]
    pub(crate) coding: Option<Coding>,

    /// Of this namespace there alone.
    #[arg(long, value_name = "NAME", requires = "url")]
    pub(crate) from_namespace: Option<String>,

    /// A file with the token that the server wants, and nothing else.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,

    /// A PEM file of authorities to believe for the server instead of the usual ones.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) server_ca_file: Option<PathBuf>,
}

/// A public key, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(pub(crate) [u8; 32]);

fn public_key(text: &str) -> Result<PublicKey, String> {
    super::hand_over::key_of(text).map(PublicKey)
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
  perennial memory recall --state ./mem --by latent --model ./my-model --profile heads.json \"When?\"

Each line of the pairs is {\"question\": \"…\", \"text\": \"…\", \"title\": \"…\"}: a question, and the text
that answers it; the title may be left out. Sixty pairs of different texts are enough. With
--json, what comes of it is one object: event: calibrated, model, weights, pairs, mrr, heads
[{layer, head, mrr}].")]
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
