//! What may be typed? Every command with its options, help and examples.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ColorChoice, Parser, Subcommand};
use perennial::ask::{Currency, Money};
use perennial::model::arithmetic::Arithmetic;
use perennial::{Delivery, Order, Policy, Repair, Scope};
use perennial_views::pace::parse_duration;

use super::log::{LogFormat, LogLevel};
use super::memory::MemoryArgs;
use super::place::StatePlace;
use super::values::{self, Asked, Size};

/// The model that answers unless another is named.
pub(crate) const DEFAULT_MODEL: &str = "qwen2.5-coder-0.5b";

const EXAMPLES: &str = "\
Examples:
  perennial demo                                    see it work, in a minute
  perennial watch notes \"When do we open?\"          ask a folder, and stay tuned
  perennial watch --once notes \"When do we open?\"   ask once
  perennial run examples/support.sql                the same in SQL, with sources, views and sinks
  perennial memory --help                           remember, recall, share and take back
  perennial models                                  which models there are";

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

Paths are folders (files named .md .markdown .txt .text .rst .org .adoc .html .docx .pdf, watched for
changes) and .jsonl files of documents (followed as they grow; `-` is standard input):
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
            n_healed, n_documents, rungs {keep, skip, patch, verify, rewrite, regenerate,
            failed}, audits, work,
            elapsed_ms; it follows the answers of its epoch
            (with --deliver each, all that were taken since the one before)
  answer    view, context, question, epoch, change: new|changed|stands|gone, text, old_text,
            error, finish: stop|length, rung, exact, memoised, drift, regret, early,
            sub_paragraphs [{text, sources [{document, ordinal, share}]}], work, elapsed_ms
  rejected  source, place, key, reason
  notice    source, message
  failed    source, message; the last line, exit code 1
  progress  context, stage: embedding|encoding|writing, done, total, text
            (only with --progress)
  plan      plan, model, context_window, documents, rejected, passages, tokens, budget, selects;
            of `perennial explain`, which says nothing else
`work` counts tokens: {forwarded, from_scratch, encoded, prompt, draft, decoded, passes, cost}; cost is
{amount, currency} of a model with prices.

Ctrl-C ends the watch with exit code 0 (130 if it comes before the first answer).";

/// LLM views that stay fresh: ask your documents a question, and keep the answer right
/// while they change. Runs on this machine alone, unless --model is the address of a server.
#[derive(Debug, Parser)]
#[command(name = "perennial", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// For tests of crashes: the process aborts at this fault point, the Nth time it is there.
    #[arg(long, global = true, hide = true, value_name = "NAME[:N]")]
    pub(crate) fault: Option<String>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a question from documents, and keep the answer fresh as they change.
    Watch(WatchArgs),
    /// Carry out a script of SQL: sources, views, sinks; show the views' answers, and keep them
    /// fresh.
    Run(RunArgs),
    /// Type SQL, statement by statement.
    Sql(SqlArgs),
    /// Carry out a script of SQL, and serve its views over HTTP: subscriptions, statements, rows that
    /// are posted.
    #[cfg(feature = "serve")]
    Serve(ServeArgs),
    /// Print how a server of `serve` is.
    #[cfg(feature = "serve")]
    Status(StatusArgs),
    /// Watch a server of `serve`: its views, what they do and what that costs, second by second.
    #[cfg(feature = "serve")]
    Top(TopArgs),
    /// Serve an assistant over MCP, on standard input and output: it asks views, and remembers.
    #[cfg(feature = "mcp")]
    Mcp(McpArgs),
    /// Watch a small folder being edited: insert, correct, delete. Ends by itself.
    Demo(DemoArgs),
    /// Print how a watch with these arguments would be carried out, without answering.
    Explain(WatchArgs),
    /// Print the answers that a state folder of `watch --state` holds, or held at an epoch.
    Answers(AnswersArgs),
    /// List the epochs that a state folder can tell of, and what each changed.
    History(HistoryArgs),
    /// Feed what `watch --record` took in to a fresh engine, and compare its answers.
    Replay(ReplayArgs),
    /// Verify a state folder of `watch --state`, and say what it holds. Changes nothing in it.
    Check(CheckArgs),
    /// Write all that a state folder holds to one file, while a server goes on with it.
    Backup(BackupArgs),
    /// Make a state folder of a backup.
    Restore(RestoreArgs),
    /// See what `watch --state` refused, send it again mended, or drop it.
    Quarantine(QuarantineArgs),
    /// Store what is said, find it by a question, share it, and take it back.
    Memory(MemoryArgs),
    /// List the models known by name, what each is good for, and which are on this machine.
    Models(ModelsArgs),
}

