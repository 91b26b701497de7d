//! Which rows can a model reject before it is asked about pairs of them?
//!
//! `… ON sem_match('{l.text} {p.name}') WHERE sem_filter('{l.text} is a complaint')` names one side of
//! the pairs in its second question. That is asked once a letter, the first once a pair: so the second
//! is asked first, and no pair of a letter that it rejects is asked about. It stays above the join that
//! makes the pairs: nobody is asked about a letter that meets nothing.

use std::collections::BTreeSet;

use crate::query::column::ColumnId;
use crate::query::node::{Ask, Join, JoinKind, Node, Scalar};
use crate::query::rewrite::fold::empty;

/// The rows of a node with what a model says of them, and those of these conditions that are still to
/// be met. Where others are asked about pairs of the rows that it is asked about, it is asked before
/// them, and conditions that read what it says of such a row are met there.
pub(super) fn asked(node: Node, ask: Ask, conditions: Vec<Scalar>) -> (Node, Vec<Scalar>) {
    let mut read: BTreeSet<ColumnId> = ask.arguments.iter().flat_map(Scalar::columns).collect();
    let (mut below, mut above) = (Vec::new(), Vec::new());
    for condition in conditions {
        let mut with = read.clone();
        with.extend(condition.columns());
        with.remove(&ask.output);
        if has_pairs(&node, &with) {
            read = with;
            below.push(condition);
        } else {
            above.push(condition);
        }
    }
    let node = match below.is_empty() {
        true => over(node, ask, below),
        false => lowered(node, &read, ask, below),
    };
    (node, above)
}

/// Whether models are asked there about pairs of the rows that have these columns.
fn has_pairs(node: &Node, read: &BTreeSet<ColumnId>) -> bool {
    match node {
        Node::Filter { input, .. } => has_pairs(input, read),
        Node::Ask(ask) => is_of_pairs(ask, read) || has_pairs(&ask.input, read),
        Node::Join(join) => side(join, read).is_some_and(|side| has_pairs(side, read)),
        // A model that rejects right rows would make others the nearest.
        Node::Nearest(nearest) => is_made_by(&nearest.left, read) && has_pairs(&nearest.left, read),
        _ => false,
    }
}

/// Whether a model is asked about rows that have these columns, and of what they are joined with.
fn is_of_pairs(ask: &Ask, read: &BTreeSet<ColumnId>) -> bool {
    let mut node = &ask.input;
    let side = loop {
        match node {
            Node::Filter { input, .. } => node = input,
            Node::Ask(ask) => node = &ask.input,
            Node::Join(join) => break side(join, read),
            Node::Nearest(nearest) => {
                let mut sides = [&nearest.left, &nearest.right].into_iter();
                break sides.find(|side| is_made_by(side, read));
            }
            _ => return false,
        }
    };
    side.is_some_and(|side| {
        let columns = side.columns();
        let mut named = ask.arguments.iter().flat_map(Scalar::columns);
        named.any(|id| !columns.contains(&id))
    })
}

/// The side of an inner join that makes all of these columns.
fn side<'n>(join: &'n Join, read: &BTreeSet<ColumnId>) -> Option<&'n Node> {
    if join.kind != JoinKind::Inner {
        return None;
    }
    let mut sides = [&join.left, &join.right].into_iter();
    sides.find(|side| is_made_by(side, read))
}

/// Whether a node makes all of these columns.
fn is_made_by(node: &Node, read: &BTreeSet<ColumnId>) -> bool {
    let columns = node.columns();
    read.iter().all(|id| columns.contains(id))
}

/// The node with a model, and what is filtered by it, below the lowest that is asked about pairs.
fn lowered(node: Node, read: &BTreeSet<ColumnId>, ask: Ask, filter: Vec<Scalar>) -> Node {
    if !has_pairs(&node, read) {
        return over(node, ask, filter);
    }
    match node {
        Node::Filter { input, predicate } => Node::Filter {
            input: Box::new(lowered(*input, read, ask, filter)),
            predicate,
        },
        Node::Ask(mut pairs) => {
            let input = std::mem::replace(&mut pairs.input, empty());
            pairs.input = lowered(input, read, ask, filter);
            Node::Ask(pairs)
        }
        Node::Join(mut join) => {
            let is_left = side(&join, read).is_some_and(|side| std::ptr::eq(side, &join.left));
            let side = match is_left {
                true => &mut join.left,
                false => &mut join.right,
            };
            let input = std::mem::replace(side, empty());
            *side = lowered(input, read, ask, filter);
            Node::Join(join)
        }
        Node::Nearest(mut nearest) => {
            let input = std::mem::replace(&mut nearest.left, empty());
            nearest.left = lowered(input, read, ask, filter);
            Node::Nearest(nearest)
        }
        other => over(other, ask, filter),
    }
}

/// A model over what it is asked about, and what is filtered by it.
fn over(input: Node, ask: Ask, filter: Vec<Scalar>) -> Node {
    Node::Ask(Box::new(Ask { input, ..ask })).filtered(filter)
}
