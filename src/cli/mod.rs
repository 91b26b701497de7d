//! How does a person, or a script, use Perennial from a terminal?
//!
//! Arguments are parsed once ([`args`], [`values`]) into what the engine takes
//! ([`inputs`], [`opening`]); [`follow`] reads a view's updates, gathers them epoch by
//! epoch ([`report`]) and shows them: for people on a [`screen`], for programs as
//! [`json`]. Each command is one module. Scripts are carried out by a session of the engine's
//! ([`run`], [`prompt`]), and what comes of a statement is [`told`].
//!
//! # Invariants
//! - Standard output carries answers (or JSON) only; how far things are, and warnings, go
//!   to standard error.
//! - Exit code 0 is success, 1 a failure, 2 wrong usage, 130 an interruption before there
//!   was an answer. A failure prints what went wrong and what to do, with `--json` on standard output,
//!   too.

mod args;
mod asked;
mod backup;
mod calibrate;
mod check;
mod demo;
mod diff;
#[cfg(feature = "serve")]
mod endpoint;
mod explain;
mod failure;
mod follow;
mod forget;
mod inputs;
mod interrupt;
mod joined;
mod json;
mod left_behind;
mod listen;
mod live;
mod log;
#[cfg(feature = "mcp")]
mod mcp;
mod memory;
mod models;
mod opening;
mod paint;
mod past;
mod place;
mod prompt;
mod quarantine;
mod refusals;
mod remote;
mod replay;
mod report;
mod run;
mod screen;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod status;
mod stderr;
mod table;
mod told;
#[cfg(feature = "serve")]
mod top;
mod topic;
mod traces;
mod unposted;
mod values;
mod version;
mod watch;
mod wording;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use args::{Cli, Command};
use failure::Failure;
use log::Log;

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let matches = Cli::command().get_matches();
    let is_json = is_json(&matches);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.format(&mut Cli::command()).exit(),
    };
    if let Some(point) = &cli.fault
        && let Err(what) = perennial::fault::arm(point)
    {
        let failure = Failure::usage(what, "give --fault NAME or --fault NAME:N");
        failure.tell();
        return failure.exit_code();
    }
    // It ends last, so that why a command failed is in it.
    let _log = cli
        .command
        .log()
        .map(|(args, usually)| Log::start(args, usually));
    let outcome = match &cli.command {
        Command::Watch(args) => watch::run(args),
        Command::Run(args) => run::run(args),
        Command::Sql(args) => prompt::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        #[cfg(feature = "serve")]
        Command::Status(args) => status::run(args),
        #[cfg(feature = "serve")]
        Command::Top(args) => top::run(args),
        #[cfg(feature = "mcp")]
        Command::Mcp(args) => mcp::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Answers(args) => past::answers(args),
        Command::History(args) => past::history(args),
        Command::Replay(args) => replay::run(args),
        Command::Check(args) => check::run(args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Quarantine(args) => quarantine::run(args),
        Command::Forget(args) => forget::run(args),
        Command::Memory(args) => memory::run(args),
        Command::Models(args) => models::run(args),
        Command::Calibrate(args) => calibrate::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            failure.tell();
            if is_json && !matches!(failure, Failure::OutputClosed) {
                // Whoever does not read it any more is not told.
                let _nobody_reads_it = writeln!(io::stdout().lock(), "{}", failure.object());
            }
            failure.exit_code()
        }
    }
}

/// Whether a command was told to speak to programs.
fn is_json(matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some((_, of_command)) if is_json(of_command) => true,
        _ => matches!(matches.try_get_one::<bool>("json"), Ok(Some(true))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_to_speak_to_programs_wherever_it_takes_that() {
        let is_told = |args: &[&str]| {
            let args = ["perennial"].iter().chain(args);
            let matches = Cli::command().try_get_matches_from(args);
            is_json(&matches.expect("sound"))
        };
        assert!(is_told(&["watch", "notes", "Q?", "--json"]));
        assert!(!is_told(&["watch", "notes", "Q?"]));
        assert!(!is_told(&["watch", "notes", "--", "--json"]));
        assert!(is_told(&["memory", "list", "--state", "m", "--json"]));
        assert!(is_told(&["models", "probe", "http://host/v1", "--json"]));
        assert!(is_told(&["quarantine", "list", "state", "--json"]));
        assert!(!is_told(&["quarantine", "drop", "state", "1"]));
        assert!(!is_told(&["models"]));
    }
}
