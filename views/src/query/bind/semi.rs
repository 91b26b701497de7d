//! Which rows does WHERE keep, by conditions and by what other queries hold?
//!
//! `EXISTS (SELECT …)` and `x IN (SELECT …)` become semijoins, their negations antijoins. A
//! subquery may name columns of the query around it in its own WHERE: those conditions become the
//! join's.
//!
//! `x NOT IN (SELECT y …)` is true if `x = y` is false for every row. So a NULL on either side
//! keeps nothing, unless the subquery is empty. That is two antijoins: one by key, and one
//! against whether a `y` is NULL, of which there are at most two rows.

use sqlparser::ast::{self, Expr, GroupByExpr, InTarget, SetExpr, UnaryOperator};
use sqlparser::tokenizer::Span;

use perennial_rows::Type;

use crate::query::bind::Binder;
use crate::query::bind::expression::{AsksAbout, Place, operands, place_of};
use crate::query::bind::scope::Scope;
use crate::query::expression::{Comparison, Expression};
use crate::query::functions::Function;
use crate::query::node::{Join, JoinKind, Node, Scalar};

/// A subquery in a condition.
struct Subquery {
    node: Node,
    /// Conditions that name columns of the query around it.
    lifted: Vec<Scalar>,
    selected: Vec<(Scalar, Span)>,
}

impl<'q> Binder<'q> {
    /// The rows of a node that WHERE keeps; beside them the conditions that name columns of the
    /// query around, which are its to keep.
    pub(super) fn filtered(
        &mut self,
        node: Option<Node>,
        selection: Option<&'q Expr>,
        scope: &Scope,
        outer: Option<&Scope>,
    ) -> (Option<Node>, Vec<Scalar>) {
        let place = Place {
            scope,
            outer,
            clause: "WHERE",
            allows_aggregates: false,
            asks: AsksAbout::Rows,
        };
        let mut parts = Vec::new();
        if let Some(selection) = selection {
            split(selection, &mut parts);
        }
        let (mut own, mut lifted, mut is_refused) = (Vec::new(), Vec::new(), false);
        let mut joins = Vec::new();
        for part in parts {
            match positive(part) {
                (Expr::Exists { subquery, negated }, is_negated) => {
                    joins.push((part, None, &**subquery, *negated != is_negated));
                }
                (
                    Expr::In {
                        expr,
                        target: InTarget::Subquery(subquery),
                        negated,
                        global: false,
                    },
                    is_negated,
                ) => joins.push((part, Some(&**expr), &**subquery, *negated != is_negated)),
                _ => {
                    let before = std::mem::replace(&mut self.uses_outer, false);
                    match self.condition(place, part) {
                        None => is_refused = true,
                        Some(condition) if self.uses_outer => lifted.push(condition),
                        Some(condition) => own.push(condition),
                    }
                    self.uses_outer = before;
                }
            }
        }
        // Conditions that a model decides come behind all others, also those that are joins.
        let (asking, cheap): (Vec<_>, Vec<_>) = own.into_iter().partition(|condition| {
            let mut columns = condition.columns().into_iter();
            columns.any(|id| self.asks.is_pending(id))
        });
        let mut node = node
            .filter(|_| !is_refused)
            .map(|node| node.filtered(cheap));
        for (part, value, subquery, is_negated) in joins {
            let joined = match value {
                None => self.exists(node.clone(), scope, subquery, is_negated),
                Some(value) => self.is_in(
                    node.clone(),
                    place,
                    (value, place_of(part)),
                    subquery,
                    is_negated,
                ),
            };
            node = node.and(joined);
        }
        let node = node.map(|node| self.asked_and_filtered(node, asking));
        (node, lifted)
    }

    fn exists(
        &mut self,
        left: Option<Node>,
        scope: &Scope,
        subquery: &'q ast::Query,
        is_negated: bool,
    ) -> Option<Node> {
        let subquery = self.subquery(subquery, scope)?;
        let kind = if is_negated {
            JoinKind::Anti
        } else {
            JoinKind::Semi
        };
        Some(join(kind, left?, subquery.node, subquery.lifted))
    }

