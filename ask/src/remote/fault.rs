//! What can go wrong with a request, and may it go well later?

use std::time::Duration;

use crate::answer::CallError;
use crate::provider::Failure;

/// How much of what a server says is shown, in bytes.
const SHOWN_LIMIT: usize = 300;

/// Why a request gave no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server could not be reached, or went away.
    Away(String),
    /// It said no.
    Refused {
        /// The HTTP status; of an error inside of a reply, the status that it stands for.
        status: u16,
        /// Its words, shortened.
        said: String,
        /// When to ask again, where it said so.
        retry_after: Option<Duration>,
    },
    /// What came is no reply: another format, or cut off.
    Garbled(String),
    /// The model ended before it said anything.
    Empty,
    /// Another model answers than the one that was asked.
    Exchanged {
        /// The one that was asked.
        asked: String,
        /// The one that answers.
        answers: String,
    },
    /// Vectors have another number of elements than they had.
    Reshaped {
        /// The number that they had.
        was: usize,
        /// The one that they have.
        is: usize,
    },
    /// The prompt is longer than what the model attends to, by the server's word or because it read
    /// less than it was given.
    TooLong {
        /// Tokens that would be needed.
        required: usize,
        /// Tokens that it attends to.
        limit: usize,
    },
    /// The limit of tokens was used up before the answer began.
    OnlyThought {
        /// Tokens that were allowed.
        max_tokens: usize,
    },
    /// The server says that this will never be answered.
    Never(String),
    /// Limits do not allow it yet.
    Wait(Duration),
    /// Nobody wants the answer any more.
    Cancelled,
}

impl Fault {
    /// An answer with a status that is no success.
    pub(super) fn refused(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        Self::Refused {
            status,
            said: said(body),
            retry_after,
        }
    }

    /// Whether the server, and not this request, is at fault: one that is away or overloaded.
    pub(super) fn is_of_server(&self) -> bool {
        match self {
            Self::Away(_) | Self::Garbled(_) => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether there were too many requests.
    pub(super) fn is_overload(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 429 | 503 | 529,
                ..
            }
        )
    }

    /// Whether the server refuses what it was sent, whatever the hour.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 400 | 413 | 422,
                ..
            }
        )
    }

    /// Whether it was refused for its length. Some servers say that with a status of their own failing.
    pub(super) fn is_about_length(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: 400 | 413 | 422 | 500, said, .. } if is_about_length(said)
        )
    }

    /// What comes of a call. `required` and `limit` are the tokens of its prompt and answer, by
    /// estimate, and those that the model attends to.
    pub(super) fn into_failure(self, required: usize, limit: usize) -> Failure {
        let retry = |reason: String, after| Failure::Retry { reason, after };
        match self {
            Self::Away(reason) | Self::Garbled(reason) => retry(reason, None),
            Self::Empty => retry("the model said nothing".to_owned(), None),
            Self::Wait(pause) => Failure::Wait(pause),
            Self::Refused {
                status: 400 | 413 | 422,
                said,
                ..
            } => match is_about_length(&said) {
                true if required > limit => CallError::DoesNotFit { required, limit }.into(),
                // It has another window, or other tokens, than it says: its own words tell more.
                _ => CallError::Model {
                    reason: format!("the server refused the request: {said}"),
                }
                .into(),
            },
            // Of the rest nothing is said about this row: a key may be given, a model loaded.
            Self::Refused {
                status,
                said,
                retry_after,
            } => retry(refusal(status, &said), retry_after),
            Self::Exchanged { asked, answers } => retry(
                format!(
                    "the server answers as `{answers}`, and was `{asked}` when the model was created; \
                     start again, or DROP MODEL and CREATE it again, if that is meant"
                ),
                None,
            ),
            Self::Reshaped { was, is } => retry(
                format!(
                    "the server gives vectors of {is} elements, and they had {was} when it was asked first; \
                     start again if that is meant"
                ),
                None,
            ),
            Self::TooLong { required, limit } => CallError::DoesNotFit { required, limit }.into(),
            Self::OnlyThought { max_tokens } => CallError::Model {
                reason: format!(
                    "the model spent all {max_tokens} tokens on thinking; give it more by \
                     THINKING_TOKENS"
                ),
            }
            .into(),
            Self::Never(reason) => CallError::Model { reason }.into(),
            Self::Cancelled => CallError::Lost.into(),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { status, said, .. } => f.write_str(&refusal(*status, said)),
            other => match other.clone().into_failure(0, 0) {
                Failure::Retry { reason, .. } => f.write_str(&reason),
                waits @ Failure::Wait(_) => write!(f, "{waits}"),
                Failure::Final(error) => write!(f, "{error}"),
            },
        }
    }
}

