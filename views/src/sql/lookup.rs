//! Which query computes what an edit writes down, or finds the rows that it changes?
//!
//! Expressions of edits mean what they mean in queries: they become queries, with their places.

use std::sync::Arc;

use perennial_rows::Value;
use sqlparser::ast::{
    Expr, Ident, Parens, Query, SelectItem, SetExpr, UnaryOperator, Value as Written,
    ValueWithSpan, Values,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Tokenizer;

use super::lexer::DIALECT;
use super::print::Identifier;
use super::statement::{Delete, Spanned, Update};

/// Stands before the names of computed columns. No column of a table has such a name: a name
/// cannot hold a NUL.
const COMPUTED: &str = "\0";

impl Update {
    /// The rows that are changed: every column of the table, then what each of
    /// [`Update::set`] becomes.
    pub fn query(&self) -> Box<Query> {
        let set = self.set.iter().enumerate();
        let computed = set.map(|(at, (_, value))| SelectItem::ExprWithAlias {
            expr: value.of.clone(),
            alias: Ident::with_quote('"', format!("{COMPUTED}{at}")),
        });
        found(&self.table.of, computed.collect(), self.filter.as_ref())
    }
}

impl Delete {
    /// The rows that are deleted: every column of the table.
    pub fn query(&self) -> Box<Query> {
        found(&self.table.of, Vec::new(), self.filter.as_ref())
    }
}

/// `SELECT *, computed FROM table WHERE filter`
fn found(
    table: &Arc<str>,
    computed: Vec<SelectItem>,
    filter: Option<&Spanned<Expr>>,
) -> Box<Query> {
    let text = format!("SELECT * FROM {}", Identifier(table));
    let tokens = Tokenizer::new(&DIALECT, &text).tokenize();
    let tokens = tokens.expect("a name in quotes has an end");
    let mut parser = Parser::new(&DIALECT).with_tokens(tokens);
    let mut query = parser.parse_query().expect("a query of this form is one");
    if let SetExpr::Select(select) = &mut *query.body {
        select.projection.extend(computed);
        select.selection = filter.map(|filter| filter.of.clone());
    }
    query
}

/// The query of one row of these values.
pub fn row(values: &[Spanned<Expr>]) -> Box<Query> {
    let mut query = found(&"none".into(), Vec::new(), None);
    let row = values.iter().map(|value| value.of.clone()).collect();
    *query.body = SetExpr::Values(Values {
        explicit_row: false,
        value_keyword: false,
        rows: vec![Parens::with_empty_span(row)],
    });
    query
}

/// The value of an expression that is one as it stands there.
pub fn literal(written: &Expr) -> Option<Value> {
    let number_of = |value: &Written, sign: &str| match value {
        Written::Number(digits, false) => number(&format!("{sign}{digits}")),
        _ => None,
    };
    match written {
        Expr::Value(ValueWithSpan { value, .. }) => match value {
            Written::Null => Some(Value::Null),
            Written::Boolean(is) => Some((*is).into()),
            Written::SingleQuotedString(text) | Written::EscapedStringLiteral(text) => {
                Some(Value::text(text.as_str()))
            }
            Written::DollarQuotedString(string) => Some(Value::text(string.value.as_str())),
            value => number_of(value, ""),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match &**expr {
            Expr::Value(ValueWithSpan { value, .. }) => number_of(value, "-"),
            _ => None,
        },
        _ => None,
    }
}

fn number(digits: &str) -> Option<Value> {
    if let Ok(whole) = digits.parse::<i64>() {
        return Some(whole.into());
    }
    // A whole number beyond 64 bits would lose digits; the binder says so.
    let is_float = digits.contains(['.', 'e', 'E']);
    let number = digits.parse::<f64>().ok().filter(|_| is_float);
    number.filter(|number| number.is_finite()).map(Value::float)
}

#[cfg(test)]
mod tests {
    use super::super::{Script, Statement, parse};
    use super::*;

    fn one(text: &str) -> Statement {
        let mut all = parse(&Script::new("t", text)).expect("sound");
        all.remove(0).of
    }

    #[test]
    fn edits_find_their_rows_by_a_query() {
        let Statement::Update(update) = one("UPDATE \"T t\" SET n = n + 1 WHERE key = 'a'") else {
            panic!("an update");
        };
        let query = update.query().to_string();
        assert_eq!(
            query,
            "SELECT *, n + 1 AS \"\0\u{30}\" FROM \"T t\" WHERE key = 'a'"
        );
        let Statement::Delete(delete) = one("DELETE FROM t") else {
            panic!("a deletion");
        };
        assert_eq!(delete.query().to_string(), "SELECT * FROM t");
    }

    #[test]
    fn what_stands_there_as_it_is_needs_no_query() {
        let Statement::Insert(insert) =
            one("INSERT INTO t VALUES ('a', -3, 2.5, NULL, true, 1 + 1, 99999999999999999999)")
        else {
            panic!("an insertion");
        };
        let row_of = &insert.rows[0];
        let values: Vec<_> = row_of.iter().map(|value| literal(&value.of)).collect();
        let expected = [
            Some(Value::text("a")),
            Some(Value::Integer(-3)),
            Some(Value::float(2.5)),
            Some(Value::Null),
            Some(Value::Boolean(true)),
            None,
            None,
        ];
        assert_eq!(values, expected);
        assert_eq!(row(&row_of[..2]).to_string(), "VALUES ('a', -3)");
    }
}
