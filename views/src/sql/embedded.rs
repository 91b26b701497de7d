//! Queries and expressions, which are sqlparser's: what is handed over, and how are its errors
//! told in our words and at our places?
//!
//! How deep a query may nest is bounded here, for whoever walks over it: in parentheses by
//! sqlparser's limit, in chains of operators (`a AND b AND …`, which nest to the left) by ours.

use sqlparser::ast::{Expr, Query};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::cursor::shown;
use super::diagnostic::Diagnostic;
use super::lexer::DIALECT;

/// Parentheses and prefixes within one another.
const MAX_DEPTH: usize = 40;
/// Operators and joining words of one query.
const MAX_OPERATORS: usize = 1000;
/// Words that join what stands before and behind them.
const JOINING: [&str; 28] = [
    "AND",
    "AT",
    "BETWEEN",
    "COLLATE",
    "DIV",
    "EXCEPT",
    "GLOB",
    "ILIKE",
    "IN",
    "INTERSECT",
    "IS",
    "ISNULL",
    "JOIN",
    "LIKE",
    "MATCH",
    "MATCH_RECOGNIZE",
    "MEMBER",
    "MINUS",
    "NOTNULL",
    "OR",
    "OVERLAPS",
    "PIVOT",
    "REGEXP",
    "RLIKE",
    "SIMILAR",
    "UNION",
    "UNPIVOT",
    "XOR",
];

/// The query that these tokens are; `end` is the place behind them.
pub(super) fn query(tokens: &[TokenWithSpan], end: Span) -> Result<Box<Query>, Diagnostic> {
    parse(tokens, end, "a query", |parser| parser.parse_query())
}

/// The expression that these tokens are.
pub(super) fn expression(tokens: &[TokenWithSpan], end: Span) -> Result<Expr, Diagnostic> {
    parse(tokens, end, "an expression", |parser| parser.parse_expr())
}

fn parse<T>(
    tokens: &[TokenWithSpan],
    end: Span,
    what: &str,
    read: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> Result<T, Diagnostic> {
    if tokens.is_empty() {
        return Err(Diagnostic::new(
            format!("expected {what}, found nothing"),
            end,
        ));
    }
    let mut operators = tokens.iter().filter(|token| is_operator(&token.token));
    if let Some(one) = operators.nth(MAX_OPERATORS) {
        let what = format!("more than {MAX_OPERATORS} operators in {what}");
        let help = "an IN (…) of many values counts once; or create views of parts of it";
        return Err(Diagnostic::new(what, one.span).help(help));
    }
    let mut parser = Parser::new(&DIALECT)
        .with_recursion_limit(MAX_DEPTH)
        .with_tokens_with_locations(tokens.to_vec());
    let found = match read(&mut parser) {
        Ok(found) => found,
        Err(error) => return Err(told(error, tokens, end)),
    };
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let what = format!(
            "{} cannot stand here: {what} ends before it",
            shown(&rest.token)
        );
        return Err(Diagnostic::new(what, rest.span));
    }
    Ok(found)
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            let is = |joining: &&str| joining.eq_ignore_ascii_case(&word.value);
            word.quote_style.is_none() && JOINING.iter().any(is)
        }
        Token::LParen | Token::RParen | Token::Comma | Token::Period | Token::Number(..) => false,
        token => super::cursor::string(token).is_none(),
    }
}

/// An error in our words, at its place.
fn told(error: ParserError, tokens: &[TokenWithSpan], end: Span) -> Diagnostic {
    let message = match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
        ParserError::RecursionLimitExceeded => {
            let first = tokens.first().map_or(end, |token| token.span);
            let what = format!("this nests more than {MAX_DEPTH} deep");
            return Diagnostic::new(what, first).help("create views of the inner parts");
        }
    };
    let (message, at) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => (message.to_owned(), location(place)),
        None => (message, None),
    };
    let expected = message.strip_prefix("Expected");
    let expected = expected.map(|rest| rest.trim_start_matches([':', ' ']));
    let (what, found) = match expected.and_then(|rest| rest.split_once(", found: ")) {
        Some((expected, "EOF")) => (format!("expected {}, found the end", bare(expected)), None),
        Some((expected, found)) => {
            let what = format!("expected {}, found `{found}`", bare(expected));
            (what, Some(found))
        }
        None => (message.clone(), None),
    };
    // What it names may stand before the place that it says.
    let up_to = tokens.partition_point(|token| at.is_none_or(|at| token.span.start <= at));
    let named = found.and_then(|found| {
        let mut before = tokens[..up_to].iter().rev();
        before.find(|token| token.token.to_string() == found)
    });
    let span = match (named, at) {
        (Some(token), _) => token.span,
        (None, Some(at)) => Span::new(at, Location::new(at.line, at.column + 1)),
        (None, None) => end,
    };
    Diagnostic::new(what, span)
}

/// What was expected; a lone symbol in quotes, so that it is seen.
fn bare(expected: &str) -> String {
    match expected.chars().count() {
        1 => format!("`{expected}`"),
        _ => expected.to_owned(),
    }
}

/// `2, Column: 17`
fn location(text: &str) -> Option<Location> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Location::new(line.parse().ok()?, column.parse().ok()?))
}
