//! What does a server put up with?

use std::time::Duration;

use perennial_connectors::HttpLimits;

/// Everything that a client could make grow, or leave hanging, has a limit here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The most connections: 1,024. An idle one gives way to a further one, which else waits to be accepted.
    pub connections: usize,
    /// The most connections of one address, of IPv6 of one network (/64): 256. Further ones are closed at
    /// once where none of them is idle.
    pub peer_connections: usize,
    /// How long a connection has had no request in hand before it gives way, where there is no room: 5 s.
    pub idle_time: Duration,
    /// Requests a second of one token, or of one address or network where there is none: 1,000.
    pub rate: u32,
    /// How many of them may come at once: 2,000.
    pub burst: u32,
    /// How long a client may take to send the head of a request, or leave a connection idle: 30 s.
    pub head_time: Duration,
    /// How long a client may take to send a body: 60 s.
    pub body_time: Duration,
    /// For how long a client may take nothing of what is written to it: 30 s.
    pub write_time: Duration,
    /// The longest body of statements, in bytes: 1 MiB.
    pub sql_body: usize,
    /// Statements that are carried out at once: 16; of one token half as many.
    pub statements: usize,
    /// The most statements of one request: 1,000.
    pub script: usize,
    /// How long the statements of a request may look for rows, where they ask no model: 5 minutes.
    pub statement_time: Duration,
    /// The most pairs of rows that the joins of a statement look at: 5,000,000.
    pub pairs: usize,
    /// How long one that reads waits for what was said before to be visible: 60 s.
    pub visible_time: Duration,
    /// How long a request waits for its turn: 5 s.
    pub patience: Duration,
    /// The most rows of a reply, of all its statements together: 10,000.
    pub rows: usize,
    /// How long nothing may be said to a subscriber before it is told that its connection lives: 15 s.
    pub heartbeat: Duration,
    /// Who may wait for an answer of a view at once: 64; of one token half as many.
    pub askers: usize,
    /// How long a view may take to answer: 10 minutes.
    pub answer_time: Duration,
    /// The most conversations that are kept: 1,000; of one token half as many. The one that was not asked
    /// for the longest gives way.
    pub conversations: usize,
    /// How long a conversation is kept that nobody asks for: 1 hour.
    pub conversation_time: Duration,
    /// How often it is looked which conversations are to go: every 30 s.
    pub sweep_every: Duration,
    /// The most texts that are embedded by one request: 2,048.
    pub embedded: usize,
    /// How long a backup may take: 1 hour. Meanwhile the state file keeps what is replaced.
    pub backup_time: Duration,
    /// How long requests under way may take when the server ends: 5 s.
    pub last_wait: Duration,
    /// Those of records that are posted.
    pub posted: HttpLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            peer_connections: 256,
            idle_time: Duration::from_secs(5),
            rate: 1_000,
            burst: 2_000,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            sql_body: 1 << 20,
            statements: 16,
            script: 1_000,
            statement_time: Duration::from_secs(300),
            pairs: 5_000_000,
            visible_time: Duration::from_secs(60),
            patience: Duration::from_secs(5),
            rows: 10_000,
            heartbeat: Duration::from_secs(15),
            askers: 64,
            answer_time: Duration::from_secs(600),
            conversations: 1_000,
            conversation_time: Duration::from_secs(3_600),
            sweep_every: Duration::from_secs(30),
            embedded: 2_048,
            backup_time: Duration::from_secs(3_600),
            last_wait: Duration::from_secs(5),
            posted: HttpLimits::default(),
        }
    }
}
