//! Lines that wait to be written, so that nobody waits for who reads them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Lines that may wait.
const CAPACITY: usize = 4_096;
/// How long the end waits for the lines before it.
const LAST_WAIT: Duration = Duration::from_secs(1);

enum Item {
    Line(Vec<u8>),
    /// Nothing follows; whoever waits is told once all before is written.
    End(Sender<()>),
}

/// What writes lines, on a thread of its own. Dropping it waits for what is written, a second at most.
pub(super) struct Queue {
    entrance: Entrance,
}

/// Where lines come in.
#[derive(Clone)]
pub(super) struct Entrance {
    items: Sender<Item>,
    n_lost: Arc<AtomicU64>,
}

impl Queue {
    /// Writes to `out`; `lost` has the words for so many lines that found no room.
    pub(super) fn over(out: impl Write + Send + 'static, lost: fn(u64) -> String) -> Self {
        let (items, waiting) = bounded(CAPACITY);
        let n_lost = Arc::<AtomicU64>::default();
        let counted = n_lost.clone();
        let writing = thread::Builder::new()
            .name("perennial-log".to_owned())
            .spawn(move || write(out, &waiting, &counted, lost));
        // Without a thread nothing is written, and the program does its work all the same.
        drop(writing);
        Self {
            entrance: Entrance { items, n_lost },
        }
    }

    pub(super) fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let (written, is_written) = bounded(1);
        let end = Item::End(written);
        if self.entrance.items.send_timeout(end, LAST_WAIT).is_ok() {
            // Who does not read is not waited for.
            let _ = is_written.recv_timeout(LAST_WAIT);
        }
    }
}

impl Entrance {
    /// Puts a line into the queue, if there is room.
    pub(super) fn put(&self, line: Vec<u8>) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.n_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(
    mut out: impl Write,
    waiting: &Receiver<Item>,
    n_lost: &AtomicU64,
    lost: fn(u64) -> String,
) {
    for item in waiting {
        let n_lost = n_lost.swap(0, Ordering::Relaxed);
        if n_lost > 0 {
            let _nobody_reads_it = out.write_all(lost(n_lost).as_bytes());
        }
        match item {
            Item::Line(line) => {
                let _nobody_reads_it = out.write_all(&line);
            }
            Item::End(written) => {
                let _nobody_waits = written.send(());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    /// Takes nothing before it may; then keeps all.
    struct Slow {
        may: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Hung up means: from now on.
            let _ = self.may.recv();
            self.taken.lock().expect("whole").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_does_not_read_loses_lines_that_are_counted_and_holds_nobody_up() {
        let (allow, may) = bounded::<()>(0);
        let taken = Arc::<Mutex<Vec<u8>>>::default();
        let slow = Slow {
            may,
            taken: taken.clone(),
        };
        let queue = Queue::over(slow, |n_lost| format!("lost {n_lost}\n"));
        let entrance = queue.entrance();
        let n_put = CAPACITY + 100;
        (0..n_put).for_each(|at| entrance.put(format!("line {at}\n").into_bytes()));
        drop(allow);
        drop(queue);
        // Whoever ends waits for a moment only; a busy machine may take longer.
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let taken = taken.lock().expect("whole").clone();
            let taken = String::from_utf8(taken).expect("text");
            let lines = taken.lines();
            let n_written = lines.filter(|line| line.starts_with("line ")).count();
            let lost = taken.lines().filter_map(|line| line.strip_prefix("lost "));
            let n_lost: usize = lost.filter_map(|n| n.parse::<usize>().ok()).sum();
            if n_written + n_lost == n_put {
                // All that fits, and one in hand.
                assert!((99..=100).contains(&n_lost), "{n_lost}");
                return;
            }
            assert!(Instant::now() < until, "{n_written} written, {n_lost} lost");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
