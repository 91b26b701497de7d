//! How much does each node of a graph matter to a group of others?
//!
//! # Design
//! ```text
//! edges -> lists, one a node ------------------+----------------- … ---+
//!                                              v                       v
//! seeds -> mass at nodes, before step 1 -> flow along edges -> … -> flow -> what is left
//!                                    |         |                             |
//!                                    +- ends --+----- ends ----- … ----------+-> sum by group and node
//! ```
//! A walk begins at a seed of its group. In each step a share of what is at a node goes on, in proportion to
//! the weights of its edges, and the rest ends there; after the last step all ends where it is. That is
//! personalised PageRank by power iteration, begun at the seeds: score(n) = (1 - d) seeds + d score(n - 1)
//! along the edges. What would go on from a node without edges is lost. Where walks began anew at the seeds
//! instead, all scores of a group would grow by one factor: their order is the same, but each change of such
//! a node would change every score.
//!
//! **Mass is a difference.** A mass of m [units](UNIT) at a node stands in a collection as that node, m times. So adding
//! up is what collections do anyway; and as shares are whole units, and what a division leaves over is
//! dropped, sums are the same in any order: the result is a function of edges and seeds.
//!
//! **Steps are unrolled**, not an `iterate`. There are as many as are asked for, so nothing has to find out when to
//! stop. Times stay in a total order: what stands at a node is counted without an output of its own being
//! kept, and a change in one step is looked at in the next only where it leads, not at each later round in
//! which the same node changed before. In a loop, which holds differences between rounds, each step would keep what it
//! takes back of the step before besides. The price is some eight operators a step, and that the edges of a
//! loop and of a circle are walked as often as there are steps, as in any power iteration.
//!
//! **What is little ends where it is.** Less than `least` of a group at a node in a step goes no further. A group has one
//! whole, so in a step at most 1 / `least` of its nodes send anything, however large the graph is.
//!
//! What an epoch costs, for each group and step: the edges of nodes at which another mass is, or of which
//! an edge came or went. A group none of whose walks pass there costs nothing.

use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use perennial_rows::{Tuple, Value};
use timely::dataflow::Scope;
use timely::dataflow::operators::Concatenate;

use crate::bounds::Meter;
use crate::dataflow::Epoch;
use crate::render::Tuples;

/// The mass of a group: what a score of 1 is.
pub(super) const UNIT: u64 = 1 << 40;
/// What a damping of 1 would be.
const WHOLE: u64 = 1 << 32;
/// Largest weight of an edge, or of a seed; a larger one counts as this.
const MAX_WEIGHT: i64 = 1 << 20;

type Of<'scope, D> = VecCollection<'scope, Epoch, D, isize>;
/// A group, and a node of it: as often as there are units of mass.
type Mass<'scope> = Of<'scope, (Tuple, Value)>;

/// The edges of a graph, by the positions of their columns.
pub(super) struct Edges<'scope> {
    pub(super) tuples: Tuples<'scope>,
    pub(super) source: usize,
    pub(super) target: usize,
    pub(super) weight: Option<usize>,
}

/// Where walks begin, by the positions of their columns.
pub(super) struct Seeds<'scope> {
    pub(super) tuples: Tuples<'scope>,
    pub(super) per: Vec<usize>,
    pub(super) node: usize,
    pub(super) weight: Option<usize>,
}

/// How far walks go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// The share that goes on, of [`WHOLE`].
    damping: u64,
    n_steps: u32,
    /// What goes on at least, of [`UNIT`].
    least: u64,
}

impl Walk {
    pub(super) fn new(damping: f64, n_steps: u32, least: f64) -> Self {
        // Both are below 1, so that the products are below 2^53.
        Self {
            damping: (damping * WHOLE as f64).round() as u64,
            n_steps,
            least: (least * UNIT as f64).round() as u64,
        }
    }

    /// What goes on of a mass.
    fn sent(self, mass: u64) -> u64 {
        match mass < self.least {
            true => 0,
            false => share(mass, self.damping, WHOLE),
        }
    }
}

/// A part of a mass, rounded down.
fn share(mass: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(mass) * u128::from(part) / u128::from(whole.max(1));
    // The part is no more than the whole.
    u64::try_from(share).unwrap_or(mass)
}

/// How often a row counts: its weight, if it has one.
fn weight(tuple: &Tuple, at: Option<usize>) -> isize {
    let weight = match at.map(|at| &tuple[at]) {
        None | Some(Value::Null) => 1,
        Some(Value::Integer(n)) => (*n).clamp(0, MAX_WEIGHT),
        Some(_) => 0,
    };
    weight as isize
}

