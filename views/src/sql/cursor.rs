//! What stands next in a statement, and what could stand there instead?
//!
//! Whatever was looked for at a place and not found is remembered until the cursor moves: an
//! error lists all of it, and the nearest word to the one that is there.

use std::sync::Arc;

use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::diagnostic::{Diagnostic, nearest};
use super::lexer::Piece;
use super::statement::{Name, Spanned};

/// Words that are no names unless quoted: a sentence with one of them would be read otherwise.
pub(super) const RESERVED: [&str; 31] = [
    "ALL", "AND", "AS", "BY", "CASE", "CREATE", "DISTINCT", "DROP", "ELSE", "END", "FALSE", "FROM",
    "GROUP", "HAVING", "IN", "INTO", "IS", "JOIN", "LIMIT", "NOT", "NULL", "ON", "OR", "ORDER",
    "SELECT", "SET", "TABLE", "TRUE", "UNION", "VALUES", "WHERE",
];
/// Also reserved; kept apart since it is the one that opens options.
const WITH: &str = "WITH";
/// Characters of a token that an error shows.
const SHOWN: usize = 40;

/// A place in a statement.
pub(super) struct Cursor<'t> {
    tokens: &'t [TokenWithSpan],
    at: usize,
    end: Span,
    /// What was looked for here, in words.
    tried: Vec<String>,
}

impl<'t> Cursor<'t> {
    /// At the beginning of a statement.
    pub(super) fn new(piece: &'t Piece) -> Self {
        Self {
            tokens: &piece.tokens,
            at: 0,
            end: piece.end,
            tried: Vec::new(),
        }
    }

