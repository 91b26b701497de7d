//! What may be typed for `watch` and `explain`?

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ColorChoice};
use perennial::ask::Money;
use perennial::{Delivery, Order, Policy, Repair, Scope};
use perennial_views::pace::parse_duration;

use super::super::values::{self, Size};
use super::{LogArgs, ModelArgs};

const WATCH_EXAMPLES: &str = "\
Examples:
  perennial watch notes \"When do we open on Sundays?\"
  perennial watch notes wiki \"Who is on call?\" -q \"What changed in the release?\"
  perennial watch --state ./state notes \"When do we open?\"
  perennial watch --record session.rec notes \"When do we open?\"
  perennial watch docs.jsonl --contexts questions.jsonl --json
  perennial watch --state ./state kafka://localhost:9092/support_docs \"When do we open?\" \\
      --sink kafka://localhost:9092/answers
  perennial watch --once --model smollm2-135m notes \"What does a ticket cost?\"
  perennial watch --listen 127.0.0.1:7070 \"What does a ticket cost?\"
  curl '127.0.0.1:7070/v1/streams/documents?wait=60' --data-binary @docs.jsonl

Paths are folders (files named .md .markdown .txt .text .rst .org .adoc .html .docx .pdf, watched
for changes) and .jsonl files of documents (followed as they grow; `-` is standard input):
  {\"upsert\": {\"key\": \"k1\", \"text\": \"…\", \"title\": \"…\"}}   {\"delete\": {\"key\": \"k1\"}}
All other fields are kept with the document as columns, and so are a table's other columns, what a
message says of itself, and a file's path, modified, size and front matter (YAML).
.csv, .tsv and .parquet files are tables, read again when they are written; a row that is gone is
deleted. A field of a structure in Parquet is named by its path (--columns key=id,text=doc.body).
Of these, .jsonl, .csv and .tsv may be packed (.gz, .zst).
A topic is kafka://SERVERS/TOPIC. Its messages are the same JSON (`key` may be left out, for the
message has one; no payload is a deletion); with ?format=text the payload is the text, with
?format=debezium&key=ID&text=BODY it is a change event of a table with these columns.

With --listen, the same lines may be posted to /v1/streams/documents, whole requests at a time.
The reply names the lines refused and a token; GET /v1/tokens/TOKEN says whether the change is
visible: in a complete epoch, and with --state for good. ?wait=SECONDS, on either, waits for it.
Keys of what was posted stand behind http# in answers. Bodies may be packed (Content-Encoding:
gzip, zstd), up to 16 MiB. A --sink of http:// or https:// gets each epoch as POST, tried until the
answer is 2xx; a receiver that skips an Idempotency-Key it has seen gets each part once.

With --json, standard output has one object a line, told apart by \"event\":
  epoch     epoch, documents [{key, change: inserted|updated|deleted}], n_changes,
            n_healed, n_documents, rungs {keep, skip, patch, verify, append, rewrite,
            regenerate, failed}, audits, work,
            elapsed_ms; it follows the answers of its epoch
            (with --deliver each, all that were taken since the one before)
  answer    view, context, question, epoch, change: new|changed|stands|gone, text, old_text,
            error, finish: stop|length, rung, exact, memoised, drift, regret, early,
            passages_read, passages_of (fewer are read where they exceed the budget),
            sub_paragraphs [{text, sources [{document, ordinal, share}]}],
            evidence: attention|leave-one-out|lexical, work, elapsed_ms
  rejected  source, place, key, reason
  notice    source, message
  failed    source (none where it is no source that failed), message, hint; the last line, of
            whatever ends it without success
  progress  context, stage: embedding|encoding|writing, done, total, text
            (only with --progress)
  plan      plan, model, context_window, documents, rejected, passages, tokens, budget,
            budget_asked, selects;
            of `perennial explain`, which says nothing else
`work` counts tokens: {forwarded, from_scratch, encoded, prompt, draft, decoded, passes, cached,
cost}; cached are those that a server still knew; cost is {amount, currency} of a model with
prices.

