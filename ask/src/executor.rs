//! Where model calls run: a few threads behind one bounded queue.
//!
//! # Design
//! Dataflow workers never compute a model call; they hand it here and are woken when it is done.
//! Fresh answers go before background work. Within a priority every *lane* (a view, most often)
//! has a queue of its own, and lanes take turns: a view with ten thousand calls to make holds up
//! another view's call by one call, not by ten thousand. Jobs of one lane run in order of arrival.
//!
//! A call that failed and may succeed later is tried again after a pause that doubles
//! ([`Attempt::Later`]). It holds no thread meanwhile, and comes back at the head of its lane: it
//! has waited longest.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use perennial_model::passes::Priority;

/// Before a call is tried for the second time; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, unless the provider asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that a provider may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// There is nothing more to do.
    Done,
    /// It is to be tried again: after this pause, or one that grows with each try.
    Later(Option<Duration>),
    /// It could not begin yet. It is tried after this pause, and this was no try.
    Wait(Duration),
}

/// What runs; it is told how often it was tried before.
type Run = Box<dyn FnMut(u32) -> Attempt + Send>;

/// What runs, and where it queues.
struct Job {
    priority: Priority,
    lane: Arc<str>,
    n_tries: u32,
    run: Run,
}

/// The jobs of one priority.
#[derive(Default)]
struct Lanes {
    jobs: HashMap<Arc<str>, VecDeque<Job>>,
    /// The lanes that have jobs, next turn first; each stands here once.
    turns: VecDeque<Arc<str>>,
}

impl Lanes {
    fn push(&mut self, job: Job) {
        let jobs = self.jobs.entry(job.lane.clone()).or_default();
        if jobs.is_empty() {
            self.turns.push_back(job.lane.clone());
        }
        match job.n_tries {
            0 => jobs.push_back(job),
            _ => jobs.push_front(job),
        }
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
    /// Jobs to be tried again, by when, and a number that tells those of one instant apart.
    paused: BTreeMap<(Instant, u64), Job>,
    n_paused: u64,
    is_closed: bool,
}

impl Queue {
    fn push(&mut self, job: Job) {
        match job.priority {
            Priority::Fresh => self.fresh.push(job),
            Priority::Background => self.background.push(job),
        }
    }

    fn pause(&mut self, job: Job, pause: Duration) {
        self.n_paused += 1;
        let until = (
            Instant::now() + scattered(pause, self.n_paused),
            self.n_paused,
        );
        self.paused.insert(until, job);
    }

    fn pop(&mut self) -> Option<Job> {
        let now = Instant::now();
        while let Some(first) = self.paused.first_entry()
            && first.key().0 <= now
        {
            let job = first.remove();
            self.push(job);
        }
        self.fresh.pop().or_else(|| self.background.pop())
    }

    /// How long until the first of those that pause may run.
    fn pauses_for(&self) -> Option<Duration> {
        let ((until, _), _) = self.paused.first_key_value()?;
        Some(until.saturating_duration_since(Instant::now()))
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
        let mut job = Some(job);
        self.submit_until_done(priority, lane, move |_| {
            if let Some(job) = job.take() {
                job();
            }
            Attempt::Done
        });
    }

