//! What requests say, from bytes that a fuzzer makes up.
//!
//! A function takes any bytes, and panics where what they are read as breaks a rule.

use super::tokens::{self, Role};
use super::{EventId, openai};

/// The body of a request of OpenAI's interface.
pub fn openai(bytes: &[u8]) {
    openai::fuzz::body(bytes);
}

/// What names a moment is read as it is written.
pub fn event_id(text: &str) {
    if let Some(id) = EventId::parse(text) {
        assert_eq!(id.to_string(), text.trim());
    }
}

/// The text of a file of tokens.
pub fn token_file(text: &str) {
    let n_lines = text.lines().count();
    match tokens::all(text) {
        Ok(tokens) => {
            assert!(tokens.len() <= n_lines);
            for (_, grant) in tokens {
                let only_asks = grant.has(Role::Ask)
                    && ![Role::Read, Role::Write, Role::Admin]
                        .map(|of| grant.has(of))
                        .contains(&true);
                assert!(grant.bound().is_empty() || only_asks, "{grant:?}");
                assert!(
                    !(grant.is_restricted() && grant.has(Role::Admin)),
                    "{grant:?}"
                );
                assert!(grant.asker().is_some());
            }
        }
        Err((line, reason)) => {
            assert!((1..=n_lines).contains(&line), "line {line} of {n_lines}");
            assert!(!reason.is_empty());
        }
    }
}
