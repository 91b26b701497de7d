//! Where does one statement of a script end and the next begin?
//!
//! Words, strings, numbers and comments are sqlparser's, with PostgreSQL's rules: `--` and
//! `/* */` comments (nested), `"names"`, `'strings'` with `''` inside, `$$strings$$`. Statements
//! end with `;`, the last one may do without.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::diagnostic::{Diagnostic, Script};

/// Rules of words and expressions.
pub(super) const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// Bytes of a script.
const MAX_BYTES: usize = 16 << 20;

/// The tokens of one statement, without blanks and comments. Never none.
pub(super) struct Piece {
    pub(super) tokens: Vec<TokenWithSpan>,
    /// Where it ends: the `;`, or the end of the script.
    pub(super) end: Span,
}

/// A script in pieces.
pub(super) struct Pieces {
    /// Its statements, as far as they could be told apart.
    pub(super) all: Vec<Piece>,
    /// What ended that before the script did.
    pub(super) fault: Option<Diagnostic>,
}

/// Cuts a script into statements.
pub(super) fn split(script: &Script) -> Pieces {
    if script.text().len() > MAX_BYTES {
        let begin = Location::new(1, 1);
        let what = format!("the script has more than {} MiB", MAX_BYTES >> 20);
        let fault = Diagnostic::new(what, Span::new(begin, begin))
            .help("rows in bulk come from a source: CREATE SOURCE … FROM FILE 'rows.jsonl'");
        return Pieces {
            all: Vec::new(),
            fault: Some(fault),
        };
    }
    let mut tokens = Vec::new();
    let lexed = Tokenizer::new(&DIALECT, script.text())
        .tokenize_with_location_into_buf(&mut tokens)
        .map_err(|error| {
            let until = Location::new(error.location.line, error.location.column + 1);
            let span = Span::new(error.location, until);
            let what = error.message;
            match what.as_str() {
                "Unterminated string literal" => {
                    Diagnostic::new("the string that begins here has no end", span)
                        .help("end it with ', and write '' for a ' inside")
                }
                "Unterminated dollar-quoted string" => {
                    Diagnostic::new("a $$ string has no end before the script's", span)
                        .help("end it with the $$ that it begins with")
                }
                "Unexpected EOF while in a multi-line comment" => {
                    Diagnostic::new("a comment has no end before the script's", span)
                        .help("end it with */; a /* inside needs a */ of its own")
                }
                _ if what.starts_with("Expected close delimiter") => {
                    Diagnostic::new("the quoted name that begins here has no end", span)
                        .help("end it with \", and write \"\" for a \" inside")
                }
                _ => Diagnostic::new(format!("cannot be read: {what}"), span),
            }
        });
    let mut all = Vec::new();
    let mut present: Vec<TokenWithSpan> = Vec::new();
    let mut last = Span::new(Location::new(1, 1), Location::new(1, 1));
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::SemiColon if present.is_empty() => {}
            Token::SemiColon => all.push(Piece {
                tokens: std::mem::take(&mut present),
                end: token.span,
            }),
            _ => present.push(token.clone()),
        }
        last = token.span;
    }
    // A statement that the fault cuts off would only be said to be cut off.
    if lexed.is_ok() && !present.is_empty() {
        let until = Location::new(last.end.line, last.end.column + 1);
        all.push(Piece {
            tokens: present,
            end: Span::new(last.end, until),
        });
    }
    Pieces {
        all,
        fault: lexed.err(),
    }
}

/// Whether what was typed so far ends a statement: with a `;` that stands in no string and no
/// comment. Nothing but blanks and comments is complete as well.
pub fn is_complete(text: &str) -> bool {
    let mut tokens = Vec::new();
    let lexed = Tokenizer::new(&DIALECT, text).tokenize_with_location_into_buf(&mut tokens);
    let is_blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let last = tokens.iter().rev().find(|token| !is_blank(token));
    lexed.is_ok() && last.is_none_or(|token| token.token == Token::SemiColon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let script = Script::new("t", text);
        let pieces = split(&script);
        let text = |piece: &Piece| {
            let (first, last) = (&piece.tokens[0], &piece.tokens[piece.tokens.len() - 1]);
            script
                .slice(Span::new(first.span.start, last.span.end))
                .to_owned()
        };
        pieces.all.iter().map(text).collect()
    }

    #[test]
    fn semicolons_in_strings_names_and_comments_end_nothing() {
        let script = "a 'x;''y' ; -- no; end\n;b \";\" /* ; /* ; */ */ c;;\n $$;$$";
        assert_eq!(
            texts(script),
            ["a 'x;''y'", "b \";\" /* ; /* ; */ */ c", "$$;$$"]
        );
        assert_eq!(texts(" -- nothing\n"), [""; 0]);
    }

    #[test]
    fn a_statement_is_complete_at_its_end_only() {
        for complete in ["", "  -- x\n", "select 1;", "select ';';  -- so;\n"] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["select", "select ';", "select 1 -- ;", "select 1; x", "/*;"] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn statements_before_a_string_without_end_are_kept() {
        let pieces = split(&Script::new("t", "a; b;\nc 'x; d;"));
        assert_eq!(pieces.all.len(), 2);
        let fault = pieces.fault.expect("a fault");
        assert_eq!(fault.span.start, Location::new(2, 3));
    }
}
