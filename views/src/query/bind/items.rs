//! Which columns does a SELECT list name?

use std::sync::Arc;

use sqlparser::ast::{self, Expr, SelectItem, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::SemFunction;
use crate::query::bind::expression::{Place, place_of};
use crate::query::bind::extract::extraction;
use crate::query::bind::scope::{Scope, Source, is_name};
use crate::query::expression::Expression;
use crate::query::node::Scalar;

/// One expression of a SELECT list.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: Arc<str>,
    /// Whether the name was made here, and may be changed.
    pub(super) is_generated: bool,
    pub(super) expression: Scalar,
    pub(super) span: Span,
}

impl<'q> Binder<'q> {
    /// The expressions of a SELECT list; `None` if one was refused.
    pub(super) fn items(
        &mut self,
        place: Place<'_>,
        projection: &'q [SelectItem],
    ) -> Option<Vec<Item>> {
        let mut items: Option<Vec<Item>> = Some(Vec::new());
        for item in projection {
            let bound = self.item(place, item);
            items = items.zip(bound).map(|(mut items, bound)| {
                items.extend(bound);
                items
            });
        }
        let mut items = items?;
        // Two aggregates of one name are told apart by a number.
        for at in 0..items.len() {
            if items[at].is_generated {
                let base = items[at].name.clone();
                let is_taken = |name: &str| {
                    let others = items.iter().enumerate();
                    others.into_iter().any(|(other, item)| {
                        *item.name == *name && other != at && (!item.is_generated || other < at)
                    })
                };
                let numbered = (2..).map(|n| Arc::from(format!("{base}_{n}")));
                let mut names = std::iter::once(base.clone()).chain(numbered);
                if let Some(free) = names.find(|name: &Arc<str>| !is_taken(name)) {
                    items[at].name = free;
                }
            }
        }
        if items.is_empty() {
            self.error("SELECT selects nothing; name a column", Span::empty());
            return None;
        }
        Some(items)
    }

    fn item(&mut self, place: Place<'_>, item: &'q SelectItem) -> Option<Vec<Item>> {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
            SelectItem::Wildcard(options) => {
                return self.all_columns(place.scope, None, options);
            }
            SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => match &name.0[..] {
                [ast::ObjectNamePart::Identifier(table)] => {
                    return self.all_columns(place.scope, Some(table), options);
                }
                _ => {
                    self.refuse("a name of more than two parts", name.span());
                    return None;
                }
            },
            other => {
                self.refuse(&format!("`{other}` in SELECT"), other.span());
                return None;
            }
        };
        if let (None, Some((call, function))) = (alias, extraction(expr)) {
            return self.extracted(place, call, function);
        }
        let expression = self.scalar(place, expr)?;
        let (name, is_generated) = match (alias, expr) {
            (Some(alias), _) => (alias.value.clone(), false),
            (None, Expr::Identifier(name)) => (name.value.clone(), false),
            (None, Expr::CompoundIdentifier(names)) => {
                let last = names.last();
                (
                    last.map_or_else(String::new, |name| name.value.clone()),
                    false,
                )
            }
            (None, Expr::Function(call)) => (call.name.to_string().to_lowercase(), true),
            (None, _) => ("column".to_owned(), true),
        };
        Some(vec![Item {
            name: name.into(),
            is_generated,
            expression,
            span: alias.map_or_else(|| place_of(expr), |alias| alias.span),
        }])
    }

    /// The columns that a call reads out of a text.
    fn extracted(
        &mut self,
        place: Place<'_>,
        call: &'q ast::Function,
        function: SemFunction,
    ) -> Option<Vec<Item>> {
        let list = self.arguments(call)?;
        self.check_plain(call, list)?;
        let columns = self
            .extract(place, function, &list.args, call.name.span())?
            .into_iter();
        let items = columns.map(|column| Item {
            name: column.name,
            is_generated: false,
            expression: column.expression,
            span: column.span,
        });
        Some(items.collect())
    }

    fn all_columns(
        &mut self,
        scope: &Scope,
        of: Option<&ast::Ident>,
        options: &ast::WildcardAdditionalOptions,
    ) -> Option<Vec<Item>> {
        let span = options.wildcard_token.0.span;
        let clauses = [
            (options.opt_ilike.is_some(), "ILIKE after `*`"),
            (options.opt_exclude.is_some(), "EXCLUDE after `*`"),
            (options.opt_except.is_some(), "EXCEPT after `*`"),
            (options.opt_replace.is_some(), "REPLACE after `*`"),
            (options.opt_rename.is_some(), "RENAME after `*`"),
            (options.opt_alias.is_some(), "an alias after `*`"),
        ];
        if self.refuse_clauses(&clauses, span) {
            return None;
        }
        let tables = scope.tables.iter();
        let wanted = tables.filter(|table| of.is_none_or(|of| is_name(of, &table.alias)));
        let wanted: Vec<_> = wanted.collect();
        if let (Some(of), true) = (of, wanted.is_empty()) {
            let message = format!("there is no table `{}` in this query", of.value);
            self.error(message, of.span);
            return None;
        }
        if wanted.is_empty() {
            self.error("`*` stands for nothing: the query has no FROM", span);
            return None;
        }
        let mut items = Vec::new();
        for table in wanted {
            let columns = match &table.source {
                Source::Refused => return None,
                // What was named elsewhere of an open relation is not declared.
                Source::Scan(scan) => self.declared(*scan),
                Source::Columns(columns) => columns.clone(),
            };
            for (name, id) in columns {
                if of.is_none() && table.merged.contains(&name) {
                    continue;
                }
                self.uses.push((id, span));
                items.push(Item {
                    name,
                    is_generated: false,
                    expression: Expression::Column(id),
                    span,
                });
            }
        }
        Some(items)
    }

    /// Which item of the SELECT list an expression means by name or number; `None` if it is an
    /// expression of its own, `Some(None)` if there is no such item.
    pub(super) fn item_meant(
        &mut self,
        expr: &Expr,
        items: &[Item],
        clause: &str,
    ) -> Option<Option<usize>> {
        match expr {
            Expr::Identifier(name) => {
                let mut named = (0..items.len()).filter(|at| is_name(name, &items[*at].name));
                let first = named.next()?;
                match named.next() {
                    None => Some(Some(first)),
                    Some(_) => None,
                }
            }
            Expr::Value(literal) => match &literal.value {
                ast::Value::Number(digits, _) => {
                    let at = digits.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    let at = at.filter(|at| *at < items.len());
                    if at.is_none() {
                        let message = format!(
                            "{clause} {digits} names no column: the query selects {}",
                            items.len()
                        );
                        self.error(message, literal.span);
                    }
                    Some(at)
                }
                _ => None,
            },
            _ => None,
        }
    }
}
