//! A request that can be given up while its server says nothing.
//!
//! Who reads from a server waits for as long as it may be silent, which is minutes. So it is read on a thread
//! of its own, and who asked looks up now and then whether anybody still wants the reply: an engine that
//! ends does not wait for a server that hangs. What is given up ends by itself, with the next word of the
//! server, or when it has been silent for too long.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use perennial_model::cancel::Cancel;
use ureq::Agent;
use ureq::http::{HeaderMap, Response, StatusCode};

use super::fault::Fault;

/// How long one waits before it looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that are read ahead.
const MAX_CHUNKS: usize = 4;

/// What is sent.
pub(super) struct Sent {
    pub(super) url: String,
    /// The value of its `authorization`.
    pub(super) bearer: Option<String>,
    /// JSON that is posted; nothing is got.
    pub(super) body: Option<String>,
}

/// What a server says. Its body is read from it.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    cancel: Cancel,
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    /// How much of it is taken.
    n_taken: usize,
}

/// What stands before a body, and where that comes.
type Head = (StatusCode, HeaderMap);

impl Exchange {
    /// Sends something, and waits for the head of what is said.
    ///
    /// # Errors
    /// A server that cannot be reached; [`Fault::Cancelled`] where nobody waits any more.
    pub(super) fn begin(agent: &Agent, sent: Sent, cancel: &Cancel) -> Result<Self, Fault> {
        let (agent, (heads, head)) = (agent.clone(), sync_channel(1));
        let (into, chunks) = sync_channel(MAX_CHUNKS);
        let name = "perennial-remote".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            match send(&agent, sent) {
                Ok(mut response) => {
                    let said = (response.status(), response.headers().clone());
                    // Where nobody listens any more, nothing is read.
                    if heads.send(Ok(said)).is_ok() {
                        read(response.body_mut().as_reader(), &into);
                    }
                }
                Err(error) => {
                    let _ = heads.send(Err(away(&error)));
                }
            }
        });
        thread.map_err(|error| away(&error))?;
        let head: Result<Head, Fault> = wait(&head, cancel)
            .ok_or(Fault::Cancelled)?
            .unwrap_or_else(|| Err(away(&"whoever asks it has panicked")));
        let (status, headers) = head?;
        Ok(Self {
            status,
            headers,
            cancel: cancel.clone(),
            chunks,
            chunk: Vec::new(),
            n_taken: 0,
        })
    }
}

impl Read for Exchange {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.n_taken == self.chunk.len() {
            let next = wait(&self.chunks, &self.cancel);
            let next = next.ok_or_else(|| io::Error::other("nobody waits for it any more"))?;
            let Some(chunk) = next else {
                return Ok(0);
            };
            (self.chunk, self.n_taken) = (chunk?, 0);
        }
        let rest = &self.chunk[self.n_taken..];
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        self.n_taken += n;
        Ok(n)
    }
}

/// The next that comes, which is none at the end; nothing at all once that is not wanted any more.
fn wait<T>(from: &Receiver<T>, cancel: &Cancel) -> Option<Option<T>> {
    loop {
        if cancel.is_cancelled() {
            return None;
        }
        match from.recv_timeout(GLANCE) {
            Ok(next) => return Some(Some(next)),
            Err(RecvTimeoutError::Disconnected) => return Some(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn send(agent: &Agent, sent: Sent) -> Result<Response<ureq::Body>, ureq::Error> {
    let Sent { url, bearer, body } = sent;
    match body {
        Some(body) => {
            let mut request = agent.post(url).header("content-type", "application/json");
            if let Some(bearer) = bearer {
                request = request.header("authorization", bearer);
            }
            request.send(body)
        }
        None => {
            let mut request = agent.get(url).header("accept", "application/json");
            if let Some(bearer) = bearer {
                request = request.header("authorization", bearer);
            }
            request.call()
        }
    }
}

/// Passes a body on, up to its end or the end of who reads it.
fn read(mut body: impl Read, into: &SyncSender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let chunk = match body.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => Ok(buffer[..n].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = chunk.is_err();
        if into.send(chunk).is_err() || is_last {
            return;
        }
    }
}

fn away(error: &impl std::fmt::Display) -> Fault {
    Fault::Away(format!("the server cannot be reached: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::channel;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// Asks a server that says this and then nothing more, and reads it all.
    fn ask(says: &'static str, cancel: &Cancel) -> (Receiver<Result<String, String>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let (sender, outcome) = channel();
        let cancel = cancel.clone();
        std::thread::spawn(move || {
            let sent = Sent {
                url,
                bearer: None,
                body: Some("{}".to_owned()),
            };
            let read = || -> Result<String, String> {
                let agent = Agent::new_with_defaults();
                let begun = Exchange::begin(&agent, sent, &cancel);
                let mut exchange = begun.map_err(|fault| format!("{fault:?}"))?;
                let mut text = String::new();
                let read = exchange.read_to_string(&mut text);
                read.map_err(|error| format!("{text}, {error}"))?;
                Ok(text)
            };
            sender.send(read())
        });
        let (mut stream, _) = listener.accept().expect("somebody asks");
        stream.write_all(says.as_bytes()).expect("connected");
        (outcome, stream)
    }

    #[test]
    fn what_a_server_says_is_read_to_its_end() {
        let says = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let (outcome, _stream) = ask(says, &Cancel::new());
        let read = outcome.recv_timeout(DEADLINE).expect("it ends");
        assert_eq!(read, Ok("hello".to_owned()));
    }

    #[test]
    fn a_server_that_hangs_is_waited_for_as_long_as_its_reply_is_wanted() {
        for says in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"] {
            let cancel = Cancel::new();
            let (outcome, stream) = ask(says, &cancel);
            outcome.try_recv().expect_err("it is waited for");
            cancel.cancel();
            let read = outcome.recv_timeout(DEADLINE).expect("it is given up");
            read.expect_err("nothing was lost but the reply");
            drop(stream);
        }
    }
}
