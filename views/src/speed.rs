//! How fast is a model?
//!
//! Calls run beside each other, and share passes: so what counts is the time in which at least one was
//! under way, and the tokens that all of them forwarded in it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a model has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Speed(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    n_under_way: usize,
    /// When the first of those under way began.
    since: Option<Instant>,
    /// How long at least one was, before that.
    busy: Duration,
    n_tokens: u64,
}

impl Speed {
    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins.
    pub(crate) fn begun(&self, now: Instant) {
        let mut measured = self.measured();
        measured.n_under_way += 1;
        measured.since.get_or_insert(now);
    }

    /// A call has ended, which forwarded so many tokens.
    pub(crate) fn ended(&self, now: Instant, n_tokens: usize) {
        let mut measured = self.measured();
        measured.n_tokens += n_tokens as u64;
        measured.n_under_way = measured.n_under_way.saturating_sub(1);
        if measured.n_under_way == 0
            && let Some(since) = measured.since.take()
        {
            measured.busy += now.saturating_duration_since(since);
        }
    }

    /// Tokens that it forwards in a second; `None` before its first call has ended.
    pub(crate) fn tokens_a_second(&self, now: Instant) -> Option<f64> {
        let measured = self.measured();
        let under_way = measured
            .since
            .map(|since| now.saturating_duration_since(since));
        let busy = (measured.busy + under_way.unwrap_or_default()).as_secs_f64();
        (measured.n_tokens > 0 && busy > 0.0).then(|| measured.n_tokens as f64 / busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_once_however_many_calls_are_under_way() {
        let (speed, begin) = (Speed::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(speed.tokens_a_second(at(0)), None);
        speed.begun(at(0));
        assert_eq!(speed.tokens_a_second(at(1)), None, "nothing has ended");
        speed.begun(at(1));
        speed.ended(at(3), 100);
        speed.ended(at(4), 100);
        assert_eq!(speed.tokens_a_second(at(4)), Some(50.0));
        // Nobody was asked for a minute.
        assert_eq!(speed.tokens_a_second(at(64)), Some(50.0));
        speed.begun(at(64));
        speed.ended(at(68), 200);
        assert_eq!(speed.tokens_a_second(at(70)), Some(50.0));
    }
}
