//! What does a query mean, over the relations that there are?
//!
//! Names become [`ColumnId`](crate::query::column::ColumnId)s, every expression gets a type, and
//! all errors are collected: after one, binding goes on with what does not depend on it. A part
//! that was refused is `None`, and nothing more is said about it.
//!
//! Work is bounded: a query may nest [`MAX_DEPTH`] deep, and a common table expression, which is
//! bound anew wherever it is named, counts each time towards [`MAX_TABLES`].

mod ask;
mod ask_groups;
mod call;
mod cascade;
mod clusters;
mod error;
mod expression;
mod extract;
mod from;
mod group;
mod items;
mod literal;
mod nearest;
mod order;
mod pagerank;
mod pairs;
mod rank;
mod scope;
mod select;
mod semi;
mod set;
mod table_function;
mod top;
mod unnest;

use std::sync::Arc;

use perennial_ask::Task;
use perennial_rows::{Column, Schema, Type};
use sqlparser::ast;

use crate::query::column::{ColumnId, ColumnTable};
use crate::query::node::{Aggregate, Node, Scalar, Scan, SortKey};
use crate::query::{OrderBy, Query, digest, rewrite, unique};

use crate::query::expression::Expression;
use ask::Asks;
use ask_groups::AskedGroups;
use clusters::Clustered;
use pairs::Match;
use unnest::Unnested;

pub use ask::SEM_FUNCTIONS;
pub use error::{BindError, BindErrors, Span};

/// How deep expressions and subqueries may nest.
const MAX_DEPTH: usize = 64;
/// How many tables a query may read, each mention counted.
const MAX_TABLES: usize = 256;

/// What a relation holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelationSchema {
    /// The columns that are declared: what `*` stands for.
    pub columns: Schema,
    /// Whether rows may hold other columns, too. One that is named is of type ANY.
    pub is_open: bool,
    /// Sets of columns of which no two rows have the same values.
    pub unique: Vec<Vec<Arc<str>>>,
}

/// The relations that a query may read.
pub trait Relations {
    /// The relation of this name.
    fn relation(&self, name: &str) -> Option<RelationSchema>;

    /// The names of all, to say which one was perhaps meant.
    fn names(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// The names of models that may be asked besides the one that is asked where none is named.
    fn models(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// Whether the model of this name, or the one that is asked where none is named, can perform a
    /// task; any can, unless told.
    ///
    /// # Errors
    /// Why it cannot, for people.
    fn check_task(&self, _model: Option<&str>, _task: &Task) -> Result<(), String> {
        Ok(())
    }
}

/// The query, resolved against relations.
///
/// # Errors
/// All that is wrong with it.
pub fn bind(query: &ast::Query, relations: &dyn Relations) -> Result<Query, BindErrors> {
    let mut binder = Binder {
        relations,
        table: ColumnTable::default(),
        scans: Vec::new(),
        ctes: Vec::new(),
        errors: Vec::new(),
        aggregates: Vec::new(),
        asked_groups: Vec::new(),
        asks: Asks::default(),
        clusters: Vec::new(),
        unnested: None,
        matches: Vec::new(),
        uses: Vec::new(),
        uses_outer: false,
        depth: 0,
        n_tables: 0,
    };
    let bound = binder.query(query);
    let bound = bound.and_then(|bound| binder.complete(bound));
    match bound {
        Some(query) if binder.errors.is_empty() => Ok(query),
        _ => {
            let mut errors = binder.errors;
            errors.sort_by_key(|error| error.span.map(|span| (span.start, span.end)));
            Err(BindErrors(errors))
        }
    }
}

/// A query that is being bound.
struct Binder<'q> {
    relations: &'q dyn Relations,
    table: ColumnTable,
    scans: Vec<OpenScan>,
    /// Common table expressions in sight, the innermost last.
    ctes: Vec<NamedQuery<'q>>,
    errors: Vec<BindError>,
    /// Aggregates of the SELECT at hand.
    aggregates: Vec<(ColumnId, Aggregate)>,
    /// Models asked about the groups of the SELECT at hand.
    asked_groups: Vec<AskedGroups>,
    /// Models asked by the SELECT at hand.
    asks: Asks,
    /// Texts that are connected, of the SELECT at hand.
    clusters: Vec<Clustered>,
    /// The list that makes rows, of the SELECT at hand.
    unnested: Option<Unnested>,
    /// Models that decide which rows are pairs, of the whole query.
    matches: Vec<Match>,
    /// Where columns were named, so that an error can point there.
    uses: Vec<(ColumnId, Span)>,
    /// Whether a column of the query around this one was named since this was last reset.
    uses_outer: bool,
    depth: usize,
    /// Tables named so far.
    n_tables: usize,
}

/// A common table expression.
struct NamedQuery<'q> {
    cte: &'q ast::Cte,
    is_used: bool,
}

