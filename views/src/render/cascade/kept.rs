//! Was a value asked about before, while it stood?
//!
//! When the sample changes, thresholds move, and a value that the model was asked about may be the
//! embedding's to decide; when they move back it is the model's again. What was said of it is kept
//! until the value itself goes: so no value is asked about twice while it stands, and a cascade never
//! makes more calls than asking about everything would. What is decided does not hang on it: whether a
//! verdict counts follows from the thresholds alone.
//!
//! All operators of one cascade on one worker share a [`Kept`]: values are exchanged by their hash, so
//! those that a worker asks about are those that it hears to stand.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use perennial_ask::Cancel;
use perennial_operators::call::{Calls, Reply};
use perennial_rows::{Tuple, Value};

use crate::dataflow::Epoch;
use crate::outputs::TaskCalls;

/// What was said of values on one worker.
pub(super) struct Kept {
    calls: TaskCalls,
    /// Values that stand.
    standing: HashMap<Tuple, isize>,
    /// Those of them of which something was said that nobody reads at present; each is one use of that.
    idle: HashSet<Tuple>,
}

impl Kept {
    pub(super) fn new(calls: TaskCalls) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            calls,
            standing: HashMap::new(),
            idle: HashSet::new(),
        }))
    }

    /// Hears that a value comes (1) or goes (-1).
    pub(super) fn hear(&mut self, values: &Tuple, diff: isize) {
        let n = self.standing.entry(values.clone()).or_default();
        *n += diff;
        if *n == 0 {
            self.standing.remove(values);
            if self.idle.remove(values) {
                self.calls.released(values);
            }
        }
    }
}

/// Calls about values, of which what was said is kept.
pub(super) struct KeptCalls(pub(super) Rc<RefCell<Kept>>);

impl Calls<Epoch, Tuple, Value> for KeptCalls {
    fn start(&mut self, values: &Tuple, time: &Epoch, reply: Reply<Value>, cancel: Cancel) {
        let mut kept = self.0.borrow_mut();
        kept.calls.start(values, time, reply, cancel);
        // Behind the new use, so that it is never without one.
        if kept.idle.remove(values) {
            kept.calls.released(values);
        }
    }

    fn lost(&mut self, values: &Tuple) -> Value {
        self.0.borrow_mut().calls.lost(values)
    }

    fn released(&mut self, values: &Tuple) {
        let mut kept = self.0.borrow_mut();
        let stands = kept.standing.get(values).is_some_and(|n| *n > 0);
        let is_kept = stands && kept.idle.insert(values.clone());
        if !is_kept {
            kept.calls.released(values);
        }
    }
}
