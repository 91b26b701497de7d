//! Who accepts connections, and when is one cut?
//!
//! # Invariants
//! - There are at most so many connections, and of one address at most so many: one that opens sockets
//!   and says nothing leaves others served.
//! - A connection that takes nothing of what is written to it is cut, whatever it was asked for.
//! - Everything ends with the handle: requests under way have a while, and are then cut off.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use perennial_connectors::{Connection, Connections};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::admission::Peer;
use super::limits::Limits;
use super::router::{Besides, router};
use super::served::Served;
use super::tls;
use super::tokens::Tokens;

/// The longest head of a request, and what is read of a body at once, in bytes.
const BUFFER: usize = 64 << 10;
/// How long the end of a reply may take to be written on a connection that gives way to another.
const LAST_WORD: Duration = Duration::from_millis(250);
/// How long to wait before connections are accepted again when the system gives none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the file of tokens is read again.
const REREAD: Duration = Duration::from_secs(1);
/// Threads that answer; what waits has others.
const MAX_WORKERS: usize = 4;
/// Threads that may wait for the engine.
const MAX_BLOCKING: usize = 128;

/// Is told what a person should know.
type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// How a server listens.
#[non_exhaustive]
pub struct ServerOptions {
    /// Where, HOST:PORT; port 0 takes one that is free.
    pub listen: String,
    /// Who may ask. Without any, only this machine is served.
    pub tokens: Option<Arc<Tokens>>,
    /// PEM files of the certificates and the key with which it speaks TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Paths that are served besides.
    pub besides: Besides,
    say: Say,
    /// The address, where it was taken already.
    bound: Option<TcpListener>,
}

impl ServerOptions {
    /// Listens at an address, to this machine only.
    pub fn at(listen: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            tokens: None,
            tls: None,
            besides: Besides::default(),
            say: Arc::new(|_| {}),
            bound: None,
        }
    }

    /// Takes the address now, rather than when the server starts: who connects waits until then.
    ///
    /// # Errors
    /// [`ServerError::Unguarded`], [`ServerError::Listen`].
    pub fn bind(&mut self) -> Result<(), ServerError> {
        let failed = |source| ServerError::Listen {
            address: self.listen.clone(),
            source,
        };
        let addresses: Vec<SocketAddr> = self.listen.to_socket_addrs().map_err(failed)?.collect();
        let is_local = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        if self.tokens.is_none() && !addresses.iter().all(is_local) {
            let address = self.listen.clone();
            return Err(ServerError::Unguarded { address });
        }
        self.bound = Some(TcpListener::bind(&addresses[..]).map_err(failed)?);
        Ok(())
    }

    /// The same, where `say` is told what a person should know.
    #[must_use]
    pub fn saying(mut self, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.say = Arc::new(say);
        self
    }
}

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Others reach the address, and nobody says who may ask.
    #[error("{address} is reached by other machines: give --token-file, or listen at 127.0.0.1")]
    Unguarded {
        /// The address.
        address: String,
    },
    /// The address cannot be had.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    has_tls: bool,
    served: Arc<Served>,
    closing: watch::Sender<bool>,
    /// Present until it has ended.
    runtime: Option<Runtime>,
    serving: Option<tokio::task::JoinHandle<()>>,
    last_wait: Duration,
}

impl Server {
    /// Listens, and answers from then on.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(served: Arc<Served>, mut options: ServerOptions) -> Result<Self, ServerError> {
        if options.bound.is_none() {
            options.bind()?;
        }
        let ServerOptions {
            listen,
            tokens,
            tls,
            besides,
            say,
            bound,
        } = options;
        let failed = |source| ServerError::Listen {
            address: listen.clone(),
            source,
        };
        let nobody = || std::io::Error::other("the address was given away");
        let listener = bound.ok_or_else(nobody).map_err(failed)?;
        let acceptor = match tls {
            Some((cert, key)) => {
                let acceptor = tls::acceptor(&cert, &key);
                Some(acceptor.map_err(|reason| ServerError::Tls { reason })?)
            }
            None => None,
        };
        let has_tls = acceptor.is_some();
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(n_cores.min(MAX_WORKERS))
            .max_blocking_threads(MAX_BLOCKING)
            .thread_name("perennial-serve")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let answers = router(served.clone(), tokens.clone(), besides);
        let (closing, is_closing) = watch::channel(false);
        let last_wait = served.limits.last_wait;
        if let Some(tokens) = tokens {
            runtime.spawn(reread(tokens, say));
        }
        let accepting = Accepting {
            limits: served.limits.clone(),
            served: served.clone(),
            router: answers,
            acceptor,
        };
        runtime.spawn(Served::sweep(Arc::downgrade(&served)));
        let serving = runtime.spawn(serve(listener, Arc::new(accepting), is_closing));
        Ok(Self {
            address,
            has_tls,
            served,
            closing,
            runtime: Some(runtime),
            serving: Some(serving),
            last_wait,
        })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.served.close();
        self.closing.send_replace(true);
        let (Some(runtime), Some(serving)) = (self.runtime.take(), self.serving.take()) else {
            return;
        };
        // It ends by itself in that time; what it panics with is on standard error.
        let _ = runtime.block_on(serving);
        // Calls of the engine that wait hold nobody up.
        runtime.shutdown_timeout(self.last_wait);
    }
}

