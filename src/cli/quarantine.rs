//! `perennial quarantine`: what was refused, and what becomes of it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::engine::Quarantined;
use perennial::state;

use super::args::{QuarantineArgs, QuarantineCommand};
use super::failure::Failure;
use super::{stderr, wording};

/// How much of what was refused a list shows, in characters.
const SHOWN: usize = 60;

/// Runs the command.
pub(crate) fn run(args: &QuarantineArgs) -> Result<ExitCode, Failure> {
    let engine = perennial::Error::from;
    match &args.command {
        QuarantineCommand::List { state, json } => {
            let entries = state::quarantine(state).map_err(engine)?;
            list(&entries, *json).map_err(Failure::output)?;
        }
        QuarantineCommand::Show { state, number } => {
            let entries = state::quarantine(state).map_err(engine)?;
            let entry = entries.into_iter().find(|entry| entry.number == *number);
            let entry = entry.ok_or(state::StateError::NotInQuarantine { number: *number });
            show(&entry.map_err(engine)?).map_err(Failure::output)?;
        }
        QuarantineCommand::Drop { state, numbers } => {
            let n_dropped = state::drop_quarantined(state, numbers).map_err(engine)?;
            stderr::line(&format!("{} dropped", wording::count(n_dropped, "record")));
        }
        QuarantineCommand::Resubmit {
            state,
            number,
            with,
        } => {
            let instead = match with {
                Some(file) => {
                    let action = format!("read {}", file.display());
                    Some(std::fs::read(file).map_err(Failure::io(action))?)
                }
                None => None,
            };
            let key = state::resubmit(state, *number, instead.as_deref()).map_err(engine)?;
            stderr::line(&format!(
                "{key} will be taken in when this state is watched again"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(entries: &[Quarantined], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for entry in entries {
        if json {
            let content = entry.content.as_deref().map(String::from_utf8_lossy);
            let object = serde_json::json!({
                "number": entry.number,
                "stream": entry.stream,
                "place": entry.place,
                "key": entry.key,
                "reason": entry.reason,
                "refused_at_ms": entry.refused_at_ms,
                "content": content,
            });
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

fn show(entry: &Quarantined) -> io::Result<()> {
    stderr::line(&format!("{}: {}", entry.place, entry.reason));
    match &entry.content {
        Some(content) => io::stdout().lock().write_all(content),
        None => {
            stderr::line("it is not kept here, only where it was read");
            Ok(())
        }
    }
}
