//! Which bytes identify a query?
//!
//! Version 1. A tree is written from the root down: a number that says which node it is, its own
//! parts, then its inputs. Columns are numbered in the order in which a walk of the tree meets
//! their makers (see [`canonical`](crate::query::rewrite)), so that what a user calls them does
//! not count. The numbers below never change their meaning; a new node gets a new one.

use perennial_rows::encoding::Encoder;
use perennial_rows::Schema;

use crate::query::column::ColumnId;
use crate::query::expression::{Arithmetic, Comparison, Expression};
use crate::query::node::{Aggregate, AggregateFunction, JoinKind, Node, Scalar};

/// What is hashed, and its version.
const DIGEST_OF: &str = "perennial query 1";

/// The digest of a tree whose result has these columns.
pub(crate) fn digest(root: &Node, schema: &Schema) -> [u8; 32] {
    let mut encoder = Encoder::new();
    encoder.number(schema.columns().len() as u64);
    for column in schema.columns() {
        encoder.text(&column.name).text(&column.of.to_string());
    }
    node(&mut encoder, root);
    encoder.digest(DIGEST_OF)
}

fn ids(encoder: &mut Encoder, columns: &[ColumnId]) {
    encoder.number(columns.len() as u64);
    for id in columns {
        encoder.number(id.index() as u64);
    }
}

fn node(encoder: &mut Encoder, node_: &Node) {
    match node_ {
        Node::Scan(scan) => {
            encoder.number(1).text(&scan.relation);
            encoder.number(scan.columns.len() as u64);
            for (name, id) in &scan.columns {
                encoder.text(name).number(id.index() as u64);
            }
        }
        Node::Values { columns, rows } => {
            encoder.number(2);
            ids(encoder, columns);
            encoder.number(rows.len() as u64);
            for row in rows {
                encoder.values(row);
            }
        }
        Node::Project { input, columns } => {
            encoder.number(3);
            named(encoder, columns);
            node(encoder, input);
        }
        Node::Filter { input, predicate } => {
            encoder.number(4);
            scalars(encoder, predicate);
            node(encoder, input);
        }
        Node::Join(join) => {
            encoder.number(5).number(match join.kind {
                JoinKind::Inner => 1,
                JoinKind::Left => 2,
                JoinKind::Semi => 3,
                JoinKind::Anti => 4,
            });
            encoder.number(join.keys.len() as u64);
            for (left, right) in &join.keys {
                scalar(encoder, left);
                scalar(encoder, right);
            }
            scalars(encoder, &join.residual);
            node(encoder, &join.left);
            node(encoder, &join.right);
        }
        Node::Union { columns, inputs } => {
            encoder.number(6);
            ids(encoder, columns);
            encoder.number(inputs.len() as u64);
            for (input, columns) in inputs {
                ids(encoder, columns);
                node(encoder, input);
            }
        }
        Node::Distinct { input } => {
            encoder.number(7);
            node(encoder, input);
        }
        Node::Reduce {
            input,
            keys,
            aggregates,
        } => {
            encoder.number(8);
            named(encoder, keys);
            encoder.number(aggregates.len() as u64);
            for (id, aggregate_) in aggregates {
                encoder.number(id.index() as u64);
                aggregate(encoder, aggregate_);
            }
            node(encoder, input);
        }
        Node::Top {
            input,
            order,
            limit,
            offset,
        } => {
            encoder.number(9).number(order.len() as u64);
            for key in order {
                scalar(encoder, &key.by);
                encoder.number(key.is_descending.into());
                encoder.number(key.nulls_first.into());
            }
            encoder.number(limit.is_some().into());
            encoder.number(limit.unwrap_or(0)).number(*offset);
            node(encoder, input);
        }
    }
}

fn named(encoder: &mut Encoder, columns: &[(ColumnId, Scalar)]) {
    encoder.number(columns.len() as u64);
    for (id, expression) in columns {
        encoder.number(id.index() as u64);
        scalar(encoder, expression);
    }
}

fn aggregate(encoder: &mut Encoder, aggregate: &Aggregate) {
    encoder.number(match aggregate.function {
        AggregateFunction::Count => 1,
        AggregateFunction::Sum => 2,
        AggregateFunction::Min => 3,
        AggregateFunction::Max => 4,
        AggregateFunction::Avg => 5,
    });
    encoder.number(aggregate.is_distinct.into());
    encoder.number(aggregate.argument.is_some().into());
    if let Some(argument) = &aggregate.argument {
        scalar(encoder, argument);
    }
}

fn scalars(encoder: &mut Encoder, expressions: &[Scalar]) {
    encoder.number(expressions.len() as u64);
    for expression in expressions {
        scalar(encoder, expression);
    }
}

/// Each expression is its number, what is its own, and its parts behind their number.
pub(crate) fn scalar(encoder: &mut Encoder, expression: &Scalar) {
    match expression {
        Expression::Column(id) => encoder.number(1).number(id.index() as u64),
        Expression::Literal(value) => encoder.number(2).value(value),
        Expression::Not(_) => encoder.number(3),
        Expression::Negate(_) => encoder.number(4),
        Expression::IsNull(_) => encoder.number(5),
        Expression::Compare(how, ..) => encoder.number(6).number(match how {
            Comparison::Equal => 1,
            Comparison::Unequal => 2,
            Comparison::Less => 3,
            Comparison::AtMost => 4,
            Comparison::Greater => 5,
            Comparison::AtLeast => 6,
            Comparison::Distinct => 7,
            Comparison::NotDistinct => 8,
        }),
        Expression::Arithmetic(how, ..) => encoder.number(7).number(match how {
            Arithmetic::Add => 1,
            Arithmetic::Subtract => 2,
            Arithmetic::Multiply => 3,
            Arithmetic::Divide => 4,
            Arithmetic::Remainder => 5,
        }),
        Expression::And(_) => encoder.number(8),
        Expression::Or(_) => encoder.number(9),
        Expression::In(..) => encoder.number(10),
        Expression::Like {
            escape,
            is_case_blind,
            ..
        } => encoder
            .number(11)
            .number(escape.map_or(0, |c| u64::from(u32::from(c)) + 1))
            .number((*is_case_blind).into()),
        Expression::Case { .. } => encoder.number(12),
        Expression::Cast(_, to) => encoder.number(13).text(&to.to_string()),
        Expression::Call(function, _) => encoder.number(14).number(function.name().1),
    };
    let parts = expression.parts();
    encoder.number(parts.len() as u64);
    for part in parts {
        scalar(encoder, part);
    }
}
