//! Who accepts connections? One thread, which ends with its handle.
//!
//! Everything asynchronous of this crate is in here and in what it calls: a runtime on one thread,
//! which meets the rest of the program at a queue and at a listener that returns at once.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Receiver;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connections::{Connection, Connections};
use super::routes::{self, Service};

/// The longest head of a request, and what is read of a body at once, in bytes.
const BUFFER: usize = 64 << 10;
/// How long to wait before connections are accepted again when the system gives none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the end of a reply may take to be written on a connection that gives way to another.
const LAST_WORD: Duration = Duration::from_millis(250);
/// How long replies may take to be written when the server ends.
const LAST_WAIT: Duration = Duration::from_millis(40);

/// The thread that serves. Dropping it ends it, soon.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    closing: watch::Sender<bool>,
    /// Hung up when the thread has ended.
    ended: Receiver<Infallible>,
    /// Present until joined.
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves whoever connects.
    pub(super) fn start(
        listener: std::net::TcpListener,
        service: Arc<Service>,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (closing, is_closing) = watch::channel(false);
        let (alive, ended) = crossbeam_channel::bounded(0);
        let thread = thread::Builder::new()
            .name("perennial-http".to_owned())
            .spawn(move || {
                let _alive = alive;
                runtime.block_on(serve(listener, service, is_closing));
            })?;
        Ok(Self {
            address,
            closing,
            ended,
            thread: Some(thread),
        })
    }

    /// Disconnected once nothing is served any more.
    pub(super) fn ended(&self) -> &Receiver<Infallible> {
        &self.ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Its tasks catch their panics; there is nothing to learn here.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, service: Arc<Service>, is_closing: watch::Receiver<bool>) {
    let limits = &service.limits;
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
                    let (service, closing) = (service.clone(), is_closing.clone());
                    connections.spawn(connection(stream, entered, service, closing));
                }
            }
            None => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // What is not written by then is cut off with the runtime.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(LAST_WAIT, all).await;
}

/// The next connection, once there may be one more; none if the system gives none.
async fn accept(listener: &TcpListener, open: &Connections) -> Option<(TcpStream, SocketAddr)> {
    open.room().await;
    listener.accept().await.ok()
}

async fn raised(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}

async fn connection(
    stream: TcpStream,
    entered: Arc<Connection>,
    service: Arc<Service>,
    mut closing: watch::Receiver<bool>,
) {
    // Without it, replies are late.
    let _ = stream.set_nodelay(true);
    let limits = service.limits.clone();
    let asked = entered.clone();
    let answer = service_fn(move |request| {
        let (service, in_hand) = (service.clone(), asked.in_hand());
        async move {
            let reply = routes::answer(&service, request).await;
            Ok::<_, Infallible>(reply.map(|body| in_hand.with(body)))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    // The request in hand is answered still; a client that does not read is not waited for.
    let answering = limits.body_time.saturating_add(limits.wait);
    let last = tokio::select! {
        // What goes wrong on a connection is its client's to know.
        _ = connection.as_mut() => return,
        () = raised(&mut closing) => answering,
        () = sleep(limits.connection_time) => answering,
        () = entered.gives_way() => LAST_WORD,
    };
    connection.as_mut().graceful_shutdown();
    let _ = timeout(last, connection).await;
}
