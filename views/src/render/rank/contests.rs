//! How are entrants put in order by a model that is shown two at a time?
//!
//! # Design
//! A contest is one call of a dataflow: lists of one node of a tournament in, the best of them out. It
//! asks the shared table of outputs for verdicts, each wanted next, until all are known: verdicts are
//! questions like any other, so each is asked once, kept in the memo, and tried again where it failed
//! for a while. A contest whose lists changed is another one, that wants most of the same verdicts.
//! So those of a contest that ends are used until the next of its node has asked for its own.
//!
//! # Invariants
//! - Contests of one node meet on one worker: a contest is exchanged by its node alone.
//! - Two entrants meet in one node only, so no other worker uses their verdict.
//! - A verdict that never comes (its texts do not fit the model) is for the shorter of the two, and of
//!   equals for the first by place: what no model can read stands behind what it can.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_ask::{Cancel, Task, TaskDigest};
use perennial_operators::call::{Calls, Reply};
use perennial_rows::{Tuple, Value};
use serde::{Deserialize, Serialize};

use crate::dataflow::Epoch;
use crate::measure::{Asker, Measure};
use crate::outputs::{Asking, Outputs};
use crate::render::rank::standings::{Entrant, Pair, Verdicts, standings};

/// Lists that meet at a node of a tournament, each in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Contest {
    /// The level of the node, and the first of its places.
    pub(crate) node: (u32, u64),
    pub(crate) lists: Vec<Vec<Entrant>>,
}

/// By node, so that what follows a contest meets it.
impl Hash for Contest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.hash(state);
    }
}

/// Contests of one worker of a view.
pub(crate) struct ContestCalls {
    task: Arc<Task>,
    outputs: Arc<Outputs>,
    asking: Asking,
    n_places: usize,
    measure: Arc<Measure>,
    held: HashMap<Contest, Arc<Held>>,
    /// Verdicts of contests that ended, by node, until the next of the node has asked for its own;
    /// with the newest epoch then.
    ended: HashMap<(u32, u64), (Epoch, Vec<TaskDigest>)>,
    newest: Epoch,
}

/// A contest that is held.
struct Held {
    contest: Contest,
    n_places: usize,
    task: Arc<Task>,
    outputs: Arc<Outputs>,
    asking: Asking,
    asker: Asker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verdicts: Verdicts,
    asked: BTreeSet<Pair>,
    /// The verdicts that it uses.
    uses: Vec<TaskDigest>,
    /// Those of contests before it, which it uses until it is decided.
    before: Vec<TaskDigest>,
    reply: Option<Reply<Vec<Entrant>>>,
    /// Whether a thread is finding out what is wanted next.
    is_advancing: bool,
    is_over: bool,
}

impl ContestCalls {
    /// Of a task about two rows, whose outputs are in `outputs`; so many places are wanted. Its calls are
    /// counted.
    pub(crate) fn new(
        task: Arc<Task>,
        outputs: &Arc<Outputs>,
        asking: &Asking,
        n_places: usize,
        measure: Arc<Measure>,
    ) -> Self {
        Self {
            measure,
            task,
            outputs: outputs.clone(),
            asking: asking.clone(),
            n_places,
            held: HashMap::new(),
            ended: HashMap::new(),
            newest: 0,
        }
    }

    /// Ends the use of verdicts of nodes that no contest followed at.
    fn forget(&mut self, before: Epoch) {
        let outputs = &self.outputs;
        self.ended.retain(|_, (epoch, verdicts)| {
            let stays = *epoch >= before;
            if !stays {
                verdicts.iter().for_each(|digest| outputs.release(digest));
            }
            stays
        });
    }
}

