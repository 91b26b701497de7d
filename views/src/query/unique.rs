//! Which columns tell a result's rows apart?
//!
//! A set of columns is unique if no two rows have the same values in all of them, NULLs being
//! alike. What is not proven is not claimed.

use std::collections::BTreeSet;

use perennial_rows::Type;

use crate::query::column::{ColumnId, ColumnTable};
use crate::query::expression::Expression;
use crate::query::node::{JoinKind, Node, Scalar};

/// Most sets that are kept of one node.
const MAX_SETS: usize = 16;

type Set = BTreeSet<ColumnId>;

/// The unique sets of a result, by position.
pub(super) fn positions(root: &Node, table: &ColumnTable, outputs: &[ColumnId]) -> Vec<Vec<usize>> {
    let position = |id: &ColumnId| outputs.iter().position(|output| output == id);
    let sets = sets(root, table);
    let mut positions: Vec<Vec<usize>> = sets
        .iter()
        .filter_map(|set| set.iter().map(position).collect())
        .collect();
    positions.iter_mut().for_each(|set| set.sort());
    positions.sort();
    positions
}

/// The unique sets of a node's rows, none holding another.
pub(super) fn sets(node: &Node, table: &ColumnTable) -> Vec<Set> {
    let sets = match node {
        Node::Scan(scan) => {
            let id = |name: &std::sync::Arc<str>| {
                let found = scan.columns.iter().find(|(column, _)| column == name);
                found.map(|(_, id)| *id)
            };
            let sets = scan.unique.iter();
            sets.filter_map(|set| set.iter().map(id).collect())
                .collect()
        }
        Node::Values { rows, .. } if rows.len() <= 1 => vec![Set::new()],
        Node::Values { .. } | Node::Union { .. } => Vec::new(),
        Node::Project { input, columns } => renamed(&sets(input, table), columns),
        Node::Filter { input, .. } => sets(input, table),
        Node::Distinct { input } => {
            let mut sets = sets(input, table);
            sets.push(input.columns().into_iter().collect());
            sets
        }
        Node::Reduce { input, keys, .. } => {
            let mut sets = renamed(&sets(input, table), keys);
            sets.push(keys.iter().map(|(id, _)| *id).collect());
            sets
        }
        Node::Top {
            limit: Some(..=1),
            keys,
            input,
            ..
        } => {
            let mut sets = sets(input, table);
            let plain = keys.iter().map(|key| match key {
                Expression::Column(id) => Some(*id),
                _ => None,
            });
            sets.extend(plain.collect::<Option<Set>>());
            sets
        }
        Node::Top { input, .. } => sets(input, table),
        Node::Join(join) => of_join(join.kind, [&join.left, &join.right], &join.keys, table),
        Node::Nearest(nearest) => {
            let sides = [&nearest.left, &nearest.right];
            of_join(JoinKind::Inner, sides, &nearest.keys, table)
        }
        Node::Clusters(clusters) => vec![[clusters.of].into()],
        Node::PageRank(rank) => {
            let per = rank.per.iter().map(|(id, _)| *id);
            vec![per.chain([rank.node]).collect()]
        }
        // A list may hold the same several times.
        Node::Unnest { .. } => Vec::new(),
        Node::Ask(ask) => sets(&ask.input, table),
        Node::Cascade(cascade) => sets(&cascade.input, table),
        Node::AskGroups(ask) => sets(&ask.groups, table),
        Node::Rank(rank) => sets(&rank.input, table),
        Node::Entries(entries) => {
            let kept: Set = node.columns().into_iter().collect();
            let mut sets = sets(&entries.input, table);
            sets.retain(|set| set.is_subset(&kept));
            sets
        }
        Node::Embed(embed) => sets(&embed.input, table),
    };
    least(sets)
}

/// The sets all of whose columns are passed on, under the names that they get.
fn renamed(sets: &[Set], columns: &[(ColumnId, Scalar)]) -> Vec<Set> {
    let name = |id: &ColumnId| {
        let passed_on = columns.iter().find(|(_, e)| *e == Expression::Column(*id));
        passed_on.map(|(name, _)| *name)
    };
    let renamed = sets
        .iter()
        .map(|set| set.iter().map(name).collect::<Option<Set>>());
    renamed.flatten().collect()
}

/// The unique sets of the pairs of these sides, or of some of them.
fn of_join(
    kind: JoinKind,
    [left, right]: [&Node; 2],
    keys: &[(Scalar, Scalar)],
    table: &ColumnTable,
) -> Vec<Set> {
    let left = sets(left, table);
    if !kind.has_right() {
        return left;
    }
    let right = sets(right, table);
    // Keys match by worth: only where a column holds values of one type do equal keys mean equal
    // values.
    let of_side = |side: fn(&(Scalar, Scalar)) -> &Scalar| -> Set {
        let plain = keys.iter().filter_map(|key| match side(key) {
            Expression::Column(id) if table.of(*id) != Type::Any => Some(*id),
            _ => None,
        });
        plain.collect()
    };
    let (left_keys, right_keys) = (of_side(|(left, _)| left), of_side(|(_, right)| right));
    let mut sets = Vec::new();
    if right.iter().any(|set| set.is_subset(&right_keys)) {
        // Each left row stands once.
        sets.extend(left.iter().cloned());
    }
    if kind == JoinKind::Inner && left.iter().any(|set| set.is_subset(&left_keys)) {
        sets.extend(right.iter().cloned());
    }
    for a in &left {
        sets.extend(right.iter().map(|b| a | b));
    }
    sets
}

fn least(mut sets: Vec<Set>) -> Vec<Set> {
    sets.sort_by_key(|set| set.len());
    let mut kept: Vec<Set> = Vec::new();
    for set in sets {
        if kept.len() < MAX_SETS && !kept.iter().any(|smaller| smaller.is_subset(&set)) {
            kept.push(set);
        }
    }
    kept
}
