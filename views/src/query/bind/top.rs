//! Which rows of each group stand first?
//!
//! `top(rows => scored, n => 3, per => question, by => score)` in FROM has, of each question, the three rows
//! with the greatest scores, with all columns of `scored`. What LIMIT is to a query this is to its groups.

use sqlparser::ast::{self, FunctionArgExpr, Spanned};

use crate::query::bind::Binder;
use crate::query::bind::ask::named_argument;
use crate::query::bind::expression::{AsksAbout, Place};
use crate::query::bind::from::Tables;
use crate::query::bind::order::with_ties_broken;
use crate::query::bind::scope::{Scope, ScopeTable};
use crate::query::bind::table_function::Arguments;
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Node, SortKey};

/// Most rows of a group.
const MAX_OF_EACH: f64 = 1_000_000.0;

impl<'q> Binder<'q> {
    /// The table that a call makes, by its arguments.
    pub(super) fn top_of_each(
        &mut self,
        mut arguments: Arguments<'q>,
        called: &str,
        alias: Option<&'q ast::TableAlias>,
    ) -> Option<Tables> {
        let function = arguments.function;
        let rows = self.relation_argument(&mut arguments, "rows");
        let n = self.number_argument(
            &mut arguments,
            "n",
            None,
            ("a whole number of rows, 1 or more", |x: f64| {
                x.fract() == 0.0 && (1.0..=MAX_OF_EACH).contains(&x)
            }),
        );
        let (rows, table, _) = rows?;
        let per = self.columns_argument(&mut arguments, "per", &table)?;
        if per.is_empty() {
            let message = format!(
                "`{function}` takes `per => column`: of which rows the first are wanted; of all, write \
                 ORDER BY … LIMIT"
            );
            self.error(message, arguments.span);
            return None;
        }
        let Some(by) = arguments.take("by") else {
            let message = format!("`{function}` takes `by => x`: the greatest stand first");
            self.error(message, arguments.span);
            return None;
        };
        self.no_more(&arguments, "`rows`, `n`, `per` and `by`")?;
        let scope = Scope {
            tables: vec![table.clone()],
        };
        let place = Place {
            scope: &scope,
            outer: None,
            clause: "`top`",
            allows_aggregates: false,
            asks: AsksAbout::Nothing,
        };
        let Some((_, FunctionArgExpr::Expr(expr))) = named_argument(by) else {
            self.error(
                format!("`{function}` takes `by => x`, not `{by}`"),
                by.span(),
            );
            return None;
        };
        let by = self.scalar(place, expr);
        let (n, by) = (n?, by?);
        if alias.is_some_and(|alias| !alias.columns.is_empty()) {
            let span = arguments.span;
            self.refuse(
                "other names for the columns of `top` (use SELECT … AS)",
                span,
            );
            return None;
        }
        let columns = self.columns_of(&table).into_iter();
        let columns: Vec<ColumnId> = columns.map(|(_, id)| id).collect();
        let first = SortKey {
            by,
            is_descending: true,
            nulls_first: false,
        };
        let keys = per.into_iter().map(|(_, id)| Expression::Column(id));
        let node = Node::Top {
            input: Box::new(rows),
            keys: keys.collect(),
            order: with_ties_broken(&[first], &columns),
            limit: Some(n as u64),
            offset: 0,
        };
        let table = ScopeTable {
            alias: called.into(),
            ..table
        };
        Some((Some(node), vec![table]))
    }
}
