//! Which tables does a query read, and how are they joined?

use std::sync::Arc;

use sqlparser::ast::{self, JoinConstraint, JoinOperator, Spanned, TableFactor};
use sqlparser::tokenizer::Span;

use crate::query::bind::error::did_you_mean;
use crate::query::bind::expression::{AsksAbout, Place};
use crate::query::bind::scope::{Scope, ScopeTable, Source, is_name};
use crate::query::bind::{Binder, Bound, MAX_TABLES, OpenScan, RelationSchema};
use crate::query::column::ColumnId;
use crate::query::expression::{Comparison, Expression};
use crate::query::node::{Join, JoinKind, Node, Scalar, Scan, conjuncts};

/// A part of FROM: its rows, unless it was refused, and its tables.
pub(super) type Tables = (Option<Node>, Vec<ScopeTable>);

impl<'q> Binder<'q> {
    /// The rows that FROM makes, and what names may mean there. Without FROM there is one row.
    pub(super) fn from(&mut self, from: &'q [ast::TableWithJoins]) -> (Option<Node>, Scope) {
        let mut all: Option<Tables> = None;
        for tables in from {
            let right = self.table_with_joins(tables);
            all = Some(match all {
                None => right,
                Some(left) => cross(left, right),
            });
        }
        let one_row = Node::Values {
            columns: Vec::new(),
            rows: vec![Vec::new()],
        };
        let (node, tables) = all.unwrap_or((Some(one_row), Vec::new()));
        for (at, table) in tables.iter().enumerate() {
            if tables[..at].iter().any(|other| other.alias == table.alias) {
                let message = format!(
                    "two tables are called `{alias}`; give one another name, as in \
                     `{alias} AS other`",
                    alias = table.alias
                );
                let span = from.iter().map(Spanned::span).reduce(|a, b| a.union(&b));
                self.error(message, span.unwrap_or(Span::empty()));
            }
        }
        (node, Scope { tables })
    }

    fn table_with_joins(&mut self, tables: &'q ast::TableWithJoins) -> Tables {
        let mut left = self
            .nested(|binder| Some(binder.table(&tables.relation)))
            .unwrap_or_default();
        for join in &tables.joins {
            let right = self.table(&join.relation);
            left = self.join(left, right, join);
        }
        left
    }

    fn join(&mut self, left: Tables, right: Tables, join: &'q ast::Join) -> Tables {
        use JoinOperator as Op;
        let span = || join.relation.span();
        if join.global {
            self.refuse("GLOBAL JOIN", span());
        }
        let (kind, is_swapped, constraint) = match &join.join_operator {
            Op::Join(constraint) | Op::Inner(constraint) => (JoinKind::Inner, false, constraint),
            Op::CrossJoin(JoinConstraint::None) => return cross(left, right),
            Op::Left(constraint) | Op::LeftOuter(constraint) => (JoinKind::Left, false, constraint),
            Op::Right(constraint) | Op::RightOuter(constraint) => {
                (JoinKind::Left, true, constraint)
            }
            Op::FullOuter(_) => {
                self.refuse("FULL JOIN", span());
                return refused(left, right);
            }
            _ => {
                self.refuse(&format!("`{}`", join.to_string().trim()), span());
                return refused(left, right);
            }
        };
        let (left_node, mut tables) = left;
        let (right_node, mut right_tables) = right;
        let condition = match constraint {
            JoinConstraint::Using(names) => {
                self.using(names, &mut tables, &mut right_tables, is_swapped)
            }
            JoinConstraint::On(condition) => {
                let scope = Scope {
                    tables: tables.iter().chain(&right_tables).cloned().collect(),
                };
                let place = Place {
                    scope: &scope,
                    outer: None,
                    clause: "ON",
                    allows_aggregates: false,
                    asks: match kind {
                        JoinKind::Inner => AsksAbout::Pairs,
                        _ => AsksAbout::Nothing,
                    },
                };
                self.condition(place, condition).map(|condition| {
                    let mut all = Vec::new();
                    conjuncts(condition, &mut all);
                    all
                })
            }
            JoinConstraint::None => {
                let message = "JOIN needs ON or USING; write CROSS JOIN for all pairs";
                self.error(message, span());
                None
            }
            JoinConstraint::Natural => {
                self.refuse("NATURAL JOIN (write USING)", span());
                None
            }
            JoinConstraint::UsingAlias(..) => {
                self.refuse("an alias of USING", span());
                None
            }
        };
        let sides = left_node.zip(right_node).zip(condition);
        let node = sides.and_then(|((left, right), residual)| {
            let (left, right) = if is_swapped {
                (right, left)
            } else {
                (left, right)
            };
            let join = Join {
                kind,
                left,
                right,
                keys: Vec::new(),
                residual,
            };
            match kind {
                JoinKind::Inner => self.paired(join, &tables, &right_tables),
                _ => Some(Node::Join(Box::new(join))),
            }
        });
        tables.extend(right_tables);
        (node, tables)
    }