    /// What stands here; none at the end.
    pub(super) fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at).map(|token| &token.token)
    }

    /// Its place, or the end's.
    pub(super) fn span(&self) -> Span {
        self.tokens.get(self.at).map_or(self.end, |t| t.span)
    }

    /// The place of what was read last.
    pub(super) fn last_span(&self) -> Span {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        last.map_or(self.end, |token| token.span)
    }

    /// Whether everything was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.tokens.len()
    }

    pub(super) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len());
        self.tried.clear();
    }

    /// Notes that something could have stood here.
    pub(super) fn tried(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.tried.contains(&what) {
            self.tried.push(what);
        }
    }

    /// Reads a keyword, if it stands here.
    pub(super) fn eat(&mut self, keyword: &'static str) -> bool {
        if self.is_at(keyword) {
            self.advance();
            return true;
        }
        self.tried(keyword);
        false
    }

    /// Whether a keyword stands here; looks only.
    pub(super) fn is_at(&self, keyword: &str) -> bool {
        match self.peek() {
            Some(Token::Word(word)) => is_keyword(word, keyword),
            _ => false,
        }
    }

    /// Reads a keyword.
    pub(super) fn expect(&mut self, keyword: &'static str) -> Result<(), Diagnostic> {
        match self.eat(keyword) {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    /// Reads a symbol, if it stands here.
    pub(super) fn eat_symbol(&mut self, symbol: &Token) -> bool {
        if self.peek() == Some(symbol) {
            self.advance();
            return true;
        }
        self.tried(format!("`{symbol}`"));
        false
    }

    /// Reads a symbol.
    pub(super) fn expect_symbol(&mut self, symbol: &Token) -> Result<(), Diagnostic> {
        match self.eat_symbol(symbol) {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    /// Reads `=` or `=>`.
    pub(super) fn expect_equals(&mut self) -> Result<(), Diagnostic> {
        match self.eat_symbol(&Token::Eq) || self.eat_symbol(&Token::RArrow) {
            true => Ok(()),
            false => Err(self.unexpected()),
        }
    }

    /// Reads the name of something in the catalog; `what` says of what. Unquoted ones are folded to
    /// lower case.
    pub(super) fn name(&mut self, what: &str) -> Result<Name, Diagnostic> {
        self.named(what, folded)
    }

    /// Reads the name of a column, as it is written: records have their own case of letters.
    pub(super) fn column(&mut self, what: &str) -> Result<Name, Diagnostic> {
        self.named(what, |word| word.value.as_str().into())
    }

    fn named(&mut self, what: &str, read: fn(&Word) -> Arc<str>) -> Result<Name, Diagnostic> {
        let span = self.span();
        if let Some(Token::Word(word)) = self.peek() {
            if !is_reserved(word) {
                let name = read(word);
                if name.is_empty() {
                    return Err(Diagnostic::new(format!("{what} cannot be empty"), span));
                }
                self.advance();
                if self.peek() == Some(&Token::Period) {
                    let what = format!("{what} is one word, without a schema before it");
                    let quoted = format!("quote it whole if the name has a dot: \"{name}.…\"");
                    return Err(Diagnostic::new(what, self.span()).help(quoted));
                }
                return Ok(Spanned::new(name, span));
            }
            self.tried(what);
            let quoted = format!("quote it if that is the name: \"{}\"", word.value);
            return Err(self.unexpected().help(quoted));
        }
        if let Some(Token::SingleQuotedString(text)) = self.peek() {
            self.tried(what);
            let bare = format!("names stand in double quotes, or in none: \"{text}\"");
            return Err(self.unexpected().help(bare));
        }
        self.tried(what);
        Err(self.unexpected())
    }

    /// Reads a string; `what` says which, as in "the path of a folder".
    pub(super) fn string(&mut self, what: &str) -> Result<Spanned<Arc<str>>, Diagnostic> {
        let span = self.span();
        let text = match self.peek() {
            Some(token) => string(token),
            None => None,
        };
        if let Some(text) = text {
            self.advance();
            return Ok(Spanned::new(text, span));
        }
        self.tried(what);
        let fault = self.unexpected();
        Err(match self.peek() {
            Some(Token::Word(word)) => fault.help(format!("strings stand in '…': '{word}'")),
            _ => fault,
        })
    }

    /// Reads items with commas between, in parentheses; at least one.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Diagnostic>,
    ) -> Result<Vec<T>, Diagnostic> {
        self.expect_symbol(&Token::LParen)?;
        let mut all = vec![item(self)?];
        loop {
            if self.eat_symbol(&Token::RParen) {
                return Ok(all);
            }
            self.expect_symbol(&Token::Comma)?;
            // A comma behind the last is what people leave when they delete a line.
            if self.eat_symbol(&Token::RParen) {
                return Ok(all);
            }
            all.push(item(self)?);
        }
    }

    /// The tokens from here to the first that `ends` outside of parentheses, or to the end.
    pub(super) fn until(&mut self, ends: impl Fn(&Token) -> bool) -> &'t [TokenWithSpan] {
        let begin = self.at;
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token {
                _ if depth == 0 && ends(token) => break,
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.advance();
        }
        &self.tokens[begin..self.at]
    }

    /// Everything was read, or it is said what could have stood instead.
    pub(super) fn finish(&mut self) -> Result<(), Diagnostic> {
        if self.is_at_end() {
            return Ok(());
        }
        self.tried("`;`");
        Err(self.unexpected())
    }

    /// What was looked for here is not what stands here.
    pub(super) fn unexpected(&self) -> Diagnostic {
        let found = match self.peek() {
            Some(token) => shown(token),
            None => "the end of the statement".to_owned(),
        };
        let what = match self.tried.is_empty() {
            true => format!("{found} cannot stand here"),
            false => format!("expected {}, found {found}", listed(&self.tried)),
        };
        let fault = Diagnostic::new(what, self.span());
        let Some(Token::Word(word)) = self.peek() else {
            return fault;
        };
        let is_word = |tried: &&str| tried.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        let words = self.tried.iter().map(String::as_str).filter(is_word);
        match nearest(&word.value, words) {
            Some(meant) => fault.help(format!("did you mean {meant}?")),
            None => fault,
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn listed(all: &[impl AsRef<str>]) -> String {
    let mut text = String::new();
    for (at, one) in all.iter().enumerate() {
        text.push_str(match at {
            0 => "",
            _ if at + 1 == all.len() => " or ",
            _ => ", ",
        });
        text.push_str(one.as_ref());
    }
    text
}

/// The text of a string token.
pub(super) fn string(token: &Token) -> Option<Arc<str>> {
    match token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
            Some(text.as_str().into())
        }
        Token::DollarQuotedString(string) => Some(string.value.as_str().into()),
        _ => None,
    }
}

/// A word as a name: folded to lower case unless quoted.
pub(super) fn folded(word: &Word) -> Arc<str> {
    match word.quote_style {
        Some(_) => word.value.as_str().into(),
        None => word.value.to_lowercase().into(),
    }
}

fn is_keyword(word: &Word, keyword: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword)
}

/// Whether a word cannot be a name unless it is quoted.
pub(super) fn is_reserved(word: &Word) -> bool {
    let is = |reserved: &&str| is_keyword(word, reserved);
    RESERVED.iter().chain([&WITH]).any(is)
}

/// Whether a name needs quotes to be read as it is.
pub(super) fn needs_quotes(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_digit = |c: char| c.is_ascii_digit();
    let is_reserved = |reserved: &&str| reserved.eq_ignore_ascii_case(name);
    name.is_empty()
        || name.starts_with(is_digit)
        || !name.chars().all(is_plain)
        || RESERVED.iter().chain([&WITH]).any(is_reserved)
}

/// A token in an error, cut where it is long.
pub(super) fn shown(token: &Token) -> String {
    let text: String = token
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("`{}…`", &text[..cut]),
        None => format!("`{text}`"),
    }
}
