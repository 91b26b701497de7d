//! Does a cluster compact a topic, so that of each key the last message is kept alone, and a deletion for a
//! while only?
//!
//! What is removed before it is read leaves a gap. In a topic that is compacted, a deletion may have stood
//! there; in others, gaps are what producers leave between transactions.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};

use super::client::Complaints;

/// The setting of a topic that says so.
const POLICY: &str = "cleanup.policy";

/// Asks the cluster; none if it does not say, as where its settings may not be read.
pub(super) fn is_compacted(config: &ClientConfig, topic: &str, within: Duration) -> Option<bool> {
    let admin = config.create_with_context(Complaints::default());
    let admin: AdminClient<Complaints> = admin.ok()?;
    let options = AdminOptions::new().request_timeout(Some(within));
    let asked = [ResourceSpecifier::Topic(topic)];
    let described = block_on(admin.describe_configs(&asked, &options), within)?.ok()?;
    let described = described.into_iter().next()?.ok()?;
    described.get(POLICY)?.value.as_deref().map(says_compact)
}

/// Whether one of several policies, with commas between, is to compact.
fn says_compact(policies: &str) -> bool {
    policies.split(',').any(|policy| policy.trim() == "compact")
}

/// Waits for a future on this thread, for a time.
fn block_on<F: Future>(future: F, within: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let end = Instant::now() + within;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_policy_of_several_is_enough() {
        let said = ["compact", "delete, compact", "delete", ""].map(says_compact);
        assert_eq!(said, [true, true, false, false]);
    }

    #[test]
    fn a_future_is_waited_for_until_it_is_there_or_the_time_is_over() {
        let mut n_polls = 0;
        let ready = std::future::poll_fn(|context| {
            n_polls += 1;
            let waker = context.waker().clone();
            match n_polls {
                1 => {
                    thread::spawn(move || waker.wake());
                    Poll::Pending
                }
                _ => Poll::Ready(7),
            }
        });
        assert_eq!(block_on(ready, Duration::from_secs(60)), Some(7));
        let never = std::future::pending::<()>();
        assert_eq!(block_on(never, Duration::from_millis(1)), None);
    }
}
