//! `perennial backup` and `perennial restore`: a state folder as one file, and back.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use perennial::connectors::timestamp;
use perennial::state::{self, BackupError, BackupSummary, StateError};
use tempfile::NamedTempFile;

use super::args::{BackupArgs, RestoreArgs};
use super::failure::Failure;
use super::live::Live;
use super::wording;

/// Runs `perennial backup`.
pub(crate) fn backup(args: &BackupArgs) -> Result<ExitCode, Failure> {
    let cannot_write = || format!("write {}", args.out.display());
    let parent = args.out.parent().filter(|of| !of.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    // A backup that is not complete must not be taken for one, nor take the place of one.
    let mut file = NamedTempFile::new_in(parent).map_err(Failure::io(cannot_write()))?;
    match &args.state {
        Some(dir) => of_folder(dir, &mut file)?,
        None => of_server(args, &mut file)?,
    }
    let written = file.as_file().sync_all();
    written.map_err(Failure::io(cannot_write()))?;
    let found = state::verify_backup(file.path()).map_err(perennial::Error::from)?;
    let kept = file.persist(&args.out).map_err(|error| error.error);
    kept.map_err(Failure::io(cannot_write()))?;
    told(&found, args.json, |said| {
        format!("{}: {said}", args.out.display())
    })
}

fn of_folder(dir: &Path, file: &mut NamedTempFile) -> Result<(), Failure> {
    let out = io::BufWriter::new(file.as_file_mut());
    match state::backup(dir, out) {
        Ok(_) => Ok(()),
        Err(error @ BackupError::State(StateError::InUse { .. })) => Err(Failure::usage(
            first_words(&error),
            "ask the server that has it open: perennial backup --url http://HOST:PORT --out FILE",
        )),
        Err(error) => Err(perennial::Error::from(error).into()),
    }
}

/// What is wrong, without what is to be done about it otherwise.
fn first_words(error: &BackupError) -> String {
    let said = error.to_string();
    said.split("; ").next().unwrap_or_default().to_owned()
}

#[cfg(feature = "serve")]
fn of_server(args: &BackupArgs, file: &mut NamedTempFile) -> Result<(), Failure> {
    use std::time::Duration;

    /// Longer than a server lets it take.
    const PATIENCE: Duration = Duration::from_secs(2 * 3_600);

    let address = args.url.as_deref().unwrap_or_default();
    let server = super::endpoint::Endpoint::at(address, &args.access, PATIENCE)?;
    let response = server.post("/v1/backup", b"")?;
    let mut body = response.into_body().into_reader();
    match io::copy(&mut body, file) {
        Ok(_) => Ok(()),
        Err(error) => Err(server.cannot("/v1/backup", &format!("the backup broke off: {error}"))),
    }
}

#[cfg(not(feature = "serve"))]
fn of_server(_: &BackupArgs, _: &mut NamedTempFile) -> Result<(), Failure> {
    Err(Failure::usage(
        "there is no state folder to be backed up",
        "name it: perennial backup --state FOLDER --out FILE",
    ))
}

/// Runs `perennial restore`.
pub(crate) fn restore(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let mut bar = Live::new(args.json).bytes();
    let mut is_begun = false;
    let restored = state::restore(&args.backup, &args.state, |at, n_bytes| {
        if !std::mem::replace(&mut is_begun, true) {
            bar.begin("restoring", n_bytes);
        }
        bar.at(at);
    });
    bar.end();
    drop(bar);
    let restored = restored.map_err(perennial::Error::from)?;
    told(&restored, args.json, |said| {
        let sinks = match restored.n_sinks {
            0 => String::new(),
            n => format!(
                "; {} told anew what stands when it goes on",
                match n {
                    1 => "1 sink is".to_owned(),
                    n => format!("{} sinks are", thousands(n)),
                }
            ),
        };
        format!("{}: {said}{sinks}", args.state.display())
    })
}

/// Says what a backup is of: as an object, or in a line.
fn told(
    found: &BackupSummary,
    is_json: bool,
    line: impl FnOnce(&str) -> String,
) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let written = match is_json {
        true => {
            let json = serde_json::to_string(found).expect("texts and numbers are JSON");
            writeln!(out, "{json}")
        }
        false => {
            let epoch = match found.epoch {
                Some(epoch) => format!("epoch {epoch}"),
                None => "no epoch yet".to_owned(),
            };
            let said = format!(
                "{epoch} of {}, {}, {}, {}",
                timestamp::text(found.taken_at_ms),
                wording::count(as_size(found.n_rows), "row"),
                wording::count(as_size(found.n_answers), "answer"),
                wording::megabytes(found.n_bytes),
            );
            writeln!(out, "{}", wording::plain(&line(&said)))
        }
    };
    written.map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

fn as_size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn thousands(n: u64) -> String {
    wording::thousands(as_size(n))
}
