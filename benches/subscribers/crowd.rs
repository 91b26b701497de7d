//! Everybody who is connected: those who follow the view, one who never reads, and those who say nothing.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout_at};

use super::Error;
use super::changes::{self, Standing};
use super::subscriber::{Report, Subscriber, Word};

/// Connections from one address, under the 256 that a server allows.
const AN_ADDRESS: usize = 200;
/// Connections that are made at once.
const AT_ONCE: usize = 64;
/// How long everybody may take to connect, and be told what stands.
const GATHERING: Duration = Duration::from_secs(120);
/// How long it may take until those are closed that are too many.
const TURNING_AWAY: Duration = Duration::from_secs(10);
/// Where who never reads comes from.
const DEAF: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);
/// Where those come from who say nothing.
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 1);

/// Those who follow the view.
pub(super) struct Crowd {
    word: watch::Sender<Word>,
    followers: Vec<JoinHandle<Result<(Report, TcpStream), Error>>>,
}

/// What they came to.
pub(super) struct Told {
    /// Of each.
    pub(super) reports: Vec<Report>,
    /// Why others were cut off.
    pub(super) cut_off: Vec<String>,
    /// Open for as long as this is.
    streams: Vec<TcpStream>,
}

impl Told {
    /// How many do not hold what the view says.
    pub(super) fn n_losses(&self) -> usize {
        let are_whole = self.reports.iter().filter(|report| report.is_whole).count();
        self.reports.len() + self.cut_off.len() - are_whole
    }
}

impl Crowd {
    /// Connects them, and waits until each was told what stands.
    pub(super) fn gather(
        runtime: &Runtime,
        address: SocketAddr,
        n_subscribers: usize,
        n_everything: usize,
        n_contexts: usize,
        began: Instant,
    ) -> Result<Self, Error> {
        let (word, _) = watch::channel(Word::Going);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let connecting = (0..n_subscribers).map(|n| {
            let key = n.checked_sub(n_everything);
            let key = key.map(|n| changes::name(n % n_contexts));
            let turns = turns.clone();
            runtime.spawn(async move {
                let _turn = turns.acquire().await?;
                let stream = subscribed(address, from(n)?, key.as_deref(), None).await?;
                let mut subscriber = Subscriber::new(stream, key, began);
                subscriber.begin().await?;
                Ok::<_, Error>(subscriber)
            })
        });
        let connecting: Vec<_> = connecting.collect();
        let mut followers = Vec::new();
        runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + GATHERING;
            for connecting in connecting {
                let subscriber = timeout_at(deadline, connecting).await;
                let subscriber = subscriber.map_err(|_| "subscribers wait to be served")???;
                followers.push(tokio::spawn(subscriber.follow(word.subscribe())));
            }
            Ok::<_, Error>(())
        })?;
        Ok(Self { word, followers })
    }

    /// Holds what they hold against what the view says, and waits for those who do not yet.
    pub(super) fn compare(
        self,
        runtime: &Runtime,
        standing: Arc<Standing>,
        patience: Duration,
    ) -> Result<Told, Error> {
        let mut told = Told {
            reports: Vec::new(),
            cut_off: Vec::new(),
            streams: Vec::new(),
        };
        self.word.send_replace(Word::Last(standing));
        runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + patience;
            for mut follower in self.followers {
                let reported = timeout_at(deadline, &mut follower).await;
                let reported = match reported {
                    Ok(reported) => reported?,
                    Err(_) => {
                        self.word.send_replace(Word::Over);
                        follower.await?
                    }
                };
                match reported {
                    Ok((report, stream)) => {
                        told.reports.push(report);
                        told.streams.push(stream);
                    }
                    Err(error) => told.cut_off.push(error.to_string()),
                }
            }
            Ok(told)
        })
    }
}

/// The address of the nth subscriber.
fn from(n: usize) -> Result<Ipv4Addr, Error> {
    let n = u16::try_from(1 + n / AN_ADDRESS).map_err(|_| "there are too many subscribers")?;
    let [high, low] = n.to_be_bytes();
    Ok(Ipv4Addr::new(127, 1, high, low))
}

/// A connection from one address to another.
async fn connected(
    to: SocketAddr,
    from: Ipv4Addr,
    receive_buffer: Option<u32>,
) -> Result<TcpStream, Error> {
    let socket = TcpSocket::new_v4()?;
    if let Some(n_bytes) = receive_buffer {
        socket.set_recv_buffer_size(n_bytes)?;
    }
    socket.bind((from, 0).into())?;
    Ok(socket.connect(to).await?)
}

/// A connection over which all answers are asked for, or one.
async fn subscribed(
    to: SocketAddr,
    from: Ipv4Addr,
    key: Option<&str>,
    receive_buffer: Option<u32>,
) -> Result<TcpStream, Error> {
    let stream = connected(to, from, receive_buffer).await?;
    let key = key.map_or_else(String::new, |key| format!("&key={key}"));
    let request = format!(
        "GET /v1/views/answers/subscribe?format=ndjson{key} HTTP/1.1\r\nhost: {to}\r\n\r\n"
    );
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(n_bytes) => rest = &rest[n_bytes..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(stream)
}

/// Whether the other side has closed a connection over which it says nothing.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0]) {
        Ok(n_bytes) => n_bytes == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// One who follows every answer, and never reads.
pub(super) struct Unread {
    _stream: TcpStream,
}

impl Unread {
    /// Connects it, with little room for what it does not read.
    pub(super) async fn open(to: SocketAddr) -> Result<Self, Error> {
        Ok(Self {
            _stream: subscribed(to, DEAF, None, Some(4 << 10)).await?,
        })
    }
}

/// Those who say nothing.
pub(super) struct Idle(Vec<TcpStream>);

impl Idle {
    /// Connects so many.
    pub(super) async fn open(to: SocketAddr, n_sockets: usize) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for _ in 0..n_sockets {
            match connected(to, SILENT, None).await {
                Ok(stream) => sockets.push(stream),
                Err(error) => return Err(format!("an idle connection: {error}").into()),
            }
        }
        Ok(Self(sockets))
    }

    /// How many of them the server has closed, once it closes no more of them.
    pub(super) fn turned_away(&self, runtime: &Runtime) -> usize {
        let n_closed = || self.0.iter().filter(|stream| is_closed(stream)).count();
        runtime.block_on(async {
            let deadline = Instant::now() + TURNING_AWAY;
            let mut n_before = n_closed();
            loop {
                sleep(Duration::from_secs(1)).await;
                let n_now = n_closed();
                if n_now == n_before || Instant::now() > deadline {
                    return n_now;
                }
                n_before = n_now;
            }
        })
    }
}
