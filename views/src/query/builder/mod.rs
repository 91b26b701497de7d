//! How does a Rust program write a query?
//!
//! A [`Rows`] is a query that is being written: it starts at a relation and grows step by step.
//! It is the tree that SQL of the same meaning is parsed to, so it is bound, checked and digested
//! by the same code, and [`Rows::to_sql`] prints it.
//!
//! ```
//! use std::sync::Arc;
//! use perennial_rows::{Column, Schema, Type};
//! use perennial_views::query::builder::{col, count_all, lit, scan};
//! use perennial_views::query::{RelationSchema, Relations};
//!
//! struct Shop;
//! impl Relations for Shop {
//!     fn relation(&self, name: &str) -> Option<RelationSchema> {
//!         let columns = [Column::new("region", Type::Text), Column::new("price", Type::Float)];
//!         (name == "orders").then(|| RelationSchema {
//!             columns: Schema::new(columns),
//!             ..RelationSchema::default()
//!         })
//!     }
//! }
//!
//! let query = scan("orders")
//!     .filter(col("price").gt(lit(3.0)))
//!     .group_by([col("region")])
//!     .project([col("region").into(), count_all().named("n")])
//!     .bind(&Shop)
//!     .unwrap();
//! assert_eq!(query.schema().to_string(), "region TEXT, n INTEGER");
//! ```
mod term;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{self, Expr, SelectItem, SetExpr, TableFactor};

use crate::query::builder::term::{ident, literal};
use crate::query::{BindErrors, Query, Relations, bind};

pub use term::{
    Named, Sort, Term, Within, avg, call, col, count, count_all, count_distinct, lit, max, min,
    sem_agg, sem_classify, sem_decider, sem_dedup, sem_dedup_checked, sem_extract, sem_extract_one,
    sem_filter, sem_filter_within, sem_group, sem_map, sem_match, sem_match_nearest, sem_rank,
    sem_score, sum,
};

/// A query that is being written.
#[derive(Clone, Debug)]
pub struct Rows {
    /// What others join with, and qualify its columns by.
    alias: Option<String>,
    from: From,
    selection: Option<Expr>,
    group_by: Vec<Expr>,
    having: Option<Expr>,
    projection: Option<Vec<SelectItem>>,
    is_distinct: bool,
    order_by: Vec<ast::OrderByExpr>,
    limit: Option<u64>,
    offset: Option<u64>,
}

/// Where rows come from.
#[derive(Clone, Debug)]
enum From {
    Tables(Box<ast::TableWithJoins>),
    /// The rows of several queries.
    Set(Box<SetExpr>),
}
/// The rows of a relation.
pub fn scan(relation: &str) -> Rows {
    let table = TableFactor::Table {
        name: ast::ObjectName(vec![ast::ObjectNamePart::Identifier(ident(relation))]),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_directives: Vec::new(),
        inheritance: None,
    };
    Rows::over(table)
}

impl Rows {
    fn over(table: TableFactor) -> Self {
        Self {
            alias: None,
            from: From::Tables(Box::new(ast::TableWithJoins {
                relation: table,
                joins: Vec::new(),
            })),
            selection: None,
            group_by: Vec::new(),
            having: None,
            projection: None,
            is_distinct: false,
            order_by: Vec::new(),
            limit: None,
            offset: None,
        }
    }

    /// These rows under a name by which their columns can be told from others'.
    #[must_use]
    pub fn alias(mut self, name: &str) -> Self {
        self.alias = Some(name.to_owned());
        self.nested()
    }

    /// The rows for which a condition is true.
    #[must_use]
    pub fn filter(self, condition: Term) -> Self {
        let mut rows = self.ungrouped();
        rows.selection = Some(both(rows.selection, condition));
        rows
    }

    /// These columns.
    #[must_use]
    pub fn project(self, columns: impl IntoIterator<Item = Named>) -> Self {
        let mut rows = match self.projection {
            None => self.unlimited(),
            Some(_) => self.nested(),
        };
        rows.projection = Some(columns.into_iter().map(|named| named.0).collect());
        rows
    }

    /// The pairs of these rows and others for which a condition is true.
    #[must_use]
    pub fn join(self, other: Self, on: Term) -> Self {
        let constraint = ast::JoinConstraint::On(on.0);
        self.joined(other, ast::JoinOperator::Inner(constraint))
    }

    /// The same, and these rows with NULLs where they have no partner.
    #[must_use]
    pub fn left_join(self, other: Self, on: Term) -> Self {
        let constraint = ast::JoinConstraint::On(on.0);
        self.joined(other, ast::JoinOperator::Left(constraint))
    }

    /// Groups of rows that are alike in these; [`project`](Self::project) says what is wanted of
    /// each.
    #[must_use]
    pub fn group_by(self, keys: impl IntoIterator<Item = Term>) -> Self {
        let mut rows = self.ungrouped();
        rows.group_by = keys.into_iter().map(|key| key.0).collect();
        rows
    }

    /// The groups for which a condition is true.
    #[must_use]
    pub fn having(mut self, condition: Term) -> Self {
        self.having = Some(both(self.having, condition));
        self
    }

    /// Each row once.
    #[must_use]
    pub fn distinct(self) -> Self {
        let mut rows = self.unlimited();
        rows.is_distinct = true;
        rows
    }

    /// These rows and others, copies kept.
    #[must_use]
    pub fn union_all(self, other: Self) -> Self {
        self.united(other, ast::SetQuantifier::All)
    }

