//! What does a model say of each group's rows?
//!
//! # Goals
//! One changed row costs few calls, however large its group is; the result is that of a run from
//! nothing, bit for bit; nobody is asked about what did not change.
//!
//! # Design
//! The rows of a group are a set: those that are alike count once. A row's place is a digest of its
//! values, and the group a tree over places, 4 bits a level ([`places`](places)). A part of a node
//! that is small is a *leaf*: one call reads its rows, in the order of their places. What a node's
//! leaves and lower nodes answer, one call combines, in the same order; a single answer passes
//! through as it is.
//!
//! ```text
//!                         node, level 0                     one call of 3 answers
//!            +-----------------+--------------+
//!       leaf 0-7          leaf 8-b        node c-f, level 1    a call each
//!        29 rows           17 rows        +------+-----+
//!                                      leaf c0-c7   leaf c8-cf
//! ```
//! Where rows stand, which of them are a leaf, and so what is asked, depends on the rows that there
//! are, and on nothing else: history leaves no trace. A row that comes or goes changes the leaf that
//! has its place and the nodes above it; an answer that stays the same changes no node above it.
//!
//! Rows go from the root down: at each level the sizes of all slots are kept as differences, so that
//! a change costs itself, and those of a node say which slots are leaves. Only rows of slots that are
//! none go to the next level. A group that is small takes part in the first only. Answers then go from
//! the lowest level up. Levels are unrolled: a call needs a total order of time, so nothing iterates.
//!
//! # Invariants
//! - No `reduce` reads more than a leaf, or the parts of a node.
//! - What is NULL is not asked about: a failed part leaves its group without an answer.
//!
//! A tree of chunks, cut where a row's own digest says so, was rejected: it has as few calls, but
//! needs the neighbours of a row in an order. So was a trie with one leaf a slot: at some sizes of a
//! group most leaves hold few rows, and a leaf that overflows becomes up to 16.

mod places;

use differential_dataflow::VecCollection;
use differential_dataflow::operators::CountTotal;
use perennial_ask::Task;
use perennial_ask::task::Subject;
use perennial_rows::{Tuple, Value};

pub(super) use places::Limits;

use crate::dataflow::Epoch;
use crate::outputs::TaskCalls;
use crate::query::expression::Expression;
use crate::query::node::{MAX_MEMBERS, MAX_PARTS};
use crate::render::ask::answered;
use crate::render::place::beginning;
use crate::render::{Tuples, with};
use places::{Home, LEVELS, Member, Size, homes};

/// A node of a group's tree, or a slot: the group, and the first of its places.
type NodeId = (Tuple, u64);
/// A leaf: its group, the level of the node that it is of, and the first of its places.
type LeafId = (Tuple, u32, u64);
type Of<'scope, D> = VecCollection<'scope, Epoch, D, isize>;

/// Groups, by some of their columns.
pub(super) struct Groups<'scope> {
    pub(super) tuples: Tuples<'scope>,
    pub(super) keys: Vec<usize>,
}

/// Rows, by the group that they are of and by what is asked about them.
pub(super) struct Rows<'scope> {
    pub(super) tuples: Tuples<'scope>,
    pub(super) keys: Vec<Expression<usize>>,
    pub(super) arguments: Vec<Expression<usize>>,
}

/// The groups, each with what is said of its rows behind it.
pub(super) fn ask_groups<'scope>(
    groups: Groups<'scope>,
    rows: Rows<'scope>,
    limits: Limits,
    calls: impl Fn(Subject) -> TaskCalls,
) -> Tuples<'scope> {
    let Groups { tuples, keys } = groups;
    let groups = tuples.map(move |tuple| {
        let key: Tuple = keys.iter().map(|at| tuple[*at].clone()).collect();
        (key, tuple)
    });
    let wanted = groups.clone().map(|(key, _)| key);
    let members = members(rows, wanted);
    let leaves = gathered(leaves(members, limits));
    let answers = combined(answered(leaves, calls(Subject::Rows)), calls);
    let has_answer = answers.clone().map(|(key, _)| key);
    let said = groups
        .clone()
        .join_map(answers, |_, group, answer| with(group, answer.clone()));
    let unsaid = groups.antijoin(has_answer);
    said.concat(unsaid.map(|(_, group)| with(&group, Value::Null)))
}

/// What is known of the rows of these groups, each once.
fn members<'scope>(rows: Rows<'scope>, groups: Tuples<'scope>) -> Of<'scope, (Tuple, Member)> {
    let Rows {
        tuples,
        keys,
        arguments,
    } = rows;
    let values = tuples.flat_map(move |tuple| {
        let values: Tuple = arguments.iter().map(|a| a.value(&tuple)).collect();
        let is_known = !values.contains(&Value::Null);
        is_known.then(|| {
            let key: Tuple = keys.iter().map(|key| key.value(&tuple)).collect();
            (key, values)
        })
    });
    let distinct = values.semijoin(groups).distinct();
    distinct.map(|(key, values)| (key, Member::new(values)))
}