Ctrl-C ends the watch with exit code 0 (130 if it comes before the first answer).";

/// Arguments of `watch` and `explain`.
#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub(crate) struct WatchArgs {
    /// Folders, .jsonl files, .csv and .parquet tables, and topics (kafka://SERVERS/TOPIC); then the question. With --question or --contexts, all are
    /// paths, but a last one that reads like a question (it has blanks or ends in `?`, and
    /// no file has that name) is one.
    #[arg(required_unless_present = "listen", value_name = "PATH… QUESTION")]
    pub(crate) paths_and_question: Vec<String>,

    /// Of folders, what is a document, instead of those of the usual extensions: a pattern as of
    /// .gitignore, such as '*.rs' or 'docs/**'. May be repeated, or hold several with commas between.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,

    /// Of folders, what is no document, or not looked into. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// Read what .gitignore and .ignore files name, too.
    #[arg(long)]
    pub(crate) no_ignore: bool,

    /// Take the documents of a folder or .jsonl file that holds nothing any more for deleted. Else they
    /// are kept until it holds something: a disk may not be mounted.
    #[arg(long)]
    pub(crate) believe_empty: bool,

    /// A further question; may be repeated.
    #[arg(short, long = "question", value_name = "TEXT")]
    pub(crate) questions: Vec<String>,

    /// A .jsonl file of questions to answer and keep, {"key": …, "text": …} a line; or a topic; or
    /// `http`, with --listen: those that are posted to /v1/streams/questions.
    #[arg(long, value_name = "FILE|TOPIC|http")]
    pub(crate) contexts: Option<String>,

    /// Take in documents that are posted to this address, HOST:PORT, beside or instead of paths
    /// (port 0 takes one that is free, and tells it). But for localhost, --listen-token-file is
    /// needed.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,

    /// A file with a secret of 16 characters or more, which every request must then bring:
    /// `Authorization: Bearer SECRET`.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub(crate) listen_token_file: Option<PathBuf>,

    /// Which columns of tables, and which fields of JSON lines, make a document, as
    /// key=id,text=body,title=subject; by default those of these names. Fields are key, text, title and updated_at.
    #[arg(long, value_name = "FIELD=COLUMN,…")]
    pub(crate) columns: Option<String>,

    /// What stands between the values of .csv and .tsv tables: a character, or `tab`. By default a comma,
    /// in .tsv a tabulator.
    #[arg(long, value_name = "CHARACTER")]
    pub(crate) delimiter: Option<String>,

    /// The encoding of .csv and .tsv tables without a byte-order mark, as windows-1252 or utf-16le. By
    /// default UTF-8.
    #[arg(long, value_name = "NAME")]
    pub(crate) encoding: Option<String>,

    /// Deliver the answers here, too: a file that JSON lines are appended to, a topic, or a URL
    /// (http:// or https://) that they are posted to. With --state each epoch is delivered once,
    /// whatever crashes. May be repeated.
    #[arg(long = "sink", value_name = "FILE|TOPIC|URL")]
    pub(crate) sinks: Vec<String>,

    /// A file with the secret that posted answers are signed with, as whsec_… of Standard Webhooks
    /// or any text of 16 characters or more.
    #[arg(long, value_name = "FILE", requires = "sinks")]
    pub(crate) webhook_secret_file: Option<PathBuf>,

    /// A file that takes the rows that a URL or topic refuses for good (as with status 422, or since a record
    /// is too large), with the reason: the others are delivered then. Without it, what is refused is tried
    /// again, and all behind it waits.
    #[arg(long, value_name = "FILE", requires = "sinks")]
    pub(crate) dead_letters: Option<PathBuf>,

    /// A setting of Kafka clients, by librdkafka's names, such as
    /// security.protocol=SASL_SSL; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) kafka: Vec<String>,

    /// A file of such settings, one a line: the place for passwords.
    #[arg(long, value_name = "FILE")]
    pub(crate) kafka_file: Option<PathBuf>,

    /// Answer and exit.
    #[arg(long)]
    pub(crate) once: bool,

    /// Keep documents, answers and what they cost in this folder: started again, the watch
    /// goes on where it ended, and no answer that still stands is written again.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,

    /// With --state: disk for what was read of the documents besides, as 512M or 8GiB. What is
    /// there is not read again by the model, neither when --memory is short nor after a restart.
    /// 0 for none.
    #[arg(long, requires = "state", value_name = "SIZE", default_value = "4GiB")]
    pub(crate) disk: Size,

    /// With --state: how many epochs `perennial answers --as-of` can go back; 0 keeps no history.
    #[arg(long, value_name = "EPOCHS", requires = "state")]
    pub(crate) history: Option<u64>,

    /// Append what every epoch takes in and answers to this file, for `perennial replay`. It
    /// holds the texts themselves.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Write one JSON object a line, and nothing else, to standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// With --json: tell how far answers are, too.
    #[arg(long, requires = "json")]
    pub(crate) progress: bool,

    /// When to colour (auto: on a terminal, unless NO_COLOR is set).
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,

    /// How the view is declared.
    #[command(flatten)]
    pub(crate) view: ViewArgs,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// What is told on standard error besides.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// How a view is declared.
