//! How early can a condition be asked, and what joins by key?

use std::collections::BTreeSet;

use perennial_rows::Value;

use crate::query::column::{ColumnId, ColumnTable};
use crate::query::expression::{Comparison, Expression};
use crate::query::node::{
    Ask, AskGroups, Cascade, Clusters, Embed, Entries, Join, JoinKind, Nearest, Node, PageRank,
    Rank, Scalar, conjuncts,
};
use crate::query::rewrite::fold::{empty, simple};
use crate::query::rewrite::pairs;
use crate::query::unique;

/// Largest expression that a condition may grow to on its way down.
const MAX_SIZE: usize = 1000;

/// A node with these conditions on its rows, asked as early as they can be. The columns stay.
pub(super) fn push(node: Node, mut conditions: Vec<Scalar>, table: &ColumnTable) -> Node {
    match node {
        Node::Filter { input, predicate } => {
            predicate
                .into_iter()
                .for_each(|part| conjuncts(part, &mut conditions));
            push(*input, conditions, table)
        }
        Node::Project { input, columns } => {
            let (below, above): (Vec<_>, Vec<_>) = conditions
                .into_iter()
                .map(|condition| (through(&condition, &columns), condition))
                .partition(|(below, _)| below.size() <= MAX_SIZE);
            let below = below.into_iter().map(|(below, _)| simple(&below)).collect();
            let input = push(*input, below, table);
            if is_empty(&input) {
                return no_rows(columns.iter().map(|(id, _)| *id).collect());
            }
            let node = merged(input, columns);
            filtered(
                node,
                above.into_iter().map(|(_, condition)| condition).collect(),
            )
        }
        Node::Join(join) => push_join(*join, conditions, table),
        Node::Nearest(nearest) => push_nearest(*nearest, conditions, table),
        // Without a text, others may be connected no more.
        Node::Clusters(clusters) => {
            let input = push(clusters.input, Vec::new(), table);
            let node = Node::Clusters(Box::new(Clusters { input, ..*clusters }));
            filtered(node, conditions)
        }
        Node::Union { columns, inputs } => {
            let inputs = inputs.into_iter().map(|(input, ids)| {
                let of_input = |condition: &Scalar| {
                    condition.substitute(|id| {
                        let at = columns.iter().position(|column| column == id);
                        Expression::Column(at.map_or(*id, |at| ids[at]))
                    })
                };
                let below = conditions.iter().map(of_input).collect();
                (push(input, below, table), ids)
            });
            let mut inputs: Vec<_> = inputs.collect();
            inputs.retain(|(input, _)| !is_empty(input));
            match inputs.is_empty() {
                true => no_rows(columns),
                false => Node::Union { columns, inputs },
            }
        }
        Node::Distinct { input } => {
            let input = push(*input, conditions, table);
            match unique::sets(&input, table).is_empty() && !is_empty(&input) {
                true => Node::Distinct {
                    input: Box::new(input),
                },
                // It is distinct as it is.
                false => input,
            }
        }
        Node::Reduce {
            input,
            keys,
            aggregates,
        } => {
            let ids: BTreeSet<ColumnId> = keys.iter().map(|(id, _)| *id).collect();
            let (mut below, mut above) = (Vec::new(), Vec::new());
            for condition in conditions {
                let columns = condition.columns();
                let of_input = through(&condition, &keys);
                // A condition on no column must not empty the one group of all rows.
                let is_of_keys = !columns.is_empty() && columns.is_subset(&ids);
                match is_of_keys && of_input.size() <= MAX_SIZE {
                    true => below.push(simple(&of_input)),
                    false => above.push(condition),
                }
            }
            let input = push(*input, below, table);
            if is_empty(&input) && !keys.is_empty() {
                let aggregates = aggregates.iter().map(|(id, _)| *id);
                return no_rows(keys.iter().map(|(id, _)| *id).chain(aggregates).collect());
            }
            let node = Node::Reduce {
                input: Box::new(input),
                keys,
                aggregates,
            };
            filtered(node, above)
        }
        Node::Top {
            input,
            keys,
            order,
            limit,
            offset,
        } => {
            // What says which keys there are leaves the rows of the others as they are.
            let ids: BTreeSet<ColumnId> = keys
                .iter()
                .filter_map(|key| match key {
                    Expression::Column(id) => Some(*id),
                    _ => None,
                })
                .collect();
            let (below, above) = conditions.into_iter().partition(|condition: &Scalar| {
                let columns = condition.columns();
                !columns.is_empty() && columns.is_subset(&ids)
            });
            let node = Node::Top {
                input: Box::new(push(*input, below, table)),
                keys,
                order,
                limit,
                offset,
            };
            filtered(node, above)
        }
        Node::PageRank(rank) => push_page_rank(*rank, conditions, table),
        Node::Unnest {
            input,
            list,
            output,
        } => {
            let (above, below): (Vec<_>, Vec<_>) = conditions
                .into_iter()
                .partition(|condition| condition.columns().contains(&output));
            let input = Box::new(push(*input, below, table));
            let node = Node::Unnest {
                input,
                list,
                output,
            };
            filtered(node, above)
        }
        Node::Ask(ask) => push_ask(*ask, conditions, table),
        // Without a row, who decides about others may be another.
        Node::Cascade(cascade) => {
            let input = push(cascade.input, Vec::new(), table);
            if is_empty(&input) {
                let mut columns = input.columns();
                columns.extend([cascade.output, cascade.decider]);
                return no_rows(columns);
            }
            let node = Node::Cascade(Box::new(Cascade { input, ..*cascade }));
            filtered(node, conditions)
        }
        Node::AskGroups(ask) => push_ask_groups(*ask, conditions, table),
        // A condition on what is ranked would let others in.
        Node::Rank(rank) => {
            let input = push(rank.input, Vec::new(), table);
            if is_empty(&input) {
                let mut columns = input.columns();
                columns.push(rank.output);
                return no_rows(columns);
            }
            filtered(Node::Rank(Box::new(Rank { input, ..*rank })), conditions)
        }
        Node::Entries(entries) => {
            let input = push(entries.input, Vec::new(), table);
            filtered(
                Node::Entries(Box::new(Entries { input, ..*entries })),
                conditions,
            )
        }
        Node::Embed(embed) => {
            let input = push(embed.input, Vec::new(), table);
            filtered(Node::Embed(Box::new(Embed { input, ..*embed })), conditions)
        }
        Node::Scan(_) | Node::Values { .. } => filtered(node, conditions),
    }
}

