//! How is a statement written, where nothing better is known about what is wrong with it?

use sqlparser::tokenizer::Token;

use super::diagnostic::Diagnostic;
use super::lexer::Piece;

/// Statements by the words that they begin with, and how each is written. Queries are not among them: what
/// is wrong in one seldom is its form.
const FORMS: [(&[&str], &str); 18] = [
    (
        &["ALTER"],
        "ALTER VIEW name SET (TARGET_LAG = '30 s', CALLS_PER_HOUR = 100, TOKENS_PER_HOUR = 100000, \
         COST_PER_HOUR = 0.5), some of these; none takes one back",
    ),
    (
        &["CREATE", "SOURCE"],
        "CREATE SOURCE name [(column TYPE, …)] FROM FOLDER 'path' | FILE 'x.jsonl' | TABLE 'x.csv' | KAFKA \
         'kafka://host:port/topic' | HTTP [WITH (option = value, …)]",
    ),
    (
        &["CREATE", "TABLE"],
        "CREATE TABLE name (key TEXT, column TYPE, …)",
    ),
    (
        &["CREATE", "MEMORY"],
        "CREATE MEMORY name FROM relation [WITH (option = value, …)]",
    ),
    (
        &["CREATE", "MODEL"],
        "CREATE MODEL name FROM 'name | file | http://host/v1#name' [WITH (option = value, …)]",
    ),
    (
        &["CREATE", "CONTINUOUS"],
        "CREATE CONTINUOUS VIEW name AS LLM_GENERATE(PROMPT = '…', CONTEXT = STREAM(x), DATA_SOURCE = \
         STREAM(y)) [WITH (option = value, …)]",
    ),
    (
        &["CREATE", "SINK"],
        "CREATE SINK name FROM view INTO 'x.jsonl' | 'kafka://host:port/topic' | 'https://…' [WITH (option = \
         value, …)]",
    ),
    (
        &["INSERT"],
        "INSERT INTO t [(column, …)] VALUES (expression, …), …",
    ),
    (
        &["UPDATE"],
        "UPDATE t SET column = expression, … [WHERE condition]",
    ),
    (&["DELETE"], "DELETE FROM t [WHERE condition]"),
    (
        &["SUBSCRIBE"],
        "SUBSCRIBE TO name [WITH (SNAPSHOT = false, PROGRESS)] [AS OF epoch]",
    ),
    (&["EXPLAIN", "WHY"], "EXPLAIN WHY view['key']"),
    (
        &["EXPLAIN"],
        "EXPLAIN SELECT …, EXPLAIN COST SELECT …, EXPLAIN ANALYZE view, or EXPLAIN WHY view['key']",
    ),
    (&["LINEAGE"], "LINEAGE OF relation['key']"),
    (
        &["FORGET"],
        "FORGET 'key' FROM name, or FORGET KEY | SESSION | WRITER | NAMESPACE '…' FROM MEMORY name",
    ),
    (
        &["GRANT"],
        "GRANT READ ON NAMESPACE '…' OF MEMORY name TO 'reader'",
    ),
    (
        &["REVOKE"],
        "REVOKE READ ON NAMESPACE '…' OF MEMORY name FROM 'reader'",
    ),
    (
        &["RECALL"],
        "RECALL 'question' FROM memory [AS 'reader'] [IN NAMESPACE '…'] [LIMIT k]",
    ),
];

/// The fault of a statement, with the statement's form where something else stands than what could and
/// nothing is said yet of what to do.
pub(super) fn with_form(fault: Diagnostic, piece: &Piece) -> Diagnostic {
    let is_of_form = fault.what.starts_with("expected ") && fault.what.contains(", found ");
    if fault.help.is_some() || !is_of_form {
        return fault;
    }
    let begins_with = |words: &[&str]| {
        let tokens = piece.tokens.iter().map(|token| &token.token);
        let mut pairs = words.iter().zip(tokens);
        piece.tokens.len() >= words.len()
            && pairs.all(|(word, token)| matches!(token, Token::Word(of) if of.value.eq_ignore_ascii_case(word)))
    };
    match FORMS.iter().find(|(words, _)| begins_with(words)) {
        Some((_, form)) => fault.help(*form),
        None => fault,
    }
}
