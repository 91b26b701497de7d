//! Where model calls run: a few threads behind one bounded queue.
//!
//! # Design
//! Dataflow workers never compute a model call; they hand it here and are woken when it is done.
//! Fresh answers go before background work. Within a priority every *lane* (a view, most often)
//! has a queue of its own, and lanes take turns: a view with ten thousand calls to make holds up
//! another view's call by one call, not by ten thousand. Jobs of one lane run in order of arrival.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use perennial_model::passes::Priority;

type Job = Box<dyn FnOnce() + Send>;

/// The jobs of one priority.
#[derive(Default)]
struct Lanes {
    jobs: HashMap<Arc<str>, VecDeque<Job>>,
    /// The lanes that have jobs, next turn first; each stands here once.
    turns: VecDeque<Arc<str>>,
}

impl Lanes {
    fn push(&mut self, lane: &Arc<str>, job: Job) {
        let jobs = self.jobs.entry(lane.clone()).or_default();
        if jobs.is_empty() {
            self.turns.push_back(lane.clone());
        }
        jobs.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let lane = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&lane)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        job
    }
}

#[derive(Default)]
struct Queue {
    fresh: Lanes,
    background: Lanes,
    is_closed: bool,
}

impl Queue {
    fn pop(&mut self) -> Option<Job> {
        self.fresh.pop().or_else(|| self.background.pop())
    }
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

    /// Queues a job in a lane.
    pub fn submit(&self, priority: Priority, lane: &Arc<str>, job: impl FnOnce() + Send + 'static) {
        let mut queue = self
            .shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if queue.is_closed {
            return;
        }
        let lanes = match priority {
            Priority::Fresh => &mut queue.fresh,
            Priority::Background => &mut queue.background,
        };
        lanes.push(lane, Box::new(job));
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
            (
                std::mem::take(&mut queue.fresh),
                std::mem::take(&mut queue.background),
            )
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
            if let Some(job) = queue.pop() {
                break job;
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

    /// What ran, in order, of these jobs on one thread that was busy while they came.
    fn order(jobs: &[(Priority, &str, &'static str)]) -> Vec<&'static str> {
        let executor = Executor::new(1);
        let (gate, wait) = mpsc::channel::<()>();
        let (tx, rx) = mpsc::channel();
        executor.submit(Priority::Fresh, &"gate".into(), move || {
            wait.recv().expect("gate is opened")
        });
        for (priority, lane, name) in jobs {
            let (tx, name) = (tx.clone(), *name);
            executor.submit(*priority, &Arc::from(*lane), move || {
                tx.send(name).expect("receiver lives")
            });
        }
        gate.send(()).expect("the first job waits");
        drop(tx);
        rx.iter().collect()
    }

    #[test]
    fn fresh_work_overtakes_background_work_and_order_is_kept() {
        let ran = order(&[
            (Priority::Background, "v", "b1"),
            (Priority::Fresh, "v", "f1"),
            (Priority::Background, "v", "b2"),
            (Priority::Fresh, "v", "f2"),
        ]);
        assert_eq!(ran, ["f1", "f2", "b1", "b2"]);
    }

    #[test]
    fn lanes_take_turns() {
        let ran = order(&[
            (Priority::Fresh, "many", "m1"),
            (Priority::Fresh, "many", "m2"),
            (Priority::Fresh, "many", "m3"),
            (Priority::Fresh, "few", "f1"),
            (Priority::Fresh, "other", "o1"),
            (Priority::Fresh, "few", "f2"),
        ]);
        assert_eq!(ran, ["m1", "f1", "o1", "m2", "f2", "m3"]);
    }

    #[test]
    fn a_panic_ends_one_job_only() {
        let (executor, lane) = (Executor::new(1), Arc::from("v"));
        let (tx, rx) = mpsc::channel();
        executor.submit(Priority::Fresh, &lane, || panic!("contained"));
        executor.submit(Priority::Fresh, &lane, move || {
            tx.send(()).expect("receiver lives")
        });
        rx.recv().expect("the second job ran");
    }
}
