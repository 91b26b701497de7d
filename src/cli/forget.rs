//! `perennial forget`: a record is erased, with what was derived from it and what remembers it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use perennial::engine::Receipt;
use perennial::state;
use serde_json::json;

use super::args::ForgetArgs;
use super::failure::Failure;
use super::place::{Held, cannot_open};
use super::{stderr, told};

/// Runs the command.
pub(crate) fn run(args: &ForgetArgs) -> Result<ExitCode, Failure> {
    let (receipts, is_folder) = match args.of.held()? {
        Held::Folder(folder) => {
            let receipts = state::forget(folder, &args.from, &args.keys).map_err(cannot_open)?;
            (receipts, true)
        }
        #[cfg(feature = "serve")]
        Held::Server(server) => (of_server::forget(&server, args)?, false),
    };
    let mut out = io::stdout().lock();
    for receipt in &receipts {
        let written = match args.json {
            true => writeln!(out, "{}", json!({"event": "forgotten", "receipt": receipt})),
            false => told::forgotten(&mut out, receipt, is_folder),
        };
        written.map_err(Failure::output)?;
    }
    if is_folder && !args.json && receipts.iter().any(|receipt| receipt.was_there) {
        stderr::line(
            "what a source still holds of it comes again at the next start: delete it there, too",
        );
    }
    let remains = |receipt: &Receipt| !receipt.remains.is_empty();
    Ok(match receipts.iter().any(remains) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// The same of a server, which has the folder open.
#[cfg(feature = "serve")]
mod of_server {
    use super::*;
    use crate::cli::endpoint::Endpoint;

    const PATH: &str = "/v1/sql";

    /// Has it forget one after the other.
    pub(super) fn forget(server: &Endpoint, args: &ForgetArgs) -> Result<Vec<Receipt>, Failure> {
        let of_key = |key: &String| {
            let key = key.replace('\'', "''");
            let from = args.from.replace('"', "\"\"");
            let sql = json!({"sql": format!("FORGET '{key}' FROM \"{from}\"")});
            let reply = server.post_for(PATH, sql.to_string().as_bytes())?;
            let receipt = reply["outcomes"][0]["receipt"].clone();
            let unknown = |_| server.cannot(PATH, "it says what this version does not understand");
            serde_json::from_value(receipt).map_err(unknown)
        };
        args.keys.iter().map(of_key).collect()
    }
}