    /// Columns of one name on both sides are equal, and one column. It is the one of the side
    /// whose rows all stay.
    fn using(
        &mut self,
        names: &'q [ast::ObjectName],
        left: &mut [ScopeTable],
        right: &mut [ScopeTable],
        is_swapped: bool,
    ) -> Option<Vec<Scalar>> {
        let mut all = Some(Vec::new());
        for name in names {
            let [ast::ObjectNamePart::Identifier(ident)] = &name.0[..] else {
                self.refuse("a qualified name in USING", name.span());
                return None;
            };
            let scopes = [&*left, &*right].map(|tables| Scope {
                tables: tables.to_vec(),
            });
            let [a, b] = scopes.map(|scope| self.column(&scope, None, None, ident));
            let equal = a.zip(b).and_then(|(a, b)| {
                let (a, b) = (Expression::Column(a), Expression::Column(b));
                self.compared(Comparison::Equal, a, b, ident.span)
            });
            let merged = if is_swapped { &mut *left } else { &mut *right };
            for table in merged {
                let columns = self.columns_of(table).into_iter();
                let merges = columns.filter(|(known, _)| is_name(ident, known));
                let merges: Vec<Arc<str>> = merges.map(|(known, _)| known).collect();
                table.merged.extend(merges);
            }
            all = all.zip(equal).map(|(mut all, equal)| {
                all.push(equal);
                all
            });
        }
        all
    }

    /// Counts tables that are read; `None` if they are too many.
    pub(super) fn count_tables(&mut self, n: usize) -> Option<()> {
        self.n_tables = self.n_tables.saturating_add(n);
        if self.n_tables > MAX_TABLES {
            let message = format!("the query reads more than {MAX_TABLES} tables; split it");
            self.error(message, Span::empty());
            return None;
        }
        Some(())
    }

    fn table(&mut self, factor: &'q TableFactor) -> Tables {
        if self.count_tables(1).is_none() {
            return (None, vec![refused_table("")]);
        }
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_directives,
                inheritance,
            } => {
                let clauses = [
                    (!with_hints.is_empty(), "WITH after a table"),
                    (version.is_some(), "AS OF after a table"),
                    (*with_ordinality, "WITH ORDINALITY"),
                    (!partitions.is_empty(), "PARTITION after a table"),
                    (json_path.is_some(), "a path after a table"),
                    (sample.is_some(), "TABLESAMPLE"),
                    (!index_directives.is_empty(), "an index hint"),
                    (inheritance.is_some(), "ONLY or `*` after a table"),
                ];
                if self.refuse_clauses(&clauses, name.span()) {
                    return (None, vec![refused_table("")]);
                }
                if let Some(args) = args {
                    return self.table_function(name, args, alias.as_ref());
                }
                let [ast::ObjectNamePart::Identifier(ident)] = &name.0[..] else {
                    self.refuse("a table's name of several parts", name.span());
                    return (None, vec![refused_table("")]);
                };
                self.named_table(ident, alias.as_ref())
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample,
            } => {
                let clauses = [(*lateral, "LATERAL"), (sample.is_some(), "TABLESAMPLE")];
                self.refuse_clauses(&clauses, factor.span());
                let bound = self.query(subquery);
                let name = alias.as_ref().map_or("", |alias| &alias.name.value);
                self.derived(bound, name, alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => self
                .nested(|binder| Some(binder.table_with_joins(table_with_joins)))
                .unwrap_or_default(),
            other => {
                self.refuse(&format!("`{other}` in FROM"), other.span());
                (None, vec![refused_table("")])
            }
        }
    }

