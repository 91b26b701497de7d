//! Which rows does a model put first, shown two at a time?
//!
//! `ORDER BY sem_rank('Which {text} is more urgent?') LIMIT k` is an order that no column has: a node
//! below the SELECT list makes it, of as many rows as the limit keeps. Written in the list, too, it is
//! the place of the row, from 1.

use sqlparser::ast::{self, Expr, FunctionArg, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::{Question, SemFunction};
use crate::query::bind::expression::Place;
use crate::query::bind::order::SortBy;
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{MAX_PLACES, Node, Rank, Scalar, SortKey};

/// An order of rows by verdicts of a model.
#[derive(Clone)]
pub(super) struct Ranked {
    question: Question,
    arguments: Vec<Scalar>,
    n_places: u64,
    output: ColumnId,
    pub(super) span: Span,
}

impl<'q> Binder<'q> {
    /// What the first key of an order ranks by, if that is what it does: `Some(None)` if not, `None` if
    /// it was refused.
    pub(super) fn ranked(
        &mut self,
        place: Place<'_>,
        order: &'q [ast::OrderByExpr],
        n_rows: Option<u64>,
    ) -> Option<Option<Ranked>> {
        let function = SemFunction::Rank;
        let (key, call) = match order.first().map(|key| (key, &key.expr)) {
            Some((key, Expr::Function(call)))
                if SemFunction::named(&call.name.to_string()) == Some(function) =>
            {
                (key, call)
            }
            _ => return Some(None),
        };
        let (name, span) = (function.name(), call.name.span());
        let list = self.arguments(call)?;
        self.check_plain(call, list)?;
        if key.options.sort.is_some()
            || key.options.nulls_first.is_some()
            || key.with_fill.is_some()
        {
            let message =
                format!("`{name}` is an order: the first stands first, without ASC or DESC");
            self.error(message, span);
            return None;
        }
        let Some(n_places) = n_rows.filter(|n| *n <= MAX_PLACES) else {
            let message = format!(
                "`{name}` ranks the first rows: it needs a LIMIT, with OFFSET of at most {MAX_PLACES}"
            );
            self.error(message, span);
            return None;
        };
        let arguments: Vec<&FunctionArg> = list.args.iter().collect();
        let (question, arguments) = self.question(place, function, &arguments, span)?;
        let output = self.table.add(name, perennial_rows::Type::Integer);
        let ranked = Ranked {
            question,
            arguments,
            n_places,
            output,
            span,
        };
        self.asks.ranked = Some(ranked.clone());
        Some(Some(ranked))
    }

    /// The place of a row in the order that the SELECT at hand ranks by.
    pub(super) fn ranked_place(
        &mut self,
        place: Place<'_>,
        arguments: &[&'q FunctionArg],
        span: Span,
    ) -> Option<Scalar> {
        let function = SemFunction::Rank;
        let is_selected = place.clause == "SELECT";
        let Some(ranked) = self.asks.ranked.clone().filter(|_| is_selected) else {
            self.check_place(place, function, span)?;
            return None;
        };
        let (question, arguments) = self.question(place, function, arguments, span)?;
        if question != ranked.question || arguments != ranked.arguments {
            let message =
                "`sem_rank` in SELECT is the place in the order of ORDER BY; ask the same there";
            self.error(message, span);
            return None;
        }
        Some(Expression::Column(ranked.output))
    }
}

impl Ranked {
    /// The ranked rows of a node, and the key that they are sorted by. NULLs, which have no place, are
    /// last.
    pub(super) fn over(self, input: Node) -> ((SortBy, SortKey), Node) {
        let by = Expression::Column(self.output);
        let key = SortKey {
            by: by.clone(),
            is_descending: false,
            nulls_first: false,
        };
        let node = Node::Rank(Box::new(Rank {
            input,
            model: self.question.model,
            task: self.question.task,
            arguments: self.arguments,
            n_places: self.n_places,
            output: self.output,
        }));
        ((SortBy::Expression(by, self.span), key), node)
    }
}
