//! How do the threads of a pool stay awake from one fork to the next?
//!
//! A forward pass is some two hundred forks in a row, with a moment of work on one thread
//! between two of them. A thread that finds nothing to do falls asleep, and waking it takes
//! longer than its share of a single row's product. While a pass runs, the other threads
//! look for work without pause, until there has been none for [`PATIENCE`].
//!
//! Invariant: a thread looks for a bounded time only, since it may be doing so in the middle
//! of a task that somebody waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks for work in vain: several of the gaps between two forks.
const PATIENCE: Duration = Duration::from_micros(200);

/// Runs `work` on a thread of the current pool, whose others stay awake.
pub(crate) fn keep_awake<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let is_done = &AtomicBool::new(false);
    rayon::in_place_scope(|scope| {
        let here = rayon::current_thread_index();
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) != here {
                look_for_work(is_done);
            }
        });
        let _done = SetOnDrop(is_done);
        work()
    })
}

fn look_for_work(is_done: &AtomicBool) {
    let mut last_found = Instant::now();
    while !is_done.load(Ordering::Relaxed) {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => last_found = Instant::now(),
            _ if last_found.elapsed() > PATIENCE => return,
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
        let pool = &pool.expect("threads start");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for n in 0..200 {
                        let nested = || keep_awake(|| sum(n) + keep_awake(|| sum(n)));
                        assert_eq!(pool.install(nested), n * n.saturating_sub(1));
                    }
                });
            }
        });
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
