//! What may be typed for a server, and for who asks one?

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use perennial_views::pace::parse_duration;

use super::super::values;
use super::{EngineArgs, LogArgs, ModelArgs};

/// Arguments of `serve`.
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

The script is the configuration: what is sent later (POST /v1/sql) holds until the server ends.
Rows and answers outlive it with --state.

A file of tokens has one a line: ROLES TOKEN [NAME …], as `read,write 0b1f6f4d8a3e47f3 docs
answers`. Roles are ask, read, write and admin; names are the only streams and views that the
token reaches, and COLUMN=VALUE what a token that may only ask asks with. The file is read again
when it changes.

Clients of OpenAI's interface ask a view as a model: base_url http://127.0.0.1:7070/v1. Assistants
find the engine at /mcp.

GET /v1/openapi.json describes all paths. Ctrl-C or SIGTERM ends it with exit code 0, after what
is under way is answered and sinks have what they are owed.")]
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

Tools: ask, views, snapshot, changes_since, sql_query, remember, recall, forget. Views are
resources, perennial://views/NAME, and can be subscribed to. Without a script there are a table
`notes`, in which is remembered, and a view `answers` over it. The model is opened at the first
start, which may take a while; the client may speak meanwhile. Standard error tells how far it is.
It ends with its client.")]
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
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial top
  perennial top --url https://host:7070 --token-file ./token --every 5s
  perennial top --once                                 one frame as text, for scripts

What is told by the second is told since the last look; at the first one, and with --once, it is
the mean since the server began. Where standard output is no terminal, one frame is printed, too.
A server that goes away is looked for until it is back.

q, Esc or Ctrl-C ends it. With --once the exit code is 0 where the server can answer, and 1 where
it cannot yet.")]
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
