//! Who may ask?
//!
//! Whoever has a token, where there are tokens: what it may is its [`Grant`]. Where there are none the
//! server is bound to this machine, and whoever is on it may do all; but pages of other sites in a browser
//! on it may not. Such a page can send requests to a loopback address, by its number (told by `Origin`
//! and `Sec-Fetch-Site`) or by a name of its own that it points there (DNS rebinding, told by `Host`).
//! Pages of this server itself may.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use perennial_connectors::{is_loopback_host, network};

use super::openai;
use super::rates::Rates;
use super::refusal::Refusal;
use super::tokens::{Grant, Role, Tokens};

/// What is open to everybody who reaches the server.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/v1/openapi.json"];

/// Who lets requests in.
#[derive(Debug)]
pub(super) struct Gate {
    /// None where only this machine is served.
    tokens: Option<Arc<Tokens>>,
    rates: Rates<Asker>,
}

/// By whom requests, and what is held for longer than a request, are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    /// By what tells a token from others.
    Token(Arc<str>),
    /// The network from which it comes, where there is no token.
    Peer(IpAddr),
    /// Nobody knows who.
    #[default]
    Unknown,
}

impl Asker {
    fn at(parts: &Parts) -> Self {
        let peer = parts.extensions.get::<Peer>();
        peer.map_or(Self::Unknown, |peer| Self::Peer(peer.network()))
    }

    /// Who makes a request that was let in.
    #[cfg(feature = "mcp")]
    pub(crate) fn of(parts: &Parts) -> Self {
        let caller = parts.extensions.get::<Caller>();
        let token = caller.and_then(|caller| caller.grant.asker().cloned());
        token.map_or_else(|| Self::at(parts), Self::Token)
    }
}

/// The address from which a connection comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Peer {
    /// By what its requests are counted.
    fn network(self) -> IpAddr {
        network(self.0)
    }
}

impl Gate {
    pub(super) fn new(tokens: Option<Arc<Tokens>>, rate: u32, burst: u32) -> Self {
        Self {
            tokens,
            rates: Rates::new(rate, burst),
        }
    }

    /// Lets a request in, or says why not. What is open needs no token.
    fn admit(&self, parts: &Parts, is_open: bool) -> Result<Grant, Refusal> {
        let peer = Asker::at(parts);
        let count = |who| match self.rates.admit(who, Instant::now()) {
            true => Ok(()),
            false => Err(Refusal::often()),
        };
        match &self.tokens {
            Some(tokens) => {
                let grant = bearer(&parts.headers).and_then(|token| tokens.grant(token));
                match grant {
                    Some(grant) => {
                        let who = grant.asker().cloned();
                        count(who.map_or(peer, Asker::Token))?;
                        Ok(grant)
                    }
                    None => {
                        // Who guesses is slowed down.
                        count(peer)?;
                        match is_open {
                            true => Ok(Grant::nothing()),
                            false => Err(Refusal::unauthorized()),
                        }
                    }
                }
            }
            None => {
                count(peer)?;
                match is_of_this_machine(parts) {
                    true => Ok(Grant::all()),
                    false => Err(Refusal::forbidden(
                        "without tokens, only programs on this machine are served: no pages of \
                         other sites, and no names of it but localhost",
                        "address it as 127.0.0.1; or start it with --token-file",
                    )),
                }
            }
        }
    }
}

impl Grant {
    /// That of who has no token, at what is open.
    fn nothing() -> Self {
        Self::of_roles([])
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, given) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(given)
}

/// Whether no page of another site, as far as browsers tell, is behind a request.
fn is_of_this_machine(parts: &Parts) -> bool {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let Some(host) = host.filter(|host| is_loopback_host(host)) else {
        return false;
    };
    let is_only = hosts.next().is_none();
    let is_meant_for_here = parts
        .uri
        .authority()
        .is_none_or(|authority| is_loopback_host(authority.as_str()));
    let site = parts.headers.get("sec-fetch-site");
    let is_of_another = site.is_some_and(|site| site != "none" && site != "same-origin");
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    let is_own = |origin: &str| {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    let are_own = origins.all(|origin| origin.to_str().is_ok_and(is_own));
    is_only && is_meant_for_here && !is_of_another && are_own
}

/// Lets requests in, each with what it may.
pub(super) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let is_open = OPEN.contains(&request.uri().path());
    admit_to(&gate, is_open, request, next).await
}

/// Lets requests for pages in, which hold nothing that a token guards.
pub(super) async fn admit_to_pages(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    admit_to(&gate, true, request, next).await
}

async fn admit_to(gate: &Gate, is_open: bool, request: Request, next: Next) -> Response {
    let (mut parts, body): (Parts, Body) = request.into_parts();
    match gate.admit(&parts, is_open) {
        Ok(grant) => {
            let caller = Caller::of(grant, gate.tokens.clone());
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => openai::refused(parts.uri.path(), refusal),
    }
}

/// Who asks, and what they may.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// What they were let in with.
    grant: Arc<Grant>,
    /// The tokens of which theirs is one; none where there are none.
    tokens: Option<Arc<Tokens>>,
}

