//! Which of all pairs is a model asked about, where it is asked about the nearest only?
//!
//! `JOIN b ON a.x = b.x AND sem_match('…{a.t}…{b.s}…', nearest => 10)` keeps, of each left row, the
//! pairs with the ten right rows whose texts are the most similar to its own, and has the model look at
//! these. Which they are depends on all that ON says, and on nothing that stands elsewhere: a condition
//! of WHERE, of a query around or of a view over it never makes another row one of the nearest.

use std::collections::BTreeSet;

use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::named_argument;
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Join, MAX_NEAREST, Nearest, Node, Scalar};
use crate::query::rewrite;

/// The rows that a model is asked about together with each left row.
#[derive(Clone, Debug)]
pub(super) struct Blocking {
    /// What the model says of a pair.
    pub(super) output: ColumnId,
    /// What the prompt names, of both sides.
    pub(super) arguments: Vec<Scalar>,
    pub(super) n: u64,
    pub(super) span: Span,
}

impl Binder<'_> {
    /// The value of `nearest => n`.
    pub(super) fn n_nearest(&mut self, function: &str, argument: &FunctionArg) -> Option<u64> {
        let given = match named_argument(argument) {
            Some((_, FunctionArgExpr::Expr(Expr::Value(literal)))) => match &literal.value {
                ast::Value::Number(digits, _) => digits.parse().ok(),
                _ => None,
            },
            _ => None,
        };
        let given = given.filter(|n| (1..=MAX_NEAREST).contains(n));
        if given.is_none() {
            let message = format!(
                "`{function}` takes `nearest => n`, a whole number from 1 to {MAX_NEAREST}, not `{argument}`"
            );
            self.error(message, argument.span());
        }
        given
    }

    /// The pairs of an inner join that are near each other; `plain` are the conditions of its ON that
    /// no model decides, `asking` those that one does, and `sides` the columns of both.
    pub(super) fn nearest(
        &mut self,
        join: Join,
        by: &Blocking,
        (plain, asking): (Vec<Scalar>, &[Scalar]),
        sides: &[BTreeSet<ColumnId>; 2],
    ) -> Option<Node> {
        let read_by = |condition: &&Scalar| condition.columns().contains(&by.output);
        let mut readers = asking.iter().filter(read_by);
        if !readers.all(|condition| *condition == Expression::Column(by.output)) {
            let message = "`sem_match` with `nearest` says which pairs there are: it stands in ON by itself, \
                           or joined to other conditions by AND";
            self.error(message, by.span);
            return None;
        }
        let [of_left, of_right] = sides;
        let (mut left, mut right, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for condition in plain {
            let columns = condition.columns();
            if columns.is_subset(of_left) {
                left.push(condition);
            } else if columns.is_subset(of_right) {
                right.push(condition);
            } else if let Some(key) = rewrite::key(&condition, of_left, of_right) {
                keys.push(key);
            } else {
                let message = "beside `nearest`, ON holds equalities of both sides and conditions on one of \
                               them; what else compares both stands in WHERE, and is asked of the nearest";
                self.error(message, by.span);
                return None;
            }
        }
        let named = |side: &BTreeSet<ColumnId>| -> Vec<Scalar> {
            let named = by.arguments.iter();
            let of_side = named.filter(|argument| argument.columns().is_subset(side));
            of_side.cloned().collect()
        };
        Some(Node::Nearest(Box::new(Nearest {
            left_texts: named(of_left),
            right_texts: named(of_right),
            left: join.left.filtered(left),
            right: join.right.filtered(right),
            keys,
            n: by.n,
        })))
    }
}