/// An expression over a projection's columns as one over what they are made of.
pub(super) fn through(expression: &Scalar, columns: &[(ColumnId, Scalar)]) -> Scalar {
    expression.substitute(|id| {
        let made = columns.iter().find(|(column, _)| column == id);
        made.map_or(Expression::Column(*id), |(_, expression)| {
            expression.clone()
        })
    })
}

/// Whether a node is known to have no rows.
fn is_empty(node: &Node) -> bool {
    matches!(node, Node::Values { rows, .. } if rows.is_empty())
}

fn no_rows(columns: Vec<ColumnId>) -> Node {
    Node::Values {
        columns,
        rows: Vec::new(),
    }
}

/// The rows of a node that stays where it is; none where a condition never holds.
fn filtered(node: Node, conditions: Vec<Scalar>) -> Node {
    let mut predicate: Vec<Scalar> = Vec::new();
    for condition in conditions {
        match condition {
            Expression::Literal(Value::Boolean(true)) => {}
            Expression::Literal(_) => {
                return no_rows(node.columns());
            }
            other if predicate.contains(&other) => {}
            other => predicate.push(other),
        }
    }
    node.filtered(predicate)
}

/// A projection over a node: one, where both are. What is computed is not computed twice for it.
fn merged(input: Node, columns: Vec<(ColumnId, Scalar)>) -> Node {
    let Node::Project {
        input: below,
        columns: made,
    } = input
    else {
        return Node::Project {
            input: Box::new(input),
            columns,
        };
    };
    let is_computed = |id: &ColumnId| {
        let found = made.iter().find(|(column, _)| column == id);
        found.is_some_and(|(_, e)| !matches!(e, Expression::Column(_) | Expression::Literal(_)))
    };
    let mut uses: Vec<ColumnId> = Vec::new();
    for (_, expression) in &columns {
        collect_uses(expression, &mut uses);
    }
    uses.retain(is_computed);
    let n_uses = uses.len();
    uses.sort();
    uses.dedup();
    if uses.len() < n_uses {
        let input = Node::Project {
            input: below,
            columns: made,
        };
        return Node::Project {
            input: Box::new(input),
            columns,
        };
    }
    let columns = columns.iter();
    Node::Project {
        columns: columns
            .map(|(id, expression)| (*id, simple(&through(expression, &made))))
            .collect(),
        input: below,
    }
}

