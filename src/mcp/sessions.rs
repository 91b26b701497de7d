//! Which clients are spoken to over HTTP, and who goes when there are too many?
//!
//! A client has a session from its first request on. When another comes, those are forgotten that have
//! said nothing for a while and have no stream open; and where there is no room still, the one that was
//! silent longest, of the same asker first. Who is forgotten is told so by the protocol, and begins anew.
//!
//! # Invariants
//! - No asker has more than [`MAX_EACH`] sessions, and all together have no more than [`MAX_CLIENTS`].
//! - A session with an open stream is alive: it is waited for, or listens.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_core::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError,
};
use rmcp::transport::streamable_http_server::session::{
    ServerSseMessage, SessionId, SessionManager,
};

use crate::serve::Asker;

/// The most clients that are spoken to at once over HTTP.
const MAX_CLIENTS: usize = 1_024;
/// The most of them for one token, or one address where there are no tokens.
const MAX_EACH: usize = 128;
/// How long a client may say nothing before it is forgotten.
const IDLE: Duration = Duration::from_secs(600);

tokio::task_local! {
    /// Who makes the request that is carried out.
    static ASKER: Asker;
}

/// Has a request carried out as one of whoever makes it.
pub(super) async fn of_asker(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let asker = Asker::of(&parts);
    let request = Request::from_parts(parts, body);
    ASKER.scope(asker, next.run(request)).await
}

/// A client's session.
struct Client {
    asker: Asker,
    /// When it last asked something, or a stream of its ended.
    heard: Instant,
    /// Streams that it reads.
    n_open: usize,
}

impl Client {
    fn is_silent(&self) -> bool {
        self.n_open == 0
    }
}

/// The clients that there are.
#[derive(Default)]
struct Clients(HashMap<SessionId, Client>);

impl Clients {
    /// Makes room for one more. Those who are forgotten for it, and whether there is room: none is where
    /// all others are alive.
    fn make_room(&mut self, asker: &Asker, now: Instant) -> (Vec<SessionId>, bool) {
        let is_over = |client: &Client| client.is_silent() && now - client.heard >= IDLE;
        let over = self.0.extract_if(|_, client| is_over(client));
        let mut gone: Vec<SessionId> = over.map(|(id, _)| id).collect();
        let n_own = self.0.values().filter(|of| of.asker == *asker).count();
        let silent = match (n_own >= MAX_EACH, self.0.len() >= MAX_CLIENTS) {
            (true, _) => self.silent_longest(|client| client.asker == *asker),
            (_, true) => self.silent_longest(|_| true),
            _ => return (gone, true),
        };
        let has_room = silent.is_some();
        if let Some(silent) = silent {
            self.0.remove(&silent);
            gone.push(silent);
        }
        (gone, has_room)
    }

    fn silent_longest(&self, is_meant: impl Fn(&Client) -> bool) -> Option<SessionId> {
        let silent = self.0.iter();
        let silent = silent.filter(|(_, client)| client.is_silent() && is_meant(client));
        let longest = silent.min_by_key(|(_, client)| client.heard);
        longest.map(|(id, _)| id.clone())
    }

    fn hear(&mut self, id: &SessionId, now: Instant) {
        if let Some(client) = self.0.get_mut(id) {
            client.heard = now;
        }
    }

    fn open(&mut self, id: &SessionId, now: Instant) {
        self.hear(id, now);
        if let Some(client) = self.0.get_mut(id) {
            client.n_open += 1;
        }
    }

    fn close(&mut self, id: &SessionId, now: Instant) {
        self.hear(id, now);
        if let Some(client) = self.0.get_mut(id) {
            client.n_open = client.n_open.saturating_sub(1);
        }
    }
}

