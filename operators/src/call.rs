//! The asynchronous call operator: a linear map whose function is slow.
//!
//! # Goals
//! A model call per distinct input, started when the input appears and never for a
//! retraction; results retracted exactly as they were emitted; workers never blocked.
//!
//! # Design
//! Inputs are consolidated (exchanged by hash, so equal inputs meet on one worker, and
//! released in the order of time with pairs inside an epoch cancelled). Each distinct
//! live input has a slot: *queued*, *running* or *ready*. Updates of an unfinished slot
//! hold capabilities, so the frontier waits; a finished slot answers at once from its
//! memo. A slot whose multiplicity returns to zero is forgotten; if its call still runs,
//! it is cancelled.
//!
//! Times may overlap: inputs of a later time come while calls of earlier ones are under way.
//! An input that is retracted before its call is done would have had a result *between* the two
//! times. Whether that result is wanted is the function's to say ([`Calls::fills_holes`]):
//!
//! ```text
//!            time 1      2      3          sum at 1  at 2  at 3
//! input        +x              -x             1       1     0
//! gives up                                    0       0     0     a hole at 1 and 2
//! fills       +(x,y)          -(x,y)          1       1     0
//! ```
//!
//! # Contract
//! - Time is totally ordered (checked by the bound).
//! - A call that ends without a reply (a panic) yields what [`Calls::lost`] says.
//! - Without holes, the output at every time is the function of the input at that time.
//! - With holes, that holds for the newest time that was fed, once the frontier has passed it.
//!   At times before it a result may be missing that was given up later. So who reads the output
//!   adds up what it heard of all times, and believes the sum at the newest one only. Where no
//!   time is fed before the one before it is passed, there are no holes.
//!
//! A call in `map` was rejected: a retraction would call again and may hear another
//! answer. A call in `reduce` was rejected: it blocks the worker and runs once per time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, mpsc};

use differential_dataflow::lattice::Lattice;
use differential_dataflow::{AsCollection, Data, ExchangeData, VecCollection};
use perennial_ask::Cancel;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::order::TotalOrder;
use timely::progress::Timestamp;
use timely::scheduling::SyncActivator;

/// The function of a call operator.
pub trait Calls<T, X, Y>: 'static {
    /// Starts the call for `input`, which appeared at `time`. The call sends its result
    /// through `reply`, from any thread, and should end early once `cancel` is raised.
    fn start(&mut self, input: &X, time: &T, reply: Reply<Y>, cancel: Cancel);

    /// The result of a call that ended without a reply.
    fn lost(&mut self, input: &X) -> Y;

    /// No row needs the result for `input` any more, which was started.
    fn released(&mut self, _input: &X) {}

    /// Whether an input that is retracted at a later time, before its call is done, gets its
    /// result for the times between. Else its call is given up.
    fn fills_holes(&self) -> bool {
        false
    }
}

/// Carries the result of one call back to its operator.
pub struct Reply<Y> {
    id: u64,
    sender: mpsc::Sender<(u64, Option<Y>)>,
    activator: Arc<SyncActivator>,
    is_sent: bool,
}

impl<Y> Reply<Y> {
    /// Delivers the result and wakes the worker.
    pub fn send(mut self, result: Y) {
        self.deliver(Some(result));
    }

    fn deliver(&mut self, result: Option<Y>) {
        self.is_sent = true;
        // Either fails only when the dataflow is gone, and nobody waits then.
        let _ = self.sender.send((self.id, result));
        let _ = self.activator.activate();
    }
}

impl<Y> Drop for Reply<Y> {
    fn drop(&mut self) {
        if !self.is_sent {
            self.deliver(None);
        }
    }
}

/// Raises the flag when the slot goes, be it that the input was retracted or that the
/// dataflow was dropped with calls under way.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

enum Slot<T: Timestamp, Y> {
    /// Waiting for a free place, with what the result is owed to.
    Queued { held: Vec<(Capability<T>, isize)> },
    /// Being computed.
    Running {
        id: u64,
        _cancel: CancelOnDrop,
        held: Vec<(Capability<T>, isize)>,
    },
    /// Computed, with its present multiplicity.
    Ready { result: Y, count: isize },
}

