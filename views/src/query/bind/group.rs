//! Which rows make a group, and what may be said of one?

use std::collections::BTreeSet;

use sqlparser::ast::{self, Expr, GroupByExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask_groups::GroupedRows;
use crate::query::bind::expression::{Place, place_of};
use crate::query::bind::items::Item;
use crate::query::bind::order::SortBy;
use crate::query::bind::scope::is_name;
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Node, Scalar, SortKey};

impl<'q> Binder<'q> {
    /// What GROUP BY groups by: expressions, or items of the SELECT list by number or, where no
    /// column has it, by alias.
    pub(super) fn group_keys(
        &mut self,
        place: Place<'_>,
        select: &'q ast::Select,
        items: Option<&[Item]>,
    ) -> Option<Vec<Scalar>> {
        let list = match &select.group_by {
            GroupByExpr::Expressions(list, modifiers) if modifiers.is_empty() => list,
            GroupByExpr::Expressions(..) => {
                self.refuse(
                    "ROLLUP, CUBE or TOTALS after GROUP BY",
                    select.group_by.span(),
                );
                return None;
            }
            GroupByExpr::All(_) => {
                self.refuse("GROUP BY ALL", select.group_by.span());
                return None;
            }
        };
        let mut keys: Option<Vec<Scalar>> = Some(Vec::new());
        for expr in list {
            let key = self.group_key(place, expr, items);
            keys = keys.zip(key).map(|(mut keys, key)| {
                if !keys.contains(&key) {
                    keys.push(key);
                }
                keys
            });
        }
        keys
    }

    fn group_key(
        &mut self,
        place: Place<'_>,
        expr: &'q Expr,
        items: Option<&[Item]>,
    ) -> Option<Scalar> {
        let refused = match expr {
            Expr::GroupingSets(_) => Some("GROUPING SETS"),
            Expr::Cube(_) => Some("CUBE"),
            Expr::Rollup(_) => Some("ROLLUP"),
            _ => None,
        };
        if let Some(what) = refused {
            self.refuse(what, place_of(expr));
            return None;
        }
        let is_column = match expr {
            Expr::Identifier(name) => place.scope.tables.iter().any(|table| {
                let columns = self.columns_of(table);
                columns.iter().any(|(known, _)| is_name(name, known))
            }),
            _ => false,
        };
        if !is_column
            && let Some(items) = items
            && let Some(at) = self.item_meant(expr, items, "GROUP BY")
        {
            let item = items[at?].clone();
            let columns = item.expression.columns();
            if columns.iter().any(|id| self.is_aggregate(*id)) {
                self.error("GROUP BY cannot group by an aggregate", place_of(expr));
                return None;
            }
            return Some(item.expression);
        }
        self.scalar(place, expr)
    }

    /// The groups of a node, and where a model is asked about them the rows that they are of; what
    /// stands after them refers to keys and aggregates from here on.
    pub(super) fn grouped(
        &mut self,
        node: Node,
        keys: Vec<Scalar>,
        items: &mut [Item],
        sort: &mut [(SortBy, SortKey)],
        having: &mut [(Scalar, Span)],
    ) -> Option<(Node, Option<GroupedRows>)> {
        let mut named: Vec<(ColumnId, Scalar)> = Vec::new();
        for key in keys {
            let name = match &key {
                Expression::Column(id) => self.table.name(*id).clone(),
                _ => "key".into(),
            };
            let of = self.of(&key);
            named.push((self.table.add(name, of), key));
        }
        // What keys and aggregates read is asked of rows; all else of groups.
        let of_rows = {
            let arguments = self
                .aggregates
                .iter()
                .filter_map(|(_, a)| a.argument.as_ref());
            let asked = self.asked_groups.iter().flat_map(|ask| &ask.arguments);
            let read = named.iter().map(|(_, key)| key);
            let read = read.chain(arguments).chain(asked);
            let read: BTreeSet<ColumnId> = read.flat_map(Scalar::columns).collect();
            self.asks.take(|id| read.contains(&id))
        };
        let node = self.place(node, of_rows);
        let sorted = sort.iter_mut().filter_map(|(by, _)| match by {
            SortBy::Item(_) => None,
            SortBy::Expression(expression, span) => Some((expression, *span)),
        });
        let expressions = items
            .iter_mut()
            .map(|item| (&mut item.expression, item.span));
        let having = having
            .iter_mut()
            .map(|(condition, span)| (condition, *span));
        let mut is_valid = true;
        for (expression, span) in expressions.chain(having).chain(sorted) {
            is_valid &= self.say_of_group(expression, &named, span);
        }
        // About groups, a prompt may name what a group has.
        let mut arguments: Vec<Scalar> = self.pending_arguments().map(|a| a.clone()).collect();
        for argument in &mut arguments {
            is_valid &= self.say_of_group(argument, &named, Span::empty());
        }
        for (slot, argument) in self.pending_arguments().zip(arguments) {
            *slot = argument;
        }
        if !is_valid {
            return None;
        }
        let rows = (!self.asked_groups.is_empty()).then(|| GroupedRows {
            rows: node.clone(),
            keys: named.clone(),
        });
        let groups = Node::Reduce {
            input: Box::new(node),
            keys: named,
            aggregates: self.aggregates.clone(),
        };
        Some((groups, rows))
    }

    /// Whether a column is made by an aggregate of the SELECT at hand.
    fn is_aggregate(&self, id: ColumnId) -> bool {
        let mut aggregates = self.aggregates.iter().map(|(id, _)| *id);
        let mut asked = self.asked_groups.iter().map(|ask| ask.output);
        aggregates.any(|made| made == id) || asked.any(|made| made == id)
    }

    /// Makes an expression one over the columns of a group; tells what cannot be said of one, and
    /// whether all can.
    fn say_of_group(
        &mut self,
        expression: &mut Scalar,
        keys: &[(ColumnId, Scalar)],
        span: Span,
    ) -> bool {
        let mut strays = Vec::new();
        *expression = self.of_group(expression, keys, &mut strays);
        // A question that rows are asked is another one of groups.
        strays.retain(|stray| match self.asked_again(*stray) {
            Some(again) => {
                *expression = expression
                    .substitute(|id| Expression::Column(if id == stray { again } else { *id }));
                false
            }
            None => true,
        });
        let Some(stray) = strays.first() else {
            return true;
        };
        let used = self.uses.iter().find(|(id, _)| id == stray);
        let span = used.map_or(span, |(_, span)| *span);
        let message = format!(
            "`{}` is not the same for all rows of a group; add it to GROUP BY, or put it into an \
             aggregate",
            self.table.name(*stray)
        );
        self.error(message, span);
        false
    }

    /// An expression over the columns of a group. What is no key and no aggregate is a stray.
    fn of_group(
        &self,
        expression: &Scalar,
        keys: &[(ColumnId, Scalar)],
        strays: &mut Vec<ColumnId>,
    ) -> Scalar {
        if let Some((id, _)) = keys.iter().find(|(_, key)| key == expression) {
            return Expression::Column(*id);
        }
        match expression.rebuilt(&mut |part| self.of_group(part, keys, strays)) {
            Ok(rebuilt) => rebuilt,
            Err(column) => {
                if !self.is_aggregate(*column) && !self.asks.is_pending(*column) {
                    strays.push(*column);
                }
                Expression::Column(*column)
            }
        }
    }
}