    fn is_in(
        &mut self,
        left: Option<Node>,
        place: Place<'_>,
        (value, span): (&'q Expr, Span),
        subquery: &'q ast::Query,
        is_negated: bool,
    ) -> Option<Node> {
        let before = std::mem::replace(&mut self.uses_outer, false);
        let bound = self.scalar(place, value);
        // The join reads it: what it asks of a model is asked below.
        let read = bound.as_ref().map(Scalar::columns).unwrap_or_default();
        let asked = self.asks.take(|id| read.contains(&id));
        let left = left.map(|left| self.place(left, asked));
        let uses_outer = std::mem::replace(&mut self.uses_outer, before);
        if uses_outer {
            self.refuse("IN with a column of the query around on its left", span);
            return None;
        }
        let (selected, equal) = {
            let selected = self.subquery(subquery, place.scope);
            let (bound, selected) = bound.clone().zip(selected)?;
            let equal = self.equals_selected(bound, &selected, span)?;
            (selected, equal)
        };
        if !is_negated {
            let mut condition = selected.lifted;
            condition.push(equal);
            return Some(join(JoinKind::Semi, left?, selected.node, condition));
        }
        if !selected.lifted.is_empty() {
            let unless_false =
                Expression::Call(Function::Coalesce, vec![equal, Expression::literal(true)]);
            let mut condition = selected.lifted;
            condition.push(unless_false);
            return Some(join(JoinKind::Anti, left?, selected.node, condition));
        }
        let without_equal = join(JoinKind::Anti, left?, selected.node, vec![equal]);
        // Bound anew, since every column has one maker.
        let again = self.subquery(subquery, place.scope)?;
        let (item, _) = again.selected.into_iter().next()?;
        let is_null = self.table.add("is_null", Type::Boolean);
        let nulls = Node::Distinct {
            input: Box::new(Node::Project {
                input: Box::new(again.node),
                columns: vec![(is_null, Expression::IsNull(Box::new(item)))],
            }),
        };
        let unknown = Expression::Or(vec![
            Expression::IsNull(Box::new(bound?)),
            Expression::Column(is_null),
        ]);
        Some(join(JoinKind::Anti, without_equal, nulls, vec![unknown]))
    }

    fn equals_selected(
        &mut self,
        value: Scalar,
        subquery: &Subquery,
        span: Span,
    ) -> Option<Scalar> {
        let [(item, item_span)] = &subquery.selected[..] else {
            let message = format!(
                "the subquery of IN selects {} columns; it must select one",
                subquery.selected.len()
            );
            self.error(message, span);
            return None;
        };
        self.compared(Comparison::Equal, value, item.clone(), *item_span)
    }

    /// A subquery whose rows are asked for. A plain SELECT may name columns of the query around
    /// it; any other stands for itself.
    fn subquery(&mut self, query: &'q ast::Query, outer: &Scope) -> Option<Subquery> {
        if let Some(select) = plain_select(query) {
            let aggregates = std::mem::take(&mut self.aggregates);
            let asked_groups = std::mem::take(&mut self.asked_groups);
            let asks = std::mem::take(&mut self.asks);
            let plain = self.nested(|binder| Some(binder.plain_subquery(select, outer)));
            let has_aggregates = !self.aggregates.is_empty() || !self.asked_groups.is_empty();
            self.aggregates = aggregates;
            self.asked_groups = asked_groups;
            self.asks = asks;
            if !has_aggregates {
                return plain?;
            }
        }
        let bound = self.query(query)?;
        let outputs = bound.outputs.into_iter();
        let selected = outputs.map(|output| (Expression::Column(output.id), output.span));
        Some(Subquery {
            node: bound.node,
            lifted: Vec::new(),
            selected: selected.collect(),
        })
    }

    fn plain_subquery(&mut self, select: &'q ast::Select, outer: &Scope) -> Option<Subquery> {
        let is_refused = self.refuse_select(select);
        let (node, scope) = self.from(&select.from);
        let (node, lifted) = self.filtered(node, select.selection.as_ref(), &scope, Some(outer));
        let place = Place {
            scope: &scope,
            outer: None,
            clause: "SELECT",
            allows_aggregates: true,
            asks: AsksAbout::Rows,
        };
        let items = self.items(place, &select.projection)?;
        if is_refused {
            return None;
        }
        let selected = items.into_iter().map(|item| (item.expression, item.span));
        Some(Subquery {
            node: self.asked(node?),
            lifted,
            selected: selected.collect(),
        })
    }
}

/// The SELECT that a query is, if it is nothing more: each of its rows comes from one of FROM.
fn plain_select(query: &ast::Query) -> Option<&ast::Select> {
    let SetExpr::Select(select) = &*query.body else {
        return None;
    };
    let is_bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    let is_ungrouped = match &select.group_by {
        GroupByExpr::Expressions(list, modifiers) => list.is_empty() && modifiers.is_empty(),
        GroupByExpr::All(_) => false,
    };
    (is_bare && is_ungrouped && select.having.is_none()).then_some(select)
}

fn join(kind: JoinKind, left: Node, right: Node, residual: Vec<Scalar>) -> Node {
    Node::Join(Box::new(Join {
        kind,
        left,
        right,
        keys: Vec::new(),
        residual,
    }))
}

/// The conditions that AND joins.
fn split<'q>(condition: &'q Expr, parts: &mut Vec<&'q Expr>) {
    match condition {
        Expr::Nested(inner) => split(inner, parts),
        Expr::BinaryOp { op, .. } if *op == ast::BinaryOperator::And => {
            for operand in operands(op, condition) {
                split(operand, parts);
            }
        }
        other => parts.push(other),
    }
}

/// A condition without the NOTs before it, and whether they negate it.
fn positive(condition: &Expr) -> (&Expr, bool) {
    let (mut inner, mut is_negated) = (condition, false);
    loop {
        match inner {
            Expr::Nested(nested) => inner = nested,
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => (inner, is_negated) = (expr, !is_negated),
            other => return (other, is_negated),
        }
    }
}
