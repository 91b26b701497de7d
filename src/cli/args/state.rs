//! What may be typed about a state folder, and about recordings?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use perennial::model::arithmetic::Arithmetic;

use super::super::place::StatePlace;
use super::super::values::{self, Asked, Size};
#[cfg(feature = "serve")]
use super::AccessArgs;
use super::EmbedderArgs;

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
error, finish, epoch, rung, exact, memoised, drift, passages_read, passages_of, sub_paragraphs,
evidence, work (see `perennial watch --help`); evidence is null of what a folder holds;
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

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perennial forget ./state hours.md
  perennial forget ./state hours.md fees.md --json
  perennial forget ./state q1 --from questions
  perennial forget http://127.0.0.1:7070 hours --from notes --token-file ./admin-token

In a folder that nobody has open, all answers and all that was read go with it: the next start
asks and reads again. A server goes on meanwhile, and keeps what the record has no part in; a
record of one of its sources must be gone there first. With --json, each record is one object:
event, receipt {stream, key, was_there, forgotten_at_ms, epoch, n_fragments, n_answers,
n_rejected, n_updates, n_epochs, n_state_bytes, remains, n_letters}. The exit code is 1 where
something of it is left. `perennial check --receipts` lists what was forgotten.")]
pub(crate) struct ForgetArgs {
    /// Of what.
    #[command(flatten)]
    pub(crate) of: StateArgs,

    /// What to forget: keys, as files of a folder are named by their path in it.
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,

    /// The source or table that holds it. Of `watch` these are documents and questions.
    #[arg(long, value_name = "NAME", default_value = "documents")]
    pub(crate) from: String,

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
    #[arg(long, value_parser = values::workers, value_name = "N", default_value = "1")]
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

It is of one moment, that of the last complete epoch, and the server goes on meanwhile; its token
needs the role `admin`. It holds documents, answers, what was refused and the history as they are,
so keep it as you keep those: the file is for its owner only (0600), and neither packed nor
encrypted. FILE is replaced once the new backup is complete and compared.")]
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

A file that is cut off or damaged is refused, and leaves nothing. A run over the folder goes on
from the backup's epoch: sources from its offsets; sinks are told anew what stands, and those that
can be looked at (files, topics) lose what was told since and stands no more. docs/state.md,
\"Backup and restore\", has the promises.")]
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

A server takes in at once what is resubmitted; its token needs the role `admin` for that, and to
drop. Of what it tells, bytes that are not UTF-8 are replaced. Of a folder, the state must not be
watched meanwhile.")]
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
