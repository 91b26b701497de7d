//! Which models can be asked about fewer rows?
//!
//! A LIMIT that does not order by what a model says leaves rows that nobody needs to ask about: the
//! model is asked above it. Rows are neither made nor dropped by asking, so what stands is the same.

use std::collections::BTreeSet;

use crate::query::column::{ColumnId, ColumnTable};
use crate::query::expression::Expression;
use crate::query::node::{Node, Scalar, SortKey};
use crate::query::rewrite::fold::empty;
use crate::query::rewrite::pushdown::through;
use crate::query::unique;

/// The tree, every model asked as late as a LIMIT allows.
pub(super) fn lift(mut node: Node, table: &ColumnTable) -> Node {
    for input in node.inputs_mut() {
        let taken = std::mem::replace(input, empty());
        *input = lift(taken, table);
    }
    match node {
        Node::Top {
            input,
            keys,
            order,
            limit,
            offset,
        } if keys.is_empty() => {
            let order = match input.asked().is_empty() {
                true => order,
                false => without_needless(order, &input, table),
            };
            over(*input, order, limit, offset)
        }
        other => other,
    }
}

/// The keys of an order up to those that tell all rows apart: no tie is left for others to break.
fn without_needless(order: Vec<SortKey>, input: &Node, table: &ColumnTable) -> Vec<SortKey> {
    let sets = unique::sets(input, table);
    let mut read: BTreeSet<ColumnId> = BTreeSet::new();
    let mut kept = Vec::new();
    for key in order {
        if sets.iter().any(|set| set.is_subset(&read)) {
            break;
        }
        if let Expression::Column(id) = &key.by {
            read.insert(*id);
        }
        kept.push(key);
    }
    kept
}

/// A LIMIT over a node, below what need not be asked before it.
fn over(input: Node, order: Vec<SortKey>, limit: Option<u64>, offset: u64) -> Node {
    let (projection, mut below) = match input {
        Node::Project { input, columns } => (Some(columns), *input),
        other => (None, other),
    };
    let lower = |key: &SortKey| SortKey {
        by: match &projection {
            None => key.by.clone(),
            Some(columns) => through(&key.by, columns),
        },
        ..key.clone()
    };
    let lowered: Vec<SortKey> = order.iter().map(lower).collect();
    let mut asks: Vec<Node> = Vec::new();
    while let Some(ask) = taken_off(&mut below) {
        asks.push(ask);
    }
    // From the outermost in, what the order reads, or what another reads that is asked before.
    let mut read: BTreeSet<ColumnId> = lowered.iter().flat_map(|key| key.by.columns()).collect();
    let mut is_read = Vec::new();
    for ask in &asks {
        let is = match ask {
            Node::Ask(ask) => read.contains(&ask.output),
            Node::AskGroups(ask) => read.contains(&ask.output),
            _ => false,
        };
        if is {
            read.extend(read_by(ask));
        }
        is_read.push(is);
    }
    let may_lift = is_read.contains(&false);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (ask, is_read) in asks.into_iter().zip(is_read).rev() {
        match is_read || !may_lift {
            true => before.push(ask),
            false => after.push(ask),
        }
    }
    let asked = |node: Node, asks: Vec<Node>| asks.into_iter().fold(node, put_on);
    let projected = |node: Node, columns: Option<Vec<(ColumnId, Scalar)>>| match columns {
        None => node,
        Some(columns) => Node::Project {
            input: Box::new(node),
            columns,
        },
    };
    let below = asked(below, before);
    // Where all stays as it was, the projection stays below.
    let (input, order, projection) = match may_lift {
        true => (below, lowered, projection),
        false => (projected(below, projection), order, None),
    };
    let top = Node::Top {
        input: Box::new(input),
        keys: Vec::new(),
        order,
        limit,
        offset,
    };
    projected(asked(top, after), projection)
}

/// The model that is asked at a node, without what it is asked about; the node becomes that.
fn taken_off(node: &mut Node) -> Option<Node> {
    let input = match node {
        Node::Ask(ask) => std::mem::replace(&mut ask.input, empty()),
        Node::AskGroups(ask) => std::mem::replace(&mut ask.groups, empty()),
        _ => return None,
    };
    Some(std::mem::replace(node, input))
}

/// A node of [`taken_off`] over what it is asked about.
fn put_on(input: Node, mut node: Node) -> Node {
    match &mut node {
        Node::Ask(ask) => ask.input = input,
        Node::AskGroups(ask) => ask.groups = input,
        _ => return input,
    }
    node
}

/// The columns that a model which is asked reads of what it is asked about.
fn read_by(node: &Node) -> BTreeSet<ColumnId> {
    match node {
        Node::Ask(ask) => ask.arguments.iter().flat_map(Scalar::columns).collect(),
        Node::AskGroups(ask) => ask.keys.iter().map(|(id, _)| *id).collect(),
        _ => BTreeSet::new(),
    }
}
