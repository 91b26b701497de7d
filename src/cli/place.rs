//! Whose state is looked at: that of a folder, or that of a server that has one open?

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use perennial::state::StateError;

use super::args::StateArgs;
#[cfg(feature = "serve")]
use super::endpoint::Endpoint;
use super::failure::Failure;

/// What was typed for a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatePlace {
    /// A folder.
    Folder(PathBuf),
    /// The address of a server.
    Server(String),
}

impl From<OsString> for StatePlace {
    fn from(typed: OsString) -> Self {
        let is_url = |text: &&str| text.starts_with("http://") || text.starts_with("https://");
        match typed.to_str().filter(is_url) {
            Some(url) => Self::Server(url.to_owned()),
            None => Self::Folder(typed.into()),
        }
    }
}

/// A state that can be looked at.
pub(crate) enum Held<'a> {
    /// In a folder that nobody has open, as far as is known before it is opened.
    Folder(&'a Path),
    /// By a server.
    #[cfg(feature = "serve")]
    Server(Box<Endpoint>),
}

#[cfg(feature = "serve")]
impl StateArgs {
    /// Where the state is.
    ///
    /// # Errors
    /// What says how a server is asked, where none is.
    pub(crate) fn held(&self) -> Result<Held<'_>, Failure> {
        use std::time::Duration;

        /// How long a server may take.
        const PATIENCE: Duration = Duration::from_secs(60);

        let is_asked_by = self.access.token_file.is_some() || self.access.ca_file.is_some();
        match &self.state {
            StatePlace::Server(url) => {
                let server = Endpoint::at(url, &self.access, PATIENCE)?;
                Ok(Held::Server(Box::new(server)))
            }
            StatePlace::Folder(_) if is_asked_by => Err(Failure::usage(
                "--token-file and --ca-file are of a server",
                "leave them out, or give its URL instead of the folder",
            )),
            StatePlace::Folder(folder) => Ok(Held::Folder(folder)),
        }
    }
}

#[cfg(not(feature = "serve"))]
impl StateArgs {
    /// Where the state is.
    ///
    /// # Errors
    /// A server: this program asks none.
    pub(crate) fn held(&self) -> Result<Held<'_>, Failure> {
        match &self.state {
            StatePlace::Server(_) => Err(Failure::usage(
                "this program was built without what asks servers",
                "build it with --features serve",
            )),
            StatePlace::Folder(folder) => Ok(Held::Folder(folder)),
        }
    }
}

/// Why the state of a folder cannot be looked at, and what to do where another program has it open.
pub(crate) fn cannot_open(error: StateError) -> Failure {
    match error {
        StateError::InUse { path, holder } => Failure::StateInUse { path, holder },
        other => Failure::Engine(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_a_folder() {
        let server = StatePlace::Server("http://127.0.0.1:7070".to_owned());
        assert_eq!(
            StatePlace::from(OsString::from("http://127.0.0.1:7070")),
            server
        );
        let folder = StatePlace::Folder("./http".into());
        assert_eq!(StatePlace::from(OsString::from("./http")), folder);
    }
}
