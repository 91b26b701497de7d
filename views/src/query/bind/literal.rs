//! What do literals and names of types stand for?

use perennial_rows::{Type, Value};
use sqlparser::ast;
use sqlparser::tokenizer::Span;

use crate::query::bind::Binder;
use crate::query::timestamp;

impl Binder<'_> {
    pub(super) fn literal(&mut self, literal: &ast::ValueWithSpan) -> Option<Value> {
        use ast::Value as V;
        let span = literal.span;
        Some(match &literal.value {
            V::Number(digits, _) => return self.number(digits, span),
            V::Boolean(is) => Value::Boolean(*is),
            V::Null => Value::Null,
            V::Placeholder(name) => {
                self.refuse(&format!("the placeholder `{name}`"), span);
                return None;
            }
            V::HexStringLiteral(_)
            | V::SingleQuotedByteStringLiteral(_)
            | V::DoubleQuotedByteStringLiteral(_)
            | V::TripleSingleQuotedByteStringLiteral(_)
            | V::TripleDoubleQuotedByteStringLiteral(_) => {
                self.refuse("a literal of bytes", span);
                return None;
            }
            other => match other.clone().into_string() {
                Some(text) => Value::text(text),
                None => {
                    self.refuse(&format!("the literal {other}"), span);
                    return None;
                }
            },
        })
    }

    /// A number without a point or an exponent is an integer, any other a float.
    pub(super) fn number(&mut self, digits: &str, span: Span) -> Option<Value> {
        if digits.bytes().all(|c| c.is_ascii_digit() || c == b'-') {
            if let Ok(integer) = digits.parse() {
                return Some(Value::Integer(integer));
            }
            let message =
                format!("{digits} is beyond the integers of 64 bits; write {digits}.0 for a float");
            self.error(message, span);
            return None;
        }
        match digits.parse() {
            Ok(float) => Some(Value::float(float)),
            Err(_) => {
                self.error(format!("`{digits}` is no number"), span);
                None
            }
        }
    }

    /// `TIMESTAMP '2024-05-01 09:30'`, `DATE '2024-05-01'`.
    pub(super) fn typed_string(&mut self, typed: &ast::TypedString) -> Option<Value> {
        let span = typed.value.span;
        let Some(text) = typed.value.value.clone().into_string() else {
            self.refuse(&format!("the literal {typed}"), span);
            return None;
        };
        match &typed.data_type {
            ast::DataType::Timestamp(None, _)
            | ast::DataType::Datetime(None)
            | ast::DataType::Date => self.instant(&text, span),
            other => {
                self.refuse(&format!("a literal of type {other}"), span);
                None
            }
        }
    }

    pub(super) fn instant(&mut self, text: &str, span: Span) -> Option<Value> {
        let instant = timestamp::parse(text);
        if instant.is_none() {
            let message = format!("'{text}' is no timestamp; write one like '2024-05-01 09:30:00'");
            self.error(message, span);
        }
        instant.map(Value::Timestamp)
    }

    pub(super) fn data_type(&mut self, of: &ast::DataType, span: Span) -> Option<Type> {
        let name = of.to_string();
        if name.contains('(') {
            let plain = name.split('(').next().unwrap_or_default();
            let message =
                format!("the type {name} is not kept within its bounds; write {plain} without");
            self.error(message, span);
            return None;
        }
        let plain = match name.to_ascii_uppercase().as_str() {
            "TIMESTAMP WITH TIME ZONE" | "TIMESTAMP WITHOUT TIME ZONE" => "TIMESTAMP",
            "CHARACTER VARYING" | "CHARACTER" => "TEXT",
            "FLOAT8" | "FLOAT64" => "FLOAT",
            _ => &name,
        };
        match plain.parse() {
            Ok(of) => Some(of),
            Err(error) => {
                self.error(format!("{error}"), span);
                None
            }
        }
    }
}