/// Which leaf each member is of.
fn leaves<'scope>(
    members: Of<'scope, (Tuple, Member)>,
    limits: Limits,
) -> Of<'scope, (LeafId, Member)> {
    let mut going_down = members;
    let mut all: Option<Of<'scope, (LeafId, Member)>> = None;
    for level in 0..LEVELS {
        let by_slot = going_down.map(move |(group, member)| {
            let slot = beginning(member.place, level + 1);
            ((group, slot), member)
        });
        let sizes = by_slot
            .clone()
            .explode(|(slot, member)| Some((slot, member.size())))
            .count_total();
        let by_node = sizes.map(move |((group, slot), size): (NodeId, Size)| {
            let node = beginning(slot, level);
            ((group, node), (slot, size))
        });
        let homes = by_node
            .reduce_named("Homes", move |_, slots, output| {
                let slots: Vec<(u64, Size)> = slots.iter().map(|(slot, _)| **slot).collect();
                let homes = homes(&slots, level, limits).into_iter();
                output.extend(homes.map(|home| (home, 1)));
            })
            .map(|((group, _), (slot, home))| ((group, slot), home));
        let at_home = by_slot.join_map(homes, |(group, _), member, home| {
            (group.clone(), *home, member.clone())
        });
        let found = at_home.clone().flat_map(move |(group, home, member)| {
            let first = match home {
                Home::Leaf(first) => first,
                Home::Alone => member.place,
                Home::Below => return None,
            };
            Some(((group, level, first), member))
        });
        all = Some(match all {
            None => found,
            Some(all) => all.concat(found),
        });
        going_down = at_home
            .flat_map(|(group, home, member)| (home == Home::Below).then_some((group, member)));
    }
    all.expect("a tree has levels")
}

/// The values of all members of a leaf, in the order of their places.
fn gathered<'scope>(leaves: Of<'scope, (LeafId, Member)>) -> Of<'scope, (Tuple, LeafId)> {
    let leaves = leaves.reduce_named("Leaf", |_, members, output| {
        let values = members.iter().flat_map(|(member, _)| member.values.iter());
        output.push((values.cloned().collect::<Tuple>(), 1));
    });
    leaves.map(|(leaf, values)| (values, leaf))
}

/// What is said of each group, given what is said of its leaves.
fn combined<'scope>(
    leaves: Of<'scope, (LeafId, Value)>,
    calls: impl Fn(Subject) -> TaskCalls,
) -> Of<'scope, (Tuple, Value)> {
    let mut from_below: Option<Of<'scope, (NodeId, Value)>> = None;
    for level in (0..LEVELS).rev() {
        let of_level = leaves.clone().flat_map(move |((group, of, first), value)| {
            (of == level).then(|| ((group, beginning(first, level)), (first, value)))
        });
        let parts = match from_below {
            None => of_level,
            Some(below) => of_level.concat(below.map(move |((group, first), value)| {
                let node = beginning(first, level);
                ((group, node), (first, value))
            })),
        };
        let nodes = parts.reduce_named("Parts", |_, parts, output| {
            let values = parts.iter().map(|((_, value), _)| value.clone());
            let values: Tuple = match parts.iter().any(|((_, value), _)| *value == Value::Null) {
                true => [Value::Null].into(),
                false => values.collect(),
            };
            output.push((values, 1));
        });
        let passed_on = nodes.clone().flat_map(|(node, values)| match &values[..] {
            [only] => Some((node, only.clone())),
            _ => None,
        });
        let several = nodes.flat_map(|(node, values)| (values.len() > 1).then_some((values, node)));
        let answers = Subject::Answers { at_most: MAX_PARTS };
        from_below = Some(passed_on.concat(answered(several, calls(answers))));
    }
    let roots = from_below.expect("a tree has levels");
    roots.map(|((group, _), value)| (group, value))
}

impl Limits {
    /// What one call may read of a task's rows, where a model attends to so many positions.
    ///
    /// A token has a byte or more, so what fits by bytes fits: rows fail only alone, not because of
    /// the company they are in. An eighth of the positions is left for what stands around.
    pub(super) fn of(task: &Task, n_positions: usize) -> Self {
        let n_output = task.output().max_tokens().unwrap_or(0);
        let around = task.prompt().len() + n_positions / 8;
        Self {
            members: MAX_MEMBERS,
            bytes: n_positions.saturating_sub(around.saturating_add(n_output)),
        }
    }
}
