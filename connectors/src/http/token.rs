//! What does a client hold of a request that was taken in? `STREAM.RUN.NUMBER`.

use std::fmt;

use crate::Offset;

/// Names a request: the stream it was posted to, the run that took it in, its number there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) stream: String,
    pub(super) run: u64,
    /// From 1.
    pub(super) request: u64,
}

impl Token {
    /// Reads what [`fmt::Display`] wrote; none if it is anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (stream, run, request) = (parts.next()?, parts.next()?, parts.next()?);
        let token = Self {
            stream: stream.to_owned(),
            run: u64::from_str_radix(run, 16).ok()?,
            request: request.parse().ok()?,
        };
        // One request, one token: no sign, no zeros before it.
        (token.request > 0 && token.to_string() == text).then_some(token)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}.{}", self.stream, self.run, self.request)
    }
}

/// The requests of one run up to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpTo {
    pub(super) run: u64,
    pub(super) last: u64,
}

impl UpTo {
    /// What an offset to resume from says; none if it is of another source.
    pub(super) fn of(offset: &Offset) -> Option<Self> {
        match *offset {
            Offset::Posted { run, last } => Some(Self { run, last }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let token = Token {
            stream: "documents".to_owned(),
            run: 0xf1,
            request: 12,
        };
        let text = token.to_string();
        assert_eq!(text, "documents.00000000000000f1.12");
        assert_eq!(Token::parse(&text), Some(token));
        for wrong in [
            "",
            "documents",
            "documents.f1.12",
            "documents.00000000000000f1.0",
            "documents.00000000000000f1.+12",
            "documents.00000000000000f1.012",
            "documents.00000000000000F1.12",
            "documents.00000000000000f1.12.",
            "documents.00000000000000f1.",
            "documents.00000000000000f1.99999999999999999999",
        ] {
            assert_eq!(Token::parse(wrong), None, "{wrong}");
        }
    }
}
