//! Where model calls run: a few threads behind one bounded priority queue.
//!
//! Dataflow workers never compute a model call; they hand it here and are woken when it
//! is done. Fresh answers go before background work; equal priorities run in order of
//! arrival.

use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use perennial_model::passes::Priority;

type Job = Box<dyn FnOnce() + Send>;

struct Queued {
    priority: Priority,
    /// Counts down, so that of two equal priorities the earlier is the greater.
    order: std::cmp::Reverse<u64>,
    job: Job,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.priority, self.order).cmp(&(other.priority, other.order))
    }
}

#[derive(Default)]
struct Queue {
    jobs: BinaryHeap<Queued>,
    n_submitted: u64,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Threads that run jobs. Dropping it discards queued jobs and waits for running ones.
///
/// # Contract
/// Submitters bound what they have in flight (the call operator does), which bounds the
/// queue. A job that panics ends alone; its submitter notices by what the job drops.
pub struct Executor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Executor {
    /// An executor with `n_threads` threads (at least one).
    pub fn new(n_threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..n_threads.max(1))
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || run(&shared))
            })
            .collect();
        Self { shared, threads }
    }

    /// Queues a job.
    pub fn submit(&self, priority: Priority, job: impl FnOnce() + Send + 'static) {
        let mut queue = self
            .shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if queue.is_closed {
            return;
        }
        let order = std::cmp::Reverse(queue.n_submitted);
        queue.n_submitted += 1;
        queue.jobs.push(Queued {
            priority,
            order,
            job: Box::new(job),
        });
        self.shared.changed.notify_one();
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let discarded = {
            let mut queue = self
                .shared
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            queue.is_closed = true;
            std::mem::take(&mut queue.jobs)
        };
        // Jobs report their loss when dropped, and may do so only outside the lock.
        drop(discarded);
        self.shared.changed.notify_all();
        let own = std::thread::current().id();
        for thread in self.threads.drain(..) {
            if thread.thread().id() != own {
                // A panic was contained by the job's own guard; there is nothing to pass on.
                let _ = thread.join();
            }
        }
    }
}

fn run(shared: &Shared) {
    loop {
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            if let Some(queued) = queue.jobs.pop() {
                break queued.job;
            }
            if queue.is_closed {
                return;
            }
            queue = shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(queue);
        // The submitter learns of a panic from the reply that the unwinding drops.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn fresh_work_overtakes_background_work_and_order_is_kept() {
        let executor = Executor::new(1);
        let (gate, wait) = mpsc::channel::<()>();
        let (tx, rx) = mpsc::channel();
        executor.submit(Priority::Fresh, move || {
            wait.recv().expect("gate is opened")
        });
        for (priority, name) in [
            (Priority::Background, "b1"),
            (Priority::Fresh, "f1"),
            (Priority::Background, "b2"),
            (Priority::Fresh, "f2"),
        ] {
            let tx = tx.clone();
            executor.submit(priority, move || tx.send(name).expect("receiver lives"));
        }
        gate.send(()).expect("the first job waits");
        drop(tx);
        assert_eq!(rx.iter().collect::<Vec<_>>(), ["f1", "f2", "b1", "b2"]);
    }

    #[test]
    fn a_panic_ends_one_job_only() {
        let executor = Executor::new(1);
        let (tx, rx) = mpsc::channel();
        executor.submit(Priority::Fresh, || panic!("contained"));
        executor.submit(Priority::Fresh, move || {
            tx.send(()).expect("receiver lives")
        });
        rx.recv().expect("the second job ran");
    }
}