/// Applies `calls` to every distinct element, at most `max_in_flight` at a time on each
/// worker.
pub fn call<'scope, T, X, Y, C>(
    input: VecCollection<'scope, T, X, isize>,
    name: &str,
    max_in_flight: usize,
    mut calls: C,
) -> VecCollection<'scope, T, (X, Y), isize>
where
    T: Timestamp + Lattice + TotalOrder,
    X: ExchangeData + Hash,
    Y: Data,
    C: Calls<T, X, Y>,
{
    let input = input.consolidate();
    let scope = input.scope();
    input
        .inner
        .unary_frontier(Pipeline, name, move |_capability, info| {
            let worker = scope.worker();
            let activator = Arc::new(worker.sync_activator_for(info.address.to_vec()));
            let (sender, receiver) = mpsc::channel::<(u64, Option<Y>)>();
            let mut slots: HashMap<X, Slot<T, Y>> = HashMap::new();
            let mut running: HashMap<u64, X> = HashMap::new();
            let mut queue: VecDeque<X> = VecDeque::new();
            let mut next_id = 0u64;
            move |(input, _frontier), output| {
                input.for_each(|capability, updates| {
                    for (x, time, diff) in updates.drain(..) {
                        let capability = capability.delayed(&time, 0);
                        match slots.get_mut(&x) {
                            Some(Slot::Ready { result, count }) => {
                                let row = ((x.clone(), result.clone()), time, diff);
                                output.session(&capability).give(row);
                                *count += diff;
                                if *count == 0 {
                                    slots.remove(&x);
                                    calls.released(&x);
                                }
                            }
                            Some(Slot::Queued { held } | Slot::Running { held, .. }) => {
                                held.push((capability, diff));
                                if held.iter().map(|(_, diff)| diff).sum::<isize>() == 0
                                    && !calls.fills_holes()
                                    && let Some(Slot::Running { id, .. }) = slots.remove(&x)
                                {
                                    running.remove(&id);
                                    calls.released(&x);
                                }
                            }
                            None => {
                                slots.insert(
                                    x.clone(),
                                    Slot::Queued {
                                        held: vec![(capability, diff)],
                                    },
                                );
                                queue.push_back(x);
                            }
                        }
                    }
                });
                while let Ok((id, reply)) = receiver.try_recv() {
                    // A cancelled call is no longer listed; its late result is dropped.
                    let Some(x) = running.remove(&id) else {
                        continue;
                    };
                    let result = reply.unwrap_or_else(|| calls.lost(&x));
                    let mut count = 0;
                    if let Some(Slot::Running { held, .. }) = slots.remove(&x) {
                        for (capability, diff) in held {
                            let time = capability.time().clone();
                            let row = ((x.clone(), result.clone()), time, diff);
                            output.session(&capability).give(row);
                            count += diff;
                        }
                    }
                    if count != 0 {
                        slots.insert(x, Slot::Ready { result, count });
                    } else {
                        calls.released(&x);
                    }
                }
                while running.len() < max_in_flight.max(1) {
                    let Some(x) = queue.pop_front() else { break };
                    // Retracted while it waited, or queued twice after such a retraction.
                    let Some(slot @ Slot::Queued { .. }) = slots.get_mut(&x) else {
                        continue;
                    };
                    let Slot::Queued { held } = slot else {
                        unreachable!("matched above")
                    };
                    let held = std::mem::take(held);
                    let cancel = Cancel::new();
                    let id = next_id;
                    next_id += 1;
                    let reply = Reply {
                        id,
                        sender: sender.clone(),
                        activator: activator.clone(),
                        is_sent: false,
                    };
                    let time = held[0].0.time().clone();
                    calls.start(&x, &time, reply, cancel.clone());
                    *slot = Slot::Running {
                        id,
                        _cancel: CancelOnDrop(cancel),
                        held,
                    };
                    running.insert(id, x);
                }
            }
        })
        .as_collection()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use differential_dataflow::input::Input;
    use proptest::prelude::*;

    use super::*;

    /// Calls that wait to be answered: the input, its reply, and whether it is still wanted.
    type Waiting = Rc<RefCell<Vec<(u8, Reply<u64>, Cancel)>>>;

    /// Counts its calls in the results, so that a second call for an input is another result.
    struct Slow {
        waiting: Waiting,
        fills_holes: bool,
    }

    impl Calls<u64, u8, u64> for Slow {
        fn start(&mut self, input: &u8, _: &u64, reply: Reply<u64>, cancel: Cancel) {
            self.waiting.borrow_mut().push((*input, reply, cancel));
        }

        fn lost(&mut self, _: &u8) -> u64 {
            u64::MAX
        }

        fn fills_holes(&self) -> bool {
            self.fills_holes
        }
    }

    /// What is done between two steps of the dataflow.
    #[derive(Clone, Debug)]
    enum Step {
        /// These inputs come, or go if they are there, at the next time.
        Feed(Vec<u8>),
        /// The call at this place of those that wait is answered.
        Answer(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            prop::collection::btree_set(0u8..6, 1..4)
                .prop_map(|inputs| Step::Feed(inputs.into_iter().collect())),
            (0usize..8).prop_map(Step::Answer),
        ];
        prop::collection::vec(step, 1..40)
    }

    /// Takes the steps, then answers what waits. Returns by time what changed, and what stood of
    /// the input.
    #[allow(clippy::type_complexity, reason = "a test's own")]
    fn run(steps: Vec<Step>, fills_holes: bool) -> (BTreeMap<u64, Vec<(u8, isize)>>, Vec<Vec<u8>>) {
        timely::execute_directly(move |worker| {
            let waiting: Waiting = Rc::default();
            let heard: Rc<RefCell<BTreeMap<u64, Vec<(u8, isize)>>>> = Rc::default();
            let calls = Slow {
                waiting: waiting.clone(),
                fills_holes,
            };
            let (mut input, probe) = worker.dataflow(|scope| {
                let heard_by = heard.clone();
                let (input, rows) = scope.new_collection::<u8, isize>();
                let (probe, _) = call(rows, "Slow", 2, calls)
                    .inspect(move |((x, y), time, diff)| {
                        assert_eq!(*y, u64::from(*x) * 10);
                        heard_by
                            .borrow_mut()
                            .entry(*time)
                            .or_default()
                            .push((*x, *diff));
                    })
                    .probe();
                (input, probe)
            });
            let (mut standing, mut after) = (Vec::<u8>::new(), Vec::new());
            let mut time = 0;
            for step in steps {
                match step {
                    Step::Feed(inputs) => {
                        for x in inputs {
                            match standing.iter().position(|s| *s == x) {
                                Some(at) => {
                                    standing.remove(at);
                                    input.remove(x);
                                }
                                None => {
                                    standing.push(x);
                                    input.insert(x);
                                }
                            }
                        }
                        time += 1;
                        input.advance_to(time);
                        input.flush();
                        standing.sort_unstable();
                        after.push(standing.clone());
                    }
                    Step::Answer(at) => {
                        let n_waiting = waiting.borrow().len();
                        if n_waiting > 0 {
                            let (x, reply, _) = waiting.borrow_mut().remove(at % n_waiting);
                            reply.send(u64::from(x) * 10);
                        }
                    }
                }
                for _ in 0..4 {
                    worker.step();
                }
            }
            while probe.less_than(&time) {
                let first = waiting.borrow_mut().pop();
                if let Some((x, reply, _)) = first {
                    reply.send(u64::from(x) * 10);
                }
                worker.step();
            }
            (heard.take(), after)
        })
    }

    /// What the changes come to, by time.
    fn sums(changes: &BTreeMap<u64, Vec<(u8, isize)>>, n_times: usize) -> Vec<Vec<u8>> {
        let mut counts = BTreeMap::<u8, isize>::new();
        let mut after = Vec::new();
        for time in 0..n_times as u64 {
            for (x, diff) in changes.get(&time).into_iter().flatten() {
                *counts.entry(*x).or_default() += diff;
            }
            counts.retain(|_, count| *count != 0);
            assert!(counts.values().all(|count| (0..=1).contains(count)));
            let there = counts.iter().filter(|(_, count)| **count > 0);
            after.push(there.map(|(x, _)| *x).collect());
        }
        after
    }

    proptest! {
        #[test]
        fn with_holes_the_newest_time_is_right(steps in steps()) {
            let (changes, after) = run(steps, false);
            let sums = sums(&changes, after.len());
            prop_assert_eq!(sums.last(), after.last());
        }

        #[test]
        fn without_holes_every_time_is_right(steps in steps()) {
            let (changes, after) = run(steps, true);
            prop_assert_eq!(sums(&changes, after.len()), after);
        }
    }

    #[test]
    fn a_call_is_given_up_for_a_later_retraction() {
        for fills_holes in [false, true] {
            let first = [Step::Feed(vec![1]), Step::Feed(vec![1, 2])];
            let (changes, _) = run(first.to_vec(), fills_holes);
            let expected = match fills_holes {
                false => vec![(1, vec![(2, 1)])],
                true => vec![(0, vec![(1, 1)]), (1, vec![(1, -1), (2, 1)])],
            };
            let heard = changes.into_iter().map(|(time, mut changes)| {
                changes.sort_unstable();
                (time, changes)
            });
            assert_eq!(heard.collect::<Vec<_>>(), expected);
        }
    }
}
