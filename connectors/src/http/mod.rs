//! Records that are posted: which changes do they ask for, and are they visible yet?
//!
//! ```text
//! POST /v1/streams/STREAM[?wait=S]   lines of JSON, as in a file of JSON lines
//!   202 {"accepted": 2, "rejected": [{"line": 3, "key": …, "reason": …}], "n_rejected": 1,
//!        "left_out": [{"column": "txt", "n_records": 2}],
//!        "token": "docs.5f3a….12", "visible": false, "epoch": null}
//!   200 the same, if it is visible by then
//!   400 the same with `error` and `hint`, if all was refused
//! GET  /v1/tokens/TOKEN[?wait=S]     {"visible": true, "epoch": 7}
//! GET  /healthz                      {"status": "ok"}
//! ```
//! *Visible* means: applied, in a complete epoch, and stored where there is a state directory; so
//! subscribers and sinks get it, and no crash takes it back. `epoch` is the last complete one when
//! that was told. `wait` is how many seconds to wait for it. What is refused says
//! `{"error": …, "hint": …}`.
//!
//! - `guard`: who may ask?
//! - `routes`, `reply`: what is asked, and answered?
//! - `body`: which changes does a body ask for?
//! - `stream`, `token`: which requests were taken in, and what became of them?
//! - `server`: who accepts connections?
//! - `connections`: how many are there, and which gives way?
//! - `intake`: the same without a server of its own, for who has one.
//!
//! # Invariants
//! - A request is one [`Batch`](crate::Batch): all of it is applied, in order, in one epoch, or
//!   nothing is. Requests that a client sends one after the other are applied in that order.
//! - Nothing grows with what clients do: [`HttpLimits`] has all the limits. Where the engine is
//!   behind, requests wait, and are then refused to be sent again (503).
//! - What is told to be visible outlives the process, where anything does. What is lost in a
//!   crash is told to be lost (410), to whoever asks the next process.
//!
//! Deliberately absent: TLS (put a proxy in front), reading answers back (subscribe, or name a
//! sink), and requests that outlive the process before the engine has them.

mod body;
mod connections;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod guard;
mod intake;
mod reply;
mod routes;
mod server;
mod stream;
mod token;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;

use crossbeam_channel::{Receiver, never, select};
use perennial_rows::Schema;

pub use connections::{Connection, Connections, InHand, InHandBody, network};
pub use guard::{BearerToken, is_loopback_host};
pub use intake::{HttpInlet, HttpIntake};
pub use stream::PostedBatch;

use crate::http_limits::HttpLimits;
use crate::{Acks, Error, Event, Halt, Outlet, Resume, Resumption, Source, SourceName};
use routes::Service;
use server::Server;
use stream::{Others, Stream, Told};
use token::UpTo;

/// An address at which records may be posted, for one stream or several.
///
/// ```
/// use std::io::{Read as _, Write as _};
///
/// use perennial_connectors::{Event, HttpLimits, HttpListener, start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = HttpListener::bind("127.0.0.1:0", None, HttpLimits::default())?;
/// let running = start(listener.source("docs")?, 8)?;
/// while !matches!(running.events().recv()?, Event::CaughtUp) {}
///
/// let mut client = std::net::TcpStream::connect(listener.address())?;
/// let body = r#"{"key": "k1", "text": "One."}"#;
/// write!(
///     client,
///     "POST /v1/streams/docs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
///      content-length: {}\r\n\r\n{body}",
///     body.len(),
/// )?;
/// let mut reply = String::new();
/// client.read_to_string(&mut reply)?;
/// assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
///
/// let Event::Batch(batch) = running.events().recv()? else { panic!("a batch") };
/// assert_eq!(batch.changes[0].key().as_str(), "k1");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HttpListener {
    service: Arc<Service>,
    server: Arc<Server>,
}

