//! Which rows mean the same, and what is that called?
//!
//! `sem_dedup(text, threshold => 0.9)` is, of each row that WHERE keeps, the text that stands for its own
//! and for those that mean the same: a column that hangs on all rows together. A node beside them makes
//! it, of their texts, and a left join looks it up. So a condition around the query leaves out rows, and
//! connects and disconnects none. `sem_group('…{text}…', threshold => 0.7)` looks up besides what a model
//! says of such texts, as `sem_agg` asks about a group.

use std::collections::BTreeSet;

use perennial_rows::{Float, Type};
use sqlparser::ast::{FunctionArg, FunctionArgExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::{Question, SemFunction, take_named};
use crate::query::bind::expression::{Place, place_of};
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{AskGroups, Check, Clusters, Join, JoinKind, Node, Scalar};

/// Texts of the rows at hand that are connected.
#[derive(Clone, Debug)]
pub(super) struct Clustered {
    text: Scalar,
    threshold: Float,
    check: Option<Question>,
    /// The columns of the node: the text, and the one that stands for it.
    of: ColumnId,
    output: ColumnId,
    /// What a model is asked about them, and the column that it makes.
    named: Vec<(Question, ColumnId)>,
}

impl<'q> Binder<'q> {
    /// A column that says which text stands for that of a row, or what such texts are called.
    pub(super) fn cluster(
        &mut self,
        place: Place<'_>,
        function: SemFunction,
        arguments: &'q [FunctionArg],
        span: Span,
    ) -> Option<Scalar> {
        self.check_place(place, function, span)?;
        let name = function.name();
        let listed: Vec<&FunctionArg> = arguments.iter().collect();
        let (threshold, rest) = take_named(&listed, "threshold");
        let Some(threshold) = threshold else {
            let message = format!(
                "`{name}` takes `threshold => 0.9`: how similar texts are that mean the same"
            );
            self.error(message, span);
            return None;
        };
        let threshold = self.share(name, "threshold", threshold)?;
        let inner = Place {
            clause: name,
            allows_aggregates: false,
            ..place
        };
        let output = match function {
            SemFunction::Group => self.name_of(inner, &rest, threshold, span)?,
            _ => self.stands_for(inner, &rest, threshold, span)?,
        };
        self.uses.push((output, span));
        Some(Expression::Column(output))
    }

    /// The column of the text that stands for that of a row.
    fn stands_for(
        &mut self,
        place: Place<'_>,
        arguments: &[&'q FunctionArg],
        threshold: Float,
        span: Span,
    ) -> Option<ColumnId> {
        let name = SemFunction::Dedup.name();
        let Some((FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)), rest)) =
            arguments.split_first()
        else {
            let message = format!("`{name}` takes a text first: {name}(text, threshold => 0.9)");
            self.error(message, span);
            return None;
        };
        let compared = self.scalar(place, expr);
        let check = self.check_of_pairs(place, rest, span)?;
        let compared = compared?;
        if let Some((_, columns)) = &check
            && *columns != [compared.clone()]
        {
            let message =
                format!("the prompt of `{name}` names the text that is compared, and nothing else");
            self.error(message, span);
            return None;
        }
        let text = self.as_text(name, compared, place_of(expr))?;
        let at = self.clustered(text, threshold, check.map(|(question, _)| question));
        Some(self.clusters[at].output)
    }

    /// The column of what a model calls the texts that are connected with that of a row.
    fn name_of(
        &mut self,
        place: Place<'_>,
        arguments: &[&'q FunctionArg],
        threshold: Float,
        span: Span,
    ) -> Option<ColumnId> {
        let function = SemFunction::Group;
        let (question, columns) = self.question(place, function, arguments, span)?;
        let text = self.only_column(function.name(), columns, span)?;
        let text = self.as_text(function.name(), text, span)?;
        let at = self.clustered(text, threshold, None);
        Some(self.named(at, question))
    }

    /// What is asked about two texts, and of which columns: `Some(None)` where nobody is asked.
    fn check_of_pairs(
        &mut self,
        place: Place<'_>,
        rest: &[&'q FunctionArg],
        span: Span,
    ) -> Option<Option<(Question, Vec<Scalar>)>> {
        let function = SemFunction::Dedup;
        match rest.first() {
            None => Some(None),
            Some(FunctionArg::Unnamed(_)) => self.question(place, function, rest, span).map(Some),
            Some(other) => {
                let message = format!(
                    "`{}` takes a text, a prompt about two of them, `threshold => x`, and behind a prompt \
                     `model => name`, not `{other}`",
                    function.name()
                );
                self.error(message, other.span());
                None
            }
        }
    }

    /// The only column that a prompt names.
    fn only_column(&mut self, function: &str, columns: Vec<Scalar>, span: Span) -> Option<Scalar> {
        match <[Scalar; 1]>::try_from(columns) {
            Ok([column]) => Some(column),
            Err(_) => {
                let message = format!(
                    "the prompt of `{function}` names one column, whose texts are compared; put several \
                     together in a query below, as of title || ' ' || text"
                );
                self.error(message, span);
                None
            }
        }
    }

    /// What is compared of a column.
    fn as_text(&mut self, function: &str, column: Scalar, span: Span) -> Option<Scalar> {
        match self.of(&column) {
            Type::Text => Some(column),
            Type::Any => Some(Expression::Cast(Box::new(column), Type::Text)),
            of => {
                self.error(format!("`{function}` compares TEXT, not {of}"), span);
                None
            }
        }
    }

    /// The place of the texts that are connected so among those of the SELECT at hand.
    fn clustered(&mut self, text: Scalar, threshold: Float, check: Option<Question>) -> usize {
        let is_same = |known: &Clustered| {
            known.text == text && known.threshold == threshold && known.check == check
        };
        if let Some(at) = self.clusters.iter().position(is_same) {
            return at;
        }
        let name = match &text {
            Expression::Column(id) => self.table.name(*id).clone(),
            _ => "text".into(),
        };
        let of = self.table.add(name, Type::Text);
        let output = self.table.add(SemFunction::Dedup.name(), Type::Text);
        self.clusters.push(Clustered {
            text,
            threshold,
            check,
            of,
            output,
            named: Vec::new(),
        });
        self.clusters.len() - 1
    }

    /// The column of what a model says of connected texts.
    fn named(&mut self, at: usize, question: Question) -> ColumnId {
        let mut known = self.clusters[at].named.iter();
        if let Some((_, output)) = known.find(|(known, _)| *known == question) {
            return *output;
        }
        let of = question.task.output().of();
        let output = self.table.add(SemFunction::Group.name(), of);
        self.clusters[at].named.push((question, output));
        output
    }

    /// The rows of a node, with the columns that say what they mean together with others.
    pub(super) fn place_clusters(&mut self, node: Node) -> Option<Node> {
        let all = std::mem::take(&mut self.clusters);
        let read: BTreeSet<ColumnId> = all.iter().flat_map(|of| of.text.columns()).collect();
        let asked = self.asks.take(|id| read.contains(&id));
        let base = self.place(node, asked);
        let mut made: BTreeSet<ColumnId> = BTreeSet::new();
        all.into_iter().try_fold(base.clone(), |rows, clustered| {
            // Of others only what it reads is below it.
            let input = match clustered.text.columns().is_disjoint(&made) {
                true => base.clone(),
                false => rows.clone(),
            };
            let named = clustered.named.iter().map(|(_, output)| *output);
            made.extend(named.chain([clustered.output]));
            self.looked_up(rows, input, clustered)
        })
    }

    /// Rows, each with what stands for its text and what that is called; `input` has all of the texts.
    fn looked_up(&mut self, rows: Node, input: Node, clustered: Clustered) -> Option<Node> {
        // The rows are read once more, and by each question once more for groups and for members.
        let n_reads = 1 + 2 * clustered.named.len();
        self.count_tables(input.n_tables().saturating_mul(n_reads))?;
        let Clustered {
            text,
            threshold,
            check,
            of,
            output,
            named,
        } = clustered;
        let clusters = Node::Clusters(Box::new(Clusters {
            input,
            text: text.clone(),
            threshold,
            check: check.map(|Question { model, task }| Check { model, task }),
            of,
            output,
        }));
        let rows = left_join(rows, (text, of), clusters.clone());
        Some(named.into_iter().fold(rows, |rows, (question, name)| {
            let key = self.table.add(self.table.name(output).clone(), Type::Text);
            let groups = Node::Reduce {
                input: Box::new(clusters.clone()),
                keys: vec![(key, Expression::Column(output))],
                aggregates: Vec::new(),
            };
            let named = Node::AskGroups(Box::new(AskGroups {
                groups,
                rows: clusters.clone(),
                keys: vec![(key, Expression::Column(output))],
                model: question.model,
                task: question.task,
                arguments: vec![Expression::Column(of)],
                output: name,
            }));
            left_join(rows, (Expression::Column(output), key), named)
        }))
    }
}

/// Left rows, each with the only right one that has its key, if there is one.
fn left_join(left: Node, (key, found_by): (Scalar, ColumnId), right: Node) -> Node {
    Node::Join(Box::new(Join {
        kind: JoinKind::Left,
        left,
        right,
        keys: vec![(key, Expression::Column(found_by))],
        residual: Vec::new(),
    }))
}
