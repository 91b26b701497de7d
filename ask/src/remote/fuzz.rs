//! What of a server's replies is read, from bytes that a fuzzer makes up.
//!
//! A function takes any bytes, and panics where what they are read as breaks a rule.

use serde_json::Value as Json;
use ureq::http::{HeaderMap, HeaderValue, Uri};

use super::address::Address;
use super::fault::Fault;
use super::reply::Reply;
use super::{native, server, verify};

/// The most characters of what a server says that people are shown, with room for what is said around it.
const MAX_SHOWN: usize = 2_000;

/// A reply: in events, whole, and as the body of a refusal.
pub fn reply(bytes: &[u8]) {
    let mut in_events = Reply::default();
    let told = server::events(bytes, |event| in_events.take(&event));
    hold(in_events, told);
    if let Ok(event) = serde_json::from_slice::<Json>(bytes) {
        let mut whole = Reply::default();
        let told = whole.take(&event);
        hold(whole, told);
        if let Ok(scored) = native::scored(&event) {
            let _ = verify::check("It is nine.", &scored.scores);
        }
    }
    let (status, body) = match bytes {
        [status, body @ ..] => (400 + u16::from(*status) % 200, body),
        [] => (500, bytes),
    };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(body) {
        headers.insert("retry-after-ms", value.clone());
        headers.insert("retry-after", value);
    }
    let after = server::retry_after(&headers);
    let fault = Fault::refused(status, body, after);
    assert!(fault.to_string().chars().count() <= MAX_SHOWN, "{fault}");
    let _ = fault.into_failure(9_000, 4_096);
}

fn hold(mut reply: Reply, told: Result<(), Fault>) {
    if let Err(fault) = told {
        let _ = fault.into_failure(9_000, 4_096);
    }
    reply.count(7);
    let _ = (reply.visible(), reply.closes_only(), reply.has_thought());
    if let Ok((answer, _)) = reply.answer(8) {
        assert!(!answer.trim().is_empty(), "an answer that says nothing");
        assert!(reply.text.contains(answer));
    }
    if let Some(likeliest) = &reply.likeliest {
        let _ = likeliest.tells_apart(&["yes", "no"]);
    }
    let scores = reply.prompt_scores.as_deref().unwrap_or_default();
    if let Some(checked) = verify::check(&reply.text, scores) {
        assert!(checked.n_standing_tokens <= checked.n_tokens);
        assert!(reply.text.is_char_boundary(checked.n_standing));
    }
}

/// The address of a server.
pub fn address(text: &str) {
    if let Ok((address, _)) = Address::parse(text) {
        for url in [address.endpoint("models"), address.beside("props")] {
            let uri = url.parse::<Uri>().expect("an address of requests");
            let authority = uri.authority().expect("a host").as_str();
            assert!(!authority.contains('@'), "{url}");
        }
    }
}