/// Every mention of a column.
fn collect_uses(expression: &Scalar, uses: &mut Vec<ColumnId>) {
    if let Expression::Column(id) = expression {
        uses.push(*id);
    }
    for part in expression.parts() {
        collect_uses(part, uses);
    }
}

/// A model is asked about the rows that every other condition has kept; about rows, before others are
/// asked about pairs of them.
fn push_ask(ask: Ask, conditions: Vec<Scalar>, table: &ColumnTable) -> Node {
    let (above, below): (Vec<_>, Vec<_>) = conditions
        .into_iter()
        .partition(|condition| condition.columns().contains(&ask.output));
    let input = push(ask.input, below, table);
    if is_empty(&input) {
        let mut columns = input.columns();
        columns.push(ask.output);
        return no_rows(columns);
    }
    let ask = Ask {
        input: empty(),
        ..ask
    };
    let (node, above) = pairs::asked(input, ask, above);
    filtered(node, above)
}

/// A model is asked about the groups that every other condition has kept. What is a condition on
/// their keys, here or below, keeps rows out, too.
fn push_ask_groups(ask: AskGroups, conditions: Vec<Scalar>, table: &ColumnTable) -> Node {
    let (above, below): (Vec<_>, Vec<_>) = conditions
        .into_iter()
        .partition(|condition| condition.columns().contains(&ask.output));
    let ids: BTreeSet<ColumnId> = ask.keys.iter().map(|(id, _)| *id).collect();
    let mut of_groups = below.clone();
    conditions_within(&ask.groups, &mut of_groups);
    let of_rows = of_groups.iter().filter(|condition| {
        let columns = condition.columns();
        !columns.is_empty() && columns.is_subset(&ids)
    });
    let of_rows = of_rows.map(|condition| simple(&through(condition, &ask.keys)));
    let of_rows = of_rows.filter(|condition| condition.size() <= MAX_SIZE);
    let rows = push(ask.rows, of_rows.collect(), table);
    let groups = push(ask.groups, below, table);
    if is_empty(&groups) {
        let mut columns = groups.columns();
        columns.push(ask.output);
        return no_rows(columns);
    }
    let node = Node::AskGroups(Box::new(AskGroups {
        groups,
        rows,
        ..ask
    }));
    filtered(node, above)
}

/// The conditions that groups meet since they were made.
fn conditions_within(groups: &Node, all: &mut Vec<Scalar>) {
    match groups {
        Node::Filter { input, predicate } => {
            let parts = predicate.iter().cloned();
            parts.for_each(|part| conjuncts(part, all));
            conditions_within(input, all);
        }
        Node::Ask(ask) => conditions_within(&ask.input, all),
        Node::AskGroups(ask) => conditions_within(&ask.groups, all),
        _ => {}
    }
}

