//! How often may somebody ask?

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Of so many the rate is known; beyond that, of those who asked last.
const MAX_KNOWN: usize = 16_384;

/// A bucket of requests for each that asks: full at first, and filled again with time.
#[derive(Debug)]
pub(super) struct Rates<K> {
    /// Requests a second.
    rate: f64,
    /// What a bucket holds.
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl<K: Eq + Hash> Rates<K> {
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate: rate.into(),
            burst: burst.max(1).into(),
            buckets: Mutex::default(),
        }
    }

    /// Takes a request out of a bucket, if there is one.
    pub(super) fn admit(&self, who: K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let level = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.level + passed * self.rate).min(self.burst)
        };
        if buckets.len() >= MAX_KNOWN && !buckets.contains_key(&who) {
            // A full bucket is as good as none.
            buckets.retain(|_, bucket| level(bucket) < self.burst);
            if buckets.len() >= MAX_KNOWN {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(who).or_insert(Bucket {
            level: self.burst,
            at: now,
        });
        bucket.level = level(bucket);
        bucket.at = now;
        let is_admitted = bucket.level >= 1.0;
        if is_admitted {
            bucket.level -= 1.0;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_let_in_and_then_so_many_a_second() {
        let rates = Rates::new(10, 3);
        let start = Instant::now();
        let admitted = |at_ms: u64| rates.admit("a", start + Duration::from_millis(at_ms));
        assert_eq!(
            [admitted(0), admitted(0), admitted(0), admitted(0)],
            [true, true, true, false]
        );
        assert!(rates.admit("b", start), "another has a bucket of its own");
        assert_eq!([admitted(100), admitted(100)], [true, false]);
        assert_eq!([0; 4].map(|_| admitted(10_000)), [true, true, true, false]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let rates = Rates::new(1, 1);
        let now = Instant::now();
        (0..MAX_KNOWN * 2).for_each(|i| {
            rates.admit(i, now);
        });
        assert!(rates.buckets.lock().expect("whole").len() <= MAX_KNOWN);
    }
}