/// A scan whose columns are not all known yet.
struct OpenScan {
    scan: Scan,
    /// How many of its columns, the first, are declared.
    n_declared: usize,
    is_open: bool,
}

/// A query whose names are resolved.
struct Bound {
    /// Makes all that `outputs` and `sort` name, and perhaps more.
    node: Node,
    outputs: Vec<Output>,
    /// The order that the query asks for, by columns.
    sort: Vec<SortKey>,
}

/// A column of a query's result.
#[derive(Clone, Debug)]
struct Output {
    name: Arc<str>,
    id: ColumnId,
    span: Span,
}

impl<'q> Binder<'q> {
    fn error(&mut self, message: impl Into<String>, span: Span) {
        let error = BindError {
            message: message.into(),
            span: (span != Span::empty()).then_some(span),
        };
        // What is bound several times is wrong once.
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Says that something of SQL is not supported, by name.
    fn refuse(&mut self, what: &str, span: Span) {
        self.error(format!("{what} is not supported"), span);
    }

    fn of(&self, expression: &Scalar) -> Type {
        expression.of(&|id| self.table.of(*id))
    }

    /// Binds something nested, unless it is nested too deep.
    fn nested<T>(&mut self, bind: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            let message = format!("the query nests more than {MAX_DEPTH} levels deep; split it");
            self.error(message, Span::empty());
            return None;
        }
        self.depth += 1;
        let bound = bind(self);
        self.depth -= 1;
        bound
    }

    /// The query as a whole: rewritten, and with what follows from its tree.
    fn complete(&mut self, bound: Bound) -> Option<Query> {
        let is_valid = self.check_names(&bound.outputs);
        let order = self.shown_order(&bound);
        if !is_valid || !self.errors.is_empty() {
            return None;
        }
        let outputs: Vec<ColumnId> = bound.outputs.iter().map(|output| output.id).collect();
        let mut root = bound.node;
        self.fill_scans(&mut root);
        self.check_pairs(&root);
        if !self.errors.is_empty() {
            return None;
        }
        let plan = rewrite::rewrite(root, &outputs, std::mem::take(&mut self.table));
        let rewrite::Plan {
            root,
            outputs,
            table,
            inputs,
        } = plan;
        let columns = bound.outputs.iter().zip(&outputs);
        let schema = Schema::new(
            columns.map(|(output, id)| Column::new(output.name.clone(), table.of(*id))),
        );
        Some(Query {
            digest: digest::digest(&root, &schema),
            unique: unique::positions(&root, &table, &outputs),
            root,
            table,
            schema,
            inputs,
            order,
        })
    }

    /// Whether the result's columns have names of their own.
    pub(super) fn check_names(&mut self, outputs: &[Output]) -> bool {
        let mut is_valid = true;
        for (at, output) in outputs.iter().enumerate() {
            if outputs[..at].iter().any(|other| other.name == output.name) {
                let message = format!(
                    "two columns of the result are called `{name}`; give one another name with AS",
                    name = output.name
                );
                self.error(message, output.span);
                is_valid = false;
            }
        }
        is_valid
    }

    /// The order in which rows are to be shown, by positions.
    fn shown_order(&mut self, bound: &Bound) -> Vec<OrderBy> {
        let position = |key: &SortKey| {
            let Expression::Column(id) = &key.by else {
                return None;
            };
            bound.outputs.iter().position(|output| output.id == *id)
        };
        let shown: Option<Vec<OrderBy>> = bound
            .sort
            .iter()
            .map(|key| {
                Some(OrderBy {
                    column: position(key)?,
                    is_descending: key.is_descending,
                    nulls_first: key.nulls_first,
                })
            })
            .collect();
        // With a LIMIT, an order by what is not shown has done its work already.
        shown.unwrap_or_default()
    }

    /// Gives every scan the columns that were named in the end.
    fn fill_scans(&self, node: &mut Node) {
        if let Node::Scan(scan) = node {
            scan.columns = self.scans[scan.number].scan.columns.clone();
        }
        for input in node.inputs_mut() {
            self.fill_scans(input);
        }
    }
}
