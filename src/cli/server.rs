//! How is a server of `perennial serve` asked?

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, http};

use super::args::ServerArgs;
use super::failure::Failure;

/// The longest reply that is read as a whole, in bytes.
const MAX_REPLY: u64 = 16 << 20;

/// A path of a server, which may take so long to reply.
pub(crate) struct Asked<'a> {
    args: &'a ServerArgs,
    address: String,
    agent: ureq::Agent,
}

impl<'a> Asked<'a> {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// Authorities that cannot be read.
    pub(crate) fn at(
        address: &str,
        path: &str,
        args: &'a ServerArgs,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let mut tls = TlsConfig::builder();
        if let Some(file) = &args.ca_file {
            tls = tls.root_certs(authorities(file)?);
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .timeout_global(Some(patience))
            .max_redirects(0)
            .build();
        Ok(Self {
            args,
            address: format!("{}{path}", address.trim_end_matches('/')),
            agent: ureq::Agent::new_with_config(config),
        })
    }

    /// Asks for it.
    ///
    /// # Errors
    /// A server that is not there, or refuses.
    pub(crate) fn get(&self) -> Result<http::Response<Body>, Failure> {
        let mut request = self.agent.get(&self.address);
        if let Some(bearer) = self.bearer()? {
            request = request.header("authorization", bearer);
        }
        self.accepted(request.call())
    }

    /// Posts nothing to it.
    ///
    /// # Errors
    /// As [`Asked::get`].
    pub(crate) fn post(&self) -> Result<http::Response<Body>, Failure> {
        let mut request = self.agent.post(&self.address);
        if let Some(bearer) = self.bearer()? {
            request = request.header("authorization", bearer);
        }
        self.accepted(request.send_empty())
    }

    /// A reply of JSON.
    ///
    /// # Errors
    /// A reply that is none.
    pub(crate) fn json(&self, mut response: http::Response<Body>) -> Result<Value, Failure> {
        let body = response.body_mut().with_config().limit(MAX_REPLY);
        let text = body
            .read_to_string()
            .map_err(|error| self.cannot(&error.to_string()))?;
        let none = |_| self.cannot("what answers there is no server of Perennial");
        serde_json::from_str(&text).map_err(none)
    }

    /// A reply that is a success.
    fn accepted(
        &self,
        response: Result<http::Response<Body>, ureq::Error>,
    ) -> Result<http::Response<Body>, Failure> {
        let response = response.map_err(|error| self.cannot(&error.to_string()))?;
        if response.status() == 200 {
            return Ok(response);
        }
        let reply = self.json(response)?;
        let said = |field: &str| reply[field].as_str().unwrap_or_default().to_owned();
        Err(Failure::usage(said("error"), said("hint")))
    }

    /// What went wrong with it.
    pub(crate) fn cannot(&self, what: &str) -> Failure {
        let hint = "check that it runs there: perennial serve --listen HOST:PORT FILE.sql";
        Failure::usage(format!("{}: {what}", self.address), hint)
    }

    fn bearer(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.args.token_file else {
            return Ok(None);
        };
        let action = format!("read {}", file.display());
        let token = std::fs::read_to_string(file).map_err(Failure::io(action))?;
        Ok(Some(format!("Bearer {}", token.trim())))
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
