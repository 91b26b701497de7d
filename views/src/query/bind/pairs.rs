//! Which pairs of rows is a model asked about?
//!
//! `JOIN … ON sem_match('…{a.x}…{b.y}…')` keeps the pairs for which a model says yes. It is asked
//! behind all other conditions on the pairs, wherever these stand. Where no equalities lead from one
//! side to the other, through other tables perhaps, that would be all pairs there are: so that has to
//! be said (`all_pairs => TRUE`), or the nearest are enough (`nearest => n`).

use std::collections::BTreeSet;

use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::{SemFunction, named_argument, take_named};
use crate::query::bind::expression::Place;
use crate::query::bind::nearest::Blocking;
use crate::query::bind::scope::ScopeTable;
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{Join, Node, Scalar};
use crate::query::rewrite;

/// Said of a prompt about one side.
const ONE_SIDED: &str = "the prompt of `sem_match` must name columns of both sides; what is about one of them is \
                         `sem_filter` in WHERE";

/// A model that decides which rows are pairs.
#[derive(Clone, Debug)]
pub(super) struct Match {
    output: ColumnId,
    arguments: Vec<Scalar>,
    /// Whether it may be asked about all pairs that there are.
    all_pairs: bool,
    /// Of how many right rows it is asked at most, with each left one.
    nearest: Option<u64>,
    span: Span,
}