impl Caller {
    pub(super) fn of(grant: Grant, tokens: Option<Arc<Tokens>>) -> Self {
        Self {
            grant: Arc::new(grant),
            tokens,
        }
    }

    /// Refuses who does not have a role.
    pub(crate) fn may(&self, role: Role) -> Result<(), Refusal> {
        if self.grant.has(role) {
            return Ok(());
        }
        let role = role.word();
        let error = format!("this token may not do that: it has no role `{role}`");
        Err(Refusal::forbidden(error, "use one that has"))
    }

    /// Refuses who does not have a role, or not for this stream or view. That it is there is not told.
    pub(crate) fn may_of(&self, role: Role, name: &str) -> Result<(), Refusal> {
        self.may(role)?;
        if self.grant.reaches(name) {
            return Ok(());
        }
        let error = format!("this token does not reach `{name}`");
        Err(Refusal::forbidden(error, "use one that does"))
    }

    /// Whether they may this still: by what the tokens say now, which may be other than when they were
    /// let in.
    pub(crate) fn still_may(&self, role: Role, name: &str) -> bool {
        let may = |grant: &Grant| grant.has(role) && grant.reaches(name);
        match &self.tokens {
            Some(tokens) => tokens.renewed(&self.grant).is_some_and(|now| may(&now)),
            None => may(&self.grant),
        }
    }

    /// Refuses who does not have a role for all streams and views.
    pub(crate) fn may_of_all(&self, role: Role) -> Result<(), Refusal> {
        self.may(role)?;
        if !self.grant.is_restricted() {
            return Ok(());
        }
        let error = "this token is restricted to some streams and views";
        Err(Refusal::forbidden(error, "use one that is not"))
    }

    /// Whether they have a role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.grant.has(role)
    }

    /// Whether they reach a stream or a view.
    pub(crate) fn reaches(&self, name: &str) -> bool {
        self.grant.reaches(name)
    }
}

impl Caller {
    /// Who runs this program, and may do all.
    #[cfg(feature = "mcp")]
    pub(crate) fn owner() -> Self {
        Self::of(Grant::all(), None)
    }

    /// Columns, and the values with which they ask.
    pub(super) fn bound(&self) -> &BTreeMap<String, String> {
        self.grant.bound()
    }

    /// What tells them from others; none where there are no tokens.
    pub(super) fn asker(&self) -> Option<&str> {
        self.grant.asker().map(|asker| &**asker)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Self>().cloned();
        // Nobody comes past the gate without.
        caller.ok_or_else(Refusal::unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/v1/relations");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_bucket_stays_with_its_token_when_others_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("tokens");
        let (first, second) = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb");
        std::fs::write(&path, format!("read {first}\nread {second}\n")).expect("writable");
        let tokens = Arc::new(Tokens::open(&path).expect("tokens"));
        // One request, and another after a thousand years.
        let gate = Gate {
            tokens: Some(tokens.clone()),
            rates: Rates::new(0, 1),
        };
        let is_admitted = |token: &str| {
            let bearer = format!("Bearer {token}");
            gate.admit(&parts(&[("authorization", &*bearer)]), false)
                .is_ok()
        };
        assert!(is_admitted(first));
        std::fs::write(&path, format!("read {second}\n")).expect("writable");
        assert!(tokens.reread().expect("reads"));
        assert!(is_admitted(second), "it has asked nothing yet");
        assert!(!is_admitted(second));
    }

    #[test]
    fn without_tokens_only_this_machine_and_its_own_pages_pass() {
        for fields in [
            &[("host", "localhost")][..],
            &[("host", "127.0.0.1:7070")],
            &[("host", "[::1]:7070"), ("origin", "http://[::1]:7070")],
            &[
                ("host", "127.0.0.1:7070"),
                ("origin", "http://127.0.0.1:7070"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("host", "localhost"), ("sec-fetch-site", "none")],
        ] {
            assert!(is_of_this_machine(&parts(fields)), "{fields:?}");
        }
        for fields in [
            &[][..],
            &[("host", "evil.example")],
            &[("host", "127.0.0.1.evil.example")],
            &[("host", "localhost"), ("host", "evil.example")],
            &[("host", "localhost"), ("origin", "https://evil.example")],
            &[("host", "localhost"), ("origin", "null")],
            // Another program of this machine serves that page.
            &[
                ("host", "localhost:7070"),
                ("origin", "http://localhost:3000"),
            ],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost"), ("sec-fetch-site", "same-site")],
            &[
                ("host", "localhost"),
                ("origin", "http://localhost"),
                ("origin", "https://evil.example"),
            ],
        ] {
            assert!(!is_of_this_machine(&parts(fields)), "{fields:?}");
        }
    }
}
