//! When may a request begin?
//!
//! A server has limits that it tells (so many requests and tokens a minute) and some that it shows by
//! refusing. The gate keeps the first over every minute, whenever that begins, and learns the others:
//! a refusal halves how many requests run at once and closes the gate for as long as the server
//! said; each success opens it a little further. A server that failed several times in a row is left
//! alone for a while, then asked by one request first.
//!
//! Nobody waits in the gate: who may not begin is told how long to stay away.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fault::Fault;

/// The span over which limits count.
const MINUTE: Duration = Duration::from_secs(60);
/// Failures in a row after which a server is left alone.
const MANY_FAILURES: u32 = 3;
/// For how long at first; each time twice as long.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest that it is left alone.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// The longest that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// How long to stay away where others have to end first.
const UNTIL_OTHERS_END: Duration = Duration::from_millis(100);

/// What a server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteLimits {
    /// Most requests that run at the same time.
    pub at_once: usize,
    /// Most requests of any minute.
    pub requests_per_minute: Option<u64>,
    /// Most tokens of any minute, prompts and answers together.
    pub tokens_per_minute: Option<u64>,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        Self {
            at_once: 8,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

/// The gate before a server.
pub(super) struct Gate {
    limits: RemoteLimits,
    state: Mutex<State>,
}

struct State {
    n_running: usize,
    /// How many may run, as it was learnt: from 1 to the limit.
    window: f64,
    /// No request begins before.
    opens_at: Option<Instant>,
    /// When it was closed last. Of requests that had begun by then a further failure says nothing new.
    closed_at: Option<Instant>,
    /// Failures of the server since its last reply.
    n_failures: u32,
    /// Refusals for load since its last reply.
    n_refusals: u32,
    /// The requests of the last minute, oldest first, with their tokens.
    begun: VecDeque<(Instant, u64)>,
    /// The sum of their tokens.
    n_tokens: u64,
}

/// The right to have one request run.
pub(super) struct Permit<'a> {
    gate: &'a Gate,
    begun: Instant,
    /// Tokens that it was thought to cost.
    n_tokens: u64,
}

impl Gate {
    pub(super) fn new(limits: RemoteLimits) -> Self {
        let limits = RemoteLimits {
            at_once: limits.at_once.max(1),
            ..limits
        };
        let state = State {
            n_running: 0,
            window: limits.at_once as f64,
            opens_at: None,
            closed_at: None,
            n_failures: 0,
            n_refusals: 0,
            begun: VecDeque::new(),
            n_tokens: 0,
        };
        Self {
            limits,
            state: Mutex::new(state),
        }
    }

    /// For how long to stay away, whatever the request: known before one is put together.
    pub(super) fn is_closed_for(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        let closed = state.opens_at.map(|at| at.saturating_duration_since(now));
        closed
            .filter(|closed| !closed.is_zero())
            .or_else(|| (state.n_running >= state.at_once()).then_some(UNTIL_OTHERS_END))
    }

    /// Lets a request of about so many tokens begin.
    ///
    /// # Errors
    /// How long to stay away.
    pub(super) fn enter(&self, n_tokens: u64, now: Instant) -> Result<Permit<'_>, Duration> {
        let mut state = self.state();
        state.forget_before(now);
        if let Some(opens_at) = state.opens_at
            && now < opens_at
        {
            return Err(opens_at - now);
        }
        if state.n_running >= state.at_once() {
            return Err(UNTIL_OTHERS_END);
        }
        let oldest_ends = |state: &State| match state.begun.front() {
            Some((begun, _)) => (*begun + MINUTE).saturating_duration_since(now),
            None => Duration::ZERO,
        };
        let n_begun = state.begun.len() as u64;
        if self
            .limits
            .requests_per_minute
            .is_some_and(|most| n_begun >= most.max(1))
        {
            return Err(oldest_ends(&state));
        }
        // One that is larger than the limit goes alone: it would never go otherwise.
        let fits = |most: u64| n_begun == 0 || state.n_tokens.saturating_add(n_tokens) <= most;
        if !self.limits.tokens_per_minute.is_none_or(fits) {
            return Err(oldest_ends(&state));
        }
        state.n_running += 1;
        if self.counts() {
            state.begun.push_back((now, n_tokens));
            state.n_tokens = state.n_tokens.saturating_add(n_tokens);
        }
        Ok(Permit {
            gate: self,
            begun: now,
            n_tokens,
        })
    }

    /// Whether minutes matter.
    fn counts(&self) -> bool {
        self.limits.requests_per_minute.is_some() || self.limits.tokens_per_minute.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many may run now.
    fn at_once(&self) -> usize {
        match self.n_failures >= MANY_FAILURES {
            true => 1,
            false => (self.window as usize).max(1),
        }
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some((begun, n_tokens)) = self.begun.front()
            && now.saturating_duration_since(*begun) >= MINUTE
        {
            self.n_tokens = self.n_tokens.saturating_sub(*n_tokens);
            self.begun.pop_front();
        }
    }

    fn close(&mut self, now: Instant, rest: Duration) {
        self.closed_at = Some(now);
        self.opens_at = Some(now + rest);
    }
}

