//! What does a query or a SELECT make?

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlparser::ast::{self, Expr, SelectItem, SetExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::expression::{Place, place_of};
use crate::query::bind::scope::{Scope, Source, is_name};
use crate::query::bind::{Binder, Bound, NamedQuery, Output};
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Node, Scalar, SortKey};

/// One expression of a SELECT list.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: Arc<str>,
    /// Whether the name was made here, and may be changed.
    pub(super) is_generated: bool,
    pub(super) expression: Scalar,
    pub(super) span: Span,
}

/// What a key of ORDER BY sorts by.
pub(super) enum SortBy {
    Item(usize),
    Expression(Scalar, Span),
}

impl<'q> Binder<'q> {
    pub(super) fn query(&mut self, query: &'q ast::Query) -> Option<Bound> {
        let is_top = self.depth == 0;
        let n_ctes = self.ctes.len();
        let bound = self.nested(|binder| {
            binder.name_ctes(query.with.as_ref());
            let bound = binder.query_at_depth(query, is_top);
            binder.check_unused(n_ctes);
            bound
        });
        self.ctes.truncate(n_ctes);
        bound
    }

    fn query_at_depth(&mut self, query: &'q ast::Query, is_top: bool) -> Option<Bound> {
        let unsupported = [
            (query.fetch.is_some(), "FETCH (write LIMIT)"),
            (!query.locks.is_empty(), "FOR UPDATE or FOR SHARE"),
            (query.for_clause.is_some(), "FOR XML, JSON or BROWSE"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
            (!query.pipe_operators.is_empty(), "the pipe operator `|>`"),
        ];
        let is_refused = unsupported.iter().any(|(is_there, _)| *is_there);
        if is_refused {
            self.refuse_clauses(&unsupported, query.span());
        }
        let order = self.order_list(query.order_by.as_ref());
        let limit = self.limit(query.limit_clause.as_ref());
        let bound = match &*query.body {
            SetExpr::Select(select) => self.select(select, order.unwrap_or_default()),
            body => {
                let bound = self.set_expression(body);
                bound.and_then(|bound| self.sorted(bound, order.unwrap_or_default()))
            }
        };
        let (mut bound, (limit, offset)) = bound.zip(limit)?;
        if is_refused || order.is_none() {
            return None;
        }
        let outputs: Vec<ColumnId> = bound.outputs.iter().map(|output| output.id).collect();
        if limit.is_some() || offset > 0 {
            bound.node = Node::Top {
                order: with_ties_broken(&bound.sort, &outputs),
                input: Box::new(bound.node),
                limit,
                offset,
            };
        } else if !bound.sort.is_empty() {
            let order_span = query.order_by.as_ref().map_or(Span::empty(), Spanned::span);
            let is_shown =
                |key: &SortKey| matches!(&key.by, Expression::Column(id) if outputs.contains(id));
            if !is_top {
                let message = "ORDER BY in a subquery has no effect without LIMIT; remove it, or \
                               add a LIMIT";
                self.error(message, order_span);
                return None;
            }
            if !bound.sort.iter().all(is_shown) {
                let message = "ORDER BY without LIMIT takes columns of the result; select what \
                               the rows are to be ordered by";
                self.error(message, order_span);
                return None;
            }
        }
        if bound.node.columns() != outputs {
            let pass_on = |id: &ColumnId| (*id, Expression::Column(*id));
            bound.node = Node::Project {
                input: Box::new(bound.node),
                columns: outputs.iter().map(pass_on).collect(),
            };
        }
        Some(bound)
    }

    fn name_ctes(&mut self, with: Option<&'q ast::With>) {
        let Some(with) = with else { return };
        if with.recursive {
            self.refuse("WITH RECURSIVE", with.with_token.0.span);
        }
        for cte in &with.cte_tables {
            let name = &cte.alias.name;
            if cte.materialized.is_some() {
                self.refuse("AS [NOT] MATERIALIZED", name.span);
            }
            if cte.from.is_some() {
                self.refuse("FROM in WITH", name.span);
            }
            let before = with
                .cte_tables
                .iter()
                .take_while(|other| !std::ptr::eq(*other, cte));
            if before
                .into_iter()
                .any(|other| is_name(name, &other.alias.name.value))
            {
                self.error(format!("WITH names `{}` twice", name.value), name.span);
            }
            self.ctes.push(NamedQuery {
                cte,
                is_used: false,
            });
        }
    }

    /// Finds what is wrong with named queries that are never read.
    fn check_unused(&mut self, from: usize) {
        for at in (from..self.ctes.len()).rev() {
            if !self.ctes[at].is_used {
                self.named_query(at);
            }
        }
    }

    /// Binds the named query at this place among those in sight. It sees those before it.
    pub(super) fn named_query(&mut self, at: usize) -> Option<Bound> {
        self.ctes[at].is_used = true;
        let later = self.ctes.split_off(at);
        let bound = self.query(&later[0].cte.query);
        self.ctes.extend(later);
        bound
    }

    /// Whether one of these is there; each that is, is refused.
    pub(super) fn refuse_clauses(&mut self, clauses: &[(bool, &str)], span: Span) -> bool {
        let refused = clauses.iter().filter(|(is_there, _)| *is_there);
        refused.fold(false, |_, (_, what)| {
            self.refuse(what, span);
            true
        })
    }

    fn order_list(&mut self, order: Option<&'q ast::OrderBy>) -> Option<&'q [ast::OrderByExpr]> {
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
    fn limit(&mut self, clause: Option<&'q ast::LimitClause>) -> Option<(Option<u64>, u64)> {
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

    pub(super) fn select(
        &mut self,
        select: &'q ast::Select,
        order: &'q [ast::OrderByExpr],
    ) -> Option<Bound> {
        let aggregates = std::mem::take(&mut self.aggregates);
        let uses = std::mem::take(&mut self.uses);
        let bound = self.select_alone(select, order);
        self.aggregates = aggregates;
        self.uses = uses;
        bound
    }

    fn select_alone(
        &mut self,
        select: &'q ast::Select,
        order: &'q [ast::OrderByExpr],
    ) -> Option<Bound> {
        let is_refused = self.refuse_select(select);
        let (node, scope) = self.from(&select.from);
        let (node, _) = self.filtered(node, select.selection.as_ref(), &scope, None);
        let place = |clause, allows_aggregates| Place {
            scope: &scope,
            outer: None,
            clause,
            allows_aggregates,
        };
        let items = self.items(place("SELECT", true), &select.projection);
        let keys = self.group_keys(place("GROUP BY", false), select, items.as_deref());
        let having = match &select.having {
            None => Some(Vec::new()),
            Some(having) => {
                let bound = self.condition(place("HAVING", true), having);
                bound.map(|bound| vec![(bound, place_of(having))])
            }
        };
        let sort = self.sort_keys(place("ORDER BY", true), order, items.as_deref());
        let (mut items, mut sort, mut having) = (items?, sort?, having?);
        let (mut node, keys) = node.zip(keys)?;
        if is_refused {
            return None;
        }
        if !keys.is_empty() || !self.aggregates.is_empty() || select.having.is_some() {
            node = self.grouped(node, keys, &mut items, &mut sort, &mut having)?;
        }
        let node = node.filtered(having.into_iter().map(|(condition, _)| condition).collect());
        self.projected(node, items, sort, select.distinct.is_some())
    }

    /// The columns of a SELECT list over a node, and those that it is sorted by.
    fn projected(
        &mut self,
        node: Node,
        items: Vec<Item>,
        sort: Vec<(SortBy, SortKey)>,
        is_distinct: bool,
    ) -> Option<Bound> {
        let mut columns: Vec<(ColumnId, Scalar)> = Vec::new();
        let mut outputs = Vec::new();
        let mut passed_on = BTreeSet::new();
        for item in &items {
            let id = match &item.expression {
                Expression::Column(id) if passed_on.insert(*id) => *id,
                other => {
                    let of = self.of(other);
                    self.table.add(item.name.clone(), of)
                }
            };
            columns.push((id, item.expression.clone()));
            outputs.push(Output {
                name: item.name.clone(),
                id,
                span: item.span,
            });
        }
        let mut sorted = Vec::new();
        for (by, key) in sort {
            let id = match by {
                SortBy::Item(at) => outputs[at].id,
                SortBy::Expression(expression, span) => {
                    match items.iter().position(|item| item.expression == expression) {
                        Some(at) => outputs[at].id,
                        None if is_distinct => {
                            let message = "ORDER BY beside DISTINCT takes what is selected; \
                                           select this, too";
                            self.error(message, span);
                            return None;
                        }
                        None => {
                            let of = self.of(&expression);
                            let id = self.table.add("order", of);
                            columns.push((id, expression));
                            id
                        }
                    }
                }
            };
            sorted.push(SortKey {
                by: Expression::Column(id),
                ..key
            });
        }
        let mut node = Node::Project {
            input: Box::new(node),
            columns,
        };
        if is_distinct {
            node = Node::Distinct {
                input: Box::new(node),
            };
        }
        Some(Bound {
            node,
            outputs,
            sort: sorted,
        })
    }

    /// Refuses what a SELECT may say and is not supported; whether there was anything.
    pub(super) fn refuse_select(&mut self, select: &ast::Select) -> bool {
        let is_distinct_on = matches!(select.distinct, Some(ast::Distinct::On(_)));
        let is_standard = select.flavor == ast::SelectFlavor::Standard;
        let clauses = [
            (is_distinct_on, "DISTINCT ON"),
            (
                matches!(select.distinct, Some(ast::Distinct::All)),
                "SELECT ALL (leave ALL out)",
            ),
            (!select.optimizer_hints.is_empty(), "an optimizer hint"),
            (select.select_modifiers.is_some(), "a modifier of SELECT"),
            (select.top.is_some(), "TOP (write LIMIT)"),
            (select.exclude.is_some(), "EXCLUDE"),
            (select.into.is_some(), "SELECT INTO"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.cluster_by.is_empty(), "CLUSTER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.sort_by.is_empty(), "SORT BY"),
            (!select.named_window.is_empty(), "WINDOW"),
            (select.qualify.is_some(), "QUALIFY"),
            (
                select.value_table_mode.is_some(),
                "SELECT AS VALUE or AS STRUCT",
            ),
            (!is_standard, "FROM before SELECT"),
        ];
        self.refuse_clauses(&clauses, select.select_token.0.span)
    }

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

    /// What ORDER BY sorts by: a column of the result by name or number, or an expression.
    fn sort_keys(
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
    fn sorted(&mut self, bound: Bound, order: &'q [ast::OrderByExpr]) -> Option<Bound> {
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
fn with_ties_broken(sort: &[SortKey], outputs: &[ColumnId]) -> Vec<SortKey> {
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
