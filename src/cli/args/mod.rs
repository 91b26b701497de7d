//! What may be typed? Every command with its options, help and examples.
//!
//! What belongs to one command stands with it; what several have is a group of options that is flattened
//! into each.

mod calibrate;
mod model;
mod script;
#[cfg(feature = "serve")]
mod served;
mod state;
mod watch;

use clap::{Args, ColorChoice, Parser, Subcommand};
use perennial::Scope;

use super::log::{LogFormat, LogLevel};
use super::memory::MemoryArgs;
use super::version;

pub(crate) use calibrate::CalibrateArgs;
pub(crate) use model::{
    BEST_MODEL, DEFAULT_MODEL, EmbedderArgs, ModelArgs, ModelsArgs, ModelsCommand, PriceArgs,
    ProbeArgs,
};
pub(crate) use script::{EngineArgs, RunArgs, SqlArgs};
#[cfg(feature = "mcp")]
pub(crate) use served::McpArgs;
#[cfg(feature = "serve")]
pub(crate) use served::{AccessArgs, ServeArgs, StatusArgs, TopArgs};
pub(crate) use state::{
    AnswersArgs, BackupArgs, CheckArgs, ForgetArgs, HistoryArgs, QuarantineArgs, QuarantineCommand,
    ReplayArgs, RestoreArgs, StateArgs,
};
pub(crate) use watch::{ViewArgs, WatchArgs};

const EXAMPLES: &str = "\
Examples:
  perennial demo                                    see it work, in a minute
  perennial watch notes \"When do we open?\"          ask a folder, and stay tuned
  perennial watch --once notes \"When do we open?\"   ask once
  perennial run examples/support.sql                the same in SQL, with sources, views and sinks
  perennial memory --help                           remember, recall, share and take back
  perennial models                                  which models there are";

/// LLM views that stay fresh: ask your documents a question, and keep the answer right
/// while they change. Runs on this machine alone, unless --model is the address of a server.
#[derive(Debug, Parser)]
#[command(name = "perennial", version, long_version = version::long(), after_help = EXAMPLES,
          max_term_width = 100)]
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
    /// Erase a document, or a question, and all that remembers it.
    Forget(ForgetArgs),
    /// Store what is said, find it by a question, share it, and take it back.
    Memory(MemoryArgs),
    /// List the models known by name, what each is good for, and which are on this machine.
    Models(ModelsArgs),
    /// Fit by what a model guesses which answers an edit concerns, which `--policy bounded` leaves
    /// unread if it does not.
    Calibrate(CalibrateArgs),
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

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial demo
  perennial demo --model smollm2-135m --scope window:128")]
pub(crate) struct DemoArgs {
    /// What each passage may see when it is read: causal, window:N, independent or boundary:N.
    #[arg(long, value_name = "SCOPE", default_value = "causal")]
    pub(crate) scope: Scope,

    /// When to colour (auto: on a terminal, unless NO_COLOR is set).
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,

    /// Which model, and what it may use.
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }

    /// What is longer is broken where no sentence or example ends.
    #[test]
    fn lines_of_help_are_no_longer_than_the_widest_page() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string);
            for line in help.unwrap_or_default().lines() {
                let name = command.get_name();
                assert!(line.chars().count() <= 100, "{name}: {line}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
