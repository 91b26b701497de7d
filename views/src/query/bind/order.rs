//! Which rows come first, and how many are kept?
//!
//! NULL is the least value: first when ascending, last when descending.

use sqlparser::ast::{self, Expr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::expression::{Place, place_of};
use crate::query::bind::items::Item;
use crate::query::bind::{Binder, Bound};
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Scalar, SortKey};

/// What a key of ORDER BY sorts by.
pub(super) enum SortBy {
    Item(usize),
    Expression(Scalar, Span),
}

impl<'q> Binder<'q> {
    pub(super) fn order_list(
        &mut self,
        order: Option<&'q ast::OrderBy>,
    ) -> Option<&'q [ast::OrderByExpr]> {
        let Some(order) = order else {
            return Some(&[]);
        };
        if order.interpolate.is_some() {
            self.refuse("INTERPOLATE", order.span());
            return None;
        }
        match &order.kind {
            ast::OrderByKind::Expressions(list) => Some(list),
            ast::OrderByKind::All(_) => {
                self.refuse("ORDER BY ALL", order.span());
                None
            }
        }
    }

    /// LIMIT and OFFSET.
    pub(super) fn limit(
        &mut self,
        clause: Option<&'q ast::LimitClause>,
    ) -> Option<(Option<u64>, u64)> {
        match clause {
            None => Some((None, 0)),
            Some(ast::LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) => {
                if !limit_by.is_empty() {
                    self.refuse("LIMIT BY", clause.map_or(Span::empty(), Spanned::span));
                    return None;
                }
                let limit = match limit {
                    None => Some(None),
                    Some(limit) => self.count(limit, "LIMIT").map(Some),
                };
                let offset = match offset {
                    None => Some(0),
                    Some(offset) => self.count(&offset.value, "OFFSET"),
                };
                limit.zip(offset)
            }
            Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => {
                let limit = self.count(limit, "LIMIT");
                let offset = self.count(offset, "OFFSET");
                Some((Some(limit?), offset?))
            }
        }
    }

    fn count(&mut self, expr: &Expr, clause: &str) -> Option<u64> {
        if let Expr::Value(literal) = expr
            && let ast::Value::Number(digits, _) = &literal.value
            && let Ok(count) = digits.parse()
        {
            return Some(count);
        }
        self.error(
            format!("{clause} takes a whole number of rows"),
            place_of(expr),
        );
        None
    }

    /// What ORDER BY sorts by: a column of the result by name or number, or an expression.
    pub(super) fn sort_keys(
        &mut self,
        place: Place<'_>,
        order: &'q [ast::OrderByExpr],
        items: Option<&[Item]>,
    ) -> Option<Vec<(SortBy, SortKey)>> {
        let mut keys: Option<Vec<(SortBy, SortKey)>> = Some(Vec::new());
        for key in order {
            let options = self.sort_options(key);
            let by = match items {
                Some(items) => match self.item_meant(&key.expr, items, "ORDER BY") {
                    Some(at) => at.map(SortBy::Item),
                    None => {
                        let bound = self.scalar(place, &key.expr);
                        bound.map(|bound| SortBy::Expression(bound, place_of(&key.expr)))
                    }
                },
                None => None,
            };
            keys = keys.zip(by.zip(options)).map(|(mut keys, key)| {
                keys.push(key);
                keys
            });
        }
        keys
    }

    /// Direction and place of NULLs. NULL is the least value: first when ascending.
    fn sort_options(&mut self, key: &ast::OrderByExpr) -> Option<SortKey> {
        if key.with_fill.is_some() {
            self.refuse("WITH FILL", key.span());
            return None;
        }
        let is_descending = match &key.options.sort {
            None | Some(ast::OrderBySort::Asc) => false,
            Some(ast::OrderBySort::Desc) => true,
            Some(ast::OrderBySort::Using(_)) => {
                self.refuse("ORDER BY … USING", key.span());
                return None;
            }
        };
        Some(SortKey {
            by: Expression::literal(true),
            is_descending,
            nulls_first: key.options.nulls_first.unwrap_or(!is_descending),
        })
    }

    /// A bound set operation, sorted by columns of its result.
    pub(super) fn sorted(&mut self, bound: Bound, order: &'q [ast::OrderByExpr]) -> Option<Bound> {
        let items: Vec<Item> = bound
            .outputs
            .iter()
            .map(|output| Item {
                name: output.name.clone(),
                is_generated: false,
                expression: Expression::Column(output.id),
                span: output.span,
            })
            .collect();
        let mut sort = Vec::new();
        for key in order {
            let options = self.sort_options(key)?;
            let Some(at) = self.item_meant(&key.expr, &items, "ORDER BY") else {
                let message = "ORDER BY of a UNION or VALUES takes names or numbers of its columns";
                self.error(message, place_of(&key.expr));
                return None;
            };
            sort.push(SortKey {
                by: items[at?].expression.clone(),
                ..options
            });
        }
        Some(Bound { sort, ..bound })
    }
}

/// An order in which rows that are shown alike are alike.
pub(super) fn with_ties_broken(sort: &[SortKey], outputs: &[ColumnId]) -> Vec<SortKey> {
    let mut order = sort.to_vec();
    for id in outputs {
        let by = Expression::Column(*id);
        if order.iter().all(|key| key.by != by) {
            order.push(SortKey {
                by,
                is_descending: false,
                nulls_first: true,
            });
        }
    }
    order
}
