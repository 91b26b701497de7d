//! What is a model asked about the rows of a group?
//!
//! `sem_agg('…{column}…')` is an aggregate that a model makes. It stands where aggregates do, and is
//! put above the groups: what HAVING reads below its condition, all else above it, so that nobody is
//! asked about a group that does not stay.

use sqlparser::ast::{self, Spanned};

use crate::query::bind::Binder;
use crate::query::bind::ask::{Question, SemFunction};
use crate::query::bind::expression::Place;
use crate::query::column::ColumnId;
use crate::query::expression::Expression;
use crate::query::node::{AskGroups, Node, Scalar};
use perennial_rows::Value;

/// A model that is asked about groups.
#[derive(Clone, Debug)]
pub(super) struct AskedGroups {
    pub(super) output: ColumnId,
    question: Question,
    pub(super) arguments: Vec<Scalar>,
}

/// The rows of a grouped SELECT, and what they are grouped by.
#[derive(Clone, Debug)]
pub(super) struct GroupedRows {
    pub(super) rows: Node,
    pub(super) keys: Vec<(ColumnId, Scalar)>,
}

impl<'q> Binder<'q> {
    /// A column that a model makes of each group.
    pub(super) fn ask_groups(
        &mut self,
        place: Place<'_>,
        call: &'q ast::Function,
        list: &'q ast::FunctionArgumentList,
    ) -> Option<Scalar> {
        let (function, span) = (SemFunction::Aggregate, call.name.span());
        let name = function.name();
        self.check_aggregate(place, name, span)?;
        if list.duplicate_treatment.is_some() {
            let message = format!(
                "DISTINCT in `{name}` is not supported, and not needed: rows that are alike in what \
                 its prompt names count once"
            );
            self.error(message, span);
            return None;
        }
        let inner = Place {
            clause: "an aggregate",
            allows_aggregates: false,
            ..place
        };
        let arguments: Vec<_> = list.args.iter().collect();
        let bound = self.question(inner, function, &arguments, span);
        let filter = match &call.filter {
            None => None,
            Some(filter) => Some(self.condition(inner, filter)?),
        };
        let (question, mut arguments) = bound?;
        // What FILTER leaves out is NULL, which aggregates ignore.
        if let Some(filter) = filter {
            for argument in &mut arguments {
                let kept = std::mem::replace(argument, Expression::Literal(Value::Null));
                *argument = Expression::Case {
                    branches: vec![(filter.clone(), kept)],
                    otherwise: Box::new(Expression::Literal(Value::Null)),
                };
            }
        }
        let mut known = self.asked_groups.iter();
        let same = known.find(|ask| ask.question == question && ask.arguments == arguments);
        if let Some(ask) = same {
            return Some(Expression::Column(ask.output));
        }
        let output = self.table.add(name, question.task.output().of());
        self.asked_groups.push(AskedGroups {
            output,
            question,
            arguments,
        });
        Some(Expression::Column(output))
    }

    /// A node with the columns of the models that are asked about groups, of those that `is_taken`.
    pub(super) fn place_groups(
        &mut self,
        node: Node,
        grouped: &GroupedRows,
        is_taken: impl Fn(ColumnId) -> bool,
    ) -> Option<Node> {
        let asked = &mut self.asked_groups;
        let taken: Vec<AskedGroups> = asked.extract_if(.., |ask| is_taken(ask.output)).collect();
        taken.into_iter().try_fold(node, |groups, ask| {
            // The rows are read once more.
            self.count_tables(grouped.rows.n_tables())?;
            Some(Node::AskGroups(Box::new(AskGroups {
                groups,
                rows: grouped.rows.clone(),
                keys: grouped.keys.clone(),
                model: ask.question.model,
                task: ask.question.task,
                arguments: ask.arguments,
                output: ask.output,
            })))
        })
    }
}
