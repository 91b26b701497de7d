//! Why is a subscriber told nothing more?

use std::sync::Arc;

use serde_json::json;

use super::Event;
use crate::engine::Ending;

/// Why nothing follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    code: Code,
    reason: Arc<str>,
}

/// What a client does about it depends on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// The view is there no more.
    Dropped,
    /// The engine cannot go on.
    Failed,
    /// Nobody is served any more; another server may go on.
    ServerEnds,
    /// Who subscribed may not read the view any more.
    Token,
}

impl Code {
    /// As it is told.
    fn word(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::ServerEnds => "server_ends",
            Self::Token => "token",
        }
    }
}

impl End {
    /// That of a view of which the engine tells nothing more.
    pub(super) fn of_view(ending: Ending<'_>) -> Self {
        match ending {
            Ending::Dropped => Self::new(Code::Dropped, "the view was dropped"),
            Ending::Failed(reason) => {
                Self::new(Code::Failed, format!("the engine has failed: {reason}"))
            }
            Ending::Stopped => Self::new(Code::ServerEnds, "the engine ends"),
        }
    }

    /// That of a server.
    pub(super) fn of_server() -> Self {
        Self::new(Code::ServerEnds, "the server ends")
    }

    /// That of who may not read any more.
    pub(super) fn of_token() -> Self {
        Self::new(Code::Token, "the token was taken back")
    }

    fn new(code: Code, reason: impl Into<Arc<str>>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// What a subscriber is told.
    pub(super) fn event(&self) -> Event {
        let data = json!({ "code": self.code.word(), "reason": self.reason });
        Event::json("end", &data)
    }
}