/// The sessions of all clients, so many and no more.
pub(super) struct Sessions {
    inner: LocalSessionManager,
    clients: Arc<Mutex<Clients>>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionsError {
    /// All who are spoken to are alive.
    #[error("too many clients are connected; close one, or come back in a while")]
    Full,
    #[error(transparent)]
    Session(#[from] LocalSessionManagerError),
}

impl Default for Sessions {
    fn default() -> Self {
        let mut inner = LocalSessionManager::default();
        // Who is forgotten, and when, is said here.
        inner.session_config.keep_alive = None;
        Self {
            inner,
            clients: Arc::default(),
        }
    }
}

impl Sessions {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        lock(&self.clients)
    }

    /// A stream that its client reads, which is alive meanwhile.
    fn counted<S>(&self, id: &SessionId, stream: S) -> Counted<S> {
        self.clients().open(id, Instant::now());
        Counted {
            stream: Box::pin(stream),
            _open: Open {
                id: id.clone(),
                clients: self.clients.clone(),
            },
        }
    }
}

fn lock(clients: &Mutex<Clients>) -> MutexGuard<'_, Clients> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SessionManager for Sessions {
    type Error = SessionsError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionsError> {
        let asker = ASKER.try_with(Asker::clone).unwrap_or_default();
        let (gone, has_room) = self.clients().make_room(&asker, Instant::now());
        for gone in gone {
            // One that ended by itself meanwhile is closed already.
            let _ = self.inner.close_session(&gone).await;
        }
        if !has_room {
            return Err(SessionsError::Full);
        }
        let (id, transport) = self.inner.create_session().await?;
        let client = Client {
            asker,
            heard: Instant::now(),
            n_open: 0,
        };
        self.clients().0.insert(id.clone(), client);
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionsError> {
        Ok(self.inner.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionsError> {
        Ok(self.inner.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), SessionsError> {
        self.clients().0.remove(id);
        Ok(self.inner.close_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        let stream = self.inner.create_stream(id, message).await?;
        Ok(self.counted(id, stream))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), SessionsError> {
        self.clients().hear(id, Instant::now());
        Ok(self.inner.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        let stream = self.inner.create_standalone_stream(id).await?;
        Ok(self.counted(id, stream))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        let stream = self.inner.resume(id, last_event_id).await?;
        Ok(self.counted(id, stream))
    }
}

/// A stream by which its client is alive.
struct Counted<S> {
    stream: Pin<Box<S>>,
    _open: Open,
}

impl<S: Stream> Stream for Counted<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.stream.as_mut().poll_next(context)
    }
}

/// That a stream is open.
struct Open {
    id: SessionId,
    clients: Arc<Mutex<Clients>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.clients).close(&self.id, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(of: &str, n: usize) -> SessionId {
        format!("{of}{n}").into()
    }

    fn asker(name: &str) -> Asker {
        Asker::Token(name.into())
    }

    fn come(clients: &mut Clients, id: SessionId, asker: &Asker, now: Instant) -> Vec<SessionId> {
        let (gone, has_room) = clients.make_room(asker, now);
        assert!(has_room);
        let client = Client {
            asker: asker.clone(),
            heard: now,
            n_open: 0,
        };
        clients.0.insert(id, client);
        gone
    }

    #[test]
    fn who_was_silent_longest_goes_and_no_asker_takes_the_room_of_others() {
        let (ada, bob) = (&asker("ada"), &asker("bob"));
        let (mut clients, began) = (Clients::default(), Instant::now());
        let at = |n: usize| began + Duration::from_millis(n as u64);
        assert!(come(&mut clients, id("bob", 0), bob, began).is_empty());
        for n in 0..MAX_EACH {
            assert!(come(&mut clients, id("ada", n), ada, at(n)).is_empty());
        }
        // The first listens, and the second was heard again.
        clients.open(&id("ada", 0), at(1_000));
        clients.hear(&id("ada", 1), at(1_001));
        let gone = come(&mut clients, id("ada", MAX_EACH), ada, at(1_002));
        assert_eq!(gone, [id("ada", 2)]);
        assert!(clients.0.contains_key(&id("bob", 0)));
        // In time the silent go by themselves, and who listens stays.
        let later = at(1_000) + IDLE * 3;
        let gone = come(&mut clients, id("new", 0), bob, later);
        assert_eq!(gone.len(), MAX_EACH);
        assert!(clients.0.contains_key(&id("ada", 0)));
        // It is silent from the end of its stream on.
        clients.close(&id("ada", 0), later);
        assert!(come(&mut clients, id("new", 1), bob, later).is_empty());
    }

    #[test]
    fn where_all_are_alive_there_is_no_room() {
        let (mut clients, now) = (Clients::default(), Instant::now());
        for n in 0..MAX_CLIENTS {
            let asker = asker(&n.to_string());
            assert!(come(&mut clients, id("c", n), &asker, now).is_empty());
            clients.open(&id("c", n), now);
        }
        let new = &asker("new");
        assert_eq!(clients.make_room(new, now + IDLE * 2), (Vec::new(), false));
        clients.close(&id("c", 7), now);
        assert_eq!(clients.make_room(new, now), (vec![id("c", 7)], true));
    }
}