    /// These rows and others, each once.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        self.united(other, ast::SetQuantifier::None)
    }

    /// The first `limit` rows in an order, after the first `offset`.
    #[must_use]
    pub fn top(self, order: impl IntoIterator<Item = Sort>, limit: u64, offset: u64) -> Self {
        let mut rows = self.unlimited();
        rows.order_by = order.into_iter().map(|key| key.0).collect();
        rows.limit = Some(limit);
        rows.offset = (offset > 0).then_some(offset);
        rows
    }

    /// The query over these relations.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn bind(self, relations: &dyn Relations) -> Result<Query, BindErrors> {
        bind(&self.into_query(), relations)
    }

    /// The query as SQL.
    pub fn to_sql(&self) -> String {
        self.clone().into_query().to_string()
    }

    /// The tree that its SQL is parsed to.
    pub fn into_query(self) -> ast::Query {
        let order_by = (!self.order_by.is_empty()).then_some(ast::OrderBy {
            kind: ast::OrderByKind::Expressions(self.order_by),
            interpolate: None,
        });
        let count = |n: u64| literal(ast::Value::Number(n.to_string(), false));
        let is_limited = self.limit.is_some() || self.offset.is_some();
        let limit_clause = is_limited.then(|| ast::LimitClause::LimitOffset {
            limit: self.limit.map(count),
            offset: self.offset.map(|offset| ast::Offset {
                value: count(offset),
                rows: ast::OffsetRows::None,
            }),
            limit_by: Vec::new(),
        });
        let body = match self.from {
            From::Set(set) => set,
            From::Tables(tables) => Box::new(SetExpr::Select(Box::new(ast::Select {
                select_token: AttachedToken::empty(),
                optimizer_hints: Vec::new(),
                distinct: self.is_distinct.then_some(ast::Distinct::Distinct),
                select_modifiers: None,
                top: None,
                top_before_distinct: false,
                projection: self.projection.unwrap_or_else(|| {
                    vec![SelectItem::Wildcard(
                        ast::WildcardAdditionalOptions::default(),
                    )]
                }),
                exclude: None,
                into: None,
                from: vec![*tables],
                lateral_views: Vec::new(),
                prewhere: None,
                selection: self.selection,
                connect_by: Vec::new(),
                group_by: ast::GroupByExpr::Expressions(self.group_by, Vec::new()),
                cluster_by: Vec::new(),
                distribute_by: Vec::new(),
                sort_by: Vec::new(),
                having: self.having,
                named_window: Vec::new(),
                qualify: None,
                window_before_qualify: false,
                value_table_mode: None,
                flavor: ast::SelectFlavor::Standard,
            }))),
        };
        ast::Query {
            with: None,
            body,
            order_by,
            limit_clause,
            fetch: None,
            locks: Vec::new(),
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: Vec::new(),
        }
    }

    /// Whether nothing was said but which tables there are.
    fn is_tables(&self) -> bool {
        matches!(self.from, From::Tables(_)) && self.selection.is_none() && self.is_ungrouped()
    }

    /// Whether a condition on rows may still be added.
    fn is_ungrouped(&self) -> bool {
        matches!(self.from, From::Tables(_))
            && self.group_by.is_empty()
            && self.having.is_none()
            && self.projection.is_none()
            && !self.is_distinct
            && self.is_unlimited()
    }

    fn is_unlimited(&self) -> bool {
        self.limit.is_none() && self.offset.is_none() && self.order_by.is_empty()
    }

    fn ungrouped(self) -> Self {
        match self.is_ungrouped() {
            true => self,
            false => self.nested(),
        }
    }

    fn unlimited(self) -> Self {
        let is_set = matches!(self.from, From::Set(_));
        match self.is_unlimited() && !self.is_distinct && !is_set {
            true => self,
            false => self.nested(),
        }
    }

    /// A table that is this query; an alias stands there.
    fn nested(self) -> Self {
        Self::over(self.into_table())
    }

    fn into_table(mut self) -> TableFactor {
        let alias = self.alias.take().map(|name| ast::TableAlias {
            explicit: true,
            name: ident(&name),
            columns: Vec::new(),
            at: None,
        });
        let is_tables = self.is_tables();
        match self.from {
            From::Tables(mut tables) if is_tables && tables.joins.is_empty() => {
                if let (
                    Some(_),
                    TableFactor::Table { alias: to, .. } | TableFactor::Derived { alias: to, .. },
                ) = (&alias, &mut tables.relation)
                {
                    *to = alias;
                }
                tables.relation
            }
            _ => TableFactor::Derived {
                lateral: false,
                subquery: Box::new(self.into_query()),
                alias,
                sample: None,
            },
        }
    }

    fn joined(self, other: Self, operator: ast::JoinOperator) -> Self {
        let mut rows = match self.is_tables() {
            true => self,
            false => self.nested(),
        };
        if let From::Tables(tables) = &mut rows.from {
            tables.joins.push(ast::Join {
                relation: other.into_table(),
                global: false,
                join_operator: operator,
            });
        }
        rows
    }

    fn united(self, other: Self, set_quantifier: ast::SetQuantifier) -> Self {
        let side = |rows: Self| match rows.is_unlimited() {
            true => rows.into_query().body,
            false => Box::new(SetExpr::Query(Box::new(rows.into_query()))),
        };
        let set = SetExpr::SetOperation {
            op: ast::SetOperator::Union,
            set_quantifier,
            left: side(self),
            right: side(other),
        };
        let mut rows = scan("");
        rows.from = From::Set(Box::new(set));
        rows
    }
}

fn both(first: Option<Expr>, second: Term) -> Expr {
    match first {
        None => second.0,
        Some(first) => Term(first).and(second).0,
    }
}
