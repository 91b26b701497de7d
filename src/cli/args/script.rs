//! What may be typed where a script of SQL is carried out?

use std::path::PathBuf;

use clap::{Args, ColorChoice};
use perennial::ask::Money;

use super::super::values::{self, Size};
use super::{LogArgs, ModelArgs};

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
    #[arg(long, value_parser = values::workers, value_name = "N", default_value = "1")]
    pub(crate) workers: usize,

    /// When to colour (auto: on a terminal, unless NO_COLOR is set).
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}
