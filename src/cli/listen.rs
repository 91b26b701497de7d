//! Where may records be posted, and where are answers posted to? Secrets come from files: what is
//! typed can be read by everybody on the machine.

use std::path::{Path, PathBuf};

use perennial::connectors::{BearerToken, HttpLimits, HttpListener, Sink, Webhook};

use super::failure::Failure;
use super::inputs::Inputs;

/// Stands before the keys of what was posted, whatever else is read: it cannot be read again, so
/// whose it is must not depend on what stands beside it.
pub(crate) const PREFIX: &str = "http#";

/// Where records may be posted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) address: String,
    pub(crate) token_file: Option<PathBuf>,
}

impl Listen {
    /// Listens.
    ///
    /// # Errors
    /// A token that cannot be read, an address that cannot be had, or that needs a token.
    pub(crate) fn open(&self) -> Result<HttpListener, Failure> {
        let token = match &self.token_file {
            Some(file) => Some(BearerToken::new(&secret(file)?)?),
            None => None,
        };
        let limits = HttpLimits::default();
        Ok(HttpListener::bind(&self.address, token, limits)?)
    }
}

/// For each stream that may be posted to: where, in words.
pub(crate) fn invitations(listener: &HttpListener, inputs: &Inputs) -> Vec<(&'static str, String)> {
    let address = listener.address();
    let invite = |stream| {
        let url = format!("http://{address}/v1/streams/{stream}");
        (stream, format!("{stream} may be posted to {url}"))
    };
    inputs.posted().into_iter().map(invite).collect()
}

/// Whether a sink is a URL that answers are posted to.
pub(crate) fn is_url(typed: &str) -> bool {
    typed.starts_with("http://") || typed.starts_with("https://")
}

/// A URL that answers are posted to.
///
/// # Errors
/// What cannot be one, or a secret that cannot be.
pub(crate) fn webhook(typed: &str, secret_file: Option<&Path>) -> Result<Box<dyn Sink>, Failure> {
    let mut webhook = Webhook::open(typed)?;
    if let Some(file) = secret_file {
        webhook = webhook.secret(&secret(file)?)?;
    }
    Ok(Box::new(webhook))
}

fn secret(file: &Path) -> Result<String, Failure> {
    let action = format!("read {}", file.display());
    std::fs::read_to_string(file).map_err(Failure::io(action))
}