    pub(super) fn named_table(
        &mut self,
        ident: &'q ast::Ident,
        alias: Option<&'q ast::TableAlias>,
    ) -> Tables {
        let called = alias.map_or(&*ident.value, |alias| &*alias.name.value);
        let in_sight = (0..self.ctes.len()).rev();
        let cte = in_sight
            .into_iter()
            .find(|at| is_name(ident, &self.ctes[*at].cte.alias.name.value));
        if let Some(at) = cte {
            let cte = self.ctes[at].cte;
            let bound = self.named_query(at);
            let renamed = alias.filter(|alias| !alias.columns.is_empty());
            return self.derived(bound, called, Some(renamed.unwrap_or(&cte.alias)));
        }
        let Some((relation, schema)) = self.relation(ident) else {
            let mut names = self.relations.names();
            names.extend(
                self.ctes
                    .iter()
                    .map(|named| named.cte.alias.name.value.as_str().into()),
            );
            let hint = did_you_mean(&ident.value, names.iter().map(|name| &**name));
            self.error(
                format!("there is no table `{}`{hint}", ident.value),
                ident.span,
            );
            return (None, vec![refused_table(called)]);
        };
        if alias.is_some_and(|alias| !alias.columns.is_empty()) {
            self.refuse(
                "other names for the columns of a table (use SELECT … AS)",
                ident.span,
            );
        }
        let number = self.scans.len();
        let columns = schema.columns.columns().iter();
        let columns = columns.map(|column| {
            let id = self.table.add(column.name.clone(), column.of);
            (column.name.clone(), id)
        });
        let scan = Scan {
            number,
            relation,
            columns: columns.collect(),
            unique: schema.unique,
        };
        self.scans.push(OpenScan {
            scan: scan.clone(),
            n_declared: schema.columns.columns().len(),
            is_open: schema.is_open,
        });
        let table = ScopeTable {
            alias: called.into(),
            source: Source::Scan(number),
            merged: Vec::new(),
        };
        (Some(Node::Scan(scan)), vec![table])
    }

    /// The columns of a scan that its relation declares.
    pub(super) fn declared(&self, scan: usize) -> Vec<(Arc<str>, ColumnId)> {
        let open = &self.scans[scan];
        open.scan.columns[..open.n_declared].to_vec()
    }

    /// A relation by its name, as written or else in any case.
    fn relation(&self, ident: &ast::Ident) -> Option<(Arc<str>, RelationSchema)> {
        let exact: Arc<str> = ident.value.as_str().into();
        if let Some(schema) = self.relations.relation(&exact) {
            return Some((exact, schema));
        }
        let names = self.relations.names();
        let name = names.into_iter().find(|name| is_name(ident, name))?;
        let schema = self.relations.relation(&name)?;
        Some((name, schema))
    }

    /// A subquery as a table.
    pub(super) fn derived(
        &mut self,
        bound: Option<Bound>,
        called: &str,
        alias: Option<&'q ast::TableAlias>,
    ) -> Tables {
        let Some(bound) = bound else {
            return (None, vec![refused_table(called)]);
        };
        let renamed = alias.map_or(&[][..], |alias| &alias.columns);
        if let Some(alias) = alias
            && !renamed.is_empty()
            && renamed.len() != bound.outputs.len()
        {
            let message = format!(
                "`{}` has {} columns, and {} names are given",
                alias.name.value,
                bound.outputs.len(),
                renamed.len()
            );
            self.error(message, alias.name.span);
            return (None, vec![refused_table(called)]);
        }
        let outputs = bound.outputs.iter().enumerate();
        let columns = outputs.map(|(at, output)| match renamed.get(at) {
            Some(column) => (column.name.value.as_str().into(), output.id),
            None => (output.name.clone(), output.id),
        });
        let table = ScopeTable {
            alias: called.into(),
            source: Source::Columns(columns.collect()),
            merged: Vec::new(),
        };
        (Some(bound.node), vec![table])
    }
}

/// A table of which nothing more is said.
pub(super) fn refused_table(alias: &str) -> ScopeTable {
    ScopeTable {
        alias: alias.into(),
        source: Source::Refused,
        merged: Vec::new(),
    }
}

fn refused((_, mut tables): Tables, (_, right): Tables) -> Tables {
    tables.extend(right);
    (None, tables)
}

/// All pairs.
fn cross((left, mut tables): Tables, (right, right_tables): Tables) -> Tables {
    tables.extend(right_tables);
    let node = left.zip(right).map(|(left, right)| {
        Node::Join(Box::new(Join {
            kind: JoinKind::Inner,
            left,
            right,
            keys: Vec::new(),
            residual: Vec::new(),
        }))
    });
    (node, tables)
}
