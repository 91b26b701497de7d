//! Is a fragment sooner read than encoded? Decided by what both took so far.

use std::time::Duration;

/// What older measurements count beside a new one.
const DECAY: f64 = 0.9;
/// Of the fragments that would be sooner encoded, one in so many is read all the same: a disk
/// that was slow once need not stay so.
const PROBE_EVERY: u32 = 64;

/// Seconds a unit, of late.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    units: f64,
    seconds: f64,
}

impl Pace {
    fn note(&mut self, units: f64, time: Duration) {
        self.units = self.units * DECAY + units;
        self.seconds = self.seconds * DECAY + time.as_secs_f64();
    }

    /// `None` before the first measurement.
    fn seconds_for(&self, units: f64) -> Option<f64> {
        (self.units > 0.0).then(|| units * self.seconds / self.units)
    }
}

/// What reading and encoding took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    /// By byte.
    read: Pace,
    /// By token.
    encode: Pace,
    n_declined: u32,
}

impl Gauge {
    pub(super) fn note_read(&mut self, n_bytes: u64, time: Duration) {
        self.read.note(n_bytes as f64, time);
    }

    pub(super) fn note_encoded(&mut self, n_tokens: usize, time: Duration) {
        self.encode.note(n_tokens as f64, time);
    }

    /// Whether reading is sooner done. Until both were measured, it is taken to be.
    pub(super) fn is_sooner_read(&self, n_bytes: u64, cost_tokens: u64) -> bool {
        let read = self.read.seconds_for(n_bytes as f64);
        let encode = self.encode.seconds_for(cost_tokens as f64);
        match (read, encode) {
            (Some(read), Some(encode)) => read <= encode,
            _ => true,
        }
    }

    /// Whether to read it. Call it for a fragment that is about to be read or encoded.
    pub(super) fn decide(&mut self, n_bytes: u64, cost_tokens: u64) -> bool {
        if self.is_sooner_read(n_bytes, cost_tokens) {
            return true;
        }
        self.n_declined = (self.n_declined + 1) % PROBE_EVERY;
        self.n_declined == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sooner_done_is_done_and_the_other_tried_again() {
        let mut gauge = Gauge::default();
        assert!(gauge.decide(1 << 20, 64));
        gauge.note_encoded(64, Duration::from_millis(100));
        assert!(gauge.decide(1 << 20, 64));
        gauge.note_read(1 << 20, Duration::from_secs(1));
        let n_read = (0..2 * PROBE_EVERY).filter(|_| gauge.decide(1 << 20, 64));
        assert_eq!(n_read.count(), 2);
        assert!(gauge.is_sooner_read(1 << 16, 64));
        for _ in 0..100 {
            gauge.note_read(1 << 20, Duration::from_millis(2));
        }
        assert!(gauge.is_sooner_read(1 << 20, 64));
    }
}