impl Calls<Epoch, Contest, Vec<Entrant>> for ContestCalls {
    fn start(&mut self, contest: &Contest, epoch: &Epoch, reply: Reply<Vec<Entrant>>, _: Cancel) {
        // What ended in an epoch is followed at in that one: calls start in the order of epochs. So
        // with the first of an epoch goes what had ended before the last that there was.
        if *epoch > self.newest {
            self.forget(self.newest);
            self.newest = *epoch;
        }
        let ended = self.ended.remove(&contest.node);
        let held = Arc::new(Held {
            contest: contest.clone(),
            n_places: self.n_places,
            task: self.task.clone(),
            outputs: self.outputs.clone(),
            asking: self.asking.clone(),
            asker: Asker::new(self.measure.clone(), *epoch),
            state: Mutex::new(State {
                before: ended.map_or_else(Vec::new, |(_, verdicts)| verdicts),
                reply: Some(reply),
                ..State::default()
            }),
        });
        self.held.insert(contest.clone(), held.clone());
        held.advance();
    }

    fn lost(&mut self, contest: &Contest) -> Vec<Entrant> {
        // The engine ends: nobody reads it.
        let firsts = contest.lists.iter().flatten();
        firsts.take(self.n_places).cloned().collect()
    }

    fn released(&mut self, contest: &Contest) {
        let Some(held) = self.held.remove(contest) else {
            return;
        };
        let mut state = held.state();
        state.is_over = true;
        state.reply = None;
        let mut verdicts = std::mem::take(&mut state.uses);
        verdicts.append(&mut state.before);
        drop(state);
        let (epoch, all) = self.ended.entry(contest.node).or_default();
        *epoch = self.newest;
        all.extend(verdicts);
    }
}

/// A view that is dropped uses nothing any more.
impl Drop for ContestCalls {
    fn drop(&mut self) {
        let contests: Vec<Contest> = self.held.keys().cloned().collect();
        contests.iter().for_each(|contest| self.released(contest));
        self.forget(Epoch::MAX);
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the verdicts that are wanted next, until the contest is decided or has to wait.
    fn advance(self: &Arc<Self>) {
        let mut state = self.state();
        if state.is_advancing {
            return;
        }
        state.is_advancing = true;
        while !state.is_over && state.reply.is_some() {
            let wanted = match standings(&self.contest.lists, self.n_places, &state.verdicts) {
                Ok(best) => {
                    let reply = state.reply.take();
                    let before = std::mem::take(&mut state.before);
                    drop(state);
                    before
                        .iter()
                        .for_each(|digest| self.outputs.release(digest));
                    if let Some(reply) = reply {
                        reply.send(best);
                    }
                    state = self.state();
                    break;
                }
                Err(wanted) => wanted,
            };
            let new: Vec<Pair> = wanted.difference(&state.asked).cloned().collect();
            if new.is_empty() {
                break;
            }
            state.asked.extend(new.iter().cloned());
            let n_known = state.verdicts.len();
            drop(state);
            new.into_iter().for_each(|pair| self.ask(pair));
            state = self.state();
            if state.verdicts.len() == n_known {
                break;
            }
        }
        state.is_advancing = false;
    }

    /// Asks for a verdict. It may come before this returns.
    fn ask(self: &Arc<Self>, pair: Pair) {
        let ((_, first), (_, second)) = &pair;
        let values: Tuple = first.iter().chain(second.iter()).cloned().collect();
        let held = self.clone();
        let told = move |verdict: Value| {
            let is_first = is_for_first(&held.task, &verdict, &pair);
            held.state().verdicts.insert(pair, is_first);
            held.advance();
        };
        let digest =
            self.outputs
                .ask_then(&self.task, values, (&self.asking, self.asker.clone()), told);
        let mut state = self.state();
        if state.is_over {
            drop(state);
            self.outputs.release(&digest);
        } else {
            state.uses.push(digest);
        }
    }
}

/// Whether the first of a pair is the better one.
fn is_for_first(task: &Task, verdict: &Value, ((_, first), (_, second)): &Pair) -> bool {
    match verdict {
        Value::Null => n_bytes(first) <= n_bytes(second),
        said => *said != task.chosen(1),
    }
}

/// How long values are as texts.
fn n_bytes(values: &Tuple) -> usize {
    values.iter().map(|value| value.to_string().len()).sum()
}
