//! How much may be posted, by how many, and how slowly?

use std::time::Duration;

use crate::jsonl::LINE_LIMIT;

/// What an [`HttpListener`](crate::HttpListener) puts up with. Everything that a client could make
/// grow, or leave hanging, has a limit here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpLimits {
    /// The longest body of a request, in bytes, as it is sent and as it is unpacked: 16 MiB. A
    /// request over it is refused whole.
    pub body: usize,
    /// The longest line, in bytes: 1 MiB. A line over it goes to quarantine.
    pub line: usize,
    /// The most lines with something on them in one request: 50,000. A request over it is refused
    /// whole.
    pub records: usize,
    /// Bodies that are held at once may come to this many bytes, those that wait for the engine
    /// included: 64 MiB, and never less than one body as long as allowed.
    pub held: usize,
    /// Requests of one stream that wait for the engine: 8.
    pub queue: usize,
    /// How long a request waits for room among the bodies held, and then in the queue, before it
    /// is refused: 5 s.
    pub patience: Duration,
    /// The most connections: 256. An idle one gives way to a further one, which else waits to be accepted.
    pub connections: usize,
    /// The most connections of one address, of IPv6 of one network (/64): 192. Further ones are closed at
    /// once where none of them is idle.
    pub peer_connections: usize,
    /// How long a connection has had no request in hand before it gives way, where there is no room: 5 s.
    pub idle_time: Duration,
    /// How long a client may take to send the head of a request, or leave a connection idle: 30 s.
    pub head_time: Duration,
    /// How long a client may take to send a body: 60 s.
    pub body_time: Duration,
    /// How long a connection may be used, in all: 10 minutes.
    pub connection_time: Duration,
    /// The longest wait that a request may ask for: 60 s.
    pub wait: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body: 16 << 20,
            line: LINE_LIMIT,
            records: 50_000,
            held: 64 << 20,
            queue: 8,
            patience: Duration::from_secs(5),
            connections: 256,
            peer_connections: 192,
            idle_time: Duration::from_secs(5),
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            connection_time: Duration::from_secs(600),
            wait: Duration::from_secs(60),
        }
    }
}
