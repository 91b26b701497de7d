//! `INSERT`, `UPDATE` and `DELETE`: rows of tables that are fed by hand.

use sqlparser::ast::Expr;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::Cursor;
use super::diagnostic::Diagnostic;
use super::embedded;
use super::statement::{Delete, Insert, Name, Spanned, Statement, Update};

/// Rows of one `INSERT`.
const MAX_ROWS: usize = 100_000;

/// What follows `INSERT`.
pub(super) fn insert(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    cursor.expect("INTO")?;
    let table = cursor.name("the name of a table")?;
    let columns = match cursor.peek() {
        Some(Token::LParen) => Some(columns(cursor)?),
        _ => {
            cursor.tried("`(`");
            None
        }
    };
    if cursor.is_at("SELECT") {
        cursor.tried("VALUES");
        let help = "what a query gives is kept by a view: CREATE VIEW name AS SELECT …";
        return Err(cursor.unexpected().help(help));
    }
    cursor.expect("VALUES")?;
    let mut n_columns = columns.as_ref().map(Vec::len);
    let mut rows = Vec::new();
    loop {
        let begin = cursor.span();
        if rows.len() == MAX_ROWS {
            let what = format!("more than {MAX_ROWS} rows in one INSERT");
            return Err(Diagnostic::new(what, begin).help("split it, or make it a source"));
        }
        let row = cursor.list(|cursor| {
            value(cursor, |token| {
                matches!(token, Token::Comma | Token::RParen)
            })
        })?;
        let expected = *n_columns.get_or_insert(row.len());
        if row.len() != expected {
            let count =
                |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
            let (values, columns) = (count(row.len(), "value"), count(expected, "column"));
            let what = format!("{values} where there are {columns}");
            return Err(Diagnostic::new(what, begin.union(&cursor.last_span())));
        }
        rows.push(row);
        if !cursor.eat_symbol(&Token::Comma) {
            break;
        }
    }
    if cursor.is_at("ON") {
        let help = "leave it out: a row whose key stands already takes its place";
        return Err(cursor.unexpected().help(help));
    }
    Ok(Statement::Insert(Insert {
        table,
        columns,
        rows,
    }))
}

fn columns(cursor: &mut Cursor<'_>) -> Result<Vec<Name>, Diagnostic> {
    let mut columns: Vec<Name> = Vec::new();
    cursor.list(|cursor| {
        let column = cursor.column("the name of a column")?;
        if columns.contains(&column) {
            let what = format!("column {} is named twice", column.of);
            return Err(Diagnostic::new(what, column.span));
        }
        columns.push(column);
        Ok(())
    })?;
    Ok(columns)
}

/// What follows `UPDATE`.
pub(super) fn update(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    let table = cursor.name("the name of a table")?;
    cursor.expect("SET")?;
    let mut set: Vec<(Name, Spanned<Expr>)> = Vec::new();
    loop {
        let column = cursor.column("the name of a column")?;
        if set.iter().any(|(other, _)| *other == column) {
            let what = format!("column {} is set twice", column.of);
            return Err(Diagnostic::new(what, column.span));
        }
        cursor.expect_symbol(&Token::Eq)?;
        let value = value(cursor, |token| {
            *token == Token::Comma || is_word(token, "WHERE")
        })?;
        set.push((column, value));
        if !cursor.eat_symbol(&Token::Comma) {
            break;
        }
    }
    let filter = filter(cursor)?;
    Ok(Statement::Update(Update { table, set, filter }))
}

/// What follows `DELETE`.
pub(super) fn delete(cursor: &mut Cursor<'_>) -> Result<Statement, Diagnostic> {
    cursor.expect("FROM")?;
    let table = cursor.name("the name of a table")?;
    let filter = filter(cursor)?;
    Ok(Statement::Delete(Delete { table, filter }))
}

/// `WHERE condition`, to the end.
fn filter(cursor: &mut Cursor<'_>) -> Result<Option<Spanned<Expr>>, Diagnostic> {
    match cursor.eat("WHERE") {
        true => Ok(Some(value(cursor, |_| false)?)),
        false => Ok(None),
    }
}

/// An expression, up to a token that ends it.
fn value(
    cursor: &mut Cursor<'_>,
    ends: impl Fn(&Token) -> bool,
) -> Result<Spanned<Expr>, Diagnostic> {
    let tokens: &[TokenWithSpan] = cursor.until(ends);
    let expression = embedded::expression(tokens, cursor.span())?;
    let span = match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => first.span.union(&last.span),
        _ => cursor.span(),
    };
    Ok(Spanned::new(expression, span))
}

fn is_word(token: &Token, keyword: &str) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword),
        _ => false,
    }
}