    /// Queues a job in a lane that is run until it is done. It is told how often it was run before.
    pub fn submit_until_done(
        &self,
        priority: Priority,
        lane: &Arc<str>,
        run: impl FnMut(u32) -> Attempt + Send + 'static,
    ) {
        let job = Job {
            priority,
            lane: lane.clone(),
            n_tries: 0,
            run: Box::new(run),
        };
        let mut queue = self
            .shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if queue.is_closed {
            return;
        }
        queue.push(job);
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
                std::mem::take(&mut queue.paused),
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
        let mut job = loop {
            if let Some(job) = queue.pop() {
                break job;
            }
            if queue.is_closed {
                return;
            }
            queue = match queue.pauses_for() {
                None => shared
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(pause) => {
                    let waited = shared.changed.wait_timeout(queue, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        drop(queue);
        let n_tries = job.n_tries;
        // The submitter learns of a panic from the reply that dropping the job drops.
        let ran = catch_unwind(AssertUnwindSafe(|| (job.run)(n_tries)));
        let pause = match ran {
            Ok(Attempt::Later(asked)) => {
                job.n_tries = n_tries.saturating_add(1);
                pause(n_tries, asked)
            }
            Ok(Attempt::Wait(pause)) => pause.min(LONGEST_ASKED),
            Ok(Attempt::Done) | Err(_) => continue,
        };
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_closed {
            // Dropped outside the lock.
            drop(queue);
            continue;
        }
        queue.pause(job, pause);
        // Who sleeps longer than that sleeps anew.
        shared.changed.notify_one();
    }
}

/// A pause that is longer by up to an eighth, by another part for each number: calls that failed
/// together do not come back together.
fn scattered(pause: Duration, number: u64) -> Duration {
    // The golden ratio scatters successive numbers evenly (Knuth, multiplicative hashing).
    let part = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    pause + (pause / 8).mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// How long to wait before a job that was tried so often before is tried again.
fn pause(n_tries: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << n_tries.min(16));
    let asked = asked.map(|asked| asked.min(LONGEST_ASKED));
    asked.unwrap_or(doubled.min(LONGEST_PAUSE))
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
    fn a_job_is_tried_until_it_is_done_and_holds_up_no_other() {
        let executor = Executor::new(1);
        let (tx, rx) = mpsc::channel();
        let (again, lane) = (tx.clone(), Arc::from("v"));
        executor.submit_until_done(Priority::Fresh, &lane, move |n_tries| {
            again.send(n_tries).expect("receiver lives");
            match n_tries {
                2 => Attempt::Done,
                _ => Attempt::Later(Some(Duration::from_millis(20))),
            }
        });
        executor.submit(Priority::Fresh, &lane, move || {
            tx.send(100).expect("receiver lives")
        });
        assert_eq!(rx.iter().collect::<Vec<_>>(), [0, 100, 1, 2]);
    }

    #[test]
    fn pauses_grow_up_to_a_limit_unless_one_is_asked_for() {
        let pauses: Vec<u128> = [0, 1, 5, 8, 40]
            .map(|n| pause(n, None).as_millis())
            .to_vec();
        assert_eq!(pauses, [250, 500, 8_000, 60_000, 60_000]);
        let asked = |seconds| pause(9, Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!((asked(2), asked(100_000)), (2, 3600));
    }

    #[test]
    fn who_could_not_begin_has_not_tried() {
        let executor = Executor::new(1);
        let (tx, rx) = mpsc::channel();
        let mut n_runs = 0;
        executor.submit_until_done(Priority::Fresh, &"a".into(), move |n_tries| {
            n_runs += 1;
            tx.send(n_tries).expect("receiver lives");
            match n_runs {
                1 | 2 => Attempt::Wait(Duration::from_millis(1)),
                3 => Attempt::Later(Some(Duration::from_millis(1))),
                _ => Attempt::Done,
            }
        });
        assert_eq!(rx.iter().collect::<Vec<u32>>(), [0, 0, 0, 1]);
    }

    #[test]
    fn calls_that_failed_together_come_back_apart() {
        let pause = Duration::from_secs(8);
        let mut all: Vec<Duration> = (1..=20).map(|number| scattered(pause, number)).collect();
        assert!(all.iter().all(|p| (pause..=pause + pause / 8).contains(p)));
        all.sort_unstable();
        assert!(
            all.windows(2)
                .all(|two| two[1] - two[0] > Duration::from_millis(5))
        );
    }

    #[test]
    fn what_pauses_is_given_up_with_its_executor() {
        let (tx, rx) = mpsc::channel::<()>();
        let executor = Executor::new(1);
        let (began, begun) = mpsc::channel();
        executor.submit_until_done(Priority::Fresh, &"v".into(), move |_| {
            let _held = &tx;
            began.send(()).expect("receiver lives");
            Attempt::Later(Some(Duration::from_secs(3000)))
        });
        begun.recv().expect("it ran");
        drop(executor);
        rx.recv().expect_err("the job is dropped");
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
