//! Which columns are read out of a text?
//!
//! `sem_extract('…{column}…', product => TEXT, price => FLOAT)` is several columns of one question: a
//! model gives a JSON object, and each column is a field of it, made to fit its type. Selected by
//! itself it stands for all of them under their names; with one column it is an expression.

use std::sync::Arc;

use perennial_ask::Output;
use perennial_ask::record::{Field, FieldType, Fields};
use perennial_rows::Type;
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Spanned};
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::bind::ask::{SemFunction, literal_text, named_argument, take_named};
use crate::query::bind::expression::Place;
use crate::query::expression::Expression;
use crate::query::functions::Function;
use crate::query::node::Scalar;

/// Most tokens of all values of a row as a model writes them, unless told.
const MAX_TOKENS: usize = 256;

/// A column that is read out.
pub(super) struct Extracted {
    pub(super) name: Arc<str>,
    pub(super) expression: Scalar,
    /// Where it is named.
    pub(super) span: Span,
}

/// The call that an expression is, if it reads columns out of a text.
pub(super) fn extraction(expr: &Expr) -> Option<&ast::Function> {
    match expr {
        Expr::Function(call) => {
            let name = SemFunction::named(&call.name.to_string());
            (name == Some(SemFunction::Extract)).then_some(call)
        }
        _ => None,
    }
}

impl<'q> Binder<'q> {
    /// The columns of a call.
    pub(super) fn extract(
        &mut self,
        place: Place<'_>,
        arguments: &'q [FunctionArg],
        span: Span,
    ) -> Option<Vec<Extracted>> {
        let function = SemFunction::Extract;
        self.check_place(place, function, span)?;
        let listed: Vec<&FunctionArg> = arguments.iter().collect();
        let (question, bound) = self.question(place, function, &listed, span)?;
        let Output::Record { fields, .. } = question.task.output().clone() else {
            return None;
        };
        let json = Expression::Column(self.output(function, question, bound));
        let columns = fields.all().iter().map(|field| {
            let named = arguments.iter().find(|argument| {
                named_argument(argument).is_some_and(|(name, _)| *name == *field.name)
            });
            let which = vec![json.clone(), Expression::literal(&*field.name)];
            let expression = match field.of.column() {
                Type::Text => Expression::Call(Function::JsonText, which),
                of => {
                    let value = Expression::Call(Function::JsonField, which);
                    Expression::Cast(Box::new(value), of)
                }
            };
            Extracted {
                name: field.name.clone(),
                expression,
                span: named.map_or(span, Spanned::span),
            }
        });
        Some(columns.collect())
    }

    /// What a call gives, by its arguments behind the prompt and the model.
    pub(super) fn record(&mut self, rest: &[&'q FunctionArg], span: Span) -> Option<Output> {
        let name = SemFunction::Extract.name();
        let (max_tokens, rest) = take_named(rest, "max_tokens");
        let max_tokens = match max_tokens {
            None => MAX_TOKENS,
            Some(argument) => self.max_tokens(name, argument)?,
        };
        let mut fields = Vec::new();
        for argument in rest {
            let of = self.field_type(argument);
            match named_argument(argument).zip(of) {
                Some(((name, _), of)) => fields.push(Field {
                    name: name.into(),
                    of,
                }),
                None => {
                    let message = format!(
                        "`{name}` takes columns as `name => TYPE`, of type TEXT, INTEGER, FLOAT, \
                         BOOLEAN or TIMESTAMP, or as `name => ('label', …)`, not `{argument}`"
                    );
                    self.error(message, argument.span());
                    return None;
                }
            }
        }
        if fields.is_empty() {
            let message = format!(
                "`{name}` takes a prompt and the columns to read out: \
                 {name}('… {{column}} …', product => TEXT, price => FLOAT)"
            );
            self.error(message, span);
            return None;
        }
        match Fields::new(fields) {
            Ok(fields) => Some(Output::Record { fields, max_tokens }),
            Err(why) => {
                self.error(format!("`{name}`: {why}"), span);
                None
            }
        }
    }

    /// The type that a column is given, if it is one that can be read out.
    fn field_type(&self, argument: &FunctionArg) -> Option<FieldType> {
        let (_, FunctionArgExpr::Expr(given)) = named_argument(argument)? else {
            return None;
        };
        let labels = |list: &[Expr]| {
            let labels = list.iter().map(|label| literal_text(label).map(Arc::from));
            labels
                .collect::<Option<Arc<[Arc<str>]>>>()
                .map(FieldType::OneOf)
        };
        match given {
            Expr::Identifier(name) if name.quote_style.is_none() => {
                FieldType::of_column(name.value.parse().ok()?)
            }
            Expr::Tuple(list) => labels(list),
            Expr::Nested(only) => labels(std::slice::from_ref(only)),
            _ => None,
        }
    }

    /// The only column of a call, as an expression.
    pub(super) fn extract_one(
        &mut self,
        place: Place<'_>,
        arguments: &'q [FunctionArg],
        span: Span,
    ) -> Option<Scalar> {
        let mut columns = self.extract(place, arguments, span)?;
        if columns.len() > 1 {
            let message = format!(
                "`{name}` makes {n} columns; select it by itself, in a query below where these are \
                 read: SELECT … FROM (SELECT *, {name}(…) FROM …)",
                name = SemFunction::Extract.name(),
                n = columns.len()
            );
            self.error(message, span);
            return None;
        }
        columns.pop().map(|column| column.expression)
    }
}
