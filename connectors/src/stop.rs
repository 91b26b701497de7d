//! How is a source told to stop? One flag, raised once, that also wakes whoever waits.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

/// A flag that is raised once and stays up. Clones share it.
#[derive(Clone, Debug)]
pub struct StopFlag {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whether the flag is up, for loops that only look.
    raised: AtomicBool,
    /// Dropped when the flag is raised: the receiver then reports disconnection, which wakes
    /// every `select!` that waits on it, at no cost while nothing happens.
    open: Mutex<Option<Sender<Infallible>>>,
    /// Never carries a message.
    signal: Receiver<Infallible>,
}

impl StopFlag {
    /// A flag that is down.
    pub fn new() -> Self {
        let (open, signal) = crossbeam_channel::bounded(0);
        let open = Mutex::new(Some(open));
        Self {
            shared: Arc::new(Shared {
                raised: AtomicBool::new(false),
                open,
                signal,
            }),
        }
    }

    /// Raises the flag and wakes whoever waits on it. Raising it again does nothing.
    pub fn raise(&self) {
        self.shared.raised.store(true, Ordering::Release);
        self.shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Whether the flag is up.
    pub fn raised(&self) -> bool {
        self.shared.raised.load(Ordering::Acquire)
    }

    /// A channel that is disconnected once the flag is up, for `select!`.
    pub fn signal(&self) -> &Receiver<Infallible> {
        &self.shared.signal
    }

    /// Waits for a time, or until the flag is up. Returns whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        match self.shared.signal.recv_timeout(time) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Timeout) => self.raised(),
            Err(RecvTimeoutError::Disconnected) => true,
        }
    }
}

impl Default for StopFlag {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn raising_wakes_a_waiter() {
        let flag = StopFlag::new();
        let waiter = thread::spawn({
            let flag = flag.clone();
            move || {
                let start = Instant::now();
                (flag.wait(Duration::from_secs(60)), start.elapsed())
            }
        });
        thread::sleep(Duration::from_millis(20));
        flag.raise();
        flag.raise();
        let (raised, waited) = waiter.join().unwrap();
        assert!(raised && waited < Duration::from_secs(10));
        assert!(flag.raised() && flag.wait(Duration::from_secs(60)));
    }

    #[test]
    fn waiting_ends_without_a_raise() {
        let flag = StopFlag::new();
        assert!(!flag.wait(Duration::from_millis(5)));
        assert!(!flag.raised());
    }
}
