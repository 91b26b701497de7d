//! How does the protocol come here?
//!
//! Over standard input and output, where the client starts this program: a message a line, and nothing
//! else on standard output. Or over HTTP, beside the other paths of a server, past the same gate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rmcp::ServiceExt as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use super::resources::Followed;
use super::{Mcp, Who};
use crate::serve::Served;

/// The path of the protocol.
const PATH: &str = "/mcp";
/// The most clients that are spoken to at once over HTTP.
const MAX_CLIENTS: usize = 1_024;
/// How long a client may say nothing before it is forgotten.
const SESSION_TIME: Duration = Duration::from_secs(3_600);
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// The protocol over HTTP, at `/mcp`: to be served beside the paths of the engine, past its gate.
pub fn router(served: &Arc<Served>) -> Router {
    let (_, served) = watch::channel(Some(served.clone()));
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(SESSION_TIME);
    // Which hosts and pages may ask is the gate's to say.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_max_request_body_bytes(MAX_MESSAGE);
    let speaker = move || {
        let slot = clients.clone().try_acquire_owned();
        let slot = slot.map_err(|_| io::Error::other("too many clients are connected"))?;
        Ok(Mcp {
            served: served.clone(),
            who: Who::OfRequest,
            followed: Followed::default(),
            _slot: Some(slot),
        })
    };
    let service = StreamableHttpService::new(speaker, Arc::new(sessions), config);
    Router::new().route_service(PATH, service)
}

/// Speaks the protocol over standard input and output, as [`speak`] does.
///
/// # Errors
/// What the protocol, or the system, says.
pub async fn stdio(served: watch::Receiver<Option<Arc<Served>>>) -> io::Result<()> {
    speak(served, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Speaks the protocol with one client, who may do all, until it hangs up: a message a line. What is
/// asked before there is an engine waits for it.
///
/// # Errors
/// What the protocol, or the system, says.
pub async fn speak(
    served: watch::Receiver<Option<Arc<Served>>>,
    heard: impl AsyncRead + Send + Unpin + 'static,
    said: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let mut begun = served.clone();
    let sweeping = tokio::spawn(async move {
        let served = begun.wait_for(Option::is_some).await;
        let served = served
            .ok()
            .and_then(|served| served.as_ref().map(Arc::downgrade));
        if let Some(served) = served {
            Served::sweep(served).await;
        }
    });
    let speaker = Mcp {
        served,
        who: Who::Owner,
        followed: Followed::default(),
        _slot: None,
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
