//! How is a server spoken to?
//!
//! Requests go where they were told to: redirects are not followed, and no proxy of the environment
//! is used. What is read is bounded, and a server that falls silent is given up.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use perennial_model::cancel::Cancel;
use serde_json::Value as Json;
use ureq::Agent;
use ureq::http::HeaderMap;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::address::Address;
use super::error::RemoteError;
use super::exchange::{Exchange, Sent};
use super::fault::{Fault, is_page, shown};

/// Most bytes of a reply.
pub(super) const MAX_REPLY: u64 = 64 << 20;
/// Most bytes of a line of a stream.
const MAX_LINE: u64 = 16 << 20;
/// Most bytes of what goes with a refusal.
const MAX_REFUSAL: u64 = 64 << 10;
/// Most bytes of a file of a key or of certificates.
const MAX_FILE: u64 = 1 << 20;
/// How long a connection may take.
const TO_CONNECT: Duration = Duration::from_secs(10);
/// Most of a reply's head.
const MAX_HEAD: usize = 64 << 10;

/// A key for a server. It is never shown.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key.
    ///
    /// # Errors
    /// One that cannot stand in a request.
    pub fn new(key: &str) -> Result<Self, RemoteError> {
        let key = key.trim();
        let may_stand = |c: char| c.is_ascii_graphic();
        match !key.is_empty() && key.chars().all(may_stand) {
            true => Ok(Self(key.to_owned())),
            false => Err(RemoteError::Setting(
                "a key is one line of printable characters without blanks".to_owned(),
            )),
        }
    }

    /// The key in a file.
    ///
    /// # Errors
    /// A file that cannot be read or holds no key.
    pub fn from_file(path: &Path) -> Result<Self, RemoteError> {
        let key = String::from_utf8(read(path)?).map_err(|_| unusable(path, "it is not UTF-8"))?;
        Self::new(&key).map_err(|error| unusable(path, &error.to_string()))
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

fn unusable(path: &Path, reason: &str) -> RemoteError {
    RemoteError::File {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RemoteError> {
    let said = |error: std::io::Error| unusable(path, &error.to_string());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(said)?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(said)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(unusable(path, "it is larger than 1 MiB")),
        false => Ok(bytes),
    }
}

/// A server, and how it is spoken to.
pub(super) struct Server {
    address: Address,
    key: Option<ApiKey>,
    agent: Agent,
}

impl Server {
    /// A server that may be silent for `patience`; beside the usual authorities it is believed if
    /// one of those in `authorities`, a PEM file, vouches for it.
    pub(super) fn new(
        address: Address,
        key: Option<ApiKey>,
        patience: Duration,
        authorities: Option<&PathBuf>,
    ) -> Result<Self, RemoteError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_response_header_size(MAX_HEAD)
            .timeout_connect(Some(TO_CONNECT))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience));
        if let Some(path) = authorities {
            let tls = TlsConfig::builder().root_certs(certificates(path)?);
            config = config.tls_config(tls.build());
        }
        Ok(Self {
            address,
            key,
            agent: config.build().new_agent(),
        })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// What stands at an endpoint of the interface.
    pub(super) fn get(&self, name: &str) -> Result<Json, Fault> {
        self.get_at(self.address.endpoint(name))
    }

    /// What stands beside the interface.
    pub(super) fn get_beside(&self, name: &str) -> Result<Json, Fault> {
        self.get_at(self.address.beside(name))
    }

    fn get_at(&self, url: String) -> Result<Json, Fault> {
        json(self.exchange(url, None, &Cancel::new())?)
    }

    /// What an endpoint makes of a request.
    pub(super) fn post(&self, name: &str, body: &Json, cancel: &Cancel) -> Result<Json, Fault> {
        json(self.send(name, body, cancel)?)
    }

    /// What an endpoint beside the interface makes of a request.
    pub(super) fn post_beside(
        &self,
        name: &str,
        body: &Json,
        cancel: &Cancel,
    ) -> Result<Json, Fault> {
        let body = Some(body.to_string());
        json(self.exchange(self.address.beside(name), body, cancel)?)
    }

    /// The same of the interface, event by event; a server that sends no events has its reply told as one.
    pub(super) fn stream(
        &self,
        name: &str,
        body: &Json,
        cancel: &Cancel,
        mut tell: impl FnMut(Json) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let said = self.send(name, body, cancel)?;
        let kind = said.headers.get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return tell(json(said)?);
        }
        events(said.take(MAX_REPLY), tell)
    }

    fn send(&self, name: &str, body: &Json, cancel: &Cancel) -> Result<Exchange, Fault> {
        let body = Some(body.to_string());
        self.exchange(self.address.endpoint(name), body, cancel)
    }

    /// What a server says, if that is that all is well.
    fn exchange(
        &self,
        url: String,
        body: Option<String>,
        cancel: &Cancel,
    ) -> Result<Exchange, Fault> {
        let bearer = self.key.as_ref().map(|ApiKey(key)| format!("Bearer {key}"));
        let mut said = Exchange::begin(&self.agent, Sent { url, bearer, body }, cancel)?;
        if said.status.is_success() {
            return Ok(said);
        }
        let retry_after = retry_after(&said.headers);
        let mut body = Vec::new();
        // What breaks off says what it says.
        let _ = said.by_ref().take(MAX_REFUSAL).read_to_end(&mut body);
        let mut fault = Fault::refused(said.status.as_u16(), &body, retry_after);
        // Some servers repeat what they were sent.
        if let (Fault::Refused { said, .. }, Some(ApiKey(key))) = (&mut fault, &self.key) {
            *said = said.replace(key.as_str(), "…");
        }
        Err(fault)
    }
}

