//! How is a running server of `perennial serve` asked?

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, RequestBuilder, http};

use super::args::AccessArgs;
use super::failure::Failure;

/// What a server says of a path that it does not have.
const NO_PATH: &str = "there is nothing at this path";

/// The longest reply that is read as a whole, in bytes.
const MAX_REPLY: u64 = 16 << 20;

/// A server, as it is reached.
pub(crate) struct Endpoint {
    url: String,
    agent: ureq::Agent,
    /// Read each time: tokens are replaced while a server runs.
    token_file: Option<PathBuf>,
}

impl Endpoint {
    /// The server at an address, which may take so long to reply.
    ///
    /// # Errors
    /// A file of authorities that cannot be read, or holds none.
    pub(crate) fn at(url: &str, access: &AccessArgs, patience: Duration) -> Result<Self, Failure> {
        if access.ca_file.is_some() && !url.starts_with("https://") {
            return Err(Failure::usage(
                "--ca-file is of a server that speaks TLS",
                "leave it out, or give the address as https://HOST:PORT",
            ));
        }
        let mut tls = TlsConfig::builder();
        if let Some(file) = &access.ca_file {
            tls = tls.root_certs(authorities(file)?);
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .timeout_global(Some(patience))
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
        self.get("/v1/status")
    }

    /// What it says at a path.
    ///
    /// # Errors
    /// As [`Endpoint::status`].
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.get(self.at_path(path));
        let response = self.accepted(path, self.signed(request)?.call())?;
        self.json(path, response)
    }

    /// Posts something to a path.
    ///
    /// # Errors
    /// As [`Endpoint::status`].
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Result<http::Response<Body>, Failure> {
        let request = self.agent.post(self.at_path(path));
        self.accepted(path, self.signed(request)?.send(body))
    }

    /// The same, for what it says to that.
    ///
    /// # Errors
    /// As [`Endpoint::status`].
    pub(crate) fn post_for(&self, path: &str, body: &[u8]) -> Result<Value, Failure> {
        let response = self.post(path, body)?;
        self.json(path, response)
    }

    /// Deletes what is at a path. Whether it was there.
    ///
    /// # Errors
    /// As [`Endpoint::status`].
    pub(crate) fn delete(&self, path: &str) -> Result<bool, Failure> {
        let request = self.agent.delete(self.at_path(path));
        match self.signed(request)?.call() {
            Ok(response) if response.status() == 404 => Ok(false),
            response => self.accepted(path, response).map(|_| true),
        }
    }

    fn at_path(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn signed<B>(&self, request: RequestBuilder<B>) -> Result<RequestBuilder<B>, Failure> {
        Ok(match self.bearer()? {
            Some(bearer) => request.header("authorization", bearer),
            None => request,
        })
    }

    /// What went wrong at a path.
    pub(crate) fn cannot(&self, path: &str, what: &str) -> Failure {
        let hint = "check that it runs there: perennial serve --listen HOST:PORT FILE.sql";
        let what = format!("{}{path}: {what}", self.url);
        Failure::Refused { what, hint }
    }

    /// A reply that is a success.
    fn accepted(
        &self,
        path: &str,
        response: Result<http::Response<Body>, ureq::Error>,
    ) -> Result<http::Response<Body>, Failure> {
        let response = response.map_err(|error| self.cannot(path, &error.to_string()))?;
        if response.status() == 200 {
            return Ok(response);
        }
        let is_unknown = response.status() == 404;
        let reply = self.json(path, response)?;
        let said = |field: &str| reply[field].as_str().unwrap_or_default().to_owned();
        // What is asked here, `serve` has: so it is no `serve` that answers.
        if is_unknown && said("error") == NO_PATH {
            let what =
                "what answers there is no `perennial serve` (a `watch --listen` is only posted to)";
            return Err(self.cannot(path, what));
        }
        Err(Failure::usage(said("error"), said("hint")))
    }

    fn json(&self, path: &str, mut response: http::Response<Body>) -> Result<Value, Failure> {
        let body = response.body_mut().with_config().limit(MAX_REPLY);
        let text = body
            .read_to_string()
            .map_err(|error| self.cannot(path, &error.to_string()))?;
        let none = |_| self.cannot(path, "what answers there is no server of Perennial");
        serde_json::from_str(&text).map_err(none)
    }

    fn bearer(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.token_file else {
            return Ok(None);
        };
        let action = format!("read {}", file.display());
        let text = std::fs::read_to_string(file).map_err(Failure::io(action))?;
        let mut words = text.split_whitespace();
        // The words are not shown: one of them is the token.
        match (words.next(), words.next()) {
            (Some(token), None) => Ok(Some(format!("Bearer {token}"))),
            (None, _) => Err(Failure::usage(
                format!("{}: it holds no token", file.display()),
                "write the token to it, and nothing else",
            )),
            (Some(_), Some(_)) => Err(Failure::usage(
                format!("{}: it holds more than a token", file.display()),
                "write one token of the server's list to a file of its own, without roles and names",
            )),
        }
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
