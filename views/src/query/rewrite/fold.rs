//! What is known of an expression before any row is there?

use perennial_rows::Value;

use crate::query::expression::{Comparison, Expression};
use crate::query::node::{Node, Scalar};

/// The tree with every expression in it simplified.
pub(super) fn fold(mut node: Node) -> Node {
    for input in node.inputs_mut() {
        let taken = std::mem::replace(input, empty());
        *input = fold(taken);
    }
    match &mut node {
        Node::Scan(_)
        | Node::Values { .. }
        | Node::Union { .. }
        | Node::Distinct { .. }
        | Node::PageRank(_)
        | Node::Entries(_)
        | Node::Embed(_) => {}
        Node::Project { columns, .. } => {
            columns
                .iter_mut()
                .for_each(|(_, expression)| *expression = simple(expression));
        }
        Node::Filter { predicate, .. } => {
            predicate
                .iter_mut()
                .for_each(|expression| *expression = simple(expression));
        }
        Node::Join(join) => {
            join.residual
                .iter_mut()
                .for_each(|expression| *expression = simple(expression));
        }
        Node::Nearest(nearest) => {
            let texts = nearest.left_texts.iter_mut();
            texts
                .chain(&mut nearest.right_texts)
                .for_each(|e| *e = simple(e));
        }
        Node::Reduce {
            keys, aggregates, ..
        } => {
            keys.iter_mut()
                .for_each(|(_, expression)| *expression = simple(expression));
            for (_, aggregate) in aggregates {
                aggregate.argument = aggregate.argument.as_ref().map(simple);
            }
        }
        Node::Clusters(clusters) => clusters.text = simple(&clusters.text),
        Node::Unnest { list, .. } => *list = simple(list),
        Node::Top { keys, order, .. } => {
            keys.iter_mut().for_each(|key| *key = simple(key));
            order.iter_mut().for_each(|key| key.by = simple(&key.by));
        }
        Node::Ask(ask) => ask.arguments.iter_mut().for_each(|e| *e = simple(e)),
        Node::Cascade(cascade) => cascade.arguments.iter_mut().for_each(|e| *e = simple(e)),
        Node::Rank(rank) => rank.arguments.iter_mut().for_each(|e| *e = simple(e)),
        Node::AskGroups(ask) => {
            let keys = ask.keys.iter_mut().map(|(_, key)| key);
            keys.chain(&mut ask.arguments).for_each(|e| *e = simple(e));
        }
    }
    node
}

/// No rows of no columns; stands in for a moment.
pub(super) fn empty() -> Node {
    Node::Values {
        columns: Vec::new(),
        rows: Vec::new(),
    }
}

/// The same expression, simpler.
pub(super) fn simple(expression: &Scalar) -> Scalar {
    expression.map(&mut |id| Expression::Column(*id), &mut simplified)
}

/// An expression whose parts are simple.
fn simplified(expression: Scalar) -> Scalar {
    let parts = expression.parts();
    if !parts.is_empty()
        && parts
            .iter()
            .all(|part| matches!(part, Expression::Literal(_)))
    {
        let constant = expression.substitute(|_| Expression::<usize>::Literal(Value::Null));
        return Expression::Literal(constant.value(&[]));
    }
    match expression {
        Expression::And(parts) => connected(parts, false),
        Expression::Or(parts) => connected(parts, true),
        Expression::Not(inner) => negated(*inner),
        // The literal stands to the right.
        Expression::Compare(how, left, right) if matches!(*left, Expression::Literal(_)) => {
            compared(mirrored(how), *right, *left)
        }
        Expression::Compare(how, left, right) => compared(how, *left, *right),
        Expression::In(value, mut list) => {
            if list
                .iter()
                .all(|item| matches!(item, Expression::Literal(_)))
            {
                list.sort();
                list.dedup();
            }
            Expression::In(value, list)
        }
        Expression::Case {
            branches,
            otherwise,
        } => case(branches, *otherwise),
        other => other,
    }
}

/// AND, which `false` decides, or OR, which `true` does.
fn connected(parts: Vec<Scalar>, decides: bool) -> Scalar {
    let make = |parts| match decides {
        false => Expression::And(parts),
        true => Expression::Or(parts),
    };
    let mut flat: Vec<Scalar> = Vec::new();
    for part in parts {
        match (part, decides) {
            (Expression::And(inner), false) | (Expression::Or(inner), true) => flat.extend(inner),
            (Expression::Literal(Value::Boolean(is)), _) if is != decides => {}
            (part, _) => flat.push(part),
        }
    }
    if flat.contains(&Expression::literal(decides)) {
        return Expression::literal(decides);
    }
    let mut unlike: Vec<Scalar> = Vec::new();
    for part in flat {
        if !unlike.contains(&part) {
            unlike.push(part);
        }
    }
    match unlike.len() {
        0 => Expression::literal(!decides),
        1 if is_logical(&unlike[0]) => unlike.remove(0),
        _ => make(unlike),
    }
}

/// Whether it is true, false or NULL for certain: what is of type ANY may be a number.
fn is_logical(expression: &Scalar) -> bool {
    matches!(
        expression,
        Expression::Literal(Value::Boolean(_) | Value::Null)
            | Expression::Not(_)
            | Expression::IsNull(_)
            | Expression::Compare(..)
            | Expression::And(_)
            | Expression::Or(_)
            | Expression::In(..)
            | Expression::Like { .. }
    )
}

fn negated(inner: Scalar) -> Scalar {
    let opposite = |how| match how {
        Comparison::Equal => Comparison::Unequal,
        Comparison::Unequal => Comparison::Equal,
        Comparison::Less => Comparison::AtLeast,
        Comparison::AtLeast => Comparison::Less,
        Comparison::Greater => Comparison::AtMost,
        Comparison::AtMost => Comparison::Greater,
        Comparison::Distinct => Comparison::NotDistinct,
        Comparison::NotDistinct => Comparison::Distinct,
    };
    match inner {
        Expression::Compare(how, left, right) => Expression::Compare(opposite(how), left, right),
        Expression::Not(twice) if is_logical(&twice) => *twice,
        other => other.negated(),
    }
}

fn mirrored(how: Comparison) -> Comparison {
    match how {
        Comparison::Less => Comparison::Greater,
        Comparison::Greater => Comparison::Less,
        Comparison::AtMost => Comparison::AtLeast,
        Comparison::AtLeast => Comparison::AtMost,
        same => same,
    }
}

fn compared(how: Comparison, left: Scalar, right: Scalar) -> Scalar {
    match (how, right.is_null()) {
        (Comparison::NotDistinct, true) => Expression::IsNull(Box::new(left)),
        (Comparison::Distinct, true) => Expression::IsNull(Box::new(left)).negated(),
        (_, true) => Expression::Literal(Value::Null),
        (how, false) => left.compared(how, right),
    }
}

fn case(branches: Vec<(Scalar, Scalar)>, otherwise: Scalar) -> Scalar {
    let mut kept = Vec::new();
    for (when, then) in branches {
        match when {
            Expression::Literal(Value::Boolean(true)) => {
                return match kept.is_empty() {
                    true => then,
                    false => Expression::Case {
                        branches: kept,
                        otherwise: Box::new(then),
                    },
                };
            }
            Expression::Literal(_) => {}
            when => kept.push((when, then)),
        }
    }
    match kept.is_empty() {
        true => otherwise,
        false => Expression::Case {
            branches: kept,
            otherwise: Box::new(otherwise),
        },
    }
}