/// Each group's nodes that walks reach: what the group is called, the node, and its score.
pub(super) fn pagerank<'scope>(
    scope: Scope<'scope, Epoch>,
    edges: Edges<'scope>,
    seeds: Seeds<'scope>,
    walk: Walk,
    meter: Option<&Rc<Meter>>,
) -> Tuples<'scope> {
    // Lists are arranged once, and read by every step.
    let lists: Of<'scope, (Value, EdgeList)> =
        weighed_edges(edges).reduce_named("Edges", |_, targets, output| {
            let all = targets.iter();
            let known = all.filter_map(|(to, n)| Some(((*to).clone(), u64::try_from(*n).ok()?)));
            output.push((known.collect(), 1));
        });
    let lists = lists.arrange_by_key_named("Arrange: Edges");
    let mut mass = begun(seeds);
    let mut ended = Vec::new();
    for step in 0..=walk.n_steps {
        let standing = mass.count_total();
        let is_last = step == walk.n_steps;
        ended.push(
            standing
                .clone()
                .explode(move |(place, mass)| {
                    let mass = u64::try_from(mass).unwrap_or(0);
                    let sent = if is_last { 0 } else { walk.sent(mass) };
                    Some((place, (mass - sent) as isize))
                })
                .inner,
        );
        if is_last {
            break;
        }
        let sending = standing.flat_map(move |((group, node), mass)| {
            let sent = walk.sent(u64::try_from(mass).unwrap_or(0));
            (sent > 0).then_some((node, (group, sent)))
        });
        let meter = meter.cloned();
        mass = sending
            .arrange_by_key_named("Arrange: Sending")
            .join_core(lists.clone(), move |_, (group, sent), list: &EdgeList| {
                if let Some(meter) = &meter {
                    meter.count_pairs(list.len());
                }
                flows(group, *sent, list)
            })
            .explode(|(place, mass)| Some((place, mass as isize)));
    }
    let ended = scope.concatenate(ended).as_collection();
    let scores: Of<'scope, ((Tuple, Value), isize)> = ended.count_total();
    scores.map(|((group, node), mass)| {
        // A mass has fewer bits than a float holds.
        let score = Value::float(mass as f64 / UNIT as f64);
        group.iter().cloned().chain([node, score]).collect()
    })
}

/// Where edges of a node lead, and their weights.
type EdgeList = Arc<[(Value, u64)]>;

/// Edges by their source, as often as they weigh.
fn weighed_edges(edges: Edges<'_>) -> Of<'_, (Value, Value)> {
    let Edges {
        tuples,
        source,
        target,
        weight: at,
    } = edges;
    tuples.explode(move |tuple| {
        let ends = (tuple[source].clone(), tuple[target].clone());
        let weight = weight(&tuple, at);
        let is_edge = ends.0 != Value::Null && ends.1 != Value::Null && weight > 0;
        is_edge.then_some((ends, weight))
    })
}

/// The mass of each group, on its seeds in proportion to their weights.
fn begun(seeds: Seeds<'_>) -> Mass<'_> {
    let Seeds {
        tuples,
        per,
        node,
        weight: at,
    } = seeds;
    let weighed = tuples.explode(move |tuple| {
        let group: Tuple = per.iter().map(|at| tuple[*at].clone()).collect();
        let weight = weight(&tuple, at);
        let is_seed = tuple[node] != Value::Null && weight > 0;
        is_seed.then(|| ((group, tuple[node].clone()), weight))
    });
    weighed.reduce_named("Seeds", |_, nodes, output| {
        let weights = nodes.iter();
        let weights = weights.map(|(node, n)| (*node, u64::try_from(*n).unwrap_or(0)));
        let total: u64 = weights.clone().map(|(_, weight)| weight).sum();
        for (node, weight) in weights {
            let mass = share(UNIT, weight, total);
            if mass > 0 {
                output.push((node.clone(), mass as isize));
            }
        }
    })
}

/// What a group sends along the edges of a node.
fn flows(group: &Tuple, sent: u64, list: &EdgeList) -> Vec<((Tuple, Value), u64)> {
    let total: u64 = list.iter().map(|(_, weight)| weight).sum();
    let flows = list.iter().map(|(node, weight)| {
        let mass = share(sent, *weight, total);
        ((group.clone(), node.clone()), mass)
    });
    flows.filter(|(_, mass)| *mass > 0).collect()
}

#[cfg(test)]
mod tests {
    use differential_dataflow::input::InputSession;

    use super::*;
    use crate::bounds::Bounds;

    #[test]
    fn what_no_walk_passes_costs_no_group_anything() {
        let edge = |from: i64, to: i64| -> Tuple { [from.into(), to.into()].into() };
        let seed = |node: i64, group: &str| -> Tuple { [group.into(), node.into()].into() };
        // Two lines that never meet, a seed at the beginning of each.
        let lines = (0..1000).chain(5000..6000).map(|node| edge(node, node + 1));
        let first: Vec<Tuple> = lines.collect();
        let epochs = [first, vec![edge(900, 7)], vec![edge(5019, 5000)]];
        let counted = timely::execute_directly(move |worker| {
            let meter = Rc::new(Meter::new(Bounds::default()));
            let (mut edges, mut seeds) = (InputSession::new(), InputSession::new());
            let probe = worker.dataflow(|scope| {
                let edges = Edges {
                    tuples: edges.to_collection(scope),
                    source: 0,
                    target: 1,
                    weight: None,
                };
                let seeds = Seeds {
                    tuples: seeds.to_collection(scope),
                    per: vec![0],
                    node: 1,
                    weight: None,
                };
                let walk = Walk::new(0.85, 20, 1e-5);
                pagerank(scope, edges, seeds, walk, Some(&meter)).probe().0
            });
            seeds.insert(seed(0, "p"));
            seeds.insert(seed(5000, "q"));
            let mut counted = Vec::new();
            for (epoch, added) in (0..).zip(epochs) {
                for tuple in added {
                    edges.insert(tuple);
                }
                for session in [&mut edges, &mut seeds] {
                    session.advance_to(epoch + 1);
                    session.flush();
                }
                worker.step_while(|| probe.less_than(&(epoch + 1)));
                counted.push(meter.n_pairs());
            }
            counted
        });
        // A step looks at one edge of each group; far from the seeds there is nothing to look at; the last
        // edge that a walk passes is looked at without the new one and with it.
        assert_eq!(counted, [40, 40, 43]);
    }
}
