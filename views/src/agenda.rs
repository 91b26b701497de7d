//! Which waiting call of a view begins next, where newer edits overtake older ones?
//!
//! # Design
//! The executor is given a *ticket* for each call that waits, not the call. Which call a ticket
//! stands for is decided when a thread takes it up, so a call that has just come goes first if it
//! is the most urgent, and one that nobody wants any more never begins.
//!
//! The most urgent call is that of the context with the highest priority; among these the one of
//! the newest epoch; among these the one whose context has waited longest. Every eighth turn the
//! context that has waited longest goes first, whatever its priority: so none waits for ever.
//!
//! # Invariants
//! - At most one call of a context waits: that of its newest epoch. It has the place in line of
//!   the one that it replaces, or that was cancelled while it ran: a context that changes
//!   faster than it is answered does not fall behind.
//! - There is a ticket for each call that waits, so the executor's queue is bounded by the
//!   number of contexts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use perennial_ask::{Attempt, Cancel};
use perennial_bank::ContextKey;

use crate::dataflow::Epoch;

/// Of so many turns, one is that of the context that has waited longest.
const TURNS: u64 = 8;

/// What runs; it is told how often it was tried before.
type Job = Box<dyn FnMut(u32) -> Attempt + Send>;

/// What goes first is less. The last part, the place in line, tells any two contexts apart.
type Urgency = (Reverse<i64>, Reverse<Epoch>, u64);

/// The calls of a view that wait.
#[derive(Default)]
pub struct Agenda {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<ContextKey, Waiting>,
    by_urgency: BTreeMap<Urgency, ContextKey>,
    by_place: BTreeMap<u64, ContextKey>,
    /// Places in line of contexts that wait, or whose call has not ended.
    places: HashMap<ContextKey, u64>,
    /// Priorities of contexts, where not zero.
    priorities: HashMap<ContextKey, i64>,
    next_place: u64,
    n_turns: u64,
    n_tickets: usize,
    n_given_up: usize,
}

struct Waiting {
    urgency: Urgency,
    cancel: Cancel,
    job: Job,
}

impl Agenda {
    /// Says how urgent a context is: the higher, the sooner. Zero unless told.
    pub fn prioritise(&self, context: &ContextKey, priority: i64) {
        let mut inner = self.lock();
        match priority {
            0 => inner.priorities.remove(context),
            _ => inner.priorities.insert(context.clone(), priority),
        };
        let Some(mut waiting) = inner.take(context) else {
            return;
        };
        waiting.urgency.0 = Reverse(priority);
        inner.insert(context.clone(), waiting);
    }

    /// Forgets a context that is gone.
    pub fn forget(&self, context: &ContextKey) {
        let mut inner = self.lock();
        inner.priorities.remove(context);
        inner.places.remove(context);
        let dropped = inner.take(context);
        drop(inner);
        // It says that it is lost, which it may do outside the lock only.
        drop(dropped);
    }

    /// Lets a call of an epoch wait, in place of an older one of its context. Returns whether the
    /// executor is to be given one more ticket.
    pub(crate) fn put(
        &self,
        context: ContextKey,
        epoch: Epoch,
        cancel: Cancel,
        job: impl FnMut(u32) -> Attempt + Send + 'static,
    ) -> bool {
        let mut inner = self.lock();
        let older = inner.take(&context);
        let waiting = Waiting {
            urgency: inner.urgency(&context, epoch),
            cancel,
            job: Box::new(job),
        };
        // Of several workers one may be behind: what it asks for may be overtaken already.
        let is_newer = |other: &Waiting| other.urgency.1.0 > epoch && !other.is_cancelled();
        let (kept, dropped) = match older {
            Some(other) if is_newer(&other) => (other, Some(waiting)),
            older => (waiting, older),
        };
        inner.insert(context, kept);
        let is_short = inner.n_tickets < inner.waiting.len();
        inner.n_tickets += usize::from(is_short);
        drop(inner);
        drop(dropped);
        is_short
    }

    /// The call that a ticket stands for; nothing if none is left.
    pub(crate) fn take(&self) -> Option<Job> {
        let mut inner = self.lock();
        inner.n_tickets = inner.n_tickets.saturating_sub(1);
        let mut dropped = Vec::new();
        let next = loop {
            let is_turn = inner.n_turns % TURNS == TURNS - 1;
            let first = match is_turn {
                true => inner.by_place.values().next(),
                false => inner.by_urgency.values().next(),
            };
            let Some(context) = first.cloned() else {
                break None;
            };
            let Some(waiting) = inner.take(&context) else {
                break None;
            };
            if waiting.is_cancelled() {
                dropped.push(waiting);
                continue;
            }
            inner.n_turns += 1;
            break Some(waiting.job);
        };
        drop(inner);
        drop(dropped);
        next
    }