impl Permit<'_> {
    /// Notes that there was a reply, which cost so many tokens.
    pub(super) fn replied(self, n_tokens: u64) {
        let mut state = self.gate.state();
        (state.n_failures, state.n_refusals) = (0, 0);
        let most = self.gate.limits.at_once as f64;
        state.window = (state.window + 1.0 / state.window).min(most);
        // What it cost beyond what was thought counts from where it began, or else from the newest.
        let more = n_tokens.saturating_sub(self.n_tokens);
        if let Some((_, counted)) = state.begun.back_mut() {
            *counted = counted.saturating_add(more);
            state.n_tokens = state.n_tokens.saturating_add(more);
        }
    }

    /// Notes that there was none.
    pub(super) fn failed(self, fault: &Fault, now: Instant) {
        let mut state = self.gate.state();
        if state
            .closed_at
            .is_some_and(|closed_at| self.begun <= closed_at)
        {
            return;
        }
        if fault.is_overload() {
            state.window = (state.window / 2.0).max(1.0);
            let asked = match fault {
                Fault::Refused { retry_after, .. } => *retry_after,
                _ => None,
            };
            let rest = asked
                .unwrap_or_else(|| rest(state.n_refusals))
                .min(LONGEST_ASKED);
            state.n_refusals += 1;
            state.close(now, rest);
        } else if fault.is_of_server() {
            state.n_failures += 1;
            if let Some(more) = state.n_failures.checked_sub(MANY_FAILURES) {
                state.close(now, rest(more));
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.n_running -= 1;
    }
}

/// For how long a server is left alone that was left alone so often before.
fn rest(n_before: u32) -> Duration {
    let doubled = FIRST_REST.saturating_mul(1 << n_before.min(10));
    doubled.min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limited(at_once: usize, requests: Option<u64>, tokens: Option<u64>) -> Gate {
        Gate::new(RemoteLimits {
            at_once,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
        })
    }

    fn overload(seconds: Option<u64>) -> Fault {
        Fault::refused(429, b"", seconds.map(Duration::from_secs))
    }

    #[test]
    fn a_refusal_closes_the_gate_for_as_long_as_the_server_says() {
        let (gate, now) = (limited(4, None, None), Instant::now());
        let permit = gate.enter(1, now).expect("it is open");
        permit.failed(&overload(Some(7)), now);
        let wait = gate.enter(1, now + Duration::from_secs(2)).err();
        assert_eq!(wait, Some(Duration::from_secs(5)));
        let later = now + Duration::from_secs(7);
        let running = [gate.enter(1, later), gate.enter(1, later)];
        assert!(running.iter().all(Result::is_ok), "half of four");
        assert_eq!(gate.enter(1, later).err(), Some(UNTIL_OTHERS_END));
    }

    #[test]
    fn a_server_that_fails_is_left_alone_and_asked_by_one_request_first() {
        let (gate, mut now) = (limited(4, None, None), Instant::now());
        let away = Fault::Away("gone".to_owned());
        for _ in 0..MANY_FAILURES {
            gate.enter(1, now).expect("it is open").failed(&away, now);
        }
        assert_eq!(gate.enter(1, now).err(), Some(FIRST_REST));
        now += FIRST_REST;
        let first = gate.enter(1, now).expect("one");
        assert_eq!(gate.enter(1, now).err(), Some(UNTIL_OTHERS_END));
        first.failed(&away, now);
        assert_eq!(gate.enter(1, now).err(), Some(2 * FIRST_REST));
        now += 2 * FIRST_REST;
        gate.enter(1, now).expect("one").replied(1);
        let all: Vec<_> = (0..4).map(|_| gate.enter(1, now)).collect();
        assert!(all.iter().all(Result::is_ok));
    }

    #[test]
    fn what_fails_together_is_one_failure() {
        let (gate, now) = (limited(8, None, None), Instant::now());
        let all: Vec<_> = (0..8).filter_map(|_| gate.enter(1, now).ok()).collect();
        let later = now + Duration::from_secs(1);
        for permit in all {
            permit.failed(&overload(None), later);
        }
        assert_eq!(gate.is_closed_for(later), Some(FIRST_REST));
        let open = later + FIRST_REST;
        let running: Vec<_> = (0..8).filter_map(|_| gate.enter(1, open).ok()).collect();
        assert_eq!(running.len(), 4, "half of eight");
    }

    #[test]
    fn a_request_larger_than_the_limit_goes_alone() {
        let (gate, now) = (limited(4, None, Some(100)), Instant::now());
        drop(gate.enter(500, now).expect("alone"));
        assert_eq!(gate.enter(1, now).err(), Some(MINUTE));
    }

    proptest! {
        /// Whatever happens: no minute has more than it may, no more run than may, and who waits
        /// for as long as it is told gets in at last.
        #[test]
        fn limits_are_kept_and_nobody_is_shut_out(
            events in prop::collection::vec((0u8..5, 0u64..40, 1u64..60), 1..150),
        ) {
            let (gate, start) = (limited(3, Some(10), Some(200)), Instant::now());
            let mut now = start;
            let mut running = Vec::new();
            let mut begun: Vec<(Instant, u64)> = Vec::new();
            for (what, seconds, n_tokens) in events {
                match what {
                    0 => now += Duration::from_secs(seconds),
                    1 | 2 => if let Ok(permit) = gate.enter(n_tokens, now) {
                        running.push(permit);
                        begun.push((now, n_tokens));
                    },
                    3 => if let Some(permit) = running.pop() {
                        permit.replied(0);
                    },
                    _ => if let Some(permit) = running.pop() {
                        let fault = match seconds % 2 {
                            0 => overload(Some(seconds)),
                            _ => Fault::Away(String::new()),
                        };
                        permit.failed(&fault, now);
                    },
                }
                prop_assert!(running.len() <= 3);
                let lately: Vec<_> = begun.iter().filter(|(at, _)| now - *at < MINUTE).collect();
                prop_assert!(lately.len() <= 10);
                prop_assert!(lately.iter().map(|(_, n)| n).sum::<u64>() <= 200);
            }
            running.clear();
            let mut n_waits = 0;
            while let Err(pause) = gate.enter(50, now).map(drop) {
                prop_assert!(pause > Duration::ZERO);
                now += pause;
                n_waits += 1;
                prop_assert!(n_waits < 20);
            }
        }
    }
}