impl Command {
    /// What a command is to log, and how much where nothing is said.
    pub(crate) fn log(&self) -> Option<(&LogArgs, LogLevel)> {
        match self {
            Self::Watch(args) => Some((&args.log, LogLevel::Off)),
            Self::Run(args) => Some((&args.log, LogLevel::Off)),
            #[cfg(feature = "serve")]
            Self::Serve(args) => Some((&args.log, LogLevel::Warn)),
            #[cfg(feature = "mcp")]
            Self::Mcp(args) => Some((&args.log, LogLevel::Warn)),
            _ => None,
        }
    }
}

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

    /// Which columns of tables make a document, as key=id,text=body,title=subject;
    /// by default those of these names. Fields are key, text, title and updated_at.
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

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial run examples/support.sql
  perennial run --once examples/chat.sql --json
  perennial run --state ./state examples/support.sql

Shown are the views that the script SUBSCRIBEs to; if it subscribes to none, all that it CREATEs
with LLM_GENERATE. The model is the one that the script CREATEs, else --model; a script that
asks no model opens none.

With --json, what SELECT and SHOW give is one object, {\"event\": \"result\", columns, rows}; rows of a
view of a query come and go as {\"event\": \"row\", view, epoch, count, row}; all else is as `perennial
watch --help` says, with the name of the view.")]
pub(crate) struct RunArgs {
    /// The script; `-` is standard input.
    #[arg(value_name = "FILE.sql")]
    pub(crate) script: PathBuf,

    /// Read sources once, answer and exit.
    #[arg(long)]
    pub(crate) once: bool,

    /// Write one JSON object a line, and nothing else, to standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// With --json: tell how far answers are, too.
    #[arg(long, requires = "json")]
    pub(crate) progress: bool,

    /// What becomes of the engine.
    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// What is told on standard error besides.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Arguments of `sql`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial sql
  perennial sql examples/support.sql
  echo 'SELECT 1 + 1;' | perennial sql

A statement ends with `;`. \\d lists what there is, \\d NAME its columns, \\q ends, help lists the
statements. Ctrl-C ends a SUBSCRIBE. What is not typed at a terminal is carried out as a script.")]
pub(crate) struct SqlArgs {
    /// A script to carry out first.
    #[arg(value_name = "FILE.sql")]
    pub(crate) script: Option<PathBuf>,

    /// What becomes of the engine.
    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Arguments of `serve`.
#[cfg(feature = "serve")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial serve examples/support.sql
  perennial serve --state ./state --listen 127.0.0.1:7070 examples/support.sql
  perennial serve --listen 0.0.0.0:7070 --token-file tokens --tls-cert c.pem --tls-key k.pem app.sql
  curl -N 127.0.0.1:7070/v1/views/answers/subscribe
  curl '127.0.0.1:7070/v1/streams/questions?wait=60' -d '{\"key\": \"q1\", \"text\": \"When do you open?\"}'
  curl 127.0.0.1:7070/v1/sql -d '{\"sql\": \"SELECT key, text FROM answers\"}'
  perennial status

The script is the configuration: what is sent later (POST /v1/sql) holds until the server ends. Rows
and answers outlive it with --state.

A file of tokens has one a line: ROLES TOKEN [NAME …], as `read,write 0b1f6f4d8a3e47f3 docs answers`.
Roles are ask, read, write and admin; names are the only streams and views that the token reaches, and
COLUMN=VALUE what a token that may only ask asks with. The file is read again when it changes.

Clients of OpenAI's interface ask a view as a model: base_url http://127.0.0.1:7070/v1. Assistants find
the engine at /mcp.

GET /v1/openapi.json describes all paths. Ctrl-C or SIGTERM ends it with exit code 0, after what is under
way is answered and sinks have what they are owed.")]
pub(crate) struct ServeArgs {
    /// The script; `-` is standard input. Without one, all comes by POST /v1/sql.
    #[arg(value_name = "FILE.sql")]
    pub(crate) script: Option<PathBuf>,

    /// Where to listen, HOST:PORT (port 0 takes one that is free, and tells it). But for localhost,
    /// --token-file is needed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    pub(crate) listen: String,

    /// A file of tokens, of which every request must bring one: `Authorization: Bearer TOKEN`.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// A PEM file of certificates, to speak TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// A PEM file of the key of the first certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The most connections; further ones wait to be accepted.
    #[arg(long, value_parser = values::at_least_one, value_name = "N", default_value = "1024")]
    pub(crate) connections: usize,

    /// The most connections from one address; further ones are closed.
    #[arg(long, value_parser = values::at_least_one, value_name = "N", default_value = "256")]
    pub(crate) peer_connections: usize,

    /// Requests a second of one token, or from one address where there are none.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N",
          default_value = "1000")]
    pub(crate) rate: u32,

    /// What is kept for who asks.
    #[command(flatten)]
    pub(crate) asking: AskingArgs,

    /// What becomes of the engine.
    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// What is told on standard error besides.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What is kept for who asks.
#[cfg(feature = "serve")]
#[derive(Debug, Args)]
#[command(next_help_heading = "Asking")]
pub(crate) struct AskingArgs {
    /// Keep so many conversations; the one that was not asked for the longest gives way.
    #[arg(long, value_name = "NUMBER", default_value = "1000",
          value_parser = values::at_least_one)]
    pub(crate) conversations: usize,

    /// Keep a conversation so long that nobody asks for, as 30 m or 2 h.
    #[arg(long, value_name = "TIME", default_value = "1 h", value_parser = parse_duration)]
    pub(crate) conversation_time: Duration,
}

#[cfg(feature = "serve")]
impl AskingArgs {
    /// As limits of a server.
    pub(crate) fn set(&self, limits: &mut perennial::serve::Limits) {
        limits.conversations = self.conversations;
        limits.conversation_time = self.conversation_time;
    }
}

/// Arguments of `mcp`.
#[cfg(feature = "mcp")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial mcp --state ./memory                 remember notes, and answer from them
  perennial mcp --state ./state app.sql          the sources and views of a script
  claude mcp add perennial -- perennial mcp --state ~/.perennial/memory

Most clients are configured by a file:
  {\"mcpServers\": {\"perennial\": {
     \"command\": \"perennial\",
     \"args\": [\"mcp\", \"--state\", \"/home/me/.perennial/memory\"]}}}
A server of `perennial serve` speaks the same over HTTP, with its tokens:
  {\"mcpServers\": {\"perennial\": {
     \"type\": \"http\", \"url\": \"http://127.0.0.1:7070/mcp\",
     \"headers\": {\"Authorization\": \"Bearer TOKEN\"}}}}

Tools: ask, views, snapshot, changes_since, sql_query, remember, recall, forget. Views are resources,
perennial://views/NAME, and can be subscribed to. Without a script there are a table `notes`, in which
is remembered, and a view `answers` over it. The model is opened at the first start, which may take a
while; the client may speak meanwhile. Standard error tells how far it is. It ends with its client.")]
pub(crate) struct McpArgs {
    /// The script: sources, tables, views.
    #[arg(value_name = "FILE.sql")]
    pub(crate) script: Option<PathBuf>,

    /// What is kept for who asks.
    #[command(flatten)]
    pub(crate) asking: AskingArgs,

    /// What becomes of the engine.
    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// What is told on standard error besides.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Arguments of `status`.
#[cfg(feature = "serve")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial status
  perennial status https://host:7070 --token-file ./token --json

The exit code is 0 where it can answer, and 1 where it cannot yet.")]
pub(crate) struct StatusArgs {
    /// Where the server is.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub(crate) url: String,

    /// How it is reached.
    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a server is reached that runs already.
#[cfg(feature = "serve")]
#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    /// A file with the token that it wants, and nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// A PEM file of authorities to believe instead of the usual ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Arguments of `top`.
#[cfg(feature = "serve")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial top
  perennial top --url https://host:7070 --token-file ./token --every 5s
  perennial top --once                                 one frame as text, for scripts

What is told by the second is told since the last look; at the first one, and with --once, it is the
mean since the server began. Where standard output is no terminal, one frame is printed, too. A server
that goes away is looked for until it is back.

q, Esc or Ctrl-C ends it. With --once the exit code is 0 where the server can answer, and 1 where it
cannot yet.")]
pub(crate) struct TopArgs {
    /// Where the server is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7070")]
    pub(crate) url: String,

    /// How it is reached.
    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// How often it is looked, as 1s or 500ms; 100 ms at least.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::pace)]
    pub(crate) every: Duration,

    /// Look once, print, and end.
    #[arg(long)]
    pub(crate) once: bool,
}

/// What becomes of an engine that a script declares.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Keep rows, answers and what they cost in this folder: run again, the script goes on where
    /// it ended, and no answer that still stands is written again.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,

    /// With --state: disk for what was read of the documents besides, as 512M or 8GiB. 0 for none.
    #[arg(long, requires = "state", value_name = "SIZE", default_value = "4GiB")]
    pub(crate) disk: Size,

    /// With --state: how many epochs `perennial answers --as-of` can go back; 0 keeps no history.
    #[arg(long, value_name = "EPOCHS", requires = "state")]
    pub(crate) history: Option<u64>,

    /// Most money of an hour, of all views together whose models have prices: once it is spent, their
    /// changes wait.
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) cost_per_hour: Option<Money>,

    /// Dataflow workers; answers do not depend on it.
    #[arg(long, value_parser = values::at_least_one, value_name = "N", default_value = "1")]
    pub(crate) workers: usize,

    /// When to colour (auto: on a terminal, unless NO_COLOR is set).
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

/// What is told on standard error besides.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// How much of what goes on is logged on standard error: complete epochs are info; answers,
    /// commits, deliveries and requests debug. By default warn for `serve` and `mcp`,
    /// off for `watch` and `run`, which show warnings themselves.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<LogLevel>,

    /// The form of the log. With json, standard error has one object a line and nothing else, at the
    /// level info unless --log says otherwise.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How a view is declared.
#[derive(Debug, Args)]
#[command(next_help_heading = "View")]
pub(crate) struct ViewArgs {
    /// What each passage may see when it is read: causal (all before it: the plain prompt),
    /// window:N (about N to 2N tokens before it), independent (nothing but itself).
    #[arg(long, value_name = "SCOPE", default_value = "causal")]
    pub(crate) scope: Scope,

    /// The order of passages: updated_at (what changed last stands last) or key. By
    /// default updated_at with scope causal, else key.
    #[arg(long, value_name = "ORDER")]
    pub(crate) order: Option<Order>,

    /// The promise of an answer: exact (what a rerun says); eventual (at once, marked as
    /// provisional, then exact); stable:REGRET (the old one stands while no other is likelier by
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
    #[arg(long, value_parser = values::at_least_one, value_name = "N", default_value = "1")]
    pub(crate) workers: usize,
}

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

/// A state that is looked at.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// The folder that was given as --state; while a server of `serve` has it open, the server's
    /// URL, such as http://127.0.0.1:7070.
    #[arg(value_name = "FOLDER|URL")]
    pub(crate) state: StatePlace,

    /// How the server is asked.
    #[cfg(feature = "serve")]
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

/// Arguments of `answers`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial answers ./state
  perennial answers ./state --as-of 41
  perennial answers ./state --as-of 2026-05-01T09:00:00+02:00 --json
  perennial answers http://127.0.0.1:7070               while a server has the folder open

With --json, each answer is one object: as_of, committed_at_ms, view, context, question, text,
error, finish, epoch, rung, exact, memoised, drift, sub_paragraphs, work (see `perennial watch --help`);
committed_at_ms is null where a server tells them. `perennial history` lists the epochs there are.")]
pub(crate) struct AnswersArgs {
    /// Of what.
    #[command(flatten)]
    pub(crate) of: StateArgs,

    /// The answers as they stood at this epoch, or at the last one committed by this time (RFC
    /// 3339). By default, as they stand.
    #[arg(long, value_name = "EPOCH|TIME", value_parser = values::as_of, default_value = "present")]
    pub(crate) as_of: Asked,

    /// Only those of one view.
    #[arg(long, value_name = "NAME")]
    pub(crate) view: Option<String>,

    /// Write one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial history ./state
  perennial history ./state --json
  perennial history http://127.0.0.1:7070               while a server has the folder open

With --json, each epoch is one object: epoch, committed_at_ms, streams [{stream, n_inserted,
n_updated, n_deleted}], views [{view, n_new, n_changed, n_gone}].")]
pub(crate) struct HistoryArgs {
    /// Of what.
    #[command(flatten)]
    pub(crate) of: StateArgs,

    /// Write one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial watch --record session.rec notes \"When do we open?\"
  perennial replay session.rec
  perennial replay session.rec --until 12 --json
  perennial replay session.rec --model smollm2-135m --anyway

Exact answers must be as they were recorded, token for token; provisional ones are not compared.
The exit code is 0 if all are the same, else 1. With --json, each epoch is one object: epoch,
at_ms, standing, rows, compared, provisional, same, differences [{view, context, recorded,
replayed}].")]
pub(crate) struct ReplayArgs {
    /// The file that was given as --record.
    #[arg(value_name = "FILE")]
    pub(crate) recording: PathBuf,

    /// Stop behind this epoch.
    #[arg(long, value_name = "EPOCH")]
    pub(crate) until: Option<u64>,

    /// Replay though the model is not the one that was recorded.
    #[arg(long)]
    pub(crate) anyway: bool,

    /// Write one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,

    /// Dataflow workers; answers do not depend on it.
    #[arg(long, value_parser = values::at_least_one, value_name = "N", default_value = "1")]
    pub(crate) workers: usize,

    /// The model: as of `watch`. By default the one that was recorded.
    #[arg(long, value_name = "NAME|FILE|FOLDER")]
    pub(crate) model: Option<String>,

    /// What the recorded model multiplied in, where it was not the default.
    #[arg(long, value_name = "int16|int8")]
    pub(crate) arithmetic: Option<Arithmetic>,

    /// Threads that compute. By default one for each core.
    #[arg(long, value_parser = values::at_least_one, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Memory for what was read of the documents, as 512M or 2GiB.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) memory: Size,

    /// Where models are kept. By default $PERENNIAL_CACHE, else the user's cache folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,

    /// What embeds texts: as of `watch`.
    #[command(flatten)]
    pub(crate) embedder: EmbedderArgs,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial check ./state
  perennial check ./state --json")]
pub(crate) struct CheckArgs {
    /// The folder that was given as --state.
    #[arg(value_name = "FOLDER")]
    pub(crate) state: PathBuf,

    /// Write one JSON object to standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the receipts of documents that were forgotten instead, a JSON object a line.
    #[arg(long)]
    pub(crate) receipts: bool,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial backup --url http://127.0.0.1:7070 --out nightly.backup
  perennial backup --url https://host:7070 --token-file ./admin-token --out nightly.backup
  perennial backup --state ./state --out nightly.backup
  perennial restore nightly.backup --state ./restored

It is of one moment, that of the last complete epoch, and the server goes on meanwhile; its token needs the
role `admin`. It holds documents, answers, what was refused and the history as they are, so keep it as
you keep those: the file is for its owner only (0600), and neither packed nor encrypted. FILE is
replaced once the new backup is complete and compared.")]
#[command(group(clap::ArgGroup::new("from").required(true)))]
pub(crate) struct BackupArgs {
    /// A server of `serve`, which has the folder open.
    #[cfg(feature = "serve")]
    #[arg(long, value_name = "URL", group = "from")]
    pub(crate) url: Option<String>,

    /// A state folder that nobody has open.
    #[arg(long, value_name = "FOLDER", group = "from")]
    pub(crate) state: Option<PathBuf>,

    /// Where to.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// How the server is asked.
    #[cfg(feature = "serve")]
    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial restore nightly.backup --state ./state
  perennial serve --state ./state app.sql

A file that is cut off or damaged is refused, and leaves nothing. A run over the folder goes on from the
backup's epoch: sources from its offsets; sinks are told anew what stands, and those that can be looked at
(files, topics) lose what was told since and stands no more. docs/state.md, \"Backup and restore\", has
the promises.")]
pub(crate) struct RestoreArgs {
    /// What `backup` wrote.
    #[arg(value_name = "FILE")]
    pub(crate) backup: PathBuf,

    /// The state folder that it becomes: empty, or not there yet.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: PathBuf,

    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `quarantine`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial quarantine list ./state
  perennial quarantine show ./state 3 > record.json
  perennial quarantine resubmit ./state 3 --with record.json
  perennial quarantine drop ./state 4 5
  perennial quarantine list http://127.0.0.1:7070       while a server has the folder open

A server takes in at once what is resubmitted; its token needs the role `admin` for that, and to drop.
Of what it tells, bytes that are not UTF-8 are replaced. Of a folder, the state must not be watched
meanwhile.")]
pub(crate) struct QuarantineArgs {
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: QuarantineCommand,
}

/// What can be done about what was refused.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Everything that was refused: number, place, reason, and how it begins.
    List {
        /// Of what.
        #[command(flatten)]
        of: StateArgs,
        /// Write one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// One record as it came, on standard output.
    Show {
        /// Of what.
        #[command(flatten)]
        of: StateArgs,
        /// Its number.
        number: u64,
    },
    /// Take a record in after all, as it came or mended: by a server at once, of a folder when it is
    /// watched again.
    Resubmit {
        /// Of what.
        #[command(flatten)]
        of: StateArgs,
        /// Its number.
        number: u64,
        /// A file with the record that was meant: one JSON object.
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
    },
    /// Forget about records.
    Drop {
        /// Of what.
        #[command(flatten)]
        of: StateArgs,
        /// Their numbers.
        #[arg(required = true)]
        numbers: Vec<u64>,
    },
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial demo
  perennial demo --model smollm2-135m --scope window:128")]
pub(crate) struct DemoArgs {
    /// What each passage may see when it is read: causal, window:N or independent.
    #[arg(long, value_name = "SCOPE", default_value = "causal")]
    pub(crate) scope: Scope,

    /// When to colour (auto: on a terminal, unless NO_COLOR is set).
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }
}