impl HttpListener {
    /// Listens at an address (`HOST:PORT`; port 0 takes one that is free).
    ///
    /// With a token, every request but that for `/healthz` must bring it. Without one, only this
    /// machine is listened to, and no page in a browser on it.
    ///
    /// # Errors
    /// [`Error::Unguarded`] for an address that other machines reach, without a token;
    /// [`Error::Listen`] for one that cannot be had.
    pub fn bind(
        address: &str,
        token: Option<BearerToken>,
        limits: HttpLimits,
    ) -> Result<Self, Error> {
        let listen = |source| Error::Listen {
            address: address.to_owned(),
            source,
        };
        let addresses: Vec<SocketAddr> = address.to_socket_addrs().map_err(listen)?.collect();
        let is_local = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        if token.is_none() && !addresses.iter().all(is_local) {
            return Err(Error::Unguarded {
                address: address.to_owned(),
            });
        }
        let listener = TcpListener::bind(&addresses[..]).map_err(listen)?;
        let service = Arc::new(Service::guarded(limits, token));
        let server = Server::start(listener, service.clone()).map_err(listen)?;
        Ok(Self {
            service,
            server: Arc::new(server),
        })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The source of the records that are posted to `/v1/streams/NAME`. From here on they are
    /// taken in, as many as there is room for until it runs. The listener ends with the last of
    /// its sources and handles.
    ///
    /// # Errors
    /// [`Error::NotPostable`] for a name that cannot stand in a path.
    pub fn source(&self, name: impl Into<String>) -> Result<Http, Error> {
        Http::of(&self.service, name.into(), Some(self.server.clone()))
    }
}

/// A stream that is posted to under a name, and where its requests come out.
fn open(service: &Service, name: String) -> Result<(Arc<Stream>, Receiver<PostedBatch>), Error> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(is_allowed) {
        return Err(Error::NotPostable { name });
    }
    let (stream, queue) = Stream::new(SourceName::new(name), service.limits.queue.max(1));
    let stream = Arc::new(stream);
    service.add(stream.clone());
    Ok((stream, queue))
}

/// The records that are posted to one stream of an [`HttpListener`]. It never ends by itself.
#[derive(Debug)]
pub struct Http {
    service: Arc<Service>,
    stream: Arc<Stream>,
    queue: Receiver<PostedBatch>,
    /// Ends with the last who holds it, after the streams. None where another's server is used.
    server: Option<Arc<Server>>,
}

impl Http {
    fn of(
        service: &Arc<Service>,
        name: String,
        server: Option<Arc<Server>>,
    ) -> Result<Self, Error> {
        let (stream, queue) = open(service, name)?;
        Ok(Self {
            service: service.clone(),
            stream,
            queue,
            server,
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stream.close();
        // A listener's streams are there as long as it listens: one that ended is away, not unknown.
        if self.server.is_none() {
            self.service.remove(&self.stream);
        }
    }
}

impl Source for Http {
    fn name(&self) -> &SourceName {
        &self.stream.name
    }

    /// What was posted stands, since nobody posts it again.
    fn resume_from(&mut self, from: Resume) -> Resumption {
        match from.offset.as_ref().and_then(UpTo::of) {
            Some(before) => {
                self.stream.resume(before);
                Resumption::FromOffset
            }
            None => Resumption::Anew,
        }
    }

    fn acks(&mut self) -> Option<Box<dyn Acks>> {
        Some(Box::new(Told(self.stream.clone())))
    }

    fn declare(&mut self, schema: &Schema) {
        self.stream.declare(schema.clone(), Others::LeftOut);
    }

    fn replays(&self) -> bool {
        false
    }

    fn run(self: Box<Self>, out: &Outlet) -> Result<(), Halt> {
        self.stream.begin();
        out.send(Event::CaughtUp)?;
        // A server that is another's ends the streams when it ends.
        let lasting = never();
        let ended = self
            .server
            .as_ref()
            .map_or(&lasting, |server| server.ended());
        loop {
            select! {
                recv(self.queue) -> posted => match posted {
                    // The room that it takes is given back when the engine has it.
                    Ok(posted) => out.send(Event::Batch(posted.batch))?,
                    Err(_) => return Err(Halt::Stopped),
                },
                recv(out.stop().signal()) -> _ => return Err(Halt::Stopped),
                recv(ended) -> _ => {
                    return Err(Halt::Failed(Error::Panicked {
                        name: self.name().as_str().to_owned(),
                        message: "its server ended".to_owned(),
                    }));
                }
            }
        }
    }
}
