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
//! # Contract
//! - Time is totally ordered (checked by the bound).
//! - A call that ends without a reply (a panic) yields what [`Calls::lost`] says.
//! - An epoch must not be retracted before its calls are done: the engine gives a view
//!   an epoch only when the one before it is complete. Cancelling for a retraction at a later time
//!   would leave a hole between the two times.
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
