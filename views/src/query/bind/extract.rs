//! Which columns are read out of a text?
//!
//! `sem_extract('…{column}…', product => TEXT, price => FLOAT)` is several columns of one question: a
//! model gives a JSON object, and each column is a field of it, made to fit its type. Selected by
//! itself it stands for all of them under their names; with one column it is an expression.
//!
//! `sem_extract_all` is the same of several rows: the model gives a list of such objects, and each is in a
//! row of its own (`unnest`).

use std::sync::Arc;

use perennial_ask::record::{Field, FieldType, Fields};
use perennial_ask::{MAX_RECORDS, Output, Records};
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
/// The same, of all rows of a text.
const MAX_TOKENS_OF_ALL: usize = 512;
/// Most rows of a text, unless told.
const MAX_ROWS: usize = 16;

/// A column that is read out.
pub(super) struct Extracted {
    pub(super) name: Arc<str>,
    pub(super) expression: Scalar,
    /// Where it is named.
    pub(super) span: Span,
}

/// The call that an expression is, if it reads columns out of a text.
pub(super) fn extraction(expr: &Expr) -> Option<(&ast::Function, SemFunction)> {
    match expr {
        Expr::Function(call) => {
            let function = SemFunction::named(&call.name.to_string())?;
            let is_it = matches!(function, SemFunction::Extract | SemFunction::ExtractAll);
            is_it.then_some((call, function))
        }
        _ => None,
    }
}

impl<'q> Binder<'q> {
    /// The columns of a call.
    pub(super) fn extract(
        &mut self,
        place: Place<'_>,
        function: SemFunction,
        arguments: &'q [FunctionArg],
        span: Span,
    ) -> Option<Vec<Extracted>> {
        self.check_place(place, function, span)?;
        let listed: Vec<&FunctionArg> = arguments.iter().collect();
        let (question, bound) = self.question(place, function, &listed, span)?;
        let fields = question.task.output().fields()?.clone();
        let said = Expression::Column(self.output(function, question, bound));
        let json = match function {
            SemFunction::ExtractAll => self.element(place, function.name(), said, span)?,
            _ => said,
        };
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
    pub(super) fn record(
        &mut self,
        function: SemFunction,
        rest: &[&'q FunctionArg],
        span: Span,
    ) -> Option<Output> {
        let name = function.name();
        let is_of_all = function == SemFunction::ExtractAll;
        let (max_tokens, rest) = take_named(rest, "max_tokens");
        let max_tokens = match max_tokens {
            None if is_of_all => MAX_TOKENS_OF_ALL,
            None => MAX_TOKENS,
            Some(argument) => self.max_tokens(name, argument)?,
        };
        let (max_rows, rest) = match is_of_all {
            true => take_named(&rest, "max_rows"),
            false => (None, rest),
        };
        let max_rows = match max_rows {
            None => MAX_ROWS,
            Some(argument) => self.max_rows(name, argument)?,
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
        let output = Fields::new(fields).and_then(|fields| match is_of_all {
            false => Ok(Output::Record { fields, max_tokens }),
            true => Ok(Output::Records {
                records: Records::new(fields, max_rows)?,
                max_tokens,
            }),
        });
        match output {
            Ok(output) => Some(output),
            Err(why) => {
                self.error(format!("`{name}`: {why}"), span);
                None
            }
        }
    }

    /// The number of `max_rows => n`.
    fn max_rows(&mut self, name: &str, argument: &FunctionArg) -> Option<usize> {
        let given = match named_argument(argument) {
            Some((_, FunctionArgExpr::Expr(Expr::Value(literal)))) => match &literal.value {
                ast::Value::Number(digits, _) => digits.parse().ok(),
                _ => None,
            },
            _ => None,
        };
        let given = given.filter(|n| (1..=MAX_RECORDS).contains(n));
        if given.is_none() {
            let message = format!(
                "`{name}` takes `max_rows => n`, a whole number from 1 to {MAX_RECORDS}, not `{argument}`"
            );
            self.error(message, argument.span());
        }
        given
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
        function: SemFunction,
        arguments: &'q [FunctionArg],
        span: Span,
    ) -> Option<Scalar> {
        let mut columns = self.extract(place, function, arguments, span)?;
        if columns.len() > 1 {
            let message = format!(
                "`{name}` makes {n} columns; select it by itself, in a query below where these are \
                 read: SELECT … FROM (SELECT *, {name}(…) FROM …)",
                name = function.name(),
                n = columns.len()
            );
            self.error(message, span);
            return None;
        }
        columns.pop().map(|column| column.expression)
    }
}
