//! How do the threads of a pool stay awake from one fork to the next?
//!
//! A forward pass is some two hundred forks in a row, with a moment of work on one thread
//! between two of them. A thread that finds nothing to do falls asleep, and waking it takes
//! longer than its share of a single row's product. While a pass runs, the other threads
//! look for work, until there has been none for [`PATIENCE`].
//!
//! Nobody waits for a thread to begin or end this: one that the system gives no time is missed
//! as little as before. A thread may come to look in the middle of a task that somebody waits
//! for, and take up other tasks meanwhile; since they are tasks of the same pass, and end with
//! it, so does looking. That is why a decoder lets one pass at a time into its pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks for work in vain: several of the gaps between two forks.
const PATIENCE: Duration = Duration::from_micros(200);
/// Looks between two of which others of this machine may run.
const LOOKS_AT_ONCE: u32 = 64;

/// Runs `work` on a thread of the current pool, whose others stay awake.
pub(crate) fn keep_awake<T>(work: impl FnOnce() -> T) -> T {
    if rayon::current_num_threads() == 1 {
        return work();
    }
    let is_done = Arc::new(AtomicBool::new(false));
    let here = rayon::current_thread_index();
    let seen = is_done.clone();
    rayon::spawn_broadcast(move |thread| {
        if Some(thread.index()) != here {
            look_for_work(&seen);
        }
    });
    let _done = SetOnDrop(&is_done);
    work()
}

fn look_for_work(is_done: &AtomicBool) {
    let mut last_found = Instant::now();
    let mut n_looks = 0;
    while !is_done.load(Ordering::Relaxed) {
        n_looks += 1;
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => last_found = Instant::now(),
            _ if last_found.elapsed() > PATIENCE => return,
            _ if n_looks % LOOKS_AT_ONCE == 0 => std::thread::yield_now(),
            _ => std::hint::spin_loop(),
        }
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    fn sum(n: u32) -> u32 {
        (0..n).into_par_iter().with_max_len(1).sum()
    }

    /// Several callers fork at once, so that threads look for work in the middle of tasks.
    #[test]
    fn whoever_forks_meanwhile_everything_ends() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let pool = Arc::new(pool.expect("threads start"));
        let (tell, told) = std::sync::mpsc::channel();
        for _ in 0..4 {
            let (pool, tell) = (pool.clone(), tell.clone());
            std::thread::spawn(move || {
                for n in 0..200 {
                    let nested = || keep_awake(|| sum(n) + keep_awake(|| sum(n)));
                    assert_eq!(pool.install(nested), n * n.saturating_sub(1));
                }
                tell.send(()).expect("the test waits");
            });
        }
        for _ in 0..4 {
            let ended = told.recv_timeout(Duration::from_secs(120));
            ended.expect("all callers end");
        }
    }

    #[test]
    fn a_panic_passes_through() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let pool = pool.expect("threads start");
        let panics = || pool.install(|| keep_awake(|| panic!("on purpose")));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
        assert!(caught.is_err());
        assert_eq!(pool.install(|| keep_awake(|| sum(10))), 45);
    }
}
