//! Which functions stand in FROM, and what do they take?
//!
//! Each takes relations by name, or as a subquery: `pagerank(edges => links, seeds => (SELECT …))`. What it
//! makes is a table as any other; it may have an alias, and other names for its columns.

use std::sync::Arc;

use perennial_rows::Type;
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Ident, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::{named_argument, take_named};
use crate::query::bind::error::did_you_mean;
use crate::query::bind::from::{Tables, refused_table};
use crate::query::bind::scope::{Scope, ScopeTable, Source, is_name};
use crate::query::column::ColumnId;
use crate::query::node::Node;

/// What stands in FROM with arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TableFunction {
    PageRank,
    Top,
}

impl TableFunction {
    const ALL: [(&'static str, Self); 2] = [("pagerank", Self::PageRank), ("top", Self::Top)];

    fn named(name: &str) -> Option<(&'static str, Self)> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

/// The arguments of a function in FROM.
pub(super) struct Arguments<'q> {
    pub(super) function: &'static str,
    /// Where the function is named.
    pub(super) span: Span,
    left: Vec<&'q FunctionArg>,
}

impl<'q> Binder<'q> {
    /// The table that a function makes.
    pub(super) fn table_function(
        &mut self,
        name: &'q ast::ObjectName,
        args: &'q ast::TableFunctionArgs,
        alias: Option<&'q ast::TableAlias>,
    ) -> Tables {
        let (span, written) = (name.span(), name.to_string());
        let called = alias.map_or(&*written, |alias| &*alias.name.value);
        let refused = || (None, vec![refused_table(called)]);
        let Some((function, which)) = TableFunction::named(&written) else {
            let known = TableFunction::ALL.iter().map(|(name, _)| *name);
            let hint = did_you_mean(&written, known);
            self.error(
                format!("there is no function `{written}` that makes a table{hint}"),
                span,
            );
            return refused();
        };
        if args.settings.is_some() {
            self.refuse(&format!("SETTINGS in `{function}`"), span);
            return refused();
        }
        let arguments = Arguments {
            function,
            span,
            left: args.args.iter().collect(),
        };
        let made = match which {
            TableFunction::PageRank => self
                .page_rank(arguments)
                .map(|bound| self.derived(Some(bound), called, alias)),
            TableFunction::Top => self.top_of_each(arguments, called, alias),
        };
        made.unwrap_or_else(refused)
    }

    /// The relation of `name => relation`, and its columns.
    pub(super) fn relation_argument(
        &mut self,
        arguments: &mut Arguments<'q>,
        name: &str,
    ) -> Option<(Node, ScopeTable, Span)> {
        let function = arguments.function;
        let Some(argument) = arguments.take(name) else {
            let message =
                format!("`{function}` takes `{name} => a table or a query in parentheses`");
            self.error(message, arguments.span);
            return None;
        };
        self.count_tables(1)?;
        let (node, tables) = match named_argument(argument) {
            Some((_, FunctionArgExpr::Expr(Expr::Identifier(ident)))) => {
                self.named_table(ident, None)
            }
            Some((_, FunctionArgExpr::Expr(Expr::Subquery(query)))) => {
                let bound = self.query(query);
                self.derived(bound, name, None)
            }
            _ => {
                let message = format!(
                    "`{function}` takes `{name} => a table or a query in parentheses`, not `{argument}`"
                );
                self.error(message, argument.span());
                return None;
            }
        };
        let table = tables.into_iter().next()?;
        Some((node?, table, argument.span()))
    }

    /// The columns of `name => column` or `name => (column, …)`; none where it is left out.
    pub(super) fn columns_argument(
        &mut self,
        arguments: &mut Arguments<'q>,
        name: &str,
        table: &ScopeTable,
    ) -> Option<Vec<(Ident, ColumnId)>> {
        let Some(argument) = arguments.take(name) else {
            return Some(Vec::new());
        };
        let listed: Option<Vec<&Ident>> = match named_argument(argument) {
            Some((_, FunctionArgExpr::Expr(Expr::Tuple(list)))) => {
                list.iter().map(identifier).collect()
            }
            Some((_, FunctionArgExpr::Expr(expr))) => identifier(expr).map(|ident| vec![ident]),
            _ => None,
        };
        let Some(listed) = listed else {
            let function = arguments.function;
            let message = format!(
                "`{function}` takes `{name} => column` or `{name} => (column, …)`, not `{argument}`"
            );
            self.error(message, argument.span());
            return None;
        };
        let scope = Scope {
            tables: vec![table.clone()],
        };
        let bound = listed.into_iter().map(|ident| {
            let id = self.column(&scope, None, None, ident)?;
            Some((ident.clone(), id))
        });
        bound.collect::<Vec<_>>().into_iter().collect()
    }

    /// A column of a relation by a name that it must have.
    pub(super) fn required_column(
        &mut self,
        table: &ScopeTable,
        name: &str,
        span: Span,
    ) -> Option<ColumnId> {
        let scope = Scope {
            tables: vec![table.clone()],
        };
        self.column(&scope, None, None, &Ident::with_span(span, name))
    }

    /// A column of a relation by a name that it may have; what is not declared may have it in some rows.
    pub(super) fn optional_column(
        &mut self,
        table: &ScopeTable,
        name: &str,
        span: Span,
    ) -> Option<ColumnId> {
        let ident = Ident::with_span(span, name);
        let columns = self.columns_of(table);
        let is_declared = columns.iter().any(|(known, _)| is_name(&ident, known));
        let is_open = match table.source {
            Source::Scan(scan) => self.scans[scan].is_open,
            _ => false,
        };
        match is_declared || is_open {
            true => self.required_column(table, name, span),
            false => None,
        }
    }

    /// The number of `name => x`, if it is one that is allowed; `unless_told` where it is left out.
    pub(super) fn number_argument(
        &mut self,
        arguments: &mut Arguments<'q>,
        name: &str,
        unless_told: Option<f64>,
        (allowed, is_allowed): (&str, impl Fn(f64) -> bool),
    ) -> Option<f64> {
        let function = arguments.function;
        let takes = format!("`{function}` takes `{name} => x`, {allowed}");
        let Some(argument) = arguments.take(name) else {
            if unless_told.is_none() {
                self.error(takes, arguments.span);
            }
            return unless_told;
        };
        let given = match named_argument(argument) {
            Some((_, FunctionArgExpr::Expr(Expr::Value(literal)))) => match &literal.value {
                ast::Value::Number(digits, _) => digits.parse::<f64>().ok(),
                _ => None,
            },
            _ => None,
        };
        let given = given.filter(|given| is_allowed(*given));
        if given.is_none() {
            self.error(format!("{takes}, not `{argument}`"), argument.span());
        }
        given
    }

    /// Says what arguments are none of a function's.
    pub(super) fn no_more(&mut self, arguments: &Arguments<'q>, takes: &str) -> Option<()> {
        let Some(argument) = arguments.left.first() else {
            return Some(());
        };
        let message = format!("`{}` takes {takes}, not `{argument}`", arguments.function);
        self.error(message, argument.span());
        None
    }

    /// Whether a column may hold weights; says so if not.
    pub(super) fn check_weight(&mut self, column: Option<ColumnId>, span: Span) -> Option<()> {
        let of = column.map(|id| self.table.of(id));
        match of {
            None | Some(Type::Integer | Type::Any) => Some(()),
            Some(of) => {
                let message = format!(
                    "`weight` is INTEGER, not {of}; CAST(round(1000 * x) AS INTEGER) makes one of a share"
                );
                self.error(message, span);
                None
            }
        }
    }
}

impl<'q> Arguments<'q> {
    /// The argument of this name, which is then no more among those that are left.
    pub(super) fn take(&mut self, name: &str) -> Option<&'q FunctionArg> {
        let (found, left) = take_named(&self.left, name);
        self.left = left;
        found
    }
}

fn identifier(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident),
        Expr::Nested(inner) => identifier(inner),
        _ => None,
    }
}

/// A name as the result has it.
pub(super) fn name_of(ident: &Ident) -> Arc<str> {
    ident.value.as_str().into()
}
