//! Which connections are open, and which gives way to a new one?
//!
//! # Design
//! There are at most so many connections, and of one peer at most so many. One with no request in hand is
//! *idle*: nothing was asked yet, or all is answered. Where there is no room, the one that has been idle
//! for the longest gives way to one that comes, if that is a while: who has just connected is about to ask.
//! So sockets on which nothing is said keep nobody out. Where all are at work, who comes waits to be accepted; where only its peer has as many as it
//! may, it is closed at once.
//!
//! # Invariants
//! - A connection with a request in hand never gives way; it has one until the last of its reply is taken.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::timeout;

/// The connections of a listener.
#[derive(Debug)]
pub struct Connections {
    n_most: usize,
    n_most_of_peer: usize,
    /// How long one is idle before it gives way.
    least_idle: Duration,
    open: Mutex<BTreeMap<u64, Open>>,
    /// One is closed, or idle.
    changed: Notify,
}

/// What is known of a connection.
#[derive(Debug)]
struct Open {
    peer: IpAddr,
    n_in_hand: usize,
    /// Since it has none.
    idle_since: Instant,
    leave: Arc<Notify>,
}

/// A connection, until it is dropped.
#[derive(Debug)]
pub struct Connection {
    connections: Arc<Connections>,
    number: u64,
    leave: Arc<Notify>,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InHand(Arc<Connection>);

/// The body of a reply, with the request that it answers.
#[derive(Debug)]
pub struct InHandBody<B> {
    body: B,
    _in_hand: InHand,
}

/// When there is room for another.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Now,
    /// Unless one is closed sooner.
    At(Instant),
    Unknown,
}

