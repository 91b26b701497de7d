//! Where may an embedding decide in the place of a model?
//!
//! `sem_filter('…{text}…', recall => 0.95, precision => 0.95)` may lose a twentieth of the rows that the
//! model would accept, and hold a twentieth that it would not: so a model is asked only where the
//! embedding of a row does not decide. What is not given is not given up: without `recall` no row is
//! lost, without `precision` none is held that the model refuses.
//!
//! Who decides about a row hangs on all rows at hand. So the node stands where the question does, above
//! all conditions of its WHERE that no model decides and above those that stand before it, and no
//! condition from around passes it. `sem_decider` with the same arguments says who decided.

use perennial_rows::{Float, Type};
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::{Pending, Question, SemFunction, named_argument, take_named};
use crate::query::column::ColumnId;
use crate::query::node::{Node, Promise, Scalar};

/// Rows of a sample, unless told.
const SAMPLE: u64 = 600;
/// Least and most rows of a sample.
const SAMPLES: std::ops::RangeInclusive<u64> = 50..=10_000;

/// What an embedding may decide of a question, and the column that says who did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) promise: Promise,
    pub(super) decider: ColumnId,
}

impl<'q> Binder<'q> {
    /// What `recall`, `precision` and `sample` promise, and the arguments besides: `Some((None, …))` where
    /// nothing is given up.
    pub(super) fn promise(
        &mut self,
        function: SemFunction,
        arguments: &[&'q FunctionArg],
        span: Span,
    ) -> Option<(Option<Promise>, Vec<&'q FunctionArg>)> {
        let name = function.name();
        let (recall, rest) = take_named(arguments, "recall");
        let (precision, rest) = take_named(&rest, "precision");
        let (sample, rest) = take_named(&rest, "sample");
        let mut share = |key, argument: Option<&FunctionArg>| match argument {
            None => Some(Float::new(1.0)),
            Some(argument) => self.share(name, key, argument),
        };
        let (recall, precision) = (share("recall", recall)?, share("precision", precision)?);
        let n_sample = match sample {
            None => SAMPLE,
            Some(argument) => self.n_sample(name, argument)?,
        };
        if recall.get() < 1.0 || precision.get() < 1.0 {
            let promise = Promise {
                recall,
                precision,
                n_sample,
            };
            return Some((Some(promise), rest));
        }
        let message = match (function, sample) {
            (SemFunction::Decider, _) => format!(
                "`{name}` says who decides where `recall => x` or `precision => x` is below 1; without, a \
                 model decides about every row"
            ),
            (_, Some(_)) => format!(
                "`sample => n` of `{name}` stands beside `recall => x` or `precision => x` below 1"
            ),
            _ => return Some((None, rest)),
        };
        self.error(message, sample.map_or(span, Spanned::span));
        None
    }

    /// The value of `key => x`, a share.
    pub(super) fn share(
        &mut self,
        function: &str,
        key: &str,
        argument: &FunctionArg,
    ) -> Option<Float> {
        let given = number(argument).and_then(|digits| digits.parse::<f64>().ok());
        let given = given.filter(|x| *x > 0.0 && *x <= 1.0);
        if given.is_none() {
            let message = format!(
                "`{function}` takes `{key} => x`, a number above 0 and up to 1, not `{argument}`"
            );
            self.error(message, argument.span());
        }
        given.map(Float::new)
    }

    /// The value of `sample => n`.
    fn n_sample(&mut self, function: &str, argument: &FunctionArg) -> Option<u64> {
        let given = number(argument).and_then(|digits| digits.parse().ok());
        let given = given.filter(|n| SAMPLES.contains(n));
        if given.is_none() {
            let message = format!(
                "`{function}` takes `sample => n`, a whole number from {} to {}, not `{argument}`",
                SAMPLES.start(),
                SAMPLES.end()
            );
            self.error(message, argument.span());
        }
        given
    }

    /// The columns of a question of which an embedding decides some: those of the same question, if it is
    /// asked.
    pub(super) fn decided(
        &mut self,
        question: Question,
        arguments: Vec<Scalar>,
        promise: Promise,
    ) -> (ColumnId, ColumnId) {
        if let Some(known) = self.asks.known(&question, &arguments, Some(promise)) {
            return known;
        }
        let output = self
            .table
            .add(SemFunction::Filter.name(), question.task.output().of());
        let decider = self.table.add(SemFunction::Decider.name(), Type::Text);
        self.asks.add(Pending {
            output,
            question,
            arguments,
            decided: Some(Decided { promise, decider }),
        });
        (output, decider)
    }

    /// The rows of a node that conditions keep which models decide. Where an embedding may decide some of
    /// them, they are asked in their order: it matters which rows are there.
    pub(super) fn asked_and_filtered(
        &mut self,
        mut node: Node,
        mut conditions: Vec<Scalar>,
    ) -> Node {
        let pending = self.asks.take(|_| true);
        if pending.iter().all(|ask| ask.decided.is_none()) {
            return self.place(node, pending).filtered(conditions);
        }
        for ask in pending {
            node = self.place(node, vec![ask]);
            let columns = node.columns();
            let is_known = |condition: &mut Scalar| {
                let mut read = condition.columns().into_iter();
                read.all(|id| columns.contains(&id))
            };
            let known: Vec<Scalar> = conditions.extract_if(.., is_known).collect();
            node = node.filtered(known);
        }
        node.filtered(conditions)
    }
}

/// The digits of `name => digits`.
fn number(argument: &FunctionArg) -> Option<&str> {
    match named_argument(argument) {
        Some((_, FunctionArgExpr::Expr(Expr::Value(literal)))) => match &literal.value {
            ast::Value::Number(digits, _) => Some(digits),
            _ => None,
        },
        _ => None,
    }
}