async fn reread(tokens: Arc<Tokens>, say: Say) {
    let mut last = None;
    let mut every = interval(REREAD);
    loop {
        every.tick().await;
        let read = tokens.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || read.reread()).await else {
            return;
        };
        // What is wrong is said once.
        let said = match read {
            Ok(true) => Some("the tokens were read again".to_owned()),
            Ok(false) => None,
            Err(error) => Some(format!("the tokens stay as they were: {error}")),
        };
        if said != last
            && let Some(said) = &said
        {
            say(said);
        }
        last = said;
    }
}

/// What all connections share.
struct Accepting {
    limits: Limits,
    served: Arc<Served>,
    router: Router,
    acceptor: Option<TlsAcceptor>,
}

/// A connection, as it is counted.
struct Counted<'a>(&'a Served);

impl<'a> Counted<'a> {
    fn one_of(served: &'a Served) -> Self {
        served.n_connections.fetch_add(1, Ordering::Relaxed);
        Self(served)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.n_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    accepting: Arc<Accepting>,
    is_closing: watch::Receiver<bool>,
) {
    let limits = &accepting.limits;
    let open = Connections::new(
        limits.connections,
        limits.peer_connections,
        limits.idle_time,
    );
    let mut connections = JoinSet::new();
    let mut closing = is_closing.clone();
    loop {
        let accepted = tokio::select! {
            () = raised(&mut closing) => break,
            accepted = accept(&listener, &open) => accepted,
        };
        match accepted {
            Some((stream, peer)) => {
                // One too many of its peer is closed at once.
                if let Some(entered) = open.enter(peer) {
                    let (accepting, closing) = (accepting.clone(), is_closing.clone());
                    connections.spawn(async move {
                        let _counted = Counted::one_of(&accepting.served);
                        connection(stream, peer, entered, &accepting, closing).await;
                    });
                }
            }
            None => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // What is not written by then is cut off with the runtime.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(accepting.limits.last_wait, all).await;
    connections.abort_all();
}

/// The next connection, once there may be one more; none if the system gives none.
async fn accept(
    listener: &tokio::net::TcpListener,
    open: &Connections,
) -> Option<(TcpStream, SocketAddr)> {
    open.room().await;
    listener.accept().await.ok()
}

async fn raised(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    entered: Arc<Connection>,
    accepting: &Accepting,
    closing: watch::Receiver<bool>,
) {
    // Without it, replies are late.
    let _ = stream.set_nodelay(true);
    let limits = &accepting.limits;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_time));
    let stream = Box::pin(stream);
    match &accepting.acceptor {
        None => speak(stream, peer, entered, accepting, closing).await,
        Some(acceptor) => {
            let agreed = tokio::select! {
                agreed = timeout(limits.head_time, acceptor.accept(stream)) => agreed,
                () = entered.gives_way() => return,
            };
            // Who cannot agree on a key is gone.
            if let Ok(Ok(stream)) = agreed {
                speak(stream, peer, entered, accepting, closing).await;
            }
        }
    }
}

/// Answers the requests of a connection.
async fn speak<S>(
    stream: S,
    peer: SocketAddr,
    entered: Arc<Connection>,
    accepting: &Accepting,
    mut closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &accepting.limits;
    let (router, asked) = (accepting.router.clone(), entered.clone());
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let (mut router, in_hand) = (router.clone(), asked.in_hand());
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        async move {
            // A router is always ready.
            let response = router.call(request).await;
            let response = response.unwrap_or_else(|never| match never {});
            Ok::<_, Infallible>(response.map(|body| in_hand.with(body)))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let gives_way = tokio::select! {
        // What goes wrong on a connection is its client's to know.
        _ = connection.as_mut() => return,
        () = raised(&mut closing) => false,
        () = entered.gives_way() => true,
    };
    connection.as_mut().graceful_shutdown();
    if gives_way {
        let _ = timeout(LAST_WORD, connection).await;
    } else {
        // The request in hand is answered still.
        let _ = connection.await;
    }
}
