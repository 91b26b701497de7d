//! How does the protocol come here?
//!
//! Over standard input and output, where the client starts this program: a message a line, and nothing
//! else on standard output. Or over HTTP, beside the other paths of a server, past the same gate.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use rmcp::ServiceExt as _;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::resources::Followed;
use super::sessions::{Sessions, of_asker};
use super::{Mcp, Opening, Who};
use crate::serve::Served;

/// The path of the protocol.
const PATH: &str = "/mcp";
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// The protocol over HTTP, at `/mcp`: to be served beside the paths of the engine, past its gate.
pub fn router(served: &Arc<Served>) -> Router {
    let (_, opening) = watch::channel(Some(Ok(served.clone())));
    // Which hosts and pages may ask is the gate's to say.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_max_request_body_bytes(MAX_MESSAGE);
    let speaker = move || {
        Ok(Mcp {
            opening: opening.clone(),
            who: Who::OfRequest,
            followed: Followed::default(),
        })
    };
    let sessions = Arc::new(Sessions::default());
    let service = StreamableHttpService::new(speaker, sessions, config);
    Router::new()
        .route_service(PATH, service)
        .layer(from_fn(of_asker))
}

/// Speaks the protocol over standard input and output, as [`speak`] does.
///
/// # Errors
/// What the protocol, or the system, says.
pub async fn stdio(opening: watch::Receiver<Opening>) -> io::Result<()> {
    speak(opening, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Speaks the protocol with one client, who may do all, until it hangs up: a message a line. What is
/// asked before there is an engine waits for it, or is told why there is none.
///
/// # Errors
/// What the protocol, or the system, says.
pub async fn speak(
    opening: watch::Receiver<Opening>,
    heard: impl AsyncRead + Send + Unpin + 'static,
    said: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let mut begun = opening.clone();
    let sweeping = tokio::spawn(async move {
        let opened = begun.wait_for(Option::is_some).await;
        let served = opened.ok().and_then(|opened| match &*opened {
            Some(Ok(served)) => Some(Arc::downgrade(served)),
            _ => None,
        });
        if let Some(served) = served {
            Served::sweep(served).await;
        }
    });
    let speaker = Mcp {
        opening,
        who: Who::Owner,
        followed: Followed::default(),
    };
    let serving = speaker.serve((heard, said)).await;
    let ended = match serving {
        Ok(serving) => serving.waiting().await.map(drop).map_err(io::Error::other),
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    };
    sweeping.abort();
    ended
}