#[derive(Debug, Args)]
#[command(next_help_heading = "View")]
pub(crate) struct ViewArgs {
    /// What each passage may see when it is read: causal (all before it: the plain prompt),
    /// window:N (about N to 2N tokens before it), independent (nothing but itself), boundary:N
    /// (nothing, but its first N tokens all before them).
    #[arg(long, value_name = "SCOPE", default_value = "causal")]
    pub(crate) scope: Scope,

    /// The order of passages: updated_at (what changed last stands last) or key. By
    /// default updated_at with scope causal or boundary, else key.
    #[arg(long, value_name = "ORDER")]
    pub(crate) order: Option<Order>,

    /// The promise of an answer: exact (what a rerun says); eventual (at once, marked as
    /// provisional, then exact); append (at once, as the old answer's conversation goes on: told
    /// what changed; then exact); stable:REGRET (the old one stands while no other is likelier by
    /// more than REGRET nats a token, such as stable:0.05); or bounded:REGRET (the same, and not even
    /// read where the change is unlikely to matter; audits watch over that).
    #[arg(long, value_name = "POLICY", default_value = "exact")]
    pub(crate) policy: Policy,

    /// When answers are told: epoch (all that a change touches, at once) or each (every answer
    /// when it is there; newer edits overtake).
    #[arg(long, value_name = "WHEN", default_value = "epoch")]
    pub(crate) deliver: Delivery,

    /// How long changes may wait, as 500ms, 30s, 5m or 1h: all that come meanwhile are one refresh.
    /// By default none waits.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) target_lag: Option<Duration>,

    /// Most money of an hour, of a model with prices (--price-input): once it is spent, changes wait.
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) cost_per_hour: Option<Money>,

    /// What becomes of documents that a newer one supersedes (a field of JSON lines): evict
    /// (they are not read), hide, or zero-values, zero-keys, zero-both with :whole, :header,
    /// :body or :first-tenth (they are read, with that edit laid on them).
    #[arg(long, value_name = "REPAIR", default_value = "evict")]
    pub(crate) superseded: Repair,

    /// Answers, from what the model knows, where there are no documents; else the answer is an error
    /// that says so.
    #[arg(long)]
    pub(crate) answer_without_documents: bool,

    /// Most tokens of passages a question; above it, the most relevant are selected.
    #[arg(long, value_parser = values::at_least_one, value_name = "TOKENS", default_value = "2048")]
    pub(crate) budget: usize,

    /// Most tokens of an answer.
    #[arg(long, value_parser = values::at_least_one, value_name = "TOKENS", default_value = "128")]
    pub(crate) max_tokens: usize,

    /// The instruction that the model reads between the documents and the question.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,

    /// Dataflow workers; answers do not depend on it.
    #[arg(long, value_parser = values::workers, value_name = "N", default_value = "1")]
    pub(crate) workers: usize,
}
