//! What can an assistant do with the engine, over the Model Context Protocol?
//!
//! It asks views, looks at them, is told of their changes, and stores what it is to remember. The protocol
//! is spoken by its official SDK; here stands what is said. What is asked and by whom is the server's
//! ([`serve`](crate::serve)): the same views, the same rights, the same limits.
//!
//! - `handler`: which requests are there?
//! - `tools`: what does each tool take, do and give?
//! - `resources`: how is a view named, read, and followed?
//! - `sessions`: which clients are spoken to over HTTP, and who goes when there are too many?
//! - `transport`: how does the protocol come here: over standard input and output, or over HTTP?
//!
//! # Invariants
//! - What a tool cannot do is told as an error of the tool, with what to do about it: the assistant reads
//!   it, and tries otherwise.
//! - What is given is bounded: a result that is larger is cut, and says so.
//! - A call that is cancelled leaves nothing behind.

#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod handler;
mod resources;
mod sessions;
mod tools;
mod transport;

use std::sync::Arc;

use rmcp::service::{RequestContext, RoleServer};
use tokio::sync::watch;

use crate::serve::{Caller, Refusal, Served};
use resources::Followed;

pub use transport::{router, speak, stdio};

/// The most bytes of JSON that a tool gives, or a resource has.
const MAX_BYTES: usize = 256 << 10;

/// Why there is no engine to speak for, and what to do: whoever asks anything is told.
#[derive(Clone, Debug)]
pub struct NotOpened {
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub hint: String,
}

/// An engine to speak for; none while it is still opened.
pub type Opening = Option<Result<Arc<Served>, NotOpened>>;

/// What speaks for an engine, to one client.
struct Mcp {
    opening: watch::Receiver<Opening>,
    who: Who,
    /// The resources that the client follows.
    followed: Followed,
}

/// Who asks.
#[derive(Clone, Copy)]
enum Who {
    /// Who runs this program.
    Owner,
    /// Whoever a request comes from.
    OfRequest,
}

impl Mcp {
    /// The engine, once it is there: a client may begin to speak while a model is opened.
    async fn served(&self) -> Result<Arc<Served>, Refusal> {
        let mut opening = self.opening.clone();
        let opened = opening.wait_for(Option::is_some).await;
        match opened.ok().and_then(|opened| opened.clone()) {
            Some(Ok(served)) => Ok(served),
            Some(Err(NotOpened { error, hint })) => Err(Refusal::not_opened(error, hint)),
            None => Err(Refusal::ending()),
        }
    }

    fn caller(&self, context: &RequestContext<RoleServer>) -> Result<Caller, Refusal> {
        match self.who {
            Who::Owner => Ok(Caller::owner()),
            Who::OfRequest => {
                let parts = context.extensions.get::<axum::http::request::Parts>();
                let caller = parts.and_then(|parts| parts.extensions.get::<Caller>());
                caller.cloned().ok_or_else(Refusal::unauthorized)
            }
        }
    }
}
