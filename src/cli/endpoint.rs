//! How is a running server of `perennial serve` asked how it is?

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::args::AccessArgs;
use super::failure::Failure;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest reply that is read, in bytes.
const MAX_REPLY: u64 = 16 << 20;

/// A server, as it is reached.
pub(crate) struct Endpoint {
    url: String,
    agent: ureq::Agent,
    /// Read each time: tokens are replaced while a server runs.
    token_file: Option<PathBuf>,
}

impl Endpoint {
    /// The server at an address.
    ///
    /// # Errors
    /// A file of authorities that cannot be read, or holds none.
    pub(crate) fn at(url: &str, access: &AccessArgs) -> Result<Self, Failure> {
        let mut tls = TlsConfig::builder();
        if let Some(file) = &access.ca_file {
            tls = tls.root_certs(authorities(file)?);
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .build();
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            agent: ureq::Agent::new_with_config(config),
            token_file: access.token_file.clone(),
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// That it cannot be reached, or refuses to say.
    pub(crate) fn status(&self) -> Result<Value, Failure> {
        let url = format!("{}/v1/status", self.url);
        let cannot = |what: String| {
            let hint = "check that it runs there: perennial serve --listen HOST:PORT FILE.sql";
            Failure::usage(format!("{url}: {what}"), hint)
        };
        let mut request = self.agent.get(&url);
        if let Some(file) = &self.token_file {
            let action = format!("read {}", file.display());
            let token = std::fs::read_to_string(file).map_err(Failure::io(action))?;
            request = request.header("authorization", format!("Bearer {}", token.trim()));
        }
        let mut response = request.call().map_err(|error| cannot(error.to_string()))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(MAX_REPLY);
        let text = body
            .read_to_string()
            .map_err(|error| cannot(error.to_string()))?;
        let reply: Value = serde_json::from_str(&text)
            .map_err(|_| cannot("what answers there is no server of Perennial".to_owned()))?;
        if status != 200 {
            let said = |field: &str| reply[field].as_str().unwrap_or_default().to_owned();
            return Err(Failure::usage(said("error"), said("hint")));
        }
        Ok(reply)
    }
}

/// The authorities of a PEM file.
fn authorities(file: &Path) -> Result<RootCerts, Failure> {
    let action = format!("read {}", file.display());
    let pem = std::fs::read(file).map_err(Failure::io(action))?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<Certificate<'static>> = certificates.collect();
    match certificates.is_empty() {
        true => Err(Failure::usage(
            format!("{}: it holds no certificate in PEM", file.display()),
            "name the file that the server was given as --tls-cert, or its authority's",
        )),
        false => Ok(RootCerts::new_with_certs(&certificates)),
    }
}