fn push_join(join: Join, conditions: Vec<Scalar>, table: &ColumnTable) -> Node {
    let Join {
        kind,
        left,
        right,
        mut keys,
        residual: on,
    } = join;
    let left_ids: BTreeSet<ColumnId> = left.columns().into_iter().collect();
    let right_ids: BTreeSet<ColumnId> = right.columns().into_iter().collect();
    let (mut to_left, mut to_right) = (Vec::new(), Vec::new());
    let (mut residual, mut above) = (Vec::new(), Vec::new());
    let mut matching = Vec::new();
    on.into_iter()
        .for_each(|part| conjuncts(part, &mut matching));
    for condition in conditions {
        let columns = condition.columns();
        match kind {
            // What holds for the pairs holds where rows match.
            JoinKind::Inner if !columns.is_empty() => matching.push(condition),
            _ if !columns.is_empty() && columns.is_subset(&left_ids) => to_left.push(condition),
            _ => above.push(condition),
        }
    }
    for condition in matching {
        let columns = condition.columns();
        if condition == Expression::literal(true) {
            continue;
        }
        // A left row that fails a condition of an outer or antijoin has no match, and stays.
        let may_filter_left = matches!(kind, JoinKind::Inner | JoinKind::Semi);
        if may_filter_left && columns.is_subset(&left_ids) {
            to_left.push(condition);
        } else if !columns.is_empty() && columns.is_subset(&right_ids) {
            to_right.push(condition);
        } else if let Some(key) = key(&condition, &left_ids, &right_ids) {
            keys.push(key);
        } else {
            residual.push(condition);
        }
    }
    let (left, right) = (push(left, to_left, table), push(right, to_right, table));
    let needs_right = matches!(kind, JoinKind::Inner | JoinKind::Semi);
    let has_none = is_empty(&left) || (needs_right && is_empty(&right));
    let node = Node::Join(Box::new(Join {
        kind,
        left,
        right,
        keys,
        residual,
    }));
    match has_none {
        true => no_rows(node.columns()),
        false => filtered(node, above),
    }
}

/// What is known of left rows is asked before they are paired. A condition on the right ones would
/// make others the nearest: it is asked of the pairs.
fn push_nearest(nearest: Nearest, conditions: Vec<Scalar>, table: &ColumnTable) -> Node {
    let left_ids: BTreeSet<ColumnId> = nearest.left.columns().into_iter().collect();
    let (to_left, above): (Vec<_>, Vec<_>) = conditions.into_iter().partition(|condition| {
        let columns = condition.columns();
        !columns.is_empty() && columns.is_subset(&left_ids)
    });
    let left = push(nearest.left, to_left, table);
    let right = push(nearest.right, Vec::new(), table);
    let has_none = is_empty(&left) || is_empty(&right);
    let node = Node::Nearest(Box::new(Nearest {
        left,
        right,
        ..nearest
    }));
    match has_none {
        true => no_rows(node.columns()),
        false => filtered(node, above),
    }
}

/// Groups do not know of each other: a condition on what they are called is asked of their seeds.
fn push_page_rank(rank: PageRank, conditions: Vec<Scalar>, table: &ColumnTable) -> Node {
    let ids: BTreeSet<ColumnId> = rank.per.iter().map(|(id, _)| *id).collect();
    let made: Vec<(ColumnId, Scalar)> = rank
        .per
        .iter()
        .map(|(id, of_seeds)| (*id, Expression::Column(*of_seeds)))
        .collect();
    let (below, above): (Vec<_>, Vec<_>) = conditions.into_iter().partition(|condition| {
        let columns = condition.columns();
        !columns.is_empty() && columns.is_subset(&ids)
    });
    let below = below.iter().map(|condition| through(condition, &made));
    let seeds = push(rank.seeds, below.collect(), table);
    let edges = push(rank.edges, Vec::new(), table);
    let node = Node::PageRank(Box::new(PageRank {
        edges,
        seeds,
        ..rank
    }));
    filtered(node, above)
}

/// The two sides of an equality between what one side makes and what the other does.
pub(in crate::query) fn key(
    condition: &Scalar,
    left_ids: &BTreeSet<ColumnId>,
    right_ids: &BTreeSet<ColumnId>,
) -> Option<(Scalar, Scalar)> {
    let Expression::Compare(Comparison::Equal, a, b) = condition else {
        return None;
    };
    let (of_a, of_b) = (a.columns(), b.columns());
    if of_a.is_empty() || of_b.is_empty() {
        return None;
    }
    if of_a.is_subset(left_ids) && of_b.is_subset(right_ids) {
        Some(((**a).clone(), (**b).clone()))
    } else if of_b.is_subset(left_ids) && of_a.is_subset(right_ids) {
        Some(((**b).clone(), (**a).clone()))
    } else {
        None
    }
}
