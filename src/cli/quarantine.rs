//! `perennial quarantine`: what was refused, and what becomes of it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::json::QuarantinedJson;
use perennial::state;

use super::args::{QuarantineArgs, QuarantineCommand};
use super::failure::Failure;
use super::place::{Held, cannot_open};
use super::{stderr, wording};

/// How much of what was refused a list shows, in characters.
const SHOWN: usize = 60;

/// Runs the command.
pub(crate) fn run(args: &QuarantineArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        QuarantineCommand::List { of, json } => {
            list(&all(&of.held()?)?, *json).map_err(Failure::output)?;
        }
        QuarantineCommand::Show { of, number } => {
            let entry = one(&of.held()?, *number)?;
            show(&entry).map_err(Failure::output)?;
        }
        QuarantineCommand::Drop { of, numbers } => {
            let n_dropped = match of.held()? {
                Held::Folder(folder) => {
                    state::drop_quarantined(folder, numbers).map_err(cannot_open)?
                }
                #[cfg(feature = "serve")]
                Held::Server(server) => of_server::drop(&server, numbers)?,
            };
            stderr::line(&format!("{} dropped", wording::count(n_dropped, "record")));
        }
        QuarantineCommand::Resubmit { of, number, with } => {
            let instead = match with {
                Some(file) => {
                    let action = format!("read {}", file.display());
                    Some(std::fs::read(file).map_err(Failure::io(action))?)
                }
                None => None,
            };
            let said = match of.held()? {
                Held::Folder(folder) => {
                    let key = state::resubmit(folder, *number, instead.as_deref());
                    let key = key.map_err(cannot_open)?;
                    format!("{key} will be taken in when this state is watched again")
                }
                #[cfg(feature = "serve")]
                Held::Server(server) => {
                    let key = of_server::resubmit(&server, *number, instead.as_deref())?;
                    format!("{key} is taken in")
                }
            };
            stderr::line(&said);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All that is in quarantine.
fn all(held: &Held<'_>) -> Result<Vec<QuarantinedJson>, Failure> {
    match held {
        Held::Folder(folder) => {
            let entries = state::quarantine(folder).map_err(cannot_open)?;
            Ok(entries.into_iter().map(QuarantinedJson::from).collect())
        }
        #[cfg(feature = "serve")]
        Held::Server(server) => of_server::all(server),
    }
}

/// What has a number.
fn one(held: &Held<'_>, number: u64) -> Result<QuarantinedJson, Failure> {
    let entry = match held {
        Held::Folder(_) => {
            let mut entries = all(held)?.into_iter();
            entries.find(|entry| entry.number == number)
        }
        #[cfg(feature = "serve")]
        Held::Server(server) => of_server::one(server, number)?,
    };
    let none = state::StateError::NotInQuarantine { number };
    entry.ok_or_else(|| Failure::Engine(none.into()))
}

/// The same of a server, which has the folder open.
#[cfg(feature = "serve")]
mod of_server {
    use super::*;
    use crate::cli::endpoint::Endpoint;

    /// Records of one request.
    const PAGE: usize = 1_000;

    pub(super) fn all(server: &Endpoint) -> Result<Vec<QuarantinedJson>, Failure> {
        let mut entries: Vec<QuarantinedJson> = Vec::new();
        loop {
            let behind = entries.last().map(|last| last.number);
            let page = page(server, behind, PAGE)?;
            if page.is_empty() {
                return Ok(entries);
            }
            entries.extend(page);
        }
    }

    pub(super) fn one(server: &Endpoint, number: u64) -> Result<Option<QuarantinedJson>, Failure> {
        let mut page = page(server, number.checked_sub(1), 1)?;
        Ok(page.pop().filter(|entry| entry.number == number))
    }

    /// The first records behind a number.
    fn page(
        server: &Endpoint,
        behind: Option<u64>,
        n: usize,
    ) -> Result<Vec<QuarantinedJson>, Failure> {
        let after = behind.map(|number| format!("&after={number}"));
        let path = format!("/v1/quarantine?limit={n}{}", after.unwrap_or_default());
        let records = server.get(&path)?["records"].take();
        let unknown = |_| server.cannot(&path, "it says what this version does not understand");
        serde_json::from_value(records).map_err(unknown)
    }

    pub(super) fn drop(server: &Endpoint, numbers: &[u64]) -> Result<usize, Failure> {
        let mut n_dropped = 0;
        for number in numbers {
            n_dropped += usize::from(server.delete(&format!("/v1/quarantine/{number}"))?);
        }
        Ok(n_dropped)
    }

    /// Returns the key of what was taken in.
    pub(super) fn resubmit(
        server: &Endpoint,
        number: u64,
        instead: Option<&[u8]>,
    ) -> Result<String, Failure> {
        let path = format!("/v1/quarantine/{number}");
        let taken = server.post_for(&path, instead.unwrap_or_default())?;
        Ok(taken["key"].as_str().unwrap_or_default().to_owned())
    }
}

fn list(entries: &[QuarantinedJson], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for entry in entries {
        if json {
            let object = serde_json::to_string(entry).expect("texts and numbers are JSON");
            writeln!(out, "{object}")?;
        } else {
            let said = format!("{}: {}", entry.place, entry.reason);
            writeln!(out, "{:>4}  {}", entry.number, wording::plain(&said))?;
            if let Some(content) = &entry.content {
                let text = String::from_utf8_lossy(content);
                let mut line: String = text.chars().take(SHOWN).collect();
                if line.len() < text.len() {
                    line.push('…');
                }
                let line = line.replace(['\n', '\t'], "\u{fffd}");
                writeln!(out, "      {}", wording::plain(&line))?;
            }
        }
    }
    if entries.is_empty() && !json {
        stderr::line("nothing is in quarantine");
    }
    Ok(())
}

fn show(entry: &QuarantinedJson) -> io::Result<()> {
    stderr::line(&format!("{}: {}", entry.place, entry.reason));
    match &entry.content {
        Some(content) => io::stdout().lock().write_all(content),
        None => {
            stderr::line("it is not kept here, only where it was read");
            Ok(())
        }
    }
}