impl Connections {
    /// None yet; of so many at most, and of so many of one peer. One that is idle for `least_idle` gives way.
    pub fn new(n_most: usize, n_most_of_peer: usize, least_idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            n_most,
            n_most_of_peer,
            least_idle,
            open: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Waits until one more has room, or another may give way to it. One at a time waits.
    pub async fn room(&self) {
        loop {
            match self.room_at(Instant::now()) {
                Room::Now => return,
                Room::At(at) => {
                    let pause = at.saturating_duration_since(Instant::now());
                    // In time or not, it is looked again.
                    let _ = timeout(pause, self.changed.notified()).await;
                }
                Room::Unknown => self.changed.notified().await,
            }
        }
    }

    fn room_at(&self, now: Instant) -> Room {
        let open = self.open();
        if open.len() < self.n_most {
            return Room::Now;
        }
        let idle = open.values().filter(|of| of.n_in_hand == 0);
        match idle.map(|of| of.idle_since + self.least_idle).min() {
            Some(at) if at <= now => Room::Now,
            Some(at) => Room::At(at),
            None => Room::Unknown,
        }
    }

    /// Takes one in, in the place of an idle one where there is no room; none where no other gives way.
    pub fn enter(self: &Arc<Self>, peer: SocketAddr) -> Option<Arc<Connection>> {
        self.enter_at(peer, Instant::now())
    }

    fn enter_at(self: &Arc<Self>, peer: SocketAddr, now: Instant) -> Option<Arc<Connection>> {
        let (peer, mut open) = (network(peer), self.open());
        let n_of_peer = open.values().filter(|of| of.peer == peer).count();
        let is_peer_full = n_of_peer >= self.n_most_of_peer;
        if is_peer_full || open.len() >= self.n_most {
            let may_leave = |of: &Open| {
                let is_idle = of.n_in_hand == 0 && of.idle_since + self.least_idle <= now;
                is_idle && (!is_peer_full || of.peer == peer)
            };
            let idle = open.iter().filter(|(_, of)| may_leave(of));
            let oldest = idle.min_by_key(|(number, of)| (of.idle_since, **number));
            let oldest = oldest.map(|(number, _)| *number)?;
            open.remove(&oldest)?.leave.notify_one();
        }
        let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
        let leave = Arc::new(Notify::new());
        open.insert(
            number,
            Open {
                peer,
                n_in_hand: 0,
                idle_since: now,
                leave: leave.clone(),
            },
        );
        drop(open);
        Some(Arc::new(Connection {
            connections: self.clone(),
            number,
            leave,
        }))
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// A request has come.
    pub fn in_hand(self: &Arc<Self>) -> InHand {
        self.with(|of| of.n_in_hand += 1);
        InHand(self.clone())
    }

    /// Resolves once it gives way to another.
    pub async fn gives_way(&self) {
        self.leave.notified().await;
    }

    /// Does this to what is known of it, unless it gives way.
    fn with(&self, change: impl FnOnce(&mut Open)) {
        let mut open = self.connections.open();
        // Its number may be another's by now.
        let own = open.get_mut(&self.number);
        if let Some(own) = own.filter(|of| Arc::ptr_eq(&of.leave, &self.leave)) {
            change(own);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        let own = open.get(&self.number);
        if own.is_some_and(|of| Arc::ptr_eq(&of.leave, &self.leave)) {
            open.remove(&self.number);
        }
        drop(open);
        self.connections.changed.notify_one();
    }
}

impl InHand {
    /// A body that is taken when the last of it is.
    pub fn with<B>(self, body: B) -> InHandBody<B> {
        InHandBody {
            body,
            _in_hand: self,
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.with(|of| {
            of.n_in_hand = of.n_in_hand.saturating_sub(1);
            of.idle_since = Instant::now();
        });
        self.0.connections.changed.notify_one();
    }
}

impl<B: Body + Unpin> Body for InHandBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// By what connections and requests of a peer are counted: who has one address of IPv6 has the 2⁶⁴ of its
/// network.
pub fn network(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST_IDLE: Duration = Duration::from_secs(1);

    fn peer(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 7070))
    }

    fn peers(connections: &Connections) -> Vec<IpAddr> {
        connections.open().values().map(|of| of.peer).collect()
    }

    #[test]
    fn the_longest_idle_gives_way_and_one_at_work_never() {
        let (connections, begin) = (Connections::new(3, 3, LEAST_IDLE), Instant::now());
        let at = |n: u32| begin + LEAST_IDLE * n;
        let enter = |last: u8, n: u32| connections.enter_at(peer(last), at(n));
        let at_work = enter(1, 0).expect("room");
        let in_hand = at_work.in_hand();
        let _idle = (enter(2, 1).expect("room"), enter(3, 2).expect("room"));
        assert_eq!(connections.room_at(at(1)), Room::At(at(2)));
        assert!(enter(4, 1).is_none(), "the second is idle for no time");
        assert_eq!(connections.room_at(at(2)), Room::Now);
        let _fourth = enter(4, 2).expect("the second gives way");
        let left = [1, 3, 4].map(|last| network(peer(last)));
        assert_eq!(peers(&connections), left);
        drop(in_hand);
        let later = Instant::now() + LEAST_IDLE * 9;
        let _fifth = connections.enter_at(peer(5), later).expect("one is idle");
        assert_eq!(peers(&connections).len(), 3);
    }

    #[test]
    fn a_peer_that_has_all_it_may_takes_the_place_of_no_other() {
        let (connections, begin) = (Connections::new(9, 2, LEAST_IDLE), Instant::now());
        let enter = |last: u8, n: u32| connections.enter_at(peer(last), begin + LEAST_IDLE * n);
        let _other = enter(1, 0).expect("room");
        let own = [enter(2, 1).expect("room"), enter(2, 1).expect("room")];
        let in_hand = own.each_ref().map(Connection::in_hand);
        assert!(enter(2, 8).is_none(), "both are at work");
        assert!(enter(3, 8).is_some());
        drop((in_hand, own));
        assert!(enter(2, 8).is_some());
    }

    #[test]
    fn what_is_closed_makes_room_and_is_no_other() {
        let (connections, now) = (Connections::new(1, 1, LEAST_IDLE), Instant::now());
        let first = connections.enter_at(peer(1), now).expect("room");
        let later = now + LEAST_IDLE;
        let second = connections.enter_at(peer(2), later).expect("it gives way");
        // The first knows nothing of who has its place.
        let in_hand = first.in_hand();
        assert_eq!(connections.room_at(later + LEAST_IDLE), Room::Now);
        drop((in_hand, first));
        assert_eq!(peers(&connections), [network(peer(2))]);
        drop(second);
        assert_eq!(connections.room_at(now), Room::Now);
        assert!(peers(&connections).is_empty());
    }

    #[test]
    fn addresses_of_one_network_are_counted_together() {
        let of = |address: &str| {
            let ip: IpAddr = address.parse().expect("an address");
            network(SocketAddr::new(ip, 7070)).to_string()
        };
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
