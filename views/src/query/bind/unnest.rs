//! Which rows does a list become?
//!
//! `unnest(tags)` in SELECT is one element of a list, and makes the row stand once for each: as often as
//! the list has elements, and not at all where it has none. It is done last, behind WHERE and behind all that
//! a model is asked about the row. `sem_extract_all` makes rows of what a model reads out of a text the same way.

use perennial_rows::Type;
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::expression::{Place, place_of};
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Node, Scalar};

/// The list that makes rows of the SELECT at hand.
pub(super) struct Unnested {
    list: Scalar,
    output: ColumnId,
    span: Span,
}

impl<'q> Binder<'q> {
    /// A call of `unnest`.
    pub(super) fn unnest(
        &mut self,
        place: Place<'_>,
        call: &'q ast::Function,
        list: &'q ast::FunctionArgumentList,
        span: Span,
    ) -> Option<Scalar> {
        self.check_plain(call, list)?;
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = &list.args[..] else {
            self.error("`unnest` takes one list: unnest(tags)", span);
            return None;
        };
        let inner = Place {
            clause: "`unnest`",
            allows_aggregates: false,
            ..place
        };
        let bound = self.scalar(inner, argument)?;
        match self.of(&bound) {
            Type::Json | Type::Any => self.element(place, "unnest", bound, span),
            of => {
                self.error(format!("`unnest` takes JSON, not {of}"), place_of(argument));
                None
            }
        }
    }

    /// An element of a list, of which each is in a row of its own.
    pub(super) fn element(
        &mut self,
        place: Place<'_>,
        function: &str,
        list: Scalar,
        span: Span,
    ) -> Option<Scalar> {
        if place.clause != "SELECT" {
            let message = format!(
                "`{function}` makes rows, and stands in SELECT, not in {}; read it in a query around",
                place.clause
            );
            self.error(message, span);
            return None;
        }
        match &self.unnested {
            Some(known) if known.list == list => {}
            Some(_) => {
                let message = format!(
                    "a second list in one SELECT; write `{function}` in a query around this one"
                );
                self.error(message, span);
                return None;
            }
            None => {
                let output = self.table.add(function, Type::Any);
                self.unnested = Some(Unnested { list, output, span });
            }
        }
        let output = self.unnested.as_ref().map(|known| known.output)?;
        Some(Expression::Column(output))
    }

    /// Says that rows are not made where groups are, or places.
    pub(super) fn check_not_unnested(&mut self, what: &str) -> Option<()> {
        let Some(unnested) = &self.unnested else {
            return Some(());
        };
        let name = self.table.name(unnested.output);
        let message = format!("`{name}` makes rows beside {what}; make them in a query below");
        let span = unnested.span;
        self.error(message, span);
        None
    }

    /// The rows that the SELECT's list makes of a node's.
    pub(super) fn place_unnested(&mut self, node: Node) -> Node {
        match self.unnested.take() {
            None => node,
            Some(Unnested { list, output, .. }) => Node::Unnest {
                input: Box::new(node),
                list,
                output,
            },
        }
    }
}
