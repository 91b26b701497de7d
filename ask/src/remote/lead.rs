//! Which of several calls reads a prefix that the server does not know yet, and which wait for it?
//!
//! A change of a document gives many contexts a new prompt, whose beginning they share. Asked at once, each
//! would have the server read it, for a server knows only what it has read before a request comes. So one
//! call leads: others that share much with it wait until it is written to, and then find what they share
//! in the server's cache. No request is made for this: whoever leads wanted its answer anyway.
//!
//! What was read lately is noted, so nobody waits for a prefix that the server has. It is of use only over
//! a server that keeps what it has read; elsewhere no call leads.
//!
//! # Invariants
//! - A call waits for one that is being read, for a bounded time, and for no other.
//! - However a call ends, those that wait for it go on: the next leads.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A prompt's passages up to each of them, by digest: two prompts share as many as are equal.
pub(super) type Boundaries = Vec<[u8; 32]>;

/// How long others wait for one that leads: a prompt that takes longer is read by each.
const LONGEST_LEAD: Duration = Duration::from_secs(60);
/// Prompts that are noted as read.
const MAX_READ: usize = 64;
/// A call waits where at least one part of this many of its passages would be read twice.
const LEAST_PART: usize = 2;

/// What the server is reading, and what it has read.
#[derive(Default)]
pub(super) struct Leads(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number of the next that leads.
    next: u64,
    reading: Vec<Reading>,
    /// Newest last.
    read: VecDeque<Boundaries>,
}

struct Reading {
    number: u64,
    boundaries: Boundaries,
    since: Instant,
}

/// The right to have a prompt read. It is noted as read when that is said, and as not read when this is
/// dropped without.
pub(super) struct Lead<'a> {
    leads: &'a Leads,
    number: u64,
}

impl Leads {
    /// Lets a call begin; nothing where it had better wait for one that is being read.
    pub(super) fn enter(&self, boundaries: Boundaries, now: Instant) -> Option<Lead<'_>> {
        let mut state = self.state();
        let known = state.read.iter().map(|read| shared(read, &boundaries));
        let n_known = known.max().unwrap_or(0);
        let leads = state.reading.iter();
        let leads = leads.filter(|of| now.saturating_duration_since(of.since) < LONGEST_LEAD);
        let n_coming = leads.map(|of| shared(&of.boundaries, &boundaries)).max();
        let n_spared = n_coming.unwrap_or(0).saturating_sub(n_known);
        if n_spared > 0 && n_spared * LEAST_PART >= boundaries.len() {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.reading.push(Reading {
            number,
            boundaries,
            since: now,
        });
        Some(Lead {
            leads: self,
            number,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead<'_> {
    /// Notes that the server has read the prompt: it writes.
    pub(super) fn is_read(&self) {
        let mut state = self.leads.state();
        let at = state.reading.iter().position(|of| of.number == self.number);
        let Some(at) = at else { return };
        let boundaries = state.reading.swap_remove(at).boundaries;
        if state.read.len() >= MAX_READ {
            state.read.pop_front();
        }
        state.read.push_back(boundaries);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let number = self.number;
        self.leads.state().reading.retain(|of| of.number != number);
    }
}

/// How many passages two prompts begin with alike.
fn shared(a: &Boundaries, b: &Boundaries) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passages by their letters.
    fn boundaries(of: &str) -> Boundaries {
        let ends = 1..=of.len();
        ends.map(|end| *blake3::hash(&of.as_bytes()[..end]).as_bytes())
            .collect()
    }

    #[test]
    fn who_shares_a_prefix_waits_until_it_is_read() {
        let (leads, now) = (Leads::default(), Instant::now());
        let enter = |of: &str| leads.enter(boundaries(of), now);
        let first = enter("abcd").expect("nothing is being read");
        assert!(enter("abcd").is_none() && enter("abxy").is_none());
        assert!(enter("axyz").is_some(), "it shares little");
        assert!(enter("zabc").is_some(), "it shares nothing");
        first.is_read();
        let second = enter("abcd").expect("it is known");
        // What is read of it beside what is known is little.
        assert!(enter("abcd").is_some());
        drop((first, second));
    }

    #[test]
    fn one_that_fails_is_followed_by_another() {
        let (leads, now) = (Leads::default(), Instant::now());
        let enter = || leads.enter(boundaries("ab"), now);
        let first = enter().expect("nothing is being read");
        assert!(enter().is_none());
        drop(first);
        let second = enter().expect("the first has failed");
        assert!(enter().is_none());
        drop(second);
    }

    #[test]
    fn nobody_waits_for_ever_or_for_nothing() {
        let (leads, now) = (Leads::default(), Instant::now());
        let _first = leads.enter(boundaries("ab"), now).expect("the first");
        let later = now + LONGEST_LEAD;
        assert!(leads.enter(boundaries("ab"), later).is_some());
        // Without passages there is no prefix to wait for.
        let _none = leads.enter(Vec::new(), now).expect("no passages");
        assert!(leads.enter(Vec::new(), now).is_some());
        let read = leads.enter(boundaries("x"), now).expect("another");
        read.is_read();
        for _ in 0..2 * MAX_READ {
            let again = leads.enter(boundaries("x"), now).expect("known");
            again.is_read();
        }
        assert!(leads.state().read.len() <= MAX_READ);
    }
}
