//! What does a query or a SELECT make?

use std::collections::BTreeSet;

use sqlparser::ast::{self, SetExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::expression::{AsksAbout, Place, place_of};
use crate::query::bind::items::Item;
use crate::query::bind::order::{SortBy, with_ties_broken};
use crate::query::bind::scope::is_name;
use crate::query::bind::{Binder, Bound, NamedQuery, Output};
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Node, Scalar, SortKey};

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
            SetExpr::Select(select) => {
                let n_rows = limit.and_then(|(limit, offset)| limit?.checked_add(offset));
                self.select(select, order.unwrap_or_default(), n_rows)
            }
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
                keys: Vec::new(),
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

    /// A SELECT, its order by these keys; of the rows in that order the first `n_rows` are kept, where
    /// there is a limit.
    pub(super) fn select(
        &mut self,
        select: &'q ast::Select,
        order: &'q [ast::OrderByExpr],
        n_rows: Option<u64>,
    ) -> Option<Bound> {
        let aggregates = std::mem::take(&mut self.aggregates);
        let asked_groups = std::mem::take(&mut self.asked_groups);
        let uses = std::mem::take(&mut self.uses);
        let asks = std::mem::take(&mut self.asks);
        let clusters = std::mem::take(&mut self.clusters);
        let unnested = self.unnested.take();
        let bound = self.select_alone(select, order, n_rows);
        self.aggregates = aggregates;
        self.asked_groups = asked_groups;
        self.uses = uses;
        self.asks = asks;
        self.clusters = clusters;
        self.unnested = unnested;
        bound
    }

    fn select_alone(
        &mut self,
        select: &'q ast::Select,
        order: &'q [ast::OrderByExpr],
        n_rows: Option<u64>,
    ) -> Option<Bound> {
        let is_refused = self.refuse_select(select);
        let (node, scope) = self.from(&select.from);
        let (node, _) = self.filtered(node, select.selection.as_ref(), &scope, None);
        let place = |clause, allows_aggregates| Place {
            scope: &scope,
            outer: None,
            clause,
            allows_aggregates,
            asks: AsksAbout::AllRows,
        };
        let ranked = self.ranked(place("ORDER BY", false), order, n_rows);
        let items = self.items(place("SELECT", true), &select.projection);
        let keys = self.group_keys(place("GROUP BY", false), select, items.as_deref());
        let having = match &select.having {
            None => Some(Vec::new()),
            Some(having) => {
                let bound = self.condition(place("HAVING", true), having);
                bound.map(|bound| vec![(bound, place_of(having))])
            }
        };
        let order = match ranked {
            Some(None) => order,
            _ => order.get(1..).unwrap_or_default(),
        };
        let sort = self.sort_keys(place("ORDER BY", true), order, items.as_deref());
        let (mut items, mut sort, mut having) = (items?, sort?, having?);
        let ranked = ranked?;
        let (node, keys) = node.zip(keys)?;
        if is_refused {
            return None;
        }
        let mut node = self.place_clusters(node)?;
        let has_aggregates = !self.aggregates.is_empty() || !self.asked_groups.is_empty();
        let mut grouped = None;
        let is_grouped = !keys.is_empty() || has_aggregates || select.having.is_some();
        let unranked = match (is_grouped, &select.distinct) {
            (true, _) => Some("`sem_rank` ranks rows; rank groups in a query around"),
            (false, Some(_)) => Some("`sem_rank` ranks rows; DISTINCT goes in a query below"),
            (false, None) => None,
        };
        if let Some((ranked, message)) = ranked.as_ref().zip(unranked) {
            self.error(message, ranked.span);
            return None;
        }
        if is_grouped {
            self.check_not_unnested("groups")?;
            let (groups, rows) = self.grouped(node, keys, &mut items, &mut sort, &mut having)?;
            (node, grouped) = (groups, rows);
        }
        let having: Vec<Scalar> = having.into_iter().map(|(condition, _)| condition).collect();
        let read: BTreeSet<ColumnId> = having.iter().flat_map(Scalar::columns).collect();
        if let Some(rows) = &grouped {
            node = self.place_groups(node, rows, |id| read.contains(&id))?;
        }
        let of_having = self.asks.take(|id| read.contains(&id));
        node = self.place(node, of_having).filtered(having);
        if let Some(rows) = &grouped {
            node = self.place_groups(node, rows, |_| true)?;
        }
        if let Some(ranked) = ranked {
            self.check_not_unnested("places")?;
            let (key, ranks) = ranked.over(node);
            sort.insert(0, key);
            node = ranks;
        }
        let node = self.asked(node);
        let node = self.place_unnested(node);
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
}