/// Tells the events of a stream, up to its end.
pub(super) fn events(
    stream: impl Read,
    mut tell: impl FnMut(Json) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if n.map_err(|error| Fault::Away(format!("the reply broke off: {error}")))? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MAX_LINE {
            return Err(Fault::Garbled("a line of the reply has no end".to_owned()));
        }
        let Some(data) = line.strip_prefix(b"data:") else {
            continue;
        };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            return Ok(());
        }
        let event = serde_json::from_slice(data).map_err(|error| not_json(data, &error))?;
        tell(event)?;
    }
}

/// The authorities of a PEM file.
fn certificates(path: &Path) -> Result<RootCerts, RemoteError> {
    let pem = read(path)?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(unusable(path, &error.to_string())),
        }
    }
    match certificates.is_empty() {
        true => Err(unusable(path, "it holds no certificate in PEM")),
        false => Ok(RootCerts::new_with_certs(&certificates)),
    }
}

fn not_json(text: &[u8], error: &serde_json::Error) -> Fault {
    let text = String::from_utf8_lossy(text);
    let what = match is_page(&text) {
        true => "it is a page of HTML; is this the address of a model server?".to_owned(),
        false => format!("{error}: {}", shown(&text)),
    };
    Fault::Garbled(format!("the reply is not JSON: {what}"))
}

fn json(said: impl Read) -> Result<Json, Fault> {
    let body = whole(said, MAX_REPLY)?;
    serde_json::from_slice(&body).map_err(|error| not_json(&body, &error))
}

fn whole(said: impl Read, limit: u64) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    let broke_off = |error| Fault::Away(format!("the reply broke off: {error}"));
    said.take(limit + 1)
        .read_to_end(&mut body)
        .map_err(broke_off)?;
    match body.len() as u64 > limit {
        true => Err(Fault::Garbled(format!(
            "the reply has more than {limit} bytes"
        ))),
        false => Ok(body),
    }
}

/// When to come back: milliseconds, seconds, or a time.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
    if let Some(milliseconds) = text("retry-after-ms").and_then(seconds) {
        return Some(milliseconds / 1000);
    }
    let value = text("retry-after")?;
    seconds(value).or_else(|| {
        let at = httpdate::parse_http_date(value).ok()?;
        Some(at.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(name: &'static str, value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a value"));
        retry_after(&headers)
    }

    #[test]
    fn when_to_come_back_is_told_in_several_ways() {
        assert_eq!(after("retry-after", "3"), Some(Duration::from_secs(3)));
        assert_eq!(
            after("retry-after", "0.5"),
            Some(Duration::from_millis(500))
        );
        assert_eq!(
            after("retry-after-ms", "1500"),
            Some(Duration::from_millis(1500))
        );
        let past = after("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        for none in ["soon", "-1", "NaN", "1e300"] {
            assert_eq!(after("retry-after", none), None, "{none}");
        }
    }

    #[test]
    fn a_key_is_never_shown_and_cannot_break_a_request() {
        let key = ApiKey::new(" sk-abc\n").expect("a key");
        assert!(!format!("{key:?}").contains("abc"));
        for bad in ["", "a b", "a\nb", "é"] {
            assert!(ApiKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
