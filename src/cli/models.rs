//! `perennial models`: which models are known by name, and which are here?

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use perennial::ask::pull::Profiles;
use perennial::model::locator::{KNOWN, Kind, KnownModel};

use super::args::{BEST_MODEL, DEFAULT_MODEL, ModelsArgs, ModelsCommand};
use super::failure::Failure;
use super::{opening, remote, wording};

/// Runs the command.
pub(crate) fn run(args: &ModelsArgs) -> Result<ExitCode, Failure> {
    if let Some(ModelsCommand::Probe(args)) = &args.command {
        return remote::probe(args);
    }
    let locator = opening::locator(args.cache.as_deref())?;
    let profiles = Profiles::within(locator.settings().profiles());
    print(&locator.settings().models, &profiles).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

fn print(folder: &Path, profiles: &Profiles) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let width = KNOWN
        .iter()
        .map(|model| model.name.len())
        .max()
        .unwrap_or(0);
    for model in KNOWN {
        let use_for = match model.kind {
            Kind::Embedder => "selects passages where documents exceed --budget",
            _ if model.name == DEFAULT_MODEL => "answers; the default of --model",
            _ if model.name == BEST_MODEL => {
                "answers; the default of `watch` on a machine with 8 GiB of memory"
            }
            _ => "answers; --model",
        };
        writeln!(out, "{:width$}  {}", model.name, model.about)?;
        let size = wording::megabytes(model.n_bytes());
        let place = match is_here(folder, model) {
            true => "on this machine",
            false => "fetched when it is first needed",
        };
        writeln!(out, "{:width$}  {use_for}; {size}, {place}", "")?;
        if let Some(judged) = judged_by(model, profiles) {
            writeln!(out, "{:width$}  {judged}", "")?;
        }
    }
    writeln!(out)?;
    writeln!(out, "models are kept in {}", folder.display())?;
    writeln!(
        out,
        "any other GGUF file, or folder of safetensors, is used by its path; a server of models by its \
         address"
    )
}

/// By what a decoder guesses which answers an edit concerns, or why it cannot.
fn judged_by(model: &KnownModel, profiles: &Profiles) -> Option<String> {
    let ([file], Kind::Decoder) = (model.files, model.kind) else {
        return None;
    };
    let profile = profiles.of(&file.sha256.parse().ok()?);
    Some(match profile {
        Ok(profile) => format!(
            "under --policy bounded by {}",
            wording::plain(&profile.to_string())
        ),
        Err(error) => format!("cannot be opened: {}", wording::plain(&error.to_string())),
    })
}

/// Whether every file is there in its full size. Digests are compared when it is opened.
fn is_here(folder: &Path, model: &KnownModel) -> bool {
    let folder = folder.join(model.name);
    model.files.iter().all(|file| {
        let metadata = std::fs::metadata(folder.join(file.name));
        metadata.is_ok_and(|metadata| metadata.len() == file.n_bytes)
    })
}