impl<'q> Binder<'q> {
    /// A column that says whether two rows are a pair.
    pub(super) fn ask_pairs(
        &mut self,
        place: Place<'_>,
        arguments: &[&'q FunctionArg],
        span: Span,
    ) -> Option<Scalar> {
        let function = SemFunction::Match;
        let (all_pairs, rest) = take_named(arguments, "all_pairs");
        let all_pairs = match all_pairs {
            None => false,
            Some(argument) => self.truth(function.name(), argument)?,
        };
        let (nearest, rest) = take_named(&rest, "nearest");
        let nearest = match nearest {
            None => None,
            Some(argument) => Some(self.n_nearest(function.name(), argument)?),
        };
        if all_pairs && nearest.is_some() {
            let message =
                "`sem_match` is asked about all pairs or about the nearest, not about both";
            self.error(message, span);
            return None;
        }
        let (question, bound) = self.question(place, function, &rest, span)?;
        let output = self.output(function, question, bound.clone());
        if nearest.is_some() && !self.asks.is_pending(output) {
            self.error(ONE_SIDED, span);
            return None;
        }
        self.matches.push(Match {
            output,
            arguments: bound,
            all_pairs,
            nearest,
            span,
        });
        Some(Expression::Column(output))
    }

    /// The value of `all_pairs => TRUE`.
    fn truth(&mut self, function: &str, argument: &FunctionArg) -> Option<bool> {
        if let Some((_, FunctionArgExpr::Expr(Expr::Value(literal)))) = named_argument(argument)
            && let ast::Value::Boolean(is) = literal.value
        {
            return Some(is);
        }
        let message = format!("`{function}` takes `all_pairs => TRUE`, not `{argument}`");
        self.error(message, argument.span());
        None
    }

    /// The pairs of an inner join, of which models decide some conditions behind the others; `left` and
    /// `right` are the tables of its sides.
    pub(super) fn paired(
        &mut self,
        mut join: Join,
        left: &[ScopeTable],
        right: &[ScopeTable],
    ) -> Option<Node> {
        let residual = std::mem::take(&mut join.residual);
        let (asking, plain): (Vec<_>, Vec<_>) = residual.into_iter().partition(|condition| {
            let mut columns = condition.columns().into_iter();
            columns.any(|id| self.asks.is_pending(id))
        });
        let read: BTreeSet<ColumnId> = asking.iter().flat_map(Scalar::columns).collect();
        let of_tables = |binder: &Self, tables: &[ScopeTable]| -> BTreeSet<ColumnId> {
            let columns = tables.iter().flat_map(|table| binder.columns_of(table));
            columns.map(|(_, id)| id).collect()
        };
        let sides = [of_tables(self, left), of_tables(self, right)];
        let one_sided = self.matches.iter().find(|asked| {
            let mut named = asked.arguments.iter().flat_map(Scalar::columns);
            let names = |side: &BTreeSet<ColumnId>| named.any(|id| side.contains(&id));
            read.contains(&asked.output) && !sides.iter().all(names)
        });
        if let Some(asked) = one_sided {
            self.error(ONE_SIDED, asked.span);
            return None;
        }
        let pairs = match self.blocking(&read)? {
            None => {
                join.residual = plain;
                Node::Join(Box::new(join))
            }
            Some(by) => self.nearest(join, &by, (plain, &asking), &sides)?,
        };
        let asked = self.asks.take(|id| read.contains(&id));
        Some(self.place(pairs, asked).filtered(asking))
    }

    /// The model among those with these outputs that is asked about the nearest only, if one is:
    /// `Some(None)` if not, `None` if it was refused.
    fn blocking(&mut self, outputs: &BTreeSet<ColumnId>) -> Option<Option<Blocking>> {
        let asked = self.matches.iter().filter_map(|asked| {
            let n = asked.nearest.filter(|_| outputs.contains(&asked.output))?;
            Some(Blocking {
                output: asked.output,
                arguments: asked.arguments.clone(),
                n,
                span: asked.span,
            })
        });
        let mut asked = asked.collect::<Vec<_>>().into_iter();
        let first = asked.next();
        if let Some(second) = asked.next() {
            let message = "one `sem_match` of a JOIN says which rows are the nearest";
            self.error(message, second.span);
            return None;
        }
        Some(first)
    }

    /// Finds models that would be asked about all pairs without a word of it.
    pub(super) fn check_pairs(&mut self, root: &Node) {
        if self.matches.iter().all(|asked| asked.all_pairs) {
            return;
        }
        let pushed = rewrite::pushed(root.clone(), &self.table);
        let mut unkeyed = BTreeSet::new();
        unkeyed_asks(&pushed, &mut unkeyed);
        for asked in self.matches.clone() {
            if !asked.all_pairs && unkeyed.contains(&asked.output) {
                let message = "`sem_match` would be asked about every pair of rows of both sides; add an \
                               equality of both sides to ON or WHERE, or write `nearest => 10` or \
                               `all_pairs => TRUE`";
                self.error(message, asked.span);
            }
        }
    }
}

/// What models say of pairs that no keys bring together.
fn unkeyed_asks(node: &Node, all: &mut BTreeSet<ColumnId>) {
    if let Node::Ask(ask) = node {
        let mut together = Vec::new();
        brought_together(&ask.input, &mut together);
        let named: BTreeSet<ColumnId> = ask.arguments.iter().flat_map(Scalar::columns).collect();
        if !together.iter().any(|columns| named.is_subset(columns)) {
            all.insert(ask.output);
        }
    }
    node.inputs()
        .into_iter()
        .for_each(|input| unkeyed_asks(input, all));
}

/// The columns of a node, by sets: those of one table are together, and those of tables that keys of
/// joins lead to from one another.
fn brought_together(node: &Node, all: &mut Vec<BTreeSet<ColumnId>>) {
    match node {
        Node::Filter { input, .. } => brought_together(input, all),
        // No prompt names what another says in the same SELECT.
        Node::Ask(ask) => brought_together(&ask.input, all),
        Node::Join(join) => {
            brought_together(&join.left, all);
            if !join.kind.has_right() {
                return;
            }
            brought_together(&join.right, all);
            for (left, right) in &join.keys {
                unite(
                    all,
                    left.columns().into_iter().chain(right.columns()).collect(),
                );
            }
        }
        other => all.push(other.columns().into_iter().collect()),
    }
}

/// Makes one set of these columns and of all sets that hold any of them.
fn unite(all: &mut Vec<BTreeSet<ColumnId>>, mut columns: BTreeSet<ColumnId>) {
    let meets = |set: &mut BTreeSet<ColumnId>| !set.is_disjoint(&columns);
    let met: Vec<BTreeSet<ColumnId>> = all.extract_if(.., meets).collect();
    columns.extend(met.into_iter().flatten());
    all.push(columns);
}