/// What a refusal means, and what to do about it.
fn refusal(status: u16, said: &str) -> String {
    let what = match status {
        401 | 403 => {
            "the server wants another key (KEY_FILE or KEY_VARIABLE, --key-file, --embedder-key-file)"
        }
        300..=399 => "the server redirects elsewhere, which is not followed",
        404 => "the server knows no such model or endpoint",
        408 | 504 => "the server took too long",
        429 => "the server has had too many requests",
        500..=599 => "the server failed",
        _ => "the server refused the request",
    };
    match said.is_empty() {
        true => format!("{what}: status {status}"),
        false => format!("{what}: status {status}, {said}"),
    }
}

/// The words of an error, whatever form it has: `{"error": {"message": …}}`, `{"error": …}`,
/// `{"message": …}`, `{"detail": …}`, or a text.
pub(super) fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => {
            let error = json.get("error").unwrap_or(&json);
            let named = ["message", "detail", "error"]
                .iter()
                .find_map(|name| error.get(name));
            match named.unwrap_or(error) {
                serde_json::Value::String(words) => words.clone(),
                other => other.to_string(),
            }
        }
        Err(_) if is_page(&text) => "a page of HTML".to_owned(),
        Err(_) => text.into_owned(),
    };
    shown(&words)
}

/// Whether a text is a page for people and not a reply.
pub(super) fn is_page(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(14).collect();
    let start = start.to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

/// The beginning of a text from outside, on one line.
pub(super) fn shown(text: &str) -> String {
    let text = text.trim();
    let mut end = SHOWN_LIMIT.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text[..end].chars().map(shown).collect();
    if end < text.len() {
        line.push('…');
    }
    line
}

/// Whether the words of a refusal say that the prompt is too long.
fn is_about_length(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    let means_length = [
        "context length",
        "context_length",
        "context size",
        "context window",
        "maximum context",
        "too long",
        "too many tokens",
        "max_model_len",
        "exceed_context",
        "must have less than",
        "too large to process",
    ];
    means_length.iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Failure {
        Fault::refused(status, body.as_bytes(), None).into_failure(9000, 4096)
    }

    #[test]
    fn a_prompt_that_is_too_long_is_told_by_any_servers_words() {
        let fits = Failure::Final(CallError::DoesNotFit {
            required: 9000,
            limit: 4096,
        });
        for body in [
            r#"{"error":{"message":"This model's maximum context length is 4096 tokens","code":"context_length_exceeded"}}"#,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
            r#"{"object":"error","message":"The prompt is too long"}"#,
            r#"{"detail":"Requested tokens (9000) exceed context window of 4096"}"#,
        ] {
            assert_eq!(of(400, body), fits, "{body}");
        }
    }

    #[test]
    fn only_what_is_wrong_with_the_request_itself_is_final() {
        for status in [401, 403, 404, 408, 429, 500, 502, 503, 504, 529] {
            let is_retried = matches!(of(status, "no"), Failure::Retry { .. });
            assert!(is_retried, "{status}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(of(status, "no"), Failure::Final(_)), "{status}");
        }
    }

    #[test]
    fn what_a_server_says_is_shown_on_one_short_line() {
        assert_eq!(said(b"<!DOCTYPE html><p>x"), "a page of HTML");
        assert_eq!(said(br#"{"error":"a\nb\u001b[2J"}"#), "a b [2J");
        assert_eq!(said("é".repeat(200).as_bytes()).chars().count(), 151);
    }
}