    /// Calls that were cancelled while they ran, since one ended that was not.
    pub fn n_given_up(&self) -> usize {
        self.lock().n_given_up
    }

    /// The call of a context has ended. One that was cancelled keeps its place in line.
    pub(crate) fn ended(&self, context: &ContextKey, is_cancelled: bool) {
        let mut inner = self.lock();
        if is_cancelled {
            inner.n_given_up += 1;
            return;
        }
        inner.n_given_up = 0;
        if !inner.waiting.contains_key(context) {
            inner.places.remove(context);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn urgency(&mut self, context: &ContextKey, epoch: Epoch) -> Urgency {
        let priority = self.priorities.get(context).copied().unwrap_or(0);
        let place = match self.places.get(context) {
            Some(place) => *place,
            None => {
                self.next_place += 1;
                self.places.insert(context.clone(), self.next_place);
                self.next_place
            }
        };
        (Reverse(priority), Reverse(epoch), place)
    }

    fn insert(&mut self, context: ContextKey, waiting: Waiting) {
        self.by_urgency.insert(waiting.urgency, context.clone());
        self.by_place.insert(waiting.urgency.2, context.clone());
        self.waiting.insert(context, waiting);
    }

    fn take(&mut self, context: &ContextKey) -> Option<Waiting> {
        let waiting = self.waiting.remove(context)?;
        self.by_urgency.remove(&waiting.urgency);
        self.by_place.remove(&waiting.urgency.2);
        Some(waiting)
    }
}

impl Waiting {
    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// An agenda whose calls note that they ran.
    #[derive(Default)]
    struct Case {
        agenda: Agenda,
        ran: Arc<Mutex<Vec<String>>>,
        n_tickets: usize,
    }

    impl Case {
        fn put(&mut self, context: &str, epoch: Epoch) -> Cancel {
            let (cancel, ran) = (Cancel::new(), self.ran.clone());
            let name = format!("{context}@{epoch}");
            let key = ContextKey::new(context);
            let is_short = self.agenda.put(key, epoch, cancel.clone(), move |_| {
                ran.lock().expect("no panic").push(name.clone());
                Attempt::Done
            });
            self.n_tickets += usize::from(is_short);
            cancel
        }

        /// Takes up every ticket, and says what ran.
        fn run(&mut self) -> Vec<String> {
            for _ in 0..std::mem::take(&mut self.n_tickets) {
                if let Some(mut job) = self.agenda.take() {
                    job(0);
                }
            }
            assert!(self.agenda.lock().waiting.is_empty(), "a ticket for each");
            std::mem::take(&mut *self.ran.lock().expect("no panic"))
        }
    }

    #[test]
    fn priority_then_the_newest_epoch_then_who_has_waited_longest() {
        let mut case = Case::default();
        case.agenda.prioritise(&ContextKey::new("high"), 5);
        for (context, epoch) in [("a", 1), ("b", 1), ("c", 2), ("d", 2), ("high", 1)] {
            case.put(context, epoch);
        }
        assert_eq!(case.run(), ["high@1", "c@2", "d@2", "a@1", "b@1"]);
        // One that waits already moves up.
        for context in ["a", "b", "c"] {
            case.put(context, 3);
        }
        case.agenda.prioritise(&ContextKey::new("c"), 1);
        assert_eq!(case.run(), ["c@3", "a@3", "b@3"]);
    }

    #[test]
    fn a_context_is_asked_for_its_newest_epoch_only() {
        let mut case = Case::default();
        case.put("a", 1);
        case.put("b", 2);
        case.put("a", 3);
        // A worker that is behind.
        case.put("a", 2);
        let cancelled = case.put("c", 3);
        cancelled.cancel();
        assert_eq!(case.n_tickets, 3);
        assert_eq!(case.run(), ["a@3", "b@2"]);
    }

    #[test]
    fn who_waits_longest_gets_every_eighth_turn() {
        let mut case = Case::default();
        case.put("old", 1);
        for i in 0..20 {
            case.put(&format!("n{i}"), 2);
        }
        let at = case.run().iter().position(|ran| ran == "old@1");
        assert_eq!(at, Some(7));
    }

    #[test]
    fn a_context_that_changes_all_the_time_does_not_fall_behind() {
        let mut case = Case::default();
        let mut n_ran = HashMap::<String, usize>::new();
        for epoch in 1..=30 {
            for context in ["a", "b", "c"] {
                case.put(context, epoch);
            }
            // One call fits between two edits of all.
            case.agenda.take().expect("one waits")(0);
            case.n_tickets -= 1;
            let ran = std::mem::take(&mut *case.ran.lock().expect("no panic"));
            let context = ran[0].split('@').next().expect("a name").to_owned();
            case.agenda.ended(&ContextKey::new(&*context), false);
            *n_ran.entry(context).or_default() += 1;
        }
        assert!(n_ran.values().all(|n| *n == 10), "{n_ran:?}");
    }
}
