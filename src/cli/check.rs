//! `perennial check`: is a state folder whole, and what does it hold?

use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::state;

use super::args::CheckArgs;
use super::failure::Failure;
use super::place::cannot_open;
use super::wording;

/// Runs the command.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    if args.receipts {
        return receipts(args);
    }
    let found = state::check(&args.state).map_err(cannot_open)?;
    let mut out = io::stdout().lock();
    let written = if args.json {
        let json = serde_json::to_string(&found).expect("numbers are JSON");
        writeln!(out, "{json}")
    } else {
        let epoch = match found.epoch {
            Some(epoch) => format!("epoch {epoch}"),
            None => "no epoch yet".to_owned(),
        };
        let mut counts = vec![
            wording::count(found.n_rows, "row"),
            wording::count(found.n_answers, "answer"),
            wording::count(
                usize::try_from(found.n_vectors).unwrap_or(usize::MAX),
                "vector",
            ),
        ];
        if found.n_outputs > 0 {
            let n = usize::try_from(found.n_outputs).unwrap_or(usize::MAX);
            counts.push(wording::count(n, "output"));
        }
        if found.n_epochs > 1 {
            let epochs = wording::count(found.n_epochs, "epoch");
            counts.push(format!("a history of {epochs}"));
        }
        if found.n_owed > 0 {
            let owed = wording::count(found.n_owed, "epoch");
            counts.push(format!("{owed} not delivered"));
        }
        if found.n_upserts > 0 {
            let rows = wording::count(found.n_upserts, "row");
            counts.push(format!("{rows} at sinks"));
        }
        if found.n_quarantined > 0 {
            let refused = wording::count(found.n_quarantined, "record");
            counts.push(format!("{refused} in quarantine"));
        }
        if found.n_fragments > 0 {
            let fragments = wording::count(found.n_fragments, "fragment");
            let size = wording::megabytes(found.n_fragment_bytes);
            counts.push(format!("{fragments} of {size}"));
        }
        if found.n_damaged_fragments > 0 {
            let n = found.n_damaged_fragments;
            counts.push(format!("{n} damaged, which are encoded again"));
        }
        let size = wording::megabytes(found.n_bytes);
        let mut said = format!("whole: {epoch}, {}, {size}", counts.join(", "));
        if !found.was_closed {
            said += "; the last process did not close it, and the next one mends that";
        }
        writeln!(out, "{said}")
    };
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

fn receipts(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    for receipt in state::receipts(&args.state).map_err(cannot_open)? {
        let json = serde_json::to_string(&receipt).expect("texts and numbers are JSON");
        writeln!(out, "{json}").map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}
