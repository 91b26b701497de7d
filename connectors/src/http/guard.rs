//! Who may ask?
//!
//! Whoever has the bearer token, where there is one. Where there is none, the listener is bound to
//! this machine, and whoever is on it may ask; but pages of other sites in a browser on it may not.
//! Such a page can send requests to a loopback address, by its number (told by `Origin` and
//! `Sec-Fetch-Site`) or by a name of its own that it points there (DNS rebinding, told by `Host`).

use std::fmt;
use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::reply::Refusal;
use crate::Error;

/// The shortest token, in bytes.
const TOKEN_MIN: usize = 16;
/// The longest.
const TOKEN_MAX: usize = 1024;

/// A secret that whoever posts must know. Only its digest is kept.
#[derive(Clone)]
pub struct BearerToken(blake3::Hash);

impl BearerToken {
    /// This text, without blanks around it.
    ///
    /// # Errors
    /// [`Error::Secret`] for one that is under 16 or over 1,024 bytes, or holds blanks or anything
    /// but visible ASCII, which no header could carry.
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let reason = if !(TOKEN_MIN..=TOKEN_MAX).contains(&text.len()) {
            format!(
                "{} bytes long, where {TOKEN_MIN} to {TOKEN_MAX} are expected",
                text.len()
            )
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "holds blanks, or characters that are not ASCII".to_owned()
        } else {
            return Ok(Self(blake3::hash(text.as_bytes())));
        };
        let what = "the bearer token";
        Err(Error::Secret { what, reason })
    }

    /// Whether this is the token. Takes as long whatever they share, since digests are compared,
    /// and those in constant time.
    fn is(&self, given: &[u8]) -> bool {
        blake3::hash(given) == self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

/// Lets a request pass, or says why not.
pub(super) fn admit(token: Option<&BearerToken>, head: &Parts) -> Result<(), Refusal> {
    match token {
        Some(token) => match bearer(head) {
            Some(given) if token.is(given) => Ok(()),
            _ => Err(Refusal::unauthorized()),
        },
        None if is_of_this_machine(head) => Ok(()),
        None => Err(Refusal::foreign()),
    }
}

fn bearer(head: &Parts) -> Option<&[u8]> {
    let value = head.headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, given) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(given)
}

/// Whether no page of another site, as far as browsers tell, is behind a request.
fn is_of_this_machine(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let is_sent_here = host.is_some_and(is_loopback_host) && hosts.next().is_none();
    let is_meant_for_here = head
        .uri
        .authority()
        .is_none_or(|authority| is_loopback_host(authority.as_str()));
    let site = head.headers.get("sec-fetch-site");
    let is_of_a_site = site.is_some_and(|site| site != "none");
    is_sent_here && is_meant_for_here && !is_of_a_site && !head.headers.contains_key(ORIGIN)
}

/// Whether a `Host`, with or without a port, names this machine by a number or as localhost: no page of
/// another site has such a name.
pub fn is_loopback_host(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = |ip: IpAddr| ip.to_canonical().is_loopback();
    // Behind the host stands a port, or nothing.
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let is_whole = match authority.as_str().strip_prefix(host) {
        Some("") => true,
        Some(behind) => behind.strip_prefix(':').is_some_and(is_port),
        None => false,
    };
    is_whole && (host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_address))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/v1/streams/documents");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn without_a_token_only_this_machine_and_no_page_passes() {
        for host in [
            "localhost",
            "LocalHost:80",
            "127.0.0.1:7070",
            "[::1]:9",
            "127.3.2.1",
        ] {
            assert!(admit(None, &head(&[("host", host)])).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:7070",
            "10.0.0.1",
            "0.0.0.0:7070",
            "localhost@evil.example",
            "evil.example@localhost",
            "[::1]$9",
            "localhost:x",
            "",
            "a b",
        ] {
            assert!(admit(None, &head(&[("host", host)])).is_err(), "{host}");
        }
        assert!(admit(None, &head(&[])).is_err(), "no host");
        let here = ("host", "localhost");
        for other in [
            ("host", "evil.example"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:3000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(admit(None, &head(&[here, other])).is_err(), "{other:?}");
        }
        assert!(admit(None, &head(&[here, ("sec-fetch-site", "none")])).is_ok());
    }

    #[test]
    fn with_a_token_only_who_knows_it_passes() {
        let token = BearerToken::new(" 0123456789abcdef\n").unwrap();
        let with = |value| admit(Some(&token), &head(&[("authorization", value)]));
        assert!(with("Bearer 0123456789abcdef").is_ok());
        assert!(with("bearer 0123456789abcdef").is_ok());
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
        assert!(admit(Some(&token), &head(&[("host", "localhost")])).is_err());
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn a_token_that_is_short_or_no_header_is_refused_and_not_shown() {
        for wrong in ["", "short", "0123456789 abcdef", "0123456789abcdéf"] {
            let error = BearerToken::new(wrong).unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
